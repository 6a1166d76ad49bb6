//! The same path written without a thought for speed: packet by packet, record by record, call by call.

use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use pterodapter::crypto::{Cipher, SystemRandom};
use pterodapter::engine::Pool;
use pterodapter::esp::{self, ReplayWindow, Sequence};
use pterodapter::nat::Flows;
use pterodapter::wire::forti::{self, DATA_HEADER_LEN, HEADER_LEN};
use pterodapter::wire::ppp::protocol;
use rustls::ClientConnection;

use crate::gateway::{Tunnel, frames};
use crate::sockets;
use crate::support::packets::{self, DEVICE, EXTERNAL, child_sa};
use crate::support::thread_cpu;
use crate::support::{self, tls};
use crate::{BURST, LEN, Measured};

/// The time as the address translation sees it.
const NOW: Duration = Duration::from_secs(1000);

pub struct Naive {
    sa: esp::Sa,
    window: ReplayWindow,
    sequence: Sequence,
    flows: Flows,
    socket: UdpSocket,
    device: UdpSocket,
    stream: TcpStream,
    conn: ClientConnection,
    gateway: Tunnel,
    next: [u32; 2],
}

impl Naive {
    pub fn new() -> io::Result<Self> {
        let (stream, far) = sockets::tcp()?;
        let (mut conn, server) = tls::pair();
        conn.set_buffer_limit(None);
        let mut flows = Flows::new(32_768, Pool::DEFAULT.host(), &mut SystemRandom::new());
        flows.set_external(Some(EXTERNAL));
        Ok(Self {
            sa: esp::Sa::new(&child_sa(Cipher::Aes256Gcm)).map_err(io::Error::other)?,
            window: ReplayWindow::new(),
            sequence: Sequence::new(),
            flows,
            socket: sockets::udp()?,
            device: sockets::udp()?,
            stream,
            conn,
            gateway: Tunnel::new(far, server)?,
            next: [1, 1],
        })
    }

    pub fn up(&mut self) -> io::Result<Measured> {
        let first = self.next[0];
        self.next[0] += BURST as u32;
        let address = self.socket.local_addr()?;
        for number in first..self.next[0] {
            let inner = packets::outbound(DEVICE, LEN, number);
            let mut packet = vec![0; self.sa.sealed_len(LEN)];
            packet[self.sa.headroom()..][..LEN].copy_from_slice(&inner);
            esp::seal(&self.sa, number, &mut packet, LEN).map_err(broken)?;
            self.device.send_to(&packet, address)?;
        }
        let Self { sa, window, flows, socket, stream, conn, gateway, .. } = self;
        thread::scope(|scope| {
            let sink = scope.spawn(|| gateway.drain(first, BURST));
            let (wall, cpu) = (support::now(), thread_cpu());
            let mut buffer = [0; 2048];
            for _ in 0..BURST {
                let (len, _) = socket.recv_from(&mut buffer)?;
                let (_, seq) = esp::sequence(&buffer[..len]).ok_or(io::ErrorKind::InvalidData)?;
                window.check(seq).map_err(broken)?;
                let opened = esp::open(sa, &mut buffer[..len]).map_err(broken)?;
                window.commit(seq).map_err(broken)?;
                flows.translate_outbound(NOW, &mut buffer[opened.inner.clone()]).map_err(broken)?;
                let start = opened.inner.start - DATA_HEADER_LEN;
                let header = buffer[start..].first_chunk_mut().ok_or(io::ErrorKind::InvalidData)?;
                forti::emit_header(header, protocol::IPV4, opened.inner.len());
                conn.writer().write_all(&buffer[start..opened.inner.end])?;
                conn.write_tls(stream)?;
            }
            let cpu = thread_cpu() - cpu;
            Measured::new(cpu, cpu, wall, joined(sink)?)
        })
    }

    pub fn down(&mut self, record: usize) -> io::Result<Measured> {
        let numbers = self.next[1]..self.next[1] + BURST as u32;
        self.next[1] = numbers.end;
        let plain: Vec<Vec<u8>> = numbers.map(|number| packets::inbound(LEN, number)).collect();
        let sealed = self.gateway.seal(&frames(&plain), record)?;
        let Self { sa, sequence, flows, socket, device, stream, conn, gateway, .. } = self;
        let to = device.local_addr()?;
        thread::scope(|scope| {
            let source = scope.spawn(|| gateway.stream.write_all(&sealed));
            source.join().map_err(|_| io::ErrorKind::Other)??;
            let sink = scope.spawn(|| sockets::drain(device, BURST));
            let (wall, cpu) = (support::now(), thread_cpu());
            let (mut stored, mut sent) = (Vec::new(), 0);
            while sent < BURST {
                conn.read_tls(stream)?;
                let state = conn.process_new_packets().map_err(io::Error::other)?;
                let start = stored.len();
                stored.resize(start + state.plaintext_bytes_to_read(), 0);
                conn.reader().read_exact(&mut stored[start..])?;
                let mut at = 0;
                while let Some(header) = stored[at..].first_chunk::<HEADER_LEN>() {
                    let size = forti::parse_header(*header).map_err(|_| io::ErrorKind::InvalidData)?;
                    let Some(packet) = stored.get_mut(at + DATA_HEADER_LEN..at + HEADER_LEN + size) else {
                        break;
                    };
                    at += HEADER_LEN + size;
                    flows.translate_inbound(NOW, packet).map_err(broken)?;
                    let mut sealed = vec![0; sa.sealed_len(packet.len())];
                    sealed[sa.headroom()..][..packet.len()].copy_from_slice(packet);
                    let seq = sequence.reserve(1).ok_or(io::ErrorKind::Other)?;
                    esp::seal(sa, seq, &mut sealed, packet.len()).map_err(broken)?;
                    socket.send_to(&sealed, to)?;
                    sent += 1;
                }
                stored.drain(..at);
            }
            let cpu = thread_cpu() - cpu;
            Measured::new(cpu, cpu, wall, joined(sink)?)
        })
    }
}

fn broken(reason: pterodapter::base::Reason) -> io::Error {
    io::Error::other(reason.name())
}

pub fn joined<T>(thread: thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}
