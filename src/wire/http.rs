//! As much of HTTP/1.1 as a FortiGate needs: a request writer, and a reader for one response that forgives what
//! FortiGates do (chunk sizes padded with spaces, a doubled last chunk, no body length at all).

use std::fmt;

/// Limit for status line and headers, in octets.
pub const MAX_HEAD: usize = 32 * 1024;
/// Limit for the number of header lines.
pub const MAX_HEADERS: usize = 100;
/// Limit for a body, in octets.
pub const MAX_BODY: usize = 1024 * 1024;
const MAX_CHUNK_LINE: usize = 64;
const MAX_TRAILER_LINE: usize = 4096;
/// What a gateway may leave behind a chunked body that it ended twice.
pub const STRAY_LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Status line or headers break the grammar.
    Head(httparse::Error),
    /// Status line and headers are longer than [`MAX_HEAD`].
    HeadTooLong,
    /// The body is longer than [`MAX_BODY`].
    BodyTooLong,
    /// Content-Length is no number, or is there twice with different values.
    ContentLength,
    /// A chunk size is no number, or its line has no end.
    ChunkSize,
    /// The body is compressed though nobody asked for that.
    Encoded,
    /// The connection ended in the middle of the response.
    Truncated,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(error) => write!(f, "HTTP head breaks the grammar: {error}"),
            Self::HeadTooLong => write!(f, "HTTP head is longer than {MAX_HEAD} octets"),
            Self::BodyTooLong => write!(f, "HTTP body is longer than {MAX_BODY} octets"),
            Self::ContentLength => f.write_str("HTTP Content-Length is not one number"),
            Self::ChunkSize => f.write_str("HTTP chunk size is not a number"),
            Self::Encoded => f.write_str("HTTP body is compressed though that was not asked for"),
            Self::Truncated => f.write_str("connection ended inside an HTTP response"),
        }
    }
}

impl std::error::Error for Error {}

/// Appends `text` percent-encoded: all but the unreserved characters of RFC 3986 (a space is `%20`).
pub fn percent_encode(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: [u8; 16] = *b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or_default();
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte);
        } else {
            out.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// The octets that `text` stands for in a URL, in one allocation. What is no escape stands for itself.
pub fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = match (first, behind) {
            (b'%', [high, low, after @ ..]) => digit(*high).zip(digit(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        match escaped {
            Some(((high, low), after)) => {
                out.push(high << 4 | low);
                rest = after;
            }
            None => {
                out.push(first);
                rest = behind;
            }
        }
    }
    out
}

/// A body of `application/x-www-form-urlencoded` from names (as they are) and values (encoded here).
pub fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    // Enough for every value encoded whole: a growing vector would leave copies of a password behind.
    let room = fields.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut out = Vec::with_capacity(room);
    for (name, value) in fields {
        if !out.is_empty() {
            out.push(b'&');
        }
        out.extend(name.as_bytes());
        out.push(b'=');
        percent_encode(&mut out, value);
    }
    out
}

/// A request of ours. GET where there is no form, POST where there is one. FortiOS 7.4.4 closes the connection on
/// a GET with a length, so a GET has none.
pub struct Request<'a> {
    /// Path and query, already encoded.
    pub target: &'a str,
    /// Value of `Host`.
    pub host: &'a str,
    /// Value of `User-Agent`.
    pub user_agent: &'a str,
    /// Name and value of the cookie to send.
    pub cookie: Option<(&'a str, &'a [u8])>,
    /// Body made by [`form`].
    pub form: Option<&'a [u8]>,
}

