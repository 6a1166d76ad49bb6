//! A Debian under its own systemd, in a namespace of the lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::{Done, Lab, Process, SRV, must, run, wait_for};

const BOOT: Duration = Duration::from_secs(30);

/// A machine of its own, as far as anyone inside can tell; gone with its files when the lab is.
pub struct Container<'a> {
    lab: &'a Lab,
    root: PathBuf,
    running: Option<Process>,
    boots: u32,
}

impl<'a> Container<'a> {
    /// A fresh Debian, not running yet.
    pub fn new(lab: &'a Lab) -> Self {
        must(&mut Command::new("tests/package/root"));
        let root = lab.path("root");
        fs::create_dir(&root).expect("directory");
        must(Command::new("tar").args(["-xpf", "target/package/root.tar", "-C"]).arg(&root));
        Self { lab, root, running: None, boots: 0 }
    }

    /// A file inside, by its absolute name there. What is on a file system of its own, like /run, is not here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name.trim_start_matches('/'))
    }

    /// Adds lines to a file inside.
    pub fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("absolute")).expect("directory");
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, before + text).expect("file");
    }

    /// Copies a file to a place inside.
    pub fn copy(&self, from: &Path, name: &str) {
        fs::copy(from, self.path(name)).expect("copy");
    }

    /// Boots, and waits until systemd has done all that it had to.
    pub fn boot(&mut self) {
        self.boots += 1;
        let namespace = self.lab.namespace(SRV);
        let log = format!("container-{}", self.boots);
        let line = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            "--console=pipe",
            "--timezone=off",
            &format!("--machine=ptpkg-{}", std::process::id()),
            &format!("--network-namespace-path=/run/netns/{namespace}"),
            &format!("--directory={}", self.root.display()),
        ];
        self.running = Some(self.lab.start_outside(&log, &line));
        wait_for("the container to have booted", BOOT, || {
            self.leader()?;
            (self.sh(5, "systemctl is-system-running").text.trim() == "running").then_some(())
        });
    }

    /// Shuts down in order.
    pub fn shut_down(&mut self) {
        let mut running = self.running.take().expect("it runs");
        assert!(running.stop(Duration::from_secs(30)), "the container did not end well:\n{}", running.log());
    }

    /// Runs a line of shell inside as root, for at most `seconds`.
    pub fn sh(&self, seconds: u32, line: &str) -> Done {
        let leader = self.leader().expect("it runs").to_string();
        run(Command::new("timeout").args(["-k", "1", &seconds.to_string()]).args([
            "nsenter",
            "--target",
            &leader,
            "--all",
            "env",
            "-i",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive",
            "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "sh",
            "-c",
            &format!("cd; {line}"),
        ]))
    }

    /// The same, but it must succeed; what it prints.
    pub fn must(&self, seconds: u32, line: &str) -> String {
        let done = self.sh(seconds, line);
        assert!(done.ok, "`{line}` failed:\n{}\n{}", done.text, self.journal());
        done.text
    }

    /// A property of the service.
    pub fn property(&self, name: &str) -> String {
        self.must(5, &format!("systemctl show --value --property={name} pterodapter")).trim().to_owned()
    }

    /// Waits until the service is in this state.
    pub fn wait_state(&self, state: &str, limit: Duration) {
        wait_for(&format!("the service to be {state}"), limit, || {
            (self.property("ActiveState") == state).then_some(())
        });
    }

    /// Waits until the service says in its status that the tunnel is up.
    pub fn wait_tunnel(&self) {
        wait_for("the tunnel", Duration::from_secs(30), || {
            self.property("StatusText").starts_with("the tunnel is up").then_some(())
        });
    }

    /// What the service has logged.
    pub fn journal(&self) -> String {
        self.sh(10, "journalctl --no-pager --lines=60 --unit=pterodapter --unit=pterodapter.socket").text
    }

    /// Its first process, seen from outside.
    fn leader(&self) -> Option<u32> {
        let pid = self.running.as_ref()?.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader().is_some() {
            println!("{}", self.journal());
        }
    }
}
