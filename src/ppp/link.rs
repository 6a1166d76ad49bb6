//! The link: LCP, then IPCP, then packets, watched by echoes; closed by Terminate from either side.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::Fault;
use super::echo::{Check, RateLimit, Watch};
use super::ipcp::Ipcp;
use super::lcp::Lcp;
use super::negotiation::{Negotiation, Outbox};
use crate::base::{Now, Random};
use crate::wire::ppp::{Packet, code, protocol};

/// Time for LCP and IPCP together.
const NEGOTIATION: Duration = Duration::from_secs(20);
/// How long we wait for a Configure-Request of the peer's own after it acknowledged ours: some never send one.
const GRACE: Duration = Duration::from_secs(2);
/// How long we wait for a Terminate-Ack.
const TERMINATION: Duration = Duration::from_secs(1);
/// Octets of a rejected packet that we send back.
const MAX_REJECTED: usize = 512;
const MAX_REASON: usize = 200;

/// What to negotiate.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The Maximum Receive Unit that we offer, in octets.
    pub mru: u16,
    /// The address that we ask for; 0.0.0.0 leaves it to the peer.
    pub address: Ipv4Addr,
    /// Ask for DNS servers (RFC 1877).
    pub ask_dns: bool,
}

/// What happened to the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// IPv4 packets may flow.
    Opened {
        /// Our address.
        address: Ipv4Addr,
        /// The peer's, if it told one.
        peer: Option<Ipv4Addr>,
        /// DNS servers, if they were asked for and told.
        dns: Vec<Ipv4Addr>,
        /// The largest IPv4 packet for both directions, in octets.
        mtu: u16,
    },
    /// The peer negotiates anew; packets wait until the next `Opened`.
    Renegotiating,
    /// The link is over.
    Closed(Closed),
}

/// Why the link is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The negotiation failed.
    Fault(Fault),
    /// The peer sent Terminate-Request; its text, printable characters only.
    ByPeer(String),
    /// The peer answered nothing for too long.
    Unanswered,
    /// We closed it.
    ByUs,
}

enum Phase {
    Negotiating { until: Duration },
    Open(Watch),
    Terminating { until: Duration },
    Closed,
}

/// One PPP link as client.
pub struct Link {
    settings: Settings,
    phase: Phase,
    lcp: Negotiation<Lcp>,
    /// When a half-open negotiation counts as open.
    grace: Option<Duration>,
    ipcp: Option<Negotiation<Ipcp>>,
    answers: RateLimit,
    outbox: Outbox,
    events: VecDeque<Event>,
}

impl Link {
    /// Starts with an LCP Configure-Request: a FortiGate stays silent until it gets one.
    pub fn new(settings: Settings, now: Now, rng: &mut dyn Random) -> Self {
        let mut outbox = Outbox::new();
        Self {
            settings,
            phase: Phase::Negotiating { until: now.mono + NEGOTIATION },
            lcp: Negotiation::new(Lcp::new(settings.mru, rng), now.mono, &mut outbox),
            grace: None,
            ipcp: None,
            answers: RateLimit::new(now.mono),
            outbox,
            events: VecDeque::new(),
        }
    }

