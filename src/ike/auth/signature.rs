//! Identities and AUTH payloads by certificate (RFC 7296 sections 2.15 and 3.8, RFC 4754, RFC 7427).

use std::net::IpAddr;

use crate::crypto::pki::{Certificate, SubjectAltName};
use crate::crypto::sign::{EcdsaForm, KeyKind, PrivateKey, SignatureScheme, ecdsa_der_to_fixed};
use crate::crypto::{Error, method14};
use crate::ike::error::AuthError;
use crate::wire::ike::{Auth, Id, IdType, auth_method};

/// Hash numbers of our SIGNATURE_HASH_ALGORITHMS: SHA2-256, SHA2-384. Others take the longest of them whatever their key
/// is, and SHA2-512 with a key on P-256 is what we cannot verify; with RSA it is taken untold.
pub(in crate::ike) const HASHES: [u16; 2] = [2, 3];

/// Longest identity shown to people.
const LONGEST_SHOWN: usize = 256;

/// Whether the identity is one of the certificate's: a subject alternative name of the same kind, or the subject.
pub(super) fn belongs(id: &Id<'_>, certificate: &Certificate) -> bool {
    let text = std::str::from_utf8(id.data).ok().filter(|text| !text.is_empty());
    let equals = |name: &str| text.is_some_and(|text| text.eq_ignore_ascii_case(name));
    match id.kind {
        IdType::Dn => certificate.has_subject(id.data),
        IdType::Fqdn => {
            certificate.sans().iter().any(|san| matches!(san, SubjectAltName::Dns(name) if equals(name)))
        }
        IdType::Rfc822 => {
            certificate.sans().iter().any(|san| matches!(san, SubjectAltName::Email(name) if equals(name)))
        }
        IdType::Ipv4 | IdType::Ipv6 => {
            let address = address_of(id);
            let fits = |san: &SubjectAltName| matches!(san, SubjectAltName::Ip(ip) if Some(*ip) == address);
            certificate.sans().iter().any(fits)
        }
        IdType::KeyId | IdType::Other(_) => false,
    }
}

/// The identity as text: for logs, and (once it is known to be the certificate's) as the key of leases.
pub(super) fn display_id(id: &Id<'_>, certificate: Option<&Certificate>) -> String {
    let text = match (id.kind, certificate) {
        (IdType::Dn, Some(certificate)) => certificate.display_name(),
        (IdType::Fqdn | IdType::Rfc822 | IdType::KeyId, _) => {
            String::from_utf8_lossy(id.data).to_ascii_lowercase()
        }
        (IdType::Ipv4 | IdType::Ipv6, _) => {
            address_of(id).map_or_else(|| "?".to_owned(), |ip| ip.to_string())
        }
        _ => format!("{:?}", id.kind),
    };
    let shown = |c: char| c.is_ascii_graphic() || c == ' ';
    text.chars().take(LONGEST_SHOWN).map(|c| if shown(c) { c } else { '?' }).collect()
}