impl Request<'_> {
    /// The request as bytes.
    pub fn emit(&self) -> Vec<u8> {
        let body_len = self.form.map_or(0, <[u8]>::len);
        let cookie_len = self.cookie.map_or(0, |(name, value)| name.len() + value.len());
        let fixed = 256 + self.target.len() + self.host.len() + self.user_agent.len();
        let mut out = Vec::with_capacity(fixed + cookie_len + body_len);
        let method = if self.form.is_some() { "POST" } else { "GET" };
        for part in
            [method, " ", self.target, " HTTP/1.1\r\nHost: ", self.host, "\r\nUser-Agent: ", self.user_agent]
        {
            out.extend(part.as_bytes());
        }
        out.extend(b"\r\nAccept: */*\r\n");
        if let Some((name, value)) = self.cookie {
            for part in [b"Cookie: ", name.as_bytes(), b"=", value, b"\r\n"] {
                out.extend(part);
            }
        }
        if let Some(form) = self.form {
            out.extend(b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: ");
            out.extend(form.len().to_string().as_bytes());
            out.extend(b"\r\n\r\n");
            out.extend(form);
        } else {
            out.extend(b"\r\n");
        }
        out
    }
}

/// Status and headers of a response. `Debug` shows no header, because cookies are among them.
pub struct Head {
    /// Status code.
    pub status: u16,
    /// True if the connection may carry another request after this response.
    pub keep_alive: bool,
    headers: Vec<(String, Vec<u8>)>,
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head {{ status: {}, headers: {} [redacted] }}", self.status, self.headers.len())
    }
}

impl Head {
    /// Parses a head at the front of `bytes`; gives it with its length, or `None` if its end is not there yet.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Error> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let mut config = httparse::ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(true).ignore_invalid_headers_in_responses(true);
        let window = bytes.get(..MAX_HEAD).unwrap_or(bytes);
        match config.parse_response(&mut response, window).map_err(Error::Head)? {
            httparse::Status::Partial if bytes.len() >= MAX_HEAD => Err(Error::HeadTooLong),
            httparse::Status::Partial => Ok(None),
            httparse::Status::Complete(len) => {
                let headers: Vec<_> = response
                    .headers
                    .iter()
                    .map(|h| (h.name.to_ascii_lowercase(), h.value.trim_ascii().to_vec()))
                    .collect();
                let mut head = Self { status: response.code.unwrap_or(0), keep_alive: false, headers };
                let connection = head.header("connection").unwrap_or_default();
                head.keep_alive = match response.version {
                    Some(1) => !connection.eq_ignore_ascii_case(b"close"),
                    _ => connection.eq_ignore_ascii_case(b"keep-alive"),
                };
                Ok(Some((head, len)))
            }
        }
    }

    /// The first header of this name (given in lower case), trimmed.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    /// All headers of this name (given in lower case), in their order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_slice())
    }

    /// True if the response says how long its body is.
    pub fn is_framed(&self) -> bool {
        !matches!(self.framing(), Ok(Framing::UntilClose))
    }

    fn framing(&self) -> Result<Framing, Error> {
        if matches!(self.status, 100..=199 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        if self
            .header("content-encoding")
            .is_some_and(|v| !v.is_empty() && !v.eq_ignore_ascii_case(b"identity"))
        {
            return Err(Error::Encoded);
        }
        if self.all("transfer-encoding").any(|v| v.to_ascii_lowercase().ends_with(b"chunked")) {
            return Ok(Framing::Chunked(Chunk::Size));
        }
        let mut lengths = self.all("content-length");
        let Some(first) = lengths.next() else {
            return Ok(Framing::UntilClose);
        };
        if lengths.any(|other| other != first) {
            return Err(Error::ContentLength);
        }
        let length = std::str::from_utf8(first).ok().and_then(|text| text.parse().ok());
        match length.ok_or(Error::ContentLength)? {
            length if length > MAX_BODY => Err(Error::BodyTooLong),
            length => Ok(Framing::Length(length)),
        }
    }
}

/// A whole response. `Debug` shows neither headers nor body.
#[derive(Debug)]
pub struct Response {
    /// Status and headers.
    pub head: Head,
    /// The decoded body.
    pub body: Body,
}

/// The decoded body of a response; `Debug` shows its length only.
#[derive(Default)]
pub struct Body(Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} octets]", self.0.len())
    }
}

