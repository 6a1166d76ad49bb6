//! Whoever sits at the terminal of the daemon, or at the other end of its standard input.

use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, never, select};

use crate::crypto::Secret;
use crate::engine::{Request, Submission, Submitter};

use super::prompt::{Prompt, Typed};
use super::terminal::{self, Input};

/// The console of a running daemon.
#[derive(Debug)]
pub struct Console {
    /// What people have to do, from the engine.
    pub requests: Receiver<Option<Request>>,
    /// The way back.
    pub submitter: Submitter,
    /// Where they type.
    pub input: Option<Input>,
    /// Open links in the browser of the desktop.
    pub open_browser: bool,
}

impl Console {
    /// Serves in a thread that ends with the daemon.
    pub fn start(self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("console".to_owned()).spawn(move || self.run())
    }

    fn run(self) {
        let mut lines = self.input.as_ref().map_or_else(never, Input::lines);
        let mut prompt = None;
        loop {
            select! {
                recv(self.requests) -> request => match request {
                    Ok(request) => self.handle_request(request, &mut prompt),
                    Err(_) => break,
                },
                recv(lines) -> line => match line {
                    Ok(line) => self.handle_line(line, prompt.as_mut()),
                    Err(_) => lines = never(),
                },
            }
        }
        terminal::show();
    }

    fn handle_request(&self, request: Option<Request>, prompt: &mut Option<Prompt>) {
        terminal::show();
        let Some(request) = request else {
            *prompt = None;
            return;
        };
        if let (Request::Link { url, .. }, true) = (&request, self.open_browser) {
            open_browser(url);
        }
        let (shown, text) =
            Prompt::show(request, self.input.as_ref(), |url| terminal::qr_code(io::stderr(), url));
        *prompt = Some(shown);
        if io::stderr().is_terminal() {
            terminal::say(&text);
        }
    }

    fn handle_line(&self, line: Secret, prompt: Option<&mut Prompt>) {
        let typed = match prompt {
            Some(prompt) => prompt.handle_line(line),
            None if line.is_empty() => return,
            None if line.expose().trim_ascii() == b"retry" => {
                return self.submitter.submit(Submission::Retry);
            }
            None => Typed::Pasted(line),
        };
        match typed {
            Typed::Pasted(text) => self.submitter.submit(Submission::Pasted(text)),
            Typed::Answer(question, text) => self.submitter.submit(Submission::Typed { question, text }),
            Typed::More(text) => terminal::say(text),
        }
    }
}

/// Opens the link in the browser of the desktop, if there is one. Ctrl-C at our terminal is not for the browser.
fn open_browser(url: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else if ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some()) {
        "xdg-open"
    } else {
        return log::warn!(
            "--open-browser: there is no desktop here (neither DISPLAY nor WAYLAND_DISPLAY is set)"
        );
    };
    let child = Command::new(program)
        .arg(url)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let wait = |mut child: std::process::Child| {
        move || match child.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => log::warn!("--open-browser: {program} failed ({status})"),
            Err(error) => log::warn!("--open-browser: {error}"),
        }
    };
    let result = child.and_then(|child| thread::Builder::new().name("browser".to_owned()).spawn(wait(child)));
    if let Err(error) = result {
        log::warn!("--open-browser: cannot run {program}: {error}");
    }
}
