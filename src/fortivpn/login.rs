//! Sign-in: what to send, the cookies, and what the gateway's answers mean.
//!
//! An answer ends in a cookie, in one more request (host check), or in an [`Error`]. A second factor is such an
//! error now; its answer would be one more request here.

use super::error::{Error, SecondFactor};
use crate::crypto::Secret;
use crate::wire::http::{Head, Response, form};

/// Where credentials go.
pub(super) const LOGIN_CHECK: &str = "/remote/logincheck";
const HOST_CHECK: &str = "/remote/hostcheck_install";
const LOGIN_CONFIRM: &str = "/remote/loginconfirm";
const LOGIN_PAGE: &str = "/remote/login";

/// The cookie that is the session.
pub(super) const SESSION_COOKIE: &str = "SVPNCOOKIE";
/// The cookie that only the host check takes.
pub(super) const TEMPORARY_COOKIE: &str = "SVPNTMPCOOKIE";
const MAX_COOKIE: usize = 8 * 1024;

/// The form for user name and password.
pub(super) fn credentials_form(username: &str, password: &Secret, realm: Option<&str>) -> Secret {
    let realm = realm.unwrap_or_default().as_bytes();
    Secret::new(form(&[
        ("username", username.as_bytes()),
        ("credential", password.expose()),
        ("realm", realm),
        ("ajax", b"1"),
        ("just_logged_in", b"1"),
    ]))
}

/// The two cookies that matter, verbatim.
#[derive(Debug, Default)]
pub(super) struct CookieJar {
    session: Option<Secret>,
    temporary: Option<Secret>,
}

impl CookieJar {
    pub(super) fn session(&self) -> Option<&[u8]> {
        self.session.as_ref().map(Secret::expose)
    }

    pub(super) fn temporary(&self) -> Option<&[u8]> {
        self.temporary.as_ref().map(Secret::expose)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the cookies of a response. Gateways clear and set one cookie in one response, in any order: the last
    /// value that is one wins.
    pub(super) fn absorb(&mut self, head: &Head) {
        for (name, slot) in [(SESSION_COOKIE, &mut self.session), (TEMPORARY_COOKIE, &mut self.temporary)] {
            let values: Vec<&[u8]> =
                head.all("set-cookie").filter_map(|line| cookie_value(line, name)).collect();
            if let Some(value) = values.iter().rfind(|value| is_cookie(value)) {
                *slot = Some(Secret::from(*value));
            } else if !values.is_empty() {
                *slot = None;
            }
        }
    }
}

/// The value of the cookie `name`, if this Set-Cookie line is about it.
fn cookie_value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pair = line.split(|&b| b == b';').next()?.trim_ascii();
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::trim_ascii)
}

/// Empty and `0` mean "deleted".
fn is_cookie(value: &[u8]) -> bool {
    (1..=MAX_COOKIE).contains(&value.len()) && value != b"0" && value.iter().all(u8::is_ascii_graphic)
}

/// What an answer to a sign-in request means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The session cookie is there.
    Accepted,
    /// One more GET, to this target.
    HostCheck(String),
    /// No.
    Failed(Error),
}

/// Judges an answer whose cookies are in `jar` already. `host` is ours as in a URL.
pub(super) fn judge(response: &Response, jar: &CookieJar, host: &str) -> Verdict {
    // A session cookie outweighs everything that the body says.
    if jar.session().is_some() {
        return Verdict::Accepted;
    }
    let body = String::from_utf8_lossy(&response.body);
    match response.head.status {
        200 => judge_body(&body),
        401 if body.contains("<form") => Verdict::Failed(Error::SecondFactor(SecondFactor::Form)),
        401 | 403 | 405 => Verdict::Failed(Error::Denied),
        300..=399 => match local_target(response.head.header("location").unwrap_or_default(), host) {
            Some(target) => {
                judge_target(&target).unwrap_or(Verdict::Failed(Error::BadStatus(response.head.status)))
            }
            None => Verdict::Failed(Error::OtherHost),
        },
        status @ 500.. => Verdict::Failed(Error::LoginUnanswered(format!("status {status}"))),
        status => Verdict::Failed(Error::BadStatus(status)),
    }
}

