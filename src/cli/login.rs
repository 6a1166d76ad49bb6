//! `pterodapter login`: helps a running daemon to sign in, over its control socket.

use std::io::{self, IsTerminal, Read};
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;

use crossbeam_channel::{Receiver, bounded, never, select};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zeroize::Zeroizing;

use crate::crypto::Secret;
use crate::engine::control::message::{Command, Reply, SignInState, Wanted};
use crate::engine::{Request, Uplink};

use super::Failure;
use super::args::LoginArgs;
use super::control::{self, Replies};
use super::prompt::{Prompt, Typed};
use super::terminal::{self, Input};

/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: i32 = 130;
/// What is typed or piped in has at most so many octets.
const MAX_TEXT: u64 = 32 << 10;

/// Shows what the daemon waits for, brings the answer, and stays until it has signed in.
pub(super) fn run(args: &LoginArgs) -> Result<(), Failure> {
    let from_stdin = args.text.as_deref() == Some("-");
    let given = match &args.text {
        Some(_) if from_stdin => Some(text_of_stdin()?),
        text => text.as_ref().map(|text| Secret::from(text.as_bytes())),
    };
    let stream = control::connect(args.control.as_deref())?;
    show_input_at_signals()?;
    let input = Input::open(from_stdin).filter(Input::is_terminal);
    let replies = replies(stream.try_clone().map_err(control::broken)?)?;
    let mut helper = Helper {
        stream,
        input,
        given,
        from_stdin,
        prompt: None,
        shown: None,
        is_first: true,
        retried: false,
    };
    let result = helper.serve(&replies);
    terminal::show();
    result
}

struct Helper {
    stream: UnixStream,
    /// A person at a terminal.
    input: Option<Input>,
    /// What was given with the command, until it is used.
    given: Option<Secret>,
    from_stdin: bool,
    prompt: Option<Prompt>,
    shown: Option<Wanted>,
    is_first: bool,
    retried: bool,
}

impl Helper {
    fn serve(&mut self, replies: &Receiver<Reply>) -> Result<(), Failure> {
        let mut lines = self.input.as_ref().map_or_else(never, Input::lines);
        self.send(&Command::Login)?;
        loop {
            select! {
                recv(replies) -> reply => match reply {
                    Ok(Reply::SignIn(state)) => {
                        if self.handle_state(state)? {
                            return Ok(());
                        }
                    }
                    // Answers to other commands do not come here.
                    Ok(Reply::Accepted | Reply::Status(_) | Reply::Done { .. }) => {}
                    Ok(Reply::Refused { reason }) => self.refused(reason)?,
                    Err(_) => return Err(Failure::Runtime("the daemon has ended".to_owned())),
                },
                recv(lines) -> line => match line {
                    Ok(line) => self.handle_line(line)?,
                    Err(_) => lines = never(),
                },
            }
        }
    }

    /// How the sign-in is. True if there is nothing more to do.
    fn handle_state(&mut self, state: SignInState) -> Result<bool, Failure> {
        let is_first = std::mem::take(&mut self.is_first);
        if let Some(wanted) = state.wanted {
            self.handle_wanted(wanted)?;
            return Ok(false);
        }
        terminal::show();
        (self.prompt, self.shown) = (None, None);
        match state.uplink {
            Uplink::Up => {
                let address = state.address.map(|ip| format!(", address {ip}")).unwrap_or_default();
                let how = if is_first { "no sign-in is needed" } else { "signed in" };
                terminal::say(&format!("{how}: the tunnel is up{address}\n"));
                Ok(true)
            }
            Uplink::Failed => {
                let error = state.error.unwrap_or_else(|| "the sign-in failed".to_owned());
                if is_cookie(self.given.as_ref()) {
                    self.paste_given()?;
                } else if is_first && !std::mem::replace(&mut self.retried, true) {
                    terminal::say(&format!("the last try failed: {error}\ntrying again\n"));
                    self.send(&Command::Retry)?;
                } else {
                    return Err(Failure::Runtime(error));
                }
                Ok(false)
            }
            Uplink::Stopped => Err(Failure::Runtime("the daemon is about to end".to_owned())),
            Uplink::Connecting | Uplink::Waiting | Uplink::Down => Ok(false),
        }
    }

