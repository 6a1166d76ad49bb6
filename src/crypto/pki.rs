//! X.509 certificates (RFC 5280): the fields that IKE needs, read by our own bounded reader. Chains: `chain`; what was
//! taken back: `crl`.

mod chain;
mod crl;
mod names;

use std::fmt;
use std::time::Duration;

use super::der::{self, Der};
use super::sign::KeyKind;
use super::{Error, hash};

pub use chain::{ChainError, TrustAnchors};
pub use crl::{Crl, CrlError};
pub use names::SubjectAltName;

/// A parsed certificate. It owns its bytes; parsing says nothing about trust.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    serial: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    spki: Vec<u8>,
    public_key: Vec<u8>,
    key: PublicKeyKind,
    common_name: Option<String>,
    sans: Vec<SubjectAltName>,
    /// The first octet of the key usage bits, if the extension is present.
    key_usage: Option<u8>,
    is_ca: bool,
    not_before: Duration,
    not_after: Duration,
}

/// What a SubjectPublicKeyInfo holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublicKeyKind {
    Key(KeyKind),
    Ed25519,
    /// Something that we cannot verify with; the text names it.
    Other(&'static str),
}

impl PublicKeyKind {
    /// From the content of an AlgorithmIdentifier.
    pub(super) fn from_algorithm(content: &[u8]) -> Result<Self, Error> {
        let mut algorithm = Der::new(content, "key algorithm");
        Ok(match algorithm.value(der::OID)? {
            b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01" => Self::Key(KeyKind::Rsa),
            b"\x2b\x65\x70" => Self::Ed25519,
            b"\x2a\x86\x48\xce\x3d\x02\x01" => match algorithm.optional(der::OID)? {
                Some(curve) => Self::from_curve(curve.value),
                None => Self::Other("EC keys without a named curve"),
            },
            b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a" => Self::Other("keys for RSASSA-PSS only"),
            b"\x2b\x65\x71" => Self::Other("Ed448 keys"),
            _ => Self::Other("this kind of public key"),
        })
    }

    /// From the OID of a named curve.
    pub(super) fn from_curve(oid: &[u8]) -> Self {
        match oid {
            b"\x2a\x86\x48\xce\x3d\x03\x01\x07" => Self::Key(KeyKind::P256),
            b"\x2b\x81\x04\x00\x22" => Self::Key(KeyKind::P384),
            b"\x2b\x81\x04\x00\x23" => Self::Other("EC keys on P-521"),
            b"\x2b\x81\x04\x00\x0a" => Self::Other("EC keys on secp256k1"),
            _ => Self::Other("EC keys on this curve"),
        }
    }
}

const WHAT: &str = "certificate";
const DIGITAL_SIGNATURE: u8 = 0x80;
const NON_REPUDIATION: u8 = 0x40;
const CRL_SIGN: u8 = 0x02;

impl Certificate {
    /// Reads one certificate in DER, version 1 to 3. Trailing bytes are an error.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let mut certificate = der::sequence(der, WHAT)?;
        let mut tbs = certificate.nested(der::SEQUENCE)?;
        certificate.value(der::SEQUENCE)?; // signatureAlgorithm
        certificate.bit_string()?; // signatureValue
        certificate.finish()?;

        tbs.optional(der::context(0))?; // version
        let serial = tbs.value(der::INTEGER)?;
        tbs.value(der::SEQUENCE)?; // signature
        let issuer = tbs.element(der::SEQUENCE)?;
        let mut validity = tbs.nested(der::SEQUENCE)?;
        let subject = tbs.element(der::SEQUENCE)?;
        let spki = tbs.element(der::SEQUENCE)?;
        tbs.optional(der::context_primitive(1))?; // issuerUniqueID
        tbs.optional(der::context_primitive(2))?; // subjectUniqueID
        let extensions = tbs.optional(der::context(3))?;
        tbs.finish()?;

        let mut key_info = Der::new(spki.value, "public key");
        let algorithm = key_info.value(der::SEQUENCE)?;
        let public_key = key_info.bit_string()?;
        key_info.finish()?;

