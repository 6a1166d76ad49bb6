//! The work on packets: pure functions over a batch, run inline on the event loop or on a worker.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;

use crate::base::{ChildSa, Path, Reason, TrafficSelector};
use crate::crypto;
use crate::esp;
use crate::nat::mtu;
use crate::wire::{checksum, forti, ip::Ipv4, ppp};

use super::Pool;

/// Octets in front of a packet to be sealed: ESP header and IV. After opening, the frame header of the uplink
/// overwrites the spent IV.
pub const HEADROOM: usize = esp::HEADROOM;
/// Octets of one batch buffer: a GSO send carries at most 65,507.
pub const BATCH_BYTES: usize = 64 << 10;
/// Packets in one batch: the kernel's limit of GSO segments.
pub const BATCH_PACKETS: usize = 64;

/// IPv4 header octets in front of a TCP header without options.
const TCP_OVERHEAD: u16 = 40;
/// Next to the inner packet, ESP in UDP over IPv4 takes 60 octets and the trailer: what fits 1500 octets.
pub const ESP_ROOM: u16 = 1438;

/// The immutable part of a Child SA, shared with the workers.
#[derive(Debug)]
pub struct Tunnel {
    esp: esp::Sa,
    pool: Pool,
}

impl Tunnel {
    /// What jobs need of `child`.
    pub fn new(child: &ChildSa, pool: Pool) -> Result<Self, crypto::Error> {
        Ok(Self { esp: esp::Sa::new(child)?, pool })
    }

    /// True where a packet costs so much that a hop to another core is cheap beside it.
    pub fn is_dear(&self) -> bool {
        self.esp.aead() == crypto::Aead::ChaCha20Poly1305
    }
}

/// What is to become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not worked on yet.
    Pending,
    /// Goes on: `Slot::range` is the inner packet (opened) or the ESP packet (sealed).
    Forward,
    /// For the in-tunnel host.
    Local,
    /// Too large for the next link and may not be fragmented: answer with this MTU.
    TooBig,
    /// Too large for the next link: fragment it.
    Fragment,
    /// The TTL is used up: answer.
    Expired,
    /// Dropped.
    Drop(Reason),
}

/// One packet in a buffer.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Where it is; before the work the whole ESP packet or the inner packet, afterwards as the verdict says.
    pub range: Range<usize>,
    /// Its ESP sequence number.
    pub seq: u32,
    /// Made by us (no TTL decrement, no selector check of the source).
    pub own: bool,
    /// The result.
    pub verdict: Verdict,
}

/// Which way a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a device: open.
    Up,
    /// To a device: seal.
    Down,
}

/// A batch of packets of one SA and direction.
#[derive(Debug)]
pub struct Batch {
    /// `BATCH_BYTES` octets.
    pub buf: Box<[u8]>,
    /// The packets, in order; never more than `BATCH_PACKETS`.
    pub slots: Vec<Slot>,
    /// Octets of `buf` in use.
    pub used: usize,
    /// Whose keys.
    pub tunnel: Option<Arc<Tunnel>>,
    /// Key of the SA in the event loop's table.
    pub sa: usize,
    /// Key of the device in the event loop's table.
    pub device: usize,
    /// Where the packets of the batch came from, when they came from a device.
    pub path: Option<Path>,
    /// Open or seal.
    pub direction: Direction,
    /// Largest inner packet of the next link.
    pub mtu: u16,
}

impl Default for Batch {
    /// An empty batch with its buffer.
    fn default() -> Self {
        Self {
            buf: vec![0; BATCH_BYTES].into_boxed_slice(),
            slots: Vec::with_capacity(BATCH_PACKETS),
            used: 0,
            tunnel: None,
            sa: 0,
            device: 0,
            path: None,
            direction: Direction::Down,
            mtu: ESP_ROOM,
        }
    }
}

