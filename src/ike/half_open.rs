//! Admission of strangers: half-open limits and cookies (RFC 7296 section 2.6, RFC 8019 for the limits).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::api::Policy;
use crate::base::Random;
use crate::crypto::hash::constant_time_eq;
use crate::crypto::prf::prf;
use crate::crypto::{Prf, Secret};

/// How long a cookie is good.
const COOKIE_LIFETIME: u32 = 10;

/// Octets of a cookie: its time in seconds, then a keyed hash.
const COOKIE_LEN: usize = 4 + 16;

/// Counts half-open IKE SAs and decides about new ones.
#[derive(Debug)]
pub(super) struct Admission {
    secret: Secret,
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// What to do with an initial request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Admit,
    /// Answer with this cookie, keep nothing.
    Challenge(Vec<u8>),
    Refuse,
}

impl Admission {
    pub(super) fn new(rng: &mut dyn Random) -> Self {
        let mut secret = vec![0; 32];
        rng.fill(&mut secret);
        Self { secret: Secret::new(secret), total: 0, by_source: HashMap::new() }
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Decides about a request with this nonce and SPI, and perhaps a cookie.
    pub(super) fn judge(
        &self,
        policy: &Policy,
        now: Duration,
        remote: IpAddr,
        (spi_i, ni): (u64, &[u8]),
        cookie: Option<&[u8]>,
    ) -> Verdict {
        let from_here = self.by_source.get(&source(remote)).copied().unwrap_or(0);
        if self.total < policy.cookie_threshold && from_here < policy.cookie_threshold_per_source {
            return Verdict::Admit;
        }
        let now = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let good = cookie.is_some_and(|cookie| {
            cookie.first_chunk().is_some_and(|time| {
                let time = u32::from_be_bytes(*time);
                let age = now.checked_sub(time);
                constant_time_eq(cookie, &self.cookie(time, remote, spi_i, ni))
                    && age.is_some_and(|age| age <= COOKIE_LIFETIME)
            })
        });
        if !good {
            Verdict::Challenge(self.cookie(now, remote, spi_i, ni))
        } else if self.total >= policy.half_open_limit || from_here >= policy.half_open_limit_per_source {
            Verdict::Refuse
        } else {
            Verdict::Admit
        }
    }

    fn cookie(&self, time: u32, remote: IpAddr, spi_i: u64, ni: &[u8]) -> Vec<u8> {
        let time = time.to_be_bytes();
        let address = match remote {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let parts = [&time, ni, &address.octets()[..], &spi_i.to_be_bytes()];
        let mac = prf(Prf::HmacSha256, self.secret.expose(), &parts);
        time.into_iter().chain(mac.expose().iter().copied()).take(COOKIE_LEN).collect()
    }

    /// A half-open IKE SA from `remote` begins.
    pub(super) fn enter(&mut self, remote: IpAddr) {
        self.total += 1;
        *self.by_source.entry(source(remote)).or_default() += 1;
    }

    /// A half-open IKE SA from `remote` ended, by success or not.
    pub(super) fn leave(&mut self, remote: IpAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(count) = self.by_source.get_mut(&source(remote)) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source(remote));
            }
        }
    }
}

/// Who counts as one source: an IPv4 address, or an IPv6 /64.
pub(super) fn source(remote: IpAddr) -> IpAddr {
    match remote {
        IpAddr::V4(_) => remote,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::rng::SystemRandom;

    #[test]
    fn cookies_and_limits() {
        let policy = Policy {
            cookie_threshold: 4,
            cookie_threshold_per_source: 1,
            half_open_limit_per_source: 2,
            ..Policy::default()
        };
        let mut admission = Admission::new(&mut SystemRandom::new());
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let b2: IpAddr = "2001:db8::2".parse().unwrap();
        let ni = [3; 32];
        let at = Duration::from_secs;
        let judge = |admission: &Admission, now, from, spi, cookie: Option<&[u8]>| {
            admission.judge(&policy, at(now), from, (spi, &ni), cookie)
        };
        assert_eq!(judge(&admission, 5, a, 1, None), Verdict::Admit);
        admission.enter(a);
        assert_eq!(judge(&admission, 5, b, 1, None), Verdict::Admit, "another source");
        let Verdict::Challenge(cookie) = judge(&admission, 5, a, 1, None) else {
            panic!("no cookie asked for")
        };
        assert_eq!(judge(&admission, 15, a, 1, Some(&cookie)), Verdict::Admit);
        for (name, now, from, spi, cookie) in [
            ("too old", 16, a, 1, &cookie[..]),
            ("another SPI", 6, a, 2, &cookie),
            ("cut short", 6, a, 1, &cookie[..19]),
            ("empty", 6, a, 1, &[]),
            ("too long", 6, a, 1, &[0; 65]),
            ("from the future", 4, a, 1, &cookie),
        ] {
            assert!(
                matches!(judge(&admission, now, from, spi, Some(cookie)), Verdict::Challenge(_)),
                "{name}"
            );
        }
        admission.enter(a);
        assert_eq!(judge(&admission, 6, a, 1, Some(&cookie)), Verdict::Refuse);
        admission.leave(a);
        admission.enter(b);
        assert!(matches!(judge(&admission, 6, b2, 1, None), Verdict::Challenge(_)), "one /64 is one source");
        admission.leave(b);
        admission.leave(a);
        assert_eq!((admission.total(), admission.by_source.len()), (0, 0));
    }
}
