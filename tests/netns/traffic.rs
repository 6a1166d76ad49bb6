//! What a connected client does: ping, names, web, throughput.

use std::fs;

use crate::company::{self, ADDRESS, BIG_NAME, BIG_RECORDS, NAME};
use crate::lab::{CORP, FAR, Lab, SRV};

/// Every one of `count` pings, 50 ms apart, must be answered.
pub fn ping(lab: &Lab, role: &str, target: &str, count: u32) {
    let text = lab.must(role, 5 + count / 10, &format!("ping -n -i 0.05 -c {count} -W 2 {target}"));
    assert!(text.contains(" 0% packet loss"), "{text}");
}

/// What `traceroute` finds on the way: one address per hop, which answered all three probes.
pub fn hops(lab: &Lab, role: &str, how: &str, target: &str) -> Vec<String> {
    let text = lab.must(role, 30, &format!("traceroute -n -q 3 -N 3 -w 2 {how} {target}"));
    let hop = |line: &str| {
        let words: Vec<_> = line.split_whitespace().skip(1).collect();
        let addresses: Vec<_> =
            words.iter().filter(|w| w.contains([':', '*']) || w.matches('.').count() == 3).collect();
        match addresses[..] {
            [address] if *address != "*" => (*address).to_owned(),
            _ => panic!("{target} {how}:\n{text}"),
        }
    };
    text.lines().skip(1).map(hop).collect()
}

/// One echo request of `len` octets in all, with DF (`do`) or without (`dont`), is answered.
pub fn ping_sized(lab: &Lab, role: &str, df: &str, len: u32) -> Result<(), String> {
    let done = lab.run(role, 6, &format!("ping -n -c 1 -W 2 -M {df} -s {} {ADDRESS}", len - 28));
    if done.ok { Ok(()) } else { Err(done.text) }
}

/// The DNS server that the responder gave the client; the system's resolver uses it.
pub fn dns_server(lab: &Lab, role: &str) -> String {
    let text = fs::read_to_string(lab.resolv_conf(role)).expect("resolv.conf");
    let server = text.lines().find_map(|l| l.strip_prefix("nameserver ")?.split(' ').next());
    server.unwrap_or_else(|| panic!("the client was given no DNS server: {text:?}")).to_owned()
}

/// Names by UDP and TCP, a big answer that has to go over TCP, and a name that does not exist.
pub fn names(lab: &Lab, role: &str) {
    let dig = format!("dig @{} +tries=2 +time=3", dns_server(lab, role));
    for how in ["", "+tcp", "+noedns", "+bufsize=4096"] {
        let answer = lab.must(role, 10, &format!("{dig} {how} +short {NAME} A"));
        assert_eq!(answer.trim(), ADDRESS, "dig {how}");
    }
    for how in ["+noedns", "+tcp", "+bufsize=1232"] {
        let answer = lab.must(role, 10, &format!("{dig} {how} {BIG_NAME} TXT"));
        let records = answer.lines().filter(|l| l.starts_with(BIG_NAME)).count();
        assert_eq!(records, BIG_RECORDS, "dig {how}: {answer}");
    }
    let none = lab.must(role, 10, &format!("{dig} none.corp.example A"));
    assert!(none.contains("status: NXDOMAIN"), "{none}");
}

/// A file by HTTP, by name through the system's resolver, octet for octet.
pub fn web(lab: &Lab, role: &str) {
    let file = lab.path(&format!("got-{role}"));
    lab.must(role, 30, &format!("curl -sS -f -o {} http://{NAME}:8000/blob", file.display()));
    assert!(fs::read(&file).expect("file") == company::blob(), "the file arrived damaged");
}

/// One iperf3 run and what came of it.
pub struct Flow {
    /// Octets per second that arrived, times 8 / 10^6.
    pub mbit: f64,
    /// Datagrams lost (UDP).
    pub lost: f64,
    /// Packets that the kernel dropped on the way meanwhile.
    pub overflowed: u64,
    /// Maximum segment size that the connection agreed on.
    pub mss: f64,
}

