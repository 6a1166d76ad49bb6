//! The `pcap` thread: takes packets out of the queue of one capture and writes them where they are wanted.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::tap::{MAX_PACKETS, Queue, SIDES};
use crate::engine::Clock;
use crate::wire::pcapng::{self, Packet, Statistics};

/// The queue is looked into so often. Nobody wakes the writer: that would cost packets more than their copy.
const TICK: Duration = Duration::from_millis(10);
/// Octets that are written at once, about.
const PIECE: usize = 64 << 10;
/// A client that takes nothing for so long loses its capture.
const PATIENCE: Duration = Duration::from_secs(10);
/// One write to a client waits so long before the writer looks at the clock.
const WRITE_TIME: Duration = Duration::from_millis(250);

/// Where a capture goes.
#[derive(Debug)]
pub enum Sink {
    /// A file of its own.
    File(File),
    /// Who asked over the control socket, and what it is still to be told first. Its end is the capture's.
    Client(UnixStream, Vec<u8>),
}

/// The writer of one capture.
#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    queue: Arc<Queue>,
    stop: Arc<AtomicBool>,
    clock: Clock,
    begun: Duration,
    /// Packets written and lost, by side.
    written: [u64; 2],
    lost: [u64; 2],
    /// Blocks that were not written yet, and the packets in them.
    blocks: Vec<u8>,
    waiting: [u64; 2],
}

impl Writer {
    /// A writer that ends when `stop` is set, or its sink does.
    pub fn new(sink: Sink, queue: Arc<Queue>, stop: Arc<AtomicBool>, clock: Clock) -> Self {
        let (begun, blocks) = (clock.wall(), Vec::with_capacity(2 * PIECE));
        let [written, lost, waiting] = [[0; 2]; 3];
        Self { sink, queue, stop, clock, begun, written, lost, blocks, waiting }
    }

    /// Writes until the end. An error says why that came early.
    pub fn run(&mut self) -> io::Result<()> {
        let result = self.serve();
        if result.is_err() {
            self.give_up();
        }
        result
    }

