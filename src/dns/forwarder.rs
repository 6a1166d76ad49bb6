//! Pending queries and their attempts.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::dns64::{Dns64, Plan, Rewrite};
use crate::base::{Random, Reason};
use crate::wire::dns::{self, Header, Question};

/// Of them, of one client.
const PER_CLIENT: usize = 256;
/// Longest query.
const MAX_QUERY: usize = 4096;
/// A query is given up after this time.
const EXPIRY: Duration = Duration::from_secs(10);
/// How long one server may be silent before the next is asked too.
const RETRY: Duration = Duration::from_secs(2);
/// Attempts per query at most.
const MAX_ATTEMPTS: usize = 4;

/// How a client's query came, and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram to this address, from which the answer comes, too.
    Udp(Ipv4Addr),
    /// The TCP connection with this number, never reused while the program runs.
    Tcp(u32),
    /// A lookup of our own, which the client's port numbers. The servers' answer is passed on as it is.
    Own {
        /// The servers are asked over TCP.
        over_tcp: bool,
    },
}

impl Transport {
    fn is_udp(self) -> bool {
        matches!(self, Self::Udp(_) | Self::Own { over_tcp: false })
    }
}

/// What the forwarder wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A query, to port 53 of `server`.
    ToServer {
        /// The server.
        server: Ipv4Addr,
        /// The local port to send from; answers are told apart by it.
        local_port: u16,
        /// The message, without a TCP length.
        bytes: Vec<u8>,
        /// Over TCP instead of UDP.
        over_tcp: bool,
    },
    /// An answer.
    ToClient {
        /// Who asked.
        client: SocketAddrV4,
        /// How.
        transport: Transport,
        /// The message, without a TCP length.
        bytes: Vec<u8>,
    },
}

struct Query {
    client: SocketAddrV4,
    transport: Transport,
    bytes: Vec<u8>,
    /// What the servers are asked instead, if they are not asked this.
    rewrite: Option<Rewrite>,
    expires: Duration,
    /// When to ask the next server or give up; as in `deadlines`.
    deadline: Duration,
    attempts: usize,
    /// Local ports of the attempts that may still be answered.
    ports: Vec<u16>,
}

impl Query {
    fn asked(&self) -> &[u8] {
        self.rewrite.as_ref().map_or(&self.bytes, |rewrite| &rewrite.asked)
    }
}

struct Attempt {
    query: u32,
    server: Ipv4Addr,
    id: u16,
}

/// The forwarder. `now` is the monotonic time everywhere.
pub struct Forwarder {
    rng: Box<dyn Random>,
    servers: Vec<Ipv4Addr>,
    dns64: Option<Dns64>,
    /// Index of the server that answered last: asked first.
    preferred: usize,
    queries: HashMap<u32, Query>,
    /// By local port.
    attempts: HashMap<u16, Attempt>,
    deadlines: BTreeSet<(Duration, u32)>,
    outputs: VecDeque<Output>,
    next_query: u32,
}

impl Forwarder {
    /// Queries that wait for an answer at one time, at most.
    pub const CAPACITY: usize = 1024;

    /// A forwarder without servers.
    pub fn new(rng: Box<dyn Random>) -> Self {
        Self {
            rng,
            servers: Vec::new(),
            dns64: None,
            preferred: 0,
            queries: HashMap::new(),
            attempts: HashMap::new(),
            deadlines: BTreeSet::new(),
            outputs: VecDeque::new(),
            next_query: 0,
        }
    }

    /// The servers to ask.
    pub fn servers(&self) -> &[Ipv4Addr] {
        &self.servers
    }

    /// Whom to ask from now on, best first.
    pub fn set_servers(&mut self, servers: &[Ipv4Addr]) {
        if self.servers != servers {
            self.servers = servers.to_vec();
            self.preferred = 0;
        }
    }

    /// Which names are answered with addresses in the NAT64 prefix from now on; none without a value.
    pub fn set_dns64(&mut self, dns64: Option<Dns64>) {
        self.dns64 = dns64;
    }

    /// True where queries to `address` must not pass by: it is a server that knows nothing of the NAT64 prefix.
    pub fn stands_in_for(&self, address: Ipv4Addr) -> bool {
        self.dns64.is_some() && self.servers.contains(&address)
    }

    /// Queries that wait for an answer.
    pub fn pending(&self) -> usize {
        self.queries.len()
    }

