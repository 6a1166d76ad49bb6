//! A packet, there and back: from a datagram to the uplink's frame here, from a frame to the datagrams of a device in
//! `down`.

mod down;

use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{ChildSa, DeviceId, Now, Path, Random, Reason};
use crate::dns::Dns64;
use crate::esp;
use crate::nat::icmp::{self, Kind};
use crate::nat::limit::RateLimit;
use crate::nat::nat64::{self, Kind6};
use crate::nat::{Flows, mtu};
use crate::wire::{forti, ip::Ipv4};

use super::capture::{Point, Tap};
use super::counters::add;
use super::device::Table;
use super::host::Host;
use super::ike_thread::{IkeThread, Notice};
use super::job::{self, BATCH_PACKETS, Batch, Direction, Origin, SMALLEST_ROOM, Slot, Verdict};
use super::reassembly::Reassembly;
use super::status::{Level, Queues};
use super::udp::{Receiver, Udp};
use super::uplink::Uplink;
use super::{Counters, Pool, Split, worker};

/// Concurrent flows of all devices together.
const FLOWS: usize = 32_768;
/// Batches of the event loop: one turn can fill about as many from the uplink, or one receive of GRO trains.
const LOOP_BATCHES: usize = 16;
/// Batches that each worker adds. With more under way nothing is taken in: packets wait in the kernel's buffers.
const WORKER_BATCHES: usize = 32;
/// ICMP errors to all devices together, per second and at once.
const ICMP_RATE: (u32, u32) = (100, 50);
/// The non-ESP marker (RFC 3948 section 2.2).
const MARKER: [u8; 4] = [0; 4];
/// Octets of an IKE header (RFC 7296 section 3.1).
const IKE_HEADER_LEN: usize = 28;

/// A frame that is ready for the uplink, in one of the receive buffers.
#[derive(Debug)]
struct Frame {
    buffer: usize,
    range: Range<usize>,
    /// Whose packet is in it.
    device: Ipv4Addr,
}

/// Number of batches where there are so many workers.
pub const fn batches(workers: usize) -> usize {
    LOOP_BATCHES + workers * WORKER_BATCHES
}

/// All that packets pass through on the event loop.
pub struct DataPath {
    /// Devices and SAs.
    pub table: Table,
    /// The in-tunnel host.
    pub host: Host,
    /// The sockets, in the order of `Path::socket`.
    pub udp: Vec<Udp>,
    /// While somebody captures: where packets are copied to.
    pub tap: Option<Arc<Tap>>,
    flows: Flows,
    workers: worker::Pool,
    counters: Arc<Counters>,
    pool: Pool,
    /// Largest inner packet that the uplink carries.
    mtu: u16,
    /// Batches not in use.
    #[expect(clippy::vec_box, reason = "a batch goes through queues as one pointer")]
    free: Vec<Box<Batch>>,
    /// Number of batches at the workers.
    under_way: usize,
    /// Devices with packets collected in this turn, by direction.
    dirty_up: Vec<usize>,
    dirty_down: Vec<usize>,
    frames: Vec<Frame>,
    /// Packets of our own making for the company (the cold path), not yet translated.
    to_company: Vec<Vec<u8>>,
    /// The most recently active device: it gets what the company sends unasked.
    recent: Option<Ipv4Addr>,
    /// True where the in-tunnel host stands in for the company's DNS servers.
    dns64: bool,
    icmp_limit: RateLimit,
    /// Pings in pieces, between the families.
    pieces: Reassembly,
}

impl DataPath {
    /// A data path without devices and with the uplink down.
    pub fn new(
        pool: Pool,
        udp: Vec<Udp>,
        workers: worker::Pool,
        counters: Arc<Counters>,
        split: &Split,
        mut random: Box<dyn Random>,
    ) -> Self {
        let batches = batches(workers.len());
        let flows = Flows::new(FLOWS, pool.host(), random.as_mut());
        let mut host = Host::new(pool.host(), random);
        let dns64 = split.dns64();
        host.set_dns64(dns64.clone());
        Self {
            table: Table::new(pool, split.nat64),
            host,
            udp,
            tap: None,
            flows,
            workers,
            counters,
            pool,
            mtu: SMALLEST_ROOM,
            under_way: 0,
            free: std::iter::repeat_with(Box::<Batch>::default).take(batches).collect(),
            dirty_up: Vec::with_capacity(batches),
            dirty_down: Vec::with_capacity(batches),
            frames: Vec::with_capacity(2048),
            to_company: Vec::new(),
            recent: None,
            dns64: dns64.is_some(),
            icmp_limit: RateLimit::new(ICMP_RATE.0, ICMP_RATE.1),
            pieces: Reassembly::default(),
        }
    }

