use super::*;
use crate::crypto::pki::{ChainError, SubjectAltName, TrustAnchors};
use crate::crypto::sign::{EcdsaForm, SignatureScheme};

/// 2026-11-24.
const WALL: Duration = Duration::from_secs(1_795_478_400);

fn authority() -> Authority {
    Authority::new("pterodapter test", WALL, 3650).unwrap()
}

fn parse(issued: &Issued) -> Certificate {
    let certificate = pem::certificates(issued.cert_pem.as_bytes()).unwrap().swap_remove(0);
    assert_eq!(certificate.der(), issued.cert_der);
    assert!(PrivateKey::from_pem(issued.key_pem.as_bytes()).unwrap().public_matches(&certificate));
    assert!(certificate.key_usage_allows_signature() && !certificate.is_ca());
    certificate
}

fn anchors(authority: &Authority) -> TrustAnchors {
    let ca = Certificate::parse(authority.cert_der()).unwrap();
    assert!(ca.is_ca());
    assert_eq!(pem::certificates(authority.cert_pem().as_bytes()).unwrap(), std::slice::from_ref(&ca));
    TrustAnchors::new(&[ca]).unwrap()
}

fn dns(name: &str) -> SubjectAltName {
    SubjectAltName::Dns(name.into())
}

#[test]
fn a_server_certificate_is_one_for_servers_only() {
    let authority = authority();
    let names = ["vpn.example.com", "192.0.2.1", "2001:db8::1"];
    let certificate = parse(&authority.issue_server(&names, WALL, 365).unwrap());
    assert_eq!(certificate.common_name(), Some("vpn.example.com"));
    assert_eq!(
        certificate.sans(),
        [
            dns("vpn.example.com"),
            SubjectAltName::Ip("192.0.2.1".parse().unwrap()),
            dns("192.0.2.1"),
            SubjectAltName::Ip("2001:db8::1".parse().unwrap()),
            dns("2001:db8::1"),
        ]
    );
    let ike_intermediate = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x08, 0x02, 0x02];
    assert!(certificate.der().windows(10).any(|window| window == ike_intermediate));
    let anchors = anchors(&authority);
    assert_eq!(anchors.verify_server(&certificate, &[], WALL), Ok(()));
    assert_eq!(anchors.verify_server(&certificate, &[], WALL - CLOCK_SKEW), Ok(()));
    assert_eq!(anchors.verify_server(&certificate, &[], WALL + 366 * DAY), Err(ChainError::Expired));
    let elsewhere = anchors_of_another_authority();
    assert_eq!(elsewhere.verify_server(&certificate, &[], WALL), Err(ChainError::BadSignature));
}

/// Of the same name, which must not help.
fn anchors_of_another_authority() -> TrustAnchors {
    anchors(&authority())
}

#[test]
fn a_client_certificate_names_its_user() {
    let authority = authority();
    let anchors = anchors(&authority);
    for (name, sans) in [
        ("anna@example.com", vec![SubjectAltName::Email("anna@example.com".into())]),
        ("laptop.example.com", vec![dns("laptop.example.com")]),
        ("phone", vec![dns("phone")]),
        ("Anna's phone", vec![]),
        ("Jürgen", vec![]),
        ("an na@example.com", vec![]),
    ] {
        let certificate = parse(&authority.issue_client(name, WALL, 30).unwrap());
        assert_eq!(certificate.common_name(), Some(name));
        assert_eq!(certificate.sans(), sans);
        assert_eq!(anchors.verify_client(&certificate, &[], WALL), Ok(()));
        assert_eq!(anchors.verify_server(&certificate, &[], WALL), Err(ChainError::ExtendedKeyUsage));
    }
}

