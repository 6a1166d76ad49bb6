//! The other end of a daemon's control socket: for commands that ask something of a running daemon.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::engine::control::message::{Command, Reply};

use super::{Failure, settings};

/// A reply has at most so many octets.
const MAX_REPLY: u64 = 4 << 20;
/// A daemon that says nothing for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects to the daemon at `control`, or to the first one that answers.
pub fn connect(control: Option<&Path>) -> Result<UnixStream, Failure> {
    let candidates: Vec<PathBuf> =
        control.map_or_else(settings::controls_to_try, |path| vec![path.to_owned()]);
    let mut failure = None;
    for path in &candidates {
        let error = match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        failure = Some(match error.kind() {
            io::ErrorKind::PermissionDenied => Failure::Permission(format!(
                "{}: permission denied; the user that runs the daemon, its group, or root can use it",
                path.display()
            )),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::NoDaemon(format!(
                "no pterodapter listens at {}; start 'pterodapter ikev2', or name its socket with --control",
                candidates.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
            )),
            _ => Failure::Runtime(format!("{}: {error}", path.display())),
        });
    }
    Err(failure.unwrap_or_else(|| Failure::NoDaemon("there is no control socket to try".to_owned())))
}

/// Sends one command.
pub fn send(stream: &mut UnixStream, command: &Command) -> Result<(), Failure> {
    let line = serde_json::to_vec(command)
        .map_err(|_| Failure::Configuration("what was typed is not UTF-8".to_owned()))?;
    let mut line = Zeroizing::new(line);
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)
}

/// Asks the daemon one thing.
pub fn ask(control: Option<&Path>, command: &Command) -> Result<Reply, Failure> {
    let mut stream = connect(control)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    send(&mut stream, command)?;
    Replies::new(stream).next_known().ok_or_else(not_understood)
}

/// The daemon said nothing, or something else than was asked for.
pub fn not_understood() -> Failure {
    Failure::Runtime(
        "the daemon gave no answer that this version of pterodapter understands; is it of another version?"
            .to_owned(),
    )
}

/// Prints what the daemon says to the person.
pub fn print(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(|error| Failure::Runtime(format!("standard output: {error}")))
}

/// The connection failed.
pub fn broken(error: io::Error) -> Failure {
    Failure::Runtime(format!("the control socket broke: {error}"))
}

/// What the daemon says, line by line.
#[derive(Debug)]
pub struct Replies {
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Replies {
    /// Of the daemon behind `stream`.
    pub fn new(stream: UnixStream) -> Self {
        Self { reader: BufReader::new(stream), line: Vec::new() }
    }

    /// What comes behind the replies.
    pub fn into_rest(self) -> impl Read {
        self.reader
    }

    /// The next reply that this version understands; `None` at the end.
    pub fn next_known(&mut self) -> Option<Reply> {
        loop {
            self.line.clear();
            let got = self.reader.by_ref().take(MAX_REPLY).read_until(b'\n', &mut self.line);
            if !got.is_ok_and(|length| length > 0) {
                return None;
            }
            if let Ok(reply) = serde_json::from_slice(&self.line) {
                return Some(reply);
            }
        }
    }
}
