//! The work on packets: pure functions over a batch, run inline on the event loop or on a worker.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;

use crate::base::{ChildSa, Path, Reason, TrafficSelector};
use crate::crypto::{self, Cipher};
use crate::esp;
use crate::nat::icmp::Kind;
use crate::nat::nat64::{
    Kind6, Limits, Mapping, Refused, Translated, room_in_front, translate_v4_to_v6, translate_v6_to_v4,
};
use crate::nat::{Prefix96, mtu};
use crate::wire::ipv6::{Ipv6, MIN_MTU};
use crate::wire::{checksum, forti, ip::Ipv4, ppp};

use super::Pool;
use super::capture::{Point, Tap};

/// Octets of one batch buffer: a GSO send carries at most 65,507.
pub const BATCH_BYTES: usize = 64 << 10;
/// Packets in one batch: the kernel's limit of GSO segments.
pub const BATCH_PACKETS: usize = 64;

/// IPv4 header octets in front of a TCP header without options.
const TCP_OVERHEAD: u16 = 40;
/// The same with an IPv6 header.
const TCP_OVERHEAD6: u16 = 60;
/// An IPv6 header is so much longer than an IPv4 header.
const NAT64_GROWTH: usize = 20;
/// Octets of a packet on most links between a device and us.
const OUTER_MTU: usize = 1500;
/// An inner packet of so many octets fits such a link, whatever the cipher.
pub const SMALLEST_ROOM: u16 = 1406;

/// The immutable part of a Child SA, shared with the workers.
#[derive(Debug)]
pub struct Tunnel {
    esp: esp::Sa,
    /// The largest inner packet, in octets, that crosses most links in one piece.
    room: u16,
    pool: Pool,
    nat64: Option<Mapping>,
}

impl Tunnel {
    /// What jobs need of `child`.
    pub fn new(child: &ChildSa, pool: Pool, prefix: Option<Prefix96>) -> Result<Self, crypto::Error> {
        let mapping = || {
            let shadow = pool.shadow(child.address)?;
            Some(Mapping::new(prefix?, child.address6?, shadow, pool.host()))
        };
        let esp = esp::Sa::new(child)?;
        let room = u16::try_from(esp.inner_mtu(OUTER_MTU)).unwrap_or(SMALLEST_ROOM);
        Ok(Self { esp, room, pool, nat64: mapping() })
    }

    /// How the device's IPv6 packets are translated, if it has IPv6.
    pub fn nat64(&self) -> Option<&Mapping> {
        self.nat64.as_ref()
    }

    /// True where a packet costs so much that a hop to another core is cheap beside it.
    pub fn is_dear(&self) -> bool {
        !matches!(self.cipher(), Cipher::Aes128Gcm | Cipher::Aes256Gcm)
    }

    /// The cipher, which says where the parts of a packet are.
    pub fn cipher(&self) -> Cipher {
        self.esp.cipher()
    }

    /// The largest inner packet, in octets, that crosses most links in one piece.
    pub fn room(&self) -> u16 {
        self.room
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
    /// Too large for the next link: fragment it.
    Fragment,
    /// A piece of a ping of a device that speaks IPv6: to be put together before it is translated.
    EchoPiece,
    /// Dropped, and its sender is told by ICMP. The packet is as it came.
    Answer(Reason, Kind),
    /// The same for an IPv6 packet of a device.
    Answer6(Reason, Kind6),
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
    /// What it is.
    pub origin: Origin,
    /// Octets of the packet inside ESP, once opened or sealed.
    pub inner: u32,
    /// The result.
    pub verdict: Verdict,
}

/// What a packet to be sealed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the company, or from a device.
    Company,
    /// From the company, to be translated to IPv6, whole: see [`is_simple`].
    CompanyNat64,
    /// Made here, of either family: goes as it is.
    Own,
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
    /// While somebody captures: where inner packets are copied to.
    pub tap: Option<Arc<Tap>>,
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
            mtu: SMALLEST_ROOM,
            tap: None,
        }
    }
}

