use super::*;
use crate::crypto::pki::tests::{cert, file};
use SignatureScheme as S;

const MESSAGE: &[u8] = b"the signed octets";

const ALL: [S; 12] = [
    S::EcdsaP256Sha256,
    S::EcdsaP256Sha384,
    S::EcdsaP384Sha256,
    S::EcdsaP384Sha384,
    S::RsaPkcs1Sha1,
    S::RsaPkcs1Sha256,
    S::RsaPkcs1Sha384,
    S::RsaPkcs1Sha512,
    S::RsaPssSha256,
    S::RsaPssSha384,
    S::RsaPssSha512,
    S::Ed25519,
];

fn key(name: &str) -> Result<PrivateKey, Error> {
    PrivateKey::from_pem(&file(name))
}

#[test]
fn reads_keys_in_all_their_forms() {
    for (name, kind, owner) in [
        ("p256.key.pem", KeyKind::P256, "p256.cert.pem"),
        ("p256.pkcs8.pem", KeyKind::P256, "p256.cert.pem"),
        ("p384.key.pem", KeyKind::P384, "p384.cert.pem"),
        ("p384.pkcs8.pem", KeyKind::P384, "p384.cert.pem"),
        ("rsa.key.pem", KeyKind::Rsa, "rsa.cert.pem"),
        ("rsa.pkcs8.pem", KeyKind::Rsa, "rsa.cert.pem"),
    ] {
        let key = key(name).unwrap();
        assert_eq!(key.kind(), kind, "{name}");
        for other in ["p256.cert.pem", "p384.cert.pem", "rsa.cert.pem", "ed25519.cert.pem", "root.cert.pem"] {
            assert_eq!(key.public_matches(&cert(other)), other == owner, "{name} and {other}");
        }
        assert_eq!(format!("{key:?}"), format!("PrivateKey({kind:?}, [redacted])"));
    }
    assert_eq!(key("with-params.key.pem").unwrap().kind(), KeyKind::P256);
}

#[test]
fn says_why_a_key_is_refused() {
    for (name, why) in [
        ("p521.key.pem", WHICH_KEYS),
        ("p521.pkcs8.pem", WHICH_KEYS),
        ("rsa1024.key.pem", "RSA keys must be valid and have 2048 to 4096 bits"),
        ("encrypted.pkcs8.pem", "it is encrypted; store it without a passphrase and protect the file"),
        ("p256.cert.pem", "no private key in the PEM file"),
    ] {
        assert_eq!(key(name).unwrap_err(), Error::BadKey(why), "{name}");
    }
    assert_eq!(PrivateKey::from_pem(b"").unwrap_err(), Error::BadKey("no private key in the PEM file"));
    let cut = b"-----BEGIN PRIVATE KEY-----\nMIIC\n";
    assert_eq!(PrivateKey::from_pem(cut).unwrap_err(), Error::Malformed("PEM file"));
}

#[test]
fn verifies_what_it_signed_and_nothing_else() {
    let keys = ["p256", "p384", "rsa"]
        .map(|n| (key(&format!("{n}.key.pem")).unwrap(), cert(&format!("{n}.cert.pem"))));
    let mut signed = 0;
    for scheme in ALL {
        for (key, owner) in &keys {
            let Ok(signature) = key.sign(scheme, MESSAGE) else { continue };
            signed += 1;
            for verify_as in ALL {
                for (_, other) in &keys {
                    let good = verify_as == scheme && other == owner;
                    let verified = other.verify(verify_as, EcdsaForm::Der, MESSAGE, &signature);
                    assert_eq!(verified.is_ok(), good, "{scheme:?} as {verify_as:?} by {other:?}");
                }
            }
            assert!(owner.verify(scheme, EcdsaForm::Der, b"other octets", &signature).is_err());
            assert!(owner.verify(scheme, EcdsaForm::Der, MESSAGE, &[]).is_err());
            let mut bad = signature.clone();
            *bad.last_mut().unwrap() ^= 1;
            assert!(owner.verify(scheme, EcdsaForm::Der, MESSAGE, &bad).is_err());
        }
    }
    assert_eq!(signed, 9, "two ECDSA and seven RSA schemes");
}

