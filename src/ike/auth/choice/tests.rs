use super::*;
use crate::ike::testing::{WALL, credential, rsa_key_pem};
use crate::provision::{Authority, Role, Validity};
use crate::wire::ike::IdType;
use SignatureScheme as S;

/// IKE_SA_INIT of: strongSwan, Android's own client; Windows by PowerShell and as it comes; Apple.
const STRONGSWAN: Hints =
    Hints { windows: false, redirect: true, hashes: true, modp_4096: true, nist_curves: true };
const ANDROID: Hints = Hints { redirect: false, nist_curves: false, ..STRONGSWAN };
const WINDOWS: Hints =
    Hints { windows: true, redirect: false, hashes: false, modp_4096: false, nist_curves: true };
const WINDOWS_MODP: Hints = Hints { nist_curves: false, ..WINDOWS };
const APPLE: Hints = Hints { windows: false, redirect: true, ..WINDOWS };

fn credentials(kinds: &[(KeyKind, &str)]) -> Vec<Credential> {
    let authority = Authority::new("Test CA", WALL, 3650).unwrap();
    let valid = Validity::days(WALL, 365);
    let make = |(kind, name): &(KeyKind, &str)| {
        let issued = match kind {
            KeyKind::Rsa => authority.issue_with_key(Role::Server, &[*name], valid, &rsa_key_pem()),
            kind => authority.issue(Role::Server, &[*name], valid, *kind),
        };
        credential(&issued.unwrap())
    };
    kinds.iter().map(make).collect()
}

/// The table of docs/architecture.md: an ECDSA and an RSA certificate side by side, whatever their order.
#[test]
fn each_client_gets_what_it_can_verify() {
    let sha2: Option<&[u16]> = Some(&[2, 3, 4]);
    let kinds = [(KeyKind::Rsa, "vpn.example"), (KeyKind::P256, "vpn.example")];
    let one_way = credentials(&kinds);
    let other_way = credentials(&[kinds[1], kinds[0]]);
    for (client, hints, hashes, peer, expected) in [
        ("strongSwan, ECDSA", STRONGSWAN, sha2, Some(S::EcdsaP256Sha256), S::EcdsaP256Sha256),
        ("strongSwan, RSA", STRONGSWAN, sha2, Some(S::RsaPkcs1Sha256), S::EcdsaP256Sha256),
        ("strongSwan, EAP", STRONGSWAN, sha2, None, S::EcdsaP256Sha256),
        ("libreswan without SHA-256", STRONGSWAN, Some(&[3, 4]), Some(S::RsaPssSha512), S::RsaPssSha384),
        ("Android, RSA", ANDROID, Some(&[1, 2, 3, 4]), Some(S::RsaPkcs1Sha512), S::RsaPkcs1Sha256),
        ("Android, EAP", ANDROID, Some(&[1, 2, 3, 4]), None, S::RsaPkcs1Sha256),
        ("Curve25519 only, ECDSA", ANDROID, sha2, Some(S::EcdsaP384Sha384), S::EcdsaP256Sha256),
        ("Windows by PowerShell, RSA", WINDOWS, None, Some(S::RsaPkcs1Sha1), S::EcdsaP256Sha256),
        ("Windows by PowerShell, EAP", WINDOWS, None, None, S::EcdsaP256Sha256),
        ("Windows as it comes, ECDSA", WINDOWS_MODP, None, Some(S::EcdsaP256Sha256), S::EcdsaP256Sha256),
        ("Windows as it comes, RSA", WINDOWS_MODP, None, Some(S::RsaPkcs1Sha1), S::RsaPkcs1Sha1),
        ("Windows as it comes, EAP", WINDOWS_MODP, None, None, S::RsaPkcs1Sha1),
        ("Apple, ECDSA profile", APPLE, None, Some(S::EcdsaP256Sha256), S::EcdsaP256Sha256),
        ("Apple, RSA profile", APPLE, None, Some(S::RsaPkcs1Sha1), S::RsaPkcs1Sha1),
        ("Apple by hand, EAP", APPLE, None, None, S::RsaPkcs1Sha1),
        ("no RFC 7427, RSA", STRONGSWAN, None, Some(S::RsaPkcs1Sha1), S::RsaPkcs1Sha1),
        ("no RFC 7427, RSA with SHA-2", STRONGSWAN, None, Some(S::RsaPkcs1Sha384), S::RsaPkcs1Sha384),
        ("no RFC 7427, ECDSA", STRONGSWAN, None, Some(S::EcdsaP384Sha384), S::EcdsaP256Sha256),
    ] {
        let verifier = Verifier { hashes, peer, hints };
        for credentials in [&one_way, &other_way] {
            let (_, scheme) = verifier.choose(credentials, None).unwrap();
            assert_eq!(scheme, expected, "{client}");
        }
    }
}

