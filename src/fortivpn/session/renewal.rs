//! The end of a session that is known beforehand: telling of it in time, and changing over to a new session.

use std::time::Duration;

use super::{Credentials, Output, Session, State, Step};
use crate::base::Now;
use crate::crypto::Secret;
use crate::fortivpn::event::{DownReason, Event};
use crate::fortivpn::login::CookieJar;
use crate::fortivpn::policy::Drop;
use crate::fortivpn::saml;

/// A person is told so long before the end, or at half the life of a session that is shorter than twice that.
const FIRST: Duration = Duration::from_secs(600);
const LAST: Duration = Duration::from_secs(60);

/// What is known about the end of the session.
#[derive(Default)]
pub(super) struct Renewal {
    /// When the session began (boot clock).
    since: Option<Duration>,
    reminders: u8,
    /// The link is open while the tunnel is up.
    pub(super) asked: bool,
    /// The cookie of the session that a new one is about to take the place of.
    pub(super) old: Option<Secret>,
}

impl Renewal {
    /// A new session began.
    pub(super) fn signed_in(&mut self, since: Option<Duration>) {
        (self.since, self.reminders) = (since, 0);
    }
}

impl Session {
    /// When the gateway ends the session (boot clock), where it said so and the session began here.
    pub fn session_ends(&self) -> Option<Duration> {
        Some(self.renewal.since? + self.tunnel_config.as_ref()?.auth_timeout?)
    }

    /// When to tell of the end of the session the next time (monotonic).
    pub(super) fn next_reminder(&self) -> Option<Duration> {
        self.up_since?;
        let life = self.tunnel_config.as_ref()?.auth_timeout?;
        let first = FIRST.min(life / 2);
        let lead = match self.renewal.reminders {
            0 => first,
            1 if first > LAST => LAST,
            _ => return None,
        };
        Some(self.session_ends()?.saturating_sub(lead).saturating_sub(self.asleep))
    }

    /// Tells a person of the end of the session, when it is time to.
    pub(super) fn remind(&mut self, now: Now) {
        if self.stop_by.is_some() || self.next_reminder().is_none_or(|at| at > now.mono) {
            return;
        }
        let left = self.session_ends().unwrap_or_default().saturating_sub(now.boot);
        self.renewal.reminders = if left <= LAST { 2 } else { self.renewal.reminders + 1 };
        if left.is_zero() {
            return;
        }
        if matches!(self.config.credentials, Credentials::Saml) {
            self.renewal.asked = true;
            let url = saml::start_url(&self.authority, self.config.realm.as_deref());
            self.outputs.push_back(Output::LoginNeeded { url, left: Some(left) });
        } else {
            self.outputs.push_back(Output::Note(Event::SessionEnds(left)));
        }
    }

    /// True while a new sign-in is welcome though the tunnel is up.
    pub(super) fn may_renew(&self) -> bool {
        self.renewal.asked && self.stop_by.is_none() && matches!(self.state, State::Tunnel { .. })
    }

    /// The browser brought a new sign-in before the end. Any web page can send an id, so the old session must outlive
    /// a bad one: its tunnel is only cut, and it is logged out when the gateway has accepted the new one. Where that
    /// allows one session per user, it refuses the new one instead; then the old one is ended first.
    pub(super) fn renew(&mut self, now: Now, id: String) {
        self.renewal.asked = false;
        self.renewal.old = self.jar.session().cloned();
        self.up_since = None;
        let reuse = self.tunnel_config.as_ref().map(|config| config.reuse).unwrap_or_default();
        self.drop = Some(Drop::new(now.boot, reuse));
        self.outputs.push_back(Output::LoginDone);
        self.outputs.push_back(Output::Down(DownReason::Renewing));
        self.disconnect(true);
        self.begin(now, Step::TradeId(id));
    }

    /// The new sign-in came to nothing: back to the old session. False if there is none.
    pub(super) fn keep_old_session(&mut self, now: Now) -> bool {
        let Some(old) = self.renewal.old.take() else { return false };
        self.jar = CookieJar::with_session(old);
        self.renewal.reminders = 0;
        self.outputs.push_back(Output::Note(Event::SignInRefused));
        self.disconnect(true);
        self.resume(now);
        true
    }

    /// The new session is there: ends the old one, if there is one, before the step.
    pub(super) fn replace_old_session(&mut self, now: Now, step: Step) {
        let step = if self.renewal.old.is_some() { Step::Replace(Box::new(step)) } else { step };
        self.begin(now, step);
    }
}
