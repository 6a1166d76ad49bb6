//! The uplink: the FortiVPN session over whatever connection it has at the moment.
//!
//! A connection is made in stages: the addresses of the gateway (or of the proxy) are looked up, [`dial`] connects to
//! one of them, [`detour`] asks the proxy for the way, and [`tls`] makes sure of the gateway. Where one stage fails, the
//! next address is tried, unless that is no matter of the address.

mod connect;
mod detour;
mod dial;
mod ended;
mod proxy;
mod tls;
mod trust;

use std::io::{self, IoSlice};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::{Registry, Token};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::base::{Now, Random, Reason};
use crate::fortivpn::{self, CloseReason, Input, Output, Session};
use crate::wire::{forti, ppp};

use super::status::Level;
use super::transport::Transport;
use super::worker::LoopWaker;
use connect::Race;
use detour::{Blocked, Detour};
use dial::Dialer;
use ended::Ended;
use proxy::{Dialogue, Refusal};
use tls::{Scratch, Tls};

/// Tokens that the uplink uses, from its first one on.
pub const TOKENS: usize = connect::LANES;
/// Time for the dialogue with a proxy: it may have to look for the gateway.
const PROXY_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a name lookup.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);
/// The clocks of a host that was not suspended differ by less than this.
const SUSPEND: Duration = Duration::from_secs(1);
/// Socket reads in one turn of the loop: a download must not starve an upload.
const READS_PER_TURN: usize = 4;

/// Answer of a lookup, with the number of the attempt that asked.
type Lookup = (u64, io::Result<Vec<SocketAddr>>);

/// Where the connection is.
enum Link {
    /// None wanted.
    Idle,
    /// Waiting for the addresses.
    Resolving { deadline: Duration },
    /// TCP connects are under way.
    Dialing(Box<Dialer>),
    /// TCP is up; a proxy is asked for the way.
    Detouring { detour: Box<Detour>, at: Place },
    /// The way is free; TLS is being set up.
    Securing { tls: Box<Tls>, at: Place },
    /// In use by the session.
    Open(Box<Tls>),
}

/// The address where something is tried, until when, and the others.
struct Place {
    dialer: Box<Dialer>,
    address: SocketAddr,
    deadline: Duration,
}

/// How the gateway is reached and recognised, with the TLS settings that follow from it.
#[derive(Debug)]
pub struct Way {
    transport: Transport,
    tls_config: Arc<ClientConfig>,
}

impl Way {
    /// Makes the TLS settings.
    pub fn new(transport: Transport) -> Result<Self, rustls::Error> {
        Ok(Self { tls_config: tls::client_config(&transport)?, transport })
    }
}

/// The session and its connection. The event loop owns it.
pub struct Uplink {
    session: Session,
    link: Link,
    /// Why the present address will not do, until `poll` goes on to the next.
    failed: Option<CloseReason>,
    way: Way,
    /// Another one, from the next connection on.
    next_way: Option<Way>,
    /// The gateway; an IPv6 address has no brackets.
    host: String,
    port: u16,
    /// Where the last good connection led.
    served: Option<SocketAddr>,
    /// The proxy refused user name and password: they are not sent again.
    bad_proxy_user: bool,
    attempt: u64,
    lookups: (Sender<Lookup>, Receiver<Lookup>),
    waker: Arc<LoopWaker>,
    first_token: Token,
    scratch: Scratch,
    /// When the last data packet left.
    last_sent: Duration,
    /// How long the host has been suspended.
    suspended: Duration,
}

impl Uplink {
    /// An uplink that has not started yet. Its sockets have [`TOKENS`] tokens from `first_token` on.
    pub fn new(
        config: fortivpn::Config,
        way: Way,
        random: Box<dyn Random>,
        waker: Arc<LoopWaker>,
        first_token: Token,
    ) -> Self {
        Self {
            way,
            next_way: None,
            host: config.host.trim_matches(['[', ']']).to_owned(),
            port: config.port,
            session: Session::new(config, random),
            link: Link::Idle,
            failed: None,
            served: None,
            bad_proxy_user: false,
            attempt: 0,
            lookups: bounded(4),
            waker,
            first_token,
            scratch: Scratch::new(),
            last_sent: Duration::ZERO,
            suspended: Duration::ZERO,
        }
    }

