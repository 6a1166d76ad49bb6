//! What the receiving thread and the callers share: the SAs, the stack and the socket, behind one lock.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::unix::SourceFd;
use quinn_udp::RecvMeta;

use super::esp::{Inbound, Outbound, Refused};
use super::handshake::{MARKER, WAITS, random, random_spi};
use super::link::Link;
use super::message::{
    FLAG_RESPONSE, Header, Message, Payload, exchange, kind, notify, parse_delete, parse_selectors,
};
use super::proposal::{emit_esp, parse_esp};
use super::sa::IkeSa;
use super::stack::Stack;
use super::{Clock, Counters, ProbeError};
use crate::base::TrafficSelector;
use crate::wire::Malformed;

/// A replaced Child SA still receives for this long.
const LINGER: Duration = Duration::from_secs(5);
/// A keepalive goes out after this much silence (RFC 3948 section 4).
const KEEPALIVE: Duration = Duration::from_secs(20);
/// The receiving thread looks at timers and for a new socket at least this often.
const TICK: Duration = Duration::from_millis(10);
/// Buffers of one receive call; each may hold a whole GRO train.
const BUFFERS: usize = 8;

/// All state of a connected client.
pub(super) struct Core {
    pub link: Arc<Link>,
    /// The current IKE SA last; an older one only while it is being deleted.
    pub ikes: Vec<IkeSa>,
    pub outbound: Outbound,
    /// Takes over when the server deletes the Child SA that it has rekeyed.
    next_outbound: Option<Outbound>,
    /// The server's side of the tunnel.
    pub routes: Vec<TrafficSelector>,
    /// The current Child SA last.
    pub inbound: Vec<Inbound>,
    pub stack: Stack,
    pub counters: Counters,
    pub clock: Clock,
    /// True once the IKE SA is gone, by either side.
    pub closed: bool,
    /// Responses that a caller waits for, by SPIi and message ID.
    awaited: BTreeMap<(u64, u32), Option<Message>>,
    last_sent: Duration,
}

impl Core {
    pub fn new(
        link: Link,
        ike: IkeSa,
        outbound: Outbound,
        inbound: Inbound,
        stack: Stack,
        clock: Clock,
    ) -> Self {
        Self {
            link: Arc::new(link),
            ikes: vec![ike],
            outbound,
            next_outbound: None,
            routes: Vec::new(),
            inbound: vec![inbound],
            stack,
            counters: Counters::default(),
            last_sent: clock.now(),
            clock,
            closed: false,
            awaited: BTreeMap::new(),
        }
    }

    /// Sends what the stack has to say.
    pub fn pump(&mut self) {
        let now = self.clock.now();
        self.stack.poll(now, &mut self.outbound);
        if !self.stack.burst.lengths.is_empty() {
            self.counters.esp_out += self.stack.burst.lengths.len() as u64;
            self.counters.send_lost +=
                self.link.send_burst(&self.stack.burst.bytes, &self.stack.burst.lengths);
            self.stack.burst.clear();
            self.last_sent = now;
        }
    }

    /// Timers: old Child SAs, keepalives.
    fn tick(&mut self) {
        let now = self.clock.now();
        self.inbound.retain(|sa| sa.replaced_at.is_none_or(|at| now.saturating_sub(at) < LINGER));
        if now.saturating_sub(self.last_sent) >= KEEPALIVE {
            self.last_sent = now;
            self.counters.send_lost += u64::from(self.link.send(&[0xff]).is_err());
        }
    }

    fn handle_datagram(&mut self, datagram: &mut [u8]) {
        match datagram.split_first_chunk::<4>() {
            None => {}
            Some((&MARKER, _)) => {
                let message = datagram.split_at(MARKER.len()).1.to_vec();
                if self.handle_ike(&message).is_err() {
                    self.counters.ike_refused += 1;
                }
            }
            Some((spi, _)) => {
                let spi = u32::from_be_bytes(*spi);
                self.handle_esp(spi, datagram);
            }
        }
    }

    fn handle_esp(&mut self, spi: u32, packet: &mut [u8]) {
        let Some(sa) = self.inbound.iter_mut().find(|sa| sa.spi == spi) else {
            self.counters.esp_unknown_spi += 1;
            return;
        };
        match sa.open(packet) {
            Ok(inner) => {
                self.counters.esp_in += 1;
                self.stack.handle_packet(self.clock.now(), inner, &mut self.outbound);
            }
            Err(Refused::Dummy) => self.counters.esp_in += 1,
            Err(Refused::Replayed) => self.counters.esp_replayed += 1,
            Err(Refused::Short | Refused::BadTag | Refused::BadTrailer) => self.counters.esp_bad += 1,
        }
    }

