//! What the pieces of a fragmented packet share: a new identification outwards, a device inwards.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::hash::Keyed;
use crate::wire::ip::Ipv4;

/// How long pieces may trail behind the one seen first.
const LIFETIME: Duration = Duration::from_secs(30);
/// How long pieces wait for the first one.
const HOLD: Duration = Duration::from_secs(2);
/// Fragmented packets remembered, per direction.
const CAPACITY: usize = 1024;
/// Waiting pieces, and their octets.
const MAX_HELD: usize = 64;
const MAX_HELD_OCTETS: usize = 128 * 1024;

/// A bounded table whose entries all live equally long; when full, the oldest goes.
struct Recent<K, V> {
    entries: HashMap<K, (V, u64), Keyed>,
    order: VecDeque<(K, u64, Duration)>,
    serial: u64,
}

impl<K: Copy + Eq + Hash, V: Copy> Recent<K, V> {
    fn new(keyed: Keyed) -> Self {
        let entries = HashMap::with_capacity_and_hasher(2 * CAPACITY, keyed);
        Self { entries, order: VecDeque::with_capacity(CAPACITY), serial: 0 }
    }

    fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).map(|(value, _)| *value)
    }

    fn insert(&mut self, now: Duration, key: K, value: V) {
        self.expire(now);
        if self.order.len() >= CAPACITY {
            self.remove_oldest();
        }
        self.serial += 1;
        self.entries.insert(key, (value, self.serial));
        self.order.push_back((key, self.serial, now + LIFETIME));
    }

    fn expire(&mut self, now: Duration) {
        // A few at a time; more are added one by one, so this keeps up.
        for _ in 0..8 {
            match self.order.front() {
                Some((_, _, until)) if *until <= now => self.remove_oldest(),
                _ => return,
            }
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((key, serial, _)) = self.order.pop_front()
            && self.entries.get(&key).is_some_and(|(_, newest)| *newest == serial)
        {
            self.entries.remove(&key);
        }
    }
}

/// (source, protocol, identification)
type InboundKey = (u32, u8, u16);
/// (source, destination, protocol, identification)
type OutboundKey = (u32, u32, u8, u16);

fn inbound_key(header: &Ipv4) -> InboundKey {
    (header.src.to_bits(), header.protocol, header.id)
}

struct Held {
    key: InboundKey,
    until: Duration,
    packet: Vec<u8>,
}

/// The fragment tables of both directions, and the pieces that came before their first.
pub(super) struct Fragments {
    outbound: Recent<OutboundKey, u16>,
    inbound: Recent<InboundKey, Ipv4Addr>,
    held: VecDeque<Held>,
    held_octets: usize,
    ready: VecDeque<Vec<u8>>,
    next_id: u16,
}

impl Fragments {
    pub(super) fn new(keyed: &Keyed, first_id: u16) -> Self {
        Self {
            outbound: Recent::new(keyed.clone()),
            inbound: Recent::new(keyed.clone()),
            held: VecDeque::new(),
            held_octets: 0,
            ready: VecDeque::new(),
            next_id: first_id,
        }
    }

    /// The identification under which an outbound packet leaves: ours where it is, or may become, a fragment (two
    /// devices may choose the same), the same for all its pieces. `None` for atomic packets (RFC 6864).
    pub(super) fn outbound_id(&mut self, now: Duration, header: &Ipv4) -> Option<u16> {
        if !header.is_fragment() {
            return (!header.dont_fragment).then(|| self.fresh_id());
        }
        let key = (header.src.to_bits(), header.dst.to_bits(), header.protocol, header.id);
        self.outbound.get(&key).or_else(|| {
            let id = self.fresh_id();
            self.outbound.insert(now, key, id);
            Some(id)
        })
    }

    fn fresh_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// The device whose first piece had the same source, protocol and identification.
    pub(super) fn inbound_device(&self, header: &Ipv4) -> Option<Ipv4Addr> {
        self.inbound.get(&inbound_key(header))
    }

    /// Learns from a first piece whose the others are, and readies those that waited for it.
    pub(super) fn learn_inbound(&mut self, now: Duration, header: &Ipv4, device: Ipv4Addr) {
        let key = inbound_key(header);
        self.inbound.insert(now, key, device);
        let mut index = 0;
        while let Some(held) = self.held.get(index) {
            if held.key != key {
                index += 1;
            } else if let Some(held) = self.held.remove(index) {
                self.held_octets -= held.packet.len();
                self.ready.push_back(held.packet);
            }
        }
    }

    /// Keeps a copy of a piece whose first one has not come. False where there is no room.
    pub(super) fn hold(&mut self, now: Duration, header: &Ipv4, packet: &[u8]) -> bool {
        self.expire(now);
        let packet = packet.get(..header.total_len).unwrap_or(packet);
        let waiting = self.held.len() + self.ready.len();
        if waiting >= MAX_HELD || self.held_octets + packet.len() > MAX_HELD_OCTETS {
            return false;
        }
        self.held_octets += packet.len();
        self.held.push_back(Held { key: inbound_key(header), until: now + HOLD, packet: packet.to_vec() });
        true
    }

    /// A piece that waited and whose device is now known.
    pub(super) fn poll_ready(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    pub(super) fn expire(&mut self, now: Duration) {
        self.outbound.expire(now);
        self.inbound.expire(now);
        while let Some(held) = self.held.front()
            && held.until <= now
        {
            self.held_octets -= held.packet.len();
            self.held.pop_front();
        }
    }
}
