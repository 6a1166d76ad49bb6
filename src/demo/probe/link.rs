//! The UDP socket of the data path: bursts in (GRO) and out (GSO).

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};

/// Kernel buffer asked for in each direction, in octets.
const SOCKET_BUFFER: usize = 4 << 20;
/// How often and how long a full socket is waited for before the burst is given up.
const SEND_TRIES: u32 = 100;
const SEND_PAUSE: Duration = Duration::from_micros(100);
/// Octets of one GSO send stay below the limit of a UDP datagram.
const MAX_BURST: usize = 60_000;

/// A UDP socket bound to a port of its own, towards one server address.
pub(super) struct Link {
    pub socket: UdpSocket,
    pub server: SocketAddr,
    state: UdpSocketState,
}

impl Link {
    /// Takes over a bound socket.
    pub fn new(socket: UdpSocket, server: SocketAddr) -> io::Result<Self> {
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket2::SockRef::from(&socket).set_send_buffer_size(SOCKET_BUFFER);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { socket, server, state })
    }

    /// Receives what is there; `WouldBlock` when nothing is.
    pub fn recv(&self, buffers: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> io::Result<usize> {
        self.state.recv(UdpSockRef::from(&self.socket), buffers, metas)
    }

    /// Sends one datagram.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.transmit(datagram, None)
    }

    /// Sends datagrams that lie behind one another in `bytes`, as few calls as possible. Gives the number lost.
    pub fn send_burst(&self, bytes: &[u8], lengths: &[usize]) -> u64 {
        let (mut rest, mut index, mut lost) = (bytes, 0, 0);
        while let Some(&segment) = lengths.get(index) {
            let most = self.state.max_gso_segments().min(MAX_BURST / segment.max(1)).max(1);
            let run = lengths.iter().skip(index).take(most);
            let mut count = run.clone().take_while(|len| **len == segment).count();
            // The last segment of a GSO send may be shorter.
            if count < most && lengths.get(index + count).is_some_and(|last| *last < segment) {
                count += 1;
            }
            let len = run.take(count).sum::<usize>().min(rest.len());
            let (burst, tail) = rest.split_at(len);
            if self.transmit(burst, (count > 1).then_some(segment)).is_err() {
                lost += count as u64;
            }
            (rest, index) = (tail, index + count);
        }
        lost
    }

    fn transmit(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let transmit = Transmit { destination: self.server, ecn: None, contents, segment_size, src_ip: None };
        for _ in 0..SEND_TRIES {
            match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(SEND_PAUSE),
                other => return other,
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }
}

/// A socket of the server's family on a port that the system chooses.
pub(super) fn bind(server: SocketAddr) -> io::Result<UdpSocket> {
    match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }
}
