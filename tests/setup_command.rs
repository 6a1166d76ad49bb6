//! `setup` and `check` as people use them. What they write is read by programs that are not ours.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

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

/// A terminal, 100 columns wide, in which a command runs.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn run(name: &str, command: &str) -> Self {
        let terminal = Self { socket: format!("pterodapter-{name}-{}", std::process::id()) };
        let kept = format!("{command}; echo \"ended with $?\"; sleep 60");
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "50", "sh", "-c", &kept]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.socket]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// The screen, once this is on it.
    fn shows(&self, text: &str) -> String {
        let screen = || self.tmux(&["capture-pane", "-p", "-S", "-100"]);
        let shown = common::happens(Duration::from_secs(20), || screen().contains(text));
        assert!(shown, "{text:?} is not on the screen:\n{}", screen());
        screen()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may be gone.
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

/// Keeps a screen for people to look at.
fn keep_screen(name: &str, screen: &str) {
    let screens = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screens");
    fs::create_dir_all(&screens).unwrap();
    fs::write(screens.join(format!("{name}.txt")), screen).unwrap();
}

#[test]
fn setup_asks_on_a_terminal_until_the_answers_will_do() {
    if common::skipped_without("tmux") {
        return;
    }
    let place = Place::new();
    let terminal =
        Terminal::run("dialogue", &format!("{PROGRAM} setup --dir {}", place.path("etc").display()));
    for (question, answer) in [
        ("The FortiGate", "https://gw.example/"),
        ("not a URL", "gw.example:10443"),
        ("clients will dial", "bad name_-."),
        ("cannot be a name", "vpn.example.com, 192.0.2.1"),
        ("Domains that take the tunnel", "corp.example"),
    ] {
        terminal.shows(question);
        terminal.types(answer);
    }
    let screen = terminal.shows("ended with 0");
    keep_screen("setup", &screen);
    assert!(screen.contains("crl.pem") && screen.contains("Next:"), "{screen}");
    let written = place.read("etc/pterodapter.toml");
    for line in [
        "destination = \"gw.example:10443\"",
        "id-hostname = \"vpn.example.com\"",
        "dns64-tunnel-suffix = [\"corp.example\"]",
    ] {
        assert!(written.contains(line), "{line} is not in\n{written}");
    }

    // A QR code, a line that counts, and an end by Ctrl-C.
    let dir = place.path("etc").display().to_string();
    let command = format!("{PROGRAM} setup device phone --os ios --dir {dir} --serve --listen 127.0.0.1:0");
    let terminal = Terminal::run("serve", &command);
    let screen = terminal.shows("waiting for the download, 9:5");
    keep_screen("setup-serve", &screen);
    for says in ["\u{2584}", "http://127.0.0.1:", "It asks for this password", "The link is not encrypted"] {
        assert!(screen.contains(says), "{says:?} is not in\n{screen}");
    }
    terminal.tmux(&["send-keys", "C-c"]);
    assert!(common::happens(Duration::from_secs(5), || {
        let link = screen.split_once("http://").unwrap().1.split_once('/').unwrap().0;
        std::net::TcpStream::connect(link).is_err()
    }));
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
    assert_eq!(mode(&place.path("etc")), 0o755, "the daemon is not root");
    for (file, expected) in [
        ("ca.key", 0o600),
        ("server.key", 0o600),
        ("server-rsa.key", 0o600),
        ("ca.pem", 0o644),
        ("server.pem", 0o644),
        ("server-rsa.pem", 0o644),
        ("crl.pem", 0o644),
        ("pterodapter.toml", 0o644),
    ] {
        assert_eq!(mode(&place.path("etc").join(file)), expected, "{file}");
    }
    let before = [place.read("etc/ca.pem"), place.read("etc/server.pem")];
    let options = ["--destination=127.0.0.1:1", "--name=vpn.example.com"];
    let (code, text) = place.refused(&options);
    assert!(code == 78 && text.contains("--force overwrites it"), "{text}");
    assert_eq!([place.read("etc/ca.pem"), place.read("etc/server.pem")], before);
    let edited = place.read("etc/pterodapter.toml") + "ike-port = 5500\n";
    fs::write(place.path("etc/pterodapter.toml"), &edited).unwrap();
    let printed = place.setup(&[&options[..], &["--force"]].concat());
    assert!(printed.contains("The CA was kept") && printed.contains("kept the old "), "{printed}");
    assert_eq!(place.read("etc/pterodapter.toml.old"), edited);
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
    assert!(listed.contains(" days, and so is an earlier certificate\n"), "{listed}");
    assert_eq!(listed.lines().count(), 1);
}

#[test]
fn openssl_takes_the_list_and_refuses_who_is_on_it() {
    let place = Place::set_up(&[]);
    let verified = |certificate: &str| {
        let options = ["verify", "-crl_check", "-CAfile", "etc/ca.pem", "-CRLfile", "etc/crl.pem"];
        let output =
            Command::new("openssl").args(options).arg(certificate).current_dir(place.0.path()).output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let is_signed = || {
        let text =
            place.tool("openssl", &["crl", "-in", "etc/crl.pem", "-CAfile", "etc/ca.pem", "-noout", "-text"]);
        assert!(text.contains("verify OK"), "{text}");
        let (_, number) = text.split_once("X509v3 CRL Number:").unwrap();
        (
            text.matches("Serial Number:").count(),
            number.split_whitespace().next().unwrap().parse::<u64>().unwrap(),
        )
    };
    let (listed, first) = is_signed();
    assert_eq!(listed, 0);
    assert!(verified("etc/server.pem").0);
    let config = place.read("etc/pterodapter.toml");
    assert!(config.contains("\ncrl = [\"crl.pem\"]\n"), "{config}");

    let (code, text) = place.refused(&["revoke", "alice"]);
    assert!(code == 2 && text.contains("no device \"alice\"; there are no devices yet"), "{text}");
    for name in ["alice", "bob"] {
        place.setup(&["device", name, "--os=strongswan"]);
    }
    let (code, text) = place.refused(&["revoke", "carol"]);
    assert!(code == 2 && text.contains("the devices are: alice, bob"), "{text}");
    let (code, _) = place.refused(&["revoke", "../ca"]);
    assert_eq!(code, 2);
    let own = |name: &str| format!("{name}-strongswan/x509/{name}.pem");
    fs::copy(place.path(&own("alice")), place.path("first.pem")).unwrap();
    place.setup(&["device", "alice", "--os=strongswan", "--force"]);
    assert_ne!(place.read("first.pem"), place.read(&own("alice")));

    // Both certificates of that name, and nobody else's.
    let printed = place.setup(&["revoke", "alice"]);
    assert!(
        printed.contains("its 2 certificates are on the list") && printed.contains("pterodapter reload"),
        "{printed}"
    );
    assert!(!printed.contains("add this line"), "{printed}");
    for certificate in ["first.pem", &own("alice")] {
        let (fine, text) = verified(certificate);
        assert!(!fine && text.contains("certificate revoked"), "{text}");
    }
    assert!(verified(&own("bob")).0);
    let (listed, newer) = is_signed();
    assert_eq!(listed, 2);
    assert!(newer > first);
    assert!(place.setup(&["revoke", "alice"]).contains("revoked already, nothing to do"));
    let list = place.setup(&["list"]);
    assert!(
        list.contains("alice                    revoked (2 certificates)\n") && list.contains("bob  "),
        "{list}"
    );

    // A device of that name again: its new certificate is good, also when the list is made anew.
    place.setup(&["device", "alice", "--os=strongswan", "--force"]);
    fs::copy(place.path(&own("alice")), place.path("third.pem")).unwrap();
    fs::remove_file(place.path("etc/crl.pem")).unwrap();
    fs::write(place.path("etc/pterodapter.toml"), config.replace("crl =", "# crl =")).unwrap();
    let printed = place.setup(&["revoke", "bob"]);
    assert!(printed.contains("add this line") && printed.contains("\n  crl = [\"crl.pem\"]\n"), "{printed}");
    assert!(verified("third.pem").0);
    let (listed, newer) = is_signed();
    assert_eq!(listed, 3, "the lost list is made from what is recorded");
    // Numbers begin with the time, in seconds: this all took less than one.
    assert!(newer >= first);
    for certificate in ["first.pem", &own("bob")] {
        assert!(!verified(certificate).0, "{certificate}");
    }
    assert_eq!(mode(&place.path("etc/revoked")), 0o700);
    let places = place.tool("sh", &["-c", "ls etc etc/devices etc/revoked"]);
    assert!(!places.contains(".new"), "{places}");
    fs::write(place.path("etc/pterodapter.toml"), config).unwrap();
    let (code, text) = check(&place, free_ports(), &[]);
    assert_eq!((code, text.lines().count()), (0, 1), "{text}");
}

#[test]
fn a_certificate_is_renewed_with_key_and_names_when_it_is_time() {
    let place = Place::set_up(&[]);
    let files = ["ca.pem", "ca.key", "server.key", "server-rsa.key", "pterodapter.toml", "crl.pem"]
        .map(|name| format!("etc/{name}"));
    let texts = || files.each_ref().map(|name| place.read(name));
    let (before, certificate) = (texts(), place.read("etc/server.pem"));
    let printed = place.setup(&["renew"]);
    for name in ["server.pem", "server-rsa.pem"] {
        assert!(printed.contains(&format!("{name}: valid for 82")), "{printed}");
    }
    assert_eq!(printed.matches("nothing to do").count(), 2, "{printed}");
    assert_eq!(place.read("etc/server.pem"), certificate);
    let rsa = place.read("etc/server-rsa.pem");
    let details = || {
        place.tool(
            "openssl",
            &[
                "x509",
                "-in",
                "etc/server.pem",
                "-noout",
                "-pubkey",
                "-subject",
                "-ext",
                "subjectAltName,extendedKeyUsage",
            ],
        )
    };
    let described = details();
    fs::set_permissions(place.path("etc/server.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    let printed = place.setup(&["renew", "--force"]);
    assert!(
        printed.contains("renewed the certificate of vpn.example.com, 192.0.2.1: valid for 82"),
        "{printed}"
    );
    assert_eq!(printed.matches("pterodapter reload").count(), 1, "{printed}");
    assert_ne!(place.read("etc/server.pem"), certificate);
    assert_ne!(place.read("etc/server-rsa.pem"), rsa);
    assert_eq!((details(), texts()), (described, before));
    assert_eq!(mode(&place.path("etc/server.pem")), 0o640);
    place.tool("openssl", &["verify", "-CAfile", "etc/ca.pem", "-purpose", "sslserver", "etc/server.pem"]);

    // One that ends soon, and a device's.
    let ca = pterodapter::provision::Authority::load(&place.read("etc/ca.pem"), &place.read("etc/ca.key"))
        .unwrap();
    let key = place.read("etc/server.key");
    let role = pterodapter::provision::Role::Server;
    let validity = pterodapter::provision::Validity::days(common::wall(), 20);
    let issued = ca.issue_with_key(role, &["vpn.example.com"], validity, &key).unwrap();
    fs::write(place.path("etc/server.pem"), issued.cert_pem).unwrap();
    place.setup(&["device", "phone", "--os=ios"]);
    let phone = ca.issue_client("phone", common::wall(), 5).unwrap();
    fs::write(place.path("etc/devices/phone.pem"), format!("system: ios\n{}", phone.cert_pem)).unwrap();
    let (code, text) = check(&place, free_ports(), &[]);
    assert!(code == 0 && text.contains("server.pem expires in 19 days"), "{text}");
    assert!(
        place.setup(&["list"]).contains("for a new one: pterodapter setup device phone --os ios --force")
    );
    let printed = place.setup(&["renew"]);
    assert!(printed.contains("renewed the certificate of vpn.example.com: valid for 82"), "{printed}");
    assert!(
        printed.contains("phone: its certificate expires in 4 days: pterodapter setup device phone --os ios"),
        "{printed}"
    );
    assert!(place.setup(&["renew"]).contains("nothing to do"));
    // Where there is no RSA certificate, none is missed.
    fs::remove_file(place.path("etc/server-rsa.pem")).unwrap();
    assert_eq!(place.setup(&["renew"]).matches("nothing to do").count(), 1);
    assert!(!place.path("etc/server-rsa.pem").exists());

    // Of another CA, and with another key.
    let other = pterodapter::provision::Authority::new("other", common::wall(), 50).unwrap();
    let issued = other.issue_with_key(role, &["vpn.example.com"], validity, &key).unwrap();
    fs::write(place.path("etc/server.pem"), issued.cert_pem).unwrap();
    let (code, text) = place.refused(&["renew"]);
    assert!(code == 78 && text.contains("not from our CA"), "{text}");
    let issued = ca.issue_server(&["vpn.example.com"], common::wall(), 20).unwrap();
    fs::write(place.path("etc/server.pem"), issued.cert_pem).unwrap();
    let (code, text) = place.refused(&["renew"]);
    assert!(code == 78 && text.contains("server.key is not its key"), "{text}");
}

#[test]
fn nothing_outlives_the_ca_and_its_end_is_told() {
    let place = Place::new();
    let ca = pterodapter::provision::Authority::new("short", common::wall(), 20).unwrap();
    fs::create_dir(place.path("etc")).unwrap();
    fs::write(place.path("etc/ca.pem"), ca.cert_pem()).unwrap();
    fs::write(place.path("etc/ca.key"), ca.key_pem()).unwrap();
    place.setup(&["--destination=127.0.0.1:1", "--name=vpn.example.com"]);
    let before = place.read("etc/server.pem");
    let printed = place.setup(&["renew"]);
    assert!(printed.contains("no new one can be valid longer than the CA"), "{printed}");
    assert!(printed.contains("the CA itself expires in 19 days"), "{printed}");
    assert_eq!(place.read("etc/server.pem"), before);
    let (code, text) = check(&place, free_ports(), &[]);
    assert!(
        code == 0 && text.contains("--cacert: the certificate of \"short\" expires in 19 days"),
        "{text}"
    );
}

#[test]
fn a_profile_is_offered_by_a_link_that_works_once() {
    if common::skipped_without("curl") {
        return;
    }
    let place = Place::set_up(&[]);
    for os in ["windows", "strongswan", "networkmanager"] {
        let (code, text) = place.refused(&["device", "phone", "--serve", &format!("--os={os}")]);
        assert!(code == 2 && text.contains("--serve is for ios, macos and android"), "{text}");
    }
    let (code, text) = place.refused(&["device", "phone", "--os=ios", "--serve", "--listen=192.0.2.200:1"]);
    assert!(code == 1 && text.contains("--listen 192.0.2.200:1"), "{text}");
    assert!(!place.path("etc/devices").exists(), "no certificate without an offer");
    for (os, file, media_type) in [
        ("ios", "phone.mobileconfig", "application/x-apple-aspen-config"),
        ("android", "phone.sswan", "application/vnd.strongswan.profile"),
    ] {
        let mut child = Command::new(PROGRAM)
            .args(["setup", "device", "phone", "--force", "--serve", "--listen=127.0.0.1:0"])
            .args([format!("--os={os}"), format!("--dir={}", place.path("etc").display())])
            .current_dir(place.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut printed = String::new();
        let offered = lines.by_ref().take_while(|line| !line.contains("not encrypted"));
        offered.for_each(|line| printed.push_str(&(line + "\n")));
        let link = printed.lines().find_map(|line| line.trim().strip_prefix("http://")).unwrap().to_owned();
        let password = password(&printed);
        let curl = |more: &[&str], path: &str| {
            let url = format!("http://{link}{path}");
            let options = ["--silent", "--show-error", "--max-time", "20", &url];
            place.tool("curl", &[&options, more].concat())
        };
        // What a preview of the link does, and a scan.
        let page = curl(&[], "");
        assert!(page.contains(&format!("Download {file}")) && page.contains("<ol>"), "{page}");
        assert!(!page.contains(&password) && !page.contains("<script"), "{page}");
        let path = format!("/{file}");
        let head = curl(&["--head"], &path);
        assert!(head.contains(&format!("Content-Type: {media_type}\r\n")), "{head}");
        assert!(curl(&["--write-out", "%{http_code}"], "x").ends_with("404"));
        assert!(child.try_wait().unwrap().is_none(), "the offer stands");
        curl(&["--output", "got"], &path);
        assert!(child.wait().unwrap().success());
        let rest: Vec<String> = lines.collect();
        assert!(rest.last().unwrap().contains("was downloaded"), "{rest:?}");
        assert!(!place.path(file).exists(), "nothing is left behind");
        let text = place.read("got");
        let base64 = match os {
            "ios" => {
                let (_, behind) = text.split_once("com.apple.security.pkcs12").unwrap();
                behind.split_once("<data>").unwrap().1.split_once("</data>").unwrap().0.to_owned()
            }
            _ => text.split_once("\"p12\": \"").unwrap().1.split_once('"').unwrap().0.to_owned(),
        };
        fs::write(place.path("phone.b64"), base64.split_whitespace().collect::<String>()).unwrap();
        place.tool("openssl", &["base64", "-d", "-A", "-in", "phone.b64", "-out", "phone.p12"]);
        opens(&place, "phone.p12", &password, "phone");
    }
    assert!(place.setup(&["list"]).contains("earlier certificate"));
}

#[test]
fn openssl_takes_both_certificates_and_keys_that_were_given() {
    let place = Place::set_up(&[]);
    let openssl = |args: &[&str]| place.tool("openssl", args);
    for (name, algorithm) in [("server", "id-ecPublicKey"), ("server-rsa", "rsaEncryption")] {
        let [cert, key] = [".pem", ".key"].map(|end| format!("etc/{name}{end}"));
        openssl(&["verify", "-CAfile", "etc/ca.pem", "-purpose", "sslserver", &cert]);
        let text = openssl(&["x509", "-in", &cert, "-noout", "-text"]);
        assert!(text.contains("DNS:vpn.example.com") && text.contains("IP Address:192.0.2.1"), "{text}");
        assert!(text.contains(algorithm), "{text}");
        openssl(&["pkey", "-in", &key, "-check", "-noout"]);
        assert_eq!(
            openssl(&["pkey", "-in", &key, "-pubout"]),
            openssl(&["x509", "-in", &cert, "-noout", "-pubkey"])
        );
    }

    openssl(&["genrsa", "-out", "rsa.key", "3072"]);
    openssl(&["ecparam", "-genkey", "-name", "secp384r1", "-noout", "-out", "ec.key"]);
    for (given, cert) in [("rsa.key", "server-rsa"), ("ec.key", "server")] {
        let given_key = format!("--server-key={given}");
        place.setup(&["--destination=127.0.0.1:1", "--name=vpn.example.com", &given_key, "--force"]);
        let cert = format!("etc/{cert}.pem");
        assert_eq!(
            openssl(&["pkey", "-in", given, "-pubout"]),
            openssl(&["x509", "-in", &cert, "-noout", "-pubkey"])
        );
        openssl(&["verify", "-CAfile", "etc/ca.pem", &cert]);
        let (code, text) = check(&place, free_ports(), &[]);
        assert_eq!((code, text.lines().count()), (0, 1), "{text}");
    }
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
    certificate = re.search("-----BEGIN.*?END CERTIFICATE-----", open(file).read(), re.S)[0]
    thumbprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest().upper()
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

    // All of them at once; what is for the service alone is no fault.
    fs::write(place.path("etc/crl.pem"), "no list").unwrap();
    fs::write(place.path("etc/password"), "secret\n").unwrap();
    fs::set_permissions(place.path("etc/password"), fs::Permissions::from_mode(0o644)).unwrap();
    let more = [
        "--key=credential:server.key",
        "--key=credential:server-rsa.key",
        "--gateway-ca=/nowhere",
        "--username=a",
        &format!("--password-file={}", place.path("etc/password").display()),
        "--uplink-proxy=http://no.such.proxy.invalid:1",
        "--destination=no.such.name.invalid",
    ];
    let (code, text) = check(&place, free_ports(), &more);
    assert_eq!((code, text.lines().count()), (78, 6), "{text}");
    for says in [
        "error: --crl: ",
        "error: --gateway-ca: cannot read /nowhere",
        "error: --uplink-proxy: no.such.proxy.invalid cannot be looked up",
        "note: --key: credential:server.key is there only for the service",
        "warning: every user of this machine can read ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(says)), "{says}: {text}");
    }
    // The key itself is all that is left to the service.
    fs::remove_file(place.path("etc/crl.pem")).unwrap();
    place.setup(&["--destination=127.0.0.1:1", "--name=vpn.example.com", "--force"]);
    let keys = ["--key=credential:server.key", "--key=credential:server-rsa.key"];
    let (code, text) = check(&place, free_ports(), &keys);
    assert_eq!((code, text.lines().count()), (0, 3), "{text}");
    let (code, text) = check(&place, free_ports(), &keys[..1]);
    assert!(code == 2 && text.is_empty(), "{text}");
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
