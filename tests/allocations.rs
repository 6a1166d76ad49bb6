//! The packet path allocates nothing: counted, not claimed.
//!
//! Two proofs: the pure steps on a thread of their own, and the whole running engine over real sockets, where each
//! allocation of its threads is kept with its stack, so that those of rustls can be told apart.
#![allow(unsafe_code, reason = "a global allocator is unsafe to write; it only counts and passes on")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "../benches/e2e/gateway.rs"]
mod gateway;
#[path = "../benches/support/mod.rs"]
#[allow(dead_code, reason = "shared with the benches")]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pterodapter::crypto::{Cipher, Integrity, PrivateKey, Secret, SystemRandom, TrustAnchors, pem};
use pterodapter::demo::probe::{ClientConfig, RawTunnel};
use pterodapter::engine::job::{Batch, Direction, Origin, Tunnel, Verdict};
use pterodapter::engine::{self, Config, Identity, Pool, SignIn, Split, Transport};
use pterodapter::esp::{ReplayWindow, Sequence};
use pterodapter::fortivpn;
use pterodapter::nat::Flows;

use support::packets::{self, DEVICE, DEVICE6, EXTERNAL, SERVER, child_sa};
use support::tls;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Stacks of allocations on the threads that packets pass through, while `WATCHING`.
static FOUND: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());
static WATCHING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Allocations of this thread.
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// True while a stack is captured.
    static CAPTURING: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

impl Counting {
    fn note() {
        // A thread that ends may allocate after its variables are gone.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        if WATCHING.load(Ordering::Relaxed) && CAPTURING.try_with(|c| !c.replace(true)) == Ok(true) {
            let is_of_path = |name: &str| name == "event-loop" || name.starts_with("worker");
            if thread::current().name().is_some_and(is_of_path) {
                let stack = Backtrace::force_capture();
                if let Ok(mut found) = FOUND.lock() {
                    found.push(stack);
                }
            }
            let _ = CAPTURING.try_with(|c| c.set(false));
        }
    }
}

// SAFETY: every call goes to the system's allocator unchanged; `note` does not touch the memory in question.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note();
        // SAFETY: the caller keeps the contract of this same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note();
        // SAFETY: as above; the pointer is from `System`, as all are.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

const LEN: usize = 1354;
const NOW: Duration = Duration::from_secs(1000);

/// AES-CBC with a MAC, as many clients want it without a profile.
const CBC: Cipher = Cipher::Aes256Cbc(Integrity::HmacSha256);

#[test]
fn the_steps_of_the_packet_path_allocate_nothing() {
    run_steps(Cipher::Aes256Gcm);
    run_steps(CBC);
}

