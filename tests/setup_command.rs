//! `setup` and `check` as people use them. What they write is read by programs that are not ours.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");

/// A configuration in a directory of its own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// With a server that clients call vpn.example.com, and further options of `setup`.
    fn set_up(more: &[&str]) -> Self {
        let place = Self::new();
        let options = ["--destination=127.0.0.1:1", "--name=vpn.example.com", "--name=192.0.2.1"];
        place.setup(&[&options, more].concat());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(PROGRAM)
            .arg("setup")
            .arg(format!("--dir={}", self.path("etc").display()))
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// `setup` that must succeed; what it prints.
    fn setup(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `setup` that must fail; its exit code and the line that says why.
    fn refused(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
        (output.status.code().unwrap(), text)
    }

    /// Runs a tool here; what it prints.
    fn tool(&self, program: &str, args: &[&str]) -> String {
        let output =
            Command::new(program).args(args).current_dir(self.0.path()).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|why| panic!("{program}: {why}"));
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{program} {args:?}:\n{text}");
        text
    }

    fn python(&self, code: &str) -> String {
        self.tool(&python(), &["-c", code])
    }
}

/// Python with the packages of `tests/setup --ci`, if it was run; else the system's.
fn python() -> String {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python3");
    if ours.exists() { ours.display().to_string() } else { "python3".to_owned() }
}

