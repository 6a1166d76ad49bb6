//! The program under random faults of the gateway, with two devices that work through it all the time.
//!
//! `PTERODAPTER_SOAK_SECONDS` says for how long (60), `PTERODAPTER_SOAK_SEED` repeats a run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::happens;
use program::Program;
use pterodapter::demo::gateway::{
    AnswerFault, CloseStyle, Event, Fault, Framing, Handshake, LoginOutcome, Order, Scenario, TlsKnobs, User,
    frame,
};
use pterodapter::demo::probe::Client;

const CONFIG: &str = "/remote/fortisslvpn_xml";
const TUNNEL: &str = "/remote/sslvpn-tunnel";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
/// A fault and the traffic after it. Sign-ins in a row come up to a minute apart.
const RECOVERY: Duration = Duration::from_secs(90);
/// As many there are, however long they take.
const FAULTS: usize = 4;
/// What the process may grow by, once it has seen a few faults.
const GROWTH_KIB: u64 = 6 * 1024;
/// Lookups of the gateway's name have a thread each, for a moment.
const PASSING_THREADS: u64 = 1;
/// The same for connections.
const PASSING_FILES: usize = 3;

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Drop,
    Refusal,
    Handshakes,
    BadFrames,
    OddFrames,
    Pause,
    Renegotiation,
    NewKeys,
    /// The session ends with these.
    Terminate,
    Configuration,
    Restart,
    BlackHole,
}

impl Trouble {
    fn choose(dice: &mut Dice) -> Self {
        use Trouble::*;
        match dice.below(100) {
            0..30 => Drop,
            30..42 => Refusal,
            42..52 => Handshakes,
            52..60 => BadFrames,
            60..68 => OddFrames,
            68..76 => Pause,
            76..84 => Renegotiation,
            84..89 => NewKeys,
            89..92 => Terminate,
            92..95 => Configuration,
            95..98 => Restart,
            _ => BlackHole,
        }
    }

    /// Sign-ins that it may cost.
    fn sign_ins(self) -> usize {
        use Trouble::*;
        match self {
            OddFrames | Pause | Renegotiation | NewKeys => 0,
            // Where the cookie is tried in vain, one.
            _ => 1,
        }
    }

    fn happen(self, dice: &mut Dice, program: &Program) {
        use CloseStyle::*;
        let gateway = &program.gateway;
        let usual = usual(program);
        gateway.set_scenario(usual.clone());
        let styles = [CloseNotify, Fin, HalfFrame, Reset, Alert(80), BadRecord];
        let style = styles[dice.below(6) as usize];
        let times = 1 + dice.below(2) as u32;
        let faulty = |path, fault| Scenario {
            faults: vec![AnswerFault::on(path, fault).times(times)],
            ..usual.clone()
        };
        match self {
            Self::Drop => gateway.kick_tunnels(style),
            Self::Refusal => {
                let answers = [
                    Fault::status(503),
                    Fault::Close,
                    Fault::Reset,
                    Fault::Bytes(b"HTT".to_vec()),
                    Fault::status(403),
                ];
                gateway.set_scenario(faulty(TUNNEL, answers[dice.below(5) as usize].clone()));
                gateway.kick_tunnels(style);
            }
            Self::Handshakes => {
                let ways = [Handshake::Close, Handshake::Reset, Handshake::Alert(80), Handshake::Plaintext];
                let handshake = ways[dice.below(4) as usize];
                let tls = TlsKnobs { handshake, handshake_times: Some(times), ..TlsKnobs::default() };
                gateway.set_scenario(Scenario { tls, ..usual });
                gateway.kick_tunnels(style);
            }
            Self::BadFrames => {
                gateway.order_tunnels(&Order::Send(
                    b"\x00\x0c\x50\x51\x00\x06\xc0\x21\x09\x05\x00\x04".to_vec(),
                ));
            }
            Self::OddFrames => {
                let odd = [frame(&[]), frame(&[0x82, 0x35, 1, 1, 0, 4]).repeat(50), frame(&vec![0; 65_529])];
                gateway.order_tunnels(&Order::Send(odd.concat()));
            }
            Self::Pause => gateway.order_tunnels(&Order::PauseReading(dice.millis(300, 3000))),
            Self::Renegotiation => gateway.order_tunnels(&Order::Renegotiate),
            Self::NewKeys => gateway.order_tunnels(&Order::UpdateKeys),
            Self::Terminate => {
                gateway.kick_tunnels(if times == 1 { Terminate } else { TerminateThenSilence });
            }
            Self::Configuration => {
                let answers =
                    [Fault::status(500), Fault::Close, Fault::Reset, Fault::Framing(Framing::NoLastChunk)];
                gateway.set_scenario(faulty(CONFIG, answers[dice.below(4) as usize].clone()));
                gateway.kick_tunnels(Terminate);
            }
            Self::Restart => gateway.restart(dice.millis(100, 2000)),
            Self::BlackHole => gateway.kick_tunnels(Blackhole),
        }
    }
}

fn usual(program: &Program) -> Scenario {
    let saml_port = program.gateway.scenario().saml_port;
    Scenario { saml_port, reuse: Some(Duration::from_secs(60)), config_fetches: None, ..Scenario::default() }
}

