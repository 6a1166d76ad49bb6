//! The worker pool: each device is pinned to one worker, so that its packets never overtake each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};

use crossbeam_queue::ArrayQueue;

use super::job::Batch;

/// Rounds of looking at the empty queue before a worker sleeps: about as long as one wake-up costs.
const SPIN_ROUNDS: u32 = 2000;

/// Wakes the event loop if it sleeps: waking costs more than opening ten packets, so a running loop is left alone.
#[derive(Debug)]
pub struct LoopWaker {
    waker: mio::Waker,
    sleeping: AtomicBool,
}

impl LoopWaker {
    /// Wraps the poll's waker.
    pub fn new(waker: mio::Waker) -> Self {
        Self { waker, sleeping: AtomicBool::new(false) }
    }

    /// Called after something was queued for the loop.
    pub fn wake(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // The only error is a closed poll: the loop has ended.
            let _ = self.waker.wake();
        }
    }

    /// The loop is about to sleep; it must look at its queues once more after this.
    pub fn about_to_sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
    }

    /// The loop runs.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }
}

/// What the event loop and one worker share.
#[derive(Debug)]
struct Shared {
    jobs: ArrayQueue<Box<Batch>>,
    done: Arc<ArrayQueue<Box<Batch>>>,
    sleeping: AtomicBool,
    stop: AtomicBool,
    /// The thread has ended.
    ended: AtomicBool,
    waker: Arc<LoopWaker>,
}

/// A worker as the event loop sees it.
#[derive(Debug)]
struct Worker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

/// The workers. None at all is a first-class mode: everything runs inline.
#[derive(Debug)]
pub struct Pool {
    workers: Vec<Worker>,
    done: Arc<ArrayQueue<Box<Batch>>>,
}

impl Pool {
    /// Starts `count` workers. Each queue holds all `batches` that there are: none is ever full.
    pub fn start(count: usize, batches: usize, waker: &Arc<LoopWaker>) -> std::io::Result<Self> {
        let done = Arc::new(ArrayQueue::new(batches));
        let mut pool = Self { workers: Vec::with_capacity(count), done: Arc::clone(&done) };
        for index in 0..count {
            let shared = Arc::new(Shared {
                jobs: ArrayQueue::new(batches),
                done: Arc::clone(&done),
                sleeping: AtomicBool::new(false),
                stop: AtomicBool::new(false),
                ended: AtomicBool::new(false),
                waker: Arc::clone(waker),
            });
            let own = Arc::clone(&shared);
            let handle =
                thread::Builder::new().name(format!("worker-{index}")).spawn(move || OnThread(own).work())?;
            pool.workers.push(Worker { shared, thread: handle.thread().clone(), handle: Some(handle) });
        }
        Ok(pool)
    }

    /// Number of workers.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Gives a batch to the worker of its device; gives it back where there is none.
    pub fn submit(&self, batch: Box<Batch>) -> Result<(), Box<Batch>> {
        let Some(worker) = self.worker(batch.device) else { return Err(batch) };
        worker.shared.jobs.push(batch)?;
        if worker.shared.sleeping.swap(false, Ordering::SeqCst) {
            worker.thread.unpark();
        }
        Ok(())
    }

    /// A finished batch, in the order of its device.
    pub fn poll_done(&self) -> Option<Box<Batch>> {
        self.done.pop()
    }

    /// True if a finished batch waits.
    pub fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// True if a worker has ended, though nobody wanted it: what it had in hand is lost, and its devices wait for ever.
    pub fn has_ended(&self) -> bool {
        self.workers.iter().any(|worker| worker.shared.ended.load(Ordering::Relaxed))
    }

    fn worker(&self, device: usize) -> Option<&Worker> {
        self.workers.get(device.checked_rem(self.workers.len())?)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.shared.stop.store(true, Ordering::SeqCst);
            worker.thread.unpark();
        }
        for worker in &mut self.workers {
            if let Some(handle) = worker.handle.take() {
                // A worker that panicked has printed why; the loop ends anyway.
                let _ = handle.join();
            }
        }
    }
}

/// The thread's own side.
struct OnThread(Arc<Shared>);

/// Also where the thread panics: the loop must not go on as if nothing had happened.
impl Drop for OnThread {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
        self.0.waker.wake();
    }
}

impl OnThread {
    fn work(self) {
        let shared = &self.0;
        while let Some(mut batch) = next_job(shared) {
            batch.run();
            // The queue holds all batches that there are, so this cannot fail.
            let _ = shared.done.push(batch);
            shared.waker.wake();
        }
    }
}

/// Waits for the next batch: spins a little, then parks. `None` ends the thread.
fn next_job(shared: &Shared) -> Option<Box<Batch>> {
    loop {
        for _ in 0..SPIN_ROUNDS {
            if let Some(batch) = shared.jobs.pop() {
                return Some(batch);
            }
            if shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            std::hint::spin_loop();
        }
        shared.sleeping.store(true, Ordering::SeqCst);
        if shared.jobs.is_empty() && !shared.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        shared.sleeping.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_is_noticed() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(LoopWaker::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap()));
        let pool = Pool::start(1, 1, &waker).unwrap();
        assert!(!pool.has_ended());
        let shared = Arc::clone(&pool.workers[0].shared);
        let thread = thread::spawn(move || {
            let _worker = OnThread(shared);
            panic!("as if a rule had been broken");
        });
        assert!(thread.join().is_err() && pool.has_ended());
    }
}
