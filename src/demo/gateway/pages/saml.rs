//! The SAML login, with an identity provider of its own.

use super::super::http::{Response, field, percent_encode};
use super::super::journal::Event;
use super::super::scenario::IdentityProvider;
use super::super::session::User;
use super::{Page, forbidden};

impl Page<'_> {
    pub(super) fn saml_start(&self) -> Response {
        let query = self.request.query();
        let magic = self.shared.token();
        let (realm, to_listener) = (field(&query, "realm").to_owned(), field(&query, "redirect") == "1");
        self.shared.sessions().saml_start(magic.clone(), realm, to_listener);
        let host = self.request.header("host").unwrap_or("localhost");
        Response::redirect(format!("https://{host}/idp?RelayState=magic%3D{magic}"))
    }

    /// The built-in identity provider. It gives the browser back by a redirect or by a form.
    pub(super) fn identity_provider(&self) -> Response {
        let query = self.request.query();
        let form = self.request.form().unwrap_or_default();
        let posted = self.request.method == "POST";
        let state = field(if posted { &form } else { &query }, "RelayState");
        let magic = state.strip_prefix("magic=").unwrap_or_default();
        let provider = self.scenario.identity_provider;
        let user = match provider {
            IdentityProvider::AtOnce | IdentityProvider::Script | IdentityProvider::Button => {
                self.saml_user(magic)
            }
            IdentityProvider::Form => {
                // Browsers write a space as a plus sign, which the decoder keeps.
                let is = |name, right: &str| {
                    let typed = field(&form, name);
                    typed == right || typed.replace('+', " ") == right
                };
                let mut users = self.shared.users.iter();
                users.find(|user| is("username", &user.name) && is("password", &user.password))
            }
            IdentityProvider::Refuse => {
                return Response::html(403, page("<p>Access denied: you may not use this application.</p>"));
            }
        };
        match user {
            Some(user) if self.shared.sessions().saml_signed_in(magic, user.name.clone()) => match provider {
                IdentityProvider::Script => Response::html(200, page(&back_form(state, true))),
                IdentityProvider::Button => Response::html(200, page(&back_form(state, false))),
                _ => {
                    let back = percent_encode(state);
                    Response::redirect(format!("/remote/saml/login?SAMLResponse=signed-in&RelayState={back}"))
                }
            },
            Some(_) => Response::html(400, page("<p>Unknown RelayState</p>")),
            None => Response::html(200, page(&sign_in_form(state, posted))),
        }
    }

    /// Who is signed in at the identity provider: the first user of the realm.
    fn saml_user(&self, magic: &str) -> Option<&User> {
        let realm = self.shared.sessions().saml_realm(magic).unwrap_or_default();
        let mut users = self.shared.users.iter();
        if realm.is_empty() { users.next() } else { users.find(|user| user.realm == realm) }
    }

    pub(super) fn saml_login(&self) -> Response {
        let pairs = if self.request.method == "POST" {
            self.request.form().unwrap_or_default()
        } else {
            self.request.query()
        };
        let magic = field(&pairs, "RelayState").strip_prefix("magic=").unwrap_or_default();
        let finished = self.shared.sessions().saml_finish(magic);
        let Some(login) = finished.filter(|_| !field(&pairs, "SAMLResponse").is_empty()) else {
            return forbidden();
        };
        if !login.to_listener {
            let cookie = self.new_session(login.user);
            return Response::redirect("/sslvpn/portal/").with_session(&cookie);
        }
        let token = self.shared.token();
        // In the form of a UUID.
        let lengths = [8, 4, 4, 4, 12];
        let mut rest = token.as_str();
        let groups = lengths.map(|length| {
            let (group, others) = rest.split_at(length.min(rest.len()));
            rest = others;
            group
        });
        let id = groups.join("-");
        self.shared.sessions().saml_offer(self.shared.now(), id.clone(), login);
        Response::redirect(format!("http://{}:{}/?id={id}", self.scenario.saml_host, self.scenario.saml_port))
    }

    pub(super) fn saml_auth_id(&self) -> Response {
        let query = self.request.query();
        let now = self.shared.now();
        let login = self.shared.sessions().saml_trade(now, self.scenario, field(&query, "id"));
        self.note(Event::SamlTrade(login.is_some()));
        match login {
            Some(login) => self.grant(&login.user, &login.realm, "16", true),
            None => forbidden(),
        }
    }
}

fn page(content: &str) -> String {
    format!(
        "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Example identity provider</h1>\
         {content}</body></html>"
    )
}

/// What brings the browser back to the gateway.
fn back_form(state: &str, by_script: bool) -> String {
    let script = if by_script { "<script>document.forms[0].submit()</script>" } else { "" };
    format!(
        "<form action=\"/remote/saml/login\" method=\"post\">\
         <input type=\"hidden\" name=\"SAMLResponse\" value=\"c2lnbmVkIGlu+/==\">\
         <input type=\"hidden\" name=\"RelayState\" value=\"{}\">\
         <button id=\"continue\">Continue</button></form>{script}",
        escape(state)
    )
}

fn sign_in_form(state: &str, again: bool) -> String {
    let wrong = if again { "<p>That was wrong.</p>" } else { "" };
    format!(
        "{wrong}<form action=\"/idp\" method=\"post\">\
         <input type=\"hidden\" name=\"RelayState\" value=\"{}\"><label>Name <input name=\"username\"></label>\
         <label>Password <input type=\"password\" name=\"password\"></label><button>Sign in</button></form>",
        escape(state)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
