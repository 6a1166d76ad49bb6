//! Programs that help with the sign-in: run by the shell, in a process group of their own, for a limited time.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mio::unix::pipe;
use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use crate::crypto::Secret;

use super::Clock;
use super::worker::LoopWaker;

/// How often a running program is looked at.
const TICK: Duration = Duration::from_millis(20);
/// A code has at most so many octets.
const MAX_CODE: usize = 1024;
/// A line that a program writes to its standard error is cut after so many octets.
const MAX_LINE: usize = 400;

/// What a program is run for. One runs for each of these at a time: a newer one ends the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The first line that it prints is the code for this question.
    Code {
        /// Which question.
        question: u32,
    },
    /// It tells a person; what it prints is not read.
    Hook,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Code { .. } => "--otp-command",
            Self::Hook => "--login-hook",
        })
    }
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What for.
    pub purpose: Purpose,
    /// For `sh -c`.
    pub command: String,
    /// Variables beside ours.
    pub environment: Vec<(&'static str, String)>,
    /// It is killed after this time.
    pub limit: Duration,
}

/// A question and its code, or `None` where the program gave none.
pub type Code = (u32, Option<Secret>);

/// Runs programs, each watched by a thread that ends with it.
#[derive(Debug)]
pub struct Helpers {
    clock: Clock,
    waker: Arc<LoopWaker>,
    codes: (Sender<Code>, Receiver<Code>),
    code: Option<Running>,
    hook: Option<Running>,
}

/// A program that may still run. Dropping `end` ends it.
#[derive(Debug)]
struct Running {
    end: Option<Sender<()>>,
    thread: JoinHandle<()>,
}

impl Helpers {
    /// No program runs yet.
    pub fn new(clock: Clock, waker: Arc<LoopWaker>) -> Self {
        // A code for a question that is not open any more may lie here beside a good one.
        Self { clock, waker, codes: bounded(4), code: None, hook: None }
    }

    /// Starts a program, and ends the one before it.
    pub fn run(&mut self, program: Program) {
        let (end, ended) = bounded(0);
        let (clock, waker, codes) = (self.clock, Arc::clone(&self.waker), self.codes.0.clone());
        let purpose = program.purpose;
        let watch = move || {
            let printed = match watch(&program, clock, &ended) {
                Ok(printed) => Some(printed),
                Err(failure) => {
                    let is_ours = matches!(failure, Failure::Superseded);
                    let level = if is_ours { log::Level::Debug } else { log::Level::Warn };
                    log::log!(level, "{purpose}: {failure}");
                    None
                }
            };
            if let Purpose::Code { question } = purpose {
                // Full or closed: nobody waits for it.
                let _ = codes.try_send((question, printed));
                waker.wake();
            }
        };
        let place = match purpose {
            Purpose::Code { .. } => &mut self.code,
            Purpose::Hook => &mut self.hook,
        };
        *place = None;
        match thread::Builder::new().name("helper".to_owned()).spawn(watch) {
            Ok(thread) => *place = Some(Running { end: Some(end), thread }),
            Err(error) => {
                log::warn!("{purpose}: cannot start a thread: {error}");
                if let Purpose::Code { question } = purpose {
                    let _ = self.codes.0.try_send((question, None));
                }
            }
        }
    }

    /// The next answer of a program for codes.
    pub fn poll_code(&self) -> Option<Code> {
        self.codes.1.try_recv().ok()
    }

    /// True if there is an answer.
    pub fn has_code(&self) -> bool {
        !self.codes.1.is_empty()
    }

    /// Ends all programs, and waits until they have gone.
    pub fn stop(self) {
        for mut running in [self.code, self.hook].into_iter().flatten() {
            running.end = None;
            // A thread that panicked has nothing left to end.
            let _ = running.thread.join();
        }
    }
}

