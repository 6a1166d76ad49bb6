//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// One's complement sum of `bytes` added to `sum`, not yet folded. An odd last octet counts as if a zero followed:
/// only the last piece of a message may be odd. At most 128 KiB in total before folding is safe by far.
pub fn sum(bytes: &[u8], sum: u64) -> u64 {
    let (words, tail) = bytes.as_chunks::<4>();
    let mut total = sum;
    for word in words {
        total += u64::from(u32::from_be_bytes(*word));
    }
    let (halves, last) = tail.as_chunks::<2>();
    for half in halves {
        total += u64::from(u16::from_be_bytes(*half));
    }
    if let [byte] = last {
        total += u64::from(*byte) << 8;
    }
    total
}

/// Folds a sum to 16 bits (not complemented).
pub const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum field for `bytes`: the complement of their folded sum.
pub fn of(bytes: &[u8]) -> u16 {
    !fold(sum(bytes, 0))
}

/// The unfolded sum of an IPv4 pseudo header (RFC 768, RFC 9293).
pub fn pseudo_v4(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u16) -> u64 {
    sum(&src, 0) + sum(&dst, 0) + u64::from(protocol) + u64::from(len)
}

/// The unfolded sum of an IPv6 pseudo header (RFC 8200 section 8.1).
pub fn pseudo_v6(src: [u8; 16], dst: [u8; 16], next_header: u8, len: u32) -> u64 {
    sum(&src, 0) + sum(&dst, 0) + u64::from(next_header) + u64::from(len)
}

/// The checksum field after some covered 16-bit words changed: `old` and `new` are unfolded sums of the words
/// before and after (RFC 1624, equation 3). A right checksum stays right and a wrong one stays as wrong.
pub const fn update(field: u16, old: u64, new: u64) -> u16 {
    let removed = !fold(old) as u64;
    !fold((!field) as u64 + removed + fold(new) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes, 0)), 0xddf2);
        assert_eq!(of(&[0x12]), !0x1200);
    }

    #[test]
    fn update_equals_recomputation() {
        let mut bytes = *b"\x45\x00\x00\x73\x00\x00\x40\x00\x40\x11\xc0\xa8\x00\x01\xc0\xa8\x00\xc7";
        let before = of(&bytes);
        let old = sum(&bytes[10..14], 0);
        bytes[10..14].copy_from_slice(&[10, 9, 8, 7]);
        assert_eq!(update(before, old, sum(&bytes[10..14], 0)), of(&bytes));
    }
}
