//! Cookies (RFC 7296 section 2.6): a stranger who brings one back gets what is sent to its address. Nothing is kept for
//! it meanwhile.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::Random;
use crate::crypto::hash::constant_time_eq;
use crate::crypto::prf::prf;
use crate::crypto::{Prf, Secret};
use crate::wire::ike::{Chain, Header, Kind, Notify, notify_type};

/// How long a cookie is good, in seconds.
const LIFETIME: u32 = 10;

/// Octets of a cookie: its time in seconds, then a keyed hash.
const LEN: usize = 4 + 16;

/// A secret makes cookies for this long, and then checks them for as long again.
pub(super) const ROTATION: Duration = Duration::from_secs(100);

/// Makes and checks cookies.
#[derive(Debug)]
pub(super) struct Cookies {
    /// The present secret, and the one before.
    secrets: [Secret; 2],
    /// From when on the present one is used, in seconds.
    since: u32,
}

impl Cookies {
    pub(super) fn new(now: Duration, rng: &mut dyn Random) -> Self {
        Self { secrets: [secret(rng), secret(rng)], since: seconds(now) }
    }

    /// Begins to use a new secret.
    pub(super) fn rotate(&mut self, now: Duration, rng: &mut dyn Random) {
        let [present, before] = &mut self.secrets;
        *before = std::mem::replace(present, secret(rng));
        self.since = seconds(now);
    }

    /// A cookie for a request from `remote` with this SPI and nonce.
    pub(super) fn make(&self, now: Duration, remote: IpAddr, request: (u64, &[u8])) -> Vec<u8> {
        self.made_at(seconds(now), remote, request)
    }

    /// Whether this is a cookie of ours for such a request, and not too old.
    pub(super) fn check(
        &self,
        now: Duration,
        remote: IpAddr,
        request: (u64, &[u8]),
        cookie: Option<&[u8]>,
    ) -> bool {
        let Some((cookie, time)) = cookie.and_then(|cookie| Some((cookie, cookie.first_chunk()?))) else {
            return false;
        };
        let time = u32::from_be_bytes(*time);
        // Its age first: what is too old needs no hash.
        seconds(now).checked_sub(time).is_some_and(|age| age <= LIFETIME)
            && constant_time_eq(cookie, &self.made_at(time, remote, request))
    }

    fn made_at(&self, time: u32, remote: IpAddr, (spi_i, ni): (u64, &[u8])) -> Vec<u8> {
        let [present, before] = &self.secrets;
        let secret = if time >= self.since { present } else { before };
        let time = time.to_be_bytes();
        let address = match remote {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let parts = [&time, ni, &address.octets()[..], &spi_i.to_be_bytes()];
        let mac = prf(Prf::HmacSha256, secret.expose(), &parts);
        time.into_iter().chain(mac.expose().iter().copied()).take(LEN).collect()
    }
}

/// The answer that asks for `cookie`.
pub(super) fn challenge(request: Header, cookie: &[u8]) -> Vec<u8> {
    let mut chain = Chain::new();
    chain.push(Kind::Notify, &Notify::new(notify_type::COOKIE, cookie).emit());
    chain.emit_message(Header { initiator: false, response: true, ..request })
}

fn secret(rng: &mut dyn Random) -> Secret {
    let mut secret = vec![0; 32];
    rng.fill(&mut secret);
    Secret::new(secret)
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::rng::SystemRandom;

    #[test]
    fn good_for_one_request_and_ten_seconds() {
        let (at, ni) = (Duration::from_secs, [3; 32]);
        let [a, b]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let mut rng = SystemRandom::new();
        let mut cookies = Cookies::new(at(0), &mut rng);
        let cookie = cookies.make(at(5), a, (1, &ni));
        let check = |cookies: &Cookies, now, from, spi, ni: &[u8], cookie: &[u8]| {
            cookies.check(at(now), from, (spi, ni), Some(cookie))
        };
        assert!(check(&cookies, 15, a, 1, &ni, &cookie));
        for (name, now, from, spi, ni, cookie) in [
            ("too old", 16, a, 1, &ni[..], &cookie[..]),
            ("from the future", 4, a, 1, &ni, &cookie),
            ("another address", 6, b, 1, &ni, &cookie),
            ("another SPI", 6, a, 2, &ni, &cookie),
            ("another nonce", 6, a, 1, &ni[1..], &cookie),
            ("cut short", 6, a, 1, &ni, &cookie[..19]),
            ("empty", 6, a, 1, &ni, &[]),
            ("too long", 6, a, 1, &ni, &[0; 65]),
        ] {
            assert!(!check(&cookies, now, from, spi, ni, cookie), "{name}");
        }
        assert!(!cookies.check(at(6), a, (1, &ni), None), "none");
        // The secret changes, twice.
        cookies.rotate(at(8), &mut rng);
        assert!(check(&cookies, 15, a, 1, &ni, &cookie), "made with the secret before");
        let newer = cookies.make(at(8), a, (1, &ni));
        assert!(check(&cookies, 8, a, 1, &ni, &newer));
        cookies.rotate(at(9), &mut rng);
        assert!(!check(&cookies, 15, a, 1, &ni, &cookie), "its secret is forgotten");
        assert!(check(&cookies, 15, a, 1, &ni, &newer));
    }
}
