//! `pterodapter disconnect`: ends the connection of a device.

use std::path::PathBuf;

use clap::Args;

use crate::engine::control::message::{Command, Reply};

use super::Failure;
use super::control;

/// The options of `disconnect`.
#[derive(Args, Clone, Debug)]
pub struct DisconnectArgs {
    /// The device's number, as 'pterodapter status' shows it, or an identity: then all of its devices
    #[arg(value_name = "ID")]
    pub device: String,

    /// The control socket of the daemon
    #[arg(long, value_name = "FILE")]
    pub control: Option<PathBuf>,
}

/// Asks the daemon to do it, and says whom it was done to.
pub(super) fn run(args: &DisconnectArgs) -> Result<(), Failure> {
    match control::ask(args.control.as_deref(), &Command::Disconnect { device: args.device.clone() })? {
        Reply::Done { text } => control::print(&text),
        Reply::Refused { reason } => Err(Failure::Runtime(reason)),
        _ => Err(control::not_understood()),
    }
}
