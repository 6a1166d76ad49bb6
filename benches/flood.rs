//! What floods of strangers cost a connected client. `cargo bench --bench flood`.
//!
//! The same client moves packets through the same program while 20,000 datagrams a second hit either the program or a
//! plain UDP socket that discards them: so the cost of sending the flood is in both arms, on any number of cores.

#[path = "e2e/daemon.rs"]
mod daemon;
#[path = "../tests/daemon/flood.rs"]
mod flood;
#[path = "e2e/gateway.rs"]
mod gateway;
#[allow(dead_code, reason = "made for all benches")]
mod support;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use pterodapter::crypto::Cipher;

use daemon::Daemon;
use flood::{Flood, Matter};
use support::{Run, Target, packets};

/// Octets of an inner packet.
const LEN: usize = 1354;
/// Datagrams of a flood in a second.
const PER_SECOND: u32 = 20_000;
/// How long the client is watched in one arm.
const WATCHED: Duration = Duration::from_millis(500);
/// Packets on their way at a time; what takes longer than the patience is lost.
const WINDOW: u32 = 256;
const PATIENCE: Duration = Duration::from_millis(20);
/// Packets between two looks.
const PIECE: u32 = 16;
/// What strangers may make the program take, whatever they send (docs/threat-model.md).
const BOUND_KIB: u64 = 16 * 1024;
/// What a new client may take to get in.
const CONNECT_MS: f64 = 3000.0;

fn main() -> ExitCode {
    match bench() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("flood: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> io::Result<ExitCode> {
    let directory = tempfile::tempdir()?;
    let mut daemon = Daemon::start(directory.path(), 0, Cipher::Aes256Gcm, false)?;
    let plain = discard()?;
    let ours = daemon.ike_address();
    let (mut run, mut connected, mut slowest) = (Run::default(), 0_usize, 0.0_f64);
    let before = daemon.memory("VmHWM");
    let mut memory = before;
    let mut arms: Vec<(String, Option<(SocketAddr, Matter)>)> = vec![("no flood".into(), None)];
    for (word, matter) in [("garbage", Matter::Garbage), ("IKE_SA_INIT", Matter::Initial)] {
        for (at, to) in [("at a plain socket", plain), ("at us", ours)] {
            arms.push((format!("{word} {at}"), Some((to, matter))));
        }
    }
    for _ in 0..support::rounds() {
        // No arm always comes first.
        arms.rotate_left(1);
        for (name, flooded) in &arms {
            let flood = flooded.map(|(to, matter)| Flood::start(to, matter, PER_SECOND, u64::MAX));
            thread::sleep(Duration::from_millis(50));
            let (start, sent) = (support::now(), flood.as_ref().map_or(0, Flood::sent));
            run.record(&format!("up, {name}"), up(&mut daemon)?);
            run.record(&format!("down, {name}"), down(&mut daemon)?);
            if let Some(flood) = &flood {
                let rate = (flood.sent() - sent) as f64 / start.elapsed().as_secs_f64();
                run.record(&format!("flood, {name}"), rate);
            }
            if flooded.is_some_and(|(to, _)| to == ours) {
                let start = support::now();
                drop(daemon.connect(&format!("new{connected}@bench.example"))?);
                connected += 1;
                slowest = slowest.max(start.elapsed().as_secs_f64() * 1e3);
                memory = memory.max(daemon.memory("VmHWM"));
            }
        }
    }
    let (ratios, mut verdict) = run.judge(&TARGETS);
    let mut text = format!("# flood\n\n{}\n\n", support::machine());
    let _ = writeln!(text, "{}\n{ratios}", run.table("per second"));
    let _ =
        writeln!(text, "* {connected} new clients connected under a flood, the slowest in {slowest:.0} ms");
    let grown = memory - before;
    let _ = writeln!(text, "* resident memory at most {memory} KiB, {grown} KiB more than before");
    if slowest > CONNECT_MS || grown > BOUND_KIB {
        verdict = support::Verdict::Missed;
    }
    support::report("flood", &text);
    Ok(support::exit(verdict))
}

const TARGETS: [Target; 4] = [
    keeps("up, garbage: at us / at a plain socket", "up, garbage at us", "up, garbage at a plain socket"),
    keeps("down, garbage: the same", "down, garbage at us", "down, garbage at a plain socket"),
    keeps("up, IKE_SA_INIT: the same", "up, IKE_SA_INIT at us", "up, IKE_SA_INIT at a plain socket"),
    keeps("down, IKE_SA_INIT: the same", "down, IKE_SA_INIT at us", "down, IKE_SA_INIT at a plain socket"),
];

const fn keeps(what: &'static str, numerator: &'static str, denominator: &'static str) -> Target {
    Target { what, numerator, denominator, at_least: true, limit: 0.8 }
}

/// A socket whose datagrams are received and forgotten.
fn discard() -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(gateway::SOCKET_BUFFER)?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while socket.recv(&mut buffer).is_ok() {}
    });
    Ok(address)
}

