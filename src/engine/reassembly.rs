//! Putting fragments together (RFC 791, RFC 5722), off the packet path: large DNS answers come to the in-tunnel host in
//! pieces, and pings above the MTU cannot be translated in pieces.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::wire::ip::{self, Ipv4};

/// Packets in the making, how long each may take, and their size.
const MAX_PACKETS: usize = 16;
const MAX_PIECES: usize = 32;
const LIFETIME: Duration = Duration::from_secs(5);
const MAX_DATA: usize = 16 * 1024;

type Key = (Ipv4Addr, Ipv4Addr, u8, u16);

struct Partial {
    key: Key,
    until: Duration,
    /// Offset and data, sorted, without overlaps.
    pieces: Vec<(usize, Vec<u8>)>,
    /// Length of the whole, known from the last piece.
    len: Option<usize>,
}

/// The packets in the making, oldest first.
#[derive(Default)]
pub(super) struct Reassembly {
    partials: Vec<Partial>,
}

impl Reassembly {
    /// Takes a piece, and returns the packet that it completes. Overlapping pieces spoil their packet.
    pub(super) fn handle_piece(&mut self, now: Duration, header: &Ipv4, data: &[u8]) -> Option<Vec<u8>> {
        self.partials.retain(|partial| partial.until > now);
        let key = (header.src, header.dst, header.protocol, header.id);
        let index = self.partials.iter().position(|partial| partial.key == key).unwrap_or_else(|| {
            if self.partials.len() >= MAX_PACKETS {
                self.partials.remove(0);
            }
            self.partials.push(Partial { key, until: now + LIFETIME, pieces: Vec::new(), len: None });
            self.partials.len() - 1
        });
        let partial = self.partials.get_mut(index)?;
        if !partial.insert(usize::from(header.fragment_offset), data, header.more_fragments) {
            self.partials.remove(index);
            return None;
        }
        let data = partial.joined()?;
        self.partials.remove(index);
        let whole = Ipv4 {
            more_fragments: false,
            fragment_offset: 0,
            dont_fragment: false,
            total_len: ip::HEADER_LEN + data.len(),
            ..*header
        };
        let mut packet = vec![0; ip::HEADER_LEN];
        whole.emit(&mut packet)?;
        packet.extend(data);
        Some(packet)
    }
}

impl Partial {
    /// False where the piece does not fit the others.
    fn insert(&mut self, offset: usize, data: &[u8], more: bool) -> bool {
        let end = offset + data.len();
        let odd_length = more && (data.is_empty() || !data.len().is_multiple_of(8));
        if odd_length || end > MAX_DATA || self.pieces.len() >= MAX_PIECES {
            return false;
        }
        if !more && *self.len.get_or_insert(end) != end {
            return false;
        }
        let at = self.pieces.partition_point(|(start, _)| *start < offset);
        let overlaps = |index: usize| {
            self.pieces.get(index).is_some_and(|(start, piece)| *start < end && offset < start + piece.len())
        };
        if self.pieces.get(at).is_some_and(|(start, piece)| *start == offset && piece == data) {
            return true; // a duplicate
        }
        if overlaps(at) || at.checked_sub(1).is_some_and(overlaps) {
            return false;
        }
        self.pieces.insert(at, (offset, data.to_vec()));
        true
    }

    /// All data, once nothing is missing.
    fn joined(&self) -> Option<Vec<u8>> {
        let have: usize = self.pieces.iter().map(|(_, piece)| piece.len()).sum();
        let last_end = self.pieces.last().map(|(start, piece)| start + piece.len());
        // Without overlaps, equal sums mean that there is no hole.
        if self.len != Some(have) || last_end != self.len {
            return None;
        }
        Some(self.pieces.iter().flat_map(|(_, piece)| piece.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(id: u16, offset: u16, more_fragments: bool) -> Ipv4 {
        Ipv4 {
            header_len: 20,
            total_len: 20,
            id,
            dont_fragment: false,
            more_fragments,
            fragment_offset: offset,
            ttl: 9,
            protocol: ip::UDP,
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(10, 0, 0, 2),
        }
    }

    /// Feeds pieces (offset, length, more) of a packet whose octets count up; the payload of what is completed.
    fn feed(reassembly: &mut Reassembly, now: u64, id: u16, pieces: &[(u16, u16, bool)]) -> Option<Vec<u8>> {
        let mut whole = None;
        for (offset, len, more) in pieces {
            let data: Vec<u8> = (*offset..offset + len).map(|n| n as u8).collect();
            whole = reassembly.handle_piece(Duration::from_secs(now), &header(id, *offset, *more), &data);
        }
        whole.map(|packet| Ipv4::parse(&packet).unwrap().payload(&packet).to_vec())
    }

    #[test]
    fn pieces_in_any_order_and_twice() {
        let whole: Vec<u8> = (0..43).collect();
        for pieces in [
            &[(0, 16, true), (16, 24, true), (40, 3, false)][..],
            &[(40, 3, false), (16, 24, true), (0, 16, true)],
            &[(16, 24, true), (16, 24, true), (40, 3, false), (40, 3, false), (0, 16, true)],
        ] {
            let mut reassembly = Reassembly::default();
            assert_eq!(feed(&mut reassembly, 1, 7, pieces).as_ref(), Some(&whole), "{pieces:?}");
            assert!(reassembly.partials.is_empty());
        }
    }

    #[test]
    fn holes_overlaps_and_odd_lengths_give_nothing() {
        for pieces in [
            &[(0, 16, true), (24, 3, false)][..],
            &[(0, 16, true), (8, 8, true), (16, 3, false)],
            &[(0, 16, true), (8, 16, false)],
            &[(0, 16, true), (8, 8, true), (24, 3, false)],
            &[(0, 8, true), (48, 8, true), (16, 8, false)],
            &[(0, 15, true), (16, 3, false)],
            &[(0, 16, true), (40, 3, false), (16, 20, false)],
            &[(0, 16, true), (48, 8, true), (16, 24, false)],
            &[(16, 24, true), (0, 16, true)],
            &[(MAX_DATA as u16, 8, false)],
        ] {
            assert_eq!(feed(&mut Reassembly::default(), 1, 7, pieces), None, "{pieces:?}");
        }
    }

    #[test]
    fn time_and_number_are_bounded() {
        let mut reassembly = Reassembly::default();
        feed(&mut reassembly, 1, 7, &[(0, 16, true)]);
        assert_eq!(feed(&mut reassembly, 6, 7, &[(16, 3, false)]), None, "too late");
        for id in 100..200 {
            feed(&mut reassembly, 6, id, &[(0, 16, true)]);
        }
        assert_eq!(reassembly.partials.len(), MAX_PACKETS);
        assert!(feed(&mut reassembly, 6, 199, &[(16, 3, false)]).is_some());
        assert!(feed(&mut reassembly, 6, 100, &[(16, 3, false)]).is_none());
    }
}