fn judge_body(body: &str) -> Verdict {
    let answer = Answer(body.trim());
    let renewal = answer.get("pass_renew") == Some("1");
    let token = answer.get("tokeninfo");
    let push = token.is_some_and(|info| info.starts_with("ftm_push") || info == "remote_token_auth");
    let factor = match answer.get("ret") {
        Some("3") => SecondFactor::Email,
        Some("4") => SecondFactor::Sms,
        Some("5") => SecondFactor::TokenDrift,
        Some("6") if renewal => SecondFactor::PasswordRenewal,
        Some("6") => SecondFactor::Challenge,
        Some("2") => SecondFactor::Token { push },
        _ if token.is_some() => SecondFactor::Token { push },
        Some(_) => {
            let redirection = answer.get("redir").unwrap_or_default();
            return judge_target(redirection).unwrap_or(Verdict::Failed(Error::Denied));
        }
        None if body.contains("/remote/hostcheck_validate") => return Verdict::Failed(Error::HostCheck),
        None if body.contains(LOGIN_CONFIRM) => return Verdict::Failed(Error::SessionExists),
        // Without a cookie, an empty page and any other page mean the same.
        None => return Verdict::Failed(Error::Denied),
    };
    Verdict::Failed(Error::SecondFactor(factor))
}

/// Where the gateway wants us to go next, and what that means; `None` if nothing.
fn judge_target(target: &str) -> Option<Verdict> {
    let clean = target.bytes().all(|b| b.is_ascii_graphic());
    Some(match target {
        _ if target.starts_with(HOST_CHECK) && clean => Verdict::HostCheck(target.to_owned()),
        _ if target.starts_with(LOGIN_CONFIRM) => Verdict::Failed(Error::SessionExists),
        _ if target.contains("password_expired") => Verdict::Failed(Error::PasswordExpired),
        _ if target.starts_with(LOGIN_PAGE) => Verdict::Failed(Error::Denied),
        _ => return None,
    })
}

/// The path of a Location on our own host; `None` for other hosts and for plain HTTP.
fn local_target(location: &[u8], host: &str) -> Option<String> {
    let location = std::str::from_utf8(location).ok()?;
    let path = match location.strip_prefix("https://") {
        Some(rest) => rest.strip_prefix(host)?,
        None => location,
    };
    (path.starts_with('/') && !path.starts_with("//")).then(|| path.to_owned())
}

/// A line `key=value,key=value,...`; `chal_msg` is the last key and its value may hold commas.
struct Answer<'a>(&'a str);

