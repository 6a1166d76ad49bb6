//! NAT44 (RFC 4787, RFC 5382, RFC 5508): endpoint-independent mapping and filtering, ports kept where they are free.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::flow::{Flow, Key};
use super::fragments::Fragments;
use super::hash::Keyed;
use super::rewrite::{Change, Side, min_len, port};
use crate::base::{Random, Reason};
use crate::wire::edit::u8_at;
use crate::wire::icmp::{self, Class};
use crate::wire::ip::{self, Ipv4};

/// Slots looked at by one call of [`Flows::handle_timeout`], and when the table is full.
const SWEEP: usize = 512;
/// Devices for which memory is reserved; there may be more.
const DEVICES: usize = 512;
/// Other ports tried where the wanted one is taken.
const PORT_TRIES: usize = 128;

/// The flow table. Packets go through [`Flows::translate_outbound`] and [`Flows::translate_inbound`]; a packet for which
/// they return an error is unchanged. The daemon's own packets (source: the in-tunnel host) go the same way.
pub struct Flows {
    external: Option<Ipv4Addr>,
    host: Ipv4Addr,
    by_inside: HashMap<Key, u32, Keyed>,
    by_outside: HashMap<Key, u32, Keyed>,
    /// Mappings of each device, and how many one may have: a scan must not shut out the others.
    shares: HashMap<Ipv4Addr, usize, Keyed>,
    max_share: usize,
    /// Those used so far, up to the capacity: memory that was never needed is never touched.
    slots: Vec<Option<Flow>>,
    free: Vec<u32>,
    capacity: usize,
    sweep_at: usize,
    fragments: Fragments,
    keyed: Keyed,
    port_counter: u64,
}

