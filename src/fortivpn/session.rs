//! The session: sign in, fetch the configuration, open the tunnel, and all of that again when it drops.

mod answers;
mod io;
mod link;
mod recovery;
mod renewal;
mod settings;
mod sign_in;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::config::TunnelConfig;
use super::cookie::SESSION as SESSION_COOKIE;
use super::error::{CloseReason, Error};
use super::event::DownReason;
use super::login::{self, CookieJar, Kind, LOGIN_CHECK, TEMPORARY_COOKIE};
use super::policy::Drop;
use super::saml;
use super::tunnel::{Stats, Tunnel};
use crate::base::{Now, Random};
use crate::crypto::Secret;
use crate::wire::http::{Request, ResponseReader};

pub use io::{Config, Credentials, HostCheckValues, Input, Output};
use recovery::End;
use renewal::Renewal;
use settings::Next;
use sign_in::{SignIn, Wanted};

const CONFIG: &str = "/remote/fortisslvpn_xml?dual_stack=1";
const TUNNEL: &str = "/remote/sslvpn-tunnel";
const LOGOUT: &str = "/remote/logout";

/// Name, TCP and TLS together; the engine has finer limits of its own.
const CONNECT: Duration = Duration::from_secs(30);
const HTTP_HEAD: Duration = Duration::from_secs(20);
const HTTP_WHOLE: Duration = Duration::from_secs(60);
/// The gateway asks RADIUS and LDAP servers, one after the other.
const LOGIN_HEAD: Duration = Duration::from_secs(40);
/// The gateway waits for a tap on the phone.
const PUSH_HEAD: Duration = Duration::from_secs(120);
const LOGOUT_WHOLE: Duration = Duration::from_secs(5);
const BROWSER: Duration = Duration::from_secs(600);
/// Growth of `boot - mono` that is no clock noise.
const SLEPT: Duration = Duration::from_secs(2);
/// From `Input::Stop` to `Output::Stopped`.
const STOP: Duration = Duration::from_secs(3);

/// One thing to do on a connection.
enum Step {
    /// Whatever the credentials make of it. Before a person is asked, it only shows that the gateway is there.
    SignIn,
    /// The credentials are under way.
    Login,
    /// An answer of a person, good for the gateway until then.
    Answer {
        target: String,
        body: Secret,
        kind: Kind,
        until: Duration,
    },
    TradeId(String),
    HostCheck(String),
    HostCheckResult(String),
    /// The login page that the gateway sent us to; by certificate alone.
    LoginPage(String),
    Config,
    Tunnel,
    /// End the session that a new one takes the place of; then go on to the step.
    Replace(Box<Step>),
    Logout,
}

enum State {
    Idle,
    /// Until it is time for the step.
    Waiting {
        step: Step,
        at: Duration,
    },
    Connecting {
        step: Step,
        until: Duration,
    },
    Exchange {
        step: Step,
        reader: Box<ResponseReader>,
        since: Duration,
        reused: bool,
    },
    /// Until the browser comes back.
    Browser {
        until: Duration,
    },
    /// Until a person has answered.
    Asking {
        question: u32,
        wanted: Wanted,
        until: Duration,
    },
    Tunnel {
        tunnel: Box<Tunnel>,
        reused: bool,
    },
    Failed,
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    Closed,
    Opening,
    Open { used: bool },
}

