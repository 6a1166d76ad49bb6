//! Captures of the packets on both sides, read by other people's programs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/program.rs"]
mod program;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use common::{happens, skipped_without};
use program::Program;
use pterodapter::crypto::Cipher;
use pterodapter::demo::gateway::{Scenario, User};
use pterodapter::demo::probe::{Client, RawTunnel, RecordType, Transport};
use pterodapter::engine::capture::Follower;
use pterodapter::wire::ip::Ipv4;
use pterodapter::wire::udp;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
const PATIENCE: Duration = Duration::from_secs(20);
const WEB_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
/// In pterodapter, and its place in the company.
const HOST: &str = "198.19.255.1";
const ASSIGNED: &str = "10.212.134.200";
const SINK: u16 = 9002;

fn daemon(options: &[&str]) -> Program {
    let signed_in = ["--username=alice", "--password-file={}/password", "--workers=1"];
    let options: Vec<&str> = signed_in.iter().chain(options).copied().collect();
    let users = vec![User::new("alice", "secret")];
    let daemon = Program::start(Scenario::default(), users, &[("password", "secret\n")], &options);
    assert!(happens(PATIENCE, || daemon.tunnels() == 1), "no tunnel: {}", daemon.printed());
    daemon
}

fn connect(daemon: &Program, name: &str) -> Client {
    Client::connect(daemon.client_config(name)).unwrap()
}

/// A running `pterodapter capture`; killed when dropped.
struct Capture {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Capture {
    /// Begins, and waits until it says so.
    fn begin(daemon: &Program, file: &Path, options: &[&str], stdout: Stdio) -> Self {
        let mut child = command(daemon, file, options).stdout(stdout).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.starts_with("capturing, "), "{line}");
        Self { child, stderr }
    }

    fn signal(&self) {
        Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits for the end: the exit code, and what it said since the beginning.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }

    /// Ctrl-C, and the number of packets that it has captured.
    fn finish(self) -> u64 {
        self.signal();
        let (code, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
        counts(&said)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(daemon: &Program, file: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("capture").arg(file).arg("--control").arg(daemon.control()).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// What a capture that fails says.
fn refused(daemon: &Program, file: &Path, options: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command(daemon, file, options).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// N of "N packets captured, 0 lost".
fn counts(said: &str) -> u64 {
    let (packets, rest) = said.split_once(" packets captured, ").unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(rest, "0 lost\n");
    packets.parse().unwrap()
}

/// A packet as tshark reads it.
#[derive(Debug)]
struct Seen {
    company: bool,
    outbound: bool,
    from: String,
    to: String,
    protocol: String,
    comment: String,
}

const FIELDS: [&str; 13] = [
    "frame.interface_name",
    "frame.packet_flags_direction",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "_ws.col.Protocol",
    "_ws.col.Info",
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
];

/// The packets of a file, or of standard input, which must be in order from the first to the last octet.
fn tshark(input: Stdio, file: &str) -> Vec<Seen> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r", file, "-T", "fields", "-E", "occurrence=f"]);
    command.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    let checks = ["ip", "tcp", "udp"].map(|protocol| format!("{protocol}.check_checksum:TRUE"));
    command.args(checks.iter().flat_map(|check| ["-o", check]));
    let output = command.stdin(input).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !errors.contains("cut short"), "{errors}");
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [side, heading, from, to, from6, to6, protocol, info, sums @ ..] = &fields[..] else {
            panic!("{line:?}")
        };
        // 1 is good, nothing means that there is none.
        assert!(sums.iter().all(|sum| ["", "1"].contains(sum)) && sums.contains(&"1"), "{line}");
        assert!(
            ["devices", "company"].contains(side) && ["1", "2", "0x00000001", "0x00000002"].contains(heading)
        );
        Seen {
            company: *side == "company",
            outbound: heading.ends_with('2'),
            from: format!("{from}{from6}"),
            to: format!("{to}{to6}"),
            protocol: (*protocol).to_owned(),
            comment: (*info).to_owned(),
        }
    };
    String::from_utf8(output.stdout).unwrap().lines().map(parse).collect()
}

fn read(path: &Path) -> Vec<Seen> {
    tshark(Stdio::null(), &path.display().to_string())
}

/// From where to where packets of a protocol went, on one side in one direction.
fn ways<'a>(seen: &'a [Seen], company: bool, outbound: bool, protocol: &str) -> BTreeSet<(&'a str, &'a str)> {
    let wanted =
        |seen: &&Seen| (seen.company, seen.outbound, &*seen.protocol) == (company, outbound, protocol);
    seen.iter().filter(wanted).map(|seen| (&*seen.from, &*seen.to)).collect()
}

/// Asserts that all four ways were taken by packets of `protocol`, between these addresses and no others.
fn assert_both_sides(seen: &[Seen], protocol: &str, device: (&str, &str), company: (&str, &str)) {
    let back = |(a, b)| BTreeSet::from([(b, a)]);
    assert_eq!(ways(seen, false, false, protocol), BTreeSet::from([device]), "{protocol} from the device");
    assert_eq!(ways(seen, true, true, protocol), BTreeSet::from([company]), "{protocol} to the company");
    assert_eq!(ways(seen, true, false, protocol), back(company), "{protocol} from the company");
    assert_eq!(ways(seen, false, true, protocol), back(device), "{protocol} to the device");
}

fn sink(client: &Client, count: usize) {
    let mut stream = client.tcp_connect(SocketAddr::new(WEB_SERVER.into(), SINK)).unwrap();
    stream.write_all(&vec![7; count]).unwrap();
    stream.shutdown_write();
    let mut counted = [0; 8];
    stream.read_exact(&mut counted).unwrap();
    assert_eq!(u64::from_be_bytes(counted), count as u64);
}

fn new_file() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("packets.pcapng");
    (directory, path)
}

