//! What protects a message or packet, for one direction: an AEAD with the nonce form that IKE (RFC 5282) and ESP
//! (RFC 4106, RFC 7634) share, salt (4) || IV (8); or AES-CBC and a MAC over all that is in front of it.

mod cbc;

use std::fmt;

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use self::cbc::CbcKey;
use super::{Cipher, Error};

/// Octets of an AEAD's salt, and of its IV and tag on the wire.
const SALT_LEN: usize = 4;
const AEAD_IV_LEN: usize = 8;

/// Packets that AES-CBC encrypts side by side: one after the other each block would wait for the one before.
pub const LANES: usize = 8;

/// A packet to be sealed in place: see [`CipherKey::seal`].
#[derive(Debug, Default)]
pub struct Sealing<'a> {
    /// Never used twice with one key: the IV is made of it.
    pub counter: u64,
    /// What is in front of the IV on the wire.
    pub aad: &'a [u8],
    /// `iv_len` octets, to be written.
    pub iv: &'a mut [u8],
    /// To be encrypted: a multiple of `block_len`.
    pub in_out: &'a mut [u8],
    /// `tag_len` octets, to be written.
    pub tag: &'a mut [u8],
}

/// The keys of one direction. Usable from many threads at once.
pub struct CipherKey {
    alg: Cipher,
    keys: Keys,
}

enum Keys {
    Aead(LessSafeKey, [u8; SALT_LEN]),
    Cbc(CbcKey),
}

impl CipherKey {
    /// From key material as it comes out of prf+ for a Child SA: the encryption key (with the salt of an AEAD), then
    /// the MAC's key; `alg.keymat_len()` octets.
    pub fn new(alg: Cipher, keymat: &[u8]) -> Result<Self, Error> {
        let wrong = Error::BadKey("wrong length");
        let ring_alg = match alg {
            Cipher::Aes128Gcm => &AES_128_GCM,
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Cipher::Aes128Cbc(integrity) | Cipher::Aes256Cbc(integrity) => {
                let (key, mac_key) = keymat.split_at_checked(alg.encryption_len()).ok_or(wrong)?;
                let keys = Keys::Cbc(CbcKey::new(key, integrity, mac_key)?);
                return Ok(Self { alg, keys });
            }
        };
        let (key, salt) = keymat.split_last_chunk().ok_or(wrong)?;
        let key = UnboundKey::new(ring_alg, key).map_err(|_| Error::BadKey("wrong length"))?;
        Ok(Self { alg, keys: Keys::Aead(LessSafeKey::new(key), *salt) })
    }

    /// The cipher.
    pub fn alg(&self) -> Cipher {
        self.alg
    }

    /// Encrypts `in_out` in place and writes IV and tag, of `iv_len` and `tag_len` octets. `in_out` is a multiple of
    /// `block_len`. `aad` is what is in front of the IV on the wire. The caller never uses a `counter` twice with one
    /// key: the IV is made of it.
    #[inline]
    pub fn seal(
        &self,
        counter: u64,
        aad: &[u8],
        iv: &mut [u8],
        in_out: &mut [u8],
        tag: &mut [u8],
    ) -> Result<(), Error> {
        match &self.keys {
            Keys::Aead(key, salt) => {
                let counter = counter.to_be_bytes();
                let sealed = key.seal_in_place_separate_tag(nonce(*salt, counter), Aad::from(aad), in_out);
                let sealed = sealed.map_err(|_| Error::Internal)?;
                if iv.len() != counter.len() || tag.len() != sealed.as_ref().len() {
                    return Err(Error::Internal);
                }
                iv.copy_from_slice(&counter);
                tag.copy_from_slice(sealed.as_ref());
                Ok(())
            }
            Keys::Cbc(key) => key.seal(&mut [Sealing { counter, aad, iv, in_out, tag }]),
        }
    }

