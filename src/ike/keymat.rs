//! Key derivation (RFC 7296 sections 2.14, 2.17, 2.18; RFC 5282 for AEAD).

use super::proposal::IkeSuite;
use crate::crypto::prf::{prf, prf_plus};
use crate::crypto::{Aead, Error, Prf, Secret};

/// The keys of an IKE SA. AEAD needs no SK_a*.
#[derive(Debug)]
pub(super) struct IkeKeys {
    pub(super) sk_d: Secret,
    pub(super) sk_ei: Secret,
    pub(super) sk_er: Secret,
    pub(super) sk_pi: Secret,
    pub(super) sk_pr: Secret,
}

/// Both nonces of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nonces<'a> {
    pub(super) ni: &'a [u8],
    pub(super) nr: &'a [u8],
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

    /// Keys of an IKE SA that replaces one with `old_prf` and `old_sk_d`.
    pub(super) fn rekeyed(
        suite: IkeSuite,
        (old_prf, old_sk_d): (Prf, &Secret),
        shared: &Secret,
        nonces: Nonces<'_>,
        spis: (u64, u64),
    ) -> Result<Self, Error> {
        let skeyseed = prf(old_prf, old_sk_d.expose(), &[shared.expose(), nonces.ni, nonces.nr]);
        Self::expand(suite, &skeyseed, nonces, spis)
    }

    fn expand(
        suite: IkeSuite,
        skeyseed: &Secret,
        nonces: Nonces<'_>,
        (spi_i, spi_r): (u64, u64),
    ) -> Result<Self, Error> {
        let (prf_len, key_len) = (suite.prf.output_len(), suite.aead.keymat_len());
        let seed = [nonces.ni, nonces.nr, &spi_i.to_be_bytes(), &spi_r.to_be_bytes()];
        let keymat = prf_plus(suite.prf, skeyseed.expose(), &seed, 3 * prf_len + 2 * key_len)?;
        let mut rest = keymat.expose();
        let mut next = |len| {
            let (head, tail) = rest.split_at_checked(len).ok_or(Error::Internal)?;
            rest = tail;
            Ok::<_, Error>(Secret::from(head))
        };
        Ok(Self {
            sk_d: next(prf_len)?,
            sk_ei: next(key_len)?,
            sk_er: next(key_len)?,
            sk_pi: next(prf_len)?,
            sk_pr: next(prf_len)?,
        })
    }
}

/// Key material of a Child SA: initiator to responder, then back.
pub(super) fn child_keys(
    (prf, sk_d): (Prf, &Secret),
    aead: Aead,
    shared: Option<&Secret>,
    nonces: Nonces<'_>,
) -> Result<(Secret, Secret), Error> {
    let len = aead.keymat_len();
    let seed = [shared.map_or(&[][..], Secret::expose), nonces.ni, nonces.nr];
    let keymat = prf_plus(prf, sk_d.expose(), &seed, 2 * len)?;
    let (i2r, r2i) = keymat.expose().split_at_checked(len).ok_or(Error::Internal)?;
    Ok((Secret::from(i2r), Secret::from(r2i)))
}
