//! Captures begin, and end, on the event loop.

use super::EventLoop;
use crate::base::Now;
use crate::engine::capture::{MAX_CAPTURES, Sink, Target};
use crate::engine::control::Control;
use crate::engine::control::message::Reply;

impl EventLoop {
    /// Somebody at the control socket wants packets.
    pub(super) fn capture_for(&mut self, now: Now, connection: usize, device: Option<&str>) {
        let target = Target::find(device, &self.state.devices).and_then(|target| {
            if self.captures.is_full() {
                return Err(format!("{MAX_CAPTURES} captures run already; end one of them"));
            }
            Ok(target)
        });
        let Some(control) = &mut self.control else { return };
        let target = match target {
            Ok(target) => target,
            Err(reason) => return control.reply(now.mono, connection, &Reply::Refused { reason }),
        };
        control.reply(now.mono, connection, &Reply::Accepted);
        self.hand_over(connection, target);
    }

    /// From now on the connection belongs to the writer of a capture.
    fn hand_over(&mut self, connection: usize, target: Target) {
        let registry = self.poll.registry();
        let taken =
            self.control.as_mut().and_then(|control: &mut Control| control.take(connection, registry));
        // Without it, it is gone already.
        let Some((stream, told)) = taken else { return };
        match self.captures.begin(target, Sink::Client(stream, told), "the control socket") {
            Ok(()) => self.renew_tap(),
            Err(error) => log::error!("cannot start a capture: {error}"),
        }
    }

    /// Forgets captures that have ended.
    pub(super) fn serve_captures(&mut self) {
        if self.captures.poll_ended() {
            self.renew_tap();
        }
    }

    /// Who captures what may have changed.
    pub(super) fn renew_tap(&mut self) {
        self.data.tap = self.captures.tap(&self.state.devices);
    }
}
