//! IKE_INTERMEDIATE (RFC 9242): additional key exchanges between IKE_SA_INIT and IKE_AUTH (RFC 9370 section 2.2.2).

use std::collections::VecDeque;

use super::Responder;
use super::error::{Event, Refusal};
use super::exchange::required;
use super::fragment::Channel;
use super::keymat::{IkeKeys, Nonces, Shared};
use super::proposal::Kems;
use super::sa::{IkeSa, State};
use crate::base::Now;
use crate::crypto::prf::prf;
use crate::crypto::{Kem, Secret, kem};
use crate::wire::Malformed;
use crate::wire::ike::{Chain, Exchange, Header, Ke, Kind, Payload, emit_protected_head};

/// These exchanges of a half-open IKE SA.
#[derive(Debug)]
pub(super) struct Intermediate {
    to_come: VecDeque<Kem>,
    /// IntAuth_i and IntAuth_r; empty before the first exchange.
    auth_i: Vec<u8>,
    auth_r: Vec<u8>,
    /// Message ID of the first IKE_AUTH.
    auth_id: u32,
}

impl Intermediate {
    pub(super) fn new(kems: Kems) -> Self {
        let to_come: VecDeque<_> = kems.into_iter().flatten().collect();
        let auth_id = to_come.iter().fold(1, |id, _| id + 1);
        Self { to_come, auth_i: vec![], auth_r: vec![], auth_id }
    }

    /// Whether one is to come before IKE_AUTH.
    pub(super) fn is_awaited(&self) -> bool {
        !self.to_come.is_empty()
    }

    /// IntAuth: what both sides sign of them. Nothing if there were none.
    pub(super) fn signed(&self) -> Vec<u8> {
        if self.auth_i.is_empty() {
            return vec![];
        }
        [&self.auth_i[..], &self.auth_r, &self.auth_id.to_be_bytes()].concat()
    }
}

impl Responder {
    /// `inner` is the request as it was sealed: type of the first payload, and the payloads.
    pub(super) fn handle_intermediate(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        header: &Header,
        inner: (u8, &[u8]),
        payloads: &[Payload<'_>],
    ) {
        if let Err(why) = self.exchange_keys(sa, header, inner, payloads) {
            self.refuse_request(now, sa, header, why);
            self.note_stranger(now, Event::InitRefused { remote: sa.path.remote, why });
        }
    }

    /// One key exchange. The answer is still under the keys that were in force before it.
    fn exchange_keys(
        &mut self,
        sa: &mut IkeSa,
        header: &Header,
        inner: (u8, &[u8]),
        payloads: &[Payload<'_>],
    ) -> Result<(), Refusal> {
        let (suite, spis) = (sa.suite, sa.spis());
        let answer = sa.header(Exchange::IkeIntermediate, header.message_id, true);
        let State::HalfOpen(init) = &mut sa.state else { return Ok(()) };
        let Some(kem) = init.intermediate.to_come.pop_front() else { return Ok(()) };
        let (ke, shared) = self.encapsulate(kem, payloads)?;
        let mut chain = Chain::new();
        chain.push(Kind::Ke, &ke);

        let Intermediate { auth_i, auth_r, .. } = &mut init.intermediate;
        let content = |header, (first, octets): (u8, &[u8])| {
            [&emit_protected_head(header, first, None, octets.len()), octets].concat()
        };
        let sealed = content(answer, (chain.first(), chain.bytes()));
        *auth_i = prf(suite.prf, init.sk_pi.expose(), &[auth_i, &content(*header, inner)]).expose().to_vec();
        *auth_r = prf(suite.prf, init.sk_pr.expose(), &[auth_r, &sealed]).expose().to_vec();

        let nonces = Nonces { ni: &init.ni, nr: &init.nr };
        let keys = IkeKeys::rekeyed(suite, (suite.prf, &sa.sk_d), &Shared::from(shared), nonces, spis)?;
        let channel = Channel::new(suite.cipher, &keys.protect_i, &keys.protect_r)?;
        (init.sk_pi, init.sk_pr, sa.sk_d) = (keys.sk_pi, keys.sk_pr, keys.sk_d);
        self.answer(sa, Exchange::IkeIntermediate, header.message_id, &chain);
        sa.previous = Some(Box::new(std::mem::replace(&mut sa.channel, channel)));
        Ok(())
    }

    /// Our half of an additional key exchange: the body of our KE payload, and the shared secret.
    pub(super) fn encapsulate(
        &mut self,
        kem: Kem,
        payloads: &[Payload<'_>],
    ) -> Result<(Vec<u8>, Secret), Refusal> {
        let ke = Ke::parse(required(payloads, Kind::Ke)?)?;
        if ke.group != kem.transform_id() {
            return Err(Refusal::Syntax(Malformed("KE payload: not of the agreed method")));
        }
        let (ciphertext, shared) = kem::encapsulate(kem, self.rng.as_mut(), ke.data)?;
        Ok((Ke { group: ke.group, data: &ciphertext }.emit(), shared))
    }
}
