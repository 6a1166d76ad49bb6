//! Users, cookies, addresses and SAML ids of the gateway.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::factor::Factor;
use super::journal::LoginOutcome;
use super::kick::Kick;
use super::round::Round;
use super::scenario::{CloseStyle, Scenario, SecondTunnel};

/// Wrong passwords before a source address is blocked.
const STRIKES: u32 = 2;
/// Entries of each table.
const TABLE: usize = 4096;

/// An account of the gateway.
#[derive(Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// The realm; empty is the default one.
    pub realm: String,
    /// What is asked for after the password, in turn.
    pub factors: Vec<Factor>,
    /// The common name of the certificate that the user's client has to show. With an empty password it is enough.
    pub certificate: Option<String>,
}

impl User {
    /// A user of the default realm.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            password: password.into(),
            realm: String::new(),
            factors: Vec::new(),
            certificate: None,
        }
    }

    /// The same user in `realm`.
    pub fn in_realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = realm.into();
        self
    }

    /// With one more factor.
    pub fn with_factor(mut self, factor: Factor) -> Self {
        self.factors.push(factor);
        self
    }

    /// Whose client has to show a certificate with this common name.
    pub fn with_certificate(mut self, common_name: impl Into<String>) -> Self {
        self.certificate = Some(common_name.into());
        self
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// What a login has led to.
pub(super) struct Session {
    pub user: String,
    pub source: IpAddr,
    pub since: Duration,
    pub address: Option<Ipv4Addr>,
    pub fetches: u32,
    pub tunnels: u32,
    pub tunnel: Option<Arc<Kick>>,
    /// When the last tunnel ended.
    pub idle_since: Duration,
}

/// A browser on its way through the SAML login.
struct SamlFlow {
    realm: String,
    to_listener: bool,
    user: Option<String>,
}

/// Who has come through the SAML login.
pub(super) struct SamlLogin {
    pub user: String,
    pub realm: String,
    /// The listener of a client waits for an id.
    pub to_listener: bool,
}

#[derive(Default)]
struct Strikes {
    count: u32,
    blocked_until: Option<Duration>,
}

/// A user that still has a step before the cookie.
pub(super) struct Waiting {
    pub user: String,
    /// Where the temporary cookie is good.
    pub path: &'static str,
}

/// Everything that outlives a connection.
#[derive(Default)]
pub(super) struct Sessions {
    by_cookie: HashMap<String, Session>,
    /// By temporary cookie.
    waiting: HashMap<String, Waiting>,
    /// Questions by their `reqid`.
    rounds: HashMap<String, Round>,
    /// Passwords that were changed, by account.
    new_passwords: HashMap<usize, String>,
    /// Codes that were used, by account.
    used_codes: HashSet<(usize, String)>,
    strikes: HashMap<IpAddr, Strikes>,
    saml_flows: HashMap<String, SamlFlow>,
    saml_ids: HashMap<String, (SamlLogin, Duration)>,
    addresses_given: usize,
    tunnels_given: u32,
    anyone_logged_in: bool,
}

/// The tunnel that a cookie opens.
pub(super) struct Grant {
    pub cookie: String,
    pub address: Ipv4Addr,
    pub kick: Arc<Kick>,
    pub login_at: Duration,
}

impl Sessions {
    /// Checks name, password, realm and the certificate's name; gives the account.
    pub fn try_login(
        &mut self,
        now: Duration,
        scenario: &Scenario,
        users: &[User],
        source: IpAddr,
        (name, password, realm, peer): (&str, &str, &str, Option<&str>),
    ) -> Result<usize, LoginOutcome> {
        if self.is_blocked(now, source) {
            return Err(LoginOutcome::LockedOut);
        }
        let found = users.iter().enumerate().position(|(index, user)| {
            user.name == name
                && user.realm == realm
                && self.password_of(users, index) == password
                && (user.certificate.is_none() || user.certificate.as_deref() == peer)
        });
        match found {
            Some(index) if !scenario.deny_all => {
                // The strikes are forgotten when the whole login is through.
                if users.get(index).is_some_and(|user| user.factors.is_empty()) {
                    self.strikes.remove(&source);
                }
                Ok(index)
            }
            _ => {
                self.strike(now, scenario, source);
                Err(LoginOutcome::Denied)
            }
        }
    }

    fn is_blocked(&mut self, now: Duration, source: IpAddr) -> bool {
        let until = self.strikes.get(&source).and_then(|strikes| strikes.blocked_until);
        if until.is_some_and(|until| now >= until) {
            self.strikes.remove(&source);
        }
        until.is_some_and(|until| now < until)
    }

    /// Counts a failed login.
    pub fn strike(&mut self, now: Duration, scenario: &Scenario, source: IpAddr) {
        let strikes = self.strikes.entry(source).or_default();
        strikes.count += 1;
        if strikes.count >= STRIKES {
            strikes.blocked_until = scenario.lockout.map(|time| now + time);
        }
    }

    /// The password that is good now.
    pub fn password_of<'a>(&'a self, users: &'a [User], user: usize) -> &'a str {
        let first = || users.get(user).map_or("", |user| user.password.as_str());
        self.new_passwords.get(&user).map_or_else(first, String::as_str)
    }

    /// Changes a password.
    pub fn set_password(&mut self, user: usize, password: String) {
        self.new_passwords.insert(user, password);
    }

    /// Uses a code up. False when it was used before.
    pub fn use_code(&mut self, user: usize, code: &str) -> bool {
        self.used_codes.insert((user, code.to_owned()))
    }

    /// Remembers a question.
    pub fn ask(&mut self, round: Round) {
        insert(&mut self.rounds, round.reqid.clone(), round);
    }

    /// The question that an answer with this `reqid` belongs to, once, in time, and not from a blocked address.
    pub fn answered(
        &mut self,
        now: Duration,
        scenario: &Scenario,
        source: IpAddr,
        reqid: &str,
    ) -> Option<Round> {
        let reqid = reqid.split_once(',').map_or(reqid, |(reqid, _)| reqid);
        let round = self.rounds.remove(reqid)?;
        (now <= round.since + scenario.factor_timeout && !self.is_blocked(now, source)).then_some(round)
    }

    /// Whether there has been any login.
    pub fn anyone_logged_in(&self) -> bool {
        self.anyone_logged_in
    }

    /// Makes a session and gives it `cookie`.
    pub fn create(&mut self, now: Duration, source: IpAddr, user: String, cookie: String) {
        self.anyone_logged_in = true;
        let session = Session {
            user,
            source,
            since: now,
            address: None,
            fetches: 0,
            tunnels: 0,
            tunnel: None,
            idle_since: now,
        };
        insert(&mut self.by_cookie, cookie, session);
    }

    /// Remembers that a user needs one more step, under a temporary cookie.
    pub fn wait(&mut self, waiting: Waiting, cookie: String) {
        insert(&mut self.waiting, cookie, waiting);
    }

    /// The user who waits under a temporary cookie for `path`.
    pub fn waiting(&self, cookie: &str, path: &str) -> Option<&str> {
        self.waiting.get(cookie).filter(|waiting| waiting.path == path).map(|waiting| waiting.user.as_str())
    }

    /// Ends the wait.
    pub fn take_waiting(&mut self, cookie: &str) -> Option<String> {
        self.waiting.remove(cookie).map(|waiting| waiting.user)
    }

    /// How many sessions a user has.
    pub fn sessions_of(&self, user: &str) -> usize {
        self.by_cookie.values().filter(|session| session.user == user).count()
    }

    /// Ends all sessions of a user and tells how many there were.
    pub fn logout_user(&mut self, user: &str) -> usize {
        let of_user = self.by_cookie.iter().filter(|(_, session)| session.user == user);
        let cookies: Vec<String> = of_user.map(|(cookie, _)| cookie.clone()).collect();
        cookies.iter().filter_map(|cookie| self.logout(cookie)).count()
    }

    /// The session of a cookie, if it is good now and from there.
    pub fn find(
        &mut self,
        now: Duration,
        scenario: &Scenario,
        source: IpAddr,
        cookie: &str,
    ) -> Option<&mut Session> {
        self.expire(now, scenario);
        let session = self.by_cookie.get_mut(cookie)?;
        (!scenario.check_source || session.source == source).then_some(session)
    }

    /// Gives the session of `cookie` its address; the same one each time. `None` when the limit of fetches or the
    /// end of the pool is reached.
    pub fn allocate(&mut self, scenario: &Scenario, cookie: &str) -> Option<Ipv4Addr> {
        let session = self.by_cookie.get_mut(cookie)?;
        session.fetches += 1;
        if scenario.refetch_ends_session && session.fetches > 1 {
            return self.by_cookie.remove(cookie)?.address;
        }
        if scenario.config_fetches.is_some_and(|most| session.fetches > most) {
            return None;
        }
        if session.address.is_none() {
            let taken: Vec<_> = self.by_cookie.values().filter_map(|s| s.address).collect();
            let pool = &scenario.addresses;
            let in_turn = pool.iter().cycle().skip(self.addresses_given).take(pool.len());
            let free = in_turn.copied().find(|address| !taken.contains(address))?;
            self.addresses_given = (self.addresses_given + 1) % pool.len();
            self.by_cookie.get_mut(cookie)?.address = Some(free);
        }
        self.by_cookie.get(cookie)?.address
    }

    /// Moves the session of `old` to `new`.
    pub fn replace_cookie(&mut self, old: &str, new: String) {
        if let Some(session) = self.by_cookie.remove(old) {
            self.by_cookie.insert(new, session);
        }
    }

    /// Decides about a tunnel request.
    pub fn open_tunnel(
        &mut self,
        now: Duration,
        scenario: &Scenario,
        source: IpAddr,
        cookie: &str,
        kick: Arc<Kick>,
    ) -> Result<Grant, &'static str> {
        let given = self.tunnels_given;
        let session = self.find(now, scenario, source, cookie).ok_or("no session for the cookie")?;
        let address = session.address.ok_or("no configuration fetched")?;
        if scenario.tunnels_allowed.is_some_and(|most| given >= most) {
            return Err("number of tunnels");
        }
        if let Some(tunnel) = &session.tunnel {
            match (scenario.second_tunnel, scenario.reuse) {
                (SecondTunnel::ReplaceOld, Some(_)) => tunnel.drop_tunnel(CloseStyle::Fin),
                _ => return Err("session has a tunnel"),
            }
        } else if session.tunnels > 0 {
            match scenario.reuse {
                None => return Err("cookie used"),
                Some(window) if now > session.idle_since + window => return Err("too late for the cookie"),
                Some(_) => {}
            }
        }
        session.tunnels += 1;
        session.tunnel = Some(kick.clone());
        let login_at = session.since;
        self.tunnels_given += 1;
        Ok(Grant { cookie: cookie.to_owned(), address, kick, login_at })
    }

    /// The tunnel of `grant` is gone; with `ended` its session too.
    pub fn tunnel_closed(&mut self, now: Duration, grant: &Grant, ended: bool) {
        let Some(session) = self.by_cookie.get_mut(&grant.cookie) else { return };
        if session.tunnel.as_ref().is_some_and(|kick| Arc::ptr_eq(kick, &grant.kick)) {
            session.tunnel = None;
            session.idle_since = now;
        }
        if ended {
            self.by_cookie.remove(&grant.cookie);
        }
    }

    /// Ends a session at once; its tunnel is dropped. Tells the user's name.
    pub fn logout(&mut self, cookie: &str) -> Option<String> {
        let session = self.by_cookie.remove(cookie)?;
        if let Some(tunnel) = session.tunnel {
            tunnel.drop_tunnel(CloseStyle::CloseNotify);
        }
        Some(session.user)
    }

    /// Forgets all but what an administrator has set up: accounts and their passwords.
    pub fn forget(&mut self) {
        *self = Self { new_passwords: std::mem::take(&mut self.new_passwords), ..Self::default() };
    }

    /// All tunnels there are.
    pub fn tunnels(&self) -> impl Iterator<Item = &Arc<Kick>> {
        self.by_cookie.values().filter_map(|session| session.tunnel.as_ref())
    }

    /// Forgets sessions whose time is over. Those with a tunnel are ended by the tunnel.
    fn expire(&mut self, now: Duration, scenario: &Scenario) {
        self.by_cookie.retain(|_, session| {
            let fresh = session.tunnels > 0 || now < session.since + scenario.login_timeout;
            let authentic = scenario.auth_timeout.is_zero() || now < session.since + scenario.auth_timeout;
            let reusable = session.tunnels == 0
                || scenario.reuse.is_some_and(|window| now <= session.idle_since + window);
            session.tunnel.is_some() || (fresh && authentic && reusable)
        });
    }

    /// A browser starts the SAML login; `magic` will come back as its RelayState.
    pub fn saml_start(&mut self, magic: String, realm: String, to_listener: bool) {
        insert(&mut self.saml_flows, magic, SamlFlow { realm, to_listener, user: None });
    }

    /// The realm of a SAML login.
    pub fn saml_realm(&self, magic: &str) -> Option<String> {
        self.saml_flows.get(magic).map(|flow| flow.realm.clone())
    }

    /// The identity provider has signed `user` in. False for an unknown flow.
    pub fn saml_signed_in(&mut self, magic: &str, user: String) -> bool {
        self.saml_flows.get_mut(magic).map(|flow| flow.user = Some(user)).is_some()
    }

    /// The browser is back with what the identity provider gave it.
    pub fn saml_finish(&mut self, magic: &str) -> Option<SamlLogin> {
        let SamlFlow { realm, to_listener, user } = self.saml_flows.remove(magic)?;
        Some(SamlLogin { user: user?, realm, to_listener })
    }

    /// Makes `id` good for one trade.
    pub fn saml_offer(&mut self, now: Duration, id: String, login: SamlLogin) {
        insert(&mut self.saml_ids, id, (login, now));
    }

    /// Trades an id for its login, once.
    pub fn saml_trade(&mut self, now: Duration, scenario: &Scenario, id: &str) -> Option<SamlLogin> {
        let (login, since) = self.saml_ids.remove(id)?;
        (now <= since + scenario.saml_id_lifetime).then_some(login)
    }
}

/// Adds to a table; one that has grown beyond all use starts anew.
fn insert<T>(table: &mut HashMap<String, T>, key: String, value: T) {
    if table.len() >= TABLE {
        table.clear();
    }
    table.insert(key, value);
}