/// Why a program was of no use.
#[derive(Debug)]
enum Failure {
    Start(io::Error),
    Wait(io::Error),
    /// What the shell said: not 0.
    Status(std::process::ExitStatus),
    TooLate(Duration),
    Superseded,
    NoCode,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "cannot start it: {error}"),
            Self::Wait(error) => write!(f, "cannot wait for it: {error}"),
            Self::Status(status) => write!(f, "it failed ({status}); --log-level debug shows what it said"),
            Self::TooLate(limit) => write!(f, "killed, it took more than {} s", limit.as_secs()),
            Self::Superseded => f.write_str("killed, it is not needed any more"),
            Self::NoCode => f.write_str("it printed no code"),
        }
    }
}

/// Runs the program to its end, and gives back the first line that it printed.
fn watch(program: &Program, clock: Clock, ended: &Receiver<()>) -> Result<Secret, Failure> {
    let mut child = spawn(program).map_err(Failure::Start)?;
    let result = attend(program, &mut child, clock, ended);
    if matches!(result, Err(Failure::TooLate(_) | Failure::Superseded | Failure::Wait(_))) {
        // Not reaped yet, so the number is still that of this group.
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // The only error is that it is gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait();
    }
    result
}

/// Nothing of ours is inherited: every descriptor of ours is closed at exec, and what systemd told us is not told on.
fn spawn(program: &Program) -> io::Result<Child> {
    let stdout = match program.purpose {
        Purpose::Code { .. } => Stdio::piped(),
        Purpose::Hook => Stdio::null(),
    };
    Command::new("/bin/sh")
        .args(["-c", &program.command])
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
}

fn attend(
    program: &Program,
    child: &mut Child,
    clock: Clock,
    ended: &Receiver<()>,
) -> Result<Secret, Failure> {
    let deadline = clock.now().mono + program.limit;
    let mut stdout = child.stdout.take().map(pipe::Receiver::from);
    let mut stderr = child.stderr.take().map(pipe::Receiver::from);
    for pipe in [&stdout, &stderr].into_iter().flatten() {
        pipe.set_nonblocking(true).map_err(Failure::Wait)?;
    }
    let mut code = FirstLine::new();
    let mut complaint = Complaint { purpose: program.purpose, line: Vec::new() };
    loop {
        // Asked before the pipes are read: then what it wrote at last is read as well.
        let status = child.try_wait().map_err(Failure::Wait)?;
        drain(&mut stdout, |bytes| code.handle_bytes(bytes));
        drain(&mut stderr, |bytes| complaint.handle_bytes(bytes));
        match status {
            Some(status) if !status.success() => return Err(Failure::Status(status)),
            Some(_) => return code.finish(program.purpose),
            None if clock.now().mono >= deadline => return Err(Failure::TooLate(program.limit)),
            None => {}
        }
        if let Err(RecvTimeoutError::Disconnected) = ended.recv_timeout(TICK) {
            return Err(Failure::Superseded);
        }
    }
}

/// Takes what is in the pipe, a bounded part of it at a time.
fn drain(pipe: &mut Option<pipe::Receiver>, mut take: impl FnMut(&[u8])) {
    let mut buffer = Zeroizing::new([0; 4096]);
    for _ in 0..16 {
        let Some(open) = pipe else { return };
        match open.read(&mut *buffer) {
            Ok(length) if length > 0 => take(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => *pipe = None,
        }
    }
}

/// Keeps the first line of what it is given.
struct FirstLine {
    line: Zeroizing<Vec<u8>>,
    complete: bool,
}

impl FirstLine {
    fn new() -> Self {
        // It never grows beyond this, so no copy of it is left behind.
        Self { line: Zeroizing::new(Vec::with_capacity(MAX_CODE)), complete: false }
    }

    fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.complete {
            return;
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let room = MAX_CODE - self.line.len();
        let length = end.unwrap_or(bytes.len());
        self.complete = end.is_some() || length > room;
        self.line.extend_from_slice(bytes.get(..length.min(room)).unwrap_or_default());
    }

    fn finish(self, purpose: Purpose) -> Result<Secret, Failure> {
        let code = self.line.trim_ascii();
        if code.is_empty() && purpose != Purpose::Hook {
            Err(Failure::NoCode)
        } else {
            Ok(Secret::from(code))
        }
    }
}

/// Logs what a program writes to its standard error.
struct Complaint {
    purpose: Purpose,
    line: Vec<u8>,
}

impl Complaint {
    fn handle_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.log();
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            }
        }
    }

    fn log(&mut self) {
        if !self.line.is_empty() {
            log::debug!("{}: {}", self.purpose, String::from_utf8_lossy(&self.line).escape_debug());
            self.line.clear();
        }
    }
}

