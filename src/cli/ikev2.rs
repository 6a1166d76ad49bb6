//! `pterodapter ikev2`: the daemon in the foreground, until a signal ends it.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::process;
use std::sync::{Arc, OnceLock};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zeroize::Zeroizing;

use crate::engine::{self, Clock, Reloader, ServiceManager, StartError, Stopper};

use super::Failure;
use super::args::Ikev2Args;
use super::changes::{Known, Options};
use super::console::Console;
use super::reconfigure::Reconfigurer;
use super::settings::{self, Faults, Loaded, System};
use super::terminal::{self, Input};

/// Exit code after Ctrl-C before there was anything to end, as shells have it.
const INTERRUPTED: i32 = 130;
/// Requests that the console, or who reads the configuration again, has not taken yet.
const REQUESTS: usize = 16;

/// Serves until SIGINT or SIGTERM, then ends in order; a second signal ends at once. `typed` is the command line without
/// the configuration file, `options` with it.
pub(super) fn run(args: &Ikev2Args, typed: Vec<OsString>, options: Options) -> Result<(), Failure> {
    // First of all: the descriptors that it hands over have fixed numbers.
    let manager = ServiceManager::from_environment().map_err(|e| start_failure(e.into()))?;
    let handles = Arc::new(OnceLock::new());
    heed_signals(Arc::clone(&handles))?;
    let (Loaded { mut config, warnings, contents }, stdin) =
        load(args, &system()).map_err(|faults| Failure::Configuration(faults.to_string()))?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    let (requests, to_console) = crossbeam_channel::bounded(REQUESTS);
    config.sign_in.console = Some(requests);
    let (reloads, to_reload) = crossbeam_channel::bounded(REQUESTS);
    config.reload = Some(reloads);
    let certificates = settings::in_words(&config.identity.credentials);
    let daemon = engine::start_under(config, manager).map_err(start_failure)?;
    // Nobody has set them before.
    let _ = handles.set((daemon.stopper(), daemon.reloader()));
    log::info!("listening on UDP {} and {}", list(daemon.ike_addresses()), list(daemon.nat_addresses()));
    log::info!("our {certificates}");
    let console = Console {
        requests: to_console,
        submitter: daemon.submitter(),
        input: Input::open(reads_stdin(args)),
        open_browser: args.uplink.open_browser,
    };
    let no_thread = |error| Failure::Runtime(format!("cannot start a thread: {error}"));
    let console = console.start().map_err(no_thread)?;
    let known = Known { options, contents };
    let reconfigurer = Reconfigurer { typed, stdin, known };
    let reconfigurer = reconfigurer.start(to_reload, daemon.reloader()).map_err(no_thread)?;
    let ended_well = daemon.wait();
    // They end with the daemon; a thread that panicked has nothing left to say.
    let _ = console.join();
    let _ = reconfigurer.join();
    if ended_well {
        Ok(())
    } else {
        Err(Failure::Runtime("the event loop failed; see the log above".to_owned()))
    }
}

/// What the checks need to know of this system.
pub(super) fn system() -> System {
    System {
        wall: Clock::start().now().wall,
        cores: thread::available_parallelism().map_or(1, usize::from),
        loopback_v6: UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok(),
        credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(Into::into),
        control: settings::control_of_daemon(),
    }
}

/// The configuration with all that it names, and what was on standard input.
pub(super) fn load(args: &Ikev2Args, system: &System) -> Result<(Loaded, Stdin), Box<Faults>> {
    // Whoever types a secret there must not show it to the room.
    if let Some(input) = Input::open(false).filter(|input| reads_stdin(args) && input.is_terminal()) {
        terminal::say("waiting for a line on standard input; what you type is not shown: ");
        input.hide();
    }
    let mut stdin = Stdin { option: args.reader_of_stdin(), content: Zeroizing::default() };
    let loaded = settings::load(args, system, Keep { from: io::stdin(), kept: &mut stdin.content });
    terminal::show();
    Ok((loaded?, stdin))
}

/// What was read from standard input: it comes only once, and the configuration may be read again.
#[derive(Debug)]
pub(super) struct Stdin {
    /// The option that has read it.
    option: Option<&'static str>,
    content: Zeroizing<Vec<u8>>,
}

impl Stdin {
    /// As it came.
    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    /// What was meant for one option must not be taken for another.
    pub(super) fn check(&self, args: &Ikev2Args) -> Result<(), String> {
        match args.reader_of_stdin() {
            Some(option) if self.option != Some(option) => {
                Err(format!("{option}: standard input is read once, at the start; give a file, or restart"))
            }
            _ => Ok(()),
        }
    }
}

fn reads_stdin(args: &Ikev2Args) -> bool {
    args.reader_of_stdin().is_some()
}

/// Keeps what is read.
struct Keep<'a, R> {
    from: R,
    kept: &'a mut Zeroizing<Vec<u8>>,
}

impl<R: Read> Read for Keep<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(into)?;
        keep(self.kept, into.get(..length).unwrap_or_default());
        Ok(length)
    }
}

