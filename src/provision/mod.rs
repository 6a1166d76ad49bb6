//! Certificates: a small authority of our own that issues what IKE servers and clients need; and profiles for devices.

pub mod profile;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm,
};

use crate::base::Random;
use crate::crypto::pki::Certificate;
use crate::crypto::rng::SystemRandom;
use crate::crypto::sign::{KeyKind, PrivateKey};
use crate::crypto::{self, pem, rsa};

/// ikeIntermediate: old Apple systems look for it in server certificates.
const IKE_INTERMEDIATE: [u64; 9] = [1, 3, 6, 1, 5, 5, 8, 2, 2];
/// Certificates are valid this much earlier than asked, for clients whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// 9999-12-31, the last day that X.509 can name.
const LAST_DAY: Duration = Duration::from_secs(253_402_214_400);

/// Why a certificate cannot be issued.
#[derive(Debug)]
pub enum Error {
    /// A name is empty, too long, or has characters that cannot be in it.
    BadName(String),
    /// The validity ends before it begins, or after the year 9999.
    BadValidity,
    /// The authority's certificate is not a CA, or not one that this program made.
    NotOurAuthority,
    /// The key does not belong to the authority's certificate.
    WrongKey,
    /// The authority's own certificate has ended.
    AuthorityExpired,
    /// A certificate or key could not be read, or not be used.
    Crypto(crypto::Error),
    /// The certificate writer failed.
    Writer(rcgen::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName(name) => write!(f, "{name:?} cannot be a name in a certificate"),
            Self::BadValidity => f.write_str("the certificate's validity makes no sense"),
            Self::NotOurAuthority => f.write_str("not the certificate of an authority made by this program"),
            Self::WrongKey => f.write_str("the key does not belong to the authority's certificate"),
            Self::AuthorityExpired => f.write_str("the authority's own certificate has expired"),
            Self::Crypto(error) => error.fmt(f),
            Self::Writer(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<crypto::Error> for Error {
    fn from(error: crypto::Error) -> Self {
        Self::Crypto(error)
    }
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Writer(error)
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    /// The certificate, without its issuer.
    pub cert_pem: String,
    /// The private key: PKCS#8 where it was made here. Secret.
    pub key_pem: String,
    /// The certificate in DER.
    pub cert_der: Vec<u8>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// When a certificate is valid: both ends inclusive, since 1970-01-01 UTC, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub not_before: Duration,
    /// Last second.
    pub not_after: Duration,
}

impl Validity {
    /// `days` from `wall` on; it begins an hour earlier, for clients whose clock is behind.
    pub fn days(wall: Duration, days: u32) -> Self {
        Self { not_before: wall.saturating_sub(CLOCK_SKEW), not_after: wall + DAY * days }
    }
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An IKE responder: serverAuth and ikeIntermediate.
    Server,
    /// A device: clientAuth.
    Client,
}

/// A certificate authority: an ECDSA P-256 key and its self-signed certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    cert_der: Vec<u8>,
    not_after: Duration,
}

impl Authority {
    /// A new authority, valid for `days` from `wall` on.
    pub fn new(common_name: &str, wall: Duration, days: u32) -> Result<Self, Error> {
        let key = generate(KeyKind::P256)?;
        let validity = Validity::days(wall, days);
        let params = authority_params(common_name, validity)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            not_after: validity.not_after,
            cert_pem: certificate.pem(),
            cert_der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        })
    }

