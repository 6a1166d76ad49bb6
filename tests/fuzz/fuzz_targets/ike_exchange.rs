//! The whole responder with a clock of its own, under any sequence of steps: peers that do right, peers that hold the keys
//! and send anything, strangers, the data path, and the operator. `World` holds what must be true after each step.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Once;

use libfuzzer_sys::fuzz_target;
use pterodapter::base::{DeviceId, TrafficSelector};
use pterodapter::ike::{ClientPlan, Input, Nat64Plan};
use pterodapter::wire::ike::{
    Chain, Delete, Exchange, FragmentNumber, HEADER_LEN, Header, Kind, Notify, notify_type,
};
use pterodapter_fuzz::Events;
use pterodapter_fuzz::peer::{Beginning, By, Manner, Peer, Suite};
use pterodapter_fuzz::world::{Sender, World, identity, path};

/// Longest sequence.
const MAX_STEPS: usize = 256;
/// Most peers at a time; the oldest is forgotten by its client first.
const MAX_PEERS: usize = 12;

/// Honest peers get through: otherwise the target would only ever see refusals.
static HONEST: Once = Once::new();

fuzz_target!(|data: &[u8]| {
    HONEST.call_once(honest_peers_get_through);
    let mut run = Run::default();
    for (kind, bytes) in Events(data).take(MAX_STEPS) {
        run.step(kind, bytes);
    }
    run.world.finish();
});

/// What can happen. A new kind goes to the end: the corpus counts from the start.
const STEPS: [fn(&mut Run, u8, &[u8]); 21] = [
    // The first octet of what belongs to a step says how; here, from where.
    |run, from, bytes| run.stranger(bytes, from),
    // IKE_SA_INIT with more payloads behind its own.
    |run, how, bytes| run.begin(how, &payloads(bytes)),
    // The first IKE_AUTH request: by what, honest or not, with more payloads.
    |run, how, bytes| run.authenticate(how, &payloads(bytes)),
    |run, how, _| run.continue_eap(Manner { right: how % 4 != 0, tls: how & 0x10 != 0 }),
    // A message in plain behind a header that leads to an IKE SA.
    |run, flags, bytes| run.framed(flags, bytes),
    // Any octets inside encryption: what comes first, then they.
    |run, how, bytes| {
        if let Some((&first, bytes)) = bytes.split_first() {
            run.sealed(how, first, None, bytes);
        }
    },
    // Any payloads inside encryption.
    |run, how, bytes| {
        let chain = chain(&payloads(bytes));
        run.sealed(how, chain.first(), None, chain.bytes());
    },
    // A piece of a message: its number, of how many, and what comes first.
    |run, how, bytes| {
        if let Some((&[number, total, first], bytes)) = bytes.split_first_chunk::<3>() {
            let fragment = FragmentNumber { number: u16::from(number), total: u16::from(total) };
            run.sealed(how, first, Some(fragment), bytes);
        }
    },
    // Payloads cut into pieces of a size, in an order.
    |run, how, bytes| {
        if let Some((&size, bytes)) = bytes.split_first() {
            run.cut(how, usize::from(size) + 1, &chain(&payloads(bytes)));
        }
    },
    |run, how, _| {
        run.with_peer(|peer| Some(peer.create_child((how & 1 == 0).then_some(how.into()), how & 2 == 0)))
    },
    |run, how, _| {
        let spi = run.next_spi(how);
        run.with_peer(|peer| Some(peer.rekey_ike(spi)));
    },
    |run, which, _| run.delete(which),
    // An answer to our last request.
    |run, _, _| run.answer(),
    // RFC 4555: a new address, and the words for it.
    |run, from, bytes| {
        let mobike = Notify::new(notify_type::UPDATE_SA_ADDRESSES, bytes).emit();
        run.with_peer(|peer| {
            peer.from = from;
            Some(peer.inform(&[(Kind::Notify, &mobike)]))
        });
    },
    // The data path.
    |run, which, bytes| run.data_path(which, bytes),
    |run, how, bytes| run.plan(how, bytes),
    |run, others, _| {
        let sent = run.world.handle(Input::Identity(Box::new(identity(others % 2 == 1))));
        run.take(&sent);
    },
    |run, which, _| {
        if !run.peers.is_empty() {
            run.current = usize::from(which) % run.peers.len();
        }
    },
    // What was said before, said again, from somewhere, perhaps with an octet changed.
    |run, which, bytes| run.again(which, bytes),
    |run, scale, bytes| {
        let millis = (1 + bytes.len() as u64) << (scale % 20);
        let sent = run.world.advance(millis);
        run.take(&sent);
    },
    // EAP of any type with anything in it, as an answer to the question of the server.
    |run, kind, bytes| run.with_peer(|peer| peer.answer_eap(kind, bytes)),
];

