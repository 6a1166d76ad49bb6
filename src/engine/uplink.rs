//! The uplink: the FortiVPN session over whatever TLS connection it has at the moment.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Interest, Registry, Token};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::base::{Now, Random, Reason};
use crate::fortivpn::{self, CloseReason, Input, Output, Session};
use crate::wire::{forti, ppp};

use super::tls::{Ended, Scratch, Tls};
use super::worker::LoopWaker;

/// Time for a TCP connect to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a name lookup.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);
/// Socket reads in one turn of the loop: a download must not starve an upload.
const READS_PER_TURN: usize = 4;

/// Answer of a lookup, with the number of the attempt that asked.
type Lookup = (u64, io::Result<Vec<SocketAddr>>);

/// Where the connection is.
enum Link {
    /// None wanted.
    Idle,
    /// Waiting for the addresses of the gateway.
    Resolving { deadline: Duration },
    /// TCP and TLS are being set up; `rest` are the addresses not tried yet.
    Connecting { tls: Box<Tls>, rest: VecDeque<SocketAddr>, deadline: Duration },
    /// In use by the session.
    Open { tls: Box<Tls> },
}

/// The session and its connection. The event loop owns it.
pub struct Uplink {
    session: Session,
    link: Link,
    tls_config: Arc<ClientConfig>,
    host: String,
    port: u16,
    attempt: u64,
    lookups: (Sender<Lookup>, Receiver<Lookup>),
    waker: Arc<LoopWaker>,
    token: Token,
    scratch: Scratch,
}

impl Uplink {
    /// An uplink that has not started yet. `token` is what the poll calls its socket.
    pub fn new(
        config: fortivpn::Config,
        tls_config: Arc<ClientConfig>,
        random: Box<dyn Random>,
        waker: Arc<LoopWaker>,
        token: Token,
    ) -> Self {
        Self {
            host: config.host.clone(),
            port: config.port,
            session: Session::new(config, random),
            link: Link::Idle,
            tls_config,
            attempt: 0,
            lookups: bounded(4),
            waker,
            token,
            scratch: Scratch::new(),
        }
    }

