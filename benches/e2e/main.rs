//! The real program against a naive one and against the bound of its components. `cargo bench --bench e2e`.
//!
//! Burst and drain: the program is stopped (SIGSTOP), a burst fills its receive queue, it goes on, and only the drain
//! is measured: CPU time of its threads, and wall time until the far end has the last packet. So the generator takes
//! nothing from it, and machines with few cores do as well. All arms run in every round.

mod bound;
mod daemon;
mod gateway;
mod naive;
mod sockets;
#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use pterodapter::crypto::Cipher;
use pterodapter::wire::forti::DATA_HEADER_LEN;

use bound::Bound;
use daemon::Daemon;
use gateway::Seen;
use naive::{Naive, joined};
use sockets::{Segmented, TRAIN};
use support::{Run, Target, at_least, packets};

/// Octets of an inner packet: what the PPP link carries.
const LEN: usize = 1354;
/// Packets of a burst: a receive buffer of 4 MiB holds some 3,600.
const BURST: usize = 2880;
/// Octets of a packet as a frame; also of the plaintext of a short TLS record.
const FRAME: usize = LEN + DATA_HEADER_LEN;
/// Plaintext of a large TLS record.
const TLS_PIECE: usize = 16 << 10;
/// The daemons: name, workers, cipher of ESP, NAT64. A worker is given work where the cipher is dear. With NAT64 the
/// client speaks IPv6; the packets have the same size as IPv4.
const ARMS: [(&str, usize, Cipher, bool); 5] = [
    ("inline", 0, Cipher::Aes256Gcm, false),
    ("NAT64", 0, Cipher::Aes256Gcm, true),
    ("pool", 1, Cipher::Aes256Gcm, false),
    ("ChaCha20, inline", 0, Cipher::ChaCha20Poly1305, false),
    ("ChaCha20, pool", 1, Cipher::ChaCha20Poly1305, false),
];
/// How long an idle daemon is watched.
const IDLE: Duration = Duration::from_secs(3);

/// One drained burst.
struct Measured {
    /// Nanoseconds per packet: CPU of all threads, of the event loop, and wall.
    cpu: f64,
    event_loop: f64,
    wall: f64,
    lost: usize,
    in_order: bool,
}

impl Measured {
    fn new(cpu: Duration, event_loop: Duration, start: Instant, seen: Seen) -> io::Result<Self> {
        let each = |time: Duration| time.as_nanos() as f64 / BURST as f64;
        Ok(Self {
            cpu: each(cpu),
            event_loop: each(event_loop),
            wall: each(seen.last.saturating_duration_since(start)),
            lost: BURST - seen.packets,
            in_order: seen.in_order,
        })
    }
}

/// A daemon with the name of its arm.
struct Arm {
    name: &'static str,
    daemon: Daemon,
    trains: Segmented,
}

/// What must not happen, in words.
#[derive(Default)]
struct Faults(std::collections::BTreeMap<String, usize>);

