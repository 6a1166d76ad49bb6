use super::*;
use crate::crypto::pem;

/// A file of the test certificates.
pub(in crate::crypto) fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/pki/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one certificate of a file.
pub(in crate::crypto) fn cert(name: &str) -> Certificate {
    pem::certificates(&file(name)).unwrap().swap_remove(0)
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn reads_the_fields() {
    let anna = cert("p256.cert.pem");
    assert_eq!(anna.common_name(), Some("Anna"));
    assert_eq!(anna.display_name(), "Anna");
    assert_eq!(
        anna.sans(),
        [
            SubjectAltName::Dns("laptop.example.com".into()),
            SubjectAltName::Email("anna@example.com".into()),
            SubjectAltName::Ip("192.0.2.7".parse().unwrap()),
            SubjectAltName::Ip("2001:db8::7".parse().unwrap()),
            SubjectAltName::Other,
        ]
    );
    assert_eq!(anna.key_kind(), Some(KeyKind::P256));
    assert_eq!(anna.not_after() - anna.not_before(), 365 * DAY);
    assert_eq!(anna.issuer_der(), cert("middle.cert.pem").subject_der());
    assert!(!anna.is_ca() && anna.key_usage_allows_signature());
    assert!(anna.subject_der().ends_with(b"Anna"));
    assert_eq!(anna.spki_sha1(), hash::sha1(&[anna.spki_der()]));
    assert_eq!(Certificate::parse(anna.der()).unwrap(), anna);

    let root = cert("root.cert.pem");
    assert!(root.is_ca() && !root.key_usage_allows_signature());
    assert_eq!(root.issuer_der(), root.subject_der());
    for (name, kind) in [
        ("p384", PublicKeyKind::Key(KeyKind::P384)),
        ("rsa", PublicKeyKind::Key(KeyKind::Rsa)),
        ("ed25519", PublicKeyKind::Ed25519),
        ("p521", PublicKeyKind::Other("EC keys on P-521")),
    ] {
        assert_eq!(cert(&format!("{name}.cert.pem")).public_key_kind(), kind);
    }
    assert_eq!(cert("p521.cert.pem").key_kind(), None);
    assert!(!cert("encipher.cert.pem").key_usage_allows_signature());
    assert!(cert("non-repudiation.cert.pem").key_usage_allows_signature());
    assert!(cert("bare.cert.pem").key_usage_allows_signature());
}

#[test]
fn display_names_are_safe_for_a_log() {
    let mut anna = cert("p256.cert.pem");
    anna.common_name = Some("An\nna\u{1b}[31m".into());
    assert_eq!(anna.display_name(), "An\u{fffd}na\u{fffd}[31m");
    anna.common_name = None;
    assert_eq!(anna.display_name(), "laptop.example.com");
    anna.sans.clear();
    assert!(anna.display_name().starts_with("key "));
}

#[test]
fn a_name_is_the_subject_whatever_its_kind_of_string() {
    let certificate = cert("p256.cert.pem");
    let subject = certificate.subject_der().to_vec();
    let text = certificate.common_name().unwrap().as_bytes();
    let at = subject.windows(text.len()).position(|window| window == text).unwrap() - 2;
    assert_eq!((subject[at], usize::from(subject[at + 1])), (0x0c, text.len()), "a UTF8String");
    assert!(certificate.has_subject(&subject));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut name = subject.clone();
        change(&mut name);
        certificate.has_subject(&name)
    };
    assert!(with(&|name| name[at] = 0x13), "a PrintableString");
    assert!(!with(&|name| name[at] = 0x04), "no string");
    assert!(!with(&|name| name[at + 2] ^= 1), "another text");
    assert!(!with(&|name| name[at - 1] ^= 1), "another attribute");
    assert!(
        !with(&|name| name.push(0))
            && !with(&|name| name.truncate(name.len() - 1))
            && !with(&|name| name.clear())
    );
    assert!(!with(&|name| *name = vec![0x30, 0]), "no attributes");
}

#[test]
fn damaged_certificates_never_panic() {
    for name in ["p256.cert.pem", "root.cert.pem", "eku-clientAuth.cert.pem"] {
        let der = cert(name).der().to_vec();
        for len in 0..der.len() {
            assert!(Certificate::parse(&der[..len]).is_err(), "{name}: {len} octets");
        }
        assert!(Certificate::parse(&[der.as_slice(), &[0]].concat()).is_err());
        for at in 0..der.len() {
            for change in [1, 0x20, 0x80, 0xff] {
                let mut bad = der.clone();
                bad[at] ^= change;
                let _ = Certificate::parse(&bad).map(|certificate| certificate.display_name());
            }
        }
    }
}

