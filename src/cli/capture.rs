//! `pterodapter capture`: the packets of a running daemon, into a file or a pipe.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::engine::capture::{CreateError, Follower, create_file};
use crate::engine::control::message::{Command, Reply};

use super::Failure;
use super::control::{self, Replies};
use super::terminal;

/// Exit code after a second Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;

pub(super) const EXAMPLES: &str = "\
Each packet is there twice, with the address translation between: on the interface 'devices' as the device has it, on
'company' as the company has it. Whoever gets the file can read all of it.

Examples:
  pterodapter capture office.pcapng --device alice@example.com --seconds 60
  pterodapter capture - | wireshark -k -i -";

/// The options of `capture`.
#[derive(Args, Clone, Debug)]
pub struct CaptureArgs {
    /// A new file, or - for standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Only this device: its number, its identity, or its inner address [default: all packets]
    #[arg(long, value_name = "ID")]
    pub device: Option<String>,

    /// End after so long [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,

    /// The control socket of the daemon
    #[arg(long, value_name = "FILE")]
    pub control: Option<PathBuf>,
}

/// Where the packets go.
struct Output {
    file: File,
    /// Its name, where it has one.
    path: Option<PathBuf>,
}

/// Captures until Ctrl-C, the end of the time, the reader's or the daemon's.
pub(super) fn run(args: &CaptureArgs) -> Result<(), Failure> {
    let mut output = Output::open(&args.file)?;
    match begin(args) {
        Ok((stream, packets)) => {
            end_in_time(stream, args.seconds)?;
            let end =
                args.seconds.map_or("Ctrl-C ends".to_owned(), |n| format!("ends after {n} s, or at Ctrl-C"));
            terminal::say(&format!("capturing, {end}\n"));
            follow(packets, &mut output)
        }
        Err(failure) => {
            output.discard();
            Err(failure)
        }
    }
}

/// Asks for the packets. They are what can be read; closing the sending side of the stream ends them.
fn begin(args: &CaptureArgs) -> Result<(UnixStream, impl Read), Failure> {
    let mut stream = control::connect(args.control.as_deref())?;
    control::send(&mut stream, &Command::Capture { device: args.device.clone() })?;
    let mut replies = Replies::new(stream.try_clone().map_err(control::broken)?);
    match replies.next_known() {
        Some(Reply::Accepted) => Ok((stream, replies.into_rest())),
        Some(Reply::Refused { reason }) => Err(Failure::Runtime(reason)),
        _ => Err(Failure::Runtime("the daemon did not answer; is it of the same version?".to_owned())),
    }
}

/// Writes what comes until its end, and says how much it was.
fn follow(mut packets: impl Read, output: &mut Output) -> Result<(), Failure> {
    let mut follower = Follower::default();
    let mut piece = vec![0; 64 << 10];
    let mut result = Ok(());
    loop {
        let length = match packets.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                result = Err(control::broken(error));
                break;
            }
        };
        let whole = follower
            .feed(piece.get(..length).unwrap_or_default())
            .map_err(|why| Failure::Runtime(format!("the daemon sent something else than packets: {why}")))?;
        if let Err(error) = output.file.write_all(whole) {
            // Who closes the pipe has seen enough.
            if error.kind() != io::ErrorKind::BrokenPipe || output.path.is_some() {
                result = Err(Failure::Runtime(format!("cannot write the capture: {error}")));
            }
            say_counts(&follower);
            return result;
        }
    }
    say_counts(&follower);
    if result.is_ok() && !follower.is_finished() {
        return Err(Failure::Runtime(
            "the daemon cut the capture short: it was killed, or the packets were not taken for 10 seconds; \
             what was written can be read"
                .to_owned(),
        ));
    }
    result
}

fn say_counts(follower: &Follower) {
    let (packets, lost) = follower.counts();
    terminal::say(&format!("{packets} packets captured, {lost} lost\n"));
}

impl Output {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() != "-" {
            return match create_file(path) {
                Ok(file) => Ok(Self { file, path: Some(path.to_owned()) }),
                Err(error) => Err(not_made(&error)),
            };
        }
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Failure::Usage(
                "packets are nothing for a terminal: give a file, or 'pterodapter capture - | wireshark -k -i -'"
                    .to_owned(),
            ));
        }
        let file = stdout.as_fd().try_clone_to_owned();
        let file = file.map_err(|error| Failure::Runtime(format!("there is no standard output: {error}")))?;
        Ok(Self { file: file.into(), path: None })
    }

    /// Nothing came: the file that was made for it goes.
    fn discard(self) {
        if let Some(path) = self.path {
            // It may be gone already.
            let _ = fs::remove_file(path);
        }
    }
}

fn not_made(error: &CreateError) -> Failure {
    match error.error.kind() {
        io::ErrorKind::PermissionDenied => Failure::Permission(error.to_string()),
        _ => Failure::Configuration(error.to_string()),
    }
}

/// Tells the daemon at a first signal, or when the time is up, that it is enough; it then sends the rest. A second signal
/// ends at once.
fn end_in_time(stream: UnixStream, seconds: Option<u64>) -> Result<(), Failure> {
    let failed = |error| Failure::Runtime(format!("cannot catch signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let timed = stream.try_clone().map_err(failed)?;
    let wait = move || {
        let mut arrived = signals.forever();
        if arrived.next().is_some() {
            enough(&stream);
        }
        if arrived.next().is_some() {
            process::exit(INTERRUPTED);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(failed)?;
    if let Some(seconds) = seconds {
        let wait = move || {
            thread::sleep(Duration::from_secs(seconds));
            enough(&timed);
        };
        thread::Builder::new().name("timer".to_owned()).spawn(wait).map_err(failed)?;
    }
    Ok(())
}

fn enough(stream: &UnixStream) {
    // The daemon may have ended already.
    let _ = stream.shutdown(Shutdown::Write);
}
