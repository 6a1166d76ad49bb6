//! The first IKE_AUTH request of the client: by certificate, by pre-shared key, or by nothing yet (`eap`).

use pterodapter::crypto::PrivateKey;
use pterodapter::crypto::prf::prf;
use pterodapter::crypto::sign::{SignatureScheme, ecdsa_der_to_fixed};
use pterodapter::wire::ike::{
    Attribute, Auth, Cert, CfgType, Chain, Configuration, Exchange, Id, IdType, Kind, attribute, auth_method,
    emit_selectors,
};

use super::{Expected, Peer, selector};
use crate::world::{CLIENT_NAME, IDENTITIES, PSK, PSK_NAME};

/// Clients that come by EAP say their address for an identity.
pub(super) const EAP_ADDRESS: [u8; 4] = [10, 0, 0, 7];

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
            By::Certificate => (IdType::Fqdn, CLIENT_NAME.as_bytes()),
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

    pub(super) fn auth_octets(&self, id: &[u8]) -> Vec<u8> {
        [&self.signed, prf(self.suite.prf, self.sk_pi.expose(), &[id]).expose()].concat()
    }

    /// The AUTH payload of a shared key.
    pub(super) fn by_key(&self, key: &[u8], octets: &[u8]) -> Vec<u8> {
        let padded = prf(self.suite.prf, key, &[b"Key Pad for IKEv2"]);
        let mac = prf(self.suite.prf, padded.expose(), &[octets]);
        Auth { method: auth_method::SHARED_KEY, data: mac.expose() }.emit()
    }
}
