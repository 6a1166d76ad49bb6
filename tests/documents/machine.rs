//! A machine that is thrown away: this one's files under an overlay, a network and processes of its own. In its network
//! is a FortiGate's double, whose name is vpn.example.com; its own is pterodapter.example.com. The test binary runs itself again
//! there. Needs root.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pterodapter::demo::probe::{Client, ClientConfig};

use crate::blocks;
use crate::common::happens;
use crate::shell;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
/// Set where the test binary runs itself again.
const INSIDE: &str = "PTERODAPTER_TEST_MACHINE";
/// The machine, in its network.
const OWN: &str = "192.0.2.10";
/// The gateway's double.
const GATEWAY: &str = "203.0.113.10";
const TOOLS: [&str; 12] = [
    "unshare",
    "chroot",
    "ip",
    "setpriv",
    "timeout",
    "mount",
    "nft",
    "setcap",
    "swanctl",
    "charon-systemd",
    "curl",
    "python3",
];

/// Makes the machine, and goes there. Its arguments: an empty directory, the program, this test binary, the script, the
/// test's name, and the source tree.
const MAKE: &str = r#"
root=$1/root
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root/root/work"
cp "$2" "$root/usr/bin/pterodapter"
cp "$3" "$root/run/test"
cp "$4" "$root/run/script"
# whoever runs it is root already
printf '#!/bin/sh\nexec "$@"\n' >"$root/usr/bin/sudo"
chmod 755 "$root/usr/bin/sudo"
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n%s vpn.example.com\n%s pterodapter.example.com\n' "$GATEWAY" "$OWN" >"$root/etc/hosts"
printf '%s' "$CHARON" >"$root/run/start-charon"
cp -r "$6/packaging" "$root/run/packaging"
exec chroot "$root" /run/test --exact --nocapture "$5"
"#;

/// Starts strongSwan with ESP in user space, and waits until it can be spoken to.
const CHARON: &str = r#"
cat >/run/strongswan.conf <<'EOF'
charon-systemd {
    load = random nonce openssl pubkey pem pkcs1 pkcs8 x509 constraints kdf gcm kernel-libipsec kernel-netlink socket-default resolve vici
    plugins {
        kernel-libipsec {
            allow_peer_ts = yes
        }
        kernel-netlink {
            fwmark = !0x42
        }
        socket-default {
            fwmark = 0x42
        }
        resolve {
            resolvconf {
                path = /none
            }
        }
    }
}
EOF
STRONGSWAN_CONF=/run/strongswan.conf setsid /usr/sbin/charon-systemd >/run/charon.log 2>&1 &
for try in $(seq 100); do
    ! swanctl --stats >/run/charon.stats 2>&1 || exit 0
    sleep 0.1
done
cat /run/charon.log
exit 1
"#;

/// The network: the machine, and the world with the gateway.
const CONNECT: &str = r#"
ip link set lo up
ip netns add world
ip link add eth0 type veth peer name eth0 netns world
ip address add "$OWN/24" dev eth0
ip link set eth0 up
ip -n world address add 192.0.2.1/24 dev eth0
ip -n world address add "$GATEWAY/32" dev lo
ip -n world link set lo up
ip -n world link set eth0 up
ip route add default via 192.0.2.1
"#;

/// Runs the blocks that are marked with `place`, page by page, each on a new machine. `test` is the name of the test that calls.
pub fn run_all(place: &str, test: &str) {
    if std::env::var_os(INSIDE).is_some() {
        return inside(place);
    }
    let pages = blocks::pages();
    let pages: Vec<_> = pages.iter().map(|page| (page, blocks::to_run(page, place))).collect();
    assert!(pages.iter().any(|(_, blocks)| !blocks.is_empty()), "no block is marked");
    if let Some(why) = unable() {
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: {why}");
        return println!("skipped: {why}");
    }
    for (page, blocks) in pages.into_iter().filter(|(_, blocks)| !blocks.is_empty()) {
        let directory = tempfile::tempdir().unwrap();
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), shell::script(&blocks)).unwrap();
        let output = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--uts",
                "--fork",
                "--kill-child",
            ])
            .args(["sh", "-eu", "-c", MAKE, "sh"])
            .args([directory.path(), Path::new(PROGRAM), &std::env::current_exe().unwrap(), script.path()])
            .arg(test)
            .arg(env!("CARGO_MANIFEST_DIR"))
            .env(INSIDE, "1")
            .envs([("OWN", OWN), ("GATEWAY", GATEWAY), ("CHARON", CHARON)])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        println!("{page}: {}\n{printed}", output.status);
        assert!(output.status.success(), "{page}: {}", output.status);
        assert!(printed.contains("\n== end\n"), "{page}: it did not come to its end");
    }
}