    /// A client's query. An error means that it is dropped without an answer.
    pub fn handle_query(
        &mut self,
        now: Duration,
        client: SocketAddrV4,
        transport: Transport,
        query: &[u8],
    ) -> Result<(), Reason> {
        let header = Header::parse(query).map_err(|_| Reason::DnsUnexpected)?;
        let refusal = match header {
            _ if header.is_response() => return Err(Reason::DnsUnexpected),
            _ if header.opcode() != 0 => Some(dns::NOTIMP),
            _ if Question::parse(query).is_err() || query.len() > MAX_QUERY => Some(dns::FORMERR),
            _ => None,
        };
        if let Some(rcode) = refusal {
            self.refuse(client, transport, query, rcode);
            return Ok(());
        }
        let dns64 = self.dns64.as_ref().filter(|_| !matches!(transport, Transport::Own { .. }));
        let rewrite = match dns64.map_or(Plan::Pass, |dns64| dns64.plan(query)) {
            Plan::Pass => None,
            Plan::Ask(rewrite) => Some(rewrite),
            Plan::Answer(reply) => {
                if let Some(bytes) = reply.emit(query, transport.is_udp()) {
                    self.outputs.push_back(Output::ToClient { client, transport, bytes });
                }
                return Ok(());
            }
        };
        if self.servers.is_empty() {
            self.refuse(client, transport, query, dns::SERVFAIL);
            return Ok(());
        }
        if self.queries.len() >= Self::CAPACITY || self.has_too_many(*client.ip()) {
            return Err(Reason::DnsFull);
        }
        let number = self.next_query;
        self.next_query = self.next_query.wrapping_add(1);
        let query = Query {
            client,
            transport,
            bytes: query.to_vec(),
            rewrite,
            expires: now + EXPIRY,
            deadline: now,
            attempts: 0,
            ports: Vec::new(),
        };
        self.deadlines.insert((query.deadline, number));
        self.queries.insert(number, query);
        self.go_on(now, number);
        Ok(())
    }

    /// A message that came to `local_port` from port 53 of `server`. [`Reason::DnsUnexpected`] where it answers nothing
    /// that was asked there.
    pub fn handle_response(&mut self, server: Ipv4Addr, local_port: u16, bytes: &[u8]) -> Result<(), Reason> {
        let attempt = self.attempts.get(&local_port).ok_or(Reason::DnsUnexpected)?;
        let number = attempt.query;
        let query = self.queries.get(&number).ok_or(Reason::DnsUnexpected)?;
        let header = Header::parse(bytes).map_err(|_| Reason::DnsUnexpected)?;
        let matches = attempt.server == server && attempt.id == header.id && header.is_response();
        // A server that does not understand the query may answer with a bare header.
        let bare = header.questions == 0 && header.rcode() != 0 && bytes.len() == dns::HEADER_LEN;
        let same =
            Question::parse(bytes).is_ok_and(|question| Question::parse(query.asked()) == Ok(question));
        if !matches || !(same || bare) {
            return Err(Reason::DnsUnexpected);
        }
        if let Some(index) = self.servers.iter().position(|known| *known == server) {
            self.preferred = index;
        }
        if let Some(query) = self.remove(number)
            && let Some(bytes) = answer(&query, bytes)
        {
            let Query { client, transport, .. } = query;
            self.outputs.push_back(Output::ToClient { client, transport, bytes });
        }
        Ok(())
    }

    /// Nothing will come to `local_port`: refused, unreachable or reset. The next server is asked at once.
    pub fn handle_failure(&mut self, now: Duration, local_port: u16) {
        let Some(attempt) = self.attempts.remove(&local_port) else { return };
        if let Some(query) = self.queries.get_mut(&attempt.query) {
            query.ports.retain(|port| *port != local_port);
            self.go_on(now, attempt.query);
        }
    }

