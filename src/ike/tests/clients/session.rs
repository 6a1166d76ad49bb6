//! One client from its first datagram to its tunnel.

use std::net::IpAddr;

use super::message::{Content, SERVER, without};
use super::*;
use crate::base::Path;
use crate::crypto::Group;
use crate::crypto::dh::KeyPair;
use crate::crypto::hash::sha1;
use crate::crypto::prf::prf;
use crate::wire::ike::*;

/// A client that is connected.
pub(super) struct Session {
    pub(super) client: Initiator,
    pub(super) script: Script,
    pub(super) proof: Proof,
    method: u8,
    pub(super) choice: Choice,
    /// Lengths of its requests IKE_SA_INIT.
    pub(super) init_lens: Vec<usize>,
    /// How many datagrams its request IKE_AUTH took.
    pub(super) auth_datagrams: usize,
    /// The AlgorithmIdentifier of our AUTH, where it is of method 14.
    pub(super) server_algorithm: Vec<u8>,
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
        client.mobike = script.auth.contains(&Part::Notify(notify_type::MOBIKE_SUPPORTED));
        if !script.at_4500 {
            client.path = at_port(client.path, 500);
        }
        Self {
            client,
            script,
            proof: who.proof,
            method: who.method,
            choice,
            init_lens: vec![],
            auth_datagrams: 0,
            server_algorithm: vec![],
        }
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

    /// IKE_AUTH, however many exchanges it takes.
    fn authenticate(&mut self, world: &mut World) {
        let first = self.begin_auth(world);
        assert_eq!(first.error(), None, "{:?}", world.notes);
        let mut head = vec![Kind::IdR as u16];
        let certificates = first.payloads().iter().filter(|payload| payload.kind == Kind::Cert).count();
        head.extend(vec![Kind::Cert as u16; certificates]);
        head.push(Kind::Auth as u16);
        self.check_identity(&first);
        let last = match self.proof {
            Proof::Certificate => first,
            Proof::Psk => {
                assert_eq!(certificates, 0);
                first
            }
            Proof::Password(user) => {
                head.push(Kind::Eap as u16);
                assert_eq!(order(&first.payloads()), head, "and nothing else yet");
                head = vec![Kind::Auth as u16];
                self.prove_by_password(world, &first, user)
            }
        };
        self.client.take_connection(&last);
        self.check_tunnel(&last, head);
        assert_eq!((world.system, &world.notes[..]), (self.script.system, &[][..]));

        let sa = world.installed.last().unwrap();
        let (ni, nr) = self.client.init_nonces();
        let (out, inbound) = self.client.child_keymat(&[], &ni, &nr);
        assert_eq!((sa.key_in.expose(), sa.key_out.expose()), (&out[..], &inbound[..]));
        assert_eq!((sa.cipher, sa.path), (self.choice.esp.1, self.client.path));
        world.take_log();
    }

    /// The first IKE_AUTH from port 4500, in fragments of the client's size.
    fn begin_auth(&mut self, world: &mut World) -> Opened {
        self.client.path = at_port(self.client.path, 4500);
        let spi = self.next_spi();
        let content = Content { proposals: &self.script.esp, spi: &spi, ..Content::default() };
        let parts = match self.proof {
            Proof::Certificate => self.script.auth.clone(),
            Proof::Psk => without(&self.script.auth, &[Part::Cert]),
            Proof::Password(_) => without(&self.script.auth, &[Part::Cert, Part::Auth]),
        };
        let chain = chain_of(&self.payloads(&parts, &content));
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
        self.client.open(&answer)
    }

    /// Our IDr, and the method and value of our AUTH.
    fn check_identity(&mut self, opened: &Opened) {
        let (kind, data) = self.client.id_r.clone().unwrap_or_else(|| id("vpn.example"));
        let id_r = opened.body(Kind::IdR).unwrap();
        assert_eq!(id_r, Id { kind, data: &data }.emit());
        let body = opened.body(Kind::Auth).unwrap();
        let auth = Auth::parse(body).unwrap();
        assert_eq!(auth.method, self.method);
        match self.proof {
            Proof::Psk => self.client.check_shared_key(body, id_r, PSK),
            _ => self.client.check_server(opened),
        }
        if self.method == auth_method::DIGITAL_SIGNATURE {
            self.server_algorithm = auth.split_digital_signature().unwrap().0.to_vec();
        }
    }

    /// Order, proposal, configuration and selectors of our last answer.
    fn check_tunnel(&self, opened: &Opened, mut expected: Vec<u16>) {
        expected.extend([Kind::Cp, Kind::Sa, Kind::TsI, Kind::TsR].map(|kind| kind as u16));
        let order = order(&opened.payloads());
        let (before, notifies) = order.split_at(expected.len());
        assert_eq!(before, expected, "the order that all of them take");
        assert!(notifies.iter().all(|kind| *kind >= notify_type::INITIAL_CONTACT));
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
