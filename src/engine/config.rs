//! What the daemon needs to run: checked values only. `cli::settings` makes one from options and files.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crossbeam_channel::Sender;

use crate::crypto::Secret;
use crate::dns::{Dns64, Suffix};
use crate::fortivpn;
use crate::ike::Identity;
use crate::nat::Prefix96;

use super::desk::Request;
use super::reload::ReloadRequest;
use super::transport::Transport;

/// Settings of one daemon.
#[derive(Debug)]
pub struct Config {
    /// Local addresses to serve; `::` serves both families.
    pub listen: Vec<IpAddr>,
    /// UDP port for IKE without marker; 0 lets the system choose.
    pub ike_port: u16,
    /// UDP port for IKE behind the non-ESP marker, and for ESP; 0 lets the system choose.
    pub nat_port: u16,
    /// Who we are towards IKEv2 clients, and whom we trust.
    pub identity: Identity,
    /// Inner addresses of the devices; the first is the in-tunnel host's.
    pub pool: Pool,
    /// Worker threads asked for; the engine starts at most one less than there are cores.
    pub workers: usize,
    /// The FortiGate and how to sign in.
    pub uplink: fortivpn::Config,
    /// How the FortiGate is reached and recognised.
    pub transport: Transport,
    /// Where the local page listens, and the browser comes back to; empty for none. Port 0 lets the system choose.
    pub page: Vec<SocketAddr>,
    /// The local page also serves `/metrics`.
    pub metrics: bool,
    /// Who helps where a sign-in needs a person.
    pub sign_in: SignIn,
    /// What takes the tunnel.
    pub split: Split,
    /// A new file for a capture of all packets, from the start.
    pub pcap: Option<PathBuf>,
    /// Gets the wish to have the configuration read again, and answers with `Reloader::finish`.
    pub reload: Option<Sender<ReloadRequest>>,
    /// An identity has one device: a new connection ends the others.
    pub unique: bool,
    /// Take 1024-bit MODP for IKE: all that Windows has by default.
    pub weak_groups: bool,
}

/// Who helps where a sign-in needs a person.
#[derive(Debug, Default)]
pub struct SignIn {
    /// A one-time code for the first question that a code answers.
    pub otp: Option<Secret>,
    /// A shell command that prints a one-time code.
    pub otp_command: Option<String>,
    /// A shell command that tells a person about the link or the question in its environment.
    pub login_hook: Option<String>,
    /// The path of the control socket.
    pub control: Option<PathBuf>,
    /// Go on without a control socket where there cannot be one.
    pub control_may_fail: bool,
    /// Gets every request to a person, and `None` when it is void: for whoever sits at the terminal.
    pub console: Option<Sender<Option<Request>>>,
}

/// What takes the tunnel: everything, unless one of these says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Clients get IPv6, and the company is reached inside this prefix.
    pub nat64: Option<Prefix96>,
    /// Domains whose names lead into the NAT64 prefix; only with `nat64`.
    pub dns64_suffixes: Vec<Suffix>,
    /// IPv4 through the tunnel is what the gateway's split-tunnel routes say.
    pub gateway_routes: bool,
    /// Names whose addresses take the tunnel: at most [`MAX_TUNNEL_DOMAINS`].
    pub tunnel_domains: Vec<Suffix>,
}

/// Names whose addresses are looked up for the clients.
pub const MAX_TUNNEL_DOMAINS: usize = 256;

impl Split {
    /// What the in-tunnel host makes of names, if it does anything to them.
    pub fn dns64(&self) -> Option<Dns64> {
        let prefix = self.nat64.filter(|_| !self.dns64_suffixes.is_empty())?;
        Some(Dns64 { prefix: prefix.octets(), suffixes: self.dns64_suffixes.clone() })
    }
}

/// Where the stand-ins for devices that speak IPv6 begin.
const SHADOWS: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 0);

/// An IPv4 network from which devices get their inner addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    network: Ipv4Addr,
    prefix_len: u8,
}

impl Pool {
    /// 198.19.255.0/24, inside the benchmarking network of RFC 2544: no company network uses it.
    pub const DEFAULT: Self = Self { network: Ipv4Addr::new(198, 19, 255, 0), prefix_len: 24 };

    /// A pool from a network address and a prefix length of 16 to 29. Host bits must be zero.
    pub fn new(network: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        let host_bits = u32::MAX.checked_shr(u32::from(prefix_len))?;
        let fits = (16..=29).contains(&prefix_len) && network.to_bits() & host_bits == 0;
        fits.then_some(Self { network, prefix_len })
    }

    /// The network address.
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The prefix length in bits.
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Number of addresses, network and broadcast address included.
    pub fn size(self) -> u32 {
        1 << (32 - u32::from(self.prefix_len))
    }

    /// The in-tunnel host: the first usable address.
    pub fn host(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    /// The stand-in for the device at `address` when it speaks IPv6: its packets are translated to IPv4 from here, so
    /// that what comes back tells which family it belongs to. Inside 240.0.0.0/4, which is never on a wire.
    pub fn shadow(self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let index = u32::try_from(self.index(address)?).ok()?;
        Some(Ipv4Addr::from_bits(SHADOWS.to_bits() + index))
    }

    /// The device's address for its `shadow`.
    pub fn unshadow(self, shadow: Ipv4Addr) -> Option<Ipv4Addr> {
        let index = shadow.to_bits().checked_sub(SHADOWS.to_bits()).filter(|index| *index < self.size())?;
        Some(Ipv4Addr::from_bits(self.network.to_bits() + index))
    }

    /// The device behind an inner address or its stand-in. Other addresses stay as they are.
    pub fn device(self, address: Ipv4Addr) -> Ipv4Addr {
        self.unshadow(address).unwrap_or(address)
    }

    /// Position of `address` in the pool, if it is in it.
    pub fn index(self, address: Ipv4Addr) -> Option<usize> {
        let offset = address.to_bits().wrapping_sub(self.network.to_bits());
        (offset < self.size()).then_some(offset as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_limits_and_positions() {
        let pool = Pool::new(Ipv4Addr::new(10, 1, 0, 0), 24).unwrap();
        assert_eq!(pool.host(), Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!(pool.index(Ipv4Addr::new(10, 1, 0, 255)), Some(255));
        assert_eq!(pool.index(Ipv4Addr::new(10, 1, 1, 0)), None);
        assert_eq!(pool.index(Ipv4Addr::new(10, 0, 255, 255)), None);
        let shadow = pool.shadow(Ipv4Addr::new(10, 1, 0, 7)).unwrap();
        assert_eq!(shadow, Ipv4Addr::new(240, 0, 0, 7));
        assert_eq!(pool.unshadow(shadow), Some(Ipv4Addr::new(10, 1, 0, 7)));
        assert_eq!(pool.unshadow(Ipv4Addr::new(240, 0, 1, 0)), None, "beyond the pool");
        assert_eq!(pool.unshadow(Ipv4Addr::new(10, 1, 0, 7)), None);
        assert_eq!([shadow, Ipv4Addr::new(10, 1, 0, 7)].map(|a| pool.device(a).octets()[3]), [7, 7]);
        assert_eq!(Pool::new(Ipv4Addr::new(10, 1, 0, 1), 24), None, "host bits");
        assert_eq!(Pool::new(Ipv4Addr::new(10, 0, 0, 0), 8), None, "too large");
    }
}