#[test]
fn one_certificate_serves_everybody_as_well_as_it_can() {
    for (kind, hashes, peer, expected) in [
        (KeyKind::P256, Some(&[1, 2, 3][..]), Some(S::RsaPkcs1Sha256), Some(S::EcdsaP256Sha256)),
        (KeyKind::P256, Some(&[3, 4]), Some(S::EcdsaP256Sha256), None),
        (KeyKind::P256, None, None, Some(S::EcdsaP256Sha256)),
        (KeyKind::P384, Some(&[2, 3]), Some(S::EcdsaP256Sha256), Some(S::EcdsaP384Sha384)),
        (KeyKind::P384, Some(&[2, 3]), None, Some(S::EcdsaP384Sha384)),
        (KeyKind::P384, None, Some(S::RsaPkcs1Sha1), Some(S::EcdsaP384Sha384)),
        (KeyKind::Rsa, Some(&[4]), Some(S::RsaPkcs1Sha512), Some(S::RsaPkcs1Sha512)),
        (KeyKind::Rsa, Some(&[2, 3, 4]), Some(S::RsaPssSha512), Some(S::RsaPssSha256)),
        (KeyKind::Rsa, Some(&[3]), Some(S::EcdsaP256Sha256), Some(S::RsaPssSha384)),
        (KeyKind::Rsa, Some(&[2, 3, 4]), None, Some(S::RsaPkcs1Sha256)),
        (KeyKind::Rsa, Some(&[1, 5]), Some(S::RsaPkcs1Sha1), None),
        (KeyKind::Rsa, None, Some(S::EcdsaP256Sha256), Some(S::RsaPkcs1Sha1)),
    ] {
        let credentials = credentials(&[(kind, "vpn.example")]);
        for hints in [STRONGSWAN, ANDROID, WINDOWS, WINDOWS_MODP, APPLE] {
            let chosen = Verifier { hashes, peer, hints }.choose(&credentials, None);
            assert_eq!(chosen.map(|(_, scheme)| scheme), expected, "{kind:?} {hashes:?} {peer:?} {hints:?}");
        }
    }
}

#[test]
fn the_name_asked_for_comes_first_and_then_the_order() {
    let credentials = credentials(&[
        (KeyKind::P384, "first.example"),
        (KeyKind::P256, "second.example"),
        (KeyKind::Rsa, "rsa.example"),
    ]);
    let index = |own: &Credential| credentials.iter().position(|other| std::ptr::eq(own, other)).unwrap();
    for (asked, hashes, hints, expected) in [
        (None, Some(&[2, 3, 4][..]), STRONGSWAN, 0),
        (Some("nowhere.example"), Some(&[2, 3, 4]), STRONGSWAN, 0),
        (Some("SECOND.example"), Some(&[2, 3, 4]), STRONGSWAN, 1),
        (Some("rsa.example"), Some(&[2, 3, 4]), STRONGSWAN, 2),
        (Some("second.example"), None, APPLE, 1),
        (None, None, APPLE, 2),
        // A certificate with the name that the client cannot verify is none.
        (Some("second.example"), Some(&[3]), STRONGSWAN, 0),
    ] {
        let id = asked.map(|name| Id { kind: IdType::Fqdn, data: name.as_bytes() });
        let verifier = Verifier { hashes, peer: None, hints };
        let (own, _) = verifier.choose(&credentials, id.as_ref()).unwrap();
        assert_eq!(index(own), expected, "{asked:?} {hashes:?} {hints:?}");
    }
    assert!(Verifier { hashes: None, peer: None, hints: APPLE }.choose(&[], None).is_none());
}
