//! What is said to a proxy until it is a wire to the gateway: HTTP CONNECT (RFC 9110 section 9.3.6) with Basic
//! authentication, and SOCKS 5 (RFC 1928) with a user name and password (RFC 1929). No I/O here.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::Secret;
use crate::engine::transport::{Authority, Proxy, ProxyKind};

/// Largest answer to CONNECT.
const MAX_HEAD: usize = 16 << 10;
/// Header lines in one.
const MAX_HEADERS: usize = 64;

const SOCKS: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_PASSWORD: u8 = 2;
/// Version of the user name and password exchange.
const SUBNEGOTIATION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

/// Why there is no way through the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It wants to know who we are.
    WantsUser,
    /// It does not accept who we say we are.
    BadUser,
    /// It wants to know who we are in another way than ours.
    Method,
    /// HTTP status other than 2xx.
    Status(u16),
    /// SOCKS reply other than 0.
    Reply(u8),
    /// It does not speak this protocol.
    NotThisProtocol,
    /// Its answer never ends.
    TooLong,
    /// User name, password or host do not fit into the protocol.
    Unsendable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WantsUser => "the proxy wants a user name and a password",
            Self::BadUser => "the proxy refuses the user name or the password; it was not tried again: start again with the right ones",
            Self::Method => "the proxy wants another way to sign in than a user name and a password",
            Self::Status(403 | 405) | Self::Reply(2) => {
                "the proxy does not allow connections to the gateway: ask its administrator to allow host and port"
            }
            Self::Status(502..=504) | Self::Reply(1) => "the proxy cannot reach the gateway",
            Self::Status(status) => return write!(f, "the proxy answers with status {status}"),
            Self::Reply(3) => "the proxy has no route to the gateway's network",
            Self::Reply(4) => "the proxy cannot reach or resolve the gateway's host",
            Self::Reply(5) => "the gateway refused the proxy's connection",
            Self::Reply(6) => "the proxy's connection to the gateway took too long",
            Self::Reply(7 | 8) => "the proxy does not support connections to this kind of address",
            Self::Reply(code) => return write!(f, "the proxy answers with code {code}"),
            Self::NotThisProtocol => "the proxy does not speak this protocol: check its scheme and port",
            Self::TooLong => "the proxy's answer does not end",
            Self::Unsendable => "the user name or password for the proxy, or the gateway's name, is too long or has odd characters",
        })
    }
}

/// The dialogue with a proxy.
#[derive(Debug)]
pub struct Dialogue {
    state: State,
    user: Option<(String, Secret)>,
    host: String,
    port: u16,
    input: Vec<u8>,
    output: Option<Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// CONNECT was sent.
    Http,
    /// Methods were offered.
    Method,
    /// User name and password were sent.
    User,
    /// The connection was asked for.
    Reply,
}

impl Dialogue {
    /// A dialogue with `proxy` that leads to `host` (without brackets) and `port`.
    pub fn new(proxy: &Proxy, host: &str, port: u16) -> Result<Self, Refusal> {
        let user = proxy.user.clone();
        let (state, output) = match proxy.kind {
            ProxyKind::Http => (State::Http, http_connect(host, port, user.as_ref())?),
            ProxyKind::Socks5 if user.is_some() => {
                (State::Method, Secret::new(vec![SOCKS, 2, NO_AUTHENTICATION, USER_PASSWORD]))
            }
            ProxyKind::Socks5 => (State::Method, Secret::new(vec![SOCKS, 1, NO_AUTHENTICATION])),
        };
        Ok(Self { state, user, host: host.to_owned(), port, input: Vec::new(), output: Some(output) })
    }

    /// What to send.
    pub fn poll_output(&mut self) -> Option<Secret> {
        self.output.take()
    }

