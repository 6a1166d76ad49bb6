//! The gateway over real sockets, with a client of a few lines.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;

mod factors;
mod http;
mod tls;
mod tunnels;

const TUNNEL: &str = "GET /remote/sslvpn-tunnel HTTP/1.1\r\nHost: sslvpn\r\n";
const CONFIGURATION: &str = "/remote/fortisslvpn_xml?dual_stack=1";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 212, 134, 200);

struct Bench {
    gateway: Gateway,
    config: GatewayConfig,
    ca_pem: String,
    tls: Arc<ClientConfig>,
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Status, whole head, body.
struct Answer(u16, String, String);

impl Answer {
    /// The last value that a header gives to a cookie.
    fn cookie(&self, name: &str) -> Option<&str> {
        let values = self.1.lines().filter_map(|line| line.strip_prefix("Set-Cookie:"));
        let values = values.filter_map(|value| value.trim().strip_prefix(name)?.strip_prefix('='));
        values.map(|value| value.split(';').next().unwrap_or_default()).rfind(|value| !value.is_empty())
    }

    fn location(&self) -> &str {
        self.1.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap()
    }
}

impl Bench {
    fn new(scenario: Scenario) -> Self {
        Self::with_users(vec![User::new("alice", "p+w"), User::new("bob", "pw").in_realm("staff")], scenario)
    }

    fn with_users(users: Vec<User>, scenario: Scenario) -> Self {
        Self::of(Options { users, scenario, ..Options::default() })
    }

    fn of(options: Options) -> Self {
        let (config, ca_pem) = options.into_config().unwrap();
        let tls = client_config(&ca_pem, rustls::crypto::ring::default_provider());
        Self { gateway: Gateway::start(config.clone()).unwrap(), config, ca_pem, tls }
    }

    fn client_with(&self, provider: rustls::crypto::CryptoProvider) -> Arc<ClientConfig> {
        client_config(&self.ca_pem, provider)
    }

    fn connect(&self) -> Stream {
        let tcp = TcpStream::connect(self.gateway.addr()).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        StreamOwned::new(ClientConnection::new(self.tls.clone(), name).unwrap(), tcp)
    }

    fn send(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    fn get(&self, target: &str, cookie: &str) -> Answer {
        self.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: gw\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        ))
    }

    fn post(&self, target: &str, body: &str) -> Answer {
        let len = body.len();
        self.send(&format!("POST {target} HTTP/1.1\r\nHost: gw\r\nContent-Length: {len}\r\n\r\n{body}"))
    }

    fn login(&self) -> Answer {
        self.post("/remote/logincheck", "username=alice&credential=p%2Bw&realm=&ajax=1")
    }

    /// A cookie whose configuration was fetched.
    fn session(&self) -> String {
        let cookie = format!("SVPNCOOKIE={}", self.login().cookie("SVPNCOOKIE").unwrap());
        assert_eq!(self.get(CONFIGURATION, &cookie).0, 200);
        cookie
    }

    /// Brings a tunnel up.
    fn tunnel(&self, cookie: &str) -> Stream {
        let mut stream = self.connect();
        let request = format!("{TUNNEL}Cookie: {cookie}\r\n\r\n");
        let lcp = frame(b"\xc0\x21\x01\x01\x00\x0e\x01\x04\x05\x4a\x05\x06\xde\xad\xbe\xef");
        stream.write_all(&[request.as_bytes(), &lcp].concat()).unwrap();
        let mut asked = [0; 18];
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(asked[..10], *b"\x00\x12\x50\x50\x00\x0c\xc0\x21\x01\x01");
        let mut acked = [0; 22];
        stream.read_exact(&mut acked).unwrap();
        assert_eq!(acked[6..10], *b"\xc0\x21\x02\x01");
        let ack = frame(&[b"\xc0\x21\x02".as_slice(), &asked[9..]].concat());
        let ipcp = frame(&[b"\x80\x21\x01\x01\x00\x0a\x03\x06".as_slice(), &ADDRESS.octets()].concat());
        stream.write_all(&[ack, ipcp].concat()).unwrap();
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(asked[6..10], *b"\x80\x21\x01\x01");
        let mut acked = [0; 18];
        stream.read_exact(&mut acked).unwrap();
        assert_eq!(acked[6..10], *b"\x80\x21\x02\x01");
        stream.write_all(&frame(&[b"\x80\x21\x02".as_slice(), &asked[9..]].concat())).unwrap();
        stream
    }

