//! PRF and prf+ (RFC 7296 section 2.13) over HMAC-SHA2 (RFC 4868) and HMAC-SHA1 (RFC 2404).

use ring::hmac::{Context, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512, Key, Tag};
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
        Prf::HmacSha1 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hash;

    const ALL: [Prf; 3] = [Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512];

    fn starts_with(secret: &Secret, hex: &str) -> bool {
        secret.expose().iter().map(|octet| format!("{octet:02x}")).collect::<String>().starts_with(hex)
    }

    #[test]
    fn test_cases_of_rfc_4231() {
        let cases: [(&[u8], &[u8], [&str; 3]); 3] = [
            (
                &[0x0b; 20],
                b"Hi There",
                [
                    "b0344c61d8db38535ca8afceaf0bf12b",
                    "afd03944d84895626b0825f4ab46907f",
                    "87aa7cdea5ef619d4ff0b4241a1d6cb0",
                ],
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                [
                    "5bdcc146bf60754e6a042426089575c7",
                    "af45d2e376484031617f78d2b58a6b1b",
                    "164b7a7bfcf819e2e395fbe73b56e0a3",
                ],
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                [
                    "60e431591ee0b67f0d8a26aacbf5b77f",
                    "4ece084485813e9088d2c63a041bc5b4",
                    "80b24263c7c1a3ebb71493c1dd7be8b4",
                ],
            ),
        ];
        for (key, data, expected) in cases {
            for (alg, expected) in ALL.into_iter().zip(expected) {
                let (head, tail) = data.split_at(3);
                let out = prf(alg, key, &[head, b"", tail]);
                assert_eq!(out.len(), alg.output_len());
                assert!(starts_with(&out, expected), "{alg:?}");
            }
        }
    }

    /// SHA-256 of 200 octets of prf+, computed with another HMAC and another loop.
    #[test]
    fn prf_plus_equals_an_independent_computation() {
        let key: Vec<u8> = (0..20).collect();
        let expected = ["ea12173c5a302bb8", "2b96bf12615a37d2", "578cdb4054ca3c81"];
        for (alg, expected) in ALL.into_iter().zip(expected) {
            let out = prf_plus(alg, &key, &[b"seed", b" of prf+"], 200).unwrap();
            assert_eq!(out.len(), 200);
            assert!(starts_with(&Secret::from(&hash::sha256(&[out.expose()])[..]), expected), "{alg:?}");
            let shorter = prf_plus(alg, &key, &[b"seed of prf+"], 77).unwrap();
            assert_eq!(shorter.expose(), &out.expose()[..77]);
        }
    }

    #[test]
    fn prf_plus_ends_after_255_blocks() {
        let key: Vec<u8> = (0..20).collect();
        let all = prf_plus(Prf::HmacSha256, &key, &[b"seed of prf+"], 255 * 32).unwrap();
        assert!(starts_with(&Secret::from(&hash::sha256(&[all.expose()])[..]), "8a0aa92a75547a14"));
        assert!(prf_plus(Prf::HmacSha256, &key, &[b"seed of prf+"], 255 * 32 + 1).is_err());
        assert!(prf_plus(Prf::HmacSha256, &key, &[b"seed of prf+"], 0).unwrap().is_empty());
    }
}
