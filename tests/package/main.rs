//! The Debian package and its whole life: built, judged by lintian, installed under a systemd of its own, set up, used by
//! strongSwan, reloaded, killed, upgraded, rebooted, removed, purged. Needs root and what `tests/setup --ci` installs.
//! The sample configuration, its manual page and the completions need neither.

#[path = "../documents/blocks.rs"]
mod blocks;
mod container;
#[path = "../netns/lab.rs"]
mod lab;
#[allow(dead_code, reason = "shared with the tests in namespaces")]
#[path = "../netns/pki.rs"]
mod pki;
mod reference;
#[allow(dead_code, reason = "shared with the tests in namespaces")]
#[path = "../netns/strongswan.rs"]
mod strongswan;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use container::Container;
use lab::{CLI, CORP, GATEWAY, Lab, Process, SRV_FROM_CLI, must, now, run, wait_for};
use pterodapter::engine::Clock;
use pterodapter::provision::{Authority, Role, Validity};
use strongswan::Strongswan;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
/// The name that clients dial.
const SERVER: &str = "pterodapter.example.com";
/// A host of the network that the gateway plays.
const COMPANY: &str = "10.77.0.10";
const CONFIGURATION: &str = "/etc/pterodapter/pterodapter.toml";
/// The password in a file, so that nobody is needed, as docs/systemd.md has it; and the CA of the gateway's double.
const ACCOUNT: &str = "\
set -eu
cp gateway-ca.pem /etc/pterodapter/
cat >>/etc/pterodapter/pterodapter.toml <<'END'
username = \"alice\"
password-file = \"credential:password\"
gateway-ca = \"gateway-ca.pem\"
END
(umask 077; echo secret >/etc/pterodapter/password)
mkdir -p /etc/systemd/system/pterodapter.service.d
cat >/etc/systemd/system/pterodapter.service.d/password.conf <<'END'
[Service]
LoadCredential=password:/etc/pterodapter/password
END
systemctl daemon-reload
";
/// What a new user may have to wait, without the time to build.
const PATIENCE: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(15);

/// The package, and its next version; built once.
fn packages() -> &'static [PathBuf; 2] {
    static PACKAGES: OnceLock<[PathBuf; 2]> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        ["1", "2"].map(|revision| {
            let path = PathBuf::from(format!("target/package/pterodapter-{revision}.deb"));
            let mut build = Command::new("packaging/debian/build");
            build.env("DEBFULLNAME", "Test").env("DEBEMAIL", "test@example.org");
            must(build.args(["--deb-revision", revision, "--output"]).arg(&path));
            path
        })
    })
}

/// Why there can be no package here, if so; on CI that is a failure.
fn unable(tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &&&str| std::env::split_paths(&path).any(|place| place.join(tool).is_file());
    let missing = tools.iter().find(|tool| !is_there(tool));
    if let Some(tool) = missing {
        assert!(std::env::var_os("CI").is_none(), "{tool} is missing");
        println!("skipped: {tool} is not installed (tests/setup --ci)");
    }
    missing.is_some()
}

#[test]
fn lintian_finds_no_fault_and_all_units_are_there() {
    if unable(&["cargo-deb", "lintian"]) {
        return;
    }
    let [package, _] = packages();
    let lintian = ["--allow-root", "--fail-on", "error,warning", "--pedantic", "--display-info"];
    let done = run(Command::new("lintian").args(lintian).arg(package));
    println!("{}", done.text);
    assert!(done.ok, "{}", done.text);

    let files = must(Command::new("dpkg-deb").arg("--contents").arg(package));
    for unit in fs::read_dir("packaging/systemd").expect("directory").flatten() {
        let name = unit.file_name().display().to_string();
        if unit.path().is_file() && !name.ends_with(".sysusers") {
            assert!(
                files.contains(&format!("./usr/lib/systemd/system/{name}\n")),
                "{name} is not in it:\n{files}"
            );
        }
    }
}