#[derive(Default)]
struct Run {
    world: World,
    peers: Vec<Peer>,
    current: usize,
    /// How many SPIs the clients have chosen.
    spis: u64,
    /// The last datagrams of all clients.
    said: Vec<Vec<u8>>,
}

impl Run {
    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let (how, rest) = bytes.split_first().map_or((0, bytes), |(how, rest)| (*how, rest));
        STEPS[usize::from(kind) % STEPS.len()](self, how, rest);
    }

    /// Gives each answer and each request of ours to the peer that it is for.
    fn take(&mut self, sent: &[Vec<u8>]) {
        for bytes in sent {
            let header = Header::parse(bytes).expect("we send IKE");
            let of_this = |peer: &&mut Peer| (peer.spi_i, peer.spi_r) == (header.spi_i, header.spi_r);
            let next = self.peers.iter_mut().find(of_this).and_then(|peer| peer.receive(bytes));
            self.add(next);
        }
    }

    fn add(&mut self, peer: Option<Peer>) {
        let Some(peer) = peer else { return };
        if self.peers.len() == MAX_PEERS {
            self.peers.remove(0);
        }
        self.peers.push(peer);
        self.current = self.peers.len() - 1;
    }

    /// A datagram of the current peer, and what follows from it.
    fn with_peer(&mut self, message: impl FnOnce(&mut Peer) -> Option<Vec<u8>>) {
        let Some(peer) = self.peers.get_mut(self.current) else { return };
        let from = peer.from;
        if let Some(message) = message(peer) {
            self.say(message, from, Sender::Anyone);
        }
    }

    fn answer(&mut self) {
        let mut next = None;
        self.with_peer(|peer| {
            let (answer, successor) = peer.answer()?;
            next = successor;
            Some(answer)
        });
        self.add(next);
    }

    fn say(&mut self, message: Vec<u8>, from: u8, sender: Sender) {
        let sent = self.world.datagram(&message, from, sender);
        self.take(&sent);
        if self.said.len() == 32 {
            self.said.remove(0);
        }
        self.said.push(message);
    }

    fn stranger(&mut self, bytes: &[u8], from: u8) {
        self.world.datagram(bytes, from, Sender::Stranger);
    }

    fn next_spi(&mut self, how: u8) -> u64 {
        self.spis += 1;
        // Zero is not allowed, and an SPI may be one that is in use.
        if how == 0xff { 0 } else { 0x1122_3344_5566_0000 + if how == 0xfe { 1 } else { self.spis } }
    }

    /// Once more with a cookie, where one is asked for.
    fn begin(&mut self, how: u8, extra: &[(Kind, &[u8])]) {
        let (from, fragments) = (how / 4 % 16, how & 1 == 1);
        let suite = if how < 0x80 { Suite::AEAD } else { Suite::CBC };
        let spi_i = self.next_spi(0);
        let mut cookie = None;
        for _ in 0..2 {
            let beginning = Beginning::new(suite, spi_i, fragments, cookie.as_deref(), extra);
            let sent = self.world.datagram(&beginning.request, from, Sender::Stranger);
            self.said.push(beginning.request.clone());
            let Some(response) = sent.first() else { return };
            cookie = Beginning::cookie(response);
            if cookie.is_none() || how & 2 == 2 {
                let peer = beginning.finish(from, response);
                return self.add(peer);
            }
        }
    }

    fn authenticate(&mut self, how: u8, more: &[(Kind, &[u8])]) {
        let by = [By::Certificate, By::Psk, By::Eap][usize::from(how) % 3];
        let lie = how >= 0xc0;
        // Half of those that come by EAP are let in at the end.
        self.world.proofs += usize::from(!lie && by != By::Eap && !self.peers.is_empty());
        self.with_peer(|peer| Some(peer.authenticate(by, lie, more)));
    }

    fn continue_eap(&mut self, manner: Manner) {
        let Some(peer) = self.peers.get_mut(self.current) else { return };
        let from = peer.from;
        let Some((message, last)) = peer.continue_eap(manner) else { return };
        self.world.proofs += usize::from(last);
        self.say(message, from, Sender::Anyone);
    }

    fn framed(&mut self, flags: u8, bytes: &[u8]) {
        let Some((&[exchange, id, next_payload], body)) = bytes.split_first_chunk::<3>() else { return };
        let spis = self.peers.get(self.current).map_or((1, 0), |peer| (peer.spi_i, peer.spi_r));
        let header = Header {
            spi_i: spis.0,
            spi_r: if flags & 4 == 0 { spis.1 } else { 0 },
            next_payload,
            major: 2 + (flags >> 7),
            exchange: exchange_of(exchange),
            initiator: flags & 1 == 0,
            response: flags & 2 != 0,
            message_id: u32::from(id),
            length: (HEADER_LEN + body.len()) as u32,
        };
        self.stranger(&[&header.emit()[..], body].concat(), flags >> 3);
    }

    /// `how` is the exchange (two bits and one for others), whether it is a response, and the distance of the message ID
    /// from the one that is due.
    fn sealed(&mut self, how: u8, first: u8, fragment: Option<FragmentNumber>, payloads: &[u8]) {
        self.with_peer(|peer| {
            let response = how & 8 != 0;
            let due = if response { 0 } else { peer.next_id };
            let id = due.wrapping_add(u32::from(how >> 4)).wrapping_sub(u32::from(how >> 4 > 8) * 16);
            Some(peer.seal((exchange_of(how & 7), response, id), first, fragment, payloads))
        });
    }

    fn cut(&mut self, how: u8, size: usize, chain: &Chain) {
        let pieces: Vec<_> = chain.bytes().chunks(size).collect();
        let total = u16::try_from(pieces.len()).unwrap_or(u16::MAX);
        let mut numbered: Vec<_> = (1..=total).zip(pieces).collect();
        if how & 0x10 != 0 {
            numbered.reverse();
        }
        for (number, piece) in numbered {
            let first = if number == 1 { chain.first() } else { 0 };
            self.sealed(how & 0x0f, first, Some(FragmentNumber { number, total }), piece);
        }
    }

    fn delete(&mut self, which: u8) {
        self.with_peer(|peer| {
            let body = if which < 0x80 && !peer.children.is_empty() {
                let at = usize::from(which) % peer.children.len();
                Delete::Esp(vec![peer.children.remove(at).0]).emit()
            } else {
                Delete::Ike.emit()
            };
            Some(peer.inform(&[(Kind::Delete, &body)]))
        });
    }

    fn data_path(&mut self, which: u8, bytes: &[u8]) {
        let at = usize::from(which / 8);
        let device = self.world.connected.iter().nth(at).copied().unwrap_or(DeviceId(u32::from(which)));
        let spi_in = self.world.installed.iter().nth(at).copied().unwrap_or(u32::from(which));
        let sent = match which % 8 {
            0 => self.world.acknowledge(at),
            1 => {
                self.world.prompt = !self.world.prompt;
                Vec::new()
            }
            2 => self.world.handle(Input::Installed { spi_in }),
            3 => self.world.handle(Input::NearlyExhausted { spi_in }),
            4 => self.world.handle(Input::Alive { device }),
            5 => {
                let from = bytes.first().copied().unwrap_or_default();
                self.world.handle(Input::Moved { device, path: path(from) })
            }
            6 => self.world.handle(Input::Disconnect(device)),
            _ if bytes == b"shutdown" => self.world.handle(Input::Shutdown),
            _ => Vec::new(),
        };
        self.take(&sent);
    }

    /// What clients get: with IPv6 or without, and networks from the input.
    fn plan(&mut self, how: u8, bytes: &[u8]) {
        let mut plan = ClientPlan::full_tunnel(Ipv4Addr::new(10, 0, 0, how));
        if !bytes.is_empty() {
            plan.ts = bytes.chunks(4).map(network).collect();
        }
        let prefix = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);
        plan.nat64 = (how & 1 == 1).then_some(Nat64Plan { prefix });
        plan.domains = (how & 2 == 2).then(|| "corp.example".to_owned()).into_iter().collect();
        let sent = self.world.handle(Input::Plan(plan));
        self.take(&sent);
    }

    fn again(&mut self, which: u8, bytes: &[u8]) {
        let Some(message) = self.said.len().checked_sub(1 + usize::from(which)) else { return };
        let mut message = self.said[message].clone();
        if let [_, at, flip, ..] = bytes {
            let at = usize::from(*at) * 8 % message.len();
            message[at] ^= flip;
        }
        let sent = self.world.datagram(&message, bytes.first().copied().unwrap_or_default(), Sender::Anyone);
        self.take(&sent);
    }
}

