//! Options to settings to a running daemon.

mod args;

use std::process::ExitCode;

/// The program: parses the options, runs the command, returns the exit code.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