#[test]
fn keys_of_every_kind_get_certificates() {
    let authority = authority();
    let validity = Validity { not_before: WALL - 30 * DAY, not_after: WALL - DAY };
    let expired = parse(&authority.issue(Role::Client, &["old"], validity, KeyKind::P384).unwrap());
    assert_eq!(expired.key_kind(), Some(KeyKind::P384));
    assert_eq!((expired.not_before(), expired.not_after()), (validity.not_before, validity.not_after));
    assert_eq!(anchors(&authority).verify_client(&expired, &[], WALL), Err(ChainError::Expired));

    let valid = Validity::days(WALL, 10);
    for (file, kind, scheme) in [
        ("rsa.key.pem", KeyKind::Rsa, SignatureScheme::RsaPssSha256),
        ("rsa.pkcs8.pem", KeyKind::Rsa, SignatureScheme::RsaPkcs1Sha512),
        ("p256.key.pem", KeyKind::P256, SignatureScheme::EcdsaP256Sha256),
        ("p384.pkcs8.pem", KeyKind::P384, SignatureScheme::EcdsaP384Sha384),
    ] {
        let path = format!("{}/tests/data/pki/{file}", env!("CARGO_MANIFEST_DIR"));
        let key_pem = std::fs::read_to_string(path).unwrap();
        let issued = authority.issue_with_key(Role::Server, &["vpn.example.com"], valid, &key_pem).unwrap();
        let certificate = parse(&issued);
        assert_eq!(certificate.key_kind(), Some(kind));
        assert_eq!(anchors(&authority).verify_server(&certificate, &[], WALL), Ok(()));
        let signature = PrivateKey::from_pem(key_pem.as_bytes()).unwrap().sign(scheme, b"hello").unwrap();
        certificate.verify(scheme, EcdsaForm::Der, b"hello", &signature).unwrap();
    }
    for kind in [KeyKind::P256, KeyKind::P384, KeyKind::Rsa] {
        let issued = authority.issue(Role::Server, &["vpn.example.com"], valid, kind).unwrap();
        let certificate = parse(&issued);
        assert_eq!(certificate.key_kind(), Some(kind));
        assert_eq!(anchors(&authority).verify_server(&certificate, &[], WALL), Ok(()));
        let key = PrivateKey::from_pem(issued.key_pem.as_bytes()).unwrap();
        assert!(key.public_matches(&certificate), "{kind:?}");
        assert!(issued.key_pem.starts_with("-----BEGIN PRIVATE KEY-----"), "{kind:?}");
    }
}

#[test]
fn an_authority_lives_on_in_its_files() {
    let first = authority();
    let again = Authority::load(first.cert_pem(), &first.key_pem()).unwrap();
    let certificate = parse(&again.issue_client("later", WALL, 30).unwrap());
    assert_eq!(anchors(&first).verify_client(&certificate, &[], WALL), Ok(()));
    assert_eq!(again.cert_der(), first.cert_der());

    let other = authority();
    assert!(matches!(Authority::load(first.cert_pem(), &other.key_pem()), Err(Error::WrongKey)));
    let leaf = first.issue_client("leaf", WALL, 30).unwrap();
    assert!(matches!(Authority::load(&leaf.cert_pem, &leaf.key_pem), Err(Error::NotOurAuthority)));
    assert!(matches!(Authority::load("", &first.key_pem()), Err(Error::Crypto(_))));
}

#[test]
fn serial_numbers_differ() {
    let authority = authority();
    let validity = Validity::days(WALL, 1);
    let key = authority.issue_client("one", WALL, 1).unwrap().key_pem;
    let [a, b] = [0, 1].map(|_| authority.issue_with_key(Role::Client, &["one"], validity, &key).unwrap());
    // Same names, times and key: without a random number these octets would be the same.
    assert_ne!(a.cert_der[..40], b.cert_der[..40]);
}

#[test]
fn refuses_what_cannot_be_a_certificate() {
    let authority = authority();
    let long = "a".repeat(65);
    for names in [&[][..], &[""], &["two words"], &["-.example"], &["ok", "not ok"], &["a\nb"], &[&long]] {
        let issued = authority.issue_server(names, WALL, 1);
        assert!(matches!(issued, Err(Error::BadName(_))), "{names:?}");
    }
    let backwards = Validity { not_before: WALL, not_after: WALL - DAY };
    let issued = authority.issue(Role::Client, &["x"], backwards, KeyKind::P256);
    assert!(matches!(issued, Err(Error::BadValidity)));
    assert!(matches!(authority.issue_client("x", WALL, u32::MAX), Err(Error::BadValidity)));
}

#[test]
fn debug_shows_no_key() {
    let authority = authority();
    let issued = authority.issue_client("x", WALL, 1).unwrap();
    let shown = format!("{authority:?} {issued:?}");
    assert!(!shown.contains("PRIVATE KEY") && shown.contains("CERTIFICATE"));
}
