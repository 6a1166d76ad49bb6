//! The `pterodapter` program: see the library's documentation for the map of the modules.

use std::process::ExitCode;

fn main() -> ExitCode {
    pterodapter::cli::main()
}
