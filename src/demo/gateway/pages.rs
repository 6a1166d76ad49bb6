//! What each path under `/remote/` answers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::Shared;
use super::http::{Request, Response, field, percent_encode};
use super::journal::{Event, LoginOutcome};
use super::scenario::{DenyMode, HostCheck, IdentityProvider, Scenario};
use super::session::Grant;
use super::tunnel::Kick;

const LOGIN_PAGE: &str = "<!DOCTYPE html><html><head><title>Please Login</title></head><body>\
<!--remoteauthtimeout=10--><form action=\"/remote/logincheck\" method=\"post\">\
<input type=\"text\" name=\"username\"><input type=\"password\" name=\"credential\">\
<input type=\"hidden\" name=\"just_logged_in\" value=\"1\"><input type=\"hidden\" name=\"magic\" value=\"\">\
<input type=\"hidden\" name=\"reqid\" value=\"0\"><input type=\"hidden\" name=\"grpid\" value=\"\">\
<input type=\"hidden\" name=\"realm\" value=\"\"><input type=\"hidden\" name=\"saml_login\" value=\"1\">\
<a href=\"/remote/saml/start\">Single Sign-On</a></form></body></html>";
const DENIED: &str = "ret=0,redir=/remote/login?&err=sslvpn_login_permission_denied&lang=en";

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
    pub scenario: &'a Scenario,
    pub source: IpAddr,
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
            "/remote/login" => Response::html(200, LOGIN_PAGE).into(),
            "/remote/info" => Response::new(
                200,
                "text/xml",
                "<?xml version='1.0' encoding='utf-8'?><info><api encmethod='0' salt='1a2b3c4d' \
                 remoteauthtimeout='10' f='1f' /></info>",
            )
            .into(),
            "/remote/logincheck" if !get => self.logincheck().into(),
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

    fn entry(&self) -> Response {
        if self.scenario.script_entry {
            Response::html(200, "<html><script>top.location=\"/remote/login\";</script></html>")
        } else {
            to_login()
        }
    }

    fn logincheck(&self) -> Response {
        let Some(form) = self.request.form() else {
            self.note(Event::Violation("undecodable form"));
            return Response::html(405, "<html><body>Method Not Allowed</body></html>");
        };
        let (user, realm) = (field(&form, "username"), field(&form, "realm"));
        let outcome = self.shared.sessions().try_login(
            self.shared.now(),
            self.scenario,
            &self.shared.users,
            self.source,
            (user, field(&form, "credential"), realm),
        );
        self.note(Event::Login { user: user.to_owned(), realm: realm.to_owned(), outcome });
        if outcome == LoginOutcome::Granted {
            self.grant(user, realm, "1", field(&form, "ajax") == "1")
        } else {
            self.denied()
        }
    }

    fn denied(&self) -> Response {
        match self.scenario.deny_mode {
            DenyMode::Body => Response::new(200, "text/plain", DENIED).clearing_cookies(),
            DenyMode::Status405 => Response::html(405, "<html><body>Method Not Allowed</body></html>"),
            DenyMode::EmptyCookie => Response::new(200, "text/plain", "").clearing_cookies(),
        }
    }

    /// The credentials were good: a cookie, or one step more.
    fn grant(&self, user: &str, realm: &str, auth_type: &str, ajax: bool) -> Response {
        if self.scenario.host_check == HostCheck::Off {
            let cookie = self.new_session(user.to_owned());
            let response = if ajax {
                Response::new(200, "text/plain", "ret=1,redir=/remote/index")
            } else {
                Response::html(200, "<html><script>document.location='/remote/index';</script></html>")
            };
            return response.with_session(&cookie);
        }
        let cookie = self.shared.token();
        self.shared.sessions().wait(user.to_owned(), cookie.clone());
        let body = format!(
            "ret=1,redir=/remote/hostcheck_install?auth_type={auth_type}&user={}&&grpname={}&portal={}&rip={}&realm={}",
            hex_upper(user.as_bytes()),
            hex_upper(b"staff"),
            hex_upper(b"full-access"),
            self.source,
            percent_encode(realm),
        );
        Response::new(200, "text/plain", body).clearing_cookies().with(
            "Set-Cookie",
            format!("SVPNTMPCOOKIE={cookie}; path=/remote/hostcheck_install; secure; httponly"),
        )
    }

    fn new_session(&self, user: String) -> String {
        let cookie = self.shared.cookie();
        self.shared.sessions().create(self.shared.now(), self.source, user, cookie.clone());
        cookie
    }

    fn hostcheck_install(&self) -> Response {
        let cookie = self.request.cookie("SVPNTMPCOOKIE").unwrap_or_default();
        let mut sessions = self.shared.sessions();
        let Some(user) = sessions.waiting(cookie).map(str::to_owned) else { return forbidden() };
        match self.scenario.host_check {
            HostCheck::Off | HostCheck::Hop => {
                sessions.take_waiting(cookie);
                drop(sessions);
                let session = self.new_session(user);
                Response::html(200, "<html><script>document.location='/remote/index';</script></html>")
                    .with_session(&session)
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

    fn hostcheck_validate(&self) -> Response {
        let cookie = self.request.cookie("SVPNTMPCOOKIE").unwrap_or_default();
        let user = self.shared.sessions().take_waiting(cookie);
        match user {
            Some(user) if self.scenario.host_check == HostCheck::Form => {
                let session = self.new_session(user);
                Response::new(200, "text/plain", "ret=1,redir=/remote/index").with_session(&session)
            }
            _ => self.denied(),
        }
    }

    fn saml_start(&self) -> Response {
        let query = self.request.query();
        let magic = self.shared.token();
        self.shared.sessions().saml_start(magic.clone(), field(&query, "redirect") == "1");
        let host = self.request.header("host").unwrap_or("localhost");
        Response::redirect(format!("https://{host}/idp?RelayState=magic%3D{magic}"))
    }

    /// The built-in identity provider: signs in at once, or by a form that posts to itself.
    fn identity_provider(&self) -> Response {
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

    fn saml_login(&self) -> Response {
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

    fn saml_auth_id(&self) -> Response {
        let query = self.request.query();
        let now = self.shared.now();
        let user = self.shared.sessions().saml_trade(now, self.scenario, field(&query, "id"));
        self.note(Event::SamlTrade(user.is_some()));
        match user {
            Some(user) => self.grant(&user, "", "16", true),
            None => forbidden(),
        }
    }

    fn configuration(&self) -> Response {
        if !self.has_session() {
            return to_login();
        }
        let mut sessions = self.shared.sessions();
        let address = sessions.allocate(self.scenario, self.cookie());
        let response = Response::new(200, "text/xml", configuration_xml(self.scenario, address));
        if !self.scenario.replace_cookie {
            return response;
        }
        let new = self.shared.cookie();
        sessions.replace_cookie(self.cookie(), new.clone());
        response.with_session(&new)
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

fn sign_in_page(magic: &str) -> String {
    format!(
        "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Example identity provider</h1>\
         <form action=\"/idp\" method=\"post\"><input type=\"hidden\" name=\"RelayState\" value=\"magic={}\">\
         <label>Name <input name=\"username\"></label><label>Password <input type=\"password\" name=\"password\">\
         </label><button>Sign in</button></form></body></html>",
        percent_encode(magic)
    )
}

fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn mask(prefix_len: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0))
}

/// The configuration in one line with single quotes, as FortiOS 7 sends it.
fn configuration_xml(scenario: &Scenario, address: Option<Ipv4Addr>) -> String {
    let mut xml = String::from(
        "<?xml version='1.0' encoding='utf-8'?><sslvpn-tunnel ver='2' dtls='1' patch='1'>\
         <dtls-config heartbeat-interval='10' heartbeat-fail-count='10' heartbeat-idle-timeout='10' \
         client-hello-timeout='10' /><tunnel-method value='ppp' /><tunnel-method value='tun' />\
         <fos platform='FGVM64' major='7' minor='02' patch='5' build='1517' branch='1517' />",
    );
    xml.push_str(&format!(
        "<auth-ses check-src-ip='{}' tun-connect-without-reauth='{}' tun-user-ses-timeout='{}' />\
         <client-config save-password='off' keep-alive='off' auto-connect='off' /><ipv4>",
        u8::from(scenario.check_source),
        u8::from(scenario.reuse.is_some()),
        scenario.reuse.map_or(30, |window| window.as_secs()),
    ));
    for server in &scenario.dns {
        match &scenario.dns_suffix {
            Some(suffix) => xml.push_str(&format!("<dns ip='{server}' domain='{suffix}' />")),
            None => xml.push_str(&format!("<dns ip='{server}' />")),
        }
    }
    match address {
        Some(address) => xml.push_str(&format!("<assigned-addr ipv4='{address}' />")),
        None => xml.push_str("<assigned-addr ipv4='error' />"),
    }
    for (routes, negate) in [(&scenario.split_routes, ""), (&scenario.excluded_routes, " negate='1'")] {
        if routes.is_empty() {
            continue;
        }
        xml.push_str(&format!("<split-tunnel-info{negate}>"));
        for &(network, prefix_len) in routes {
            xml.push_str(&format!("<addr ip='{network}' mask='{}' />", mask(prefix_len)));
        }
        xml.push_str("</split-tunnel-info>");
    }
    xml.push_str(&format!(
        "</ipv4><idle-timeout val='{}' /><auth-timeout val='{}' /></sslvpn-tunnel>",
        scenario.idle_timeout.as_secs(),
        scenario.auth_timeout.as_secs(),
    ));
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_well_formed() {
        let scenario = Scenario {
            excluded_routes: vec![(Ipv4Addr::new(1, 2, 3, 4), 32), (Ipv4Addr::UNSPECIFIED, 0)],
            ..Scenario::default()
        };
        let xml = configuration_xml(&scenario, Some(Ipv4Addr::new(10, 212, 134, 200)));
        let document = roxmltree::Document::parse(&xml).unwrap();
        let masks: Vec<_> = document.descendants().filter_map(|node| node.attribute("mask")).collect();
        assert_eq!(masks, ["255.255.0.0", "255.255.255.255", "0.0.0.0"]);
        assert!(!xml.contains('\n'));
        assert!(configuration_xml(&scenario, None).contains("ipv4='error'"));
    }
}
