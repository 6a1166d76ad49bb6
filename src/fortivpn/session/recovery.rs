//! What follows when a tunnel or a request failed.

use std::time::Duration;

use super::{Output, Session, State, Step};
use crate::base::Now;
use crate::fortivpn::error::{CloseReason, Error};
use crate::fortivpn::event::{DownReason, Event};
use crate::fortivpn::policy::{self, Drop};
use crate::fortivpn::tunnel::Interrupt;
use crate::ppp::Closed;

/// A tunnel that was up for so long makes earlier failures forgotten.
const SETTLED: Duration = Duration::from_secs(60);
/// Inaccuracy of the end of a session.
const AT_THE_END: Duration = Duration::from_secs(3);

/// How a tunnel ended.
pub(super) enum End {
    Connection(CloseReason),
    Interrupt(Interrupt),
    Link(Closed),
}

impl Session {
    pub(super) fn tunnel_ended(&mut self, now: Now, end: End) {
        let State::Tunnel { tunnel, reused } = self.take_state() else { return };
        self.disconnect(matches!(end, End::Link(Closed::ByUs | Closed::ByPeer(_))));
        if self.stop_by.is_some() {
            return self.log_out(now);
        }
        match self.up_since.take() {
            Some(since) => self.went_down(now, since, down_reason(end)),
            None => self.did_not_come_up(now, end, tunnel.has_frames(), reused),
        }
    }

    fn went_down(&mut self, now: Now, since: Duration, why: DownReason) {
        if now.mono.saturating_sub(since) >= SETTLED {
            self.failures = 0;
        }
        let reuse = self.tunnel_config.as_ref().map(|config| config.reuse).unwrap_or_default();
        self.drop = Some(Drop::new(now.boot, reuse));
        // However it ends about the time when the session ends: that session is over.
        let over = self.session_ends().is_some_and(|ends| now.boot + AT_THE_END >= ends);
        let ended = over || matches!(why, DownReason::Terminated(_));
        self.withdraw_request();
        self.outputs.push_back(Output::Down(why));
        if ended { self.sign_in_again(now) } else { self.resume(now) }
    }

    fn did_not_come_up(&mut self, now: Now, end: End, has_frames: bool, reused: bool) {
        if matches!(&end, End::Connection(_)) && !has_frames && reused {
            return self.begin(now, Step::Tunnel);
        }
        if let End::Interrupt(Interrupt::Refused(status @ 500..)) = end {
            return self.retry(now, Step::Tunnel, format!("the gateway answers with status {status}"));
        }
        if !self.fresh {
            return match end {
                End::Connection(_) => self.resume(now),
                End::Interrupt(Interrupt::Refused(_))
                    if self.drop.as_mut().is_some_and(Drop::may_refetch) =>
                {
                    self.begin(now, Step::Config);
                }
                _ => self.sign_in_again(now),
            };
        }
        let error = match end {
            End::Connection(reason) if has_frames => {
                return self.retry(now, Step::Tunnel, reason.to_string());
            }
            End::Connection(_) | End::Link(Closed::ByPeer(_) | Closed::ByUs | Closed::Unanswered) => {
                Error::TunnelRefused(None)
            }
            End::Interrupt(Interrupt::Refused(404)) => return self.fail(Error::NoTunnelMode),
            End::Interrupt(Interrupt::Refused(status)) => {
                // Many gateways take a cookie once: what went wrong then is what matters.
                let first = self.tunnel_error.take();
                return self.fail(first.unwrap_or(Error::TunnelRefused(Some(status))));
            }
            End::Interrupt(Interrupt::BadAnswer(error)) => return self.fail(Error::BadAnswer(error)),
            End::Interrupt(Interrupt::OutOfSync) => Error::NoFrames,
            End::Link(Closed::Fault(fault)) => Error::Ppp(fault),
        };
        if self.tunnel_error.is_some() {
            return self.fail(error);
        }
        let why = error.to_string();
        self.tunnel_error = Some(error);
        self.retry(now, Step::Tunnel, why);
    }

    /// Opens the tunnel again with the cookie that we have, if that may work.
    pub(super) fn resume(&mut self, now: Now) {
        let delay = self.drop.as_ref().and_then(|drop| drop.next_resume(now.boot, &mut *self.rng));
        match delay.filter(|_| self.jar.session().is_some()) {
            None => self.sign_in_again(now),
            Some(delay) => {
                self.outputs.push_back(Output::Note(Event::Resuming));
                self.state = State::Waiting { step: Step::Tunnel, at: now.mono + delay };
            }
        }
    }

    /// The cookie is dead. What opened a tunnel may sign in once more; a person is asked for the rest.
    pub(super) fn sign_in_again(&mut self, now: Now) {
        self.jar.clear();
        self.use_settings();
        if let Some(error) = self.cannot_sign_in() {
            return self.fail(error);
        }
        self.disconnect(true);
        self.outputs.push_back(Output::Note(Event::SigningIn));
        let delay = self.next_backoff();
        self.state = State::Waiting { step: Step::SignIn, at: now.mono + delay };
    }

    pub(super) fn retry(&mut self, now: Now, step: Step, why: String) {
        if self.stop_by.is_some() {
            return self.stopped();
        }
        self.disconnect(false);
        // A gateway forgets a cookie without a tunnel within half a minute, however many tunnels there were before.
        let after = if !self.no_address && matches!(step, Step::Config | Step::Tunnel) {
            self.cookie_failures += 1;
            policy::backoff(self.cookie_failures - 1, &mut *self.rng)
        } else {
            self.next_backoff()
        };
        self.outputs.push_back(Output::Note(Event::Retrying { after, why }));
        self.state = State::Waiting { step, at: now.mono + after };
    }

    fn next_backoff(&mut self) -> Duration {
        self.failures += 1;
        policy::backoff(self.failures - 1, &mut *self.rng)
    }
}

fn down_reason(end: End) -> DownReason {
    match end {
        End::Connection(reason) => DownReason::Connection(reason),
        End::Interrupt(_) => DownReason::OutOfSync,
        End::Link(Closed::ByPeer(text)) => DownReason::Terminated(text),
        End::Link(Closed::Unanswered) => DownReason::Unanswered,
        End::Link(Closed::Fault(fault)) => DownReason::Ppp(fault),
        End::Link(Closed::ByUs) => DownReason::Stopped,
    }
}
