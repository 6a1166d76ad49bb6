//! The IKEv2 responder (RFC 7296), without I/O: datagrams, notices and the time go in, effects and the next timeout
//! come out.
//!
//! * `gate`: what reaches the responder at all. `init`: IKE_SA_INIT, with `half_open` (limits), `cookie` and `budget`
//!   (rates). `auth`: IKE_AUTH, with `ppk`, `access` (whom we let in), `eap` and `attempts` (how often passwords are tried).
//!   `intermediate`: key exchanges before that. `child`: Child SAs and their rekey by the peer, with `additional` (more
//!   key exchanges). `plan`: what clients get, and its changes. `rekey`: rekey of the
//!   IKE SA by the peer. `own_rekey`: rekeys that we begin. `reauth`: a client that connects anew. `info`: INFORMATIONAL,
//!   our requests, timers. `mobike`: clients that move.
//! * `sa`: the state of one IKE SA. `exchange`: message IDs, answers kept for retransmissions. `fragment`: sealing
//!   and fragments. `proposal`, `selector`, `keymat`, `lease`, `system`, `timer`: what they say.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod access;
mod additional;
mod api;
mod attempts;
mod auth;
mod budget;
mod child;
mod cookie;
mod eap;
mod error;
mod exchange;
mod fragment;
mod gate;
mod half_open;
mod info;
mod init;
mod intermediate;
mod keymat;
mod lease;
mod mobike;
mod own_rekey;
mod plan;
mod ppk;
mod proposal;
mod reauth;
mod rekey;
mod sa;
mod selector;
mod system;
mod timer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use access::{Access, Pattern, Secrets};
pub use api::{Config, Credential, Identity, Input, Output, Policy, Stats};
pub use eap::EapError;
pub use error::{AuthError, Event, GoneReason, Refusal};
pub use gate::{Gate, Passage};
pub use plan::{ClientPlan, Nat64Plan};
pub use ppk::Ppk;
pub use system::System;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use attempts::Attempts;
use budget::Budget;
use gate::{Shared, Standing};
use half_open::Admission;
use lease::Leases;
use sa::{IkeSa, InitiatedBy, State};
use timer::Timers;

use crate::base::{DeviceId, Now, Path, Random, TrafficSelector};
use crate::wire::ike::{Exchange, Header};

/// Notes that strangers can cause: at most this many per minute.
const STRANGERS_NOTES: Budget = Budget::new(10, Duration::from_secs(60));

/// Errors told to strangers outside protection: at most this many per second.
const STRANGERS_ERRORS: Budget = Budget::new(50, Duration::from_secs(1));

/// Child SAs and IKE SAs that one client may create or rekey: at most this many per minute.
const CREATIONS: Budget = Budget::new(10, Duration::from_secs(60));

/// The responder of all clients.
pub struct Responder {
    config: Config,
    plan: ClientPlan,
    /// The selectors of our side under this plan.
    offer: Arc<[TrafficSelector]>,
    rng: Box<dyn Random>,
    outputs: VecDeque<Output>,
    timers: Timers<Timer>,
    /// Also the gate's.
    shared: Shared,
    admission: Admission,
    attempts: Attempts,
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
    /// It is time for an answer of EAP.
    Answer(u64),
    /// Our request needs sending again.
    Retransmit(u64),
    /// Look whether the peer was heard.
    Liveness(u64),
    /// The IKE SA is too old.
    Lifetime(u64),
    /// The IKE SA will soon be too old, and the client has not renewed it.
    RekeyIke(u64),
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
    /// Cookies get a new secret.
    Cookies,
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Responder {
    /// A responder that gives full tunnels until it hears of an [`Input::Plan`].
    pub fn new(config: Config, mut rng: Box<dyn Random>, now: Now) -> Self {
        let leases = Leases::new(config.pool, config.pool_prefix_len);
        let plan = ClientPlan::full_tunnel(leases.host());
        let shared = Shared::new(now, rng.as_mut());
        let mut responder = Self {
            config,
            plan: plan.clone(),
            offer: Arc::from([]),
            rng,
            outputs: VecDeque::new(),
            timers: Timers::new(),
            shared,
            admission: Admission::default(),
            attempts: Attempts::new(),
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
        responder.timers.set(Timer::Cookies, now.mono + cookie::ROTATION);
        responder.set_plan(plan);
        responder
    }

    /// A gate for the datagrams that are to come here.
    pub fn gate(&self) -> Gate {
        Gate::new(self.shared.clone())
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
                self.with_child(spi_in, |this, sa| this.relieve_child(now, sa, spi_in));
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
        } else {
            let (own_spi, peer_spi) =
                if header.initiator { (header.spi_r, header.spi_i) } else { (header.spi_i, header.spi_r) };
            let by = if header.initiator { InitiatedBy::Peer } else { InitiatedBy::Us };
            if self.sas.get(&own_spi).is_some_and(|sa| sa.peer_spi == peer_spi && sa.initiated_by == by) {
                self.with_sa(own_spi, |this, sa| this.handle_protected(now, sa, path, header, bytes));
            } else {
                self.stats.unknown_spi += 1;
            }
        }
    }

    /// Lets `action` work on an IKE SA, and forgets the SA if it is dead afterwards.
    fn with_sa(&mut self, own_spi: u64, action: impl FnOnce(&mut Self, &mut IkeSa)) {
        let Some(mut sa) = self.sas.remove(&own_spi) else { return };
        action(self, &mut sa);
        if matches!(sa.state, State::Dead) {
            self.forget(&sa);
        } else {
            self.keep(sa);
        }
    }

    fn keep(&mut self, sa: Box<IkeSa>) {
        let standing = if sa.is_strangers() { Standing::Stranger } else { Standing::Client };
        self.shared.lock().know(sa.own_spi, standing);
        self.sas.insert(sa.own_spi, sa);
    }

    fn with_child(&mut self, spi_in: u32, action: impl FnOnce(&mut Self, &mut IkeSa)) {
        if let Some(&own_spi) = self.children.get(&spi_in) {
            self.with_sa(own_spi, action);
        }
    }

    fn with_device(&mut self, device: DeviceId, action: impl FnOnce(&mut Self, &mut IkeSa)) {
        if let Some(&own_spi) = self.devices.get(&device) {
            self.with_sa(own_spi, action);
        }
    }

    fn forget(&mut self, sa: &IkeSa) {
        self.shared.lock().forget(sa.own_spi);
        for timer in [Timer::Expire, Timer::Answer, Timer::Retransmit, Timer::FollowUp] {
            self.timers.cancel(timer(sa.own_spi));
        }
        self.cancel_renewal(sa);
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