    fn tunnel_status(&self, cookie: &str) -> u16 {
        self.send(&format!("{TUNNEL}Cookie: {cookie}\r\n\r\n")).0
    }

    fn wait_for(&self, wanted: impl Fn(&Event) -> bool) {
        for _ in 0..200 {
            if self.gateway.journal().iter().any(|entry| wanted(&entry.event)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("never happened; {:?}", self.gateway.journal().last());
    }

    fn wait_down(&self, why: TunnelEnd) {
        self.wait_for(|event| matches!(event, Event::TunnelDown { why: seen, .. } if *seen == why));
    }
}

fn client_config(ca_pem: &str, provider: rustls::crypto::CryptoProvider) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let tls = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(tls)
}

fn read_answer(stream: &mut Stream) -> Answer {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n0\r\n\r\n") {
        let mut octet = [0];
        match stream.read(&mut octet) {
            Ok(1) => bytes.push(octet[0]),
            _ => break,
        }
    }
    let text = String::from_utf8(bytes).unwrap();
    let Some((head, chunks)) = text.split_once("\r\n\r\n") else { return Answer(0, text, String::new()) };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = chunks.split("\r\n").skip(1).step_by(2).collect();
    Answer(status, head.to_owned(), body)
}

/// An echo request with a right checksum, as a frame.
fn echo_frame(src: Ipv4Addr) -> Vec<u8> {
    let mut frames = frame::Frames::default();
    let ip = frame::Ipv4Out { src: src.octets(), dst: [10, 77, 1, 2], protocol: 1, id: 7, fragment: 0 };
    frames.push_ipv4(ip, 8, |icmp| icmp.copy_from_slice(&[8, 0, 0xf7, 0xfd, 0, 1, 0, 1]));
    frames.bytes().to_vec()
}

