//! The UDP sockets: batched receive (GRO where the system has it), segmented send (GSO), answers from the local
//! address that the peer talks to.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use mio::net::UdpSocket;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::base::Path;

use super::sys;

/// Kernel buffer asked for, in octets: the default holds 92 full packets, this some 3,600.
const SOCKET_BUFFER: usize = 4 << 20;
/// One receive buffer holds a whole GRO train.
const RECEIVE_BYTES: usize = 64 << 10;
/// Fewer datagrams than this in a run are sent one by one: segmentation has a price of its own.
const GSO_MINIMUM: usize = 3;
/// A UDP datagram, and so a GSO send, carries at most this much.
const MAX_SEND: usize = 65_000;
/// Larger segments do not fit a path of 1500 octets over IPv6: the kernel refuses to segment to them, so they go
/// one by one and are fragmented by IP.
const MAX_SEGMENT: usize = 1452;

/// A bound socket.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// True until a receive found the socket empty.
    pub readable: bool,
}

impl Udp {
    /// Binds `address`. `::` takes both families.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if let IpAddr::V6(v6) = address.ip() {
            socket.set_only_v6(!v6.is_unspecified())?;
        }
        socket.bind(&address.into())?;
        Self::adopt(socket)
    }

    /// Sets up a socket that is bound already.
    pub fn adopt(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // The system may give less; it says how much it gave. Who bound it may have been given more.
        if socket.recv_buffer_size()? < SOCKET_BUFFER {
            let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        }
        if socket.send_buffer_size()? < SOCKET_BUFFER {
            let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        }
        let granted = socket.recv_buffer_size().unwrap_or(0);
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket.into());
        let local = socket.local_addr()?;
        sys::allow_fragmentation(&socket, local.is_ipv6())?;
        log::debug!(
            "UDP {local}: receive buffer {granted} octets, GSO {} segments, GRO {}",
            state.max_gso_segments(),
            state.gro_segments()
        );
        Ok(Self { socket, state, local, readable: true })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// For registration with the poll.
    pub fn source(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    /// Receives into `receiver`; the number of buffers filled, 0 where nothing waits.
    pub fn receive(&mut self, receiver: &mut Receiver) -> io::Result<usize> {
        let mut slices = receiver.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        match self.state.recv((&self.socket).into(), &mut slices, &mut receiver.metas) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// The path of a datagram that came with `meta` on this socket, number `socket`.
    pub fn path(&self, socket: u8, meta: &RecvMeta, marker: bool) -> Path {
        let remote = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
        let local = meta.dst_ip.map(|ip| ip.to_canonical());
        Path { socket, local, local_port: self.local.port(), remote, marker }
    }

    /// Sends `contents`, cut into datagrams of `segment` octets (the last may be shorter), along `path`.
    pub fn send(&self, path: &Path, contents: &[u8], segment: usize) -> io::Result<()> {
        let segment = segment.max(1);
        let alone = segment > MAX_SEGMENT || contents.len().div_ceil(segment) < GSO_MINIMUM;
        let per_send = if alone { 1 } else { (MAX_SEND / segment).min(self.state.max_gso_segments()).max(1) };
        for piece in contents.chunks(per_send * segment) {
            match self.transmit(path, piece, segment) {
                // The way to this peer is narrower than a segment, or its device cannot segment: one by one, so
                // that IP fragments them.
                Err(error) if piece.len() > segment && error.kind() != io::ErrorKind::WouldBlock => {
                    piece.chunks(segment).try_for_each(|datagram| self.transmit(path, datagram, segment))?;
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn transmit(&self, path: &Path, contents: &[u8], segment: usize) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.mapped(path.remote),
            ecn: None,
            contents,
            segment_size: (contents.len() > segment).then_some(segment),
            src_ip: path.local.map(|ip| self.mapped(SocketAddr::new(ip, 0)).ip()),
        };
        self.state.try_send((&self.socket).into(), &transmit)
    }

    /// An address in the family of this socket.
    fn mapped(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(v4) if self.local.is_ipv6() => {
                SocketAddr::new(v4.to_ipv6_mapped().into(), address.port())
            }
            _ => address,
        }
    }
}

/// The receive buffers, shared by all sockets: the loop works on one receive at a time.
#[derive(Debug)]
pub struct Receiver {
    /// The buffers; only touched pages count as memory.
    pub buffers: [Box<[u8]>; BATCH_SIZE],
    /// What came in each.
    pub metas: [RecvMeta; BATCH_SIZE],
}

impl Receiver {
    /// Allocates the buffers.
    pub fn new() -> Self {
        Self {
            buffers: std::array::from_fn(|_| vec![0; RECEIVE_BYTES].into_boxed_slice()),
            metas: std::array::from_fn(|_| RecvMeta::default()),
        }
    }
}
