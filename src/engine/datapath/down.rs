//! From the company to the devices.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::DataPath;
use crate::base::{Now, Path, Reason};
use crate::engine::capture::Point;
use crate::engine::counters::add;
use crate::engine::device::Traffic;
use crate::engine::job::{self, Batch, Direction, Origin, SMALLEST_ROOM, Tunnel, Verdict};
use crate::nat::icmp::{self, Kind};
use crate::nat::mtu;
use crate::nat::nat64::{self, Limits, Refused, Translated};
use crate::wire::ip::{ICMP, Ipv4};

/// From this many packets on, sealing with a dear cipher goes to a worker.
const OFFLOAD_PACKETS: usize = 4;

impl DataPath {
    /// A packet from the uplink, not yet translated.
    pub fn handle_inbound(&mut self, now: Now, packet: &mut [u8]) {
        let original = self.tap.as_ref().map(|_| packet.to_vec());
        let result = self.translate_inbound(now, packet);
        if let (Some(tap), Some(original)) = (&self.tap, original) {
            tap.record(Point::FromCompany, result.ok().map(|to| self.pool.device(to)), &original);
        }
        match result {
            Ok(to) => self.deliver(now, to, packet, Origin::Company),
            Err(reason) => return self.counters.count_drop(reason),
        }
        while let Some(mut piece) = self.flows.poll_held() {
            let original = self.tap.as_ref().map(|_| piece.clone());
            let Ok(to) = self.translate_inbound(now, &mut piece) else { continue };
            if let (Some(tap), Some(original)) = (&self.tap, original) {
                tap.record_late(Point::FromCompany, self.pool.device(to), &original);
            }
            self.deliver(now, to, &piece, Origin::Company);
        }
    }

    /// Finds out whose a packet from the uplink is, and translates it.
    fn translate_inbound(&mut self, now: Now, packet: &mut [u8]) -> Result<Ipv4Addr, Reason> {
        // A source in 0/8, loopback, multicast or 240/4 is nobody's.
        if matches!(packet.get(12), Some(0 | 127 | 224..)) {
            return Err(Reason::InnerIllegal);
        }
        match self.flows.translate_inbound(now.mono, packet) {
            Err(reason @ Reason::NatNoFlow) => {
                let unasked = self.recent.filter(|to| self.table.by_address(*to).is_some());
                let to = unasked.ok_or(reason)?;
                self.flows.forward_unsolicited(now.mono, packet, to)?;
                Ok(to)
            }
            result => result,
        }
    }

    /// A packet for an inner address, or the stand-in of one: collected for its device.
    pub(super) fn deliver(&mut self, now: Now, to: Ipv4Addr, packet: &[u8], origin: Origin) {
        let result = if to == self.pool.host() {
            self.host.handle_packet(now, packet)
        } else if let Some(address) = self.pool.unshadow(to) {
            self.deliver_v6(now, address, packet)
        } else if packet.len() > usize::from(SMALLEST_ROOM) {
            self.deliver_large(now, to, packet, origin)
        } else {
            self.key_of(to).and_then(|device| self.collect_down(now, device, packet, origin))
        };
        if let Err(reason) = result {
            self.counters.count_drop(reason);
        }
    }

    fn key_of(&self, address: Ipv4Addr) -> Result<usize, Reason> {
        self.table.by_address(address).ok_or(Reason::NoDevice)
    }

    /// What seals packets to the device now.
    fn outbound(&mut self, device: usize) -> Result<Arc<Tunnel>, Reason> {
        let outbound = self.table.device(device).ok_or(Reason::NoDevice)?.outbound;
        self.table.sa(outbound).map(|sa| Arc::clone(&sa.tunnel)).ok_or(Reason::NoDevice)
    }

    /// A packet that may not fit the ESP tunnel: fragmented, or answered where it must not be.
    fn deliver_large(&mut self, now: Now, to: Ipv4Addr, packet: &[u8], origin: Origin) -> Result<(), Reason> {
        let ip = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
        let device = self.key_of(to)?;
        let room = self.outbound(device)?.room();
        if packet.len() <= usize::from(room) {
            return self.collect_down(now, device, packet, origin);
        }
        if ip.dont_fragment {
            self.answer_company(now, to, Kind::FragNeeded { mtu: room }, packet);
            return Err(Reason::TooBig);
        }
        let mut pieces = Vec::new();
        mtu::fragment(&mut packet.to_vec(), usize::from(room), |piece| pieces.push(piece.to_vec()))?;
        pieces.iter().try_for_each(|piece| self.collect_down(now, device, piece, origin))
    }

