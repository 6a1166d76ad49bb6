//! Starting the daemon: its sockets and threads, and the handle by which others reach it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::Sender;
use mio::{Interest, Poll, Token, Waker};

use super::{EventLoop, FIRST_CONTROL, FIRST_PAGE, FIRST_UDP, NETWORK, Phase, UPLINK, WAKER};
use crate::crypto::SystemRandom;
use crate::engine::capture::{self, Captures, Sink, Target};
use crate::engine::control::{self, Control};
use crate::engine::datapath::{self, DataPath};
use crate::engine::desk::{Aids, Desk, Submission};
use crate::engine::domains::Domains;
use crate::engine::helper::Helpers;
use crate::engine::ike_thread::IkeThread;
use crate::engine::network::NetworkWatch;
use crate::engine::page::{Listener, Page};
use crate::engine::reload::{self, Reloader};
use crate::engine::service_manager::{HandoverError, ServiceManager};
use crate::engine::state::State;
use crate::engine::udp::Udp;
use crate::engine::uplink::{Uplink, Way};
use crate::engine::worker::{self, LoopWaker};
use crate::engine::{Clock, Config, Counters, SignIn};
use crate::ike;

/// Why the daemon did not start.
#[derive(Debug)]
pub enum StartError {
    /// A UDP port could not be bound.
    Bind {
        /// The address and port.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// A socket that the service manager handed over will not do.
    Handover(HandoverError),
    /// The TLS settings are not usable.
    Tls(rustls::Error),
    /// There is no control socket.
    Control(control::OpenError),
    /// There is no file for the capture.
    Capture(capture::CreateError),
    /// A thread, or the poll, could not be made.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, error } => write!(f, "cannot listen on UDP {address}: {error}"),
            Self::Handover(error) => error.fmt(f),
            Self::Tls(error) => write!(f, "cannot set up TLS: {error}"),
            Self::Control(error) => error.fmt(f),
            Self::Capture(error) => write!(f, "--pcap: {error}"),
            Self::System(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<HandoverError> for StartError {
    fn from(error: HandoverError) -> Self {
        Self::Handover(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Stops a daemon. Can be cloned and sent to where the reason to stop is seen.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Arc<LoopWaker>,
}

impl Stopper {
    /// Asks for an orderly end: Delete to every client, then Terminate and logout. Returns at once.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// Brings a daemon what its sign-in needs. Can be cloned and sent to where a person is.
#[derive(Clone, Debug)]
pub struct Submitter {
    submit: Sender<Submission>,
    waker: Arc<LoopWaker>,
}

impl Submitter {
    /// Hands it over; the log says if it was of no use. Returns at once.
    pub fn submit(&self, submission: Submission) {
        // Full or closed: nobody waits for it.
        let _ = self.submit.try_send(submission);
        self.waker.wake();
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Handle {
    stopper: Stopper,
    submitter: Submitter,
    reloader: Reloader,
    thread: JoinHandle<bool>,
    counters: Arc<Counters>,
    state: Arc<Mutex<State>>,
    addresses: [Vec<SocketAddr>; 2],
    page_addresses: Vec<SocketAddr>,
}

impl Handle {
    /// Where we serve IKE: in the order of `Config::listen`, or what the service manager gave.
    pub fn ike_addresses(&self) -> &[SocketAddr] {
        &self.addresses[0]
    }

    /// Where we serve IKE with marker, and ESP; in the same order.
    pub fn nat_addresses(&self) -> &[SocketAddr] {
        &self.addresses[1]
    }

    /// Where the local page is: those of `Config::page` that could be bound.
    pub fn page_addresses(&self) -> &[SocketAddr] {
        &self.page_addresses
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// How things were when they last changed.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A handle to stop it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// A handle to bring what a sign-in needs.
    pub fn submitter(&self) -> Submitter {
        self.submitter.clone()
    }

    /// A handle to have the configuration read again.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Waits for the end. False if that was not an orderly one.
    pub fn wait(self) -> bool {
        self.thread.join().unwrap_or(false)
    }
}

/// Binds the sockets and starts the threads. The sign-in at the FortiGate begins at once.
pub fn start(config: Config) -> Result<Handle, StartError> {
    start_under(config, ServiceManager::default())
}

/// Like `start`, but a port for which the service manager gave sockets is not bound, and it hears how we are.
pub fn start_under(config: Config, mut manager: ServiceManager) -> Result<Handle, StartError> {
    let clock = Clock::start();
    let poll = Poll::new()?;
    let waker = Arc::new(LoopWaker::new(Waker::new(poll.registry(), WAKER)?));
    let [ike_sockets, nat_sockets] =
        open_sockets(&config.listen, [config.ike_port, config.nat_port], &mut manager)?;
    let addresses = [&ike_sockets, &nat_sockets].map(|udp| udp.iter().map(Udp::local_addr).collect());
    let mut udp = ike_sockets;
    udp.extend(nat_sockets);
    for (index, udp) in udp.iter_mut().enumerate() {
        poll.registry().register(udp.source(), Token(FIRST_UDP + index), Interest::READABLE)?;
    }

    let control = open_control(&config.sign_in, &poll)?;

    let ike_config = ike::Config {
        identity: config.identity,
        pool: config.pool.network(),
        pool_prefix_len: config.pool.prefix_len(),
        policy: ike::Policy {
            unique: config.unique,
            weak_groups: config.weak_groups,
            ..ike::Policy::default()
        },
    };
    let random = || Box::new(SystemRandom::new());
    let responder = ike::Responder::new(ike_config, random(), clock.now());
    let ike = IkeThread::start(responder, clock, Arc::clone(&waker))?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = config.workers.min(cores.saturating_sub(1));
    let workers = worker::Pool::start(workers, datapath::batches(workers), &waker)?;
    log::debug!("{} workers on {cores} cores", workers.len());

    let counters = Arc::new(Counters::default());
    // A person brings one thing at a time.
    let (submit, submissions) = crossbeam_channel::bounded(16);
    let submitter = Submitter { submit, waker: Arc::clone(&waker) };
    let (to_loop, reloads) = crossbeam_channel::bounded(reload::WAITING);
    let reloader = Reloader { to_loop, waker: Arc::clone(&waker) };
    let stopper = Stopper { stop: Arc::new(AtomicBool::new(false)), waker: Arc::clone(&waker) };
    let mut data = DataPath::new(config.pool, udp, workers, Arc::clone(&counters), &config.split, random());
    let gateway = format!("{}:{}", config.uplink.host, config.uplink.port);
    let state = State::new(gateway, clock.now());
    let shown = Arc::new(Mutex::new(state.clone()));
    let way = Way::new(config.transport).map_err(StartError::Tls)?;
    let uplink = Uplink::new(config.uplink, way, random(), Arc::clone(&waker), UPLINK);
    let network = NetworkWatch::open(poll.registry(), NETWORK);
    let sign_in = config.sign_in;
    let aids = Aids { otp: sign_in.otp, otp_command: sign_in.otp_command, login_hook: sign_in.login_hook };
    let listener = Listener::bind(&config.page, FIRST_PAGE, poll.registry());
    let page_addresses = listener.addresses().to_vec();
    let mut in_tunnel = vec![IpAddr::V4(config.pool.host())];
    in_tunnel.extend(config.split.nat64.map(|prefix| IpAddr::V6(prefix.embed(config.pool.host()))));
    let page = Page::new(random().as_mut(), &page_addresses, in_tunnel);
    let mut captures = Captures::new(clock, Arc::clone(&waker));
    if let Some(path) = &config.pcap {
        // Late, so that a start that fails leaves no file behind.
        let sink = Sink::File(capture::create_file(path).map_err(StartError::Capture)?);
        captures.begin(Target::Everything, sink, &path.display().to_string())?;
        data.tap = captures.tap(&[]);
    }
    let event_loop = EventLoop {
        poll,
        clock,
        captures,
        helpers: Helpers::new(clock, Arc::clone(&waker)),
        waker,
        stop: Arc::clone(&stopper.stop),
        data,
        uplink,
        network,
        ike,
        listener,
        page,
        metrics: config.metrics,
        submissions,
        reload: config.reload,
        reloads,
        desk: Desk::new(aids),
        control,
        console: sign_in.console,
        state,
        shown: Arc::clone(&shown),
        domains: Domains::new(&config.split.tunnel_domains),
        split: config.split,
        pool: config.pool,
        counters: Arc::clone(&counters),
        manager,
        browser_missed: false,
        phase: Phase::Running,
        housekeeping: Duration::ZERO,
        summary: (Duration::ZERO, BTreeMap::new()),
    };
    let thread = thread::Builder::new().name("event-loop".into()).spawn(move || event_loop.run())?;
    Ok(Handle { stopper, submitter, reloader, thread, counters, state: shown, addresses, page_addresses })
}

fn open_control(sign_in: &SignIn, poll: &Poll) -> Result<Option<Control>, StartError> {
    let Some(path) = &sign_in.control else { return Ok(None) };
    match Control::open(path, FIRST_CONTROL, poll.registry()) {
        Ok(control) => Ok(Some(control)),
        Err(error) if sign_in.control_may_fail => {
            log::warn!("{error}");
            Ok(None)
        }
        Err(error) => Err(StartError::Control(error)),
    }
}

/// Whether UDP sockets for `ports` can be bound now; they are closed again.
pub fn try_ports(listen: &[IpAddr], ports: [u16; 2]) -> Result<(), StartError> {
    open_sockets(listen, ports, &mut ServiceManager::default()).map(drop)
}

/// The sockets for IKE, and for IKE with marker and ESP: those of the service manager, or bound on every address.
fn open_sockets(
    listen: &[IpAddr],
    ports: [u16; 2],
    manager: &mut ServiceManager,
) -> Result<[Vec<Udp>; 2], StartError> {
    let mut opened = [Vec::new(), Vec::new()];
    for (handed_over, sockets) in manager.take_sockets(ports)?.into_iter().zip(&mut opened) {
        for socket in handed_over {
            sockets.push(Udp::adopt(socket)?);
        }
    }
    let to_bind = opened.each_ref().map(Vec::is_empty);
    for address in listen {
        let mut ip = *address;
        for ((port, sockets), _) in ports.iter().zip(&mut opened).zip(to_bind).filter(|(_, wanted)| *wanted) {
            let mut result = Udp::bind(SocketAddr::new(ip, *port));
            let no_ipv6 = result.as_ref().is_err_and(|error| ip.is_ipv6() && is_family_off(error));
            if no_ipv6 && ip.is_unspecified() {
                log::warn!("IPv6 is off on this host: serving IPv4 only (0.0.0.0)");
                ip = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                result = Udp::bind(SocketAddr::new(ip, *port));
            }
            let address = SocketAddr::new(ip, *port);
            sockets.push(result.map_err(|error| StartError::Bind { address, error })?);
        }
    }
    Ok(opened)
}

fn is_family_off(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
        || error.kind() == io::ErrorKind::Unsupported
}