fn run_steps(cipher: Cipher) {
    let prefix = Some(packets::prefix());
    let tunnel = std::sync::Arc::new(Tunnel::new(&child_sa(cipher), Pool::DEFAULT, prefix).unwrap());
    let mut flows = Flows::new(1024, Pool::DEFAULT.host(), &mut SystemRandom::new());
    flows.set_external(Some(EXTERNAL));
    let (mut window, mut sequence) = (ReplayWindow::new(), Sequence::new());
    let [mut down, mut down_nat64, mut up, mut up_nat64] = std::array::from_fn(|_| Batch::default());
    let outward = packets::udp((SERVER, 1), (DEVICE, 1), LEN, 0);
    let outward_nat64 = packets::udp((SERVER, 1), (Pool::DEFAULT.shadow(DEVICE).unwrap(), 1), LEN, 0);
    let inner = packets::outbound(DEVICE, LEN, 0);
    let inner_nat64 = packets::outbound(DEVICE6, LEN, 0);
    let mut packet = inner.clone();
    let before = COUNT.get();
    for _ in 0..100 {
        // The batch is sealed as if for a device, and opened as if it came from one: the keys are the same.
        for (batch, plain, origin) in [
            (&mut down, &outward, Origin::Company),
            (&mut down_nat64, &outward_nat64, Origin::CompanyNat64),
            (&mut up, &inner, Origin::Own),
            (&mut up_nat64, &inner_nat64, Origin::Own),
        ] {
            batch.clear();
            batch.tunnel = Some(tunnel.clone());
            batch.direction = Direction::Down;
            while batch.push_plain(plain, origin) {}
            let first = sequence.reserve(batch.slots.len() as u32).unwrap();
            for (seq, slot) in (first..).zip(&mut batch.slots) {
                slot.seq = seq;
            }
            batch.run();
            assert!(batch.slots.iter().all(|slot| slot.verdict == Verdict::Forward));
        }
        for up in [&mut up, &mut up_nat64] {
            up.direction = Direction::Up;
            up.run();
            for slot in &up.slots {
                let Some(opened) = up.buf.get_mut(slot.range.clone()) else { unreachable!() };
                window.check(slot.seq).unwrap();
                window.commit(slot.seq).unwrap();
                assert_eq!((slot.verdict, opened.len()), (Verdict::Forward, LEN));
                flows.translate_outbound(NOW, opened).unwrap();
            }
        }
        packet.copy_from_slice(&inner);
        flows.translate_outbound(NOW, &mut packet).unwrap();
        flows.handle_timeout(NOW);
    }
    assert_eq!(COUNT.get() - before, 0);
}

/// Packets of a burst in each direction, and how many bursts.
const BURST: usize = 256;
const BURSTS: usize = 8;

#[test]
fn the_running_engine_allocates_nothing_per_packet() {
    run_engine(0, Cipher::Aes256Gcm, false);
    run_engine(0, Cipher::Aes256Gcm, true);
    // Ciphers that are given to the worker.
    run_engine(1, Cipher::ChaCha20Poly1305, false);
    run_engine(1, CBC, false);
}