    /// Seals several packets. With AES-CBC up to [`LANES`] at once cost little more than one.
    pub fn seal_all(&self, packets: &mut [Sealing<'_>]) -> Result<(), Error> {
        match &self.keys {
            Keys::Aead(..) => packets.iter_mut().try_for_each(|packet| {
                let Sealing { counter, aad, iv, in_out, tag } = packet;
                self.seal(*counter, aad, iv, in_out, tag)
            }),
            Keys::Cbc(key) => packets.chunks_mut(LANES).try_for_each(|packets| key.seal(packets)),
        }
    }

    /// Checks the tag at the end of the buffer and decrypts what is before it in place. Returns the length of the
    /// plaintext. After an error the content of the buffer is unspecified.
    #[inline]
    pub fn open(&self, iv: &[u8], aad: &[u8], ciphertext_and_tag: &mut [u8]) -> Result<usize, Error> {
        match &self.keys {
            Keys::Aead(key, salt) => {
                let iv: [u8; AEAD_IV_LEN] = iv.try_into().map_err(|_| Error::BadTag)?;
                key.open_in_place(nonce(*salt, iv), Aad::from(aad), ciphertext_and_tag)
                    .map(|plaintext| plaintext.len())
                    .map_err(|_| Error::BadTag)
            }
            Keys::Cbc(key) => key.open(iv, aad, ciphertext_and_tag),
        }
    }
}

#[inline]
fn nonce([s0, s1, s2, s3]: [u8; SALT_LEN], iv: [u8; AEAD_IV_LEN]) -> Nonce {
    let [i0, i1, i2, i3, i4, i5, i6, i7] = iv;
    Nonce::assume_unique_for_key([s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7])
}

impl fmt::Debug for CipherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CipherKey({:?}, [redacted])", self.alg)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Integrity;
    use super::*;

    fn all() -> Vec<Cipher> {
        use Integrity::{HmacSha1, HmacSha256, HmacSha384, HmacSha512};
        let macs = [HmacSha1, HmacSha256, HmacSha384, HmacSha512];
        let cbc = macs.into_iter().flat_map(|mac| [Cipher::Aes128Cbc(mac), Cipher::Aes256Cbc(mac)]);
        [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305].into_iter().chain(cbc).collect()
    }

    /// IV, then ciphertext with tag.
    fn seal(key: &CipherKey, counter: u64, aad: &[u8], text: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut iv, mut tag) = (vec![0; key.alg().iv_len()], vec![0; key.alg().tag_len()]);
        let mut sealed = text.to_vec();
        key.seal(counter, aad, &mut iv, &mut sealed, &mut tag).unwrap();
        sealed.extend(tag);
        (iv, sealed)
    }

    #[test]
    fn seals_and_opens_and_refuses_every_changed_bit() {
        for alg in all() {
            let key = CipherKey::new(alg, &vec![7; alg.keymat_len()]).unwrap();
            assert_eq!(key.alg(), alg);
            let text = b"attack at dawn, not before: it is too dark to see.. ";
            let text = &text[..text.len() / alg.block_len() * alg.block_len()];
            let (iv, sealed) = seal(&key, 1, b"aad", text);
            for bit in 0..sealed.len() * 8 {
                let mut bad = sealed.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.open(&iv, b"aad", &mut bad), Err(Error::BadTag));
            }
            let (other_iv, other) = seal(&key, 2, b"aad", text);
            assert_ne!((&iv, &sealed), (&other_iv, &other), "{alg:?}: the counter counts");
            for bad_iv in [&other_iv[..], &iv[1..], &[]] {
                assert_eq!(key.open(bad_iv, b"aad", &mut sealed.clone()), Err(Error::BadTag), "{alg:?}");
            }
            assert_eq!(key.open(&iv, b"aaf", &mut sealed.clone()), Err(Error::BadTag));
            for len in 0..sealed.len() {
                assert_eq!(key.open(&iv, b"aad", &mut sealed[..len].to_vec()), Err(Error::BadTag));
            }
            let mut opened = sealed.clone();
            let len = key.open(&iv, b"aad", &mut opened).unwrap();
            assert_eq!(&opened[..len], text);
        }
    }

    #[test]
    fn key_material_has_exactly_one_length() {
        for alg in all() {
            for len in (0..128).filter(|&len| len != alg.keymat_len()) {
                assert!(matches!(CipherKey::new(alg, &vec![0; len]), Err(Error::BadKey(_))), "{alg:?} {len}");
            }
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let key = CipherKey::new(Cipher::Aes128Gcm, &[0xab; 20]).unwrap();
        assert_eq!(format!("{key:?}"), "CipherKey(Aes128Gcm, [redacted])");
        let cbc = Cipher::Aes128Cbc(Integrity::HmacSha1);
        assert!(!format!("{:?}", CipherKey::new(cbc, &[0xab; 36]).unwrap()).contains("171"));
    }
}
