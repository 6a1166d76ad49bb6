//! The two cookies that matter.

use crate::crypto::Secret;
use crate::fortivpn::cookie::{SESSION, TEMPORARY, is_cookie, value_of};
use crate::wire::http::Head;

/// The session's cookie and the host check's, verbatim.
#[derive(Debug, Default)]
pub(in crate::fortivpn) struct CookieJar {
    session: Option<Secret>,
    temporary: Option<Secret>,
}

impl CookieJar {
    /// A jar with a session that was signed in before.
    pub(in crate::fortivpn) fn with_session(cookie: Secret) -> Self {
        Self { session: Some(cookie), temporary: None }
    }

    pub(in crate::fortivpn) fn session(&self) -> Option<&Secret> {
        self.session.as_ref()
    }

    pub(in crate::fortivpn) fn temporary(&self) -> Option<&Secret> {
        self.temporary.as_ref()
    }

    pub(in crate::fortivpn) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the cookies of a response. Gateways clear and set one cookie in one response, in any order: the last
    /// value that is one wins.
    pub(in crate::fortivpn) fn absorb(&mut self, head: &Head) {
        for (name, slot) in [(SESSION, &mut self.session), (TEMPORARY, &mut self.temporary)] {
            let pairs = head.all("set-cookie").filter_map(|line| line.split(|&b| b == b';').next());
            let values: Vec<&[u8]> = pairs.filter_map(|pair| value_of(pair, name)).collect();
            if let Some(value) = values.iter().rfind(|value| is_cookie(value)) {
                *slot = Some(Secret::from(*value));
            } else if !values.is_empty() {
                *slot = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::ResponseReader;

    fn absorb(jar: &mut CookieJar, head: &str) {
        let text = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
        jar.absorb(&ResponseReader::new().handle_bytes(text.as_bytes()).unwrap().unwrap().head);
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
            absorb(&mut jar, &format!("200 OK\r\n{lines}"));
            assert_eq!(jar.session().map(Secret::expose), expected.map(str::as_bytes), "{lines:.80}");
            assert!(!format!("{jar:?}").contains('v'), "{jar:?}");
        }
        let mut jar = CookieJar::default();
        absorb(&mut jar, "200 OK\r\nSet-Cookie: SVPNCOOKIE=v");
        absorb(&mut jar, "200 OK");
        assert!(jar.session().is_some(), "a response without cookies changes nothing");
        absorb(&mut jar, &format!("302 Found\r\n{clearing}"));
        assert!(jar.session().is_none());
    }
}
