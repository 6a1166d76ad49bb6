//! Is the peer still there? Any frame from it says so; LCP echoes ask when it is silent.

use std::time::Duration;

use crate::base::Now;

/// Silence after which we ask.
const IDLE: Duration = Duration::from_secs(10);
/// Time between questions, and after the last one.
const GAP: Duration = Duration::from_secs(6);
/// The same after the host slept: the peer may have given up long ago.
const WAKE_GAP: Duration = Duration::from_secs(1);
/// Questions without any sign of life that mean the peer is dead.
const LIMIT: u8 = 3;
/// Growth of `boot - mono` that is no clock noise.
const SLEPT: Duration = Duration::from_secs(2);

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    Wait,
    Ask,
    Dead,
}

/// The state of the watch.
pub(super) struct Watch {
    next: Duration,
    asked: u8,
    gap: Duration,
    /// `boot - mono` when last seen.
    suspended: Duration,
}

impl Watch {
    pub(super) fn new(now: Now) -> Self {
        Self { next: now.mono + IDLE, asked: 0, gap: GAP, suspended: now.boot.saturating_sub(now.mono) }
    }

    /// A valid frame came.
    pub(super) fn heard(&mut self, now: Now) {
        *self = Self::new(now);
    }

    /// The way to the peer may have changed: ask now, and fast. Questions that are under way go on.
    pub(super) fn probe(&mut self, now: Now) {
        if self.gap != WAKE_GAP || self.asked == 0 {
            *self = Self { next: now.mono, gap: WAKE_GAP, ..Self::new(now) };
        }
    }

    pub(super) fn poll_timeout(&self) -> Duration {
        self.next
    }

    /// After a suspend the questions asked before it do not count, and the next ones come fast.
    pub(super) fn check(&mut self, now: Now) -> Check {
        let suspended = now.boot.saturating_sub(now.mono);
        if suspended > self.suspended + SLEPT {
            *self = Self { next: now.mono, asked: 0, gap: WAKE_GAP, suspended };
        }
        if now.mono < self.next {
            return Check::Wait;
        }
        if self.asked >= LIMIT {
            return Check::Dead;
        }
        self.asked += 1;
        self.next = now.mono + self.gap;
        Check::Ask
    }
}

/// A token bucket for answers that the peer can provoke.
pub(super) struct RateLimit {
    tokens: u32,
    since: Duration,
}

/// Answers at once, and per second.
const RATE: u32 = 10;

impl RateLimit {
    pub(super) fn new(now: Duration) -> Self {
        Self { tokens: RATE, since: now }
    }

    pub(super) fn allow(&mut self, now: Duration) -> bool {
        if now >= self.since + Duration::from_secs(1) {
            *self = Self::new(now);
        }
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono: f64, slept: f64) -> Now {
        let (mono, boot) = (Duration::from_secs_f64(mono), Duration::from_secs_f64(mono + slept));
        Now { mono, boot, wall: Duration::ZERO }
    }

    #[test]
    fn dead_after_three_unanswered_questions_within_thirty_seconds() {
        let mut watch = Watch::new(at(0.0, 0.0));
        let mut asked = Vec::new();
        let dead = (1..=400u32).map(|t| f64::from(t) / 10.0).find(|&t| match watch.check(at(t, 0.0)) {
            Check::Ask => {
                asked.push(t);
                false
            }
            check => check == Check::Dead,
        });
        assert_eq!((asked, dead), (vec![10.0, 16.0, 22.0], Some(28.0)));
    }

    #[test]
    fn a_probe_asks_at_once_and_decides_in_three_seconds() {
        let mut watch = Watch::new(at(0.0, 0.0));
        watch.probe(at(5.0, 0.0));
        assert_eq!(watch.check(at(5.0, 0.0)), Check::Ask);
        // More news of the network do not put the decision off.
        for t in [6.0, 7.0] {
            watch.probe(at(t, 0.0));
            assert_eq!(watch.check(at(t, 0.0)), Check::Ask, "{t}");
        }
        assert_eq!(watch.check(at(7.9, 0.0)), Check::Wait);
        assert_eq!(watch.check(at(8.0, 0.0)), Check::Dead);
        let mut watch = Watch::new(at(0.0, 0.0));
        watch.probe(at(5.0, 0.0));
        assert_eq!(watch.check(at(5.0, 0.0)), Check::Ask);
        watch.heard(at(5.1, 0.0));
        assert_eq!((watch.check(at(15.0, 0.0)), watch.poll_timeout().as_secs_f64()), (Check::Wait, 15.1));
    }

    #[test]
    fn an_hour_of_sleep_is_not_silence() {
        let mut watch = Watch::new(at(0.0, 0.0));
        for t in [10.0, 16.0, 22.0] {
            assert_eq!(watch.check(at(t, 0.0)), Check::Ask);
        }
        // Asleep from 23 on. Awake again: asks at once, three times in three seconds.
        for t in [23.0, 24.0, 25.0] {
            assert_eq!(watch.check(at(t, 3600.0)), Check::Ask, "{t}");
        }
        assert_eq!(watch.check(at(26.0, 3600.0)), Check::Dead);
        watch.heard(at(26.0, 3600.0));
        assert_eq!(watch.check(at(27.0, 3600.0)), Check::Wait);
        // Where the monotonic clock runs on in suspend, late is not dead either.
        assert_eq!(watch.check(at(9000.0, 3600.0)), Check::Ask);
        assert_eq!(watch.check(at(9001.0, 3600.0)), Check::Wait);
    }
}
