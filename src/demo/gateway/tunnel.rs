//! One tunnel: TLS records in and out, frames, PPP, and the network behind.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use super::far_side::Network;
use super::frame::{Deframer, Frames};
use super::journal::{Counts, Event, TunnelEnd};
use super::ppp::{Ppp, Received};
use super::records::Records;
use super::scenario::{CloseStyle, Moment, Order};
use super::session::Grant;
use super::{Live, Shared};

const SOCKET: Token = Token(0);
const WAKE: Token = Token(1);
const READ_SIZE: usize = 128 * 1024;
/// Octets of frames made in one turn.
const TURN: usize = 256 * 1024;
/// Application data that nobody has encrypted.
const BAD_RECORD: [u8; 37] = {
    let mut record = [0x55; 37];
    [record[0], record[1], record[2], record[3], record[4]] = [23, 3, 3, 0, 32];
    record
};
/// How long to wait for a Terminate-Ack, and for the client to close after our FIN.
const GRACE: Duration = Duration::from_secs(1);

/// Serves the tunnel until it ends. `early` is what the client sent right behind its request.
pub(super) fn serve(
    shared: &Shared,
    grant: Grant,
    stream: TcpStream,
    tls: Records,
    early: &[u8],
) -> io::Result<()> {
    let scenario = shared.scenario();
    let network = shared.network(grant.address, &scenario, &grant.kick);
    stream.set_nonblocking(true)?;
    let mut stream = mio::net::TcpStream::from_std(stream);
    let poll = Poll::new()?;
    poll.registry().register(&mut stream, SOCKET, Interest::READABLE | Interest::WRITABLE)?;
    grant.kick.set_waker(Waker::new(poll.registry(), WAKE)?);
    let ppp = Ppp::new(scenario.ppp.clone(), grant.address, scenario.dns.clone(), shared.random());
    let now = shared.now();
    let mut tunnel = Tunnel {
        ignore: scenario.ignore_frames,
        plan: scenario.orders.clone(),
        read_limit: None,
        paused_until: None,
        shared,
        grant: &grant,
        stream,
        tls,
        poll,
        readable: true,
        writable: true,
        chunk: vec![0; READ_SIZE],
        deframer: Deframer::default(),
        out: Frames::new(scenario.ppp.address_control),
        ppp,
        network,
        counts: Counts::default(),
        scenario,
        up_since: None,
        active_at: now,
        echo_at: None,
    };
    tunnel.deframer.extend(early);
    let why = tunnel.run();
    tunnel.network.detach();
    let ended = !matches!(why, TunnelEnd::ClientClosed | TunnelEnd::Stopped | TunnelEnd::OutOfSync)
        && !matches!(why, TunnelEnd::Dropped(_));
    shared.sessions().tunnel_closed(shared.now(), &grant, ended);
    shared.note(Event::TunnelDown { address: grant.address, why, counts: tunnel.counts });
    Ok(())
}

struct Tunnel<'a> {
    shared: &'a Shared,
    scenario: Arc<Live>,
    grant: &'a Grant,
    stream: mio::net::TcpStream,
    tls: Records,
    poll: Poll,
    readable: bool,
    writable: bool,
    chunk: Vec<u8>,
    deframer: Deframer,
    out: Frames,
    ppp: Ppp,
    network: Network,
    counts: Counts,
    ignore: u32,
    /// What is still to be done, and when.
    plan: Vec<(Moment, Order)>,
    /// Octets of a read, and the pause after it.
    read_limit: Option<(usize, Duration)>,
    paused_until: Option<Duration>,
    up_since: Option<Duration>,
    active_at: Duration,
    echo_at: Option<Duration>,
}

