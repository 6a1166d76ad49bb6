//! PEM files (RFC 7468). The only file that names rustls-pemfile.

use rustls_pemfile::{Item, read_one_from_slice};

use super::Error;
use super::pki::Certificate;
use super::secret::Secret;
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

/// All revocation lists of a PEM file, in DER. Other sections are skipped; none at all is an error.
pub fn crls(pem: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = Vec::new();
    for item in Items(pem) {
        if let Item::Crl(der) = item? {
            found.push(der.to_vec());
        }
    }
    if found.is_empty() { Err(Error::Malformed("PEM file: no revocation list in it")) } else { Ok(found) }
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

/// The first private key of a PEM file as PKCS#8 in DER, if it is in that form.
pub fn pkcs8_der(pem: &[u8]) -> Option<Secret> {
    Items(pem).find_map(|item| match item {
        Ok(Item::Pkcs8Key(der)) => Some(Secret::from(der.secret_pkcs8_der())),
        _ => None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::pki::tests::{cert, file};

    #[test]
    fn files_hold_many_things() {
        let both =
            [file("p256.key.pem"), b"words\n".to_vec(), file("rsa.cert.pem"), file("root.cert.pem")].concat();
        assert_eq!(certificates(&both).unwrap(), [cert("rsa.cert.pem"), cert("root.cert.pem")]);
        assert!(private_key(&both).is_ok());
        assert!(certificates(&file("p256.key.pem")).is_err());
        let not_der = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(certificates(not_der).is_err());
    }

    fn read(item: &Item, der: &[u8]) -> Result<PrivateKey, Error> {
        match item {
            Item::Pkcs8Key(_) => PrivateKey::from_pkcs8(der),
            Item::Pkcs1Key(_) => PrivateKey::from_pkcs1(der),
            _ => PrivateKey::from_sec1(der),
        }
    }

    #[test]
    fn damaged_keys_never_panic() {
        // Checking an RSA key takes long: fewer octets of it.
        for (name, step) in [("p256.key.pem", 1), ("p256.pkcs8.pem", 1), ("rsa.key.pem", 41)] {
            let pem = file(name);
            let item = Items(&pem).next().unwrap().unwrap();
            let der = match &item {
                Item::Pkcs8Key(der) => der.secret_pkcs8_der(),
                Item::Pkcs1Key(der) => der.secret_pkcs1_der(),
                Item::Sec1Key(der) => der.secret_sec1_der(),
                _ => unreachable!(),
            };
            read(&item, der).unwrap();
            for len in 0..der.len() {
                assert!(read(&item, &der[..len]).is_err(), "{name}: {len} octets");
            }
            for at in (0..der.len()).step_by(step) {
                let mut bad = der.to_vec();
                bad[at] ^= 0x55;
                let _ = read(&item, &bad);
            }
        }
    }
}
