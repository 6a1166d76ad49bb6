//! Where packets are copied on their way: while somebody captures, and at no other time, there is a [`Tap`].

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::engine::Clock;
use crate::wire::pcapng::Heading;

/// Packets that may wait for the writer of a capture.
pub const MAX_PACKETS: usize = 4096;
/// Their octets.
pub const MAX_OCTETS: usize = 8 << 20;
/// The two sides of the translator, as a capture file has them.
pub const SIDES: [(&str, &str); 2] = [
    ("devices", "what devices sent and got, inside ESP"),
    ("company", "what went to the company and came from there, inside PPP"),
];

/// A place that packets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Decrypted, nothing checked or changed yet.
    FromDevice,
    /// About to be encrypted.
    ToDevice,
    /// Translated, on its way into PPP.
    ToCompany,
    /// Out of PPP, not yet translated.
    FromCompany,
}

impl Point {
    /// Position in `SIDES`.
    pub fn side(self) -> usize {
        usize::from(matches!(self, Self::ToCompany | Self::FromCompany))
    }

    /// Seen from us.
    pub fn heading(self) -> Heading {
        match self {
            Self::FromDevice | Self::FromCompany => Heading::Inbound,
            Self::ToDevice | Self::ToCompany => Heading::Outbound,
        }
    }
}

/// The copy of a packet.
#[derive(Debug)]
pub struct Captured {
    /// Where it passed.
    pub point: Point,
    /// When (wall clock, since 1970).
    pub time: Duration,
    /// Packets of its side that were lost before it.
    pub lost: u64,
    /// All of it.
    pub bytes: Box<[u8]>,
}

/// Packets on their way to the writer of one capture. Nobody waits here: what does not fit is counted.
#[derive(Debug)]
pub struct Queue {
    packets: ArrayQueue<Captured>,
    octets: AtomicUsize,
    /// Packets lost since the last one that fitted, by side.
    lost: [AtomicU64; 2],
}

impl Default for Queue {
    fn default() -> Self {
        let (octets, lost) = (AtomicUsize::new(0), [const { AtomicU64::new(0) }; 2]);
        Self { packets: ArrayQueue::new(MAX_PACKETS), octets, lost }
    }
}

impl Queue {
    fn push(&self, point: Point, time: Duration, bytes: &[u8]) {
        let [devices, company] = &self.lost;
        let lost = if point.side() == 0 { devices } else { company };
        let fits = self.octets.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len() <= MAX_OCTETS;
        if fits && !self.packets.is_full() {
            let before = lost.swap(0, Ordering::Relaxed);
            let captured = Captured { point, time, lost: before, bytes: bytes.into() };
            if self.packets.push(captured).is_ok() {
                return;
            }
            // Another thread took the last place.
            lost.fetch_add(before, Ordering::Relaxed);
        }
        self.octets.fetch_sub(bytes.len(), Ordering::Relaxed);
        lost.fetch_add(1, Ordering::Relaxed);
    }

    /// The oldest packet.
    pub fn pop(&self) -> Option<Captured> {
        let captured = self.packets.pop()?;
        self.octets.fetch_sub(captured.bytes.len(), Ordering::Relaxed);
        Some(captured)
    }

    /// Packets that were lost and not yet told with a packet, by side.
    pub fn take_lost(&self) -> [u64; 2] {
        self.lost.each_ref().map(|lost| lost.swap(0, Ordering::Relaxed))
    }
}

/// A running capture, as packets see it.
#[derive(Debug)]
pub struct Branch {
    /// Inner addresses of the devices whose packets are wanted; `None` for all packets.
    pub wanted: Option<Vec<Ipv4Addr>>,
    /// Where they go.
    pub queue: Arc<Queue>,
}

/// All running captures. It never changes: another takes its place when one begins or ends, or a device comes or goes.
#[derive(Debug)]
pub struct Tap {
    /// Gives the packets their times.
    pub clock: Clock,
    /// The captures.
    pub branches: Vec<Branch>,
}

impl Tap {
    /// Copies a packet for who wants it. `device` is the inner IPv4 address of the device that it belongs to; packets
    /// of the in-tunnel host, or of nobody, have none.
    pub fn record(&self, point: Point, device: Option<Ipv4Addr>, packet: &[u8]) {
        self.copy(point, packet, |wanted| wanted.is_none_or(|wanted| is_in(wanted, device)));
    }