impl Flows {
    /// A table for `capacity` mappings, of which one device gets at most three quarters; all memory reserved. `host` is the in-tunnel host: it alone may send ICMP
    /// errors about other devices' packets.
    pub fn new(capacity: usize, host: Ipv4Addr, rng: &mut dyn Random) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX) as usize;
        let keyed = Keyed::new(rng);
        let mut first_id = [0; 2];
        rng.fill(&mut first_id);
        // Twice the room: a table at most half full reclaims removed entries in place and never grows.
        let table = || HashMap::with_capacity_and_hasher(capacity.saturating_mul(2), keyed.clone());
        Self {
            external: None,
            host,
            by_inside: table(),
            by_outside: table(),
            shares: HashMap::with_capacity_and_hasher(DEVICES, keyed.clone()),
            max_share: capacity - capacity / 4,
            slots: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            sweep_at: 0,
            fragments: Fragments::new(&keyed, u16::from_ne_bytes(first_id)),
            keyed,
            port_counter: 0,
        }
    }

    /// The address that the gateway assigned; `None` while the uplink is down. Mappings stay as they are: where the new
    /// address is the old one, connections go on.
    pub fn set_external(&mut self, address: Option<Ipv4Addr>) {
        self.external = address;
    }

    /// The address given last.
    pub fn external(&self) -> Option<Ipv4Addr> {
        self.external
    }

    /// Mappings in the table, those included that have expired but were not met yet.
    pub fn len(&self) -> usize {
        self.by_outside.len()
    }

    /// True when there is no mapping.
    pub fn is_empty(&self) -> bool {
        self.by_outside.is_empty()
    }

    /// Rewrites a packet from a device (or from the in-tunnel host) to come from the external address.
    pub fn translate_outbound(&mut self, now: Duration, packet: &mut [u8]) -> Result<(), Reason> {
        let external = self.external.ok_or(Reason::UplinkDown)?;
        let header = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
        let mut change = Change { side: Side::Source, address: external, port: None, id: None };
        let mut quoted = None;
        if header.fragment_offset == 0 {
            let transport = transport(packet, &header)?;
            match class(&header, transport) {
                Class::Query => {
                    let what = what(&header, Side::Source, transport)?;
                    let flow = self.flow_outbound(now, header.protocol, header.src, what)?;
                    flow.touch(seconds(now), Side::Source, transport);
                    change.port = flow.outside_port();
                }
                Class::Reply => {} // to a query that came in without a flow: the identifier is the asker's
                Class::Error => quoted = Some(self.quoted_outbound(now, &header, transport, external)?),
                Class::Other => return Err(Reason::InnerIllegal),
            }
        }
        change.id = self.fragments.outbound_id(now, &header);
        apply(packet, &header, change, quoted)
    }

    /// Rewrites a packet from the uplink to go to the device that it is for, and returns that device's address.
    ///
    /// [`Reason::NatNoFlow`]: nobody waits for it; see [`Flows::forward_unsolicited`]. [`Reason::NatFragment`]: a later
    /// piece whose first one is not here yet; a copy waits for it up to 2 s, see [`Flows::poll_held`].
    pub fn translate_inbound(&mut self, now: Duration, packet: &mut [u8]) -> Result<Ipv4Addr, Reason> {
        let header = self.parse_inbound(packet)?;
        if header.fragment_offset != 0 {
            let Some(device) = self.fragments.inbound_device(&header) else {
                self.fragments.hold(now, &header, packet);
                return Err(Reason::NatFragment);
            };
            return self.deliver(now, packet, &header, device, None, None);
        }
        let transport = transport(packet, &header)?;
        let (what, quoted) = match class(&header, transport) {
            Class::Other => return Err(Reason::InnerIllegal),
            Class::Query if header.protocol == ip::ICMP => return Err(Reason::NatNoFlow),
            Class::Query | Class::Reply => (what(&header, Side::Destination, transport)?, None),
            Class::Error => {
                let quote = Quote::parse(transport)?;
                if quote.header.src != header.dst {
                    return Err(Reason::NatNotOurs);
                }
                (quote.what(Side::Source, transport)?, Some(quote))
            }
        };
        let protocol = quoted.map_or(header.protocol, |quote| quote.header.protocol);
        let flow = self.flow_inbound(now, protocol, what).ok_or(Reason::NatNoFlow)?;
        if let Some(quote) = quoted {
            // An error neither renews nor ends the mapping (RFC 5508 REQ-5).
            let (device, port) = (flow.inside, flow.inside_port());
            let change = Change { side: Side::Source, address: device, port, id: None };
            return self.deliver(now, packet, &header, device, None, Some((quote, change)));
        }
        flow.touch(seconds(now), Side::Destination, transport);
        let (device, port) = (flow.inside, flow.inside_port());
        self.deliver(now, packet, &header, device, port, None)
    }

    /// Rewrites a packet for which [`Flows::translate_inbound`] said [`Reason::NatNoFlow`] to go to the device `to`,
    /// ports unchanged. This makes no mapping: the device's answer does.
    pub fn forward_unsolicited(
        &mut self,
        now: Duration,
        packet: &mut [u8],
        to: Ipv4Addr,
    ) -> Result<(), Reason> {
        let header = self.parse_inbound(packet)?;
        if header.fragment_offset != 0 || matches!(class(&header, transport(packet, &header)?), Class::Error)
        {
            return Err(Reason::NatNoFlow);
        }
        self.deliver(now, packet, &header, to, None, None).map(|_| ())
    }

    /// A piece that waited for the first one of its packet, as it came: now [`Flows::translate_inbound`] can tell whose
    /// it is.
    pub fn poll_held(&mut self) -> Option<Vec<u8>> {
        self.fragments.poll_ready()
    }

    /// Drops a part of what has expired; to be called about once a second. The work per call is bounded.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.fragments.expire(now);
        self.sweep(seconds(now));
    }

    fn parse_inbound(&self, packet: &[u8]) -> Result<Ipv4, Reason> {
        let external = self.external.ok_or(Reason::UplinkDown)?;
        let header = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
        if header.dst == external { Ok(header) } else { Err(Reason::NatNotOurs) }
    }

    fn deliver(
        &mut self,
        now: Duration,
        packet: &mut [u8],
        header: &Ipv4,
        device: Ipv4Addr,
        port: Option<u16>,
        quoted: Option<(Quote, Change)>,
    ) -> Result<Ipv4Addr, Reason> {
        apply(packet, header, Change { side: Side::Destination, address: device, port, id: None }, quoted)?;
        if header.more_fragments && header.fragment_offset == 0 {
            self.fragments.learn_inbound(now, header, device);
        }
        Ok(device)
    }

    /// How to rewrite the packet that an outbound ICMP error quotes: it once came in, so its destination is ours.
    fn quoted_outbound(
        &mut self,
        now: Duration,
        header: &Ipv4,
        transport: &[u8],
        external: Ipv4Addr,
    ) -> Result<(Quote, Change), Reason> {
        let quote = Quote::parse(transport)?;
        let device = quote.header.dst;
        if header.src != device && header.src != self.host {
            return Err(Reason::InnerSpoofed);
        }
        let what = quote.what(Side::Destination, transport)?;
        let key = Key::inside(quote.header.protocol, device, what);
        let flow = self.by_inside.get(&key).and_then(|slot| self.flow(*slot)).copied();
        let port = match flow {
            Some(flow) => flow.outside_port(),
            // It came in without a flow and with its port unchanged, unless that port is another device's.
            None if self.flow_inbound(now, quote.header.protocol, what).is_none() => None,
            None => return Err(Reason::NatNoFlow),
        };
        Ok((quote, Change { side: Side::Destination, address: external, port, id: None }))
    }

    fn flow(&self, slot: u32) -> Option<&Flow> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn flow_mut(&mut self, slot: u32) -> Option<&mut Flow> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    fn flow_inbound(&mut self, now: Duration, protocol: u8, what: u32) -> Option<&mut Flow> {
        let slot = *self.by_outside.get(&Key::outside(protocol, what))?;
        if self.flow(slot)?.is_expired(seconds(now)) {
            self.remove(slot);
            return None;
        }
        self.flow_mut(slot)
    }

    /// The device's mapping, made where there is none. One that expired but was not given to another is still good.
    fn flow_outbound(
        &mut self,
        now: Duration,
        protocol: u8,
        inside: Ipv4Addr,
        what: u32,
    ) -> Result<&mut Flow, Reason> {
        let slot = match self.by_inside.get(&Key::inside(protocol, inside, what)) {
            Some(slot) => *slot,
            None => self.add(seconds(now), protocol, inside, what)?,
        };
        self.flow_mut(slot).ok_or(Reason::NatFull)
    }

    fn add(&mut self, now: u32, protocol: u8, inside: Ipv4Addr, what: u32) -> Result<u32, Reason> {
        if self.is_full() || self.share(inside) >= self.max_share {
            self.sweep(now);
        }
        if self.share(inside) >= self.max_share {
            return Err(Reason::NatFull);
        }
        let outside = self.choose_outside(now, protocol, what).ok_or(Reason::NatFull)?;
        if self.is_full() {
            return Err(Reason::NatFull);
        }
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        let flow = Flow::new(protocol, inside, what, outside, now);
        self.by_inside.insert(flow.key_inside(), slot);
        self.by_outside.insert(flow.key_outside(), slot);
        *self.shares.entry(inside).or_default() += 1;
        match self.slots.get_mut(slot as usize) {
            Some(entry) => *entry = Some(flow),
            None => self.slots.push(Some(flow)),
        }
        Ok(slot)
    }

    fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.capacity
    }

    /// The wanted port or identifier if it is free, else another of the same range and parity (RFC 4787 REQ-3, REQ-4).
    /// A port-less protocol has the remote address and no choice.
    fn choose_outside(&mut self, now: u32, protocol: u8, wanted: u32) -> Option<u32> {
        if self.is_outside_free(now, protocol, wanted) {
            return Some(wanted);
        }
        let (first, count) = match protocol {
            _ if min_len(protocol) == 0 => return None,
            ip::ICMP => (0, 0x1_0000),
            _ if wanted < 1024 => (0, 1024),
            _ => (1024, 0x1_0000 - 1024),
        };
        for _ in 0..PORT_TRIES {
            self.port_counter = self.port_counter.wrapping_add(1);
            let random = self.keyed.hash_one(self.port_counter) >> 32;
            let candidate = first + ((random as u32 % count) & !1 | (wanted & 1));
            if candidate != 0 && self.is_outside_free(now, protocol, candidate) {
                return Some(candidate);
            }
        }
        None
    }

    fn is_outside_free(&mut self, now: u32, protocol: u8, what: u32) -> bool {
        let Some(slot) = self.by_outside.get(&Key::outside(protocol, what)).copied() else { return true };
        let expired = self.flow(slot).is_none_or(|flow| flow.is_expired(now));
        if expired {
            self.remove(slot);
        }
        expired
    }

    fn remove(&mut self, slot: u32) {
        if let Some(flow) = self.slots.get_mut(slot as usize).and_then(Option::take) {
            self.by_inside.remove(&flow.key_inside());
            self.by_outside.remove(&flow.key_outside());
            match self.shares.get_mut(&flow.inside) {
                Some(share) if *share > 1 => *share -= 1,
                _ => drop(self.shares.remove(&flow.inside)),
            }
            self.free.push(slot);
        }
    }

    fn share(&self, device: Ipv4Addr) -> usize {
        self.shares.get(&device).copied().unwrap_or_default()
    }

    fn sweep(&mut self, now: u32) {
        for _ in 0..SWEEP.min(self.slots.len()) {
            let slot = self.sweep_at as u32;
            self.sweep_at = (self.sweep_at + 1) % self.slots.len();
            if self.flow(slot).is_some_and(|flow| flow.is_expired(now)) {
                self.remove(slot);
            }
        }
    }
}