impl Tunnel<'_> {
    fn run(&mut self) -> TunnelEnd {
        loop {
            let now = self.shared.now();
            if let Some((why, style)) = self.obey(now).or_else(|| self.due(now)) {
                return self.close(why, style);
            }
            match self.turn(now) {
                Ok(None) => {}
                Ok(Some(TunnelEnd::ClientTerminated)) => {
                    // The client, having its Ack, closes the connection; if it does not, we do.
                    let _ = self.drain(now + GRACE);
                    return self.close(TunnelEnd::ClientTerminated, CloseStyle::CloseNotify);
                }
                Ok(Some(why)) => return why,
                Err(_) => return TunnelEnd::ClientClosed,
            }
            if self.wait(now).is_err() {
                return TunnelEnd::ClientClosed;
            }
        }
    }

    /// One turn: read, answer, let the network send, write.
    fn turn(&mut self, now: Duration) -> io::Result<Option<TunnelEnd>> {
        let mut end = if self.receive()? { None } else { Some(TunnelEnd::ClientClosed) };
        if let Some(why) = self.handle_frames(now) {
            end = Some(why);
        }
        self.ppp.handle_timeout(now, &mut self.out);
        if let Some(every) = self.scenario.ppp.echo_every
            && self.ppp.is_up()
            && self.echo_at.is_none_or(|at| now >= at)
        {
            self.ppp.ask_echo(&mut self.out);
            self.echo_at = Some(now + every);
        }
        if self.ppp.is_up() && !self.tls.wants_write() {
            self.network.poll(now, &mut self.out, TURN);
        }
        self.send()?;
        Ok(end)
    }

    /// Reads what the socket has, up to one chunk. False at the end of the stream.
    fn receive(&mut self) -> io::Result<bool> {
        if !self.readable || self.paused_until.is_some_and(|until| self.shared.now() < until) {
            return Ok(true);
        }
        self.paused_until = self.read_limit.map(|(_, pause)| self.shared.now() + pause);
        let most = self.read_limit.map_or(self.chunk.len(), |(octets, _)| octets.min(self.chunk.len()));
        let len = match self.stream.read(&mut self.chunk[..most]) {
            Ok(0) => return Ok(false),
            Ok(len) => len,
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                0
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => 0,
            Err(e) => return Err(e),
        };
        self.tls.receive(&self.chunk[..len], &mut self.deframer)
    }

    fn handle_frames(&mut self, now: Duration) -> Option<TunnelEnd> {
        loop {
            while let Some(order) = self.next_planned(now) {
                if let Some(style) = self.follow(now, order) {
                    self.grant.kick.drop_tunnel(style);
                    return None;
                }
            }
            let packet = match self.deframer.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return None,
                Err(_) => return Some(TunnelEnd::OutOfSync),
            };
            self.counts.frames_in += 1;
            for (_, order) in self.plan.extract_if(.., |(moment, _)| *moment == Moment::FirstFrame) {
                if let Order::Send(bytes) = order {
                    self.out.push_raw(&bytes);
                }
            }
            if self.ignore > 0 {
                self.ignore -= 1;
                continue;
            }
            match self.ppp.handle(now, packet, &mut self.out) {
                Received::Data(packet) => {
                    self.active_at = now;
                    self.counts.packets_in += 1;
                    self.counts.octets_in += packet.len() as u64;
                    if packet.get(12..16) == Some(&self.grant.address.octets()) {
                        self.network.handle_packet(now, packet, &mut self.out);
                    } else {
                        self.counts.spoofed += 1;
                    }
                }
                Received::Up => {
                    let address = self.grant.address;
                    let again = self.up_since.replace(self.up_since.unwrap_or(now)).is_some();
                    self.active_at = now;
                    self.shared.note(if again {
                        Event::LinkAgain(address)
                    } else {
                        Event::TunnelUp(address)
                    });
                }
                Received::Echo => {
                    self.counts.echoes_in += 1;
                    if self.scenario.echo_is_activity {
                        self.active_at = now;
                    }
                }
                Received::Terminated => return Some(TunnelEnd::ClientTerminated),
                Received::Ignored => self.counts.ignored += 1,
                Received::Control | Received::TerminateAcked => {}
            }
        }
    }

    /// Puts the frames of this turn into TLS records and writes what the socket takes.
    fn send(&mut self) -> io::Result<()> {
        self.counts.frames_out += self.out.count() as u64;
        let limit = self.scenario.record_limit.unwrap_or(16 * 1024).max(1);
        if self.scenario.frame_per_record {
            self.out.iter().try_for_each(|frame| self.tls.send(frame))?;
        } else if self.scenario.random_records {
            let mut rest = self.out.bytes();
            while !rest.is_empty() {
                let length = usize::from(u16::from_be_bytes(self.shared.random())) % limit + 1;
                let (record, others) = rest.split_at(length.min(rest.len()));
                self.tls.send(record)?;
                rest = others;
            }
        } else {
            self.out.bytes().chunks(limit).try_for_each(|record| self.tls.send(record))?;
        }
        self.out.clear();
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.writable && self.tls.wants_write() {
            match self.tls.write_to(&mut self.stream) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn wait(&mut self, now: Duration) -> io::Result<()> {
        let blocked = self.tls.wants_write();
        let paused = self.paused_until.filter(|&until| now < until);
        let timeout = if (self.readable && paused.is_none()) || (blocked && self.writable) {
            Duration::ZERO
        } else {
            let network = if blocked { None } else { self.network.poll_delay(now) };
            let deadlines = [self.ppp.poll_timeout(), self.echo_at, paused, self.next_deadline()];
            let earliest = deadlines.into_iter().flatten().min().map(|at| at.saturating_sub(now));
            [network, earliest].into_iter().flatten().min().unwrap_or(GRACE)
        };
        let mut events = Events::with_capacity(8);
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
            _ => {}
        }
        for event in events.iter().filter(|event| event.token() == SOCKET) {
            self.readable |= event.is_readable() || event.is_read_closed();
            self.writable |= event.is_writable();
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Duration> {
        let mut deadlines = Vec::new();
        if let (Some(since), Some((after, _))) = (self.up_since, self.scenario.drop_tunnel_after) {
            deadlines.push(since + after);
        }
        for (moment, _) in &self.plan {
            if let (Some(since), Moment::UpFor(time)) = (self.up_since, moment) {
                deadlines.push(since + *time);
            }
        }
        if !self.scenario.idle_timeout.is_zero() {
            deadlines.push(self.active_at + self.scenario.idle_timeout);
        }
        if !self.scenario.auth_timeout.is_zero() {
            deadlines.push(self.grant.login_at + self.scenario.auth_timeout);
        }
        deadlines.into_iter().min()
    }

    /// Does what was ordered from outside, up to an order to end.
    fn obey(&mut self, now: Duration) -> Option<(TunnelEnd, CloseStyle)> {
        while let Some(order) = self.grant.kick.take().or_else(|| self.next_planned(now)) {
            if let Some(style) = self.follow(now, order) {
                return Some((TunnelEnd::Dropped(style), style));
            }
        }
        None
    }

    /// Follows an order; to end is left to the caller.
    fn follow(&mut self, now: Duration, order: Order) -> Option<CloseStyle> {
        match order {
            Order::Drop(style) => return Some(style),
            Order::Send(bytes) => self.out.push_raw(&bytes),
            Order::Renegotiate => self.ppp.renegotiate(now, &mut self.out),
            Order::PauseReading(time) => self.paused_until = Some(now + time),
            Order::ReadSlowly(octets, pause) => self.read_limit = Some((octets.max(1), pause)),
            Order::UpdateKeys => self.tls.update_keys(),
            // Errors come again with the next record.
            Order::EmptyRecords(count) => drop((0..count).try_for_each(|_| self.tls.send_empty())),
            Order::HelloRequest => drop(self.tls.send_hello_request()),
        }
        None
    }

    /// The first order of the plan whose moment has come; it leaves the plan.
    fn next_planned(&mut self, now: Duration) -> Option<Order> {
        let position = self.plan.iter().position(|(moment, _)| match *moment {
            // The frame itself is where this one is followed.
            Moment::FirstFrame => false,
            Moment::LcpOpen => self.ppp.is_lcp_open(),
            Moment::UpFor(time) => self.up_since.is_some_and(|since| now >= since + time),
            Moment::Packets(count) => self.counts.packets_in >= count,
        })?;
        Some(self.plan.remove(position).1)
    }

    /// Whether the tunnel has to go now, and how.
    fn due(&self, now: Duration) -> Option<(TunnelEnd, CloseStyle)> {
        if self.shared.is_stopping() {
            return Some((TunnelEnd::Stopped, CloseStyle::Fin));
        }
        if let (Some(since), Some((after, style))) = (self.up_since, self.scenario.drop_tunnel_after)
            && now >= since + after
        {
            return Some((TunnelEnd::Dropped(style), style));
        }
        let style = self.scenario.timeout_close;
        let (idle, auth) = (self.scenario.idle_timeout, self.scenario.auth_timeout);
        if !idle.is_zero() && now >= self.active_at + idle {
            return Some((TunnelEnd::Idle, style));
        }
        (!auth.is_zero() && now >= self.grant.login_at + auth).then_some((TunnelEnd::AuthExpired, style))
    }

    /// Closes in `style`; tells `why`. Errors do not matter any more.
    fn close(&mut self, why: TunnelEnd, style: CloseStyle) -> TunnelEnd {
        let _ = match style {
            CloseStyle::CloseNotify => self.close_notify(),
            CloseStyle::Fin => self.finish(),
            CloseStyle::Reset => {
                // With no time to linger, closing sends RST.
                socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
            }
            CloseStyle::HalfFrame => {
                let half = [0, 0x12, 0x50, 0x50, 0, 0x0c, 0xc0, 0x21, 0x09];
                self.tls.send(&half).and_then(|()| self.flush()).and_then(|()| self.finish())
            }
            CloseStyle::Alert(description) => {
                self.tls.send_alert(description).and_then(|()| self.flush()).and_then(|()| self.finish())
            }
            CloseStyle::BadRecord => self.stream.write_all(&BAD_RECORD).and_then(|()| self.finish()),
            CloseStyle::Terminate => {
                self.end_session();
                self.terminate()
            }
            CloseStyle::TerminateThenSilence => {
                self.end_session();
                self.ppp.terminate(&mut self.out);
                let _ = self.send();
                return self.swallow(why);
            }
            CloseStyle::Blackhole => return self.swallow(why),
        };
        why
    }

    fn end_session(&self) {
        self.shared.sessions().tunnel_closed(self.shared.now(), self.grant, true);
    }

    fn close_notify(&mut self) -> io::Result<()> {
        self.tls.send_close_notify()?;
        self.flush()?;
        self.finish()
    }

    /// Sends FIN and waits for the client's, so that no unread byte turns it into RST.
    fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.drain(self.shared.now() + GRACE).map(drop)
    }

    fn terminate(&mut self) -> io::Result<()> {
        self.ppp.terminate(&mut self.out);
        self.send()?;
        let until = self.shared.now() + GRACE;
        while self.shared.now() < until {
            self.wait_for_input(until)?;
            if !self.receive()? {
                return Ok(());
            }
            while let Ok(Some(packet)) = self.deframer.next_packet() {
                let acked = self.ppp.handle(until, packet, &mut self.out) == Received::TerminateAcked;
                self.out.clear();
                if acked {
                    return self.close_notify();
                }
            }
        }
        self.close_notify()
    }

    /// Reads and ignores everything until the client gives up, the tunnel is kicked again, or the gateway stops.
    fn swallow(&mut self, why: TunnelEnd) -> TunnelEnd {
        while !self.shared.is_stopping() && self.grant.kick.take().is_none() {
            if !matches!(self.drain(self.shared.now() + GRACE), Ok(false)) {
                break;
            }
        }
        why
    }

    /// Reads and ignores until the client has closed (true) or until `until`.
    fn drain(&mut self, until: Duration) -> io::Result<bool> {
        while self.shared.now() < until {
            self.wait_for_input(until)?;
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    fn wait_for_input(&mut self, until: Duration) -> io::Result<()> {
        if self.readable {
            return Ok(());
        }
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(until.saturating_sub(self.shared.now())))?;
        self.readable |= events.iter().any(|event| event.token() == SOCKET);
        Ok(())
    }
}
