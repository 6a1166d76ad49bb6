//! `pterodapter status`: how a running daemon is, once or every second.

mod picture;
mod screen;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use crate::engine::Status;
use crate::engine::control::message::{Command, Reply};

use super::Failure;
use super::control;
use super::terminal;
use picture::{Look, picture};
use screen::Screen;

/// Between two pictures.
const EVERY: Duration = Duration::from_secs(1);

/// The options of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// One JSON object instead of text for people
    #[arg(long)]
    pub json: bool,

    /// Again every second, until Ctrl-C; with --json one line each
    #[arg(long)]
    pub watch: bool,

    /// The control socket of the daemon
    #[arg(long, value_name = "FILE")]
    pub control: Option<PathBuf>,
}

/// Shows how the daemon is.
pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    if args.watch {
        return watch(args);
    }
    let status = fetch(args.control.as_deref())?;
    let text = match args.json {
        true => json(&status)?,
        false => picture(&status, None, &look(false)).text(),
    };
    written(io::stdout().write_all(text.as_bytes())).map(drop)
}

fn fetch(control: Option<&Path>) -> Result<Status, Failure> {
    match control::ask(control, &Command::Status)? {
        Reply::Status(status) => Ok(*status),
        Reply::Refused { reason } => Err(Failure::Runtime(reason)),
        _ => Err(control::not_understood()),
    }
}

fn json(status: &Status) -> Result<String, Failure> {
    let mut line = serde_json::to_string(status).map_err(|error| Failure::Runtime(error.to_string()))?;
    line.push('\n');
    Ok(line)
}

/// What suits standard output.
fn look(is_watching: bool) -> Look {
    let out = io::stdout();
    let size = terminal::size(&out);
    Look {
        width: size.map_or(80, |(columns, _)| columns),
        height: size.map(|(_, lines)| lines).filter(|_| is_watching),
        colour: terminal::is_coloured(&out),
        is_watching,
    }
}

/// False where nobody reads any more: that is no failure.
fn written(result: io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Runtime(format!("standard output: {error}"))),
    }
}

/// One picture after another. A daemon that is away may come back.
fn watch(args: &StatusArgs) -> Result<(), Failure> {
    let signals = signals().map_err(|error| Failure::Runtime(format!("cannot catch signals: {error}")))?;
    let mut screen = (!args.json).then(Screen::open);
    let (mut before, mut told) = (None, None);
    loop {
        let fetched = fetch(args.control.as_deref());
        if let Err(failure @ Failure::Permission(_)) = fetched {
            return Err(failure);
        }
        let shown = match (&mut screen, &fetched) {
            (Some(screen), Ok(status)) => screen.show(&picture(status, before.as_ref(), &look(true))),
            (Some(screen), Err(failure)) => screen.show(&picture::absent(failure.parts().1, &look(true))),
            (None, Ok(status)) => io::stdout().write_all(json(status)?.as_bytes()),
            (None, Err(failure)) => {
                let text = failure.parts().1.to_owned();
                if told.as_ref() != Some(&text) {
                    terminal::say(&format!("pterodapter: {text}\n"));
                }
                told = Some(text);
                Ok(())
            }
        };
        if !written(shown)? {
            return Ok(());
        }
        if let Ok(status) = fetched {
            (before, told) = (Some(status), None);
        }
        match signals.recv_timeout(EVERY) {
            Ok(SIGWINCH) | Err(RecvTimeoutError::Timeout) => {}
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Signals that end us or change the size of the terminal, so that the terminal is put in order first.
fn signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGWINCH])?;
    let (sender, receiver) = bounded(16);
    let forward = move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(forward)?;
    Ok(receiver)
}