/// One machine from the first command of the README to the purge. The order is the order of a life.
#[test]
fn a_package_lives_and_leaves_nothing_behind() {
    if unable(&["cargo-deb", "mmdebstrap", "systemd-nspawn"]) {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let [first, second] = packages();
    let mut machine = Container::new(&lab);
    machine.boot();
    // A colleague, for the control socket.
    machine.must(10, "useradd --no-create-home bob && useradd --no-create-home eve");
    let gateway = prepare(&lab, &machine, first);
    let before = traces(&machine);

    let began = now();
    let clock = |what: &str| println!("{:6.1} s: {what}", began.elapsed().as_secs_f32());
    follow_the_readme(&machine);
    clock("the commands of the README are done");
    machine.wait_tunnel();
    clock("the tunnel is up");
    let device = Device::with_profile(&lab, &machine);
    device.connect();
    clock("a device is connected");
    assert!(began.elapsed() < PATIENCE, "a new user waited {:?}", began.elapsed());

    follow_the_other_pages(&machine);
    device.connect();
    has_no_privileges(&machine);
    its_group_may_use_the_control_socket(&machine);
    device.pings();
    is_reloaded(&machine, &device);
    is_renewed(&machine, &device);
    comes_back_after_a_kill(&machine, &device);
    does_not_try_a_wrong_configuration_again(&machine);
    device.connect();
    is_upgraded(&machine, second, &device);
    machine.shut_down();
    machine.boot();
    machine.wait_state("active", LIMIT);
    machine.wait_tunnel();
    device.connect();
    serves_one_person_without_root(&machine);
    is_removed(&machine);
    machine.must(60, "apt-get -q -y purge pterodapter && rm -r out");
    let after = traces(&machine);
    let other: Vec<&String> = after.symmetric_difference(&before).collect();
    assert!(other.is_empty(), "left behind, or taken along: {other:?}");
    drop(gateway);
}

/// What a package could leave behind: files and accounts, but not what runs, and not what dpkg, apt and the logs keep
/// for themselves, unless it is about us.
fn traces(machine: &Container) -> BTreeSet<String> {
    const THEIRS: [&str; 4] =
        ["/var/lib/dpkg/", "/var/lib/apt/", "/var/lib/systemd/", "/etc/systemd/system/"];
    let skip = ["/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log", "/var/cache"];
    let skip = skip.map(|place| format!("-path {place} -prune -o")).join(" ");
    let found = machine.must(
        30,
        &format!("find / -xdev {skip} -print; find /run /tmp /var/log /var/cache -name '*pterodapter*'; getent passwd; getent group"),
    );
    let is_ours =
        |line: &&str| line.contains("pterodapter") || !THEIRS.iter().any(|place| line.starts_with(place));
    found.lines().filter(is_ours).map(str::to_owned).collect()
}

/// What a new user has: the package, a company with a gateway, an account there, and a name for the machine. The result is
/// the gateway.
fn prepare(lab: &Lab, machine: &Container, package: &Path) -> Process {
    let (listen, gateway_ca) = (format!("{GATEWAY}:443"), lab.path("gateway.pem"));
    let ca_file = gateway_ca.display().to_string();
    let gateway = [PROGRAM, "demo", "--gateway-only", "--listen", &listen, "--name", "vpn.example.com"];
    let account = ["--user", "alice:secret", "--ca-file", &ca_file];
    let mut gateway = lab.start(CORP, "gateway", &[], &[&gateway[..], &account].concat());
    gateway.wait_log("ready ", LIMIT);
    machine.copy(&gateway_ca, "/root/gateway-ca.pem");
    machine.append("/etc/hosts", &format!("{GATEWAY} vpn.example.com\n"));
    // Whoever runs it is root already.
    machine.append("/usr/local/bin/sudo", "#!/bin/sh\nexec \"$@\"\n");
    machine.must(5, "chmod 755 /usr/local/bin/sudo");
    machine.append("/root/account", ACCOUNT);
    machine.copy(package, "/root/pterodapter_0.1.0-1_amd64.deb");
    fs::write(lab.hosts(CLI), format!("{SRV_FROM_CLI} {SERVER}\n")).expect("file");
    gateway
}

/// The commands in README.md that are marked for a machine with the package, in their order.
fn follow_the_readme(machine: &Container) {
    let blocks = blocks::to_run("README.md", "package");
    let [first, rest @ ..] = blocks.as_slice() else { panic!("README.md has no such commands") };
    let says = |word: &str| format!("{word}\n{word}\n");
    let units = "pterodapter pterodapter.socket";
    machine.must(90, &format!("set -eu\n{}", first.text));
    assert_eq!(machine.sh(5, &format!("systemctl is-enabled {units}")).text, says("disabled"));
    assert_eq!(machine.sh(5, &format!("systemctl is-active {units}")).text, says("inactive"));
    for block in rest {
        machine.must(30, &format!("set -eu\n{}", block.text));
    }
    assert_eq!(machine.sh(5, &format!("systemctl is-enabled {units}")).text, says("enabled"), "{rest:?}");
}

/// The commands of all other pages that are marked for a machine with the package. They leave it signed in.
fn follow_the_other_pages(machine: &Container) {
    let pages: Vec<String> = blocks::pages().into_iter().filter(|page| page != "README.md").collect();
    let blocks: Vec<_> = pages.iter().flat_map(|page| blocks::to_run(page, "package")).collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        println!("{}:\n{}", block.at(), machine.must(60, &format!("set -eu\n{}", block.text)));
        machine.wait_state("active", LIMIT);
    }
    machine.wait_tunnel();
}

