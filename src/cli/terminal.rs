//! The terminal: what people type there, with and without echo, and QR codes for their phones.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, never};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use zeroize::Zeroizing;

use crate::crypto::Secret;

/// A line may have so many octets; more of it is thrown away.
const MAX_LINE: usize = 64 << 10;
/// In the background: how long until the next look whether we are in front again.
const BACKGROUND: Duration = Duration::from_millis(300);

/// The terminal whose echo is off, and how it was before. There is one terminal, so there is one of this.
static HIDDEN: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// Where people type.
#[derive(Debug)]
pub struct Input {
    file: File,
    is_terminal: bool,
}

impl Input {
    /// Standard input; or the terminal itself, where standard input was for something else.
    pub fn open(stdin_is_taken: bool) -> Option<Self> {
        let file = if !stdin_is_taken {
            File::from(io::stdin().as_fd().try_clone_to_owned().ok()?)
        } else if io::stderr().is_terminal() {
            File::open("/dev/tty").ok()?
        } else {
            return None;
        };
        let is_terminal = file.is_terminal();
        Some(Self { file, is_terminal })
    }

    /// True if a person is there.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// What is typed from now on is not shown. In the background nothing changes.
    pub fn hide(&self) {
        let Ok(mut hidden) = HIDDEN.lock() else { return };
        if !self.is_terminal || hidden.is_some() || !is_in_front(self.file.as_fd()) {
            return;
        }
        let (Ok(file), Ok(before)) = (self.file.try_clone(), tcgetattr(&self.file)) else { return };
        let mut without = before.clone();
        without.local_modes.remove(LocalModes::ECHO);
        without.local_modes.insert(LocalModes::ECHONL);
        if tcsetattr(&self.file, OptionalActions::Flush, &without).is_ok() {
            *hidden = Some((file, before));
        }
    }

    /// Lines without their ends, from a thread that reads them; the channel is disconnected at the end of the input.
    pub fn lines(&self) -> Receiver<Secret> {
        let Ok(mut file) = self.file.try_clone() else { return never() };
        let is_terminal = self.is_terminal;
        let (sender, lines) = bounded(16);
        let read = move || {
            let mut rest = Zeroizing::new(Vec::with_capacity(MAX_LINE));
            loop {
                match next_piece(&mut file, is_terminal) {
                    Ok(Some(piece)) if piece.is_empty() => break,
                    Ok(Some(piece)) => {
                        for &byte in piece.iter() {
                            if byte != b'\n' {
                                if rest.len() < MAX_LINE {
                                    rest.push(byte);
                                }
                            } else if sender.send(take_line(&mut rest)).is_err() {
                                return;
                            }
                        }
                    }
                    Ok(None) => thread::sleep(BACKGROUND),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            if !rest.is_empty() {
                // Nobody may be listening any more.
                let _ = sender.send(take_line(&mut rest));
            }
        };
        match thread::Builder::new().name("input".to_owned()).spawn(read) {
            Ok(_) => lines,
            Err(_) => never(),
        }
    }
}

fn take_line(rest: &mut Zeroizing<Vec<u8>>) -> Secret {
    let line = Secret::from(rest.strip_suffix(b"\r").unwrap_or(rest));
    rest.clear();
    line
}

/// What there is to read; `None` in the background, where reading would stop the whole process.
fn next_piece(file: &mut File, is_terminal: bool) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    poll(&mut [PollFd::new(&*file, PollFlags::IN)], None)?;
    if is_terminal && !is_in_front(file.as_fd()) {
        return Ok(None);
    }
    let mut piece = Zeroizing::new(vec![0; 4096]);
    let length = file.read(&mut piece)?;
    piece.truncate(length);
    Ok(Some(piece))
}

fn is_in_front(terminal: BorrowedFd<'_>) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
}

/// What is typed is shown again. To be called before the process ends, however it does.
pub fn show() {
    let Ok(mut hidden) = HIDDEN.lock() else { return };
    if let Some((file, before)) = hidden.take().filter(|(file, _)| is_in_front(file.as_fd())) {
        // The terminal may be gone.
        let _ = tcsetattr(&file, OptionalActions::Now, &before);
    }
}

/// Writes to standard error in one piece, so that log lines do not come between.
pub fn say(text: &str) {
    // Nobody is left to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether colours are wanted at `out`: not where it is no terminal, or where the person (no-color.org) or the kind of
/// terminal is against them.
pub fn is_coloured(out: &impl IsTerminal) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    out.is_terminal() && !no_color && std::env::var_os("TERM").is_some_and(|name| name != "dumb")
}

/// Says what is going on for longer than a moment, until this is dropped. On a terminal only.
#[derive(Debug)]
pub struct Progress {
    shown: usize,
}

impl Progress {
    /// Shows the text.
    pub fn show(text: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self { shown: 0 };
        }
        let text = format!("{text} ...");
        say(&text);
        Self { shown: text.chars().count() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown > 0 {
            // Also terminals that know no escape sequences understand this.
            say(&format!("\r{}\r", " ".repeat(self.shown)));
        }
    }
}

/// Columns and lines of the terminal at `out`.
pub fn size(out: impl AsFd) -> Option<(usize, usize)> {
    let size = tcgetwinsize(out).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0)?;
    Some((size.ws_col.into(), size.ws_row.into()))
}

/// A QR code of `text` for the terminal at `out`; `None` where it would not fit, or `out` is none.
pub fn qr_code(out: impl AsFd, text: &str) -> Option<String> {
    let (columns, _) = size(out)?;
    if std::env::var_os("TERM").is_none_or(|name| name == "dumb") {
        return None;
    }
    draw_qr_code(text, columns)
}

/// Two rows of the code in each line; black on white, whatever the terminal's colours are.
fn draw_qr_code(text: &str, columns: usize) -> Option<String> {
    let code = QrCode::new(text).ok()?.render::<Dense1x2>().build();
    let fits = code.lines().all(|line| line.chars().count() <= columns);
    fits.then(|| code.lines().map(|line| format!("\x1b[0;30;107m{line}\x1b[0m\n")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    fn text(line: Secret) -> String {
        String::from_utf8(line.expose().to_vec()).unwrap()
    }

    #[test]
    fn lines_of_a_pipe_come_one_by_one() {
        let (reader, mut writer) = io::pipe().unwrap();
        let input = Input { file: File::from(OwnedFd::from(reader)), is_terminal: false };
        let lines = input.lines();
        writer.write_all(b"one\r\ntw").unwrap();
        assert_eq!(text(lines.recv().unwrap()), "one");
        writer.write_all(b"o\n\nlast").unwrap();
        drop(writer);
        let rest: Vec<String> = lines.iter().map(text).collect();
        assert_eq!(rest, ["two", "", "last"]);
    }

    #[test]
    fn a_qr_code_is_drawn_only_where_it_fits() {
        let url = "https://vpn.example.com:10443/remote/saml/start?redirect=1";
        let code = draw_qr_code(url, 80).unwrap();
        let lines: Vec<&str> = code.lines().collect();
        assert!(lines.len() < 25 && lines.iter().all(|line| line.ends_with("\x1b[0m")), "{code}");
        assert_eq!(draw_qr_code(url, 30), None);
    }
}