fn inside(place: &str) {
    let done = Command::new("sh").args(["-eu", "-c", CONNECT]).status().unwrap();
    assert!(done.success(), "the network cannot be made");
    let gateway = Command::new("ip")
        .args([
            "netns",
            "exec",
            "world",
            "/usr/bin/pterodapter",
            "demo",
            "--gateway-only",
            "--user",
            "alice:secret",
        ])
        .args([
            "--name",
            "vpn.example.com",
            "--listen",
            &format!("{GATEWAY}:443"),
            "--ca-file",
            "/run/gateway.pem",
        ])
        .stdin(Stdio::piped())
        .stdout(File::create("/run/gateway.log").unwrap())
        .spawn()
        .unwrap();
    prints("/run/gateway.log", "ready ");
    let daemon = (place == "daemon").then(Daemon::start);
    let script = Path::new("/run/script");
    let environment = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root")];
    let output = shell::run(script, Path::new("/root/work"), &environment, 120);
    println!("{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        println!("the daemon:\n{}", fs::read_to_string("/run/daemon.log").unwrap_or_default());
    }
    assert!(output.status.success(), "{}", output.status);
    drop((daemon, gateway));
}

/// A daemon as systemd would run it, with the device `alice-laptop`.
struct Daemon {
    child: Child,
    _device: Client,
}

impl Daemon {
    fn start() -> Self {
        let dir = Path::new("/etc/pterodapter");
        let setup = |args: &[&str]| {
            let done = Command::new("pterodapter").arg("setup").args(args).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        setup(&["--destination=vpn.example.com", "--name=pterodapter.example.com"]);
        setup(&["device", "alice-laptop", "--os=strongswan", "--out=/run"]);
        let toml = dir.join("pterodapter.toml");
        let more = "username = \"alice\"\npassword-file = \"password\"\ngateway-ca = \"/run/gateway.pem\"\nmetrics = true\n";
        fs::write(&toml, fs::read_to_string(&toml).unwrap() + more).unwrap();
        fs::write(dir.join("password"), "secret\n").unwrap();
        fs::create_dir("/run/pterodapter").unwrap();
        let log = File::create("/run/daemon.log").unwrap();
        let child = Command::new("pterodapter")
            .arg("ikev2")
            .env("RUNTIME_DIRECTORY", "/run/pterodapter")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        prints("/run/daemon.log", "the tunnel is up");
        let own: Ipv4Addr = OWN.parse().unwrap();
        let mut config = ClientConfig::new(SocketAddr::from((own, 500)), 4500, "pterodapter.example.com");
        let read =
            |name: &str| fs::read_to_string(Path::new("/run/alice-laptop-strongswan").join(name)).unwrap();
        config.ca_pem = read("x509ca/pterodapter.pem");
        config.cert_pem = read("x509/alice-laptop.pem");
        config.key_pem = read("private/alice-laptop.key");
        let device = Client::connect(config).unwrap_or_else(|why| panic!("{why}"));
        device.ping(Ipv4Addr::new(10, 77, 0, 80)).unwrap_or_else(|why| panic!("{why}"));
        Self { child, _device: device }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn prints(log: &str, text: &str) {
    let seen = happens(Duration::from_secs(20), || fs::read_to_string(log).unwrap().contains(text));
    assert!(seen, "{log} does not say {text:?}: {}", fs::read_to_string(log).unwrap());
}

/// Why no machine can be made here, if so.
fn unable() -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let missing =
        TOOLS.iter().find(|tool| !path.split(':').any(|place| Path::new(place).join(tool).is_file()));
    if let Some(tool) = missing {
        return Some(format!("{tool} is not installed"));
    }
    let try_it = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/m && \
                  mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/m";
    let allowed = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "sh", "-c", try_it])
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&allowed.stderr).trim().to_owned();
    (!allowed.status.success()).then(|| format!("namespaces and overlays need root: {why}"))
}