/// The client's side of a FortiVPN session, over as many TLS connections as it takes.
pub struct Session {
    config: Config,
    /// Host, with the port where it is not 443.
    authority: String,
    rng: Box<dyn Random>,
    state: State,
    connection: Connection,
    jar: CookieJar,
    tunnel_config: Option<TunnelConfig>,
    sign_in: SignIn,
    next: Option<Next>,
    renewal: Renewal,
    /// No tunnel has come up yet with the present cookie.
    fresh: bool,
    /// The last configuration with this cookie gave no address.
    no_address: bool,
    /// Why the first tunnel on the present cookie did not come up.
    tunnel_error: Option<Error>,
    /// Failures in a row, for the backoff.
    failures: usize,
    /// The same for what needs no sign-in, since a tunnel was up or the cookie was new.
    cookie_failures: usize,
    up_since: Option<Duration>,
    drop: Option<Drop>,
    stop_by: Option<Duration>,
    /// `boot - mono` when last seen: time that the host slept.
    asleep: Duration,
    outputs: VecDeque<Output>,
    stats: Stats,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("config", &self.config)
            .field("jar", &self.jar)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that waits for [`Input::Start`].
    pub fn new(mut config: Config, rng: Box<dyn Random>) -> Self {
        let host = if config.host.contains(':') { format!("[{}]", config.host) } else { config.host.clone() };
        let authority = if config.port == 443 { host } else { format!("{host}:{}", config.port) };
        let sign_in = SignIn::new(&mut config.credentials);
        Self {
            config,
            authority,
            rng,
            state: State::Idle,
            connection: Connection::Closed,
            jar: CookieJar::default(),
            tunnel_config: None,
            sign_in,
            next: None,
            renewal: Renewal::default(),
            fresh: false,
            no_address: false,
            tunnel_error: None,
            failures: 0,
            cookie_failures: 0,
            up_since: None,
            drop: None,
            stop_by: None,
            asleep: Duration::MAX,
            outputs: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// True while IPv4 packets may be sent: each behind [`crate::wire::forti::emit_header`], on the present connection.
    pub fn is_up(&self) -> bool {
        self.up_since.is_some()
            && matches!(&self.state, State::Tunnel { tunnel, .. } if tunnel.link.is_open())
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The next thing to do. Call until `None` after every other call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Session::handle_timeout`] (monotonic).
    pub fn poll_timeout(&self) -> Option<Duration> {
        let state = match &self.state {
            State::Waiting { at, .. } => Some(*at),
            State::Connecting { until, .. } | State::Browser { until } | State::Asking { until, .. } => {
                Some(*until)
            }
            State::Exchange { step, reader, since, .. } => Some(*since + exchange_limit(step, reader)),
            State::Tunnel { tunnel, .. } => {
                tunnel.link.poll_timeout().into_iter().chain(self.next_reminder()).min()
            }
            State::Idle | State::Failed | State::Stopped => None,
        };
        state.into_iter().chain(self.stop_by).min()
    }

    /// Timers. Early calls are harmless; after a suspend of the host one is useful.
    pub fn handle_timeout(&mut self, now: Now) {
        self.look_at_clocks(now);
        if self.stop_by.is_some_and(|by| by <= now.mono) {
            return self.stopped();
        }
        if let State::Tunnel { tunnel, .. } = &mut self.state {
            // Also before its time: the link notices a suspend.
            tunnel.link.handle_timeout(now);
            self.flush_link(now);
            return self.remind(now);
        }
        if self.poll_timeout().is_none_or(|at| at > now.mono) {
            return;
        }
        match self.take_state() {
            State::Waiting { step, .. } => self.begin(now, step),
            State::Connecting { step, .. } => {
                self.disconnect(false);
                self.not_connected(now, step, CloseReason::Timeout);
            }
            State::Exchange { step, .. } => {
                self.disconnect(false);
                self.unanswered(now, step, CloseReason::Timeout);
            }
            State::Browser { .. } => {
                self.outputs.push_back(Output::LoginDone);
                self.fail(Error::SignInTimeout);
            }
            State::Asking { wanted, .. } => {
                self.outputs.push_back(Output::LoginDone);
                self.fail(wanted.timeout());
            }
            other => self.state = other,
        }
    }

    /// Something happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.look_at_clocks(now);
        match input {
            Input::Start if matches!(self.state, State::Idle) => self.start(now),
            Input::Start => {}
            Input::Retry => match self.take_state() {
                State::Idle | State::Failed => self.start(now),
                State::Waiting { step, .. } => self.begin(now, step),
                other => self.state = other,
            },
            Input::Connected if self.connection == Connection::Opening => {
                self.connection = Connection::Open { used: false };
                match self.take_state() {
                    State::Connecting { step, .. } => self.perform(now, step),
                    other => self.state = other,
                }
            }
            Input::Connected => {}
            Input::Closed(_) if self.connection == Connection::Closed || self.has_parted() => {}
            Input::Closed(reason) => self.closed(now, reason),
            Input::SamlId(id) if matches!(self.state, State::Browser { .. }) && saml::is_valid_id(&id) => {
                self.outputs.push_back(Output::LoginDone);
                self.begin(now, Step::TradeId(id));
            }
            Input::SamlId(id) if self.may_renew() && saml::is_valid_id(&id) => self.renew(now, id),
            Input::SamlId(_) => {}
            Input::Answer { question, answer } => self.answer(now, question, &answer),
            Input::Cookie(cookie) => self.take_cookie(now, &cookie),
            Input::Settings { config, credentials_changed } => {
                self.take_settings(*config, credentials_changed);
            }
            Input::NetworkChanged => self.network_changed(now),
            Input::Stop => self.stop(now),
        }
    }

    /// Decrypted octets of the connection, in pieces of any size. IPv4 packets of the tunnel go to `sink` where they
    /// are, in `plaintext`; only a packet that straddles two calls is copied.
    pub fn handle_bytes(&mut self, now: Now, plaintext: &mut [u8], sink: &mut dyn FnMut(&mut [u8])) {
        match &mut self.state {
            State::Tunnel { tunnel, .. } => {
                let result = tunnel.handle_bytes(now, plaintext, &mut *self.rng, &mut self.stats, sink);
                self.flush_link(now);
                if let (Err(interrupt), State::Tunnel { .. }) = (result, &self.state) {
                    self.tunnel_ended(now, End::Interrupt(interrupt));
                }
            }
            State::Exchange { reader, .. } => match reader.handle_bytes(plaintext) {
                Ok(None) => {}
                Ok(Some(response)) => {
                    if let State::Exchange { step, .. } = self.take_state() {
                        self.answered(now, step, response);
                    }
                }
                Err(error) => self.fail(Error::BadAnswer(error)),
            },
            _ => {}
        }
    }

    /// A `Disconnect` still waits to be taken: what is told about a connection concerns the one before it.
    fn has_parted(&self) -> bool {
        self.outputs.iter().any(|output| matches!(output, Output::Disconnect { .. }))
    }

    /// The host slept: what waits for a time has waited long enough.
    fn look_at_clocks(&mut self, now: Now) {
        let asleep = now.boot.saturating_sub(now.mono);
        let woke = asleep > self.asleep.saturating_add(SLEPT);
        self.asleep = asleep;
        if let (true, State::Waiting { at, .. }) = (woke, &mut self.state) {
            *at = now.mono;
        }
    }

    fn network_changed(&mut self, now: Now) {
        match self.take_state() {
            State::Waiting { step, .. } => self.begin(now, step),
            State::Tunnel { mut tunnel, reused } => {
                tunnel.link.probe(now);
                self.state = State::Tunnel { tunnel, reused };
                self.flush_link(now);
            }
            other => self.state = other,
        }
    }

    fn start(&mut self, now: Now) {
        self.use_settings();
        self.sign_in.permitted = true;
        if let Some(error) = self.cannot_sign_in() {
            return self.fail(error);
        }
        self.failures = 0;
        self.drop = None;
        self.begin(now, Step::SignIn);
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Idle)
    }

    /// Does the step on the open connection, or on a new one.
    fn begin(&mut self, now: Now, step: Step) {
        if matches!(self.connection, Connection::Open { .. }) {
            return self.perform(now, step);
        }
        self.connection = Connection::Opening;
        self.outputs.push_back(Output::Connect);
        self.state = State::Connecting { step, until: now.mono + CONNECT };
    }

    fn perform(&mut self, now: Now, step: Step) {
        let step = match step {
            Step::SignIn => match self.sign_in(now) {
                Some(step) => step,
                None => return,
            },
            step => step,
        };
        let reused = std::mem::replace(&mut self.connection, Connection::Open { used: true })
            == Connection::Open { used: true };
        let session = |jar: &CookieJar| jar.session().cloned().map(|value| (SESSION_COOKIE, value));
        let temporary = |jar: &CookieJar| jar.temporary().cloned().map(|value| (TEMPORARY_COOKIE, value));
        let (target, cookie, form) = match &step {
            // Became another step above.
            Step::SignIn => return,
            Step::Tunnel => return self.open_tunnel(now, reused),
            Step::Login => {
                let form = self.spend_credentials();
                let page = || login::login_page(self.config.realm.as_deref());
                (form.as_ref().map_or_else(page, |_| LOGIN_CHECK.to_owned()), None, form)
            }
            Step::Answer { target, body, .. } => (target.clone(), None, Some(body.clone())),
            Step::TradeId(id) => {
                self.forget_sign_in();
                (format!("/remote/saml/auth_id?id={id}"), None, None)
            }
            Step::HostCheck(target) => (target.clone(), temporary(&self.jar), None),
            Step::HostCheckResult(target) => {
                let form = self.config.host_check.as_ref().map(login::host_check_form);
                (target.clone(), temporary(&self.jar), form)
            }
            Step::LoginPage(target) => (target.clone(), None, None),
            Step::Config => (CONFIG.to_owned(), session(&self.jar), None),
            Step::Replace(_) => {
                let old = self.renewal.old.as_ref().map(|old| (SESSION_COOKIE, old.clone()));
                (LOGOUT.to_owned(), old, None)
            }
            Step::Logout => (LOGOUT.to_owned(), session(&self.jar), None),
        };
        self.write_request(&target, cookie.as_ref(), form.as_ref());
        self.state = State::Exchange { step, reader: Box::default(), since: now.mono, reused };
    }

    fn write_request(&mut self, target: &str, cookie: Option<&(&str, Secret)>, form: Option<&Secret>) {
        let request = Request {
            target,
            host: &self.authority,
            user_agent: &self.config.user_agent,
            cookie: cookie.map(|(name, value)| (*name, value.expose())),
            form: form.map(Secret::expose),
        };
        self.outputs.push_back(Output::Write(request.emit()));
    }

    fn closed(&mut self, now: Now, reason: CloseReason) {
        self.connection = Connection::Closed;
        // What was not sent must not go out on the next connection.
        self.outputs.retain(|output| !matches!(output, Output::Write(_)));
        if let (CloseReason::ClientCertificate(why), false) = (&reason, self.is_up()) {
            return self.fail(Error::ClientCertificate(why.clone()));
        }
        match self.take_state() {
            State::Connecting { step, .. } => self.not_connected(now, step, reason),
            State::Exchange { step, mut reader, reused, .. } => match reader.handle_end() {
                Ok(response) => self.answered(now, step, response),
                // The gateway had closed the idle connection already: nothing was wrong with the request.
                Err(_) if reused && !reader.is_touched() => self.begin(now, step),
                Err(_) => self.unanswered(now, step, reason),
            },
            tunnel @ State::Tunnel { .. } => {
                self.state = tunnel;
                self.tunnel_ended(now, End::Connection(reason));
            }
            other => self.state = other,
        }
    }

    fn fail(&mut self, error: Error) {
        if self.stop_by.is_some() {
            return self.stopped();
        }
        self.disconnect(false);
        self.renewal.old = None;
        self.state = State::Failed;
        self.outputs.push_back(Output::Failed(error));
    }

    fn stop(&mut self, now: Now) {
        if self.stop_by.is_some() || matches!(self.state, State::Stopped) {
            return;
        }
        self.stop_by = Some(now.mono + STOP);
        self.withdraw_request();
        if let Some(old) = self.renewal.old.take().filter(|_| self.jar.session().is_none()) {
            self.jar = CookieJar::with_session(old);
        }
        if self.up_since.take().is_some() {
            self.outputs.push_back(Output::Down(DownReason::Stopped));
            if let State::Tunnel { tunnel, .. } = &mut self.state {
                tunnel.link.close(now);
                return self.flush_link(now);
            }
        }
        self.log_out(now);
    }

    fn log_out(&mut self, now: Now) {
        self.disconnect(true);
        if self.jar.session().is_some() {
            self.begin(now, Step::Logout);
        } else {
            self.stopped();
        }
    }

    fn stopped(&mut self) {
        self.disconnect(true);
        self.jar.clear();
        self.stop_by = None;
        self.state = State::Stopped;
        self.outputs.push_back(Output::Stopped);
    }

    fn disconnect(&mut self, graceful: bool) {
        if std::mem::replace(&mut self.connection, Connection::Closed) != Connection::Closed {
            self.outputs.push_back(Output::Disconnect { graceful });
        }
    }
}

fn exchange_limit(step: &Step, reader: &ResponseReader) -> Duration {
    match step {
        Step::Replace(_) => LOGOUT_WHOLE,
        _ if reader.has_head() => HTTP_WHOLE,
        Step::Answer { kind: Kind::Push, .. } => PUSH_HEAD,
        Step::Login
        | Step::Answer { .. }
        | Step::TradeId(_)
        | Step::LoginPage(_)
        | Step::HostCheck(_)
        | Step::HostCheckResult(_) => LOGIN_HEAD,
        _ => HTTP_HEAD,
    }
}

#[cfg(test)]
mod tests;