        let mut parsed = Self {
            der: der.to_vec(),
            serial: serial.to_vec(),
            subject: subject.whole.to_vec(),
            issuer: issuer.whole.to_vec(),
            spki: spki.whole.to_vec(),
            public_key: public_key.to_vec(),
            key: PublicKeyKind::from_algorithm(algorithm)?,
            common_name: names::common_name(subject.value)?,
            sans: Vec::new(),
            key_usage: None,
            is_ca: false,
            not_before: parse_time(validity.any()?)?,
            not_after: parse_time(validity.any()?)?,
        };
        validity.finish()?;
        if let Some(extensions) = extensions {
            parsed.parse_extensions(der::sequence(extensions.value, "certificate extensions")?)?;
        }
        Ok(parsed)
    }

    fn parse_extensions(&mut self, mut extensions: Der<'_>) -> Result<(), Error> {
        while !extensions.is_empty() {
            let mut extension = extensions.nested(der::SEQUENCE)?;
            let oid = extension.value(der::OID)?;
            extension.optional_bool()?; // critical: webpki refuses what it does not know
            let value = extension.value(der::OCTET_STRING)?;
            extension.finish()?;
            match oid {
                b"\x55\x1d\x0f" => {
                    let bits = Der::new(value, "key usage").value(der::BIT_STRING)?;
                    self.key_usage = Some(bits.get(1).copied().unwrap_or(0));
                }
                b"\x55\x1d\x11" => self.sans = names::parse_sans(value)?,
                b"\x55\x1d\x13" => self.is_ca = der::sequence(value, "basic constraints")?.optional_bool()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The whole certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The serial number: the content of an INTEGER, as revocation lists have it.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The subject, a Name in DER, as in an ID payload of type ID_DER_ASN1_DN.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// Whether `name`, a Name in DER as in an ID payload of type ID_DER_ASN1_DN, is the subject: octet by octet, or the
    /// same text in another kind of string. Clients that make a name from text choose the kind themselves.
    pub fn has_subject(&self, name: &[u8]) -> bool {
        name == self.subject || names::same_text(name, &self.subject).unwrap_or(false)
    }

    /// The issuer, a Name in DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-1 of the SubjectPublicKeyInfo, as in CERTREQ payloads (RFC 7296 section 3.7).
    pub fn spki_sha1(&self) -> [u8; 20] {
        hash::sha1(&[&self.spki])
    }

    /// The kind of key; `None` for keys that cannot sign for us (Ed25519 can still be verified).
    pub fn key_kind(&self) -> Option<KeyKind> {
        match self.key {
            PublicKeyKind::Key(kind) => Some(kind),
            _ => None,
        }
    }

    /// The subject alternative names, in their order.
    pub fn sans(&self) -> &[SubjectAltName] {
        &self.sans
    }

    /// The last (most specific) common name of the subject.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The last common name of the issuer.
    pub fn issuer_common_name(&self) -> Option<String> {
        let issuer = Der::new(&self.issuer, WHAT).value(der::SEQUENCE).ok()?;
        names::common_name(issuer).ok()?
    }

    /// Whether the key may sign for IKE (RFC 4945 section 5.1.3.2): no key usage extension, or one with
    /// digitalSignature or nonRepudiation.
    pub fn key_usage_allows_signature(&self) -> bool {
        self.key_usage.is_none_or(|bits| bits & (DIGITAL_SIGNATURE | NON_REPUDIATION) != 0)
    }

    /// Whether the key may sign revocation lists (RFC 5280 section 4.2.1.3): no key usage extension, or one with cRLSign.
    pub fn key_usage_allows_lists(&self) -> bool {
        self.key_usage.is_none_or(|bits| bits & CRL_SIGN != 0)
    }

    /// Whether the basic constraints say CA.
    pub fn is_ca(&self) -> bool {
        self.is_ca
    }

    /// Start of validity, since 1970-01-01 UTC (earlier times count as that).
    pub fn not_before(&self) -> Duration {
        self.not_before
    }

    /// End of validity, inclusive, since 1970-01-01 UTC.
    pub fn not_after(&self) -> Duration {
        self.not_after
    }

    /// A name for people: the common name, else the first alternative name, else a piece of the key's hash.
    /// Control characters are replaced, so that it can go into a log line.
    pub fn display_name(&self) -> String {
        let name = match (&self.common_name, self.sans.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name.to_string(),
            (None, None) => {
                let [a, b, c, d, ..] = self.spki_sha1();
                format!("key {a:02x}{b:02x}{c:02x}{d:02x}")
            }
        };
        name.replace(char::is_control, "\u{fffd}")
    }

    /// The content of the public key's BIT STRING: a point, or an RSAPublicKey.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(super) fn public_key_kind(&self) -> PublicKeyKind {
        self.key
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({:?})", self.display_name())
    }
}

/// The SubjectPublicKeyInfo of a certificate of which only the key matters: the rest may be as old or odd as it likes.
pub fn subject_public_key_info(certificate: &[u8]) -> Result<&[u8], Error> {
    let mut tbs = Der::new(certificate, WHAT).nested(der::SEQUENCE)?.nested(der::SEQUENCE)?;
    tbs.optional(der::context(0))?; // version
    for _field in ["serialNumber", "signature", "issuer", "validity", "subject"] {
        tbs.any()?;
    }
    tbs.element(der::SEQUENCE).map(|key| key.whole)
}

/// UTCTime or GeneralizedTime in the one form that RFC 5280 section 4.1.2.5 allows: with seconds, in UTC.
fn parse_time(element: der::Element<'_>) -> Result<Duration, Error> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let bad = Error::Malformed("certificate validity");

    let digits = element.value.strip_suffix(b"Z").ok_or(bad)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    let (pairs, []) = digits.as_chunks::<2>() else { return Err(bad) };
    let mut pairs = pairs.iter().map(|[a, b]| u64::from(a - b'0') * 10 + u64::from(b - b'0'));
    let mut pair = || pairs.next().ok_or(bad);
    let year = match element.tag {
        UTC_TIME => pair().map(|year| if year >= 50 { 1900 + year } else { 2000 + year })?,
        GENERALIZED_TIME => pair()? * 100 + pair()?,
        _ => return Err(bad),
    };
    let (month, day, hour, minute, second) = (pair()?, pair()?, pair()?, pair()?, pair()?);
    let in_range =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !in_range || pairs.next().is_some() {
        return Err(bad);
    }
    let seconds =
        days_since_1970(year, month, day).map(|days| days * 86_400 + hour * 3600 + minute * 60 + second);
    Ok(Duration::from_secs(seconds.unwrap_or(0)))
}

/// Days from 1970-01-01 in the Gregorian calendar; `None` before. Years are counted from March, so that the leap day
/// is the last of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    const UP_TO_1970: u64 = 719_468;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days.checked_sub(UP_TO_1970)
}

#[cfg(test)]
pub(super) mod tests;
