//! `pterodapter status` and `disconnect`, and `/metrics`, at the real program.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/program.rs"]
mod program;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{happens, skipped_without};
use program::Program;
use pterodapter::demo::gateway::{Scenario, User};
use pterodapter::demo::probe::Client;
use pterodapter::engine::{Status, Uplink};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
const PASSWORD: &str = "corr3ct-horse";
const SECONDS: Duration = Duration::from_secs(20);
const WEB_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

/// A daemon whose tunnel is up.
fn started(options: &[&str]) -> Program {
    let own = ["--username=alice", "--password-file={}/password"];
    let users = vec![User::new("alice", PASSWORD)];
    let program =
        Program::start(Scenario::default(), users, &[("password", PASSWORD)], &[&own, options].concat());
    let is_up = || program.control().exists() && status(&program).uplink.state == Uplink::Up;
    assert!(happens(SECONDS, is_up), "{}", program.printed());
    program
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn status(program: &Program) -> Status {
    let output = program.run(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", said(&output)))
}

fn connect(program: &Program, name: &str) -> Client {
    Client::connect(program.client_config(name)).unwrap()
}

#[test]
fn status_shows_the_uplink_and_the_devices() {
    let program = started(&[]);
    let client = connect(&program, "laptop.example");
    client.ping(WEB_SERVER).unwrap();
    let now = status(&program);
    let tunnel = now.uplink.tunnel.as_ref().unwrap();
    assert_eq!(
        (now.version.as_str(), now.uplink.gateway),
        (env!("CARGO_PKG_VERSION"), program.gateway.addr().to_string())
    );
    assert!(tunnel.address.is_private() && !tunnel.dns.is_empty() && tunnel.mtu > 1000, "{tunnel:?}");
    assert!(now.started <= now.uplink.since && now.uplink.since <= now.devices[0].since);
    let [device] = now.devices.as_slice() else { panic!("{:?}", now.devices) };
    assert_eq!(
        (device.identity.as_str(), device.address, device.system.as_deref()),
        ("laptop.example", client.address(), None)
    );
    // An echo of 32 octets, there and back: 20 + 8 + 32.
    assert_eq!(
        (device.up.packets, device.up.octets, device.down.packets, device.down.octets),
        (1, 60, 1, 60)
    );
    assert_eq!((now.counters.up_bytes, now.counters.down_bytes), (60, 60));
    assert_eq!((device.child_sas, device.child_rekeys, device.ike_rekeys), (1, 0, 0));
    assert!(device.seen >= device.since && device.suite.contains("ESP AES-GCM"), "{device:?}");
    assert!(now.queues.nat_flows.used == 1 && now.queues.dns_queries.limit > 0, "{:?}", now.queues);
    assert!(happens(SECONDS, || status(&program).ike.devices == 1), "the figures of the IKE thread follow");

    client.rekey_child(false).unwrap();
    client.rekey_ike().unwrap();
    let rekeyed = || {
        let device = &status(&program).devices[0];
        (device.child_rekeys, device.ike_rekeys, device.child_sas) == (1, 1, 1)
    };
    assert!(happens(SECONDS, rekeyed), "{:?}", status(&program).devices);

    let (code, text) = said(&program.run(&["status"]));
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "Uplink    the tunnel is up (for ",
        &format!("Gateway   {}", program.gateway.addr()),
        &format!("Address   {}", tunnel.address),
        "Devices   1",
        "   1  laptop.example ",
        &format!("{} from 127.0.0.1:", client.address()),
        "rekeyed: 1 times the Child SA, 1 times the IKE SA",
        " 1/32768,",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80) && !text.contains('\u{1b}'), "{text}");
    client.disconnect().unwrap();
    assert!(happens(SECONDS, || status(&program).devices.is_empty()));
}

