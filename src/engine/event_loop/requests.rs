//! What people ask of a running daemon.

use super::EventLoop;
use crate::base::Now;
use crate::engine::control::message::Reply;
use crate::engine::ike_thread::Notice;
use crate::engine::state::Device;
use crate::engine::status::{Sources, Status};

impl EventLoop {
    /// The whole picture.
    pub(super) fn status(&self, now: Now) -> Status {
        let Self { state, desk, data, uplink, ike, counters, .. } = self;
        Status::new(&Sources { now, state, desk, data, uplink, ike, counters })
    }

    /// Ends the connections that a person means by `name`.
    pub(super) fn disconnect(&self, name: &str) -> Reply {
        let found: Vec<_> = self.state.find(name).collect();
        for device in &found {
            self.ike.notice(Notice::Disconnect(device.id));
        }
        if found.is_empty() {
            let connected = match listed(self.state.devices.iter()) {
                Some(list) => format!("connected: {list}"),
                None => "none is connected".to_owned(),
            };
            return Reply::Refused {
                reason: format!("no device has the number or identity '{name}'; {connected}"),
            };
        }
        Reply::Done { text: format!("disconnected {}", listed(found.into_iter()).unwrap_or_default()) }
    }
}

/// Devices with their numbers, as one types them; `None` where there are none.
fn listed<'a>(devices: impl Iterator<Item = &'a Device>) -> Option<String> {
    let all: Vec<String> = devices.map(|device| format!("{} ({})", device.identity, device.id.0)).collect();
    (!all.is_empty()).then(|| all.join(", "))
}
