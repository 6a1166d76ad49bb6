//! PPP as a FortiGate speaks it (RFC 1661, RFC 1332, RFC 1877): the server side, written apart from the client's.
//!
//! The gateway stays silent until the client's first packet, asks for a magic number only, never authenticates,
//! gives the address of the configuration, and knows neither IPV6CP nor compression.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::frame::Frames;
use super::scenario::{Acks, DnsOffer, Echo, Magic, Mru, PppKnobs};

/// PPP protocol number of IPv4 packets.
pub const IPV4: u16 = 0x0021;
const LCP: u16 = 0xc021;
const IPCP: u16 = 0x8021;
const IPV6: u16 = 0x0057;
const IPV6CP: u16 = 0x8057;
const CCP: u16 = 0x80fd;

const CONFIGURE_REQUEST: u8 = 1;
const CONFIGURE_ACK: u8 = 2;
const CONFIGURE_NAK: u8 = 3;
const CONFIGURE_REJECT: u8 = 4;
const TERMINATE_REQUEST: u8 = 5;
const TERMINATE_ACK: u8 = 6;
const PROTOCOL_REJECT: u8 = 8;
const ECHO_REQUEST: u8 = 9;
const ECHO_REPLY: u8 = 10;

/// Octets of an unknown packet that a Protocol-Reject quotes.
const MAX_REJECTED: usize = 1280;
/// From this identifier on a client that keeps refusing our address is offered the deprecated option 1 (RFC 1172).
const LAST_ADDRESS_ID: u8 = 0x65;

/// What a packet from the client was.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// Control traffic; answers are in the output.
    Control,
    /// An Echo-Request; apart because a gateway may or may not count it as activity.
    Echo,
    /// The network layer has just come up.
    Up,
    /// An IP packet.
    Data(&'a [u8]),
    /// The client ends the link; the Ack is in the output.
    Terminated,
    /// The client has acknowledged our Terminate-Request.
    TerminateAcked,
    /// Dropped: malformed, or not in this state.
    Ignored,
}

/// One protocol's negotiation: what we asked and what was agreed in each direction.
#[derive(Default)]
struct Negotiation {
    id: u8,
    asked: Vec<u8>,
    acked_by_peer: bool,
    acked_by_us: bool,
    /// An altered Ack was sent.
    altered: bool,
}

impl Negotiation {
    fn is_open(&self) -> bool {
        self.acked_by_peer && self.acked_by_us
    }

    /// Sends a new Configure-Request with `options`.
    fn ask(&mut self, protocol: u16, options: Vec<u8>, out: &mut Frames) {
        self.id = self.id.wrapping_add(1);
        self.asked = options;
        self.repeat(protocol, out);
    }

    fn repeat(&self, protocol: u16, out: &mut Frames) {
        push_control(out, protocol, CONFIGURE_REQUEST, self.id, &self.asked);
    }
}

/// The PPP link of one tunnel.
pub struct Ppp {
    knobs: PppKnobs,
    client: Ipv4Addr,
    dns: Vec<Ipv4Addr>,
    magic: [u8; 4],
    started: bool,
    lcp: Negotiation,
    ipcp: Negotiation,
    ipv6cp: Negotiation,
    next_id: u8,
    repeat_at: Option<Duration>,
}

impl Ppp {
    /// A link that gives `client` and `dns` to the peer.
    pub fn new(knobs: PppKnobs, client: Ipv4Addr, dns: Vec<Ipv4Addr>, magic: [u8; 4]) -> Self {
        let negotiation = Negotiation::default;
        Self {
            client: knobs.client_address.unwrap_or(client),
            knobs,
            dns,
            magic,
            started: false,
            lcp: negotiation(),
            ipcp: negotiation(),
            ipv6cp: negotiation(),
            next_id: 0,
            repeat_at: None,
        }
    }

    /// True when LCP is open.
    pub fn is_lcp_open(&self) -> bool {
        self.lcp.is_open()
    }

    /// True when IP packets may flow.
    pub fn is_up(&self) -> bool {
        self.lcp.is_open() && self.ipcp.is_open()
    }

