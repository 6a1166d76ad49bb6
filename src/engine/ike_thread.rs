//! The IKE thread: owns the responder, because one RSA signature takes as long as thousands of packets.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select, unbounded};

use crate::base::{DeviceId, Now, Path, Reason};
use crate::ike::{ClientPlan, Gate, Identity, Input, Output, Passage, Responder, Stats};

use super::Clock;
use super::status::Level;
use super::worker::LoopWaker;

/// Datagrams of clients that may wait, and as many of strangers; more are dropped, and the peer retransmits.
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

/// Where it came from, and an IKE message without its marker.
type Datagram = (Path, Vec<u8>);

/// The thread as the event loop sees it. Ends when this is dropped.
#[derive(Debug)]
pub struct IkeThread {
    gate: Gate,
    clients: Sender<Datagram>,
    strangers: Sender<Datagram>,
    notices: Sender<Notice>,
    reports: Receiver<Report>,
    stats: Stats,
    thread: Option<JoinHandle<()>>,
}

impl IkeThread {
    /// Starts the thread.
    pub fn start(responder: Responder, clock: Clock, waker: Arc<LoopWaker>) -> io::Result<Self> {
        let gate = responder.gate();
        let (clients, clients_in) = bounded(DATAGRAMS);
        let (strangers, strangers_in) = bounded(DATAGRAMS);
        let (notices, notices_in) = unbounded();
        let (reports_out, reports) = unbounded();
        let thread = thread::Builder::new().name("ike".into()).spawn(move || {
            Mailbox {
                clients: clients_in,
                strangers: strangers_in,
                notices: notices_in,
                reports: reports_out,
                waker,
            }
            .run(responder, clock);
        })?;
        Ok(Self { gate, clients, strangers, notices, reports, stats: Stats::default(), thread: Some(thread) })
    }

    /// Hands over a datagram without its marker, if it is worth that. Gives an answer that needs no more.
    pub fn datagram(&mut self, now: Now, path: Path, bytes: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
        let lane = match self.gate.judge(now, path.remote.ip(), bytes) {
            Passage::Client => &self.clients,
            Passage::Stranger => &self.strangers,
            Passage::Answer(answer) => return Ok(Some(answer)),
            Passage::Stop => return Ok(None),
        };
        match lane.try_send((path, bytes.to_vec())) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(None),
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

    /// The responder's figures, as they were within the last second, with what the gate kept from it.
    pub fn stats(&self) -> Stats {
        let gate = self.gate.stats();
        Stats {
            malformed: self.stats.malformed + gate.malformed,
            unknown_spi: self.stats.unknown_spi + gate.unknown_spi,
            out_of_place: self.stats.out_of_place + gate.out_of_place,
            cookies: self.stats.cookies + gate.cookies,
            refused: self.stats.refused + gate.refused,
            ..self.stats
        }
    }

    /// Datagrams that wait.
    pub fn mailbox(&self) -> Level {
        Level { used: self.clients.len() + self.strangers.len(), limit: 2 * DATAGRAMS }
    }

    /// True if a report waits.
    pub fn has_report(&self) -> bool {
        !self.reports.is_empty()
    }
}

impl Drop for IkeThread {
    fn drop(&mut self) {
        // Closing the lanes ends the thread.
        self.clients = bounded(0).0;
        self.strangers = bounded(0).0;
        self.notices = bounded(0).0;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has printed why.
            let _ = thread.join();
        }
    }
}

/// The thread's own side.
struct Mailbox {
    clients: Receiver<Datagram>,
    strangers: Receiver<Datagram>,
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
    /// Waits for something, at most as long as `wait`. Notices first: they are few, and an answer may wait for one; then
    /// clients, then strangers. `None` at the end.
    fn next(&self, wait: Duration) -> Option<Mail> {
        if let Ok(notice) = self.notices.try_recv() {
            return Some(Mail { notice: Some(notice), datagram: None });
        }
        if let Ok(datagram) = self.clients.try_recv() {
            return Some(Mail { notice: None, datagram: Some(datagram) });
        }
        select! {
            recv(self.notices) -> notice => Some(Mail { notice: Some(notice.ok()?), datagram: None }),
            recv(self.clients) -> datagram => Some(Mail { notice: None, datagram: Some(datagram.ok()?) }),
            recv(self.strangers) -> datagram => Some(Mail { notice: None, datagram: Some(datagram.ok()?) }),
            default(wait) => Some(Mail::default()),
        }
    }

    fn run(self, mut responder: Responder, clock: Clock) {
        let mut stopping = false;
        let (mut told, mut told_at) = (Stats::default(), Duration::ZERO);
        loop {
            let now = clock.now();
            let stats_due = (responder.stats() != told).then_some(told_at + STATS_EVERY);
            let due = responder.poll_timeout().into_iter().chain(stats_due).min();
            let wait = due.map_or(LONGEST_WAIT, |at| at.saturating_sub(now.mono).min(LONGEST_WAIT));
            let Some(Mail { notice, datagram }) = self.next(wait) else { return };
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

/// What comes next, if anything came.
#[derive(Default)]
struct Mail {
    notice: Option<Notice>,
    datagram: Option<Datagram>,
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
        let ((_clients, clients), (_strangers, strangers)) = (bounded(1), bounded(1));
        let (_notices, notices) = unbounded();
        let (reports, received) = unbounded();
        let mailbox = Mailbox { clients, strangers, notices, reports, waker };
        let thread = thread::spawn(move || {
            let _mailbox = mailbox;
            panic!("as if a rule had been broken");
        });
        assert!(thread.join().is_err());
        assert!(matches!(received.try_recv(), Ok(Report::Ended)));
    }
}
