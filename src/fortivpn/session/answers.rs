//! What follows from the gateway's HTTP answers, and from their absence.

use super::{Credentials, Output, Session, Step};
use crate::base::Now;
use crate::fortivpn::config::{self, TunnelConfig};
use crate::fortivpn::error::{CloseReason, Error};
use crate::fortivpn::event::Event;
use crate::fortivpn::login::{self, Kind, Own, Round, Verdict};
use crate::fortivpn::question::QuestionKind;
use crate::wire::http::Response;

/// No address is free: this many failures put the next try a minute away.
const POOL_EMPTY: usize = 6;
const MAX_HOST_CHECKS: u8 = 2;

impl Session {
    /// Nothing was sent, so everything may be tried again.
    pub(super) fn not_connected(&mut self, now: Now, step: Step, reason: CloseReason) {
        match (step, reason) {
            (_, CloseReason::Trust(why)) => self.fail(Error::Trust(why)),
            (Step::Logout, _) => self.stopped(),
            (Step::Replace(next), _) => self.replaced(now, *next),
            (Step::Answer { until, .. }, reason) if until <= now.mono => {
                self.fail(Error::LoginUnanswered(reason.to_string()));
            }
            (Step::TradeId(_), _) if self.keep_old_session(now) => {}
            // The id is old by the time the gateway is back.
            (Step::TradeId(_), reason) => self.retry(now, Step::SignIn, reason.to_string()),
            (step, reason) => self.retry(now, step, reason.to_string()),
        }
    }

    /// A request was sent, and no answer came.
    pub(super) fn unanswered(&mut self, now: Now, step: Step, reason: CloseReason) {
        let by_certificate = matches!(self.config.credentials, Credentials::Certificate);
        match step {
            Step::Answer { kind: Kind::Push, .. } if reason == CloseReason::Timeout => {
                self.fail(Error::PushTimeout)
            }
            // Nothing of it can be refused twice.
            Step::Login | Step::LoginPage(_) if by_certificate => {
                self.sign_in.permitted = true;
                self.retry(now, Step::SignIn, reason.to_string());
            }
            Step::Login | Step::LoginPage(_) | Step::Answer { .. } => {
                self.fail(Error::LoginUnanswered(reason.to_string()));
            }
            Step::TradeId(_) | Step::HostCheck(_) | Step::HostCheckResult(_)
                if self.keep_old_session(now) => {}
            Step::TradeId(_) => self.retry(now, Step::SignIn, reason.to_string()),
            Step::Replace(next) => self.replaced(now, *next),
            Step::Logout => self.stopped(),
            step => self.retry(now, step, reason.to_string()),
        }
    }

    pub(super) fn answered(&mut self, now: Now, step: Step, response: Response) {
        if !response.head.keep_alive {
            self.disconnect(true);
        }
        if let Step::Replace(next) = step {
            return self.replaced(now, *next);
        }
        self.jar.absorb(&response.head);
        match step {
            Step::Logout => self.stopped(),
            Step::Config => self.configured(now, &response),
            step => self.judged(now, &step, &response),
        }
    }

    /// The old session is logged out, or as good as that.
    fn replaced(&mut self, now: Now, next: Step) {
        self.renewal.old = None;
        self.begin(now, next);
    }

