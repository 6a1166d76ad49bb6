//! The clocks. The only place that reads the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::Now;

use super::sys;

/// Reads all clocks; `mono` counts from its creation. Copies of one clock agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    boot_origin: Duration,
}

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "this is where time enters")]
    pub fn start() -> Self {
        Self { origin: Instant::now(), boot_origin: sys::boot_time().unwrap_or_default() }
    }

    /// The present time.
    pub fn now(&self) -> Now {
        let mono = self.origin.elapsed();
        let boot = sys::boot_time().map_or(mono, |boot| boot.saturating_sub(self.boot_origin));
        Now { mono, boot, wall: self.wall() }
    }

    /// The wall clock alone, since 1970-01-01 UTC.
    #[expect(clippy::disallowed_methods, reason = "this is where time enters")]
    pub fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