impl std::ops::Deref for Body {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

enum Framing {
    Length(usize),
    Chunked(Chunk),
    UntilClose,
}

/// Where in a chunked body we are.
enum Chunk {
    Size,
    Data(usize),
    /// The line end behind the data.
    DataEnd,
    /// Behind the last chunk: lines up to an empty one.
    Trailer,
}

/// Reads one response from pieces of any size.
#[derive(Default)]
pub struct ResponseReader {
    /// What is not decoded yet: the head, or a line of the chunked coding.
    pending: Vec<u8>,
    head: Option<(Head, Framing)>,
    body: Body,
    touched: bool,
}

impl ResponseReader {
    /// A reader that waits for a status line.
    pub fn new() -> Self {
        Self::default()
    }

    /// True once a byte of the response has come.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// True once status and headers are there.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Takes in bytes. Gives the response when its end is there; bytes behind the end are thrown away.
    pub fn handle_bytes(&mut self, mut bytes: &[u8]) -> Result<Option<Response>, Error> {
        self.touched |= !bytes.is_empty();
        if self.head.is_none() {
            self.handle_head(&mut bytes)?;
        }
        let complete = match &mut self.head {
            Some((_, framing)) => framing.decode(&mut bytes, &mut self.pending, &mut self.body.0)?,
            None => false,
        };
        Ok(if complete { self.take() } else { None })
    }

    /// The connection has ended: gives the response if that is what ends it.
    pub fn handle_end(&mut self) -> Result<Response, Error> {
        match &self.head {
            Some((_, Framing::UntilClose)) => self.take().ok_or(Error::Truncated),
            _ => Err(Error::Truncated),
        }
    }

    fn take(&mut self) -> Option<Response> {
        let (head, _) = self.head.take()?;
        Some(Response { head, body: std::mem::take(&mut self.body) })
    }

    fn handle_head(&mut self, bytes: &mut &[u8]) -> Result<(), Error> {
        // Parse only when the end of a line comes, so that a dribbled head does not cost its length squared.
        loop {
            let line = match bytes.iter().position(|&b| b == b'\n') {
                Some(end) => end + 1,
                None => bytes.len(),
            };
            let (piece, rest) = bytes.split_at_checked(line).unwrap_or((bytes, &[]));
            self.pending.extend(piece);
            *bytes = rest;
            if self.pending == STRAY_LAST_CHUNK {
                self.pending.clear();
                continue;
            }
            let ended = self.pending.ends_with(b"\n\r\n") || self.pending.ends_with(b"\n\n");
            if ended && let Some((head, _)) = Head::parse(&self.pending)? {
                self.pending.clear();
                if !(100..200).contains(&head.status) {
                    let framing = head.framing()?;
                    self.head = Some((head, framing));
                    return Ok(());
                }
            }
            if self.pending.len() > MAX_HEAD {
                return Err(Error::HeadTooLong);
            }
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }
}

impl Framing {
    /// Decodes from the front of `bytes`; true at the end of the body.
    fn decode(&mut self, bytes: &mut &[u8], line: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<bool, Error> {
        match self {
            Self::Length(left) => {
                *left -= copy(bytes, *left, body)?;
                Ok(*left == 0)
            }
            Self::UntilClose => {
                copy(bytes, bytes.len(), body)?;
                Ok(false)
            }
            Self::Chunked(chunk) => chunk.decode(bytes, line, body),
        }
    }
}

impl Chunk {
    fn decode(&mut self, bytes: &mut &[u8], line: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            if let Self::Data(left) = self {
                *left -= copy(bytes, *left, body)?;
                if *left > 0 {
                    return Ok(false);
                }
                *self = Self::DataEnd;
            }
            let limit = if matches!(self, Self::Trailer) { MAX_TRAILER_LINE } else { MAX_CHUNK_LINE };
            if !take_line(bytes, line, limit)? {
                return Ok(false);
            }
            let text = line.trim_ascii();
            match self {
                Self::Size => match chunk_size(text)? {
                    0 => *self = Self::Trailer,
                    size if size > MAX_BODY.saturating_sub(body.len()) => return Err(Error::BodyTooLong),
                    size => *self = Self::Data(size),
                },
                Self::DataEnd if text.is_empty() => *self = Self::Size,
                Self::DataEnd => return Err(Error::ChunkSize),
                Self::Trailer if text.is_empty() => {
                    line.clear();
                    return Ok(true);
                }
                Self::Trailer | Self::Data(_) => {}
            }
            line.clear();
        }
    }
}

/// Hexadecimal digits, then perhaps padding or an extension.
fn chunk_size(text: &[u8]) -> Result<usize, Error> {
    let digits = text.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Error::ChunkSize);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Error::ChunkSize)?;
    usize::from_str_radix(digits, 16).map_err(|_| Error::ChunkSize)
}

