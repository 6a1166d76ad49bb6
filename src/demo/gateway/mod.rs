//! A FortiGate's SSL VPN for tests and for `pterodapter demo`: TLS, the login pages, the tunnel, and a small company
//! network behind it. It shows on request what real gateways show on bad days ([`Scenario`]) and keeps a [`Event`]
//! journal.
//!
//! It shares no state code with the client that it tests, so that a mistake does not meet its mirror image.

mod answer;
mod certificate;
mod command;
mod connection;
mod factor;
mod far_side;
mod frame;
mod http;
mod journal;
mod kick;
mod live;
mod pages;
mod ppp;
mod records;
mod round;
mod scenario;
mod session;
mod tls;
mod tunnel;

pub use certificate::{CertificateKind, ServerCertificate};
pub use command::{Options, main_from_args, parse_far_side, parse_user, run};
pub use factor::{Decision, Factor, Step};
pub use far_side::FarSide;
pub use frame::frame;
pub use journal::{Counts, Entry, Event, FactorOutcome, LoginOutcome, RequestHead, TunnelEnd};

pub use scenario::{
    Acks, AnswerFault, ClientCertificate, CloseStyle, CookieStyle, DenyMode, DnsOffer, Echo, Fault,
    FormStyle, Framing, Handshake, HostCheck, IdentityProvider, Ipv6Offer, Magic, Moment, Mru, Order,
    PppKnobs, Scenario, SecondTunnel, TlsKnobs,
};
pub use session::User;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use far_side::{FarSides, Network};
use journal::Journal;
use kick::Kick;
use live::Live;
use mio::{Events, Interest, Poll, Token, Waker};
use session::Sessions;

use crate::base::Random;
use crate::crypto::SystemRandom;

/// Connections served at the same time; more are closed at once.
const CONNECTIONS: usize = 256;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What a gateway is made of.
#[derive(Clone)]
pub struct GatewayConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate chain, end entity first.
    pub chain_pem: String,
    /// The key of the end entity.
    pub key_pem: String,
    /// The accounts.
    pub users: Vec<User>,
    /// The behaviour at the start.
    pub scenario: Scenario,
    /// The network behind.
    pub far_side: FarSide,
}

