//! `pterodapter reload`: lets a running daemon read its configuration again.

use std::io::{self, Write};

use crate::engine::control::message::{Command, Reply};

use super::Failure;
use super::args::ReloadArgs;
use super::control::{self, Replies};

/// Prints what has changed; a failure where the configuration will not do, and then nothing has.
pub(super) fn run(args: &ReloadArgs) -> Result<(), Failure> {
    let mut stream = control::connect(args.control.as_deref())?;
    control::send(&mut stream, &Command::Reload)?;
    match Replies::new(stream).next_known() {
        Some(Reply::Done { text }) => {
            writeln!(io::stdout(), "{text}").map_err(|why| Failure::Runtime(format!("cannot write: {why}")))
        }
        Some(Reply::Refused { reason }) => Err(Failure::Configuration(reason)),
        _ => Err(Failure::Runtime("the daemon has ended".to_owned())),
    }
}
