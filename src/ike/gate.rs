//! The gate before the responder, for the thread that receives datagrams: what is nobody's goes no further, messages of
//! connected clients do not wait behind strangers, and many strangers have to bring a cookie (RFC 7296 section 2.6).
//! It keeps nothing for a stranger, and what it spends on one is a hash at most.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::STRANGERS_ERRORS;
use super::api::Stats;
use super::budget::{Budget, SourceBudgets};
use super::cookie::{Cookies, challenge};
use super::exchange::required;
use super::init::{MAX_INIT_LEN, cookie_of};
use crate::base::{Now, Random};
use crate::wire::ike::{Exchange, HEADER_LEN, Header, Kind, parse_chain, parse_nonce};

/// Initial requests without a cookie that the responder gets; what comes on top is asked for a cookie. As many as it
/// answers with errors, so that nobody is left without an answer.
const UNPROVED: Budget = STRANGERS_ERRORS;

/// Initial requests with a cookie, of one source, that the responder gets.
const PROVED: Budget = Budget::new(50, Duration::from_secs(1));

/// Messages for half-open IKE SAs, of one source. One IKE_AUTH takes up to some 30 fragments.
const HALF_OPEN: Budget = Budget::new(500, Duration::from_secs(1));

/// Longest message for a half-open IKE SA.
pub(super) const MAX_UNAUTHENTICATED: usize = 16 * 1024;

/// Decides what becomes of a datagram.
#[derive(Debug)]
pub struct Gate {
    shared: Shared,
    unproved: Budget,
    proved: SourceBudgets,
    half_open: SourceBudgets,
    stats: Stats,
}

/// What becomes of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// For the responder: it has the SPI of a client.
    Client,
    /// For the responder, after those of clients.
    Stranger,
    /// This is sent back, and that is all.
    Answer(Vec<u8>),
    /// Nothing. It is counted.
    Stop,
}

impl Gate {
    pub(super) fn new(shared: Shared) -> Self {
        let [proved, half_open] = [PROVED, HALF_OPEN].map(SourceBudgets::new);
        Self { shared, unproved: UNPROVED, proved, half_open, stats: Stats::default() }
    }

    /// Decides about a datagram without its marker. It may be anything.
    pub fn judge(&mut self, now: Now, remote: IpAddr, bytes: &[u8]) -> Passage {
        let header = match Header::parse(bytes) {
            Ok(header) if header.covers(bytes) && header.spi_i != 0 && header.major >= 2 => header,
            _ => return stop(&mut self.stats.malformed),
        };
        if header.major > 2 {
            let passes = !header.response && self.unproved.allow(now.mono);
            return if passes { Passage::Stranger } else { stop(&mut self.stats.malformed) };
        }
        if header.initiator && header.spi_r == 0 {
            return self.judge_initial(now, remote, header, bytes);
        }
        let own = if header.initiator { header.spi_r } else { header.spi_i };
        match self.shared.lock().known.get(&own) {
            Some(Standing::Client) => Passage::Client,
            Some(Standing::Stranger)
                if bytes.len() <= MAX_UNAUTHENTICATED && self.half_open.allow(now.mono, remote) =>
            {
                Passage::Stranger
            }
            Some(Standing::Stranger) => stop(&mut self.stats.refused),
            None => stop(&mut self.stats.unknown_spi),
        }
    }

    fn judge_initial(&mut self, now: Now, remote: IpAddr, header: Header, bytes: &[u8]) -> Passage {
        if !is_initial_request(&header, bytes) {
            return stop(&mut self.stats.out_of_place);
        }
        if self.unproved.allow(now.mono) {
            return Passage::Stranger;
        }
        let payloads = parse_chain(header.next_payload, bytes.get(HEADER_LEN..).unwrap_or_default());
        let Ok(payloads) = payloads else { return stop(&mut self.stats.malformed) };
        let Ok(ni) = required(&payloads, Kind::Nonce).and_then(parse_nonce) else {
            return stop(&mut self.stats.malformed);
        };
        let request = (header.spi_i, ni);
        let cookies = &self.shared.lock().cookies;
        if !cookies.check(now.mono, remote, request, cookie_of(&payloads)) {
            self.stats.cookies += 1;
            return Passage::Answer(challenge(header, &cookies.make(now.mono, remote, request)));
        }
        if self.proved.allow(now.mono, remote) { Passage::Stranger } else { stop(&mut self.stats.refused) }
    }

    /// What was stopped or answered here.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

fn stop(counter: &mut u64) -> Passage {
    *counter += 1;
    Passage::Stop
}

/// Whether a request without our SPI is one that begins an IKE SA.
pub(super) fn is_initial_request(header: &Header, bytes: &[u8]) -> bool {
    header.initiator
        && !header.response
        && header.message_id == 0
        && header.exchange == Exchange::IkeSaInit
        && bytes.len() <= MAX_INIT_LEN
}

/// What the gate knows of the responder, and the secrets of their cookies.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Common>>);

#[derive(Debug)]
pub(super) struct Common {
    pub(super) cookies: Cookies,
    /// By our SPI.
    known: HashMap<u64, Standing>,
}

/// Whom an IKE SA belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Client,
    /// Nobody is authenticated.
    Stranger,
}

impl Shared {
    pub(super) fn new(now: Now, rng: &mut dyn Random) -> Self {
        let cookies = Cookies::new(now.mono, rng);
        Self(Arc::new(Mutex::new(Common { cookies, known: HashMap::new() })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Common> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Common {
    /// There is an IKE SA with this SPI of ours.
    pub(super) fn know(&mut self, own_spi: u64, standing: Standing) {
        self.known.insert(own_spi, standing);
    }

    pub(super) fn forget(&mut self, own_spi: u64) {
        self.known.remove(&own_spi);
    }
}
