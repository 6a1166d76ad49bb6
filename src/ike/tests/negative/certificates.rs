//! N37: certificates that will not do, and signatures that are not of them.

use super::authentication::refused;
use super::*;
use crate::crypto::pem;
use crate::crypto::pki::{Certificate, ChainError, TrustAnchors};
use crate::crypto::sign::{PrivateKey, SignatureScheme};
use crate::ike::{AuthError, Identity};
use crate::provision::{Authority, Issued, Role, Validity};

const ALICE: &str = "alice@example.com";

/// Makes what a client sends of a good client.
type Spoil = fn(&World, &mut Initiator) -> Vec<(Kind, Vec<u8>)>;
type Expected = fn(&AuthError) -> bool;

fn issued(world: &World, role: Role, names: &[&str], validity: Validity) -> Issued {
    world.authority.issue(role, names, validity, KeyKind::P256).unwrap()
}

/// What the client sends with this certificate and its key.
fn with(client: &mut Initiator, cert: Issued) -> Vec<(Kind, Vec<u8>)> {
    client.cert = cert;
    client.auth_payloads()
}

fn cert_body(der: &[u8]) -> Vec<u8> {
    Cert { encoding: Cert::X509, data: der }.emit()
}

fn is_signature(why: &AuthError) -> bool {
    matches!(why, AuthError::Signature(_))
}

/// The subject as the identity.
fn by_subject(client: &mut Initiator, der: &[u8]) {
    client.id_i = (IdType::Dn, Certificate::parse(der).unwrap().subject_der().to_vec());
}

#[test]
fn n37_authentication_fails_for_every_wrong_certificate() {
    let cases: &[(&str, Spoil, Expected)] = &[
        (
            "another identity in the signed octets",
            |w, c| {
                let names = [ALICE, "alice.example"];
                let mut payloads = with(c, issued(w, Role::Client, &names, Validity::days(WALL, 9)));
                let other = Id { kind: IdType::Fqdn, data: b"alice.example" };
                replace(&mut payloads, Kind::IdI, other.emit());
                payloads
            },
            is_signature,
        ),
        (
            "the certificate of another, with one's own key",
            |w, c| {
                let mut payloads = c.auth_payloads();
                let victim = issued(w, Role::Client, &[ALICE], Validity::days(WALL, 9));
                replace(&mut payloads, Kind::Cert, cert_body(&victim.cert_der));
                payloads
            },
            is_signature,
        ),
        (
            "one's own certificate, with the name of another",
            |w, c| with(c, issued(w, Role::Client, &["mallory@example.com"], Validity::days(WALL, 9))),
            |why| *why == AuthError::NotTheCertificates,
        ),
        (
            "expired",
            |w, c| {
                let validity = Validity { not_before: WALL / 2, not_after: WALL - SECOND };
                with(c, issued(w, Role::Client, &[ALICE], validity))
            },
            |why| *why == AuthError::Chain(ChainError::Expired),
        ),
        (
            "not valid yet",
            |w, c| {
                let validity = Validity { not_before: WALL + WALL / 10, not_after: WALL * 2 };
                with(c, issued(w, Role::Client, &[ALICE], validity))
            },
            |why| *why == AuthError::Chain(ChainError::NotYetValid),
        ),
        (
            "of an unknown authority",
            |_, c| {
                let other = Authority::new("Other CA", WALL, 10).unwrap();
                with(c, other.issue_client(ALICE, WALL, 10).unwrap())
            },
            |why| *why == AuthError::Chain(ChainError::UnknownIssuer),
        ),
        (
            "of an unknown authority that has the name of ours",
            |_, c| {
                let other = Authority::new("Test CA", WALL, 10).unwrap();
                with(c, other.issue_client(ALICE, WALL, 10).unwrap())
            },
            |why| *why == AuthError::Chain(ChainError::BadSignature),
        ),
        (
            "a server's",
            |w, c| with(c, issued(w, Role::Server, &[ALICE], Validity::days(WALL, 9))),
            |why| *why == AuthError::Chain(ChainError::ExtendedKeyUsage),
        ),
        (
            "the authority's own, with its key",
            |w, c| {
                let (cert_der, key_pem) = (w.authority.cert_der().to_vec(), w.authority.key_pem());
                by_subject(c, &cert_der);
                with(c, Issued { cert_pem: w.authority.cert_pem().to_owned(), key_pem, cert_der })
            },
            |why| *why == AuthError::Chain(ChainError::Role),
        ),
        (
            "signed with MD5",
            |w, c| {
                let mut cert = issued(w, Role::Client, &[ALICE], Validity::days(WALL, 9));
                cert.cert_der = signed_with_md5(&cert.cert_der);
                with(c, cert)
            },
            |why| *why == AuthError::Chain(ChainError::Algorithm),
        ),
        (
            "changed after it was signed",
            |w, c| {
                let mut cert = issued(w, Role::Client, &["alice@example.con"], Validity::days(WALL, 9));
                for at in 0..cert.cert_der.len() - 17 {
                    if cert.cert_der[at..].starts_with(b"alice@example.con") {
                        cert.cert_der[at + 16] = b'm';
                    }
                }
                with(c, cert)
            },
            |why| *why == AuthError::Chain(ChainError::BadSignature),
        ),
        (
            "none",
            |_, c| {
                let mut payloads = c.auth_payloads();
                payloads.retain(|payload| payload.0 != Kind::Cert);
                payloads
            },
            |why| *why == AuthError::NoCertificate,
        ),
        (
            "a shared key in place of a signature",
            |_, c| {
                let mut payloads = c.auth_payloads();
                let mic = Auth { method: auth_method::SHARED_KEY, data: &[1; 32] };
                replace(&mut payloads, Kind::Auth, mic.emit());
                payloads
            },
            |_| true,
        ),
    ];
    for (name, spoil, expected) in cases {
        let mut world = World::new();
        let mut client = half_open(&mut world, 4500);
        let payloads = spoil(&world, &mut client);
        let why = refused(&mut world, &mut client, &payloads, FAILED, name);
        assert!(expected(&why), "{name}: {why:?}");
        nothing_left(&mut world, name);
    }
}

