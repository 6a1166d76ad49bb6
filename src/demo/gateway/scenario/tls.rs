//! TLS: versions, certificates, and handshakes that fail.

use super::super::certificate::ServerCertificate;

/// How the gateway does TLS. The versions are `Scenario::tls12_only`'s matter.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsKnobs {
    /// The certificate; that of the gateway's configuration when `None`.
    pub certificate: Option<ServerCertificate>,
    /// Another certificate for connections that come after somebody has logged in.
    pub certificate_after_login: Option<ServerCertificate>,
    /// Whether clients are asked for a certificate.
    pub client_certificate: ClientCertificate,
    /// P-384 is the only group, which costs most clients a HelloRetryRequest in TLS 1.3.
    pub p384_only: bool,
    /// Session tickets that are sent after a TLS 1.3 handshake.
    pub tickets: usize,
    /// Do this in place of a handshake.
    pub handshake: Handshake,
    /// With so many connections only; always when `None`.
    pub handshake_times: Option<u32>,
}

impl Default for TlsKnobs {
    fn default() -> Self {
        Self {
            certificate: None,
            certificate_after_login: None,
            client_certificate: ClientCertificate::NotAsked,
            p384_only: false,
            tickets: 2,
            handshake: Handshake::Usual,
            handshake_times: None,
        }
    }
}

/// Whether clients are asked for a certificate of an authority (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// No.
    NotAsked,
    /// They may show one.
    Optional(String),
    /// They have to.
    Required(String),
}

/// What happens to a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// A handshake.
    Usual,
    /// Nothing: no byte comes.
    Silent,
    /// FIN at once.
    Close,
    /// RST after the ClientHello.
    Reset,
    /// A fatal alert of this description answers the ClientHello: 40 is `handshake_failure`, 70 `protocol_version`.
    Alert(u8),
    /// Plain HTTP answers the ClientHello.
    Plaintext,
}
