//! One TLS connection to the gateway over a non-blocking TCP socket.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::SockRef;

use crate::fortivpn::CloseReason;

use super::Transport;

/// One read from the socket: large reads save most of the cost of receiving (one system call for many records).
const READ_BYTES: usize = 128 << 10;
/// Plaintext handed on at once.
const PLAINTEXT_BYTES: usize = 64 << 10;
/// One write to the socket: larger ones gain nothing, and one turn can receive more than the queue holds.
const WRITE_BYTES: usize = 128 << 10;
/// Unsent TLS octets beyond which data packets are dropped instead of queued: the queue would only add delay.
const QUEUE_LIMIT: usize = 256 << 10;
/// A record carries at most this much plaintext.
const RECORD_BYTES: usize = 16 << 10;
/// Octets that a record adds (TLS 1.2 with AES-GCM; less with TLS 1.3).
const RECORD_OVERHEAD: usize = 29;
/// Writes that stay unacknowledged for this long end the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(25);

/// The TLS settings for the gateway: TLS 1.2 and 1.3 with ring, the usual roots and those of `transport`.
pub fn client_config(transport: &Transport) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut provider = rustls::crypto::ring::default_provider();
    // An explicit list: gateways often insist on P-384, and none of these makes the first message large.
    provider.kx_groups = vec![
        rustls::crypto::ring::kx_group::X25519,
        rustls::crypto::ring::kx_group::SECP256R1,
        rustls::crypto::ring::kx_group::SECP384R1,
    ];
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for certificate in &transport.roots {
        roots.add(certificate.clone())?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The peer closed it, with or without close_notify.
    Eof,
    /// TCP reset, timeout or the like.
    Io(io::Error),
    /// TLS alert or a broken record.
    Tls(rustls::Error),
}

/// A connection, from the TCP SYN to its end.
#[derive(Debug)]
pub struct Tls {
    stream: TcpStream,
    conn: ClientConnection,
    connected: bool,
    /// Estimate of TLS octets that rustls holds for the socket; exact when it is zero.
    queued: usize,
    /// True until a read found the socket empty.
    pub readable: bool,
    /// True until a write found the socket full.
    writable: bool,
    /// Why the set-up failed, if it did.
    pub failed: Option<CloseReason>,
    /// True once the time for the handshake was granted.
    pub deadline_extended: bool,
}

impl Tls {
    /// Starts to connect to `address`.
    pub fn connect(
        address: SocketAddr,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> Result<Self, Ended> {
        let stream = TcpStream::connect(address).map_err(Ended::Io)?;
        let mut conn = ClientConnection::new(config, name).map_err(Ended::Tls)?;
        // We bound the queue ourselves: rustls would cut a frame in two at its limit.
        conn.set_buffer_limit(None);
        Ok(Self {
            stream,
            conn,
            connected: false,
            queued: 0,
            readable: false,
            writable: false,
            failed: None,
            deadline_extended: false,
        })
    }

    /// For registration with the poll.
    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// True once TCP is connected.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// True while the handshake runs.
    pub fn is_handshaking(&self) -> bool {
        !self.connected || self.conn.is_handshaking()
    }

    /// Protocol version and cipher suite, for the log.
    pub fn describe(&self) -> String {
        let version = self.conn.protocol_version().map_or_else(String::new, |v| format!("{v:?}"));
        let suite =
            self.conn.negotiated_cipher_suite().map_or_else(String::new, |s| format!("{:?}", s.suite()));
        format!("{version} {suite}")
    }

    /// The socket became writable: finishes the TCP connect, then writes what is queued.
    pub fn handle_writable(&mut self) -> Result<(), Ended> {
        if !self.connected {
            if let Some(error) = self.stream.take_error().map_err(Ended::Io)? {
                return Err(Ended::Io(error));
            }
            match self.stream.peer_addr() {
                Ok(_) => self.connected = true,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(Ended::Io(error)),
            }
            self.tune();
        }
        self.writable = true;
        self.flush()
    }

    /// Small packets leave at once; a dead path is noticed.
    fn tune(&self) {
        // None of these options is needed to work; systems without one do without.
        let _ = self.stream.set_nodelay(true);
        let socket = SockRef::from(&self.stream);
        let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
        let _ = socket.set_tcp_keepalive(&keepalive);
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
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
        if self.queued < WRITE_BYTES { Ok(()) } else { self.flush() }
    }

    /// Announces the end to the peer (close_notify).
    pub fn close(&mut self) {
        self.conn.send_close_notify();
        // The connection ends in any case.
        let _ = self.flush();
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Writes queued records to the socket, as many as it takes.
    pub fn flush(&mut self) -> Result<(), Ended> {
        while self.writable && self.conn.wants_write() {
            match self.conn.write_tls(&mut self.stream) {
                Ok(written) => self.queued = self.queued.saturating_sub(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Ended::Io(error)),
            }
        }
        if !self.conn.wants_write() {
            self.queued = 0;
        }
        Ok(())
    }

    /// Reads once from the socket, decrypts, and hands the plaintext to `sink` in pieces of any size. Clears
    /// `readable` where the socket had nothing.
    pub fn read(&mut self, scratch: &mut Scratch, sink: &mut dyn FnMut(&mut [u8])) -> Result<(), Ended> {
        let len = match self.stream.read(&mut scratch.socket) {
            Ok(0) => return Err(Ended::Eof),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(());
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
                let _ = self.flush();
                return Err(Ended::Tls(error));
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
