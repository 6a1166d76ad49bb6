//! Option negotiation (RFC 1661 section 4), the same for LCP and IPCP.

use std::collections::VecDeque;
use std::time::Duration;

use super::Fault;
use crate::base::Random;
use crate::wire::ppp::{ConfigOption, Packet, code, emit_option, parse_options};

/// Restart timer (RFC 1661 section 4.6).
const RETRANSMIT: Duration = Duration::from_secs(3);
/// Configure-Requests sent without any answer.
const MAX_CONFIGURE: u8 = 10;
/// Naks and Rejects of ours that we follow, and Naks that we send before we reject.
const MAX_REFUSALS: u8 = 10;
const MAX_NAKS: u8 = 5;
/// Requests of the peer in a row that we reject something of.
const MAX_REJECTS: u8 = 10;

/// Control packets to send: protocol and PPP payload.
pub(super) type Outbox = VecDeque<(u16, Vec<u8>)>;

/// What we think of an option that the peer asks for.
pub(super) enum Verdict {
    /// Accepted.
    Ack,
    /// Better with this value.
    Nak(Vec<u8>),
    /// Not known, or not wanted.
    Reject,
}

/// The options of one protocol.
pub(super) trait Options {
    /// PPP protocol number.
    const PROTOCOL: u16;
    /// Appends the options that we ask for.
    fn emit(&self, out: &mut Vec<u8>);
    /// The peer suggests another value for an option of ours.
    fn handle_nak(&mut self, option: ConfigOption<'_>, rng: &mut dyn Random) -> Result<(), Fault>;
    /// The peer does not want an option of ours.
    fn handle_reject(&mut self, option: ConfigOption<'_>) -> Result<(), Fault>;
    /// A new request of the peer begins: what the last one set is void.
    fn begin(&mut self);
    /// Judges an option of the peer's request, and takes it over if it is good.
    fn judge(&mut self, option: ConfigOption<'_>, rng: &mut dyn Random) -> Result<Verdict, Fault>;
}

/// Our Configure-Request on its way.
struct Outstanding {
    id: u8,
    options: Vec<u8>,
    resend_at: Duration,
    sent: u8,
}

/// One protocol's automaton.
pub(super) struct Negotiation<O> {
    /// The options and what was agreed.
    pub(super) options: O,
    last_id: u8,
    outstanding: Option<Outstanding>,
    /// The peer acknowledged our request.
    local: bool,
    /// The peer's request that we acknowledged: identifier and options.
    remote: Option<(u8, Vec<u8>)>,
    /// The peer never sends a request of its own; we go on without.
    presumed: bool,
    refusals: u8,
    naks: u8,
    rejects: u8,
}

impl<O: Options> Negotiation<O> {
    /// Starts with a Configure-Request.
    pub(super) fn new(options: O, now: Duration, out: &mut Outbox) -> Self {
        let mut this = Self {
            options,
            last_id: 0,
            outstanding: None,
            local: false,
            remote: None,
            presumed: false,
            refusals: 0,
            naks: 0,
            rejects: 0,
        };
        this.request(now, out);
        this
    }

    /// Both directions are agreed.
    pub(super) fn is_open(&self) -> bool {
        self.local && (self.remote.is_some() || self.presumed)
    }

    /// The peer acknowledged our request but has sent none.
    pub(super) fn is_half_open(&self) -> bool {
        self.local && !self.is_open()
    }

    /// Opens a half-open negotiation.
    pub(super) fn presume(&mut self) {
        self.presumed = true;
    }

    /// A fresh identifier for a packet of ours.
    pub(super) fn next_id(&mut self) -> u8 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// Queues a packet of this protocol.
    pub(super) fn send(out: &mut Outbox, code: u8, id: u8, data: &[u8]) {
        out.push_back((O::PROTOCOL, Packet { code, id, data }.emit()));
    }

    /// Handles Configure-Request, -Ack, -Nak and -Reject. Malformed and stale packets have no effect.
    pub(super) fn handle(
        &mut self,
        now: Duration,
        packet: Packet<'_>,
        rng: &mut dyn Random,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if packet.code == code::CONFIGURE_REQUEST {
            return self.handle_request(now, packet, rng, out);
        }
        let Some(outstanding) = self.outstanding.as_ref().filter(|o| o.id == packet.id) else {
            return Ok(());
        };
        if packet.code == code::CONFIGURE_ACK {
            // An Ack of something else than we sent is no Ack (RFC 1661 section 5.2).
            if packet.data == outstanding.options {
                self.outstanding = None;
                self.local = true;
                self.refusals = 0;
            }
            return Ok(());
        }
        let Ok(options) = parse_options(packet.data) else {
            return Ok(());
        };
        self.refusals += 1;
        if self.refusals > MAX_REFUSALS {
            return Err(Fault::NotConverging);
        }
        for option in options {
            if packet.code == code::CONFIGURE_NAK {
                self.options.handle_nak(option, rng)?;
            } else {
                self.options.handle_reject(option)?;
            }
        }
        self.request(now, out);
        Ok(())
    }

    fn handle_request(
        &mut self,
        now: Duration,
        packet: Packet<'_>,
        rng: &mut dyn Random,
        out: &mut Outbox,
    ) -> Result<(), Fault> {
        if self.remote.as_ref().is_some_and(|(id, options)| *id == packet.id && options == packet.data) {
            Self::send(out, code::CONFIGURE_ACK, packet.id, packet.data);
            return Ok(());
        }
        let Ok(options) = parse_options(packet.data) else {
            return Ok(());
        };
        let renegotiation = self.local && self.remote.is_some();
        self.remote = None;
        self.presumed = false;
        self.options.begin();
        let (mut naks, mut rejects) = (Vec::new(), Vec::new());
        for option in options {
            match self.options.judge(option, rng)? {
                Verdict::Ack => {}
                Verdict::Nak(value) if self.naks < MAX_NAKS => emit_option(&mut naks, option.kind, &value),
                Verdict::Nak(_) | Verdict::Reject => emit_option(&mut rejects, option.kind, option.value),
            }
        }
        if renegotiation {
            self.local = false;
            self.request(now, out);
        }
        if !rejects.is_empty() {
            self.rejects += 1;
            if self.rejects > MAX_REJECTS {
                return Err(Fault::NotConverging);
            }
            Self::send(out, code::CONFIGURE_REJECT, packet.id, &rejects);
        } else if !naks.is_empty() {
            self.naks += 1;
            Self::send(out, code::CONFIGURE_NAK, packet.id, &naks);
        } else {
            (self.naks, self.rejects) = (0, 0);
            self.remote = Some((packet.id, packet.data.to_vec()));
            Self::send(out, code::CONFIGURE_ACK, packet.id, packet.data);
        }
        Ok(())
    }

    fn request(&mut self, now: Duration, out: &mut Outbox) {
        let mut options = Vec::new();
        self.options.emit(&mut options);
        let id = self.next_id();
        Self::send(out, code::CONFIGURE_REQUEST, id, &options);
        self.outstanding = Some(Outstanding { id, options, resend_at: now + RETRANSMIT, sent: 1 });
    }

    /// When to call [`Negotiation::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.outstanding.as_ref().map(|o| o.resend_at)
    }

    /// Sends the request again when it is time.
    pub(super) fn handle_timeout(&mut self, now: Duration, out: &mut Outbox) -> Result<(), Fault> {
        let Some(outstanding) = self.outstanding.as_mut().filter(|o| o.resend_at <= now) else {
            return Ok(());
        };
        if outstanding.sent >= MAX_CONFIGURE {
            return Err(Fault::Timeout);
        }
        outstanding.sent += 1;
        outstanding.resend_at = now + RETRANSMIT;
        Self::send(out, code::CONFIGURE_REQUEST, outstanding.id, &outstanding.options);
        Ok(())
    }
}
