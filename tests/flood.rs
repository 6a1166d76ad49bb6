//! The program under floods of strangers, of 20,000 datagrams a second where it is optimised: who is connected stays so and works, who comes gets in, and
//! memory stays within its bound.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/flood.rs"]
mod flood;
#[path = "daemon/program.rs"]
mod program;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::happens;
use flood::{Flood, Matter};
use program::Program;
use pterodapter::demo::gateway::{Scenario, User};
use pterodapter::demo::probe::Client;
use pterodapter::wire::ike::{HEADER_LEN, Header, Notify, parse_chain};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
/// Without optimisation the program is about ten times as slow, and would spend all of a busy core on the flood.
const PER_SECOND: u32 = if cfg!(debug_assertions) { 5_000 } else { 20_000 };
/// A flood lasts three seconds.
const TOTAL: u64 = 3 * PER_SECOND as u64;
/// One after the other: half-open connections and floods would meet.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// What strangers may make the program take, whatever they send (docs/threat-model.md).
const BOUND_KIB: u64 = 16 * 1024;
/// A new client's time to get in.
const CONNECT: Duration = Duration::from_secs(3);

#[test]
fn floods_disturb_neither_clients_nor_memory() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let options = ["--username=alice", "--password-file={}/password", "--metrics"];
    let user = User::new("alice", "correct horse");
    let files = [("password", "correct horse\n")];
    let mut program = Program::start(Scenario::default(), vec![user], &files, &options);
    assert!(happens(Duration::from_secs(30), || program.tunnels() == 1), "{}", program.printed());
    let client = Client::connect(program.client_config("one.example")).unwrap();
    client.ping(SERVER).unwrap();
    let before = program.status("VmRSS");
    let [ike, nat] = program.ports();
    for (round, (matter, port)) in
        [(Matter::Garbage, nat), (Matter::Garbage, ike), (Matter::Initial, ike), (Matter::Initial, nat)]
            .into_iter()
            .enumerate()
    {
        let flood = Flood::start(vec![([127, 0, 0, 1], port).into()], matter, PER_SECOND, TOTAL).unwrap();
        assert!(happens(Duration::from_secs(5), || flood.sent() > TOTAL / 10));
        let (config, start) = (program.client_config(&format!("new{round}.example")), clock());
        let newcomer = Client::connect(config).unwrap();
        let took = start.elapsed();
        assert!(took < CONNECT, "{took:?}");
        newcomer.ping(SERVER).unwrap();
        if matter == Matter::Initial {
            assert!(newcomer.counters().cookies > 0, "it had to bring a cookie");
        }
        client.rekey_child(true).unwrap();
        client.dpd().unwrap();
        while !flood.is_over() {
            client.ping(SERVER).unwrap();
            let page = client.http_get("http://10.77.0.80/bytes/200000").unwrap();
            assert_eq!(page.body.len(), 200_000);
        }
        newcomer.disconnect().unwrap();
        let grown = program.status("VmHWM").saturating_sub(before);
        let sent = flood.sent();
        println!(
            "{matter:?}, port {port}: {sent} datagrams, connected in {took:?}, {grown} KiB more at most"
        );
        assert!(grown < BOUND_KIB, "{grown} KiB");
    }
    // What happened is told.
    let metrics = program.page("/metrics");
    for (counter, least) in [
        ("pterodapter_ike_cookies_total", 20_000.0),
        ("pterodapter_ike_refused_messages_total{reason=\"malformed\"}", 1000.0),
        ("pterodapter_ike_refused_messages_total{reason=\"unknown_spi\"}", 1000.0),
        ("pterodapter_ike_refused_messages_total{reason=\"out_of_place\"}", 1000.0),
    ] {
        let line = metrics.lines().find_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
        let value: f64 = line.and_then(|value| value.parse().ok()).unwrap_or_default();
        println!("{counter} {value}");
        assert!(value >= least, "{counter}: {metrics}");
    }
    assert!(program.is_running());
    client.disconnect().unwrap();
    assert!(program.stop().success(), "{}", program.printed());
}

/// As many half-open connections as there may be, with the longest requests there may be, from many addresses.
#[test]
fn half_open_connections_stay_within_their_memory() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    const HALF_OPEN: usize = 512;
    const OF_ONE_SOURCE: usize = 16;
    const EACH_KIB: u64 = 5;
    let options = ["--username=alice", "--password-file={}/password"];
    let files = [("password", "correct horse\n")];
    let user = User::new("alice", "correct horse");
    let program = Program::start(Scenario::default(), vec![user], &files, &options);
    assert!(happens(Duration::from_secs(30), || program.tunnels() == 1), "{}", program.printed());
    let before = program.status("VmRSS");
    let mut opened = 0;
    // One more than there may be of each source, and some more than of all; not more than 128 of one network.
    for source in 0..HALF_OPEN / OF_ONE_SOURCE + 1 {
        let address = [127, 0, (source / 8) as u8, 10 + source as u8];
        let socket = UdpSocket::bind(SocketAddr::from((address, 0))).unwrap();
        socket.connect(("127.0.0.1", program.ports()[0])).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        for number in 0..OF_ONE_SOURCE + 1 {
            let spi = ((source as u64) << 32) + number as u64 + 1;
            let mut cookie = vec![];
            // Once to be asked for a cookie, once with it.
            for _ in 0..2 {
                let mut request = flood::initial_request(&cookie, 2048);
                request[..8].copy_from_slice(&spi.to_be_bytes());
                socket.send(&request).unwrap();
                let mut answer = [0; 2048];
                let Ok(len) = socket.recv(&mut answer) else { break };
                assert!(len <= request.len());
                let header = Header::parse(&answer[..len]).unwrap();
                if header.spi_r != 0 {
                    opened += 1;
                    break;
                }
                let payloads = parse_chain(header.next_payload, &answer[HEADER_LEN..len]).unwrap();
                cookie = Notify::parse(payloads[0].body).unwrap().data.to_vec();
            }
        }
    }
    let grown = program.status("VmHWM").saturating_sub(before);
    println!("{opened} half-open connections: {grown} KiB more");
    assert_eq!(opened, HALF_OPEN);
    assert!(grown < HALF_OPEN as u64 * EACH_KIB + 1024, "{grown} KiB");
}

#[expect(clippy::disallowed_methods, reason = "tests measure time")]
fn clock() -> Instant {
    Instant::now()
}
