//! Our certificates and their keys: `--cert` and `--key`, in pairs.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::Date;
use crate::cli::args::{Ikev2Args, Source};
use crate::crypto::pki::SubjectAltName;
use crate::crypto::{Certificate, PrivateKey, TrustAnchors};
use crate::engine::Credential;

use super::files::Files;
use super::{Error, Lifetime, System, Warning};

/// What two options that belong together name, as far as it can be read.
struct Pair<'a> {
    cert: &'a Path,
    chain: Option<Vec<Certificate>>,
    key: Option<(PrivateKey, PathBuf)>,
}

/// All of them, each checked: `None` if one cannot be read. `anchors` are the clients' authorities, if they are known.
pub fn credentials(
    args: &Ikev2Args,
    system: &System,
    anchors: Option<&TrustAnchors>,
    files: &mut Files<'_, impl Read>,
) -> Option<Vec<Credential>> {
    let mut read = |(cert, key): (&'_ PathBuf, &Source)| {
        let chain = files.certificates("--cert", cert);
        let chain = files.keep(chain);
        let key = files.private_key("--key", key);
        (chain, files.keep(key))
    };
    let pairs: Vec<Pair<'_>> = args
        .cert
        .iter()
        .zip(&args.key)
        .map(|pair| {
            let (chain, key) = read(pair);
            Pair { cert: pair.0, chain, key }
        })
        .collect();
    for pair in &pairs {
        check(pair, &pairs, &args.id_hostname, system, anchors, files);
    }
    let credential = |pair: Pair<'_>| Some(Credential { chain: pair.chain?, key: pair.key?.0 });
    pairs.into_iter().map(credential).collect()
}

fn check(
    pair: &Pair<'_>,
    all: &[Pair<'_>],
    hostname: &str,
    system: &System,
    anchors: Option<&TrustAnchors>,
    files: &mut Files<'_, impl Read>,
) {
    let Some((own, intermediates)) = pair.chain.as_deref().and_then(<[_]>::split_first) else { return };
    let cert = || pair.cert.to_owned();
    if let Some((key, path)) = pair.key.as_ref().filter(|(key, _)| !key.public_matches(own)) {
        let is_its = |other: &&Pair<'_>| {
            other.chain.as_deref().and_then(<[_]>::first).is_some_and(|own| key.public_matches(own))
        };
        let fits = all.iter().find(is_its).map(|other| other.cert.to_owned());
        files.faults.push(Error::KeyMismatch { option: "--key", key: path.clone(), cert: cert(), fits });
    }
    match Lifetime::of(own, system.wall) {
        Lifetime::Over(ago) => files.faults.push(Error::Expired { path: cert(), ago }),
        Lifetime::Ahead(after) => files.faults.push(Error::NotYetValid { path: cert(), after }),
        Lifetime::EndsSoon(left) => files.warnings.push(Warning::ExpiresSoon { cert: cert(), left }),
        Lifetime::Long => {}
    }
    if !names(own, hostname) {
        files.warnings.push(Warning::NameNotInCertificate { cert: cert(), name: hostname.to_owned() });
    }
    // Of one that is over the chain says nothing else.
    if files.faults.is_empty()
        && let Some(Err(why)) = anchors.map(|anchors| anchors.verify_server(own, intermediates, system.wall))
    {
        files.warnings.push(Warning::OtherIssuer { cert: cert(), why });
    }
}

/// Whether `name` is one of the certificate's subject alternative names.
fn names(certificate: &Certificate, name: &str) -> bool {
    certificate.sans().iter().any(|san| match san {
        SubjectAltName::Dns(dns) => dns.eq_ignore_ascii_case(name),
        SubjectAltName::Ip(ip) => name.parse() == Ok(*ip),
        SubjectAltName::Email(mail) => mail == name,
        SubjectAltName::Other => false,
    })
}

/// What we have, for people: kinds, and until when each is valid.
pub fn in_words(credentials: &[Credential]) -> String {
    let until =
        |own: &Credential| Date::of(own.chain.first().map(Certificate::not_after).unwrap_or_default());
    match credentials {
        [own] => format!("certificate (valid until {})", until(own)),
        several => {
            let one = |own: &Credential| format!("{} valid until {}", own.key.kind(), until(own));
            let all: Vec<_> = several.iter().map(one).collect();
            format!("certificates ({})", all.join(", "))
        }
    }
}