    fn handle_ike(&mut self, datagram: &[u8]) -> Result<(), ProbeError> {
        let header = Header::parse(datagram)?;
        self.counters.fragments_in += u64::from(header.next == kind::SKF);
        let index = self.ikes.iter().position(|sa| (sa.spi_i, sa.spi_r) == (header.spi_i, header.spi_r));
        let sa = index
            .and_then(|index| self.ikes.get_mut(index))
            .ok_or(ProbeError::Protocol("unknown IKE SPIs"))?;
        let Some(message) = sa.open(datagram)? else { return Ok(()) };
        if header.flags & FLAG_RESPONSE != 0 {
            if let Some(slot) = self.awaited.get_mut(&(header.spi_i, header.message_id)) {
                *slot = Some(message);
            }
            return Ok(());
        }
        if header.message_id == sa.next_peer_request {
            sa.next_peer_request += 1;
            let spi_i = sa.spi_i;
            let answer = self.answer(&message);
            let sealed = self.seal(spi_i, header.exchange, Some(header.message_id), &answer)?.1;
            self.counters.peer_requests += 1;
            self.send_ike(&sealed);
            if let Some(sa) = self.ikes.iter_mut().find(|sa| sa.spi_i == spi_i) {
                sa.last_response = sealed;
            }
        } else if header.message_id.wrapping_add(1) == sa.next_peer_request {
            let again = sa.last_response.clone();
            self.send_ike(&again);
        }
        Ok(())
    }

    /// The payloads that answer a request of the server; applies Deletes.
    fn answer(&mut self, request: &Message) -> Vec<Payload> {
        if request.header.exchange == exchange::CREATE_CHILD_SA {
            let refusal = |_| vec![Payload::notify(notify::NO_ADDITIONAL_SAS, &[])];
            return self.accept_rekey(request).unwrap_or_else(refusal);
        }
        // A return routability check (RFC 4555 section 3.7) gets its cookie back.
        let cookie2 = request.notify(notify::COOKIE2);
        let mut answer: Vec<_> =
            cookie2.map(|cookie| Payload::notify(notify::COOKIE2, cookie)).into_iter().collect();
        for (protocol, spis) in request.all(kind::DELETE).filter_map(|body| parse_delete(body).ok()) {
            // An older IKE SA that the server deletes was replaced by us and is on its way out already.
            self.closed |=
                protocol == 1 && self.ikes.last().is_some_and(|sa| sa.spi_i == request.header.spi_i);
            for spi in spis {
                if spi == self.outbound.spi
                    && let Some(next) = self.next_outbound.take()
                {
                    self.outbound = next;
                }
                self.inbound.retain(|sa| {
                    let deleted = sa.peer_spi == spi;
                    if deleted {
                        answer.push(Payload::delete(Some(sa.spi)));
                    }
                    !deleted
                });
            }
        }
        answer
    }

    /// The server replaces the Child SA, without a key exchange of its own (RFC 7296 section 1.3.3); anything else that
    /// it might want to create is an error.
    fn accept_rekey(&mut self, request: &Message) -> Result<Vec<Payload>, ProbeError> {
        let find = |kind| request.find(kind).ok_or(Malformed("rekey by the server"));
        let (Some(_), None) = (request.notify(notify::REKEY_SA), request.find(kind::KE)) else {
            return Err(ProbeError::Protocol("no plain rekey of a Child SA"));
        };
        let (cipher, spi_out) = parse_esp(find(kind::SA)?, &[self.outbound.cipher()], None)?;
        let (ts_i, ts_r) = (find(kind::TSI)?, find(kind::TSR)?);
        let (spi_in, nonce_i, nonce_r) = (random_spi(), find(kind::NONCE)?, random::<32>());
        let routes = parse_selectors(ts_i)?;
        let ike = self.ikes.iter().find(|sa| sa.spi_i == request.header.spi_i).ok_or(ProbeError::Closed)?;
        let [key_in, key_out] = ike.keys.child(None, [nonce_i, &nonce_r], cipher.keymat_len())?;
        let inbound = Inbound::new(cipher, spi_in, spi_out, &key_in)?;
        self.next_outbound = Some(Outbound::new(cipher, spi_out, &key_out)?);
        let now = self.clock.now();
        self.inbound.iter_mut().for_each(|sa| sa.replaced_at = sa.replaced_at.or(Some(now)));
        self.inbound.push(inbound);
        self.routes = routes;
        Ok(vec![
            emit_esp(&[cipher], spi_in, None),
            Payload::new(kind::NONCE, nonce_r),
            Payload::new(kind::TSI, ts_i),
            Payload::new(kind::TSR, ts_r),
        ])
    }

    /// Encrypts a message on the SA with this SPI: our next request, or the response to a message ID.
    fn seal(
        &mut self,
        spi_i: u64,
        exchange: u8,
        response_to: Option<u32>,
        payloads: &[Payload],
    ) -> Result<(u32, Vec<Vec<u8>>), ProbeError> {
        let sa = self.ikes.iter_mut().find(|sa| sa.spi_i == spi_i).ok_or(ProbeError::Closed)?;
        let message_id = response_to.unwrap_or(sa.next_request);
        if response_to.is_none() {
            sa.next_request += 1;
        }
        let sealed = sa.seal(exchange, response_to.is_some(), message_id, payloads)?;
        self.counters.fragments_out += if sealed.len() > 1 { sealed.len() as u64 } else { 0 };
        Ok((message_id, sealed))
    }

