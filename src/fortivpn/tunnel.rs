//! The TLS tunnel: is the first answer a frame or an HTTP refusal, where do frames begin and end, and the PPP link
//! inside.

use crate::base::{Now, Random};
use crate::ppp::Link;
use crate::wire::Malformed;
use crate::wire::forti::{self, HEADER_LEN};
use crate::wire::http::{self, Head, STRAY_LAST_CHUNK};
use crate::wire::ppp::{parse_protocol, protocol};

/// The largest PPP packet that we hand on; larger ones are dropped, in step.
const MAX_PACKET: usize = 16 * 1024;
const HTTP: &[u8] = b"HTTP/1";

/// Counters of a session. They never go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames of any kind.
    pub frames: u64,
    /// IPv4 packets handed on.
    pub packets: u64,
    /// IPv4 packets that came while the link was not open.
    pub early: u64,
    /// Frames that carry something else than IPv4 or a known control protocol.
    pub unknown: u64,
    /// Frames larger than 16 KiB.
    pub oversized: u64,
    /// Tunnels that came up.
    pub ups: u64,
}

/// Why a tunnel cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// An HTTP answer with this status instead of frames.
    Refused(u16),
    /// An HTTP answer that is none.
    BadAnswer(http::Error),
    /// The frames are out of step.
    OutOfSync,
}

/// Finds the frames in a stream that comes in pieces of any size. Whole frames are given where they are; only a
/// frame that straddles two pieces is copied, into a buffer that is used again.
#[derive(Default)]
pub(super) struct Deframer {
    partial: Vec<u8>,
    /// `partial` is a whole frame that was given out.
    spent: bool,
}

impl Deframer {
    /// Octets that came before, in front of what comes next.
    fn preload(&mut self, bytes: &[u8]) {
        self.partial.extend(bytes);
    }

    /// The PPP packet of the next whole frame at the front of `input`, which is moved on.
    pub(super) fn next<'s, 'b: 's>(
        &'s mut self,
        input: &mut &'b mut [u8],
    ) -> Result<Option<&'s mut [u8]>, Malformed> {
        if std::mem::take(&mut self.spent) {
            self.partial.clear();
        }
        if self.partial.is_empty()
            && let Some(header) = input.first_chunk::<HEADER_LEN>()
        {
            let total = HEADER_LEN + forti::parse_header(*header)?;
            if total <= input.len() {
                let (frame, rest) = std::mem::take(input).split_at_mut(total);
                *input = rest;
                return Ok(frame.get_mut(HEADER_LEN..));
            }
        }
        if !self.fill(input, HEADER_LEN) {
            return Ok(None);
        }
        let header = self.partial.first_chunk::<HEADER_LEN>().ok_or(Malformed("FortiVPN frame header"))?;
        let total = HEADER_LEN + forti::parse_header(*header)?;
        if !self.fill(input, total) {
            return Ok(None);
        }
        self.spent = true;
        Ok(self.partial.get_mut(HEADER_LEN..total))
    }

    /// Moves octets over until `partial` has `len`; false if the input ends before.
    fn fill(&mut self, input: &mut &mut [u8], len: usize) -> bool {
        let missing = len.saturating_sub(self.partial.len()).min(input.len());
        let (piece, rest) = std::mem::take(input).split_at_mut(missing);
        self.partial.extend_from_slice(piece);
        *input = rest;
        self.partial.len() >= len
    }
}

/// What we know about the gateway's first octets.
enum Opening {
    /// Not enough to tell; a prologue with status 200 may come once.
    Undecided { seen: Vec<u8>, prologue: bool },
    /// Frames, from here on.
    Frames,
}

/// One tunnel on one connection.
pub(super) struct Tunnel {
    opening: Opening,
    deframer: Deframer,
    pub(super) link: Link,
}

impl Tunnel {
    pub(super) fn new(link: Link) -> Self {
        Self {
            opening: Opening::Undecided { seen: Vec::new(), prologue: true },
            deframer: Deframer::default(),
            link,
        }
    }

    /// True once the gateway has sent a frame.
    pub(super) fn has_frames(&self) -> bool {
        matches!(self.opening, Opening::Frames)
    }