#[test]
fn both_sides_of_the_translation_are_seen() {
    if skipped_without("tshark") {
        return;
    }
    let daemon = daemon(&[]);
    let client = connect(&daemon, "laptop.example");
    let (_directory, path) = new_file();
    let capture = Capture::begin(&daemon, &path, &[], Stdio::null());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    client.ping(WEB_SERVER).unwrap();
    assert_eq!(client.http_get("http://10.77.0.80/").unwrap().status, 200);
    client.dns("www.corp.example", RecordType::A, Transport::Udp).unwrap();
    let packets = capture.finish();

    let seen = read(&path);
    assert_eq!(seen.len() as u64, packets);
    let (device, web) = (&*client.address().to_string(), &*WEB_SERVER.to_string());
    for protocol in ["ICMP", "TCP", "HTTP"] {
        // One packet of HTTP goes each way.
        assert_both_sides(&seen, protocol, (device, web), (ASSIGNED, web));
    }
    // The in-tunnel host answers the device, and asks the company's server itself.
    assert_both_sides(&seen, "DNS", (device, HOST), (ASSIGNED, "10.77.0.53"));
    assert!(daemon.printed().contains(&format!(
        "the capture of all packets to the control socket has ended: {packets} packets captured, 0 lost"
    )));
}

#[test]
fn behind_nat64_one_side_is_ipv6_and_the_other_ipv4() {
    if skipped_without("tshark") {
        return;
    }
    let daemon = daemon(&["--nat64-prefix=64:ff9b:1::/96", "--dns64-tunnel-suffix=corp.example"]);
    let mut config = daemon.client_config("laptop.example");
    config.ipv6 = true;
    // A cipher that is given to the worker.
    config.esp = vec![Cipher::ChaCha20Poly1305];
    let client = Client::connect(config).unwrap();
    let (_directory, path) = new_file();
    let capture = Capture::begin(&daemon, &path, &["--device=laptop.example"], Stdio::null());
    let mapped: Ipv6Addr = "64:ff9b:1::a4d:50".parse().unwrap();
    client.ping6(mapped).unwrap();
    assert_eq!(client.http_get("http://www.corp.example/").unwrap().status, 200);
    capture.finish();

    let seen = read(&path);
    let (device, web) = (&*client.address6().unwrap().to_string(), &*WEB_SERVER.to_string());
    let mapped = &*mapped.to_string();
    assert_both_sides(&seen, "HTTP", (device, mapped), (ASSIGNED, web));
    assert_both_sides(&seen, "TCP", (device, mapped), (ASSIGNED, web));
    assert_eq!(ways(&seen, false, false, "ICMPv6"), BTreeSet::from([(device, mapped)]));
    assert_eq!(ways(&seen, true, true, "ICMP"), BTreeSet::from([(ASSIGNED, web)]));
    assert_eq!(ways(&seen, true, false, "ICMP"), BTreeSet::from([(web, ASSIGNED)]));
    assert_eq!(ways(&seen, false, true, "ICMPv6"), BTreeSet::from([(mapped, device)]));
}

