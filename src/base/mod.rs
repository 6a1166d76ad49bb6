//! What every layer shares: time, randomness, reasons to drop, and the plain value in which `ike` and `esp` meet.

mod child_sa;
mod date;
mod reason;

pub use child_sa::{ChildSa, DeviceId, Path, TrafficSelector};
pub use date::Date;
pub use reason::Reason;

use std::time::Duration;

/// The time, as the cores see it. All three are durations since an origin of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic clock, for timers and timeouts. Stands still while the host is suspended (on Linux).
    pub mono: Duration,
    /// Monotonic clock that goes on while the host is suspended. `boot - mono` grows by the length of a suspend.
    pub boot: Duration,
    /// Wall clock, since 1970-01-01 UTC; for certificates only.
    pub wall: Duration,
}

/// A source of unpredictable bytes. The engine gives the system's; tests may give a deterministic one.
pub trait Random: Send {
    /// Fills `out` entirely.
    fn fill(&mut self, out: &mut [u8]);
}
