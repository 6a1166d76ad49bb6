//! RSA as far as ring does not go: signatures over SHA-1, which older clients take and nothing else (RFC 7296
//! section 2.15), and new keys. The only place that names the crate `rsa`.

use std::fmt;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
use rsa::{BoxedUint, Pkcs1v15Sign, PrivateKey};
use zeroize::Zeroizing;

use super::der::{self, Der};
use super::{Error, Secret, hash};

/// Octets in front of a SHA-1 digest in PKCS#1 v1.5 (RFC 8017 section 9.2, note 1).
const SHA1_DIGEST_INFO: &[u8] = b"\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14";

/// AlgorithmIdentifier of rsaEncryption (RFC 8017 appendix A.1).
const RSA_ENCRYPTION: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// Length of the modulus of new keys, in bits: every client takes it, and it is good for longer than certificates last.
const NEW_KEY_BITS: usize = 2048;

/// Signs by RSASSA-PKCS1-v1_5 with SHA-1. The crate wipes the key when it is dropped.
pub(super) struct Sha1Signer(PrivateKey);

impl Sha1Signer {
    /// From a PKCS#1 RSAPrivateKey (RFC 8017 appendix A.1.2) of two primes.
    pub(super) fn from_pkcs1(pkcs1: &[u8]) -> Result<Self, Error> {
        let mut key = der::sequence(pkcs1, "RSA private key")?;
        key.value(der::INTEGER)?;
        let [n, e, d, p, q] = [(); 5].map(|()| integer(&mut key));
        let key = PrivateKey::from_components(n?, e?, d?, vec![p?, q?]);
        key.map(Self).map_err(|_| Error::BadKey("the parts of the RSA key do not fit"))
    }

    /// Signs `message`, blinded by fresh randomness. The signature leaves only if it verifies by `public`, an
    /// RSAPublicKey: one that went wrong on the way would give the key away.
    pub(super) fn sign(&self, public: &[u8], message: &[u8]) -> Result<Vec<u8>, Error> {
        let padding = Pkcs1v15Sign { hash_len: Some(20), prefix: SHA1_DIGEST_INFO.into() };
        let mut blinding = Randomness(SystemRandom::new());
        let signature = self
            .0
            .sign_with_rng(&mut blinding, padding, &hash::sha1(&[message]))
            .map_err(|_| Error::Internal)?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, public)
            .verify(message, &signature)
            .map_err(|_| Error::Internal)?;
        Ok(signature)
    }
}

impl fmt::Debug for Sha1Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha1Signer([redacted])")
    }
}

/// A new key of 2048 bits, as PKCS#8 in DER (RFC 5958). It takes a tenth of a second, more or less.
pub fn generate() -> Result<Secret, Error> {
    let internal = |_| Error::Internal;
    let key = PrivateKey::new(&mut Randomness(SystemRandom::new()), NEW_KEY_BITS).map_err(internal)?;
    // The larger prime first, as everybody writes it.
    let mut primes: Vec<_> = key.primes().iter().map(|prime| prime.as_ref().clone()).collect();
    primes.sort_by(|a, b| b.cmp(a));
    let key = PrivateKey::from_primes(primes, key.e().clone()).map_err(internal)?;
    let [p, q] = key.primes() else { return Err(Error::Internal) };
    let (Some(dp), Some(dq), Some(qinv)) = (key.dp(), key.dq(), key.crt_coefficient()) else {
        return Err(Error::Internal);
    };
    let mut body = Zeroizing::new(element(der::INTEGER, &[0]));
    for number in [key.n().as_ref(), key.e(), key.d(), p.as_ref(), q.as_ref(), dp, dq, &qinv] {
        let octets = Zeroizing::new(number.to_be_bytes());
        body.extend(&*Zeroizing::new(unsigned(&octets)));
    }
    let pkcs1 = Zeroizing::new(element(der::SEQUENCE, &body));
    let mut body = Zeroizing::new(element(der::INTEGER, &[0]));
    body.extend(RSA_ENCRYPTION);
    body.extend(&*Zeroizing::new(element(der::OCTET_STRING, &pkcs1)));
    Ok(Secret::new(element(der::SEQUENCE, &body)))
}

/// The next element, which must be a positive INTEGER.
fn integer(der: &mut Der<'_>) -> Result<BoxedUint, Error> {
    let value = der.value(der::INTEGER)?;
    let value = value.strip_prefix(&[0]).unwrap_or(value);
    let bits = u32::try_from(value.len() * 8).map_err(|_| der.malformed())?;
    BoxedUint::from_be_slice(value, bits).map_err(|_| der.malformed())
}

