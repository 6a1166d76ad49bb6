//! Devices and their SAs, as the event loop sees them: all mutable per-SA state.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{ChildSa, DeviceId, Now, Path};
use crate::crypto;
use crate::esp::{ReplayWindow, Sequence};
use crate::ike;
use crate::nat::Prefix96;

use super::Pool;
use super::job::{Batch, Tunnel};

/// Outbound traffic moves to a new SA after this time at the latest.
pub const MOVE_AFTER: Duration = Duration::from_secs(5);
/// The IKE core hears that a device lives at most this often.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// The IKE core hears that a device moved at most this often.
const MOVED_EVERY: Duration = Duration::from_millis(100);

/// SPIs are ours and random: hashing them again gains nothing.
#[derive(Debug, Default)]
pub struct SpiHasher(u64);

impl Hasher for SpiHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u32(&mut self, spi: u32) {
        // The table takes its tag from the top bits and its position from the low ones.
        self.0 = (u64::from(spi) << 32) | u64::from(spi);
    }
}

/// One Child SA pair.
#[derive(Debug)]
pub struct Sa {
    /// SPI of packets from the device.
    pub spi_in: u32,
    /// What jobs need.
    pub tunnel: Arc<Tunnel>,
    /// Key of its device.
    pub device: usize,
    /// Inbound sequence numbers seen.
    pub window: ReplayWindow,
    /// Outbound sequence numbers.
    pub sequence: Sequence,
}

/// Packets, and their octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub octets: u64,
}

impl Traffic {
    /// Counts packets with so many octets together.
    pub fn add(&mut self, packets: u64, octets: u64) {
        self.packets += packets;
        self.octets += octets;
    }
}

/// One device.
#[derive(Debug)]
pub struct Device {
    /// Its name towards the IKE core.
    pub id: DeviceId,
    /// Its inner address.
    pub address: Ipv4Addr,
    /// Where it is.
    pub path: Path,
    /// Key of the SA for packets to it.
    pub outbound: usize,
    /// A newer SA, and when to move to it at the latest.
    pub next_outbound: Option<(usize, Duration)>,
    /// Number of its SAs.
    pub sas: usize,
    /// Authentic inner packets from it.
    pub traffic_up: Traffic,
    /// Inner packets sent to it.
    pub traffic_down: Traffic,
    /// When it last sent something authentic (boot clock).
    pub seen: Option<Duration>,
    /// SAs that replaced others.
    pub child_rekeys: u64,
    /// IKE SAs that replaced others.
    pub ike_rekeys: u64,
    /// Packets to it, collected in this turn.
    pub down: Option<Box<Batch>>,
    /// Packets from it, collected for its worker in this turn.
    pub up: Option<Box<Batch>>,
    /// Batches at its worker: opened, sealed.
    pub in_flight: [usize; 2],
    /// When the IKE core last heard that it lives.
    alive_told: Option<Duration>,
    /// Where the IKE core thinks that it is, and since when.
    path_told: (Path, Duration),
}

impl Device {
    /// The new path of a device that moved, if the IKE core should hear of it. One that moves with every packet does
    /// not flood the core.
    pub fn tell_moved(&mut self, now: Duration) -> Option<Path> {
        let (told, at) = self.path_told;
        let due = told != self.path && now.saturating_sub(at) >= MOVED_EVERY;
        due.then(|| {
            self.path_told = (self.path, now);
            self.path
        })
    }

    /// True if the IKE core should hear that this device lives.
    pub fn tell_alive(&mut self, now: Duration) -> bool {
        let due = self.alive_told.is_none_or(|told| now.saturating_sub(told) >= ALIVE_EVERY);
        if due {
            self.alive_told = Some(now);
        }
        due
    }
}

/// All devices and SAs. Keys are never reused while a batch is in flight, because they are never reused.
#[derive(Debug)]
pub struct Table {
    pool: Pool,
    nat64: Option<Prefix96>,
    devices: HashMap<usize, Device, BuildHasherDefault<SpiHasher>>,
    sas: HashMap<usize, Sa, BuildHasherDefault<SpiHasher>>,
    by_spi: HashMap<u32, usize, BuildHasherDefault<SpiHasher>>,
    by_address: Vec<Option<usize>>,
    next_key: usize,
    /// When the first outbound move is due, at the earliest.
    next_move: Option<Duration>,
}

impl Table {
    /// An empty table for devices with addresses from `pool`, and IPv6 behind `nat64`.
    pub fn new(pool: Pool, nat64: Option<Prefix96>) -> Self {
        Self {
            pool,
            nat64,
            devices: HashMap::default(),
            sas: HashMap::default(),
            by_spi: HashMap::default(),
            by_address: vec![None; pool.size() as usize],
            next_key: 1,
            next_move: None,
        }
    }

    /// Registers an SA: inbound at once; outbound at once where it is the device's first.
    pub fn install(&mut self, child: &ChildSa, now: Duration) -> Result<(), crypto::Error> {
        let tunnel = Arc::new(Tunnel::new(child, self.pool, self.nat64)?);
        let key = self.next_key;
        self.next_key += 1;
        let position = self.pool.index(child.address);
        let known = self.devices.iter().find(|(_, device)| device.id == child.device).map(|(key, _)| *key);
        let device = known.unwrap_or(key);
        self.devices
            .entry(device)
            .and_modify(|known| {
                known.sas += 1;
                known.child_rekeys += u64::from(child.replaces.is_some());
                known.next_outbound = Some((key, now + MOVE_AFTER));
            })
            .or_insert_with(|| Device {
                id: child.device,
                address: child.address,
                path: child.path,
                outbound: key,
                next_outbound: None,
                sas: 1,
                traffic_up: Traffic::default(),
                traffic_down: Traffic::default(),
                seen: None,
                child_rekeys: 0,
                ike_rekeys: 0,
                down: None,
                up: None,
                in_flight: [0; 2],
                alive_told: None,
                path_told: (child.path, now),
            });
        if let Some(entry) = position.and_then(|position| self.by_address.get_mut(position)) {
            *entry = Some(device);
        }
        if known.is_some() {
            self.next_move = Some(self.next_move.map_or(now + MOVE_AFTER, |at| at.min(now + MOVE_AFTER)));
        }
        self.by_spi.insert(child.spi_in, key);
        self.sas.insert(
            key,
            Sa {
                spi_in: child.spi_in,
                tunnel,
                device,
                window: ReplayWindow::new(),
                sequence: Sequence::new(),
            },
        );
        Ok(())
    }

