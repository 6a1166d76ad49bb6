//! What floods of strangers cost a connected client. `cargo bench --bench flood`.
//!
//! A client moves packets through the program as fast as it can while 20,000 datagrams a second hit, in turn, a plain UDP
//! socket that discards them and the program's port for ESP. The flood changes its aim every few milliseconds, so that
//! whatever else the machine does disturbs both arms alike, and the cost of sending the flood is in both.

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
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
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
/// How long one arm lasts before the other's turn, and how many turns each has in a round.
const SLICE: Duration = Duration::from_millis(40);
const TURNS: u32 = 12;
/// Packets on their way at a time; what takes longer than the patience is lost.
const WINDOW: u32 = 512;
const PATIENCE: Duration = Duration::from_millis(20);
/// Packets between two looks.
const PIECE: u32 = 32;
/// The arms.
const ARMS: [&str; 2] = ["at a plain socket", "at us"];
/// How long an idle program is flooded.
const IDLE: Duration = Duration::from_millis(400);
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
    let targets = vec![discard()?, daemon.nat_address()];
    let (mut run, mut connected, mut slowest) = (Run::default(), 0_usize, 0.0_f64);
    let before = daemon.memory("VmHWM");
    let mut floods = [("garbage", Matter::Garbage), ("IKE_SA_INIT", Matter::Initial)];
    for _ in 0..support::rounds() {
        floods.rotate_left(1);
        for (word, matter) in floods {
            let flood = Flood::start(targets.clone(), matter, PER_SECOND, u64::MAX)?;
            let (start, sent) = (support::now(), flood.sent());
            for (way, counts) in [("up", up(&mut daemon, &flood)?), ("down", down(&mut daemon, &flood)?)] {
                for (arm, count) in ARMS.iter().zip(counts) {
                    let seconds = (SLICE * TURNS).as_secs_f64();
                    run.record(&format!("{way}, {word} {arm}"), f64::from(count) / seconds);
                }
            }
            run.record(
                &format!("flood of {word}"),
                (flood.sent() - sent) as f64 / start.elapsed().as_secs_f64(),
            );
            flood.aim(1);
            let start = support::now();
            drop(daemon.connect(&format!("new{connected}@bench.example"))?);
            connected += 1;
            slowest = slowest.max(start.elapsed().as_secs_f64() * 1e3);
            let (cpu, sent) = (daemon.cpu()?, flood.sent());
            thread::sleep(IDLE);
            let spent = (daemon.cpu()?.all - cpu.all).as_nanos() as f64;
            run.record(
                &format!("CPU time for one datagram of {word}, ns"),
                spent / (flood.sent() - sent) as f64,
            );
        }
    }
    let grown = daemon.memory("VmHWM") - before;
    let (ratios, mut verdict) = run.judge(&TARGETS);
    let mut text = format!("# flood\n\n{}\n\n", support::machine());
    let _ = writeln!(text, "{}\n{ratios}", run.table("per second"));
    let _ =
        writeln!(text, "* {connected} new clients connected under a flood, the slowest in {slowest:.0} ms");
    let _ = writeln!(text, "* resident memory grew by {grown} KiB");
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

/// Packets from the client to the gateway in all turns of each arm, with a bounded number of them on their way.
fn up(daemon: &mut Daemon, flood: &Flood) -> io::Result<[u32; 2]> {
    let Daemon { client, tunnel, next, .. } = daemon;
    let (over, progress) = (AtomicBool::new(false), Progress::from(next[0]));
    thread::scope(|scope| {
        let sink = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                tunnel.receive(PATIENCE, |number| progress.arrived(number))?;
            }
            Ok::<_, io::Error>(())
        });
        let sent = progress.paced(flood, &mut next[0], |number| {
            let sealed = client.seal(&packets::outbound(IpAddr::V4(client.address), LEN, number));
            client.socket.send_to(&sealed.map_err(io::Error::other)?, client.server).map(drop)
        });
        over.store(true, Ordering::Relaxed);
        sink.join().expect("a sink")?;
        sent
    })?;
    Ok(progress.counts())
}

/// The same from the gateway to the client, who counts by sequence numbers.
fn down(daemon: &mut Daemon, flood: &Flood) -> io::Result<[u32; 2]> {
    let Daemon { client, tunnel, next, .. } = daemon;
    let (over, progress) = (AtomicBool::new(false), Progress::from(0));
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
                progress.arrived(seq.wrapping_sub(first));
            }
        });
        let mut batch = Vec::new();
        let result = progress.paced(flood, &mut sent, |_| {
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
    Ok(progress.counts())
}

/// How far a transfer has come.
struct Progress {
    /// The number behind the last packet that arrived.
    seen: AtomicU32,
    arm: AtomicUsize,
    counts: [AtomicU32; 2],
}

impl Progress {
    fn from(first: u32) -> Self {
        Self { seen: AtomicU32::new(first), arm: AtomicUsize::new(0), counts: Default::default() }
    }

    fn arrived(&self, number: u32) {
        self.seen.store(number.wrapping_add(1), Ordering::Relaxed);
        self.counts[self.arm.load(Ordering::Relaxed)].fetch_add(1, Ordering::Relaxed);
    }

    fn counts(self) -> [u32; 2] {
        self.counts.map(AtomicU32::into_inner)
    }

    /// Sends numbered packets through all turns of both arms, no further ahead of what arrived than the window.
    fn paced(
        &self,
        flood: &Flood,
        next: &mut u32,
        mut send: impl FnMut(u32) -> io::Result<()>,
    ) -> io::Result<()> {
        for turn in 0..2 * TURNS {
            // First one, then the other, then twice the other...: no arm always follows the same.
            let arm = (turn.div_ceil(2) % 2) as usize;
            flood.aim(arm);
            self.arm.store(arm, Ordering::Relaxed);
            let start = support::now();
            let (mut base, mut moved) = (self.seen.load(Ordering::Relaxed), start);
            while start.elapsed() < SLICE {
                let arrived = self.seen.load(Ordering::Relaxed);
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
        }
        Ok(())
    }
}