    fn serve(&mut self) -> io::Result<()> {
        if let Sink::Client(stream, told) = &mut self.sink {
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(WRITE_TIME))?;
            self.blocks.append(told);
        }
        pcapng::emit_section(&mut self.blocks, concat!("pterodapter ", env!("CARGO_PKG_VERSION")));
        for (name, description) in SIDES {
            pcapng::emit_interface(&mut self.blocks, name, description);
        }
        self.flush()?;
        loop {
            let is_last = self.wait()?;
            self.drain()?;
            if is_last {
                return self.finish();
            }
        }
    }

    /// Packets written, and lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.written.iter().sum(), self.lost.iter().sum())
    }

    /// Waits a little. True if the capture is to end.
    fn wait(&mut self) -> io::Result<bool> {
        match &mut self.sink {
            Sink::File(_) => thread::sleep(TICK),
            Sink::Client(stream, _) => {
                let tick = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as _ };
                let ready = match poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&tick)) {
                    Ok(ready) => ready > 0,
                    Err(rustix::io::Errno::INTR) => false,
                    Err(error) => return Err(error.into()),
                };
                // It has nothing to say but that it has enough.
                if ready && stream.read(&mut [0; 64]).is_ok_and(|length| length == 0) {
                    return Ok(true);
                }
            }
        }
        Ok(self.stop.load(Ordering::SeqCst))
    }

    /// Writes what waits: so a file is whole but for the last hundredth of a second, whatever happens to us.
    fn drain(&mut self) -> io::Result<()> {
        // As many as fit at a time, so that an end does not wait for an end of the traffic.
        for _ in 0..MAX_PACKETS {
            let Some(captured) = self.queue.pop() else { break };
            let side = captured.point.side();
            let packet = Packet {
                interface: side as u32,
                time: captured.time,
                heading: captured.point.heading(),
                dropped: captured.lost,
                bytes: &captured.bytes,
            };
            pcapng::emit_packet(&mut self.blocks, &packet);
            count(&mut self.waiting, side, 1);
            count(&mut self.lost, side, captured.lost);
            if self.blocks.len() >= PIECE {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        let now = self.clock.wall();
        self.count_lost();
        for ((side, written), lost) in (0..).zip(self.written).zip(self.lost) {
            let statistics = Statistics {
                interface: side,
                start: self.begun,
                stop: now,
                received: written + lost,
                dropped: lost,
            };
            pcapng::emit_statistics(&mut self.blocks, &statistics);
        }
        self.flush()
    }

    /// What was not written is lost.
    fn give_up(&mut self) {
        while let Some(captured) = self.queue.pop() {
            count(&mut self.lost, captured.point.side(), 1 + captured.lost);
        }
        self.count_lost();
        for (lost, waiting) in self.lost.iter_mut().zip(&mut self.waiting) {
            *lost += std::mem::take(waiting);
        }
    }

    fn count_lost(&mut self) {
        for (lost, more) in self.lost.iter_mut().zip(self.queue.take_lost()) {
            *lost += more;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self { sink, blocks, clock, stop, .. } = self;
        match sink {
            Sink::File(file) => file.write_all(blocks)?,
            Sink::Client(stream, _) => write_to_client(stream, blocks, clock, stop)?,
        }
        blocks.clear();
        for (written, waiting) in self.written.iter_mut().zip(&mut self.waiting) {
            *written += std::mem::take(waiting);
        }
        Ok(())
    }
}

fn count(counts: &mut [u64; 2], side: usize, more: u64) {
    if let Some(count) = counts.get_mut(side) {
        *count += more;
    }
}

/// Writes as long as some of it is taken now and then; at the end of the program there is no time to wait.
fn write_to_client(
    mut stream: &UnixStream,
    mut bytes: &[u8],
    clock: &Clock,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut taken_at = clock.now().mono;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => {
                bytes = bytes.get(length..).unwrap_or_default();
                taken_at = clock.now().mono;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let waited = clock.now().mono.saturating_sub(taken_at);
                if waited >= PATIENCE || stop.load(Ordering::SeqCst) {
                    let why = "the other end does not take its packets";
                    return Err(io::Error::new(ErrorKind::TimedOut, why));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tap::{Branch, Point, Tap};
    use super::*;
    use crate::wire::pcapng::Block;

    /// A queue, and a tap that leads into it.
    fn tap(clock: Clock) -> (Tap, Arc<Queue>) {
        let queue = Arc::<Queue>::default();
        (Tap { clock, branches: vec![Branch { wanted: None, queue: Arc::clone(&queue) }] }, queue)
    }

    fn blocks(mut bytes: &[u8]) -> Vec<Block> {
        let mut found = Vec::new();
        while let Some((block, len)) = pcapng::parse_block(bytes).unwrap() {
            found.push(block);
            bytes = &bytes[len..];
        }
        assert!(bytes.is_empty(), "cut short");
        found
    }

    #[test]
    fn a_file_is_whole_at_any_time_and_has_statistics_at_the_end() {
        let clock = Clock::start();
        let (tap, queue) = tap(clock);
        let path = tempfile::NamedTempFile::new().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let sink = Sink::File(path.reopen().unwrap());
        let mut writer = Writer::new(sink, queue, Arc::clone(&stop), clock);
        let read = || blocks(&std::fs::read(&path).unwrap());
        thread::scope(|scope| {
            let ended = scope.spawn(|| writer.run());
            for _ in 0..MAX_PACKETS + 5 {
                tap.record(Point::ToDevice, None, &[0; 9]);
            }
            while read().len() < 3 + MAX_PACKETS {
                thread::sleep(TICK);
            }
            assert!(!read().iter().any(|block| matches!(block, Block::Statistics { .. })));
            stop.store(true, Ordering::SeqCst);
            ended.join().unwrap().unwrap();
        });
        let found = read();
        let packets = found.iter().filter(|block| **block == Block::Packet).count() as u64;
        let (written, lost) = writer.counts();
        assert_eq!((written + lost, packets), (MAX_PACKETS as u64 + 5, written));
        let statistics = [Block::Statistics { dropped: lost }, Block::Statistics { dropped: 0 }];
        assert_eq!(found[found.len() - 2..], statistics);
    }

    #[test]
    fn a_client_ends_its_capture_and_gets_all_of_it() {
        let clock = Clock::start();
        let (tap, queue) = tap(clock);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let sink = Sink::Client(ours, b"told\n".to_vec());
        let writer = thread::spawn(move || {
            let mut writer = Writer::new(sink, queue, Arc::default(), clock);
            writer.run().map(|()| writer.counts())
        });
        tap.record(Point::FromDevice, None, b"packet");
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        let found = blocks(got.strip_prefix(b"told\n").unwrap());
        let end = Block::Statistics { dropped: 0 };
        assert_eq!(found, [Block::Other, Block::Other, Block::Other, Block::Packet, end, end]);
        assert_eq!(writer.join().unwrap().unwrap(), (1, 0));
    }

    #[test]
    fn who_takes_nothing_or_is_gone_ends_the_writer() {
        let clock = Clock::start();
        for is_gone in [false, true] {
            let (tap, queue) = tap(clock);
            let (ours, theirs) = UnixStream::pair().unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let their_end = (!is_gone).then_some(theirs);
            for _ in 0..MAX_PACKETS {
                tap.record(Point::FromDevice, None, &[0; 1500]);
            }
            let mut writer = Writer::new(Sink::Client(ours, Vec::new()), queue, Arc::clone(&stop), clock);
            let writer = thread::spawn(move || (writer.run().unwrap_err(), writer.counts()));
            stop.store(!is_gone, Ordering::SeqCst);
            let (error, (written, lost)) = writer.join().unwrap();
            assert!(lost > 0 && written + lost == MAX_PACKETS as u64, "{written} {lost}");
            let expected = if is_gone { ErrorKind::BrokenPipe } else { ErrorKind::TimedOut };
            assert_eq!(error.kind(), expected, "{error}");
            drop(their_end);
        }
    }
}
