//! What the daemon counts: written by the event loop, read by anyone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::base::Reason;

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Counters of one daemon. Relaxed atomics with one writer: reading never disturbs the packet path.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[$doc])* pub $field: AtomicU64,)*
            drops: [AtomicU64; Reason::ALL.len()],
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($field: AtomicU64::new(0),)*
                    drops: [const { AtomicU64::new(0) }; Reason::ALL.len()],
                }
            }
        }

        /// The counters at one moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Snapshot {
            $($(#[$doc])* pub $field: u64,)*
            /// Drops by reason; only those that happened.
            pub drops: BTreeMap<String, u64>,
        }

        impl Counters {
            /// Reads all counters.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot {
                    $($field: self.$field.load(Ordering::Relaxed),)*
                    drops: Reason::ALL
                        .iter()
                        .map(|reason| (reason.name().to_owned(), self.dropped(*reason)))
                        .filter(|(_, count)| *count > 0)
                        .collect(),
                }
            }
        }
    };
}

counters! {
    /// Inner packets from devices that were forwarded.
    up_packets,
    /// Their octets.
    up_bytes,
    /// Inner packets sent to devices.
    down_packets,
    /// Their octets.
    down_bytes,
    /// Jobs done on the event loop.
    jobs_inline,
    /// Jobs given to a worker.
    jobs_offloaded,
    /// Turns of the event loop.
    turns,
    /// Datagrams handed to the IKE thread.
    ike_datagrams,
}

impl Counters {
    /// Counts one dropped packet.
    pub fn count_drop(&self, reason: Reason) {
        self.count_drops(reason, 1);
    }

    /// Counts dropped packets.
    pub fn count_drops(&self, reason: Reason, count: u64) {
        if let Some(counter) = self.drops.get(reason.index()) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops.get(reason.index()).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
