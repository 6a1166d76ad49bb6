//! What follows from the gateway's HTTP answers, and from their absence.

use super::{Credentials, Output, Session, Step};
use crate::base::Now;
use crate::fortivpn::config::{self, TunnelConfig};
use crate::fortivpn::error::{CloseReason, Error, Event};
use crate::fortivpn::login::{self, Verdict};
use crate::wire::http::Response;

/// No address is free: this many failures put the next try a minute away.
const POOL_EMPTY: usize = 6;
const MAX_HOST_CHECKS: u8 = 2;

impl Session {
    /// Nothing was sent, so everything may be tried again.
    pub(super) fn not_connected(&mut self, now: Now, step: Step, reason: CloseReason) {
        if let CloseReason::Trust(why) = reason {
            return self.fail(Error::Trust(why));
        }
        match step {
            Step::Logout => self.stopped(),
            // The id is old by the time the gateway is back.
            Step::TradeId(_) => self.retry(now, Step::Probe, reason.to_string()),
            step => self.retry(now, step, reason.to_string()),
        }
    }

    /// A request was sent, and no answer came.
    pub(super) fn unanswered(&mut self, now: Now, step: Step, why: String) {
        match step {
            Step::Login => self.fail(Error::LoginUnanswered(why)),
            Step::TradeId(_) => self.retry(now, Step::Probe, why),
            Step::Logout => self.stopped(),
            step => self.retry(now, step, why),
        }
    }

    pub(super) fn answered(&mut self, now: Now, step: Step, response: Response) {
        if !response.head.keep_alive {
            self.disconnect(true);
        }
        self.jar.absorb(&response.head);
        match step {
            Step::Logout => self.stopped(),
            Step::Config => self.configured(now, &response),
            _ => self.judged(now, &response),
        }
    }

    fn judged(&mut self, now: Now, response: &Response) {
        let by_browser = matches!(self.config.credentials, Credentials::Saml);
        match login::judge(response, &self.jar, &self.authority) {
            Verdict::Accepted => {
                self.fresh = true;
                self.no_address = false;
                self.tunnel_failures = 0;
                self.begin(now, Step::Config);
            }
            Verdict::HostCheck(_) if self.host_checks >= MAX_HOST_CHECKS => self.fail(Error::HostCheck),
            Verdict::HostCheck(target) => {
                self.host_checks += 1;
                self.begin(now, Step::HostCheck(target));
            }
            // Each id is a person's action, so asking for another one repeats nothing.
            Verdict::Failed(Error::Denied) if by_browser => {
                self.outputs.push_back(Output::Note(Event::SignInRefused));
                self.begin(now, Step::Probe);
            }
            Verdict::Failed(Error::LoginUnanswered(why)) if by_browser => self.retry(now, Step::Probe, why),
            Verdict::Failed(error) => self.fail(error),
        }
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
            Err(config::Error::LoginPage) if self.fresh => self.fail(Error::SessionRefused),
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
