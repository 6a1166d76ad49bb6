//! Namespaces, links and processes of one test: made by [`Lab::open`], gone when the value is dropped.
//!
//! ```text
//! cli  10.99.1.2 -- 10.99.1.1 \
//!                              srv  10.99.2.1 -- 10.99.2.2  corp  10.77.8.1 -- 10.77.8.9  far
//! cli2 10.99.3.2 -- 10.99.3.1 /                              (company network 10.77.0.0/16)
//! ```
#![allow(dead_code, reason = "each test binary uses its part")]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Roles of the namespaces.
pub const CLI: &str = "cli";
/// The second client.
pub const CLI2: &str = "cli2";
/// Where the responder runs.
pub const SRV: &str = "srv";
/// Where the gateway runs, with the company's servers behind it.
pub const CORP: &str = "corp";
/// A host of the company one hop further; `corp` has to be told to forward.
pub const FAR: &str = "far";

/// The responder as `cli` reaches it.
pub const SRV_FROM_CLI: &str = "10.99.1.1";
/// The responder as `cli2` reaches it.
pub const SRV_FROM_CLI2: &str = "10.99.3.1";
/// The gateway's outer address.
pub const GATEWAY: &str = "10.99.2.2";

const ROLES: [&str; 5] = [CLI, CLI2, SRV, CORP, FAR];
/// (role, its interface, address; its router's role, interface, address)
const LINKS: [(&str, &str, &str, &str, &str, &str); 4] = [
    (CLI, "up0", "10.99.1.2/24", SRV, "cli0", "10.99.1.1/24"),
    (CLI2, "up0", "10.99.3.2/24", SRV, "cli1", "10.99.3.1/24"),
    (CORP, "up0", "10.99.2.2/24", SRV, "corp", "10.99.2.1/24"),
    (FAR, "up0", "10.77.8.9/24", CORP, "far0", "10.77.8.1/24"),
];
const TOOLS: [&str; 21] = [
    "ip",
    "kill",
    "python3",
    "nft",
    "ss",
    "nstat",
    "traceroute",
    "unshare",
    "sysctl",
    "setpriv",
    "timeout",
    "openssl",
    "certutil",
    "pk12util",
    "ping",
    "dig",
    "curl",
    "iperf3",
    "dnsmasq",
    "swanctl",
    "charon-systemd",
];

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Monotonic time, for deadlines.
#[expect(clippy::disallowed_methods, reason = "a test with real processes lives in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks `probe` every 50 ms until it gives a value; panics after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Done {
    /// It ended with status 0.
    pub ok: bool,
    /// Standard output, then standard error.
    pub text: String,
}

