//! Files and secrets: read once, bounded, wiped.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cli::args::Source;
use crate::crypto::hash::sha256;
use crate::crypto::pki::Crl;
use crate::crypto::{Certificate, PrivateKey, Secret, pem};

use super::{Contents, Error, Warning};

/// No file that we read is larger than this,
const MAX_FILE: u64 = 1 << 20;
/// except for revocation lists.
const MAX_LIST: u64 = 32 << 20;
/// A secret that is one line.
const MAX_LINE: usize = 4096;

/// Reads what the options name, and collects what deserves a look.
pub struct Files<'a, R> {
    /// Where systemd puts credentials.
    pub credentials: Option<&'a Path>,
    /// For the one option that may read it.
    pub stdin: R,
    /// What was found.
    pub warnings: Vec<Warning>,
    /// What was read.
    pub contents: Contents,
    /// What is broken.
    pub faults: Vec<Error>,
}

impl<R> Files<'_, R> {
    /// What there is; what is broken is noted, so that the rest can be looked at as well.
    pub fn keep<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|fault| self.faults.push(fault)).ok()
    }
}

impl<R: Read> Files<'_, R> {
    /// A secret of one line: the first one, without its end. Of standard input no more than that is read.
    pub fn line(&mut self, option: &'static str, source: &Source) -> Result<Secret, Error> {
        let path = self.path(option, source)?;
        let content = match source {
            Source::Stdin => {
                let content = self.stdin_line().map_err(|why| unreadable(option, &path, why))?;
                self.note(option, &content);
                content
            }
            _ => self.secret_file(option, &path, source)?,
        };
        let line = content.expose().split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || std::str::from_utf8(line).is_err() {
            return Err(Error::NoLine { option, path });
        }
        Ok(Secret::from(line))
    }

    /// A secret of any form, whole, and where it is from.
    pub fn whole(&mut self, option: &'static str, source: &Source) -> Result<(Secret, PathBuf), Error> {
        let path = self.path(option, source)?;
        let content = match source {
            Source::Stdin => {
                let content =
                    read_all(&mut self.stdin, MAX_FILE).map_err(|why| unreadable(option, &path, why))?;
                self.note(option, &content);
                content
            }
            _ => self.secret_file(option, &path, source)?,
        };
        Ok((content, path))
    }

    /// The private key in a PEM file.
    pub fn private_key(
        &mut self,
        option: &'static str,
        source: &Source,
    ) -> Result<(PrivateKey, PathBuf), Error> {
        let (content, path) = self.whole(option, source)?;
        match PrivateKey::from_pem(content.expose()) {
            Ok(key) => Ok((key, path)),
            Err(why) => Err(Error::Unusable { option, path, why }),
        }
    }

    /// All certificates of a PEM file.
    pub fn certificates(&mut self, option: &'static str, path: &Path) -> Result<Vec<Certificate>, Error> {
        let content = self.public_file(option, path)?;
        pem::certificates(content.expose()).map_err(|why| Error::Unusable {
            option,
            path: path.to_owned(),
            why,
        })
    }

    /// All revocation lists of a file.
    pub fn lists(&mut self, path: &Path) -> Result<Vec<Crl>, Error> {
        let (content, _) = self.file("--crl", path, MAX_LIST)?;
        Crl::parse_file(content.expose()).map_err(|why| Error::BadList { path: path.to_owned(), why })
    }

    /// A file that may be read by all.
    pub fn public_file(&mut self, option: &'static str, path: &Path) -> Result<Secret, Error> {
        self.file(option, path, MAX_FILE).map(|(content, _)| content)
    }

    fn file(&mut self, option: &'static str, path: &Path, max: u64) -> Result<(Secret, Metadata), Error> {
        let read = || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            Ok((read_all(file, max)?, metadata))
        };
        let (content, metadata) = read().map_err(|why| unreadable(option, path, why))?;
        self.note(option, &content);
        Ok((content, metadata))
    }

    /// Remembers what an option has read: several files, where it may be given several times.
    fn note(&mut self, option: &str, content: &Secret) {
        let digest = self.contents.entry(option.trim_start_matches('-').to_owned()).or_default();
        *digest = sha256(&[digest, content.expose()]);
    }

    /// Where it is, for people.
    fn path(&self, option: &'static str, source: &Source) -> Result<PathBuf, Error> {
        match source {
            Source::Stdin => Ok(PathBuf::from("standard input")),
            Source::File(path) => Ok(self.handed_over(path).unwrap_or_else(|| path.clone())),
            Source::Credential(name) => match self.credentials {
                Some(directory) => Ok(directory.join(name)),
                None => Err(Error::NoCredentials { option, name: name.clone() }),
            },
        }
    }

    /// What systemd hands over under the name of a file that only root can read stands for that file.
    fn handed_over(&self, path: &Path) -> Option<PathBuf> {
        let credential = self.credentials?.join(path.file_name()?);
        credential.is_file().then_some(credential)
    }

    /// systemd alone decides who can read a credential, so its mode says nothing.
    fn secret_file(&mut self, option: &'static str, path: &Path, source: &Source) -> Result<Secret, Error> {
        let (content, metadata) = self.file(option, path, MAX_FILE)?;
        let is_file = matches!(source, Source::File(named) if named == path) && metadata.is_file();
        if is_file && metadata.permissions().mode() & 0o004 != 0 {
            self.warnings.push(Warning::WorldReadable(path.to_owned()));
        }
        Ok(content)
    }

    /// Octet by octet: what follows is not for us, and whoever writes may leave it open.
    fn stdin_line(&mut self) -> io::Result<Secret> {
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_LINE));
        let mut byte = Zeroizing::new([0]);
        while line.len() < MAX_LINE && self.stdin.read(&mut *byte)? == 1 && *byte != *b"\n" {
            line.extend_from_slice(&*byte);
        }
        Ok(Secret::from(line.as_slice()))
    }
}

fn unreadable(option: &'static str, path: &Path, why: io::Error) -> Error {
    Error::Unreadable { option, path: path.to_owned(), why }
}

fn read_all(from: impl Read, max: u64) -> io::Result<Secret> {
    let mut content = Zeroizing::new(Vec::new());
    from.take(max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > max {
        let text = format!("larger than {} MiB", max >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(Secret::from(content.as_slice()))
}
