//! What is remembered of the devices: their certificates, never their keys. `devices/NAME.pem` has those that count, the
//! newest first; `revoked/NAME.pem` those that were taken back.

use std::path::{Path, PathBuf};

use crate::crypto::{Certificate, pem};
use crate::provision::Issued;

use super::super::Failure;
use super::{DEVICES, REVOKED, files};

/// A line in front of a certificate says for which system the profile was.
const SYSTEM: &str = "system: ";

/// The certificates of one device.
pub struct Record {
    /// The device's name.
    pub name: String,
    /// The file as it is.
    pub text: String,
    /// The newest first.
    pub certificates: Vec<Certificate>,
}

impl Record {
    /// The devices that may come in.
    pub fn devices(dir: &Path) -> Result<Vec<Self>, Failure> {
        all(&dir.join(DEVICES))
    }

    /// The devices that had certificates which were taken back.
    pub fn revoked(dir: &Path) -> Result<Vec<Self>, Failure> {
        all(&dir.join(REVOKED))
    }

    /// The newest certificate.
    pub fn newest(&self) -> Option<&Certificate> {
        self.certificates.first()
    }

    /// The command that makes a new profile of the device.
    pub fn renewal(&self, dir: &Path) -> String {
        let system = self.text.lines().find_map(|line| line.strip_prefix(SYSTEM)).unwrap_or("OS");
        format!("pterodapter setup device {} --os {system} --force --dir {}", self.name, dir.display())
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read(path)?;
        let certificates = pem::certificates(text.as_bytes())
            .map_err(|why| Failure::Configuration(format!("{}: {why}", path.display())))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, text, certificates })
    }
}

fn all(dir: &Path) -> Result<Vec<Record>, Failure> {
    files::with_extension(dir, "pem")?.iter().map(|path| Record::read(path)).collect()
}

/// The file of a device below `kind`.
pub fn path(kind: &str, name: &str) -> PathBuf {
    Path::new(kind).join(format!("{name}.pem"))
}

/// The record of a device with a new certificate. Those of before stay in it: they are valid, and may have to be revoked.
pub fn with_new(dir: &Path, name: &str, system: &str, issued: &Issued) -> Result<String, Failure> {
    let before = files::read_if_there(&dir.join(path(DEVICES, name)))?.unwrap_or_default();
    Ok(format!("{SYSTEM}{system}\n{}{before}", issued.cert_pem))
}
