//! Sign-in with the browser: the link to open, and the request with which the browser comes back to us.

use crate::wire::http::{parse_request, percent_encode};

/// Where FortiGates send the browser back to, unless configured otherwise.
pub const DEFAULT_PORT: u16 = 8020;
/// Limit for the head of a browser's request, in octets.
pub const MAX_REQUEST: usize = 16 * 1024;
const MAX_ID: usize = 1024;

/// The link that starts the sign-in. `host` is as in a URL, with its port where it is not 443.
pub(super) fn start_url(host: &str, realm: Option<&str>) -> String {
    let mut url = format!("https://{host}/remote/saml/start?redirect=1").into_bytes();
    if let Some(realm) = realm {
        url.extend(b"&realm=");
        percent_encode(&mut url, realm.as_bytes());
    }
    String::from_utf8_lossy(&url).into_owned()
}

/// True if `id` may become part of a request of ours: any web page can send one here.
pub fn is_valid_id(id: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(known)
}

/// What to do with a browser's connection.
pub enum Answer {
    /// The head of the request is not complete: read on, at most [`MAX_REQUEST`] octets.
    NeedMore,
    /// Send this, close the connection, and hand a valid id to the session.
    Reply {
        /// The whole HTTP response.
        response: Vec<u8>,
        /// The id, if the request brought a valid one.
        id: Option<String>,
    },
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NeedMore => f.write_str("NeedMore"),
            Self::Reply { id, .. } => {
                write!(f, "Reply {{ id: {} }}", if id.is_some() { "[redacted]" } else { "None" })
            }
        }
    }
}

/// Answers one request on the loopback port. Favicons, preflights, probes and bad ids get an answer that does not
/// disturb the sign-in.
pub fn handle_request(bytes: &[u8]) -> Answer {
    let (method, target) = match parse_request(bytes) {
        Ok(None) if bytes.len() < MAX_REQUEST => return Answer::NeedMore,
        Ok(Some(line)) => line,
        _ => return reply("400 Bad Request", "This is not a request that a browser sends."),
    };
    match method {
        "GET" => {}
        "OPTIONS" => return reply("204 No Content", ""),
        _ => return reply("405 Method Not Allowed", "Only GET is answered here."),
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let id = query.split('&').find_map(|pair| pair.strip_prefix("id="));
    match id.filter(|_| path == "/") {
        None => reply(
            "404 Not Found",
            "There is nothing here. The sign-in starts at the link that pterodapter shows.",
        ),
        Some(id) if is_valid_id(id) => {
            let text = "Signed in. pterodapter connects now; this page may be closed.";
            Answer::Reply { response: page("200 OK", text), id: Some(id.to_owned()) }
        }
        Some(_) => reply(
            "400 Bad Request",
            "The gateway sent something that is no sign-in. Please open the link again.",
        ),
    }
}

fn reply(status: &str, text: &str) -> Answer {
    Answer::Reply { response: page(status, text), id: None }
}

fn page(status: &str, text: &str) -> Vec<u8> {
    let body = match text {
        "" => String::new(),
        text => format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>pterodapter</title><p>{text}</p></html>\n"
        ),
    };
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n{length}Connection: close\r\n\
         Cache-Control: no-store\r\nContent-Security-Policy: default-src 'none'\r\nReferrer-Policy: no-referrer\r\n\
         X-Content-Type-Options: nosniff\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &str) -> (String, Option<String>) {
        match handle_request(request.as_bytes()) {
            Answer::NeedMore => ("more".into(), None),
            Answer::Reply { response, id } => (String::from_utf8(response).unwrap()[9..12].to_owned(), id),
        }
    }

    #[test]
    fn requests() {
        let uuid = "6c1f0a9e-5d1b-4b4e-9e60-0b6d2a2f9b11";
        let long = "a".repeat(1025);
        let head = " HTTP/1.1\r\nHost: 127.0.0.1:8020\r\nUser-Agent: x\r\n\r\n";
        for (line, status, id) in [
            (format!("GET /?id={uuid}"), "200", Some(uuid)),
            (format!("GET /?x=y&id={uuid}&z"), "200", Some(uuid)),
            ("GET /?id=A_b.9".into(), "200", Some("A_b.9")),
            ("GET /favicon.ico".into(), "404", None),
            (format!("GET /favicon.ico?id={uuid}"), "404", None),
            ("GET /".into(), "404", None),
            ("GET /?idx=1".into(), "404", None),
            ("GET /?id=".into(), "400", None),
            ("GET /?id=a%0d%0aX:y".into(), "400", None),
            ("GET /?id=../x".into(), "400", None),
            (format!("GET /?id={long}"), "400", None),
            (format!("POST /?id={uuid}"), "405", None),
            (format!("OPTIONS /?id={uuid}"), "204", None),
        ] {
            assert_eq!(answer(&format!("{line}{head}")), (status.into(), id.map(str::to_owned)), "{line}");
        }
        assert_eq!(answer("\x16\x03\x01\r\n\r\n").0, "400");
        assert_eq!(answer(&format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(MAX_REQUEST))).0, "400");
        let whole = format!("GET /?id={uuid}{head}");
        for len in 0..whole.len() {
            assert_eq!(answer(&whole[..len]).0, "more", "{len}");
        }
        for i in 0..whole.len() {
            for flip in [1, 0x20, 0x80] {
                let mut bytes = whole.clone().into_bytes();
                bytes[i] ^= flip;
                if let Answer::Reply { id: Some(id), .. } = handle_request(&bytes) {
                    assert!(is_valid_id(&id));
                }
            }
        }
        assert!(!format!("{:?}", handle_request(whole.as_bytes())).contains(uuid));
    }

    #[test]
    fn link() {
        assert_eq!(start_url("gw.example", None), "https://gw.example/remote/saml/start?redirect=1");
        let url = start_url("gw.example:10443", Some("a b/c"));
        assert_eq!(url, "https://gw.example:10443/remote/saml/start?redirect=1&realm=a%20b%2Fc");
    }
}