fn ping(stream: &mut Stream) -> std::io::Result<[u8; 36]> {
    stream.write_all(&echo_frame(ADDRESS))?;
    let mut reply = [0; 36];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

#[test]
fn denials_and_lockout() {
    for (deny_mode, status) in
        [(DenyMode::Body, 200), (DenyMode::Status405, 405), (DenyMode::EmptyCookie, 200)]
    {
        let bench = Bench::new(Scenario { deny_mode, ..Scenario::default() });
        // A plus is a plus and no space, so this is the wrong password.
        for body in ["username=alice&credential=p%20w&ajax=1", "username=bob&credential=pw&realm="] {
            let answer = bench.post("/remote/logincheck", body);
            assert_eq!((answer.0, answer.cookie("SVPNCOOKIE")), (status, None), "{deny_mode:?}");
            assert_eq!(answer.2.contains("ret=0"), deny_mode == DenyMode::Body);
        }
        assert_eq!(bench.login().cookie("SVPNCOOKIE"), None, "locked out");
        let last =
            Event::Login { user: "alice".into(), realm: String::new(), outcome: LoginOutcome::LockedOut };
        bench.wait_for(|event| *event == last);
    }
    let bench = Bench::new(Scenario { lockout: None, ..Scenario::default() });
    for _ in 0..3 {
        bench.post("/remote/logincheck", "username=alice&credential=no");
    }
    let granted = bench.post("/remote/logincheck", r#"{"username":"bob","credential":"pw","realm":"staff"}"#);
    assert!(granted.cookie("SVPNCOOKIE").unwrap().ends_with("+/==%0a"), "JSON is taken too");
    assert!(granted.2.contains("document.location"), "without ajax=1 the answer is a page");
}

#[test]
fn entry_and_odd_requests() {
    let bench = Bench::new(Scenario { doubled_last_chunk: true, ..Scenario::default() });
    assert_eq!(bench.get("/", "").location(), "/remote/login");
    assert_eq!(bench.get("/staff", "").location(), "/remote/login?realm=staff");
    assert_eq!(bench.get("/nobody", "").location(), "/remote/login");
    assert!(bench.get("/remote/info", "").2.contains("remoteauthtimeout"));
    assert!(bench.get("/remote/login", "").2.contains("/remote/saml/start"));
    assert_eq!(bench.get("/no/such/page", "").0, 404);
    assert_eq!(bench.send("OPTIONS /remote/login HTTP/1.1\r\n\r\n").0, 405);
    assert_eq!(bench.send("HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n").0, 405);
    let with_body = "GET /remote/login HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(bench.send(with_body).0, 0, "closed without an answer");
    bench.wait_for(|event| *event == Event::Violation("GET with a body"));
    assert_eq!(bench.send("nonsense\r\n\r\n").0, 0);
    bench.gateway.set_scenario(Scenario {
        script_entry: true,
        refuse_get_body: false,
        ..Scenario::default()
    });
    assert!(bench.get("/", "").2.contains("top.location"));
    assert_eq!(bench.send(with_body).0, 200);
}

#[test]
fn host_check() {
    let bench = Bench::new(Scenario { host_check: HostCheck::Hop, ..Scenario::default() });
    let first = bench.login();
    assert_eq!(first.cookie("SVPNCOOKIE"), None);
    let temporary = format!("SVPNTMPCOOKIE={}", first.cookie("SVPNTMPCOOKIE").unwrap());
    let target = first.2.strip_prefix("ret=1,redir=").unwrap().to_owned();
    assert!(
        target.starts_with("/remote/hostcheck_install?auth_type=1&user=616C696365&&grpname="),
        "{target}"
    );
    assert_eq!(bench.get(&target, "").0, 403);
    assert!(bench.get(&target, &temporary).cookie("SVPNCOOKIE").is_some());
    assert_eq!(bench.get(&target, &temporary).0, 403, "once");

    for (host_check, good) in [(HostCheck::Form, true), (HostCheck::Fail, false)] {
        bench.gateway.set_scenario(Scenario { host_check, ..Scenario::default() });
        let temporary = format!("SVPNTMPCOOKIE={}", bench.login().cookie("SVPNTMPCOOKIE").unwrap());
        assert!(bench.get(&target, &temporary).2.contains("hostcheck_validate"));
        let answer = bench.send(&format!(
            "POST /remote/hostcheck_validate HTTP/1.1\r\nCookie: {temporary}\r\nContent-Length: 11\r\n\r\nhostcheck=1"
        ));
        assert_eq!(answer.cookie("SVPNCOOKIE").is_some(), good, "{host_check:?}");
    }
}

#[test]
fn saml() {
    let bench = Bench::new(Scenario { saml_port: 8021, ..Scenario::default() });
    let path = |location: &str| location.strip_prefix("https://gw").unwrap_or(location).to_owned();
    let at_provider = path(bench.get("/remote/saml/start?redirect=1", "").location());
    let back = path(bench.get(&at_provider, "").location());
    let to_listener = bench.get(&back, "").location().to_owned();
    let id = to_listener.strip_prefix("http://127.0.0.1:8021/?id=").unwrap();
    let trade = format!("/remote/saml/auth_id?id={id}");
    assert!(bench.get(&trade, "").cookie("SVPNCOOKIE").is_some());
    assert_eq!(bench.get(&trade, "").0, 403, "an id is good once");
    assert_eq!(bench.get(&back, "").0, 403, "and so is the provider's answer");
    assert!(!format!("{:?}", bench.gateway.journal()).contains(id), "the id is a secret");

    bench.gateway.set_scenario(Scenario {
        identity_provider: IdentityProvider::Form,
        saml_id_lifetime: Duration::ZERO,
        ..Scenario::default()
    });
    let at_provider = path(bench.get("/remote/saml/start?redirect=1", "").location());
    let page = bench.get(&at_provider, "").2;
    let magic = page.split("magic=").nth(1).unwrap().split('"').next().unwrap();
    let sign_in = |password| {
        bench.post("/idp", &format!("RelayState=magic%3D{magic}&username=alice&password={password}"))
    };
    assert_eq!(sign_in("wrong").0, 200, "the form again");
    let to_listener = bench.get(&path(sign_in("p%2Bw").location()), "").location().to_owned();
    let id = to_listener.split_once("id=").unwrap().1;
    assert_eq!(bench.get(&format!("/remote/saml/auth_id?id={id}"), "").0, 403, "too late");

    for (identity_provider, submit) in [(IdentityProvider::Script, true), (IdentityProvider::Button, false)] {
        let saml_host = "localhost";
        bench.gateway.set_scenario(Scenario { identity_provider, saml_host, ..Scenario::default() });
        let at_provider = path(bench.get("/remote/saml/start?redirect=1&realm=staff", "").location());
        let page = bench.get(&at_provider, "").2;
        assert_eq!(page.contains(".submit()"), submit);
        let state = page.split("name=\"RelayState\" value=\"").nth(1).unwrap().split('"').next().unwrap();
        let state = super::http::percent_encode(state);
        let back = bench.post("/remote/saml/login", &format!("SAMLResponse=YQ%3D%3D&RelayState={state}"));
        let id = back.location().strip_prefix("http://localhost:8020/?id=").unwrap();
        assert_eq!(bench.get(&format!("/remote/saml/auth_id?id={id}"), "").0, 200);
        assert!(
            bench.post("/remote/saml/login", &format!("RelayState={state}")).0 == 403,
            "used, and no answer"
        );
    }
    let identity_provider = IdentityProvider::Refuse;
    bench.gateway.set_scenario(Scenario { identity_provider, ..Scenario::default() });
    assert_eq!(bench.get(&path(bench.get("/remote/saml/start", "").location()), "").0, 403);

    bench.gateway.set_scenario(Scenario::default());
    let at_provider = path(bench.get("/remote/saml/start", "").location());
    let in_browser = bench.get(&path(bench.get(&at_provider, "").location()), "");
    assert_eq!(in_browser.location(), "/sslvpn/portal/");
    let cookie = format!("SVPNCOOKIE={}", in_browser.cookie("SVPNCOOKIE").unwrap());
    assert_eq!(bench.get("/sslvpn/portal/", &cookie).0, 200);
}

#[test]
fn configuration_and_logout() {
    let two = vec![ADDRESS, Ipv4Addr::new(10, 0, 0, 9)];
    let bench = Bench::new(Scenario { addresses: two, ..Scenario::default() });
    assert_eq!(bench.get(CONFIGURATION, "SVPNCOOKIE=bad").location(), "/remote/login");
    let cookies: Vec<_> =
        (0..3).map(|_| format!("SVPNCOOKIE={}", bench.login().cookie("SVPNCOOKIE").unwrap())).collect();
    let address = |cookie: &str| {
        let xml = bench.get(CONFIGURATION, cookie).2;
        xml.split("assigned-addr ipv4='").nth(1).unwrap().split('\'').next().unwrap().to_owned()
    };
    assert_eq!(address(&cookies[0]), ADDRESS.to_string());
    assert_eq!(address(&cookies[0]), ADDRESS.to_string(), "the same again");
    assert_eq!(address(&cookies[0]), "error", "but not for ever");
    assert_eq!(address(&cookies[1]), "10.0.0.9");
    assert_eq!(address(&cookies[2]), "error", "the pool is empty");
    let gone = bench.get("/remote/logout", &cookies[1]);
    assert_eq!((gone.location(), gone.cookie("SVPNCOOKIE")), ("/remote/login", None));
    assert_eq!(bench.get(CONFIGURATION, &cookies[1]).location(), "/remote/login");
    assert_eq!(address(&cookies[2]), "10.0.0.9", "free again");

    bench.gateway.set_scenario(Scenario { replace_cookie: true, ..bench.gateway.scenario() });
    let new = bench.get(CONFIGURATION, &cookies[2]).cookie("SVPNCOOKIE").unwrap().to_owned();
    assert_eq!(bench.get("/remote/index", &cookies[2]).0, 302, "replaced");
    assert_eq!(bench.get("/remote/index", &format!("SVPNCOOKIE={new}")).0, 200);
}

#[test]
fn restarts_on_its_address() {
    let bench = Bench::new(Scenario::default());
    let mut tunnel = bench.tunnel(&bench.session());
    ping(&mut tunnel).unwrap();
    let addr = bench.gateway.addr();
    bench.gateway.stop();
    assert!(ping(&mut tunnel).is_err());
    assert!(TcpStream::connect(addr).is_err());
    let again = Gateway::start(GatewayConfig { listen: addr, ..bench.config }).unwrap();
    assert_eq!(again.addr(), addr);
}
