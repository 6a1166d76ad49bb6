//! `pterodapter completions`: what a shell needs to complete our command lines. Packages ship its output.

use std::io::{self, Write};

use clap::Args;
use clap_complete::Shell;

use super::{Failure, args};

/// The options of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    // In memory first: its generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::definition(), "pterodapter", &mut script);
    io::stdout().write_all(&script).map_err(|why| Failure::Runtime(format!("cannot write: {why}")))
}
