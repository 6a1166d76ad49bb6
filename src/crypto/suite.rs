//! Algorithms by their IKEv2 transform IDs (RFC 7296 section 3.3.2), with their sizes, and names for people.

use std::fmt;

/// What protects IKE messages and ESP packets: an AEAD (RFC 5282, RFC 4106, RFC 7634), or AES-CBC with a MAC over the
/// ciphertext (RFC 3602, RFC 2404, RFC 4868).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// ENCR_AES_GCM_16 with a 128-bit key.
    Aes128Gcm,
    /// ENCR_AES_GCM_16 with a 256-bit key.
    Aes256Gcm,
    /// ENCR_CHACHA20_POLY1305.
    ChaCha20Poly1305,
    /// ENCR_AES_CBC with a 128-bit key.
    Aes128Cbc(Integrity),
    /// ENCR_AES_CBC with a 256-bit key.
    Aes256Cbc(Integrity),
}

impl Cipher {
    /// Most octets of IV on the wire.
    pub const MAX_IV_LEN: usize = 16;
    /// Most octets of tag.
    pub const MAX_TAG_LEN: usize = 32;

    /// Transform ID (type 1, ENCR).
    pub const fn transform_id(self) -> u16 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 20,
            Self::ChaCha20Poly1305 => 28,
            Self::Aes128Cbc(_) | Self::Aes256Cbc(_) => 12,
        }
    }

    /// Value of the Key Length attribute in bits; `None` where the attribute must be absent.
    pub const fn key_bits(self) -> Option<u16> {
        match self {
            Self::Aes128Gcm | Self::Aes128Cbc(_) => Some(128),
            Self::Aes256Gcm | Self::Aes256Cbc(_) => Some(256),
            Self::ChaCha20Poly1305 => None,
        }
    }

    /// The MAC (transform type 3, INTEG); `None` for an AEAD.
    pub const fn integrity(self) -> Option<Integrity> {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm | Self::ChaCha20Poly1305 => None,
            Self::Aes128Cbc(integrity) | Self::Aes256Cbc(integrity) => Some(integrity),
        }
    }

    /// Octets of encryption key: with the 4 octets of salt of an AEAD (SK_e, RFC 5282 section 7.1).
    pub const fn encryption_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16 + 4,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32 + 4,
            Self::Aes128Cbc(_) => 16,
            Self::Aes256Cbc(_) => 32,
        }
    }

    /// Octets of the MAC's key (SK_a); 0 for an AEAD.
    pub const fn integrity_len(self) -> usize {
        match self.integrity() {
            Some(integrity) => integrity.key_len(),
            None => 0,
        }
    }

    /// Octets of key material per direction: the encryption key, then the MAC's (RFC 7296 section 2.17).
    pub const fn keymat_len(self) -> usize {
        self.encryption_len() + self.integrity_len()
    }

    /// Octets of IV on the wire.
    pub const fn iv_len(self) -> usize {
        match self.integrity() {
            Some(_) => 16,
            None => 8,
        }
    }

    /// Octets of tag (ICV) on the wire.
    pub const fn tag_len(self) -> usize {
        match self.integrity() {
            Some(integrity) => integrity.tag_len(),
            None => 16,
        }
    }

    /// What is encrypted has a multiple of so many octets.
    pub const fn block_len(self) -> usize {
        match self.integrity() {
            Some(_) => 16,
            None => 1,
        }
    }
}

/// Message authentication codes (transform type 3, INTEG).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Integrity {
    /// AUTH_HMAC_SHA1_96 (RFC 2404).
    HmacSha1,
    /// AUTH_HMAC_SHA2_256_128 (RFC 4868).
    HmacSha256,
    /// AUTH_HMAC_SHA2_384_192 (RFC 4868).
    HmacSha384,
    /// AUTH_HMAC_SHA2_512_256 (RFC 4868).
    HmacSha512,
}

impl Integrity {
    /// Transform ID (type 3, INTEG).
    pub const fn transform_id(self) -> u16 {
        match self {
            Self::HmacSha1 => 2,
            Self::HmacSha256 => 12,
            Self::HmacSha384 => 13,
            Self::HmacSha512 => 14,
        }
    }

    /// Octets of key: the output of the hash.
    pub const fn key_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    /// Octets of the shortened output on the wire.
    pub const fn tag_len(self) -> usize {
        match self {
            Self::HmacSha1 => 12,
            Self::HmacSha256 => 16,
            Self::HmacSha384 => 24,
            Self::HmacSha512 => 32,
        }
    }
}