impl Batch {
    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.used = 0;
        self.tunnel = None;
    }

    /// Appends an ESP packet to be opened. False where it does not fit.
    pub fn push_sealed(&mut self, packet: &[u8], seq: u32) -> bool {
        let range = self.used..self.used + packet.len();
        let Some(room) = self.buf.get_mut(range.clone()) else { return false };
        if self.slots.len() >= BATCH_PACKETS {
            return false;
        }
        room.copy_from_slice(packet);
        self.used = range.end;
        self.slots.push(Slot { range, seq, own: false, verdict: Verdict::Pending });
        true
    }

    /// Appends an inner packet to be sealed, leaving room for header and trailer. False where it does not fit.
    pub fn push_plain(&mut self, packet: &[u8], own: bool) -> bool {
        let start = self.used + HEADROOM;
        let range = start..start + packet.len();
        let end = self.used + esp::sealed_len(packet.len());
        if self.slots.len() >= BATCH_PACKETS || end > self.buf.len() {
            return false;
        }
        let Some(room) = self.buf.get_mut(range.clone()) else { return false };
        room.copy_from_slice(packet);
        self.used = end;
        self.slots.push(Slot { range, seq: 0, own, verdict: Verdict::Pending });
        true
    }

    /// Does the work.
    pub fn run(&mut self) {
        let Some(tunnel) = self.tunnel.as_deref() else { return };
        for slot in &mut self.slots {
            match self.direction {
                Direction::Up => open(tunnel, &mut self.buf, slot, self.mtu),
                Direction::Down => seal(tunnel, &mut self.buf, slot, self.mtu),
            }
        }
    }
}

/// Opens the ESP packet at `slot.range`, checks the inner packet, lowers its TTL, clamps its MSS and writes the
/// uplink's frame header in front of it. `mtu` is the largest inner packet that the uplink carries.
pub fn open(tunnel: &Tunnel, buf: &mut [u8], slot: &mut Slot, mtu: u16) {
    slot.verdict = open_checked(tunnel, buf, slot, mtu).unwrap_or_else(Verdict::Drop);
}

fn open_checked(tunnel: &Tunnel, buf: &mut [u8], slot: &mut Slot, mtu: u16) -> Result<Verdict, Reason> {
    let start = slot.range.start;
    let sealed = buf.get_mut(slot.range.clone()).ok_or(Reason::EspMalformed)?;
    let opened = esp::open(&tunnel.esp, sealed)?;
    if opened.next_header != esp::NextHeader::Ipv4 {
        return Err(Reason::InnerFamily);
    }
    let inner = sealed.get_mut(opened.inner.clone()).ok_or(Reason::EspMalformed)?;
    let ip = Ipv4::parse(inner).map_err(|_| Reason::InnerMalformed)?;
    let inner = inner.get_mut(..ip.total_len).ok_or(Reason::InnerMalformed)?;
    if ip.src != tunnel.esp.address {
        return Err(Reason::InnerSpoofed);
    }
    slot.range = start + opened.inner.start..start + opened.inner.start + ip.total_len;
    if ip.dst == tunnel.pool.host() {
        return Ok(Verdict::Local);
    }
    if tunnel.pool.index(ip.dst).is_some() {
        return Err(Reason::InnerHairpin);
    }
    if ip.dst.is_multicast() || ip.dst.is_broadcast() || ip.dst.is_loopback() || ip.dst.octets()[0] == 0 {
        return Err(Reason::InnerIllegal);
    }
    if !selected(&tunnel.esp.ts_local, ip.dst, destination_port(&ip, inner), ip.protocol) {
        return Err(Reason::InnerSelector);
    }
    if ip.ttl <= 1 {
        return Ok(Verdict::Expired);
    }
    if ip.total_len > usize::from(mtu) {
        return Ok(if ip.dont_fragment { Verdict::TooBig } else { Verdict::Fragment });
    }
    lower_ttl(inner);
    mtu::clamp_mss(inner, mtu.min(ESP_ROOM).saturating_sub(TCP_OVERHEAD));
    let frame = slot.range.start.checked_sub(forti::DATA_HEADER_LEN).ok_or(Reason::EspMalformed)?;
    let header = buf.get_mut(frame..).and_then(|rest| rest.first_chunk_mut::<{ forti::DATA_HEADER_LEN }>());
    forti::emit_header(header.ok_or(Reason::EspMalformed)?, ppp::protocol::IPV4, ip.total_len);
    Ok(Verdict::Forward)
}

