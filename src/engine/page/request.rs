//! What a browser asks: one head and, where a form is sent, its small body. No I/O.

use std::fmt;

use crate::crypto::Secret;
use crate::wire::http::percent_decode;

/// Limit for a head, in octets.
pub const MAX_HEAD: usize = 16 * 1024;
/// Limit for a body, in octets: a pasted address fits several times.
pub const MAX_BODY: usize = 8 * 1024;
/// The longest request that [`parse`] asks for.
pub const MAX_REQUEST: usize = MAX_HEAD + MAX_BODY;
const MAX_HEADERS: usize = 64;

/// The methods that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Show it.
    Get,
    /// Show its head.
    Head,
    /// A form.
    Post,
    /// What may I do here?
    Options,
    /// Anything else.
    Other,
}

/// A whole request. `Debug` shows neither query nor body: there are secrets in them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The target up to its question mark.
    pub path: &'a str,
    /// The target behind its question mark.
    pub query: &'a str,
    /// `Host`.
    pub host: &'a str,
    /// `Origin`.
    pub origin: Option<&'a str>,
    body: &'a [u8],
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request {{ {:?} {} [redacted] }}", self.method, self.path)
    }
}

/// Why a request gets no better answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It breaks the grammar, or does what browsers do not.
    Malformed,
    /// The head is longer than [`MAX_HEAD`].
    HeadTooLong,
    /// The body is longer than [`MAX_BODY`].
    BodyTooLong,
}

/// The request at the front of `bytes`, or `None` where more of it has to come.
pub fn parse(bytes: &[u8]) -> Result<Option<Request<'_>>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = bytes.get(..MAX_HEAD).unwrap_or(bytes);
    let head_len = match parsed.parse(head) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Fault::HeadTooLong);
        }
        Err(_) => return Err(Fault::Malformed),
    };
    let method = match parsed.method.unwrap_or_default() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "OPTIONS" => Method::Options,
        _ => Method::Other,
    };
    if only(parsed.headers, "transfer-encoding")?.is_some() {
        return Err(Fault::Malformed);
    }
    let body_len = match only(parsed.headers, "content-length")? {
        Some(text) if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(Fault::Malformed);
        }
        Some(text) => text.parse().ok().filter(|len| *len <= MAX_BODY).ok_or(Fault::BodyTooLong)?,
        None => 0,
    };
    let Some(body) = bytes.get(head_len..head_len + body_len) else { return Ok(None) };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let host = only(parsed.headers, "host")?.ok_or(Fault::Malformed)?;
    Ok(Some(Request { method, path, query, host, origin: only(parsed.headers, "origin")?, body }))
}

/// The value of a header that must not be there twice.
fn only<'a>(headers: &[httparse::Header<'a>], name: &str) -> Result<Option<&'a str>, Fault> {
    let mut found = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(header), None) => {
            let value = std::str::from_utf8(header.value).map_err(|_| Fault::Malformed)?;
            Ok(Some(value.trim()))
        }
        _ => Err(Fault::Malformed),
    }
}

impl Request<'_> {
    /// The path without its percent signs.
    pub fn decoded_path(&self) -> Vec<u8> {
        percent_decode(self.path.as_bytes())
    }

    /// The first value of a query's field, as it is written there.
    pub fn query_field(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The first value of a form's field, decoded.
    pub fn form_field(&self, name: &str) -> Option<Secret> {
        self.body.split(|b| *b == b'&').find_map(|pair| {
            let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(decode(value))
        })
    }
}

/// `application/x-www-form-urlencoded`, where a plus sign is a space.
fn decode(text: &[u8]) -> Secret {
    let spaced = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte });
    Secret::new(percent_decode(Secret::new(spaced.collect()).expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] = b"POST /paste HTTP/1.1\r\nHost: [::1]:8020\r\nOrigin: http://[::1]:8020\r\n\
        Content-Length: 34\r\n\r\ntoken=ab&answer=a+b%2B%26%c3%a9%zz";

    #[test]
    fn heads_and_bodies() {
        let request = parse(POST).unwrap().unwrap();
        assert_eq!((request.method, request.path, request.query), (Method::Post, "/paste", ""));
        assert_eq!((request.host, request.origin), ("[::1]:8020", Some("http://[::1]:8020")));
        assert_eq!(request.form_field("token").unwrap().expose(), b"ab");
        assert_eq!(request.form_field("answer").unwrap().expose(), "a b+&é%zz".as_bytes());
        assert!(request.form_field("ans").is_none() && request.form_field("").is_none());

        let get =
            parse(b"GET /?x=1&id=a%20b&id=c HTTP/1.0\r\nhost: localhost \r\n\r\nrest").unwrap().unwrap();
        assert_eq!((get.method, get.path, get.host, get.origin), (Method::Get, "/", "localhost", None));
        assert_eq!(get.query_field("id"), Some("a%20b"));
        assert!(get.query_field("i").is_none() && get.form_field("id").is_none());
        assert!(!format!("{get:?}{request:?}").contains("a%20b"));
    }

    #[test]
    fn faults() {
        let head = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let long = format!("Host: x\r\nX: {}\r\n", "y".repeat(MAX_HEAD));
        let many = "A: b\r\n".repeat(MAX_HEADERS + 1);
        for (bytes, fault) in [
            (head(""), Fault::Malformed),
            (head("Host: a\r\nHost: b\r\n"), Fault::Malformed),
            (head("Host: a\r\nTransfer-Encoding: chunked\r\n"), Fault::Malformed),
            (head("Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n"), Fault::Malformed),
            (head("Host: a\r\nContent-Length: +1\r\n"), Fault::Malformed),
            (head("Host: a\r\nContent-Length: \r\n"), Fault::Malformed),
            (head("Host: a\r\nContent-Length: 8193\r\n"), Fault::BodyTooLong),
            (head("Host: a\r\nContent-Length: 99999999999999999999999\r\n"), Fault::BodyTooLong),
            (head(&long), Fault::HeadTooLong),
            (head(&many), Fault::HeadTooLong),
            ("\x16\x03\x01\r\n\r\n".into(), Fault::Malformed),
            ("GET /\r\n\r\n".into(), Fault::Malformed),
        ] {
            assert_eq!(parse(bytes.as_bytes()), Err(fault), "{bytes:.60}");
        }
        assert_eq!(parse(&b"G".repeat(MAX_HEAD - 1)), Ok(None));
        assert_eq!(parse(&b"G".repeat(MAX_HEAD)), Err(Fault::HeadTooLong));
    }

    #[test]
    fn cut_and_damaged_requests() {
        for len in 0..POST.len() {
            assert_eq!(parse(&POST[..len]), Ok(None), "{len}");
        }
        for i in 0..POST.len() {
            for bit in 0..8 {
                let mut bytes = POST.to_vec();
                bytes[i] ^= 1 << bit;
                if let Ok(Some(request)) = parse(&bytes) {
                    let _ = request.form_field("answer");
                }
            }
        }
    }
}
