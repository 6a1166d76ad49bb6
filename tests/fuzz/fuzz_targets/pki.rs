//! Certificates, revocation lists, names and AlgorithmIdentifiers from strangers: what parses can be used for everything,
//! and only what our authority signed passes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pterodapter::crypto::pki::{Crl, SubjectAltName, subject_public_key_info};
use pterodapter::crypto::sign::{EcdsaForm, SignatureScheme, ecdsa_der_to_fixed, ecdsa_fixed_to_der};
use pterodapter::crypto::{Certificate, TrustAnchors, method14, pem};
use pterodapter_fuzz::WALL;

struct Known {
    anchors: TrustAnchors,
    /// Certificates of the authority, its own first.
    genuine: Vec<Certificate>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let genuine: Vec<_> = [
        &include_bytes!("../../data/pki/root.cert.pem")[..],
        include_bytes!("../../data/pki/p256.cert.pem"),
        include_bytes!("../../data/pki/p384.cert.pem"),
        include_bytes!("../../data/pki/rsa.cert.pem"),
        include_bytes!("../../data/pki/ed25519.cert.pem"),
        include_bytes!("../../data/pki/p521.cert.pem"),
        include_bytes!("../../data/pki/middle.cert.pem"),
        include_bytes!("../../data/pki/non-repudiation.cert.pem"),
        include_bytes!("../../data/pki/bare.cert.pem"),
        include_bytes!("../../data/pki/eku-clientAuth.cert.pem"),
    ]
    .into_iter()
    .map(|file| pem::certificates(file).expect("certificate").remove(0))
    .collect();
    let anchors = TrustAnchors::new(&genuine[..1]).expect("anchors");
    assert!(anchors.verify_client(&genuine[1], &genuine, WALL).is_ok(), "the genuine one is taken");
    Known { anchors, genuine }
});

fuzz_target!(|data: &[u8]| {
    let known = &*KNOWN;
    if let Ok(certificate) = Certificate::parse(data) {
        look_at(&certificate, known);
    }
    let _ = subject_public_key_info(data);
    if let Ok(list) = Crl::parse(data) {
        assert_eq!(Crl::parse_file(data).map(|lists| lists.len()).ok(), Some(1));
        let _ = (list.next_update(), list.number(), list.revoked().len());
        assert!(known.anchors.clone().add_list(list).is_err(), "our authority has signed no list");
    }
    let _ = Crl::parse_file(data);
    let _ = pem::certificates(data);
    let _ = pem::private_key(data);
    for signer in &known.genuine {
        // A name of ID_DER_ASN1_DN; an AlgorithmIdentifier of AUTH method 14.
        let _ = signer.has_subject(data);
        let _ = method14::parse_algorithm_identifier(data, signer);
    }
    for width in [32, 48] {
        if let Ok(fixed) = ecdsa_der_to_fixed(data, width) {
            let der = ecdsa_fixed_to_der(&fixed, width).expect("twice the width");
            assert_eq!(ecdsa_der_to_fixed(&der, width).as_ref(), Ok(&fixed));
        }
    }
});

fn look_at(certificate: &Certificate, known: &Known) {
    assert_eq!(Certificate::parse(certificate.der()).as_ref(), Ok(certificate));
    assert!(certificate.has_subject(certificate.subject_der()));
    assert!(!certificate.display_name().contains(char::is_control));
    assert_eq!(subject_public_key_info(certificate.der()), Ok(certificate.spki_der()));
    let _ =
        (certificate.issuer_common_name(), certificate.key_usage_allows_signature(), certificate.spki_sha1());
    for name in certificate.sans() {
        if let SubjectAltName::Dns(name) | SubjectAltName::Email(name) = name {
            assert!(name.is_ascii() && !name.contains('\0'));
        }
    }
    let genuine = known.genuine.contains(certificate);
    let verified = [
        known.anchors.verify_client(certificate, &known.genuine, WALL),
        known.anchors.verify_client(certificate, std::slice::from_ref(certificate), WALL),
        known.anchors.verify_server(certificate, &known.genuine, WALL),
    ];
    assert!(genuine || verified.iter().all(Result::is_err), "a forged certificate passed");
    // A stranger as its own authority, and as the issuer of one of ours.
    let has_known_key = known.genuine.iter().any(|known| known.spki_der() == certificate.spki_der());
    if let Ok(anchors) = TrustAnchors::new(std::slice::from_ref(certificate)) {
        let verified = anchors.verify_client(&known.genuine[1], &known.genuine[1..5], WALL);
        assert!(has_known_key || verified.is_err(), "a stranger passed as the issuer");
        let _ = anchors.verify_client(certificate, &[], WALL);
    }
    for scheme in
        [SignatureScheme::EcdsaP256Sha256, SignatureScheme::RsaPkcs1Sha256, SignatureScheme::Ed25519]
    {
        for form in [EcdsaForm::Der, EcdsaForm::Fixed] {
            assert!(certificate.verify(scheme, form, b"message", &[0x5a; 64]).is_err());
        }
    }
}
