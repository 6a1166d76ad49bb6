//! The parts of the TCP header (RFC 9293) that translation and MSS clamping need.

use super::edit::{u8_at, u16_at};

/// Length of a header without options.
pub const HEADER_LEN: usize = 20;
/// Offset of the checksum in the header.
pub const CHECKSUM: usize = 16;

/// The FIN bit of [`flags`].
pub const FIN: u8 = 0x01;
/// The SYN bit of [`flags`].
pub const SYN: u8 = 0x02;
/// The RST bit of [`flags`].
pub const RST: u8 = 0x04;
/// The ACK bit of [`flags`].
pub const ACK: u8 = 0x10;

/// The control bits of a segment.
pub fn flags(segment: &[u8]) -> Option<u8> {
    u8_at(segment, 13)
}

/// Offset, in the segment, of the value of the maximum segment size option, and the value. `None` where there is no
/// such option or the options are malformed.
pub fn mss(segment: &[u8]) -> Option<(usize, u16)> {
    let header_len = usize::from(u8_at(segment, 12)? >> 4) * 4;
    let header = segment.get(..header_len)?;
    let mut at = HEADER_LEN;
    loop {
        match u8_at(header, at)? {
            0 => return None,
            1 => at += 1,
            2 if u8_at(header, at + 1)? == 4 => return Some((at + 2, u16_at(header, at + 2)?)),
            _ => at += usize::from(u8_at(header, at + 1)?.max(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mss_option_is_found_wherever_it_stands() {
        type Case<'a> = (&'a [u8], Option<(usize, u16)>);
        let cases: &[Case<'_>] = &[
            (&[], None),
            (&[2, 4, 5, 0xb4], Some((22, 1460))),
            (&[1, 2, 4, 5, 0xb4, 0, 0, 0], Some((23, 1460))),
            (&[4, 2, 3, 3, 7, 1, 2, 4, 5, 0xb4, 0, 0], Some((28, 1460))),
            (&[0, 2, 4, 5], None),
            (&[8, 0, 2, 4, 5, 0xb4, 0, 0], Some((24, 1460))),
            (&[8, 200, 2, 4], None),
            (&[2, 3, 5, 1], None),
            (&[1, 1, 1, 2], None),
            (&[1, 2, 4, 5], None),
        ];
        for (options, expected) in cases {
            let mut segment = vec![0; 20];
            segment[12] = (((20 + options.len()) / 4) << 4) as u8;
            segment.extend_from_slice(options);
            assert_eq!(mss(&segment), *expected, "{options:?}");
            for len in 0..segment.len() {
                assert_eq!(mss(&segment[..len]), None);
            }
        }
    }
}
