//! TLS peers for the benches, with the cipher that the daemon gets: TLS 1.3, AES-256-GCM.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pterodapter::provision::{Authority, Issued};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

/// Names in the gateway's certificate.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

#[expect(clippy::disallowed_methods, reason = "benches live in real time")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

/// An authority and the gateway's certificate.
pub fn certificates() -> (Authority, Issued) {
    let authority = Authority::new("bench authority", wall(), 1).expect("an authority");
    let issued = authority.issue_server(&NAMES, wall(), 1).expect("a server certificate");
    (authority, issued)
}

/// The gateway's settings.
pub fn server_config(issued: &Issued) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from(issued.cert_der.clone())];
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    Arc::new(config.expect("server settings"))
}

/// A pair of connections whose handshake is done.
pub fn pair() -> (ClientConnection, ServerConnection) {
    let (authority, issued) = certificates();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.cert_der().to_vec())).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAMES[0]).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut server = ServerConnection::new(server_config(&issued)).expect("a server");
    client.set_buffer_limit(None);
    server.set_buffer_limit(None);
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        let mut flight = Vec::new();
        client.write_tls(&mut flight).expect("memory");
        feed(&mut server, &flight);
        flight.clear();
        server.write_tls(&mut flight).expect("memory");
        feed(&mut client, &flight);
    }
    (client, server)
}

fn feed<Data>(connection: &mut rustls::ConnectionCommon<Data>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        connection.read_tls(&mut bytes).expect("memory");
        connection.process_new_packets().expect("a good peer");
    }
}
