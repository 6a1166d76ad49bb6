//! Captures: copies of the packets on both sides of the translator, for files in the form of pcapng.
//!
//! While there is none, a packet meets one empty `Option` at each point. While there are some, it is copied into the queue
//! of each, and a thread of each writes them. No capture ever holds up a packet: what a queue has no room for is counted.

mod follower;
mod tap;
mod writer;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Clock;
use super::state::Device;
use super::worker::LoopWaker;
use crate::base::DeviceId;

pub use follower::Follower;
use tap::{Branch, Queue};
pub use tap::{Point, Tap};
pub use writer::Sink;
use writer::Writer;

/// Captures at a time.
pub const MAX_CAPTURES: usize = 4;
/// At the end of the program their writers have so long.
const STOP_TIME: Duration = Duration::from_secs(2);

/// A file for a capture could not be made.
#[derive(Debug)]
pub struct CreateError {
    /// Its name.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.error.kind() {
            io::ErrorKind::AlreadyExists => {
                write!(f, "{path} exists, and a capture overwrites nothing; give another name, or remove it")
            }
            _ => write!(f, "cannot make {path} for the capture: {}", self.error),
        }
    }
}

impl std::error::Error for CreateError {}

/// Makes a new file that only its owner may read: everything in it is in clear text.
pub fn create_file(path: &Path) -> Result<File, CreateError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| CreateError { path: path.to_owned(), error })
}

/// Whose packets are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All, those of the in-tunnel host included.
    Everything,
    /// This device, until it is gone.
    Number(DeviceId),
    /// Every device of this identity, those included that come later.
    Identity(String),
    /// Whoever has this inner address.
    Address(Ipv4Addr),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("all packets"),
            Self::Number(DeviceId(number)) => write!(f, "device {number}"),
            Self::Identity(identity) => f.write_str(identity),
            Self::Address(address) => write!(f, "the device at {address}"),
        }
    }
}

impl Target {
    /// The device that a person means: by its number, its identity, or its inner address. An error says who there is.
    pub fn find(text: Option<&str>, devices: &[Device]) -> Result<Self, String> {
        let Some(text) = text else { return Ok(Self::Everything) };
        let find = |wanted: &dyn Fn(&Device) -> bool| devices.iter().find(|device| wanted(device));
        if let Some(device) = find(&|device| text.parse() == Ok(device.id.0)) {
            return Ok(Self::Number(device.id));
        }
        if let Some(device) = find(&|device| device.identity.eq_ignore_ascii_case(text)) {
            return Ok(Self::Identity(device.identity.clone()));
        }
        if let Some(device) = find(&|device| text.parse() == Ok(device.address)) {
            return Ok(Self::Address(device.address));
        }
        let there: Vec<String> = devices
            .iter()
            .map(|device| format!("{} ({}, {})", device.id.0, device.identity, device.address))
            .collect();
        Err(match there.as_slice() {
            [] => format!("there is no device {text}: none is connected"),
            _ => format!("there is no device {text}; connected are {}", there.join(", ")),
        })
    }

    /// Inner addresses of the devices that are meant now; `None` for all packets.
    fn addresses(&self, devices: &[Device]) -> Option<Vec<Ipv4Addr>> {
        let is_meant = |device: &&Device| match self {
            Self::Everything => true,
            Self::Number(id) => device.id == *id,
            Self::Identity(identity) => device.identity.eq_ignore_ascii_case(identity),
            Self::Address(address) => device.address == *address,
        };
        (*self != Self::Everything)
            .then(|| devices.iter().filter(is_meant).map(|device| device.address).collect())
    }
}

/// A capture that runs.
#[derive(Debug)]
struct Running {
    number: u32,
    target: Target,
    queue: Arc<Queue>,
    stop: Arc<AtomicBool>,
}

/// The captures that run, as the event loop knows them.
#[derive(Debug)]
pub struct Captures {
    clock: Clock,
    waker: Arc<LoopWaker>,
    running: Vec<Running>,
    next: u32,
    /// The numbers of those whose writers have ended.
    ended: (Sender<u32>, Receiver<u32>),
}

impl Captures {
    /// None yet. Their writers wake the loop when they end.
    pub fn new(clock: Clock, waker: Arc<LoopWaker>) -> Self {
        Self { clock, waker, running: Vec::new(), next: 0, ended: bounded(MAX_CAPTURES) }
    }

    /// True if none runs.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// True if as many run as may.
    pub fn is_full(&self) -> bool {
        self.running.len() >= MAX_CAPTURES
    }

    /// Starts the writer of another one. `name` says in the log where it goes. [`Captures::tap`] is new then.
    pub fn begin(&mut self, target: Target, sink: Sink, name: &str) -> io::Result<()> {
        let (queue, stop) = (Arc::<Queue>::default(), Arc::<AtomicBool>::default());
        let mut writer = Writer::new(sink, Arc::clone(&queue), Arc::clone(&stop), self.clock);
        let (number, ended, waker) = (self.next, self.ended.0.clone(), Arc::clone(&self.waker));
        let label = format!("{target} to {name}");
        thread::Builder::new().name("pcap".to_owned()).spawn(move || {
            log::info!("capturing {}, in clear text", label);
            let result = writer.run();
            let (captured, lost) = writer.counts();
            let counts = format!("{captured} packets captured, {lost} lost");
            match result {
                Ok(()) => log::info!("the capture of {label} has ended: {counts}"),
                // Its reader has seen enough.
                Err(why) if why.kind() == io::ErrorKind::BrokenPipe => {
                    log::info!("the capture of {label} has ended: {counts}");
                }
                Err(why) => log::warn!("the capture of {label} has ended early ({why}): {counts}"),
            }
            // The file or connection is closed before anybody hears that it is.
            drop(writer);
            // Fails only where the loop has ended.
            let _ = ended.send(number);
            waker.wake();
        })?;
        self.running.push(Running { number, target, queue, stop });
        self.next = self.next.wrapping_add(1);
        Ok(())
    }

