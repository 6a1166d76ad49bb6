//! What stands behind the gateway: DNS, HTTP and iperf3 servers at [`ADDRESS`] in `corp`.

use std::fs;
use std::time::Duration;

use crate::lab::{CORP, Lab, Process, wait_for};

/// Where the servers listen.
pub const ADDRESS: &str = "10.77.0.53";
/// A name that only the company's DNS server knows; it is that of [`ADDRESS`].
pub const NAME: &str = "www.corp.example";
/// A name whose TXT records do not fit into a plain UDP answer.
pub const BIG_NAME: &str = "big.corp.example";
/// How many TXT records [`BIG_NAME`] has, each of 200 octets.
pub const BIG_RECORDS: usize = 8;
/// Size of the file `blob` that the HTTP server at port 8000 has.
pub const BLOB_LEN: usize = 3_000_001;
/// Ports of the iperf3 servers, one for each client.
pub const IPERF_PORTS: [u16; 2] = [5201, 5202];

/// The running servers.
pub struct Company {
    _servers: Vec<Process>,
}

impl Company {
    /// Gives the loopback interface of `corp` the address and starts the servers.
    pub fn start(lab: &Lab) -> Self {
        lab.ip(CORP, &format!("address add {ADDRESS}/32 dev lo"));
        let web = lab.path("web");
        fs::create_dir(&web).expect("directory");
        fs::write(web.join("blob"), blob()).expect("file");
        let web = web.display().to_string();

        let mut dns: Vec<String> =
            "dnsmasq --no-daemon --no-resolv --no-hosts --conf-file=/dev/null --user=root --bind-interfaces"
                .split(' ')
                .map(str::to_owned)
                .collect();
        dns.push(format!("--pid-file={}", lab.path("dnsmasq.pid").display()));
        dns.push(format!("--listen-address={ADDRESS}"));
        dns.push("--local=/corp.example/".to_owned());
        dns.push(format!("--host-record={NAME},{ADDRESS}"));
        dns.extend((0..BIG_RECORDS).map(|n| format!("--txt-record={BIG_NAME},{n}{}", "x".repeat(199))));

        let http = ["python3", "-u", "-m", "http.server", "--bind", ADDRESS, "--directory", &web, "8000"];
        let mut servers = vec![lab.start(CORP, "dnsmasq", &[], &dns), lab.start(CORP, "http", &[], &http)];
        for port in IPERF_PORTS.map(|p| p.to_string()) {
            let iperf = ["iperf3", "-s", "-B", ADDRESS, "-p", &port];
            servers.push(lab.start(CORP, &format!("iperf3-{port}"), &[], &iperf));
        }
        wait_for("the company's servers", Duration::from_secs(10), || {
            let listening = lab.must(CORP, 5, "ss -Hnltu");
            let ports = ["53", "8000", "5201", "5202"];
            ports.iter().all(|p| listening.contains(&format!("{ADDRESS}:{p} "))).then_some(())
        });
        Self { _servers: servers }
    }
}

/// The file's content: no part repeats, so that a lost, doubled or misplaced piece shows.
pub fn blob() -> Vec<u8> {
    let mut text = (0u32..).flat_map(|n| format!("{n:07}\n").into_bytes());
    text.by_ref().take(BLOB_LEN).collect()
}
