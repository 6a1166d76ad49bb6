//! As much HTTP as fetching a page needs: GET in HTTP/1.0, the body ends with the connection.

use std::io::{Read, Write};

use super::ProbeError;
use super::client::inner;
use super::stream::Stream;

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// The parts of an `http` URL. An IPv6 address is without its brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub host: &'a str,
    pub port: u16,
    pub path: &'a str,
}

pub(super) fn parse_url(url: &str) -> Option<Target<'_>> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address, 80),
        Some((address, port)) => (address, port.strip_prefix(':')?.parse().ok()?),
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, 80),
        },
    };
    (!host.is_empty()).then_some(Target { host, port, path })
}

pub(super) fn get(mut stream: &Stream, target: &Target<'_>) -> Result<HttpResponse, ProbeError> {
    let failed = |e: std::io::Error| inner(&format!("HTTP: {e}"));
    let Target { host, port, path } = target;
    let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {open}{host}{close}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(failed)?;
    parse_response(bytes).ok_or_else(|| inner("the answer is not HTTP"))
}

fn parse_response(mut bytes: Vec<u8>) -> Option<HttpResponse> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(&bytes).ok()? {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial => return None,
    };
    let status = response.code?;
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.map(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    let body = bytes.split_off(head);
    match length {
        Some(length) if length != Some(body.len()) => None,
        _ => Some(HttpResponse { status, body }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(parse_url("http://a.example"), Some(Target { host: "a.example", port: 80, path: "/" }));
        assert_eq!(
            parse_url("http://10.0.0.1:8080/x"),
            Some(Target { host: "10.0.0.1", port: 8080, path: "/x" })
        );
        assert_eq!(parse_url("http://[::1]/x"), Some(Target { host: "::1", port: 80, path: "/x" }));
        assert_eq!(parse_url("http://[::1]:81"), Some(Target { host: "::1", port: 81, path: "/" }));
        assert_eq!(parse_url("http://[::1]81"), None);
        assert_eq!(parse_url("https://a.example/"), None);
        assert_eq!(parse_url("http://:80/"), None);
    }

    #[test]
    fn responses_must_be_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec();
        assert_eq!(parse_response(whole.clone()), Some(HttpResponse { status: 200, body: b"hi".to_vec() }));
        assert_eq!(parse_response(whole[..whole.len() - 1].to_vec()), None);
        assert_eq!(parse_response(b"HTTP/1.1 20".to_vec()), None);
    }
}