    /// Forgets an SA, and its device with the last one: that is returned. Batches in flight find nothing and are
    /// discarded.
    pub fn remove(&mut self, spi_in: u32) -> Option<Device> {
        let key = self.by_spi.remove(&spi_in)?;
        let sa = self.sas.remove(&key)?;
        let device = self.devices.get_mut(&sa.device)?;
        device.sas -= 1;
        if let Some((next, _)) = device.next_outbound
            && (next == key || device.outbound == key)
        {
            device.next_outbound = None;
            device.outbound = if next == key { device.outbound } else { next };
        }
        if device.sas > 0 {
            return None;
        }
        let device = self.devices.remove(&sa.device)?;
        let entry = self.pool.index(device.address).and_then(|position| self.by_address.get_mut(position));
        // A newer connection may own the address by now.
        if let Some(entry) = entry
            && *entry == Some(sa.device)
        {
            *entry = None;
        }
        Some(device)
    }

    /// Notes what the IKE core says of a device.
    pub fn handle_ike(&mut self, now: Now, output: &ike::Output) {
        let (ike::Output::Heard { device } | ike::Output::IkeRekeyed { device }) = output else { return };
        if let Some(known) = self.devices.values_mut().find(|known| known.id == *device) {
            known.seen = Some(now.boot);
            known.ike_rekeys += u64::from(matches!(output, ike::Output::IkeRekeyed { .. }));
        }
    }

    /// Moves the device's outbound traffic to this SA.
    pub fn use_outbound(&mut self, spi_in: u32) {
        let Some(key) = self.by_spi.get(&spi_in) else { return };
        let Some(device) = self.sas.get(key).and_then(|sa| self.devices.get_mut(&sa.device)) else { return };
        device.outbound = *key;
        device.next_outbound = None;
    }

    /// Moves outbound traffic whose time has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.next_move.is_none_or(|at| at > now) {
            return;
        }
        for device in self.devices.values_mut() {
            if let Some((next, at)) = device.next_outbound
                && at <= now
            {
                device.outbound = next;
                device.next_outbound = None;
            }
        }
        self.next_move =
            self.devices.values().filter_map(|device| device.next_outbound.map(|(_, at)| at)).min();
    }

    /// When `handle_timeout` has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.next_move
    }

    /// The key of the SA with this SPI.
    pub fn by_spi(&self, spi_in: u32) -> Option<usize> {
        self.by_spi.get(&spi_in).copied()
    }

    /// The key of the device with this inner address.
    pub fn by_address(&self, address: Ipv4Addr) -> Option<usize> {
        self.by_address.get(self.pool.index(address)?).copied().flatten()
    }

    /// The key of the device that the IKE core calls `id`.
    pub fn by_id(&self, id: DeviceId) -> Option<usize> {
        self.devices.iter().find(|(_, device)| device.id == id).map(|(key, _)| *key)
    }

    /// An SA by its key.
    pub fn sa(&mut self, key: usize) -> Option<&mut Sa> {
        self.sas.get_mut(&key)
    }

    /// A device by its key.
    pub fn device(&mut self, key: usize) -> Option<&mut Device> {
        self.devices.get_mut(&key)
    }

    /// All devices.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// An SA and its device.
    pub fn sa_and_device(&mut self, key: usize) -> Option<(&mut Sa, &mut Device)> {
        let sa = self.sas.get_mut(&key)?;
        let device = self.devices.get_mut(&sa.device)?;
        Some((sa, device))
    }

    /// All SAs.
    pub fn sas(&mut self) -> impl Iterator<Item = &mut Sa> {
        self.sas.values_mut()
    }

    /// True without any SA.
    pub fn is_empty(&self) -> bool {
        self.sas.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Cipher, Secret};

    #[test]
    fn a_device_goes_with_its_last_sa_and_brings_its_batch_back() {
        let address = Ipv4Addr::new(198, 19, 255, 2);
        let child = |spi_in| ChildSa {
            device: DeviceId(1),
            spi_in,
            spi_out: spi_in,
            cipher: Cipher::Aes256Gcm,
            key_in: Secret::new(vec![0; 36]),
            key_out: Secret::new(vec![0; 36]),
            address,
            address6: None,
            ts_local: Vec::new(),
            ts_remote: Vec::new(),
            path: Path {
                socket: 0,
                local: None,
                local_port: 4500,
                remote: ([127, 0, 0, 1], 4500).into(),
                marker: true,
            },
            replaces: None,
        };
        let mut table = Table::new(Pool::DEFAULT, None);
        table.install(&child(1), Duration::ZERO).unwrap();
        table.install(&child(2), Duration::ZERO).unwrap();
        let key = table.by_address(address).unwrap();
        table.device(key).unwrap().down = Some(Box::default());
        assert!(table.remove(1).is_none(), "one SA is left");
        assert!(table.remove(2).is_some_and(|device| device.down.is_some()));
        assert!(table.remove(2).is_none() && table.by_address(address).is_none() && table.is_empty());
    }
}
