//! A tunnel without the probe's own stack and thread, for those who move packets themselves: the benches.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::esp::{Inbound, Outbound, head_len, sealed_len};
use super::{ClientConfig, Clock, Counters, ProbeError, handshake};

/// A Child SA and the socket that it was made through. Nobody answers the server's IKE requests.
pub struct RawTunnel {
    /// The socket; the server knows the client by its port.
    pub socket: UdpSocket,
    /// Where ESP goes.
    pub server: SocketAddr,
    /// The inner address that the server assigned.
    pub address: Ipv4Addr,
    /// The same by IPv6, if it was asked for and given.
    pub address6: Option<Ipv6Addr>,
    outbound: Outbound,
    inbound: Inbound,
}

impl RawTunnel {
    /// Runs the handshake.
    pub fn connect(config: &ClientConfig) -> Result<Self, ProbeError> {
        let established = handshake::connect(config, &Clock::start(), &mut Counters::default())?;
        Ok(Self {
            socket: established.socket,
            server: established.server,
            address: established.assigned.address,
            address6: established.assigned.address6,
            outbound: established.outbound,
            inbound: established.inbound,
        })
    }

    /// The ESP packet around `inner`.
    pub fn seal(&mut self, inner: &[u8]) -> Result<Vec<u8>, ProbeError> {
        let (cipher, len) = (self.outbound.cipher(), inner.len());
        let mut packet = vec![0; sealed_len(cipher, len)];
        let head_len = head_len(cipher);
        packet.get_mut(head_len..head_len + len).unwrap_or_default().copy_from_slice(inner);
        self.outbound.seal(&mut packet, inner.len())?;
        Ok(packet)
    }

    /// The inner packet of an ESP packet from the server, decrypted in place; `None` if it is not acceptable.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        self.inbound.open(packet).ok()
    }
}
