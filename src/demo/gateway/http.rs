//! HTTP/1.1 as a FortiGate serves it: a strict reader of requests and a writer with its peculiar answers.

use super::journal::RequestHead;
use super::scenario::{Framing, Scenario};

const HEAD_LIMIT: usize = 32 * 1024;
const BODY_LIMIT: usize = 64 * 1024;
/// Keys whose values never reach the journal.
const SECRET_KEYS: [&str; 5] = ["id", "SAMLResponse", "RelayState", "user", "magic"];

/// A request.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRequest;

impl Request {
    /// Parses the request at the front of `bytes` and tells how long it is; `None` when it is not complete.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, BadRequest> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        let head_len = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => return Ok(None),
            _ => return Err(BadRequest),
        };
        let headers: Vec<_> = parsed
            .headers
            .iter()
            .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).trim().to_owned()))
            .collect();
        let body_len = match headers.iter().find(|(name, _)| name == "content-length") {
            Some((_, value)) => value.parse().map_err(|_| BadRequest)?,
            None => 0,
        };
        if body_len > BODY_LIMIT || headers.iter().any(|(name, _)| name == "transfer-encoding") {
            return Err(BadRequest);
        }
        let Some(body) = bytes.get(head_len..head_len + body_len) else { return Ok(None) };
        let request = Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            body: body.to_vec(),
            headers,
        };
        Ok(Some((request, head_len + body_len)))
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The decoded query.
    pub fn query(&self) -> Vec<(String, String)> {
        self.target.split_once('?').and_then(|(_, query)| parse_form(query)).unwrap_or_default()
    }

    /// The value of the header `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of the cookie `name`.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.header("cookie")?
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// The fields of the body: a form, or one flat JSON object of strings.
    pub fn form(&self) -> Option<Vec<(String, String)>> {
        let text = std::str::from_utf8(&self.body).ok()?;
        if text.trim_start().starts_with('{') { parse_json(text) } else { parse_form(text) }
    }

    /// What the journal may keep.
    pub fn without_secrets(&self) -> RequestHead {
        let hide = |(key, value): (String, String)| {
            let value = if SECRET_KEYS.contains(&key.as_str()) { "*".into() } else { value };
            (key, value)
        };
        let headers = self.headers.iter().map(|(name, value)| {
            let value = if name == "cookie" { hide_cookies(value) } else { value.clone() };
            (name.clone(), value)
        });
        RequestHead {
            method: self.method.clone(),
            path: self.path().to_owned(),
            query: self.query().into_iter().map(hide).collect(),
            headers: headers.collect(),
            form_keys: self.form().unwrap_or_default().into_iter().map(|(key, _)| key).collect(),
        }
    }
}

fn hide_cookies(value: &str) -> String {
    let pairs = value.split(';').map(|pair| match pair.split_once('=') {
        Some((name, value)) if !value.is_empty() => format!("{}=*", name.trim()),
        _ => pair.trim().to_owned(),
    });
    pairs.collect::<Vec<_>>().join("; ")
}

/// The value of `key` in decoded pairs, or the empty string.
pub fn field<'a>(pairs: &'a [(String, String)], key: &str) -> &'a str {
    pairs.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value.as_str())
}

/// Decodes `a=b&c=d`. Strict: `%` needs two hexadecimal digits, and `+` is a plus sign. Empty pairs are allowed.
fn parse_form(text: &str) -> Option<Vec<(String, String)>> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(key)?, percent_decode(value)?))
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Encodes all but the unreserved characters of RFC 3986.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// One flat object whose values are strings without escapes other than of one character.
fn parse_json(text: &str) -> Option<Vec<(String, String)>> {
    let mut strings = Vec::new();
    let mut chars = text.trim().strip_prefix('{')?.strip_suffix('}')?.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                let mut string = String::new();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => string.push(chars.next()?),
                        other => string.push(other),
                    }
                }
                strings.push(string);
            }
            ':' | ',' => {}
            c if c.is_whitespace() => {}
            _ => return None,
        }
    }
    let (pairs, rest) = strings.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect())
}