    /// What the in-tunnel host makes of names from now on.
    pub fn set_dns64(&mut self, dns64: Option<Dns64>) {
        self.dns64 = dns64.is_some();
        self.host.set_dns64(dns64);
    }

    /// The uplink came up with this address and MTU.
    pub fn uplink_up(&mut self, address: Ipv4Addr, mtu: u16, servers: &[Ipv4Addr]) {
        self.flows.set_external(Some(address));
        self.mtu = mtu;
        self.host.set_servers(servers);
    }

    /// The uplink went down. Flows are kept: it may come back with the same address.
    pub fn uplink_down(&mut self) {
        self.host.set_servers(&[]);
        self.flows.set_external(None);
    }

    /// True for the inner address of a device, of either family.
    fn is_inner(&self, address: Ipv4Addr) -> bool {
        self.pool.index(address).is_some() || self.pool.unshadow(address).is_some()
    }

    /// Registers a Child SA.
    pub fn install(&mut self, child: &ChildSa, now: Duration) -> Result<(), crate::crypto::Error> {
        self.table.install(child, now)
    }

    /// Forgets a Child SA.
    pub fn remove(&mut self, spi_in: u32) {
        if let Some(device) = self.table.remove(spi_in) {
            // Packets collected in this turn have lost their device; the batches have not lost their use.
            self.free.extend([device.up, device.down].into_iter().flatten());
        }
    }

    /// The device moved, as the IKE core saw it.
    pub fn moved(&mut self, device: DeviceId, path: Path) {
        if let Some(device) = self.table.by_id(device).and_then(|key| self.table.device(key)) {
            device.path = path;
        }
    }

    /// Sends an IKE message.
    pub fn send_ike(&self, path: &Path, bytes: &[u8]) {
        let Some(udp) = self.udp.get(usize::from(path.socket)) else { return };
        let marked;
        let datagram = if path.marker {
            marked = [&MARKER, bytes].concat();
            &marked
        } else {
            bytes
        };
        if udp.send(path, datagram, datagram.len()).is_err() {
            self.counters.count_drop(Reason::UdpSend);
        }
    }

    /// Receives once from a socket and forwards what came. False where nothing waited.
    pub fn receive(
        &mut self,
        now: Now,
        socket: usize,
        receiver: &mut Receiver,
        uplink: &mut Uplink,
        ike: &mut IkeThread,
    ) -> bool {
        let Some(udp) = self.udp.get_mut(socket) else { return false };
        // An error here is an ICMP error for an earlier send; the socket goes on.
        let count = udp.receive(receiver).unwrap_or(0);
        let Receiver { buffers, metas } = receiver;
        for (index, (buffer, meta)) in buffers.iter_mut().zip(metas.iter()).take(count).enumerate() {
            let Some(path) = self.udp.get(socket).map(|udp| udp.path(socket as u8, meta, false)) else {
                break;
            };
            let stride = meta.stride.max(1);
            for start in (0..meta.len).step_by(stride) {
                let range = start..(start + stride).min(meta.len);
                self.handle_datagram(now, path, buffer, range, index, ike);
            }
        }
        self.send_frames(now, uplink, buffers);
        self.dispatch_up();
        count > 0
    }

    /// Classifies by content, on both ports alike (RFC 3948 section 2.2; an IKE header is recognised by version
    /// and length, so that an initiator SPI that begins with zeros is no marker).
    fn handle_datagram(
        &mut self,
        now: Now,
        mut path: Path,
        buffer: &mut [u8],
        range: Range<usize>,
        index: usize,
        ike: &mut IkeThread,
    ) {
        let Some(datagram) = buffer.get(range.clone()) else { return };
        match ike_message(datagram) {
            Some((message, marker)) => {
                path.marker = marker;
                add(&self.counters.ike_datagrams, 1);
                match ike.datagram(now, path, message) {
                    Ok(None) => {}
                    Ok(Some(answer)) => self.send_ike(&path, &answer),
                    Err(reason) => self.counters.count_drop(reason),
                }
            }
            None if datagram.starts_with(&MARKER) => self.counters.count_drop(Reason::UdpGarbage),
            None if datagram == [0xff] => {}
            None => {
                // ESP shares the port with marked IKE.
                path.marker = true;
                if let Err(reason) = self.handle_esp(now, path, buffer, range, index, ike) {
                    self.counters.count_drop(reason);
                }
            }
        }
    }