/// Payloads: a type, octets of body (at most 255), and they.
fn payloads(mut bytes: &[u8]) -> Vec<(Kind, &[u8])> {
    let mut found = Vec::new();
    while let Some((&[kind, len], rest)) = bytes.split_first_chunk::<2>() {
        let (body, rest) = rest.split_at(usize::from(len).min(rest.len()));
        bytes = rest;
        found.extend(Kind::from_u8(kind).map(|kind| (kind, body)));
    }
    found.retain(|(kind, _)| !matches!(kind, Kind::Sk | Kind::Skf));
    found
}

fn chain(payloads: &[(Kind, &[u8])]) -> Chain {
    let mut chain = Chain::new();
    payloads.iter().for_each(|(kind, body)| chain.push(*kind, body));
    chain
}

fn network(octets: &[u8]) -> TrafficSelector {
    let mut address = [0; 4];
    address.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
    let first = u32::from_be_bytes(address) & !0xff;
    let address = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
    TrafficSelector {
        first: address(first),
        last: address(first | 0xff),
        protocol: 0,
        port_first: 0,
        port_last: u16::MAX,
    }
}

fn exchange_of(number: u8) -> Exchange {
    match number % 5 {
        0 => Exchange::IkeSaInit,
        1 => Exchange::IkeAuth,
        2 => Exchange::CreateChildSa,
        3 => Exchange::Informational,
        _ => Exchange::Other(43),
    }
}

