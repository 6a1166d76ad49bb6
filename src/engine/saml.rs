//! The loopback listener to which the browser brings the SAML id.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::fortivpn::saml::{self, Answer};

/// Connections at a time; a browser opens two or three.
const CONNECTIONS: usize = 16;
/// A request head may have this many octets.
const HEAD_BYTES: usize = 16 << 10;
/// A connection may last this long.
const LIFETIME: Duration = Duration::from_secs(5);

/// One browser connection.
#[derive(Debug)]
struct Visitor {
    stream: TcpStream,
    head: Vec<u8>,
    answer: Vec<u8>,
    written: usize,
    deadline: Duration,
}

/// The listener and its connections.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    visitors: Vec<Option<Visitor>>,
    first_token: usize,
}

impl Listener {
    /// Starts to listen on `address`.
    pub fn bind(address: SocketAddr, first_token: usize, registry: &Registry) -> io::Result<Self> {
        let mut listener = TcpListener::bind(address)?;
        registry.register(&mut listener, Token(first_token), Interest::READABLE)?;
        let visitors = std::iter::repeat_with(|| None).take(CONNECTIONS).collect();
        Ok(Self { listener, visitors, first_token })
    }

    /// An event for `token`; a valid SAML id, if one came.
    pub fn handle_event(&mut self, now: Duration, token: usize, registry: &Registry) -> Option<String> {
        match token.checked_sub(self.first_token)? {
            0 => {
                self.accept(now, registry);
                None
            }
            index => self.serve(index - 1),
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

    fn accept(&mut self, now: Duration, registry: &Registry) {
        // Ends at WouldBlock; any other error concerns one connection that is gone already.
        while let Ok((mut stream, _)) = self.listener.accept() {
            let Some(index) = self.visitors.iter().position(Option::is_none) else { continue };
            let token = Token(self.first_token + 1 + index);
            if registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
                continue;
            }
            let visitor = Visitor {
                stream,
                head: Vec::new(),
                answer: Vec::new(),
                written: 0,
                deadline: now + LIFETIME,
            };
            if let Some(place) = self.visitors.get_mut(index) {
                *place = Some(visitor);
            }
        }
    }

    fn serve(&mut self, index: usize) -> Option<String> {
        let place = self.visitors.get_mut(index)?;
        let (open, id) = place.as_mut()?.progress();
        if !open {
            *place = None;
        }
        id
    }
}

impl Visitor {
    /// Reads and writes what is possible. False where the connection is done.
    fn progress(&mut self) -> (bool, Option<String>) {
        let mut id = None;
        while self.answer.is_empty() {
            let mut piece = [0; 2048];
            match self.stream.read(&mut piece) {
                Ok(0) => return (false, None),
                Ok(len) => self.head.extend_from_slice(piece.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (true, None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return (false, None),
            }
            if self.head.len() > HEAD_BYTES {
                return (false, None);
            }
            if let Answer::Reply { response, id: found } = saml::handle_request(&self.head) {
                self.answer = response;
                id = found;
            }
        }
        while let Some(rest) = self.answer.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return (false, id),
                Ok(len) => self.written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (true, id),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return (false, id),
            }
        }
        // The browser closes first if it can: closing with unread octets would reset the answer away.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        (false, id)
    }
}