fn main() -> ExitCode {
    match bench() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("e2e: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> io::Result<ExitCode> {
    let (mut arms, mut directories) = (Vec::new(), Vec::new());
    for (name, workers, cipher, nat64) in ARMS {
        let directory = tempfile::tempdir()?;
        let daemon = Daemon::start(directory.path(), workers, cipher, nat64)?;
        let trains = Segmented::beside(&daemon.client.socket, daemon.client.server)?;
        arms.push(Arm { name, daemon, trains });
        directories.push(directory);
    }
    let idle = watch_idle(&mut arms[0].daemon)?;
    let (mut naive, mut bound) = (Naive::new()?, Bound::new()?);
    let (mut run, mut faults) = (Run::default(), Faults::default());
    for _ in 0..support::rounds() {
        // No arm always comes first.
        arms.rotate_left(1);
        for arm in &mut arms {
            for (way, measured) in [
                ("up, single", arm.up(false)?),
                ("up, trains", arm.up(true)?),
                ("down", arm.down(TLS_PIECE)?),
                ("down, short records", arm.down(FRAME)?),
            ] {
                let name = format!("{way}: {}", arm.name);
                faults.count(&name, &measured);
                measured.record(&mut run, &name);
            }
        }
        for (name, measured) in [
            ("up, single: naive", naive.up()?),
            ("down: naive", naive.down(TLS_PIECE)?),
            ("down, short records: naive", naive.down(FRAME)?),
        ] {
            faults.count(name, &measured);
            measured.record(&mut run, name);
        }
        bound.measure(&mut run)?;
    }
    let memory = arms.iter().map(|arm| arm.daemon.memory("VmHWM")).max().unwrap_or(0);

    let (ratios, verdict) = run.judge(&TARGETS);
    let mut text = format!("# e2e\n\n{}\n\n", support::machine());
    let _ = writeln!(text, "Bursts of {BURST} packets of {LEN} octets, AES-256-GCM in ESP and TLS 1.3.\n");
    let _ = writeln!(text, "{}\n{ratios}", run.table("ns per packet"));
    for way in ["up, single", "up, trains", "down", "down, short records"] {
        if let Some(summary) = run.summary(&format!("{way}: inline")) {
            let _ = writeln!(
                text,
                "* {way}: {:.2} CPU-s/GB, {:.1} Gbit/s per core",
                summary.median / LEN as f64,
                8.0 * LEN as f64 / summary.median
            );
        }
    }
    let _ = match faults.0.is_empty() {
        true => writeln!(text, "* no packet lost, none out of order"),
        false => writeln!(text, "* FAULTS: {:?}", faults.0),
    };
    let _ = writeln!(text, "* {idle}\n* most resident memory after all bursts (VmHWM): {memory} KiB");
    support::report("e2e", &text);
    Ok(support::exit(if faults.0.is_empty() { verdict } else { support::Verdict::Missed }))
}

const TARGETS: [Target; 14] = [
    at_least("bound / daemon, up, single", "up, single: bound", "up, single: inline", 0.5),
    at_least("bound / daemon, up, trains of 16", "up, trains: bound", "up, trains: inline", 0.5),
    at_least("bound / daemon, down", "down: bound", "down: inline", 0.5),
    at_least(
        "bound / daemon, down, short records",
        "down, short records: bound",
        "down, short records: inline",
        0.5,
    ),
    at_least("naive / daemon, up, single", "up, single: naive", "up, single: inline", 1.7),
    at_least("naive / daemon, up, trains of 16", "up, single: naive", "up, trains: inline", 1.7),
    at_least("naive / daemon, down", "down: naive", "down: inline", 1.7),
    at_least(
        "naive / daemon, down, short records",
        "down, short records: naive",
        "down, short records: inline",
        1.7,
    ),
    at_least("inline / pool, up, single", "up, single: inline", "up, single: pool", 0.95),
    at_least("inline / pool, down", "down: inline", "down: pool", 0.95),
    at_least("IPv4 / NAT64, up, single", "up, single: inline", "up, single: NAT64", 0.9),
    at_least("IPv4 / NAT64, up, trains of 16", "up, trains: inline", "up, trains: NAT64", 0.9),
    at_least("IPv4 / NAT64, down", "down: inline", "down: NAT64", 0.9),
    at_least(
        "IPv4 / NAT64, down, short records",
        "down, short records: inline",
        "down, short records: NAT64",
        0.9,
    ),
];

impl Measured {
    fn record(&self, run: &mut Run, name: &str) {
        run.record(name, self.cpu);
        run.record(&format!("{name}, wall"), self.wall);
        if name.ends_with("pool") {
            run.record(&format!("{name}, event loop"), self.event_loop);
        }
    }
}

impl Faults {
    fn count(&mut self, name: &str, measured: &Measured) {
        if measured.lost > 0 {
            *self.0.entry(format!("packets lost, {name}")).or_default() += measured.lost;
        }
        if !measured.in_order {
            *self.0.entry(format!("bursts out of order, {name}")).or_default() += 1;
        }
    }
}

impl Arm {
    /// A burst of ESP packets, one by one or in trains, to frames at the gateway.
    fn up(&mut self, trains: bool) -> io::Result<Measured> {
        let Daemon { client, tunnel, next, .. } = &mut self.daemon;
        tunnel.serve()?;
        let first = next[0];
        next[0] += BURST as u32;
        let address = client.address6.map_or(IpAddr::V4(client.address), IpAddr::V6);
        let sealed: Result<Vec<_>, _> =
            (first..next[0]).map(|number| client.seal(&packets::outbound(address, LEN, number))).collect();
        let sealed = sealed.map_err(io::Error::other)?;
        self.daemon.freeze()?;
        let before = self.daemon.cpu()?;
        let client = &self.daemon.client;
        if trains {
            self.trains.send_trains(client.server, &sealed, TRAIN)?;
        } else {
            for packet in &sealed {
                client.socket.send(packet)?;
            }
        }
        let (pid, tunnel) = (self.daemon.pid(), &mut self.daemon.tunnel);
        let (start, seen) = thread::scope(|scope| {
            let sink = scope.spawn(move || tunnel.drain(first, BURST));
            let start = support::now();
            daemon::thaw(pid)?;
            Ok::<_, io::Error>((start, joined(sink)?))
        })?;
        self.finish(before, start, seen)
    }

    /// A burst of frames in TLS records of `record` octets, to ESP packets at the device.
    fn down(&mut self, record: usize) -> io::Result<Measured> {
        let Daemon { tunnel, next, .. } = &mut self.daemon;
        tunnel.serve()?;
        let numbers = next[1]..next[1] + BURST as u32;
        next[1] = numbers.end;
        let plain: Vec<Vec<u8>> = numbers.map(|number| packets::inbound(LEN, number)).collect();
        let sealed = tunnel.seal(&gateway::frames(&plain), record)?;
        self.daemon.freeze()?;
        let before = self.daemon.cpu()?;
        // The kernel's buffers take all of it.
        self.daemon.tunnel.stream.write_all(&sealed)?;
        let (start, seen) = thread::scope(|scope| {
            let socket = &self.daemon.client.socket;
            let sink = scope.spawn(move || sockets::drain(socket, BURST));
            let start = support::now();
            daemon::thaw(self.daemon.pid())?;
            Ok::<_, io::Error>((start, joined(sink)?))
        })?;
        self.finish(before, start, seen)
    }

    fn finish(&self, before: daemon::Cpu, start: Instant, seen: Seen) -> io::Result<Measured> {
        self.daemon.settle()?;
        let after = self.daemon.cpu()?;
        Measured::new(after.all - before.all, after.event_loop - before.event_loop, start, seen)
    }
}

/// Memory and CPU of a daemon with one connected client and nothing to do.
fn watch_idle(daemon: &mut Daemon) -> io::Result<String> {
    daemon.settle()?;
    let before = daemon.cpu()?;
    thread::sleep(IDLE);
    daemon.settle()?;
    let spent = daemon.cpu()?.all - before.all;
    daemon.tunnel.serve()?;
    Ok(format!(
        "idle with one connected client: VmRSS {} KiB, RssAnon {} KiB, CPU {:.3} %",
        daemon.memory("VmRSS"),
        daemon.memory("RssAnon"),
        100.0 * spent.as_secs_f64() / IDLE.as_secs_f64()
    ))
}
