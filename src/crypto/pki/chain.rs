//! Chains of trust, by rustls-webpki (RFC 5280 section 6), with the extended key usages that IKE peers have.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    ALL_VERIFICATION_ALGS, Cert, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter,
    KeyUsage, RequiredEkuNotFoundContext, VerifiedPath, anchor_from_trusted_cert, spki_for_anchor,
};

use super::{Certificate, Crl, CrlError};

/// Why a certificate is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// No chain from the certificate to one of the authorities.
    UnknownIssuer,
    /// The certificate, or one of its issuers, has expired.
    Expired,
    /// The certificate, or one of its issuers, is not valid yet.
    NotYetValid,
    /// The key usage forbids signatures (neither digitalSignature nor nonRepudiation).
    KeyUsage,
    /// The extended key usage does not allow this purpose.
    ExtendedKeyUsage,
    /// The certificate, or one of its issuers, was taken back by its authority.
    Revoked,
    /// A signature in the chain does not verify.
    BadSignature,
    /// A certificate in the chain is signed with an algorithm that we do not have, such as SHA-1 or P-521.
    Algorithm,
    /// A CA certificate where the peer's own belongs, or the other way round.
    Role,
    /// Any other rule of RFC 5280, in the words of the library.
    Other(webpki::Error),
}

impl From<webpki::Error> for ChainError {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::UnknownIssuer => Self::UnknownIssuer,
            E::CertExpired { .. } => Self::Expired,
            E::CertNotValidYet { .. } => Self::NotYetValid,
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Self::ExtendedKeyUsage,
            E::CertRevoked => Self::Revoked,
            E::InvalidSignatureForPublicKey => Self::BadSignature,
            E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::Algorithm,
            E::CaUsedAsEndEntity | E::EndEntityUsedAsCa => Self::Role,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer => f.write_str("certificate is not from a trusted authority"),
            Self::Expired => f.write_str("certificate has expired"),
            Self::NotYetValid => f.write_str("certificate is not valid yet"),
            Self::KeyUsage => f.write_str("certificate's key usage forbids signatures"),
            Self::ExtendedKeyUsage => f.write_str("certificate's extended key usage forbids this purpose"),
            Self::Revoked => f.write_str("certificate was revoked by its authority"),
            Self::BadSignature => f.write_str("certificate's signature does not verify"),
            Self::Algorithm => {
                f.write_str("certificate is signed with neither P-256, P-384, Ed25519 nor RSA with SHA-2")
            }
            Self::Role => f.write_str("CA certificate and end-entity certificate are mixed up"),
            Self::Other(error) => write!(f, "certificate refused: {error}"),
        }
    }
}

impl std::error::Error for ChainError {}

/// The certificate authorities that we trust, and what they took back.
#[derive(Clone)]
pub struct TrustAnchors {
    authorities: Vec<Certificate>,
    /// Of each authority that is not revoked.
    anchors: Vec<TrustAnchor<'static>>,
    spki_hashes: Vec<[u8; 20]>,
    lists: Vec<Arc<SignedList>>,
}

/// A revocation list, and the key that signed it: authorities of one name may have different keys.
struct SignedList {
    list: Crl,
    signer_spki: Vec<u8>,
}

impl TrustAnchors {
    /// Trusts these authorities, roots or intermediates. A certificate that says it is no CA is refused.
    pub fn new(cas: &[Certificate]) -> Result<Self, ChainError> {
        let anchors = cas.iter().map(|ca| {
            let der = CertificateDer::from(ca.der());
            if !ca.is_ca() {
                return Err(ChainError::Role);
            }
            Ok(anchor_from_trusted_cert(&der)?.to_owned())
        });
        Ok(Self {
            anchors: anchors.collect::<Result<_, ChainError>>()?,
            spki_hashes: cas.iter().map(Certificate::spki_sha1).collect(),
            authorities: cas.to_vec(),
            lists: Vec::new(),
        })
    }

    /// From now on a certificate on this list is refused, however old the list is. Certificates whose issuer has no list
    /// are accepted as before. An authority that is on it is trusted no longer: it is what this gives back.
    pub fn add_list(&mut self, list: Crl) -> Result<Vec<Certificate>, CrlError> {
        let signer =
            self.authorities.iter().find(|ca| list.is_signed_by(ca)).ok_or(CrlError::UnknownSigner)?;
        let signer_spki = signer.spki_der().to_vec();
        let revoked: Vec<_> = self
            .authorities
            .iter()
            .filter(|ca| ca.issuer_der() == list.issuer_der() && ca.subject_der() != ca.issuer_der())
            .filter(|ca| list.revoked().contains_key(ca.serial()))
            .cloned()
            .collect();
        for ca in &revoked {
            let der = CertificateDer::from(ca.der());
            if let Ok(anchor) = anchor_from_trusted_cert(&der) {
                self.anchors.retain(|trusted| *trusted != anchor);
            }
            self.spki_hashes.retain(|hash| *hash != ca.spki_sha1());
        }
        self.lists.push(Arc::new(SignedList { list, signer_spki }));
        Ok(revoked)
    }

