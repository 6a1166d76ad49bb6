//! What each path under `/remote/` answers.

mod config;
mod factor;
mod login;
mod saml;

use std::net::IpAddr;
use std::sync::Arc;

use super::http::{Request, Response, percent_encode};
use super::journal::Event;
use super::kick::Kick;
use super::scenario::Scenario;
use super::session::Grant;
use super::{Life, Shared};

/// What to do with a request.
pub(super) enum Action {
    Respond(Response),
    Tunnel(Grant),
    Close,
}

impl From<Response> for Action {
    fn from(response: Response) -> Self {
        Self::Respond(response)
    }
}

/// One request, and what it is answered by.
pub(super) struct Page<'a> {
    pub shared: &'a Shared,
    pub life: &'a Life,
    pub scenario: &'a Scenario,
    pub source: IpAddr,
    /// The common name of the client's certificate, if it has shown one.
    pub peer: Option<&'a str>,
    pub request: &'a Request,
}

impl Page<'_> {
    /// Routes the request.
    pub fn answer(&self) -> Action {
        let request = self.request;
        let get = request.method == "GET";
        if get && self.scenario.refuse_get_body && !request.body.is_empty() {
            self.note(Event::Violation("GET with a body"));
            return Action::Close;
        }
        if !get && request.method != "POST" {
            return Response::html(405, "<html><body>Method Not Allowed</body></html>").into();
        }
        match request.path() {
            "/" => self.entry().into(),
            "/remote/login" => self.login_page().into(),
            "/remote/info" => Response::new(
                200,
                "text/xml",
                "<?xml version='1.0' encoding='utf-8'?><info><api encmethod='0' salt='1a2b3c4d' \
                 remoteauthtimeout='10' f='1f' /></info>",
            )
            .into(),
            "/remote/logincheck" if !get => self.logincheck().into(),
            "/remote/loginconfirm" => self.loginconfirm().into(),
            "/remote/hostcheck_install" => self.hostcheck_install().into(),
            "/remote/hostcheck_validate" if !get => self.hostcheck_validate().into(),
            "/remote/saml/start" => self.saml_start().into(),
            "/idp" => self.identity_provider().into(),
            "/remote/saml/login" => self.saml_login().into(),
            "/remote/saml/auth_id" => self.saml_auth_id().into(),
            "/remote/index" if self.scenario.index_forbidden => forbidden().into(),
            "/remote/index" | "/remote/fortisslvpn" | "/remote/portal" | "/sslvpn/portal/" => {
                if self.has_session() {
                    Response::html(200, "<html><body>Portal</body></html>")
                } else {
                    to_login()
                }
                .into()
            }
            "/remote/fortisslvpn_xml" => self.configuration().into(),
            "/remote/sslvpn-tunnel" => self.tunnel(),
            "/remote/logout" => self.logout().into(),
            path => match path.strip_prefix('/') {
                Some(realm) if get && self.shared.users.iter().any(|user| user.realm == realm) => {
                    Response::redirect(format!("/remote/login?realm={}", percent_encode(realm))).into()
                }
                Some(word) if get && word.chars().all(|c| c.is_ascii_alphanumeric()) => to_login().into(),
                _ => Response::html(404, "<html><body><h1>404 Not Found</h1></body></html>").into(),
            },
        }
    }

    fn note(&self, event: Event) {
        self.shared.note(event);
    }

    fn cookie(&self) -> &str {
        self.request.cookie("SVPNCOOKIE").unwrap_or_default()
    }

    fn has_session(&self) -> bool {
        let now = self.shared.now();
        self.shared.sessions().find(now, self.scenario, self.source, self.cookie()).is_some()
    }

    fn tunnel(&self) -> Action {
        if let Some(status) = self.scenario.tunnel_status {
            self.note(Event::TunnelRefused("by the scenario"));
            return refused(status).into();
        }
        let kick = Arc::new(Kick::default());
        let (now, cookie) = (self.shared.now(), self.cookie());
        match self.shared.sessions().open_tunnel(now, self.scenario, self.source, cookie, kick) {
            Ok(grant) => Action::Tunnel(grant),
            Err(why) => {
                self.note(Event::TunnelRefused(why));
                refused(403).into()
            }
        }
    }

    fn logout(&self) -> Response {
        if let Some(user) = self.shared.sessions().logout(self.cookie()) {
            self.note(Event::Logout(user));
        }
        to_login().clearing_cookies()
    }
}

fn to_login() -> Response {
    Response::redirect("/remote/login")
}

fn forbidden() -> Response {
    Response::html(403, "<html><body><h1>403 Forbidden</h1></body></html>")
}

/// In place of the tunnel's first frame; the connection ends with it.
fn refused(status: u16) -> Response {
    let body = "<html><body><h1>The tunnel is not available</h1></body></html>";
    Response { close: true, ..Response::html(status, body) }
}
