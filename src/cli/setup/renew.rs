//! `pterodapter setup renew`: new certificates for the keys that we have, before the old ones end.

use std::path::Path;
use std::time::Duration;

use crate::crypto::pki::SubjectAltName;
use crate::crypto::{Certificate, PrivateKey, TrustAnchors, pem};
use crate::provision::{Authority, Role};

use super::super::Failure;
use super::super::settings::{Days, SOON};
use super::files::{Files, PUBLIC};
use super::record::Record;
use super::{LEAF_DAYS, RSA_CERT, RSA_KEY, SERVER_CERT, SERVER_KEY, existing_authority, files, refused};

/// Below this the end of the CA is told: all devices need new profiles then.
const CA_SOON: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// Renews those of our certificates that end soon; the text for the person.
pub fn run(dir: &Path, force: bool, wall: Duration) -> Result<String, Failure> {
    let authority = existing_authority(dir)?;
    let mut pairs = vec![(SERVER_CERT, SERVER_KEY)];
    if dir.join(RSA_CERT).exists() {
        pairs.push((RSA_CERT, RSA_KEY));
    }
    let (mut text, mut is_new) = (String::new(), false);
    for (cert, key) in pairs {
        let (done, renewed) = server(dir, cert, key, force, wall, &authority)?;
        text.push_str(&done);
        is_new |= renewed;
    }
    if is_new {
        text.push_str("\nNow:\n  pterodapter reload\n");
    }
    for device in Record::devices(dir)? {
        let Some(newest) = device.newest() else { continue };
        if newest.not_after() < wall + SOON {
            let ends = ends(newest.not_after(), wall);
            text.push_str(&format!("{}: its certificate {ends}: {}\n", device.name, device.renewal(dir)));
        }
    }
    if authority.not_after() < wall + CA_SOON {
        text.push_str(&format!(
            "the CA itself {}: all devices need profiles of a new one then (docs/certificates.md)\n",
            ends(authority.not_after(), wall)
        ));
    }
    Ok(text)
}

/// What was done about one certificate, and whether there is a new one.
fn server(
    dir: &Path,
    cert: &str,
    key: &str,
    force: bool,
    wall: Duration,
    authority: &Authority,
) -> Result<(String, bool), Failure> {
    let path = dir.join(cert);
    let broken = |why: String| Failure::Configuration(format!("{}: {why}", path.display()));
    let chain = pem::certificates(files::read(&path)?.as_bytes()).map_err(|why| broken(why.to_string()))?;
    let Some(own) = chain.first() else { return Err(broken("there is no certificate in it".to_owned())) };
    if !is_of(own, authority) {
        return Err(broken("it is not from our CA; renew it where it is from".to_owned()));
    }
    let until = own.not_after();
    let name = path.display();
    if !force && until >= wall + SOON {
        return Ok((format!("{name}: {}, nothing to do\n", valid_for(until, wall)), false));
    }
    let validity = authority.leaf_validity(wall, LEAF_DAYS).map_err(refused)?;
    if !force && validity.not_after <= until {
        let text =
            format!("{name}: {}, and no new one can be valid longer than the CA\n", valid_for(until, wall));
        return Ok((text, false));
    }
    let key_path = dir.join(key);
    let key = files::read(&key_path)?;
    let fits = PrivateKey::from_pem(key.as_bytes()).is_ok_and(|key| key.public_matches(own));
    if !fits {
        return Err(broken(format!("{} is not its key", key_path.display())));
    }
    let names = names(own);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let issued = authority.issue_with_key(Role::Server, &names, validity, &key).map_err(refused)?;
    let mut files = Files::new(dir, true);
    files.replace(cert, PUBLIC, issued.cert_pem);
    let written = files.write()?;
    let text = format!(
        "{written}renewed the certificate of {}: {}; key and names are the same\n",
        names.join(", "),
        valid_for(validity.not_after, wall)
    );
    Ok((text, true))
}

/// Whether this authority made it; its time does not matter.
fn is_of(own: &Certificate, authority: &Authority) -> bool {
    let anchors = Certificate::parse(authority.cert_der()).ok().and_then(|ca| TrustAnchors::new(&[ca]).ok());
    anchors.is_some_and(|anchors| anchors.verify_server(own, &[], own.not_before()).is_ok())
}

/// Common name and alternative names, each once: what the certificate was made for.
fn names(own: &Certificate) -> Vec<String> {
    let mut names: Vec<String> = own.common_name().map(str::to_owned).into_iter().collect();
    for san in own.sans() {
        let name = match san {
            SubjectAltName::Dns(name) | SubjectAltName::Email(name) => name.clone(),
            SubjectAltName::Ip(ip) => ip.to_string(),
            SubjectAltName::Other => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// How long something is valid, in words.
pub fn valid_for(until: Duration, wall: Duration) -> String {
    match until.checked_sub(wall) {
        Some(left) => format!("valid for {}", Days(left)),
        None => "expired".to_owned(),
    }
}

fn ends(until: Duration, wall: Duration) -> String {
    match until.checked_sub(wall) {
        Some(left) => format!("expires in {}", Days(left)),
        None => format!("expired {} ago", Days(wall - until)),
    }
}
