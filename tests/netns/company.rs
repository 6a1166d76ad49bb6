//! What stands behind the gateway: servers at [`ADDRESS`] in `corp`.

use std::fs;
use std::sync::atomic::{AtomicU16, Ordering};
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
        let servers = vec![lab.start(CORP, "dnsmasq", &[], &dns), lab.start(CORP, "http", &[], &http)];
        wait_listening(lab, 53);
        wait_listening(lab, 8000);
        Self { _servers: servers }
    }
}

/// Starts an iperf3 server for one run: one that serves several drops the client that comes too soon after the
/// one before. The result is the server and its port.
pub fn start_iperf(lab: &Lab) -> (Process, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(5201);
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    let number = port.to_string();
    let line = ["iperf3", "-s", "-1", "-B", ADDRESS, "-p", &number];
    let server = lab.start(CORP, &format!("iperf3-{port}"), &[], &line);
    wait_listening(lab, port);
    (server, port)
}

fn wait_listening(lab: &Lab, port: u16) {
    wait_for(&format!("the server at port {port}"), Duration::from_secs(10), || {
        lab.must(CORP, 5, "ss -Hnlt").contains(&format!("{ADDRESS}:{port} ")).then_some(())
    });
}

/// The file's content: no part repeats, so that a lost, doubled or misplaced piece shows.
pub fn blob() -> Vec<u8> {
    let mut text = (0u32..).flat_map(|n| format!("{n:07}\n").into_bytes());
    text.by_ref().take(BLOB_LEN).collect()
}