    /// The same for a packet that was recorded before, when it was not known whose it is.
    pub fn record_late(&self, point: Point, device: Ipv4Addr, packet: &[u8]) {
        self.copy(point, packet, |wanted| wanted.is_some_and(|wanted| is_in(wanted, Some(device))));
    }

    fn copy(&self, point: Point, packet: &[u8], is_for: impl Fn(Option<&[Ipv4Addr]>) -> bool) {
        let mut time = None;
        for branch in &self.branches {
            if is_for(branch.wanted.as_deref()) {
                let time = *time.get_or_insert_with(|| self.clock.wall());
                branch.queue.push(point, time, packet);
            }
        }
    }
}

fn is_in(wanted: &[Ipv4Addr], device: Option<Ipv4Addr>) -> bool {
    device.is_some_and(|device| wanted.contains(&device))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
    const B: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 3);

    fn tap(wanted: &[Option<&[Ipv4Addr]>]) -> (Tap, Vec<Arc<Queue>>) {
        let queues: Vec<Arc<Queue>> = wanted.iter().map(|_| Arc::default()).collect();
        let branches = wanted.iter().zip(&queues);
        let branch =
            |(w, q): (&Option<&[Ipv4Addr]>, _)| Branch { wanted: w.map(Into::into), queue: Arc::clone(q) };
        (Tap { clock: Clock::start(), branches: branches.map(branch).collect() }, queues)
    }

    fn contents(queue: &Queue) -> Vec<Box<[u8]>> {
        std::iter::from_fn(|| queue.pop()).map(|captured| captured.bytes).collect()
    }

    #[test]
    fn each_capture_gets_the_packets_of_its_devices() {
        let (tap, queues) = tap(&[None, Some(&[A]), Some(&[A, B]), Some(&[])]);
        tap.record(Point::FromDevice, Some(A), b"a");
        tap.record(Point::ToCompany, Some(B), b"b");
        tap.record(Point::FromCompany, None, b"host");
        tap.record_late(Point::FromCompany, A, b"late");
        let expected: [&[&[u8]]; 4] = [&[b"a", b"b", b"host"], &[b"a", b"late"], &[b"a", b"b", b"late"], &[]];
        for (queue, expected) in queues.iter().zip(expected) {
            assert!(contents(queue).iter().map(|bytes| &**bytes).eq(expected.iter().copied()));
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_by_side_and_told_with_the_next_packet() {
        let (tap, queues) = tap(&[None]);
        for _ in 0..MAX_PACKETS + 3 {
            tap.record(Point::ToDevice, Some(A), &[1; 100]);
        }
        for _ in 0..2 {
            tap.record(Point::FromCompany, Some(A), b"2");
        }
        let queue = &queues[0];
        assert_eq!(queue.pop().unwrap().lost, 0);
        tap.record(Point::FromDevice, Some(A), b"3");
        let mut rest: Vec<Captured> = std::iter::from_fn(|| queue.pop()).collect();
        let last = rest.pop().unwrap();
        assert_eq!((rest.len(), last.lost, &*last.bytes), (MAX_PACKETS - 1, 3, &b"3"[..]));
        assert!(rest.iter().all(|captured| captured.lost == 0));
        assert_eq!((queue.take_lost(), queue.octets.load(Ordering::Relaxed)), ([0, 2], 0));
    }

    #[test]
    fn octets_are_bounded_too() {
        let (tap, queues) = tap(&[None]);
        let packet = vec![0; 64 << 10];
        for _ in 0..2 * MAX_OCTETS / packet.len() {
            tap.record(Point::ToDevice, Some(A), &packet);
        }
        assert_eq!(queues[0].packets.len(), MAX_OCTETS / packet.len());
        tap.record(Point::ToDevice, Some(A), b"x");
        assert_eq!(queues[0].take_lost(), [(MAX_OCTETS / packet.len()) as u64 + 1, 0]);
    }

    #[test]
    fn threads_that_push_at_once_lose_no_count() {
        let (tap, queues) = tap(&[None]);
        let threads = 4_u64;
        let each = MAX_PACKETS as u64;
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..each).for_each(|_| tap.record(Point::ToDevice, Some(A), b"x")));
            }
        });
        let [lost, _] = queues[0].take_lost();
        let (mut kept, mut told) = (0, 0);
        while let Some(captured) = queues[0].pop() {
            (kept, told) = (kept + 1, told + captured.lost);
        }
        assert_eq!((kept, kept + told + lost), (each, threads * each));
    }
}
