//! When to try again.

use std::time::Duration;

use super::config::Reuse;
use crate::base::Random;

/// Seconds before the next try after a failure, and after each further one.
const BACKOFF: [u64; 7] = [1, 2, 4, 8, 15, 30, 60];
/// Milliseconds before a tunnel is opened again with the same cookie.
const RESUME: [u64; 3] = [500, 1000, 2000];

/// Time to wait after `failures` failures in a row before this one, with 20 % of jitter.
pub(super) fn backoff(failures: usize, rng: &mut dyn Random) -> Duration {
    let seconds = BACKOFF.get(failures).or(BACKOFF.last()).copied().unwrap_or(60);
    jitter(Duration::from_secs(seconds), rng)
}

/// 80 % to 120 % of `time`.
pub(super) fn jitter(time: Duration, rng: &mut dyn Random) -> Duration {
    let mut byte = [0];
    rng.fill(&mut byte);
    let [byte] = byte;
    time.mul_f64(0.8 + 0.4 * f64::from(byte) / 255.0)
}

/// A tunnel that was up and went down: how its cookie may be used again.
pub(super) struct Drop {
    /// When, on the clock that goes on in suspend.
    at: Duration,
    tried: usize,
    refetched: bool,
    reuse: Reuse,
}

impl Drop {
    pub(super) fn new(at: Duration, reuse: Reuse) -> Self {
        Self { at, tried: 0, refetched: false, reuse }
    }

    /// Time to wait before the tunnel is opened with the old cookie, or `None` to sign in anew. Where the gateway
    /// promises nothing, or its window is over, one try is cheap and harmless.
    pub(super) fn next_resume(&self, now: Duration, rng: &mut dyn Random) -> Option<Duration> {
        let promised = self.reuse.allowed && now.saturating_sub(self.at) < self.reuse.window;
        let allowance = if promised { RESUME.len() } else { 1 };
        let delay = RESUME.get(self.tried).filter(|_| self.tried < allowance)?;
        Some(jitter(Duration::from_millis(*delay), rng))
    }

    /// The cookie is being used.
    pub(super) fn tried(&mut self) {
        self.tried += 1;
    }

    /// True once: the gateway that allows re-use refused the tunnel, so ask it for the configuration again. A second
    /// time would only get `error` for an address.
    pub(super) fn may_refetch(&mut self) -> bool {
        self.reuse.allowed && !std::mem::replace(&mut self.refetched, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);

    impl Random for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    #[test]
    fn backoff_grows_to_a_minute_with_jitter() {
        let seconds = |failures, byte| backoff(failures, &mut Fixed(byte)).as_secs_f64();
        assert!((seconds(0, 0) - 0.8).abs() < 1e-9 && (seconds(0, 255) - 1.2).abs() < 1e-9);
        assert!((seconds(4, 255) - 18.0).abs() < 1e-9);
        for failures in [6, 7, 1000] {
            assert!((seconds(failures, 0) - 48.0).abs() < 1e-9);
        }
    }

    #[test]
    fn cookie_is_tried_three_times_in_the_window_and_once_without_promise() {
        let at = Duration::from_secs(100);
        let run = |allowed, now| {
            let mut drop = Drop::new(at, Reuse { allowed, ..Reuse::default() });
            let mut tries = 0;
            while drop.next_resume(now, &mut Fixed(0)).is_some() {
                drop.tried();
                tries += 1;
            }
            (tries, drop.may_refetch(), drop.may_refetch())
        };
        assert_eq!(run(true, at + Duration::from_secs(29)), (3, true, false));
        assert_eq!(run(true, at + Duration::from_secs(30)), (1, true, false));
        assert_eq!(run(false, at), (1, false, false));
    }
}