#[test]
fn times() {
    let parse = |tag, text: &str| {
        parse_time(der::Element { tag, value: text.as_bytes(), whole: &[] }).ok().map(|time| time.as_secs())
    };
    for (tag, text, seconds) in [
        (0x17, "700101000000Z", Some(0)),
        (0x17, "491231235959Z", Some(2_524_607_999)),
        (0x17, "500101000000Z", Some(0)), // 1950
        (0x17, "240229120000Z", Some(1_709_208_000)),
        (0x17, "000301000000Z", Some(951_868_800)),
        (0x18, "20240229120000Z", Some(1_709_208_000)),
        (0x18, "21000301000000Z", Some(4_107_542_400)),
        (0x18, "99991231235959Z", Some(253_402_300_799)),
        (0x18, "00000101000000Z", Some(0)),
        (0x17, "20240229120000Z", None),
        (0x18, "240229120000Z", None),
        (0x17, "240229120000", None),
        (0x17, "240229120000+0100", None),
        (0x17, "2402291200Z", None),
        (0x17, "241329120000Z", None),
        (0x17, "240200120000Z", None),
        (0x17, "240229240000Z", None),
        (0x17, "24022912000xZ", None),
        (0x0c, "240229120000Z", None),
    ] {
        assert_eq!(parse(tag, text), seconds, "{text}");
    }
}

/// Trust in the root, the intermediate at hand, one day after the certificate began.
fn verify(
    check: fn(&TrustAnchors, &Certificate, &[Certificate], Duration) -> Result<(), ChainError>,
    name: &str,
) -> Result<(), ChainError> {
    let anchors = TrustAnchors::new(&[cert("root.cert.pem")]).unwrap();
    let certificate = cert(name);
    check(&anchors, &certificate, &[cert("middle.cert.pem")], certificate.not_before() + DAY)
}

#[test]
fn chains_end_at_an_anchor() {
    let anna = cert("p256.cert.pem");
    let (root, middle) = (cert("root.cert.pem"), cert("middle.cert.pem"));
    let wall = anna.not_before() + DAY;
    let check = |anchors: &[Certificate], intermediates: &[Certificate], wall| {
        TrustAnchors::new(anchors).unwrap().verify_client(&anna, intermediates, wall)
    };
    let (root, middle, other) = (&[root][..], &[middle][..], &[cert("other-root.cert.pem")][..]);
    assert_eq!(check(root, middle, wall), Ok(()));
    assert_eq!(check(middle, &[], wall), Ok(()), "an intermediate may be the anchor");
    assert_eq!(check(&[other, root].concat(), &[other, middle].concat(), wall), Ok(()));
    assert_eq!(check(root, &[], wall), Err(ChainError::UnknownIssuer));
    assert_eq!(check(other, middle, wall), Err(ChainError::UnknownIssuer));
    assert_eq!(check(&[], middle, wall), Err(ChainError::UnknownIssuer));

    assert_eq!(check(root, middle, anna.not_after()), Ok(()));
    assert_eq!(check(root, middle, anna.not_after() + Duration::from_secs(1)), Err(ChainError::Expired));
    let early = anna.not_before() - Duration::from_secs(1);
    assert_eq!(check(middle, &[], early), Err(ChainError::NotYetValid));

    let mut forged = anna.der().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = Certificate::parse(&forged).unwrap();
    let anchors = TrustAnchors::new(root).unwrap();
    assert_eq!(anchors.verify_client(&forged, middle, wall), Err(ChainError::BadSignature));
    assert_eq!(anchors.spki_hashes(), [root[0].spki_sha1()]);
}

#[test]
fn usages_of_clients_and_servers() {
    for (name, client, server) in [
        ("bare", true, true),
        ("p384", true, true),
        ("rsa", true, true),
        ("ed25519", true, true),
        ("eku-clientAuth", true, false),
        ("eku-serverAuth", false, true),
        ("eku-1.3.6.1.5.5.7.3.17", true, true),
        ("eku-1.3.6.1.5.5.8.2.2", false, true),
        ("eku-anyExtendedKeyUsage", true, true),
        ("eku-codeSigning", false, false),
    ] {
        let expected = |good| if good { Ok(()) } else { Err(ChainError::ExtendedKeyUsage) };
        let name = format!("{name}.cert.pem");
        assert_eq!(verify(TrustAnchors::verify_client, &name), expected(client), "{name}");
        assert_eq!(verify(TrustAnchors::verify_server, &name), expected(server), "{name}");
    }
    assert_eq!(verify(TrustAnchors::verify_client, "encipher.cert.pem"), Err(ChainError::KeyUsage));
    assert_eq!(verify(TrustAnchors::verify_client, "non-repudiation.cert.pem"), Ok(()));
}

#[test]
fn says_when_an_algorithm_is_missing() {
    assert_eq!(verify(TrustAnchors::verify_client, "sha1.cert.pem"), Err(ChainError::Algorithm));
    let below = cert("below-p521.cert.pem");
    let anchors = TrustAnchors::new(&[cert("p521-root.cert.pem")]).unwrap();
    assert_eq!(anchors.verify_client(&below, &[], below.not_before() + DAY), Err(ChainError::Algorithm));
}

#[test]
fn roles_are_not_mixed_up() {
    assert_eq!(verify(TrustAnchors::verify_client, "middle.cert.pem"), Err(ChainError::Role));
    assert_eq!(TrustAnchors::new(&[cert("p256.cert.pem")]).unwrap_err(), ChainError::Role);
    let anchors = TrustAnchors::new(&[cert("root.cert.pem")]).unwrap();
    let below = cert("below.cert.pem");
    let path = [cert("p256.cert.pem"), cert("middle.cert.pem")];
    let verified = anchors.verify_client(&below, &path, below.not_before() + DAY);
    assert_eq!(verified, Err(ChainError::Role), "a client certificate signs no others");
}
