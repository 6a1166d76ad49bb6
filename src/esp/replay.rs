//! The anti-replay window (RFC 4303 section 3.4.3), with the block bitmap of RFC 6479.

use crate::base::Reason;

/// Sequence numbers that the window remembers.
const WIDTH: u32 = 2048;
const BITS: u32 = u64::BITS;
/// A power of two with room for the window and the block that is being filled: no block serves two ages at once.
const BLOCKS: usize = 64;
const _: () = assert!(BLOCKS as u32 * BITS >= WIDTH + BITS && BLOCKS.is_power_of_two());

/// Which sequence numbers of one inbound SA were seen. 2048 wide; 32-bit numbers, no ESN.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    highest: u32,
    /// Bit `seq % 64` of block `seq / 64 % 64`.
    blocks: [u64; BLOCKS],
}

impl ReplayWindow {
    /// Nothing seen yet.
    pub const fn new() -> Self {
        Self { highest: 0, blocks: [0; BLOCKS] }
    }

    /// The highest number committed; 0 before the first.
    pub const fn highest(&self) -> u32 {
        self.highest
    }

    /// Whether a packet with this number is worth opening.
    ///
    /// # Errors
    /// `EspReplayed` for 0, for numbers seen, and for numbers older than the window.
    #[inline]
    pub fn check(&self, seq: u32) -> Result<(), Reason> {
        if seq > self.highest {
            return Ok(());
        }
        let too_old = seq == 0 || self.highest - seq >= WIDTH;
        if too_old || self.block(seq) & bit(seq) != 0 { Err(Reason::EspReplayed) } else { Ok(()) }
    }

    /// Marks the number of an authentic packet as seen. It tests again, because a copy may have been in flight.
    ///
    /// # Errors
    /// As [`ReplayWindow::check`]; then nothing changes.
    #[inline]
    pub fn commit(&mut self, seq: u32) -> Result<(), Reason> {
        self.check(seq)?;
        if seq > self.highest {
            let (from, to) = (self.highest / BITS, seq / BITS);
            // Numbers in the blocks after `from` are new; what these blocks held is out of the window.
            for number in 1..=(to - from).min(BLOCKS as u32) {
                *self.block_mut((from + number) * BITS) = 0;
            }
            self.highest = seq;
        }
        *self.block_mut(seq) |= bit(seq);
        Ok(())
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length")]
    fn block(&self, seq: u32) -> u64 {
        self.blocks[(seq / BITS) as usize % BLOCKS]
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length")]
    fn block_mut(&mut self, seq: u32) -> &mut u64 {
        &mut self.blocks[(seq / BITS) as usize % BLOCKS]
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
const fn bit(seq: u32) -> u64 {
    1 << (seq % BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The definition, with unlimited memory.
    #[derive(Default)]
    struct Model(BTreeSet<u32>);

    impl Model {
        fn commit(&mut self, seq: u32) -> bool {
            let highest = self.0.last().copied().unwrap_or(0);
            let in_window = u64::from(seq) + u64::from(WIDTH) > u64::from(highest);
            let fresh = seq != 0 && in_window && !self.0.contains(&seq);
            if fresh {
                self.0.insert(seq);
                self.0 = self.0.split_off(&seq.max(highest).saturating_sub(2 * WIDTH));
            }
            fresh
        }
    }

    /// xorshift64: the same steps in every run.
    struct Steps(u64);

    impl Steps {
        fn below(&mut self, limit: u32) -> u32 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 32) as u32 % limit
        }
    }

    fn compare(start: u32, count: usize, seed: u64) {
        let (mut window, mut model, mut steps) = (ReplayWindow::new(), Model::default(), Steps(seed));
        let mut base = start;
        for _ in 0..count {
            let seq = match steps.below(100) {
                0..60 => base.saturating_add(1),
                60..75 => base.saturating_sub(steps.below(70)),
                75..90 => base.saturating_sub(steps.below(WIDTH + 100)),
                90..97 => base.saturating_add(steps.below(200)),
                97..99 => base.saturating_sub(WIDTH - 2 + steps.below(4)),
                _ => base.saturating_add(steps.below(3 * WIDTH)),
            };
            let checked = window.check(seq);
            let fresh = model.commit(seq);
            assert_eq!(checked.is_ok(), fresh, "check {seq} after {}", window.highest());
            assert_eq!(window.commit(seq), checked, "commit {seq}");
            if fresh {
                base = base.max(seq);
                assert_eq!(Some(&window.highest()), model.0.last());
                assert_eq!(window.commit(seq), Err(Reason::EspReplayed), "{seq} twice");
            }
        }
    }

    #[test]
    fn agrees_with_the_definition() {
        compare(0, 400_000, 1);
        compare(1 << 31, 300_000, 2);
        // Runs into the last number and stays there.
        compare(u32::MAX - 100_000, 300_000, 3);
    }

    #[test]
    fn takes_each_number_of_any_order_within_the_window_once() {
        let mut steps = Steps(7);
        for first in [1, 63, 64, 5000, u32::MAX - WIDTH + 1] {
            let mut order: Vec<u32> = (0..WIDTH).map(|n| first + n).collect();
            for i in (1..order.len()).rev() {
                order.swap(i, steps.below(i as u32 + 1) as usize);
            }
            let mut window = ReplayWindow::new();
            assert!(order.iter().all(|seq| window.commit(*seq).is_ok()));
            assert!(order.iter().all(|seq| window.commit(*seq).is_err()));
        }
    }

    /// N61.
    #[test]
    fn n61_zero_repeated_old_and_far_ahead() {
        let mut window = ReplayWindow::new();
        let replayed = Err(Reason::EspReplayed);
        assert_eq!(window.check(0), replayed, "0 before anything");
        for seq in 1..=WIDTH + 10 {
            window.commit(seq).unwrap();
        }
        let (last, oldest) = (WIDTH + 10, 11);
        for seq in [0, last, oldest, oldest - 1, 1] {
            assert_eq!((window.check(seq), window.commit(seq)), (replayed, replayed), "{seq}");
        }
        // A jump by half of the numbers: what lies behind the window is gone, what lies in it is new.
        let far = last + (1 << 31);
        window.commit(far).unwrap();
        for (seq, expected) in [
            (far, replayed),
            (far - WIDTH, replayed),
            (last, replayed),
            (far - WIDTH + 1, Ok(())),
            (far - 1, Ok(())),
        ] {
            assert_eq!(window.commit(seq), expected, "{seq} after the jump");
            assert_eq!(window.commit(seq), replayed, "{seq} again");
        }
        // One that comes late does not open the window for those that were there before it.
        let mut window = ReplayWindow::new();
        let on_time: Vec<u32> = (1..=300).filter(|seq| *seq != 7).collect();
        on_time.iter().for_each(|seq| window.commit(*seq).unwrap());
        window.commit(7).unwrap();
        assert!((0..=300).all(|seq| window.commit(seq).is_err()), "a replay of all");
        assert_eq!(window.highest(), 300);
        // At the end of the numbers.
        window.commit(u32::MAX).unwrap();
        assert_eq!(window.check(u32::MAX - WIDTH), replayed);
        assert_eq!(window.commit(u32::MAX - WIDTH + 1), Ok(()));
        assert_eq!((window.check(u32::MAX), window.highest()), (replayed, u32::MAX));
    }
}