impl Batch {
    /// Forgets all packets.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.used = 0;
        self.tunnel = None;
        self.tap = None;
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
        self.slots.push(Slot { range, seq, origin: Origin::Company, inner: 0, verdict: Verdict::Pending });
        true
    }

    /// Appends an inner packet to be sealed by the batch's tunnel, leaving room for headers and trailer. False where it
    /// does not fit.
    pub fn push_plain(&mut self, packet: &[u8], origin: Origin) -> bool {
        let Some(tunnel) = self.tunnel.as_deref() else { return false };
        let growth = if origin == Origin::CompanyNat64 { NAT64_GROWTH } else { 0 };
        let start = self.used + tunnel.esp.headroom() + growth;
        let range = start..start + packet.len();
        let end = self.used + tunnel.esp.sealed_len(packet.len() + growth);
        if self.slots.len() >= BATCH_PACKETS || end > self.buf.len() {
            return false;
        }
        let Some(room) = self.buf.get_mut(range.clone()) else { return false };
        room.copy_from_slice(packet);
        self.used = end;
        self.slots.push(Slot { range, seq: 0, origin, inner: 0, verdict: Verdict::Pending });
        true
    }

    /// Does the work.
    pub fn run(&mut self) {
        let Some(tunnel) = self.tunnel.as_deref() else { return };
        let tap = self.tap.as_deref();
        match self.direction {
            Direction::Up => {
                self.slots.iter_mut().for_each(|slot| open(tunnel, &mut self.buf, slot, self.mtu, tap));
            }
            Direction::Down => seal(tunnel, &mut self.buf, &mut self.slots, self.mtu, tap),
        }
    }
}

/// Opens the ESP packet at `slot.range`, checks the inner packet, lowers its TTL, clamps its MSS and writes the
/// uplink's frame header in front of it. `mtu` is the largest inner packet that the uplink carries.
pub fn open(tunnel: &Tunnel, buf: &mut [u8], slot: &mut Slot, mtu: u16, tap: Option<&Tap>) {
    slot.verdict = open_checked(tunnel, buf, slot, mtu, tap).unwrap_or_else(Verdict::Drop);
}

fn open_checked(
    tunnel: &Tunnel,
    buf: &mut [u8],
    slot: &mut Slot,
    mtu: u16,
    tap: Option<&Tap>,
) -> Result<Verdict, Reason> {
    let start = slot.range.start;
    let sealed = buf.get_mut(slot.range.clone()).ok_or(Reason::EspMalformed)?;
    let opened = esp::open(&tunnel.esp, sealed)?;
    slot.inner = opened.inner.len() as u32;
    slot.range = start + opened.inner.start..start + opened.inner.end;
    if let Some(tap) = tap {
        let packet = sealed.get(opened.inner.clone()).unwrap_or_default();
        tap.record(Point::FromDevice, Some(tunnel.esp.address), packet);
    }
    let verdict = match opened.next_header {
        esp::NextHeader::Ipv4 => admit_v4(tunnel, sealed, opened.inner, slot, mtu)?,
        esp::NextHeader::Ipv6 => admit_v6(tunnel, sealed, opened.inner, slot, mtu)?,
    };
    if verdict != Verdict::Forward {
        return Ok(verdict);
    }
    let frame = slot.range.start.checked_sub(forti::DATA_HEADER_LEN).ok_or(Reason::EspMalformed)?;
    let header = buf.get_mut(frame..).and_then(|rest| rest.first_chunk_mut::<{ forti::DATA_HEADER_LEN }>());
    forti::emit_header(header.ok_or(Reason::EspMalformed)?, ppp::protocol::IPV4, slot.range.len());
    Ok(Verdict::Forward)
}

/// Admits an IPv4 packet of a device, at `inner` of `sealed`.
fn admit_v4(
    tunnel: &Tunnel,
    sealed: &mut [u8],
    inner: Range<usize>,
    slot: &mut Slot,
    mtu: u16,
) -> Result<Verdict, Reason> {
    let packet = sealed.get_mut(inner).ok_or(Reason::EspMalformed)?;
    let ip = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
    let packet = packet.get_mut(..ip.total_len).ok_or(Reason::InnerMalformed)?;
    slot.range.end = slot.range.start + ip.total_len;
    if ip.src != tunnel.esp.address {
        return Err(Reason::InnerSpoofed);
    }
    if let Some(verdict) = admit_destination(tunnel, ip.dst)? {
        return Ok(verdict);
    }
    if !selected(&tunnel.esp.ts_local, IpAddr::V4(ip.dst), destination_port(&ip, packet), ip.protocol) {
        return Err(Reason::InnerSelector);
    }
    if ip.ttl <= 1 {
        return Ok(Verdict::Answer(Reason::TtlExceeded, Kind::TtlExceeded));
    }
    if ip.total_len > usize::from(mtu) {
        if ip.dont_fragment {
            return Ok(Verdict::Answer(Reason::TooBig, Kind::FragNeeded { mtu }));
        }
        lower_ttl(packet);
        return Ok(Verdict::Fragment);
    }
    lower_ttl(packet);
    mtu::clamp_mss(packet, mtu.min(tunnel.room).saturating_sub(TCP_OVERHEAD));
    Ok(Verdict::Forward)
}