    /// Handles one PPP packet, with or without the octets FF 03, and appends the answers.
    pub fn handle<'a>(&mut self, now: Duration, packet: &'a [u8], out: &mut Frames) -> Received<'a> {
        let packet = packet.strip_prefix(&[0xff, 0x03]).unwrap_or(packet);
        let Some((&[p0, p1], payload)) = packet.split_first_chunk() else { return Received::Ignored };
        if !self.started {
            self.started = true;
            if self.knobs.magic == Magic::Same
                && let Some(magic) = magic_of(payload)
            {
                self.magic = magic;
            }
            self.start_lcp(now, out);
        }
        match u16::from_be_bytes([p0, p1]) {
            IPV4 if self.is_up() => Received::Data(payload),
            IPV4 => Received::Ignored,
            LCP => self.handle_lcp(now, payload, out),
            IPCP if self.lcp.is_open() => self.handle_ipcp(now, payload, out),
            CCP if self.lcp.is_open() => handle_ccp(payload, out),
            IPV6CP if self.lcp.is_open() && self.knobs.ipv6.is_some() => self.handle_ipv6cp(payload, out),
            IPV6 if self.ipv6cp.is_open() => Received::Control,
            _ if self.lcp.is_open() => {
                self.next_id = self.next_id.wrapping_add(1);
                // Cut to fit (RFC 1661, 5.7).
                let rejected = packet.get(..MAX_REJECTED).unwrap_or(packet);
                push_control(out, LCP, PROTOCOL_REJECT, self.next_id, rejected);
                Received::Control
            }
            _ => Received::Ignored,
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.repeat_at
    }

    /// Repeats the requests that were not answered.
    pub fn handle_timeout(&mut self, now: Duration, out: &mut Frames) {
        if self.repeat_at.is_none_or(|at| now < at) {
            return;
        }
        if !self.lcp.acked_by_peer {
            self.lcp.repeat(LCP, out);
        } else if self.lcp.is_open() && !self.ipcp.acked_by_peer {
            self.ipcp.repeat(IPCP, out);
        }
        self.repeat_at = (!self.is_up()).then_some(now + self.knobs.restart);
    }

    /// Sends an Echo-Request.
    pub fn ask_echo(&mut self, out: &mut Frames) {
        self.next_id = self.next_id.wrapping_add(1);
        push_control(out, LCP, ECHO_REQUEST, self.next_id, &self.magic);
    }

    /// Sends a Terminate-Request.
    pub fn terminate(&mut self, out: &mut Frames) {
        self.next_id = self.next_id.wrapping_add(1);
        let reason = self.knobs.terminate_reason.as_bytes();
        push_control(out, LCP, TERMINATE_REQUEST, self.next_id, reason);
    }

    /// Takes the link down and negotiates anew.
    pub fn renegotiate(&mut self, now: Duration, out: &mut Frames) {
        for negotiation in [&mut self.lcp, &mut self.ipcp, &mut self.ipv6cp] {
            *negotiation = Negotiation { id: negotiation.id, ..Negotiation::default() };
        }
        self.start_lcp(now, out);
    }

    fn start_lcp(&mut self, now: Duration, out: &mut Frames) {
        if !self.knobs.ask_lcp {
            self.lcp.acked_by_peer = true;
            return;
        }
        let mut options = Vec::new();
        if let Some(mru) = self.knobs.own_mru {
            push_option(&mut options, 1, &mru.to_be_bytes());
        }
        if self.knobs.ask_auth {
            push_option(&mut options, 3, &[0xc0, 0x23]);
        }
        push_option(&mut options, 5, &self.magic);
        if self.knobs.ask_field_compression {
            push_option(&mut options, 7, &[]);
            push_option(&mut options, 8, &[]);
        }
        options.extend_from_slice(&self.knobs.more_options);
        self.lcp.ask(LCP, options, out);
        self.repeat_at = Some(now + self.knobs.restart);
    }

    fn handle_lcp<'a>(&mut self, now: Duration, payload: &[u8], out: &mut Frames) -> Received<'a> {
        let Some((code, id, data)) = parse_control(payload) else { return Received::Ignored };
        let was_open = self.lcp.is_open();
        match code {
            CONFIGURE_REQUEST => {
                if was_open {
                    // The client negotiates anew (RFC 1661, 4.3): so do we, from the beginning.
                    self.renegotiate(now, out);
                }
                let Some(options) = parse_options(data) else { return Received::Ignored };
                let naks = take_one(&mut self.knobs.lcp_naks);
                let verdict = match naks {
                    Some(left) => nak(1, &(1300 + (left % 50) as u16).to_be_bytes()),
                    None => judge_all(&options, |kind, value| self.judge_lcp(kind, value)),
                };
                self.lcp.acked_by_us = reply(out, LCP, id, verdict, self.knobs.acks, &mut self.lcp.altered);
            }
            CONFIGURE_ACK if id == self.lcp.id && data == self.lcp.asked => self.lcp.acked_by_peer = true,
            CONFIGURE_NAK | CONFIGURE_REJECT if id == self.lcp.id => {
                let Some(refused) = parse_options(data) else { return Received::Ignored };
                let mut kept = without(&self.lcp.asked, &refused);
                if code == CONFIGURE_NAK && refused.iter().any(|(kind, _)| *kind == 5) {
                    self.magic = self.magic.map(|octet| octet.wrapping_add(0x35));
                    push_option(&mut kept, 5, &self.magic);
                }
                self.lcp.ask(LCP, kept, out);
            }
            TERMINATE_REQUEST => {
                if self.knobs.ack_terminate {
                    push_control(out, LCP, TERMINATE_ACK, id, data);
                }
                return Received::Terminated;
            }
            TERMINATE_ACK => return Received::TerminateAcked,
            ECHO_REQUEST if was_open => {
                if self.knobs.answer_echo {
                    let text = data.get(4..).unwrap_or_default();
                    let (id, magic) = match self.knobs.echo {
                        Echo::Right => (id, self.magic),
                        Echo::WrongMagic => (id, self.magic.map(|octet| !octet)),
                        Echo::WrongId => (id.wrapping_add(100), self.magic),
                    };
                    push_control(out, LCP, ECHO_REPLY, id, &[&magic, text].concat());
                }
                return Received::Echo;
            }
            _ => {}
        }
        if !was_open && self.lcp.is_open() {
            let mut options = Vec::new();
            if self.knobs.offer_vj {
                push_option(&mut options, 2, &[0x00, 0x2d, 0x0f, 0x01]);
            }
            if self.knobs.insist_on_pair {
                options = self.address_pair();
            } else {
                push_option(&mut options, 3, &self.knobs.own_address.octets());
            }
            self.ipcp.ask(IPCP, options, out);
            self.repeat_at = Some(now + self.knobs.restart);
        }
        Received::Control
    }

    fn judge_lcp(&self, kind: u8, value: &[u8]) -> Verdict {
        match (kind, self.knobs.mru) {
            (1, Mru::Ack) => Verdict::Ack,
            (1, Mru::Nak(mru)) if value == mru.to_be_bytes() => Verdict::Ack,
            (1, Mru::Nak(mru)) => Verdict::Nak(mru.to_be_bytes().to_vec()),
            (5, _) if self.knobs.magic == Magic::Reject => Verdict::Reject,
            (5, _) if value == self.magic && self.knobs.magic == Magic::Ack => {
                Verdict::Nak(vec![!value[0], 1, 2, 3])
            }
            (5, _) => Verdict::Ack,
            _ => Verdict::Reject,
        }
    }

    fn handle_ipcp<'a>(&mut self, now: Duration, payload: &[u8], out: &mut Frames) -> Received<'a> {
        let Some((code, id, data)) = parse_control(payload) else { return Received::Ignored };
        let was_up = self.is_up();
        match code {
            CONFIGURE_REQUEST => {
                let Some(options) = parse_options(data) else { return Received::Ignored };
                let naks = take_one(&mut self.knobs.ipcp_naks);
                let verdict = match naks {
                    Some(left) => nak(3, &[10, 212, 135, (left % 200) as u8]),
                    None => judge_all(&options, |kind, value| self.judge_ipcp(kind, value)),
                };
                self.ipcp.acked_by_us =
                    reply(out, IPCP, id, verdict, self.knobs.acks, &mut self.ipcp.altered);
            }
            CONFIGURE_ACK if id == self.ipcp.id && data == self.ipcp.asked => self.ipcp.acked_by_peer = true,
            CONFIGURE_REJECT if id == self.ipcp.id => {
                let Some(refused) = parse_options(data) else { return Received::Ignored };
                let mut kept = without(&self.ipcp.asked, &refused);
                if self.knobs.insist_on_pair {
                    kept = self.address_pair();
                }
                self.ipcp.ask(IPCP, kept, out);
            }
            CONFIGURE_NAK if id == self.ipcp.id => {
                // A FortiGate insists on its address, then falls back to the deprecated pair of addresses.
                let options = if self.ipcp.id <= LAST_ADDRESS_ID {
                    self.ipcp.asked.clone()
                } else {
                    self.address_pair()
                };
                self.ipcp.ask(IPCP, options, out);
            }
            TERMINATE_REQUEST => push_control(out, IPCP, TERMINATE_ACK, id, data),
            _ => {}
        }
        if self.is_up() {
            self.repeat_at = None;
        } else {
            self.repeat_at.get_or_insert(now + self.knobs.restart);
        }
        if !was_up && self.is_up() { Received::Up } else { Received::Control }
    }

    /// The deprecated option: our address and the client's.
    fn address_pair(&self) -> Vec<u8> {
        let mut options = Vec::new();
        push_option(&mut options, 1, &[self.knobs.own_address.octets(), self.client.octets()].concat());
        options
    }

    /// The client's identifier is acknowledged, whatever it is; ours is asked for.
    fn handle_ipv6cp<'a>(&mut self, payload: &[u8], out: &mut Frames) -> Received<'a> {
        let Some((code, id, data)) = parse_control(payload) else { return Received::Ignored };
        match code {
            CONFIGURE_REQUEST => {
                let Some(options) = parse_options(data) else { return Received::Ignored };
                if self.ipv6cp.asked.is_empty() {
                    let mut options = Vec::new();
                    push_option(&mut options, 1, &self.knobs.ipv6.unwrap_or_default());
                    self.ipv6cp.ask(IPV6CP, options, out);
                }
                let judge = |kind, _: &[u8]| if kind == 1 { Verdict::Ack } else { Verdict::Reject };
                let verdict = judge_all(&options, judge);
                self.ipv6cp.acked_by_us = reply(out, IPV6CP, id, verdict, Acks::Right, &mut false);
            }
            CONFIGURE_ACK if id == self.ipv6cp.id => self.ipv6cp.acked_by_peer = true,
            _ => {}
        }
        Received::Control
    }

    fn judge_ipcp(&self, kind: u8, value: &[u8]) -> Verdict {
        let want = match kind {
            1 => return Verdict::NakAs(3, self.client.octets().to_vec()),
            3 if self.knobs.reject_address => None,
            3 => Some(self.client),
            129 | 131 if self.knobs.dns == DnsOffer::Zero => return Verdict::Nak(vec![0; 4]),
            129 | 131 if self.knobs.dns == DnsOffer::Reject => None,
            129 => self.dns.first().copied(),
            131 => self.dns.get(1).copied(),
            _ => None,
        };
        match want {
            Some(address) if value == address.octets() => Verdict::Ack,
            Some(address) => Verdict::Nak(address.octets().to_vec()),
            None => Verdict::Reject,
        }
    }
}

