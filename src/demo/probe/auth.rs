//! Identities and the AUTH payload (RFC 7296 section 2.15, RFC 4754, RFC 7427).

use std::net::IpAddr;

use super::ProbeError;
use super::message::{Message, Payload, kind};
use crate::crypto::pki::SubjectAltName;
use crate::crypto::sign::{EcdsaForm, KeyKind, SignatureScheme, ecdsa_der_to_fixed};
use crate::crypto::{Certificate, Error, Prf, PrivateKey, Secret, TrustAnchors, method14, prf};

/// AUTH method numbers.
const RSA_SIGNATURE: u8 = 1;
const ECDSA_P256: u8 = 9;
const ECDSA_P384: u8 = 10;
const DIGITAL_SIGNATURE: u8 = 14;

/// CERT and CERTREQ encoding: X.509 certificate - signature.
const X509_SIGNATURE: u8 = 4;

/// Body of an ID payload for a name: an address, a mail address or a host name by its looks.
pub(super) fn identity(name: &str) -> Vec<u8> {
    let (id_type, data) = match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => (1, address.octets().to_vec()),
        Ok(IpAddr::V6(address)) => (5, address.octets().to_vec()),
        Err(_) if name.contains('@') => (3, name.as_bytes().to_vec()),
        Err(_) => (2, name.as_bytes().to_vec()),
    };
    [vec![id_type, 0, 0, 0], data].concat()
}

/// Body of an ID payload with the certificate's subject.
pub(super) fn identity_of(certificate: &Certificate) -> Vec<u8> {
    [&[9, 0, 0, 0], certificate.subject_der()].concat()
}

/// A CERT payload.
pub(super) fn emit_certificate(certificate: &Certificate) -> Payload {
    Payload::new(kind::CERT, [&[X509_SIGNATURE], certificate.der()].concat())
}

/// A CERTREQ payload with the hashes of the authorities' keys.
pub(super) fn emit_certificate_request(authorities: &[Certificate]) -> Payload {
    let mut body = vec![X509_SIGNATURE];
    body.extend(authorities.iter().flat_map(Certificate::spki_sha1));
    Payload::new(kind::CERTREQ, body)
}

/// What a peer signs: its first message, the other's nonce, and its identity under its SK_p.
pub(super) fn signed_octets(
    message: &[u8],
    nonce: &[u8],
    prf: Prf,
    sk_p: &Secret,
    id_body: &[u8],
) -> Vec<u8> {
    [message, nonce, prf::prf(prf, sk_p.expose(), &[id_body]).expose()].concat()
}

/// Our AUTH payload: Digital Signature if the responder listed hash algorithms, else the method of the key.
pub(super) fn sign(key: &PrivateKey, modern: bool, octets: &[u8]) -> Result<Payload, ProbeError> {
    let (scheme, method, width) = match key.kind() {
        KeyKind::P256 => (SignatureScheme::EcdsaP256Sha256, ECDSA_P256, Some(32)),
        KeyKind::P384 => (SignatureScheme::EcdsaP384Sha384, ECDSA_P384, Some(48)),
        KeyKind::Rsa => (SignatureScheme::RsaPkcs1Sha256, RSA_SIGNATURE, None),
    };
    let signature = key.sign(scheme, octets)?;
    let body = if modern {
        let algorithm = method14::algorithm_identifier(scheme);
        [&[DIGITAL_SIGNATURE, 0, 0, 0, algorithm.len() as u8], algorithm, &signature].concat()
    } else {
        let value = match width {
            Some(width) => ecdsa_der_to_fixed(&signature, width)?,
            None => signature,
        };
        [&[method, 0, 0, 0], value.as_slice()].concat()
    };
    Ok(Payload::new(kind::AUTH, body))
}

/// Checks the responder's certificate chain, name, identity and signature.
pub(super) fn verify(
    message: &Message,
    server_id: &str,
    anchors: &TrustAnchors,
    wall: std::time::Duration,
    octets: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<(), ProbeError> {
    let id_body = message.find(kind::IDR).ok_or(ProbeError::ServerAuth("no IDr payload"))?;
    if id_body != identity(server_id) {
        return Err(ProbeError::ServerAuth("IDr is not the name that was asked for"));
    }
    let mut chain = Vec::new();
    for body in message.all(kind::CERT) {
        match body.split_first() {
            Some((&X509_SIGNATURE, der)) => chain.push(Certificate::parse(der)?),
            _ => return Err(ProbeError::ServerAuth("CERT payload of another encoding")),
        }
    }
    let (leaf, intermediates) = chain.split_first().ok_or(ProbeError::ServerAuth("no CERT payload"))?;
    anchors.verify_server(leaf, intermediates, wall)?;
    if !leaf.sans().iter().any(|san| names(san, server_id)) {
        return Err(ProbeError::ServerAuth("no subjectAltName is the server's name"));
    }
    let auth = message.find(kind::AUTH).ok_or(ProbeError::ServerAuth("no AUTH payload"))?;
    let (&[method, ..], value) =
        auth.split_first_chunk::<4>().ok_or(ProbeError::ServerAuth("AUTH payload too short"))?;
    verify_signature(leaf, method, value, &octets(id_body))
}

fn names(san: &SubjectAltName, server_id: &str) -> bool {
    match san {
        SubjectAltName::Dns(name) | SubjectAltName::Email(name) => name.eq_ignore_ascii_case(server_id),
        SubjectAltName::Ip(address) => server_id.parse() == Ok(*address),
        _ => false,
    }
}

fn verify_signature(leaf: &Certificate, method: u8, value: &[u8], octets: &[u8]) -> Result<(), ProbeError> {
    use SignatureScheme as S;
    let refused = |_: Error| ProbeError::ServerAuth("the signature does not verify");
    match method {
        RSA_SIGNATURE => leaf.verify_rsa_any_hash(octets, value).map(drop).map_err(refused),
        ECDSA_P256 => leaf.verify(S::EcdsaP256Sha256, EcdsaForm::Fixed, octets, value).map_err(refused),
        ECDSA_P384 => leaf.verify(S::EcdsaP384Sha384, EcdsaForm::Fixed, octets, value).map_err(refused),
        DIGITAL_SIGNATURE => {
            let (&len, rest) = value.split_first().ok_or(ProbeError::ServerAuth("AUTH payload too short"))?;
            let (algorithm, signature) = rest
                .split_at_checked(usize::from(len))
                .ok_or(ProbeError::ServerAuth("AUTH payload too short"))?;
            let scheme = method14::parse_algorithm_identifier(algorithm, leaf)?;
            leaf.verify(scheme, EcdsaForm::Der, octets, signature).map_err(refused)
        }
        _ => Err(ProbeError::ServerAuth("AUTH method that the probe does not know")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_by_their_looks() {
        assert_eq!(identity("vpn.example.org")[..5], [2, 0, 0, 0, b'v']);
        assert_eq!(identity("a@example.org")[0], 3);
        assert_eq!(identity("192.0.2.1"), [1, 0, 0, 0, 192, 0, 2, 1]);
        assert_eq!(identity("2001:db8::1").len(), 20);
    }
}
