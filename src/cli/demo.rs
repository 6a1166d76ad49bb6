//! `pterodapter demo`.

use crate::demo::gateway;
use crate::demo::run::{self, DemoOptions};

use super::Failure;
use super::args::DemoArgs;

/// Runs the demonstration, or the gateway alone.
pub(super) fn run(args: DemoArgs) -> Result<(), Failure> {
    match args.gateway_only {
        Some(options) => gateway::main_from_args(options).map_err(Failure::Runtime),
        None => run::run(DemoOptions { stay: args.stay, ..DemoOptions::default() })
            .map_err(|error| Failure::Runtime(error.to_string())),
    }
}
