//! Options to settings to a running daemon.
//!
//! `args` knows what was typed, `settings` what was meant, the commands what to do with it.

mod args;
mod capture;
mod changes;
mod check;
mod completions;
mod config_file;
mod console;
mod control;
mod demo;
mod disconnect;
mod ikev2;
mod logging;
mod login;
mod prompt;
mod reconfigure;
mod reload;
mod settings;
mod setup;
mod status;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use self::args::{Command, Invocation};

/// Why the program ends without success; each has its exit code.
#[derive(Debug)]
enum Failure {
    /// Something to type is missing or wrong: 2, like what clap refuses.
    Usage(String),
    /// It broke while running: 1.
    Runtime(String),
    /// No daemon runs that could be asked: 69 (EX_UNAVAILABLE).
    NoDaemon(String),
    /// The system does not permit it: 77 (EX_NOPERM).
    Permission(String),
    /// Files or values will not do: 78 (EX_CONFIG).
    Configuration(String),
}

impl Failure {
    fn parts(&self) -> (u8, &str) {
        match self {
            Self::Usage(text) => (2, text),
            Self::Runtime(text) => (1, text),
            Self::NoDaemon(text) => (69, text),
            Self::Permission(text) => (77, text),
            Self::Configuration(text) => (78, text),
        }
    }
}

/// The program: parses the options, runs the command, returns the exit code.
pub fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let argv = match config_file::merge(&args::definition(), typed.clone()) {
        Ok(argv) => argv,
        Err(error) => return fail(&Failure::Configuration(error.to_string())),
    };
    let invocation = match args::parse(argv) {
        Ok(invocation) => invocation,
        Err(error) => return usage(&error),
    };
    let log_file = match &invocation.command {
        Command::Ikev2(args) => args.log_file.as_deref(),
        _ => None,
    };
    if let Err(text) = logging::init(invocation.log_level, log_file) {
        return fail(&Failure::Configuration(text));
    }
    let outcome = match invocation.command {
        Command::Ikev2(args) => ikev2::run(&args, typed, invocation.options),
        Command::Check(args) => check::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::Login(args) => login::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Disconnect(args) => disconnect::run(&args),
        Command::Reload(args) => reload::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// What `typed` and the configuration file say together, or in one line why they will not do.
fn read_command_line(typed: Vec<OsString>) -> Result<Invocation, String> {
    let argv = config_file::merge(&args::definition(), typed).map_err(|error| error.to_string())?;
    args::parse(argv).map_err(|error| one_line(&error.to_string()))
}

fn fail(failure: &Failure) -> ExitCode {
    let (code, text) = failure.parts();
    logging::fatal(text);
    ExitCode::from(code)
}

/// Prints help, the version, or in one line what is wrong with the command line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Without an output there is nobody to tell.
            let _ = error.print();
        }
        _ => logging::fatal(&one_line(&error.to_string())),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// What clap says in paragraphs, without its usage text: the fault, and what is similar to a wrong word.
fn one_line(report: &str) -> String {
    let mut paragraphs =
        report.split("\n\n").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let fault = paragraphs.next().unwrap_or_default();
    let similar = paragraphs
        .find_map(|text| text.strip_prefix("tip: ").filter(|tip| tip.contains("similar")).map(str::to_owned));
    let hint = similar.unwrap_or_else(|| "see --help".to_owned());
    format!("{} ({hint})", fault.strip_prefix("error: ").unwrap_or(&fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_errors_become_one_line() {
        let line = |argv: &[&str]| one_line(&args::parse(argv.iter().copied()).unwrap_err().to_string());
        assert_eq!(
            line(&["pterodapter", "ikev2", "--list-ip=::"]),
            "unexpected argument '--list-ip' found (a similar argument exists: '--listen-ip')"
        );
        assert_eq!(
            line(&["pterodapter", "stat"]),
            "there is no command 'stat'; there are ikev2, check, demo, setup, login, capture, completions, status, \
             disconnect, reload (see --help)"
        );
        assert_eq!(line(&["pterodapter", "ikev2", "--x"]), "unexpected argument '--x' found (see --help)");
        assert_eq!(
            line(&["pterodapter", "ikev2", "--key=k", "--cert=c", "--cacert=a"]),
            "the following required arguments were not provided: --destination <HOST:PORT> (see --help)"
        );
        assert_eq!(
            line(&["pterodapter", "ikev2", "--ike-port=x"]),
            "invalid value 'x' for '--ike-port <PORT>': invalid digit found in string (see --help)"
        );
    }
}
