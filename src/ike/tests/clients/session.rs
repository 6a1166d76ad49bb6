//! One client from its first datagram to its tunnel.

use std::net::IpAddr;

use super::*;
use crate::base::Path;
use crate::crypto::Group;
use crate::crypto::dh::KeyPair;
use crate::crypto::hash::sha1;
use crate::crypto::prf::prf;
use crate::wire::ike::*;

/// The client's address behind its NAT, and ours.
const PRIVATE: [u8; 4] = [192, 168, 1, 10];
const SERVER: [u8; 4] = [192, 0, 2, 1];

/// A client that is connected.
pub(super) struct Session {
    pub(super) client: Initiator,
    pub(super) script: Script,
    method: u8,
    pub(super) choice: Choice,
    /// Lengths of its requests IKE_SA_INIT.
    pub(super) init_lens: Vec<usize>,
    /// How many datagrams its request IKE_AUTH took.
    pub(super) auth_datagrams: usize,
    /// The AlgorithmIdentifier of our AUTH, where it is of method 14.
    pub(super) server_algorithm: Vec<u8>,
}

/// What changes from message to message.
#[derive(Default)]
pub(super) struct Content<'a> {
    pub(super) proposals: &'a [Proposal],
    pub(super) spi: &'a [u8],
    pub(super) nonce: &'a [u8],
    pub(super) ke: Option<(u16, &'a [u8])>,
    /// The client's SPI of the Child SA that is replaced.
    pub(super) replaced: u32,
}

impl Session {
    /// Connects, and agrees on `choice`.
    pub(super) fn open(world: &mut World, script: Script, who: Who, choice: Choice) -> Self {
        println!("{}", script.name);
        let mut session = Self::new(world, script, who, choice);
        let group = choice.ike.3;
        let mut answer = session.initiate(world, session.script.guess);
        if session.script.guess != group.transform_id() {
            let wanted = group.transform_id().to_be_bytes().to_vec();
            assert_eq!(answer, Err((notify_type::INVALID_KE_PAYLOAD, wanted)));
            answer = session.initiate(world, group.transform_id());
        }
        assert_eq!(answer, Ok(()));
        session.authenticate(world);
        session
    }

    /// The error that answers its IKE_SA_INIT.
    pub(super) fn refused(world: &mut World, script: Script, who: Who, choice: Choice) -> u16 {
        let mut session = Self::new(world, script, who, choice);
        session.initiate(world, session.script.guess).unwrap_err().0
    }

    fn new(world: &World, script: Script, who: Who, choice: Choice) -> Self {
        let mut client = Initiator::new(world, who.cert, 4500);
        (client.signing, client.id_i, client.id_r) = (who.signing, who.id_i, who.id_r);
        (_, client.cipher, client.prf, _) = choice.ike;
        client.esp = choice.esp.1;
        (client.asked, client.offered) = (script.asked.to_vec(), script.offered.clone());
        client.ni = random::<48>()[..script.nonce_len].to_vec();
        if !script.at_4500 {
            client.path = at_port(client.path, 500);
        }
        Self {
            client,
            script,
            method: who.method,
            choice,
            init_lens: vec![],
            auth_datagrams: 0,
            server_algorithm: vec![],
        }
    }