impl Flow {
    /// Fails where the flow stood still, or where a datagram was lost that no full buffer of the kernel accounts for.
    /// There is no bound to a share: charon's and iperf3's receive buffers hold 92 datagrams, so that one pause of 400 ms of
    /// either, or a burst after one, loses 15 % of a flow. How fast it was is for benches to say; what the daemon
    /// dropped, [`crate::service::Service::stop_with_drops`] tells.
    pub fn assert_passed(&self, what: &str) {
        let Self { mbit, lost, overflowed, .. } = self;
        assert!(*mbit > 1.0, "{what}: {mbit} Mbit/s");
        assert!(
            *lost <= *overflowed as f64,
            "{what}: {lost} datagrams lost, {overflowed} of them in the kernel"
        );
    }
}

/// Runs iperf3 for two seconds; `how` are further options (`-u`, `-R`, `-P 4`).
pub fn iperf(lab: &Lab, role: &str, how: &str) -> Flow {
    let (_server, port) = company::start_iperf(lab);
    iperf_to(lab, role, ADDRESS, port, &format!("-t 2 {how}"))
}

/// Runs iperf3 against the server at this address and port.
pub fn iperf_to(lab: &Lab, role: &str, target: &str, port: u16, how: &str) -> Flow {
    let overflowed = || [role, SRV, CORP, FAR].map(|role| overflows(lab, role)).iter().sum::<u64>();
    let before = overflowed();
    let text = lab.must(role, 20, &format!("iperf3 -J -c {target} -p {port} {how}"));
    let flow = read_flow(&text, how.contains("-u"), overflowed() - before);
    let flow = flow.unwrap_or_else(|| panic!("iperf3 {how}: {text}"));
    let Flow { mbit, lost, overflowed, .. } = flow;
    println!(
        "{role}: iperf3 {how}: {mbit:.0} Mbit/s, {lost} datagrams lost, {overflowed} packets dropped by the kernel"
    );
    flow
}

/// How many packets the kernel dropped in this namespace because a socket, an interface or its queue was full.
fn overflows(lab: &Lab, role: &str) -> u64 {
    let counters =
        lab.must(role, 5, "nstat -asz UdpRcvbufErrors UdpSndbufErrors Udp6RcvbufErrors Udp6SndbufErrors");
    let sockets = counters.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    // Per interface, behind its name: octets, packets, errors and drops received, ..., the same sent.
    let interfaces = lab.must(role, 5, "cat /proc/net/dev");
    let columns = interfaces.lines().filter_map(|line| line.split_once(':'));
    let queues = columns.flat_map(|(_, numbers)| {
        let numbers: Vec<_> = numbers.split_whitespace().collect();
        [3, 11].map(|column| numbers.get(column).and_then(|n| n.parse::<u64>().ok()).expect("a number"))
    });
    sockets.sum::<u64>() + queues.sum::<u64>()
}

fn read_flow(json: &str, udp: bool, overflowed: u64) -> Option<Flow> {
    let json: String = json.split_whitespace().collect();
    let number = |text: &str, name: &str| -> Option<f64> {
        let (_, rest) = text.split_once(&format!("\"{name}\":"))?;
        rest.split([',', '}']).next()?.parse().ok()
    };
    let (_, end) = json.split_once("\"end\":{")?;
    // The datagrams' summary is `sum_received` in newer versions, `sum` in older ones.
    let sum = match end.split_once("\"sum_received\":{") {
        Some((_, sum)) => sum,
        None => end.split_once("\"sum\":{")?.1,
    };
    Some(Flow {
        mbit: number(sum, "bits_per_second")? / 1e6,
        lost: if udp { number(sum, "lost_packets")? } else { 0.0 },
        overflowed,
        mss: number(&json, "tcp_mss_default").unwrap_or(0.0),
    })
}