    /// Takes another way from the next connection on.
    pub fn set_way(&mut self, way: Way) {
        self.next_way = Some(way);
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
        let Link::Open(tls) = &mut self.link else { return Err(Reason::UplinkDown) };
        if tls.is_full() {
            return Err(Reason::UplinkFull);
        }
        self.last_sent = now.mono;
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

    /// A socket is ready.
    pub fn handle_event(&mut self, event: &mio::event::Event) {
        match &mut self.link {
            Link::Dialing(dialer) => dialer.handle_event(event.token()),
            Link::Securing { tls, .. } | Link::Open(tls) => {
                tls.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                if event.is_writable() {
                    tls.handle_writable();
                }
            }
            // `poll` looks at the socket.
            Link::Idle | Link::Resolving { .. } | Link::Detouring { .. } => {}
        }
    }

    /// When the gateway ends the session (boot clock), where that is known.
    pub fn session_ends(&self) -> Option<Duration> {
        self.session.session_ends()
    }

    /// Octets that the socket has not taken yet.
    pub fn queue(&self) -> Level {
        match &self.link {
            Link::Open(tls) => tls.queue(),
            _ => Level { used: 0, limit: tls::QUEUE_LIMIT },
        }
    }

    /// True if a read may find something.
    pub fn is_readable(&self) -> bool {
        matches!(&self.link, Link::Securing { tls, .. } | Link::Open(tls) if tls.readable)
    }

    /// Reads what the gateway sent; packets go to `sink`. At most a few reads, for fairness.
    pub fn read(&mut self, now: Now, sink: &mut dyn FnMut(&mut [u8])) {
        for _ in 0..READS_PER_TURN {
            let Self { session, link, scratch, .. } = self;
            let result = match link {
                Link::Open(tls) if tls.readable => {
                    tls.read(scratch, &mut |plaintext| session.handle_bytes(now, plaintext, sink))
                }
                // The gateway says nothing before we do.
                Link::Securing { tls, .. } if tls.readable => tls.read(scratch, &mut |_| {}),
                _ => return,
            };
            self.settle(now, result);
        }
    }

    /// Writes what waits.
    pub fn flush(&mut self) {
        if let Link::Securing { tls, .. } | Link::Open(tls) = &mut self.link {
            tls.flush();
        }
    }

    /// When `handle_timeout` or `poll` has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let link = match &self.link {
            Link::Resolving { deadline } => Some(*deadline),
            Link::Dialing(dialer) => dialer.poll_timeout(),
            Link::Detouring { at, .. } | Link::Securing { at, .. } => Some(at.deadline),
            Link::Idle | Link::Open(_) => None,
        };
        [link, self.session.poll_timeout(), self.keepalive_at()].into_iter().flatten().min()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        match &self.link {
            Link::Resolving { deadline } if *deadline <= now.mono => {
                self.link = Link::Idle;
                self.session.handle(now, Input::Closed(CloseReason::Timeout));
            }
            Link::Detouring { at, .. } | Link::Securing { at, .. } if at.deadline <= now.mono => {
                self.failed = Some(CloseReason::Timeout);
            }
            _ => {}
        }
        // The timers stood still during a suspend: the session looks at once whether its tunnel is still there.
        let suspended = now.boot.saturating_sub(now.mono);
        let resumed = suspended > self.suspended + SUSPEND;
        self.suspended = suspended;
        if resumed {
            log::info!("the host was suspended");
        }
        if resumed || self.session.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.session.handle_timeout(now);
        }
    }

    /// True once after each time without data packets that is long enough for a packet of our own.
    pub fn poll_keepalive(&mut self, now: Now) -> bool {
        let due = self.keepalive_at().is_some_and(|at| at <= now.mono);
        if due {
            self.last_sent = now.mono;
        }
        due
    }

    fn keepalive_at(&self) -> Option<Duration> {
        self.way.transport.keepalive.filter(|_| self.session.is_up()).map(|after| self.last_sent + after)
    }

    /// True if `poll` has something to do at once.
    pub fn has_work(&self) -> bool {
        self.failed.is_some() || !self.lookups.1.is_empty()
    }

    /// Carries on: takes lookups, goes through the stages, does what the session wants. Gives back what is for others.
    pub fn poll(&mut self, now: Now, registry: &Registry) -> Option<Output> {
        while let Ok((attempt, result)) = self.lookups.1.try_recv() {
            self.handle_lookup(now, attempt, result);
        }
        self.advance(now, registry);
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => {
                    self.resolve(now);
                    self.advance(now, registry);
                }
                Output::Disconnect { graceful } => self.disconnect(graceful),
                Output::Write(bytes) => self.write_control(now, &bytes),
                Output::Up(config) => {
                    self.last_sent = now.mono;
                    return Some(Output::Up(config));
                }
                other => return Some(other),
            }
        }
        None
    }

    fn resolve(&mut self, now: Now) {
        self.disconnect(false);
        if let Some(way) = self.next_way.take() {
            (self.way, self.served, self.bad_proxy_user) = (way, None, false);
        }
        self.attempt += 1;
        let proxy = self.way.transport.proxy.as_ref().map(|proxy| (proxy.host.clone(), proxy.port));
        let (host, port) = proxy.unwrap_or_else(|| (self.host.clone(), self.port));
        if !self.way.transport.addresses.is_empty() {
            let addresses =
                self.way.transport.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
            return self.dial(addresses);
        }
        self.link = Link::Resolving { deadline: now.mono + RESOLVE_TIMEOUT };
        let (attempt, answers, waker) = (self.attempt, self.lookups.0.clone(), Arc::clone(&self.waker));
        let lookup = move || {
            let result = (host, port).to_socket_addrs().map(Iterator::collect);
            // Full or closed: the loop no longer waits for this answer.
            let _ = answers.try_send((attempt, result));
            waker.wake();
        };
        if let Err(error) = thread::Builder::new().name("lookup".into()).spawn(lookup) {
            self.link = Link::Idle;
            self.session.handle(now, Input::Closed(CloseReason::Resolve(error.to_string())));
        }
    }

    fn handle_lookup(&mut self, now: Now, attempt: u64, result: io::Result<Vec<SocketAddr>>) {
        if attempt != self.attempt || !matches!(self.link, Link::Resolving { .. }) {
            return;
        }
        match result {
            Ok(addresses) => self.dial(addresses),
            Err(error) => {
                self.link = Link::Idle;
                self.session.handle(now, Input::Closed(CloseReason::Resolve(error.to_string())));
            }
        }
    }

    fn dial(&mut self, addresses: Vec<SocketAddr>) {
        let race = Race::new(addresses, self.served);
        self.link = Link::Dialing(Box::new(Dialer::new(race, self.first_token)));
    }

    /// Goes from stage to stage, as far as possible now.
    fn advance(&mut self, now: Now, registry: &Registry) {
        loop {
            let link = std::mem::replace(&mut self.link, Link::Idle);
            let result = match (link, self.failed.take()) {
                (Link::Detouring { at, .. } | Link::Securing { at, .. }, Some(reason)) => Err((at, reason)),
                (Link::Dialing(mut dialer), _) => match dialer.poll(now.mono, registry) {
                    None => {
                        self.link = Link::Dialing(dialer);
                        return;
                    }
                    Some(Ok((stream, address))) => {
                        let at = Place { dialer, address, deadline: now.mono + PROXY_TIMEOUT };
                        self.approach(now, stream, at)
                    }
                    Some(Err(reason)) => {
                        return self.session.handle(now, Input::Closed(reason));
                    }
                },
                (Link::Detouring { mut detour, at }, None) => match detour.advance() {
                    Ok(None) => {
                        self.link = Link::Detouring { detour, at };
                        return;
                    }
                    Ok(Some(early)) => self.secure(now, detour.into_stream(), &early, at),
                    Err(blocked) => Err((at, self.handle_blocked(blocked))),
                },
                (Link::Securing { tls, at }, None) if !tls.is_handshaking() => {
                    log::debug!("TLS is up with {}: {}", at.address, tls.describe());
                    self.served = Some(at.address);
                    self.link = Link::Open(tls);
                    return self.session.handle(now, Input::Connected);
                }
                (link, _) => {
                    self.link = link;
                    return;
                }
            };
            match result {
                Ok(link) => self.link = link,
                Err((_, reason)) if is_final(&reason) => {
                    return self.session.handle(now, Input::Closed(reason));
                }
                Err((mut at, reason)) => {
                    log::debug!("{}: {reason}", at.address);
                    at.dialer.handle_failed(reason);
                    self.link = Link::Dialing(at.dialer);
                }
            }
        }
    }

    /// TCP is up.
    fn approach(
        &mut self,
        now: Now,
        stream: mio::net::TcpStream,
        at: Place,
    ) -> Result<Link, (Place, CloseReason)> {
        let Some(proxy) = &self.way.transport.proxy else { return self.secure(now, stream, &[], at) };
        let dialogue = match Dialogue::new(proxy, &self.host, self.port) {
            _ if self.bad_proxy_user => Err(Refusal::BadUser),
            dialogue => dialogue,
        };
        match dialogue {
            Ok(dialogue) => Ok(Link::Detouring { detour: Box::new(Detour::new(stream, dialogue)), at }),
            Err(refusal) => Err((at, CloseReason::Refused(refusal.to_string()))),
        }
    }

    /// The way to the gateway is free.
    fn secure(
        &mut self,
        now: Now,
        stream: mio::net::TcpStream,
        early: &[u8],
        at: Place,
    ) -> Result<Link, (Place, CloseReason)> {
        let name = match &self.way.transport.server_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(self.host.clone()),
        };
        let name = match name {
            Ok(name) => name,
            Err(error) => return Err((at, CloseReason::Resolve(error.to_string()))),
        };
        let at = Place { deadline: now.mono + HANDSHAKE_TIMEOUT, ..at };
        match Tls::new(stream, early, name, Arc::clone(&self.way.tls_config)) {
            Ok(tls) => Ok(Link::Securing { tls: Box::new(tls), at }),
            Err(ended) => Err((at, self.close_reason(ended))),
        }
    }

    fn handle_blocked(&mut self, blocked: Blocked) -> CloseReason {
        match blocked {
            Blocked::Refused(refusal) => {
                self.bad_proxy_user |= refusal == Refusal::BadUser;
                CloseReason::Refused(refusal.to_string())
            }
            Blocked::Ended(ended) => self.close_reason(ended),
        }
    }

    fn disconnect(&mut self, graceful: bool) {
        self.failed = None;
        if let Link::Open(mut tls) | Link::Securing { mut tls, .. } =
            std::mem::replace(&mut self.link, Link::Idle)
            && graceful
        {
            tls.close();
        }
    }

    fn write_control(&mut self, now: Now, bytes: &[u8]) {
        if let Link::Open(tls) = &mut self.link {
            let result = tls.write(&[IoSlice::new(bytes)]);
            tls.flush();
            self.settle(now, result);
        }
    }

    /// Ends the connection where `result` says that it ended.
    fn settle(&mut self, now: Now, result: Result<(), Ended>) {
        let Err(ended) = result else { return };
        let reason = self.close_reason(ended);
        match &mut self.link {
            Link::Securing { tls, .. } => {
                tls.readable = false;
                self.failed = Some(reason);
            }
            Link::Open(_) => {
                self.link = Link::Idle;
                self.session.handle(now, Input::Closed(reason));
            }
            Link::Idle | Link::Resolving { .. } | Link::Dialing(_) | Link::Detouring { .. } => {}
        }
    }

    fn close_reason(&self, ended: Ended) -> CloseReason {
        ended.close_reason(self.way.transport.client.is_some())
    }
}

/// True where another address of the gateway would say the same.
fn is_final(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Trust(_) | CloseReason::Tls(_) | CloseReason::ClientCertificate(_))
}
