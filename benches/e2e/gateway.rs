//! A FortiVPN gateway that signs anyone in and then is a source and sink of frames.
#![allow(dead_code, reason = "each bench uses its part")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pterodapter::wire::forti::{self, DATA_HEADER_LEN, HEADER_LEN};
use pterodapter::wire::ppp::protocol;
use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;

use crate::support;
use crate::support::packets::EXTERNAL;

/// Kernel buffers, so that a burst never waits for its reader.
pub const SOCKET_BUFFER: usize = 4 << 20;
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Where the number of a packet is in it: behind the IPv4 and UDP headers.
const NUMBER_AT: usize = 28;

/// A tunnel after its sign-in: TLS to the daemon, and frames.
pub struct Tunnel {
    pub stream: TcpStream,
    pub conn: ServerConnection,
    scratch: Vec<u8>,
    plaintext: Vec<u8>,
    opened: [bool; 2],
    records: Records,
}

/// Counts TLS records in a stream that comes in pieces.
#[derive(Default)]
pub struct Records {
    pub count: usize,
    /// Octets of the record that are still to come, and those of its header so far.
    missing: usize,
    header: Vec<u8>,
}

impl Records {
    const HEADER_LEN: usize = 5;

    pub fn handle_bytes(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.missing > 0 {
                let len = self.missing.min(bytes.len());
                self.missing -= len;
                bytes = &bytes[len..];
                continue;
            }
            self.header.push(*first);
            bytes = rest;
            if self.header.len() == Self::HEADER_LEN {
                self.missing = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                self.header.clear();
                self.count += 1;
            }
        }
    }
}

/// What a sink saw of a burst.
#[derive(Debug)]
pub struct Seen {
    pub packets: usize,
    pub records: usize,
    pub in_order: bool,
    pub last: Instant,
}

/// A listener whose connections have large buffers.
pub fn listen() -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(8)?;
    Ok(socket.into())
}

impl Tunnel {
    /// Serves connections until one of them is a tunnel with IPCP opened in both directions.
    pub fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> io::Result<Self> {
        loop {
            let (stream, _) = listener.accept()?;
            let mut tunnel =
                Self::new(stream, ServerConnection::new(config.clone()).map_err(io::Error::other)?)?;
            if tunnel.serve_requests()? {
                while tunnel.opened != [true; 2] {
                    tunnel.read()?;
                    tunnel.take_frames(|_| {})?;
                }
                return Ok(tunnel);
            }
        }
    }