    pub(super) fn payloads(&self, parts: &[Part], content: &Content<'_>) -> Vec<(Kind, Vec<u8>)> {
        let client = &self.client;
        let nat = |address: [u8; 4], port: u16| {
            let port = port.to_be_bytes();
            sha1(&[&client.spi_i.to_be_bytes(), &0_u64.to_be_bytes(), &address, &port])
        };
        let notify = |kind, data: &[u8]| (Kind::Notify, Notify::new(kind, data).emit());
        let payload = |part: &Part| match *part {
            Part::Sa => {
                let with_spi = |p: &Proposal| Proposal { spi: content.spi.to_vec(), ..p.clone() };
                let proposals: Vec<_> = content.proposals.iter().map(with_spi).collect();
                (Kind::Sa, emit_proposals(&proposals))
            }
            Part::Ke => {
                let (group, data) = content.ke.unwrap();
                (Kind::Ke, Ke { group, data }.emit())
            }
            Part::Nonce => (Kind::Nonce, content.nonce.to_vec()),
            Part::NatSource => {
                notify(notify_type::NAT_DETECTION_SOURCE_IP, &nat(PRIVATE, client.path.local_port))
            }
            Part::NatDestination => {
                notify(notify_type::NAT_DETECTION_DESTINATION_IP, &nat(SERVER, client.path.local_port))
            }
            Part::Notify(kind) => notify(kind, &[]),
            Part::Hashes(hashes) => {
                let data: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect();
                notify(notify_type::SIGNATURE_HASH_ALGORITHMS, &data)
            }
            Part::Vendor(hex) => (Kind::Vendor, octets(hex)),
            Part::IdI => (Kind::IdI, client.id_body()),
            Part::Cert => (Kind::Cert, Cert { encoding: Cert::X509, data: &client.cert.cert_der }.emit()),
            Part::CertReq(count) => {
                let ours = Certificate::parse(&client.ca).unwrap().spki_sha1();
                let others = (1..count).map(|_| random::<20>());
                (Kind::CertReq, emit_cert_request(&others.chain([ours]).collect::<Vec<_>>()))
            }
            Part::IdR => {
                let (kind, data) = client.id_r.as_ref().unwrap();
                (Kind::IdR, Id { kind: *kind, data }.emit())
            }
            Part::Auth => (Kind::Auth, client.auth_body()),
            Part::Cp => {
                let attributes =
                    client.asked.iter().map(|kind| Attribute { kind: *kind, value: &[] }).collect();
                (Kind::Cp, Configuration { cfg_type: CfgType::Request, attributes }.emit())
            }
            Part::TsI => (Kind::TsI, emit_selectors(&client.offered)),
            Part::TsR => (Kind::TsR, emit_selectors(&client.offered)),
            Part::RekeySa => {
                let spi = content.replaced.to_be_bytes();
                let kind = notify_type::REKEY_SA;
                (Kind::Notify, Notify { protocol: protocol::ESP, spi: &spi, kind, data: &[] }.emit())
            }
        };
        parts.iter().map(payload).collect()
    }

    /// IKE_SA_INIT with a KE payload of this group; an error is a notify and its data.
    fn initiate(&mut self, world: &mut World, group: u16) -> Result<(), (u16, Vec<u8>)> {
        let pair = Group::from_transform_id(group).map(|group| KeyPair::generate(group).unwrap());
        // A group that we do not have: any octets will do.
        let public = pair.as_ref().map_or_else(|| vec![7; 256], |pair| pair.public().to_vec());
        let content = Content {
            proposals: &self.script.ike,
            nonce: &self.client.ni,
            ke: Some((group, &public)),
            ..Content::default()
        };
        let chain = chain_of(&self.payloads(&self.script.init, &content));
        let header = Header { spi_r: 0, ..self.client.header(Exchange::IkeSaInit, 0, false) };
        let request = chain.emit_message(header);
        self.init_lens.push(request.len());
        self.client.request = request.clone();
        self.client.pair = pair;
        let answer = world.exchange(self.client.path, &[request]);
        let [answer] = &answer[..] else { panic!("one answer: {answer:?}") };
        let header = Header::parse(answer).unwrap();
        assert!(header.covers(answer) && header.response && header.spi_i == self.client.spi_i);
        let payloads = parse_chain(header.next_payload, &answer[HEADER_LEN..]).unwrap();
        if let [Payload { kind: Kind::Notify, body, .. }] = payloads[..] {
            let notify = Notify::parse(body).unwrap();
            return Err((notify.kind, notify.data.to_vec()));
        }
        self.client.response = answer.clone();
        self.take_init(header, &payloads);
        Ok(())
    }

