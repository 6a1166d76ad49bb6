//! Loopback sockets with large buffers.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::SockRef;

use crate::gateway::{self, SOCKET_BUFFER, Seen};
use crate::support;

/// Datagrams of one GSO send that is to arrive as one train.
pub const TRAIN: usize = 16;

/// A UDP socket on loopback.
pub fn udp() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER)?;
    SockRef::from(&socket).set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    Ok(socket)
}

/// Both ends of a TCP connection on loopback.
pub fn tcp() -> io::Result<(TcpStream, TcpStream)> {
    let listener = gateway::listen()?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        SockRef::from(stream).set_send_buffer_size(SOCKET_BUFFER)?;
        SockRef::from(stream).set_recv_buffer_size(SOCKET_BUFFER)?;
    }
    Ok((near, far))
}

/// Sends what arrives as trains where the receiver can take them (GSO to GRO).
pub struct Segmented {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Segmented {
    /// On a socket of its own.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { socket, state })
    }

    /// From the same port as `socket`, which goes on to receive: a GSO socket of this kind would receive trains too.
    pub fn beside(socket: &UdpSocket, peer: SocketAddr) -> io::Result<Self> {
        SockRef::from(socket).set_reuse_address(true)?;
        socket.connect(peer)?;
        let beside = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        beside.set_reuse_address(true)?;
        beside.set_send_buffer_size(SOCKET_BUFFER)?;
        beside.bind(&socket.local_addr()?.into())?;
        Self::new(beside.into())
    }

    /// Sends datagrams of `segment` octets that lie back to back.
    pub fn send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let transmit =
            Transmit { destination, ecn: None, contents, segment_size: Some(segment), src_ip: None };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
    }

    /// Sends packets of one size in trains of `train`.
    pub fn send_trains(&self, to: SocketAddr, packets: &[Vec<u8>], train: usize) -> io::Result<()> {
        packets.chunks(train).try_for_each(|train| self.send(to, &train.concat(), train[0].len()))
    }
}

/// Receives in batches, as the daemon does.
pub struct Batched {
    pub socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Batched {
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let buffers = vec![vec![0; 64 << 10]; BATCH_SIZE];
        Ok(Self { socket, state, buffers, metas: [RecvMeta::default(); BATCH_SIZE] })
    }

    /// Number of packets received.
    pub fn receive(&mut self) -> io::Result<usize> {
        let mut slices: Vec<IoSliceMut<'_>> = self.buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        let count = self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut self.metas)?;
        Ok(self.metas[..count].iter().map(|meta| meta.len.div_ceil(meta.stride.max(1))).sum())
    }
}

/// Receives `count` ESP packets; their sequence numbers must grow.
pub fn drain(socket: &UdpSocket, count: usize) -> io::Result<Seen> {
    let mut seen = Seen { packets: 0, records: 0, in_order: true, last: support::now() };
    let (mut buffer, mut highest) = (vec![0; 2048], 0);
    while seen.packets < count {
        let len = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            result => result?,
        };
        let Some((_, seq)) = pterodapter::esp::sequence(&buffer[..len]).filter(|(spi, _)| *spi != 0) else {
            continue;
        };
        seen.in_order &= seq > highest;
        highest = seq;
        seen.packets += 1;
        seen.last = support::now();
    }
    Ok(seen)
}
