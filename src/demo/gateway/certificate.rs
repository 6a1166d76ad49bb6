//! Server certificates as FortiGates have them: many are none that the web's rules allow.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::base::Random;
use crate::crypto::SystemRandom;
use crate::crypto::pki::Certificate;
use crate::provision::Authority;

const DAY: Duration = Duration::from_secs(86_400);
/// The common name of a factory certificate is the serial number of the device.
const SERIAL: &str = "FGT60FTK20012345";
const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
const RSA_SHA256: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00";
const SUBJECT_ALT_NAME: &[u8] = b"\x55\x1d\x11";
const BASIC_CONSTRAINTS: &[u8] = b"\x55\x1d\x13";

const BOOLEAN_TRUE: &[u8] = b"\x01\x01\xff";
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// What is good or wrong about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    /// The host is an alternative name.
    Good,
    /// The common name is the device's serial number, and there is no alternative name.
    CommonNameOnly,
    /// As `CommonNameOnly`, and it says that it is an authority.
    AuthorityAsLeaf,
    /// It was valid until yesterday.
    Expired,
    /// X.509 version 1: no extensions at all.
    Version1,
    /// It is for another host.
    WrongHost,
}

/// A certificate chain and the key to it.
#[derive(Clone)]
pub struct ServerCertificate {
    chain: Vec<Vec<u8>>,
    key_der: Vec<u8>,
}

impl ServerCertificate {
    /// A certificate of `kind` for `host` with a new P-256 key, signed by `authority` or, without one, by itself.
    pub fn make(
        kind: CertificateKind,
        authority: Option<&Authority>,
        host: &str,
        wall: Duration,
    ) -> Result<Self, String> {
        let key = KeyPair::generate().map_err(|e| e.to_string())?;
        Self::for_key(&key, kind, authority, host, wall)
    }

    /// As [`Self::make`], for a key that exists: P-256, or RSA as FortiGates have from the factory (PKCS#8, PEM).
    pub fn make_for_key(
        key_pem: &str,
        kind: CertificateKind,
        authority: Option<&Authority>,
        host: &str,
        wall: Duration,
    ) -> Result<Self, String> {
        Self::for_key(&KeyPair::from_pem(key_pem).map_err(|e| e.to_string())?, kind, authority, host, wall)
    }

    fn for_key(
        key: &KeyPair,
        kind: CertificateKind,
        authority: Option<&Authority>,
        host: &str,
        wall: Duration,
    ) -> Result<Self, String> {
        let factory = matches!(
            kind,
            CertificateKind::CommonNameOnly | CertificateKind::AuthorityAsLeaf | CertificateKind::Version1
        );
        let subject = name(if factory { SERIAL } else { host });
        let (issuer, signer) = match authority {
            Some(authority) => {
                let issuer = Certificate::parse(authority.cert_der()).map_err(|e| e.to_string())?;
                let signer = KeyPair::from_pem(&authority.key_pem()).map_err(|e| e.to_string())?;
                (issuer.subject_der().to_vec(), Some(signer))
            }
            None => (subject.clone(), None),
        };
        let end = if kind == CertificateKind::Expired { wall.saturating_sub(DAY) } else { wall + DAY * 30 };
        let validity = [time(wall.saturating_sub(DAY * 30)), time(end)].concat();
        let extensions = match kind {
            CertificateKind::Version1 => Vec::new(),
            CertificateKind::CommonNameOnly => extension(BASIC_CONSTRAINTS, &element(SEQUENCE, &[])),
            CertificateKind::AuthorityAsLeaf => {
                extension(BASIC_CONSTRAINTS, &element(SEQUENCE, BOOLEAN_TRUE))
            }
            CertificateKind::WrongHost => alternative_name("elsewhere.example"),
            CertificateKind::Good | CertificateKind::Expired => alternative_name(host),
        };
        let mut serial = [0; 8];
        SystemRandom::new().fill(&mut serial);
        serial[0] = serial[0] & 0x3f | 0x40;
        let version3 = element(0xa0, &element(INTEGER, &[2]));
        let signer = signer.as_ref().unwrap_or(key);
        let algorithm = if signer.algorithm() == &rcgen::PKCS_RSA_SHA256 { RSA_SHA256 } else { ECDSA_SHA256 };
        let tbs = [
            if extensions.is_empty() { Vec::new() } else { version3 },
            element(INTEGER, &serial),
            algorithm.to_vec(),
            issuer,
            element(SEQUENCE, &validity),
            subject,
            key.subject_public_key_info(),
            if extensions.is_empty() { Vec::new() } else { element(0xa3, &element(SEQUENCE, &extensions)) },
        ];
        let tbs = element(SEQUENCE, &tbs.concat());
        let signature = signer.sign(&tbs).map_err(|e| e.to_string())?;
        let signature = element(BIT_STRING, &[&[0], signature.as_slice()].concat());
        let certificate = element(SEQUENCE, &[tbs.as_slice(), algorithm, &signature].concat());
        Ok(Self { chain: vec![certificate], key_der: key.serialize_der() })
    }

    /// One that was made elsewhere, end entity first.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect();
        let chain = chain.map_err(|e| e.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| e.to_string())?;
        Ok(Self {
            chain: chain.into_iter().map(|certificate| certificate.to_vec()).collect(),
            key_der: key.secret_der().to_vec(),
        })
    }

    /// The end entity in DER, for pins.
    pub fn leaf_der(&self) -> &[u8] {
        self.chain.first().map_or(&[], Vec::as_slice)
    }

    pub(super) fn for_rustls(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let key = PrivateKeyDer::try_from(self.key_der.clone())?;
        Ok((self.chain.iter().cloned().map(CertificateDer::from).collect(), key))
    }
}

impl PartialEq for ServerCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = match value.len() {
        len @ ..0x80 => vec![len as u8],
        len @ ..0x100 => vec![0x81, len as u8],
        len => [&[0x82], (len as u16).to_be_bytes().as_slice()].concat(),
    };
    [&[tag], length.as_slice(), value].concat()
}

fn name(common_name: &str) -> Vec<u8> {
    let attribute = [element(OID, b"\x55\x04\x03"), element(UTF8_STRING, common_name.as_bytes())].concat();
    element(SEQUENCE, &element(SET, &element(SEQUENCE, &attribute)))
}

fn extension(oid: &[u8], value: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[element(OID, oid), element(OCTET_STRING, value)].concat())
}

fn alternative_name(host: &str) -> Vec<u8> {
    let name = match host.parse() {
        Ok(IpAddr::V4(address)) => element(0x87, &address.octets()),
        Ok(IpAddr::V6(address)) => element(0x87, &address.octets()),
        Err(_) => element(0x82, host.as_bytes()),
    };
    extension(SUBJECT_ALT_NAME, &element(SEQUENCE, &name))
}

fn time(wall: Duration) -> Vec<u8> {
    let at = rcgen::date_time_ymd(1970, 1, 1) + wall;
    let text = format!(
        "{:02}{:02}{:02}{:02}{:02}{:02}Z",
        at.year() % 100,
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    element(UTC_TIME, text.as_bytes())
}
