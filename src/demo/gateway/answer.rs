//! Sending an answer, well or with the faults that the scenario wants.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use super::http::{Body, Response};
use super::live::Live;
use super::scenario::{CookieStyle, Fault, Framing};

/// Between the two parts of a split answer.
const MOMENT: Duration = Duration::from_millis(50);
const CLEARING: &str = "SVPNCOOKIE=; path=/; expires=Sun, 11 Mar 1984 12:00:00 GMT; secure; httponly";

pub(super) type Stream = StreamOwned<ServerConnection, TcpStream>;

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next request.
    Open,
    /// close_notify and FIN.
    Close,
    /// FIN alone.
    Cut,
    /// RST.
    Reset,
    /// Nothing is answered any more.
    Hold,
}

/// What a fault makes of a request before anything is done about it.
pub(super) enum Early {
    Answer(Response),
    Bytes(Vec<u8>),
    End(After),
}

/// The first of `faults` that takes the place of an answer.
pub(super) fn in_place(faults: &[&Fault]) -> Option<Early> {
    faults.iter().find_map(|fault| match fault {
        Fault::Answer { status, headers, body } => {
            let headers = headers.clone();
            Some(Early::Answer(Response {
                status: *status,
                headers,
                body: body.clone().into_bytes(),
                close: false,
            }))
        }
        Fault::Bytes(bytes) => Some(Early::Bytes(bytes.clone())),
        Fault::Close => Some(Early::End(After::Close)),
        Fault::Reset => Some(Early::End(After::Reset)),
        Fault::Hang => Some(Early::End(After::Hold)),
        _ => None,
    })
}

/// Sends `response`; tells what becomes of the connection, if that is up to a fault.
pub(super) fn send(
    stream: &mut Stream,
    live: &Live,
    mut response: Response,
    faults: &[&Fault],
    head_only: bool,
) -> io::Result<Option<After>> {
    let mut framing = None;
    let (mut dribble, mut split, mut after) = (None, None, None);
    let (mut endless_head, mut endless_body) = (false, false);
    for &fault in faults {
        match fault {
            Fault::Lost => return Ok(Some(After::Close)),
            Fault::Dribble(pause) => dribble = Some(*pause),
            Fault::Split(at) => split = Some(*at),
            Fault::Padding(octets) => pad(&mut response, *octets),
            Fault::EndlessHead => endless_head = true,
            Fault::EndlessBody => endless_body = true,
            Fault::Framing(wanted) => framing = Some(*wanted),
            Fault::Gzip => response.compress(),
            Fault::KeptOpen => {
                response.close = true;
                after = Some(After::Hold);
            }
            Fault::ClosedSilently => after = Some(After::Cut),
            Fault::Cookie(style) => set_cookies(&mut response, *style),
            // Delays are over, and the others are not for answers.
            Fault::Delay(_)
            | Fault::Answer { .. }
            | Fault::Bytes(_)
            | Fault::Close
            | Fault::Reset
            | Fault::Hang => {}
        }
    }
    match framing {
        Some(Framing::UntilClose) => after = Some(After::Close),
        Some(Framing::UntilCut | Framing::NoLastChunk) => after = Some(After::Cut),
        _ => {}
    }
    let body = match framing {
        _ if head_only => Body::None,
        Some(framing) => Body::Framed(framing),
        None => Body::Usual,
    };
    let (head, body) = response.emit(&live.scenario, body);
    if endless_head {
        let start = head.len().saturating_sub(2);
        stream.write_all(head.get(..start).unwrap_or_default())?;
        return write_forever(stream, b"X-Padding: ................................\r\n");
    }
    if endless_body {
        stream.write_all(&head)?;
        return write_forever(stream, b"10\r\n................\r\n");
    }
    match (dribble, split) {
        (Some(pause), _) => {
            for octet in head {
                stream.write_all(&[octet])?;
                stream.flush()?;
                std::thread::sleep(pause);
            }
            stream.write_all(&body)?;
        }
        (None, Some(at)) => {
            let whole = [head, body].concat();
            let (first, rest) = whole.split_at(at.min(whole.len()));
            stream.write_all(first)?;
            stream.flush()?;
            std::thread::sleep(MOMENT);
            stream.write_all(rest)?;
        }
        (None, None) => stream.write_all(&[head, body].concat())?,
    }
    stream.flush()?;
    Ok(after)
}

fn pad(response: &mut Response, octets: usize) {
    const LINE: usize = 1024;
    for _ in 0..octets.div_ceil(LINE) {
        response.headers.push(("X-Padding", ".".repeat(LINE - "X-Padding: \r\n".len())));
    }
}

/// Until the client has had enough; a minute is more than any waits.
fn write_forever(stream: &mut Stream, line: &[u8]) -> io::Result<Option<After>> {
    let lines = line.repeat(100);
    for _ in 0..100_000 {
        stream.write_all(&lines)?;
        stream.flush()?;
    }
    Ok(Some(After::Cut))
}

fn set_cookies(response: &mut Response, style: CookieStyle) {
    let mut headers = Vec::new();
    for (name, value) in std::mem::take(&mut response.headers) {
        let cookie = value.strip_prefix("SVPNCOOKIE=").and_then(|rest| rest.split(';').next());
        let Some(cookie) = cookie.filter(|cookie| !cookie.is_empty() && name == "Set-Cookie") else {
            headers.push((name, value));
            continue;
        };
        let set = |name, value: &str| (name, value.to_owned());
        match style {
            CookieStyle::LowerCase => headers.push(("set-cookie:", value)),
            CookieStyle::TwoSpaces => headers.push(set(name, &format!(" {value}"))),
            CookieStyle::NoSemicolon => headers.push(set(name, &format!("SVPNCOOKIE={cookie}"))),
            CookieStyle::SameSite => headers
                .push(set(name, &format!("SVPNCOOKIE={cookie};path=/;secure;httponly;samesite=Strict"))),
            CookieStyle::ClearingFirst => headers.extend([set(name, CLEARING), (name, value)]),
            CookieStyle::ClearingLast => headers.extend([(name, value), set(name, CLEARING)]),
            CookieStyle::Lookalikes => headers.extend([
                set(name, "SVPNTMPCOOKIE=wrong1; path=/"),
                set(name, "XSVPNCOOKIE=wrong2; path=/"),
                (name, value),
                set(name, "SVPNNETWORKCOOKIE=wrong3; path=/remote/network"),
                set(name, "SVPNCOOKIE2=wrong4; path=/"),
            ]),
            CookieStyle::Zero => headers.push(set(name, "SVPNCOOKIE=0; path=/; secure; httponly")),
            CookieStyle::Missing => {}
        }
    }
    response.headers = headers;
}

/// Reads and forgets until the client closes, or `is_over`.
pub(super) fn hold(stream: &mut Stream, is_over: impl Fn() -> bool) {
    let mut buffer = [0; 4096];
    while !is_over() {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
}
