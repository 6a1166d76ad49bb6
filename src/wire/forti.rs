//! The frame of the FortiGate's TLS tunnel: six octets of header, then one PPP packet.

use super::Malformed;

/// Octets of the frame header: total length, magic, length of the PPP packet.
pub const HEADER_LEN: usize = 6;
/// Octets in front of the payload of a frame that we send: the frame header and a two-octet PPP protocol.
pub const DATA_HEADER_LEN: usize = HEADER_LEN + 2;
/// The largest PPP payload that a frame of ours can carry.
pub const MAX_PAYLOAD: usize = u16::MAX as usize - DATA_HEADER_LEN;

const MAGIC: u16 = 0x5050;

/// Writes the header of a frame with `payload_len` octets (at most [`MAX_PAYLOAD`]) of PPP protocol `protocol`.
pub const fn emit_header(buf: &mut [u8; DATA_HEADER_LEN], protocol: u16, payload_len: usize) {
    debug_assert!(payload_len <= MAX_PAYLOAD);
    let total = ((payload_len + DATA_HEADER_LEN) as u16).to_be_bytes();
    let magic = MAGIC.to_be_bytes();
    let size = ((payload_len + 2) as u16).to_be_bytes();
    let protocol = protocol.to_be_bytes();
    *buf = [total[0], total[1], magic[0], magic[1], size[0], size[1], protocol[0], protocol[1]];
}

/// Octets of the PPP packet behind this header.
///
/// # Errors
/// A wrong magic, or two lengths that disagree: the stream is out of step and cannot be used any more.
pub fn parse_header(header: [u8; HEADER_LEN]) -> Result<usize, Malformed> {
    let [t0, t1, m0, m1, s0, s1] = header;
    let total = usize::from(u16::from_be_bytes([t0, t1]));
    let size = usize::from(u16::from_be_bytes([s0, s1]));
    if u16::from_be_bytes([m0, m1]) == MAGIC && total == size + HEADER_LEN {
        Ok(size)
    } else {
        Err(Malformed("FortiVPN frame header"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emits_and_parses() {
        let mut buf = [0; DATA_HEADER_LEN];
        emit_header(&mut buf, 0x0021, 84);
        assert_eq!(buf, [0x00, 0x5c, 0x50, 0x50, 0x00, 0x56, 0x00, 0x21]);
        let header = *buf.first_chunk().unwrap();
        assert_eq!(parse_header(header), Ok(86));
        emit_header(&mut buf, 0x0021, MAX_PAYLOAD);
        assert_eq!(parse_header(*buf.first_chunk().unwrap()), Ok(MAX_PAYLOAD + 2));
    }

    #[test]
    fn refuses_every_single_byte_flip() {
        let good = [0x00, 0x5c, 0x50, 0x50, 0x00, 0x56];
        for i in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good;
                bad[i] ^= 1 << bit;
                assert!(parse_header(bad).is_err(), "octet {i}, bit {bit}");
            }
        }
        assert!(parse_header([0xff, 0xff, 0x50, 0x50, 0xff, 0xff]).is_err(), "total cannot hold size + 6");
    }
}
