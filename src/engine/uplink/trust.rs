//! Whether a certificate is the gateway's: by the usual authorities and those of the settings, or by pins.
//!
//! A pin stands for everything that authorities vouch for otherwise: the certificate may be expired, for another name,
//! of an authority or of X.509 version 1. That the gateway has its key is proven in any case.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, PeerMisbehaved, RootCertStore};
use webpki::RawPublicKeyEntity;

use crate::crypto::Certificate;
use crate::crypto::hash::{constant_time_eq, sha256};
use crate::crypto::pki::subject_public_key_info;
use crate::engine::transport::{Pin, Transport};

/// How the gateway is recognised.
#[derive(Debug)]
pub struct Recognition {
    by: By,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum By {
    Authorities(Arc<WebPkiServerVerifier>),
    Pins(Vec<Pin>),
}

impl Recognition {
    /// By the pins of `transport` or, where it has none, by the usual authorities and its own.
    pub fn new(transport: &Transport, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let by = if transport.pins.is_empty() {
            let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            for certificate in &transport.roots {
                roots.add(certificate.clone())?;
            }
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            By::Authorities(verifier.map_err(|error| Error::General(error.to_string()))?)
        } else {
            By::Pins(transport.pins.clone())
        };
        Ok(Self { by, algorithms: provider.signature_verification_algorithms })
    }
}

impl ServerCertVerifier for Recognition {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.by {
            By::Authorities(verifier) => verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| untrusted(explain(&error, end_entity, server_name))),
            By::Pins(pins) if pins.iter().any(|pin| fits(pin, end_entity)) => {
                Ok(ServerCertVerified::assertion())
            }
            By::Pins(_) => Err(untrusted(explain_mismatch(end_entity))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.by {
            By::Authorities(verifier) => verifier.verify_tls12_signature(message, certificate, signed),
            By::Pins(_) => self.verify_tls12(message, &public_key(certificate)?, signed),
        }
        .map_err(explain_signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.by {
            By::Authorities(verifier) => verifier.verify_tls13_signature(message, certificate, signed),
            By::Pins(_) => verify_tls13_signature_with_raw_key(
                message,
                &public_key(certificate)?,
                signed,
                &self.algorithms,
            ),
        }
        .map_err(explain_signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Recognition {
    /// A scheme of TLS 1.2 does not name the curve: every algorithm that it may mean is tried.
    fn verify_tls12(
        &self,
        message: &[u8],
        key: &SubjectPublicKeyInfoDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
        let key = RawPublicKeyEntity::try_from(key).map_err(|_| bad())?;
        let algorithms = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let (_, algorithms) = algorithms.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        algorithms
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, message, signed.signature()).is_ok())
            .then(HandshakeSignatureValid::assertion)
            .ok_or_else(bad)
    }
}

fn fits(pin: &Pin, certificate: &[u8]) -> bool {
    match pin {
        Pin::Certificate(digest) => constant_time_eq(digest, &sha256(&[certificate])),
        Pin::Key(digest) => {
            subject_public_key_info(certificate).is_ok_and(|key| constant_time_eq(digest, &sha256(&[key])))
        }
    }
}

fn public_key<'a>(certificate: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, Error> {
    let key = subject_public_key_info(certificate);
    key.map(SubjectPublicKeyInfoDer::from).map_err(|error| untrusted(error.to_string()))
}

/// What a person reads about a certificate that is not trusted.
#[derive(Debug)]
pub struct Untrusted(String);

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Untrusted {}

fn untrusted(why: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Untrusted(why)))))
}

/// Why no authority vouches for the certificate, whose it is, and what to do.
fn explain(error: &Error, certificate: &[u8], name: &ServerName<'_>) -> String {
    let parsed = Certificate::parse(certificate).ok();
    let reason = match error {
        Error::InvalidCertificate(error) => reason(error, parsed.as_ref(), &name.to_str()),
        other => other.to_string(),
    };
    let digest = Pin::Certificate(sha256(&[certificate]));
    format!(
        "{reason}{}; its digest is {digest}: if the gateway's administrator confirms that, use --trusted-cert \
         {digest}, or get the certificate of its authority and use --gateway-ca",
        describe(parsed.as_ref())
    )
}

fn explain_mismatch(certificate: &[u8]) -> String {
    let digest = Pin::Certificate(sha256(&[certificate]));
    format!(
        "it is not the one that was pinned{}; its digest is {digest}: either the gateway has a new certificate, or \
         somebody is in between; ask the gateway's administrator before you use --trusted-cert {digest}",
        describe(Certificate::parse(certificate).ok().as_ref())
    )
}

/// The handshake is not signed with the certificate's key, or not in a way that we can check.
fn explain_signature(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::Other(_)) => error,
        Error::InvalidCertificate(_) => untrusted(
            "the gateway did not prove that it has the key of this certificate (keys that can be checked are RSA of \
             2048 bits or more, EC on P-256 or P-384, and Ed25519)"
                .into(),
        ),
        other => other,
    }
}

fn describe(certificate: Option<&Certificate>) -> String {
    let Some(certificate) = certificate else { return String::new() };
    let subject = certificate.display_name();
    if certificate.subject_der() == certificate.issuer_der() {
        return format!(" (subject {subject}, self-signed)");
    }
    let issuer = certificate.issuer_common_name().unwrap_or_else(|| "without a name".into());
    format!(" (subject {subject}, issuer {})", issuer.replace(char::is_control, "\u{fffd}"))
}

fn reason(error: &CertificateError, certificate: Option<&Certificate>, name: &str) -> String {
    use CertificateError as E;
    match error {
        E::ExpiredContext { time, not_after } => {
            let days = time.as_secs().saturating_sub(not_after.as_secs()) / 86_400;
            format!("it expired {days} days ago")
        }
        E::Expired => "it has expired".into(),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "it is not valid yet (is the clock of this host right?)".into()
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            let names: Vec<String> =
                certificate.iter().flat_map(|c| c.sans()).map(ToString::to_string).collect();
            if names.is_empty() {
                format!("it has no alternative name, so it is not known to be for {name}")
            } else {
                let names = names.join(", ").replace(char::is_control, "\u{fffd}");
                format!("it is for {names}, not for {name}")
            }
        }
        E::UnknownIssuer => "its issuer is no authority that is trusted".into(),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "it is not meant for TLS servers".into(),
        E::BadEncoding => "it cannot be read".into(),
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with an algorithm that is too old (such as SHA-1)".into()
        }
        E::Other(OtherError(other)) => match other.downcast_ref() {
            Some(webpki::Error::CaUsedAsEndEntity) => "it is an authority's, not a server's".into(),
            Some(webpki::Error::UnsupportedCertVersion) => "it is X.509 version 1 or 2".into(),
            _ => other.to_string(),
        },
        other => other.to_string(),
    }
}