    fn handle_esp(
        &mut self,
        now: Now,
        path: Path,
        buffer: &mut [u8],
        range: Range<usize>,
        index: usize,
        ike: &IkeThread,
    ) -> Result<(), Reason> {
        let packet = buffer.get(range.clone()).ok_or(Reason::EspMalformed)?;
        let (spi, seq) = esp::sequence(packet).ok_or(Reason::UdpGarbage)?;
        let key = self.table.by_spi(spi).ok_or(Reason::EspUnknownSpi)?;
        let (sa, device) = self.table.sa_and_device(key).ok_or(Reason::EspUnknownSpi)?;
        sa.window.check(seq)?;
        let ([opening, _], address) = (device.in_flight, device.address);
        if opening > 0 || (sa.tunnel.is_dear() && self.workers.len() > 0) {
            return self.collect_up(key, path, packet, seq);
        }
        let mut slot = Slot { range, seq, origin: Origin::Company, inner: 0, verdict: Verdict::Pending };
        job::open(&sa.tunnel, buffer, &mut slot, self.mtu, self.tap.as_deref());
        if let Some(frame) = self.finish_open(now, key, path, buffer, &slot, ike)? {
            self.frames.push(Frame { buffer: index, range: frame, device: address });
        }
        Ok(())
    }

    /// Puts a packet into the batch for the worker of its device.
    fn collect_up(&mut self, key: usize, path: Path, packet: &[u8], seq: u32) -> Result<(), Reason> {
        for _ in 0..2 {
            let (sa, device) = self.table.sa_and_device(key).ok_or(Reason::EspUnknownSpi)?;
            if device.up.as_ref().is_none_or(|batch| batch.slots.is_empty()) {
                let mut batch = match device.up.take().or_else(|| self.free.pop()) {
                    Some(batch) => batch,
                    None => return Err(Reason::WorkerFull),
                };
                batch.clear();
                batch.tunnel = Some(Arc::clone(&sa.tunnel));
                (batch.sa, batch.device, batch.path) = (key, sa.device, Some(path));
                (batch.direction, batch.mtu) = (Direction::Up, self.mtu);
                batch.tap.clone_from(&self.tap);
                self.dirty_up.push(sa.device);
                device.up = Some(batch);
            }
            let same = |batch: &Batch| batch.sa == key && batch.path == Some(path);
            if let Some(batch) = device.up.as_mut().filter(|batch| same(batch))
                && batch.push_sealed(packet, seq)
            {
                return Ok(());
            }
            let device = sa.device;
            self.submit_up(device);
        }
        Err(Reason::WorkerFull)
    }

    fn dispatch_up(&mut self) {
        while let Some(device) = self.dirty_up.pop() {
            self.submit_up(device);
        }
    }

    fn submit_up(&mut self, key: usize) {
        let Some(device) = self.table.device(key) else { return };
        let Some(batch) = device.up.take() else { return };
        match self.workers.submit(batch) {
            Ok(()) => {
                device.in_flight[0] += 1;
                self.under_way += 1;
                add(&self.counters.jobs_offloaded, 1);
            }
            Err(batch) => {
                self.counters.count_drops(Reason::WorkerFull, batch.slots.len() as u64);
                self.free.push(batch);
            }
        }
    }

