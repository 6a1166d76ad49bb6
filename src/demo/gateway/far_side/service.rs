//! The TCP services of the built-in network.

use std::net::Ipv4Addr;

use smoltcp::socket::tcp::{Socket, State};

use super::dns::{self, Zone};

const SMALL: usize = 64 * 1024;
const LARGE: usize = 1024 * 1024;
const WEB_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
const HEAD_LIMIT: usize = 16 * 1024;
/// Octet `i` of a byte source is `i % PERIOD`.
const PERIOD: u8 = 251;

/// One connection's server.
pub(super) enum Service {
    /// What came and was not read yet goes back.
    Echo,
    /// A count, then as many octets.
    Source(Source),
    /// Octets until FIN, then the count.
    Sink(u64),
    /// One request, one answer.
    Http(Http),
    /// Messages with their length in front; answers not yet written.
    Dns { input: Vec<u8>, output: Vec<u8> },
}

/// Octets of the pattern, from `next` to `end`.
#[derive(Default)]
pub(super) struct Source {
    count: Vec<u8>,
    next: u64,
    end: Option<u64>,
}

#[derive(Default)]
pub(super) struct Http {
    input: Vec<u8>,
    head: Vec<u8>,
    body: Source,
}

impl Service {
    /// What listens at an address and port.
    pub fn at(address: Ipv4Addr, port: u16) -> Option<Self> {
        Some(match port {
            7 => Self::Echo,
            53 if address == dns::SERVER => Self::Dns { input: Vec::new(), output: Vec::new() },
            80 if address == WEB_SERVER => Self::Http(Http::default()),
            9001 => Self::Source(Source::default()),
            9002 => Self::Sink(0),
            _ => return None,
        })
    }

    /// Sizes of the receive and the send buffer, in octets.
    pub fn buffer_sizes(&self) -> (usize, usize) {
        match self {
            Self::Source(_) | Self::Http(_) => (SMALL, LARGE),
            Self::Sink(_) => (LARGE, SMALL),
            Self::Echo | Self::Dns { .. } => (SMALL, SMALL),
        }
    }

    /// Works on what has come, fills the send buffer, and closes when all is said.
    pub fn step(&mut self, socket: &mut Socket<'_>, zone: Zone) {
        if matches!(socket.state(), State::Listen | State::SynReceived) {
            return;
        }
        let done = match self {
            Self::Echo => {
                while socket.can_recv() && socket.can_send() {
                    let room = socket.send_capacity() - socket.send_queue();
                    let part = socket.recv(|data| {
                        let len = data.len().min(room);
                        (len, data[..len].to_vec())
                    });
                    let Ok(part) = part else { break };
                    let _ = socket.send_slice(&part);
                }
                !socket.may_recv() && socket.recv_queue() == 0
            }
            Self::Source(source) => source.step(socket),
            Self::Sink(count) => {
                while socket.can_recv() {
                    match socket.recv(|data| (data.len(), data.len())) {
                        Ok(len) => *count += len as u64,
                        Err(_) => break,
                    }
                }
                let finished = socket.state() == State::CloseWait && socket.send_queue() == 0;
                finished && socket.send_slice(&count.to_be_bytes()).is_ok()
            }
            Self::Http(http) => http.step(socket),
            Self::Dns { input, output } => {
                receive(socket, input, HEAD_LIMIT);
                while output.len() < SMALL
                    && let Some((&[l0, l1], rest)) = input.split_first_chunk()
                {
                    let len = usize::from(u16::from_be_bytes([l0, l1]));
                    let Some(query) = rest.get(..len) else { break };
                    if let Some(answer) = zone.answer(query, dns::Transport::Tcp) {
                        output.extend_from_slice(&(answer.len() as u16).to_be_bytes());
                        output.extend_from_slice(&answer);
                    }
                    input.drain(..len + 2);
                }
                send(socket, output);
                !socket.may_recv() && output.is_empty()
            }
        };
        if done {
            socket.close();
        }
    }
}

