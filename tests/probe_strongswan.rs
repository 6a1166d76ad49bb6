//! The built-in IKEv2 client against strongSwan as the server, in a network namespace of its own: a responder that
//! nobody here wrote. Needs root, iproute2 and Debian's charon-systemd with kernel-libipsec; says "skipped" without.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pterodapter::crypto::{Cipher, Group, Prf};
use pterodapter::demo::probe::{Client, ClientConfig, ProbeError, RecordType, Suite, Transport};
use pterodapter::provision::{Authority, Issued};

const CHARON: &str = "/usr/sbin/charon-systemd";
const LIBIPSEC: &str = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so";
/// Both ends of the cable between this process and the server.
const OUTER: (&str, &str) = ("10.219.77.1", "10.219.77.2");
/// What stands behind the server.
const INNER: Ipv4Addr = Ipv4Addr::new(172, 31, 77, 1);
const SERVER_NAME: &str = "vpn.probe.test";

const STRONGSWAN_CONF: &str = r"
charon-systemd {
  plugins {
    kernel-libipsec { load = 10 }
    stroke { load = no }
    resolve { load = no }
    bypass-lan { load = no }
    dhcp { load = no }
    farp { load = no }
    af-alg { load = no }
    forecast { load = no }
    connmark { load = no }
    tpm { load = no }
    vici { socket = unix://@dir@/vici }
  }
  fragment_size = 600
  cookie_threshold = 1
  journal { default = -1 }
  filelog { log { path = @dir@/charon.log
    default = 1
    flush_line = yes } }
}
";

const SWANCTL_CONF: &str = r"
connections {
  probe {
    proposals = aes256gcm16-prfsha256-x25519, aes256gcm16-prfsha256-ecp256, chacha20poly1305-prfsha384-ecp384
    local { certs = server.pem
      id = vpn.probe.test }
    remote { auth = pubkey
      cacerts = ca.pem }
    pools = pool
    children {
      net {
        local_ts = 0.0.0.0/0
        esp_proposals = aes256gcm16-x25519, aes256gcm16-ecp256, aes256gcm16, aes128gcm16, chacha20poly1305-ecp384, chacha20poly1305
      }
    }
  }
}
pools { pool { addrs = 10.99.77.0/24
    dns = 172.31.77.1 } }
";

/// Ends what was started, also when the test fails.
struct Testbed {
    namespace: String,
    dir: tempfile::TempDir,
    children: Vec<Child>,
    authority: Authority,
}

impl Drop for Testbed {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Connections that still retry keep a namespace alive for a while: the cable must go at once.
        let _ = Command::new("ip").args(["link", "del", &self.namespace]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

#[expect(clippy::disallowed_methods, reason = "tests make certificates that are valid now")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn missing() -> Option<&'static str> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Some("not root");
    }
    if !Path::new(CHARON).exists()
        || !Path::new(LIBIPSEC).exists()
        || !Path::new("/usr/sbin/swanctl").exists()
    {
        return Some("no strongSwan (charon-systemd, strongswan-swanctl, libcharon-extra-plugins)");
    }
    let probe = Command::new("ip").args(["netns", "list"]).output();
    probe.map_or(true, |output| !output.status.success()).then_some("no ip netns")
}

impl Testbed {
    /// A namespace with strongSwan and something behind it; `None` where that cannot be.
    fn start() -> Option<Self> {
        if let Some(why) = missing() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "cannot run: {why}");
            println!("skipped: {why}");
            return None;
        }
        let namespace = format!("probe{}", std::process::id());
        let authority = Authority::new("Probe test CA", wall(), 2).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut bed = Self { namespace, dir, children: Vec::new(), authority };
        let ns = bed.namespace.clone();
        ip(&format!("netns add {ns}"));
        ip(&format!("link add {ns} type veth peer name eth0 netns {ns}"));
        ip(&format!("addr add {}/30 dev {ns}", OUTER.0));
        ip(&format!("link set {ns} up"));
        ip(&format!("-n {ns} addr add {}/30 dev eth0", OUTER.1));
        ip(&format!("-n {ns} addr add {INNER}/32 dev lo"));
        ip(&format!("-n {ns} link set lo up"));
        ip(&format!("-n {ns} link set eth0 up"));
        bed.start_far_side();
        bed.start_strongswan();
        Some(bed)
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command.env("STRONGSWAN_CONF", self.dir.path().join("strongswan.conf"));
        command.env("SWANCTL_DIR", self.dir.path());
        command
    }

    /// This very program again, inside the namespace, as the company network.
    fn start_far_side(&mut self) {
        let program = std::env::current_exe().unwrap();
        let mut command = self.inside(program.to_str().unwrap());
        command.args(["--ignored", "--exact", "far_side"]).stdout(Stdio::null());
        self.children.push(command.spawn().unwrap());
    }

    fn start_strongswan(&mut self) {
        let dir = self.dir.path().to_owned();
        let server = self.authority.issue_server(&[SERVER_NAME], wall(), 2).unwrap();
        for (file, content) in [
            ("strongswan.conf", STRONGSWAN_CONF.replace("@dir@", dir.to_str().unwrap())),
            ("swanctl.conf", SWANCTL_CONF.to_owned()),
            ("x509/server.pem", server.cert_pem.clone()),
            ("x509ca/ca.pem", self.authority.cert_pem().to_owned()),
            ("private/server.pem", server.key_pem.clone()),
        ] {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let charon = self.inside(CHARON).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.children.push(charon);
        for _ in 0..100 {
            if self.swanctl(&["--load-all"]).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("strongSwan does not start: {:?}", self.swanctl(&["--load-all"]));
    }

    fn swanctl(&self, arguments: &[&str]) -> Result<String, String> {
        let uri = format!("unix://{}/vici", self.dir.path().display());
        let output = self.inside("swanctl").args(arguments).args(["--uri", &uri]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("charon.log")).unwrap_or_default()
    }

    fn client(&self, name: &str) -> ClientConfig {
        let issued: Issued = self.authority.issue_client(name, wall(), 2).unwrap();
        ClientConfig {
            ca_pem: self.authority.cert_pem().to_owned(),
            cert_pem: issued.cert_pem.clone(),
            key_pem: issued.key_pem.clone(),
            identity: Some(name.to_owned()),
            fragment_size: 500,
            ..ClientConfig::new(SocketAddr::new(OUTER.1.parse().unwrap(), 500), 4500, SERVER_NAME)
        }
    }

    fn connect(&self, config: ClientConfig) -> Client {
        Client::connect(config).unwrap_or_else(|e| panic!("{e}\n{}", self.log()))
    }
}

/// Not a test: what runs behind the server. A DNS server with one answer, and a byte service on port 8080.
#[test]
#[ignore = "started by the other test inside its namespace"]
fn far_side() {
    let answer = |query: &[u8]| {
        let mut response = query.to_vec();
        response[2] |= 0x80;
        response[7] = 1;
        response.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        response.extend(INNER.octets());
        response
    };
    let udp = UdpSocket::bind((INNER, 53)).unwrap();
    let tcp = TcpListener::bind((INNER, 53)).unwrap();
    let bytes = TcpListener::bind((INNER, 8080)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = udp.recv_from(&mut buffer) {
            udp.send_to(&answer(&buffer[..len]), from).unwrap();
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut query).unwrap();
            let response = answer(&query);
            stream.write_all(&[&(response.len() as u16).to_be_bytes(), &response[..]].concat()).unwrap();
        }
    });
    for stream in bytes.incoming().flatten() {
        thread::spawn(move || serve_bytes(stream));
    }
}

