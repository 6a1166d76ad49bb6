//! Stock clients with their untouched defaults, replayed: the proposals, payload order, notifies and habits that logs,
//! sources and documents show of them. The suite, the order of our answers, identities, selectors, configuration and
//! keys are checked in every exchange.

mod android;
mod apple;
mod eap;
mod habits;
mod message;
mod others;
mod session;
mod strongswan;
mod windows;
mod words;

use std::net::Ipv4Addr;

use session::Session;
use words::{Choice, esp, ike};

use super::super::testing::*;
use super::super::{ClientPlan, Input, Nat64Plan, Policy, System};
use crate::base::TrafficSelector;
use crate::crypto::Secret;
use crate::crypto::mschapv2::nt_hash;
use crate::crypto::pki::Certificate;
use crate::crypto::sign::{KeyKind, SignatureScheme};
use crate::ike::selector::any_between;
use crate::provision::{Issued, Role, Validity};
use crate::wire::ike::{IdType, Proposal, auth_method, notify_type};

/// A payload, where a client has it in its message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Sa,
    Ke,
    Nonce,
    NatSource,
    NatDestination,
    /// A notify without data.
    Notify(u16),
    /// SIGNATURE_HASH_ALGORITHMS.
    Hashes(&'static [u16]),
    /// A vendor ID, in hexadecimal digits.
    Vendor(&'static str),
    IdI,
    Cert,
    /// With as many hashes; ours is among them.
    CertReq(u8),
    IdR,
    Auth,
    Cp,
    TsI,
    TsR,
    /// REKEY_SA of the Child SA that is replaced.
    RekeySa,
}

/// What one client sends.
#[derive(Clone)]
struct Script {
    name: &'static str,
    /// Its proposals for the IKE SA.
    ike: Vec<Proposal>,
    /// Group of its first KE payload.
    guess: u16,
    nonce_len: usize,
    /// Payloads of IKE_SA_INIT, in order.
    init: Vec<Part>,
    /// Payloads of IKE_AUTH, in order.
    auth: Vec<Part>,
    /// Its proposals for the first Child SA.
    esp: Vec<Proposal>,
    /// Attributes that it asks for.
    asked: &'static [u16],
    /// Both sides' selectors.
    offered: Vec<TrafficSelector>,
    /// Longest datagram of IKE_AUTH, without UDP header and marker.
    datagram_len: usize,
    /// It begins at port 4500.
    at_4500: bool,
    /// What we take it for.
    system: Option<System>,
}

/// How a client proves who it is.
#[derive(Clone)]
enum Proof {
    Certificate,
    /// [`PASSWORD`] by EAP-MSCHAPv2, for this user name.
    Password(&'static str),
    /// [`PSK`].
    Psk,
}

/// The password of the user `alice`, and the key of `phone.example.com` and `alice@example.com`.
const PASSWORD: &str = "correct horse";
const PSK: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Who the user of a client is.
struct Who {
    proof: Proof,
    cert: Issued,
    signing: Signing,
    id_i: (IdType, Vec<u8>),
    id_r: Option<(IdType, Vec<u8>)>,
    /// The method of our AUTH.
    method: u8,
}

impl Who {
    /// With a certificate on P-256, by its name; announces the hashes of RFC 7427.
    fn modern(world: &World, name: &str) -> Self {
        Self {
            proof: Proof::Certificate,
            cert: world.client_cert(name),
            signing: Signing::Rfc7427(SignatureScheme::EcdsaP256Sha256),
            id_i: id(name),
            id_r: Some(id("vpn.example")),
            method: auth_method::DIGITAL_SIGNATURE,
        }
    }

    /// With a certificate on P-256, by its name; knows nothing of RFC 7427, as Windows and Apple.
    fn classic(world: &World, name: &str) -> Self {
        let signing = Signing::EcdsaByCurve;
        Self { signing, method: auth_method::ECDSA_256, ..Self::modern(world, name) }
    }

    /// As its certificate's subject, and asks for nobody.
    fn by_subject(self) -> Self {
        let subject = Certificate::parse(&self.cert.cert_der).unwrap().subject_der().to_vec();
        Self { id_i: (IdType::Dn, subject), id_r: None, ..self }
    }

    /// With a certificate of an RSA key.
    fn with_rsa(self, world: &World, name: &str, signing: Signing) -> Self {
        let valid = Validity::days(WALL, 365);
        let cert = world.authority.issue_with_key(Role::Client, &[name], valid, &rsa_key_pem()).unwrap();
        Self { cert, signing, ..self }
    }

    /// With a password instead of a certificate.
    fn with_password(self, user: &'static str, method: u8) -> Self {
        Self { proof: Proof::Password(user), method, ..self }
    }

    /// With a pre-shared key instead of certificates on both sides.
    fn with_psk(self) -> Self {
        Self { proof: Proof::Psk, method: auth_method::SHARED_KEY, ..self }
    }
}

/// FQDN or RFC822 by the text.
fn id(name: &str) -> (IdType, Vec<u8>) {
    (if name.contains('@') { IdType::Rfc822 } else { IdType::Fqdn }, name.as_bytes().to_vec())
}

/// Full IPv4 and IPv6.
fn both_families() -> Vec<TrafficSelector> {
    vec![everything(), everything6()]
}

/// The company 10.0.0.0/8 behind IPv4 and NAT64, one DNS server and one domain.
fn world(server: KeyKind, weak_groups: bool) -> World {
    world_with(&[server], weak_groups)
}

/// The same with a server certificate of each kind.
fn world_with(servers: &[KeyKind], weak_groups: bool) -> World {
    let mut world = World::with(KeyKind::P256, Policy { weak_groups, ..Policy::default() }, 24);
    let company = any_between(Ipv4Addr::new(10, 0, 0, 0), Ipv4Addr::new(10, 255, 255, 255));
    world.handle(Input::Plan(ClientPlan {
        ts: vec![company],
        nat64: Some(Nat64Plan { prefix: "64:ff9b:1::".parse().unwrap() }),
        domains: vec!["corp.example".to_owned()],
        ..ClientPlan::full_tunnel(Ipv4Addr::new(198, 19, 255, 1))
    }));
    let (names, valid) = (["vpn.example", "192.0.2.1"], Validity::days(WALL, 365));
    let issue = |kind: &KeyKind| match kind {
        KeyKind::Rsa => world.authority.issue_with_key(Role::Server, &names, valid, &rsa_key_pem()),
        kind => world.authority.issue(Role::Server, &names, valid, *kind),
    };
    let issued: Vec<_> = servers.iter().map(|kind| issue(kind).unwrap()).collect();
    let mut identity = identity("vpn.example", &issued[0], &[&world.authority]);
    identity.credentials.extend(issued[1..].iter().map(credential));
    assert!(identity.access.users.add("alice", nt_hash(PASSWORD)));
    for name in ["phone.example.com", "alice@example.com"] {
        assert!(identity.access.psks.add(name, Secret::from(PSK)));
    }
    world.handle(Input::Identity(Box::new(identity)));
    world
}