/// Pseudo-random functions (transform type 2). Key length equals output length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prf {
    /// PRF_HMAC_SHA1.
    HmacSha1,
    /// PRF_HMAC_SHA2_256.
    HmacSha256,
    /// PRF_HMAC_SHA2_384.
    HmacSha384,
    /// PRF_HMAC_SHA2_512.
    HmacSha512,
}

impl Prf {
    /// Transform ID (type 2, PRF).
    pub const fn transform_id(self) -> u16 {
        match self {
            Self::HmacSha1 => 2,
            Self::HmacSha256 => 5,
            Self::HmacSha384 => 6,
            Self::HmacSha512 => 7,
        }
    }

    /// Octets of output and of preferred key.
    pub const fn output_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }
}

/// Key exchange methods (transform type 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// 2, 1024-bit MODP: weak, only where it was asked for.
    Modp1024,
    /// 14, 2048-bit MODP (RFC 3526).
    Modp2048,
    /// 15, 3072-bit MODP (RFC 3526).
    Modp3072,
    /// 16, 4096-bit MODP (RFC 3526).
    Modp4096,
    /// 19, 256-bit random ECP group (RFC 5903).
    P256,
    /// 20, 384-bit random ECP group (RFC 5903).
    P384,
    /// 31, Curve25519 (RFC 8031).
    X25519,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Modp1024,
        Self::Modp2048,
        Self::Modp3072,
        Self::Modp4096,
        Self::P256,
        Self::P384,
        Self::X25519,
    ];

    /// Transform ID (type 4, KE).
    pub const fn transform_id(self) -> u16 {
        match self {
            Self::Modp1024 => 2,
            Self::Modp2048 => 14,
            Self::Modp3072 => 15,
            Self::Modp4096 => 16,
            Self::P256 => 19,
            Self::P384 => 20,
            Self::X25519 => 31,
        }
    }

    /// The group with this transform ID, if we have it.
    pub fn from_transform_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.transform_id() == id)
    }

    /// True for an elliptic curve: a tenth of the cost of a MODP group, or less.
    pub const fn is_curve(self) -> bool {
        matches!(self, Self::P256 | Self::P384 | Self::X25519)
    }

    /// Octets of Key Exchange Data in a KE payload.
    pub const fn public_len(self) -> usize {
        match self {
            Self::Modp1024 => 128,
            Self::Modp2048 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::P256 => 64,
            Self::P384 => 96,
            Self::X25519 => 32,
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aes128Gcm => f.write_str("AES-GCM-16-128"),
            Self::Aes256Gcm => f.write_str("AES-GCM-16-256"),
            Self::ChaCha20Poly1305 => f.write_str("ChaCha20-Poly1305"),
            Self::Aes128Cbc(integrity) => write!(f, "AES-CBC-128/{integrity}"),
            Self::Aes256Cbc(integrity) => write!(f, "AES-CBC-256/{integrity}"),
        }
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha1 => "HMAC-SHA1-96",
            Self::HmacSha256 => "HMAC-SHA2-256-128",
            Self::HmacSha384 => "HMAC-SHA2-384-192",
            Self::HmacSha512 => "HMAC-SHA2-512-256",
        })
    }
}

impl fmt::Display for Prf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HmacSha1 => "HMAC-SHA1",
            Self::HmacSha256 => "HMAC-SHA2-256",
            Self::HmacSha384 => "HMAC-SHA2-384",
            Self::HmacSha512 => "HMAC-SHA2-512",
        })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Modp1024 => "MODP-1024",
            Self::Modp2048 => "MODP-2048",
            Self::Modp3072 => "MODP-3072",
            Self::Modp4096 => "MODP-4096",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::X25519 => "X25519",
        })
    }
}

/// A key encapsulation mechanism, used as an additional key exchange (draft-ietf-ipsecme-ikev2-mlkem).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kem {
    /// ML-KEM-768 (FIPS 203).
    MlKem768,
    /// ML-KEM-1024 (FIPS 203).
    MlKem1024,
}

impl Kem {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::MlKem768, Self::MlKem1024];

    /// Transform ID (types 6 to 12, additional key exchanges).
    pub const fn transform_id(self) -> u16 {
        match self {
            Self::MlKem768 => 36,
            Self::MlKem1024 => 37,
        }
    }

    /// The mechanism with this transform ID, if we have it.
    pub fn from_transform_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kem| kem.transform_id() == id)
    }
}

impl fmt::Display for Kem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MlKem768 => "ML-KEM-768",
            Self::MlKem1024 => "ML-KEM-1024",
        })
    }
}
