//! Digests, and comparison in constant time.

use ring::digest::{Algorithm, Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use subtle::ConstantTimeEq;

/// SHA-1 of the concatenated parts: for NAT_DETECTION and CERTREQ hashes only, where the RFC leaves no choice.
pub fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    to_array(digest(&SHA1_FOR_LEGACY_USE_ONLY, parts))
}

/// SHA-256 of the concatenated parts.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    to_array(digest(&SHA256, parts))
}

/// Whether `a` and `b` are equal, in time that depends on their lengths only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn digest(alg: &'static Algorithm, parts: &[&[u8]]) -> Digest {
    let mut context = Context::new(alg);
    parts.iter().for_each(|part| context.update(part));
    context.finish()
}

fn to_array<const N: usize>(digest: Digest) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(digest.as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_fips_180() {
        assert_eq!(sha1(&[b"a", b"", b"bc"])[..4], [0xa9, 0x99, 0x3e, 0x36]);
        assert_eq!(sha256(&[b"ab", b"c"])[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn equality_includes_the_length() {
        assert!(constant_time_eq(b"same", b"same"));
        assert!(!constant_time_eq(b"same", b"sane"));
        assert!(!constant_time_eq(b"same", b"same "));
    }
}
