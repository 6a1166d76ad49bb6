//! TLS for EAP-TLS (RFC 5216, RFC 9190): rustls as the server, in memory. It proves that the client has the key of the
//! certificate that it shows; whether that certificate is trusted is asked by who knows the time.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ProtocolVersion, ServerConfig, ServerConnection,
    SignatureAlgorithm, SignatureScheme as TlsScheme,
};
use zeroize::Zeroizing;

use super::sign::{KeyKind, PrivateKey, SignatureScheme};
use super::{Certificate, Error, Secret};

/// Octets of the Master Session Key, and of what is exported for it.
const MSK_LEN: usize = 64;
const EXPORT_LEN: usize = 128;

/// The server's side of one handshake.
pub struct Server(ServerConnection);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// A server with these certificates, each with its intermediates and its key; the first that the client can verify is
    /// shown.
    pub fn new<'a>(own: impl Iterator<Item = (&'a [Certificate], &'a PrivateKey)>) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(AnyClient(provider.signature_verification_algorithms));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|_| Error::Internal)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Own(own
                .map(|(chain, key)| Arc::new(certified(chain, key)))
                .collect())));
        // A handshake each time: a ticket would outlive a certificate that was taken back.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        ServerConnection::new(Arc::new(config)).map(Self).map_err(|_| Error::Internal)
    }

    /// Takes what the client sends, and gives what it is sent.
    pub fn exchange(&mut self, mut from_client: &[u8]) -> Result<Vec<u8>, Error> {
        let was_handshaking = self.0.is_handshaking();
        let refused = |_| Error::Unsupported("this TLS handshake");
        while !from_client.is_empty() {
            self.0.read_tls(&mut from_client).map_err(|_| Error::Internal)?;
            self.0.process_new_packets().map_err(refused)?;
        }
        // Nobody has anything to say inside; what comes is dropped.
        match self.0.reader().read(&mut [0]) {
            Ok(0) => {}
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
            _ => return Err(Error::Unsupported("data inside EAP-TLS")),
        }
        if was_handshaking && !self.0.is_handshaking() && self.is_tls13() {
            // The end of the handshake is said aloud (RFC 9190 section 2.5).
            self.0.writer().write_all(&[0]).map_err(|_| Error::Internal)?;
        }
        let mut to_client = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut to_client).map_err(|_| Error::Internal)?;
        }
        Ok(to_client)
    }

    /// Whether the handshake is done: the client has the key of its certificate.
    pub fn is_done(&self) -> bool {
        !self.0.is_handshaking()
    }

    /// The client's certificate, then its intermediates.
    pub fn client(&self) -> Result<Vec<Certificate>, Error> {
        self.0.peer_certificates().unwrap_or_default().iter().map(|der| Certificate::parse(der)).collect()
    }

    /// The Master Session Key.
    pub fn msk(&self) -> Result<Secret, Error> {
        let (label, context): (&[u8], Option<&[u8]>) = if self.is_tls13() {
            (b"EXPORTER_EAP_TLS_Key_Material", Some(&[13]))
        } else {
            (b"client EAP encryption", None)
        };
        let mut exported = Zeroizing::new([0; EXPORT_LEN]);
        self.0.export_keying_material(&mut exported[..], label, context).map_err(|_| Error::Internal)?;
        exported.first_chunk::<MSK_LEN>().map(|msk| Secret::from(&msk[..])).ok_or(Error::Internal)
    }

    fn is_tls13(&self) -> bool {
        self.0.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }
}

/// Our certificates.
#[derive(Debug)]
struct Own(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Own {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |own: &&Arc<CertifiedKey>| own.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(usable).cloned()
    }
}

fn certified(chain: &[Certificate], key: &PrivateKey) -> CertifiedKey {
    let chain = chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    CertifiedKey::new(chain, Arc::new(Key(key.clone())))
}

/// Our key, which stays where it is.
#[derive(Debug)]
struct Key(PrivateKey);

impl Key {
    /// What it signs by, the best first.
    fn schemes(&self) -> &'static [(TlsScheme, SignatureScheme)] {
        match self.0.kind() {
            KeyKind::P256 => &[(TlsScheme::ECDSA_NISTP256_SHA256, SignatureScheme::EcdsaP256Sha256)],
            KeyKind::P384 => &[(TlsScheme::ECDSA_NISTP384_SHA384, SignatureScheme::EcdsaP384Sha384)],
            KeyKind::Rsa => &[
                (TlsScheme::RSA_PSS_SHA256, SignatureScheme::RsaPssSha256),
                (TlsScheme::RSA_PSS_SHA384, SignatureScheme::RsaPssSha384),
                (TlsScheme::RSA_PSS_SHA512, SignatureScheme::RsaPssSha512),
                (TlsScheme::RSA_PKCS1_SHA256, SignatureScheme::RsaPkcs1Sha256),
                (TlsScheme::RSA_PKCS1_SHA384, SignatureScheme::RsaPkcs1Sha384),
                (TlsScheme::RSA_PKCS1_SHA512, SignatureScheme::RsaPkcs1Sha512),
            ],
        }
    }
}

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[TlsScheme]) -> Option<Box<dyn Signer>> {
        let (tls, scheme) = *self.schemes().iter().find(|(tls, _)| offered.contains(tls))?;
        Some(Box::new(KeySigner { key: self.0.clone(), tls, scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.kind() {
            KeyKind::P256 | KeyKind::P384 => SignatureAlgorithm::ECDSA,
            KeyKind::Rsa => SignatureAlgorithm::RSA,
        }
    }
}

#[derive(Debug)]
struct KeySigner {
    key: PrivateKey,
    tls: TlsScheme,
    scheme: SignatureScheme,
}

impl Signer for KeySigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.key.sign(self.scheme, message).map_err(|why| rustls::Error::General(why.to_string()))
    }

    fn scheme(&self) -> TlsScheme {
        self.tls
    }
}

/// Takes any certificate, if the client has its key.
#[derive(Debug)]
struct AnyClient(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<TlsScheme> {
        self.0.supported_schemes()
    }
}
