//! Which address is tried when: Happy Eyeballs (RFC 8305), without a socket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Connects under way at the same time.
pub const LANES: usize = 6;
/// A name with more addresses than this is not tried further.
const MAX_ADDRESSES: usize = 32;
/// The next address is tried after so long, though the one before may still answer.
const STAGGER: Duration = Duration::from_millis(250);
/// Time for one address.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A race between the addresses of one name. Times are monotonic.
#[derive(Debug)]
pub struct Race {
    waiting: VecDeque<SocketAddr>,
    lanes: [Option<Runner>; LANES],
    /// When the next one starts.
    next: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Runner {
    address: SocketAddr,
    until: Duration,
}

impl Race {
    /// A race between `addresses`, which are in the system's order of preference. Where `served`, the address of the
    /// last connection, is one of them, it comes first: the session may be known there only.
    pub fn new(addresses: Vec<SocketAddr>, served: Option<SocketAddr>) -> Self {
        let mut waiting = interleave(addresses);
        if let Some(place) = waiting.iter().position(|address| Some(*address) == served)
            && let Some(address) = waiting.remove(place)
        {
            waiting.push_front(address);
        }
        waiting.truncate(MAX_ADDRESSES);
        Self { waiting, lanes: [None; LANES], next: Duration::ZERO }
    }

    /// The next address to connect to, and its lane.
    pub fn poll_start(&mut self, now: Duration) -> Option<(usize, SocketAddr)> {
        if now < self.next {
            return None;
        }
        let (index, lane) = self.lanes.iter_mut().enumerate().find(|(_, lane)| lane.is_none())?;
        let address = self.waiting.pop_front()?;
        *lane = Some(Runner { address, until: now + TIME_LIMIT });
        self.next = now + STAGGER;
        Some((index, address))
    }

    /// The next lane whose time is over; it is free now.
    pub fn poll_expired(&mut self, now: Duration) -> Option<usize> {
        let index = self.lanes.iter().position(|lane| lane.is_some_and(|runner| runner.until <= now))?;
        self.handle_failed(index);
        Some(index)
    }

    /// The connect failed: the next one starts at once.
    pub fn handle_failed(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            *lane = None;
            self.next = Duration::ZERO;
        }
    }

    /// The connect succeeded. The others stop; they start again should what follows fail at this address.
    pub fn handle_connected(&mut self, lane: usize) -> Option<SocketAddr> {
        let winner = self.lanes.get_mut(lane)?.take()?;
        let mut others: Vec<Runner> = self.lanes.iter_mut().filter_map(Option::take).collect();
        others.sort_by_key(|runner| runner.until);
        others.iter().rev().for_each(|runner| self.waiting.push_front(runner.address));
        self.next = Duration::ZERO;
        Some(winner.address)
    }

    /// When there is something to do without an event.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let free = self.lanes.iter().any(Option::is_none);
        let next = (free && !self.waiting.is_empty()).then_some(self.next);
        self.lanes.iter().flatten().map(|runner| runner.until).chain(next).min()
    }

    /// True when every address has failed.
    pub fn is_lost(&self) -> bool {
        self.waiting.is_empty() && self.lanes.iter().all(Option::is_none)
    }
}

/// The families take turns, beginning with that of the first address (RFC 8305 section 4).
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let mut queues = [first, second];
    let mut turns = VecDeque::new();
    while queues.iter().any(|queue| !queue.is_empty()) {
        turns.extend(queues.iter_mut().filter_map(VecDeque::pop_front));
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 443)).collect()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Runs a race on a virtual clock. `answers` says after how many milliseconds an address connects (`Ok`) or fails
    /// (`Err`); others are black holes. Gives the starts, the time of the end, and the winner.
    fn run(
        race: &mut Race,
        answers: &[(&str, Result<u64, u64>)],
    ) -> (Vec<(u64, String)>, u64, Option<SocketAddr>) {
        let mut now = Duration::ZERO;
        let mut starts = Vec::new();
        let mut events: Vec<(Duration, usize, bool)> = Vec::new();
        loop {
            while let Some(lane) = race.poll_expired(now) {
                events.retain(|event| event.1 != lane);
            }
            while let Some((lane, address)) = race.poll_start(now) {
                let ip = address.ip().to_string();
                let answer = answers.iter().find(|(name, _)| *name == ip).map(|(_, answer)| *answer);
                events.extend(answer.map(|a| (now + ms(a.unwrap_or_else(|e| e)), lane, a.is_ok())));
                starts.push((now.as_millis() as u64, ip));
            }
            if race.is_lost() {
                return (starts, now.as_millis() as u64, None);
            }
            events.sort();
            let timeout = race.poll_timeout().unwrap();
            now = match events.first() {
                Some(&(at, lane, connects)) if at <= timeout => {
                    events.remove(0);
                    if connects {
                        return (starts, at.as_millis() as u64, race.handle_connected(lane));
                    }
                    race.handle_failed(lane);
                    at
                }
                _ => timeout,
            };
        }
    }

    fn starts(list: &[(u64, &str)]) -> Vec<(u64, String)> {
        list.iter().map(|(at, ip)| (*at, (*ip).to_owned())).collect()
    }

    #[test]
    fn families_take_turns_and_the_last_server_comes_first() {
        let all = addresses(&["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"]);
        let order = |served| -> Vec<String> {
            Race::new(all.clone(), served).waiting.iter().map(|address| address.ip().to_string()).collect()
        };
        assert_eq!(order(None), ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"]);
        let served = addresses(&["192.0.2.2"])[0];
        assert_eq!(
            order(Some(served)),
            ["192.0.2.2", "2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]
        );
        assert_eq!(
            order(Some(addresses(&["192.0.2.9"])[0])),
            order(None),
            "no longer an address of the name"
        );
    }

    #[test]
    fn f39_a_dead_address_costs_a_quarter_of_a_second() {
        let mut race = Race::new(addresses(&["2001:db8::1", "192.0.2.1", "192.0.2.2"]), None);
        let (began, at, winner) = run(&mut race, &[("192.0.2.1", Ok(30))]);
        assert_eq!(began, starts(&[(0, "2001:db8::1"), (250, "192.0.2.1")]));
        assert_eq!((at, winner), (280, Some(addresses(&["192.0.2.1"])[0])));
        // TLS does not work there: the rest is still to be tried, beginning with the one that was under way.
        let (began, at, winner) = run(&mut race, &[]);
        assert_eq!(began, starts(&[(0, "2001:db8::1"), (250, "192.0.2.2")]));
        assert_eq!((at, winner), (5250, None));
    }

    #[test]
    fn a_refusal_starts_the_next_at_once() {
        let mut race = Race::new(addresses(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]), None);
        let (began, at, winner) =
            run(&mut race, &[("192.0.2.1", Err(10)), ("192.0.2.2", Ok(400)), ("192.0.2.3", Ok(400))]);
        assert_eq!(began, starts(&[(0, "192.0.2.1"), (10, "192.0.2.2"), (260, "192.0.2.3")]));
        assert_eq!((at, winner), (410, Some(addresses(&["192.0.2.2"])[0])));
    }

    #[test]
    fn lanes_and_addresses_are_bounded() {
        let many: Vec<String> = (0..100).map(|last| format!("192.0.2.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (began, _, winner) = run(&mut Race::new(addresses(&many), None), &[]);
        assert_eq!((began.len(), winner), (MAX_ADDRESSES, None));
        for (index, (at, _)) in began.iter().enumerate() {
            let under_way = began[..index].iter().filter(|(start, _)| start + 5000 > *at).count();
            assert!(under_way < LANES, "{began:?}");
        }
    }
}