    /// The next thing to send.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Forwarder::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Asks next servers and gives up what is too old.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some((deadline, number)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.go_on(now, number);
        }
    }

    fn has_too_many(&self, client: Ipv4Addr) -> bool {
        // Nothing to count while the table is nearly empty, which is nearly always.
        self.queries.len() >= PER_CLIENT
            && self.queries.values().filter(|query| *query.client.ip() == client).count() >= PER_CLIENT
    }

    /// The next attempt for a query if there is one, else its end or its wait for the end.
    fn go_on(&mut self, now: Duration, number: u32) {
        let Some(query) = self.queries.get(&number) else { return };
        let over_tcp = !query.transport.is_udp();
        // A datagram may have been lost, so that one server is asked twice; TCP sees to that itself.
        let useful = if over_tcp { self.servers.len() } else { self.servers.len().max(2) };
        let may_try = query.attempts < useful.min(MAX_ATTEMPTS) && now < query.expires;
        let sent = may_try && self.attempt(number, over_tcp);
        let Some(query) = self.queries.get_mut(&number) else { return };
        if now >= query.expires || !sent && query.ports.is_empty() {
            if let Some(query) = self.remove(number) {
                self.refuse(query.client, query.transport, &query.bytes, dns::SERVFAIL);
            }
            return;
        }
        let deadline = if sent { query.expires.min(now + RETRY) } else { query.expires };
        self.deadlines.remove(&(query.deadline, number));
        self.deadlines.insert((deadline, number));
        query.deadline = deadline;
    }

    /// Sends a query to its next server, from a fresh port with a fresh identifier.
    fn attempt(&mut self, number: u32, over_tcp: bool) -> bool {
        let Some(query) = self.queries.get_mut(&number) else { return false };
        let turn = self.preferred + query.attempts;
        let Some(server) = turn.checked_rem(self.servers.len()).and_then(|at| self.servers.get(at)).copied()
        else {
            return false;
        };
        // Few ports are in use; the bound is for a broken source of randomness.
        let fresh = (0..64)
            .map(|_| random_u16(&mut *self.rng))
            .find(|port| *port >= 1024 && !self.attempts.contains_key(port));
        let Some(local_port) = fresh else { return false };
        let id = random_u16(&mut *self.rng);
        let mut bytes = query.asked().to_vec();
        dns::set_id(&mut bytes, id);
        query.attempts += 1;
        query.ports.push(local_port);
        self.attempts.insert(local_port, Attempt { query: number, server, id });
        self.outputs.push_back(Output::ToServer { server, local_port, bytes, over_tcp });
        true
    }

    fn remove(&mut self, number: u32) -> Option<Query> {
        let query = self.queries.remove(&number)?;
        self.deadlines.remove(&(query.deadline, number));
        for port in &query.ports {
            self.attempts.remove(port);
        }
        Some(query)
    }

    fn refuse(&mut self, client: SocketAddrV4, transport: Transport, query: &[u8], rcode: u8) {
        if let Some(bytes) = dns::refusal(query, rcode) {
            self.outputs.push_back(Output::ToClient { client, transport, bytes });
        }
    }
}

/// The client's answer, of a server's.
fn answer(query: &Query, response: &[u8]) -> Option<Vec<u8>> {
    match &query.rewrite {
        Some(rewrite) => rewrite.reply(&query.bytes, response).emit(&query.bytes, query.transport.is_udp()),
        None => {
            let mut bytes = response.to_vec();
            let asked = Header::parse(&query.bytes).ok()?;
            dns::set_id(&mut bytes, asked.id).then_some(bytes)
        }
    }
}

