//! What can go wrong in `crypto`.

use std::fmt;

/// A cryptographic operation failed. It says which rule was broken, never how (no padding or tag oracle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A key cannot be used; the text says why.
    BadKey(&'static str),
    /// The integrity check of an AEAD failed.
    BadTag,
    /// A Diffie-Hellman public value has a wrong length, is off the curve, or is degenerate.
    BadPublicValue,
    /// A signature does not verify.
    BadSignature,
    /// Bytes are not the DER or PEM structure that they must be.
    Malformed(&'static str),
    /// Well-formed, but nothing that we do.
    Unsupported(&'static str),
    /// The system's random generator or the crypto library failed.
    Internal,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadKey(why) => write!(f, "unusable key: {why}"),
            Self::BadTag => f.write_str("integrity check failed"),
            Self::BadPublicValue => f.write_str("unacceptable key exchange value"),
            Self::BadSignature => f.write_str("signature does not verify"),
            Self::Malformed(what) => write!(f, "malformed {what}"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::Internal => f.write_str("the crypto library failed"),
        }
    }
}

impl std::error::Error for Error {}