    fn judged(&mut self, now: Now, step: &Step, response: &Response) {
        let by_browser = matches!(self.config.credentials, Credentials::Saml);
        let own = Own { host: &self.authority, realm: self.config.realm.as_deref().unwrap_or_default() };
        let verdict = login::judge(response, &self.jar, &own);
        if !matches!(
            &verdict,
            Verdict::Failed(..) | Verdict::Round(Round { kind: QuestionKind::NewPassword { .. }, .. })
        ) {
            self.sign_in.new_password_accepted();
        }
        match verdict {
            Verdict::Accepted => {
                self.accept(Some(now.boot));
                self.replace_old_session(now, Step::Config);
            }
            Verdict::HostCheck(_) | Verdict::HostCheckResult(_)
                if self.sign_in.host_checks >= MAX_HOST_CHECKS =>
            {
                self.refused(now, step, Error::HostCheck, String::new());
            }
            Verdict::HostCheck(target) => {
                self.sign_in.host_checks += 1;
                self.begin(now, Step::HostCheck(target));
            }
            Verdict::HostCheckResult(target) if self.config.host_check.is_some() => {
                self.sign_in.host_checks += 1;
                self.begin(now, Step::HostCheckResult(target));
            }
            Verdict::HostCheckResult(_) => self.refused(now, step, Error::HostCheck, String::new()),
            Verdict::LoginPage(target) if matches!(step, Step::Login) && self.follows_login_page() => {
                self.begin(now, Step::LoginPage(target));
            }
            Verdict::LoginPage(_) if by_browser => self.browser_refused(now),
            Verdict::LoginPage(_) => self.refused(now, step, Error::Denied, String::new()),
            Verdict::Round(round) => self.next_round(now, round),
            // One session per user: the old one has to go first. The id is used by then.
            Verdict::Failed(Error::SessionExists, _) if self.renewal.old.is_some() => {
                self.replace_old_session(now, Step::SignIn);
            }
            Verdict::Failed(..) if self.keep_old_session(now) => {}
            // Who signs in was accepted before.
            Verdict::Failed(Error::Denied, words)
                if matches!(step, Step::HostCheck(_) | Step::HostCheckResult(_)) =>
            {
                self.refused(now, step, Error::HostCheck, words);
            }
            // Each id is a person's action, so asking for another one repeats nothing.
            Verdict::Failed(Error::Denied, _) if by_browser => self.browser_refused(now),
            Verdict::Failed(Error::LoginUnanswered(why), _) if by_browser => {
                self.retry(now, Step::SignIn, why)
            }
            Verdict::Failed(error, words) => self.refused(now, step, error, words),
        }
    }

    fn browser_refused(&mut self, now: Now) {
        if !self.keep_old_session(now) {
            self.outputs.push_back(Output::Note(Event::SignInRefused));
            self.begin(now, Step::SignIn);
        }
    }

    /// The login page answers with itself in other words, once, where the client certificate is all.
    fn follows_login_page(&mut self) -> bool {
        let by_certificate = matches!(self.config.credentials, Credentials::Certificate);
        by_certificate && !std::mem::replace(&mut self.sign_in.redirected, true)
    }

    fn configured(&mut self, now: Now, response: &Response) {
        let parsed = match response.head.status {
            200 => TunnelConfig::parse(&response.body),
            300..=399 | 401 | 403 => Err(config::Error::LoginPage),
            404 => return self.fail(Error::NoTunnelMode),
            status @ 500.. => {
                return self.retry(now, Step::Config, format!("the gateway answers with status {status}"));
            }
            status => return self.fail(Error::BadStatus(status)),
        };
        match parsed {
            Ok(config) => {
                self.no_address = false;
                if config.skipped_routes > 0 {
                    self.outputs.push_back(Output::Note(Event::RoutesSkipped(config.skipped_routes)));
                }
                self.tunnel_config = Some(config);
                self.begin(now, Step::Tunnel);
            }
            Err(config::Error::LoginPage) if self.no_address => {
                self.fail(Error::BadConfig(config::Error::NoAddress))
            }
            Err(config::Error::LoginPage) if self.fresh => self.fail(self.refused_session()),
            Err(config::Error::NoAddress) if self.fresh => {
                self.no_address = true;
                self.failures = self.failures.max(POOL_EMPTY);
                self.retry(now, Step::Config, Error::BadConfig(config::Error::NoAddress).to_string());
            }
            Err(config::Error::LoginPage | config::Error::NoAddress) => self.sign_in_again(now),
            Err(error) => self.fail(Error::BadConfig(error)),
        }
    }
}