#[test]
fn what_is_cut_or_refused_on_the_way_is_seen_as_it_leaves() {
    if skipped_without("tshark") {
        return;
    }
    let daemon = daemon(&[]);
    let mut device = RawTunnel::connect(&daemon.client_config("laptop.example")).unwrap();
    let (_directory, path) = new_file();
    let capture = Capture::begin(&daemon, &path, &["--device=laptop.example"], Stdio::null());
    let (from, to) = (SocketAddrV4::new(device.address, 4000), SocketAddrV4::new(WEB_SERVER, 7));
    // The uplink carries 1354 octets.
    let large = udp::packet(1, from, to, &[7; 1400]).unwrap();
    let mut short_lived = udp::packet(2, from, to, b"dies here").unwrap();
    Ipv4 { ttl: 1, ..Ipv4::parse(&short_lived).unwrap() }.emit(&mut short_lived).unwrap();
    for packet in [short_lived, large] {
        let sealed = device.seal(&packet).unwrap();
        device.socket.send_to(&sealed, device.server).unwrap();
    }
    // The ICMP error, and then the echo.
    device.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = [(); 2].map(|()| vec![0; 2048]);
    let [error, echo] = answers.each_mut().map(|answer| {
        let length = device.socket.recv(answer).unwrap();
        Ipv4::parse(device.open(&mut answer[..length]).unwrap()).unwrap()
    });
    assert_eq!((error.src.to_string(), echo.src), (HOST.to_owned(), WEB_SERVER));
    capture.finish();

    let seen = read(&path);
    let (device, web) = (&*device.address.to_string(), &*WEB_SERVER.to_string());
    let on = |company, outbound| -> Vec<(&str, &str, &str)> {
        let here = seen.iter().filter(|seen| (seen.company, seen.outbound) == (company, outbound));
        here.map(|seen| (&*seen.from, &*seen.to, &*seen.protocol)).collect()
    };
    assert_eq!(on(false, false), [(device, web, "ECHO"); 2]);
    assert_eq!(on(true, true), [(ASSIGNED, web, "IPv4"), (ASSIGNED, web, "ECHO")], "two pieces");
    assert_eq!(on(false, true).first(), Some(&(HOST, device, "ICMP")));
}

#[test]
fn a_device_is_captured_alone_and_its_identity_across_connections() {
    if skipped_without("tshark") {
        return;
    }
    let daemon = daemon(&[]);
    let (one, two) = (connect(&daemon, "one.example"), connect(&daemon, "two.example"));
    let (directory, _) = new_file();
    let path = |name: &str| directory.path().join(name);
    let begin = |name: &str, device: &str| {
        Capture::begin(&daemon, &path(name), &[&format!("--device={device}")], Stdio::null())
    };
    let by_identity = begin("identity", "one.example");
    let by_number = begin("number", "1");
    let by_address = begin("address", &two.address().to_string());
    for client in [&one, &two] {
        client.ping(WEB_SERVER).unwrap();
        client.dns("www.corp.example", RecordType::A, Transport::Udp).unwrap();
    }
    let first = one.address().to_string();
    one.disconnect().unwrap();
    // Its number never comes back.
    let (code, said) = by_number.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(counts(&said) > 0);
    let again = connect(&daemon, "one.example");
    again.ping(WEB_SERVER).unwrap();
    by_identity.finish();
    by_address.finish();

    let web = WEB_SERVER.to_string();
    let devices = |name: &str| -> BTreeSet<String> {
        let from = |seen: Seen| (!seen.company && !seen.outbound).then_some(seen.from);
        read(&path(name)).into_iter().filter_map(from).collect()
    };
    let set = |addresses: &[&String]| addresses.iter().map(|a| (*a).clone()).collect::<BTreeSet<_>>();
    let (second, other) = (again.address().to_string(), two.address().to_string());
    assert_eq!(devices("identity"), set(&[&first, &second]));
    assert_eq!(devices("number"), set(&[&first]));
    assert_eq!(devices("address"), set(&[&other]));
    for (name, pings) in [("identity", 2), ("number", 1), ("address", 1)] {
        let seen = read(&path(name));
        let count = |company, outbound| {
            let is_ping = |s: &&Seen| (s.company, s.outbound, &*s.protocol) == (company, outbound, "ICMP");
            seen.iter().filter(is_ping).count()
        };
        assert_eq!([count(false, false), count(false, true)], [pings; 2], "{name}: {seen:?}");
        assert_eq!([count(true, true), count(true, false)], [pings; 2], "{name}: {seen:?}");
        // The in-tunnel host asks for all devices: its own packets are nobody's.
        let company: BTreeSet<&str> =
            seen.iter().filter(|s| s.company && s.outbound).map(|s| &*s.to).collect();
        assert_eq!(company, BTreeSet::from([&*web]), "{name}");
    }
}