    /// After a packet was opened: commits the replay window, follows the device, and acts on the verdict. Gives the
    /// frame that goes to the uplink.
    fn finish_open(
        &mut self,
        now: Now,
        key: usize,
        path: Path,
        buffer: &mut [u8],
        slot: &Slot,
        ike: &IkeThread,
    ) -> Result<Option<Range<usize>>, Reason> {
        if let Verdict::Drop(reason @ (Reason::EspBadTag | Reason::EspMalformed)) = slot.verdict {
            return Err(reason);
        }
        let (sa, device) = self.table.sa_and_device(key).ok_or(Reason::EspUnknownSpi)?;
        let newest = slot.seq > sa.window.highest();
        sa.window.commit(slot.seq)?;
        device.seen = Some(now.boot);
        device.traffic_up.add(1, u64::from(slot.inner));
        if newest {
            device.path = path;
        }
        if let Some(path) = device.tell_moved(now.mono) {
            ike.notice(Notice::Moved(device.id, path));
        }
        if device.next_outbound.is_some_and(|(next, _)| next == key) {
            device.outbound = key;
            device.next_outbound = None;
        }
        if device.tell_alive(now.mono) {
            ike.notice(Notice::Alive(device.id));
        }
        self.recent = Some(device.address);
        let packet = buffer.get_mut(slot.range.clone()).ok_or(Reason::InnerMalformed)?;
        match slot.verdict {
            Verdict::Forward if self.dns64 && self.host.stands_in(packet) => {
                self.host.handle_packet(now, packet)?;
            }
            Verdict::Forward => match self.flows.translate_outbound(now.mono, packet) {
                Ok(()) => {
                    add(&self.counters.up_packets, 1);
                    add(&self.counters.up_bytes, u64::from(slot.inner));
                    return Ok(Some(slot.range.start - forti::DATA_HEADER_LEN..slot.range.end));
                }
                Err(reason) => {
                    if reason == Reason::UplinkDown {
                        self.answer(now, Kind::NetUnreachable, packet);
                    }
                    return Err(reason);
                }
            },
            Verdict::Local => self.host.handle_packet(now, packet)?,
            Verdict::Fragment => self.to_company.push(packet.to_vec()),
            Verdict::EchoPiece => self.handle_echo_piece(now, key, packet)?,
            Verdict::Answer(reason, kind) => {
                self.answer(now, kind, packet);
                return Err(reason);
            }
            Verdict::Answer6(reason, kind) => {
                self.answer6(now, kind, key, packet);
                return Err(reason);
            }
            Verdict::Drop(reason) => return Err(reason),
            Verdict::Pending => return Err(Reason::InnerMalformed),
        }
        Ok(None)
    }

    /// A piece of a ping that came by the SA `key` as IPv6: translated when all pieces are there.
    fn handle_echo_piece(&mut self, now: Now, key: usize, packet: &[u8]) -> Result<(), Reason> {
        let tunnel = self.table.sa(key).map(|sa| Arc::clone(&sa.tunnel)).ok_or(Reason::NoDevice)?;
        let mapping = tunnel.nat64().ok_or(Reason::InnerFamily)?;
        let (header, data) = nat64::echo_piece_v6_to_v4(mapping, packet).map_err(|refused| refused.reason)?;
        if self.pool.index(header.dst).is_some_and(|_| header.dst != self.pool.host()) {
            return Err(Reason::InnerHairpin);
        }
        let Some(mut whole) = self.pieces.handle_piece(now.mono, &header, data) else { return Ok(()) };
        nat64::finish_echo_v6_to_v4(mapping, &mut whole)?;
        if header.dst == self.pool.host() {
            return self.host.handle_packet(now, &whole);
        }
        self.to_company.push(whole);
        Ok(())
    }

    /// Answers a device's packet with an ICMP error from the in-tunnel host.
    fn answer(&mut self, now: Now, kind: Kind, packet: &[u8]) {
        let mut error = [0; 576];
        let Ok(ip) = Ipv4::parse(packet) else { return };
        let Some(len) = icmp::emit_error(&mut error, self.pool.host(), kind, packet) else { return };
        if !self.icmp_limit.allow(now.mono) {
            self.counters.count_drop(Reason::RateLimited);
            return;
        }
        if let Some(error) = error.get(..len) {
            self.deliver(now, ip.src, error, Origin::Own);
        }
    }

    /// The same for an IPv6 packet that came by the SA `key`.
    fn answer6(&mut self, now: Now, kind: Kind6, key: usize, packet: &[u8]) {
        let Some(sa) = self.table.sa(key) else { return };
        let Some(mapping) = sa.tunnel.nat64() else { return };
        let mut error = [0; nat64::MAX_LEN];
        let Some(len) = nat64::emit_error(&mut error, mapping.host_v6(), kind, packet) else { return };
        let device = sa.device;
        if !self.icmp_limit.allow(now.mono) {
            return self.counters.count_drop(Reason::RateLimited);
        }
        let sent = self.collect_down(now, device, error.get(..len).unwrap_or_default(), Origin::Own);
        if let Err(reason) = sent {
            self.counters.count_drop(reason);
        }
    }