/// Packets per second from the client to the gateway, with a bounded number of them on their way.
fn up(daemon: &mut Daemon) -> io::Result<f64> {
    let Daemon { client, tunnel, next, .. } = daemon;
    let (over, seen, count) = (AtomicBool::new(false), AtomicU32::new(next[0]), AtomicU32::new(0));
    thread::scope(|scope| {
        let sink = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                tunnel.receive(PATIENCE, |number| {
                    seen.store(number.wrapping_add(1), Ordering::Relaxed);
                    count.fetch_add(1, Ordering::Relaxed);
                })?;
            }
            Ok::<_, io::Error>(())
        });
        let sent = paced(&seen, &mut next[0], |number| {
            let sealed = client.seal(&packets::outbound(IpAddr::V4(client.address), LEN, number));
            client.socket.send_to(&sealed.map_err(io::Error::other)?, client.server).map(drop)
        });
        over.store(true, Ordering::Relaxed);
        sink.join().expect("a sink")?;
        sent
    })?;
    Ok(f64::from(count.into_inner()) / WATCHED.as_secs_f64())
}

/// The same from the gateway to the client, who counts by sequence numbers.
fn down(daemon: &mut Daemon) -> io::Result<f64> {
    let Daemon { client, tunnel, next, .. } = daemon;
    let (over, seen, count) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let socket = &client.socket;
    socket.set_read_timeout(Some(PATIENCE))?;
    // What is left of an earlier time.
    while socket.recv(&mut [0; 2048]).is_ok() {}
    let mut sent = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut buffer, mut first) = ([0; 2048], None);
            while !over.load(Ordering::Relaxed) {
                let Ok(len) = socket.recv(&mut buffer) else { continue };
                let esp = pterodapter::esp::sequence(&buffer[..len]);
                let Some((_, seq)) = esp.filter(|(spi, _)| *spi != 0) else { continue };
                let first = *first.get_or_insert(seq);
                seen.store(seq.wrapping_sub(first).wrapping_add(1), Ordering::Relaxed);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut batch = Vec::new();
        let result = paced(&seen, &mut sent, |_| {
            batch.push(packets::inbound(LEN, next[1]));
            next[1] += 1;
            if batch.len() < PIECE as usize {
                return Ok(());
            }
            let sealed = tunnel.seal(&gateway::frames(&batch), 16 << 10)?;
            batch.clear();
            tunnel.stream.write_all(&sealed)
        });
        over.store(true, Ordering::Relaxed);
        result
    })?;
    tunnel.serve()?;
    Ok(f64::from(count.into_inner()) / WATCHED.as_secs_f64())
}

/// Sends numbered packets as long as the client is watched, no further ahead of what was `seen` than the window.
fn paced(seen: &AtomicU32, next: &mut u32, mut send: impl FnMut(u32) -> io::Result<()>) -> io::Result<()> {
    let start = support::now();
    let (mut base, mut moved) = (*next, start);
    while start.elapsed() < WATCHED {
        let arrived = seen.load(Ordering::Relaxed);
        if arrived.wrapping_sub(base) as i32 > 0 {
            (base, moved) = (arrived, support::now());
        } else if moved.elapsed() > PATIENCE {
            // The rest is lost.
            (base, moved) = (*next, support::now());
        }
        if next.wrapping_sub(base) >= WINDOW {
            thread::sleep(Duration::from_micros(50));
            continue;
        }
        for _ in 0..PIECE {
            send(*next)?;
            *next = next.wrapping_add(1);
        }
    }
    Ok(())
}
