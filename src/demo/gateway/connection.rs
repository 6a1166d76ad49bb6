//! One TCP connection: the TLS handshake, requests one after the other, and the tunnel if one is asked for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use super::answer::{self, After, Early, Stream};
use super::http::{Request, Response};
use super::journal::Event;
use super::live::Live;
use super::pages::{Action, Page};
use super::records::Records;
use super::scenario::{Fault, Handshake};
use super::{Life, Shared, tls, tunnel};

/// How often a waiting thread looks whether the gateway stops.
const TICK: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(60);

/// Serves a connection to its end.
pub(super) fn serve(shared: &Shared, stream: TcpStream, peer: SocketAddr) {
    let life = shared.life();
    // The client's errors end the connection; those that matter are in the journal.
    let _ = serve_requests(shared, &life, stream, peer);
}

fn serve_requests(shared: &Shared, life: &Life, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(IDLE))?;
    let live = shared.scenario();
    let handshake = live.next_handshake();
    if handshake != Handshake::Usual {
        return tls::fail(shared, life, stream, handshake);
    }
    let config = if shared.sessions().anyone_logged_in() { &live.tls_after_login } else { &live.tls };
    let config = config.as_ref().map_err(|e| {
        shared.note(Event::TlsFailed(e.clone()));
        io::Error::other(e.clone())
    })?;
    let mut tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
    tls.set_buffer_limit(None);
    let mut stream = StreamOwned::new(tls, stream);
    if let Err(e) = patiently(shared, life, || stream.conn.complete_io(&mut stream.sock).map(|_| 0)) {
        shared.note(Event::TlsFailed(e.to_string()));
        return Err(e);
    }
    let peer_name = tls::peer_name(&stream.conn);
    let mut input = Vec::new();
    while let Some(request) = read_request(shared, life, &mut stream, &mut input)? {
        shared.note(Event::Request(request.without_secrets()));
        let live = shared.scenario();
        let faults = live.next_faults(request.path());
        let after = match answer::in_place(&faults) {
            Some(Early::Answer(response)) => answer(shared, &mut stream, &live, &request, response, &faults)?,
            Some(Early::Bytes(bytes)) => {
                stream.write_all(&bytes)?;
                stream.flush()?;
                After::Cut
            }
            Some(Early::End(after)) => after,
            None => {
                let source = live.source.unwrap_or(peer.ip());
                let peer = peer_name.as_deref();
                let page = Page { shared, life, scenario: &live, source, peer, request: &request };
                let action = page.answer();
                wait(shared, life, &faults);
                match action {
                    Action::Respond(response) => {
                        answer(shared, &mut stream, &live, &request, response, &faults)?
                    }
                    Action::Tunnel(grant) => {
                        let (tls, socket) = stream.into_parts();
                        return tunnel::serve(shared, grant, socket, Records::new(tls), &input);
                    }
                    Action::Close => After::Cut,
                }
            }
        };
        match after {
            After::Open => {}
            After::Close => {
                stream.conn.send_close_notify();
                return stream.flush();
            }
            After::Cut => return Ok(()),
            After::Reset => {
                return socket2::SockRef::from(&stream.sock).set_linger(Some(Duration::ZERO));
            }
            After::Hold => {
                answer::hold(&mut stream, || life.is_over());
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Sends an answer; tells what becomes of the connection.
fn answer(
    shared: &Shared,
    stream: &mut Stream,
    live: &Live,
    request: &Request,
    response: Response,
    faults: &[&Fault],
) -> io::Result<After> {
    let (status, close) = (response.status, response.close);
    let after = answer::send(stream, live, response, faults, request.method == "HEAD")?;
    if !faults.iter().any(|fault| matches!(fault, Fault::Lost)) {
        shared.note(Event::Answered(status));
    }
    Ok(match after {
        Some(after) => after,
        None if live.close_after_answer => After::Cut,
        None if close || request.header("connection") == Some("close") => After::Close,
        None => After::Open,
    })
}

/// Waits as long as the faults want, and the gateway runs.
fn wait(shared: &Shared, life: &Life, faults: &[&Fault]) {
    let delays = faults.iter().filter_map(|fault| match fault {
        Fault::Delay(delay) => Some(*delay),
        _ => None,
    });
    let until = shared.now() + delays.sum::<Duration>();
    while shared.now() < until && !life.is_over() {
        std::thread::sleep(TICK.min(until.saturating_sub(shared.now())));
    }
}

/// The next request; `None` when the client has closed. What came behind it stays in `input`.
fn read_request(
    shared: &Shared,
    life: &Life,
    stream: &mut Stream,
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
        match patiently(shared, life, || stream.read(&mut buffer)) {
            Ok(0) => return Ok(None),
            Ok(len) => input.extend_from_slice(&buffer[..len]),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Repeats a read whose socket has a short time limit, until the gateway stops or the client is silent for long.
fn patiently(shared: &Shared, life: &Life, mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    let until = shared.now() + IDLE;
    loop {
        match read() {
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                if life.is_over() || shared.now() > until {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            result => return result,
        }
    }
}