/// Namespaces and a directory for everything the test writes. Tests with a lab run one after the other,
/// so that their throughput and timing do not depend on each other.
pub struct Lab {
    tag: String,
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// Builds the topology; `None` (after saying why) where that is impossible, a panic where CI=true.
    pub fn open() -> Option<Self> {
        if let Some(why) = unable() {
            assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "must not be skipped in CI: {why}");
            println!("skipped: {why}");
            return None;
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        remove_leftovers();
        let tag = format!("pt{}n{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix(&tag).tempdir().expect("temporary directory");
        let lab = Self { tag, dir, _turn: turn };
        for role in ROLES {
            let name = lab.namespace(role);
            must(Command::new("ip").args(["netns", "add", &name]));
            lab.ip(role, "link set lo up");
            // No router solicitations and duplicate detection, which would look like changes of address.
            lab.must(
                role,
                5,
                "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
            );
            lab.must(role, 5, "sysctl -qw net.ipv4.conf.all.promote_secondaries=1");
            fs::create_dir_all(etc(&name)).expect("/etc/netns is writable");
            fs::write(lab.resolv_conf(role), "").expect("/etc/netns is writable");
        }
        for (role, dev, address, router, router_dev, router_address) in LINKS {
            let netns = lab.namespace(router);
            lab.ip(role, &format!("link add {dev} type veth peer name {router_dev} netns {netns}"));
            lab.ip(role, &format!("address add {address} dev {dev}"));
            lab.ip(router, &format!("address add {router_address} dev {router_dev}"));
            lab.ip(role, &format!("link set {dev} up"));
            lab.ip(router, &format!("link set {router_dev} up"));
            let gateway = router_address.trim_end_matches("/24");
            lab.ip(role, &format!("route add default via {gateway}"));
        }
        Some(lab)
    }

    /// The namespace's name.
    pub fn namespace(&self, role: &str) -> String {
        format!("{}-{role}", self.tag)
    }

    /// A file or directory of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What `/etc/resolv.conf` is to new processes in the namespace.
    pub fn resolv_conf(&self, role: &str) -> PathBuf {
        etc(&self.namespace(role)).join("resolv.conf")
    }

    /// What `/etc/hosts` is to new processes in the namespace.
    pub fn hosts(&self, role: &str) -> PathBuf {
        etc(&self.namespace(role)).join("hosts")
    }

    /// `ip ARGS` in the namespace; panics where it fails.
    pub fn ip(&self, role: &str, args: &str) -> String {
        must(Command::new("ip").args(["-n", &self.namespace(role)]).args(args.split_whitespace()))
    }

    /// Loads a ruleset of nftables, which replaces the one that the namespace had before.
    pub fn nft(&self, role: &str, rules: &str) {
        let file = self.path("rules.nft");
        fs::write(&file, format!("flush ruleset\n{rules}\n")).expect("file");
        self.must(role, 5, &format!("nft -f {}", file.display()));
    }

    /// Runs a command line (split at blanks) in the namespace, for at most `seconds`.
    pub fn run(&self, role: &str, seconds: u32, command: &str) -> Done {
        let limit = seconds.to_string();
        run(self.inside(role).args(["timeout", "-k", "1", &limit]).args(command.split_whitespace()))
    }

    /// As [`Lab::run`], but the command must succeed.
    pub fn must(&self, role: &str, seconds: u32, command: &str) -> String {
        let done = self.run(role, seconds, command);
        assert!(done.ok, "`{command}` in {role} failed:\n{}", done.text);
        done.text
    }

    /// Starts a program that runs until the value is dropped. Its input stays open and empty, its output goes to `NAME.log` in the lab's directory.
    pub fn start<S: AsRef<OsStr>>(
        &self,
        role: &str,
        name: &str,
        env: &[(&str, &Path)],
        command: &[S],
    ) -> Process {
        let mut line = self.inside(role);
        // The kernel ends it with us, should we die without running any destructor.
        line.args(["setpriv", "--pdeathsig", "KILL"]).args(command).envs(env.iter().copied());
        self.spawn(name, line)
    }

    /// The same in no namespace of ours, for what enters one by itself.
    pub fn start_outside(&self, name: &str, command: &[&str]) -> Process {
        let mut line = Command::new("setpriv");
        line.args(["--pdeathsig", "KILL"]).args(command);
        self.spawn(name, line)
    }

    fn spawn(&self, name: &str, mut line: Command) -> Process {
        let log = self.path(&format!("{name}.log"));
        let out = File::create(&log).expect("log file");
        line.stdin(Stdio::piped()).stderr(out.try_clone().expect("log file")).stdout(out);
        let child = line.spawn().unwrap_or_else(|e| panic!("starting {name}: {e}"));
        Process { name: name.to_owned(), child, log }
    }

    fn inside(&self, role: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(role)]);
        command
    }

    /// The last lines of every log of this test.
    fn logs(&self) -> String {
        let mut text = String::new();
        let mut files: Vec<_> = fs::read_dir(self.dir.path()).into_iter().flatten().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        for file in files.iter().filter(|f| f.path().extension() == Some(OsStr::new("log"))) {
            let log = read(&file.path());
            let lines: Vec<_> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(200)..).unwrap_or_default().join("\n");
            text.push_str(&format!("==== {} ====\n{tail}\n", file.file_name().display()));
        }
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.logs());
        }
        for role in ROLES {
            remove(&self.namespace(role));
        }
    }
}

