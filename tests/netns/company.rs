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
/// A name whose AAAA records do not fit into 1232 octets, but its A records do.
pub const MANY_NAME: &str = "many.corp.example";
/// How many addresses [`MANY_NAME`] has.
pub const MANY_ADDRESSES: usize = 60;
/// A name that [`Company::move_to`] gives another address than [`MOVING_FROM`].
pub const MOVING_NAME: &str = "moving.corp.example";
/// Its address at first.
pub const MOVING_FROM: &str = "10.77.0.60";
/// A name in another domain, with an IPv6 address, too.
pub const OUTSIDE: &str = "www.outside.example";
/// The IPv6 address of [`OUTSIDE`].
pub const OUTSIDE_V6: &str = "2001:db8::53";
/// Size of the file `blob` that the HTTP server at port 8000 has.
pub const BLOB_LEN: usize = 3_000_001;

/// The running servers.
pub struct Company {
    dns: Process,
    _http: Process,
}

impl Company {
    /// Gives the loopback interface of `corp` the address and starts the servers.
    pub fn start(lab: &Lab) -> Self {
        lab.ip(CORP, &format!("address add {ADDRESS}/32 dev lo"));
        let web = lab.path("web");
        fs::create_dir(&web).expect("directory");
        fs::write(web.join("blob"), blob()).expect("file");
        let web = web.display().to_string();
        write_hosts(lab, MOVING_FROM);

        let mut dns: Vec<String> =
            "dnsmasq --no-daemon --no-resolv --no-hosts --conf-file=/dev/null --user=root --bind-interfaces"
                .split(' ')
                .map(str::to_owned)
                .collect();
        dns.push(format!("--pid-file={}", lab.path("dnsmasq.pid").display()));
        dns.push(format!("--listen-address={ADDRESS}"));
        dns.push(format!("--host-record={NAME},{ADDRESS}"));
        dns.push(format!("--host-record={OUTSIDE},{ADDRESS},{OUTSIDE_V6}"));
        dns.push(format!("--addn-hosts={}", lab.path("hosts").display()));
        for name in [NAME, OUTSIDE] {
            let (_, domain) = name.split_once('.').expect("a host in a domain");
            dns.push(format!("--local=/{domain}/"));
            dns.push(format!("--cname=alias.{domain},{name}"));
            dns.push(format!("--mx-host={domain},{name},10"));
            dns.push(format!("--txt-record={domain},hello from {domain}"));
            // HTTPS: priority 1, same name, alpn=h2, ipv4hint=ADDRESS.
            dns.push(format!("--dns-rr={name},65,00010000010003026832000400040a4d0035"));
        }
        dns.extend((0..BIG_RECORDS).map(|n| format!("--txt-record={BIG_NAME},{n}{}", "x".repeat(199))));

        let http = ["python3", "-u", "-m", "http.server", "--bind", ADDRESS, "--directory", &web, "8000"];
        let dns = lab.start(CORP, "dnsmasq", &[], &dns);
        let http = lab.start(CORP, "http", &[], &http);
        wait_listening(lab, 53);
        wait_listening(lab, 8000);
        Self { dns, _http: http }
    }

    /// Gives [`MOVING_NAME`] another address.
    pub fn move_to(&self, lab: &Lab, address: &str) {
        write_hosts(lab, address);
        self.dns.signal("HUP");
    }
}

/// The names whose addresses dnsmasq reads from a file.
fn write_hosts(lab: &Lab, moving: &str) {
    let many = (1..=MANY_ADDRESSES).map(|n| format!("10.77.1.{n} {MANY_NAME}\n"));
    let moving = format!("{moving} {MOVING_NAME}\n");
    fs::write(lab.path("hosts"), many.chain([moving]).collect::<String>()).expect("file");
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