/// The INTEGER of an unsigned number, big-endian.
fn unsigned(octets: &[u8]) -> Vec<u8> {
    let leading = octets.iter().take_while(|octet| **octet == 0).count();
    let value = octets.get(leading..).unwrap_or_default();
    let mut content = Zeroizing::new(Vec::with_capacity(value.len() + 1));
    content.extend(value.first().is_none_or(|octet| octet & 0x80 != 0).then_some(0));
    content.extend(value);
    element(der::INTEGER, &content)
}

/// A DER element; its content is shorter than 64 KiB.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(content.len() + 4);
    whole.push(tag);
    match content.len() {
        len @ 0..0x80 => whole.push(len as u8),
        len @ 0x80..0x100 => whole.extend([0x81, len as u8]),
        len => whole.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    whole.extend(content);
    whole
}

/// The system's random generator under the crate's name for one.
struct Randomness(SystemRandom);

impl TryRng for Randomness {
    type Error = ring::error::Unspecified;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut octets = [0; 4];
        self.try_fill_bytes(&mut octets).map(|()| u32::from_ne_bytes(octets))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut octets = [0; 8];
        self.try_fill_bytes(&mut octets).map(|()| u64::from_ne_bytes(octets))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(out)
    }
}

impl TryCryptoRng for Randomness {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::pki::tests::{cert, file};
    use crate::crypto::sign::{EcdsaForm, KeyKind, PrivateKey, SignatureScheme};

    const MESSAGE: &[u8] = b"the signed octets";

    /// The RSAPrivateKey in a PrivateKeyInfo.
    fn pkcs1(pkcs8: &[u8]) -> &[u8] {
        let mut info = der::sequence(pkcs8, "test").unwrap();
        [der::INTEGER, der::SEQUENCE, der::OCTET_STRING].map(|tag| info.value(tag).unwrap())[2]
    }

    /// PKCS#1 v1.5 leaves nothing to chance: whoever signs, the signature is the same.
    #[test]
    fn sha_1_signature_is_that_of_openssl() {
        let key = PrivateKey::from_pem(&file("rsa.key.pem")).unwrap();
        for _ in 0..3 {
            let signature = key.sign(SignatureScheme::RsaPkcs1Sha1, MESSAGE).unwrap();
            assert_eq!(signature, file("rsa-sha1.sig"));
        }
    }

    /// A signature that does not verify stays here: with the public key of another, none does.
    #[test]
    fn what_does_not_verify_does_not_leave() {
        let (new, own) = (generate().unwrap(), cert("rsa.cert.pem"));
        let signer = Sha1Signer::from_pkcs1(pkcs1(new.expose())).unwrap();
        assert_eq!(signer.sign(own.public_key(), MESSAGE), Err(Error::Internal));
        assert_eq!(format!("{signer:?}"), "Sha1Signer([redacted])");
    }

    #[test]
    fn new_keys_are_keys_of_ring_and_differ() {
        let new = || generate().unwrap();
        let (a, b) = (new(), new());
        assert_ne!(a.expose(), b.expose());
        for new in [a, b] {
            let key = PrivateKey::from_pkcs8(new.expose()).unwrap();
            assert_eq!((key.kind(), key.public_key().len()), (KeyKind::Rsa, 270));
            for scheme in [SignatureScheme::RsaPkcs1Sha1, SignatureScheme::RsaPssSha512] {
                assert_eq!(key.sign(scheme, MESSAGE).unwrap().len(), 256);
            }
        }
    }

    const SHA256_DIGEST_INFO: &[u8] =
        b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";

    /// A signature whose padding ends in any octets.
    fn signed(octets: &[u8]) -> Vec<u8> {
        let pem = file("rsa.pkcs8.pem");
        let pkcs8 = crate::crypto::pem::pkcs8_der(&pem).unwrap();
        let signer = Sha1Signer::from_pkcs1(pkcs1(pkcs8.expose())).unwrap();
        let padding = Pkcs1v15Sign { hash_len: None, prefix: Box::new([]) };
        signer.0.sign_with_rng(&mut Randomness(SystemRandom::new()), padding, octets).unwrap()
    }