    fn send_ike(&mut self, datagrams: &[Vec<u8>]) {
        self.last_sent = self.clock.now();
        for datagram in datagrams {
            let sent = self.link.send(&[&MARKER[..], datagram].concat());
            self.counters.send_lost += u64::from(sent.is_err());
        }
    }
}

/// The core, with what wakes those who wait for it to change.
pub(super) struct Shared {
    core: Mutex<Core>,
    changed: Condvar,
    /// One IKE request at a time: the window is 1.
    one_exchange: Mutex<()>,
    pub stop: AtomicBool,
    pub timeout: Duration,
}

impl Shared {
    pub fn new(core: Core, timeout: Duration) -> Self {
        Self {
            core: Mutex::new(core),
            changed: Condvar::new(),
            one_exchange: Mutex::new(()),
            stop: AtomicBool::new(false),
            timeout,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until `look` finds something, the connection closes, or the time is over. Sends in between.
    pub fn wait<T>(
        &self,
        limit: Duration,
        what: &'static str,
        mut look: impl FnMut(&mut Core) -> Option<T>,
    ) -> Result<T, ProbeError> {
        let mut core = self.lock();
        let deadline = core.clock.now() + limit;
        loop {
            core.pump();
            if let Some(found) = look(&mut core) {
                core.pump();
                return Ok(found);
            }
            if core.closed {
                return Err(ProbeError::Closed);
            }
            let left = deadline.checked_sub(core.clock.now()).filter(|left| !left.is_zero());
            let left = left.ok_or(ProbeError::Timeout(what))?;
            core = self.changed.wait_timeout(core, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// One request on the current IKE SA (or the one with this SPI) and its response. An error notification is an error.
    pub fn request(
        &self,
        on: Option<u64>,
        exchange: u8,
        payloads: &[Payload],
    ) -> Result<Message, ProbeError> {
        let _turn = self.one_exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, datagrams) = {
            let mut core = self.lock();
            let spi_i = on.or(core.ikes.last().map(|sa| sa.spi_i)).ok_or(ProbeError::Closed)?;
            let (message_id, datagrams) = core.seal(spi_i, exchange, None, payloads)?;
            core.awaited.insert((spi_i, message_id), None);
            ((spi_i, message_id), datagrams)
        };
        let mut result = Err(ProbeError::Timeout("an IKE response"));
        for (attempt, wait) in WAITS.into_iter().enumerate() {
            {
                let mut core = self.lock();
                core.counters.retransmissions += u64::from(attempt > 0);
                core.send_ike(&datagrams);
            }
            let answer = |core: &mut Core| core.awaited.get_mut(&key).and_then(Option::take);
            result = self.wait(wait, "an IKE response", answer);
            if !matches!(result, Err(ProbeError::Timeout(_))) {
                break;
            }
        }
        self.lock().awaited.remove(&key);
        let message = result?;
        match message.error() {
            Some(notify) => Err(ProbeError::Refused { exchange, notify }),
            None => Ok(message),
        }
    }

    /// Receives until told to stop.
    pub fn run(&self) -> std::io::Result<()> {
        let mut poll = mio::Poll::new()?;
        let mut events = mio::Events::with_capacity(4);
        let mut link: Option<Arc<Link>> = None;
        let mut storage = vec![vec![0u8; 65_535]; BUFFERS];
        let mut metas = [RecvMeta::default(); BUFFERS];
        while !self.stop.load(Ordering::Relaxed) {
            let (current, delay) = {
                let mut core = self.lock();
                let now = core.clock.now();
                (core.link.clone(), core.stack.poll_delay(now))
            };
            if link.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &current)) {
                poll = mio::Poll::new()?;
                let fd = std::os::fd::AsRawFd::as_raw_fd(&current.socket);
                poll.registry().register(&mut SourceFd(&fd), mio::Token(0), mio::Interest::READABLE)?;
                link = Some(current.clone());
            }
            match poll.poll(&mut events, Some(delay.unwrap_or(TICK).min(TICK))) {
                Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
                _ => self.receive(&current, &mut storage, &mut metas),
            }
        }
        Ok(())
    }

    /// Takes in all that the socket has, then lets the stack answer.
    fn receive(&self, link: &Link, storage: &mut [Vec<u8>], metas: &mut [RecvMeta; BUFFERS]) {
        loop {
            let received = {
                let mut slices: Vec<_> = storage.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
                link.recv(&mut slices, metas)
            };
            let mut core = self.lock();
            let Ok(count) = received else {
                core.tick();
                core.pump();
                break;
            };
            for (buffer, meta) in storage.iter_mut().zip(metas.iter()).take(count) {
                if meta.addr != link.server {
                    core.counters.strangers += 1;
                    continue;
                }
                let bytes = buffer.split_at_mut(meta.len).0;
                bytes.chunks_mut(meta.stride.max(1)).for_each(|datagram| core.handle_datagram(datagram));
            }
            core.pump();
            drop(core);
            self.changed.notify_all();
        }
    }
}
