//! Signatures: our private key, and verification by a certificate's key.

use std::fmt;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{
    self as rs, EcdsaKeyPair, KeyPair as _, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};

use super::der::{self, Der};
use super::pki::{Certificate, PublicKeyKind};
use super::rsa::Sha1Signer;
use super::{Error, pem};

/// What kind a key is; it decides which schemes it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 bits or more.
    Rsa,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "ECDSA P-256",
            Self::P384 => "ECDSA P-384",
            Self::Rsa => "RSA",
        })
    }
}

/// A signature algorithm with its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureScheme {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256Sha256,
    /// ECDSA on P-256 with SHA-384; verified only.
    EcdsaP256Sha384,
    /// ECDSA on P-384 with SHA-256; verified only.
    EcdsaP384Sha256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-1.
    RsaPkcs1Sha1,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaPkcs1Sha512,
    /// RSASSA-PSS with SHA-256, MGF1 with the same hash, salt as long as the hash.
    RsaPssSha256,
    /// RSASSA-PSS with SHA-384, likewise.
    RsaPssSha384,
    /// RSASSA-PSS with SHA-512, likewise.
    RsaPssSha512,
    /// Ed25519; verified only.
    Ed25519,
}

/// How an ECDSA signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcdsaForm {
    /// ASN.1 DER, as in AUTH method 14 (RFC 7427) and certificates.
    Der,
    /// r || s, each as long as the field, as in AUTH methods 9 and 10 (RFC 4754).
    Fixed,
}

/// A private key for signing. A copy is the same key in the same place.
#[derive(Clone)]
pub struct PrivateKey(Arc<Signer>);

enum Signer {
    Ecdsa { kind: KeyKind, pair: Box<EcdsaKeyPair> },
    Rsa { pair: Box<RsaKeyPair>, sha1: Box<Sha1Signer> },
}

