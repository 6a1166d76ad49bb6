//! The far side as a tun device: for network namespaces with real servers in them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::super::frame::Frames;
use super::super::kick::Kick;
use super::super::ppp::IPV4;
use crate::engine::sys;

/// Packets that wait for one tunnel.
const QUEUE: usize = 512;
const CHECK_STOP: Duration = Duration::from_millis(200);

struct Route {
    queue: SyncSender<Vec<u8>>,
    kick: Arc<Kick>,
}

struct Inner {
    file: File,
    routes: Mutex<HashMap<Ipv4Addr, Route>>,
    stop: AtomicBool,
}

/// The device and the thread that reads it.
pub(crate) struct Device {
    inner: Arc<Inner>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl Device {
    pub fn open(name: &str) -> io::Result<Self> {
        let file = sys::open_tun(name)?;
        let inner = Arc::new(Inner { file, routes: Mutex::default(), stop: AtomicBool::new(false) });
        let poll = Poll::new()?;
        poll.registry().register(&mut SourceFd(&inner.file.as_raw_fd()), Token(0), Interest::READABLE)?;
        let for_reader = inner.clone();
        let reader =
            std::thread::Builder::new().name("gateway-tun".into()).spawn(move || for_reader.read(poll))?;
        Ok(Self { inner, reader: Mutex::new(Some(reader)) })
    }

    /// Packets for `client` go to the tunnel of `kick` from now on.
    pub fn attach(&self, client: Ipv4Addr, kick: Arc<Kick>) -> Port {
        let (queue, packets) = sync_channel(QUEUE);
        self.inner.routes().insert(client, Route { queue, kick: kick.clone() });
        Port { inner: self.inner.clone(), client, kick, packets, held: None }
    }

    pub fn stop(&self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reader) = reader {
            let _ = reader.join();
        }
    }
}

impl Inner {
    fn routes(&self) -> std::sync::MutexGuard<'_, HashMap<Ipv4Addr, Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives each packet of the device to the tunnel of its destination; a full queue drops it.
    fn read(&self, mut poll: Poll) {
        let mut events = Events::with_capacity(4);
        let mut packet = vec![0; 65_536];
        while !self.stop.load(Ordering::Relaxed) {
            let _ = poll.poll(&mut events, Some(CHECK_STOP));
            while let Ok(len) = (&self.file).read(&mut packet) {
                let packet = &packet[..len];
                let Some(&dst) = packet.get(16..).and_then(<[u8]>::first_chunk::<4>) else { continue };
                if let Some(route) = self.routes().get(&Ipv4Addr::from(dst))
                    && packet[0] >> 4 == 4
                    && route.queue.try_send(packet.to_vec()).is_ok()
                {
                    route.kick.wake();
                }
            }
        }
    }
}

/// The device for one tunnel.
pub(crate) struct Port {
    inner: Arc<Inner>,
    client: Ipv4Addr,
    kick: Arc<Kick>,
    packets: Receiver<Vec<u8>>,
    /// Taken from the queue to see whether there was one.
    held: Option<Vec<u8>>,
}

impl Port {
    /// A packet that the device does not take is lost, as on any network.
    pub fn handle_packet(&mut self, packet: &[u8]) {
        let _ = (&self.inner.file).write(packet);
    }

    pub fn poll(&mut self, out: &mut Frames, limit: usize) {
        while out.size() < limit {
            let Some(packet) = self.held.take().or_else(|| self.packets.try_recv().ok()) else { break };
            out.push_with(IPV4, packet.len(), |payload| payload.copy_from_slice(&packet));
        }
    }

    pub fn poll_delay(&mut self) -> Option<Duration> {
        if self.held.is_none() {
            self.held = self.packets.try_recv().ok();
        }
        self.held.is_some().then_some(Duration::ZERO)
    }

    /// Takes the route away, unless another tunnel has it by now.
    pub fn detach(&mut self) {
        let mut routes = self.inner.routes();
        if routes.get(&self.client).is_some_and(|route| Arc::ptr_eq(&route.kick, &self.kick)) {
            routes.remove(&self.client);
        }
    }
}
