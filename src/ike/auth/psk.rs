//! Shared Key Message Integrity Code (RFC 7296 section 2.15): by a pre-shared key, or the key that EAP has made.

use std::time::Duration;

use super::signature::{display_id, own_id};
use super::{Claim, Outcome, Peer, Side, signed_octets};
use crate::crypto::hash::constant_time_eq;
use crate::crypto::prf::prf;
use crate::crypto::{Prf, Secret};
use crate::ike::access::Proof;
use crate::ike::error::AuthError;
use crate::ike::sa::Init;
use crate::ike::{Identity, Responder};
use crate::wire::ike::{Auth, Chain, IdType, Kind, auth_method};

/// What keeps the key itself out of the MAC, without an end.
const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// Octets of the key that stands for one that we do not have.
const DECOY_LEN: usize = 32;

impl Responder {
    /// A peer with a pre-shared key of its own, by which we prove ourselves too. For an identity that has none
    /// everything is done as well.
    pub(super) fn verify_psk(
        &self,
        alg: Prf,
        init: &Init,
        claim: &Claim<'_>,
        auth: &Auth<'_>,
    ) -> Result<Outcome, AuthError> {
        let Identity { hostname, access, .. } = &self.config.identity;
        if access.psks.is_empty() {
            return Err(AuthError::Method(auth_method::SHARED_KEY));
        }
        let identity = display_id(&claim.id, None);
        // What has no text here is not in the file.
        let known =
            access.psks.get(&identity).filter(|_| !matches!(claim.id.kind, IdType::Dn | IdType::Other(_)));
        let decoy = Secret::new(vec![0; DECOY_LEN]);
        let psk = known.unwrap_or(&decoy);
        let octets = signed_octets(alg, init, Side::Peer, claim.id_body);
        if !(fits(alg, psk, &octets, auth) & known.is_some()) {
            return Err(AuthError::PreShared);
        }
        let id_r = own_id(claim.asked.as_ref(), hostname, None);
        let octets = signed_octets(alg, init, Side::Us, &id_r);
        let mut own = Chain::new();
        own.push(Kind::IdR, &id_r);
        own.push(Kind::Auth, &seal(alg, psk, &octets));
        let proof = Proof::Psk(psk.clone());
        Ok(Outcome::Admit(Peer { identity, proof, valid_until: Duration::MAX, hints: init.hints }, own))
    }
}

/// The body of our AUTH payload over `octets`.
pub(super) fn seal(alg: Prf, key: &Secret, octets: &[u8]) -> Vec<u8> {
    Auth { method: auth_method::SHARED_KEY, data: mac(alg, key, octets).expose() }.emit()
}

/// Whether the peer's AUTH payload is of this key over `octets`.
pub(super) fn fits(alg: Prf, key: &Secret, octets: &[u8], auth: &Auth<'_>) -> bool {
    auth.method == auth_method::SHARED_KEY && constant_time_eq(mac(alg, key, octets).expose(), auth.data)
}

fn mac(alg: Prf, key: &Secret, octets: &[u8]) -> Secret {
    prf(alg, prf(alg, key.expose(), &[KEY_PAD]).expose(), &[octets])
}