    /// What the proxy said, in pieces of any size. Gives what came behind the last answer once the way is free: that
    /// is the gateway's.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        self.input.extend_from_slice(bytes);
        loop {
            let (used, free) = match self.state {
                State::Http => self.handle_head()?,
                _ => self.handle_reply()?,
            };
            self.input.drain(..used);
            if free {
                return Ok(Some(std::mem::take(&mut self.input)));
            }
            if used == 0 {
                return Ok(None);
            }
        }
    }

    /// The octets that are dealt with, and whether the way is free.
    fn handle_head(&mut self) -> Result<(usize, bool), Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let used = match head.parse(&self.input) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) if self.input.len() <= MAX_HEAD => return Ok((0, false)),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(Refusal::TooLong);
            }
            Err(_) => return Err(Refusal::NotThisProtocol),
        };
        match head.code.unwrap_or_default() {
            100..=199 => Ok((used, false)),
            200..=299 => Ok((used, true)),
            // Some say 401 to a wrong password.
            401 | 407 if self.user.is_some() => Err(Refusal::BadUser),
            407 => Err(Refusal::WantsUser),
            status => Err(Refusal::Status(status)),
        }
    }

    fn handle_reply(&mut self) -> Result<(usize, bool), Refusal> {
        match (self.state, self.input.as_slice()) {
            (State::Method, &[SOCKS, NO_AUTHENTICATION, ..]) => {
                self.output = Some(self.socks_connect()?);
                self.state = State::Reply;
                Ok((2, false))
            }
            (State::Method, &[SOCKS, USER_PASSWORD, ..]) => {
                self.output = Some(self.socks_user()?);
                self.state = State::User;
                Ok((2, false))
            }
            (State::Method, &[SOCKS, ..]) if self.input.len() >= 2 => {
                Err(if self.user.is_some() { Refusal::Method } else { Refusal::WantsUser })
            }
            (State::User, &[SUBNEGOTIATION, 0, ..]) => {
                self.output = Some(self.socks_connect()?);
                self.state = State::Reply;
                Ok((2, false))
            }
            (State::User, &[SUBNEGOTIATION, _, ..]) => Err(Refusal::BadUser),
            (State::Reply, &[SOCKS, code, ..]) if code != 0 => Err(Refusal::Reply(code)),
            (State::Reply, &[SOCKS, _, _, kind, first, ..]) => {
                let address = match kind {
                    IPV4 => 4,
                    IPV6 => 16,
                    DOMAIN => 1 + usize::from(first),
                    _ => return Err(Refusal::NotThisProtocol),
                };
                let len = 4 + address + 2;
                Ok(if self.input.len() >= len { (len, true) } else { (0, false) })
            }
            (State::Method | State::Reply, &[version, ..]) if version != SOCKS => {
                Err(Refusal::NotThisProtocol)
            }
            (State::User, &[version, ..]) if version != SUBNEGOTIATION => Err(Refusal::NotThisProtocol),
            _ => Ok((0, false)),
        }
    }

    fn socks_user(&self) -> Result<Secret, Refusal> {
        let (user, password) = self.user.as_ref().ok_or(Refusal::NotThisProtocol)?;
        let mut message = Vec::with_capacity(3 + user.len() + password.len());
        message.push(SUBNEGOTIATION);
        for field in [user.as_bytes(), password.expose()] {
            message.push(u8::try_from(field.len()).map_err(|_| Refusal::Unsendable)?);
            message.extend_from_slice(field);
        }
        Ok(Secret::new(message))
    }

    fn socks_connect(&self) -> Result<Secret, Refusal> {
        let mut message = vec![SOCKS, CONNECT, 0];
        match self.host.parse() {
            Ok(IpAddr::V4(address)) => {
                message.push(IPV4);
                message.extend(address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                message.push(IPV6);
                message.extend(address.octets());
            }
            Err(_) => {
                message.extend([DOMAIN, u8::try_from(self.host.len()).map_err(|_| Refusal::Unsendable)?]);
                message.extend_from_slice(self.host.as_bytes());
            }
        }
        message.extend(self.port.to_be_bytes());
        Ok(Secret::new(message))
    }
}