    /// Takes in decrypted octets. IPv4 packets go to `sink`, all else to the link.
    pub(super) fn handle_bytes(
        &mut self,
        now: Now,
        mut input: &mut [u8],
        rng: &mut dyn Random,
        stats: &mut Stats,
        sink: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Interrupt> {
        if let Opening::Undecided { seen, prologue } = &mut self.opening {
            match decide(seen, prologue, &mut input)? {
                false => return Ok(()),
                true => {
                    self.deframer.preload(seen);
                    self.opening = Opening::Frames;
                }
            }
        }
        let before = stats.frames;
        let result = loop {
            match self.deframer.next(&mut input) {
                Ok(Some(packet)) => {
                    stats.frames += 1;
                    deliver(&mut self.link, now, packet, rng, stats, sink);
                }
                Ok(None) => break Ok(()),
                Err(_) => break Err(Interrupt::OutOfSync),
            }
        };
        if stats.frames != before {
            self.link.handle_alive(now);
        }
        result
    }
}

/// One PPP packet to where it belongs.
fn deliver(
    link: &mut Link,
    now: Now,
    packet: &mut [u8],
    rng: &mut dyn Random,
    stats: &mut Stats,
    sink: &mut dyn FnMut(&mut [u8]),
) {
    if packet.len() > MAX_PACKET {
        stats.oversized += 1;
        return;
    }
    let Ok((protocol, skip)) = parse_protocol(packet) else {
        stats.unknown += 1;
        return;
    };
    let payload = packet.get_mut(skip..).unwrap_or_default();
    match protocol {
        protocol::IPV4 if link.is_open() => {
            stats.packets += 1;
            sink(payload);
        }
        protocol::IPV4 => stats.early += 1,
        protocol::LCP | protocol::IPCP => link.handle_packet(now, protocol, payload, rng),
        // IPv6 was never negotiated; a Protocol-Reject per packet would help nobody.
        protocol::IPV6 => stats.unknown += 1,
        _ => {
            stats.unknown += 1;
            link.handle_packet(now, protocol, payload, rng);
        }
    }
}

/// Gathers octets until it is clear that they are frames (true); `seen` then holds the first ones of them.
fn decide(seen: &mut Vec<u8>, prologue: &mut bool, input: &mut &mut [u8]) -> Result<bool, Interrupt> {
    while let Some((byte, rest)) = std::mem::take(input).split_first_mut() {
        seen.push(*byte);
        *input = rest;
        if *seen == STRAY_LAST_CHUNK {
            seen.clear();
        } else if seen.starts_with(HTTP) {
            if seen.len() > http::MAX_HEAD {
                return Err(Interrupt::BadAnswer(http::Error::HeadTooLong));
            }
            if seen.ends_with(b"\n\r\n") || seen.ends_with(b"\n\n") {
                let head = Head::parse(seen).map_err(Interrupt::BadAnswer)?;
                let status = head.as_ref().map_or(0, |(head, _)| head.status);
                let framed = head.is_none_or(|(head, _)| head.is_framed());
                if status != 200 || framed || !std::mem::take(prologue) {
                    return Err(Interrupt::Refused(status));
                }
                seen.clear();
            }
        } else if !HTTP.starts_with(seen) && !STRAY_LAST_CHUNK.starts_with(seen) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ppp::Settings;

    struct Zero;

    impl Random for Zero {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(0x42);
        }
    }

    fn now() -> Now {
        Now {
            mono: std::time::Duration::ZERO,
            boot: std::time::Duration::ZERO,
            wall: std::time::Duration::ZERO,
        }
    }

    fn tunnel() -> Tunnel {
        let settings = Settings { mru: 1354, address: [10, 0, 3, 1].into(), ask_dns: false };
        Tunnel::new(Link::new(settings, now(), &mut Zero))
    }

    fn frame(packet: &[u8]) -> Vec<u8> {
        let size = packet.len() as u16;
        [&(size + 6).to_be_bytes()[..], &[0x50, 0x50], &size.to_be_bytes(), packet].concat()
    }

    /// Feeds pieces; gives the packets, or the error.
    fn deframe(stream: &[u8], cuts: &[usize]) -> Result<Vec<Vec<u8>>, Malformed> {
        let (mut deframer, mut packets, mut at) = (Deframer::default(), Vec::new(), 0);
        for &cut in cuts.iter().chain([&stream.len()]) {
            let mut piece = stream[at..cut].to_vec();
            at = cut;
            let mut input = &mut piece[..];
            while let Some(packet) = deframer.next(&mut input)? {
                packets.push(packet.to_vec());
            }
            assert!(input.is_empty());
        }
        Ok(packets)
    }

    #[test]
    fn every_split_of_the_vectors_gives_the_same_frames() {
        let packets: Vec<Vec<u8>> = vec![
            vec![0xc0, 0x21, 1, 1, 0, 10, 5, 6, 0x10, 0x9b, 0x22, 0x33],
            vec![],
            vec![0x21],
            [&[0x00, 0x21, 0x45][..], &[7; 83]].concat(),
        ];
        let stream: Vec<u8> = packets.iter().flat_map(|p| frame(p)).collect();
        assert_eq!(stream[..6], [0x00, 0x12, 0x50, 0x50, 0x00, 0x0c]);
        for a in 0..=stream.len() {
            for b in a..=stream.len() {
                assert_eq!(deframe(&stream, &[a, b]).as_ref(), Ok(&packets), "{a} {b}");
            }
        }
        let every: Vec<usize> = (1..stream.len()).collect();
        assert_eq!(deframe(&stream, &every), Ok(packets));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream: Vec<u8> = packets.iter().flat_map(|p| frame(p)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(deframe(&stream, &cuts), Ok(packets));
        }
    }

    #[test]
    fn whole_frames_stay_in_place_and_the_buffer_is_used_again() {
        let (mut deframer, mut capacity) = (Deframer::default(), None);
        for round in 0..100 {
            let mut stream = [frame(&[1; 1400]), frame(&[2; 1400])].concat();
            let range = stream.as_ptr_range();
            let (mut first, mut second) = stream.split_at_mut(1406 + 1 + round * 13);
            let packet = deframer.next(&mut first).unwrap().unwrap();
            assert!(range.contains(&packet.as_ptr()), "not copied");
            assert!(deframer.next(&mut first).unwrap().is_none());
            let packet = deframer.next(&mut second).unwrap().unwrap();
            assert!(packet == [2; 1400] && !range.contains(&packet.as_ptr()));
            let now = deframer.partial.capacity();
            assert_eq!(*capacity.get_or_insert(now), now, "no allocation after the first round");
        }
    }

    #[test]
    fn largest_frame_and_broken_frames() {
        let largest = frame(&vec![1; 65529]);
        assert_eq!(deframe(&largest, &[9000, 20_000, 60_000]).unwrap()[0].len(), 65529);
        for bad in [[0, 12, 0x50, 0x51, 0, 6], [0, 12, 0x50, 0x50, 0, 7], [0, 0, 0x50, 0x50, 0, 0]] {
            for cut in 0..6 {
                assert!(deframe(&[frame(&[1, 2]), bad.to_vec()].concat(), &[8 + cut]).is_err());
            }
        }
    }

    fn open(pieces: &[&[u8]]) -> Result<(bool, u64), Interrupt> {
        let (mut tunnel, mut stats) = (tunnel(), Stats::default());
        for piece in pieces {
            tunnel.handle_bytes(now(), &mut piece.to_vec(), &mut Zero, &mut stats, &mut |_| {})?;
        }
        Ok((tunnel.has_frames(), stats.frames))
    }

    #[test]
    fn first_answer_decides_at_any_split() {
        let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nforbidden";
        let request = frame(&[0xc0, 0x21, 1, 1, 0, 10, 5, 6, 1, 2, 3, 4]);
        let prologue = [&b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"[..], &request].concat();
        let stray = [STRAY_LAST_CHUNK, &request].concat();
        for cut in 0..request.len() {
            assert_eq!(open(&[&refusal[..cut], &refusal[cut..]]), Err(Interrupt::Refused(403)));
            assert_eq!(open(&[&request[..cut], &request[cut..]]), Ok((true, 1)));
            assert_eq!(open(&[&prologue[..cut], &prologue[cut..]]), Ok((true, 1)));
            assert_eq!(open(&[&stray[..cut], &stray[cut..]]), Ok((true, 1)));
        }
        let framed = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(open(&[framed]), Err(Interrupt::Refused(200)));
        let twice = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\n\r\n"].concat();
        assert_eq!(open(&[&twice]), Err(Interrupt::Refused(200)));
        assert_eq!(open(&[b"HTTP/1"]), Ok((false, 0)));
        assert_eq!(open(&[b"HT", b"ML\r\n"]), Err(Interrupt::OutOfSync));
        assert_eq!(open(&[b"SSH-2.0-x\r\n"]), Err(Interrupt::OutOfSync));
        let endless = vec![b'x'; http::MAX_HEAD + 10];
        assert_eq!(open(&[b"HTTP/1.1 403 ", &endless]), Err(Interrupt::BadAnswer(http::Error::HeadTooLong)));
    }

    #[test]
    fn early_unknown_and_oversized_packets_are_counted_not_fatal() {
        let (mut tunnel, mut stats) = (tunnel(), Stats::default());
        let mut stream: Vec<u8> = [
            &[0x00, 0x21, 0x45][..],
            &[0x21, 0x45],
            &[0xff, 0x03, 0x00, 0x21, 0x45],
            &[0x00, 0x57, 0x60],
            &[0x82, 0x35, 1],
            &[],
            &vec![0; MAX_PACKET + 1],
        ]
        .iter()
        .flat_map(|packet| frame(packet))
        .collect();
        let mut got = 0;
        let result = tunnel.handle_bytes(now(), &mut stream, &mut Zero, &mut stats, &mut |_| got += 1);
        assert_eq!((result, got), (Ok(()), 0));
        assert_eq!(stats, Stats { frames: 7, early: 3, unknown: 3, oversized: 1, ..Stats::default() });
    }
}