    /// An event for the session.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.session.handle(now, input);
    }

    /// Sends frames: each piece is a frame header and a packet. Gives the reason where they are dropped instead.
    pub fn send(&mut self, now: Now, frames: &[IoSlice<'_>]) -> Result<(), Reason> {
        if !self.session.is_up() {
            return Err(Reason::UplinkDown);
        }
        let Link::Open { tls } = &mut self.link else { return Err(Reason::UplinkDown) };
        if tls.is_full() {
            return Err(Reason::UplinkFull);
        }
        let result = tls.write(frames);
        self.settle(now, result);
        Ok(())
    }

    /// Sends one packet that has no room for a header in front.
    pub fn send_packet(&mut self, now: Now, packet: &[u8]) -> Result<(), Reason> {
        let mut header = [0; forti::DATA_HEADER_LEN];
        forti::emit_header(&mut header, ppp::protocol::IPV4, packet.len());
        self.send(now, &[IoSlice::new(&header), IoSlice::new(packet)])
    }

    /// The socket is ready.
    pub fn handle_event(&mut self, now: Now, event: &mio::event::Event) {
        let result = match &mut self.link {
            Link::Connecting { tls, .. } | Link::Open { tls } => {
                tls.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                if event.is_writable() { tls.handle_writable() } else { Ok(()) }
            }
            Link::Idle | Link::Resolving { .. } => return,
        };
        self.settle(now, result);
    }

    /// True if a read may find something.
    pub fn is_readable(&self) -> bool {
        matches!(&self.link, Link::Connecting { tls, .. } | Link::Open { tls } if tls.readable)
    }

    /// Reads what the gateway sent; packets go to `sink`. At most a few reads, for fairness.
    pub fn read(&mut self, now: Now, sink: &mut dyn FnMut(&mut [u8])) {
        for _ in 0..READS_PER_TURN {
            let Self { session, link, scratch, .. } = self;
            let result = match link {
                Link::Open { tls } if tls.readable => {
                    tls.read(scratch, &mut |plaintext| session.handle_bytes(now, plaintext, sink))
                }
                Link::Connecting { tls, .. } if tls.readable => tls.read(scratch, &mut |_| {}),
                _ => return,
            };
            self.settle(now, result);
        }
    }

    /// Writes what waits.
    pub fn flush(&mut self, now: Now) {
        let result = match &mut self.link {
            Link::Connecting { tls, .. } | Link::Open { tls } => tls.flush(),
            Link::Idle | Link::Resolving { .. } => return,
        };
        self.settle(now, result);
    }

    /// When `handle_timeout` has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let deadline = match &self.link {
            Link::Resolving { deadline } | Link::Connecting { deadline, .. } => Some(*deadline),
            Link::Idle | Link::Open { .. } => None,
        };
        [deadline, self.session.poll_timeout()].into_iter().flatten().min()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now, registry: &Registry) {
        match &self.link {
            Link::Resolving { deadline } if *deadline <= now.mono => {
                self.link = Link::Idle;
                self.session.handle(now, Input::Closed(CloseReason::Timeout));
            }
            Link::Connecting { deadline, .. } if *deadline <= now.mono => {
                self.try_next(now, registry, CloseReason::Timeout);
            }
            _ => {}
        }
        if self.session.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.session.handle_timeout(now);
        }
    }

    /// True if a lookup has answered.
    pub fn has_lookup(&self) -> bool {
        !self.lookups.1.is_empty()
    }

    /// Carries on: takes lookups, follows the handshake, does what the session wants. Gives back what is for others.
    pub fn poll(&mut self, now: Now, registry: &Registry) -> Option<Output> {
        while let Ok((attempt, result)) = self.lookups.1.try_recv() {
            self.handle_lookup(now, registry, attempt, result);
        }
        self.finish_handshake(now, registry);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => self.resolve(now),
                Output::Disconnect { graceful } => self.disconnect(graceful),
                Output::Write(bytes) => self.write_control(now, &bytes),
                other => return Some(other),
            }
        }
        None
    }

    fn resolve(&mut self, now: Now) {
        self.disconnect(false);
        self.attempt += 1;
        self.link = Link::Resolving { deadline: now.mono + RESOLVE_TIMEOUT };
        let (attempt, answers, waker) = (self.attempt, self.lookups.0.clone(), Arc::clone(&self.waker));
        let target = (self.host.trim_matches(['[', ']']).to_owned(), self.port);
        let lookup = move || {
            let result = target.to_socket_addrs().map(Iterator::collect);
            // Full or closed: the loop no longer waits for this answer.
            let _ = answers.try_send((attempt, result));
            waker.wake();
        };
        if let Err(error) = thread::Builder::new().name("lookup".into()).spawn(lookup) {
            self.link = Link::Idle;
            self.session.handle(now, Input::Closed(CloseReason::Resolve(error.to_string())));
        }
    }

    fn handle_lookup(
        &mut self,
        now: Now,
        registry: &Registry,
        attempt: u64,
        result: io::Result<Vec<SocketAddr>>,
    ) {
        if attempt != self.attempt || !matches!(self.link, Link::Resolving { .. }) {
            return;
        }
        self.link = Link::Idle;
        match result {
            Ok(addresses) => {
                let none = CloseReason::Resolve("the name has no address".into());
                self.connect(now, registry, addresses.into(), none);
            }
            Err(error) => self.session.handle(now, Input::Closed(CloseReason::Resolve(error.to_string()))),
        }
    }

    /// Tries the addresses in order; when none is left, the session hears `reason`.
    fn connect(
        &mut self,
        now: Now,
        registry: &Registry,
        mut addresses: VecDeque<SocketAddr>,
        mut reason: CloseReason,
    ) {
        while let Some(address) = addresses.pop_front() {
            let name = match ServerName::try_from(self.host.trim_matches(['[', ']']).to_owned()) {
                Ok(name) => name,
                Err(error) => {
                    reason = CloseReason::Resolve(error.to_string());
                    break;
                }
            };
            let connected = Tls::connect(address, name, Arc::clone(&self.tls_config)).and_then(|mut tls| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                registry.register(tls.source(), self.token, interest).map_err(Ended::Io)?;
                Ok(tls)
            });
            match connected {
                Ok(tls) => {
                    log::debug!("connecting to {address}");
                    let deadline = now.mono + CONNECT_TIMEOUT;
                    self.link = Link::Connecting { tls: Box::new(tls), rest: addresses, deadline };
                    return;
                }
                Err(ended) => reason = close_reason(ended),
            }
        }
        self.session.handle(now, Input::Closed(reason));
    }

    fn try_next(&mut self, now: Now, registry: &Registry, reason: CloseReason) {
        if let Link::Connecting { rest, .. } = std::mem::replace(&mut self.link, Link::Idle) {
            self.connect(now, registry, rest, reason);
        }
    }

    fn finish_handshake(&mut self, now: Now, registry: &Registry) {
        let Link::Connecting { tls, deadline, .. } = &mut self.link else { return };
        if let Some(reason) = tls.failed.take() {
            let fatal = matches!(reason, CloseReason::Trust(_) | CloseReason::Tls(_));
            if fatal {
                self.link = Link::Idle;
                self.session.handle(now, Input::Closed(reason));
            } else {
                self.try_next(now, registry, reason);
            }
            return;
        }
        if tls.is_connected() && !tls.deadline_extended {
            tls.deadline_extended = true;
            *deadline = now.mono + HANDSHAKE_TIMEOUT;
        }
        if tls.is_handshaking() {
            return;
        }
        if let Link::Connecting { tls, .. } = std::mem::replace(&mut self.link, Link::Idle) {
            log::debug!("TLS is up: {}", tls.describe());
            self.link = Link::Open { tls };
            self.session.handle(now, Input::Connected);
        }
    }

    fn disconnect(&mut self, graceful: bool) {
        if let Link::Open { mut tls } | Link::Connecting { mut tls, .. } =
            std::mem::replace(&mut self.link, Link::Idle)
            && graceful
        {
            tls.close();
        }
    }

    fn write_control(&mut self, now: Now, bytes: &[u8]) {
        if let Link::Open { tls } = &mut self.link {
            let result = tls.write(&[IoSlice::new(bytes)]).and_then(|()| tls.flush());
            self.settle(now, result);
        }
    }

    /// Ends the connection where `result` says that it ended.
    fn settle(&mut self, now: Now, result: Result<(), Ended>) {
        let Err(ended) = result else { return };
        match &mut self.link {
            // The next address may do; `finish_handshake` goes on.
            Link::Connecting { tls, .. } => {
                tls.readable = false;
                tls.failed = Some(close_reason(ended));
            }
            Link::Open { .. } => {
                self.link = Link::Idle;
                self.session.handle(now, Input::Closed(close_reason(ended)));
            }
            Link::Idle | Link::Resolving { .. } => {}
        }
    }
}

fn close_reason(ended: Ended) -> CloseReason {
    match ended {
        Ended::Eof => CloseReason::Eof,
        Ended::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::Reset,
            io::ErrorKind::TimedOut => CloseReason::Timeout,
            _ => CloseReason::Refused(error.to_string()),
        },
        Ended::Tls(error @ rustls::Error::InvalidCertificate(_)) => CloseReason::Trust(error.to_string()),
        Ended::Tls(error) => CloseReason::Tls(error.to_string()),
    }
}