impl Drop for Complaint {
    fn drop(&mut self) {
        self.log();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use mio::{Poll, Token, Waker};

    use super::*;

    fn helpers() -> (Helpers, Poll) {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(LoopWaker::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        (Helpers::new(Clock::start(), waker), poll)
    }

    fn program(purpose: Purpose, command: &str) -> Program {
        Program {
            purpose,
            command: command.to_owned(),
            environment: vec![("PTERODAPTER_TEXT", "say it".to_owned())],
            limit: Duration::from_secs(20),
        }
    }

    fn eventually<T>(mut get: impl FnMut() -> Option<T>) -> T {
        for _ in 0..1500 {
            if let Some(found) = get() {
                return found;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it did not happen");
    }

    /// What a program for codes says, as text.
    fn code(command: &str, limit: Duration) -> Option<String> {
        let (mut helpers, _poll) = helpers();
        helpers.run(Program { limit, ..program(Purpose::Code { question: 7 }, command) });
        let (question, code) = eventually(|| helpers.poll_code());
        assert_eq!(question, 7);
        helpers.stop();
        code.map(|code| String::from_utf8(code.expose().to_vec()).unwrap())
    }

    #[test]
    fn the_first_line_is_the_code() {
        let long = Duration::from_secs(20);
        for (command, expected) in [
            ("echo ' 123456 '; echo more", Some("123456")),
            ("printf 123; sleep 0.1; printf 456", Some("123456")),
            ("echo \"$PTERODAPTER_TEXT\"", Some("say it")),
            ("cat", None),
            ("echo 123456; exit 3", None),
            ("kill -9 $$", None),
            ("no-such-program", None),
        ] {
            assert_eq!(code(command, long).as_deref(), expected, "{command}");
        }
        assert_eq!(code("yes 12 | tr -d '\n' | head -c 100000", long).unwrap().len(), MAX_CODE);
    }

    /// Process numbers that a program left in a file: its own and that of a child.
    fn processes(file: &Path) -> Option<Vec<i32>> {
        let text = fs::read_to_string(file).ok()?;
        let found: Vec<i32> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
        (text.ends_with('\n') && found.len() == 2).then_some(found)
    }

    fn lives(process: i32) -> bool {
        rustix::process::test_kill_process(Pid::from_raw(process).unwrap()).is_ok()
            && !fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }

    #[test]
    fn a_program_that_takes_too_long_or_is_not_needed_is_killed_with_its_children() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = |name: &str| directory.path().join(name);
        let command = |name: &str| format!("sleep 300 & echo $$ $! > {}; wait", file(name).display());
        assert_eq!(code(&command("late"), Duration::from_millis(300)), None);
        let gone = |name: &str| {
            let found = eventually(|| processes(&file(name)));
            eventually(|| found.iter().all(|process| !lives(*process)).then_some(()));
        };
        gone("late");

        let (mut helpers, _poll) = helpers();
        helpers.run(program(Purpose::Hook, &command("first")));
        eventually(|| processes(&file("first")));
        helpers.run(program(Purpose::Hook, &command("second")));
        gone("first");
        assert!(eventually(|| processes(&file("second"))).iter().all(|process| lives(*process)));
        helpers.stop();
        gone("second");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_inherits_no_descriptor_but_the_three() {
        let open = "for fd in /proc/self/fd/*; do readlink $fd; done | tr '\n' ' '";
        let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let seen = code(open, Duration::from_secs(20)).unwrap();
        drop(listening);
        assert!(!seen.contains("socket:") && seen.starts_with("/dev/null"), "{seen}");
    }
}
