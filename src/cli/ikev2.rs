//! `pterodapter ikev2`: the daemon in the foreground, until a signal ends it.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::process;
use std::sync::{Arc, OnceLock};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::engine::{self, Clock, ServiceManager, StartError, Stopper};

use super::Failure;
use super::args::{Ikev2Args, Source};
use super::console::Console;
use super::settings::{self, Faults, System, Warning};
use super::terminal::{self, Input};

/// Exit code after Ctrl-C before there was anything to end, as shells have it.
const INTERRUPTED: i32 = 130;
/// Requests that the console has not taken yet.
const REQUESTS: usize = 16;

/// Serves until SIGINT or SIGTERM, then ends in order; a second signal ends at once.
pub(super) fn run(args: &Ikev2Args) -> Result<(), Failure> {
    // First of all: the descriptors that it hands over have fixed numbers.
    let manager = ServiceManager::from_environment().map_err(|e| start_failure(e.into()))?;
    let stopper = Arc::new(OnceLock::new());
    stop_on_signal(Arc::clone(&stopper))?;
    let (mut config, warnings) =
        load(args, &system()).map_err(|faults| Failure::Configuration(faults.to_string()))?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    let (requests, to_console) = crossbeam_channel::bounded(REQUESTS);
    config.sign_in.console = Some(requests);
    let daemon = engine::start_under(config, manager).map_err(start_failure)?;
    // Nobody has set it before.
    let _ = stopper.set(daemon.stopper());
    log::info!("listening on UDP {} and {}", list(daemon.ike_addresses()), list(daemon.nat_addresses()));
    let console = Console {
        requests: to_console,
        submitter: daemon.submitter(),
        input: Input::open(reads_stdin(args)),
        open_browser: args.uplink.open_browser,
    };
    let console =
        console.start().map_err(|error| Failure::Runtime(format!("cannot start a thread: {error}")))?;
    let ended_well = daemon.wait();
    // It ends with the daemon; a thread that panicked has nothing left to say.
    let _ = console.join();
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

/// The configuration with all that it names, and what deserves a look.
pub(super) fn load(args: &Ikev2Args, system: &System) -> Result<(engine::Config, Vec<Warning>), Box<Faults>> {
    // Whoever types a secret there must not show it to the room.
    if let Some(input) = Input::open(false).filter(|input| reads_stdin(args) && input.is_terminal()) {
        terminal::say("waiting for a line on standard input; what you type is not shown: ");
        input.hide();
    }
    let loaded = settings::load(args, system, io::stdin());
    terminal::show();
    loaded
}

fn reads_stdin(args: &Ikev2Args) -> bool {
    args.key == Source::Stdin || args.uplink.reads_stdin()
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// From here on a signal waits for its thread instead of ending us in the middle, with the terminal as it is.
fn stop_on_signal(stopper: Arc<OnceLock<Stopper>>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|e| Failure::Runtime(format!("cannot catch signals: {e}")))?;
    let wait = move || {
        let mut arrived = signals.forever();
        if arrived.next().is_some() {
            let Some(stopper) = stopper.get() else {
                terminal::show();
                process::exit(INTERRUPTED);
            };
            log::info!("stopping; a second signal ends at once");
            stopper.stop();
        }
        if arrived.next().is_some() {
            terminal::show();
            process::exit(1);
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait);
    thread.map(drop).map_err(|error| Failure::Runtime(format!("cannot start a thread: {error}")))
}

/// What the person can do about it, with the exit code that fits.
pub(super) fn start_failure(error: StartError) -> Failure {
    let StartError::Bind { address, error: cause } = &error else {
        return match error {
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
    use super::*;

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
