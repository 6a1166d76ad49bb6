//! PEM files (RFC 7468). The only file that names rustls-pemfile.

use rustls_pemfile::{Item, read_one_from_slice};

use super::Error;
use super::pki::Certificate;
use super::sign::PrivateKey;

/// All certificates of a PEM file, in their order. Other sections are skipped; none at all is an error.
pub fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, Error> {
    let mut found = Vec::new();
    for item in Items(pem) {
        if let Item::X509Certificate(der) = item? {
            found.push(Certificate::parse(&der)?);
        }
    }
    if found.is_empty() { Err(Error::Malformed("PEM file: no certificate in it")) } else { Ok(found) }
}

/// The first private key of a PEM file: PKCS#8, PKCS#1 (RSA) or SEC1 (EC), not encrypted.
pub fn private_key(pem: &[u8]) -> Result<PrivateKey, Error> {
    for item in Items(pem) {
        match item? {
            Item::Pkcs8Key(der) => return PrivateKey::from_pkcs8(der.secret_pkcs8_der()),
            Item::Pkcs1Key(der) => return PrivateKey::from_pkcs1(der.secret_pkcs1_der()),
            Item::Sec1Key(der) => return PrivateKey::from_sec1(der.secret_sec1_der()),
            _ => {}
        }
    }
    if pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(Error::BadKey("it is encrypted; store it without a passphrase and protect the file"));
    }
    Err(Error::BadKey("no private key in the PEM file"))
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// The known sections of a PEM file.
struct Items<'a>(&'a [u8]);

impl Iterator for Items<'_> {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match read_one_from_slice(self.0) {
            Ok(Some((item, rest))) => {
                self.0 = rest;
                Some(Ok(item))
            }
            Ok(None) => None,
            Err(_) => {
                self.0 = &[];
                Some(Err(Error::Malformed("PEM file")))
            }
        }
    }
}