/// How one option of a Configure-Request is taken.
enum Verdict {
    Ack,
    Nak(Vec<u8>),
    NakAs(u8, Vec<u8>),
    Reject,
}

/// What a Configure-Request deserves: Reject goes before Nak, Nak before Ack (RFC 1661, 5.1-5.4).
fn judge_all(options: &[(u8, &[u8])], judge: impl Fn(u8, &[u8]) -> Verdict) -> (u8, Vec<u8>) {
    let (mut all, mut naks, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
    for &(kind, value) in options {
        push_option(&mut all, kind, value);
        match judge(kind, value) {
            Verdict::Ack => {}
            Verdict::Nak(wanted) => push_option(&mut naks, kind, &wanted),
            Verdict::NakAs(kind, wanted) => push_option(&mut naks, kind, &wanted),
            Verdict::Reject => push_option(&mut rejects, kind, value),
        }
    }
    if !rejects.is_empty() {
        (CONFIGURE_REJECT, rejects)
    } else if !naks.is_empty() {
        (CONFIGURE_NAK, naks)
    } else {
        (CONFIGURE_ACK, all)
    }
}

fn nak(kind: u8, wanted: &[u8]) -> (u8, Vec<u8>) {
    let mut options = Vec::new();
    push_option(&mut options, kind, wanted);
    (CONFIGURE_NAK, options)
}

/// Answers a Configure-Request. True when it is acknowledged as it should be.
fn reply(
    out: &mut Frames,
    protocol: u16,
    id: u8,
    (code, data): (u8, Vec<u8>),
    acks: Acks,
    altered: &mut bool,
) -> bool {
    let acked = code == CONFIGURE_ACK;
    match acks {
        Acks::StaleFirst if acked => push_control(out, protocol, code, id.wrapping_sub(1), &data),
        Acks::Twice if acked => push_control(out, protocol, code, id, &data),
        Acks::AlteredFirst if acked && !*altered => {
            *altered = true;
            let last = data.len().saturating_sub(1);
            let other: Vec<_> =
                data.iter().enumerate().map(|(i, o)| if i == last { !o } else { *o }).collect();
            push_control(out, protocol, code, id, &other);
            return false;
        }
        _ => {}
    }
    push_control(out, protocol, code, id, &data);
    acked
}

/// Counts down; what is left, or `None` at the end.
fn take_one(count: &mut u32) -> Option<u32> {
    *count = count.checked_sub(1)?;
    Some(*count)
}

/// The magic number in an LCP Configure-Request.
fn magic_of(payload: &[u8]) -> Option<[u8; 4]> {
    let (_, _, data) = parse_control(payload)?;
    let options = parse_options(data)?;
    options.iter().find(|(kind, _)| *kind == 5).and_then(|(_, value)| (*value).try_into().ok())
}

/// Compression is refused option by option.
fn handle_ccp<'a>(payload: &[u8], out: &mut Frames) -> Received<'a> {
    let Some((CONFIGURE_REQUEST, id, data)) = parse_control(payload) else { return Received::Ignored };
    let Some(options) = parse_options(data) else { return Received::Ignored };
    reply(out, CCP, id, judge_all(&options, |_, _| Verdict::Reject), Acks::Right, &mut false);
    Received::Control
}

fn push_control(out: &mut Frames, protocol: u16, code: u8, id: u8, data: &[u8]) {
    out.push_with(protocol, data.len() + 4, |buf| {
        let len = buf.len() as u16;
        buf[0] = code;
        buf[1] = id;
        buf[2..4].copy_from_slice(&len.to_be_bytes());
        buf[4..].copy_from_slice(data);
    });
}

fn push_option(options: &mut Vec<u8>, kind: u8, value: &[u8]) {
    options.extend_from_slice(&[kind, value.len() as u8 + 2]);
    options.extend_from_slice(value);
}

/// Code, identifier and data of a control packet.
fn parse_control(payload: &[u8]) -> Option<(u8, u8, &[u8])> {
    let (&[code, id, l0, l1], _) = payload.split_first_chunk()?;
    let data = payload.get(4..usize::from(u16::from_be_bytes([l0, l1])))?;
    Some((code, id, data))
}

fn parse_options(mut data: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut options = Vec::new();
    while let Some((&[kind, len], _)) = data.split_first_chunk() {
        options.push((kind, data.get(2..usize::from(len))?));
        data = &data[usize::from(len)..];
    }
    data.is_empty().then_some(options)
}

/// The asked options except those whose type is among `refused`.
fn without(asked: &[u8], refused: &[(u8, &[u8])]) -> Vec<u8> {
    let mut kept = Vec::new();
    for (kind, value) in parse_options(asked).unwrap_or_default() {
        if refused.iter().all(|(other, _)| *other != kind) {
            push_option(&mut kept, kind, value);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
