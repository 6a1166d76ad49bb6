//! Capture files in the form of pcapng (draft-ietf-opsawg-pcapng): sections, interfaces, packets, statistics.
//!
//! All is little-endian, times are in nanoseconds, and packets begin with their IP header (LINKTYPE_RAW).

use std::time::Duration;

use super::Malformed;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// Tells the reader our byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// LINKTYPE_RAW: an IPv4 or IPv6 packet.
const RAW: u16 = 101;
/// if_tsresol: times count units of ten to the power of minus so many seconds.
const RESOLUTION: u8 = 9;

/// Octets of a block without a body.
const MIN_BLOCK: usize = 12;
/// A block is at most so long: a packet of 64 KiB and its options fit.
const MAX_BLOCK: usize = 1 << 20;

/// Codes of options, by the block that they belong to.
mod option {
    pub(super) const END: u16 = 0;
    pub(super) const APPLICATION: u16 = 4;
    pub(super) const NAME: u16 = 2;
    pub(super) const DESCRIPTION: u16 = 3;
    pub(super) const RESOLUTION: u16 = 9;
    pub(super) const FLAGS: u16 = 2;
    pub(super) const DROP_COUNT: u16 = 4;
    pub(super) const START: u16 = 2;
    pub(super) const STOP: u16 = 3;
    pub(super) const RECEIVED: u16 = 4;
    pub(super) const DROPPED: u16 = 5;
}

/// Which way a packet went at its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heading {
    /// It came in.
    Inbound,
    /// It went out.
    Outbound,
}

/// A captured packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of its interface, in the order in which they were written.
    pub interface: u32,
    /// When it passed (wall clock, since 1970).
    pub time: Duration,
    /// Which way.
    pub heading: Heading,
    /// Packets of the same interface that were lost since the last one.
    pub dropped: u64,
    /// All of it, from its IP header.
    pub bytes: &'a [u8],
}

/// What is known about an interface at the end.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// Number of the interface.
    pub interface: u32,
    /// When the capture began (wall clock, since 1970).
    pub start: Duration,
    /// When it ended.
    pub stop: Duration,
    /// Packets seen, lost ones included.
    pub received: u64,
    /// Packets lost, for want of room.
    pub dropped: u64,
}

/// Appends the head of the file: who writes it.
pub fn emit_section(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION, |out| {
        out.extend(BYTE_ORDER.to_le_bytes());
        out.extend([1, 0, 0, 0]); // version 1.0
        out.extend(u64::MAX.to_le_bytes()); // the section's length: not known
        text(out, option::APPLICATION, application);
        end_of_options(out);
    });
}

/// Appends the description of an interface.
pub fn emit_interface(out: &mut Vec<u8>, name: &str, description: &str) {
    block(out, INTERFACE, |out| {
        out.extend(RAW.to_le_bytes());
        out.extend([0; 2]);
        out.extend([0; 4]); // packets of any length
        text(out, option::NAME, name);
        text(out, option::DESCRIPTION, description);
        value(out, option::RESOLUTION, &[RESOLUTION]);
        end_of_options(out);
    });
}

/// Appends a packet.
pub fn emit_packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let len = u32::try_from(packet.bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    block(out, PACKET, |out| {
        out.extend(packet.interface.to_le_bytes());
        out.extend(timestamp(packet.time));
        out.extend(len); // captured
        out.extend(len); // as it was
        padded(out, packet.bytes);
        let flags: u32 = match packet.heading {
            Heading::Inbound => 1,
            Heading::Outbound => 2,
        };
        value(out, option::FLAGS, &flags.to_le_bytes());
        if packet.dropped > 0 {
            value(out, option::DROP_COUNT, &packet.dropped.to_le_bytes());
        }
        end_of_options(out);
    });
}

/// Appends what is known about an interface at the end.
pub fn emit_statistics(out: &mut Vec<u8>, statistics: &Statistics) {
    block(out, STATISTICS, |out| {
        out.extend(statistics.interface.to_le_bytes());
        out.extend(timestamp(statistics.stop));
        value(out, option::START, &timestamp(statistics.start));
        value(out, option::STOP, &timestamp(statistics.stop));
        value(out, option::RECEIVED, &statistics.received.to_le_bytes());
        value(out, option::DROPPED, &statistics.dropped.to_le_bytes());
        end_of_options(out);
    });
}

fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    // Both ends have the length.
    let len = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(field) = out.get_mut(start + 4..start + 8) {
        field.copy_from_slice(&len);
    }
    out.extend(len);
}

fn text(out: &mut Vec<u8>, code: u16, text: &str) {
    value(out, code, text.as_bytes());
}

fn value(out: &mut Vec<u8>, code: u16, bytes: &[u8]) {
    let bytes = bytes.get(..bytes.len().min(usize::from(u16::MAX))).unwrap_or_default();
    out.extend(code.to_le_bytes());
    out.extend((bytes.len() as u16).to_le_bytes());
    padded(out, bytes);
}

fn end_of_options(out: &mut Vec<u8>) {
    value(out, option::END, &[]);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.extend(std::iter::repeat_n(0, bytes.len().next_multiple_of(4) - bytes.len()));
}

/// The upper half goes first.
fn timestamp(time: Duration) -> [u8; 8] {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let [a, b, c, d, e, f, g, h] = nanos.to_le_bytes();
    [e, f, g, h, a, b, c, d]
}

/// What a block of our own writing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// A packet.
    Packet,
    /// Statistics of an interface.
    Statistics {
        /// Packets lost, for want of room.
        dropped: u64,
    },
    /// Another one.
    Other,
}