#[test]
fn random_faults_cost_neither_clients_nor_memory() {
    let env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = env("PTERODAPTER_SOAK_SECONDS").unwrap_or(60);
    let seed = env("PTERODAPTER_SOAK_SEED").unwrap_or_else(fresh_seed);
    println!("seed {seed}: PTERODAPTER_SOAK_SEED={seed} repeats it");
    let mut dice = Dice(seed | 1);
    let scenario =
        Scenario { reuse: Some(Duration::from_secs(60)), config_fetches: None, ..Scenario::default() };
    let options = ["--username=alice", "--password-file={}/password"];
    let user = User::new("alice", "correct horse");
    let mut program = Program::start(scenario, vec![user], &[("password", "correct horse\n")], &options);
    assert!(happens(Duration::from_secs(30), || program.tunnels() == 1), "{}", program.printed());
    let devices = ["one.example", "two.example"].map(|name| {
        let mut config = program.client_config(name);
        config.timeout = Duration::from_secs(1);
        Client::connect(config).unwrap()
    });

    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut seen: BTreeMap<Trouble, (u32, Duration)> = BTreeMap::new();
    let (mut sign_ins, mut samples) = (1, Vec::new());
    std::thread::scope(|scope| {
        for device in &devices {
            scope.spawn(|| work(device, &over, &answered));
        }
        let _end = SetWhenDropped(&over);
        let start = clock();
        while start.elapsed() < Duration::from_secs(seconds) || samples.len() < FAULTS {
            let mut trouble = Trouble::choose(&mut dice);
            let holes = seen.get(&Trouble::BlackHole).map_or(0, |(count, _)| u64::from(*count));
            if trouble == Trouble::BlackHole && holes > start.elapsed().as_secs() / 60 {
                // Each takes half a minute to notice: one a minute leaves time for the others.
                trouble = Trouble::Drop;
            }
            let before = program.posts();
            let began = clock();
            trouble.happen(&mut dice, &program);
            // What breaks has to be seen to break before what comes back counts.
            std::thread::sleep(Duration::from_millis(200));
            let flows = |device: &Client| device.ping(SERVER).is_ok();
            if !happens(RECOVERY, || devices.iter().all(flows)) {
                panic!("{trouble:?} is not got over (seed {seed}): {}", program.printed());
            }
            let took = began.elapsed();
            let (count, longest) = seen.entry(trouble).or_default();
            (*count, *longest) = (*count + 1, took.max(*longest));
            assert!(program.is_running(), "{trouble:?} (seed {seed}): {}", program.printed());
            assert!(devices.iter().all(|device| !device.is_closed()), "{trouble:?} (seed {seed})");
            sign_ins += trouble.sign_ins();
            assert!(program.posts() - before <= trouble.sign_ins(), "{trouble:?} (seed {seed})");
            samples.push((program.status("VmRSS"), program.status("Threads"), program.descriptors()));
            std::thread::sleep(dice.millis(800, 2800));
        }
    });

    for (trouble, (count, longest)) in &seen {
        println!("{count:4} x {trouble:?}, over after {longest:.1?} at most");
    }
    let (warm, rest) = samples.split_at(samples.len() / 4 + 1);
    let (first, last) = (warm.last().unwrap(), samples.last().unwrap());
    let highest = samples.iter().map(|(rss, ..)| rss).max().unwrap();
    println!(
        "{} faults, {} sign-ins, {} answers to devices; resident {} KiB after a quarter, {} at the end, {highest} at most; \
         threads {} and {}, descriptors {} and {}",
        samples.len(),
        program.posts(),
        answered.load(Ordering::Relaxed),
        first.0,
        last.0,
        first.1,
        last.1,
        first.2,
        last.2
    );
    assert!(program.posts() <= sign_ins);
    let refused = |event: &Event| {
        matches!(event, Event::Login { outcome: LoginOutcome::Denied | LoginOutcome::LockedOut, .. })
    };
    assert_eq!(program.count(refused), 0);
    for (rss, threads, descriptors) in rest {
        assert!(*rss <= first.0 + GROWTH_KIB, "resident memory grows: {samples:?}");
        assert!(threads.abs_diff(first.1) <= PASSING_THREADS, "threads: {samples:?}");
        assert!(descriptors.abs_diff(first.2) <= PASSING_FILES, "descriptors: {samples:?}");
    }
    let connected = program.printed().matches(".example connected from").count();
    assert_eq!(connected, devices.len(), "no device had to connect again");
    for device in devices {
        device.ping(SERVER).unwrap();
        device.disconnect().unwrap();
    }
    assert!(program.stop().success(), "{}", program.printed());
    let printed = program.printed();
    assert!(!printed.contains("panicked"), "{printed}");
}

/// What a device does all the time; answers are not owed while the tunnel is down.
fn work(device: &Client, over: &AtomicBool, answered: &AtomicU64) {
    while !over.load(Ordering::Relaxed) {
        let answer = device.udp_exchange((IpAddr::V4(SERVER), 7), &[7; 900]);
        answered.fetch_add(u64::from(answer.is_ok()), Ordering::Relaxed);
        if device.http_get("http://10.77.0.80/bytes/20000").is_ok_and(|page| page.body.len() == 20_000) {
            answered.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ends the work also when a check fails.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "a seed that differs from run to run")]
fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64)
}

#[expect(clippy::disallowed_methods, reason = "tests measure time")]
fn clock() -> Instant {
    Instant::now()
}