    /// Sends the collected frames: as few TLS records as they fit in.
    fn send_frames(&mut self, now: Now, uplink: &mut Uplink, buffers: &[Box<[u8]>]) {
        for frames in self.frames.chunks(BATCH_PACKETS) {
            let mut slices = [IoSlice::new(&[]); BATCH_PACKETS];
            for (slice, frame) in slices.iter_mut().zip(frames) {
                let bytes = buffers.get(frame.buffer).and_then(|buffer| buffer.get(frame.range.clone()));
                *slice = IoSlice::new(bytes.unwrap_or_default());
            }
            let Some(slices) = slices.get(..frames.len()) else { continue };
            match (uplink.send(now, slices), &self.tap) {
                (Ok(()), None) => {}
                (Ok(()), Some(tap)) => record_frames(tap, slices, frames.iter().map(|frame| frame.device)),
                (Err(reason), _) => self.counters.count_drops(reason, frames.len() as u64),
            }
        }
        self.frames.clear();
    }

    /// Takes what the workers have finished.
    pub fn finish_jobs(&mut self, now: Now, uplink: &mut Uplink, ike: &IkeThread) {
        while let Some(mut batch) = self.workers.poll_done() {
            self.under_way -= 1;
            let side = usize::from(batch.direction == Direction::Down);
            if let Some(device) = self.table.device(batch.device) {
                device.in_flight[side] = device.in_flight[side].saturating_sub(1);
            }
            match batch.direction {
                Direction::Down => self.finish_seal(now, batch),
                Direction::Up => {
                    self.finish_opened(now, &mut batch, uplink, ike);
                    self.free.push(batch);
                }
            }
        }
    }

    fn finish_opened(&mut self, now: Now, batch: &mut Batch, uplink: &mut Uplink, ike: &IkeThread) {
        let Some(path) = batch.path else { return };
        let mut frames: [Range<usize>; BATCH_PACKETS] = std::array::from_fn(|_| 0..0);
        let mut count = 0;
        for slot in &batch.slots {
            match self.finish_open(now, batch.sa, path, &mut batch.buf, slot, ike) {
                Ok(Some(frame)) => {
                    if let Some(place) = frames.get_mut(count) {
                        *place = frame;
                        count += 1;
                    }
                }
                Ok(None) => {}
                Err(reason) => self.counters.count_drop(reason),
            }
        }
        let mut slices = [IoSlice::new(&[]); BATCH_PACKETS];
        for (slice, frame) in slices.iter_mut().zip(frames.iter().take(count)) {
            *slice = IoSlice::new(batch.buf.get(frame.clone()).unwrap_or_default());
        }
        let Some(slices) = slices.get(..count).filter(|slices| !slices.is_empty()) else { return };
        match (uplink.send(now, slices), &self.tap) {
            (Ok(()), None) => {}
            (Ok(()), Some(tap)) => {
                let device = self.table.device(batch.device).map_or(Ipv4Addr::UNSPECIFIED, |d| d.address);
                record_frames(tap, slices, std::iter::repeat(device));
            }
            (Err(reason), _) => self.counters.count_drops(reason, count as u64),
        }
    }

    /// Moves packets of the in-tunnel host, and of our own making, to where they go.
    pub fn route_own(&mut self, now: Now, uplink: &mut Uplink) {
        while let Some(packet) = self.host.poll_packet() {
            match Ipv4::parse(&packet) {
                Ok(ip) if self.is_inner(ip.dst) => self.deliver(now, ip.dst, &packet, Origin::Own),
                Ok(_) => self.to_company.push(packet),
                Err(_) => self.counters.count_drop(Reason::InnerMalformed),
            }
        }
        for mut packet in std::mem::take(&mut self.to_company) {
            if let Err(reason) = self.send_own(now, &mut packet, uplink) {
                self.counters.count_drop(reason);
            }
        }
    }

    /// Sends a packet that did not take the short way: translated first, then cut to what the uplink carries.
    fn send_own(&mut self, now: Now, packet: &mut [u8], uplink: &mut Uplink) -> Result<(), Reason> {
        let source = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?.src;
        self.flows.translate_outbound(now.mono, packet)?;
        let mut send = |piece: &[u8]| {
            uplink.send_packet(now, piece)?;
            if let Some(tap) = &self.tap {
                tap.record(Point::ToCompany, Some(self.pool.device(source)), piece);
            }
            Ok(())
        };
        if packet.len() <= usize::from(self.mtu) {
            return send(packet);
        }
        let mut result = Ok(());
        mtu::fragment(packet, usize::from(self.mtu), |piece| {
            result = result.and_then(|()| send(piece));
        })?;
        result
    }

