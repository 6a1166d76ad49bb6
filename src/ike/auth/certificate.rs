//! A peer that authenticates itself by a certificate and a signature.

use std::time::Duration;

use super::signature::{belongs, display_id, verify};
use super::{Claim, Peer, Side, signed_octets};
use crate::base::Now;
use crate::crypto::Prf;
use crate::crypto::pki::Certificate;
use crate::crypto::sign::SignatureScheme;
use crate::ike::Responder;
use crate::ike::access::Proof;
use crate::ike::error::AuthError;
use crate::ike::sa::Init;
use crate::wire::Malformed;
use crate::wire::ike::{Auth, Cert, Kind, Payload};

/// Most CERT payloads of a peer, and the longest certificate.
const MAX_CERTIFICATES: usize = 6;
const MAX_CERTIFICATE_LEN: usize = 16 * 1024;

impl Responder {
    /// Checks chain, identity and signature of the peer. All are looked at whatever the others say, so that the time of
    /// the answer does not tell which one failed. Says also with what it signed.
    pub(super) fn verify_certificate(
        &self,
        now: Now,
        alg: Prf,
        init: &Init,
        payloads: &[Payload<'_>],
        claim: &Claim<'_>,
        auth: &Auth<'_>,
    ) -> Result<(Peer, SignatureScheme), AuthError> {
        let chain = parse_certificates(payloads)?;
        let (certificate, intermediates) = chain.split_first().ok_or(AuthError::NoCertificate)?;
        let access = &self.config.identity.access;
        let trusted = access.anchors.verify_client(certificate, intermediates, now.wall);
        let octets = signed_octets(alg, init, Side::Peer, claim.id_body);
        let signed = verify(auth, certificate, &octets);
        trusted.map_err(AuthError::Chain)?;
        if !belongs(&claim.id, certificate) {
            return Err(AuthError::NotTheCertificates);
        }
        let scheme = signed?;
        let identity = display_id(&claim.id, Some(certificate));
        let valid_until = valid_until(now, certificate);
        let proof = Proof::Certificate(chain.into());
        Ok((Peer { identity, proof, valid_until, hints: init.hints }, scheme))
    }
}

/// When the certificate ends, in monotonic time.
pub(super) fn valid_until(now: Now, certificate: &Certificate) -> Duration {
    now.mono.saturating_add(certificate.not_after().saturating_sub(now.wall))
}

/// The peer's certificate, then its intermediates. Other encodings than X.509 are passed over: nothing is fetched.
fn parse_certificates(payloads: &[Payload<'_>]) -> Result<Vec<Certificate>, AuthError> {
    let mut certificates = Vec::new();
    for payload in payloads.iter().filter(|payload| payload.kind == Kind::Cert) {
        let cert = Cert::parse(payload.body)?;
        if cert.encoding != Cert::X509 {
            continue;
        }
        if certificates.len() == MAX_CERTIFICATES || cert.data.len() > MAX_CERTIFICATE_LEN {
            return Err(AuthError::Syntax(Malformed("CERT payloads: too many or too long")));
        }
        certificates.push(Certificate::parse(cert.data).map_err(AuthError::Certificate)?);
    }
    Ok(certificates)
}
