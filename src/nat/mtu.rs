//! Keeping packets small enough: MSS clamping, and fragmentation where DF allows it.

use crate::base::Reason;
use crate::wire::edit::{Edit, put, u16_at};
use crate::wire::ip::{self, Ipv4};
use crate::wire::tcp;

/// Lowers the maximum segment size that a SYN or SYN-ACK announces to `mss`; never raises it and never adds the option.
/// True where the packet was changed. Works for both directions.
pub fn clamp_mss(packet: &mut [u8], mss: u16) -> bool {
    let Ok(header) = Ipv4::parse(packet) else { return false };
    if header.protocol != ip::TCP || header.fragment_offset != 0 {
        return false;
    }
    let Some(segment) = packet.get_mut(header.header_len..header.total_len) else { return false };
    if tcp::flags(segment).is_none_or(|flags| flags & tcp::SYN == 0) {
        return false;
    }
    match tcp::mss(segment) {
        Some((at, announced)) if announced > mss => {
            let mut edit = Edit::default();
            edit.replace(segment, at, mss.to_be_bytes())
                .and_then(|()| edit.update(segment, tcp::CHECKSUM))
                .is_some()
        }
        _ => false,
    }
}

/// Cuts `packet` into pieces of at most `mtu` octets and gives each to `sink`, in order (RFC 791 section 2.3). A packet
/// that fits is given as it is. `packet` is used up: each later piece's header is written over the piece before it, so
/// that nothing is copied or allocated.
///
/// [`Reason::TooBig`] where DF is set or the MTU leaves no room for data.
pub fn fragment(packet: &mut [u8], mtu: usize, mut sink: impl FnMut(&[u8])) -> Result<(), Reason> {
    let header = Ipv4::parse(packet).map_err(|_| Reason::InnerMalformed)?;
    let packet = packet.get_mut(..header.total_len).ok_or(Reason::InnerMalformed)?;
    if packet.len() <= mtu {
        sink(packet);
        return Ok(());
    }
    let room = mtu.saturating_sub(header.header_len) & !7;
    if header.dont_fragment || room == 0 {
        return Err(Reason::TooBig);
    }
    let mut original = [0; 60];
    let copy = original.get_mut(..header.header_len).ok_or(Reason::InnerMalformed)?;
    copy.copy_from_slice(packet.get(..header.header_len).ok_or(Reason::InnerMalformed)?);
    emit_pieces(packet, &header, copy, room, &mut sink).ok_or(Reason::InnerMalformed)
}

fn emit_pieces(
    packet: &mut [u8],
    header: &Ipv4,
    original: &mut [u8],
    room: usize,
    sink: &mut impl FnMut(&[u8]),
) -> Option<()> {
    let header_len = header.header_len;
    let data_len = packet.len() - header_len;
    let mut done = 0;
    while done < data_len {
        let len = room.min(data_len - done);
        let last = done + len == data_len;
        let piece = packet.get_mut(done..done + header_len + len)?;
        piece.get_mut(..header_len)?.copy_from_slice(original);
        let total_len = u16::try_from(piece.len()).ok()?;
        let offset = u16::try_from(usize::from(header.fragment_offset) + done).ok()? >> 3;
        let more = u16::from(header.more_fragments || !last) << 13;
        let mut edit = Edit::default();
        edit.replace(piece, 2, total_len.to_be_bytes())?;
        edit.replace(piece, 6, (more | offset).to_be_bytes())?;
        edit.update(piece, 10)?;
        sink(piece);
        done += len;
        if done == len {
            blank_uncopied_options(original)?;
        }
    }
    Some(())
}