/// An answer.
#[derive(Debug, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Close the connection after it, and say so.
    pub close: bool,
}

impl Response {
    /// An answer with a body of `content_type`.
    pub fn new(status: u16, content_type: &str, body: impl Into<String>) -> Self {
        let headers = vec![("Content-Type", content_type.to_owned())];
        Self { status, headers, body: body.into().into_bytes(), close: false }
    }

    /// An HTML page.
    pub fn html(status: u16, body: impl Into<String>) -> Self {
        Self::new(status, "text/html", body)
    }

    /// A redirect.
    pub fn redirect(location: impl Into<String>) -> Self {
        Self::html(302, "").with("Location", location)
    }

    /// With a header more.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With another body.
    pub fn with_body(mut self, content_type: &str, body: impl Into<String>) -> Self {
        self.headers.retain(|(name, _)| *name != "Content-Type");
        self.body = body.into().into_bytes();
        self.with("Content-Type", content_type)
    }

    /// With the session cookie, in the form that a FortiGate gives it.
    pub fn with_session(self, cookie: &str) -> Self {
        self.with("Set-Cookie", format!("SVPNCOOKIE={cookie}; path=/; secure; httponly"))
    }

    /// With the cookies of the session taken away; two spaces after the colon are as seen.
    pub fn clearing_cookies(self) -> Self {
        const GONE: &str = "expires=Sun, 11 Mar 1984 12:00:00 GMT; secure; httponly";
        self.with("Set-Cookie", format!(" SVPNCOOKIE=; path=/; {GONE};"))
            .with("Set-Cookie", format!("SVPNNETWORKCOOKIE=; path=/remote/network; {GONE}"))
    }