    /// True while IPv4 packets may flow.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// The next control packet to send: protocol and PPP payload.
    pub fn poll_packet(&mut self) -> Option<(u16, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Link::handle_timeout`] (monotonic).
    pub fn poll_timeout(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Negotiating { until } | Phase::Terminating { until } => *until,
            Phase::Open(watch) => return Some(watch.poll_timeout()),
            Phase::Closed => return None,
        };
        let resend =
            [self.lcp.poll_timeout(), self.ipcp.as_ref().and_then(Negotiation::poll_timeout), self.grace];
        resend.into_iter().flatten().chain([phase]).min()
    }

    /// Timers: retransmission, echoes, limits. Early calls are harmless, and notice a suspend.
    pub fn handle_timeout(&mut self, now: Now) {
        match &mut self.phase {
            Phase::Closed => {}
            Phase::Terminating { until } if *until <= now.mono => self.finish(Closed::ByUs),
            Phase::Terminating { .. } => {}
            Phase::Negotiating { until } if *until <= now.mono => self.finish(Closed::Fault(Fault::Timeout)),
            Phase::Negotiating { .. } => {
                let mut result = self.lcp.handle_timeout(now.mono, &mut self.outbox);
                if let Some(ipcp) = &mut self.ipcp {
                    result = result.and(ipcp.handle_timeout(now.mono, &mut self.outbox));
                }
                if self.grace.is_some_and(|grace| grace <= now.mono) {
                    match &mut self.ipcp {
                        Some(ipcp) if self.lcp.is_open() => ipcp.presume(),
                        _ => self.lcp.presume(),
                    }
                }
                self.settle(now, result);
            }
            Phase::Open(watch) => match watch.check(now) {
                Check::Wait => {}
                Check::Ask => self.ask(),
                Check::Dead => self.finish(Closed::Unanswered),
            },
        }
    }

    /// The way to the peer may have changed: see within three seconds whether it is still there.
    pub fn probe(&mut self, now: Now) {
        if let Phase::Open(watch) = &mut self.phase {
            watch.probe(now);
            self.handle_timeout(now);
        }
    }

    /// A valid frame came from the peer, whatever is in it.
    pub fn handle_alive(&mut self, now: Now) {
        if let Phase::Open(watch) = &mut self.phase {
            watch.heard(now);
        }
    }

    /// A PPP packet that is not IP: `payload` is what follows the protocol field.
    pub fn handle_packet(&mut self, now: Now, protocol: u16, payload: &[u8], rng: &mut dyn Random) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let result = match protocol {
            protocol::LCP => match Packet::parse(payload) {
                Ok(packet) => self.handle_lcp(now, packet, rng),
                Err(_) => return,
            },
            protocol::IPCP => match Packet::parse(payload) {
                Ok(packet) => self.handle_ipcp(now, packet, rng),
                Err(_) => return,
            },
            _ => {
                self.reject_protocol(now, protocol, payload);
                Ok(())
            }
        };
        self.settle(now, result);
    }

    /// Asks the peer to end the link, and waits at most a second for its answer.
    pub fn close(&mut self, now: Now) {
        if matches!(self.phase, Phase::Closed | Phase::Terminating { .. }) {
            return;
        }
        let id = self.lcp.next_id();
        Negotiation::<Lcp>::send(&mut self.outbox, code::TERMINATE_REQUEST, id, &[]);
        self.phase = Phase::Terminating { until: now.mono + TERMINATION };
    }

    fn handle_lcp(&mut self, now: Now, packet: Packet<'_>, rng: &mut dyn Random) -> Result<(), Fault> {
        let terminating = matches!(self.phase, Phase::Terminating { .. });
        match packet.code {
            code::TERMINATE_REQUEST => {
                Negotiation::<Lcp>::send(&mut self.outbox, code::TERMINATE_ACK, packet.id, &[]);
                self.finish(if terminating { Closed::ByUs } else { Closed::ByPeer(printable(packet.data)) });
            }
            code::TERMINATE_ACK if terminating => self.finish(Closed::ByUs),
            _ if terminating => {}
            code::CONFIGURE_REQUEST..=code::CONFIGURE_REJECT => {
                return self.lcp.handle(now.mono, packet, rng, &mut self.outbox);
            }
            code::CODE_REJECT if packet.data.first().is_some_and(|&c| c <= code::TERMINATE_ACK) => {
                return Err(Fault::Refused);
            }
            code::PROTOCOL_REJECT => {
                let rejected = packet.data.first_chunk().map(|p| u16::from_be_bytes(*p));
                if matches!(rejected, Some(protocol::LCP | protocol::IPCP)) {
                    return Err(Fault::Refused);
                }
            }
            code::ECHO_REQUEST if self.lcp.is_open() && self.answers.allow(now.mono) => {
                let mut data = self.lcp.options.magic().to_be_bytes().to_vec();
                data.extend(packet.data.get(4..).unwrap_or_default());
                Negotiation::<Lcp>::send(&mut self.outbox, code::ECHO_REPLY, packet.id, &data);
            }
            // Harmless: informative, late, or answered by being alive at all.
            code::TERMINATE_ACK | code::CODE_REJECT | code::ECHO_REQUEST..=code::TIME_REMAINING => {}
            _ => self.reject_code::<Lcp>(now, packet),
        }
        Ok(())
    }

    fn handle_ipcp(&mut self, now: Now, packet: Packet<'_>, rng: &mut dyn Random) -> Result<(), Fault> {
        if matches!(self.phase, Phase::Terminating { .. }) {
            return Ok(());
        }
        if self.lcp.is_half_open() {
            self.lcp.presume();
            self.settle(now, Ok(()));
        }
        // RFC 1661 section 3.5: before LCP is open, network control packets are dropped.
        let Some(ipcp) = &mut self.ipcp else {
            return Ok(());
        };
        match packet.code {
            code::CONFIGURE_REQUEST..=code::CONFIGURE_REJECT => {
                return ipcp.handle(now.mono, packet, rng, &mut self.outbox);
            }
            code::TERMINATE_REQUEST => {
                Negotiation::<Ipcp>::send(&mut self.outbox, code::TERMINATE_ACK, packet.id, &[]);
                self.finish(Closed::ByPeer(printable(packet.data)));
            }
            code::CODE_REJECT => return Err(Fault::Refused),
            code::TERMINATE_ACK => {}
            _ => self.reject_code::<Ipcp>(now, packet),
        }
        Ok(())
    }

    /// After every event: moves to the phase that the two negotiations make.
    fn settle(&mut self, now: Now, result: Result<(), Fault>) {
        if let Err(fault) = result {
            return self.finish(Closed::Fault(fault));
        }
        if matches!(self.phase, Phase::Terminating { .. } | Phase::Closed) {
            return;
        }
        let half_open = self.lcp.is_half_open() || self.ipcp.as_ref().is_some_and(Negotiation::is_half_open);
        self.grace = if half_open { self.grace.or(Some(now.mono + GRACE)) } else { None };
        if !self.lcp.is_open() {
            self.ipcp = None;
        } else if self.ipcp.is_none() {
            let options = Ipcp::new(self.settings.address, self.settings.ask_dns);
            self.ipcp = Some(Negotiation::new(options, now.mono, &mut self.outbox));
        }
        let opened = self.ipcp.as_ref().filter(|ipcp| ipcp.is_open());
        match (&self.phase, opened) {
            (Phase::Negotiating { .. }, Some(ipcp)) => {
                let options = &ipcp.options;
                self.events.push_back(Event::Opened {
                    address: options.address,
                    peer: options.peer,
                    dns: options.dns(),
                    mtu: self.lcp.options.mtu(),
                });
                self.phase = Phase::Open(Watch::new(now));
            }
            (Phase::Open(_), None) => {
                self.events.push_back(Event::Renegotiating);
                self.phase = Phase::Negotiating { until: now.mono + NEGOTIATION };
            }
            _ => {}
        }
    }

    fn ask(&mut self) {
        let id = self.lcp.next_id();
        let magic = self.lcp.options.magic().to_be_bytes();
        Negotiation::<Lcp>::send(&mut self.outbox, code::ECHO_REQUEST, id, &magic);
    }

    fn reject_protocol(&mut self, now: Now, protocol: u16, payload: &[u8]) {
        // RFC 1661 section 5.7: only while LCP is open.
        if self.lcp.is_open() && self.answers.allow(now.mono) {
            let mut data = protocol.to_be_bytes().to_vec();
            data.extend(payload.get(..MAX_REJECTED).unwrap_or(payload));
            let id = self.lcp.next_id();
            Negotiation::<Lcp>::send(&mut self.outbox, code::PROTOCOL_REJECT, id, &data);
        }
    }

    fn reject_code<O: super::negotiation::Options>(&mut self, now: Now, packet: Packet<'_>) {
        if self.answers.allow(now.mono) {
            let mut data = packet.emit();
            data.truncate(MAX_REJECTED);
            let id = self.lcp.next_id();
            Negotiation::<O>::send(&mut self.outbox, code::CODE_REJECT, id, &data);
        }
    }

    fn finish(&mut self, why: Closed) {
        if !matches!(self.phase, Phase::Closed) {
            self.phase = Phase::Closed;
            self.events.push_back(Event::Closed(why));
        }
    }
}

/// Text of the peer, fit to be shown.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests;
