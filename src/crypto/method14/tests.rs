use super::*;
use crate::crypto::pki::tests::cert;
use SignatureScheme as S;

#[test]
fn reads_what_it_writes() {
    let cases: [(&str, &[S]); 4] = [
        ("p256.cert.pem", &[S::EcdsaP256Sha256, S::EcdsaP256Sha384]),
        ("p384.cert.pem", &[S::EcdsaP384Sha256, S::EcdsaP384Sha384]),
        (
            "rsa.cert.pem",
            &[
                S::RsaPkcs1Sha1,
                S::RsaPkcs1Sha256,
                S::RsaPkcs1Sha384,
                S::RsaPkcs1Sha512,
                S::RsaPssSha256,
                S::RsaPssSha384,
                S::RsaPssSha512,
            ],
        ),
        ("ed25519.cert.pem", &[S::Ed25519]),
    ];
    for (signer, schemes) in cases {
        for (other, _) in cases {
            for scheme in schemes {
                let parsed = parse_algorithm_identifier(algorithm_identifier(*scheme), &cert(other));
                let ecdsa = signer.starts_with('p') && other.starts_with('p');
                match parsed {
                    Ok(parsed) if other == signer => assert_eq!(parsed, *scheme),
                    Ok(parsed) => assert!(ecdsa, "{scheme:?} became {parsed:?}"),
                    Err(error) => {
                        assert_eq!(error, OTHER_KEY);
                        assert!(other != signer && !ecdsa);
                    }
                }
            }
        }
    }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&[tag, content.len() as u8], content.as_slice()].concat()
}

fn hash(oid: &[u8], null: bool) -> Vec<u8> {
    tlv(der::SEQUENCE, &[&tlv(der::OID, &[oid]), if null { &[5, 0] } else { &[] }])
}

/// RSASSA-PSS parameters, each field as given.
fn pss_with(hash_field: &[u8], mask: &[u8], mask_hash: &[u8], salt: &[u8], trailer: &[u8]) -> Vec<u8> {
    let mask = tlv(der::SEQUENCE, &[&tlv(der::OID, &[mask]), mask_hash]);
    let params = tlv(
        der::SEQUENCE,
        &[&tlv(0xa0, &[hash_field]), &tlv(0xa1, &[&mask]), &tlv(0xa2, &[&tlv(2, &[salt])]), trailer],
    );
    tlv(der::SEQUENCE, &[&tlv(der::OID, &[RSA_PSS]), &params])
}

#[test]
fn reads_the_other_spellings_of_pss() {
    let signer = cert("rsa.cert.pem");
    let parse = |der: &[u8]| parse_algorithm_identifier(der, &signer);
    let trailer: &[u8] = &[0xa3, 3, 2, 1, 1];

    let (with_null, without) = (hash(SHA256, true), hash(SHA256, false));
    let own = pss_with(&with_null, MGF1, &with_null, &[32], &[]);
    assert_eq!(own, algorithm_identifier(S::RsaPssSha256));
    assert_eq!(own.len(), 67);
    let long = pss_with(&with_null, MGF1, &with_null, &[32], trailer);
    assert_eq!((long.len(), parse(&long)), (72, Ok(S::RsaPssSha256)));
    assert_eq!(parse(&pss_with(&without, MGF1, &without, &[32], &[])), Ok(S::RsaPssSha256));
    let longest = hash(SHA512, true);
    assert_eq!(parse(&pss_with(&longest, MGF1, &longest, &[64], trailer)), Ok(S::RsaPssSha512));

    let sha1 = hash(b"\x2b\x0e\x03\x02\x1a", true);
    let refused = [
        ("salt of another length", pss_with(&with_null, MGF1, &with_null, &[20], &[])),
        ("salt of two octets", pss_with(&with_null, MGF1, &with_null, &[0, 32], &[])),
        ("mask by another hash", pss_with(&with_null, MGF1, &hash(SHA384, true), &[32], &[])),
        ("another mask", pss_with(&with_null, RSA_PSS, &with_null, &[32], &[])),
        ("another trailer", pss_with(&with_null, MGF1, &with_null, &[32], &[0xa3, 3, 2, 1, 2])),
        ("a fifth field", pss_with(&with_null, MGF1, &with_null, &[32], &[0xa4, 0])),
        ("SHA-1", pss_with(&sha1, MGF1, &sha1, &[20], &[])),
        ("all defaults", tlv(der::SEQUENCE, &[&tlv(der::OID, &[RSA_PSS]), &[0x30, 0]])),
        ("no parameters", tlv(der::SEQUENCE, &[&tlv(der::OID, &[RSA_PSS])])),
        ("ecdsa-with-SHA512", b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04".to_vec()),
    ];
    for (what, blob) in refused {
        assert!(parse(&blob).is_err(), "{what}");
    }
}

#[test]
fn damaged_blobs_are_errors() {
    let signer = cert("rsa.cert.pem");
    let blob = algorithm_identifier(S::RsaPssSha384);
    for len in 0..blob.len() {
        assert!(parse_algorithm_identifier(&blob[..len], &signer).is_err());
    }
    for at in 0..blob.len() {
        for change in [1, 0x80, 0xff] {
            let mut bad = blob.to_vec();
            bad[at] ^= change;
            assert!(parse_algorithm_identifier(&bad, &signer).is_err(), "octet {at} changed by {change}");
        }
    }
    assert!(parse_algorithm_identifier(&[blob, &[0]].concat(), &signer).is_err());
}
