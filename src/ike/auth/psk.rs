//! Shared Key Message Integrity Code (RFC 7296 section 2.15): by a pre-shared key, or the key that EAP has made.

use crate::crypto::hash::constant_time_eq;
use crate::crypto::prf::prf;
use crate::crypto::{Prf, Secret};
use crate::wire::ike::{Auth, auth_method};

/// What keeps the key itself out of the MAC, without an end.
const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

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
