//! The whole picture of a running daemon at one moment: `pterodapter status` and `/metrics` show it. Made when somebody
//! asks; nothing here costs a packet anything.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::Now;
use crate::fortivpn::{Route, TunnelConfig};
use crate::ike;

use super::control::message::Wanted;
use super::counters::{Counters, Snapshot};
use super::datapath::DataPath;
use super::desk::Desk;
pub use super::device::Traffic;
use super::ike_thread::IkeThread;
use super::state::{Device, State, Uplink};
use super::uplink;

/// A moment of the wall clock, since 1970. In JSON: seconds, to the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct Moment(pub Duration);

impl Moment {
    /// How long it has been over at `now`.
    pub fn ago(self, now: Self) -> Duration {
        now.0.saturating_sub(self.0)
    }
}

impl From<Moment> for f64 {
    fn from(moment: Moment) -> Self {
        moment.0.as_millis() as Self / 1000.0
    }
}

impl TryFrom<f64> for Moment {
    type Error = std::time::TryFromFloatSecsError;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        let exact = Duration::try_from_secs_f64(seconds)?;
        // What a float adds below a millisecond is noise.
        Ok(Self(Duration::from_millis(exact.saturating_add(Duration::from_micros(500)).as_millis() as u64)))
    }
}

/// How long something takes, in its two largest units.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60) {
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, minutes) => write!(f, "{minutes} min"),
            (0, hours, minutes) => write!(f, "{hours} h {minutes} min"),
            (days, hours, _) => write!(f, "{days} d {hours} h"),
        }
    }
}

/// How a daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// When this was so.
    pub now: Moment,
    /// When it started.
    pub started: Moment,
    /// The way to the gateway.
    pub uplink: UplinkStatus,
    /// Who is connected, in the order of their coming.
    pub devices: Vec<DeviceStatus>,
    /// What was counted since the start.
    pub counters: Snapshot,
    /// What waits where.
    pub queues: Queues,
    /// The IKEv2 responder; up to a second old.
    pub ike: ike::Stats,
}

/// How the uplink is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// The gateway, as it was given.
    pub gateway: String,
    /// How it is.
    pub state: Uplink,
    /// Since when it is so.
    pub since: Moment,
    /// What the gateway gave, while the tunnel is up.
    pub tunnel: Option<TunnelStatus>,
    /// When the gateway ends the session, if it says so.
    pub session_ends: Option<Moment>,
    /// What a person has to do.
    pub wanted: Option<Wanted>,
    /// The last errors, newest first.
    pub errors: Vec<PastError>,
}

/// What the gateway gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// Our address in the company's network.
    pub address: Ipv4Addr,
    /// Largest packet, in octets.
    pub mtu: u16,
    /// DNS servers, in order.
    pub dns: Vec<Ipv4Addr>,
    /// Networks behind the tunnel; none means all.
    pub routes: Vec<String>,
    /// Networks that are not behind it.
    pub excludes: Vec<String>,
}

/// An error that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastError {
    /// When it was.
    pub at: Moment,
    /// One sentence.
    pub text: String,
}

/// A connected device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its number, for `disconnect`.
    pub id: u32,
    /// Its authenticated identity.
    pub identity: String,
    /// Its system, as far as its messages tell.
    pub system: Option<String>,
    /// Its inner address.
    pub address: Ipv4Addr,
    /// Its inner IPv6 address, where it has one.
    pub address6: Option<Ipv6Addr>,
    /// Where it is.
    pub remote: SocketAddr,
    /// The algorithms.
    pub suite: String,
    /// When it connected.
    pub since: Moment,
    /// When it last sent something authentic.
    pub seen: Moment,
    /// Its Child SAs.
    pub child_sas: usize,
    /// How often a Child SA was replaced.
    pub child_rekeys: u64,
    /// How often the IKE SA was replaced.
    pub ike_rekeys: u64,
    /// Inner packets from it.
    pub up: Traffic,
    /// Inner packets to it.
    pub down: Traffic,
}

