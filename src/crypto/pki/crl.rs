//! Certificate revocation lists (RFC 5280 section 5). rustls-webpki reads them and refuses what it does not support; the
//! fields that it keeps to itself are read here.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use webpki::{ALL_VERIFICATION_ALGS, BorrowedCertRevocationList, EndEntityCert};

use super::Certificate;
use super::parse_time;
use crate::crypto::der::{self, Der};
use crate::crypto::{Error, pem};

const WHAT: &str = "certificate revocation list";
/// OBJECT IDENTIFIER of the extension cRLNumber (RFC 5280 section 5.2.3).
const CRL_NUMBER: &[u8] = b"\x55\x1d\x14";

/// A list of certificates that their authority took back.
#[derive(Clone, PartialEq, Eq)]
pub struct Crl {
    issuer: Vec<u8>,
    tbs: Vec<u8>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
    next_update: Duration,
    number: Vec<u8>,
    revoked: BTreeMap<Vec<u8>, Duration>,
}

/// Why a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrlError {
    /// Neither PEM nor DER, or not the structure that it must be.
    Malformed(Error),
    /// It has only what changed since another list (RFC 5280 section 5.2.4).
    Delta,
    /// It speaks for other authorities than its own (RFC 5280 section 5.2.5), or for some reasons only.
    Partial,
    /// Another rule of RFC 5280, in the words of the library.
    Unusable(webpki::Error),
    /// None of the trusted authorities signed it, or the one that did must not sign lists.
    UnknownSigner,
}

impl From<Error> for CrlError {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

impl From<webpki::Error> for CrlError {
    fn from(error: webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::UnsupportedDeltaCrl => Self::Delta,
            E::UnsupportedIndirectCrl
            | E::UnsupportedRevocationReasonsPartitioning
            | E::UnsupportedCrlIssuingDistributionPoint => Self::Partial,
            E::BadDer | E::BadDerTime | E::TrailingData(_) => Self::Malformed(Error::Malformed(WHAT)),
            other => Self::Unusable(other),
        }
    }
}

impl fmt::Display for CrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::Delta => f.write_str("this is a delta list; give the complete one"),
            Self::Partial => {
                f.write_str("this is an indirect or partial list; give the authority's own, complete one")
            }
            Self::Unusable(error) => write!(f, "this list cannot be used: {error}"),
            Self::UnknownSigner => f.write_str("no authority in --cacert that may sign lists has signed it"),
        }
    }
}

impl std::error::Error for CrlError {}

impl Crl {
    /// Reads one list in DER. Whose it is, is not asked here.
    pub fn parse(list: &[u8]) -> Result<Self, CrlError> {
        let read = BorrowedCertRevocationList::from_der(list)?;
        let mut revoked = BTreeMap::new();
        for entry in &read {
            let entry = entry?;
            revoked
                .insert(entry.serial_number.to_vec(), Duration::from_secs(entry.revocation_date.as_secs()));
        }

        let mut outer = der::sequence(list, WHAT)?;
        let tbs = outer.element(der::SEQUENCE)?;
        let algorithm = outer.value(der::SEQUENCE)?;
        let signature = outer.bit_string()?;
        outer.finish()?;
        let mut fields = Der::new(tbs.value, WHAT);
        fields.value(der::INTEGER)?; // version
        fields.value(der::SEQUENCE)?; // signature
        let issuer = fields.element(der::SEQUENCE)?;
        fields.any()?; // thisUpdate
        let next_update = parse_time(fields.any()?)?;
        fields.optional(der::SEQUENCE)?; // revokedCertificates
        let mut extensions = fields.nested(der::context(0))?.nested(der::SEQUENCE)?;
        let mut number = Vec::new();
        while !extensions.is_empty() {
            let mut extension = extensions.nested(der::SEQUENCE)?;
            let oid = extension.value(der::OID)?;
            extension.optional_bool()?; // critical
            let value = extension.value(der::OCTET_STRING)?;
            if oid == CRL_NUMBER {
                number = Der::new(value, WHAT).value(der::INTEGER)?.to_vec();
            }
        }
        Ok(Self {
            issuer: issuer.whole.to_vec(),
            tbs: tbs.whole.to_vec(),
            algorithm: algorithm.to_vec(),
            signature: signature.to_vec(),
            next_update,
            number,
            revoked,
        })
    }

    /// All lists of a file: PEM, or one in DER. None at all is an error.
    pub fn parse_file(content: &[u8]) -> Result<Vec<Self>, CrlError> {
        if content.first() == Some(&der::SEQUENCE) {
            return Ok(vec![Self::parse(content)?]);
        }
        pem::crls(content)?.iter().map(|list| Self::parse(list)).collect()
    }

    /// The issuer, a Name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// When the next list was promised, since 1970-01-01 UTC.
    pub fn next_update(&self) -> Duration {
        self.next_update
    }

    /// The number of the list, the content of an INTEGER; empty where it has none.
    pub fn number(&self) -> &[u8] {
        &self.number
    }

    /// What it lists: serial numbers, as [`Certificate::serial`] gives them, with the time of their revocation.
    pub fn revoked(&self) -> &BTreeMap<Vec<u8>, Duration> {
        &self.revoked
    }

    /// Whether this authority signed it, and may sign lists.
    pub fn is_signed_by(&self, authority: &Certificate) -> bool {
        let der = CertificateDer::from(authority.der());
        let Ok(key) = EndEntityCert::try_from(&der) else { return false };
        let verifies = || {
            ALL_VERIFICATION_ALGS
                .iter()
                .filter(|algorithm| algorithm.signature_alg_id().as_ref() == self.algorithm)
                .any(|algorithm| key.verify_signature(*algorithm, &self.tbs, &self.signature).is_ok())
        };
        self.issuer == authority.subject_der() && authority.key_usage_allows_lists() && verifies()
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crl({} revoked)", self.revoked.len())
    }
}

#[cfg(test)]
mod tests;
