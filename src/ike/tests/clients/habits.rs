//! What a client does once it is connected: rekeys, questions, its goodbye.

use super::message::Content;
use super::session::order;
use super::*;
use crate::crypto::Group;
use crate::crypto::dh::KeyPair;
use crate::wire::ike::*;

impl Session {
    /// Replaces the Child SA by a request with its payloads in this order, and deletes the old one. We are to take
    /// the proposal `number`, with the group of the KE payload if there is one.
    pub(super) fn rekey_child(
        &mut self,
        world: &mut World,
        parts: &[Part],
        proposals: &[Proposal],
        ke: Option<Group>,
        number: u8,
    ) {
        let old = self.client.children.last().unwrap().clone();
        let (spi, nonce) = (self.next_spi(), random::<48>());
        let nonce = &nonce[..self.script.nonce_len];
        let pair = ke.map(|group| KeyPair::generate(group).unwrap());
        let ke_of = |pair: &KeyPair| (pair.group().transform_id(), pair.public().to_vec());
        let public = pair.as_ref().map(ke_of);
        let content = Content {
            proposals,
            spi: &spi,
            nonce,
            ke: public.as_ref().map(|(group, data)| (*group, &data[..])),
            replaced: old.spi,
        };
        let request = self.payloads(parts, &content);
        let opened = self.client.request(world, Exchange::CreateChildSa, &request);
        let mut expected = vec![Kind::Sa, Kind::Nonce];
        expected.extend(ke.map(|_| Kind::Ke));
        expected.extend([Kind::TsI, Kind::TsR]);
        let payloads = opened.payloads();
        assert_eq!(payloads.iter().map(|payload| payload.kind).collect::<Vec<_>>(), expected);
        self.check_child(&opened, number, ke);
        self.client.take_child(&opened);
        let new = self.client.children.last().unwrap().clone();
        assert_eq!((&new.ts_i, &new.ts_r), (&old.ts_i, &old.ts_r), "never wider than before");

        let public = opened.body(Kind::Ke).map(|body| Ke::parse(body).unwrap().data);
        let shared = pair.map(|pair| pair.agree(public.unwrap()).unwrap());
        let shared = shared.as_ref().map_or(&[][..], |shared| shared.expose());
        let keys = self.client.child_keymat(shared, nonce, opened.body(Kind::Nonce).unwrap());
        let sa = world.installed.iter().find(|sa| sa.spi_in == new.peer_spi).unwrap();
        assert_eq!((sa.key_in.expose(), sa.key_out.expose()), (&keys.0[..], &keys.1[..]));
        assert_eq!(self.delete_child(world, old.spi), [old.peer_spi]);
        assert_eq!(world.take_log(), ["install", "use", "remove"]);
    }

    /// Replaces the IKE SA with these proposals and a KE payload of the same group, and deletes the old one.
    pub(super) fn rekey_ike(&mut self, world: &mut World, proposals: &[Proposal], number: u8) {
        let (nonce, spi) = (random::<48>()[..self.script.nonce_len].to_vec(), random::<8>());
        let pair = KeyPair::generate(self.choice.ike.3).unwrap();
        let content = Content {
            proposals,
            spi: &spi,
            nonce: &nonce,
            ke: Some((pair.group().transform_id(), pair.public())),
            ..Content::default()
        };
        let request = self.payloads(&[Part::Sa, Part::Nonce, Part::Ke], &content);
        let opened = self.client.request(world, Exchange::CreateChildSa, &request);
        assert_eq!(order(&opened.payloads()), [Kind::Sa, Kind::Nonce, Kind::Ke].map(|kind| kind as u16));
        let chosen = parse_proposals(opened.body(Kind::Sa).unwrap()).unwrap();
        assert_eq!(chosen, [self.choice.ike_answer(number, &chosen[0].spi)]);

        let client = &mut self.client;
        let shared = pair.agree(Ke::parse(opened.body(Kind::Ke).unwrap()).unwrap().data).unwrap();
        let spis = [&spi[..], &chosen[0].spi].map(|spi| u64::from_be_bytes(spi.try_into().unwrap()));
        let nonces = (nonce, opened.body(Kind::Nonce).unwrap().to_vec());
        client.enter(spis.into(), false, shared.expose(), nonces);
        client.swap_old();
        client.request(world, Exchange::Informational, &[(Kind::Delete, Delete::Ike.emit())]);
        client.swap_old();
        assert_eq!(world.take_log(), [""; 0], "the device notices nothing");
    }

    /// Whether we live: an empty request, an empty answer.
    pub(super) fn ask(&mut self, world: &mut World) {
        let answer = self.client.request(world, Exchange::Informational, &[]);
        assert!(answer.payloads().is_empty());
    }

    /// Deletes a Child SA; the SPIs that we answer.
    pub(super) fn delete_child(&mut self, world: &mut World, spi: u32) -> Vec<u32> {
        let delete = [(Kind::Delete, Delete::Esp(vec![spi]).emit())];
        let answer = self.client.request(world, Exchange::Informational, &delete);
        match answer.payloads()[..] {
            [Payload { kind: Kind::Delete, body, .. }] => match Delete::parse(body).unwrap() {
                Delete::Esp(spis) => spis,
                other => panic!("{other:?}"),
            },
            _ => panic!("a Delete alone"),
        }
    }

    /// Deletes the IKE SA; nothing is left.
    pub(super) fn say_goodbye(&mut self, world: &mut World) {
        let delete = [(Kind::Delete, Delete::Ike.emit())];
        let answer = self.client.request(world, Exchange::Informational, &delete);
        assert!(answer.payloads().is_empty());
        let last = world.take_log().pop().unwrap();
        assert!(last.ends_with(": disconnected by the client"), "{last}");
        let stats = world.responder.stats();
        assert_eq!((world.installed.len(), stats.devices, stats.child_sas, stats.half_open), (0, 0, 0, 0));
    }
}