    /// A packet for the device at `address` as it speaks IPv6. The usual ones are translated by the job; fragments, ICMP
    /// errors and what must be cut are translated here.
    fn deliver_v6(&mut self, now: Now, address: Ipv4Addr, packet: &[u8]) -> Result<(), Reason> {
        let device = self.key_of(address)?;
        if job::is_simple(packet) {
            return self.collect_down(now, device, packet, Origin::CompanyNat64);
        }
        let ip = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
        if ip.protocol == ICMP && ip.is_fragment() {
            let whole = self.pieces.handle_piece(now.mono, &ip, ip.payload(packet));
            return whole.map_or(Ok(()), |whole| self.deliver_v6(now, address, &whole));
        }
        let tunnel = self.outbound(device)?;
        let mapping = tunnel.nat64().ok_or(Reason::InnerFamily)?;
        let limits = Limits::new(usize::from(tunnel.room()), usize::from(self.mtu));
        let room = nat64::room_in_front(packet);
        let mut buffer = vec![0; room];
        buffer.extend_from_slice(packet);
        let whole = room..buffer.len();
        match nat64::translate_v4_to_v6(mapping, &limits, &mut buffer, whole) {
            Ok(Translated::Whole(range)) => {
                let packet = buffer.get(range).unwrap_or_default();
                self.collect_down(now, device, packet, Origin::Own)
            }
            Ok(Translated::Split(split)) => (0..split.count()).try_for_each(|index| {
                let piece = split.piece(index).ok_or(Reason::InnerMalformed)?;
                let payload = buffer.get(piece.payload).ok_or(Reason::InnerMalformed)?;
                self.collect_down(now, device, &[&piece.headers, payload].concat(), Origin::Own)
            }),
            Err(Refused { reason, answer }) => {
                if let (Some(kind), Some(shadow)) = (answer, self.pool.shadow(address)) {
                    self.answer_company(now, shadow, kind, packet);
                }
                Err(reason)
            }
        }
    }

    /// Tells the sender of a packet from the company what happened to it, as if the device did: the flow that the
    /// quoted packet belongs to translates the error.
    pub(super) fn answer_company(&mut self, now: Now, device: Ipv4Addr, kind: Kind, packet: &[u8]) {
        let mut error = [0; icmp::MAX_LEN];
        let Some(len) = icmp::emit_error(&mut error, device, kind, packet) else { return };
        if self.icmp_limit.allow(now.mono) {
            self.to_company.push(error.get(..len).unwrap_or_default().to_vec());
        } else {
            self.counters.count_drop(Reason::RateLimited);
        }
    }

    pub(super) fn collect_down(
        &mut self,
        now: Now,
        key: usize,
        packet: &[u8],
        origin: Origin,
    ) -> Result<(), Reason> {
        // At most: the batch is full, a new one begins, and takes the packet.
        for _ in 0..3 {
            if self.free.is_empty() {
                self.flush_down(now);
            }
            match &mut self.table.device(key).ok_or(Reason::NoDevice)?.down {
                None => self.begin_down(key)?,
                Some(batch) => {
                    if batch.push_plain(packet, origin) {
                        return Ok(());
                    }
                    self.submit_down(now, key);
                }
            }
        }
        Err(Reason::WorkerFull)
    }

    /// A batch for packets to the device.
    fn begin_down(&mut self, key: usize) -> Result<(), Reason> {
        let tunnel = self.outbound(key)?;
        let mut batch = self.free.pop().ok_or(Reason::WorkerFull)?;
        batch.clear();
        batch.tunnel = Some(tunnel);
        self.table.device(key).ok_or(Reason::NoDevice)?.down = Some(batch);
        self.dirty_down.push(key);
        Ok(())
    }

    /// Seals and sends what was collected for devices.
    pub fn flush_down(&mut self, now: Now) {
        while let Some(device) = self.dirty_down.pop() {
            self.submit_down(now, device);
        }
    }

