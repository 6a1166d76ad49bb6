//! N38 to N40: AUTH payloads whose form is wrong. Forged RSA paddings are tests of `crypto::sign`.

use super::authentication::refused;
use super::*;
use crate::crypto::method14::algorithm_identifier;
use crate::crypto::sign::SignatureScheme;
use crate::provision::{Issued, Role, Validity};

fn rsa_client(world: &World) -> Issued {
    let valid = Validity::days(WALL, 365);
    world.authority.issue_with_key(Role::Client, &["rsa.example"], valid, &rsa_key_pem()).unwrap()
}

fn auth_of(payloads: &[(Kind, Vec<u8>)]) -> Vec<u8> {
    payloads.iter().find(|payload| payload.0 == Kind::Auth).unwrap().1.clone()
}

/// A name, and what is made of the good AUTH payload.
type Spoil<'a> = (&'a str, &'a dyn Fn(&[u8]) -> Vec<u8>);

/// Runs IKE_AUTH with an AUTH payload made of the good one: all fail, and with one of `notifies`.
fn all_fail(case: &str, setup: impl Fn(&World) -> Initiator, table: &[Spoil<'_>]) {
    let mut world = World::new();
    for (name, spoil) in table {
        let client = setup(&world);
        let mut client = opened(&mut world, client);
        let mut payloads = client.auth_payloads();
        let good = auth_of(&payloads);
        let bad = spoil(&good);
        assert_ne!(bad, good, "{name}");
        replace(&mut payloads, Kind::Auth, bad.clone());
        // Lengths that cannot be are a matter of syntax.
        let cut = bad.len() < 4
            || bad[0] == auth_method::DIGITAL_SIGNATURE
                && bad.get(4).is_none_or(|len| bad.len() < 5 + usize::from(*len));
        refused(&mut world, &mut client, &payloads, if cut { SYNTAX } else { FAILED }, name);
    }
    // The setup itself is good.
    let mut client = setup(&world);
    assert_eq!(client.connect(&mut world), Ok(()), "{case}");
    says_goodbye(&mut world, &mut client);
    world.take_log();
    nothing_left(&mut world, case);
}

/// The body of method 14 with this AlgorithmIdentifier and signature.
fn digital(algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    let data = [&[algorithm.len() as u8], algorithm, signature].concat();
    Auth { method: auth_method::DIGITAL_SIGNATURE, data: &data }.emit()
}

/// The signature of a method 14 body.
fn signature(auth: &[u8]) -> &[u8] {
    &auth[5 + usize::from(auth[4])..]
}

#[test]
fn n38_digital_signatures_in_odd_forms() {
    use SignatureScheme as S;
    let ec = algorithm_identifier(S::EcdsaP256Sha256);
    let with_length = |auth: &[u8], length| {
        let mut bad = auth.to_vec();
        bad[4] = length;
        bad
    };
    let ecdsa: &[Spoil<'_>] = &[
        ("nothing", &|_| digital(&[], &[])[..4].to_vec()),
        ("a cut payload", &|_| vec![auth_method::DIGITAL_SIGNATURE, 0]),
        ("ASN.1 length 0", &|a| with_length(a, 0)),
        ("ASN.1 length 1", &|a| with_length(a, 1)),
        ("ASN.1 length one less", &|a| with_length(a, a[4] - 1)),
        ("ASN.1 length one more", &|a| with_length(a, a[4] + 1)),
        ("ASN.1 length beyond the payload", &|a| with_length(a, 255)),
        ("no signature", &|_| digital(ec, &[])),
        ("an unknown OID", &|a| digital(b"\x30\x05\x06\x03\x2a\x03\x04", signature(a))),
        ("no OID", &|a| digital(b"\x30\x02\x05\x00", signature(a))),
        ("a broken OID", &|a| digital(b"\x30\x05\x06\x7f\x2a\x03\x04", signature(a))),
        ("another hash", &|a| digital(algorithm_identifier(S::EcdsaP256Sha384), signature(a))),
        ("another family", &|a| digital(algorithm_identifier(S::RsaPkcs1Sha256), signature(a))),
        ("another curve's", &|a| digital(algorithm_identifier(S::Ed25519), signature(a))),
        ("ECDSA with SHA-1", &|a| digital(b"\x30\x09\x06\x07\x2a\x86\x48\xce\x3d\x04\x01", signature(a))),
        ("odd parameters", &|a| digital(&[b"\x30\x0d", &ec[2..], b"\x02\x01\x07"].concat(), signature(a))),
        ("octets behind the signature", &|a| digital(ec, &[signature(a), &[0]].concat())),
        ("the signature cut", &|a| digital(ec, &signature(a)[..signature(a).len() - 1])),
        ("r || s in place of DER", &|_| digital(ec, &[7; 64])),
        ("an empty SEQUENCE", &|_| digital(ec, &[0x30, 0])),
        ("r and s zero", &|_| digital(ec, b"\x30\x06\x02\x01\x00\x02\x01\x00")),
        ("a negative r", &|_| digital(ec, b"\x30\x06\x02\x01\xff\x02\x01\x01")),
    ];
    all_fail("N38", stranger, ecdsa);
    let rsa = |scheme| {
        move |world: &World| {
            let mut client = Initiator::new(world, rsa_client(world), 4500);
            client.signing = Signing::Rfc7427(scheme);
            client
        }
    };
    let pss = algorithm_identifier(S::RsaPssSha256);
    let change = |at: usize, value: u8| {
        let mut odd = pss.to_vec();
        odd[at] = value;
        odd
    };
    all_fail(
        "N38",
        rsa(S::RsaPssSha256),
        &[
            ("no parameters", &|a| {
                digital(b"\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", signature(a))
            }),
            ("empty parameters", &|a| {
                digital(b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x00", signature(a))
            }),
            ("another hash", &|a| digital(&change(29, 2), signature(a))),
            ("another hash in MGF1", &|a| digital(&change(59, 2), signature(a))),
            ("another mask function", &|a| digital(&change(45, 9), signature(a))),
            ("a salt of 31", &|a| digital(&change(66, 31), signature(a))),
            ("a salt of 0", &|a| digital(&change(66, 0), signature(a))),
            ("said to be PKCS#1 v1.5", &|a| digital(algorithm_identifier(S::RsaPkcs1Sha256), signature(a))),
        ],
    );
    let pkcs1 = algorithm_identifier(S::RsaPkcs1Sha256);
    all_fail(
        "N38",
        rsa(S::RsaPkcs1Sha256),
        &[
            ("said to be PSS", &|a| digital(pss, signature(a))),
            ("with another hash", &|a| digital(algorithm_identifier(S::RsaPkcs1Sha512), signature(a))),
            ("with SHA-1", &|a| digital(algorithm_identifier(S::RsaPkcs1Sha1), signature(a))),
            ("one octet less", &|a| digital(pkcs1, &signature(a)[1..])),
            ("one octet more", &|a| digital(pkcs1, &[&[0], signature(a)].concat())),
            ("zeros", &|a| digital(pkcs1, &vec![0; signature(a).len()])),
            ("1", &|a| digital(pkcs1, &[vec![0; signature(a).len() - 1], vec![1]].concat())),
            ("ones", &|a| digital(pkcs1, &vec![0xff; signature(a).len()])),
        ],
    );
}

#[test]
fn n39_ecdsa_signatures_of_wrong_lengths_and_values() {
    // The order of P-256 (RFC 5903 section 3.1), and one that is beyond any.
    let order: Vec<u8> = [
        0xffff_ffff_0000_0000_ffff_ffff_ffff_ffff_u128.to_be_bytes(),
        0xbce6_faad_a717_9e84_f3b9_cac2_fc63_2551_u128.to_be_bytes(),
    ]
    .concat();
    let order = &order[..];
    let fixed = |data: &[u8]| Auth { method: auth_method::ECDSA_256, data }.emit();
    let by_curve = |world: &World| {
        let mut client = stranger(world);
        client.signing = Signing::EcdsaByCurve;
        client
    };
    let (r, s) = (|a: &[u8]| a[4..36].to_vec(), |a: &[u8]| a[36..].to_vec());
    all_fail(
        "N39",
        by_curve,
        &[
            ("empty", &|_| fixed(&[])),
            ("63 octets", &|a| fixed(&a[4..67])),
            ("65 octets", &|a| fixed(&[&a[4..], &[0]].concat())),
            ("65 octets, zero first", &|a| fixed(&[&[0], &a[4..]].concat())),
            ("96 octets", &|a| fixed(&[&a[4..], &[0; 32]].concat())),
            ("128 octets", &|a| fixed(&[&a[4..], &a[4..]].concat())),
            ("DER", &|_| fixed(b"\x30\x06\x02\x01\x01\x02\x01\x01")),
            ("r 0", &|a| fixed(&[vec![0; 32], s(a)].concat())),
            ("s 0", &|a| fixed(&[r(a), vec![0; 32]].concat())),
            ("both 0", &|_| fixed(&[0; 64])),
            ("r the order", &|a| fixed(&[order.to_vec(), s(a)].concat())),
            ("s the order", &|a| fixed(&[r(a), order.to_vec()].concat())),
            ("both the order", &|_| fixed(&[order, order].concat())),
            ("all ones", &|_| fixed(&[0xff; 64])),
            ("exchanged", &|a| fixed(&[s(a), r(a)].concat())),
            ("said to be of P-384", &|a| Auth { method: auth_method::ECDSA_384, data: &a[4..] }.emit()),
            ("said to be of P-521", &|a| Auth { method: 11, data: &a[4..] }.emit()),
            ("said to be RSA", &|a| Auth { method: auth_method::RSA, data: &a[4..] }.emit()),
            ("method 0", &|a| Auth { method: 0, data: &a[4..] }.emit()),
            ("NULL authentication", &|_| Auth { method: 13, data: &[] }.emit()),
        ],
    );
}

#[test]
fn n40_rsa_signatures_by_method_1() {
    let rsa = |data: &[u8]| Auth { method: auth_method::RSA, data }.emit();
    let classic = |world: &World| {
        let mut client = Initiator::new(world, rsa_client(world), 4500);
        client.signing = Signing::Rsa(SignatureScheme::RsaPkcs1Sha256);
        client
    };
    // `all_fail` ends with the good one: SHA-256 by method 1 is let in.
    all_fail(
        "N40",
        classic,
        &[
            ("empty", &|_| rsa(&[])),
            ("one octet less", &|a| rsa(&a[5..])),
            ("one octet more", &|a| rsa(&[&[0], &a[4..]].concat())),
            ("a bit", &|a| {
                let mut bad = a.to_vec();
                bad[100] ^= 4;
                bad
            }),
            ("zeros", &|_| rsa(&[0; 256])),
            ("1", &|_| rsa(&[vec![0; 255], vec![1]].concat())),
            ("a thousand octets", &|_| rsa(&[7; 1000])),
        ],
    );
}
