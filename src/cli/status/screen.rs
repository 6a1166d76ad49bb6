//! The terminal while pictures are shown on it, one in the place of the other.

use std::io::{self, IsTerminal, Write};

use super::picture::Picture;

/// Another screen without cursor and without line wrap, and back to how it was.
const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const CLOSE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Standard output. Put in order when dropped.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
}

impl Screen {
    /// Where standard output is a terminal, it gets a screen of its own.
    pub fn open() -> Self {
        let screen = Self { is_terminal: io::stdout().is_terminal() };
        screen.say(OPEN);
        screen
    }

    /// Shows a picture: in the place of the last one, or behind it where there is no screen.
    pub fn show(&mut self, picture: &Picture) -> io::Result<()> {
        let text = picture.text();
        let text = match self.is_terminal {
            // Each line is cleared before it is written, the last one with all below it: behind a full line the cursor
            // still stands on its last character.
            true => {
                let (above, last) = text.trim_end().rsplit_once('\n').unwrap_or_default();
                format!("\x1b[H\x1b[K{}\r\n\x1b[J{last}", above.replace('\n', "\r\n\x1b[K"))
            }
            false => text + "\n",
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn say(&self, text: &str) {
        if self.is_terminal {
            let mut out = io::stdout().lock();
            // The terminal may be gone.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.say(CLOSE);
    }
}