fn honest_peers_get_through() {
    let mut run = Run::default();
    for how in 0..3 {
        run.begin(1 + 4 * how + 0x80 * (how % 2), &[]);
        run.authenticate(how, &[]);
        for _ in 0..4 {
            run.continue_eap(Manner { right: true, tls: false });
        }
        assert_eq!(
            (run.world.connected.len(), run.peers.len()),
            (usize::from(how) + 1, usize::from(how) + 1)
        );
    }
    // The same identity as the first, from another address.
    run.begin(4 * 3, &[]);
    run.authenticate(2, &[]);
    for _ in 0..12 {
        run.continue_eap(Manner { right: true, tls: true });
    }
    assert_eq!(run.world.connected.len(), 4, "by EAP-TLS");
    let installed = run.world.installed.len();
    run.with_peer(|peer| Some(peer.create_child(None, false)));
    assert_eq!(run.world.installed.len(), installed + 1, "a further Child SA");
    run.with_peer(|peer| Some(peer.create_child(Some(0), true)));
    run.delete(0);
    assert_eq!(run.world.installed.len(), installed + 1, "a Child SA is replaced");
    let spi = run.next_spi(0);
    run.with_peer(|peer| Some(peer.rekey_ike(spi)));
    assert_eq!(run.peers.len(), 5, "the IKE SA is replaced");
    run.with_peer(|peer| Some(peer.inform(&[])));
    assert_eq!(run.peers[4].next_id, 1, "and is answered");
    let spi_in = *run.world.installed.first().expect("a Child SA");
    let sent = run.world.handle(Input::NearlyExhausted { spi_in });
    assert_eq!(sent.len(), 1, "our own rekey");
    run.take(&sent);
    for current in 0..5 {
        run.current = current;
        run.answer();
    }
    assert_eq!(run.world.installed.len(), installed + 2);
    run.current = 4;
    run.delete(0xff);
    assert_eq!(run.world.connected.len(), 3);
    run.world.finish();

    let mut run = Run::default();
    run.begin(1, &[]);
    run.authenticate(0, &[]);
    let sent = run.world.advance(401_000);
    run.take(&sent);
    run.answer();
    assert_eq!(run.peers.len(), 2, "our own rekey of the IKE SA");
    run.with_peer(|peer| Some(peer.inform(&[])));
    assert_eq!(run.peers[1].next_id, 1, "and is answered");
    run.world.finish();
}
