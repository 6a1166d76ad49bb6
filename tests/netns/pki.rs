//! Certificates made by the openssl program: a second opinion beside our own `provision`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{Lab, must};

/// Kinds of key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256.
    P256,
    /// RSA with 2048 bits.
    Rsa2048,
}

/// Who a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Extended key usage serverAuth; valid now.
    Server,
    /// Extended key usage clientAuth; valid now.
    Client,
    /// As `Client`, but it ended in 2021.
    ExpiredClient,
}

/// A certificate and its key, PEM files.
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A certificate authority in a directory of its own.
pub struct Authority {
    dir: PathBuf,
    key: Key,
}

const CONFIG: &str = "
[req]
distinguished_name = dn
x509_extensions = authority
[dn]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
";

impl Authority {
    /// A new self-signed authority with keys of this kind throughout.
    pub fn new(lab: &Lab, name: &str, key: Key) -> Self {
        Self::named(lab, name, name, key)
    }

    /// As [`Authority::new`], in the directory `dir` with the common name `name`.
    pub fn named(lab: &Lab, dir: &str, name: &str, key: Key) -> Self {
        let authority = Self { dir: lab.path(dir), key };
        fs::create_dir_all(&authority.dir).expect("directory");
        fs::write(authority.dir.join("openssl.cnf"), CONFIG).expect("file");
        fs::write(authority.dir.join("index.txt"), "").expect("file");
        authority.make_key("ca.key");
        authority.openssl(&format!(
            "req -x509 -config openssl.cnf -key ca.key -out ca.pem -sha256 -days 30 -subj /CN={name}"
        ));
        authority
    }

    /// The authority's own certificate.
    pub fn cert(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Issues a certificate for `name`, with the subject alternative names of `san` in openssl's notation.
    pub fn issue(&self, name: &str, san: &str, usage: Usage) -> Identity {
        let (eku, from, to) = match usage {
            Usage::Server => ("serverAuth", "20200101000000Z", "20491231000000Z"),
            Usage::Client => ("clientAuth", "20200101000000Z", "20491231000000Z"),
            Usage::ExpiredClient => ("clientAuth", "20200101000000Z", "20210101000000Z"),
        };
        let extensions = format!(
            "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={eku}\n\
             subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nsubjectAltName={san}\n"
        );
        fs::write(self.dir.join(format!("{name}.ext")), extensions).expect("file");
        self.make_key(&format!("{name}.key"));
        self.openssl(&format!(
            "req -new -config openssl.cnf -key {name}.key -subj /CN={name} -out {name}.csr"
        ));
        self.openssl(&format!(
            "ca -batch -notext -config openssl.cnf -in {name}.csr -out {name}.pem -extfile {name}.ext \
             -startdate {from} -enddate {to}"
        ));
        Identity { cert: self.dir.join(format!("{name}.pem")), key: self.dir.join(format!("{name}.key")) }
    }

    fn make_key(&self, file: &str) {
        let kind = match self.key {
            Key::P256 => "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            Key::Rsa2048 => "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        };
        self.openssl(&format!("genpkey {kind} -out {file}"));
    }

    fn openssl(&self, args: &str) {
        must(Command::new("openssl").current_dir(&self.dir).args(args.split_whitespace()));
    }
}

/// Copies a file into a directory under its own name.
pub fn copy_into(file: &Path, dir: &Path) {
    let name = file.file_name().expect("a file name");
    fs::create_dir_all(dir).expect("directory");
    fs::copy(file, dir.join(name)).expect("copy");
}