impl PrivateKey {
    /// The first private key of a PEM file: PKCS#8, PKCS#1 or SEC1.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        pem::private_key(pem)
    }

    /// From a PKCS#8 PrivateKeyInfo (RFC 5958): RSA, or EC on P-256 or P-384.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Error> {
        let mut info = der::sequence(pkcs8, "PKCS#8 key")?;
        info.value(der::INTEGER)?;
        let algorithm = info.element(der::SEQUENCE)?;
        let key = info.value(der::OCTET_STRING)?;
        match PublicKeyKind::from_algorithm(algorithm.value)? {
            PublicKeyKind::Key(KeyKind::Rsa) => Self::from_pkcs1(key),
            PublicKeyKind::Key(kind @ (KeyKind::P256 | KeyKind::P384)) => Self::from_ec(kind, key),
            PublicKeyKind::Ed25519 => Err(Error::BadKey("Ed25519 is not a key for IKE clients; use P-256")),
            PublicKeyKind::Other(_) => Err(Error::BadKey(WHICH_KEYS)),
        }
    }

    /// From a PKCS#1 RSAPrivateKey (RFC 8017 appendix A.1.2).
    pub fn from_pkcs1(pkcs1: &[u8]) -> Result<Self, Error> {
        let pair = RsaKeyPair::from_der(pkcs1)
            .map_err(|_| Error::BadKey("RSA keys must be valid and have 2048 to 4096 bits"))?;
        let sha1 = Sha1Signer::from_pkcs1(pkcs1)?;
        Ok(Self(Arc::new(Signer::Rsa { pair: Box::new(pair), sha1: Box::new(sha1) })))
    }

    /// From a SEC1 ECPrivateKey (RFC 5915) that names its curve.
    pub fn from_sec1(sec1: &[u8]) -> Result<Self, Error> {
        let curve = EcPrivateKey::parse(sec1)?.curve.ok_or(Error::BadKey("it does not name its curve"))?;
        match PublicKeyKind::from_curve(curve) {
            PublicKeyKind::Key(kind) => Self::from_ec(kind, sec1),
            _ => Err(Error::BadKey(WHICH_KEYS)),
        }
    }

    fn from_ec(kind: KeyKind, sec1: &[u8]) -> Result<Self, Error> {
        let alg = match kind {
            KeyKind::P256 => &rs::ECDSA_P256_SHA256_ASN1_SIGNING,
            KeyKind::P384 => &rs::ECDSA_P384_SHA384_ASN1_SIGNING,
            KeyKind::Rsa => return Err(Error::Internal),
        };
        let key = EcPrivateKey::parse(sec1)?;
        let public = key.public.ok_or(Error::BadKey("an EC key must come with its public part"))?;
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(alg, key.private, public, &SystemRandom::new())
                .map_err(|_| Error::BadKey("the private and public part do not fit"))?;
        Ok(Self(Arc::new(Signer::Ecdsa { kind, pair: Box::new(pair) })))
    }

    /// The kind of key.
    pub fn kind(&self) -> KeyKind {
        match &*self.0 {
            Signer::Ecdsa { kind, .. } => *kind,
            Signer::Rsa { .. } => KeyKind::Rsa,
        }
    }

    /// The public key as in the BIT STRING of a SubjectPublicKeyInfo: an uncompressed point, or an RSAPublicKey.
    pub fn public_key(&self) -> &[u8] {
        match &*self.0 {
            Signer::Ecdsa { pair, .. } => pair.public_key().as_ref(),
            Signer::Rsa { pair, .. } => pair.public_key().as_ref(),
        }
    }

    /// Whether this is the key of `certificate`.
    pub fn public_matches(&self, certificate: &Certificate) -> bool {
        certificate.key_kind() == Some(self.kind()) && certificate.public_key() == self.public_key()
    }

    /// Signs `message`. ECDSA signatures are in DER; [`ecdsa_der_to_fixed`] converts.
    pub fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, Error> {
        let rng = SystemRandom::new();
        match &*self.0 {
            Signer::Ecdsa { kind, pair } => {
                let fits = matches!(
                    (kind, scheme),
                    (KeyKind::P256, SignatureScheme::EcdsaP256Sha256)
                        | (KeyKind::P384, SignatureScheme::EcdsaP384Sha384)
                );
                if !fits {
                    return Err(Error::Unsupported("signing with this hash and key"));
                }
                let signature = pair.sign(&rng, message).map_err(|_| Error::Internal)?;
                Ok(signature.as_ref().to_vec())
            }
            Signer::Rsa { pair, sha1 } => {
                let padding: &'static dyn rs::RsaEncoding = match scheme {
                    SignatureScheme::RsaPkcs1Sha1 => {
                        return sha1.sign(pair.public_key().as_ref(), message);
                    }
                    SignatureScheme::RsaPkcs1Sha256 => &rs::RSA_PKCS1_SHA256,
                    SignatureScheme::RsaPkcs1Sha384 => &rs::RSA_PKCS1_SHA384,
                    SignatureScheme::RsaPkcs1Sha512 => &rs::RSA_PKCS1_SHA512,
                    SignatureScheme::RsaPssSha256 => &rs::RSA_PSS_SHA256,
                    SignatureScheme::RsaPssSha384 => &rs::RSA_PSS_SHA384,
                    SignatureScheme::RsaPssSha512 => &rs::RSA_PSS_SHA512,
                    _ => return Err(Error::Unsupported("signing with this hash and key")),
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &rng, message, &mut signature).map_err(|_| Error::Internal)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({:?}, [redacted])", self.kind())
    }
}

const WHICH_KEYS: &str = "its algorithm is not RSA, EC P-256 or EC P-384";

/// The parts of an ECPrivateKey (RFC 5915).
struct EcPrivateKey<'a> {
    private: &'a [u8],
    curve: Option<&'a [u8]>,
    public: Option<&'a [u8]>,
}

impl<'a> EcPrivateKey<'a> {
    fn parse(sec1: &'a [u8]) -> Result<Self, Error> {
        let mut key = der::sequence(sec1, "EC private key")?;
        key.value(der::INTEGER)?;
        let private = key.value(der::OCTET_STRING)?;
        let curve = key.optional(der::context(0))?;
        let public = key.optional(der::context(1))?;
        Ok(Self {
            private,
            curve: curve.map(|e| Der::new(e.value, "EC curve").value(der::OID)).transpose()?,
            public: public.map(|e| Der::new(e.value, "EC public key").bit_string()).transpose()?,
        })
    }
}