/// Admits an IPv6 packet of a device, at `inner` of `sealed`, and translates it in place.
fn admit_v6(
    tunnel: &Tunnel,
    sealed: &mut [u8],
    inner: Range<usize>,
    slot: &mut Slot,
    mtu: u16,
) -> Result<Verdict, Reason> {
    let mapping = tunnel.nat64.as_ref().ok_or(Reason::InnerFamily)?;
    let packet = sealed.get(inner.clone()).ok_or(Reason::EspMalformed)?;
    let ip = Ipv6::parse(packet).map_err(|_| Reason::InnerMalformed)?;
    if ip.src != mapping.device_v6() {
        return Err(Reason::InnerSpoofed);
    }
    let (company, next_header) = (IpAddr::V6(ip.dst), ip.next_header);
    if !selected(&tunnel.esp.ts_local, company, None, next_header) {
        return Err(Reason::InnerSelector);
    }
    let limits = Limits::new(usize::from(tunnel.room), usize::from(mtu));
    let outside = slot.range.start - inner.start;
    let range = match translate_v6_to_v4(mapping, &limits, sealed, inner, slot.seq as u16) {
        Ok(range) => range,
        Err(Refused { reason: Reason::Nat64IcmpFragment, .. }) => return Ok(Verdict::EchoPiece),
        Err(Refused { reason, answer: Some(kind) }) => return Ok(Verdict::Answer6(reason, kind)),
        Err(Refused { reason, answer: None }) => return Err(reason),
    };
    slot.range = outside + range.start..outside + range.end;
    let packet = sealed.get_mut(range).ok_or(Reason::EspMalformed)?;
    let ip = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
    // Once more with the port, which is easier to find behind an IPv4 header.
    if !selected(&tunnel.esp.ts_local, company, destination_port(&ip, packet), next_header) {
        return Err(Reason::InnerSelector);
    }
    if let Some(verdict) = admit_destination(tunnel, ip.dst)? {
        return Ok(verdict);
    }
    if ip.total_len > usize::from(mtu) {
        return Ok(Verdict::Fragment);
    }
    mtu::clamp_mss(packet, nat64_mss(tunnel, mtu));
    Ok(Verdict::Forward)
}

/// The MSS between a device that speaks IPv6 and the company: the smaller of what the two tunnels carry.
fn nat64_mss(tunnel: &Tunnel, mtu: u16) -> u16 {
    mtu.saturating_sub(TCP_OVERHEAD).min(tunnel.room.saturating_sub(TCP_OVERHEAD6))
}

/// Where a device may send to: the in-tunnel host has a verdict of its own, other devices are not reached.
fn admit_destination(tunnel: &Tunnel, dst: Ipv4Addr) -> Result<Option<Verdict>, Reason> {
    if dst == tunnel.pool.host() {
        return Ok(Some(Verdict::Local));
    }
    if tunnel.pool.index(dst).is_some() {
        return Err(Reason::InnerHairpin);
    }
    // 0/8, loopback, multicast, and 240/4 with broadcast.
    if matches!(dst.octets()[0], 0 | 127 | 224..) {
        return Err(Reason::InnerIllegal);
    }
    Ok(None)
}

/// True for an IPv4 packet whose translation is one whole IPv6 packet that is 20 octets longer: no fragment, no options,
/// no ICMP error, and not to be cut. Nearly all are so; the others are translated on the event loop.
pub fn is_simple(packet: &[u8]) -> bool {
    Ipv4::parse(packet).is_ok_and(|ip| {
        let len = ip.total_len + NAT64_GROWTH;
        room_in_front(packet) == NAT64_GROWTH
            && !ip.is_fragment()
            && (len <= MIN_MTU || (ip.dont_fragment && len <= usize::from(SMALLEST_ROOM)))
    })
}

/// Seals the inner packets at the slots' ranges in place, each with the headroom of `push_plain` in front of it; the
/// slots are in the order of the buffer. Afterwards the ranges are ESP packets. `mtu` is the largest inner packet that
/// the uplink carries, for the MSS.
pub fn seal(tunnel: &Tunnel, buf: &mut [u8], slots: &mut [Slot], mtu: u16, tap: Option<&Tap>) {
    for slots in slots.chunks_mut(esp::LANES) {
        for slot in &mut *slots {
            slot.verdict = lay_out(tunnel, buf, slot, mtu, tap).unwrap_or_else(Verdict::Drop);
        }
        let laid_out = || slots.iter().filter(|slot| slot.verdict == Verdict::Forward);
        let packets = Disjoint::new(buf, laid_out().map(|slot| slot.range.clone()));
        if let Err(reason) = esp::seal_all(&tunnel.esp, packets) {
            slots.iter_mut().for_each(|slot| slot.verdict = Verdict::Drop(reason));
        }
    }
}

/// The pieces of a buffer at ranges that ascend.
struct Disjoint<'a, R> {
    rest: &'a mut [u8],
    /// Where `rest` begins.
    start: usize,
    ranges: R,
}