/// The password that `setup device` shows.
fn password(printed: &str) -> String {
    let line = printed.lines().skip_while(|line| !line.contains("password")).nth(1).unwrap();
    assert_eq!(line.trim().len(), 23, "{printed}");
    line.trim().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Without this tool a test is left out; not in CI.
fn skipped_without(command: &str, args: &[&str], package: &str) -> bool {
    let found = Command::new(command).args(args).stdin(Stdio::null()).output();
    if found.is_ok_and(|output| output.status.success()) {
        return false;
    }
    assert!(
        std::env::var_os("CI").is_none_or(|v| v != "true"),
        "must not be skipped in CI: {package} is missing"
    );
    println!("skipped: {package} is not installed");
    true
}

#[test]
fn setup_asks_on_a_terminal_until_the_answers_will_do() {
    let place = Place::new();
    let command = format!("{PROGRAM} setup --dir {}", place.path("etc").display());
    // script gives it a terminal.
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let answers =
        "https://gw.example/\ngw.example:10443\nbad name_-.\nvpn.example.com, 192.0.2.1\ncorp.example\n";
    child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for says in [
        "The FortiGate",
        "not a URL",
        "clients will dial",
        "cannot be a name",
        "Domains that take the tunnel",
    ] {
        assert!(text.contains(says), "{says:?} is not in\n{text}");
    }
    let written = place.read("etc/pterodapter.toml");
    for line in [
        "destination = \"gw.example:10443\"",
        "id-hostname = \"vpn.example.com\"",
        "dns64-tunnel-suffix = [\"corp.example\"]",
    ] {
        assert!(written.contains(line), "{line} is not in\n{written}");
    }
}

#[test]
fn setup_without_a_terminal_says_what_is_missing() {
    let place = Place::new();
    for (args, says) in [
        (&[][..], "--destination is missing"),
        (&["--destination=gw.example"], "--name is missing"),
        (&["--destination=a b"], "--destination"),
        (&["--name=x", "list"], "only --dir and --force"),
        (&["device", "a"], "--os"),
        (&["device", "a", "--os=beos"], "beos"),
        (&["device", "../a", "--os=ios"], "cannot be a device's name"),
    ] {
        let (code, text) = place.refused(args);
        assert_eq!(code, 2, "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    }
    for (args, says) in [
        (&["--destination=gw.example", "--name=a_b c"][..], "cannot be a name"),
        (&["device", "a", "--os=ios"], "run 'pterodapter setup' first"),
    ] {
        let (code, text) = place.refused(args);
        assert_eq!(code, 78, "{args:?}: {text}");
        assert!(text.contains(says), "{args:?}: {text}");
    }
    assert!(!place.path("etc").exists(), "a refusal writes nothing");
}

#[test]
fn keys_are_for_their_owner_and_nothing_is_overwritten_unasked() {
    let place = Place::set_up(&[]);
    assert_eq!(mode(&place.path("etc")), 0o755, "the service has a user of its own");
    for (file, expected) in
        [("ca.key", 0o600), ("server.key", 0o600), ("ca.pem", 0o644), ("pterodapter.toml", 0o644)]
    {
        assert_eq!(mode(&place.path("etc").join(file)), expected, "{file}");
    }
    let before = [place.read("etc/ca.pem"), place.read("etc/server.pem")];
    let options = ["--destination=127.0.0.1:1", "--name=vpn.example.com"];
    let (code, text) = place.refused(&options);
    assert!(code == 78 && text.contains("--force overwrites it"), "{text}");
    assert_eq!([place.read("etc/ca.pem"), place.read("etc/server.pem")], before);
    let printed = place.setup(&[&options[..], &["--force"]].concat());
    assert!(printed.contains("The CA was kept"), "{printed}");
    assert_eq!(place.read("etc/ca.pem"), before[0]);
    assert_ne!(place.read("etc/server.pem"), before[1]);

    assert!(place.setup(&["list"]).starts_with("no devices yet"));
    place.setup(&["device", "phone", "--os=ios"]);
    assert_eq!(mode(&place.path("phone.mobileconfig")), 0o600);
    // The same device again, although its profile has been moved away.
    fs::remove_file(place.path("phone.mobileconfig")).unwrap();
    let (code, text) = place.refused(&["device", "phone", "--os=ios"]);
    assert!(code == 78 && text.contains("devices/phone.pem exists"), "{text}");
    place.setup(&["device", "phone", "--os=ios", "--force"]);
    let listed = place.setup(&["list"]);
    assert!(listed.starts_with("phone ") && listed.contains("valid for 82"), "{listed}");
    assert_eq!(listed.lines().count(), 1);
}

#[test]
fn openssl_takes_the_certificates_and_an_rsa_key_that_was_given() {
    let place = Place::set_up(&[]);
    place.tool("openssl", &["verify", "-CAfile", "etc/ca.pem", "-purpose", "sslserver", "etc/server.pem"]);
    let text = place.tool("openssl", &["x509", "-in", "etc/server.pem", "-noout", "-ext", "subjectAltName"]);
    assert!(text.contains("DNS:vpn.example.com") && text.contains("IP Address:192.0.2.1"), "{text}");

    place.tool("openssl", &["genrsa", "-out", "rsa.key", "2048"]);
    let options = ["--destination=127.0.0.1:1", "--name=vpn.example.com", "--server-key=rsa.key", "--force"];
    assert!(place.setup(&options).contains("macOS, iOS and Windows will not take it"));
    let text = place.tool("openssl", &["x509", "-in", "etc/server.pem", "-noout", "-text"]);
    assert!(text.contains("rsaEncryption"), "{text}");
    place.tool("openssl", &["verify", "-CAfile", "etc/ca.pem", "etc/server.pem"]);
}

#[test]
fn a_mobileconfig_is_a_property_list_with_all_that_a_device_needs() {
    let place = Place::set_up(&["--dns64-tunnel-suffix=corp.example"]);
    let printed = place.setup(&["device", "alice@example.com", "--os=macos", "--on-demand"]);
    let password = password(&printed);
    place.python(
        r#"
import plistlib
profile = plistlib.load(open("alice@example.com.mobileconfig", "rb"))
assert profile["PayloadType"] == "Configuration" and profile["PayloadVersion"] == 1
ca, identity, vpn = profile["PayloadContent"]
assert ca["PayloadType"] == "com.apple.security.root"
assert identity["PayloadType"] == "com.apple.security.pkcs12"
assert vpn["PayloadType"] == "com.apple.vpn.managed" and vpn["VPNType"] == "IKEv2"
uuids = {payload["PayloadUUID"] for payload in (profile, ca, identity, vpn)}
assert len(uuids) == 4
ike = vpn["IKEv2"]
assert ike["RemoteAddress"] == ike["RemoteIdentifier"] == ike["ServerCertificateCommonName"] == "vpn.example.com"
assert ike["LocalIdentifier"] == "alice@example.com"
assert ike["PayloadCertificateUUID"] == identity["PayloadUUID"]
assert ike["OnDemandEnabled"] == 1
rule, = ike["OnDemandRules"]
assert rule["Action"] == "EvaluateConnection"
assert rule["ActionParameters"] == [{"Domains": ["corp.example"], "DomainAction": "ConnectIfNeeded"}]
for suite in ("IKESecurityAssociationParameters", "ChildSecurityAssociationParameters"):
    assert ike[suite] == {"EncryptionAlgorithm": "AES-256-GCM", "IntegrityAlgorithm": "SHA2-256", "DiffieHellmanGroup": 19}
open("identity.p12", "wb").write(identity["PayloadContent"])
open("ca.der", "wb").write(ca["PayloadContent"])
open("issuer", "w").write(ike["ServerCertificateIssuerCommonName"])
"#,
    );
    let subject = place.tool("openssl", &["x509", "-in", "ca.der", "-inform", "DER", "-noout", "-subject"]);
    assert!(subject.contains(&place.read("issuer")), "{subject}");
    opens(&place, "identity.p12", &password, "alice@example.com");
}

/// openssl opens the PKCS#12 file; its certificate is the device's, and of our CA.
fn opens(place: &Place, file: &str, password: &str, device: &str) {
    let pass = format!("pass:{password}");
    let info = place
        .tool("openssl", &["pkcs12", "-in", file, "-info", "-noenc", "-passin", &pass, "-out", "all.pem"]);
    for part in
        ["MAC: sha1, Iteration 2048", "pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048", "Shrouded Keybag"]
    {
        assert!(info.contains(part), "{part} is not in\n{info}");
    }
    let all = place.read("all.pem");
    assert!(all.contains(&format!("friendlyName: {device}")) && all.contains("localKeyID"), "{all}");
    assert_eq!(all.matches("BEGIN CERTIFICATE").count(), 2);
    place.tool(
        "openssl",
        &["pkcs12", "-in", file, "-clcerts", "-nokeys", "-passin", &pass, "-out", "own.pem"],
    );
    place.tool("openssl", &["verify", "-CAfile", "etc/ca.pem", "-purpose", "sslclient", "own.pem"]);
    let public = place.tool("openssl", &["pkey", "-in", "all.pem", "-pubout"]);
    assert_eq!(place.tool("openssl", &["x509", "-in", "own.pem", "-noout", "-pubkey"]), public);
    let wrong = Command::new("openssl")
        .args(["pkcs12", "-in", file, "-noenc", "-passin", "pass:wrong"])
        .current_dir(place.0.path())
        .output();
    assert!(!wrong.unwrap().status.success(), "any password opens it");
}

#[test]
fn a_sswan_is_json_with_the_identity() {
    let place = Place::set_up(&[]);
    let password = password(&place.setup(&["device", "phone", "--os=android"]));
    place.python(
        r#"
import base64, json, uuid
profile = json.load(open("phone.sswan", encoding="utf-8"))
assert str(uuid.UUID(profile["uuid"])) == profile["uuid"]
assert profile["type"] == "ikev2-cert" and profile["name"]
assert profile["remote"]["addr"] == profile["remote"]["id"] == "vpn.example.com"
assert profile["local"]["id"] == "phone"
open("phone.p12", "wb").write(base64.b64decode(profile["local"]["p12"], validate=True))
open("ca.der", "wb").write(base64.b64decode(profile["remote"]["cert"], validate=True))
"#,
    );
    place.tool("openssl", &["x509", "-in", "ca.der", "-inform", "DER", "-noout"]);
    opens(&place, "phone.p12", &password, "phone");
}

#[test]
fn network_manager_reads_its_keyfile() {
    let place = Place::set_up(&[]);
    place.setup(&["device", "desktop", "--os=networkmanager"]);
    place.python(
        r#"
import configparser, os
keyfile = configparser.RawConfigParser()
keyfile.optionxform = str
keyfile.read("desktop-networkmanager/pterodapter.nmconnection")
vpn = keyfile["vpn"]
assert vpn["service-type"] == "org.freedesktop.NetworkManager.strongswan"
assert vpn["address"] == vpn["remote-identity"] == "vpn.example.com"
for key in ("certificate", "usercert", "userkey"):
    assert os.path.exists("desktop-networkmanager/" + os.path.basename(vpn[key])), key
"#,
    );
    if skipped_without("nmcli", &["--version"], "network-manager") {
        return;
    }
    // nmcli itself parses it, and writes it out again with what it did not know left out.
    let keyfile = fs::File::open(place.path("desktop-networkmanager/pterodapter.nmconnection")).unwrap();
    let output = Command::new("nmcli")
        .args(["--offline", "connection", "modify", "connection.zone", "test"])
        .stdin(keyfile)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for line in
        ["type=vpn", "userkey=/etc/NetworkManager/pterodapter/desktop.key", "method=key", "proposal=yes"]
    {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn powershell_scripts_have_no_syntax_error() {
    let parser = "import tree_sitter, tree_sitter_powershell";
    if skipped_without(&python(), &["-c", parser], "tree-sitter-powershell (tests/setup --ci)") {
        return;
    }
    let place = Place::set_up(&["--dns64-tunnel-suffix=corp.example"]);
    place.setup(&["device", "laptop", "--os=windows", "--route=10.0.0.0/8"]);
    place.python(
        r#"
import tree_sitter, tree_sitter_powershell
parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
def errors(text):
    return parser.parse(text).root_node.has_error
assert errors(b"foreach ($x in 1, 2 { }"), "it finds no fault in anything"
for name in ("laptop-install.ps1", "laptop-remove.ps1"):
    text = open(name, "rb").read()
    assert not errors(text), name
    assert len(text.splitlines()) > 8
"#,
    );
}

#[test]
fn the_windows_script_carries_the_identity() {
    let place = Place::set_up(&["--dns64-tunnel-suffix=corp.example"]);
    let password = password(&place.setup(&["device", "laptop", "--os=windows", "--route=10.0.0.0/8"]));
    place.python(
        r#"
import base64, hashlib, re, ssl
install = open("laptop-install.ps1", newline="").read()
part = lambda name: base64.b64decode(re.search(r"\$" + name + " = '([^']+)'", install)[1], validate=True)
open("laptop.p12", "wb").write(part("identity"))
assert part("authority") == ssl.PEM_cert_to_DER_cert(open("etc/ca.pem").read())
remove = open("laptop-remove.ps1").read()
for store, file in (("Root", "etc/ca.pem"), ("My", "etc/devices/laptop.pem")):
    thumbprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(open(file).read())).hexdigest().upper()
    assert f"'{store}\\{thumbprint}'" in remove, store
assert "'198.19.255.1/32', '64:ff9b:1::/96', '10.0.0.0/8'" in install
"#,
    );
    opens(&place, "laptop.p12", &password, "laptop");
}

/// Ports that are free now: two of UDP, one of TCP.
fn free_ports() -> [u16; 3] {
    let [ike, nat] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let page = TcpListener::bind("127.0.0.1:0").unwrap();
    [ike.local_addr(), nat.local_addr(), page.local_addr()].map(|address| address.unwrap().port())
}

/// `check` with a configuration on these ports, with further options.
fn check(place: &Place, [ike, nat, page]: [u16; 3], more: &[&str]) -> (i32, String) {
    let config = format!("--config={}", place.path("etc/pterodapter.toml").display());
    let output = Command::new(PROGRAM)
        .args(["check", &config, "--listen-ip=127.0.0.1"])
        .args([format!("--ike-port={ike}"), format!("--nat-port={nat}")])
        .arg(format!("--saml-listen=127.0.0.1:{page}"))
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn check_finds_nothing_in_what_setup_writes() {
    let place = Place::set_up(&["--dns64-tunnel-suffix=corp.example"]);
    let (code, text) = check(&place, free_ports(), &[]);
    assert_eq!((code, text.lines().count()), (0, 1), "{text}");
    assert!(text.starts_with("ready to start"), "{text}");
}

#[test]
fn check_names_every_fault_with_a_way_to_mend_it() {
    let place = Place::set_up(&[]);
    let (code, text) = check(&place, free_ports(), &["--id-hostname=other.example"]);
    assert_eq!(code, 0, "a warning is no fault: {text}");
    assert!(text.starts_with("warning: --id-hostname other.example"), "{text}");

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (nat, page) = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
    let in_use = format!("port {nat} (127.0.0.1:{nat}, UDP): already in use");
    let (code, text) = check(&place, [free_ports()[0], nat, page], &["--destination=no.such.name.invalid"]);
    assert_eq!(code, 78);
    let faults: Vec<_> = text.lines().collect();
    assert_eq!(faults.len(), 3, "{text}");
    for says in ["TCP), where the browser", &*in_use, "no.such.name.invalid cannot be looked up"] {
        assert!(
            faults.iter().any(|fault| fault.starts_with("error: ") && fault.contains(says)),
            "{says}: {text}"
        );
    }
    fs::remove_file(place.path("etc/server.key")).unwrap();
    let (code, text) = check(&place, free_ports(), &[]);
    assert_eq!(code, 78);
    assert!(text.starts_with("error: --key: cannot read"), "{text}");
}

#[test]
fn the_daemon_says_where_its_file_is_wrong() {
    let place = Place::set_up(&[]);
    let mut text = place.read("etc/pterodapter.toml");
    text.push_str("listen_ip = [\"::\"]\n");
    let line = text.lines().count();
    fs::write(place.path("etc/pterodapter.toml"), &text).unwrap();
    let config = place.path("etc/pterodapter.toml");
    let output = Command::new(PROGRAM).arg("--config").arg(&config).arg("ikev2").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "pterodapter: {}:{line}: unknown key 'listen_ip'; did you mean 'listen-ip'?\n",
            config.display()
        )
    );
}