impl Source {
    fn step(&mut self, socket: &mut Socket<'_>) -> bool {
        let Some(end) = self.end else {
            receive(socket, &mut self.count, 8);
            if let Some(count) = self.count.first_chunk() {
                self.end = Some(u64::from_be_bytes(*count));
                return self.step(socket);
            }
            return !socket.may_recv();
        };
        while self.next < end && socket.can_send() {
            let next = self.next;
            let sent = socket.send(|buffer| {
                let len = usize::try_from(end - next).unwrap_or(usize::MAX).min(buffer.len());
                fill(&mut buffer[..len], next);
                (len, len)
            });
            match sent {
                Ok(len) => self.next += len as u64,
                Err(_) => break,
            }
        }
        self.next >= end
    }
}

/// Writes the pattern from octet `start` on.
fn fill(buffer: &mut [u8], start: u64) {
    let period = usize::from(PERIOD);
    let first = (start % u64::from(PERIOD)) as usize;
    let written = buffer.len().min(period);
    for (i, octet) in buffer[..written].iter_mut().enumerate() {
        *octet = ((first + i) % period) as u8;
    }
    // The rest repeats what is there, twice as much each time.
    let mut done = written;
    while done < buffer.len() {
        let len = done.min(buffer.len() - done);
        buffer.copy_within(..len, done);
        done += done / period * period;
    }
}

impl Http {
    fn step(&mut self, socket: &mut Socket<'_>) -> bool {
        if self.body.end.is_none() {
            receive(socket, &mut self.input, HEAD_LIMIT);
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&self.input) {
                Ok(httparse::Status::Partial) if self.input.len() < HEAD_LIMIT => return !socket.may_recv(),
                Ok(httparse::Status::Complete(_)) => {
                    let (head, len) = respond(request.path.unwrap_or_default());
                    self.head = head;
                    self.body.end = Some(len);
                }
                _ => return true,
            }
        }
        send(socket, &mut self.head);
        self.head.is_empty() && self.body.step(socket)
    }
}

/// The head (with a small body where there is one) and the number of pattern octets behind it.
fn respond(path: &str) -> (Vec<u8>, u64) {
    let bytes = path.strip_prefix("/bytes/").and_then(|count| count.parse::<u64>().ok());
    let (status, kind, page) = match (path, bytes) {
        (_, Some(_)) => ("200 OK", "application/octet-stream", ""),
        ("/", None) => ("200 OK", "text/html", "<html><body><h1>corp.example intranet</h1></body></html>\n"),
        _ => ("404 Not Found", "text/html", "<html><body>Not found</body></html>\n"),
    };
    let extra = bytes.unwrap_or(0);
    let len = page.len() as u64 + extra;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{page}"
    );
    (head.into_bytes(), extra)
}

/// Moves received octets to `input` until it has `limit`.
fn receive(socket: &mut Socket<'_>, input: &mut Vec<u8>, limit: usize) {
    while socket.can_recv() && input.len() < limit {
        let room = limit - input.len();
        let moved = socket.recv(|data| {
            let len = data.len().min(room);
            input.extend_from_slice(&data[..len]);
            (len, ())
        });
        if moved.is_err() {
            break;
        }
    }
}

/// Moves `output` to the send buffer as far as it has room.
fn send(socket: &mut Socket<'_>, output: &mut Vec<u8>) {
    while !output.is_empty() && socket.can_send() {
        match socket.send_slice(output) {
            Ok(len) => drop(output.drain(..len)),
            Err(_) => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_is_the_same_at_any_cut() {
        for start in [0, 1, 250, 251, 1000] {
            for len in [0, 1, 250, 251, 252, 600, 5000] {
                let mut buffer = vec![0; len];
                fill(&mut buffer, start);
                let right = (0..len as u64).map(|i| ((start + i) % u64::from(PERIOD)) as u8);
                assert!(buffer.iter().copied().eq(right), "{start} {len}");
            }
        }
    }
}
