//! AEAD with the nonce form that IKE (RFC 5282) and ESP (RFC 4106, RFC 7634) share: salt (4) || IV (8).

use std::fmt;

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Aead, Error};

/// A key and its salt, for one direction. Usable from many threads at once.
pub struct AeadKey {
    alg: Aead,
    key: LessSafeKey,
    salt: [u8; Aead::SALT_LEN],
}

impl AeadKey {
    /// From key material as it comes out of prf+: the key, then the salt; `alg.keymat_len()` octets.
    pub fn new(alg: Aead, keymat: &[u8]) -> Result<Self, Error> {
        let ring_alg = match alg {
            Aead::Aes128Gcm => &AES_128_GCM,
            Aead::Aes256Gcm => &AES_256_GCM,
            Aead::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        let (key, salt) = keymat.split_last_chunk().ok_or(Error::BadKey("wrong length"))?;
        let key = UnboundKey::new(ring_alg, key).map_err(|_| Error::BadKey("wrong length"))?;
        Ok(Self { alg, key: LessSafeKey::new(key), salt: *salt })
    }

    /// The cipher.
    pub fn alg(&self) -> Aead {
        self.alg
    }

    /// Encrypts `in_out` in place and returns the tag. The caller never uses an IV twice with one key.
    #[inline]
    pub fn seal(
        &self,
        iv: [u8; Aead::IV_LEN],
        aad: &[u8],
        in_out: &mut [u8],
    ) -> Result<[u8; Aead::TAG_LEN], Error> {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(iv), Aad::from(aad), in_out)
            .map_err(|_| Error::Internal)?;
        tag.as_ref().try_into().map_err(|_| Error::Internal)
    }

    /// Checks the tag at the end of the buffer and decrypts what is before it in place. Returns the length of the
    /// plaintext. After an error the content of the buffer is unspecified.
    #[inline]
    pub fn open(
        &self,
        iv: [u8; Aead::IV_LEN],
        aad: &[u8],
        ciphertext_and_tag: &mut [u8],
    ) -> Result<usize, Error> {
        self.key
            .open_in_place(self.nonce(iv), Aad::from(aad), ciphertext_and_tag)
            .map(|plaintext| plaintext.len())
            .map_err(|_| Error::BadTag)
    }

    #[inline]
    fn nonce(&self, iv: [u8; Aead::IV_LEN]) -> Nonce {
        let [s0, s1, s2, s3] = self.salt;
        let [i0, i1, i2, i3, i4, i5, i6, i7] = iv;
        Nonce::assume_unique_for_key([s0, s1, s2, s3, i0, i1, i2, i3, i4, i5, i6, i7])
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AeadKey({:?}, [redacted])", self.alg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Aead; 3] = [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::ChaCha20Poly1305];

    #[test]
    fn seals_and_opens_and_refuses_every_changed_bit() {
        for alg in ALL {
            let key = AeadKey::new(alg, &vec![7; alg.keymat_len()]).unwrap();
            assert_eq!(key.alg(), alg);
            let mut sealed = b"attack at dawn".to_vec();
            let tag = key.seal([1; 8], b"aad", &mut sealed).unwrap();
            sealed.extend_from_slice(&tag);
            for bit in 0..sealed.len() * 8 {
                let mut bad = sealed.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.open([1; 8], b"aad", &mut bad), Err(Error::BadTag));
            }
            assert_eq!(key.open([2; 8], b"aad", &mut sealed.clone()), Err(Error::BadTag));
            assert_eq!(key.open([1; 8], b"aaf", &mut sealed.clone()), Err(Error::BadTag));
            for len in 0..16 {
                assert_eq!(key.open([1; 8], b"aad", &mut sealed[..len].to_vec()), Err(Error::BadTag));
            }
            let len = key.open([1; 8], b"aad", &mut sealed).unwrap();
            assert_eq!(&sealed[..len], b"attack at dawn");
        }
    }

    #[test]
    fn key_material_has_exactly_one_length() {
        for alg in ALL {
            for len in (0..64).filter(|&len| len != alg.keymat_len()) {
                assert!(matches!(AeadKey::new(alg, &vec![0; len]), Err(Error::BadKey(_))), "{alg:?} {len}");
            }
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let key = AeadKey::new(Aead::Aes128Gcm, &[0xab; 20]).unwrap();
        assert_eq!(format!("{key:?}"), "AeadKey(Aes128Gcm, [redacted])");
    }
}
