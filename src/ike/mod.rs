//! The IKEv2 responder (RFC 7296), without I/O: datagrams, notices and the time go in, effects and the next timeout
//! come out.
//!
//! * `init`: IKE_SA_INIT, with `half_open` (limits, cookies). `intermediate`: key exchanges before IKE_AUTH. `auth`:
//!   IKE_AUTH, with `ppk`. `child`: Child SAs and their rekey by the peer, with `additional` (more key exchanges). `plan`: what clients get, and its changes. `rekey`: rekey of the IKE SA by the peer, and our own of a Child. `info`:
//!   INFORMATIONAL, our requests, timers.
//! * `sa`: the state of one IKE SA. `exchange`: message IDs, answers kept for retransmissions. `fragment`: sealing
//!   and fragments. `proposal`, `selector`, `keymat`, `lease`, `system`, `timer`: what they say.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod additional;
mod api;
mod auth;
mod child;
mod error;
mod exchange;
mod fragment;
mod half_open;
mod info;
mod init;
mod intermediate;
mod keymat;
mod lease;
mod plan;
mod ppk;
mod proposal;
mod rekey;
mod sa;
mod selector;
mod system;
mod timer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use api::{Access, Config, Credential, Identity, Input, Output, Policy, Stats};
pub use error::{AuthError, Event, GoneReason, Refusal};
pub use plan::{ClientPlan, Nat64Plan};
pub use ppk::Ppk;
pub use system::System;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use half_open::Admission;
use lease::Leases;
use sa::{IkeSa, OwnRequest, State};
use timer::Timers;

use crate::base::{DeviceId, Now, Path, Random, TrafficSelector};
use crate::wire::ike::{Exchange, Header};

/// Notes that strangers can cause: at most this many per minute.
const STRANGERS_NOTES: Budget =
    Budget { per_period: 10, period: Duration::from_secs(60), since: None, used: 0 };

/// Errors told to strangers outside protection: at most this many per second.
const STRANGERS_ERRORS: Budget =
    Budget { per_period: 50, period: Duration::from_secs(1), since: None, used: 0 };

/// The responder of all clients.
pub struct Responder {
    config: Config,
    plan: ClientPlan,
    /// The selectors of our side under this plan.
    offer: Arc<[TrafficSelector]>,
    rng: Box<dyn Random>,
    outputs: VecDeque<Output>,
    timers: Timers<Timer>,
    admission: Admission,
    leases: Leases,
    /// By our SPI.
    sas: HashMap<u64, Box<IkeSa>>,
    /// By SHA-256 of the IKE_SA_INIT request.
    half_opens: HashMap<[u8; 32], u64>,
    /// IKE SA of a Child SA, by our SPI of the latter.
    children: HashMap<u32, u64>,
    devices: HashMap<DeviceId, u64>,
    next_device: u32,
    shutting_down: bool,
    notes: Budget,
    errors: Budget,
    stats: Stats,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Timer {
    /// The present state of this IKE SA has lasted long enough.
    Expire(u64),
    /// Our request needs sending again.
    Retransmit(u64),
    /// Look whether the peer was heard.
    Liveness(u64),
    /// The IKE SA is too old.
    Lifetime(u64),
    /// The peer has not deleted the Child SA that it replaced.
    ChildLinger(u32),
    /// The Child SA is too old.
    ChildLifetime(u32),
    /// The peer does not go on with the key exchanges of its rekey.
    FollowUp(u64),
    /// The client was too busy to take a changed plan.
    Refresh(u64),
    /// The shutdown has waited enough.
    Shutdown,
}

/// A budget per period of time.
#[derive(Debug)]
struct Budget {
    per_period: u32,
    period: Duration,
    since: Option<Duration>,
    used: u32,
}

impl Budget {
    fn allow(&mut self, now: Duration) -> bool {
        if self.since.is_none_or(|since| now >= since + self.period) {
            (self.since, self.used) = (Some(now), 0);
        }
        self.used = self.used.saturating_add(1);
        self.used <= self.per_period
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Responder {
    /// A responder that gives full tunnels until it hears of an [`Input::Plan`].
    pub fn new(config: Config, mut rng: Box<dyn Random>, _now: Now) -> Self {
        let leases = Leases::new(config.pool, config.pool_prefix_len);
        let plan = ClientPlan::full_tunnel(leases.host());
        let admission = Admission::new(rng.as_mut());
        let mut responder = Self {
            config,
            plan: plan.clone(),
            offer: Arc::from([]),
            rng,
            outputs: VecDeque::new(),
            timers: Timers::new(),
            admission,
            leases,
            sas: HashMap::new(),
            half_opens: HashMap::new(),
            children: HashMap::new(),
            devices: HashMap::new(),
            next_device: 1,
            shutting_down: false,
            notes: STRANGERS_NOTES,
            errors: STRANGERS_ERRORS,
            stats: Stats::default(),
        };
        responder.set_plan(plan);
        responder
    }

    /// Takes an event. Effects wait in [`Responder::poll_output`].
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::Datagram { path, bytes } => self.handle_datagram(now, path, bytes),
            Input::Installed { spi_in } => {
                self.with_child(spi_in, |this, sa| this.handle_installed(now, sa, spi_in))
            }
            Input::Alive { device } => self.with_device(device, |_, sa| sa.heard = now.mono),
            Input::Moved { device, path } => self.with_device(device, |_, sa| {
                sa.heard = now.mono;
                sa.path = path;
            }),
            Input::NearlyExhausted { spi_in } => {
                self.with_child(spi_in, |this, sa| this.request(now, sa, OwnRequest::RekeyChild(spi_in)));
            }
            Input::Plan(plan) => self.handle_plan(now, plan),
            Input::Identity(identity) => self.handle_identity(now, *identity),
            Input::Disconnect(device) => {
                self.with_device(device, |this, sa| this.close(now, sa, GoneReason::Disconnected));
            }
            Input::Shutdown => self.handle_shutdown(now),
        }
    }

