//! AlgorithmIdentifier blobs of AUTH method 14, Digital Signature (RFC 7427 section 3 and appendix A).

use super::Error;
use super::der::{self, Der};
use super::pki::{Certificate, PublicKeyKind};
use super::sign::{KeyKind, SignatureScheme};

const RSA_PSS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
const MGF1: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08";
const SHA256: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const SHA384: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x02";
const SHA512: &[u8] = b"\x60\x86\x48\x01\x65\x03\x04\x02\x03";

/// The DER AlgorithmIdentifier of a scheme.
pub fn algorithm_identifier(scheme: SignatureScheme) -> &'static [u8] {
    use SignatureScheme as S;
    match scheme {
        S::EcdsaP256Sha256 | S::EcdsaP384Sha256 => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
        S::EcdsaP256Sha384 | S::EcdsaP384Sha384 => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03",
        S::RsaPkcs1Sha1 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00",
        S::RsaPkcs1Sha256 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00",
        S::RsaPkcs1Sha384 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00",
        S::RsaPkcs1Sha512 => b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00",
        S::RsaPssSha256 => const { &pss(1, 32) },
        S::RsaPssSha384 => const { &pss(2, 48) },
        S::RsaPssSha512 => const { &pss(3, 64) },
        S::Ed25519 => b"\x30\x05\x06\x03\x2b\x65\x70",
    }
}

/// RSASSA-PSS with the hash whose OID (2.16.840.1.101.3.4.2.x) ends in `hash`, MGF1 with the same, the salt length,
/// and the default trailer left out, as DER wants it.
const fn pss(hash: u8, salt_len: u8) -> [u8; 67] {
    let mut blob = *b"\x30\x41\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x34\
        \xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x00\x05\x00\
        \xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\
        \x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x00\x05\x00\
        \xa2\x03\x02\x01\x00";
    blob[29] = hash;
    blob[59] = hash;
    blob[66] = salt_len;
    blob
}

/// The scheme that a peer's AlgorithmIdentifier names. ECDSA identifiers do not name the curve, so the certificate
/// that will verify the signature completes them; an identifier of another family than its key is refused.
pub fn parse_algorithm_identifier(der: &[u8], signer: &Certificate) -> Result<SignatureScheme, Error> {
    use SignatureScheme as S;
    let mut algorithm = der::sequence(der, WHAT)?;
    let oid = algorithm.value(der::OID)?;
    if oid == RSA_PSS {
        let params = algorithm.nested(der::SEQUENCE)?;
        algorithm.finish()?;
        return match signer.key_kind() {
            Some(KeyKind::Rsa) => parse_pss(params),
            _ => Err(OTHER_KEY),
        };
    }
    // Absent and NULL parameters are both seen for all of these.
    algorithm.optional(der::NULL)?;
    algorithm.finish()?;
    let known = [
        (S::EcdsaP256Sha256, PublicKeyKind::Key(KeyKind::P256)),
        (S::EcdsaP256Sha384, PublicKeyKind::Key(KeyKind::P256)),
        (S::EcdsaP384Sha256, PublicKeyKind::Key(KeyKind::P384)),
        (S::EcdsaP384Sha384, PublicKeyKind::Key(KeyKind::P384)),
        (S::RsaPkcs1Sha1, PublicKeyKind::Key(KeyKind::Rsa)),
        (S::RsaPkcs1Sha256, PublicKeyKind::Key(KeyKind::Rsa)),
        (S::RsaPkcs1Sha384, PublicKeyKind::Key(KeyKind::Rsa)),
        (S::RsaPkcs1Sha512, PublicKeyKind::Key(KeyKind::Rsa)),
        (S::Ed25519, PublicKeyKind::Ed25519),
    ];
    let mut named = known.into_iter().filter(|(scheme, _)| oid_of(*scheme) == Some(oid)).peekable();
    if named.peek().is_none() {
        return Err(Error::Unsupported("the signature algorithm"));
    }
    named.find(|(_, kind)| *kind == signer.public_key_kind()).map(|(scheme, _)| scheme).ok_or(OTHER_KEY)
}

const WHAT: &str = "AlgorithmIdentifier";
const OTHER_KEY: Error = Error::Unsupported("a signature algorithm that does not fit the certificate's key");

fn oid_of(scheme: SignatureScheme) -> Option<&'static [u8]> {
    der::sequence(algorithm_identifier(scheme), WHAT).and_then(|mut algorithm| algorithm.value(der::OID)).ok()
}

/// RSASSA-PSS-params (RFC 8017 appendix A.2.3), of which we take what method 14 peers use: MGF1 with the same hash
/// and a salt as long as the hash. Leaving a field out means its default, and all defaults but the trailer are SHA-1.
fn parse_pss(mut params: Der<'_>) -> Result<SignatureScheme, Error> {
    const ODD: Error = Error::Unsupported("these RSASSA-PSS parameters");
    let hash = params.optional(der::context(0))?.ok_or(ODD)?;
    let mask = params.optional(der::context(1))?.ok_or(ODD)?;
    let salt = params.optional(der::context(2))?.ok_or(ODD)?;
    let trailer = params.optional(der::context(3))?;
    params.finish()?;

    let hash = parse_hash(hash.value)?;
    let mut mask = der::sequence(mask.value, WHAT)?;
    if mask.value(der::OID)? != MGF1 || parse_hash(mask.element(der::SEQUENCE)?.whole)? != hash {
        return Err(ODD);
    }
    let trailer_is_1 = trailer.is_none_or(|element| element.value == [der::INTEGER, 1, 1]);
    let (scheme, salt_len) = match hash {
        SHA256 => (SignatureScheme::RsaPssSha256, 32),
        SHA384 => (SignatureScheme::RsaPssSha384, 48),
        SHA512 => (SignatureScheme::RsaPssSha512, 64),
        _ => return Err(ODD),
    };
    let salt_fits = salt.value == [der::INTEGER, 1, salt_len];
    if trailer_is_1 && salt_fits { Ok(scheme) } else { Err(ODD) }
}

/// The OID of a hash AlgorithmIdentifier with absent or NULL parameters.
fn parse_hash(der: &[u8]) -> Result<&[u8], Error> {
    let mut algorithm = der::sequence(der, WHAT)?;
    let oid = algorithm.value(der::OID)?;
    algorithm.optional(der::NULL)?;
    algorithm.finish().map(|()| oid)
}

#[cfg(test)]
mod tests;
