//! The system's random generator.

use ring::rand::SecureRandom;

use crate::base;

/// The operating system's random generator as a [`base::Random`].
#[derive(Clone, Debug)]
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    /// A handle; it has no state of its own.
    pub fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl base::Random for SystemRandom {
    /// # Panics
    /// If the operating system has no random bytes: nothing safe can be done without.
    #[expect(clippy::expect_used, reason = "the only alternative is predictable keys")]
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill(out).expect("the operating system gives random bytes");
    }
}
