//! `pterodapter check`: everything that `ikev2` needs, tried without starting.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use crate::engine;
use crate::engine::capture::CreateError;

use super::args::Ikev2Args;
use super::settings::{self, Error, Faults};
use super::terminal::Progress;
use super::{Failure, ikev2, logging};

/// What was found, and how bad it is.
enum Finding {
    /// `ikev2` would not start, or never work.
    Fault(String),
    /// It works, but deserves a look.
    Warning(String),
    /// What cannot be tried from here.
    Note(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(text) => write!(f, "error: {text}"),
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::Note(text) => write!(f, "note: {text}"),
        }
    }
}

/// Prints a line for each finding; a failure if one is a fault.
pub(super) fn run(args: &Ikev2Args) -> Result<(), Failure> {
    let findings = findings(args);
    let faults = findings.iter().filter(|finding| matches!(finding, Finding::Fault(_))).count();
    let mut text: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    if faults == 0 {
        text.push_str(
            "ready to start: files, certificates, ports and the name of the gateway are in order\n",
        );
    }
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|why| Failure::Runtime(format!("cannot write: {why}")))?;
    match faults {
        0 => Ok(()),
        1 => Err(Failure::Configuration("there is an error".to_owned())),
        _ => Err(Failure::Configuration(format!("there are {faults} errors"))),
    }
}

fn findings(args: &Ikev2Args) -> Vec<Finding> {
    let mut found = Vec::new();
    let system = ikev2::system();
    let (faults, warnings) = match ikev2::load(args, &system) {
        Ok((loaded, _)) => (Vec::new(), loaded.warnings),
        Err(broken) => {
            let Faults { faults, warnings } = *broken;
            (faults, warnings)
        }
    };
    found.extend(warnings.iter().map(|warning| Finding::Warning(warning.to_string())));
    found.extend(faults.iter().map(|fault| match fault {
        Error::NoCredentials { option, name } => Finding::Note(format!(
            "{option}: credential:{name} is there only for the service (LoadCredential={name}:FILE): it was not looked at"
        )),
        _ => Finding::Fault(fault.to_string()),
    }));
    found.extend(page(&settings::page(args, &system)));
    let ports = [args.ike_port.get(), args.nat_port.get()];
    if let Err(error) = engine::try_ports(&settings::listen(args), ports) {
        found.push(Finding::Fault(ikev2::start_failure(error).parts().1.to_owned()));
    }
    if let Some(path) = &args.log_file
        && let Err(text) = logging::try_file(path)
    {
        found.push(Finding::Fault(text));
    }
    if let Some(path) = args.pcap.as_ref().filter(|path| path.symlink_metadata().is_ok()) {
        let there = CreateError { path: path.clone(), error: io::ErrorKind::AlreadyExists.into() };
        found.push(Finding::Fault(format!("--pcap: {there}")));
    }
    // Where there is a proxy, it looks up the gateway.
    found.extend(match &args.uplink.uplink_proxy {
        Some(proxy) => resolution("--uplink-proxy", &proxy.host, proxy.port),
        None => resolution("--destination", &args.destination.host, args.destination.port),
    });
    found
}

/// The daemon does with the page's addresses that it can have, but without any nobody can sign in with a browser.
fn page(addresses: &[SocketAddr]) -> Vec<Finding> {
    let taken: Vec<_> = addresses
        .iter()
        .filter_map(|address| TcpListener::bind(address).err().map(|why| (address, why)))
        .collect();
    let kind = if taken.len() == addresses.len() { Finding::Fault } else { Finding::Warning };
    let text = |(address, why): &(&SocketAddr, io::Error)| {
        let port = address.port();
        format!(
            "port {port} ({address}, TCP), where the browser comes back: {why}; give another with --saml-listen"
        )
    };
    taken.iter().map(|one| kind(text(one))).collect()
}

fn resolution(option: &str, host: &str, port: u16) -> Option<Finding> {
    let _progress = Progress::show(&format!("looking up {host}"));
    let why = match (host, port).to_socket_addrs() {
        Ok(mut addresses) => addresses.next().is_none().then(|| "it has no address".to_owned())?,
        Err(why) => why.to_string(),
    };
    Some(Finding::Fault(format!(
        "{option}: {host} cannot be looked up ({why}); is the name right, and does this host have DNS?"
    )))
}
