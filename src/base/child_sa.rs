//! The plain value in which `ike` and `esp` meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::crypto::{Cipher, Secret};

/// A connected device: one IKE SA lineage (it survives Child and IKE rekeys). Never reused while the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u32);

/// Where a datagram came from and how to answer it: from the same local address, through the same socket, in the
/// same form (RFC 3948).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Index of our UDP socket, as numbered by the engine.
    pub socket: u8,
    /// The local address the peer talks to; `None` where the system did not tell.
    pub local: Option<IpAddr>,
    /// The local UDP port.
    pub local_port: u16,
    /// The peer. IPv4-mapped IPv6 addresses are unmapped before they come here.
    pub remote: SocketAddr,
    /// True where IKE travels behind the four-octet non-ESP marker (port 4500).
    pub marker: bool,
}

/// One traffic selector (RFC 7296 section 3.13): inclusive ranges; protocol 0 means any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficSelector {
    /// First address.
    pub first: IpAddr,
    /// Last address, inclusive, of the same family.
    pub last: IpAddr,
    /// IP protocol, 0 = any.
    pub protocol: u8,
    /// First port, or ICMP type and code.
    pub port_first: u16,
    /// Last port, inclusive.
    pub port_last: u16,
}

/// A Child SA pair (RFC 7296 section 1.3) as negotiated: all that the data path needs to know.
#[derive(Debug)]
pub struct ChildSa {
    /// Whose it is.
    pub device: DeviceId,
    /// SPI on packets from the client to us; chosen by us, above 255, unique among live SAs.
    pub spi_in: u32,
    /// SPI on packets from us to the client.
    pub spi_out: u32,
    /// The cipher of both directions.
    pub cipher: Cipher,
    /// Key material (`cipher.keymat_len()` octets: encryption key, then the MAC's) for packets from the client.
    pub key_in: Secret,
    /// Key material for packets to the client.
    pub key_out: Secret,
    /// The client's address in the pool; its inner IPv4 address, where it uses IPv4.
    pub address: Ipv4Addr,
    /// The client's inner IPv6 address, which stands for `address` (RFC 7757); `None` where it has none.
    pub address6: Option<Ipv6Addr>,
    /// Our side of the tunnel: what the client may send to.
    pub ts_local: Vec<TrafficSelector>,
    /// The client's side: what it may send from (narrowed to its assigned addresses).
    pub ts_remote: Vec<TrafficSelector>,
    /// Where the client is now.
    pub path: Path,
    /// `spi_in` of the SA that this one replaces (rekey), if any.
    pub replaces: Option<u32>,
}
