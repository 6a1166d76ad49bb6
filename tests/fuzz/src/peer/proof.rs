//! IKE_AUTH of the client: by certificate, pre-shared key or EAP-MSCHAPv2.

use pterodapter::crypto::PrivateKey;
use pterodapter::crypto::mschapv2::{self, nt_hash};
use pterodapter::crypto::prf::prf;
use pterodapter::crypto::sign::{SignatureScheme, ecdsa_der_to_fixed};
use pterodapter::wire::eap::{self, Packet};
use pterodapter::wire::ike::{
    Attribute, Auth, Cert, CfgType, Chain, Configuration, Exchange, Id, IdType, Kind, attribute, auth_method,
    emit_selectors,
};

use super::{Expected, Peer, selector};
use crate::world::{IDENTITIES, PASSWORD, PSK, PSK_NAME, USER};

/// Clients that come by EAP say their address for an identity.
const EAP_ADDRESS: [u8; 4] = [10, 0, 0, 7];

/// How the client proves its identity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    Certificate,
    Psk,
    Eap,
}

impl Peer {
    /// The first IKE_AUTH request; a `lie` spoils the proof. `more` goes behind the rest.
    pub fn authenticate(&mut self, by: By, lie: bool, more: &[(Kind, &[u8])]) -> Vec<u8> {
        let (kind, name) = match by {
            By::Certificate => (IdType::Fqdn, &b"device.example"[..]),
            By::Psk => (IdType::Rfc822, PSK_NAME.as_bytes()),
            By::Eap => (IdType::Ipv4, &EAP_ADDRESS[..]),
        };
        let id = Id { kind, data: name }.emit();
        let mut chain = Chain::new();
        chain.push(Kind::IdI, &id);
        let mut octets = self.auth_octets(&id);
        octets.extend(lie.then_some(0));
        match by {
            By::Certificate => {
                let client = &IDENTITIES.client;
                chain.push(Kind::Cert, &Cert { encoding: Cert::X509, data: &client.cert_der }.emit());
                let key = PrivateKey::from_pem(client.key_pem.as_bytes()).expect("key");
                let signature = key.sign(SignatureScheme::EcdsaP256Sha256, &octets).expect("signature");
                let signature = ecdsa_der_to_fixed(&signature, 32).expect("signature");
                chain.push(Kind::Auth, &Auth { method: auth_method::ECDSA_256, data: &signature }.emit());
            }
            By::Psk => chain.push(Kind::Auth, &self.by_key(PSK, &octets)),
            By::Eap => {}
        }
        let any = selector();
        let kinds = [attribute::INTERNAL_IP4_ADDRESS, attribute::INTERNAL_IP6_ADDRESS];
        let attributes = kinds.map(|kind| Attribute { kind, value: &[] }).to_vec();
        chain.push(Kind::Cp, &Configuration { cfg_type: CfgType::Request, attributes }.emit());
        chain.push(Kind::Sa, &self.child_proposal(None));
        chain.push(Kind::TsI, &emit_selectors(&[any]));
        chain.push(Kind::TsR, &emit_selectors(&[any]));
        more.iter().for_each(|(kind, body)| chain.push(*kind, body));
        self.request(Exchange::IkeAuth, &chain, Expected::FirstChild)
    }

    fn auth_octets(&self, id: &[u8]) -> Vec<u8> {
        [&self.signed, prf(self.suite.prf, self.sk_pi.expose(), &[id]).expose()].concat()
    }

    /// The AUTH payload of a shared key.
    fn by_key(&self, key: &[u8], octets: &[u8]) -> Vec<u8> {
        let padded = prf(self.suite.prf, key, &[b"Key Pad for IKEv2"]);
        let mac = prf(self.suite.prf, padded.expose(), &[octets]);
        Auth { method: auth_method::SHARED_KEY, data: mac.expose() }.emit()
    }

    /// The next message of EAP, with the right password or another. Whether it is the last one, which ends in a Child SA.
    pub fn continue_eap(&mut self, right: bool) -> Option<(Vec<u8>, bool)> {
        let packet = self.eap.take()?;
        let mut chain = Chain::new();
        if packet.first() == Some(&eap::code::SUCCESS) {
            let msk = self.msk.take()?;
            let octets = self.auth_octets(&Id { kind: IdType::Ipv4, data: &EAP_ADDRESS }.emit());
            chain.push(Kind::Auth, &self.by_key(msk.expose(), &octets));
            return Some((self.request(Exchange::IkeAuth, &chain, Expected::FirstChild), true));
        }
        let asked = Packet::parse(&packet).ok()?;
        let data = match (asked.kind, asked.data) {
            (eap::kind::IDENTITY, _) => USER.as_bytes().to_vec(),
            (eap::kind::MSCHAPV2, [1, id, _, _, 16, rest @ ..]) => {
                self.respond(*id, rest.first_chunk()?, right)
            }
            // "E=691 R=1 C=" and the next challenge, in hexadecimal digits.
            (eap::kind::MSCHAPV2, [4, id, _, _, text @ ..]) => {
                let mut challenge = [0; 16];
                for (octet, pair) in challenge.iter_mut().zip(text.get(12..44)?.chunks(2)) {
                    *octet = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
                }
                self.respond(*id, &challenge, right)
            }
            (eap::kind::MSCHAPV2, _) => vec![3],
            _ => return None,
        };
        let code = eap::code::RESPONSE;
        chain.push(
            Kind::Eap,
            &Packet { code, identifier: asked.identifier, kind: asked.kind, data: &data }.emit(),
        );
        Some((self.request(Exchange::IkeAuth, &chain, Expected::Nothing), false))
    }

    fn respond(&mut self, id: u8, challenge: &[u8; 16], right: bool) -> Vec<u8> {
        let peer = [5; 16];
        let hash = nt_hash(if right { PASSWORD } else { "guess" });
        let attempt = mschapv2::Attempt { authenticator: challenge, peer: &peer, user: USER.as_bytes() };
        let response = attempt.response(&hash);
        self.msk = right.then(|| mschapv2::msk(&hash, &response));
        let length = 54 + USER.len() as u8;
        [&[2, id, 0, length, 49][..], &peer, &[0; 8], &response, &[0], USER.as_bytes()].concat()
    }
}