/// Appends; where there is no room, what is left behind is wiped.
fn keep(kept: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    if kept.capacity() - kept.len() < more.len() {
        let mut larger = Zeroizing::new(Vec::with_capacity(2 * (kept.len() + more.len())));
        larger.extend_from_slice(kept);
        *kept = larger;
    }
    kept.extend_from_slice(more);
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// From here on a signal waits for its thread instead of ending us in the middle, with the terminal as it is.
fn heed_signals(handles: Arc<OnceLock<(Stopper, Reloader)>>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|e| Failure::Runtime(format!("cannot catch signals: {e}")))?;
    let had_terminal = io::stderr().is_terminal();
    let wait = move || {
        let mut is_stopping = false;
        for signal in signals.forever() {
            // The terminal was closed, or somebody wants us to look at our files.
            let is_hung_up = signal == SIGHUP && had_terminal && !io::stderr().is_terminal();
            match handles.get() {
                Some((_, reloader)) if signal == SIGHUP && !is_hung_up => reloader.ask(),
                // They are being read.
                None if signal == SIGHUP && !is_hung_up => {}
                Some((stopper, _)) if !is_stopping => {
                    is_stopping = true;
                    log::info!("stopping; a second signal ends at once");
                    stopper.stop();
                }
                // Shell and system both tell that the terminal is gone.
                Some(_) if is_hung_up => {}
                handles => {
                    terminal::show();
                    process::exit(if handles.is_some() { 1 } else { INTERRUPTED });
                }
            }
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait);
    thread.map(drop).map_err(|error| Failure::Runtime(format!("cannot start a thread: {error}")))
}

/// What the person can do about it, with the exit code that fits.
pub(super) fn start_failure(error: StartError) -> Failure {
    let StartError::Bind { address, error: cause } = &error else {
        return match &error {
            StartError::Capture(cause) if cause.error.kind() == io::ErrorKind::PermissionDenied => {
                Failure::Permission(error.to_string())
            }
            StartError::System(_) | StartError::Control(_) => Failure::Runtime(error.to_string()),
            _ => Failure::Configuration(error.to_string()),
        };
    };
    match cause.kind() {
        io::ErrorKind::PermissionDenied => Failure::Permission(not_permitted(*address)),
        io::ErrorKind::AddrInUse => Failure::Runtime(in_use(*address)),
        io::ErrorKind::AddrNotAvailable => {
            Failure::Configuration(format!("--listen-ip {}: no interface has this address", address.ip()))
        }
        _ => Failure::Runtime(error.to_string()),
    }
}

fn not_permitted(address: SocketAddr) -> String {
    let program =
        std::env::current_exe().map_or_else(|_| "pterodapter".to_owned(), |path| path.display().to_string());
    format!(
        "port {} ({address}, UDP): permission denied. Three ways out: 'sudo setcap cap_net_bind_service=+ep {program}'; \
         a systemd socket (packaging/systemd/pterodapter.socket), which opens it for us; or --ike-port and --nat-port \
         above 1023 for clients that can use those",
        address.port()
    )
}

fn in_use(address: SocketAddr) -> String {
    let port = address.port();
    format!(
        "port {port} ({address}, UDP): already in use. Three ways out: stop the program that has it ('sudo ss -ulpn \
         sport = :{port}' names it, often strongSwan or pterodapter.socket); --listen-ip with an address that it does not use; or other \
         ports with --ike-port and --nat-port"
    )
}

#[cfg(test)]
mod tests {
    use super::super::args::{self, Command};
    use super::*;

    #[test]
    fn standard_input_can_be_read_again_but_only_by_the_same_option() {
        let args = |more: &[&str]| {
            let argv = ["pterodapter", "ikev2", "--destination=a", "--cacert=a", "--cert=a"];
            match args::parse(argv.iter().chain(more)).unwrap().command {
                Command::Ikev2(args) => args,
                other => panic!("{other:?}"),
            }
        };
        let with_key = args(&["--key=-"]);
        let mut stdin = Stdin { option: with_key.reader_of_stdin(), content: Zeroizing::default() };
        let long = "x".repeat(10_000);
        let mut read = String::new();
        Keep { from: long.as_bytes(), kept: &mut stdin.content }.read_to_string(&mut read).unwrap();
        assert_eq!((read.as_bytes(), stdin.content()), (long.as_bytes(), long.as_bytes()));
        assert_eq!(stdin.check(&with_key), Ok(()));
        assert_eq!(stdin.check(&args(&["--key=k"])), Ok(()));
        let other = stdin.check(&args(&["--key=k", "--username=a", "--password-file=-"])).unwrap_err();
        assert!(other.starts_with("--password-file: standard input is read once"), "{other}");
    }

    #[test]
    fn a_port_that_cannot_be_had_is_named_with_three_ways_out() {
        let bind = |kind: io::ErrorKind| {
            let failure =
                start_failure(StartError::Bind { address: ([192, 0, 2, 1], 500).into(), error: kind.into() });
            let (code, text) = failure.parts();
            assert_eq!(text.lines().count(), 1);
            (code, text.to_owned())
        };
        for (kind, expected, ways) in [
            (io::ErrorKind::PermissionDenied, 77, ["setcap", "systemd socket", "--ike-port"]),
            (io::ErrorKind::AddrInUse, 1, ["stop the program", "--listen-ip", "--ike-port"]),
        ] {
            let (code, text) = bind(kind);
            assert_eq!(code, expected);
            assert!(text.starts_with("port 500 (192.0.2.1:500, UDP)"), "{text}");
            assert!(ways.iter().all(|way| text.contains(way)), "{text}");
        }
        assert_eq!(bind(io::ErrorKind::AddrNotAvailable).0, 78);
    }
}
