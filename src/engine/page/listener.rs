//! The TCP listeners of the local page.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use zeroize::Zeroizing;

use super::request::MAX_REQUEST;

/// Addresses to listen on.
const LISTENERS: usize = 16;
/// Connections at a time; a browser opens two or three.
const CONNECTIONS: usize = 32;
/// Tokens that a [`Listener`] uses, from its first on.
pub const TOKENS: usize = LISTENERS + CONNECTIONS;
/// A connection lasts no longer than this.
const LIFETIME: Duration = Duration::from_secs(5);
/// Reads of what nobody wants any more, per event.
const DISCARDS: usize = 16;

/// Gives the response to what came so far, or `None` where more has to come.
pub type Answer<'a> = &'a mut dyn FnMut(&[u8]) -> Option<Vec<u8>>;

/// The listeners and their connections.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    visitors: Vec<Option<Visitor>>,
    first_token: usize,
}

/// One connection.
#[derive(Debug)]
struct Visitor {
    stream: TcpStream,
    phase: Phase,
    deadline: Duration,
}

/// What a connection is about. What a browser sends may be secret.
enum Phase {
    Reading {
        bytes: Zeroizing<Vec<u8>>,
        len: usize,
    },
    Writing {
        response: Vec<u8>,
        written: usize,
    },
    /// The answer is out. The browser closes first: closing before all of its octets are read would reset the answer away.
    Parting,
}

impl std::fmt::Debug for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Reading { .. } => "Reading",
            Self::Writing { .. } => "Writing",
            Self::Parting => "Parting",
        })
    }
}

impl Listener {
    /// Listens where that is possible, and tells the log where it is not: sign-ins have other ways.
    pub fn bind(addresses: &[SocketAddr], first_token: usize, registry: &Registry) -> Self {
        let visitors = std::iter::repeat_with(|| None).take(CONNECTIONS).collect();
        let mut listener = Self { sockets: Vec::new(), addresses: Vec::new(), visitors, first_token };
        for (index, address) in addresses.iter().take(LISTENERS).enumerate() {
            let mut address = *address;
            if address.port() == 0 {
                // All of them have the port that the system chose for the first.
                address.set_port(listener.addresses.first().map_or(0, SocketAddr::port));
            }
            if let Err(error) = listener.add(address, registry) {
                if index == 0 {
                    log::warn!(
                        "no local page on {address}: {error}; end the other program or choose another address with \
                         --saml-listen. Until then paste the address at which the browser ends"
                    );
                } else {
                    log::debug!("no local page on {address}: {error}");
                }
            }
        }
        listener
    }

    fn add(&mut self, address: SocketAddr, registry: &Registry) -> io::Result<()> {
        let mut socket = TcpListener::bind(address)?;
        registry.register(&mut socket, Token(self.first_token + self.sockets.len()), Interest::READABLE)?;
        self.addresses.push(socket.local_addr()?);
        self.sockets.push(socket);
        Ok(())
    }

    /// Where the page is.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Something happened to one of the sockets.
    pub fn handle_event(&mut self, now: Duration, token: usize, registry: &Registry, answer: Answer<'_>) {
        let Some(index) = token.checked_sub(self.first_token) else { return };
        match index.checked_sub(LISTENERS) {
            None => self.accept(now, index, registry),
            Some(place) => self.serve(place, answer),
        }
    }

    /// When `handle_timeout` has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.visitors.iter().flatten().map(|visitor| visitor.deadline).min()
    }

    /// Ends connections that took too long.
    pub fn handle_timeout(&mut self, now: Duration) {
        for place in &mut self.visitors {
            if place.as_ref().is_some_and(|visitor| visitor.deadline <= now) {
                *place = None;
            }
        }
    }

    fn accept(&mut self, now: Duration, index: usize, registry: &Registry) {
        let Some(socket) = self.sockets.get(index) else { return };
        loop {
            let mut stream = match socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(_) => return,
            };
            // The oldest has to go: whoever keeps connections open cannot keep a browser out.
            let age = |place: &Option<Visitor>| place.as_ref().map(|visitor| visitor.deadline);
            let Some((place, visitor)) = self.visitors.iter_mut().enumerate().min_by_key(|(_, p)| age(p))
            else {
                return;
            };
            let token = Token(self.first_token + LISTENERS + place);
            if registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_ok() {
                let bytes = Zeroizing::new(vec![0; MAX_REQUEST]);
                let phase = Phase::Reading { bytes, len: 0 };
                *visitor = Some(Visitor { stream, phase, deadline: now + LIFETIME });
            }
        }
    }

    fn serve(&mut self, place: usize, answer: Answer<'_>) {
        let Some(place) = self.visitors.get_mut(place) else { return };
        let Some(visitor) = place else { return };
        if visitor.progress(answer).is_err() {
            *place = None;
        }
    }
}

impl Visitor {
    /// Reads and writes what is possible. An error where the connection is done, in whatever way.
    fn progress(&mut self, answer: Answer<'_>) -> io::Result<()> {
        loop {
            match self.step(answer) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn step(&mut self, answer: Answer<'_>) -> io::Result<()> {
        match &mut self.phase {
            Phase::Reading { bytes, len } => {
                let room = bytes.get_mut(*len..).unwrap_or_default();
                match self.stream.read(room)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => *len += count,
                }
                if let Some(response) = answer(bytes.get(..*len).unwrap_or_default()) {
                    self.phase = Phase::Writing { response, written: 0 };
                }
            }
            Phase::Writing { response, written } => {
                let rest = response.get(*written..).unwrap_or_default();
                if rest.is_empty() {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.phase = Phase::Parting;
                } else {
                    *written += self.stream.write(rest)?;
                }
            }
            Phase::Parting => {
                let mut waste = [0; 4096];
                for _ in 0..DISCARDS {
                    if self.stream.read(&mut waste)? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                // Nobody has so much to say.
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }
}