fn http_connect(host: &str, port: u16, user: Option<&(String, Secret)>) -> Result<Secret, Refusal> {
    // No line break may get into the head; a colon would end the user name early.
    if host.contains(|c: char| c.is_control() || c == ' ') {
        return Err(Refusal::Unsendable);
    }
    let target = Authority(host, port);
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some((user, password)) = user {
        if user.contains(':') {
            return Err(Refusal::Unsendable);
        }
        let pair = Secret::new([user.as_bytes(), b":", password.expose()].concat());
        let encoded = Secret::new(STANDARD.encode(pair.expose()).into_bytes());
        // Room for all of it: no copy is left behind by a growing vector.
        head.reserve_exact(64 + encoded.len());
        head.extend_from_slice(b"Proxy-Authorization: Basic ");
        head.extend_from_slice(encoded.expose());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Ok(Secret::new(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(kind: ProxyKind, user: Option<(&str, &str)>) -> Proxy {
        let user = user.map(|(user, password)| (user.to_owned(), Secret::from(password.as_bytes())));
        Proxy { kind, host: "proxy.example".into(), port: 3128, user }
    }

    /// Plays `script` (what we say, what the proxy answers) with the answers cut into pieces of `piece` octets.
    fn play(
        proxy: &Proxy,
        host: &str,
        script: &[(&[u8], &[u8])],
        piece: usize,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let mut dialogue = Dialogue::new(proxy, host, 10443)?;
        let mut rest = None;
        for (said, answer) in script {
            let output = dialogue.poll_output().unwrap();
            assert_eq!(output.expose(), *said, "{:?}", String::from_utf8_lossy(output.expose()));
            for bytes in answer.chunks(piece) {
                match &mut rest {
                    None => rest = dialogue.handle_bytes(bytes)?,
                    Some(rest) => rest.extend_from_slice(bytes),
                }
            }
        }
        assert!(dialogue.poll_output().is_none());
        Ok(rest)
    }

    #[test]
    fn http_connect_however_it_is_cut() {
        let plain = b"CONNECT vpn.example:10443 HTTP/1.1\r\nHost: vpn.example:10443\r\n\r\n".as_slice();
        let with_user = b"CONNECT [::1]:10443 HTTP/1.1\r\nHost: [::1]:10443\r\n\
                          Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
        let user = Some(("Aladdin", "open sesame"));
        let answer =
            b"HTTP/1.1 103 Wait\r\n\r\nHTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n\x16\x03early";
        for piece in 1..=answer.len() {
            let rest = play(&proxy(ProxyKind::Http, None), "vpn.example", &[(plain, answer)], piece);
            assert_eq!(rest, Ok(Some(b"\x16\x03early".to_vec())), "pieces of {piece}");
            let rest = play(&proxy(ProxyKind::Http, user), "::1", &[(with_user, answer)], piece);
            assert_eq!(rest, Ok(Some(b"\x16\x03early".to_vec())), "pieces of {piece}");
        }
    }

    #[test]
    fn http_answers_that_are_no_way() {
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'a'; MAX_HEAD]].concat();
        let headers = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"A: b\r\n".repeat(MAX_HEADERS + 1)].concat();
        for (answer, user, refusal) in [
            (b"HTTP/1.1 407 Who\r\n\r\n".as_slice(), None, Refusal::WantsUser),
            (b"HTTP/1.0 407 Who\r\n\r\n", Some(("a", "b")), Refusal::BadUser),
            (b"HTTP/1.0 401 Who\r\n\r\n", Some(("a", "b")), Refusal::BadUser),
            (b"HTTP/1.1 403 No\r\n\r\n", None, Refusal::Status(403)),
            (b"HTTP/1.1 302 There\r\nLocation: /\r\n\r\n", None, Refusal::Status(302)),
            (b"SSH-2.0-OpenSSH\r\n", None, Refusal::NotThisProtocol),
            (b"\x05\x00", None, Refusal::NotThisProtocol),
            (&endless, None, Refusal::TooLong),
            (&headers, None, Refusal::TooLong),
        ] {
            let mut dialogue = Dialogue::new(&proxy(ProxyKind::Http, user), "h", 1).unwrap();
            assert_eq!(dialogue.handle_bytes(answer), Err(refusal));
        }
        let odd = proxy(ProxyKind::Http, Some(("a:b", "c")));
        assert_eq!(Dialogue::new(&odd, "h", 1).unwrap_err(), Refusal::Unsendable);
        let plain = proxy(ProxyKind::Http, None);
        assert_eq!(Dialogue::new(&plain, "h\r\nX: y", 1).unwrap_err(), Refusal::Unsendable);
    }

    #[test]
    fn socks_however_it_is_cut() {
        let name = b"\x05\x01\x00\x03\x0bvpn.example\x28\xcb".as_slice();
        let four = b"\x05\x01\x00\x01\xc0\x00\x02\x01\x28\xcb".as_slice();
        let six = b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x28\xcb".as_slice();
        for (host, request) in [("vpn.example", name), ("192.0.2.1", four), ("2001:db8::1", six)] {
            for bound in [
                b"\x05\x00\x00\x01\0\0\0\0\0\0early".as_slice(),
                b"\x05\x00\x00\x03\x04host\0\0early",
                b"\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0early",
            ] {
                for piece in 1..=bound.len() {
                    let open = [(b"\x05\x01\x00".as_slice(), b"\x05\x00".as_slice()), (request, bound)];
                    let rest = play(&proxy(ProxyKind::Socks5, None), host, &open, piece);
                    assert_eq!(rest, Ok(Some(b"early".to_vec())));
                    let guarded = [
                        (b"\x05\x02\x00\x02".as_slice(), b"\x05\x02".as_slice()),
                        (b"\x01\x05alice\x02pw", b"\x01\x00"),
                        (request, bound),
                    ];
                    let rest = play(&proxy(ProxyKind::Socks5, Some(("alice", "pw"))), host, &guarded, piece);
                    assert_eq!(rest, Ok(Some(b"early".to_vec())));
                }
            }
        }
    }

    #[test]
    fn socks_answers_that_are_no_way() {
        for (answer, user, refusal) in [
            (b"\x05\xff".as_slice(), None, Refusal::WantsUser),
            (b"\x05\xff", Some(("a", "b")), Refusal::Method),
            (b"\x05\x02", None, Refusal::NotThisProtocol),
            (b"\x05\x02\x01\x01", Some(("a", "b")), Refusal::BadUser),
            (b"\x05\x02\x05\x00", Some(("a", "b")), Refusal::NotThisProtocol),
            (b"HTTP/1.1 400", None, Refusal::NotThisProtocol),
            (b"\x05\x00\x05\x05", None, Refusal::Reply(5)),
            (b"\x05\x00\x05\x00\x00\x09\x00", None, Refusal::NotThisProtocol),
            (b"\x05\x00HT", None, Refusal::NotThisProtocol),
        ] {
            let mut dialogue = Dialogue::new(&proxy(ProxyKind::Socks5, user), "h", 1).unwrap();
            assert_eq!(dialogue.handle_bytes(answer), Err(refusal), "{answer:02x?}");
        }
        let long = "a".repeat(256);
        let mut dialogue = Dialogue::new(&proxy(ProxyKind::Socks5, Some((&long, "b"))), "h", 1).unwrap();
        assert_eq!(dialogue.handle_bytes(b"\x05\x02"), Err(Refusal::Unsendable));
    }
}
