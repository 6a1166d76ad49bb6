//! `pterodapter setup revoke`: takes the certificates of a device back. The revocation list has what the last one had, and
//! what `revoked/` has: so neither a list that was lost nor a new certificate of that name brings an old one back.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::crypto::Certificate;
use crate::crypto::pki::Crl;
use crate::provision::Authority;

use super::super::Failure;
use super::files::{Files, PUBLIC};
use super::record::{self, Record};
use super::{CONFIGURATION, CRL, DEVICES, REVOKED, device, existing_authority, files, refused};

/// Revokes all certificates of `name`; the text for the person.
pub fn run(name: &str, dir: &Path, wall: Duration) -> Result<String, Failure> {
    device::check_name(name)?;
    let authority = existing_authority(dir)?;
    let devices = Record::devices(dir)?;
    let before = files::read_if_there(&dir.join(record::path(REVOKED, name)))?;
    let Some(device) = devices.iter().find(|device| device.name == name) else {
        return match before {
            Some(_) => again(name, dir, &authority, wall),
            None => Err(unknown(name, &devices)),
        };
    };
    // The record first: with it the list can be made anew, whatever happens in between.
    let mut files = Files::new(dir, true);
    files.replace(
        record::path(REVOKED, name),
        PUBLIC,
        format!("{}{}", device.text, before.unwrap_or_default()),
    );
    let mut text = files.write()?;
    text.push_str(&write(dir, &authority, wall)?);
    files::remove(&dir.join(record::path(DEVICES, name)))?;
    let count = match device.certificates.len() {
        1 => "its certificate is".to_owned(),
        several => format!("its {several} certificates are"),
    };
    Ok(format!("{text}revoked {name}: {count} on the list\n{}", next(dir)))
}

/// Everything of this device is revoked. The list says so too, unless it was lost or exchanged.
fn again(name: &str, dir: &Path, authority: &Authority, wall: Duration) -> Result<String, Failure> {
    let listed = listed(dir, authority)?;
    let records = Record::revoked(dir)?;
    let mut serials = records.iter().flat_map(|record| &record.certificates).map(Certificate::serial);
    if listed.is_some_and(|(list, _)| serials.all(|serial| list.contains_key(serial))) {
        return Ok(format!("{name} is revoked already, nothing to do\n"));
    }
    Ok(format!(
        "{}{name} was revoked already, but was not on the list\n{}",
        write(dir, authority, wall)?,
        next(dir)
    ))
}

fn unknown(name: &str, devices: &[Record]) -> Failure {
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    Failure::Usage(if names.is_empty() {
        format!("there is no device {name:?}; there are no devices yet")
    } else {
        format!("there is no device {name:?}; the devices are: {}", names.join(", "))
    })
}

/// What has to be done for it to take effect.
fn next(dir: &Path) -> String {
    let named = |configuration: &str| configuration.lines().any(|line| line.trim_start().starts_with("crl"));
    let missing = match files::read_if_there(&dir.join(CONFIGURATION)) {
        Ok(Some(configuration)) if named(&configuration) => String::new(),
        _ => format!(
            "\nThe daemon does not know the list: add this line to {}\n  crl = [\"{CRL}\"]\n",
            dir.join(CONFIGURATION).display()
        ),
    };
    format!("{missing}\nNow:\n  pterodapter reload\n")
}

/// Writes the list as it is now; a line for each file.
pub fn write(dir: &Path, authority: &Authority, wall: Duration) -> Result<String, Failure> {
    let mut files = Files::new(dir, true);
    files.replace(CRL, PUBLIC, list(dir, authority, wall)?);
    files.write()
}

/// The list in PEM: what is on the last one, and what is recorded as revoked.
pub fn list(dir: &Path, authority: &Authority, wall: Duration) -> Result<String, Failure> {
    let (mut revoked, number) = listed(dir, authority)?.unwrap_or_default();
    for record in Record::revoked(dir)? {
        for certificate in &record.certificates {
            revoked.entry(certificate.serial().to_vec()).or_insert(wall);
        }
    }
    let entries = revoked.iter().map(|(serial, time)| (serial.as_slice(), *time));
    // There is none to fetch a newer one from: it ends with the authority.
    authority.revocation_list(entries, Some(&number), wall, authority.not_after()).map_err(refused)
}

/// Serial numbers with the time of their revocation, and the number of the list.
type Listed = (BTreeMap<Vec<u8>, Duration>, Vec<u8>);

/// What the list has that is there, if it is this authority's.
fn listed(dir: &Path, authority: &Authority) -> Result<Option<Listed>, Failure> {
    let path = dir.join(CRL);
    let Some(text) = files::read_if_there(&path)? else { return Ok(None) };
    let lists = Crl::parse_file(text.as_bytes()).map_err(|why| {
        Failure::Configuration(format!(
            "{}: {why}; take it away, and it is made anew from {}",
            path.display(),
            dir.join(REVOKED).display()
        ))
    })?;
    let authority = Certificate::parse(authority.cert_der()).map_err(|why| refused(why.into()))?;
    let ours = lists.into_iter().find(|list| list.is_signed_by(&authority));
    Ok(ours.map(|list| (list.revoked().clone(), list.number().to_vec())))
}
