//! Which of our certificates a client gets, and by which scheme we sign: what it can verify, as far as that shows.
//!
//! Two things are known: the hashes that it lists (RFC 7427), and what it signed with itself. The rest is a guess from
//! what it offers; docs/architecture.md has the table.

use super::signature::belongs;
use crate::crypto::sign::{KeyKind, SignatureScheme};
use crate::ike::api::Credential;
use crate::ike::system::Hints;
use crate::wire::ike::Id;

/// What shows of the signatures that a client can verify.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verifier<'a> {
    /// Its SIGNATURE_HASH_ALGORITHMS; without them it knows only AUTH methods 1, 9 and 10.
    pub(super) hashes: Option<&'a [u16]>,
    /// What it signed with, if it did: a client with EAP or a pre-shared key does not.
    pub(super) peer: Option<SignatureScheme>,
    /// What IKE_SA_INIT shows.
    pub(super) hints: Hints,
}

impl Verifier<'_> {
    /// Our credential for this client, and the scheme to sign by: one that carries the name `asked` for if there is
    /// any, of the kind that the client is better served with, in the order of the configuration.
    pub(super) fn choose<'c>(
        &self,
        credentials: &'c [Credential],
        asked: Option<&Id<'_>>,
    ) -> Option<(&'c Credential, SignatureScheme)> {
        let named = |own: &Credential| {
            asked.is_some_and(|id| own.chain.first().is_some_and(|certificate| belongs(id, certificate)))
        };
        let is_rsa = |own: &Credential| own.key.kind() == KeyKind::Rsa;
        let usable = |own: &'c Credential| self.scheme(own.key.kind()).map(|scheme| (own, scheme));
        credentials
            .iter()
            .filter_map(usable)
            .min_by_key(|(own, _)| (!named(own), is_rsa(own) != self.rather_rsa()))
    }

    /// Whether an RSA signature is the better guess. Some clients verify RSA only: Android's own (its class for
    /// signatures knows nothing else, and it offers no NIST curve), and iOS set up by hand (which lists no hashes).
    /// Windows takes ECDSA, but is said to want it together with a key exchange on a curve, which it does not offer by
    /// default. Who signs by ECDSA verifies it.
    fn rather_rsa(&self) -> bool {
        use SignatureScheme as S;
        match self.peer {
            Some(
                S::EcdsaP256Sha256
                | S::EcdsaP256Sha384
                | S::EcdsaP384Sha256
                | S::EcdsaP384Sha384
                | S::Ed25519,
            ) => false,
            _ => !self.hints.nist_curves || (self.hashes.is_none() && !self.hints.windows),
        }
    }

    /// The scheme of our signature with a key of this kind.
    fn scheme(&self, kind: KeyKind) -> Option<SignatureScheme> {
        use SignatureScheme as S;
        let Some(hashes) = self.hashes else {
            return Some(match kind {
                KeyKind::P256 => S::EcdsaP256Sha256,
                KeyKind::P384 => S::EcdsaP384Sha384,
                KeyKind::Rsa => self.method_1(),
            });
        };
        let ours: &[(u16, S)] = match kind {
            KeyKind::P256 => &[(2, S::EcdsaP256Sha256)],
            KeyKind::P384 => &[(3, S::EcdsaP384Sha384)],
            KeyKind::Rsa if self.verifies_pkcs1() => {
                &[(2, S::RsaPkcs1Sha256), (3, S::RsaPkcs1Sha384), (4, S::RsaPkcs1Sha512)]
            }
            KeyKind::Rsa => &[(2, S::RsaPssSha256), (3, S::RsaPssSha384), (4, S::RsaPssSha512)],
        };
        ours.iter().find(|(hash, _)| hashes.contains(hash)).map(|(_, scheme)| *scheme)
    }

    /// AUTH method 1 means SHA-1 (RFC 7296 section 3.8), but for a peer that used another hash with it.
    fn method_1(&self) -> SignatureScheme {
        use SignatureScheme as S;
        match self.peer {
            Some(same @ (S::RsaPkcs1Sha256 | S::RsaPkcs1Sha384 | S::RsaPkcs1Sha512)) => same,
            _ => S::RsaPkcs1Sha1,
        }
    }

    /// RSA follows the padding of the peer, because some peers verify only what they make; a peer that signs with
    /// something else gets PSS, as RFC 8247 recommends. One that does not sign gets PKCS#1 v1.5: Android takes nothing
    /// else.
    fn verifies_pkcs1(&self) -> bool {
        use SignatureScheme as S;
        matches!(
            self.peer,
            None | Some(S::RsaPkcs1Sha1 | S::RsaPkcs1Sha256 | S::RsaPkcs1Sha384 | S::RsaPkcs1Sha512)
        )
    }
}

#[cfg(test)]
mod tests;