/// What waits where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// Worker threads.
    pub workers: usize,
    /// Batches at the workers.
    pub batches: Level,
    /// Octets of TLS records that the socket to the gateway has not taken.
    pub uplink_octets: Level,
    /// Datagrams that wait for the IKE thread.
    pub ike_datagrams: Level,
    /// DNS queries that wait for an answer.
    pub dns_queries: Level,
    /// NAT flows.
    pub nat_flows: Level,
}

/// How full something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Now.
    pub used: usize,
    /// At most.
    pub limit: usize,
}

/// Where the parts of a status are.
pub struct Sources<'a> {
    /// The time.
    pub now: Now,
    /// What changes seldom.
    pub state: &'a State,
    /// What a person has to do.
    pub desk: &'a Desk,
    /// What changes with packets.
    pub data: &'a DataPath,
    /// The way to the gateway.
    pub uplink: &'a uplink::Uplink,
    /// The IKE thread.
    pub ike: &'a IkeThread,
    /// What is counted.
    pub counters: &'a Counters,
}

impl Status {
    /// As things are now.
    pub fn new(sources: &Sources<'_>) -> Self {
        let Sources { now, state, desk, data, uplink, ike, counters } = *sources;
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: Moment(now.wall),
            started: Moment(state.started),
            uplink: UplinkStatus::new(now, state, desk),
            devices: state.devices.iter().map(|device| DeviceStatus::new(now, device, data)).collect(),
            counters: counters.snapshot(),
            queues: Queues { uplink_octets: uplink.queue(), ike_datagrams: ike.mailbox(), ..data.queues() },
            ike: ike.stats(),
        }
    }
}

impl UplinkStatus {
    /// As it is now.
    pub fn new(now: Now, state: &State, desk: &Desk) -> Self {
        let error = |(at, text): &(Duration, String)| PastError { at: Moment(*at), text: text.clone() };
        Self {
            gateway: state.gateway.clone(),
            state: state.uplink,
            since: Moment(state.since),
            tunnel: state.present_tunnel().map(TunnelStatus::new),
            session_ends: state.session_ends.map(Moment),
            wanted: desk.request().map(|request| Wanted::new(now, request)),
            errors: state.errors.iter().map(error).collect(),
        }
    }
}

impl TunnelStatus {
    fn new(config: &TunnelConfig) -> Self {
        let network = |route: &Route| format!("{}/{}", route.address, route.prefix_len);
        Self {
            address: config.address,
            mtu: config.mtu,
            dns: config.dns.clone(),
            routes: config.routes.iter().map(network).collect(),
            excludes: config.excludes.iter().map(network).collect(),
        }
    }
}

impl DeviceStatus {
    fn new(now: Now, device: &Device, data: &DataPath) -> Self {
        // One that has just lost its last Child SA is not in the table.
        let live = data.table.devices().find(|live| live.id == device.id);
        let seen = live.and_then(|live| live.seen);
        Self {
            id: device.id.0,
            identity: device.identity.clone(),
            system: device.system.map(|system| system.to_string()),
            address: device.address,
            address6: device.address6,
            remote: live.map_or(device.remote, |live| live.path.remote),
            suite: device.suite.clone(),
            since: Moment(device.since),
            seen: Moment(
                seen.map_or(device.since, |at| now.wall.saturating_sub(now.boot.saturating_sub(at))),
            ),
            child_sas: live.map_or(0, |live| live.sas),
            child_rekeys: live.map_or(0, |live| live.child_rekeys),
            ike_rekeys: live.map_or(0, |live| live.ike_rekeys),
            up: live.map(|live| live.traffic_up).unwrap_or_default(),
            down: live.map(|live| live.traffic_down).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_comes_through_json_to_the_millisecond() {
        for millis in [0, 1, 1_793_491_200_123, 1_793_491_200_999, 4_102_444_800_000] {
            let moment = Moment(Duration::from_millis(millis));
            let text = serde_json::to_string(&moment).unwrap();
            assert_eq!(serde_json::from_str::<Moment>(&text).unwrap(), moment, "{text}");
        }
        assert_eq!(serde_json::to_string(&Moment(Duration::from_millis(1500))).unwrap(), "1.5");
        assert!(serde_json::from_str::<Moment>("-1").is_err());
        assert_eq!(Moment(Duration::from_secs(9)).ago(Moment(Duration::from_secs(5))), Duration::ZERO);
    }
}