impl Certificate {
    /// Verifies that `signature` over `message` was made by this certificate's key. `form` matters for ECDSA only.
    pub fn verify(
        &self,
        scheme: SignatureScheme,
        form: EcdsaForm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        use KeyKind::{P256, P384, Rsa};
        use PublicKeyKind::{Ed25519, Key};
        use SignatureScheme as S;

        let (alg, ecdsa_width): (&dyn VerificationAlgorithm, _) = match (self.public_key_kind(), scheme) {
            (Key(P256), S::EcdsaP256Sha256) => (&rs::ECDSA_P256_SHA256_ASN1, Some(32)),
            (Key(P256), S::EcdsaP256Sha384) => (&rs::ECDSA_P256_SHA384_ASN1, Some(32)),
            (Key(P384), S::EcdsaP384Sha256) => (&rs::ECDSA_P384_SHA256_ASN1, Some(48)),
            (Key(P384), S::EcdsaP384Sha384) => (&rs::ECDSA_P384_SHA384_ASN1, Some(48)),
            (Key(Rsa), S::RsaPkcs1Sha1) => (&rs::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, None),
            (Key(Rsa), S::RsaPkcs1Sha256) => (&rs::RSA_PKCS1_2048_8192_SHA256, None),
            (Key(Rsa), S::RsaPkcs1Sha384) => (&rs::RSA_PKCS1_2048_8192_SHA384, None),
            (Key(Rsa), S::RsaPkcs1Sha512) => (&rs::RSA_PKCS1_2048_8192_SHA512, None),
            (Key(Rsa), S::RsaPssSha256) => (&rs::RSA_PSS_2048_8192_SHA256, None),
            (Key(Rsa), S::RsaPssSha384) => (&rs::RSA_PSS_2048_8192_SHA384, None),
            (Key(Rsa), S::RsaPssSha512) => (&rs::RSA_PSS_2048_8192_SHA512, None),
            (Ed25519, S::Ed25519) => (&rs::ED25519, None),
            (PublicKeyKind::Other(name), _) => return Err(Error::Unsupported(name)),
            _ => return Err(Error::BadSignature),
        };
        let key = UnparsedPublicKey::new(alg, self.public_key());
        match (ecdsa_width, form) {
            (Some(width), EcdsaForm::Fixed) => {
                key.verify(message, &ecdsa_fixed_to_der(signature, width).ok_or(Error::BadSignature)?)
            }
            _ => key.verify(message, signature),
        }
        .map_err(|_| Error::BadSignature)
    }

    /// Verifies AUTH method 1, RSA PKCS#1 v1.5 (RFC 7296 section 2.15). The hash is SHA-1 for most peers, but some
    /// use SHA-2 there. Returns what it was.
    pub fn verify_rsa_any_hash(&self, message: &[u8], signature: &[u8]) -> Result<SignatureScheme, Error> {
        [
            SignatureScheme::RsaPkcs1Sha1,
            SignatureScheme::RsaPkcs1Sha256,
            SignatureScheme::RsaPkcs1Sha384,
            SignatureScheme::RsaPkcs1Sha512,
        ]
        .into_iter()
        .find(|scheme| self.verify(*scheme, EcdsaForm::Der, message, signature).is_ok())
        .ok_or(Error::BadSignature)
    }
}

/// An ECDSA signature in DER as r || s, each `width` octets (32 for P-256, 48 for P-384).
pub fn ecdsa_der_to_fixed(signature: &[u8], width: usize) -> Result<Vec<u8>, Error> {
    let mut parts = der::sequence(signature, "ECDSA signature")?;
    let mut fixed = Vec::with_capacity(2 * width);
    for _ in 0..2 {
        let value = parts.value(der::INTEGER)?;
        let value = value.strip_prefix(&[0]).unwrap_or(value);
        let padding = width.checked_sub(value.len()).ok_or(parts.malformed())?;
        fixed.resize(fixed.len() + padding, 0);
        fixed.extend_from_slice(value);
    }
    parts.finish().map(|()| fixed)
}

/// r || s in DER; `None` unless the length is twice `width`.
pub fn ecdsa_fixed_to_der(signature: &[u8], width: usize) -> Option<Vec<u8>> {
    let (r, s) = signature.split_at_checked(width).filter(|(_, s)| s.len() == width)?;
    let mut body = Vec::with_capacity(2 * width + 6);
    for value in [r, s] {
        let skip = value.iter().take_while(|octet| **octet == 0).count();
        let value = value.get(skip..)?;
        // Positive: a leading zero where the top bit is set (and for zero itself, which never verifies).
        let zero = value.first().is_none_or(|octet| octet & 0x80 != 0);
        body.extend([der::INTEGER, u8::try_from(value.len()).ok()? + u8::from(zero)]);
        body.extend(zero.then_some(0));
        body.extend_from_slice(value);
    }
    let mut whole = vec![der::SEQUENCE, u8::try_from(body.len()).ok().filter(|len| *len < 0x80)?];
    whole.extend(body);
    Some(whole)
}

#[cfg(test)]
mod tests;
