//! What the fuzz targets share: a clock and randomness that repeat, and input cut into events.

pub mod peer;
pub mod world;

use std::time::Duration;

use pterodapter::base::{Now, Random};

/// The wall clock of every run: 2027-01-15.
pub const WALL: Duration = Duration::from_secs(1_800_000_000);

/// The time, so many milliseconds after the start.
pub fn now(millis: u64) -> Now {
    let mono = Duration::from_millis(millis);
    Now { mono, boot: mono, wall: WALL + mono }
}

/// Randomness that is the same in every run: finds must repeat.
#[derive(Default)]
pub struct Counter(u64);

impl Random for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

/// Cuts fuzzer input into events: an octet that says what, two that say how long, and that many octets (or the rest).
pub struct Events<'a>(pub &'a [u8]);

impl<'a> Iterator for Events<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, high, low], rest) = self.0.split_first_chunk::<3>()?;
        let len = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        self.0 = rest;
        Some((kind, bytes))
    }
}
