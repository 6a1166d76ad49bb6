//! How things are, for people: the local page and the control socket show it.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{DeviceId, Now, Path};
use crate::fortivpn::{self, TunnelConfig};
use crate::ike;

/// Errors that are kept.
const ERRORS: usize = 10;

/// How the uplink is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uplink {
    /// The gateway is being reached, or signed in to.
    #[default]
    Connecting,
    /// A person has to do something.
    Waiting,
    /// Packets flow.
    Up,
    /// The tunnel broke and comes back by itself.
    Down,
    /// Nothing is tried any more until a person says so.
    Failed,
    /// It was ended.
    Stopped,
}

impl Uplink {
    /// All of them, with their words.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Connecting, "connecting"),
        (Self::Waiting, "waiting"),
        (Self::Up, "up"),
        (Self::Down, "down"),
        (Self::Failed, "failed"),
        (Self::Stopped, "stopped"),
    ];

    /// One line for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Connecting => "connecting to the gateway",
            Self::Waiting => "waiting for a sign-in",
            Self::Up => "the tunnel is up",
            Self::Down => "the tunnel is down, reconnecting",
            Self::Failed => "no tunnel: see the last error",
            Self::Stopped => "stopped",
        }
    }
}

/// A connected device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub id: DeviceId,
    /// Its authenticated identity.
    pub identity: String,
    /// Its system, as far as its messages tell.
    pub system: Option<ike::System>,
    /// Its inner address.
    pub address: Ipv4Addr,
    /// Its inner IPv6 address, where it has one.
    pub address6: Option<Ipv6Addr>,
    /// Where it is.
    pub remote: SocketAddr,
    /// The algorithms, for people.
    pub suite: String,
    /// Since when (wall clock, since 1970).
    pub since: Duration,
}

/// How things are now. Times are wall clock, since 1970.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// When the daemon started.
    pub started: Duration,
    /// The gateway, as it was given.
    pub gateway: String,
    /// How the uplink is.
    pub uplink: Uplink,
    /// Since when it is so.
    pub since: Duration,
    /// What the gateway gave when the tunnel last came up.
    pub tunnel: Option<TunnelConfig>,
    /// When the gateway ends the session, if it says so.
    pub session_ends: Option<Duration>,
    /// The last errors, newest first, with their times.
    pub errors: VecDeque<(Duration, String)>,
    /// Who is connected.
    pub devices: Vec<Device>,
}

impl State {
    /// Nothing has happened yet.
    pub fn new(gateway: String, now: Now) -> Self {
        Self { gateway, started: now.wall, since: now.wall, ..Self::default() }
    }

    /// The session said something. True if that changed anything.
    pub fn handle_uplink(&mut self, now: Now, output: &fortivpn::Output) -> bool {
        use fortivpn::{Event, Output};
        let uplink = match output {
            Output::LoginNeeded { left: Some(_), .. } => return false,
            Output::LoginNeeded { .. } | Output::Ask(_) => Uplink::Waiting,
            Output::LoginDone if self.uplink == Uplink::Waiting => Uplink::Connecting,
            Output::Up(config) => {
                self.tunnel = Some(config.clone());
                Uplink::Up
            }
            Output::Down(reason) => {
                self.note_error(now, reason.to_string());
                Uplink::Down
            }
            Output::Failed(error) => {
                self.note_error(now, error.to_string());
                Uplink::Failed
            }
            Output::Note(Event::Retrying { why, .. }) => {
                self.note_error(now, why.clone());
                return true;
            }
            Output::Note(event @ Event::SignInRefused) => {
                self.note_error(now, event.to_string());
                return true;
            }
            Output::Stopped => Uplink::Stopped,
            _ => return false,
        };
        if uplink != self.uplink {
            (self.uplink, self.since) = (uplink, now.wall);
        }
        true
    }

    /// The session is about to try something with what a person brought. True if that changes the state.
    pub fn handle_input(&mut self, now: Now, input: &fortivpn::Input) -> bool {
        use fortivpn::Input;
        let is_tried =
            matches!(input, Input::Retry | Input::SamlId(_) | Input::Answer { .. } | Input::Cookie(_));
        let changes = is_tried && matches!(self.uplink, Uplink::Waiting | Uplink::Failed);
        if changes {
            (self.uplink, self.since) = (Uplink::Connecting, now.wall);
        }
        changes
    }

    /// A device came, went or moved. True if one did.
    pub fn handle_ike(&mut self, now: Now, output: &ike::Output) -> bool {
        match output {
            ike::Output::Connected { device, identity, system, address, address6, path, suite } => {
                self.devices.push(Device {
                    id: *device,
                    identity: identity.clone(),
                    system: *system,
                    address: *address,
                    address6: *address6,
                    remote: path.remote,
                    suite: suite.clone(),
                    since: now.wall,
                });
            }
            ike::Output::Gone { device, .. } => self.devices.retain(|known| known.id != *device),
            ike::Output::Moved { device, path, .. } => self.moved(*device, *path),
            _ => return false,
        }
        true
    }

    /// What the gateway gave, while the tunnel is up.
    pub fn present_tunnel(&self) -> Option<&TunnelConfig> {
        self.tunnel.as_ref().filter(|_| self.uplink == Uplink::Up)
    }

    /// The connected devices that a person means: the one of this number, or else all of this identity.
    pub fn find(&self, name: &str) -> impl Iterator<Item = &Device> {
        let number = name.parse().ok().map(DeviceId);
        let number = number.filter(|number| self.devices.iter().any(|device| device.id == *number));
        self.devices.iter().filter(move |device| match number {
            Some(number) => device.id == number,
            None => device.identity.eq_ignore_ascii_case(name),
        })
    }

    /// The device is somewhere else.
    pub fn moved(&mut self, device: DeviceId, path: Path) {
        if let Some(known) = self.devices.iter_mut().find(|known| known.id == device) {
            known.remote = path.remote;
        }
    }

    fn note_error(&mut self, now: Now, text: String) {
        self.errors.push_front((now.wall, text));
        self.errors.truncate(ERRORS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_uplink_are_those_on_the_socket() {
        for (uplink, word) in Uplink::ALL {
            assert_eq!(serde_json::to_string(&uplink).unwrap(), format!("\"{word}\""));
        }
    }

    #[test]
    fn a_device_is_found_by_number_or_identity() {
        let mut state = State::default();
        for (id, identity) in [(1, "alice@example.com"), (2, "3"), (3, "bob"), (4, "alice@example.com")] {
            state.devices.push(Device {
                id: DeviceId(id),
                identity: identity.to_owned(),
                system: None,
                address: Ipv4Addr::UNSPECIFIED,
                address6: None,
                remote: ([192, 0, 2, 1], 4500).into(),
                suite: String::new(),
                since: Duration::ZERO,
            });
        }
        for (name, expected) in [
            ("1", &[1][..]),
            ("Alice@Example.com", &[1, 4]),
            ("3", &[3]),
            ("bob", &[3]),
            ("5", &[]),
            ("", &[]),
            ("alice", &[]),
        ] {
            let found: Vec<u32> = state.find(name).map(|device| device.id.0).collect();
            assert_eq!(found, expected, "{name}");
        }
        state.devices.retain(|device| device.id.0 != 3);
        assert_eq!(state.find("3").map(|device| device.id.0).collect::<Vec<_>>(), [2], "now it is a name");
    }
}