impl<'a, R: Iterator<Item = Range<usize>>> Disjoint<'a, R> {
    fn new(buf: &'a mut [u8], ranges: R) -> Self {
        Self { rest: buf, start: 0, ranges }
    }
}

impl<'a, R: Iterator<Item = Range<usize>>> Iterator for Disjoint<'a, R> {
    type Item = &'a mut [u8];

    /// Empty where the ranges do not ascend: nothing can be sealed there.
    fn next(&mut self) -> Option<&'a mut [u8]> {
        let range = self.ranges.next()?;
        let piece = range.start.checked_sub(self.start).and_then(|skip| {
            let (_, rest) = std::mem::take(&mut self.rest).split_at_mut_checked(skip)?;
            let (piece, rest) = rest.split_at_mut_checked(range.len())?;
            (self.rest, self.start) = (rest, range.end);
            Some(piece)
        });
        Some(piece.unwrap_or_default())
    }
}

/// Checks or translates the packet, and writes ESP header and trailer around it.
fn lay_out(
    tunnel: &Tunnel,
    buf: &mut [u8],
    slot: &mut Slot,
    mtu: u16,
    tap: Option<&Tap>,
) -> Result<Verdict, Reason> {
    let verdict = match slot.origin {
        Origin::Own => Verdict::Forward,
        Origin::Company => prepare_v4(tunnel, buf, slot, mtu)?,
        Origin::CompanyNat64 => prepare_v6(tunnel, buf, slot, mtu)?,
    };
    if verdict != Verdict::Forward {
        return Ok(verdict);
    }
    if let Some(tap) = tap {
        let packet = buf.get(slot.range.clone()).unwrap_or_default();
        tap.record(Point::ToDevice, Some(tunnel.esp.address), packet);
    }
    let start = slot.range.start.checked_sub(tunnel.esp.headroom()).ok_or(Reason::InnerMalformed)?;
    let room = buf.get_mut(start..).ok_or(Reason::InnerMalformed)?;
    slot.inner = slot.range.len() as u32;
    let total = esp::lay_out(&tunnel.esp, slot.seq, room, slot.range.len())?;
    slot.range = start..start + total;
    Ok(Verdict::Forward)
}

/// Checks a packet of the company for a device and lowers its TTL.
fn prepare_v4(tunnel: &Tunnel, buf: &mut [u8], slot: &Slot, mtu: u16) -> Result<Verdict, Reason> {
    let packet = buf.get_mut(slot.range.clone()).ok_or(Reason::InnerMalformed)?;
    let ip = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
    if !selected(&tunnel.esp.ts_local, IpAddr::V4(ip.src), source_port(&ip, packet), ip.protocol) {
        return Err(Reason::InnerSelector);
    }
    if ip.ttl <= 1 {
        return Ok(Verdict::Answer(Reason::TtlExceeded, Kind::TtlExceeded));
    }
    lower_ttl(packet);
    mtu::clamp_mss(packet, mtu.min(tunnel.room).saturating_sub(TCP_OVERHEAD));
    Ok(Verdict::Forward)
}

/// Translates a simple packet of the company for a device that speaks IPv6.
fn prepare_v6(tunnel: &Tunnel, buf: &mut [u8], slot: &mut Slot, mtu: u16) -> Result<Verdict, Reason> {
    let mapping = tunnel.nat64.as_ref().ok_or(Reason::InnerFamily)?;
    // Only this slot's part of the buffer: the translator may write in front of the packet.
    let base = slot.range.start.checked_sub(NAT64_GROWTH).ok_or(Reason::InnerMalformed)?;
    let own = buf.get_mut(base..slot.range.end).ok_or(Reason::InnerMalformed)?;
    let packet = own.get_mut(NAT64_GROWTH..).ok_or(Reason::InnerMalformed)?;
    let port = source_port(&Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?, packet);
    mtu::clamp_mss(packet, nat64_mss(tunnel, mtu));
    let limits = Limits::new(usize::from(tunnel.room), usize::from(mtu));
    let whole = NAT64_GROWTH..own.len();
    match translate_v4_to_v6(mapping, &limits, own, whole) {
        Ok(Translated::Whole(range)) if range.start == 0 => slot.range = base..base + range.end,
        Ok(_) => return Err(Reason::InnerMalformed),
        Err(Refused { reason, answer: Some(kind) }) => return Ok(Verdict::Answer(reason, kind)),
        Err(Refused { reason, answer: None }) => return Err(reason),
    }
    let ip = Ipv6::parse(own).map_err(|_| Reason::InnerMalformed)?;
    if !selected(&tunnel.esp.ts_local, IpAddr::V6(ip.src), port, ip.next_header) {
        return Err(Reason::InnerSelector);
    }
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
fn selected(selectors: &[TrafficSelector], address: IpAddr, port: Option<u16>, protocol: u8) -> bool {
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

#[cfg(test)]
mod tests;