/// Moves up to `len` octets to the body; gives how many.
fn copy(bytes: &mut &[u8], len: usize, body: &mut Vec<u8>) -> Result<usize, Error> {
    let (piece, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
    if body.len() + piece.len() > MAX_BODY {
        return Err(Error::BodyTooLong);
    }
    body.extend(piece);
    *bytes = rest;
    Ok(piece.len())
}

/// Gathers one line, with its end, in `line`; false if its end has not come yet.
fn take_line(bytes: &mut &[u8], line: &mut Vec<u8>, limit: usize) -> Result<bool, Error> {
    let end = bytes.iter().position(|&b| b == b'\n');
    let len = end.map_or(bytes.len(), |end| end + 1);
    if line.len() + len > limit {
        return Err(Error::ChunkSize);
    }
    let (piece, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
    line.extend(piece);
    *bytes = rest;
    Ok(end.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_the_rest_stays() {
        for (text, octets) in [
            ("", &b""[..]),
            ("a%2A%40b", b"a*@b"),
            ("%2B49+1", b"+49+1"),
            ("100%", b"100%"),
            ("%zz%4", b"%zz%4"),
            ("%+1%-1", b"%+1%-1"),
            ("%c3%A9%00%25%41", b"\xc3\xa9\0%A"),
        ] {
            assert_eq!(percent_decode(text.as_bytes()), octets, "{text}");
        }
        let all: Vec<u8> = (0..=255).collect();
        let mut encoded = Vec::new();
        percent_encode(&mut encoded, &all);
        assert_eq!(percent_decode(&encoded), all);
    }

    fn read(pieces: &[&[u8]]) -> Result<Option<Response>, Error> {
        let mut reader = ResponseReader::new();
        for piece in pieces {
            if let Some(response) = reader.handle_bytes(piece)? {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    fn body_of(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        read(&[bytes]).map(|r| r.expect("complete").body.to_vec())
    }

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nSet-Cookie:  A=1\r\nTransfer-Encoding: Chunked\r\n\r\n\
        4    \r\nWiki\r\n0E;x=y\r\n in\r\n\r\nchunks.\r\n0\r\n\r\n0\r\n\r\n";

    #[test]
    fn framings() {
        let ok: &[(&[u8], &[u8])] = &[
            (CHUNKED, b"Wiki in\r\n\r\nchunks."),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcstray", b"abc"),
            (b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", b""),
            (b"0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", b"x"),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", b""),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0  \r\nTrailer: y\r\n\r\n",
                b"x",
            ),
        ];
        for (bytes, body) in ok {
            assert_eq!(body_of(bytes).as_deref(), Ok(*body), "{}", String::from_utf8_lossy(bytes));
        }
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let long = format!("{chunked}{}", "0".repeat(65));
        let head = "HTTP/1.1 200 OK\r\n";
        for (bytes, error) in [
            (format!("{chunked}xyz\r\n"), Error::ChunkSize),
            (format!("{chunked}\r\n"), Error::ChunkSize),
            (format!("{chunked}-1\r\n"), Error::ChunkSize),
            (format!("{chunked}fffffffff\r\n"), Error::ChunkSize),
            (format!("{chunked}ffffffff\r\n"), Error::BodyTooLong),
            (format!("{chunked}1\r\nxy\r\n"), Error::ChunkSize),
            (long, Error::ChunkSize),
            (format!("{head}Content-Length: 9999999\r\n\r\n"), Error::BodyTooLong),
            (format!("{head}Content-Length: -1\r\n\r\n"), Error::ContentLength),
            (format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), Error::ContentLength),
            (format!("{head}Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\n"), Error::Encoded),
            (format!("{head}X: {}", "y".repeat(MAX_HEAD)), Error::HeadTooLong),
            (format!("{head}{}\r\n", "X: y\r\n".repeat(101)), Error::Head(httparse::Error::TooManyHeaders)),
        ] {
            assert_eq!(read(&[bytes.as_bytes()]).err(), Some(error), "{bytes:.80}");
        }
    }

    #[test]
    fn until_close_and_truncated() {
        let mut reader = ResponseReader::new();
        assert!(reader.handle_bytes(b"HTTP/1.1 200 OK\r\n\r\nab").unwrap().is_none());
        assert!(reader.handle_bytes(b"c").unwrap().is_none());
        assert_eq!(&*reader.handle_end().unwrap().body, b"abc");
        for bytes in
            [&b""[..], b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", &CHUNKED[..90]]
        {
            let mut reader = ResponseReader::new();
            assert!(reader.handle_bytes(bytes).unwrap().is_none());
            assert_eq!(reader.handle_end().err(), Some(Error::Truncated));
        }
    }

    #[test]
    fn any_split_gives_the_same_response() {
        for at in 0..CHUNKED.len() {
            let response = read(&[&CHUNKED[..at], &CHUNKED[at..]]).unwrap().unwrap();
            assert_eq!(&*response.body, b"Wiki in\r\n\r\nchunks.", "split at {at}");
        }
        let single: Vec<&[u8]> = CHUNKED.chunks(1).collect();
        assert_eq!(&*read(&single).unwrap().unwrap().body, b"Wiki in\r\n\r\nchunks.");
    }

    #[test]
    fn flips_do_not_panic() {
        for i in 0..CHUNKED.len() {
            for flip in [0x01, 0x20, 0x80, 0xff] {
                let mut bytes = CHUNKED.to_vec();
                bytes[i] ^= flip;
                let mut reader = ResponseReader::new();
                if let Ok(None) = reader.handle_bytes(&bytes) {
                    let _ = reader.handle_end();
                }
            }
        }
    }

    #[test]
    fn headers_and_keep_alive() {
        let parse = |text: &str| Head::parse(text.as_bytes()).unwrap().unwrap().0;
        let head = parse("HTTP/1.1 200 OK\r\nset-cookie:  A=1 \r\nSet-Cookie: B\r\n\r\n");
        assert_eq!(head.all("set-cookie").collect::<Vec<_>>(), [&b"A=1"[..], b"B"]);
        assert!(head.keep_alive && !head.is_framed());
        assert!(!format!("{head:?}").contains("A=1"));
        assert!(!parse("HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n").keep_alive);
        assert!(!parse("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").keep_alive);
    }

    #[test]
    fn forms_are_strict() {
        let body = form(&[("username", "ä b".as_bytes()), ("credential", b"p@ss+w&=%~-_.9")]);
        assert_eq!(body, b"username=%C3%A4%20b&credential=p%40ss%2Bw%26%3D%25~-_.9");
    }

    #[test]
    fn requests() {
        let base = Request {
            target: "/x",
            host: "gw:10443",
            user_agent: "UA",
            cookie: Some(("SVPNCOOKIE", b"a+/=%0a")),
            form: None,
        };
        let get = "GET /x HTTP/1.1\r\nHost: gw:10443\r\nUser-Agent: UA\r\nAccept: */*\r\nCookie: SVPNCOOKIE=a+/=%0a\r\n\r\n";
        assert_eq!(String::from_utf8(base.emit()).unwrap(), get);
        let post = Request { form: Some(b"a=b"), cookie: None, ..base }.emit();
        assert!(post.starts_with(b"POST /x HTTP/1.1\r\n"));
        assert!(post.ends_with(b"\r\nContent-Length: 3\r\n\r\na=b"));
    }
}
