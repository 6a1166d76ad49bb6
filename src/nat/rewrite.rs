//! Rewriting one side of a packet, whole or quoted, in place.

use std::net::Ipv4Addr;

use crate::wire::edit::{Edit, u16_at};
use crate::wire::ip::{self, Ipv4};
use crate::wire::{icmp, tcp, udp};

/// Which address and port of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

impl Side {
    /// The other side's address.
    pub(super) fn remote(self, header: &Ipv4) -> Ipv4Addr {
        match self {
            Self::Source => header.dst,
            Self::Destination => header.src,
        }
    }
}

/// Where a transport protocol keeps what translation touches, as offsets in its header.
#[derive(Clone, Copy)]
struct Layout {
    port: usize,
    checksum: usize,
    /// The checksum covers the addresses too.
    pseudo: bool,
    /// Shortest header.
    len: usize,
}

fn layout(protocol: u8, side: Side) -> Option<Layout> {
    let port = match side {
        Side::Source => 0,
        Side::Destination => 2,
    };
    match protocol {
        ip::TCP => Some(Layout { port, checksum: tcp::CHECKSUM, pseudo: true, len: tcp::HEADER_LEN }),
        ip::UDP => Some(Layout { port, checksum: udp::CHECKSUM, pseudo: true, len: udp::HEADER_LEN }),
        ip::ICMP => {
            Some(Layout { port: icmp::ID, checksum: icmp::CHECKSUM, pseudo: false, len: icmp::HEADER_LEN })
        }
        _ => None,
    }
}

/// Octets that the transport header of `protocol` must have for translation; 0 where it is not looked at.
pub(super) fn min_len(protocol: u8) -> usize {
    layout(protocol, Side::Source).map_or(0, |layout| layout.len)
}

/// The port (ICMP: identifier) of `side` in a transport header. `None` for protocols without, and short headers.
pub(super) fn port(protocol: u8, side: Side, transport: &[u8]) -> Option<u16> {
    u16_at(transport, layout(protocol, side)?.port)
}

/// New values for one side of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) side: Side,
    pub(super) address: Ipv4Addr,
    /// `None`: the port stays.
    pub(super) port: Option<u16>,
    /// IP identification; `None`: it stays.
    pub(super) id: Option<u16>,
}

impl Change {
    /// Applies the change to `packet`, of which `header` was parsed, and brings its checksums up to date (in a quoted
    /// packet the transport checksum may be cut off). Returns all that changed, for a checksum around it.
    pub(super) fn apply(&self, packet: &mut [u8], header: &Ipv4) -> Option<Edit> {
        let mut address = Edit::default();
        let address_at = match self.side {
            Side::Source => 12,
            Side::Destination => 16,
        };
        address.replace(packet, address_at, self.address.octets())?;
        let mut covered = address;
        if let Some(id) = self.id {
            covered.replace(packet, 4, id.to_be_bytes())?;
        }
        let mut all = covered;
        all.add(covered.update(packet, 10)?);

        if header.fragment_offset != 0 {
            return Some(all);
        }
        let Some(layout) = layout(header.protocol, self.side) else { return Some(all) };
        let mut covered = Edit::default();
        if let Some(port) = self.port {
            covered.replace(packet, header.header_len + layout.port, port.to_be_bytes())?;
        }
        all.add(covered);
        if layout.pseudo {
            covered.add(address);
        }
        let checksum_at = header.header_len + layout.checksum;
        let Some(field) = u16_at(packet, checksum_at) else { return Some(all) };
        let sum = match (header.protocol, field, covered.checksum(field)) {
            (ip::UDP, 0, _) => 0,      // there was no checksum, and there is none
            (ip::UDP, _, 0) => 0xffff, // zero would say that there is none
            (_, _, sum) => sum,
        };
        all.replace(packet, checksum_at, sum.to_be_bytes())?;
        Some(all)
    }
}