/// A running gateway; it stops when dropped.
pub struct Gateway {
    shared: Arc<Shared>,
    addr: SocketAddr,
    waker: Waker,
    acceptor: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Starts the gateway. Errors of the address, of the certificate or key, and of the far side.
    pub fn start(config: GatewayConfig) -> io::Result<Self> {
        let mut listener = mio::net::TcpListener::bind(config.listen)?;
        let addr = listener.local_addr()?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), Token(1))?;
        let invalid = |e: String| io::Error::new(io::ErrorKind::InvalidInput, e);
        let certificate = ServerCertificate::from_pem(&config.chain_pem, &config.key_pem).map_err(invalid)?;
        let live = Live::new(config.scenario, &certificate, None);
        live.tls.as_ref().map_err(|e| invalid(e.clone()))?;
        let shared = Arc::new(Shared {
            live: Mutex::new(Arc::new(live)),
            certificate,
            far_sides: FarSides::open(&config.far_side)?,
            users: config.users,
            sessions: Mutex::default(),
            journal: Journal::default(),
            started: clock(),
            restart: Mutex::default(),
            lives: Arc::default(),
        });
        let for_acceptor = shared.clone();
        let acceptor = std::thread::Builder::new()
            .name("gateway".into())
            .spawn(move || accept(&for_acceptor, poll, listener, addr))?;
        Ok(Self { shared, addr, waker, acceptor: Some(acceptor) })
    }

    /// The address that clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What has happened so far.
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.journal.entries()
    }

    /// Changes the behaviour. Tunnels that are up keep theirs; TLS changes with the next connection, pages with the
    /// next request.
    pub fn set_scenario(&self, scenario: Scenario) {
        let mut live = self.shared.live.lock().unwrap_or_else(PoisonError::into_inner);
        *live = Arc::new(Live::new(scenario, &self.shared.certificate, Some(&live)));
    }

    /// The behaviour now.
    pub fn scenario(&self) -> Scenario {
        self.shared.scenario().scenario.clone()
    }

    /// Drops all tunnels. Sessions end with a Terminate-Request; otherwise `Scenario::reuse` decides.
    pub fn kick_tunnels(&self, style: CloseStyle) {
        self.shared.sessions().tunnels().for_each(|tunnel| tunnel.drop_tunnel(style));
    }

    /// Tells all tunnels to do something.
    pub fn order_tunnels(&self, order: &Order) {
        self.shared.sessions().tunnels().for_each(|tunnel| tunnel.order(order.clone()));
    }

    /// Breaks all connections, listens no more for `downtime`, and comes back without any session.
    pub fn restart(&self, downtime: Duration) {
        *self.shared.restart.lock().unwrap_or_else(PoisonError::into_inner) = Some(downtime);
        // Without a waker the acceptor sees it within a second.
        let _ = self.waker.wake();
    }

    /// Closes all connections and waits for the threads.
    pub fn stop(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        self.shared.lives.store(u32::MAX, Ordering::Relaxed);
        // Without a waker the threads see it within a second.
        let _ = self.waker.wake();
        self.shared.sessions().tunnels().for_each(|tunnel| tunnel.wake());
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.shared.far_sides.stop();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

/// What the threads of a gateway share.
struct Shared {
    live: Mutex<Arc<Live>>,
    certificate: ServerCertificate,
    far_sides: FarSides,
    users: Vec<User>,
    sessions: Mutex<Sessions>,
    journal: Journal,
    started: Instant,
    /// A restart that is wanted, and how long it takes.
    restart: Mutex<Option<Duration>>,
    /// Counts restarts; the end is the last number.
    lives: Arc<AtomicU32>,
}

/// The time between two restarts of the gateway.
struct Life {
    lives: Arc<AtomicU32>,
    number: u32,
}

impl Life {
    /// Whether everything of this life has to end.
    fn is_over(&self) -> bool {
        self.lives.load(Ordering::Relaxed) != self.number
    }
}

impl Shared {
    /// Time since the start.
    fn now(&self) -> Duration {
        clock().duration_since(self.started)
    }

    fn is_stopping(&self) -> bool {
        self.lives.load(Ordering::Relaxed) == u32::MAX
    }

    fn life(&self) -> Life {
        Life { number: self.lives.load(Ordering::Relaxed), lives: self.lives.clone() }
    }

    /// Ends all connections and forgets all sessions.
    fn begin_restart(&self) {
        // Never the last number.
        let next = |lives: u32| (lives != u32::MAX).then(|| (lives + 1) % u32::MAX);
        let _ = self.lives.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let mut sessions = self.sessions();
        sessions.tunnels().for_each(|tunnel| tunnel.drop_tunnel(CloseStyle::Reset));
        sessions.forget();
    }

    fn scenario(&self) -> Arc<Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: Event) {
        self.journal.note(self.now(), event);
    }

    fn network(&self, client: Ipv4Addr, scenario: &Scenario, kick: &Arc<Kick>) -> Network {
        self.far_sides.attach(client, scenario, kick)
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        SystemRandom::new().fill(&mut bytes);
        bytes
    }

    /// A cookie of the form that FortiOS gives: like Base64, with an escaped line feed at the end.
    fn cookie(&self, length: usize) -> String {
        const END: &str = "+/==%0a";
        let mut octets = vec![0; length.saturating_sub(END.len())];
        SystemRandom::new().fill(&mut octets);
        let letters = octets.iter().map(|octet| char::from(ALPHABET[usize::from(octet & 63)]));
        letters.chain(END.chars()).collect()
    }

    /// An unguessable word of hexadecimal digits.
    fn token(&self) -> String {
        self.random::<16>().iter().map(|octet| format!("{octet:02x}")).collect()
    }
}

fn accept(shared: &Arc<Shared>, mut poll: Poll, mut listener: mio::net::TcpListener, addr: SocketAddr) {
    let mut events = Events::with_capacity(8);
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !shared.is_stopping() {
        let _ = poll.poll(&mut events, Some(Duration::from_secs(1)));
        let restart = shared.restart.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(downtime) = restart {
            drop(listener);
            shared.begin_restart();
            match listen_again(shared, &poll, addr, downtime) {
                Some(again) => listener = again,
                None => break,
            }
            shared.note(Event::Restarted);
        }
        while let Ok((stream, peer)) = listener.accept() {
            threads.retain(|thread| !thread.is_finished());
            if threads.len() >= CONNECTIONS {
                continue;
            }
            shared.note(Event::Accepted(peer));
            let shared = shared.clone();
            let serve = move || connection::serve(&shared, stream.into(), peer);
            threads.extend(std::thread::Builder::new().name("gateway-client".into()).spawn(serve));
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Listens on `addr` after `downtime`; `None` when the gateway stops.
fn listen_again(
    shared: &Shared,
    poll: &Poll,
    addr: SocketAddr,
    downtime: Duration,
) -> Option<mio::net::TcpListener> {
    const TICK: Duration = Duration::from_millis(10);
    let until = shared.now() + downtime;
    while !shared.is_stopping() {
        std::thread::sleep(TICK);
        if shared.now() >= until
            && let Ok(mut listener) = mio::net::TcpListener::bind(addr)
            && poll.registry().register(&mut listener, Token(0), Interest::READABLE).is_ok()
        {
            return Some(listener);
        }
    }
    None
}

#[expect(
    clippy::disallowed_methods,
    reason = "the double is a peer of the engine and has a clock of its own"
)]
fn clock() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
