//! The ways to sign in, what a person is asked for it, and what becomes of the answers.

use std::time::Duration;

use super::{BROWSER, Connection, Credentials, Output, Session, State, Step};
use crate::base::Now;
use crate::crypto::Secret;
use crate::fortivpn::cookie;
use crate::fortivpn::error::Error;
use crate::fortivpn::event::Event;
use crate::fortivpn::login::{self, Account, CookieJar, Kind, Round};
use crate::fortivpn::question::{Answer, Question, QuestionKind};
use crate::fortivpn::saml;

/// For a password, a person is given as long as for a sign-in with the browser.
const PASSWORD: Duration = BROWSER;
/// For what the gateway asks: it does not wait for ever either.
const ANSWER: Duration = Duration::from_secs(180);
/// An answer that could not be sent for so long is of no use any more.
const ANSWER_KEPT: Duration = Duration::from_secs(30);
const MAX_ROUNDS: u8 = 10;
/// FortiGates refuse everything for so long after the second refusal.
const BLOCKED: Duration = Duration::from_secs(60);

/// What a person is asked.
pub(super) enum Wanted {
    Password,
    Round(Box<Round>),
}

impl Wanted {
    fn kind(&self) -> QuestionKind {
        match self {
            Self::Password => QuestionKind::Password,
            Self::Round(round) => round.kind,
        }
    }

    /// Nobody answered.
    pub(super) fn timeout(&self) -> Error {
        match self.kind() {
            QuestionKind::Password => Error::SignInTimeout,
            QuestionKind::Challenge | QuestionKind::NewPassword { .. } => Error::AnswerTimeout,
            _ => Error::CodeTimeout,
        }
    }
}

/// What is known about the sign-in, over all its tries.
pub(super) struct SignIn {
    password: Option<Secret>,
    /// The cookie that was given, until it is used; or why it is none.
    given: Option<Result<Secret, cookie::Error>>,
    /// The credentials may be sent once: a person said so, or they were good for a tunnel since.
    pub(super) permitted: bool,
    /// The password before this one was refused.
    refused: bool,
    /// A new password that the gateway has not accepted yet.
    new_password: Option<Secret>,
    /// When the gateway last refused (monotonic).
    denied_at: Option<Duration>,
    /// Names the last question.
    question: u32,
    /// This sign-in only, from here on.
    rounds: u8,
    pub(super) host_checks: u8,
    pub(super) redirected: bool,
    pushed: bool,
    /// The present cookie came from outside.
    by_cookie: bool,
    /// What was asked last.
    asked: Option<(QuestionKind, String)>,
}

impl SignIn {
    /// Takes the secrets out of the configuration, to forget them when they are refused.
    pub(super) fn new(credentials: &mut Credentials) -> Self {
        let (password, given) = match credentials {
            Credentials::Password { password, .. } => (password.take(), None),
            Credentials::Cookie(given) => {
                (None, Some(cookie::parse_given(std::mem::replace(given, Secret::new(Vec::new())).expose())))
            }
            _ => (None, None),
        };
        Self {
            password,
            given,
            permitted: false,
            refused: false,
            new_password: None,
            denied_at: None,
            question: 0,
            rounds: 0,
            host_checks: 0,
            redirected: false,
            pushed: false,
            by_cookie: false,
            asked: None,
        }
    }

    /// Others are given: nothing is known against these.
    pub(super) fn replace_credentials(&mut self, credentials: &mut Credentials) {
        let Self { password, given, .. } = Self::new(credentials);
        (self.password, self.given, self.refused) = (password, given, false);
    }

    /// A new try begins.
    fn begin(&mut self) {
        (self.rounds, self.host_checks) = (0, 0);
        (self.redirected, self.pushed, self.by_cookie) = (false, false, false);
        (self.asked, self.new_password) = (None, None);
    }

    /// A tunnel came up.
    pub(super) fn succeeded(&mut self) {
        self.permitted = true;
        (self.refused, self.denied_at) = (false, None);
    }

    /// The gateway goes on behind a new password: it is the password from now on.
    pub(super) fn new_password_accepted(&mut self) {
        if let Some(new) = self.new_password.take() {
            self.password = Some(new);
        }
    }
}

impl Session {
    /// On an open connection: what to send, or `None` where a person is asked first.
    pub(super) fn sign_in(&mut self, now: Now) -> Option<Step> {
        self.use_settings();
        if let Some(Ok(cookie)) = self.sign_in.given.take() {
            self.forget_sign_in();
            self.sign_in.by_cookie = true;
            self.jar = CookieJar::with_session(cookie);
            self.accept(None);
            return Some(Step::Config);
        }
        match &self.config.credentials {
            Credentials::Saml => self.ask_browser(now),
            Credentials::Password { .. } if self.sign_in.password.is_none() => {
                self.ask(now, Wanted::Password, PASSWORD);
            }
            _ => match self.cannot_sign_in() {
                Some(error) => self.fail(error),
                None => return Some(Step::Login),
            },
        }
        None
    }

