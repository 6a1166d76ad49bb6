//! Sign-in: what to send, the cookies, and what the gateway's answers mean.
//!
//! An answer ends in a cookie, in one more request (host check), in a [`Round`] that a person has to do, or in an
//! error.

mod answer;
mod form;
mod jar;
mod judge;
mod round;

use super::cookie::TEMPORARY;
use super::session::HostCheckValues;
use crate::crypto::Secret;
use crate::wire::http::{form, percent_encode};

pub(super) use jar::CookieJar;
pub(super) use judge::{Own, Verdict, judge};
pub(super) use round::{Kind, Round};

/// Where credentials go.
pub(super) const LOGIN_CHECK: &str = "/remote/logincheck";
const LOGIN_PAGE: &str = "/remote/login";
/// The cookie of the host check.
pub(super) const TEMPORARY_COOKIE: &str = TEMPORARY;

/// Who signs in.
pub(super) struct Account<'a> {
    pub(super) username: &'a str,
    pub(super) password: Option<&'a Secret>,
    pub(super) realm: &'a str,
}

/// The first form: user name and password, or the user name alone.
pub(super) fn credentials_form(account: &Account<'_>) -> Secret {
    let (username, realm) = (("username", account.username.as_bytes()), ("realm", account.realm.as_bytes()));
    let fields: &[(&str, &[u8])] = match account.password {
        Some(password) => {
            &[username, ("credential", password.expose()), realm, ("ajax", b"1"), ("just_logged_in", b"1")]
        }
        None => &[username, realm, ("ajax", b"1"), ("redir", b"/remote/index"), ("just_logged_in", b"1")],
    };
    Secret::new(form(fields))
}

/// The page that signs in by the TLS client certificate alone.
pub(super) fn login_page(realm: Option<&str>) -> String {
    let mut target = LOGIN_PAGE.as_bytes().to_vec();
    if let Some(realm) = realm {
        target.extend(b"?realm=");
        percent_encode(&mut target, realm.as_bytes());
    }
    String::from_utf8_lossy(&target).into_owned()
}

/// The results of a host check, as the user gives them.
pub(super) fn host_check_form(values: &HostCheckValues) -> Secret {
    Secret::new(form(&[
        ("hostcheck", values.hostcheck.as_bytes()),
        ("check_virtual_desktop", values.virtual_desktop.as_bytes()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded() {
        let password = Secret::from(&b"p@ss+word"[..]);
        let mut account = Account { username: "alice", password: Some(&password), realm: "staff" };
        let expected = b"username=alice&credential=p%40ss%2Bword&realm=staff&ajax=1&just_logged_in=1";
        assert_eq!(credentials_form(&account).expose(), expected);
        account.password = None;
        let expected = b"username=alice&realm=staff&ajax=1&redir=%2Fremote%2Findex&just_logged_in=1";
        assert_eq!(credentials_form(&account).expose(), expected);
        assert_eq!(login_page(None), "/remote/login");
        assert_eq!(login_page(Some("a b")), "/remote/login?realm=a%20b");
    }
}
