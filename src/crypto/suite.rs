//! Algorithms by their IKEv2 transform IDs (RFC 7296 section 3.3.2), with their sizes.

/// AEAD ciphers, for IKE (RFC 5282) and ESP (RFC 4106, RFC 7634). All have 4 octets of salt, an 8-octet IV on the
/// wire and a 16-octet tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aead {
    /// ENCR_AES_GCM_16 with a 128-bit key.
    Aes128Gcm,
    /// ENCR_AES_GCM_16 with a 256-bit key.
    Aes256Gcm,
    /// ENCR_CHACHA20_POLY1305.
    ChaCha20Poly1305,
}

impl Aead {
    /// Octets of salt behind the key.
    pub const SALT_LEN: usize = 4;
    /// Octets of IV on the wire.
    pub const IV_LEN: usize = 8;
    /// Octets of tag.
    pub const TAG_LEN: usize = 16;

    /// Transform ID (type 1, ENCR).
    pub const fn transform_id(self) -> u16 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 20,
            Self::ChaCha20Poly1305 => 28,
        }
    }

    /// Value of the Key Length attribute in bits; `None` where the attribute must be absent.
    pub const fn key_bits(self) -> Option<u16> {
        match self {
            Self::Aes128Gcm => Some(128),
            Self::Aes256Gcm => Some(256),
            Self::ChaCha20Poly1305 => None,
        }
    }

    /// Octets of key without salt.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Octets of key material per direction: key, then salt.
    pub const fn keymat_len(self) -> usize {
        self.key_len() + Self::SALT_LEN
    }
}

/// Pseudo-random functions (transform type 2). Key length equals output length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prf {
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
            Self::HmacSha256 => 5,
            Self::HmacSha384 => 6,
            Self::HmacSha512 => 7,
        }
    }

    /// Octets of output and of preferred key.
    pub const fn output_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }
}

/// Key exchange methods (transform type 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// 19, 256-bit random ECP group (RFC 5903).
    P256,
    /// 20, 384-bit random ECP group (RFC 5903).
    P384,
    /// 31, Curve25519 (RFC 8031).
    X25519,
}

impl Group {
    /// Transform ID (type 4, KE).
    pub const fn transform_id(self) -> u16 {
        match self {
            Self::P256 => 19,
            Self::P384 => 20,
            Self::X25519 => 31,
        }
    }

    /// The group with this transform ID, if we have it.
    pub const fn from_transform_id(id: u16) -> Option<Self> {
        match id {
            19 => Some(Self::P256),
            20 => Some(Self::P384),
            31 => Some(Self::X25519),
            _ => None,
        }
    }

    /// Octets of Key Exchange Data in a KE payload.
    pub const fn public_len(self) -> usize {
        match self {
            Self::P256 => 64,
            Self::P384 => 96,
            Self::X25519 => 32,
        }
    }
}
