//! Our half of the authentication.

use super::choice::Verifier;
use super::signature::{own_id, sign};
use super::{Side, signed_octets};
use crate::crypto::Prf;
use crate::crypto::sign::SignatureScheme;
use crate::ike::Responder;
use crate::ike::error::AuthError;
use crate::ike::sa::Init;
use crate::wire::ike::{Cert, Chain, Id, Kind};

impl Responder {
    /// IDr, CERT and AUTH for a peer that `asked` for an identity. `peer` is what it signed with, if it did: a peer
    /// that proves itself by EAP or a pre-shared key shows nothing of what it can verify.
    pub(super) fn prove(
        &self,
        alg: Prf,
        init: &Init,
        asked: Option<&Id<'_>>,
        peer: Option<SignatureScheme>,
    ) -> Result<Chain, AuthError> {
        let identity = &self.config.identity;
        let verifier = Verifier { hashes: init.hashes.as_deref(), peer, hints: init.hints };
        let (own, scheme) =
            verifier.choose(&identity.credentials, asked).ok_or(AuthError::NoCommonSignature)?;
        let id_r = own_id(asked, &identity.hostname, own.chain.first());
        let octets = signed_octets(alg, init, Side::Us, &id_r);
        let auth = sign(&own.key, scheme, init.hashes.is_some(), &octets)?;
        let mut chain = Chain::new();
        chain.push(Kind::IdR, &id_r);
        for certificate in &own.chain {
            chain.push(Kind::Cert, &Cert { encoding: Cert::X509, data: certificate.der() }.emit());
        }
        chain.push(Kind::Auth, &auth);
        Ok(chain)
    }
}
