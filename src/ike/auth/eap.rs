//! A peer that authenticates itself by EAP (RFC 7296 section 2.16), over several IKE_AUTH exchanges. We come first,
//! always by certificate: what proves a password must not be shown to whoever asks.

use std::net::SocketAddr;
use std::time::Duration;

use super::certificate::valid_until;
use super::signature::display_id;
use super::{Claim, Outcome, Peer, Side, psk, signed_octets};
use crate::base::Now;
use crate::crypto::Prf;
use crate::ike::Responder;
use crate::ike::access::Proof;
use crate::ike::eap::{Attempt, EapError, Proven, Server};
use crate::ike::error::{AuthError, Event};
use crate::ike::exchange::required;
use crate::ike::sa::Init;
use crate::wire::Malformed;
use crate::wire::ike::{Auth, Chain, Kind, Payload, parse_chain};

/// Most octets that are kept of the first request.
const MAX_KEPT: usize = 16 * 1024;

/// What is known between the exchanges.
#[derive(Debug)]
pub(in crate::ike) struct Conversation {
    /// What the first request asks for: it is answered when the peer is authenticated.
    pub(super) asked: Chain,
    /// The body of IDi, as text for people too.
    id_i: Vec<u8>,
    claimed: String,
    /// The body of our IDr.
    id_r: Vec<u8>,
    server: Server,
    /// EAP has ended well, and the AUTH payloads are to come.
    proven: Option<Proven>,
    /// The answer that waits is the last one.
    pub(super) failed: Option<AuthError>,
}

impl Conversation {
    /// Who the peer says it is: by EAP, if it has come to that.
    pub(super) fn claimed(&self) -> String {
        let name = self.server.identity();
        if name.is_empty() { self.claimed.clone() } else { name.to_owned() }
    }
}

impl Responder {
    /// The peer has sent no AUTH payload: our half, and the first question.
    pub(super) fn begin_eap(
        &mut self,
        now: Now,
        alg: Prf,
        init: &mut Init,
        payloads: &[Payload<'_>],
        claim: &Claim<'_>,
    ) -> Result<Outcome, AuthError> {
        if !self.config.identity.access.offers_eap() {
            return Err(AuthError::EapWanted);
        }
        let mut chain = self.prove(alg, init, claim.asked.as_ref(), None)?;
        let own = parse_chain(chain.first(), chain.bytes()).unwrap_or_default();
        let id_r = required(&own, Kind::IdR)?.to_vec();
        let (server, packet) = Server::new(self.rng.as_mut());
        chain.push(Kind::Eap, &packet);
        init.eap = Some(Box::new(Conversation {
            asked: keep(payloads)?,
            id_i: claim.id_body.to_vec(),
            claimed: display_id(&claim.id, None),
            id_r,
            server,
            proven: None,
            failed: None,
        }));
        Ok(Outcome::Continue(chain, now.mono))
    }

    /// The next EAP packet, or at the end the AUTH payload by the key of EAP: with `data`, if any, in place of its own.
    pub(super) fn continue_eap(
        &mut self,
        now: Now,
        alg: Prf,
        init: &mut Init,
        remote: SocketAddr,
        payloads: &[Payload<'_>],
        data: Option<&[u8]>,
    ) -> Result<Outcome, AuthError> {
        if let Some((eap, proven)) = init.eap.as_ref().and_then(|eap| Some((eap, eap.proven.as_ref()?))) {
            let Auth { method, data: as_sent } = Auth::parse(required(payloads, Kind::Auth)?)?;
            let auth = Auth { method, data: data.unwrap_or(as_sent) };
            return finish(now, alg, init, eap, proven, &auth);
        }
        let Some(eap) = init.eap.as_mut() else { return Err(AuthError::EapWanted) };
        let packet = required(payloads, Kind::Eap)?;
        let identity = &self.config.identity;
        let mut reply = eap.server.handle(identity, now.wall, self.rng.as_mut(), packet);
        let mut due = now.mono;
        if let Some(Attempt { user, wrong }) = reply.attempt.take() {
            match self.attempts.judge(now.mono, &user, init.admitted.remote, wrong.is_none()) {
                Some(turn) => due = turn,
                None => reply = eap.server.end(Err(EapError::TooMany(user))),
            }
            // Many clients just go away then; at the end it is said anyway.
            if let (Some(why), None) = (wrong, &reply.end) {
                let (claimed, why) = (eap.claimed(), AuthError::Eap(why));
                self.note_stranger(now, Event::AuthFailed { remote, claimed, why });
            }
        }
        let mut chain = Chain::new();
        chain.push(Kind::Eap, &reply.packet);
        match reply.end {
            None => {}
            Some(Ok(proven)) => eap.proven = Some(proven),
            Some(Err(why)) => return Ok(Outcome::Fail(AuthError::Eap(why), chain, due)),
        }
        Ok(Outcome::Continue(chain, due))
    }
}

/// The AUTH payloads of both, by the key of EAP.
fn finish(
    now: Now,
    alg: Prf,
    init: &Init,
    eap: &Conversation,
    proven: &Proven,
    auth: &Auth<'_>,
) -> Result<Outcome, AuthError> {
    let octets = signed_octets(alg, init, Side::Peer, &eap.id_i);
    if !psk::fits(alg, &proven.msk, &octets, auth) {
        return Err(AuthError::NotByEap);
    }
    let octets = signed_octets(alg, init, Side::Us, &eap.id_r);
    let mut own = Chain::new();
    own.push(Kind::Auth, &psk::seal(alg, &proven.msk, &octets));
    let (identity, proof) = (proven.identity.clone(), proven.proof.clone());
    let valid_until = match &proof {
        Proof::Certificate(chain) => chain.first().map_or(now.mono, |own| valid_until(now, own)),
        Proof::Password(_) | Proof::Psk(_) => Duration::MAX,
    };
    Ok(Outcome::Admit(Peer { identity, proof, valid_until, hints: init.hints }, own))
}

/// Those payloads of the first request that are answered at the end.
fn keep(payloads: &[Payload<'_>]) -> Result<Chain, AuthError> {
    let mut kept = Chain::new();
    for payload in payloads {
        if matches!(payload.kind, Kind::Sa | Kind::TsI | Kind::TsR | Kind::Cp | Kind::Notify) {
            kept.push(payload.kind, payload.body);
        }
    }
    if kept.bytes().len() > MAX_KEPT {
        return Err(Malformed("IKE_AUTH: too long").into());
    }
    Ok(kept)
}
