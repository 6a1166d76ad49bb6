//! The cookie that is the session: what it looks like, and the forms in which other tools print it.

use std::fmt;

use crate::crypto::Secret;

/// The cookie that is the session.
pub(super) const SESSION: &str = "SVPNCOOKIE";
/// The cookie that only the host check takes.
pub(super) const TEMPORARY: &str = "SVPNTMPCOOKIE";
const MAX_COOKIE: usize = 8 * 1024;
/// Limit for what [`parse_given`] reads, in octets.
pub const MAX_GIVEN: usize = 16 * 1024;

/// Why a text gives no cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is nothing in it.
    Empty,
    /// It is longer than [`MAX_GIVEN`], or the cookie is longer than any.
    TooLong,
    /// The cookie of another purpose, or a text that is none.
    NoCookie,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "there is no cookie in it: give SVPNCOOKIE=..., as other tools print it",
            Self::TooLong => "this is too long for a session cookie: give the line with SVPNCOOKIE=... alone",
            Self::NoCookie => {
                "this is no session cookie: give the line with SVPNCOOKIE=..., or the value alone"
            }
        })
    }
}

impl std::error::Error for Error {}

/// The session cookie in what a person or another tool gives: `SVPNCOOKIE=value`, the value alone, with attributes,
/// in quotes, as a header line, or among the lines of `openconnect --authenticate`.
pub fn parse_given(text: &[u8]) -> Result<Secret, Error> {
    if text.len() > MAX_GIVEN {
        return Err(Error::TooLong);
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii();
    if text.is_empty() {
        return Err(Error::Empty);
    }
    // As in a response: the last one that is one counts.
    let named =
        text.split(|&b| matches!(b, b'\n' | b'\r')).flat_map(named_values).filter(|v| is_cookie(v)).last();
    match named.or_else(|| bare_value(text)) {
        Some(value) => Ok(Secret::from(value)),
        None if text.len() > MAX_COOKIE => Err(Error::TooLong),
        None => Err(Error::NoCookie),
    }
}

/// All values of the session cookie in one line.
fn named_values(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&b| matches!(b, b';' | b' ' | b'\t' | b',')).filter_map(|word| {
        // Behind `COOKIE='`, `Cookie:` and the like.
        let word = unquoted(word);
        let word = word.strip_prefix(b"COOKIE=").map_or(word, unquoted);
        let word = word.strip_prefix(b"--cookie=").map_or(word, unquoted);
        let colon = word.iter().position(|&b| b == b':').and_then(|at| word.get(at + 1..));
        let word = colon.filter(|rest| rest.starts_with(SESSION.as_bytes())).unwrap_or(word);
        value_of(word, SESSION).map(unquoted)
    })
}

fn bare_value(text: &[u8]) -> Option<&[u8]> {
    let value = unquoted(text.split(|&b| b == b';').next()?);
    let value = value.strip_prefix(b"COOKIE=").map_or(value, unquoted);
    // `=` at the end is base64; anywhere else it is behind the name of something else.
    let mut body = value;
    while let Some(shorter) = ["%0a", "%0A", "="].iter().find_map(|end| body.strip_suffix(end.as_bytes())) {
        body = shorter;
    }
    let is_name = body.starts_with(b"SVPN") && body.ends_with(b"COOKIE");
    let known = |b: &u8| b.is_ascii_alphanumeric() || b"+/=%-_.~".contains(b);
    (!is_name && !body.contains(&b'=') && is_cookie(value) && value.iter().all(known)).then_some(value)
}

/// Without the quotes around it; a quote without its fellow goes too.
fn unquoted(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii();
    while let [b'"' | b'\'', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b'"' | b'\''] = text {
        text = rest;
    }
    text.trim_ascii()
}

/// The value, if `pair` is about the cookie `name`.
pub(super) fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::trim_ascii)
}

/// Empty and `0` mean "deleted".
pub(super) fn is_cookie(value: &[u8]) -> bool {
    let known = |b: &u8| b.is_ascii_graphic() && *b != b';';
    (1..=MAX_COOKIE).contains(&value.len()) && value != b"0" && value.iter().all(known)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_that_other_tools_print() {
        let value = "Zm9v+/Q==%0a";
        let authenticate = format!(
            "COOKIE='SVPNCOOKIE={value}'\nHOST='198.51.100.1'\nCONNECT_URL='https://gw.example:10443/'\n\
             FINGERPRINT='pin-sha256:abc='\nRESOLVE='gw.example:198.51.100.1'\n"
        );
        for text in [
            format!("SVPNCOOKIE={value}"),
            format!("SVPNCOOKIE={value}\r\n"),
            format!("  SVPNCOOKIE={value}; path=/; secure; httponly\r\n"),
            format!("SVPNCOOKIE={value};path=/"),
            value.to_owned(),
            format!("{value}\r\n"),
            format!("{value}; path=/"),
            format!("\"{value}\""),
            format!("'SVPNCOOKIE={value}'"),
            format!("SVPNCOOKIE=\"{value}\""),
            format!("Set-Cookie: SVPNCOOKIE={value}; path=/; secure; httponly; SameSite=Strict"),
            format!("set-cookie:SVPNCOOKIE={value}"),
            format!("Cookie: other=1; SVPNCOOKIE={value}"),
            format!("COOKIE='SVPNCOOKIE={value}'"),
            format!("COOKIE={value}"),
            format!("--cookie=SVPNCOOKIE={value}"),
            format!("\u{feff}SVPNCOOKIE={value}"),
            format!("SVPNCOOKIE=; path=/\nSVPNCOOKIE={value}\n"),
            authenticate,
        ] {
            assert_eq!(parse_given(text.as_bytes()).map(|c| c.expose().to_vec()), Ok(value.into()), "{text}");
        }
        assert_eq!(parse_given(b"abc").unwrap().expose(), b"abc");
    }

    #[test]
    fn what_is_no_cookie_is_said() {
        for text in [
            "SVPNTMPCOOKIE=abc",
            "SVPNNETWORKCOOKIE=abc",
            "SVPNCOOKIE=",
            "SVPNCOOKIE=0; path=/",
            "0",
            "http://127.0.0.1:8020/?id=abc",
            "<html>",
            "two words",
            "name=value",
        ] {
            assert_eq!(parse_given(text.as_bytes()).err(), Some(Error::NoCookie), "{text}");
        }
        for text in ["", " \r\n", "\u{feff}"] {
            assert_eq!(parse_given(text.as_bytes()).err(), Some(Error::Empty));
        }
        for len in [MAX_COOKIE + 1, MAX_GIVEN + 1] {
            assert_eq!(parse_given("v".repeat(len).as_bytes()).err(), Some(Error::TooLong));
        }
    }

    proptest! {
        #[test]
        fn a_cookie_never_breaks_a_header(text in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(cookie) = parse_given(&[&b"SVPNCOOKIE=a"[..], &text].concat()) {
                prop_assert!(is_cookie(cookie.expose()));
            }
            if let Ok(cookie) = parse_given(&text) {
                prop_assert!(is_cookie(cookie.expose()));
            }
        }
    }
}
