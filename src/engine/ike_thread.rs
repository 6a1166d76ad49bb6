//! The IKE thread: owns the responder, because one RSA signature takes as long as thousands of packets.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select, unbounded};

use crate::base::{DeviceId, Path, Reason};
use crate::ike::{ClientPlan, Identity, Input, Output, Responder, Stats};

use super::Clock;
use super::status::Level;
use super::worker::LoopWaker;

/// Datagrams that may wait; more are dropped, and the peer retransmits.
const DATAGRAMS: usize = 256;
/// The loop hears of changed figures at most this often.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// The thread looks at its timers at least this often.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Notices to the responder. Their number is bounded by the number of SAs, so none is ever dropped.
#[derive(Debug)]
pub enum Notice {
    /// The SA with this inbound SPI is registered.
    Installed(u32),
    /// Authenticated ESP came from the device.
    Alive(DeviceId),
    /// Authenticated ESP came from a new address.
    Moved(DeviceId, Path),
    /// The outbound sequence numbers of an SA run out.
    NearlyExhausted(u32),
    /// What clients get from now on.
    Plan(ClientPlan),
    /// End the device's connection.
    Disconnect(DeviceId),
    /// Who we are and whom we let in from now on.
    Identity(Box<Identity>),
    /// Delete every SA and take no new ones.
    Shutdown,
}

/// What the responder tells the loop.
#[derive(Debug)]
pub enum Report {
    /// Something to do.
    Output(Output),
    /// After `Notice::Shutdown`: every peer has answered or was given up.
    Idle,
    /// The responder's figures have changed.
    Stats(Stats),
    /// The thread has ended, though nobody wanted it.
    Ended,
}

/// The thread as the event loop sees it. Ends when this is dropped.
#[derive(Debug)]
pub struct IkeThread {
    datagrams: Sender<(Path, Vec<u8>)>,
    notices: Sender<Notice>,
    reports: Receiver<Report>,
    stats: Stats,
    thread: Option<JoinHandle<()>>,
}

impl IkeThread {
    /// Starts the thread.
    pub fn start(responder: Responder, clock: Clock, waker: Arc<LoopWaker>) -> io::Result<Self> {
        let (datagrams, datagrams_in) = bounded(DATAGRAMS);
        let (notices, notices_in) = unbounded();
        let (reports_out, reports) = unbounded();
        let thread = thread::Builder::new().name("ike".into()).spawn(move || {
            Mailbox { datagrams: datagrams_in, notices: notices_in, reports: reports_out, waker }
                .run(responder, clock);
        })?;
        Ok(Self { datagrams, notices, reports, stats: Stats::default(), thread: Some(thread) })
    }

    /// Hands over a datagram without its marker.
    pub fn datagram(&self, path: Path, bytes: &[u8]) -> Result<(), Reason> {
        match self.datagrams.try_send((path, bytes.to_vec())) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Reason::IkeFull),
        }
    }

    /// Hands over a notice.
    pub fn notice(&self, notice: Notice) {
        // Fails only where the thread has ended, and then the loop ends too.
        let _ = self.notices.send(notice);
    }

    /// What the responder wants.
    pub fn poll_report(&mut self) -> Option<Report> {
        let report = self.reports.try_recv().ok()?;
        if let Report::Stats(stats) = report {
            self.stats = stats;
        }
        Some(report)
    }

    /// The responder's figures, as they were within the last second.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Datagrams that wait.
    pub fn mailbox(&self) -> Level {
        Level { used: self.datagrams.len(), limit: DATAGRAMS }
    }

    /// True if a report waits.
    pub fn has_report(&self) -> bool {
        !self.reports.is_empty()
    }
}

impl Drop for IkeThread {
    fn drop(&mut self) {
        // Closing both lanes ends the thread.
        self.datagrams = bounded(0).0;
        self.notices = bounded(0).0;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

/// The thread's own side.
struct Mailbox {
    datagrams: Receiver<(Path, Vec<u8>)>,
    notices: Receiver<Notice>,
    reports: Sender<Report>,
    waker: Arc<LoopWaker>,
}

/// Also where the thread panics: without it nobody can connect, and the loop must not go on as if nothing had happened.
impl Drop for Mailbox {
    fn drop(&mut self) {
        // Fails only where the loop has ended first, as it should.
        let _ = self.reports.send(Report::Ended);
        self.waker.wake();
    }
}

impl Mailbox {
    fn run(self, mut responder: Responder, clock: Clock) {
        let mut stopping = false;
        let (mut told, mut told_at) = (Stats::default(), Duration::ZERO);
        loop {
            let now = clock.now();
            let stats_due = (responder.stats() != told).then_some(told_at + STATS_EVERY);
            let due = responder.poll_timeout().into_iter().chain(stats_due).min();
            let wait = due.map_or(LONGEST_WAIT, |at| at.saturating_sub(now.mono).min(LONGEST_WAIT));
            // Notices first: they are few, and an answer may wait for one.
            let notice = self.notices.try_recv().ok();
            let (notice, datagram) = match notice {
                Some(notice) => (Some(notice), None),
                None => select! {
                    recv(self.notices) -> notice => match notice {
                        Ok(notice) => (Some(notice), None),
                        Err(_) => return,
                    },
                    recv(self.datagrams) -> datagram => match datagram {
                        Ok(datagram) => (None, Some(datagram)),
                        Err(_) => return,
                    },
                    default(wait) => (None, None),
                },
            };
            let now = clock.now();
            if let Some(notice) = notice {
                stopping |= matches!(notice, Notice::Shutdown);
                responder.handle(now, input(notice));
            }
            if let Some((path, bytes)) = datagram {
                responder.handle(now, Input::Datagram { path, bytes: &bytes });
            }
            if responder.poll_timeout().is_some_and(|at| at <= now.mono) {
                responder.handle_timeout(now);
            }
            let mut reported = false;
            while let Some(output) = responder.poll_output() {
                reported = true;
                // Fails only where the loop has ended.
                let _ = self.reports.send(Report::Output(output));
            }
            if stopping && responder.is_idle() {
                reported = true;
                stopping = false;
                let _ = self.reports.send(Report::Idle);
            }
            let stats = responder.stats();
            if stats != told && now.mono >= told_at + STATS_EVERY {
                reported = true;
                (told, told_at) = (stats, now.mono);
                let _ = self.reports.send(Report::Stats(stats));
            }
            if reported {
                self.waker.wake();
            }
        }
    }
}

fn input(notice: Notice) -> Input<'static> {
    match notice {
        Notice::Installed(spi_in) => Input::Installed { spi_in },
        Notice::Alive(device) => Input::Alive { device },
        Notice::Moved(device, path) => Input::Moved { device, path },
        Notice::NearlyExhausted(spi_in) => Input::NearlyExhausted { spi_in },
        Notice::Plan(plan) => Input::Plan(plan),
        Notice::Disconnect(device) => Input::Disconnect(device),
        Notice::Identity(identity) => Input::Identity(identity),
        Notice::Shutdown => Input::Shutdown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_noticed() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(LoopWaker::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap()));
        let ((_datagrams, datagrams), (_notices, notices)) = (bounded(1), unbounded());
        let (reports, received) = unbounded();
        let mailbox = Mailbox { datagrams, notices, reports, waker };
        let thread = thread::spawn(move || {
            let _mailbox = mailbox;
            panic!("as if a rule had been broken");
        });
        assert!(thread.join().is_err());
        assert!(matches!(received.try_recv(), Ok(Report::Ended)));
    }
}
