//! `pterodapter demo`.

use crate::demo::{gateway, run};

use super::Failure;
use super::args::DemoArgs;

/// Runs the demonstration, or the gateway alone.
pub(super) fn run(args: DemoArgs) -> Result<(), Failure> {
    match args.gateway_only {
        Some(options) => gateway::main_from_args(options).map_err(Failure::Runtime),
        None => run::run(args.stay).map_err(|error| Failure::Runtime(error.to_string())),
    }
}
