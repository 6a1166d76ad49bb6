//! A PKCS#12 file (RFC 7292) for the clients' systems: a key, its certificate and the authority's, under a password.
//!
//! The form is the old one, SHA-1 and Triple-DES, since it is the one that every client reads: Apple's and older
//! Windows systems do not know the newer ciphers. What it lacks in strength the password must have: give a random one.

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use ring::hmac;
use zeroize::Zeroizing;

use crate::base::Random;

use super::der::{INTEGER, NULL, OCTET_STRING, OID, SEQUENCE, SET, context, context_primitive};
use super::hash::sha1;

/// What the file holds; everything in DER.
#[derive(Clone, Copy)]
pub struct Contents<'a> {
    /// What systems show as the name of the key.
    pub name: &'a str,
    /// The private key in PKCS#8.
    pub key: &'a [u8],
    /// Its certificate.
    pub certificate: &'a [u8],
    /// The certificate of the authority that issued it.
    pub authority: &'a [u8],
}

/// Rounds of key derivation, as usual for this form.
const ITERATIONS: u16 = 2048;
const BMP_STRING: u8 = 0x1e;

// Object identifiers, encoded. RFC 7292 appendix D, RFC 2985, RFC 5652.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 20];
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 21];
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
const PBE_SHA1_3DES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1, 3];
const SHROUDED_KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 2];
const CERT_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 26];

/// Writes the file, sealed with `password`.
pub fn emit(contents: Contents<'_>, password: &str, random: &mut dyn Random) -> Vec<u8> {
    let mut sealer = Sealer { password: bmp_with_end(password), random };
    let id = sha1(&[contents.certificate]);
    let (scheme, sealed) = sealer.seal(contents.key);
    let key_bag = bag(
        SHROUDED_KEY_BAG,
        &sequence(&[&scheme, &tlv(OCTET_STRING, &sealed)]),
        &attributes(contents.name, &id),
    );
    let certificates =
        [cert_bag(contents.certificate, &attributes(contents.name, &id)), cert_bag(contents.authority, &[])];
    let safes = sequence(&[
        &encrypted_data(&sequence(&[&certificates.concat()]), &mut sealer),
        &data(&sequence(&[&key_bag])),
    ]);
    let mac = sealer.mac(&safes);
    sequence(&[&tlv(INTEGER, &[3]), &data(&safes), &mac])
}

/// The password and the salts.
struct Sealer<'a> {
    password: Zeroizing<Vec<u8>>,
    random: &'a mut dyn Random,
}

impl Sealer<'_> {
    /// Encrypts; the AlgorithmIdentifier and the ciphertext.
    fn seal(&mut self, plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let salt = self.salt();
        let key = Zeroizing::new(derive::<24>(1, &self.password, &salt));
        let iv = derive::<8>(2, &self.password, &salt);
        let cipher = cbc::Encryptor::<des::TdesEde3>::new(&(*key).into(), &iv.into());
        let scheme =
            sequence(&[&tlv(OID, PBE_SHA1_3DES), &sequence(&[&tlv(OCTET_STRING, &salt), &iterations()])]);
        (scheme, cipher.encrypt_padded_vec::<Pkcs7>(plain))
    }

    /// MacData over the content.
    fn mac(&mut self, content: &[u8]) -> Vec<u8> {
        let salt = self.salt();
        let key = Zeroizing::new(derive::<20>(3, &self.password, &salt));
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &*key);
        let tag = hmac::sign(&key, content);
        let algorithm = sequence(&[&tlv(OID, SHA1), &tlv(NULL, &[])]);
        let digest = sequence(&[&algorithm, &tlv(OCTET_STRING, tag.as_ref())]);
        sequence(&[&digest, &tlv(OCTET_STRING, &salt), &iterations()])
    }

    fn salt(&mut self) -> [u8; 8] {
        let mut salt = [0; 8];
        self.random.fill(&mut salt);
        salt
    }
}

/// The password-based key derivation of RFC 7292 appendix B.2 with SHA-1, for at most two digests of output.
fn derive<const N: usize>(purpose: u8, password: &[u8], salt: &[u8]) -> [u8; N] {
    const BLOCK: usize = 64;
    let stretched = |bytes: &[u8]| {
        let len = bytes.len().div_ceil(BLOCK) * BLOCK;
        bytes.iter().copied().cycle().take(len).collect::<Vec<u8>>()
    };
    let mut input = Zeroizing::new([stretched(salt), stretched(password)].concat());
    let mut out = [0; N];
    for piece in out.chunks_mut(20) {
        let mut digest = sha1(&[&[purpose; BLOCK], &input]);
        for _ in 1..ITERATIONS {
            digest = sha1(&[&digest]);
        }
        for (to, from) in piece.iter_mut().zip(digest) {
            *to = from;
        }
        let addend = stretched(&digest);
        for block in input.chunks_mut(BLOCK) {
            // block + addend + 1, big-endian, modulo 2^512
            let mut carry = 1;
            for (octet, plus) in block.iter_mut().zip(&addend).rev() {
                let sum = u16::from(*octet) + u16::from(*plus) + carry;
                let [high, low] = sum.to_be_bytes();
                (carry, *octet) = (u16::from(high), low);
            }
        }
    }
    out
}

