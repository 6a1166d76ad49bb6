//! Our half of the authentication.

use super::signature::{own_id, sign};
use super::{Side, signed_octets};
use crate::crypto::Prf;
use crate::crypto::sign::SignatureScheme;
use crate::ike::Responder;
use crate::ike::error::AuthError;
use crate::ike::sa::Init;
use crate::wire::ike::{Cert, Chain, Id, Kind};

impl Responder {
    /// IDr, CERT and AUTH for a peer that `asked` for an identity and signed by `scheme`.
    pub(super) fn prove(
        &self,
        alg: Prf,
        init: &Init,
        asked: Option<&Id<'_>>,
        scheme: SignatureScheme,
    ) -> Result<Chain, AuthError> {
        let identity = &self.config.identity;
        let own = identity.credentials.first().ok_or(AuthError::NoCommonSignature)?;
        let id_r = own_id(asked, &identity.hostname, own.chain.first());
        let octets = signed_octets(alg, init, Side::Us, &id_r);
        let auth = sign(&own.key, init.hashes.as_deref(), scheme, &octets)?;
        let mut chain = Chain::new();
        chain.push(Kind::IdR, &id_r);
        for certificate in &own.chain {
            chain.push(Kind::Cert, &Cert { encoding: Cert::X509, data: certificate.der() }.emit());
        }
        chain.push(Kind::Auth, &auth);
        Ok(chain)
    }
}
