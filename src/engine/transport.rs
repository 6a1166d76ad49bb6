//! How the FortiGate is reached and recognised: what a person can say about it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::crypto::Secret;

/// How the FortiGate is reached and recognised.
#[derive(Debug, Default)]
pub struct Transport {
    /// Authorities to trust beside the usual ones.
    pub roots: Vec<CertificateDer<'static>>,
    /// Certificates that are trusted whatever they say; where there are any, nothing else is.
    pub pins: Vec<Pin>,
    /// The name to ask for in TLS and to look for in the certificate, where it is not that of the host.
    pub server_name: Option<ServerName<'static>>,
    /// Where to connect to (the gateway, or the proxy); the name service is asked when there is nothing here.
    pub addresses: Vec<IpAddr>,
    /// Our certificate towards the gateway.
    pub client: Option<ClientCertificate>,
    /// The proxy on the way.
    pub proxy: Option<Proxy>,
    /// Send something through the tunnel after so long without traffic, against the gateway's idle timeout.
    pub keepalive: Option<Duration>,
}

/// A certificate of the gateway that a person has checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// SHA-256 of the whole certificate (`sha256:` and 64 hexadecimal digits).
    Certificate([u8; 32]),
    /// SHA-256 of its SubjectPublicKeyInfo (`pin-sha256:` and Base64), which survives a renewal with the same key.
    Key([u8; 32]),
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(digest) => {
                f.write_str("sha256:")?;
                digest.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
            Self::Key(digest) => write!(f, "pin-sha256:{}", STANDARD.encode(digest)),
        }
    }
}

impl FromStr for Pin {
    type Err = PinError;

    /// Also without `sha256:`, in upper case and with colons between the octets, as other tools print digests.
    fn from_str(text: &str) -> Result<Self, PinError> {
        if let Some(key) = text.strip_prefix("pin-sha256:") {
            let octets = STANDARD.decode(key).ok().and_then(|octets| octets.try_into().ok());
            return octets.map(Self::Key).ok_or(PinError::Key);
        }
        let digits = match text.split_at_checked("sha256:".len()) {
            Some((prefix, digits)) if prefix.eq_ignore_ascii_case("sha256:") => digits,
            _ => text,
        };
        parse_digest(digits).map(Self::Certificate).ok_or(PinError::Certificate)
    }
}

/// 32 octets from hexadecimal digits.
fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> =
        text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let octets: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    octets.try_into().ok()
}

/// Why a text is no [`Pin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinError {
    /// Not the digest of a certificate.
    Certificate,
    /// Not the digest of a key.
    Key,
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => {
                "a trusted certificate is `sha256:` and the 64 hexadecimal digits of its SHA-256, or `pin-sha256:` \
                 and the Base64 of its key's SHA-256"
            }
            Self::Key => "after `pin-sha256:` come the 44 Base64 characters of the SHA-256 of the public key",
        })
    }
}

impl std::error::Error for PinError {}

/// A TLS client certificate.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The certificate, then its intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// A proxy towards the gateway.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Its protocol.
    pub kind: ProxyKind,
    /// Host name or address; an IPv6 address has no brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name and password.
    pub user: Option<(String, Secret)>,
}

/// The protocol of a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT (RFC 9110 section 9.3.6).
    Http,
    /// SOCKS 5 (RFC 1928), with names resolved by the proxy.
    Socks5,
}

impl FromStr for Proxy {
    type Err = ProxyError;

    /// From `http://[user@]host:port` or `socks5://[user@]host:port`. The password is empty: it comes another way.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let (scheme, rest) = text.split_once("://").ok_or(ProxyError::Scheme)?;
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "http" => ProxyKind::Http,
            "socks5" | "socks5h" => ProxyKind::Socks5,
            _ => return Err(ProxyError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(ProxyError::Password);
        }
        let (host, port) = authority.rsplit_once(':').ok_or(ProxyError::Address)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(ProxyError::Address)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => host,
            None if is_host(host) => host,
            _ => return Err(ProxyError::Address),
        };
        let user = user.map(|user| (user.to_owned(), Secret::new(Vec::new())));
        Ok(Self { kind, host: host.to_owned(), port, user })
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// As it was given, without the user.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", Authority(&self.host, self.port))
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub struct Authority<'a>(pub &'a str, pub u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Why a text is no [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// Neither HTTP nor SOCKS 5.
    Scheme,
    /// No host and port.
    Address,
    /// It holds a password.
    Password,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "a proxy is given as http://host:port or socks5://host:port",
            Self::Address => "a proxy needs a host and a port, as in http://proxy.example:3128",
            Self::Password => {
                "leave the password out of the proxy's address, where everybody could see it in the list of \
                 processes; give it in a file"
            }
        })
    }
}

impl std::error::Error for ProxyError {}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn pins_in_every_form() {
        let mut colons = String::new();
        (0..32).for_each(|octet| write!(colons, "{octet:02X}:").unwrap());
        let colons = colons.trim_end_matches(':');
        let bare = colons.replace(':', "").to_lowercase();
        let digest: [u8; 32] = std::array::from_fn(|index| index as u8);
        for text in [format!("sha256:{bare}"), format!("SHA256:{colons}"), colons.to_owned(), bare.clone()] {
            assert_eq!(text.parse(), Ok(Pin::Certificate(digest)), "{text}");
        }
        for pin in [Pin::Certificate(digest), Pin::Key(digest)] {
            assert_eq!(pin.to_string().parse(), Ok(pin));
        }
        assert_eq!(Pin::Certificate(digest).to_string(), format!("sha256:{bare}"));
        for text in ["", "sha256:", &bare[1..], &format!("{bare}00"), "sha1:00", "é"] {
            assert_eq!(text.parse::<Pin>(), Err(PinError::Certificate), "{text}");
        }
        assert_eq!("pin-sha256:AAAA".parse::<Pin>(), Err(PinError::Key));
        assert_eq!(format!("pin-sha256:{bare}").parse::<Pin>(), Err(PinError::Key));
    }

    #[test]
    fn proxies_in_every_form() {
        for (text, kind, host, port, user) in [
            ("http://proxy.example:3128", ProxyKind::Http, "proxy.example", 3128, None),
            ("HTTP://10.0.0.1:80/", ProxyKind::Http, "10.0.0.1", 80, None),
            ("socks5://corp\\alice@[::1]:1080", ProxyKind::Socks5, "::1", 1080, Some("corp\\alice")),
            ("socks5h://a@b.example@c:1080", ProxyKind::Socks5, "c", 1080, Some("a@b.example")),
        ] {
            let proxy: Proxy = text.parse().unwrap();
            assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (kind, host, port), "{text}");
            assert_eq!(proxy.user.as_ref().map(|(user, _)| user.as_str()), user, "{text}");
        }
        for (text, error) in [
            ("proxy:3128", ProxyError::Scheme),
            ("https://proxy:3128", ProxyError::Scheme),
            ("http://proxy", ProxyError::Address),
            ("http://:3128", ProxyError::Address),
            ("http://proxy:0", ProxyError::Address),
            ("http://::1:3128", ProxyError::Address),
            ("http://[proxy]:3128", ProxyError::Address),
            ("http://pro xy:3128", ProxyError::Address),
            ("http://proxy:3128/path", ProxyError::Address),
            ("http://alice:secret@proxy:3128", ProxyError::Password),
        ] {
            assert_eq!(text.parse::<Proxy>().unwrap_err(), error, "{text}");
        }
        let proxy: Proxy = "socks5://alice@[::1]:1080".parse().unwrap();
        assert_eq!(proxy.to_string(), "socks5://[::1]:1080");
    }
}