impl<'a> Answer<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        let fields = self.0.split("chal_msg=").next().unwrap_or_default();
        if !fields.starts_with("ret=") {
            return None;
        }
        fields
            .split(',')
            .filter_map(|field| field.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, v)| v.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::ResponseReader;

    fn response(head: &str, body: &str) -> Response {
        let text = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        ResponseReader::new().handle_bytes(text.as_bytes()).unwrap().unwrap()
    }

    fn verdict(head: &str, body: &str) -> Verdict {
        let response = response(head, body);
        let mut jar = CookieJar::default();
        jar.absorb(&response.head);
        judge(&response, &jar, "gw:10443")
    }

    #[test]
    fn set_cookie_variants() {
        let clearing =
            "Set-Cookie:  SVPNCOOKIE=; path=/; expires=Sun, 11 Mar 1984 12:00:00 GMT; secure; httponly;";
        let big = "v".repeat(4096);
        for (lines, expected) in [
            ("Set-Cookie: SVPNCOOKIE=a+/=%0a; path=/; secure".into(), Some("a+/=%0a")),
            ("set-cookie:SVPNCOOKIE=v;path=/".into(), Some("v")),
            ("Set-Cookie:  SVPNCOOKIE=v".into(), Some("v")),
            (format!("Set-Cookie: SVPNCOOKIE=v; path=/\r\n{clearing}"), Some("v")),
            (format!("{clearing}\r\nSet-Cookie: SVPNCOOKIE=v; path=/"), Some("v")),
            ("Set-Cookie: SVPNCOOKIE=v\r\nSet-Cookie: SVPNCOOKIE=w".into(), Some("w")),
            (clearing.into(), None),
            ("Set-Cookie: SVPNCOOKIE=0; path=/".into(), None),
            ("Set-Cookie: SVPNTMPCOOKIE=v; path=/".into(), None),
            ("Set-Cookie: SVPNNETWORKCOOKIE=v; path=/".into(), None),
            ("Set-Cookie: XSVPNCOOKIE=v".into(), None),
            ("Set-Cookie: SVPNCOOKIE=a b".into(), None),
            (format!("Set-Cookie: SVPNCOOKIE={big}"), Some(big.as_str())),
            (format!("Set-Cookie: SVPNCOOKIE={}", "v".repeat(8193)), None),
        ] {
            let mut jar = CookieJar::default();
            jar.absorb(&response(&format!("200 OK\r\n{lines}"), "").head);
            assert_eq!(jar.session(), expected.map(str::as_bytes), "{lines:.80}");
            assert!(!format!("{jar:?}").contains('v'), "{jar:?}");
        }
        let mut jar = CookieJar::default();
        jar.absorb(&response("200 OK\r\nSet-Cookie: SVPNCOOKIE=v", "").head);
        jar.absorb(&response("200 OK", "").head);
        assert!(jar.session().is_some(), "a response without cookies changes nothing");
        jar.absorb(&response(&format!("302 Found\r\n{clearing}"), "").head);
        assert!(jar.session().is_none());
    }

    #[test]
    fn answers() {
        use Error::*;
        let hop = "/remote/hostcheck_install?auth_type=1&user=61&&grpname=73&realm=x";
        let factor = |f| Verdict::Failed(SecondFactor(f));
        use super::SecondFactor as F;
        for (body, expected) in [
            (
                "ret=0,redir=/remote/login?&err=sslvpn_login_permission_denied&lang=en",
                Verdict::Failed(Denied),
            ),
            ("ret=0,redir=/remote/login?&err=sslvpn_login_unknown_user&lang=en", Verdict::Failed(Denied)),
            (
                "ret=0,redir=/remote/login?&err=sslvpn_login_password_expired&lang=en",
                Verdict::Failed(PasswordExpired),
            ),
            ("ret=0", Verdict::Failed(Denied)),
            ("", Verdict::Failed(Denied)),
            ("<html>Permission denied</html>", Verdict::Failed(Denied)),
            ("ret=1,redir=/remote/index", Verdict::Failed(Denied)),
            ("ret=1,redir=/remote/loginconfirm?x", Verdict::Failed(SessionExists)),
            ("ret=1,redir=/remote/hostcheck_install?a b", Verdict::Failed(Denied)),
            ("<form action='/remote/hostcheck_validate'>", Verdict::Failed(HostCheck)),
            (
                "ret=2,reqid=1,polid=1-1,grp=,magic=3-8,tokeninfo=ftm_push,chal_msg=a,ret=1,b=c",
                factor(F::Token { push: true }),
            ),
            ("ret=2,reqid=1,tokeninfo=", factor(F::Token { push: false })),
            ("ret=3,reqid=77,tokeninfo=a%2A%40corp.example", factor(F::Email)),
            ("ret=4,reqid=78,tokeninfo=%2B49", factor(F::Sms)),
            ("ret=5,reqid=78,tokeninfo=", factor(F::TokenDrift)),
            ("ret=6,magic=1,is_chal_rsp=1,chal_msg=pass_renew=1,x", factor(F::Challenge)),
            ("ret=6,magic=1,pass_renew=1,allow_cancel=1,chal_msg=Change?", factor(F::PasswordRenewal)),
        ] {
            assert_eq!(verdict("200 OK", body), expected, "{body}");
        }
        assert_eq!(verdict("200 OK", &format!("ret=1,redir={hop}")), Verdict::HostCheck(hop.into()));
        for (head, expected) in [
            ("401 Authorization Required", Verdict::Failed(Denied)),
            ("403 Forbidden", Verdict::Failed(Denied)),
            ("405 Method Not Allowed", Verdict::Failed(Denied)),
            ("404 Not Found", Verdict::Failed(BadStatus(404))),
            ("503 Busy", Verdict::Failed(LoginUnanswered("status 503".into()))),
            ("302 Found\r\nLocation: /remote/login?lang=en", Verdict::Failed(Denied)),
            ("302 Found\r\nLocation: https://gw:10443/remote/login", Verdict::Failed(Denied)),
            ("302 Found\r\nLocation: https://evil/remote/hostcheck_install", Verdict::Failed(OtherHost)),
            (
                "302 Found\r\nLocation: https://gw:10443.evil/remote/hostcheck_install",
                Verdict::Failed(OtherHost),
            ),
            ("302 Found\r\nLocation: http://gw:10443/remote/hostcheck_install", Verdict::Failed(OtherHost)),
            ("302 Found\r\nLocation: //evil/remote/login", Verdict::Failed(OtherHost)),
            ("302 Found\r\nLocation: /else", Verdict::Failed(BadStatus(302))),
            ("403 Forbidden\r\nSet-Cookie: SVPNCOOKIE=v", Verdict::Accepted),
        ] {
            assert_eq!(verdict(head, ""), expected, "{head}");
        }
        assert_eq!(verdict("401 Authorization Required", "<html><form action=x>"), factor(F::Form));
    }

    #[test]
    fn credentials_are_encoded() {
        let form = credentials_form("alice", &Secret::from(&b"p@ss+word"[..]), Some("staff"));
        let expected = b"username=alice&credential=p%40ss%2Bword&realm=staff&ajax=1&just_logged_in=1";
        assert_eq!(form.expose(), expected);
    }
}
