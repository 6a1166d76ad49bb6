//! What the service manager that started us gives, and what it wants to hear: sockets, readiness, a status line and
//! the watchdog of systemd. Without one all of this does nothing.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use sd_notify::NotifyState;
#[cfg(target_os = "linux")]
use socket2::Protocol;
use socket2::{Socket, Type};

use super::sys;

/// Sockets that were handed over will not do.
#[derive(Debug)]
pub enum HandoverError {
    /// `LISTEN_FDS` or what it announces is wrong.
    Announcement(io::Error),
    /// A descriptor is not a bound UDP socket.
    NotUdp(RawFd),
    /// A socket has a port that we do not serve.
    UnknownPort {
        /// Where it is bound.
        address: SocketAddr,
        /// The ports that we serve.
        served: [u16; 2],
    },
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announcement(error) => write!(f, "sockets of the service manager: {error}"),
            Self::NotUdp(fd) => {
                write!(f, "descriptor {fd} of the service manager is not a UDP socket (ListenDatagram=)")
            }
            Self::UnknownPort { address, served: [ike, nat] } => write!(
                f,
                "socket {address} of the service manager: its port is neither --ike-port ({ike}) nor --nat-port ({nat})"
            ),
        }
    }
}

impl std::error::Error for HandoverError {}

/// The service manager, as the event loop sees it. The default one gives nothing and is told nothing.
#[derive(Debug, Default)]
pub struct ServiceManager {
    sockets: Vec<(SocketAddr, Socket)>,
    listening: bool,
    /// Interval of signs of life, and when the next one is due.
    watchdog: Option<(Duration, Duration)>,
    /// Our own words only: a line break in it would be a message of its own.
    uplink: &'static str,
    devices: usize,
    /// The status that it knows.
    told: Option<(&'static str, usize)>,
}

impl ServiceManager {
    /// The one that the environment names, with the sockets that it hands over.
    pub fn from_environment() -> Result<Self, HandoverError> {
        let sockets = sd_notify::listen_fds().map_err(HandoverError::Announcement)?;
        Ok(Self {
            sockets: sockets.map(udp_socket).collect::<Result<_, _>>()?,
            listening: true,
            // Twice as often as asked, so that one late turn of the loop is not death.
            watchdog: sd_notify::watchdog_enabled()
                .filter(|limit| !limit.is_zero())
                .map(|limit| (limit / 2, Duration::ZERO)),
            uplink: "connecting to the gateway",
            ..Self::default()
        })
    }

    /// Takes the sockets that are bound to the ports `served`, in that order; others are an error.
    pub fn take_sockets(&mut self, served: [u16; 2]) -> Result<[Vec<Socket>; 2], HandoverError> {
        let mut taken = [Vec::new(), Vec::new()];
        for (address, socket) in self.sockets.drain(..) {
            match served.iter().zip(&mut taken).find(|(port, _)| **port == address.port()) {
                Some((_, sockets)) => sockets.push(socket),
                None => return Err(HandoverError::UnknownPort { address, served }),
            }
        }
        Ok(taken)
    }

    /// The sockets are open, or a reload is done.
    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// The configuration is read again; [`ServiceManager::ready`] follows. The time tells systemd that this is about what
    /// it asked for (Type=notify-reload).
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(time) => self.tell(&[NotifyState::Reloading, time]),
            Err(error) => log::debug!("the service manager does not hear of the reload: {error}"),
        }
    }

    /// An orderly end begins.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// How the uplink is now.
    pub fn uplink(&mut self, state: &'static str) {
        self.uplink = state;
    }

    /// A device connected.
    pub fn device_came(&mut self) {
        self.devices += 1;
    }

    /// A device that had connected is gone.
    pub fn device_left(&mut self) {
        self.devices = self.devices.saturating_sub(1);
    }

    /// When a sign of life is due.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.watchdog.map(|(_, next)| next)
    }

    /// Gives a sign of life if one is due, and the status if it is a new one.
    pub fn handle_turn(&mut self, now: Duration) {
        if !self.listening {
            return;
        }
        if let Some((interval, next)) = &mut self.watchdog
            && *next <= now
        {
            *next = now + *interval;
            self.tell(&[NotifyState::Watchdog]);
        }
        if self.told != Some((self.uplink, self.devices)) {
            self.told = Some((self.uplink, self.devices));
            self.tell(&[NotifyState::Status(&format!("{}; devices: {}", self.uplink, self.devices))]);
        }
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if self.listening
            && let Err(error) = sd_notify::notify(state)
        {
            log::debug!("the service manager does not hear us: {error}");
        }
    }
}

fn udp_socket(fd: RawFd) -> Result<(SocketAddr, Socket), HandoverError> {
    let socket = Socket::from(sys::duplicate(fd).map_err(HandoverError::Announcement)?);
    let datagrams = socket.r#type().is_ok_and(|kind| kind == Type::DGRAM);
    // Only systemd hands sockets over, and only Linux tells the protocol.
    #[cfg(target_os = "linux")]
    let datagrams = datagrams && socket.protocol().is_ok_and(|protocol| protocol == Some(Protocol::UDP));
    match socket.local_addr().ok().and_then(|address| address.as_socket()) {
        Some(address) if datagrams => Ok((address, socket)),
        _ => Err(HandoverError::NotUdp(fd)),
    }
}