    /// Where packets are copied from now on. To be asked again when a capture begins or ends, or a device comes or goes.
    pub fn tap(&self, devices: &[Device]) -> Option<Arc<Tap>> {
        let branch = |running: &Running| Branch {
            wanted: running.target.addresses(devices),
            queue: Arc::clone(&running.queue),
        };
        let branches: Vec<Branch> = self.running.iter().map(branch).collect();
        (!branches.is_empty()).then(|| Arc::new(Tap { clock: self.clock, branches }))
    }

    /// A device has gone: a capture of just this one has nothing to wait for.
    pub fn handle_gone(&self, device: DeviceId) {
        for running in self.running.iter().filter(|running| running.target == Target::Number(device)) {
            running.stop.store(true, Ordering::SeqCst);
        }
    }

    /// True if a capture has ended that still counts as running.
    pub fn has_ended(&self) -> bool {
        !self.ended.1.is_empty()
    }

    /// Forgets those that have ended. True if there were any.
    pub fn poll_ended(&mut self) -> bool {
        let before = self.running.len();
        while let Ok(number) = self.ended.1.try_recv() {
            self.running.retain(|running| running.number != number);
        }
        self.running.len() < before
    }

    /// Ends all, and waits a little for their writers.
    pub fn stop(mut self) {
        for running in &self.running {
            running.stop.store(true, Ordering::SeqCst);
        }
        let deadline = self.clock.now().mono + STOP_TIME;
        while !self.running.is_empty() {
            let left = deadline.saturating_sub(self.clock.now().mono);
            let Ok(number) = self.ended.1.recv_timeout(left) else { return };
            self.running.retain(|running| running.number != number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn device(id: u32, identity: &str, last: u8) -> Device {
        Device {
            id: DeviceId(id),
            identity: identity.to_owned(),
            system: None,
            address: Ipv4Addr::new(198, 19, 255, last),
            address6: None,
            suite: String::new(),
            remote: ([192, 0, 2, 1], 4500).into(),
            since: Duration::ZERO,
        }
    }

    fn captures() -> Captures {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        Captures::new(Clock::start(), Arc::new(LoopWaker::new(waker)))
    }

    fn wanted(captures: &Captures, devices: &[Device]) -> Vec<Option<Vec<u8>>> {
        let last = |address: &Ipv4Addr| address.octets()[3];
        let of = |branch: &Branch| branch.wanted.as_ref().map(|wanted| wanted.iter().map(last).collect());
        captures.tap(devices).map_or(Vec::new(), |tap| tap.branches.iter().map(of).collect())
    }

    #[test]
    fn devices_are_found_by_identity_number_and_address() {
        let devices = [device(1, "a@test", 2), device(2, "b@test", 3), device(7, "1", 4)];
        let find = |text| Target::find(text, &devices);
        assert_eq!(find(None), Ok(Target::Everything));
        assert_eq!(find(Some("B@test")), Ok(Target::Identity("b@test".to_owned())));
        assert_eq!(find(Some("2")), Ok(Target::Number(DeviceId(2))));
        assert_eq!(find(Some("1")), Ok(Target::Number(DeviceId(1))), "whatever others call themselves");
        assert_eq!(find(Some("198.19.255.3")), Ok(Target::Address(Ipv4Addr::new(198, 19, 255, 3))));
        assert_eq!(
            find(Some("9")).unwrap_err(),
            "there is no device 9; connected are 1 (a@test, 198.19.255.2), 2 (b@test, 198.19.255.3), 7 (1, 198.19.255.4)"
        );
        assert_eq!(Target::find(Some("x"), &[]).unwrap_err(), "there is no device x: none is connected");
    }

    #[test]
    fn an_identity_is_followed_and_a_number_ends_with_its_device() {
        let mut captures = captures();
        assert!(captures.tap(&[]).is_none());
        let one = device(1, "a@test", 2);
        let targets = [None, Some("a@test"), Some("1"), Some("198.19.255.2")];
        for text in targets {
            let sink = Sink::File(tempfile::tempfile().unwrap());
            let target = Target::find(text, std::slice::from_ref(&one)).unwrap();
            captures.begin(target, sink, "a file").unwrap();
        }
        assert!(captures.is_full());
        let own = Some(vec![2]);
        assert_eq!(wanted(&captures, &[one]), [None, own.clone(), own.clone(), own.clone()]);
        captures.handle_gone(DeviceId(1));
        while !captures.has_ended() {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(captures.poll_ended() && !captures.is_full() && !captures.poll_ended());
        let later = [device(2, "b@test", 2), device(3, "a@test", 5)];
        assert_eq!(wanted(&captures, &later), [None, Some(vec![5]), own]);
        assert_eq!(wanted(&captures, &[]), [None, Some(vec![]), Some(vec![])]);
        captures.stop();
    }

    #[test]
    fn a_file_is_new_and_its_owners_alone() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("a.pcapng");
        drop(create_file(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "important").unwrap();
        assert!(create_file(&path).unwrap_err().to_string().contains("overwrites nothing"));
        assert_eq!(fs::read(&path).unwrap(), b"important");
        let nowhere = create_file(&directory.path().join("no/where")).unwrap_err();
        assert!(nowhere.to_string().starts_with("cannot make "), "{nowhere}");
    }
}
