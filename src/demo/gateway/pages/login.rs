//! The way to the cookie: entry, credentials, certificate, host check, "already logged in".

use super::super::http::{Response, field, percent_encode};
use super::super::journal::{Event, LoginOutcome};
use super::super::scenario::{DenyMode, HostCheck};
use super::super::session::Waiting;
use super::{Page, forbidden, to_login};

const LOGIN_PAGE: &str = "<!DOCTYPE html><html><head><title>Please Login</title></head><body>\
<!--remoteauthtimeout=10--><form action=\"/remote/logincheck\" method=\"post\">\
<input type=\"text\" name=\"username\"><input type=\"password\" name=\"credential\">\
<input type=\"hidden\" name=\"just_logged_in\" value=\"1\"><input type=\"hidden\" name=\"magic\" value=\"\">\
<input type=\"hidden\" name=\"reqid\" value=\"0\"><input type=\"hidden\" name=\"grpid\" value=\"\">\
<input type=\"hidden\" name=\"realm\" value=\"\"><input type=\"hidden\" name=\"saml_login\" value=\"1\">\
<a href=\"/remote/saml/start\">Single Sign-On</a></form></body></html>";
const TO_INDEX: &str = "<html><script>document.location='/remote/index';</script></html>";

impl Page<'_> {
    pub(super) fn entry(&self) -> Response {
        if self.scenario.script_entry {
            Response::html(200, "<html><script>top.location=\"/remote/login\";</script></html>")
        } else {
            to_login()
        }
    }

    /// The login page; a certificate that is all that its user needs is signed in at once.
    pub(super) fn login_page(&self) -> Response {
        let query = self.request.query();
        if self.scenario.language_redirect && field(&query, "lang").is_empty() {
            let separator = if self.request.target.contains('?') { '&' } else { '?' };
            let target = format!("{}{separator}lang=en", self.request.target);
            return Response { status: 303, ..Response::redirect(target) };
        }
        let realm = field(&query, "realm");
        let alone = self.shared.users.iter().find(|user| {
            user.password.is_empty()
                && user.realm == realm
                && user.certificate.is_some()
                && user.certificate.as_deref() == self.peer
        });
        match alone {
            Some(user) if !self.scenario.deny_all => {
                let (user, realm) = (user.name.clone(), user.realm.clone());
                self.note_login(&user, &realm, LoginOutcome::Granted);
                self.grant(&user, &realm, "1", false)
            }
            _ => Response::html(200, LOGIN_PAGE),
        }
    }

    pub(super) fn logincheck(&self) -> Response {
        let Some(form) = self.request.form() else {
            self.note(Event::Violation("undecodable form"));
            return Response::html(405, "<html><body>Method Not Allowed</body></html>");
        };
        let user_agent = self.request.header("user-agent").unwrap_or_default();
        if self.scenario.refused_user_agent.as_deref().is_some_and(|part| user_agent.contains(part)) {
            return Response::html(405, "<html><body>Method Not Allowed</body></html>");
        }
        let ajax = field(&form, "ajax") == "1";
        // The login page itself sends an empty magic and the request 0.
        if !field(&form, "magic").is_empty() || !matches!(field(&form, "reqid"), "" | "0") {
            return self.second_round(&form, ajax);
        }
        let (user, realm) = (field(&form, "username"), field(&form, "realm"));
        let found = self.shared.sessions().try_login(
            self.shared.now(),
            self.scenario,
            &self.shared.users,
            self.source,
            (user, field(&form, "credential"), realm, self.peer),
        );
        match found {
            Ok(index) => self.next_factor(index, 0, ajax),
            Err(outcome) => {
                self.note_login(user, realm, outcome);
                self.denied()
            }
        }
    }

    pub(super) fn note_login(&self, user: &str, realm: &str, outcome: LoginOutcome) {
        self.note(Event::Login { user: user.to_owned(), realm: realm.to_owned(), outcome });
    }

    pub(super) fn denied(&self) -> Response {
        match self.scenario.deny_mode {
            DenyMode::Body => {
                let body = format!("ret=0,redir=/remote/login?&err={}&lang=en", self.scenario.deny_error);
                Response::new(200, "text/plain", body).clearing_cookies()
            }
            DenyMode::Status405 => Response::html(405, "<html><body>Method Not Allowed</body></html>"),
            DenyMode::Status403 => forbidden(),
            DenyMode::EmptyCookie => Response::new(200, "text/plain", "").clearing_cookies(),
            DenyMode::Redirect => to_login().clearing_cookies(),
        }
    }

    /// All that was asked for was good: a cookie, or one step more.
    pub(super) fn grant(&self, user: &str, realm: &str, auth_type: &str, ajax: bool) -> Response {
        let limit = self.scenario.session_limit;
        let full = limit.is_some_and(|most| self.shared.sessions().sessions_of(user) >= most);
        if full {
            let wait = self.wait(user, "/remote/loginconfirm");
            return wait.with_body("text/plain", "ret=1,redir=/remote/loginconfirm");
        }
        if self.scenario.host_check == HostCheck::Off {
            let cookie = self.new_session(user.to_owned());
            let response = if ajax {
                Response::new(200, "text/plain", "ret=1,redir=/remote/index")
            } else {
                Response::html(200, TO_INDEX)
            };
            return response.with_session(&cookie);
        }
        let body = format!(
            "ret=1,redir=/remote/hostcheck_install?auth_type={auth_type}&user={}&&grpname={}&portal={}&rip={}&realm={}",
            hex_upper(user.as_bytes()),
            hex_upper(b"staff"),
            hex_upper(b"full-access"),
            self.source,
            percent_encode(realm),
        );
        self.wait(user, "/remote/hostcheck_install").with_body("text/plain", body)
    }

    /// `user` gets a temporary cookie that is good at `path`.
    fn wait(&self, user: &str, path: &'static str) -> Response {
        let cookie = self.shared.token();
        self.shared.sessions().wait(Waiting { user: user.to_owned(), path }, cookie.clone());
        Response::new(200, "text/plain", "")
            .clearing_cookies()
            .with("Set-Cookie", format!("SVPNTMPCOOKIE={cookie}; path={path}; secure; httponly"))
    }

    pub(super) fn new_session(&self, user: String) -> String {
        let cookie = self.shared.cookie(self.scenario.cookie_length);
        self.shared.sessions().create(self.shared.now(), self.source, user, cookie.clone());
        cookie
    }

    fn temporary_cookie(&self) -> &str {
        self.request.cookie("SVPNTMPCOOKIE").unwrap_or_default()
    }

    /// "You are logged in elsewhere": a page, and with `confirm=1` the other sessions end.
    pub(super) fn loginconfirm(&self) -> Response {
        let pairs = [self.request.query(), self.request.form().unwrap_or_default()].concat();
        let mut sessions = self.shared.sessions();
        let cookie = self.temporary_cookie();
        let Some(user) = sessions.waiting(cookie, "/remote/loginconfirm").map(str::to_owned) else {
            return forbidden();
        };
        if field(&pairs, "confirm") != "1" {
            return Response::html(
                200,
                "<html><body><p>You already have an open SSL VPN connection.</p>\
                 <form action=\"/remote/loginconfirm\" method=\"post\">\
                 <input type=\"hidden\" name=\"confirm\" value=\"1\"><button>Log in anyway</button></form>\
                 <a href=\"/remote/logout\">Cancel</a></body></html>",
            );
        }
        sessions.take_waiting(cookie);
        let ended = sessions.logout_user(&user);
        drop(sessions);
        (0..ended).for_each(|_| self.note(Event::Logout(user.clone())));
        let session = self.new_session(user);
        Response::html(200, TO_INDEX).with_session(&session)
    }

    pub(super) fn hostcheck_install(&self) -> Response {
        let cookie = self.temporary_cookie();
        let mut sessions = self.shared.sessions();
        let Some(user) = sessions.waiting(cookie, "/remote/hostcheck_install").map(str::to_owned) else {
            return forbidden();
        };
        match self.scenario.host_check {
            HostCheck::Off | HostCheck::Hop => {
                sessions.take_waiting(cookie);
                drop(sessions);
                let session = self.new_session(user);
                Response::html(200, TO_INDEX).with_session(&session)
            }
            HostCheck::Form | HostCheck::Fail => Response::html(
                200,
                "<html><body><form action=\"/remote/hostcheck_validate\" method=\"post\">\
                 <input type=\"hidden\" name=\"hostcheck\" value=\"\">\
                 <input type=\"hidden\" name=\"check_virtual_desktop\" value=\"\"></form></body></html>",
            ),
            HostCheck::Loop => {
                let body = format!("ret=1,redir={}", self.request.target);
                Response::new(200, "text/plain", body).with(
                    "Set-Cookie",
                    format!("SVPNTMPCOOKIE={cookie}; path=/remote/hostcheck_install; secure; httponly"),
                )
            }
        }
    }

    pub(super) fn hostcheck_validate(&self) -> Response {
        let user = self.shared.sessions().take_waiting(self.temporary_cookie());
        match user {
            Some(user) if self.scenario.host_check == HostCheck::Form => {
                let session = self.new_session(user);
                Response::new(200, "text/plain", "ret=1,redir=/remote/index").with_session(&session)
            }
            _ => self.denied(),
        }
    }
}

fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
