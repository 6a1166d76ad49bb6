//! ICMP and UDP of the built-in network, and fragments.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::super::frame::{Frames, Ipv4Out};
use super::builtin::{Header, MTU};
use super::dns::{self, Zone};
use crate::wire::{Reader, checksum};

const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
const UDP: u8 = 17;
/// Packets of which pieces are kept at the same time.
const INCOMPLETE: usize = 16;
/// Pieces of one packet; 65,535 octets in fragments of 576 are 119.
const PIECES: usize = 128;

/// Why a packet cannot be delivered.
#[derive(Clone, Copy)]
pub(super) enum Why {
    NoNetwork,
    NoProtocol,
    NoPort,
    TooBig(u16),
}

/// Answers a packet that is whole and not TCP.
pub(super) fn answer(packet: &[u8], header: &Header, zone: Zone, out: &mut Frames) {
    let payload = &packet[header.len..];
    match header.protocol {
        ICMP if checksum::of(payload) == 0 => {
            if let [8, 0, _, _, rest @ ..] = payload {
                let reply = [&[0; 4], rest].concat();
                emit(header, ICMP, with_checksum(reply, 2, 0), out);
            }
        }
        UDP => answer_udp(packet, header, zone, out),
        ICMP => {}
        _ => emit_unreachable(packet, header, Ipv4Addr::from(header.dst), Why::NoProtocol, out),
    }
}

fn answer_udp(packet: &[u8], header: &Header, zone: Zone, out: &mut Frames) {
    let payload = &packet[header.len..];
    let mut reader = Reader::new(payload, "UDP datagram");
    let (Ok(src_port), Ok(dst_port), Ok(len), Ok(sum)) =
        (reader.u16(), reader.u16(), reader.u16(), reader.u16())
    else {
        return;
    };
    let Some(datagram) = payload.get(..usize::from(len)).filter(|datagram| datagram.len() >= 8) else {
        return;
    };
    let pseudo = checksum::pseudo_v4(header.src, header.dst, UDP, len);
    if sum != 0 && checksum::fold(checksum::sum(datagram, pseudo)) != 0xffff {
        return;
    }
    let data = match dst_port {
        7 => Some(datagram[8..].to_vec()),
        53 if Ipv4Addr::from(header.dst) == dns::SERVER => zone.answer(&datagram[8..], dns::Transport::Udp),
        _ => {
            return emit_unreachable(packet, header, Ipv4Addr::from(header.dst), Why::NoPort, out);
        }
    };
    let Some(data) = data else { return };
    let len = data.len() as u16 + 8;
    let mut reply = Vec::with_capacity(usize::from(len));
    for field in [dst_port, src_port, len, 0] {
        reply.extend_from_slice(&field.to_be_bytes());
    }
    reply.extend_from_slice(&data);
    let pseudo = checksum::pseudo_v4(header.dst, header.src, UDP, len);
    let mut reply = with_checksum(reply, 6, pseudo);
    if reply[6..8] == [0, 0] {
        reply[6..8].copy_from_slice(&[0xff, 0xff]);
    }
    emit(header, UDP, reply, out);
}

fn with_checksum(mut message: Vec<u8>, at: usize, pseudo: u64) -> Vec<u8> {
    let sum = !checksum::fold(checksum::sum(&message, pseudo));
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Sends `payload` back to where the packet of `header` came from, in fragments when it is large.
fn emit(header: &Header, protocol: u8, payload: Vec<u8>, out: &mut Frames) {
    let piece = (MTU - 20) / 8 * 8;
    let last = payload.len().div_ceil(piece).saturating_sub(1);
    for (i, part) in payload.chunks(piece).enumerate() {
        let more = if i < last { 0x2000 } else { 0 };
        let fragment = more | (i * piece / 8) as u16;
        let ip = Ipv4Out { src: header.dst, dst: header.src, protocol, id: header.id, fragment };
        out.push_ipv4(ip, part.len(), |buf| buf.copy_from_slice(part));
    }
}

/// Tells the sender that `packet` was not delivered (RFC 792), unless that is an ICMP message other than an echo.
pub(super) fn emit_unreachable(packet: &[u8], header: &Header, from: Ipv4Addr, why: Why, out: &mut Frames) {
    let is_error = header.protocol == ICMP && packet.get(header.len) != Some(&8);
    if is_error || header.offset > 0 {
        return;
    }
    let (code, mtu) = match why {
        Why::NoNetwork => (0, 0),
        Why::NoProtocol => (2, 0),
        Why::NoPort => (3, 0),
        Why::TooBig(mtu) => (4, mtu),
    };
    let [m0, m1] = mtu.to_be_bytes();
    let quoted = packet.get(..header.len + 8).unwrap_or(packet);
    let message = [&[3, code, 0, 0, 0, 0, m0, m1], quoted].concat();
    let message = with_checksum(message, 2, 0);
    let ip = Ipv4Out { src: from.octets(), dst: header.src, protocol: ICMP, id: 0, fragment: 0 };
    out.push_ipv4(ip, message.len(), |buf| buf.copy_from_slice(&message));
}

/// Puts fragments together (RFC 791). Pieces that overlap are not expected from a client and spoil their packet.
#[derive(Default)]
pub(super) struct Reassembly(HashMap<(u32, u32, u8, u16), Pieces>);

#[derive(Default)]
struct Pieces {
    parts: Vec<(usize, Vec<u8>)>,
    end: Option<usize>,
}

impl Reassembly {
    /// Adds a fragment; the whole packet when it was the last one missing.
    pub fn add(&mut self, packet: &[u8], header: &Header) -> Option<Vec<u8>> {
        // Only senders that go wrong reach these limits: their pieces are forgotten.
        self.0.retain(|_, pieces| pieces.parts.len() < PIECES);
        let key =
            (u32::from_be_bytes(header.src), u32::from_be_bytes(header.dst), header.protocol, header.id);
        if self.0.len() >= INCOMPLETE && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let pieces = self.0.entry(key).or_default();
        let payload = &packet[header.len..];
        pieces.parts.push((header.offset, payload.to_vec()));
        if !header.more_fragments {
            pieces.end = Some(header.offset + payload.len());
        }
        let have: usize = pieces.parts.iter().map(|(_, part)| part.len()).sum();
        if pieces.end != Some(have) || have > usize::from(u16::MAX) - 20 {
            return None;
        }
        let mut pieces = self.0.remove(&key)?;
        pieces.parts.sort_by_key(|(offset, _)| *offset);
        let whole: Vec<u8> = pieces.parts.into_iter().flat_map(|(_, part)| part).collect();
        let ip = Ipv4Out {
            src: header.src,
            dst: header.dst,
            protocol: header.protocol,
            id: header.id,
            fragment: 0,
        };
        let mut frames = Frames::default();
        frames.push_ipv4(ip, whole.len(), |buf| buf.copy_from_slice(&whole));
        frames.bytes().get(8..).map(<[u8]>::to_vec)
    }
}
