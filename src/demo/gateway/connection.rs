//! One TCP connection: the TLS handshake, requests one after the other, and the tunnel if one is asked for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use super::Shared;
use super::http::Request;
use super::journal::Event;
use super::pages::{Action, Page};
use super::scenario::Handshake;
use super::{tls, tunnel};

/// How often a waiting thread looks whether the gateway stops.
const TICK: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(60);

/// Serves a connection to its end.
pub(super) fn serve(shared: &Shared, stream: TcpStream, peer: SocketAddr) {
    // The client's errors end the connection; those that matter are in the journal.
    let _ = serve_requests(shared, stream, peer);
}

fn serve_requests(shared: &Shared, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(IDLE))?;
    let live = shared.scenario();
    let handshake = live.next_handshake();
    if handshake != Handshake::Usual {
        return tls::fail(shared, stream, handshake);
    }
    let config = if shared.sessions().anyone_logged_in() { &live.tls_after_login } else { &live.tls };
    let config = config.as_ref().map_err(|e| {
        shared.note(Event::TlsFailed(e.clone()));
        io::Error::other(e.clone())
    })?;
    let mut tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    tls.set_buffer_limit(None);
    let mut stream = StreamOwned::new(tls, stream);
    if let Err(e) = patiently(shared, || stream.conn.complete_io(&mut stream.sock).map(|_| 0)) {
        shared.note(Event::TlsFailed(e.to_string()));
        return Err(e);
    }
    let peer_name = tls::peer_name(&stream.conn);
    let mut input = Vec::new();
    while let Some(request) = read_request(shared, &mut stream, &mut input)? {
        shared.note(Event::Request(request.without_secrets()));
        let scenario = shared.scenario();
        let page = Page {
            shared,
            scenario: &scenario,
            source: peer.ip(),
            peer: peer_name.as_deref(),
            request: &request,
        };
        match page.answer() {
            Action::Respond(response) => {
                let head_only = request.method == "HEAD";
                stream.write_all(&response.emit(&scenario, head_only))?;
                stream.flush()?;
                shared.note(Event::Answered(response.status));
                if scenario.close_after_answer {
                    return Ok(());
                }
                if response.close || request.header("connection") == Some("close") {
                    stream.conn.send_close_notify();
                    return stream.flush();
                }
            }
            Action::Tunnel(grant) => {
                let (tls, socket) = stream.into_parts();
                return tunnel::serve(shared, grant, socket, tls, &input);
            }
            Action::Close => return Ok(()),
        }
    }
    Ok(())
}

/// The next request; `None` when the client has closed. What came behind it stays in `input`.
fn read_request(
    shared: &Shared,
    stream: &mut StreamOwned<ServerConnection, TcpStream>,
    input: &mut Vec<u8>,
) -> io::Result<Option<Request>> {
    loop {
        match Request::parse(input) {
            Ok(Some((request, len))) => {
                input.drain(..len);
                return Ok(Some(request));
            }
            Ok(None) => {}
            Err(_) => {
                shared.note(Event::Violation("malformed request"));
                return Ok(None);
            }
        }
        let mut buffer = [0; 4096];
        match patiently(shared, || stream.read(&mut buffer)) {
            Ok(0) => return Ok(None),
            Ok(len) => input.extend_from_slice(&buffer[..len]),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Repeats a read whose socket has a short time limit, until the gateway stops or the client is silent for long.
fn patiently(shared: &Shared, mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    let until = shared.now() + IDLE;
    loop {
        match read() {
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                if shared.is_stopping() || shared.now() > until {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            result => return result,
        }
    }
}