fn has_no_privileges(machine: &Container) {
    let pid = machine.property("MainPID");
    let status = machine.must(5, &format!("cat /proc/{pid}/status"));
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name}: {status}")).trim().to_owned()
    };
    let uid = machine.must(5, "id -u pterodapter").trim().to_owned();
    assert_ne!(uid, "0");
    assert_eq!(field("Uid"), [uid.as_str(); 4].join("\t"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    let environment = machine.must(5, &format!("tr '\\0' '\\n' </proc/{pid}/environ"));
    assert!(environment.contains("LISTEN_FDS=2\n"), "{environment}");
    for port in [500, 4500] {
        let sockets = machine.must(5, &format!("ss -Hulpn sport = :{port}"));
        assert!(sockets.contains("\"systemd\"") && sockets.contains(&format!("pid={pid},")), "{sockets}");
    }
    assert!(
        machine.must(5, "systemctl is-enabled pterodapter-renew.timer").contains("enabled"),
        "docs/systemd.md"
    );
    // The keys are for root only, and the service has them all the same.
    for key in ["server.key", "server-rsa.key"] {
        assert_eq!(machine.must(5, &format!("stat -c '%U %a' /etc/pterodapter/{key}")), "root 600\n");
    }
}

fn its_group_may_use_the_control_socket(machine: &Container) {
    machine.must(10, "usermod --append --groups pterodapter bob");
    for (user, code) in [("bob", "0\n"), ("eve", "77\n")] {
        let as_user = format!("setpriv --reuid {user} --regid {user} --init-groups");
        let said = machine.sh(20, &format!("{as_user} pterodapter login </dev/null; echo $?")).text;
        assert!(said.starts_with(code), "{user}: {said}");
    }
}

fn is_reloaded(machine: &Container, device: &Device) {
    let pid = machine.property("MainPID");
    let good = fs::read_to_string(machine.path(CONFIGURATION)).expect("file");
    machine.append(CONFIGURATION, "log-level = \"debug\"\n");
    machine.must(20, "systemctl reload pterodapter");
    device.pings();
    machine.append(CONFIGURATION, "no-such-key = 1\n");
    let done = machine.sh(20, "systemctl reload pterodapter");
    assert!(!done.ok, "a broken configuration was taken: {}", done.text);
    assert!(machine.journal().contains("unknown key 'no-such-key'"), "{}", machine.journal());
    fs::write(machine.path(CONFIGURATION), good).expect("file");
    assert_eq!(machine.property("MainPID"), pid, "the daemon was touched");
    assert_eq!(machine.property("ActiveState"), "active");
    device.pings();
}

/// By the timer's service, only when it is time, and without a restart.
fn is_renewed(machine: &Container, device: &Device) {
    machine.must(10, "systemctl enable --now pterodapter-renew.timer");
    let (pid, path) = (machine.property("MainPID"), machine.path("/etc/pterodapter"));
    let read = |name: &str| fs::read_to_string(path.join(name)).expect("file");
    let reloads = || machine.journal().matches("reload: new: certificates (ECDSA P-256 valid until").count();
    let (before, began) = (read("server.pem"), reloads());
    machine.must(20, "systemctl start pterodapter-renew");
    assert_eq!((read("server.pem"), reloads()), (before, began), "it is not time");

    let ca = Authority::load(&read("ca.pem"), &read("ca.key")).expect("CA");
    let days = Validity::days(Clock::start().now().wall, 20);
    let short = ca.issue_with_key(Role::Server, &[SERVER], days, &read("server.key")).expect("certificate");
    fs::write(path.join("server.pem"), &short.cert_pem).expect("file");
    machine.must(20, "systemctl start pterodapter-renew");
    assert_ne!(read("server.pem"), short.cert_pem);
    wait_for("the new certificate", LIMIT, || (reloads() > began).then_some(()));
    assert_eq!(machine.property("MainPID"), pid, "the daemon was restarted");
    assert_eq!(machine.must(5, "stat -c %a:%U /etc/pterodapter/server.pem"), "644:root\n");
    device.pings();
}

fn comes_back_after_a_kill(machine: &Container, device: &Device) {
    let pid = machine.property("MainPID");
    machine.must(5, &format!("kill -s KILL {pid}"));
    wait_for("another process", LIMIT, || {
        let next = machine.property("MainPID");
        (next != pid && next != "0").then_some(())
    });
    machine.wait_state("active", LIMIT);
    machine.wait_tunnel();
    device.connect();
}

fn does_not_try_a_wrong_configuration_again(machine: &Container) {
    let good = fs::read_to_string(machine.path(CONFIGURATION)).expect("file");
    machine.append(CONFIGURATION, "no-such-key = 1\n");
    assert!(!machine.sh(20, "systemctl restart pterodapter").ok);
    machine.wait_state("failed", LIMIT);
    // Longer than RestartSec=.
    std::thread::sleep(Duration::from_secs(4));
    let state = ["ActiveState", "ExecMainStatus", "NRestarts"].map(|name| machine.property(name));
    assert_eq!(state, ["failed", "78", "0"]);
    fs::write(machine.path(CONFIGURATION), good).expect("file");
    machine.must(30, "systemctl restart pterodapter");
    machine.wait_tunnel();
}

fn is_upgraded(machine: &Container, package: &Path, device: &Device) {
    let pid = machine.property("MainPID");
    let files = "cd /etc/pterodapter && find . -type f -exec sha256sum {} + | sort";
    let files_before = machine.must(5, files);
    assert!(files_before.contains("ca.key") && files_before.contains("devices/"), "{files_before}");
    machine.copy(package, "/root/upgrade.deb");
    machine.must(60, "dpkg -i upgrade.deb && rm upgrade.deb");
    assert!(machine.must(5, "dpkg-query -W -f '${Version}' pterodapter").ends_with("-2"));
    assert_eq!(machine.must(5, files), files_before);
    machine.wait_state("active", LIMIT);
    assert_ne!(machine.property("MainPID"), pid, "the old program still runs");
    machine.wait_tunnel();
    device.connect();
}

/// The unit for a desktop, set up with the commands in its comment.
fn serves_one_person_without_root(machine: &Container) {
    let unit = fs::read_to_string("packaging/systemd/user/pterodapter.service").expect("file");
    let commands: String =
        unit.lines().filter_map(|l| l.strip_prefix("#   ")).map(|l| format!("{l}\n")).collect();
    assert!(commands.contains("systemctl --user"), "{commands}");
    machine.must(30, "install -d -o bob -g bob /home/bob; systemctl start user@$(id -u bob)");
    let as_bob = "setpriv --reuid bob --regid bob --init-groups env HOME=/home/bob XDG_RUNTIME_DIR=/run/user/$(id -u bob)";
    machine.must(30, &format!("{as_bob} sh -euc 'cd\n{}'", commands.replace('\'', "'\\''")));
    wait_for("the unit of a person", LIMIT, || {
        let state = machine.sh(5, &format!("{as_bob} systemctl --user is-active pterodapter")).text;
        (state == "active\n").then_some(())
    });
    for port in [10500, 14500] {
        let sockets = machine.must(5, &format!("ss -Hulpn src 127.0.0.1:{port}"));
        assert!(sockets.contains("\"pterodapter\""), "{sockets}");
    }
    let profile = machine.must(5, "cat /home/bob/me-networkmanager/pterodapter.nmconnection");
    assert!(profile.contains("server-port=14500"), "{profile}");
    machine.must(20, "systemctl stop user@$(id -u bob); rm -r /home/bob");
}

fn is_removed(machine: &Container) {
    machine.must(60, "apt-get -q -y remove pterodapter");
    assert_ne!(
        machine.sh(5, "systemctl is-active pterodapter pterodapter.socket").text.lines().next(),
        Some("active")
    );
    assert_eq!(machine.must(5, "ss -Hulpn 'sport = :500 or sport = :4500'"), "");
    machine.must(5, "test -s /etc/pterodapter/ca.key && test ! -e /usr/bin/pterodapter");
}

/// strongSwan with the profile that `setup device` wrote, as it is.
struct Device<'a> {
    lab: &'a Lab,
    client: Strongswan<'a>,
}

impl<'a> Device<'a> {
    fn with_profile(lab: &'a Lab, machine: &Container) -> Self {
        machine.must(10, "pterodapter setup device alice-laptop --os strongswan --out out");
        let profile = machine.path("/root/out/alice-laptop-strongswan");
        Self { lab, client: Strongswan::with_files(lab, CLI, &profile) }
    }

    /// Connects, in the place of a connection that may be there, and uses it.
    fn connect(&self) {
        // A server that is gone does not answer; then there is nothing to end.
        self.client.swanctl(25, "--terminate --ike pterodapter --force");
        self.client.must("--initiate --child company --timeout 20");
        self.pings();
    }

    fn pings(&self) {
        self.lab.must(CLI, 10, &format!("ping -n -c 3 -i 0.2 -W 2 {COMPANY}"));
    }
}