    /// Why nothing can be done without a person, and not even that one could be asked.
    pub(super) fn cannot_sign_in(&self) -> Option<Error> {
        match &self.config.credentials {
            Credentials::Saml => None,
            Credentials::Cookie(_) => match &self.sign_in.given {
                Some(Ok(_)) => None,
                Some(Err(error)) => Some(Error::BadCookie(*error)),
                None => Some(Error::CookieOver),
            },
            Credentials::Password { .. } if self.sign_in.password.is_none() => None,
            _ => (!self.sign_in.permitted).then_some(Error::SessionRefused),
        }
    }

    /// The first form, once per permission; `None` where the client certificate is all.
    pub(super) fn spend_credentials(&mut self) -> Option<Secret> {
        self.sign_in.permitted = false;
        self.forget_sign_in();
        match &self.config.credentials {
            Credentials::Certificate => None,
            _ => Some(login::credentials_form(&self.account())),
        }
    }

    pub(super) fn forget_sign_in(&mut self) {
        self.jar.clear();
        self.sign_in.begin();
    }

    fn account(&self) -> Account<'_> {
        let username = match &self.config.credentials {
            Credentials::Password { username, .. } | Credentials::Username { username } => username,
            _ => "",
        };
        let realm = self.config.realm.as_deref().unwrap_or_default();
        Account { username, password: self.sign_in.password.as_ref(), realm }
    }

    /// A session is there; `since` is when it began (boot clock), where that is known.
    pub(super) fn accept(&mut self, since: Option<Duration>) {
        self.sign_in.new_password_accepted();
        self.fresh = true;
        self.no_address = false;
        self.cookie_failures = 0;
        self.tunnel_error = None;
        self.renewal.signed_in(since);
    }

    /// The configuration is refused to a session that no tunnel has been opened with.
    pub(super) fn refused_session(&self) -> Error {
        if self.sign_in.by_cookie { Error::CookieRefused } else { Error::SessionRefused }
    }

    /// The gateway can be reached: now it makes sense to ask a person.
    fn ask_browser(&mut self, now: Now) {
        self.disconnect(true);
        let url = saml::start_url(&self.authority, self.config.realm.as_deref());
        self.outputs.push_back(Output::LoginNeeded { url, left: None });
        self.state = State::Browser { until: now.mono + BROWSER };
    }

    fn ask(&mut self, now: Now, wanted: Wanted, window: Duration) {
        self.disconnect(true);
        self.sign_in.question += 1;
        let (text, sent_to, again) = match &wanted {
            Wanted::Password => (String::new(), None, self.sign_in.refused),
            Wanted::Round(round) => {
                let before = self.sign_in.asked.replace((round.kind, round.text.clone()));
                // A challenge in other words is the next question, not the same one again.
                let same = |(kind, text): (QuestionKind, String)| match round.kind {
                    QuestionKind::Challenge => kind == round.kind && text == round.text,
                    QuestionKind::NewPassword { .. } => matches!(kind, QuestionKind::NewPassword { .. }),
                    _ => std::mem::discriminant(&kind) == std::mem::discriminant(&round.kind),
                };
                (round.text.clone(), round.sent_to.clone(), before.is_some_and(same))
            }
        };
        let id = self.sign_in.question;
        self.outputs.push_back(Output::Ask(Question { id, kind: wanted.kind(), text, sent_to, again }));
        self.state = State::Asking { question: id, wanted, until: now.mono + window };
    }

    /// The gateway asks for more: what needs no person is answered at once.
    pub(super) fn next_round(&mut self, now: Now, round: Round) {
        self.sign_in.rounds += 1;
        if self.sign_in.rounds > MAX_ROUNDS {
            return self.fail(Error::TooManyRounds);
        }
        match round.kind {
            QuestionKind::NewPassword { may_skip } if may_skip && self.config.keep_password => {
                self.outputs.push_back(Output::Note(Event::PasswordKept(round.text.clone())));
                self.send_answer(now, &round, &Answer::Skip);
            }
            // A phone is not rung twice for one sign-in.
            QuestionKind::Code { push: true } if self.config.push && !self.sign_in.pushed => {
                self.sign_in.asked = Some((round.kind, round.text.clone()));
                self.send_answer(now, &round, &Answer::Push);
            }
            _ => self.ask(now, Wanted::Round(Box::new(round)), ANSWER),
        }
    }

    /// A person answers. What does not fit the question that is open changes nothing.
    pub(super) fn answer(&mut self, now: Now, id: u32, answer: &Answer) {
        let wanted = match self.take_state() {
            State::Asking { question, wanted, .. } if question == id && self.fits(&wanted, answer) => wanted,
            other => return self.state = other,
        };
        self.outputs.push_back(Output::LoginDone);
        match (wanted, answer) {
            (Wanted::Password, Answer::Text(password)) => {
                self.sign_in.password = Some(password.clone());
                self.sign_in.permitted = true;
                self.begin(now, Step::SignIn);
            }
            (Wanted::Password, _) => {}
            (Wanted::Round(round), answer) => self.send_answer(now, &round, answer),
        }
    }

    fn fits(&self, wanted: &Wanted, answer: &Answer) -> bool {
        match (wanted, answer) {
            (Wanted::Password, Answer::Text(password)) => !password.is_empty(),
            (Wanted::Password, _) => false,
            (Wanted::Round(round), answer) => round.body(&self.account(), answer).is_some(),
        }
    }

    /// On a connection of its own: one that the gateway has closed meanwhile would leave open whether the answer
    /// counted.
    fn send_answer(&mut self, now: Now, round: &Round, answer: &Answer) {
        let Some((kind, body)) = round.body(&self.account(), answer) else { return };
        match (kind, answer) {
            (Kind::NewPassword, Answer::Text(new)) => self.sign_in.new_password = Some(new.clone()),
            (Kind::Push, _) => {
                self.sign_in.pushed = true;
                self.outputs.push_back(Output::Note(Event::ApproveOnPhone));
            }
            _ => {}
        }
        self.disconnect(true);
        let until = now.mono + ANSWER_KEPT;
        self.begin(now, Step::Answer { target: round.target().to_owned(), body, kind, until });
    }

    /// The gateway said no: what was refused is forgotten, and what it means is said.
    pub(super) fn refused(&mut self, now: Now, step: &Step, error: Error, words: String) {
        if self.keep_old_session(now) {
            return;
        }
        let error = match (error, step) {
            (Error::Denied, Step::Answer { kind, .. }) => match kind {
                Kind::Code => Error::CodeRefused,
                Kind::Push => Error::PushDenied,
                Kind::Answer => Error::AnswerRefused,
                Kind::NewPassword => Error::NewPasswordRefused(words),
                Kind::KeptPassword => Error::PasswordExpired,
            },
            (Error::Denied, _) if matches!(self.config.credentials, Credentials::Certificate) => {
                Error::CertificateAlone
            }
            (Error::Denied, _) => {
                let before = self.sign_in.denied_at.replace(now.mono);
                let again = before.is_some_and(|before| now.mono.saturating_sub(before) < BLOCKED);
                self.forget_password();
                if again { Error::LockedOut } else { Error::Denied }
            }
            (error, _) => {
                if matches!(error, Error::PasswordExpired | Error::UnknownUser | Error::LockedOut) {
                    self.forget_password();
                }
                error
            }
        };
        self.sign_in.new_password = None;
        self.fail(error);
    }

    fn forget_password(&mut self) {
        self.sign_in.refused = self.sign_in.password.take().is_some() || self.sign_in.refused;
    }

    /// A session from outside, wherever a sign-in is wanted.
    pub(super) fn take_cookie(&mut self, now: Now, given: &Secret) {
        let wanted = match &self.state {
            State::Idle | State::Failed | State::Browser { .. } | State::Asking { .. } => true,
            State::Waiting { .. } | State::Connecting { .. } => self.stop_by.is_none(),
            State::Exchange { .. } | State::Tunnel { .. } | State::Stopped => false,
        };
        if !wanted {
            return;
        }
        let cookie = match cookie::parse_given(given.expose()) {
            Ok(cookie) => cookie,
            Err(error) => return self.outputs.push_back(Output::Note(Event::NoCookie(error))),
        };
        self.withdraw_request();
        if self.connection == Connection::Opening {
            self.disconnect(false);
        }
        self.sign_in.given = Some(Ok(cookie));
        self.failures = 0;
        self.drop = None;
        self.begin(now, Step::SignIn);
    }

    /// Takes back what a person was asked, because it is not wanted any more.
    pub(super) fn withdraw_request(&mut self) {
        let asked = matches!(self.state, State::Browser { .. } | State::Asking { .. });
        if std::mem::take(&mut self.renewal.asked) || asked {
            self.outputs.push_back(Output::LoginDone);
        }
    }
}