fn seconds(now: Duration) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

/// The payload of an unfragmented packet or first piece, at least as long as translation needs.
fn transport<'a>(packet: &'a [u8], header: &Ipv4) -> Result<&'a [u8], Reason> {
    let payload = header.payload(packet);
    if payload.len() < min_len(header.protocol) { Err(Reason::NatMalformed) } else { Ok(payload) }
}

/// ICMP messages by type; all other protocols are like queries.
fn class(header: &Ipv4, transport: &[u8]) -> Class {
    match header.protocol {
        ip::ICMP => u8_at(transport, 0).map_or(Class::Other, icmp::class),
        _ => Class::Query,
    }
}

/// The variable part of a flow's key: the port or identifier of the local `side`, or the remote address.
fn what(header: &Ipv4, side: Side, transport: &[u8]) -> Result<u32, Reason> {
    if min_len(header.protocol) == 0 {
        return Ok(side.remote(header).to_bits());
    }
    port(header.protocol, side, transport).map(u32::from).ok_or(Reason::NatMalformed)
}

/// The packet quoted by an ICMP error.
#[derive(Clone, Copy)]
struct Quote {
    header: Ipv4,
}

impl Quote {
    /// Reads the quoted header behind the ICMP header. Errors are not sent about errors, nor about later pieces.
    fn parse(icmp: &[u8]) -> Result<Self, Reason> {
        let quoted = icmp.get(icmp::HEADER_LEN..).unwrap_or_default();
        let header = Ipv4::parse_quoted(quoted).map_err(|_| Reason::NatMalformed)?;
        let transport = quoted.get(header.header_len..).unwrap_or_default();
        if header.fragment_offset != 0 || class(&header, transport) == Class::Error {
            return Err(Reason::NatMalformed);
        }
        Ok(Self { header })
    }

    /// The variable part of the flow's key; `side` is the one that is ours in the quoted packet.
    fn what(&self, side: Side, icmp: &[u8]) -> Result<u32, Reason> {
        let transport = icmp.get(icmp::HEADER_LEN + self.header.header_len..).unwrap_or_default();
        what(&self.header, side, transport)
    }
}

/// Rewrites a packet, and first the packet that it quotes. Lengths were checked before.
fn apply(
    packet: &mut [u8],
    header: &Ipv4,
    change: Change,
    quoted: Option<(Quote, Change)>,
) -> Result<(), Reason> {
    let mut rewrite = || {
        if let Some((quote, inner)) = quoted {
            let message = packet.get_mut(header.header_len..header.total_len)?;
            let edit = inner.apply(message.get_mut(icmp::HEADER_LEN..)?, &quote.header)?;
            edit.update(message, icmp::CHECKSUM)?;
        }
        change.apply(packet, header)
    };
    rewrite().map(|_| ()).ok_or(Reason::NatMalformed)
}