    fn take_init(&mut self, header: Header, payloads: &[Payload<'_>]) {
        let sends = |part: fn(&Part) -> bool| self.script.init.iter().any(part);
        let fragmentation = sends(|part| *part == Part::Notify(notify_type::FRAGMENTATION_SUPPORTED));
        let hashes = sends(|part| matches!(part, Part::Hashes(_)));
        let mut expected = vec![Kind::Sa as u16, Kind::Ke as u16, Kind::Nonce as u16];
        expected.extend([notify_type::NAT_DETECTION_SOURCE_IP, notify_type::NAT_DETECTION_DESTINATION_IP]);
        expected.push(Kind::CertReq as u16);
        expected.extend(fragmentation.then_some(notify_type::FRAGMENTATION_SUPPORTED));
        expected.extend(hashes.then_some(notify_type::SIGNATURE_HASH_ALGORITHMS));
        assert_eq!(order(payloads), expected, "the order that all of them take");

        let body = |kind| payloads.iter().find(|payload| payload.kind == kind).unwrap().body;
        let chosen = parse_proposals(body(Kind::Sa)).unwrap();
        assert_eq!(chosen, [self.choice.ike_answer(self.choice.ike.0, &[])]);
        let ke = Ke::parse(body(Kind::Ke)).unwrap();
        assert_eq!(ke.group, self.choice.ike.3.transform_id());
        let client = &mut self.client;
        (client.spi_r, client.nr) = (header.spi_r, body(Kind::Nonce).to_vec());
        client.fragmentation = fragmentation;

        let IpAddr::V4(address) = client.path.remote.ip() else { panic!("IPv4") };
        let port = client.path.remote.port().to_be_bytes();
        let (spi_i, spi_r) = (client.spi_i.to_be_bytes(), client.spi_r.to_be_bytes());
        let notify = |index: usize| Notify::parse(payloads[index].body).unwrap().data;
        let local_port = client.path.local_port.to_be_bytes();
        assert_ne!(notify(3), sha1(&[&spi_i, &spi_r, &SERVER, &local_port]), "forces ESP in UDP");
        assert_eq!(notify(4), sha1(&[&spi_i, &spi_r, &address.octets(), &port]));
        if hashes {
            // Not SHA2-512: libreswan would sign with it by a key on P-256, and we could not verify that.
            assert_eq!(notify(payloads.len() - 1), [0, 2, 0, 3]);
        }
        let asked = parse_cert_request(body(Kind::CertReq)).unwrap();
        assert!(asked.contains(&Certificate::parse(&client.ca).unwrap().spki_sha1()));

        let shared = client.pair.take().unwrap().agree(ke.data).unwrap();
        let nonces = [&client.ni[..], &client.nr].concat();
        client.derive(prf(client.prf, &nonces, &[shared.expose()]).expose());
    }

    /// IKE_AUTH from port 4500, in fragments of the client's size.
    fn authenticate(&mut self, world: &mut World) {
        self.client.path = at_port(self.client.path, 4500);
        let spi = self.next_spi();
        let content = Content { proposals: &self.script.esp, spi: &spi, ..Content::default() };
        let chain = chain_of(&self.payloads(&self.script.auth, &content));
        let header = self.client.header(Exchange::IkeAuth, 1, false);
        self.client.next_id = 2;
        let whole = self.client.seal(header, &chain);
        let request = if !self.client.fragmentation || whole.len() <= self.script.datagram_len {
            vec![whole]
        } else {
            let size = self.fragment_payloads();
            self.client.seal_fragments(header, &chain, size)
        };
        assert!(request.iter().all(|datagram| datagram.len() <= self.script.datagram_len));
        self.auth_datagrams = request.len();
        let answer = world.exchange(self.client.path, &request);
        assert_eq!(self.client.handle_auth(&answer), Ok(()), "{:?}", world.notes);
        let opened = self.client.open(&answer);
        self.check_auth_answer(&opened);
        assert_eq!((world.system, &world.notes[..]), (self.script.system, &[][..]));

        let sa = world.installed.last().unwrap();
        let (ni, nr) = self.client.init_nonces();
        let (out, inbound) = self.client.child_keymat(&[], &ni, &nr);
        assert_eq!((sa.key_in.expose(), sa.key_out.expose()), (&out[..], &inbound[..]));
        assert_eq!((sa.cipher, sa.path), (self.choice.esp.1, self.client.path));
        world.take_log();
    }

    /// Order, identity, method, proposal, configuration and selectors of our answer.
    fn check_auth_answer(&mut self, opened: &Opened) {
        let payloads = opened.payloads();
        let certificates = payloads.iter().filter(|payload| payload.kind == Kind::Cert).count();
        let mut expected = vec![Kind::IdR as u16];
        expected.extend(vec![Kind::Cert as u16; certificates]);
        expected.extend([Kind::Auth, Kind::Cp, Kind::Sa, Kind::TsI, Kind::TsR].map(|kind| kind as u16));
        let order = order(&payloads);
        let (before, notifies) = order.split_at(expected.len());
        assert_eq!(before, expected, "the order that all of them take");
        assert!(certificates > 0 && notifies.iter().all(|kind| *kind >= notify_type::INITIAL_CONTACT));

        let (kind, data) = self.client.id_r.clone().unwrap_or_else(|| id("vpn.example"));
        assert_eq!(opened.body(Kind::IdR).unwrap(), Id { kind, data: &data }.emit());
        let auth = Auth::parse(opened.body(Kind::Auth).unwrap()).unwrap();
        assert_eq!(auth.method, self.method);
        if self.method == auth_method::DIGITAL_SIGNATURE {
            self.server_algorithm = auth.split_digital_signature().unwrap().0.to_vec();
        }
        self.check_child(opened, self.choice.esp.0, None);

        let reply = Configuration::parse(opened.body(Kind::Cp).unwrap()).unwrap();
        let answered: Vec<_> = reply.attributes.iter().map(|attribute| attribute.kind).collect();
        let ours = [1, 2, 3, 8, 10, 25].into_iter();
        assert_eq!(answered, ours.filter(|kind| self.script.asked.contains(kind)).collect::<Vec<_>>());
        let child = self.client.children.last().unwrap();
        let host: IpAddr = self.client.address.unwrap().into();
        let host6 = self.client.address6.map(|address| any_between(address, address));
        let hosts: Vec<_> = [any_between(host, host)].into_iter().chain(host6).collect();
        assert_eq!(child.ts_i, hosts);
        let all = &self.script.offered;
        let ipv6 = all.len() > 1 && host6.is_some();
        assert_eq!(child.ts_r.iter().map(|ts| ts.first.is_ipv4()).collect::<Vec<_>>(), {
            // The company, the in-tunnel host, and the NAT64 prefix.
            let mut families = vec![true, true];
            families.extend(ipv6.then_some(false));
            families
        });
    }

    pub(super) fn check_child(&self, opened: &Opened, number: u8, group: Option<Group>) {
        let proposals = parse_proposals(opened.body(Kind::Sa).unwrap()).unwrap();
        assert_eq!(proposals, [self.choice.esp_answer(number, group, &proposals[0].spi)]);
    }

    /// As many octets of payloads as a fragment may hold.
    fn fragment_payloads(&self) -> usize {
        let cipher = self.client.cipher;
        let sealed = |len: usize| {
            let padded = (len + 1).next_multiple_of(cipher.block_len()) + cipher.block_len().max(3);
            protected_head_len(true) + HEADER_LEN + cipher.iv_len() + padded + cipher.tag_len()
        };
        (1..self.script.datagram_len).rev().find(|len| sealed(*len) <= self.script.datagram_len).unwrap()
    }

    pub(super) fn next_spi(&mut self) -> [u8; 4] {
        self.client.next_esp_spi += 1;
        self.client.next_esp_spi.to_be_bytes()
    }
}

/// The path with this port on both sides.
fn at_port(path: Path, port: u16) -> Path {
    let remote = (path.remote.ip(), port + 10_000).into();
    Path { local_port: port, remote, marker: port == 4500, ..path }
}

/// The types of payloads; of a notify, its own type.
pub(super) fn order(payloads: &[Payload<'_>]) -> Vec<u16> {
    let kind = |payload: &Payload<'_>| match payload.kind {
        Kind::Notify => Notify::parse(payload.body).unwrap().kind,
        kind => kind as u16,
    };
    payloads.iter().map(kind).collect()
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}
