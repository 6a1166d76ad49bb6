//! Outbound sequence numbers (RFC 4303 section 2.2): from 1, never twice, never past 2^32 - 1.

/// A rekey should start when this many numbers are used.
const SOFT_LIMIT: u32 = 1 << 31;

/// The counter of one outbound SA.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// The last number given out.
    last: u32,
    told: bool,
}

impl Sequence {
    /// The first number will be 1.
    pub const fn new() -> Self {
        Self { last: 0, told: false }
    }

    /// Gives out `count` numbers in a row and returns the first; `None` when so many are not left, and then the SA
    /// must not send any more.
    #[inline]
    pub fn reserve(&mut self, count: u32) -> Option<u32> {
        let last = self.last.checked_add(count)?;
        let first = self.last.checked_add(1)?;
        self.last = last;
        Some(first)
    }

    /// True once, when half of the numbers are used: time to rekey.
    #[inline]
    pub fn take_nearly_exhausted(&mut self) -> bool {
        let due = self.last >= SOFT_LIMIT && !self.told;
        self.told |= due;
        due
    }
}

impl Default for Sequence {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_one_and_stops_before_the_wrap() {
        let mut sequence = Sequence::new();
        assert_eq!(
            [sequence.reserve(1), sequence.reserve(10), sequence.reserve(1)],
            [Some(1), Some(2), Some(12)]
        );
        assert!(!sequence.take_nearly_exhausted());
        assert_eq!(sequence.reserve(u32::MAX - 13), Some(13));
        assert!(sequence.take_nearly_exhausted());
        assert!(!sequence.take_nearly_exhausted(), "told once");
        assert_eq!(sequence.reserve(2), None);
        assert_eq!(sequence.reserve(1), Some(u32::MAX));
        assert_eq!(sequence.reserve(1), None);
    }
}