    /// Tells the IKE core about SAs whose sequence numbers run out. Called now and then.
    pub fn report_exhaustion(&mut self, ike: &IkeThread) {
        for sa in self.table.sas() {
            if sa.sequence.take_nearly_exhausted() {
                ike.notice(Notice::NearlyExhausted(sa.spi_in));
            }
        }
    }

    /// True if `expire_flows` and `report_exhaustion` have something to look after.
    pub fn needs_housekeeping(&self) -> bool {
        !self.flows.is_empty() || !self.table.is_empty()
    }

    /// How full the workers, the flows and the in-tunnel host are.
    pub fn queues(&self) -> Queues {
        let workers = self.workers.len();
        Queues {
            workers,
            batches: Level { used: self.under_way, limit: batches(workers) },
            dns_queries: self.host.dns_queries(),
            nat_flows: Level { used: self.flows.len(), limit: FLOWS },
            ..Queues::default()
        }
    }

    /// True if the workers have so much to do that nothing more should be taken in.
    pub fn is_congested(&self) -> bool {
        self.under_way > self.workers.len() * WORKER_BATCHES
    }

    /// True if a worker ended by itself.
    pub fn has_lost_a_worker(&self) -> bool {
        self.workers.has_ended()
    }

    /// True if something waits that needs no event.
    pub fn has_work(&self) -> bool {
        self.workers.has_done() || (!self.is_congested() && self.udp.iter().any(|udp| udp.readable))
    }

    /// When `handle_timeout` has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        [self.table.poll_timeout(), self.host.poll_timeout()].into_iter().flatten().min()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.table.handle_timeout(now.mono);
        if self.host.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.host.handle_timeout(now);
        }
    }

    /// Forgets flows that have been idle too long. Called now and then.
    pub fn expire_flows(&mut self, now: Now) {
        self.flows.handle_timeout(now.mono);
    }
}

/// Copies frames that the uplink has taken, each with the device that its packet came from.
fn record_frames(tap: &Tap, frames: &[IoSlice<'_>], devices: impl Iterator<Item = Ipv4Addr>) {
    for (frame, device) in frames.iter().zip(devices) {
        tap.record(Point::ToCompany, Some(device), frame.get(forti::DATA_HEADER_LEN..).unwrap_or_default());
    }
}

/// The IKE message in a datagram, and whether a marker is in front of it. The marker is looked for first: behind one
/// the message ID stands where the length would be without, and may be any number.
fn ike_message(datagram: &[u8]) -> Option<(&[u8], bool)> {
    let marked = datagram.strip_prefix(&MARKER).filter(|message| is_ike(message));
    marked.map(|message| (message, true)).or_else(|| is_ike(datagram).then_some((datagram, false)))
}

/// True if a datagram looks like an IKEv2 message: its version, and a length field that is the datagram's.
fn is_ike(datagram: &[u8]) -> bool {
    let Some(header) = datagram.first_chunk::<IKE_HEADER_LEN>() else { return false };
    let [.., v, _, _, _, _, _, _, l0, l1, l2, l3] = *header;
    v >> 4 >= 1 && u32::from_be_bytes([l0, l1, l2, l3]) as usize == datagram.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ike_is_told_from_esp_by_version_and_length() {
        let mut message = [0u8; 40];
        message[17] = 0x20;
        message[27] = 40;
        assert!(is_ike(&message));
        assert!(!is_ike(&message[..39]), "length does not match");
        message[17] = 0;
        assert!(!is_ike(&message), "no version");
        assert!(!is_ike(&message[..27]), "too short for a header");
    }

    /// Each of the first messages of a connection, and those whose number is the length of their datagram.
    #[test]
    fn n09_n10_a_marker_and_an_spi_that_begins_like_one() {
        for message_id in 0..200_u8 {
            for spi in [[0x11; 8], [0, 0, 0, 0, 1, 1, 1, 1]] {
                let mut message = [0x22_u8; 57];
                message[..8].copy_from_slice(&spi);
                (message[17], message[23], message[27]) = (0x20, message_id, 57);
                message[20..23].fill(0);
                message[24..27].fill(0);
                assert_eq!(ike_message(&message), Some((&message[..], false)), "message ID {message_id}");
                let marked = [&MARKER[..], &message].concat();
                assert_eq!(
                    ike_message(&marked),
                    Some((&message[..], true)),
                    "message ID {message_id}, marked"
                );
            }
        }
        assert_eq!(ike_message(&[0; 60]), None);
    }
}