    /// An authority that [`Authority::new`] made earlier, from its certificate and key.
    pub fn load(cert_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let certificate = pem::certificates(cert_pem.as_bytes())?.swap_remove(0);
        if !certificate.is_ca() {
            return Err(Error::NotOurAuthority);
        }
        if !PrivateKey::from_pem(key_pem.as_bytes())?.public_matches(&certificate) {
            return Err(Error::WrongKey);
        }
        let key = KeyPair::from_pem(key_pem)?;
        let name = certificate.common_name().ok_or(Error::NotOurAuthority)?;
        let validity = Validity { not_before: certificate.not_before(), not_after: certificate.not_after() };
        let params = authority_params(name, validity)?;
        // Certificates name their issuer by these bytes: what we will write must be what is there.
        if Certificate::parse(params.self_signed(&key)?.der())?.subject_der() != certificate.subject_der() {
            return Err(Error::NotOurAuthority);
        }
        Ok(Self {
            not_after: validity.not_after,
            cert_pem: cert_pem.to_owned(),
            cert_der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's certificate.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's certificate in DER.
    pub fn cert_der(&self) -> &[u8] {
        &self.cert_der
    }

    /// The last second of the authority's own certificate, since 1970-01-01 UTC.
    pub fn not_after(&self) -> Duration {
        self.not_after
    }

    /// `days` from `wall` on, but not longer than the authority itself is valid.
    pub fn leaf_validity(&self, wall: Duration, days: u32) -> Result<Validity, Error> {
        let Validity { not_before, not_after } = Validity::days(wall, days);
        let not_after = not_after.min(self.not_after);
        if not_after > wall { Ok(Validity { not_before, not_after }) } else { Err(Error::AuthorityExpired) }
    }

    /// A revocation list in PEM (RFC 5280 section 5): serial numbers as [`Certificate::serial`] gives them, with the time
    /// of each revocation. Its number is greater than `previous` (the content of an INTEGER), and grows with the
    /// time even where the previous list was lost.
    pub fn revocation_list<'a>(
        &self,
        revoked: impl IntoIterator<Item = (&'a [u8], Duration)>,
        previous: Option<&[u8]>,
        wall: Duration,
        next_update: Duration,
    ) -> Result<String, Error> {
        if next_update <= wall {
            return Err(Error::AuthorityExpired);
        }
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let whole_seconds = |time: Duration| epoch + Duration::from_secs(time.as_secs());
        let revoked_certs = revoked.into_iter().map(|(serial, time)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: whole_seconds(time),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: whole_seconds(wall),
            next_update: whole_seconds(next_update),
            crl_number: SerialNumber::from(next_number(previous.unwrap_or_default(), wall)?),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }

    /// The authority's private key in PKCS#8. Secret.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A server certificate with a new P-256 key. The first name is the common name too; all become alternative
    /// names: host names as dNSName, IP addresses as iPAddress and, for clients that compare text, as dNSName.
    pub fn issue_server(&self, names: &[&str], wall: Duration, days: u32) -> Result<Issued, Error> {
        self.issue(Role::Server, names, Validity::days(wall, days), KeyKind::P256)
    }

    /// A client certificate with a new P-256 key. The name is the common name; if it looks like an e-mail address,
    /// a host name or an IP address, it becomes an alternative name too.
    pub fn issue_client(&self, name: &str, wall: Duration, days: u32) -> Result<Issued, Error> {
        self.issue(Role::Client, &[name], Validity::days(wall, days), KeyKind::P256)
    }

    /// A certificate with a new key.
    pub fn issue(
        &self,
        role: Role,
        names: &[&str],
        validity: Validity,
        kind: KeyKind,
    ) -> Result<Issued, Error> {
        let key = generate(kind)?;
        let certificate = leaf_params(role, names, validity)?.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            cert_der: certificate.der().to_vec(),
        })
    }

    /// A certificate for a key that exists: RSA, P-256 or P-384 in any form that [`PrivateKey::from_pem`] reads.
    pub fn issue_with_key(
        &self,
        role: Role,
        names: &[&str],
        validity: Validity,
        key_pem: &str,
    ) -> Result<Issued, Error> {
        let key = PrivateKey::from_pem(key_pem.as_bytes())?;
        let certificate = leaf_params(role, names, validity)?.signed_by(&PublicPart(&key), &self.issuer)?;
        Ok(Issued {
            cert_pem: certificate.pem(),
            key_pem: key_pem.to_owned(),
            cert_der: certificate.der().to_vec(),
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// Seconds are numbers that grow by themselves; but a list may follow another within one.
fn next_number(previous: &[u8], wall: Duration) -> Result<u64, Error> {
    let previous = previous
        .iter()
        .try_fold(0_u64, |number, octet| number.checked_mul(256).map(|number| number | u64::from(*octet)));
    let next = previous.and_then(|number| number.checked_add(1));
    let too_large = crypto::Error::Unsupported("revocation lists whose number has more than 64 bits");
    next.map(|next| next.max(wall.as_secs())).ok_or(Error::Crypto(too_large))
}

/// The public part of a key of ours, as the certificate writer wants it.
struct PublicPart<'a>(&'a PrivateKey);

impl PublicKeyData for PublicPart<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.kind() {
            KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Rsa => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

fn generate(kind: KeyKind) -> Result<KeyPair, Error> {
    let alg = match kind {
        KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        KeyKind::Rsa => return Ok(KeyPair::try_from(rsa::generate()?.expose())?),
    };
    Ok(KeyPair::generate_for(alg)?)
}

fn authority_params(common_name: &str, validity: Validity) -> Result<CertificateParams, Error> {
    let mut params = params(common_name, validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params(role: Role, names: &[&str], validity: Validity) -> Result<CertificateParams, Error> {
    let [common_name, ..] = names else { return Err(Error::BadName(String::new())) };
    let mut params = params(common_name, validity)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match role {
        Role::Server => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::Other(IKE_INTERMEDIATE.to_vec()),
        ],
        Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    for name in names {
        let found = alternative_names(name)?;
        if found.is_empty() && role == Role::Server {
            return Err(Error::BadName((*name).to_owned()));
        }
        params.subject_alt_names.extend(found);
    }
    Ok(params)
}

/// Common name, validity and a random serial number.
fn params(common_name: &str, validity: Validity) -> Result<CertificateParams, Error> {
    // 64 characters are the upper bound of a common name (RFC 5280, appendix A.1).
    let length = common_name.chars().count();
    if length == 0 || length > 64 || common_name.contains(char::is_control) {
        return Err(Error::BadName(common_name.to_owned()));
    }
    if validity.not_before > validity.not_after || validity.not_after > LAST_DAY {
        return Err(Error::BadValidity);
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + validity.not_before;
    params.not_after = epoch + validity.not_after;
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// The alternative names that a text stands for; none if it is neither address, host name nor e-mail address.
fn alternative_names(text: &str) -> Result<Vec<SanType>, Error> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(vec![SanType::IpAddress(address), SanType::DnsName(text.try_into()?)]);
    }
    if let Some((local, host)) = text.rsplit_once('@') {
        let local_is_fine = !local.is_empty() && local.chars().all(|c| c.is_ascii_graphic());
        let found = local_is_fine && is_host_name(host);
        return Ok(if found { vec![SanType::Rfc822Name(text.try_into()?)] } else { Vec::new() });
    }
    Ok(if is_host_name(text) { vec![SanType::DnsName(text.try_into()?)] } else { Vec::new() })
}

/// Letters, digits and inner hyphens in labels of 1 to 63 (RFC 1123 section 2.1); underscores are tolerated.
fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

#[cfg(test)]
mod tests;