/// The block at the front of `bytes`, and its length in octets; `None` where more has to come.
pub fn parse_block(bytes: &[u8]) -> Result<Option<(Block, usize)>, Malformed> {
    let (Some(kind), Some(len)) = (u32_at(bytes, 0), u32_at(bytes, 4)) else { return Ok(None) };
    let len = len as usize;
    if !(MIN_BLOCK..=MAX_BLOCK).contains(&len) || !len.is_multiple_of(4) {
        return Err(Malformed("length of a block"));
    }
    let Some(whole) = bytes.get(..len) else { return Ok(None) };
    if u32_at(whole, len - 4) != u32_at(whole, 4) {
        return Err(Malformed("end of a block"));
    }
    let block = match kind {
        PACKET => Block::Packet,
        STATISTICS => Block::Statistics { dropped: dropped(whole) },
        _ => Block::Other,
    };
    Ok(Some((block, len)))
}

/// The count of lost packets in a block of statistics; none is 0.
fn dropped(block: &[u8]) -> u64 {
    let mut options = block.get(20..block.len() - 4).unwrap_or_default();
    while let Some((&[c0, c1, l0, l1], rest)) = options.split_first_chunk::<4>() {
        let len = usize::from(u16::from_le_bytes([l0, l1]));
        if u16::from_le_bytes([c0, c1]) == option::DROPPED {
            return rest.first_chunk().map_or(0, |field| u64::from_le_bytes(*field));
        }
        options = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    0
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::new(0x1_0000_0000, 7);

    fn blocks(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let (_, len) = parse_block(bytes).unwrap().unwrap();
            found.push((u32_at(bytes, 0).unwrap(), bytes[8..len - 4].to_vec()));
            bytes = &bytes[len..];
        }
        found
    }

    #[test]
    fn the_head_names_byte_order_version_and_interfaces() {
        let mut out = Vec::new();
        emit_section(&mut out, "pterodapter");
        emit_interface(&mut out, "devices", "inside ESP");
        let [(section, head), (interface, body)] = &blocks(&out)[..] else { panic!("{out:?}") };
        assert_eq!((*section, *interface), (0x0a0d_0d0a, 1));
        assert_eq!(head[..16], *b"\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(head[16..], *b"\x04\0\x0b\0pterodapter\0\0\0\0\0");
        let expected = b"\x65\0\0\0\0\0\0\0\x02\0\x07\0devices\0\x03\0\x0a\0inside ESP\0\0\x09\0\x01\0\x09\0\0\0\0\0\0\0";
        assert_eq!(body[..], expected[..]);
    }

    #[test]
    fn a_packet_has_time_direction_and_what_was_lost_before_it() {
        let packet =
            Packet { interface: 1, time: TIME, heading: Heading::Outbound, dropped: 0, bytes: b"packet" };
        let mut out = Vec::new();
        emit_packet(&mut out, &packet);
        emit_packet(&mut out, &Packet { dropped: 258, heading: Heading::Inbound, ..packet });
        let [(kind, first), (_, second)] = &blocks(&out)[..] else { panic!("{out:?}") };
        assert_eq!((*kind, out.len() % 4), (6, 0));
        let nanos = u64::from(u32_at(first, 4).unwrap()) << 32 | u64::from(u32_at(first, 8).unwrap());
        assert_eq!(u128::from(nanos), TIME.as_nanos());
        assert_eq!(first[12..28], *b"\x06\0\0\0\x06\0\0\0packet\0\0");
        assert_eq!(first[28..], *b"\x02\0\x04\0\x02\0\0\0\0\0\0\0");
        assert_eq!(second[28..], *b"\x02\0\x04\0\x01\0\0\0\x04\0\x08\0\x02\x01\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn statistics_tell_what_was_lost() {
        let statistics = Statistics {
            interface: 1,
            start: TIME,
            stop: TIME + Duration::from_secs(9),
            received: 70_000,
            dropped: 65_537,
        };
        let mut out = Vec::new();
        emit_statistics(&mut out, &statistics);
        assert_eq!(parse_block(&out), Ok(Some((Block::Statistics { dropped: 65_537 }, out.len()))));
        let [(5, body)] = &blocks(&out)[..] else { panic!("{out:?}") };
        assert_eq!(body[4..12], body[28..36], "the time of the block is that of the end");
        assert_eq!(body[12..16], *b"\x02\0\x08\0");
        assert_eq!(
            body[36..],
            *b"\x04\0\x08\0\x70\x11\x01\0\0\0\0\0\x05\0\x08\0\x01\0\x01\0\0\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn what_is_cut_short_or_wrong_is_no_block() {
        let mut out = Vec::new();
        let packet = Packet { interface: 0, time: TIME, heading: Heading::Inbound, dropped: 1, bytes: &[9] };
        emit_packet(&mut out, &packet);
        emit_statistics(
            &mut out,
            &Statistics { interface: 0, start: TIME, stop: TIME, received: 1, dropped: 1 },
        );
        let (_, len) = parse_block(&out).unwrap().unwrap();
        for end in 0..len {
            assert_eq!(parse_block(&out[..end]), Ok(None), "{end}");
        }
        for (at, value) in [(4, 0), (4, 8), (4, len as u8 + 1), (7, 1), (len - 4, 0)] {
            let mut wrong = out.clone();
            wrong[at] = value;
            assert!(parse_block(&wrong).is_err(), "{at}");
        }
        for at in 8..out.len() - 4 {
            let mut wrong = out.clone();
            wrong[at] = 0xff;
            // Says something, and does not panic.
            let _ = parse_block(&wrong).map(|found| found.map(|(_, len)| parse_block(&wrong[len..])));
        }
    }
}
