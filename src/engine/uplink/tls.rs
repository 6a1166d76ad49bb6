//! One TLS connection to the gateway over a non-blocking TCP socket.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, InconsistentKeys};

use super::ended::Ended;
use super::trust::Recognition;
use crate::engine::status::Level;
use crate::engine::transport::{ClientCertificate, Transport};

/// One read from the socket: large reads save most of the cost of receiving (one system call for many records).
const READ_BYTES: usize = 128 << 10;
/// Plaintext handed on at once.
const PLAINTEXT_BYTES: usize = 64 << 10;
/// One write to the socket: larger ones gain nothing, and one turn can receive more than the queue holds.
const WRITE_BYTES: usize = 128 << 10;
/// Unsent TLS octets beyond which data packets are dropped instead of queued: the queue would only add delay.
pub const QUEUE_LIMIT: usize = 256 << 10;
/// A record carries at most this much plaintext.
const RECORD_BYTES: usize = 16 << 10;
/// Octets that a record adds (TLS 1.2 with AES-GCM; less with TLS 1.3).
const RECORD_OVERHEAD: usize = 29;
/// The TLS settings for the gateway: TLS 1.2 and 1.3 with ring, the usual roots and those of `transport`.
pub fn client_config(transport: &Transport) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut provider = rustls::crypto::ring::default_provider();
    // An explicit list: gateways often insist on P-384, and none of these makes the first message large.
    provider.kx_groups = vec![
        rustls::crypto::ring::kx_group::X25519,
        rustls::crypto::ring::kx_group::SECP256R1,
        rustls::crypto::ring::kx_group::SECP384R1,
    ];
    let provider = Arc::new(provider);
    let recognition = Recognition::new(transport, &provider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(recognition));
    let config = match &transport.client {
        Some(client) => builder.with_client_cert_resolver(Arc::new(client_certificate(client, &provider)?)),
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// What the gateway gets when it asks for a certificate: it decides itself what is wrong with it.
fn client_certificate(
    client: &ClientCertificate,
    provider: &CryptoProvider,
) -> Result<SingleCertAndKey, rustls::Error> {
    let key = provider.key_provider.load_private_key(client.key.clone_key())?;
    let certified = CertifiedKey::new(client.chain.clone(), key);
    match certified.keys_match() {
        Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(error),
        _ => Ok(SingleCertAndKey::from(certified)),
    }
}

/// A connection, from the ClientHello to its end.
#[derive(Debug)]
pub struct Tls {
    stream: TcpStream,
    conn: ClientConnection,
    /// Estimate of TLS octets that rustls holds for the socket; exact when it is zero.
    queued: usize,
    /// True until a read found the socket empty.
    pub readable: bool,
    /// True until a write found the socket full.
    writable: bool,
    /// Why a write failed. What the gateway said last may still wait to be read, and tells more.
    broken: Option<io::Error>,
}

impl Tls {
    /// Begins a handshake with the host `name` over a connected socket, from which `early` was already read.
    pub fn new(
        stream: TcpStream,
        early: &[u8],
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> Result<Self, Ended> {
        let failed = |error| Ended::Tls { error, agreed: false };
        let mut conn = ClientConnection::new(config, name).map_err(failed)?;
        // We bound the queue ourselves: rustls would cut a frame in two at its limit.
        conn.set_buffer_limit(None);
        let mut rest = early;
        while !rest.is_empty() {
            conn.read_tls(&mut rest).map_err(Ended::Io)?;
            conn.process_new_packets().map_err(failed)?;
        }
        // Nothing is known of the socket: the first tries tell.
        Ok(Self { stream, conn, queued: 0, readable: true, writable: true, broken: None })
    }

    /// True while the handshake runs.
    pub fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }

    /// Protocol version and cipher suite, for the log.
    pub fn describe(&self) -> String {
        let version = self.conn.protocol_version().map_or_else(String::new, |v| format!("{v:?}"));
        let suite =
            self.conn.negotiated_cipher_suite().map_or_else(String::new, |s| format!("{:?}", s.suite()));
        format!("{version} {suite}")
    }

    /// The socket became writable.
    pub fn handle_writable(&mut self) {
        self.writable = true;
        self.flush();
    }

    /// TLS octets that rustls holds for the socket.
    pub fn queue(&self) -> Level {
        Level { used: self.queued, limit: QUEUE_LIMIT }
    }

    /// True if data packets should be dropped instead of queued.
    pub fn is_full(&self) -> bool {
        self.queued > QUEUE_LIMIT
    }

    /// Queues plaintext; it leaves with the next `flush`, or at once where much has gathered.
    pub fn write(&mut self, pieces: &[IoSlice<'_>]) -> Result<(), Ended> {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.queued += len + (len / RECORD_BYTES + 1) * RECORD_OVERHEAD;
        self.conn.writer().write_vectored(pieces).map_err(Ended::Io)?;
        if self.queued >= WRITE_BYTES {
            self.flush();
        }
        Ok(())
    }

    /// Announces the end to the peer (close_notify).
    pub fn close(&mut self) {
        self.conn.send_close_notify();
        self.flush();
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Writes queued records to the socket, as many as it takes.
    pub fn flush(&mut self) {
        while self.writable && self.conn.wants_write() {
            match self.conn.write_tls(&mut self.stream) {
                Ok(written) => self.queued = self.queued.saturating_sub(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.writable = false;
                    self.readable = true;
                    self.broken = Some(error);
                }
            }
        }
        if !self.conn.wants_write() {
            self.queued = 0;
        }
    }

    /// Reads once from the socket, decrypts, and hands the plaintext to `sink` in pieces of any size. Clears
    /// `readable` where the socket had nothing.
    pub fn read(&mut self, scratch: &mut Scratch, sink: &mut dyn FnMut(&mut [u8])) -> Result<(), Ended> {
        let len = match self.stream.read(&mut scratch.socket) {
            Ok(0) => return Err(self.broken.take().map_or(Ended::Eof, Ended::Io)),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                return self.broken.take().map_or(Ok(()), |error| Err(Ended::Io(error)));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(Ended::Io(error)),
        };
        let Scratch { socket, plaintext } = scratch;
        let mut rest = socket.get(..len).unwrap_or_default();
        let mut filled = 0;
        while !rest.is_empty() {
            // rustls takes 4 KiB at a time and holds little plaintext: drain it in between.
            self.conn.read_tls(&mut rest).map_err(Ended::Io)?;
            let result = self.conn.process_new_packets();
            loop {
                let room = plaintext.get_mut(filled..).unwrap_or_default();
                match self.conn.reader().read(room) {
                    Ok(0) if filled < PLAINTEXT_BYTES => break,
                    Ok(0) => {
                        sink(plaintext.get_mut(..filled).unwrap_or_default());
                        filled = 0;
                    }
                    Ok(read) => filled += read,
                    Err(_) => break,
                }
            }
            if let Err(error) = result {
                sink(plaintext.get_mut(..filled).unwrap_or_default());
                // Sends the alert that says why.
                self.flush();
                return Err(Ended::Tls { error, agreed: self.conn.protocol_version().is_some() });
            }
        }
        sink(plaintext.get_mut(..filled).unwrap_or_default());
        Ok(())
    }
}

/// Buffers for reading; only touched pages count as memory.
pub struct Scratch {
    socket: Box<[u8]>,
    plaintext: Box<[u8]>,
}

impl Scratch {
    /// Allocates them.
    pub fn new() -> Self {
        Self {
            socket: vec![0; READ_BYTES].into_boxed_slice(),
            plaintext: vec![0; PLAINTEXT_BYTES].into_boxed_slice(),
        }
    }
}
