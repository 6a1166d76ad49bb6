//! `pterodapter check`: everything that `ikev2` needs, tried without starting.

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use crate::engine;

use super::args::{Destination, Ikev2Args};
use super::settings::{self, Loaded};
use super::{Failure, ikev2, logging};

/// What was found, and how bad it is.
enum Finding {
    /// `ikev2` would not start, or never work.
    Fault(String),
    /// It works, but deserves a look.
    Warning(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(text) => write!(f, "fault: {text}"),
            Self::Warning(text) => write!(f, "warning: {text}"),
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
        1 => Err(Failure::Configuration("there is a fault".to_owned())),
        _ => Err(Failure::Configuration(format!("there are {faults} faults"))),
    }
}

fn findings(args: &Ikev2Args) -> Vec<Finding> {
    let mut found = Vec::new();
    match ikev2::load(args) {
        Ok((Loaded { config, warnings, .. }, _)) => {
            found.extend(warnings.iter().map(|warning| Finding::Warning(warning.to_string())));
            found.extend(page(&config.page));
        }
        Err(failure) => found.push(Finding::Fault(failure.parts().1.to_owned())),
    }
    let ports = [args.ike_port.get(), args.nat_port.get()];
    if let Err(error) = engine::try_ports(&settings::listen(args), ports) {
        found.push(Finding::Fault(ikev2::start_failure(error).parts().1.to_owned()));
    }
    if let Some(path) = &args.log_file
        && let Err(text) = logging::try_file(path)
    {
        found.push(Finding::Fault(text));
    }
    found.extend(resolution(&args.destination));
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

fn resolution(destination: &Destination) -> Option<Finding> {
    let Destination { host, port } = destination;
    let why = match (host.as_str(), *port).to_socket_addrs() {
        Ok(mut addresses) => addresses.next().is_none().then(|| "it has no address".to_owned())?,
        Err(why) => why.to_string(),
    };
    Some(Finding::Fault(format!(
        "--destination: {host} cannot be looked up ({why}); is the name right, and does this host have DNS?"
    )))
}