#[test]
fn n37_every_octet_of_the_signature_counts() {
    let mut world = World::new();
    let mut client = half_open(&mut world, 4500);
    let auth = client.auth_payloads().into_iter().find(|payload| payload.0 == Kind::Auth).unwrap().1;
    // Behind method, reserved octets, and the AlgorithmIdentifier with its length.
    let signature = 4 + 1 + usize::from(auth[4]);
    assert!(auth.len() > signature + 64);
    for from_end in 1..=64 {
        let mut client = half_open(&mut world, 4500);
        let mut payloads = client.auth_payloads();
        for payload in payloads.iter_mut().filter(|payload| payload.0 == Kind::Auth) {
            let at = payload.1.len() - from_end;
            payload.1[at] ^= 1 << (from_end % 8);
        }
        let why = refused(&mut world, &mut client, &payloads, FAILED, "a bit of the signature");
        assert!(is_signature(&why), "octet {from_end} from the end: {why:?}");
    }
    nothing_left(&mut world, "N37");
}

#[test]
fn n37_keys_and_signatures_of_certificates_that_we_cannot_check() {
    let certificate = |name: &str| {
        let path = format!("{}/tests/data/pki/{name}.cert.pem", env!("CARGO_MANIFEST_DIR"));
        pem::certificates(&std::fs::read(path).unwrap()).unwrap().remove(0)
    };
    let expected: [(&str, &str, Expected); 4] = [
        ("p521", "root", is_signature),
        ("below-p521", "p521-root", |why| *why == AuthError::Chain(ChainError::Algorithm)),
        ("sha1", "root", |why| *why == AuthError::Chain(ChainError::Algorithm)),
        ("eku-codeSigning", "root", |why| *why == AuthError::Chain(ChainError::ExtendedKeyUsage)),
    ];
    for (name, root, expected) in expected {
        let mut world = World::new();
        // These certificates were made later than the world begins.
        world.now.wall = WALL + Duration::from_secs(100 * 24 * 3600);
        let ours = world.authority.issue_server(&["vpn.example"], WALL, 365).unwrap();
        let ca = Certificate::parse(world.authority.cert_der()).unwrap();
        let chain = vec![Certificate::parse(&ours.cert_der).unwrap(), ca.clone()];
        let anchors = TrustAnchors::new(&[ca, certificate(root)]).unwrap();
        let key = PrivateKey::from_pem(ours.key_pem.as_bytes()).unwrap();
        world.handle(Input::Identity(Box::new(Identity::new("vpn.example", chain, key, anchors))));
        let certificate = certificate(name);
        // A scheme that fits such a key, where there is one; the signature itself is not of it.
        for auth in [
            Auth { method: 11, data: &[7; 132] },
            Auth { method: auth_method::ECDSA_256, data: &[7; 64] },
            Auth {
                method: auth_method::DIGITAL_SIGNATURE,
                data: &[b"\x0c\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04", &[7; 139][..]].concat(),
            },
        ] {
            let mut client = half_open(&mut world, 4500);
            by_subject(&mut client, certificate.der());
            let mut payloads = client.auth_payloads();
            replace(&mut payloads, Kind::Cert, cert_body(certificate.der()));
            replace(&mut payloads, Kind::Auth, auth.emit());
            let why = refused(&mut world, &mut client, &payloads, FAILED, name);
            assert!(expected(&why) || why == AuthError::Method(11), "{name}: {why:?}");
        }
        nothing_left(&mut world, name);
    }
}

/// The certificate, said to be signed by RSA with MD5 inside and outside, in lengths that are right.
fn signed_with_md5(der: &[u8]) -> Vec<u8> {
    const ECDSA: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
    const MD5: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04\x05\x00";
    let growth = MD5.len() - ECDSA.len();
    let mut out = vec![];
    let mut at = 0;
    let mut replaced = 0;
    while at < der.len() {
        if der[at..].starts_with(ECDSA) {
            out.extend_from_slice(MD5);
            at += ECDSA.len();
            replaced += 1;
        } else {
            out.push(der[at]);
            at += 1;
        }
    }
    assert_eq!(replaced, 2);
    // 30 82 LL LL 30 82 LL LL: the certificate, and what is signed of it.
    for (at, growth) in [(2, 2 * growth), (6, growth)] {
        assert_eq!(out[at - 2..at], [0x30, 0x82]);
        let length = u16::from_be_bytes([out[at], out[at + 1]]) + growth as u16;
        out[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    assert!(Certificate::parse(&out).is_ok(), "all else is as it should be");
    out
}

#[test]
fn n37_a_good_certificate_of_every_kind_is_let_in() {
    // What the cases above are variations of.
    for kind in [KeyKind::P256, KeyKind::P384] {
        let mut world = World::new();
        let cert = world.authority.issue(Role::Client, &[ALICE], Validity::days(WALL, 9), kind).unwrap();
        let mut client = Initiator::new(&world, cert, 4500);
        assert_eq!(client.connect(&mut world), Ok(()), "{kind:?}");
        assert!(matches!(
            client.signing,
            Signing::Rfc7427(SignatureScheme::EcdsaP256Sha256 | SignatureScheme::EcdsaP384Sha384)
        ));
        goes_on(&mut world, &mut client, "N37");
    }
}