/// `GET /n HTTP/1.0` gives n octets, `PUT n` takes n octets and answers with their count.
fn serve_bytes(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut stream = stream;
    if let Some(rest) = line.strip_prefix("GET /") {
        let count: usize = rest.split(' ').next().unwrap().trim().parse().unwrap();
        write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {count}\r\n\r\n").unwrap();
        stream.write_all(&pattern(count)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    } else if let Some(count) = line.strip_prefix("PUT ") {
        let mut received = vec![0; count.trim().parse().unwrap()];
        reader.read_exact(&mut received).unwrap();
        assert_eq!(received, pattern(received.len()));
        writeln!(stream, "{}", received.len()).unwrap();
    }
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn transfer(client: &Client, count: usize) {
    let page = client.http_get(&format!("http://{INNER}:8080/{count}")).unwrap();
    assert_eq!(page.status, 200);
    assert!(page.body == pattern(count), "{count} octets came changed");
    let mut stream = client.tcp_connect(SocketAddrV4::new(INNER, 8080)).unwrap();
    stream.write_all(format!("PUT {count}\n").as_bytes()).unwrap();
    stream.write_all(&pattern(count)).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert_eq!(answer.trim(), count.to_string());
}

#[test]
fn strongswan_serves_the_probe() {
    let Some(bed) = Testbed::start() else { return };

    // The whole life of a connection, with fragments both ways.
    let client = bed.connect(bed.client("alice@probe.test"));
    assert_eq!(client.dns_servers(), [INNER]);
    assert!(client.address().octets().starts_with(&[10, 99, 77]));
    client.ping(INNER).unwrap();
    for transport in [Transport::Udp, Transport::Tcp] {
        let answer = client.dns("intranet.probe.test", RecordType::A, transport).unwrap();
        assert_eq!(answer.ipv4(), Some(INNER), "{transport:?}");
    }
    transfer(&client, 3_000_000);
    client.dpd().unwrap();
    client.rekey_child(false).unwrap();
    client.ping(INNER).unwrap();
    client.rekey_child(true).unwrap();
    client.ping(INNER).unwrap();
    client.rekey_ike().unwrap();
    client.dpd().unwrap();
    client.rekey_child(true).unwrap();
    transfer(&client, 100_000);
    let sas = bed.swanctl(&["--list-sas"]).unwrap();
    assert!(sas.contains("alice@probe.test") && sas.contains("ESTABLISHED"), "{sas}");
    let counters = client.disconnect().unwrap();
    assert!(counters.fragments_in > 1 && counters.fragments_out > 1, "{counters:?}");
    assert_eq!((counters.esp_bad, counters.esp_replayed, counters.ike_refused), (0, 0, 0), "{counters:?}");
    assert!(!bed.swanctl(&["--list-sas"]).unwrap().contains("alice"), "the server keeps a deleted SA");

    // Another port. strongSwan's user-space ESP cannot move an SA: it asks for a new one, which the probe refuses.
    let client = bed.connect(bed.client("frank@probe.test"));
    client.rebind_mobike().unwrap();
    client.dpd().unwrap();
    let sas = bed.swanctl(&["--list-sas"]).unwrap();
    let port = client.local_port().unwrap();
    assert!(sas.contains(&format!("{}[{port}]", OUTER.0)), "port {port}: {sas}");
    client.disconnect().unwrap();

    // The server's Delete is understood.
    let client = bed.connect(bed.client("bob.probe.test"));
    bed.swanctl(&["--terminate", "--ike", "probe"]).unwrap();
    thread::sleep(Duration::from_millis(200));
    assert!(client.is_closed() && matches!(client.ping(INNER), Err(ProbeError::Closed)));
    drop(client);

    // A group that the server has in no suite of that PRF: INVALID_KE_PAYLOAD.
    let p256 = Suite { group: Group::P256, ..Suite::default() };
    let not_there = Suite { prf: Prf::HmacSha512, ..Suite::default() };
    let client =
        bed.connect(ClientConfig { suites: vec![not_there, p256], ..bed.client("carol@probe.test") });
    assert_eq!(client.counters().invalid_ke, 1);
    client.rekey_ike().unwrap();
    client.disconnect().unwrap();

    // ChaCha20-Poly1305, HMAC-SHA-384, P-384, and the old AUTH methods, in single datagrams, with the DN as identity.
    let suite = Suite { cipher: Cipher::ChaCha20Poly1305, prf: Prf::HmacSha384, group: Group::P384 };
    let config = ClientConfig {
        suites: vec![suite],
        key_exchange: Group::P384,
        esp: vec![Cipher::ChaCha20Poly1305],
        list_hashes: false,
        fragment_size: 0,
        identity: None,
        ..bed.client("dave@probe.test")
    };
    let client = bed.connect(config);
    transfer(&client, 100_000);
    client.rekey_child(true).unwrap();
    client.rekey_ike().unwrap();
    client.ping(INNER).unwrap();
    client.disconnect().unwrap();

    // The server must prove the name that was asked for, and lead to our authority.
    let wrong_name =
        ClientConfig { server_id: "other.probe.test".to_owned(), ..bed.client("eve@probe.test") };
    assert!(Client::connect(wrong_name).is_err());
    let stranger = Authority::new("Another CA", wall(), 2).unwrap();
    let wrong_ca = ClientConfig { ca_pem: stranger.cert_pem().to_owned(), ..bed.client("eve@probe.test") };
    assert!(matches!(Client::connect(wrong_ca), Err(ProbeError::ServerChain(_))));

    // A half-open attempt makes the server ask the next one for a cookie.
    let half_open = ClientConfig { nat_port: 9, ..bed.client("mallory@probe.test") };
    thread::spawn(move || Client::connect(half_open));
    thread::sleep(Duration::from_millis(300));
    let client = bed.connect(bed.client("alice@probe.test"));
    assert_eq!(client.counters().cookies, 1);
    client.ping(INNER).unwrap();
    client.disconnect().unwrap();
}