fn random_u16(rng: &mut dyn Random) -> u16 {
    let mut bytes = [0; 2];
    rng.fill(&mut bytes);
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: Transport = Transport::Udp(Ipv4Addr::new(198, 19, 255, 1));
    const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
    const SECOND: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 2);

    struct Sequence(u64);

    impl Random for Sequence {
        fn fill(&mut self, out: &mut [u8]) {
            for octet in out {
                self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *octet = (self.0 >> 56) as u8;
            }
        }
    }

    fn forwarder(servers: &[Ipv4Addr]) -> Forwarder {
        let mut forwarder = Forwarder::new(Box::new(Sequence(7)));
        forwarder.set_servers(servers);
        forwarder
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(50_000 + ms)
    }

    fn client() -> SocketAddrV4 {
        "198.19.255.2:4000".parse().unwrap()
    }

    fn query(id: u16, name: &[u8]) -> Vec<u8> {
        let header = [&id.to_be_bytes()[..], b"\x01\0\0\x01\0\0\0\0\0\x01"].concat();
        [&header[..], &[name.len() as u8], name, b"\0\0\x01\0\x01\0\0\x29\x10\0\0\0\0\0\0\0"].concat()
    }

    /// The query that was sent: server, port, message, over TCP.
    #[track_caller]
    fn sent(forwarder: &mut Forwarder) -> (Ipv4Addr, u16, Vec<u8>, bool) {
        match forwarder.poll_output() {
            Some(Output::ToServer { server, local_port, bytes, over_tcp }) => {
                (server, local_port, bytes, over_tcp)
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(query: &[u8]) -> Vec<u8> {
        let mut answer = [query, b"and the rest"].concat();
        answer[2] |= 0x80;
        answer
    }

    /// (client, transport, identifier, response code)
    #[track_caller]
    fn answered(forwarder: &mut Forwarder) -> (SocketAddrV4, Transport, u16, u8) {
        match forwarder.poll_output() {
            Some(Output::ToClient { client, transport, bytes }) => {
                let header = Header::parse(&bytes).unwrap();
                assert!(header.is_response());
                (client, transport, header.id, header.rcode())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_pass_byte_for_byte_but_for_the_identifier() {
        let mut f = forwarder(&[FIRST, SECOND]);
        for (transport, id) in [(UDP, 1), (Transport::Tcp(9), 2)] {
            let asked = query(id, b"WwW");
            f.handle_query(ms(0), client(), transport, &asked).unwrap();
            let (server, port, bytes, over_tcp) = sent(&mut f);
            assert_eq!((server, over_tcp), (FIRST, transport != UDP));
            assert!(port >= 1024 && bytes[..2] != asked[..2] && bytes[2..] == asked[2..]);
            let reply = answer(&bytes);
            f.handle_response(FIRST, port, &reply).unwrap();
            let expected = [&asked[..2], &reply[2..]].concat();
            assert_eq!(
                f.poll_output(),
                Some(Output::ToClient { client: client(), transport, bytes: expected })
            );
            assert_eq!((f.pending(), f.poll_timeout(), f.poll_output()), (0, None, None));
            assert_eq!(f.handle_response(FIRST, port, &reply), Err(Reason::DnsUnexpected), "twice");
        }
    }

    #[test]
    fn replies_that_do_not_match_are_ignored() {
        let mut f = forwarder(&[FIRST, SECOND]);
        f.handle_query(ms(0), client(), UDP, &query(1, b"www")).unwrap();
        let (_, port, bytes, _) = sent(&mut f);
        let good = answer(&bytes);
        let with = |at: usize, value: u8| {
            let mut reply = good.clone();
            reply[at] = value;
            reply
        };
        let cases = [
            (SECOND, port, good.clone()),
            (FIRST, port ^ 1, good.clone()),
            (FIRST, port, with(0, !good[0])),
            (FIRST, port, with(13, b'v')),
            (FIRST, port, with(18, 28)),
            (FIRST, port, with(2, 1)),
            (FIRST, port, with(5, 0)),
            (FIRST, port, good[..20].to_vec()),
            (FIRST, port, Vec::new()),
        ];
        for (index, (server, port, reply)) in cases.into_iter().enumerate() {
            assert_eq!(f.handle_response(server, port, &reply), Err(Reason::DnsUnexpected), "{index}");
        }
        assert_eq!(f.poll_output(), None);
        f.handle_response(FIRST, port, &with(13, b'W')).unwrap();
        assert_eq!(answered(&mut f), (client(), UDP, 1, 0));
    }

    #[test]
    fn a_bare_header_with_an_error_is_an_answer() {
        let mut f = forwarder(&[FIRST]);
        f.handle_query(ms(0), client(), UDP, &query(1, b"www")).unwrap();
        let (_, port, bytes, _) = sent(&mut f);
        let bare = |rcode| [&bytes[..2], &[0x81, 0x80 | rcode, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert!(f.handle_response(FIRST, port, &bare(0)).is_err());
        f.handle_response(FIRST, port, &bare(dns::FORMERR)).unwrap();
        assert_eq!(answered(&mut f).3, dns::FORMERR);
    }

    #[test]
    fn the_next_server_is_asked_and_the_first_may_still_answer() {
        let mut f = forwarder(&[FIRST, SECOND]);
        f.handle_query(ms(0), client(), UDP, &query(1, b"www")).unwrap();
        let first = sent(&mut f);
        assert_eq!(f.poll_timeout(), Some(ms(2000)));
        f.handle_timeout(ms(1999));
        assert_eq!(f.poll_output(), None);
        f.handle_timeout(ms(2000));
        let second = sent(&mut f);
        assert_eq!((first.0, second.0), (FIRST, SECOND));
        assert!(first.1 != second.1 && first.2[..2] != second.2[..2], "fresh port and identifier");
        f.handle_response(FIRST, first.1, &answer(&first.2)).unwrap();
        assert_eq!(answered(&mut f).2, 1);
        assert!(f.handle_response(SECOND, second.1, &answer(&second.2)).is_err());
        // The one that answered last is asked first.
        f.handle_query(ms(3000), client(), UDP, &query(2, b"www")).unwrap();
        sent(&mut f);
        f.handle_timeout(ms(5000));
        let (server, port, bytes, _) = sent(&mut f);
        f.handle_response(server, port, &answer(&bytes)).unwrap();
        answered(&mut f);
        f.handle_query(ms(6000), client(), UDP, &query(3, b"www")).unwrap();
        assert_eq!(sent(&mut f).0, SECOND);
    }

    #[test]
    fn silence_ends_in_servfail_after_ten_seconds() {
        for (transport, servers, attempts) in [
            (UDP, &[FIRST][..], 2),
            (Transport::Tcp(1), &[FIRST], 1),
            (UDP, &[FIRST, SECOND], 2),
            (UDP, &[FIRST, SECOND, FIRST, SECOND, FIRST], 4),
        ] {
            let mut f = forwarder(servers);
            f.handle_query(ms(0), client(), transport, &query(1, b"www")).unwrap();
            let mut count = 0;
            let mut end = ms(0);
            loop {
                match f.poll_output() {
                    Some(Output::ToServer { .. }) => count += 1,
                    Some(Output::ToClient { bytes, .. }) => {
                        assert_eq!(Header::parse(&bytes).unwrap().rcode(), dns::SERVFAIL);
                        break;
                    }
                    None => {
                        end = f.poll_timeout().unwrap();
                        f.handle_timeout(end);
                    }
                }
            }
            assert_eq!((count, end, f.pending()), (attempts, ms(10_000), 0));
            assert!(f.attempts.is_empty());
        }
    }

    #[test]
    fn failures_move_on_at_once() {
        let mut f = forwarder(&[FIRST, SECOND]);
        f.handle_query(ms(0), client(), Transport::Tcp(3), &query(1, b"www")).unwrap();
        let first = sent(&mut f);
        f.handle_failure(ms(10), first.1);
        let second = sent(&mut f);
        assert_eq!(second.0, SECOND);
        f.handle_failure(ms(20), first.1);
        assert_eq!(f.poll_output(), None);
        f.handle_failure(ms(20), second.1);
        assert_eq!(answered(&mut f), (client(), Transport::Tcp(3), 1, dns::SERVFAIL));
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let mut f = forwarder(&[]);
        f.handle_query(ms(0), client(), UDP, &query(1, b"www")).unwrap();
        assert_eq!(answered(&mut f).3, dns::SERVFAIL);
        f.set_servers(&[FIRST]);
        let mut update = query(1, b"www");
        update[2] |= 5 << 3;
        f.handle_query(ms(0), client(), UDP, &update).unwrap();
        assert_eq!(answered(&mut f).3, dns::NOTIMP);
        f.handle_query(ms(0), client(), UDP, &query(1, b"www")[..14]).unwrap();
        assert_eq!(answered(&mut f).3, dns::FORMERR);
        for dropped in [&answer(&query(1, b"www"))[..], b"short"] {
            let result = f.handle_query(ms(0), client(), UDP, dropped);
            assert_eq!(result, Err(Reason::DnsUnexpected));
        }
        assert_eq!((f.poll_output(), f.pending()), (None, 0));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut f = forwarder(&[FIRST]);
        let mut accepted = 0;
        for number in 0..6 {
            let client = SocketAddrV4::new(Ipv4Addr::new(198, 19, 255, 2 + number), 4000);
            let mut ask = |id| f.handle_query(ms(0), client, UDP, &query(id, b"www"));
            let results: Vec<_> = (0..300).map(&mut ask).collect();
            let count = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(
                (count, results[299]),
                (if number < 4 { PER_CLIENT } else { 0 }, Err(Reason::DnsFull))
            );
            accepted += count;
        }
        assert_eq!((accepted, f.pending()), (Forwarder::CAPACITY, Forwarder::CAPACITY));
        f.handle_timeout(ms(10_000));
        assert_eq!((f.pending(), f.attempts.len(), f.poll_timeout()), (0, 0, None));
    }
}