/// Options without the copied flag stay in the first piece only: no-operations take their place in the others.
fn blank_uncopied_options(header: &mut [u8]) -> Option<()> {
    let mut edit = Edit::default();
    let mut at = ip::HEADER_LEN;
    while let Some(kind) = header.get(at).copied() {
        let len = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(header.get(at + 1).copied().unwrap_or(1).max(2)),
        };
        if kind > 1 && kind & 0x80 == 0 {
            for octet in at..(at + len).min(header.len()) {
                // Two octets at a time keep the checksum: this one, and its neighbour as it is.
                let pair = octet & !1;
                let [first, second] = u16_at(header, pair)?.to_be_bytes();
                let blanked = if octet == pair { [1, second] } else { [first, 1] };
                edit.replace(header, pair, blanked)?;
            }
        }
        at += len;
    }
    let sum = edit.checksum(u16_at(header, 10)?);
    put(header, 10, sum.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{checksum, udp};
    use std::net::Ipv4Addr;

    fn syn(options: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        ip::emit_header(&mut packet, 1, ip::TCP, src, dst, 20 + options.len()).unwrap();
        packet[32] = (((20 + options.len()) / 4) << 4) as u8;
        packet[33] = tcp::SYN;
        packet.extend_from_slice(options);
        let pseudo = checksum::pseudo_v4(src.octets(), dst.octets(), ip::TCP, (packet.len() - 20) as u16);
        let sum = !checksum::fold(checksum::sum(&packet[20..], pseudo));
        packet[36..38].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn tcp_is_right(packet: &[u8]) -> bool {
        let pseudo = checksum::pseudo_v4([10, 0, 0, 1], [10, 0, 0, 2], ip::TCP, (packet.len() - 20) as u16);
        checksum::fold(checksum::sum(&packet[20..], pseudo)) == 0xffff
    }

    #[test]
    fn mss_is_lowered_wherever_the_option_stands_and_never_raised() {
        for options in [&[2, 4, 5, 0xb4][..], &[1, 2, 4, 5, 0xb4, 0, 0, 0], &[4, 2, 2, 4, 5, 0xb4, 1, 1]] {
            let mut packet = syn(options);
            assert!(tcp_is_right(&packet));
            assert!(!clamp_mss(&mut packet, 1460));
            assert!(clamp_mss(&mut packet, 1314));
            assert!(tcp_is_right(&packet));
            assert_eq!(tcp::mss(&packet[20..]).map(|(_, mss)| mss), Some(1314));
            packet[33] = tcp::ACK;
            assert!(!clamp_mss(&mut packet, 1000), "no SYN");
        }
        assert!(!clamp_mss(&mut syn(&[]), 1000));
        let whole = syn(&[2, 4, 5, 0xb4]);
        for at in 0..whole.len() {
            clamp_mss(&mut whole[..at].to_vec(), 1);
            for bit in 0..8 {
                let mut packet = whole.clone();
                packet[at] ^= 1 << bit;
                clamp_mss(&mut packet, 1);
            }
        }
    }

    /// Puts pieces together, checking each header.
    fn reassemble(pieces: &[Vec<u8>], mtu: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let header = Ipv4::parse(piece).unwrap();
            assert!(piece.len() <= mtu && header.total_len == piece.len());
            assert_eq!(checksum::of(&piece[..header.header_len]), 0);
            assert_eq!(usize::from(header.fragment_offset), data.len());
            assert_eq!(header.more_fragments, index + 1 < pieces.len());
            data.extend_from_slice(header.payload(piece));
        }
        data
    }

    #[test]
    fn pieces_add_up() {
        let (src, dst) = ("10.0.0.1:1000".parse().unwrap(), "10.0.0.2:2000".parse().unwrap());
        for (len, mtu) in [(10, 1400), (1372, 1400), (1373, 1400), (5000, 1280), (4001, 68), (100, 28)] {
            let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let mut packet = udp::packet(77, src, dst, &payload).unwrap();
            let whole = packet.clone();
            let mut pieces = Vec::new();
            fragment(&mut packet, mtu, |piece| pieces.push(piece.to_vec())).unwrap();
            assert_eq!(pieces.len() == 1, whole.len() <= mtu);
            assert_eq!(reassemble(&pieces, mtu), whole[20..], "{len} {mtu}");

            // A piece may be cut again.
            let Some(first) = pieces.first_mut().filter(|piece| piece.len() > 60) else { continue };
            let mut again = Vec::new();
            fragment(first, 60, |piece| again.push(piece.to_vec())).unwrap();
            again.extend_from_slice(&pieces[1..]);
            assert_eq!(reassemble(&again, mtu), whole[20..]);
        }
    }

    #[test]
    fn df_and_hopeless_mtus_are_refused() {
        let mut packet =
            udp::packet(7, "10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap(), &[0; 100]).unwrap();
        for mtu in [0, 20, 27] {
            assert_eq!(fragment(&mut packet, mtu, |_| panic!()), Err(Reason::TooBig));
        }
        packet[6] = 0x40;
        assert_eq!(fragment(&mut packet, 100, |_| panic!()), Err(Reason::TooBig));
        for len in 0..packet.len() {
            assert_eq!(fragment(&mut packet[..len], 100, |_| panic!()), Err(Reason::InnerMalformed));
        }
    }

    #[test]
    fn only_copied_options_go_into_later_pieces() {
        let base =
            udp::packet(7, "10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap(), &[5; 90]).unwrap();
        let options = [0x07, 3, 4, 0x94, 4, 0, 0, 0]; // record route (not copied), router alert (copied), end
        let mut packet = [&base[..20], &options, &base[20..]].concat();
        packet[0] = 0x47;
        packet[3] += 8;
        packet[10..12].fill(0);
        let sum = checksum::of(&packet[..28]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut pieces = Vec::new();
        fragment(&mut packet, 68, |piece| pieces.push(piece.to_vec())).unwrap();
        assert_eq!(reassemble(&pieces, 68), base[20..]);
        assert_eq!(pieces[0][20..28], options);
        assert_eq!(pieces[1][20..28], [1, 1, 1, 0x94, 4, 0, 0, 0]);
    }
}
