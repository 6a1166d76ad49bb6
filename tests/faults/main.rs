//! The whole daemon against everything that a FortiGate, or what pretends to be one, does on bad days.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "../daemon/lab.rs"]
mod lab;

mod behaviours;
mod clock;
mod drops;
mod http;
mod ppp;
mod sign_in;
mod xml;

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lab::{Lab, Setup, happens};
use pterodapter::demo::gateway::{AnswerFault, Fault, Scenario};
use pterodapter::demo::probe::Client;

const LOGIN: &str = "/remote/logincheck";
const CONFIG: &str = "/remote/fortisslvpn_xml";
const TUNNEL: &str = "/remote/sslvpn-tunnel";
const LOGOUT: &str = "/remote/logout";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);

/// Runs all cases at the same time: most of the time they wait.
fn each<T: Debug + Send>(cases: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let run = &run;
            scope.spawn(move || {
                let name: String = format!("{case:?}").chars().take(200).collect();
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(case))) {
                    eprintln!("in the case {name}");
                    resume_unwind(panic);
                }
            });
        }
    });
}

/// What waits for long. The harness runs few tests at a time, so these start together, with the first of them.
const SLOW: [(&str, fn()); 9] = [
    ("b19", behaviours::second_tunnels),
    ("f25", ppp::impossible_lengths),
    ("f26", ppp::lost_packets),
    ("f30", ppp::odd_echoes),
    ("f31", drops::black_holes),
    ("f33", drops::cookies_again),
    ("f34", drops::echoes_as_activity),
    ("f35", drops::no_reading),
    ("f38", drops::restarts),
];

/// The result of one of [`SLOW`].
fn slow(name: &str) {
    static STARTED: OnceLock<Mutex<HashMap<&str, JoinHandle<()>>>> = OnceLock::new();
    // Where some tests are chosen, only those run.
    if std::env::args().nth(1).is_some_and(|filter| !filter.starts_with('-')) {
        let (_, run) = SLOW.into_iter().find(|(known, _)| *known == name).unwrap();
        return run();
    }
    let all = || SLOW.into_iter().map(|(name, run)| (name, std::thread::spawn(run))).collect();
    let test = STARTED.get_or_init(|| Mutex::new(all())).lock().unwrap().remove(name).unwrap();
    if let Err(panic) = test.join() {
        resume_unwind(panic);
    }
}

/// A gateway with faults.
fn faulty(faults: impl IntoIterator<Item = AnswerFault>) -> Scenario {
    Scenario { faults: faults.into_iter().collect(), ..Scenario::default() }
}

/// One fault of the answers to `path`.
fn fault(path: &str, fault: Fault) -> Scenario {
    faulty([AnswerFault::on(path, fault)])
}

/// A fault of the first answer to `path`.
fn once(path: &str, fault: Fault) -> Scenario {
    faulty([AnswerFault::on(path, fault).times(1)])
}

/// A device whose calls do not wait for long.
fn device(lab: &Lab) -> Client {
    let mut config = lab.client_config("laptop.example");
    config.timeout = Duration::from_secs(1);
    Client::connect(config).unwrap()
}

/// Waits until the device reaches the company.
fn flows(lab: &Lab, device: &Client) {
    if !happens(Duration::from_secs(40), || device.ping(SERVER).is_ok()) {
        panic!("nothing flows: {:?}", lab.state());
    }
}

/// The daemon gets over it: packets flow. Gives the lab to look at.
fn works(setup: Setup) -> Lab {
    let lab = Lab::start(setup);
    let device = device(&lab);
    lab.wait_for_tunnel(1);
    flows(&lab, &device);
    lab
}

/// The daemon gives up with an error that says `words`, and leaves the gateway alone.
fn fails(setup: Setup, words: &str) -> Lab {
    let lab = Lab::start(setup);
    lab.wait_for_failure(words);
    let requests = |lab: &Lab| lab.gateway.journal().len();
    std::thread::sleep(Duration::from_millis(200));
    let before = requests(&lab);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(requests(&lab), before, "it goes on: {:?}", lab.gateway.journal());
    lab
}

#[expect(clippy::disallowed_methods, reason = "tests measure time")]
fn clock() -> Instant {
    Instant::now()
}