fn address_of(id: &Id<'_>) -> Option<IpAddr> {
    match id.kind {
        IdType::Ipv4 => <[u8; 4]>::try_from(id.data).ok().map(IpAddr::from),
        IdType::Ipv6 => <[u8; 16]>::try_from(id.data).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The body of our IDr: the identity asked for if it is ours, else the default.
pub(super) fn own_id(
    asked: Option<&Id<'_>>,
    id_hostname: &str,
    certificate: Option<&Certificate>,
) -> Vec<u8> {
    let is_default =
        |id: &Id<'_>| id.kind == IdType::Fqdn && id.data.eq_ignore_ascii_case(id_hostname.as_bytes());
    let is_ours =
        |id: &&Id<'_>| is_default(id) || certificate.is_some_and(|certificate| belongs(id, certificate));
    if let Some(id) = asked.filter(is_ours) {
        return id.emit();
    }
    match id_hostname.parse() {
        Ok(IpAddr::V4(address)) => Id { kind: IdType::Ipv4, data: &address.octets() }.emit(),
        Ok(IpAddr::V6(address)) => Id { kind: IdType::Ipv6, data: &address.octets() }.emit(),
        Err(_) => Id { kind: IdType::Fqdn, data: id_hostname.as_bytes() }.emit(),
    }
}

/// Verifies the peer's AUTH payload over `octets`; says with what it signed.
pub(super) fn verify(
    auth: &Auth<'_>,
    certificate: &Certificate,
    octets: &[u8],
) -> Result<SignatureScheme, AuthError> {
    use SignatureScheme as S;
    let (scheme, form, signature) = match auth.method {
        auth_method::RSA => {
            return certificate.verify_rsa_any_hash(octets, auth.data).map_err(AuthError::Signature);
        }
        auth_method::ECDSA_256 => (S::EcdsaP256Sha256, EcdsaForm::Fixed, auth.data),
        auth_method::ECDSA_384 => (S::EcdsaP384Sha384, EcdsaForm::Fixed, auth.data),
        auth_method::DIGITAL_SIGNATURE => {
            let (algorithm, signature) = auth.split_digital_signature()?;
            let scheme =
                method14::parse_algorithm_identifier(algorithm, certificate).map_err(AuthError::Signature)?;
            if scheme == S::RsaPkcs1Sha1 {
                return Err(AuthError::Signature(Error::Unsupported("SHA-1 signatures by method 14")));
            }
            (scheme, EcdsaForm::Der, signature)
        }
        other => return Err(AuthError::Method(other)),
    };
    certificate.verify(scheme, form, octets, signature).map_err(AuthError::Signature)?;
    Ok(scheme)
}

/// Makes the body of our AUTH payload over `octets`: method 14 for a peer that speaks RFC 7427, else the method of the
/// key (RFC 7296 section 3.8, RFC 4754).
pub(super) fn sign(
    key: &PrivateKey,
    scheme: SignatureScheme,
    rfc7427: bool,
    octets: &[u8],
) -> Result<Vec<u8>, AuthError> {
    let signature = key.sign(scheme, octets).map_err(AuthError::Signature)?;
    let fixed = |width| ecdsa_der_to_fixed(&signature, width).map_err(AuthError::Signature);
    let (method, data) = match key.kind() {
        _ if rfc7427 => {
            let algorithm = method14::algorithm_identifier(scheme);
            let len = u8::try_from(algorithm.len()).unwrap_or(u8::MAX);
            (auth_method::DIGITAL_SIGNATURE, [&[len], algorithm, &signature].concat())
        }
        KeyKind::P256 => (auth_method::ECDSA_256, fixed(32)?),
        KeyKind::P384 => (auth_method::ECDSA_384, fixed(48)?),
        KeyKind::Rsa => (auth_method::RSA, signature),
    };
    Ok(Auth { method, data: &data }.emit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_identity_and_names_that_are_not_ours() {
        let fqdn = |name: &'static str| Id { kind: IdType::Fqdn, data: name.as_bytes() };
        let own = |asked: Option<&Id<'_>>, host| own_id(asked, host, None);
        assert_eq!(own(None, "vpn.example"), fqdn("vpn.example").emit());
        assert_eq!(
            own(Some(&fqdn("VPN.example")), "vpn.example"),
            fqdn("VPN.example").emit(),
            "echoed as asked"
        );
        assert_eq!(own(Some(&fqdn("evil.example")), "vpn.example"), fqdn("vpn.example").emit());
        assert_eq!(own(None, "192.0.2.1"), Id { kind: IdType::Ipv4, data: &[192, 0, 2, 1] }.emit());
        let noisy = Id { kind: IdType::Fqdn, data: b"a\n\x1b[31m" };
        assert_eq!(display_id(&noisy, None), "a??[31m");
    }
}