    fn handle_wanted(&mut self, wanted: Wanted) -> Result<(), Failure> {
        if is_same(self.shown.as_ref(), &wanted) {
            return Ok(());
        }
        self.shown = Some(wanted.clone());
        match (&wanted, self.given.take()) {
            (Wanted::Link { .. }, Some(text)) => return self.send(&Command::Paste { text }),
            (_, Some(text)) if is_cookie(Some(&text)) => return self.send(&Command::Paste { text }),
            (Wanted::Question(question), Some(text)) if self.from_stdin => {
                return self.send(&Command::Answer { question: question.id, text });
            }
            (Wanted::Question(_), Some(_)) => {
                let request = Request::from(wanted);
                return Err(Failure::Runtime(format!(
                    "no link is open: {request}; answer with 'pterodapter login' or 'pterodapter login -'"
                )));
            }
            (_, None) => {}
        }
        let request = Request::from(wanted);
        if matches!(request, Request::Question(_)) && self.input.is_none() {
            return Err(Failure::Runtime(format!("{request}; answer with 'pterodapter login -'")));
        }
        terminal::show();
        let (prompt, text) =
            Prompt::show(request, self.input.as_ref(), |url| terminal::qr_code(io::stderr(), url));
        self.prompt = Some(prompt);
        terminal::say(&text);
        Ok(())
    }

    fn handle_line(&mut self, line: Secret) -> Result<(), Failure> {
        match self.prompt.as_mut().map(|prompt| prompt.handle_line(line)) {
            Some(Typed::Pasted(text)) => self.send(&Command::Paste { text }),
            Some(Typed::Answer(question, text)) => self.send(&Command::Answer { question, text }),
            Some(Typed::More(text)) => {
                terminal::say(text);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A person can try again; a command cannot.
    fn refused(&self, reason: String) -> Result<(), Failure> {
        if self.prompt.is_none() || self.input.is_none() {
            return Err(Failure::Runtime(reason));
        }
        terminal::say(&format!("{reason}; again: "));
        Ok(())
    }

    fn paste_given(&mut self) -> Result<(), Failure> {
        self.given.take().map_or(Ok(()), |text| self.send(&Command::Paste { text }))
    }

    fn send(&mut self, command: &Command) -> Result<(), Failure> {
        control::send(&mut self.stream, command)
    }
}

/// The same request, whatever time is left.
fn is_same(shown: Option<&Wanted>, wanted: &Wanted) -> bool {
    match (shown, wanted) {
        (Some(Wanted::Link { url: a, .. }), Wanted::Link { url: b, .. }) => a == b,
        (Some(shown), wanted) => shown == wanted,
        (None, _) => false,
    }
}

fn is_cookie(text: Option<&Secret>) -> bool {
    text.is_some_and(|text| text.expose().windows(10).any(|window| window == b"SVPNCOOKIE"))
}

/// All of it, without the end of the last line: cookies of some tools have several lines.
fn text_of_stdin() -> Result<Secret, Failure> {
    let mut text = Zeroizing::new(Vec::with_capacity(2 * MAX_TEXT as usize));
    let failed = |error| Failure::Runtime(format!("cannot read standard input: {error}"));
    if io::stdin().is_terminal() {
        return Err(Failure::Configuration(
            "'login -' reads a file or a pipe; at a terminal leave '-' out, and what you type is not shown"
                .to_owned(),
        ));
    }
    io::stdin().lock().take(MAX_TEXT).read_to_end(&mut text).map_err(failed)?;
    let end = text.trim_ascii_end().len();
    if end == 0 {
        return Err(Failure::Configuration("there is nothing on standard input".to_owned()));
    }
    Ok(Secret::from(text.get(..end).unwrap_or_default()))
}

fn replies(stream: UnixStream) -> Result<Receiver<Reply>, Failure> {
    let (sender, replies) = bounded(16);
    let read = move || {
        let mut replies = Replies::new(stream);
        // What a newer daemon says beyond this is not for us.
        while let Some(reply) = replies.next_known() {
            if sender.send(reply).is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("replies".to_owned()).spawn(read);
    thread.map_err(|error| Failure::Runtime(format!("cannot start a thread: {error}")))?;
    Ok(replies)
}

/// Ctrl-C must not leave a terminal that shows nothing.
fn show_input_at_signals() -> Result<(), Failure> {
    let failed = |error| Failure::Runtime(format!("cannot catch signals: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let wait = move || {
        if signals.forever().next().is_some() {
            terminal::show();
            process::exit(INTERRUPTED);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop).map_err(failed)
}