fn run_engine(workers: usize, cipher: Cipher, nat64: bool) {
    let (authority, issued) = tls::certificates();
    let listener = gateway::listen().unwrap();
    let destination = listener.local_addr().unwrap();
    let server = authority.issue_server(&["vpn.test"], tls::wall(), 1).unwrap();
    let config = Config {
        listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ike_port: 0,
        nat_port: 0,
        identity: Identity::new(
            "vpn.test",
            pem::certificates(server.cert_pem.as_bytes()).unwrap(),
            PrivateKey::from_pem(server.key_pem.as_bytes()).unwrap(),
            TrustAnchors::new(&pem::certificates(authority.cert_pem().as_bytes()).unwrap()).unwrap(),
        ),
        pool: Pool::DEFAULT,
        workers,
        uplink: fortivpn::Config::new(
            destination.ip().to_string(),
            destination.port(),
            fortivpn::Credentials::Password {
                username: "alice".into(),
                password: Some(Secret::from(&b"secret"[..])),
            },
        ),
        transport: Transport { roots: vec![authority.cert_der().to_vec().into()], ..Transport::default() },
        page: Vec::new(),
        metrics: false,
        sign_in: SignIn::default(),
        pcap: None,
        split: Split { nat64: nat64.then(packets::prefix), ..Split::default() },
        reload: None,
        unique: false,
        weak_groups: false,
    };
    let daemon = engine::start(config).unwrap();
    let mut tunnel = gateway::Tunnel::accept(&listener, &tls::server_config(&issued)).unwrap();
    let (ike, nat) = (daemon.ike_addresses()[0], daemon.nat_addresses()[0]);
    let client = authority.issue_client("alice@test", tls::wall(), 1).unwrap();
    let mut wanted = ClientConfig::new(ike, nat.port(), "vpn.test");
    (wanted.ca_pem, wanted.cert_pem, wanted.key_pem) =
        (authority.cert_pem().into(), client.cert_pem, client.key_pem);
    wanted.esp = vec![cipher];
    wanted.ipv6 = nat64;
    let mut client = RawTunnel::connect(&wanted).unwrap();
    client.socket.set_read_timeout(Some(gateway::PATIENCE)).unwrap();
    socket2::SockRef::from(&client.socket).set_recv_buffer_size(gateway::SOCKET_BUFFER).unwrap();

    // Twice to warm up: flows, buffers of rustls, counters of sockets.
    exchange(&mut tunnel, &mut client, cipher, 0);
    exchange(&mut tunnel, &mut client, cipher, 1);
    WATCHING.store(true, Ordering::SeqCst);
    let bursts = 2..2 + BURSTS as u32;
    let records: usize = bursts.map(|burst| exchange(&mut tunnel, &mut client, cipher, burst)).sum();
    WATCHING.store(false, Ordering::SeqCst);

    let found = std::mem::take(&mut *FOUND.lock().unwrap());
    let stacks: Vec<String> = found.iter().map(ToString::to_string).collect();
    // By the file or the name of a frame: type parameters of our own functions may name rustls too.
    let is_of_rustls = |stack: &&String| {
        stack.lines().map(str::trim_start).any(|line| match line.split_once(": ") {
            Some((_, name)) => name.trim_start_matches('<').starts_with("rustls::"),
            None => line.starts_with("at ") && line.contains("/rustls"),
        })
    };
    let (of_rustls, ours): (Vec<_>, Vec<_>) = stacks.iter().partition(is_of_rustls);
    for stack in ours.iter().take(3) {
        eprintln!("{stack}\n");
    }
    let packets = 2 * BURST * BURSTS;
    println!(
        "{cipher:?}, NAT64 {nat64}, {packets} packets, {records} TLS records: allocations of rustls {}, ours {}",
        of_rustls.len(),
        ours.len()
    );
    assert_eq!(ours.len(), 0, "allocations of our own for {packets} packets");
    assert!(!of_rustls.is_empty(), "the counter sees the threads of the engine");
    assert!(of_rustls.len() <= 2 * records, "{} allocations of rustls in {records} records", of_rustls.len());
    daemon.stopper().stop();
    assert!(daemon.wait());
}

/// A burst up and a burst down; the number of TLS records that they took.
fn exchange(tunnel: &mut gateway::Tunnel, client: &mut RawTunnel, cipher: Cipher, burst: u32) -> usize {
    let first = burst * BURST as u32;
    let numbers = first..first + BURST as u32;
    let address = client.address6.map_or(IpAddr::V4(client.address), IpAddr::V6);
    for number in numbers.clone() {
        let sealed = client.seal(&packets::outbound(address, LEN, number)).unwrap();
        client.socket.send_to(&sealed, client.server).unwrap();
    }
    let seen = tunnel.drain(first, BURST).unwrap();
    assert_eq!((seen.packets, seen.in_order), (BURST, true));

    let down: Vec<Vec<u8>> = numbers.map(|number| packets::inbound(LEN, number)).collect();
    let sealed = tunnel.seal(&gateway::frames(&down), 16 << 10).unwrap();
    // The kernel's buffers take all of it.
    tunnel.stream.write_all(&sealed).unwrap();
    let inner_len = if address.is_ipv6() { LEN + packets::NAT64_GROWTH } else { LEN };
    let mut buffer = [0; 2048];
    for _ in 0..BURST {
        let len = client.socket.recv(&mut buffer).unwrap();
        assert_eq!(len, sealed_len(cipher, inner_len));
        assert!(client.open(&mut buffer[..len]).is_some());
    }
    let mut records = gateway::Records::default();
    records.handle_bytes(&sealed);
    seen.records + records.count
}

/// Octets of the ESP packet around an inner packet of `len` (RFC 4303 section 2).
fn sealed_len(cipher: Cipher, len: usize) -> usize {
    8 + cipher.iv_len() + (len + 2).next_multiple_of(cipher.block_len().max(4)) + cipher.tag_len()
}
