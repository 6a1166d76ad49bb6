//! PRF and prf+ (RFC 7296 section 2.13) over HMAC-SHA2 (RFC 4868).

use ring::hmac::{Context, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512, Key, Tag};
use zeroize::Zeroize;

use super::{Error, Prf, Secret};

/// prf(key, parts), the parts concatenated.
pub fn prf(alg: Prf, key: &[u8], parts: &[&[u8]]) -> Secret {
    Secret::from(mac(&hmac_key(alg, key), parts).as_ref())
}

/// prf+(key, seed), `len` octets (RFC 7296 section 2.13). The seed is the concatenation of its parts.
/// The counter is one octet, so 255 blocks is the limit.
pub fn prf_plus(alg: Prf, key: &[u8], seed: &[&[u8]], len: usize) -> Result<Secret, Error> {
    let key = hmac_key(alg, key);
    // Reserved in full, so that growing leaves no copies of key material behind.
    let mut out = Vec::with_capacity(len.min(255 * alg.output_len()));
    let mut previous: Option<Tag> = None;
    for counter in 1..=u8::MAX {
        let mut context = Context::with_key(&key);
        if let Some(previous) = &previous {
            context.update(previous.as_ref());
        }
        seed.iter().for_each(|part| context.update(part));
        context.update(&[counter]);
        let block = context.sign();
        let wanted = block.as_ref().len().min(len - out.len());
        out.extend_from_slice(block.as_ref().get(..wanted).unwrap_or_default());
        if out.len() == len {
            return Ok(Secret::new(out));
        }
        previous = Some(block);
    }
    out.zeroize();
    Err(Error::Unsupported("more than 255 blocks of prf+"))
}

fn hmac_key(alg: Prf, key: &[u8]) -> Key {
    let ring_alg = match alg {
        Prf::HmacSha256 => HMAC_SHA256,
        Prf::HmacSha384 => HMAC_SHA384,
        Prf::HmacSha512 => HMAC_SHA512,
    };
    Key::new(ring_alg, key)
}

fn mac(key: &Key, parts: &[&[u8]]) -> Tag {
    let mut context = Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}
