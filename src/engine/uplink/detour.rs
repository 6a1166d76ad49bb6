//! The way through a proxy: a socket, and the dialogue on it.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

use super::ended::Ended;
use super::proxy::{Dialogue, Refusal};
use crate::crypto::Secret;

/// One read; a proxy says little.
const READ_BYTES: usize = 4096;

/// A TCP connection to a proxy that does not lead to the gateway yet.
#[derive(Debug)]
pub struct Detour {
    stream: TcpStream,
    dialogue: Dialogue,
    /// What is being sent, and how much of it was.
    output: Option<(Secret, usize)>,
}

/// Why there is no way.
#[derive(Debug)]
pub enum Blocked {
    /// The proxy said no.
    Refused(Refusal),
    /// The connection ended.
    Ended(Ended),
}

impl From<io::Error> for Blocked {
    fn from(error: io::Error) -> Self {
        Self::Ended(Ended::Io(error))
    }
}

impl Detour {
    /// Over a socket that is connected to the proxy.
    pub fn new(stream: TcpStream, dialogue: Dialogue) -> Self {
        Self { stream, dialogue, output: None }
    }

    /// Goes on as far as the socket lets us. Gives what the gateway already said once the way is free.
    pub fn advance(&mut self) -> Result<Option<Vec<u8>>, Blocked> {
        let mut input = [0; READ_BYTES];
        loop {
            self.write()?;
            let len = match self.stream.read(&mut input) {
                Ok(0) => return Err(Blocked::Ended(Ended::Eof)),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let said = input.get(..len).unwrap_or_default();
            if let Some(rest) = self.dialogue.handle_bytes(said).map_err(Blocked::Refused)? {
                return Ok(Some(rest));
            }
        }
    }

    /// The socket, once the way is free.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn write(&mut self) -> io::Result<()> {
        loop {
            if self.output.is_none() {
                self.output = self.dialogue.poll_output().map(|bytes| (bytes, 0));
            }
            let Some((bytes, sent)) = &mut self.output else { return Ok(()) };
            let rest = bytes.expose().get(*sent..).unwrap_or_default();
            if rest.is_empty() {
                self.output = None;
                continue;
            }
            match self.stream.write(rest) {
                Ok(written) => *sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
