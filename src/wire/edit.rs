//! Fields read and changed in place, with the checksums that cover them.

use super::checksum;

/// The octet at `at`.
pub fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// The big-endian 16-bit field at `at`.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|field| u16::from_be_bytes(*field))
}

/// Overwrites `N` octets at `at`.
pub fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut::<N>()? = value;
    Some(())
}

/// What changed under a checksum: the sums of the words before and after.
///
/// Offsets count from a point at an even distance from the start of the covered range (all headers here begin so).
#[derive(Clone, Copy, Debug, Default)]
pub struct Edit {
    old: u64,
    new: u64,
}

impl Edit {
    /// Overwrites `N` octets (`N` even) at `at` and remembers the change.
    pub fn replace<const N: usize>(&mut self, bytes: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
        let field = bytes.get_mut(at..)?.first_chunk_mut::<N>()?;
        let (mut old, mut new) = (checksum::sum(field, 0), checksum::sum(&value, 0));
        if at % 2 == 1 {
            // The field straddles words: its octets weigh the other way round (RFC 1071, byte order independence).
            old = u64::from(checksum::fold(old).swap_bytes());
            new = u64::from(checksum::fold(new).swap_bytes());
        }
        *field = value;
        self.old += old;
        self.new += new;
        Some(())
    }

    /// Joins the changes of `other` to these.
    pub fn add(&mut self, other: Self) {
        self.old += other.old;
        self.new += other.new;
    }

    /// The checksum `field` after this edit.
    pub fn checksum(&self, field: u16) -> u16 {
        checksum::update(field, self.old, self.new)
    }

    /// Brings the checksum field at `at` up to date, and returns that change (an enclosing checksum may cover it).
    pub fn update(&self, bytes: &mut [u8], at: usize) -> Option<Self> {
        let mut edit = Self::default();
        edit.replace(bytes, at, self.checksum(u16_at(bytes, at)?).to_be_bytes())?;
        Some(edit)
    }

    /// True when nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.old == self.new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_at_even_and_odd_offsets_keep_the_checksum_right() {
        for at in 2..7 {
            let mut bytes = [0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde];
            let sum = checksum::of(&bytes).to_be_bytes();
            put(&mut bytes, 0, sum).unwrap();
            let mut edit = Edit::default();
            edit.replace(&mut bytes, at, [0xca, 0xfe]).unwrap();
            edit.update(&mut bytes, 0).unwrap();
            assert_eq!(checksum::of(&bytes), 0, "at {at}");
        }
    }

    #[test]
    fn fields_beyond_the_end_are_refused() {
        let mut bytes = [1, 2, 3];
        assert_eq!(u16_at(&bytes, 2), None);
        assert_eq!(u16_at(&bytes, usize::MAX), None);
        assert_eq!(put(&mut bytes, 2, [0, 0]), None);
        assert_eq!(Edit::default().replace(&mut bytes, 9, [0, 0]), None);
    }
}
