//! Key derivation (RFC 7296 sections 2.14, 2.17, 2.18; RFC 5282 for AEAD; RFC 9370 for several key exchanges).

use super::proposal::IkeSuite;
use crate::crypto::prf::{prf, prf_plus};
use crate::crypto::{Cipher, Error, Prf, Secret};

/// The keys of an IKE SA.
#[derive(Debug)]
pub(super) struct IkeKeys {
    pub(super) sk_d: Secret,
    /// SK_ei, then SK_ai, which an AEAD does not have.
    pub(super) protect_i: Secret,
    /// SK_er, then SK_ar.
    pub(super) protect_r: Secret,
    pub(super) sk_pi: Secret,
    pub(super) sk_pr: Secret,
}

/// Both nonces of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nonces<'a> {
    pub(super) ni: &'a [u8],
    pub(super) nr: &'a [u8],
}

/// What the key exchanges of a rekey or of a new Child SA gave.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// g^ir, where there was one.
    pub(super) first: Option<Secret>,
    /// Of the additional key exchanges, in their order.
    pub(super) additional: Vec<Secret>,
}

impl Shared {
    /// g^ir | Ni | Nr, and what the additional key exchanges gave (RFC 9370 section 2.2.4).
    fn seed<'a>(&'a self, nonces: Nonces<'a>) -> Vec<&'a [u8]> {
        let first = self.first.as_ref().map_or(&[][..], Secret::expose);
        [first, nonces.ni, nonces.nr].into_iter().chain(self.additional.iter().map(Secret::expose)).collect()
    }
}

impl From<Secret> for Shared {
    fn from(shared: Secret) -> Self {
        Self { first: Some(shared), additional: vec![] }
    }
}

impl IkeKeys {
    /// Keys of a new IKE SA.
    pub(super) fn initial(
        suite: IkeSuite,
        shared: &Secret,
        nonces: Nonces<'_>,
        spis: (u64, u64),
    ) -> Result<Self, Error> {
        let key = Secret::new([nonces.ni, nonces.nr].concat());
        let skeyseed = prf(suite.prf, key.expose(), &[shared.expose()]);
        Self::expand(suite, &skeyseed, nonces, spis)
    }

    /// Keys of an IKE SA that replaces one with `old_prf` and `old_sk_d`, or of one after another key exchange in
    /// IKE_INTERMEDIATE (RFC 9370 section 2.2.2).
    pub(super) fn rekeyed(
        suite: IkeSuite,
        (old_prf, old_sk_d): (Prf, &Secret),
        shared: &Shared,
        nonces: Nonces<'_>,
        spis: (u64, u64),
    ) -> Result<Self, Error> {
        let skeyseed = prf(old_prf, old_sk_d.expose(), &shared.seed(nonces));
        Self::expand(suite, &skeyseed, nonces, spis)
    }

    fn expand(
        suite: IkeSuite,
        skeyseed: &Secret,
        nonces: Nonces<'_>,
        (spi_i, spi_r): (u64, u64),
    ) -> Result<Self, Error> {
        let (prf_len, encryption_len) = (suite.prf.output_len(), suite.cipher.encryption_len());
        let integrity_len = suite.cipher.integrity_len();
        let seed = [nonces.ni, nonces.nr, &spi_i.to_be_bytes(), &spi_r.to_be_bytes()];
        let len = 3 * prf_len + 2 * suite.cipher.keymat_len();
        let keymat = prf_plus(suite.prf, skeyseed.expose(), &seed, len)?;
        let mut rest = keymat.expose();
        let mut next = |len| {
            let (head, tail) = rest.split_at_checked(len).ok_or(Error::Internal)?;
            rest = tail;
            Ok::<_, Error>(head)
        };
        let sk_d = next(prf_len)?;
        let (sk_ai, sk_ar) = (next(integrity_len)?, next(integrity_len)?);
        let (sk_ei, sk_er) = (next(encryption_len)?, next(encryption_len)?);
        Ok(Self {
            sk_d: sk_d.into(),
            protect_i: Secret::new([sk_ei, sk_ai].concat()),
            protect_r: Secret::new([sk_er, sk_ar].concat()),
            sk_pi: next(prf_len)?.into(),
            sk_pr: next(prf_len)?.into(),
        })
    }
}

/// Key material of a Child SA: initiator to responder, then back.
pub(super) fn child_keys(
    (prf, sk_d): (Prf, &Secret),
    cipher: Cipher,
    shared: &Shared,
    nonces: Nonces<'_>,
) -> Result<(Secret, Secret), Error> {
    let len = cipher.keymat_len();
    let keymat = prf_plus(prf, sk_d.expose(), &shared.seed(nonces), 2 * len)?;
    let (i2r, r2i) = keymat.expose().split_at_checked(len).ok_or(Error::Internal)?;
    Ok((Secret::from(i2r), Secret::from(r2i)))
}

#[cfg(test)]
mod tests;