/// Seals the inner packet at `slot.range` in place, with `HEADROOM` octets in front of it. Afterwards
/// `slot.range` is the ESP packet. `mtu` is the largest inner packet that the uplink carries, for the MSS.
pub fn seal(tunnel: &Tunnel, buf: &mut [u8], slot: &mut Slot, mtu: u16) {
    slot.verdict = seal_checked(tunnel, buf, slot, mtu).unwrap_or_else(Verdict::Drop);
}

fn seal_checked(tunnel: &Tunnel, buf: &mut [u8], slot: &mut Slot, mtu: u16) -> Result<Verdict, Reason> {
    let inner = buf.get_mut(slot.range.clone()).ok_or(Reason::InnerMalformed)?;
    let ip = Ipv4::parse(inner).map_err(|_| Reason::InnerMalformed)?;
    if !slot.own {
        if !selected(&tunnel.esp.ts_local, ip.src, source_port(&ip, inner), ip.protocol) {
            return Err(Reason::InnerSelector);
        }
        if ip.ttl <= 1 {
            return Ok(Verdict::Expired);
        }
        lower_ttl(inner);
        mtu::clamp_mss(inner, mtu.min(ESP_ROOM).saturating_sub(TCP_OVERHEAD));
    }
    let start = slot.range.start.checked_sub(HEADROOM).ok_or(Reason::InnerMalformed)?;
    let room = buf.get_mut(start..).ok_or(Reason::InnerMalformed)?;
    let sealed = esp::seal(&tunnel.esp, slot.seq, room, slot.range.len())?;
    slot.range = start..start + sealed;
    Ok(Verdict::Forward)
}

/// Lowers the TTL of an IPv4 packet by one (RFC 1812 section 5.3.1) and keeps the header checksum in step.
fn lower_ttl(packet: &mut [u8]) {
    let Some([ttl, protocol, c0, c1]) = packet.get_mut(8..).and_then(|rest| rest.first_chunk_mut::<4>())
    else {
        return;
    };
    let old = u64::from(u16::from_be_bytes([*ttl, *protocol]));
    *ttl -= 1;
    let new = u64::from(u16::from_be_bytes([*ttl, *protocol]));
    [*c0, *c1] = checksum::update(u16::from_be_bytes([*c0, *c1]), old, new).to_be_bytes();
}

/// True if one of `selectors` covers the company's side of a packet. Fragments without ports match by address.
fn selected(selectors: &[TrafficSelector], address: Ipv4Addr, port: Option<u16>, protocol: u8) -> bool {
    let address = IpAddr::V4(address);
    selectors.iter().any(|ts| {
        (ts.first..=ts.last).contains(&address)
            && (ts.protocol == 0 || ts.protocol == protocol)
            && port.is_none_or(|port| (ts.port_first..=ts.port_last).contains(&port))
    })
}

fn destination_port(ip: &Ipv4, packet: &[u8]) -> Option<u16> {
    port_at(ip, packet, 2)
}

fn source_port(ip: &Ipv4, packet: &[u8]) -> Option<u16> {
    port_at(ip, packet, 0)
}

fn port_at(ip: &Ipv4, packet: &[u8], offset: usize) -> Option<u16> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    if !matches!(ip.protocol, TCP | UDP) || ip.fragment_offset != 0 {
        return None;
    }
    packet.get(ip.header_len + offset..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}
