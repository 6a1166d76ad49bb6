//! EAP-MSCHAPv2 as stock clients do it, after our certificate.

use super::*;
use crate::crypto::mschapv2::{Attempt, msk};
use crate::wire::eap::{Packet, code, kind};
use crate::wire::ike::*;

impl Session {
    /// From our question for the identity, in `first`, to the answer with the tunnel.
    pub(super) fn prove_by_password(&mut self, world: &mut World, first: &Opened, user: &str) -> Opened {
        let question = Packet::parse(first.body(Kind::Eap).unwrap()).unwrap();
        assert_eq!((question.code, question.kind), (code::REQUEST, kind::IDENTITY));
        let identity = response(question.identifier, kind::IDENTITY, user.as_bytes());
        let packet = self.send_eap(world, identity);
        let challenge = Packet::parse(&packet).unwrap();
        assert_eq!((challenge.code, challenge.kind), (code::REQUEST, kind::MSCHAPV2));
        let (id, authenticator) = (challenge.data[1], challenge.data[5..21].try_into().unwrap());

        let peer = random();
        let name = user.rsplit('\\').next().unwrap().as_bytes();
        let attempt = Attempt { authenticator: &authenticator, peer: &peer, user: name };
        let hash = nt_hash(PASSWORD);
        let nt_response = attempt.response(&hash);
        let len = 54 + user.len() as u8;
        let head = [2, id, 0, len, 49];
        let data = [&head[..], &peer, &[0; 8], &nt_response, &[0], user.as_bytes()].concat();
        let packet = self.send_eap(world, response(challenge.identifier, kind::MSCHAPV2, &data));
        let proof = attempt.authenticator_response(&hash, &nt_response);
        assert!(packet[9..].starts_with(&[b"S=", proof.as_bytes()].concat()), "it knows the password, too");
        let packet = self.send_eap(world, response(packet[1], kind::MSCHAPV2, &[3]));
        assert_eq!(packet[0], code::SUCCESS);

        let msk = msk(&hash, &nt_response);
        let auth = self.client.shared_key_auth(msk.expose());
        let last = self.client.request(world, Exchange::IkeAuth, &[(Kind::Auth, auth)]);
        let id_r = first.body(Kind::IdR).unwrap();
        self.client.check_shared_key(last.body(Kind::Auth).unwrap(), id_r, msk.expose());
        last
    }

    fn send_eap(&mut self, world: &mut World, packet: Vec<u8>) -> Vec<u8> {
        let opened = self.client.request(world, Exchange::IkeAuth, &[(Kind::Eap, packet)]);
        opened.body(Kind::Eap).unwrap().to_vec()
    }
}

fn response(identifier: u8, kind: u8, data: &[u8]) -> Vec<u8> {
    Packet { code: code::RESPONSE, identifier, kind, data }.emit()
}