/// UTF-16, big-endian.
fn bmp(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn bmp_with_end(text: &str) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * text.len() + 2));
    bytes.extend(text.encode_utf16().chain([0]).flat_map(u16::to_be_bytes));
    bytes
}

fn iterations() -> Vec<u8> {
    tlv(INTEGER, &ITERATIONS.to_be_bytes())
}

/// A ContentInfo with plain content.
fn data(content: &[u8]) -> Vec<u8> {
    sequence(&[&tlv(OID, DATA), &tlv(context(0), &tlv(OCTET_STRING, content))])
}

/// A ContentInfo with encrypted content.
fn encrypted_data(content: &[u8], sealer: &mut Sealer<'_>) -> Vec<u8> {
    let (scheme, sealed) = sealer.seal(content);
    let info = sequence(&[&tlv(OID, DATA), &scheme, &tlv(context_primitive(0), &sealed)]);
    let encrypted = sequence(&[&tlv(INTEGER, &[0]), &info]);
    sequence(&[&tlv(OID, ENCRYPTED_DATA), &tlv(context(0), &encrypted)])
}

fn cert_bag(certificate: &[u8], attributes: &[u8]) -> Vec<u8> {
    let content = tlv(context(0), &tlv(OCTET_STRING, certificate));
    bag(CERT_BAG, &sequence(&[&tlv(OID, X509_CERTIFICATE), &content]), attributes)
}

fn bag(kind: &[u8], value: &[u8], attributes: &[u8]) -> Vec<u8> {
    sequence(&[&tlv(OID, kind), &tlv(context(0), value), attributes])
}

/// The name that people see, and what ties a key to its certificate.
fn attributes(name: &str, id: &[u8]) -> Vec<u8> {
    let mut both = [(FRIENDLY_NAME, tlv(BMP_STRING, &bmp(name))), (LOCAL_KEY_ID, tlv(OCTET_STRING, id))]
        .map(|(kind, value)| sequence(&[&tlv(OID, kind), &tlv(SET, &value)]));
    both.sort(); // DER: a SET OF is in the order of its encodings
    tlv(SET, &both.concat())
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// One element. Contents here are far below 2^24 octets.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = (content.len() as u32).to_be_bytes();
    let significant = length.iter().position(|octet| *octet != 0).map_or(0, |zeros| 4 - zeros);
    if content.len() >= 0x80 {
        out.push(0x80 | significant as u8);
        out.extend(length.iter().skip(4 - significant));
    } else {
        out.push(content.len() as u8);
    }
    out.extend(content);
    out
}

#[cfg(test)]
mod tests {
    use super::super::der::{self, Der};
    use super::super::rng::SystemRandom;
    use super::*;

    #[test]
    fn keys_are_derived_as_others_do() {
        // openssl kdf -keylen 24 -kdfopt digest:SHA1 -kdfopt hexpass:0073006d006500670000 \
        //     -kdfopt hexsalt:0a58cf64530d823f -kdfopt iter:2048 -kdfopt id:1 PKCS12KDF
        let password = bmp_with_end("smeg");
        let salt = [0x0a, 0x58, 0xcf, 0x64, 0x53, 0x0d, 0x82, 0x3f];
        let key = derive::<24>(1, &password, &salt);
        assert_eq!(hex(&key), "a47d8885ac455b8c81b82b5b3117b212a272bfd5a0b6babf");
        assert_eq!(hex(&derive::<8>(2, &password, &salt)), "7e450a95c7b0fba4");
        assert_eq!(hex(&derive::<20>(3, &password, &salt)), "044d8d92659b1119a81493c238b7086dbe945564");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_file_is_der_and_new_each_time() {
        let contents =
            Contents { name: "tablet", key: &[7; 150], certificate: &[8; 400], authority: &[9; 70_000] };
        let (one, other) = (
            emit(contents, "password", &mut SystemRandom::new()),
            emit(contents, "password", &mut SystemRandom::new()),
        );
        assert_ne!(one, other);
        let mut file = der::sequence(&one, "file").unwrap();
        assert_eq!(file.value(INTEGER), Ok(&[3][..]));
        let mut safe = file.nested(SEQUENCE).unwrap();
        assert_eq!(safe.value(OID), Ok(DATA));
        let mut content = safe.nested(context(0)).unwrap();
        let safes = content.value(OCTET_STRING).unwrap();
        let mut safes = Der::new(safes, "safes").nested(SEQUENCE).unwrap();
        assert_eq!(safes.nested(SEQUENCE).unwrap().value(OID), Ok(ENCRYPTED_DATA));
        assert_eq!(safes.nested(SEQUENCE).unwrap().value(OID), Ok(DATA));
        safes.finish().unwrap();
        file.nested(SEQUENCE).unwrap();
        file.finish().unwrap();
        for secret in [[7; 150].as_slice(), &[8; 400]] {
            assert!(!one.windows(secret.len()).any(|window| window == secret));
        }
    }
}
