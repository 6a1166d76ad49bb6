//! Post-quantum preshared keys (RFC 8784): mixed into the keys of an IKE SA, so that a recorded connection stays secret
//! even where its key exchange is broken one day.

use super::Responder;
use super::error::AuthError;
use super::exchange::notifies;
use super::sa::{IkeSa, State};
use crate::crypto::prf::prf_plus;
use crate::crypto::{Prf, Secret};
use crate::wire::ike::{Kind, Payload, notify_type};

/// PPK_ID type of identities that are fixed strings.
const PPK_ID_FIXED: u8 = 2;

/// A key that both sides were given, and its name.
#[derive(Debug)]
pub struct Ppk {
    /// PPK_ID, without its type.
    pub id: Vec<u8>,
    /// The key: at least 256 bits of entropy.
    pub secret: Secret,
}

impl Responder {
    /// Mixes the PPK that an IKE_AUTH request names into SK_d, SK_pi and SK_pr. Where we do not have it, and the peer
    /// goes on without: the Authentication Data for that, in place of the one in AUTH.
    pub(super) fn mix_ppk<'a>(
        &self,
        sa: &mut IkeSa,
        payloads: &'a [Payload<'a>],
    ) -> Result<Option<&'a [u8]>, AuthError> {
        let State::HalfOpen(init) = &mut sa.state else { return Ok(None) };
        let authenticates = payloads.iter().any(|payload| payload.kind == Kind::Auth);
        let find = |kind| notifies(payloads).find(|notify| notify.kind == kind);
        let Some(named) = find(notify_type::PPK_IDENTITY).filter(|_| init.use_ppk && authenticates) else {
            return Ok(None);
        };
        let (kind, id) = named.data.split_first().unwrap_or((&0, &[]));
        let ppks = &self.config.identity.access.ppks;
        let Some(ppk) = ppks.iter().find(|ppk| *kind == PPK_ID_FIXED && ppk.id == id) else {
            let without = find(notify_type::NO_PPK_AUTH).ok_or(AuthError::UnknownPpk)?;
            return Ok(Some(without.data));
        };
        for key in [&mut sa.sk_d, &mut init.sk_pi, &mut init.sk_pr] {
            *key = mixed(sa.suite.prf, ppk, key).map_err(AuthError::Signature)?;
        }
        sa.has_ppk = true;
        Ok(None)
    }
}

/// prf+ (PPK, SK), as long as SK (RFC 8784 section 3).
fn mixed(alg: Prf, ppk: &Ppk, key: &Secret) -> Result<Secret, crate::crypto::Error> {
    prf_plus(alg, ppk.secret.expose(), &[key.expose()], key.len())
}