#[test]
fn from_the_start_and_readable_after_a_kill() {
    if skipped_without("tshark") {
        return;
    }
    let mut daemon = daemon(&["--pcap={}/start.pcapng"]);
    let path = daemon.control().with_file_name("start.pcapng");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let client = connect(&daemon, "laptop.example");
    for _ in 0..3 {
        client.ping(WEB_SERVER).unwrap();
    }
    thread::sleep(Duration::from_secs(1));
    Command::new("kill").args(["-KILL", &daemon.pid().to_string()]).status().unwrap();
    assert!(happens(PATIENCE, || !daemon.is_running()));
    let seen = read(&path);
    let (device, web) = (&*client.address().to_string(), &*WEB_SERVER.to_string());
    assert_both_sides(&seen, "ICMP", (device, web), (ASSIGNED, web));
    assert_eq!(seen.iter().filter(|seen| seen.comment.contains("Echo (ping) request")).count(), 6);
}

#[test]
fn the_end_of_the_daemon_ends_captures_in_order() {
    let mut daemon = daemon(&["--pcap={}/start.pcapng"]);
    let (_directory, path) = new_file();
    let capture = Capture::begin(&daemon, &path, &[], Stdio::null());
    connect(&daemon, "laptop.example").ping(WEB_SERVER).unwrap();
    assert!(daemon.stop().success());
    let (code, said) = capture.end();
    assert_eq!(code, Some(0), "{said}");
    let at_start = fs::read(daemon.control().with_file_name("start.pcapng")).unwrap();
    for (bytes, least) in [(fs::read(&path).unwrap(), counts(&said)), (at_start, counts(&said))] {
        let mut follower = Follower::default();
        assert_eq!(follower.feed(&bytes).unwrap().len(), bytes.len());
        assert!(follower.is_finished() && follower.counts().0 >= least && least >= 4, "{follower:?}");
    }
}

#[test]
fn a_capture_goes_through_a_pipe_and_ends_with_its_reader_or_its_time() {
    if skipped_without("tshark") {
        return;
    }
    let daemon = daemon(&[]);
    let client = connect(&daemon, "laptop.example");
    let mut capture = Capture::begin(&daemon, Path::new("-"), &["--seconds=2"], Stdio::piped());
    let pipe = capture.child.stdout.take().unwrap();
    client.ping(WEB_SERVER).unwrap();
    let seen = tshark(pipe.into(), "-");
    let (code, said) = capture.end();
    assert_eq!((code, counts(&said)), (Some(0), seen.len() as u64));
    let (device, web) = (&*client.address().to_string(), &*WEB_SERVER.to_string());
    assert_both_sides(&seen, "ICMP", (device, web), (ASSIGNED, web));

    let mut capture = Capture::begin(&daemon, Path::new("-"), &[], Stdio::piped());
    drop(capture.child.stdout.take());
    let ended = happens(PATIENCE, || {
        client.ping(WEB_SERVER).unwrap();
        capture.child.try_wait().unwrap().is_some()
    });
    assert!(ended, "it goes on without a reader");
    assert_eq!(capture.end().0, Some(0));
}

