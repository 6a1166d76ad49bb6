//! PPP: FortiVPN and PPP headers, options, and a link whose peer says anything at any time.
#![no_main]

use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use pterodapter::ppp::{Link, Settings};
use pterodapter::wire::{forti, ppp};
use pterodapter_fuzz::{Counter, Events, now};

fuzz_target!(|data: &[u8]| {
    if let Some((header, _)) = data.split_first_chunk() {
        let _ = forti::parse_header(*header);
    }
    if let Ok((_, header_len)) = ppp::parse_protocol(data) {
        assert!(header_len <= data.len());
    }
    if let Ok(packet) = ppp::Packet::parse(data) {
        assert_eq!(ppp::Packet::parse(&packet.emit()), Ok(packet));
        let _ = ppp::parse_options(packet.data);
    }

    let settings = Settings { mru: 1354, address: Ipv4Addr::UNSPECIFIED, ask_dns: true };
    let mut rng = Counter::default();
    let mut millis = 0;
    let mut link = Link::new(settings, now(millis), &mut rng);
    for (kind, bytes) in Events(data) {
        let t = now(millis);
        match kind % 8 {
            0..3 => link.handle_packet(t, ppp::protocol::LCP, bytes, &mut rng),
            3 | 4 => link.handle_packet(t, ppp::protocol::IPCP, bytes, &mut rng),
            5 => match ppp::parse_protocol(bytes) {
                Ok((protocol, len)) => link.handle_packet(t, protocol, &bytes[len..], &mut rng),
                Err(_) => link.close(t),
            },
            6 => link.handle_alive(t),
            _ => {
                millis += bytes.len() as u64 * 100;
                link.handle_timeout(now(millis));
            }
        }
        let mut answers = 0;
        while let Some((_, packet)) = link.poll_packet() {
            assert!(ppp::Packet::parse(&packet).is_ok());
            answers += 1;
        }
        assert!(answers <= 16, "{answers} answers to one event");
        while link.poll_event().is_some() {}
    }
});