    /// Over any connection.
    pub fn new(stream: TcpStream, mut conn: ServerConnection) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        SockRef::from(&stream).set_send_buffer_size(SOCKET_BUFFER)?;
        conn.set_buffer_limit(None);
        let scratch = vec![0; 256 << 10];
        Ok(Self {
            stream,
            conn,
            scratch,
            plaintext: Vec::new(),
            opened: [false; 2],
            records: Records::default(),
        })
    }

    /// Answers HTTP requests; true when a tunnel was asked for, false when the client closed.
    fn serve_requests(&mut self) -> io::Result<bool> {
        loop {
            let Some(head) = self.plaintext.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else {
                if !self.read()? {
                    return Ok(false);
                }
                continue;
            };
            let text = String::from_utf8_lossy(&self.plaintext[..head]).to_ascii_lowercase();
            let body =
                text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let whole = head + body.unwrap_or(0);
            while self.plaintext.len() < whole {
                self.read()?;
            }
            self.plaintext.drain(..whole);
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let (cookie, body) = match path.as_str() {
                "/remote/sslvpn-tunnel" => return Ok(true),
                "/remote/logincheck" => {
                    ("Set-Cookie: SVPNCOOKIE=bench; path=/; secure\r\n", "ret=1,redir=/x".to_owned())
                }
                path if path.starts_with("/remote/fortisslvpn_xml") => ("", configuration()),
                _ => ("", String::new()),
            };
            let answer = format!("HTTP/1.1 200 OK\r\n{cookie}Content-Length: {}\r\n\r\n{body}", body.len());
            self.write(answer.as_bytes())?;
        }
    }

    /// Encrypts and sends.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sealed = self.seal(bytes, 16 << 10)?;
        self.stream.write_all(&sealed)
    }

    /// Encrypts into records of `record` octets each.
    pub fn seal(&mut self, bytes: &[u8], record: usize) -> io::Result<Vec<u8>> {
        for piece in bytes.chunks(record) {
            self.conn.writer().write_all(piece)?;
        }
        let mut sealed = Vec::with_capacity(bytes.len() + bytes.len() / 256);
        while self.conn.wants_write() {
            self.conn.write_tls(&mut sealed)?;
        }
        Ok(sealed)
    }

    /// Reads once and decrypts. False at the end of the stream.
    fn read(&mut self) -> io::Result<bool> {
        let len = self.stream.read(&mut self.scratch)?;
        let mut rest = &self.scratch[..len];
        self.records.handle_bytes(rest);
        while !rest.is_empty() {
            self.conn.read_tls(&mut rest)?;
            let state = self.conn.process_new_packets().map_err(io::Error::other)?;
            let start = self.plaintext.len();
            self.plaintext.resize(start + state.plaintext_bytes_to_read(), 0);
            self.conn.reader().read_exact(&mut self.plaintext[start..])?;
        }
        while self.conn.wants_write() {
            self.conn.write_tls(&mut self.stream)?;
        }
        Ok(len > 0)
    }

    /// Hands the packets of whole frames on and answers control frames.
    fn take_frames(&mut self, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        let (mut at, mut answers) = (0, Vec::new());
        while let Some(header) = self.plaintext[at..].first_chunk::<HEADER_LEN>() {
            let size = forti::parse_header(*header).map_err(|e| io::Error::other(format!("{e:?}")))?;
            let Some(packet) = self.plaintext.get(at + HEADER_LEN..at + HEADER_LEN + size) else { break };
            let (kind, payload) = packet.split_at(2);
            match u16::from_be_bytes([kind[0], kind[1]]) {
                protocol::IPV4 => sink(payload),
                kind => answers.extend(answer(kind, payload, &mut self.opened)),
            }
            at += HEADER_LEN + size;
        }
        self.plaintext.drain(..at);
        if answers.is_empty() { Ok(()) } else { self.write(&answers) }
    }

    /// Answers what the daemon's link has asked in the meantime.
    pub fn serve(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        let result = self.read();
        self.stream.set_nonblocking(false)?;
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
            Ok(false) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(true) => self.take_frames(|_| {}),
        }
    }

    /// Reads once, waiting at most as long as `wait`, and gives the numbers of the packets that came.
    pub fn receive(&mut self, wait: Duration, mut sink: impl FnMut(u32)) -> io::Result<()> {
        self.stream.set_read_timeout(Some(wait))?;
        match self.read() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
            Ok(_) => self.take_frames(|packet| sink(number(packet))),
        }
    }

    /// Reads until `count` packets came, or nothing comes any more. The first has number `first`.
    pub fn drain(&mut self, first: u32, count: usize) -> io::Result<Seen> {
        let mut seen = Seen { packets: 0, records: 0, in_order: true, last: support::now() };
        let (mut next, before) = (first, self.records.count);
        self.stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        while seen.packets < count {
            match self.read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                result => result?,
            };
            self.take_frames(|packet| {
                let number = number(packet);
                seen.in_order &= number >= next && packet.get(12..16) == Some(&EXTERNAL.octets());
                next = number.wrapping_add(1);
                seen.packets += 1;
            })?;
            seen.last = support::now();
        }
        seen.records = self.records.count - before;
        Ok(seen)
    }
}

/// The number that a packet carries.
fn number(packet: &[u8]) -> u32 {
    let number = packet.get(NUMBER_AT..).and_then(|rest| rest.first_chunk());
    number.map_or(0, |number| u32::from_be_bytes(*number))
}

/// Packets as frames, back to back.
pub fn frames(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        bytes.extend(frame(protocol::IPV4, packet));
    }
    bytes
}

fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; DATA_HEADER_LEN];
    forti::emit_header(&mut header, kind, payload.len());
    [&header, payload].concat()
}

fn configuration() -> String {
    format!(
        "<?xml version='1.0' encoding='utf-8'?><sslvpn-tunnel ver='2' dtls='0' patch='1'><ipv4>\
         <dns ip='10.77.0.53' /><assigned-addr ipv4='{EXTERNAL}' /></ipv4>\
         <idle-timeout val='0' /><auth-timeout val='0' /></sslvpn-tunnel>"
    )
}

/// The answer to a control packet (RFC 1661): everything is acknowledged, and we ask for nothing but what we must.
fn answer(kind: u16, payload: &[u8], opened: &mut [bool; 2]) -> Vec<u8> {
    const REQUEST: u8 = 1;
    const ACK: u8 = 2;
    const ECHO_REQUEST: u8 = 9;
    let [code, id, ..] = *payload else { return Vec::new() };
    let mut reply = payload.to_vec();
    match code {
        REQUEST => {
            reply[0] = ACK;
            // The gateway's address is the only option of ours.
            let ours: &[u8] = match kind {
                protocol::IPCP => &[REQUEST, 1, 0, 10, 3, 6, 10, 77, 0, 1],
                _ => &[REQUEST, 1, 0, 4],
            };
            [frame(kind, &reply), frame(kind, ours)].concat()
        }
        ACK => {
            opened[usize::from(kind == protocol::IPCP)] = true;
            Vec::new()
        }
        ECHO_REQUEST => {
            // With the magic number of one who negotiated none.
            frame(kind, &[ECHO_REQUEST + 1, id, 0, 8, 0, 0, 0, 0])
        }
        _ => Vec::new(),
    }
}
