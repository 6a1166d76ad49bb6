//! `pterodapter reload`: lets a running daemon read its configuration again.

use crate::engine::control::message::{Command, Reply};

use super::Failure;
use super::args::ReloadArgs;
use super::control;

/// Prints what has changed; a failure where the configuration will not do, and then nothing has.
pub(super) fn run(args: &ReloadArgs) -> Result<(), Failure> {
    match control::ask(args.control.as_deref(), &Command::Reload)? {
        Reply::Done { text } => control::print(&text),
        Reply::Refused { reason } => Err(Failure::Configuration(reason)),
        _ => Err(control::not_understood()),
    }
}