#[test]
fn status_says_what_a_person_has_to_do_and_shows_no_secret() {
    let users = vec![User::new("alice", PASSWORD)];
    let program = Program::start(Scenario::default(), users, &[], &["--username=alice"]);
    let waits = || program.control().exists() && status(&program).uplink.wanted.is_some();
    assert!(happens(SECONDS, waits), "{}", program.printed());
    let (_, text) = said(&program.run(&["status"]));
    assert!(text.contains("To do     the password is needed (see 'pterodapter login')"), "{text}");
    assert_eq!(program.login("wrong-horse\n").status.code(), Some(1));
    let failed = said(&program.run(&["status", "--json"])).1;
    assert!(failed.contains(r#""state":"failed""#) && failed.contains(r#""errors":[{"at":"#), "{failed}");
    assert!(!failed.contains("wrong-horse"), "{failed}");
    let (_, text) = said(&program.run(&["status"]));
    assert!(
        text.contains("Uplink    no tunnel: see the last error") && text.contains("\nErrors    "),
        "{text}"
    );
}

#[test]
fn without_a_daemon_there_is_one_sentence_and_its_exit_code() {
    let directory = TempDir::new().unwrap();
    let control = directory.path().join("nowhere");
    for arguments in [&["status"][..], &["status", "--json"], &["disconnect", "1"]] {
        let output = Command::new(PROGRAM).args(arguments).arg("--control").arg(&control).output().unwrap();
        let (code, text) = said(&output);
        assert_eq!((code, text.lines().count()), (Some(69), 1), "{arguments:?}: {text}");
        assert!(text.contains("no pterodapter listens at"), "{text}");
    }
}

#[test]
fn a_device_is_disconnected_by_number_and_by_name() {
    let program = started(&[]);
    let (code, text) = said(&program.run(&["disconnect", "1"]));
    assert_eq!(code, Some(1));
    assert_eq!(text, "pterodapter: no device has the number or identity '1'; none is connected\n");

    let laptop = connect(&program, "laptop.example");
    let phones = [connect(&program, "phone.example"), connect(&program, "phone.example")];
    let (code, text) = said(&program.run(&["disconnect", "tablet.example"]));
    assert_eq!(code, Some(1));
    assert!(
        text.ends_with("connected: laptop.example (1), phone.example (2), phone.example (3)\n"),
        "{text}"
    );
    assert_eq!(
        said(&program.run(&["disconnect", "1"])),
        (Some(0), "disconnected laptop.example (1)\n".to_owned())
    );
    assert!(happens(SECONDS, || laptop.is_closed()), "it gets our Delete");
    assert!(phones.iter().all(|phone| !phone.is_closed()));
    assert_eq!(
        said(&program.run(&["disconnect", "Phone.Example"])),
        (Some(0), "disconnected phone.example (2), phone.example (3)\n".to_owned())
    );
    assert!(happens(SECONDS, || phones.iter().all(Client::is_closed)));
    assert!(happens(SECONDS, || status(&program).devices.is_empty()));
    let log = program.printed();
    assert!(log.contains("laptop.example is gone: disconnected on request"), "{log}");
}

#[test]
fn metrics_are_for_this_host_and_only_where_they_are_on() {
    let off = started(&[]);
    assert!(off.page("/metrics").starts_with("HTTP/1.1 404 "));
    let program = started(&["--metrics"]);
    let client = connect(&program, "laptop.example");
    client.ping(WEB_SERVER).unwrap();
    assert_eq!(client.http_get("http://198.19.255.1/metrics").unwrap().status, 404, "not for devices");
    assert_eq!(client.http_get("http://198.19.255.1/").unwrap().status, 200);
    let answer = program.page("/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    for line in [
        "pterodapter_uplink_state{state=\"up\"} 1",
        "pterodapter_devices 1",
        "pterodapter_device_info{device=\"1\",identity=\"laptop.example\",system=\"unknown\"} 1",
        "pterodapter_device_child_sas{device=\"1\",identity=\"laptop.example\"} 1",
    ] {
        assert!(body.lines().any(|shown| shown == line), "{line} is not in {body}");
    }
    every_expression_of_the_dashboard_finds_something(body);
    if skipped_without("promtool") {
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let (code, text) = said(&promtool.wait_with_output().unwrap());
    assert_eq!((code, text.as_str()), (Some(0), ""));
}

/// A metric that is not there would be an empty panel, and nobody would know why.
fn every_expression_of_the_dashboard_finds_something(metrics: &str) {
    let known: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    let text = fs::read_to_string("packaging/grafana/pterodapter.json").unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        expressions.extend(targets.iter().map(|target| target["expr"].as_str().unwrap()));
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    expressions.extend(variables.filter(|v| v["type"] == "query").map(|v| v["query"].as_str().unwrap()));
    let mut used = BTreeSet::new();
    for expression in expressions {
        let names = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let ours: Vec<&str> = names.filter(|name| name.starts_with("pterodapter_")).collect();
        assert!(!ours.is_empty() && ours.iter().all(|name| known.contains(name)), "{expression}: {known:?}");
        used.extend(ours);
    }
    for what in [
        "uplink_state",
        "devices",
        "bytes_total",
        "dropped_packets_total",
        "nat_flows",
        "ike_auth_failures_total",
    ] {
        assert!(used.contains(format!("pterodapter_{what}").as_str()), "no panel shows {what}");
    }
}

#[test]
fn watching_with_json_gives_a_line_a_second() {
    let program = started(&[]);
    let mut child = Command::new(PROGRAM)
        .args(["status", "--watch", "--json", "--control"])
        .arg(program.control())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let [first, second] =
        [(); 2].map(|()| serde_json::from_str::<Status>(&lines.next().unwrap().unwrap()).unwrap());
    let between = second.now.0 - first.now.0;
    assert!(between > Duration::from_millis(900) && first.started == second.started, "{between:?}");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A terminal of 80 by 24, of a server of our own.
struct Terminal {
    directory: TempDir,
}

impl Terminal {
    fn run(command: &str) -> Self {
        let terminal = Self { directory: TempDir::new().unwrap() };
        let command = format!("{command}; echo ended with $?; sleep 60");
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &command]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.directory.path().join("tmux");
        let output = Command::new("tmux").arg("-S").arg(socket).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen shows all of `parts`, keeps it for people to look at, and gives it.
    fn shows(&self, name: &str, parts: &[&str]) -> String {
        let found = happens(SECONDS, || {
            let screen = self.screen();
            parts.iter().all(|part| screen.contains(part))
        });
        let screen = self.screen();
        let place = Path::new("target/screens");
        fs::create_dir_all(place).unwrap();
        fs::write(place.join(format!("{name}.txt")), &screen).unwrap();
        assert!(found, "{parts:?} are not all in\n{screen}");
        screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn watching_redraws_a_screen_of_80_by_24_and_leaves_it_as_it_was() {
    if skipped_without("tmux") {
        return;
    }
    let mut program = started(&[]);
    let client = connect(&program, "laptop.example");
    let control = program.control();
    let terminal =
        Terminal::run(&format!("echo before; {PROGRAM} status --watch --control {}", control.display()));
    client.ping(WEB_SERVER).unwrap();
    let screen = terminal.shows(
        "status-watch",
        &[
            "every second; Ctrl-C ends",
            "the tunnel is up",
            "laptop.example",
            "0 B/s",
            "Traffic",
            "flows 1/32768",
        ],
    );
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert!(!screen.contains("before"), "a screen of its own:\n{screen}");
    let _phone = connect(&program, "phone.example");
    terminal.shows("status-watch-two", &["Devices   2", "phone.example"]);

    assert!(program.stop().success());
    let screen = terminal.shows("status-watch-away", &["no pterodapter listens at"]);
    assert!(!screen.contains("laptop.example"), "nothing is left of the last picture:\n{screen}");
    terminal.tmux(&["send-keys", "C-c"]);
    let screen = terminal.shows("status-watch-end", &["before", "ended with 0"]);
    assert!(!screen.contains("no pterodapter"), "{screen}");
    let state = terminal.tmux(&["display-message", "-p", "#{cursor_flag} #{alternate_on} #{wrap_flag}"]);
    assert_eq!(state, "1 0 1\n", "cursor, no other screen, line wrap");
}