#[test]
fn verifies_signatures_of_openssl() {
    for (name, owner, scheme) in [
        ("rsa-sha1.sig", "rsa.cert.pem", S::RsaPkcs1Sha1),
        ("rsa-pss-sha256.sig", "rsa.cert.pem", S::RsaPssSha256),
        ("rsa-pss-sha384.sig", "rsa.cert.pem", S::RsaPssSha384),
        ("rsa-pss-sha512.sig", "rsa.cert.pem", S::RsaPssSha512),
        ("p256-sha384.sig", "p256.cert.pem", S::EcdsaP256Sha384),
        ("p384-sha256.sig", "p384.cert.pem", S::EcdsaP384Sha256),
        ("ed25519.sig", "ed25519.cert.pem", S::Ed25519),
    ] {
        let signature = file(name);
        for scheme_tried in ALL {
            let verified = cert(owner).verify(scheme_tried, EcdsaForm::Der, MESSAGE, &signature);
            assert_eq!(verified.is_ok(), scheme_tried == scheme, "{name} as {scheme_tried:?}");
        }
    }
    let error = cert("p521.cert.pem").verify(S::EcdsaP384Sha384, EcdsaForm::Der, MESSAGE, &[]);
    assert_eq!(error, Err(Error::Unsupported("EC keys on P-521")));
}

#[test]
fn auth_method_1_takes_sha_1_and_sha_2() {
    let (key, owner) = (key("rsa.key.pem").unwrap(), cert("rsa.cert.pem"));
    assert_eq!(owner.verify_rsa_any_hash(MESSAGE, &file("rsa-sha1.sig")), Ok(S::RsaPkcs1Sha1));
    for scheme in [S::RsaPkcs1Sha256, S::RsaPkcs1Sha384, S::RsaPkcs1Sha512] {
        let signature = key.sign(scheme, MESSAGE).unwrap();
        assert_eq!(owner.verify_rsa_any_hash(MESSAGE, &signature), Ok(scheme));
        assert_eq!(owner.verify_rsa_any_hash(b"other", &signature), Err(Error::BadSignature));
    }
    assert!(owner.verify_rsa_any_hash(MESSAGE, &file("rsa-pss-sha256.sig")).is_err());
}

#[test]
fn ecdsa_forms_convert_both_ways() {
    for (name, scheme, width) in [("p256", S::EcdsaP256Sha256, 32), ("p384", S::EcdsaP384Sha384, 48)] {
        let (key, owner) = (key(&format!("{name}.key.pem")).unwrap(), cert(&format!("{name}.cert.pem")));
        for _ in 0..300 {
            let der = key.sign(scheme, MESSAGE).unwrap();
            let fixed = ecdsa_der_to_fixed(&der, width).unwrap();
            assert_eq!(fixed.len(), 2 * width);
            assert_eq!(ecdsa_fixed_to_der(&fixed, width), Some(der));
            owner.verify(scheme, EcdsaForm::Fixed, MESSAGE, &fixed).unwrap();
            for len in [0, 1, width, 2 * width - 1] {
                assert!(owner.verify(scheme, EcdsaForm::Fixed, MESSAGE, &fixed[..len]).is_err());
            }
        }
        // Zeros are well-formed and never verify; small numbers get their padding back.
        assert!(owner.verify(scheme, EcdsaForm::Fixed, MESSAGE, &vec![0; 2 * width]).is_err());
        let small = ecdsa_der_to_fixed(&[0x30, 7, 2, 1, 5, 2, 2, 0, 0x80], width).unwrap();
        assert_eq!((small[width - 1], small[2 * width - 1]), (5, 0x80));
        assert_eq!(small.iter().filter(|octet| **octet != 0).count(), 2);
    }
    let too_long = ecdsa_fixed_to_der(&[0xff; 96], 48).unwrap();
    assert!(ecdsa_der_to_fixed(&too_long, 32).is_err());
    for len in 0..too_long.len() {
        assert!(ecdsa_der_to_fixed(&too_long[..len], 48).is_err());
    }
}
