//! Frames of the FortiVPN tunnel as the gateway handles them: `total(2) 0x5050 size(2)` and a PPP packet.
//! Written apart from the client's framing on purpose: two sides that share a mistake would pass each other's tests.

use crate::wire::checksum;

const MAGIC: u16 = 0x5050;
const HEADER: usize = 6;

/// A PPP packet, protocol number first, as a frame.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    let size = packet.len() as u16;
    let total = size.wrapping_add(HEADER as u16);
    [&total.to_be_bytes(), &MAGIC.to_be_bytes(), &size.to_be_bytes(), packet].concat()
}

/// Frames to be sent, back to back, and where each one ends.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    address_control: bool,
}

impl Frames {
    /// No frames; with `address_control` each packet begins with the octets FF 03.
    pub fn new(address_control: bool) -> Self {
        Self { address_control, ..Self::default() }
    }

    /// Appends octets as they are.
    pub fn push_raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    /// Appends a frame with a PPP packet of `protocol` whose `len` octets of payload `fill` writes.
    pub fn push_with<R>(&mut self, protocol: u16, len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let address_control: &[u8] = if self.address_control { &[0xff, 0x03] } else { &[] };
        let size = len + 2 + address_control.len();
        self.bytes.extend_from_slice(&((size + HEADER) as u16).to_be_bytes());
        self.bytes.extend_from_slice(&MAGIC.to_be_bytes());
        self.bytes.extend_from_slice(&(size as u16).to_be_bytes());
        self.bytes.extend_from_slice(address_control);
        self.bytes.extend_from_slice(&protocol.to_be_bytes());
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        let result = fill(&mut self.bytes[start..]);
        self.ends.push(self.bytes.len());
        result
    }

    /// Appends an IPv4 packet: header and checksum here, payload written by `fill`.
    pub fn push_ipv4(&mut self, header: Ipv4Out, payload_len: usize, fill: impl FnOnce(&mut [u8])) {
        self.push_with(super::ppp::IPV4, 20 + payload_len, |packet| {
            header.emit(packet);
            fill(&mut packet[20..]);
        });
    }

    /// All frames.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// One slice per frame.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    /// Number of frames.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Octets of all frames.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all frames and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// The header fields of an IPv4 packet that the far side sends itself.
#[derive(Clone, Copy)]
pub struct Ipv4Out {
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Protocol number.
    pub protocol: u8,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset, as on the wire.
    pub fragment: u16,
}

impl Ipv4Out {
    fn emit(self, packet: &mut [u8]) {
        let total = packet.len() as u16;
        let header = &mut packet[..20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[4..6].copy_from_slice(&self.id.to_be_bytes());
        header[6..8].copy_from_slice(&self.fragment.to_be_bytes());
        header[8] = 64;
        header[9] = self.protocol;
        header[12..16].copy_from_slice(&self.src);
        header[16..20].copy_from_slice(&self.dst);
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The stream is no sequence of frames any more: wrong magic, or lengths that do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfSync;

/// Cuts a byte stream into PPP packets.
#[derive(Default)]
pub struct Deframer {
    buffer: Vec<u8>,
    start: usize,
}

impl Deframer {
    /// Adds bytes of the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 64 * 1024 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next PPP packet, when a whole frame is there.
    pub fn next_packet(&mut self) -> Result<Option<&[u8]>, OutOfSync> {
        let rest = &self.buffer[self.start..];
        let Some(&[t0, t1, m0, m1, s0, s1]) = rest.first_chunk::<HEADER>() else { return Ok(None) };
        let (total, size) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([s0, s1]));
        if u16::from_be_bytes([m0, m1]) != MAGIC || usize::from(total) != usize::from(size) + HEADER {
            return Err(OutOfSync);
        }
        let Some(packet) = rest.get(HEADER..usize::from(total)) else { return Ok(None) };
        self.start += usize::from(total);
        Ok(Some(packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data frame and the first two control frames of a live capture, from whoever wrote them down.
    const LCP: &[u8] =
        b"\x00\x16\x50\x50\x00\x10\xc0\x21\x01\x01\x00\x0e\x01\x04\x05\x4a\x05\x06\xde\xad\xbe\xef";
    const ACK: &[u8] = b"\x00\x12\x50\x50\x00\x0c\xc0\x21\x02\x01\x00\x0a\x05\x06\x10\x9b\x22\x33";

    #[test]
    fn frames_have_the_captured_form() {
        let mut frames = Frames::default();
        for frame in [LCP, ACK] {
            frames.push_with(0xc021, frame.len() - 8, |payload| payload.copy_from_slice(&frame[8..]));
        }
        assert_eq!(frames.bytes(), [LCP, ACK].concat());
        assert_eq!(frames.iter().collect::<Vec<_>>(), [LCP, ACK]);
    }

    #[test]
    fn any_split_gives_the_same_packets() {
        let stream = [LCP, ACK, b"\x00\x06\x50\x50\x00\x00", LCP].concat();
        for cut in 0..=stream.len() {
            let mut deframer = Deframer::default();
            let mut got = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                deframer.extend(part);
                while let Some(packet) = deframer.next_packet().unwrap() {
                    got.push(packet.to_vec());
                }
            }
            assert_eq!(got, [&LCP[6..], &ACK[6..], b"", &LCP[6..]], "cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_header_is_fatal() {
        for at in 0..HEADER {
            let mut bytes = LCP.to_vec();
            bytes[at] ^= 1;
            let mut deframer = Deframer::default();
            deframer.extend(&bytes);
            assert_eq!(deframer.next_packet(), Err(OutOfSync), "octet {at}");
        }
    }
}
