//! The company network behind the gateway.

mod builtin;
mod datagram;
mod dns;
mod service;
#[cfg(target_os = "linux")]
mod tun;

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::frame::Frames;
use super::kick::Kick;
use super::ppp::IPV4;
use super::scenario::Scenario;
use builtin::Builtin;

/// The company network behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FarSide {
    /// 10.77.0.0/16 in user space. Every address answers ICMP echo, UDP and TCP echo (7), a byte source (TCP 9001:
    /// send a big-endian count of 8 octets, get as many) and a byte sink (TCP 9002: send until FIN, get the count);
    /// 10.77.0.53 is a DNS server for `corp.example` and 10.77.0.80 serves HTTP (`/` and `/bytes/N`).
    Builtin,
    /// Every packet comes back from where it was sent to: source and destination change places.
    Reflect,
    /// A tun device of this name (Linux, root): packets of clients come out of it, packets for them go in.
    Tun {
        /// The name of the device; made when it does not exist.
        name: String,
    },
}

/// What all tunnels share of the far side.
pub(super) enum FarSides {
    /// One stack per client address, so that its TCP connections survive a new tunnel.
    Builtin(Mutex<HashMap<Ipv4Addr, Arc<Mutex<Builtin>>>>),
    Reflect,
    #[cfg(target_os = "linux")]
    Tun(tun::Device),
}

impl FarSides {
    pub(super) fn open(far_side: &FarSide) -> io::Result<Self> {
        match far_side {
            FarSide::Builtin => Ok(Self::Builtin(Mutex::default())),
            FarSide::Reflect => Ok(Self::Reflect),
            #[cfg(target_os = "linux")]
            FarSide::Tun { name } => tun::Device::open(name).map(Self::Tun),
            #[cfg(not(target_os = "linux"))]
            FarSide::Tun { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The network as the tunnel of `client` sees it; `kick` wakes that tunnel.
    #[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "only a device wakes tunnels"))]
    pub(super) fn attach(&self, client: Ipv4Addr, scenario: &Scenario, kick: &Arc<Kick>) -> Network {
        match self {
            Self::Builtin(stacks) => {
                let mut stacks = stacks.lock().unwrap_or_else(PoisonError::into_inner);
                let stack = stacks.entry(client).or_insert_with(|| Arc::new(Mutex::new(Builtin::new())));
                stack.lock().unwrap_or_else(PoisonError::into_inner).set_scenario(scenario);
                Network::Builtin(stack.clone())
            }
            Self::Reflect => Network::Reflect,
            #[cfg(target_os = "linux")]
            Self::Tun(device) => Network::Tun(device.attach(client, kick.clone())),
        }
    }

    /// Ends the threads of the far side.
    pub(super) fn stop(&self) {
        #[cfg(target_os = "linux")]
        if let Self::Tun(device) = self {
            device.stop();
        }
    }
}

/// The far side for one tunnel.
pub(super) enum Network {
    Builtin(Arc<Mutex<Builtin>>),
    Reflect,
    #[cfg(target_os = "linux")]
    Tun(tun::Port),
}

impl Network {
    /// Takes an IP packet from the client; answers may be appended at once.
    pub fn handle_packet(&mut self, now: Duration, packet: &[u8], out: &mut Frames) {
        match self {
            Self::Builtin(stack) => {
                stack.lock().unwrap_or_else(PoisonError::into_inner).handle_packet(now, packet, out);
            }
            Self::Reflect if packet.len() >= 20 => out.push_with(IPV4, packet.len(), |reflected| {
                reflected.copy_from_slice(packet);
                reflected[12..16].copy_from_slice(&packet[16..20]);
                reflected[16..20].copy_from_slice(&packet[12..16]);
            }),
            Self::Reflect => {}
            #[cfg(target_os = "linux")]
            Self::Tun(port) => port.handle_packet(packet),
        }
    }

    /// Appends packets for the client while there are fewer than `limit` octets.
    pub fn poll(&mut self, now: Duration, out: &mut Frames, limit: usize) {
        match self {
            Self::Builtin(stack) => {
                stack.lock().unwrap_or_else(PoisonError::into_inner).poll(now, out, limit);
            }
            Self::Reflect => {}
            #[cfg(target_os = "linux")]
            Self::Tun(port) => port.poll(out, limit),
        }
    }

    /// How long until [`Self::poll`] has something to do.
    pub fn poll_delay(&mut self, now: Duration) -> Option<Duration> {
        match self {
            Self::Builtin(stack) => stack.lock().unwrap_or_else(PoisonError::into_inner).poll_delay(now),
            Self::Reflect => None,
            #[cfg(target_os = "linux")]
            Self::Tun(port) => port.poll_delay(),
        }
    }

    /// The tunnel is gone.
    pub fn detach(&mut self) {
        #[cfg(target_os = "linux")]
        if let Self::Tun(port) = self {
            port.detach();
        }
    }
}
