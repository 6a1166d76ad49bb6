//! What TLS needs of the scenario, and handshakes that are none.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{default_provider, kx_group};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::certificate::ServerCertificate;
use super::scenario::{ClientCertificate, Handshake, TlsKnobs};
use super::{Life, Shared};
use crate::crypto::pki::Certificate;

/// How long a handshake that never answers is held open.
const HOLD: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

/// A configuration that shows `certificate`. The error is for a person.
pub(super) fn server_config(
    knobs: &TlsKnobs,
    tls12_only: bool,
    certificate: &ServerCertificate,
) -> Result<Arc<ServerConfig>, String> {
    let mut provider = default_provider();
    if knobs.p384_only {
        provider.kx_groups = vec![kx_group::SECP384R1];
    }
    let provider = Arc::new(provider);
    let versions = if tls12_only { &[&rustls::version::TLS12][..] } else { rustls::ALL_VERSIONS };
    let (chain, key) = certificate.for_rustls()?;
    let key = provider.key_provider.load_private_key(key).map_err(|e| e.to_string())?;
    // Not `with_single_cert`, which refuses what this gateway has to show.
    let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let verifier = match &knobs.client_certificate {
        ClientCertificate::NotAsked => Arc::new(NoClientAuth),
        ClientCertificate::Optional(ca_pem) => client_verifier(ca_pem, &provider, true)?,
        ClientCertificate::Required(ca_pem) => client_verifier(ca_pem, &provider, false)?,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|e| e.to_string())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(resolver));
    config.send_tls13_tickets = knobs.tickets;
    // For records that rustls does not make.
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

fn client_verifier(
    ca_pem: &str,
    provider: &Arc<CryptoProvider>,
    optional: bool,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let ca = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|e| e.to_string())?;
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|e| e.to_string())?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|e| e.to_string())
}

/// The common name of the client's certificate.
pub(super) fn peer_name(tls: &ServerConnection) -> Option<String> {
    let certificate = Certificate::parse(tls.peer_certificates()?.first()?).ok()?;
    certificate.common_name().map(str::to_owned)
}

/// Does what a scenario wants in place of a handshake.
pub(super) fn fail(
    shared: &Shared,
    life: &Life,
    mut stream: TcpStream,
    handshake: Handshake,
) -> io::Result<()> {
    let mut hello = [0; 4096];
    match handshake {
        Handshake::Usual | Handshake::Close => {}
        Handshake::Silent => {
            let until = shared.now() + HOLD;
            stream.set_read_timeout(Some(TICK))?;
            while shared.now() < until && !life.is_over() {
                if matches!(stream.read(&mut hello), Ok(0)) {
                    break;
                }
            }
        }
        Handshake::Reset => {
            let _some_of_it = stream.read(&mut hello)?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            return Ok(());
        }
        Handshake::Alert(description) => {
            let _some_of_it = stream.read(&mut hello)?;
            stream.write_all(&[21, 3, 3, 0, 2, 2, description])?;
        }
        Handshake::Plaintext => {
            let _some_of_it = stream.read(&mut hello)?;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")?;
        }
    }
    stream.shutdown(Shutdown::Both)
}