    /// N38 and N40: paddings that only one who has the key can make, and that are not those of PKCS#1.
    #[test]
    fn n38_n40_rsa_paddings_that_are_not_exactly_right() {
        let hash = hash::sha256(&[MESSAGE]);
        let good = [SHA256_DIGEST_INFO, &hash].concat();
        let mut other_hash = good.clone();
        other_hash[20] ^= 1;
        let mut wrong_length = good.clone();
        wrong_length[18] = 0x1f;
        let without_null = b"\x30\x2f\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x04\x20";
        let sha1 = b"\x30\x2d\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x20";
        let garbage_in_parameters = {
            let info = b"\x30\x35\x30\x11\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x04\x04\x01\x02\x03\x04\x04\x20";
            [&info[..], &hash].concat()
        };
        let certificate = cert("rsa.cert.pem");
        let verified = |octets: &[u8]| {
            let signature = signed(octets);
            let by_scheme =
                certificate.verify(SignatureScheme::RsaPkcs1Sha256, EcdsaForm::Der, MESSAGE, &signature);
            let by_method_1 = certificate.verify_rsa_any_hash(MESSAGE, &signature);
            assert_eq!(by_scheme.is_ok(), by_method_1.is_ok());
            by_method_1.is_ok()
        };
        assert!(verified(&good), "SHA-256 by method 1 is taken");
        for (name, octets) in [
            ("the hash alone", hash.to_vec()),
            ("missing NULL", [&without_null[..], &hash].concat()),
            ("garbage after the hash", [&good[..], &[0; 4]].concat()),
            ("much garbage after the hash", [&good[..], &[7; 180]].concat()),
            ("garbage in the parameters", garbage_in_parameters),
            ("a cut hash", good[..good.len() - 1].to_vec()),
            ("a cut DigestInfo", good[1..].to_vec()),
            ("half a DigestInfo", good[10..].to_vec()),
            ("another hash", other_hash),
            ("a wrong length", wrong_length),
            ("SHA-1 by name", [&sha1[..], &hash].concat()),
            ("nothing", vec![]),
        ] {
            assert!(!verified(&octets), "{name}");
        }
    }

    /// N40: with an exponent of 3 anybody can make a number whose cube begins as a signature does.
    #[test]
    fn n40_cube_roots_are_no_signatures() {
        let certificate = cert("rsa-e3.cert.pem");
        for zeros_first in [false, true] {
            let mut wanted = vec![0, 1];
            wanted.extend([0xff; 8]);
            wanted.push(0);
            wanted.extend(SHA256_DIGEST_INFO);
            wanted.extend(hash::sha256(&[MESSAGE]));
            let begins = wanted.clone();
            wanted.resize(256, if zeros_first { 0 } else { 0xff });
            let root = cube_root(&wanted);
            let cube = Wide::from_be_slice(&[&[0; 256], &root[..]].concat());
            let cube = cube.wrapping_mul(&cube).wrapping_mul(&cube).to_be_bytes();
            let cube: &[u8] = cube.as_ref();
            assert!(zeros_first || cube[256..].starts_with(&begins), "it does begin so");
            assert_eq!(certificate.verify_rsa_any_hash(MESSAGE, &root), Err(Error::BadSignature));
            let scheme = SignatureScheme::RsaPkcs1Sha256;
            let verified = certificate.verify(scheme, EcdsaForm::Der, MESSAGE, &root);
            assert_eq!(verified, Err(Error::BadSignature));
        }
    }

    type Wide = crypto_bigint::Uint<{ 4096 / crypto_bigint::Limb::BITS as usize }>;

    /// The largest number whose cube is not above `of` (256 octets), in as many octets.
    fn cube_root(of: &[u8]) -> Vec<u8> {
        let of = Wide::from_be_slice(&[&[0; 256], of].concat());
        let mut root = Wide::ZERO;
        for bit in (0..684).rev() {
            let next = root | Wide::ONE.shl_vartime(bit);
            if next.wrapping_mul(&next).wrapping_mul(&next) <= of {
                root = next;
            }
        }
        let octets = root.to_be_bytes();
        let octets: &[u8] = octets.as_ref();
        octets[256..].to_vec()
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let pem = file("rsa.pkcs8.pem");
        let pkcs8 = crate::crypto::pem::pkcs8_der(&pem).unwrap();
        let pkcs1 = pkcs1(pkcs8.expose());
        Sha1Signer::from_pkcs1(pkcs1).unwrap();
        for at in [20, 300, 560, 700] {
            let mut bad = pkcs1.to_vec();
            bad[at] ^= 4;
            assert!(Sha1Signer::from_pkcs1(&bad).is_err(), "{at}");
        }
        for len in 0..pkcs1.len() {
            assert!(Sha1Signer::from_pkcs1(&pkcs1[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn lengths_of_der() {
        for (len, head) in [
            (0, &[4, 0][..]),
            (0x7f, &[4, 0x7f]),
            (0x80, &[4, 0x81, 0x80]),
            (0xff, &[4, 0x81, 0xff]),
            (0x100, &[4, 0x82, 1, 0]),
        ] {
            assert_eq!(element(4, &vec![7; len])[..head.len()], *head);
        }
        assert_eq!(unsigned(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0, 1]), [2, 1, 1]);
        assert_eq!(unsigned(&[0]), [2, 1, 0]);
    }
}