    /// Compresses the body, into one stored block (RFC 1952, RFC 1951).
    pub fn compress(&mut self) {
        let body = std::mem::take(&mut self.body);
        let len = body.len() as u16;
        let mut bytes = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&(!len).to_le_bytes());
        bytes.extend_from_slice(body.get(..usize::from(len)).unwrap_or_default());
        bytes.extend_from_slice(&crc32(&body).to_le_bytes());
        bytes.extend_from_slice(&u32::from(len).to_le_bytes());
        self.body = bytes;
        self.headers.push(("Content-Encoding", "gzip".into()));
    }

    /// The head and the body to send.
    pub fn emit(&self, scenario: &Scenario, body: Body) -> (Vec<u8>, Vec<u8>) {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        head.push_str("Server: xxxxxxxx-xxxxx\r\n");
        for (name, value) in &self.headers {
            // A name that ends in a colon is complete.
            let colon = if name.ends_with(':') { "" } else { ": " };
            head.push_str(&format!("{name}{colon}{value}\r\n"));
        }
        let until_close = matches!(body, Body::Framed(Framing::UntilClose | Framing::UntilCut));
        head.push_str(if self.close || until_close {
            "Connection: close\r\n"
        } else {
            "Keep-Alive: timeout=10, max=100\r\nConnection: Keep-Alive\r\n"
        });
        match body {
            Body::Framed(Framing::Length) => {
                head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
            }
            Body::Framed(Framing::UntilClose | Framing::UntilCut) => {}
            Body::None | Body::Usual | Body::Framed(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        head.push_str("X-Frame-Options: SAMEORIGIN\r\n");
        head.push_str("Content-Security-Policy: frame-ancestors 'self'; object-src 'self'\r\n");
        head.push_str("X-XSS-Protection: 1; mode=block\r\nX-Content-Type-Options: nosniff\r\n");
        head.push_str("Strict-Transport-Security: max-age=31536000\r\n\r\n");
        let body = match body {
            Body::None => Vec::new(),
            Body::Framed(Framing::Length | Framing::UntilClose | Framing::UntilCut) => self.body.clone(),
            Body::Usual => self.chunks(scenario, None),
            Body::Framed(framing) => self.chunks(scenario, Some(framing)),
        };
        (head.into_bytes(), body)
    }

    fn chunks(&self, scenario: &Scenario, framing: Option<Framing>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, chunk) in self.body.chunks(4096).enumerate() {
            let len = chunk.len();
            let size = match framing {
                Some(Framing::BadSize(text)) if number == 0 => text.to_owned(),
                Some(Framing::UpperCase) => format!("{len:08X}"),
                Some(Framing::Extension) => format!("{len:x} ; name=\"value; 0\""),
                _ if scenario.chunk_padding => format!("{:<6}", format!("{len:x}")),
                _ => format!("{len:x}"),
            };
            bytes.extend_from_slice(size.as_bytes());
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        match framing {
            Some(Framing::NoLastChunk) => {}
            Some(Framing::Extension) => bytes.extend_from_slice(b"0;last\r\nX-Trailer: 1\r\n\r\n"),
            _ => {
                let ends = if scenario.doubled_last_chunk { 2 } else { 1 };
                (0..ends).for_each(|_| bytes.extend_from_slice(b"0\r\n\r\n"));
            }
        }
        bytes
    }
}

/// How the body of an answer is sent.
#[derive(Clone, Copy)]
pub enum Body {
    /// Not at all.
    None,
    /// In chunks, as the scenario says.
    Usual,
    /// In this way.
    Framed(Framing),
}

/// The CRC of gzip (RFC 1952, section 8).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        303 => "See Other",
        401 => "Authorization Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] =
        b"POST /remote/logincheck?x=1 HTTP/1.1\r\nHost: gw\r\nCookie: A=1; SVPNCOOKIE=ab/c==%0a\r\n\
        Content-Length: 46\r\n\r\nusername=alice&credential=p%40ss%2Bw+rd&ajax=1GET /";

    #[test]
    fn reads_a_request_and_leaves_the_rest() {
        let (request, len) = Request::parse(POST).unwrap().unwrap();
        assert_eq!(&POST[len..], b"GET /");
        assert_eq!((request.method.as_str(), request.path()), ("POST", "/remote/logincheck"));
        assert_eq!(request.cookie("SVPNCOOKIE"), Some("ab/c==%0a"), "cookies are verbatim");
        let form = request.form().unwrap();
        assert_eq!(field(&form, "credential"), "p@ss+w+rd", "a plus is a plus");
        for cut in 0..len {
            assert!(Request::parse(&POST[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let kept = format!("{:?}", request.without_secrets());
        assert!(!kept.contains("p@ss") && !kept.contains("ab/c"), "{kept}");
    }

    #[test]
    fn decoders_are_strict() {
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert_eq!(parse_form(bad), None, "{bad}");
        }
        let json = parse_json(r#"{ "username": "alice", "credential":"a\"b" }"#).unwrap();
        assert_eq!((field(&json, "username"), field(&json, "credential")), ("alice", "a\"b"));
        assert_eq!(parse_json("{1:2}"), None);
        assert!(Request::parse(&vec![b'A'; HEAD_LIMIT + 1]).is_err());
        assert!(Request::parse(b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n").is_err());
        assert_eq!(percent_encode("a b/ü"), "a%20b%2F%C3%BC");
    }

    #[test]
    fn compression_has_the_right_checksum() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let mut response = Response::new(200, "text/plain", "ret=1");
        response.compress();
        assert_eq!(response.body[10..15], [1, 5, 0, 0xfa, 0xff]);
        assert_eq!(response.body.len(), 10 + 5 + 5 + 8);
    }

    #[test]
    fn chunks_are_padded_but_the_last() {
        let response = Response::new(200, "text/plain", "ret=1");
        let (head, body) = response.emit(&Scenario::default(), Body::Usual);
        let text = String::from_utf8([head, body].concat()).unwrap();
        assert!(text.ends_with("\r\n\r\n5     \r\nret=1\r\n0\r\n\r\n"), "{text}");
    }
}