/// A program of the lab; ended (TERM, then KILL) when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Everything it printed so far.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until `text` was printed; panics where the program ends before, or after `limit`.
    pub fn wait_log(&mut self, text: &str, limit: Duration) {
        let what = format!("{text:?} in the log of {}", self.name);
        wait_for(&what, limit, || {
            if self.log().contains(text) {
                return Some(());
            }
            let ended = self.child.try_wait().expect("child");
            assert!(ended.is_none(), "{} ended ({ended:?}):\n{}", self.name, self.log());
            None
        });
    }

    /// Writes a line to its input.
    pub fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "{line}").unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Still running?
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        run(Command::new("kill").args(["-s", name, &self.child.id().to_string()]));
    }

    /// Waits for it to end by itself; true where it ended with status 0.
    pub fn wait(&mut self, limit: Duration) -> bool {
        let what = format!("the end of {}", self.name);
        wait_for(&what, limit, || self.child.try_wait().expect("child")).success()
    }

    /// TERM, then at most `limit` for it to end; true where it ended with status 0.
    pub fn stop(&mut self, limit: Duration) -> bool {
        if self.is_alive() {
            self.signal("TERM");
        }
        self.wait(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_alive() {
            return;
        }
        self.signal("TERM");
        let deadline = now() + Duration::from_secs(5);
        while self.is_alive() && now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs to the end.
pub fn run(command: &mut Command) -> Done {
    match command.stdin(Stdio::null()).output() {
        Ok(out) => {
            let text = [out.stdout, out.stderr].concat();
            Done { ok: out.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
        }
        Err(e) => Done { ok: false, text: e.to_string() },
    }
}

/// Runs to the end, which must be a success; gives its output.
pub fn must(command: &mut Command) -> String {
    let done = run(command);
    assert!(done.ok, "{command:?} failed:\n{}", done.text);
    done.text
}

fn read(path: &Path) -> String {
    fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
}

fn etc(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}

fn remove(namespace: &str) {
    run(Command::new("ip").args(["netns", "delete", namespace]));
    let _ = fs::remove_dir_all(etc(namespace));
}

/// Why no lab can be built here, if so.
fn unable() -> Option<String> {
    let root = fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    if !root {
        return Some("network namespaces need root".to_owned());
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let missing = TOOLS.iter().find(|tool| !path.split(':').any(|d| Path::new(d).join(tool).exists()));
    if let Some(tool) = missing {
        return Some(format!("{tool} is not installed"));
    }
    let files = [
        "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
        "/usr/local/lib/libreswan/usr/libexec/ipsec/pluto",
        "/dev/net/tun",
    ];
    if let Some(file) = files.iter().find(|file| !Path::new(file).exists()) {
        return Some(format!("there is no {file}"));
    }
    let allowed = run(Command::new("unshare").args(["--net", "--mount", "true"]));
    (!allowed.ok).then(|| format!("no network namespaces here: {}", allowed.text.trim()))
}

/// Namespaces of test processes that were killed.
fn remove_leftovers() {
    let names = match fs::read_dir("/run/netns") {
        Ok(names) => names,
        Err(e) if e.kind() == ErrorKind::NotFound => return,
        Err(e) => panic!("/run/netns: {e}"),
    };
    for name in names.flatten().filter_map(|n| n.file_name().into_string().ok()) {
        let pid = name.strip_prefix("pt").and_then(|rest| rest.split_once('n')).map(|(pid, _)| pid);
        if pid.is_some_and(|p| p.parse::<u32>().is_ok() && !Path::new("/proc").join(p).exists()) {
            remove(&name);
        }
    }
}