#[test]
fn who_stops_reading_holds_up_nobody_and_loses_the_capture() {
    let daemon = daemon(&[]);
    let client = connect(&daemon, "laptop.example");
    let mut hung = UnixStream::connect(daemon.control()).unwrap();
    hung.write_all(b"{\"command\":\"capture\"}\n").unwrap();
    let (_directory, path) = new_file();
    let capture = Capture::begin(&daemon, &path, &[], Stdio::null());
    // Far more than its queue and socket hold; the other capture gets it all or says what it lost.
    for _ in 0..6 {
        sink(&client, 2_000_000);
    }
    let told = || {
        let printed = daemon.printed();
        printed.lines().find(|line| line.contains("ended early")).map(str::to_owned)
    };
    assert!(happens(PATIENCE, || told().is_some()), "{}", daemon.printed());
    let line = told().unwrap();
    assert!(line.contains("does not take its packets") && !line.contains(", 0 lost"), "{line}");
    client.ping(WEB_SERVER).unwrap();
    capture.signal();
    let (code, said) = capture.end();
    assert_eq!(code, Some(0), "{said}");
    let bytes = fs::read(&path).unwrap();
    let mut follower = Follower::default();
    follower.feed(&bytes).unwrap();
    let (packets, lost) = follower.counts();
    assert!(follower.is_finished());
    assert_eq!(said, format!("{packets} packets captured, {lost} lost\n"));
    // Two packets for each segment of up to 1400 octets.
    assert!(packets + lost > 2 * 12_000_000 / 1400, "{packets} {lost}");
}

#[test]
fn what_cannot_be_is_refused_in_one_sentence() {
    let daemon = daemon(&["--pcap={}/one.pcapng"]);
    let one = daemon.control().with_file_name("one.pcapng");
    let (directory, path) = new_file();
    let assert_refused = |file: &Path, options: &[&str], code: i32, says: &str| {
        let (found, said) = refused(&daemon, file, options);
        assert_eq!((found, said.lines().count()), (Some(code), 1), "{said}");
        assert!(said.contains(says), "{said}");
    };
    assert_refused(&path, &["--device=nobody"], 1, "there is no device nobody: none is connected");
    assert!(!path.exists(), "nothing came, so there is no file");
    let client = connect(&daemon, "laptop.example");
    let there = format!("connected are 1 (laptop.example, {})", client.address());
    assert_refused(&path, &["--device=7"], 1, &there);
    assert_refused(&one, &[], 78, "overwrites nothing");
    assert_refused(&path.join("deeper"), &[], 78, "cannot make ");
    assert_refused(&path, &["--seconds=0"], 2, "--seconds");

    let output = Command::new(PROGRAM).args(["capture", "--control=/nowhere/at/all"]).arg(&path).output();
    assert_eq!((output.unwrap().status.code(), path.exists()), (Some(69), false));

    let files: Vec<PathBuf> = (0..3).map(|n| directory.path().join(n.to_string())).collect();
    let running: Vec<Capture> =
        files.iter().map(|file| Capture::begin(&daemon, file, &[], Stdio::null())).collect();
    assert_refused(&path, &[], 1, "4 captures run already");
    drop(running);
    let is_free = || command(&daemon, &path, &["--seconds=1"]).status().unwrap().success();
    assert!(happens(PATIENCE, is_free), "captures of clients that were killed have ended");

    // A daemon does not start where it would overwrite a file, and neither does `check` approve.
    let named = |option: &str, name: &str| format!("--{option}={}", one.with_file_name(name).display());
    for word in ["ikev2", "check"] {
        let output = Command::new(PROGRAM)
            .arg(word)
            .args([named("cacert", "ca.pem"), named("cert", "server.pem"), named("key", "server.key")])
            .args([&*named("pcap", "one.pcapng"), "--destination=127.0.0.1:1", "--id-hostname=vpn.example"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78));
        let said = [output.stdout, output.stderr].concat();
        assert!(String::from_utf8_lossy(&said).contains("overwrites nothing"), "{word}");
    }
}

#[test]
fn packets_are_not_for_terminals() {
    if skipped_without("script") {
        return;
    }
    let (directory, path) = new_file();
    let line = format!("{PROGRAM} capture - --control {}/none", directory.path().display());
    let status = Command::new("script").args(["-qec", &line]).arg(&path).stdin(Stdio::null()).output();
    assert_eq!(status.unwrap().status.code(), Some(2));
    let mut said = String::new();
    File::open(&path).unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("packets are nothing for a terminal"), "{said}");
}
