//! The SAML login, with an identity provider of its own.

use super::super::http::{Response, field, percent_encode};
use super::super::journal::Event;
use super::super::scenario::IdentityProvider;
use super::{Page, forbidden};

impl Page<'_> {
    pub(super) fn saml_start(&self) -> Response {
        let query = self.request.query();
        let magic = self.shared.token();
        self.shared.sessions().saml_start(magic.clone(), field(&query, "redirect") == "1");
        let host = self.request.header("host").unwrap_or("localhost");
        Response::redirect(format!("https://{host}/idp?RelayState=magic%3D{magic}"))
    }

    /// The built-in identity provider: signs in at once, or by a form that posts to itself.
    pub(super) fn identity_provider(&self) -> Response {
        let query = self.request.query();
        let form = self.request.form().unwrap_or_default();
        let state = if self.request.method == "POST" {
            field(&form, "RelayState")
        } else {
            field(&query, "RelayState")
        };
        let magic = state.strip_prefix("magic=").unwrap_or_default();
        let users = &self.shared.users;
        let user = match self.scenario.identity_provider {
            IdentityProvider::AtOnce => users.first(),
            IdentityProvider::Form => {
                let (name, password) = (field(&form, "username"), field(&form, "password"));
                users.iter().find(|user| user.name == name && user.password == password)
            }
        };
        match user {
            Some(user) if self.shared.sessions().saml_signed_in(magic, user.name.clone()) => {
                let back = percent_encode(state);
                Response::redirect(format!("/remote/saml/login?SAMLResponse=signed-in&RelayState={back}"))
            }
            Some(_) => Response::html(400, "<html><body>Unknown RelayState</body></html>"),
            None => Response::html(200, sign_in_page(magic)),
        }
    }

    pub(super) fn saml_login(&self) -> Response {
        let pairs = if self.request.method == "POST" {
            self.request.form().unwrap_or_default()
        } else {
            self.request.query()
        };
        let magic = field(&pairs, "RelayState").strip_prefix("magic=").unwrap_or_default();
        let finished = self.shared.sessions().saml_finish(magic);
        let Some((user, to_listener)) = finished else { return forbidden() };
        if !to_listener {
            let cookie = self.new_session(user);
            return Response::redirect("/sslvpn/portal/").with_session(&cookie);
        }
        let id = self.shared.token();
        self.shared.sessions().saml_offer(self.shared.now(), id.clone(), user);
        Response::redirect(format!("http://127.0.0.1:{}/?id={id}", self.scenario.saml_port))
    }

    pub(super) fn saml_auth_id(&self) -> Response {
        let query = self.request.query();
        let now = self.shared.now();
        let user = self.shared.sessions().saml_trade(now, self.scenario, field(&query, "id"));
        self.note(Event::SamlTrade(user.is_some()));
        match user {
            Some(user) => self.grant(&user, "", "16", true),
            None => forbidden(),
        }
    }
}

fn sign_in_page(magic: &str) -> String {
    format!(
        "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Example identity provider</h1>\
         <form action=\"/idp\" method=\"post\"><input type=\"hidden\" name=\"RelayState\" value=\"magic={}\">\
         <label>Name <input name=\"username\"></label><label>Password <input type=\"password\" name=\"password\">\
         </label><button>Sign in</button></form></body></html>",
        percent_encode(magic)
    )
}
