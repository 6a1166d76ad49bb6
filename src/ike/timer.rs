//! A table of timers: one deadline per key, the earliest first.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// Deadlines by key, in monotonic time.
#[derive(Debug)]
pub(super) struct Timers<K> {
    queue: BTreeSet<(Duration, K)>,
    deadlines: HashMap<K, Duration>,
}

impl<K: Copy + Ord + Hash> Timers<K> {
    pub(super) fn new() -> Self {
        Self { queue: BTreeSet::new(), deadlines: HashMap::new() }
    }

    /// Sets or moves the deadline of `key`.
    pub(super) fn set(&mut self, key: K, at: Duration) {
        self.cancel(key);
        self.queue.insert((at, key));
        self.deadlines.insert(key, at);
    }

    /// Forgets `key`.
    pub(super) fn cancel(&mut self, key: K) {
        if let Some(at) = self.deadlines.remove(&key) {
            self.queue.remove(&(at, key));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes the earliest key whose deadline has come.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<K> {
        let (at, key) = *self.queue.first()?;
        (at <= now).then(|| {
            self.cancel(key);
            key
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_order_and_only_the_last_deadline_of_a_key() {
        let second = Duration::from_secs;
        let mut timers = Timers::new();
        timers.set('a', second(1));
        timers.set('b', second(2));
        timers.set('c', second(3));
        timers.set('a', second(4));
        timers.cancel('c');
        assert_eq!(timers.next(), Some(second(2)));
        assert_eq!(timers.pop_due(second(1)), None);
        assert_eq!((timers.pop_due(second(9)), timers.pop_due(second(9))), (Some('b'), Some('a')));
        assert_eq!((timers.pop_due(second(9)), timers.next()), (None, None));
    }
}
