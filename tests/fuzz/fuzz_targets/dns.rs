//! DNS: the message views, and the forwarder between clients and servers that say anything.
#![no_main]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pterodapter::dns::{Forwarder, Output, Transport};
use pterodapter::wire::dns::{self, Header, Question};
use pterodapter_fuzz::{Counter, Events};

const UDP: Transport = Transport::Udp(Ipv4Addr::new(198, 19, 255, 1));

fuzz_target!(|data: &[u8]| {
    views(data);
    let servers = [Ipv4Addr::new(10, 0, 0, 53), Ipv4Addr::new(10, 0, 1, 53)];
    let client = SocketAddrV4::new(Ipv4Addr::new(198, 19, 255, 2), 5353);
    let mut forwarder = Forwarder::new(Box::new(Counter::default()));
    forwarder.set_servers(&servers);
    let mut now = Duration::ZERO;
    let mut asked: Option<(Ipv4Addr, u16, u16)> = None;
    for (kind, bytes) in Events(data) {
        match (kind % 6, asked) {
            (0, _) => drop(forwarder.handle_query(now, client, UDP, bytes)),
            (1, _) => drop(forwarder.handle_query(now, client, Transport::Tcp(u32::from(kind)), bytes)),
            (2, Some((server, port, id))) => {
                let mut answer = bytes.to_vec();
                dns::set_id(&mut answer, id);
                let _ = forwarder.handle_response(server, port, &answer);
            }
            (3, Some((server, port, _))) => drop(forwarder.handle_response(server, port, bytes)),
            (4, Some((_, port, _))) => forwarder.handle_failure(now, port),
            _ => {
                now += Duration::from_millis(bytes.len() as u64 * 50);
                forwarder.handle_timeout(now);
            }
        }
        while let Some(output) = forwarder.poll_output() {
            match output {
                Output::ToServer { server, local_port, bytes, .. } => {
                    let header = Header::parse(&bytes).expect("we ask well-formed questions");
                    asked = Some((server, local_port, header.id));
                }
                Output::ToClient { bytes, .. } => {
                    assert!(Header::parse(&bytes).is_ok_and(|h| h.is_response()))
                }
            }
        }
    }
    forwarder.handle_timeout(now + Duration::from_secs(60));
    assert_eq!(forwarder.pending(), 0, "a query outlives its time");
});

fn views(message: &[u8]) {
    let _ = dns::skip_name(message, 0);
    let _ = dns::expand_name(message, 0);
    let _ = dns::expand_name(message, dns::HEADER_LEN);
    if let Ok(question) = Question::parse(message) {
        assert!(question.end() <= message.len());
    }
    if let Some(refusal) = dns::refusal(message, 2) {
        assert!(Header::parse(&refusal).is_ok_and(|header| header.is_response()));
    }
}
