//! A fast keyed hash for table keys of a few octets. Peers choose the keys, so the hash has a secret of its own.

use std::hash::{BuildHasher, Hasher};

use crate::base::Random;

/// The secret, and the maker of hashers for `HashMap`.
#[derive(Clone)]
pub(super) struct Keyed {
    start: u64,
    multiplier: u64,
    finish: u64,
}

impl Keyed {
    /// A fresh secret.
    pub(super) fn new(rng: &mut dyn Random) -> Self {
        let mut word = || {
            let mut bytes = [0; 8];
            rng.fill(&mut bytes);
            u64::from_ne_bytes(bytes)
        };
        Self { start: word(), multiplier: word() | 1, finish: word() | 1 }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer { state: self.start, multiplier: self.multiplier, finish: self.finish }
    }
}

/// Multiplies 64 x 64 bits and folds the halves: every input bit reaches every output bit.
const fn folded_multiply(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The running hash.
pub(super) struct Mixer {
    state: u64,
    multiplier: u64,
    finish: u64,
}

impl Hasher for Mixer {
    fn write_u64(&mut self, word: u64) {
        self.state = folded_multiply(self.state ^ word, self.multiplier);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(word.into());
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            self.write_u64(chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn finish(&self) -> u64 {
        folded_multiply(self.state, self.finish)
    }
}