    fn submit_down(&mut self, now: Now, key: usize) {
        let Some(device) = self.table.device(key) else { return };
        let Some(mut batch) = device.down.take() else { return };
        let (outbound, [_, sealing]) = (device.outbound, device.in_flight);
        let count = batch.slots.len();
        let Some(first) = self.table.sa(outbound).and_then(|sa| {
            // A rekey in this turn may have changed the SA, but hardly ever the room that its cipher needs.
            let cipher = batch.tunnel.replace(Arc::clone(&sa.tunnel)).map(|tunnel| tunnel.cipher());
            (cipher == Some(sa.tunnel.cipher())).then(|| sa.sequence.reserve(count as u32))?
        }) else {
            self.counters.count_drops(Reason::EspExhausted, count as u64);
            self.free.push(batch);
            return;
        };
        for (seq, slot) in (first..).zip(&mut batch.slots) {
            slot.seq = seq;
        }
        (batch.sa, batch.device, batch.direction, batch.mtu) = (outbound, key, Direction::Down, self.mtu);
        batch.tap.clone_from(&self.tap);
        let dear = batch.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_dear());
        let offload = sealing > 0 || (dear && count >= OFFLOAD_PACKETS && self.workers.len() > 0);
        if !offload {
            add(&self.counters.jobs_inline, 1);
            batch.run();
            return self.finish_seal(now, batch);
        }
        match self.workers.submit(batch) {
            Ok(()) => {
                self.under_way += 1;
                add(&self.counters.jobs_offloaded, 1);
                if let Some(device) = self.table.device(key) {
                    device.in_flight[1] += 1;
                }
            }
            Err(batch) => {
                self.counters.count_drops(Reason::WorkerFull, count as u64);
                self.free.push(batch);
            }
        }
    }

    /// Sends a sealed batch: runs of equal packets by one GSO send each.
    pub(super) fn finish_seal(&mut self, now: Now, batch: Box<Batch>) {
        if let Some((_, device)) = self.table.sa_and_device(batch.sa) {
            let (path, address) = (device.path, device.address);
            let sent = self.send_sealed(&path, &batch);
            if let Some((_, device)) = self.table.sa_and_device(batch.sa) {
                device.traffic_down.add(sent.packets, sent.octets);
            }
            self.answer_refused(now, address, &batch);
        }
        self.free.push(batch);
    }

    /// Tells the company about packets that a job did not seal.
    fn answer_refused(&mut self, now: Now, device: Ipv4Addr, batch: &Batch) {
        for slot in &batch.slots {
            let Verdict::Answer(_, kind) = slot.verdict else { continue };
            let Some(packet) = batch.buf.get(slot.range.clone()) else { continue };
            let to =
                if slot.origin == Origin::CompanyNat64 { self.pool.shadow(device) } else { Some(device) };
            if let Some(to) = to {
                self.answer_company(now, to, kind, packet);
            }
        }
    }

    /// What was sent, as inner packets.
    fn send_sealed(&mut self, path: &Path, batch: &Batch) -> Traffic {
        let mut total = Traffic::default();
        let Some(udp) = self.udp.get(usize::from(path.socket)) else { return total };
        let mut slots = batch.slots.iter().peekable();
        while let Some(slot) = slots.next() {
            if slot.verdict != Verdict::Forward {
                if let Verdict::Drop(reason) | Verdict::Answer(reason, _) = slot.verdict {
                    self.counters.count_drop(reason);
                }
                continue;
            }
            let segment = slot.range.len();
            let (mut run, mut count, mut octets) = (slot.range.clone(), 1, u64::from(slot.inner));
            let mut last = segment;
            while let Some(next) = slots.next_if(|next| {
                next.verdict == Verdict::Forward
                    && next.range.start == run.end
                    && last == segment
                    && next.range.len() <= segment
            }) {
                last = next.range.len();
                run.end = next.range.end;
                count += 1;
                octets += u64::from(next.inner);
            }
            let sent = batch.buf.get(run).is_some_and(|run| udp.send(path, run, segment).is_ok());
            if sent {
                total.add(count, octets);
            } else {
                self.counters.count_drops(Reason::UdpSend, count);
            }
        }
        add(&self.counters.down_packets, total.packets);
        add(&self.counters.down_bytes, total.octets);
        total
    }
}