    /// The next effect, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Responder::handle_timeout`] wants to be called, in monotonic time.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_due(now.mono) {
            self.handle_timer(now, timer);
        }
    }

    /// Gauges and counters.
    pub fn stats(&self) -> Stats {
        Stats {
            half_open: self.admission.total(),
            ike_sas: self.sas.len(),
            child_sas: self.children.len(),
            devices: self.devices.len(),
            ..self.stats
        }
    }

    /// After [`Input::Shutdown`]: every client has answered our Delete, or had its time.
    pub fn is_idle(&self) -> bool {
        self.shutting_down && self.sas.values().all(|sa| matches!(sa.state, State::Closed(_) | State::Dead))
    }

    fn handle_datagram(&mut self, now: Now, path: Path, bytes: &[u8]) {
        let header = match Header::parse(bytes) {
            Ok(header) if header.covers(bytes) && header.spi_i != 0 => header,
            _ => return self.stats.malformed += 1,
        };
        if header.major != 2 {
            self.stats.malformed += 1;
            if header.major > 2 && !header.response {
                self.answer_other_version(now, path, header);
            }
        } else if header.spi_r == 0 {
            self.handle_init(now, path, header, bytes);
        } else if header.exchange == Exchange::IkeSaInit {
            self.stats.out_of_place += 1;
        } else if self.sas.get(&header.spi_r).is_some_and(|sa| sa.spi_i == header.spi_i && header.initiator) {
            self.with_sa(header.spi_r, |this, sa| this.handle_protected(now, sa, path, header, bytes));
        } else {
            self.stats.unknown_spi += 1;
        }
    }

    /// Lets `action` work on an IKE SA, and forgets the SA if it is dead afterwards.
    fn with_sa(&mut self, spi_r: u64, action: impl FnOnce(&mut Self, &mut IkeSa)) {
        let Some(mut sa) = self.sas.remove(&spi_r) else { return };
        action(self, &mut sa);
        if matches!(sa.state, State::Dead) {
            self.forget(&sa);
        } else {
            self.sas.insert(spi_r, sa);
        }
    }

    fn with_child(&mut self, spi_in: u32, action: impl FnOnce(&mut Self, &mut IkeSa)) {
        if let Some(&spi_r) = self.children.get(&spi_in) {
            self.with_sa(spi_r, action);
        }
    }

    fn with_device(&mut self, device: DeviceId, action: impl FnOnce(&mut Self, &mut IkeSa)) {
        if let Some(&spi_r) = self.devices.get(&device) {
            self.with_sa(spi_r, action);
        }
    }

    fn forget(&mut self, sa: &IkeSa) {
        let of_ike = [Timer::Expire, Timer::Retransmit, Timer::Liveness, Timer::Lifetime];
        for timer in of_ike.into_iter().chain([Timer::FollowUp, Timer::Refresh]) {
            self.timers.cancel(timer(sa.spi_r));
        }
    }

    /// A note about somebody who is not authenticated.
    fn note_stranger(&mut self, now: Now, event: Event) {
        if self.notes.allow(now.mono) {
            self.outputs.push_back(Output::Note(event));
        }
    }

    /// A new, unused SPI for an IKE SA: not zero, and unlike any ESP-in-UDP marker in its upper half.
    fn new_ike_spi(&mut self) -> u64 {
        loop {
            let mut octets = [0; 8];
            self.rng.fill(&mut octets);
            let spi = u64::from_be_bytes(octets);
            if spi >> 32 != 0 && !self.sas.contains_key(&spi) {
                return spi;
            }
        }
    }

    /// A new, unused SPI for ESP; 1 to 255 are reserved.
    fn new_esp_spi(&mut self) -> u32 {
        loop {
            let mut octets = [0; 4];
            self.rng.fill(&mut octets);
            let spi = u32::from_be_bytes(octets);
            if spi > 255 && !self.children.contains_key(&spi) {
                return spi;
            }
        }
    }

    fn new_nonce(&mut self) -> Vec<u8> {
        let mut nonce = vec![0; 32];
        self.rng.fill(&mut nonce);
        nonce
    }
}