    /// SHA-1 of each authority's SubjectPublicKeyInfo, for CERTREQ (RFC 7296 section 3.7).
    pub fn spki_hashes(&self) -> &[[u8; 20]] {
        &self.spki_hashes
    }

    /// Checks an IKE client's certificate at the time `wall` (since 1970-01-01 UTC). Extended key usage: none, or one
    /// of clientAuth, ipsecIKE, any. Not ikeIntermediate: server certificates carry it, and they are no clients.
    pub fn verify_client(
        &self,
        end_entity: &Certificate,
        intermediates: &[Certificate],
        wall: Duration,
    ) -> Result<(), ChainError> {
        self.verify(end_entity, intermediates, wall, &CLIENT)
    }

    /// Checks an IKE server's certificate. Extended key usage: none, or one of serverAuth, ipsecIKE,
    /// ikeIntermediate, any. The name is the caller's to compare.
    pub fn verify_server(
        &self,
        end_entity: &Certificate,
        intermediates: &[Certificate],
        wall: Duration,
    ) -> Result<(), ChainError> {
        self.verify(end_entity, intermediates, wall, &SERVER)
    }

    fn verify(
        &self,
        end_entity: &Certificate,
        intermediates: &[Certificate],
        wall: Duration,
        purpose: &Purpose,
    ) -> Result<(), ChainError> {
        let der = CertificateDer::from(end_entity.der());
        let intermediates: Vec<_> = intermediates.iter().map(|c| CertificateDer::from(c.der())).collect();
        EndEntityCert::try_from(&der)?.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &self.anchors,
            &intermediates,
            UnixTime::since_unix_epoch(wall),
            purpose,
            // Of an issuer with several lists webpki would look into the first alone.
            None,
            Some(&|path| self.check_revocation(path)),
        )?;
        // webpki leaves the key usage alone.
        if end_entity.key_usage_allows_signature() { Ok(()) } else { Err(ChainError::KeyUsage) }
    }

    /// Refuses a path with a certificate on a list that the key of its issuer signed.
    fn check_revocation(&self, path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
        if self.lists.is_empty() {
            return Ok(());
        }
        let end_entity: &Cert<'_> = path.end_entity();
        let certificates = std::iter::once(end_entity).chain(path.intermediate_certificates());
        let issuers = path.intermediate_certificates().map(Cert::subject_public_key_info);
        let issuers = issuers.chain([spki_for_anchor(path.anchor())]);
        for (certificate, issuer) in certificates.zip(issuers) {
            let lists = self.lists.iter().filter(|signed| signed.signer_spki == *issuer);
            if lists.map(|signed| signed.list.revoked()).any(|list| list.contains_key(certificate.serial())) {
                return Err(webpki::Error::CertRevoked);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustAnchors({}, {} lists)", self.anchors.len(), self.lists.len())
    }
}

/// The extended key usages that are good for a purpose, as OIDs.
struct Purpose {
    accepted: &'static [&'static [u8]],
    /// What webpki calls it, for its error.
    usage: fn() -> KeyUsage,
}

const SERVER_AUTH: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x01";
const CLIENT_AUTH: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x02";
const IPSEC_IKE: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x11";
const IKE_INTERMEDIATE: &[u8] = b"\x2b\x06\x01\x05\x05\x08\x02\x02";
const ANY: &[u8] = b"\x55\x1d\x25\x00";

static CLIENT: Purpose = Purpose { accepted: &[CLIENT_AUTH, IPSEC_IKE, ANY], usage: KeyUsage::client_auth };
static SERVER: Purpose =
    Purpose { accepted: &[SERVER_AUTH, IPSEC_IKE, IKE_INTERMEDIATE, ANY], usage: KeyUsage::server_auth };

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, ids: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut present = Vec::new();
        for id in ids {
            let id = id?;
            if self.accepted.iter().any(|oid| KeyPurposeId::new(oid) == id) {
                return Ok(());
            }
            present.push(id.to_decoded_oid());
        }
        if present.is_empty() {
            return Ok(());
        }
        let required = (self.usage)();
        Err(webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}
