//! A token bucket for answers that strangers can provoke.

use std::time::Duration;

/// Lets through `per_second` events on average and `burst` at once.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// Time that one token takes to come back.
    interval: Duration,
    /// A full bucket, as the time that it takes to fill.
    depth: Duration,
    /// When the bucket will be full again.
    full_at: Duration,
}

impl RateLimit {
    /// A full bucket. Both figures count as at least 1.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, depth: interval * burst.max(1), full_at: Duration::ZERO }
    }

    /// Takes a token at `now` (monotonic). False where there is none.
    pub fn allow(&mut self, now: Duration) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let allowed = full_at <= now + self.depth;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_average() {
        let mut limit = RateLimit::new(10, 3);
        let at = |ms: u64| Duration::from_millis(5_000 + ms);
        let passed = |limit: &mut RateLimit, ms: u64| (0..100).filter(|_| limit.allow(at(ms))).count();
        assert_eq!(passed(&mut limit, 0), 3);
        assert_eq!(passed(&mut limit, 99), 0);
        assert_eq!(passed(&mut limit, 100), 1);
        assert_eq!(passed(&mut limit, 300), 2);
        assert_eq!(passed(&mut limit, 60_000), 3);
    }
}
