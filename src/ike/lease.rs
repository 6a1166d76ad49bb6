//! Inner addresses: stable per (identity, lease) while the program runs.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::base::DeviceId;

/// Most devices that may use one identity at a time.
const LEASES_PER_IDENTITY: usize = 4;

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAddress {
    /// Every address of the pool is in use.
    PoolExhausted,
    /// The identity has all its leases in use.
    TooManyDevices,
}

#[derive(Debug)]
struct Lease {
    address: Ipv4Addr,
    holder: Option<DeviceId>,
    /// Counts releases: the lowest idle lease is the longest idle.
    released: u64,
}

/// The pool of addresses for devices.
#[derive(Debug)]
pub(super) struct Leases {
    /// Next address never leased, and the last usable one.
    next: u32,
    last: u32,
    host: Ipv4Addr,
    releases: u64,
    by_identity: HashMap<String, Vec<Lease>>,
    holders: HashMap<DeviceId, String>,
}

impl Leases {
    /// The pool `network/prefix_len`: without the network address, our own (the first host), and the broadcast.
    pub(super) fn new(network: Ipv4Addr, prefix_len: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0);
        let first = u32::from(network) & mask;
        Self {
            next: first.saturating_add(2),
            last: (first | !mask).saturating_sub(1),
            host: Ipv4Addr::from(first.saturating_add(1)),
            releases: 0,
            by_identity: HashMap::new(),
            holders: HashMap::new(),
        }
    }

    /// The in-tunnel host: the first address.
    pub(super) fn host(&self) -> Ipv4Addr {
        self.host
    }

    /// Gives `device` an address: one that `identity` had before, `wanted` if it is such a one, else a new one, else the
    /// longest idle one of another identity.
    pub(super) fn acquire(
        &mut self,
        identity: &str,
        device: DeviceId,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, NoAddress> {
        let own = self.by_identity.get(identity).map_or(&[][..], |leases| leases);
        if !own.iter().any(|lease| lease.holder.is_none()) {
            if own.len() >= LEASES_PER_IDENTITY {
                return Err(NoAddress::TooManyDevices);
            }
            let address = self.new_address().or_else(|| self.reclaim()).ok_or(NoAddress::PoolExhausted)?;
            let lease = Lease { address, holder: None, released: 0 };
            self.by_identity.entry(identity.to_owned()).or_default().push(lease);
        }
        let leases = self.by_identity.entry(identity.to_owned()).or_default();
        let free = leases.iter_mut().filter(|lease| lease.holder.is_none());
        // The first one, if none is the wanted one.
        let free = free.min_by_key(|lease| Some(lease.address) != wanted).ok_or(NoAddress::PoolExhausted)?;
        free.holder = Some(device);
        self.holders.insert(device, identity.to_owned());
        Ok(free.address)
    }

    /// Ends the lease of `device`; its identity keeps the address for next time.
    pub(super) fn release(&mut self, device: DeviceId) {
        let Some(identity) = self.holders.remove(&device) else { return };
        self.releases += 1;
        for lease in self.by_identity.entry(identity).or_default() {
            if lease.holder == Some(device) {
                lease.holder = None;
                lease.released = self.releases;
            }
        }
    }

    fn new_address(&mut self) -> Option<Ipv4Addr> {
        (self.next <= self.last).then(|| {
            let address = Ipv4Addr::from(self.next);
            self.next += 1;
            address
        })
    }

    fn reclaim(&mut self) -> Option<Ipv4Addr> {
        let idle = self.by_identity.values().flatten().filter(|lease| lease.holder.is_none());
        let address = idle.min_by_key(|lease| lease.released)?.address;
        self.by_identity.retain(|_, leases| {
            leases.retain(|lease| lease.address != address);
            !leases.is_empty()
        });
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_per_identity_and_the_pool_ends() {
        let mut leases = Leases::new(Ipv4Addr::new(198, 19, 255, 9), 29);
        let address = |last| Ok(Ipv4Addr::new(198, 19, 255, last));
        assert_eq!(leases.acquire("a", DeviceId(1), None), address(10), "9 is the in-tunnel host");
        assert_eq!(leases.acquire("a", DeviceId(2), None), address(11));
        assert_eq!(leases.acquire("b", DeviceId(3), None), address(12));
        leases.release(DeviceId(1));
        leases.release(DeviceId(3));
        assert_eq!(leases.acquire("b", DeviceId(4), None), address(12));
        assert_eq!(leases.acquire("c", DeviceId(5), None), address(13));
        assert_eq!(leases.acquire("c", DeviceId(6), None), address(14));
        assert_eq!(leases.acquire("d", DeviceId(7), None), address(10), "the idle one of a");
        assert_eq!(
            leases.acquire("e", DeviceId(8), None),
            Err(NoAddress::PoolExhausted),
            "15 is the broadcast"
        );
        leases.release(DeviceId(99));
        leases.release(DeviceId(2));
        assert_eq!(leases.acquire("e", DeviceId(8), None), address(11));
    }

    #[test]
    fn a_device_gets_the_address_that_it_wants_if_its_identity_had_it() {
        let mut leases = Leases::new(Ipv4Addr::new(10, 0, 0, 0), 24);
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        for device in 1..4 {
            leases.acquire("a", DeviceId(device), None).unwrap();
        }
        leases.acquire("b", DeviceId(4), None).unwrap();
        [1, 2, 4].into_iter().for_each(|device| leases.release(DeviceId(device)));
        assert_eq!(leases.acquire("a", DeviceId(5), Some(address(3))), Ok(address(3)));
        assert_eq!(leases.acquire("a", DeviceId(6), Some(address(5))), Ok(address(2)), "that is another's");
        assert_eq!(leases.acquire("a", DeviceId(7), Some(address(4))), Ok(address(6)), "in use");
    }

    #[test]
    fn one_identity_has_four_leases() {
        let mut leases = Leases::new(Ipv4Addr::new(10, 0, 0, 0), 24);
        for device in 0..4 {
            assert!(leases.acquire("a", DeviceId(device), None).is_ok());
        }
        assert_eq!(leases.acquire("a", DeviceId(4), None), Err(NoAddress::TooManyDevices));
        assert!(leases.acquire("b", DeviceId(4), None).is_ok());
    }
}
