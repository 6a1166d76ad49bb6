//! IKE_AUTH (RFC 7296 section 1.2): who the peer is, and its first Child SA.
//!
//! * `certificate`: a peer that signs. `own`: our half. `signature`: identities and AUTH payloads of both.

mod certificate;
mod own;
mod signature;

use std::sync::Arc;
use std::time::Duration;

use super::error::{AuthError, Event, Refusal};
use super::exchange::{notifies, required, single};
use super::keymat::Nonces;
use super::sa::{IkeSa, Init, Pending, State};
use super::system::Hints;
use super::{Output, Responder, Timer};
use crate::base::Now;
use crate::crypto::pki::Certificate;
use crate::crypto::prf::prf;
use crate::crypto::{Prf, Secret};
use crate::wire::ike::{Auth, Chain, Exchange, Id, Kind, Payload, notify_type};

pub(super) use signature::HASHES;
use signature::display_id;

/// An authenticated peer.
pub(super) struct Peer {
    pub(super) identity: String,
    /// Its certificate, then the intermediates that it sent.
    pub(super) chain: Arc<[Certificate]>,
    /// When its certificate ends, in monotonic time.
    pub(super) valid_until: Duration,
    /// What it shows of its system.
    pub(super) hints: Hints,
}

/// What an IKE_AUTH request says about who is who.
struct Claim<'a> {
    /// Who the peer says it is: the payload's body, and what it means.
    id_body: &'a [u8],
    id: Id<'a>,
    /// Who we should be.
    asked: Option<Id<'a>>,
    auth: Option<Auth<'a>>,
}

impl<'a> Claim<'a> {
    fn parse(payloads: &[Payload<'a>]) -> Result<Self, AuthError> {
        let id_body = required(payloads, Kind::IdI)?;
        Ok(Self {
            id_body,
            id: Id::parse(id_body)?,
            asked: single(payloads, Kind::IdR)?.map(Id::parse).transpose()?,
            auth: single(payloads, Kind::Auth)?.map(Auth::parse).transpose()?,
        })
    }
}

impl Responder {
    pub(super) fn handle_auth(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        payloads: &[Payload<'_>],
    ) {
        let State::HalfOpen(init) = &sa.state else { return };
        match self.authenticate(now, sa.suite.prf, init, payloads) {
            Ok((peer, own)) => self.admit(now, sa, message_id, payloads, peer, own),
            Err(why) => {
                self.stats.auth_failed += 1;
                let mut chain = Chain::new();
                chain.push(Kind::Notify, &why.notify());
                self.answer(sa, Exchange::IkeAuth, message_id, &chain);
                self.close_silently(now, sa);
                let id = payloads.iter().find(|payload| payload.kind == Kind::IdI);
                let id = id.and_then(|payload| Id::parse(payload.body).ok());
                let claimed = id.map_or_else(|| "no identity".to_owned(), |id| display_id(&id, None));
                self.note_stranger(now, Event::AuthFailed { remote: sa.path.remote, claimed, why });
            }
        }
    }

    /// Who the peer is, and our half of the authentication: the first payloads of the answer.
    fn authenticate(
        &self,
        now: Now,
        alg: Prf,
        init: &Init,
        payloads: &[Payload<'_>],
    ) -> Result<(Peer, Chain), AuthError> {
        let claim = Claim::parse(payloads)?;
        let auth = claim.auth.as_ref().ok_or(AuthError::EapWanted)?;
        let (peer, scheme) = self.verify_certificate(now, alg, init, payloads, &claim, auth)?;
        let own = self.prove(alg, init, claim.asked.as_ref(), scheme)?;
        Ok((peer, own))
    }

    /// The peer is authenticated: it gets an address and a Child SA, or is told why not. `payloads` are those in which
    /// it asks for them; the answer, which begins with `chain`, is to the request `message_id`.
    fn admit(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        payloads: &[Payload<'_>],
        peer: Peer,
        mut chain: Chain,
    ) {
        self.leave_half_open(sa);
        let State::HalfOpen(init) = std::mem::replace(&mut sa.state, State::Established) else { return };
        self.timers.cancel(Timer::Expire(sa.own_spi));
        self.set_renewal(now, sa, peer.valid_until);

        let initial_contact = notifies(payloads).any(|notify| notify.kind == notify_type::INITIAL_CONTACT);
        self.replace_connections(now, sa, &peer.identity, initial_contact);

        let nonces = Nonces { ni: &init.ni, nr: &init.nr };
        match self.create_first_child(now, sa, &peer, payloads, nonces, &mut chain) {
            Ok(spi_in) => {
                sa.pending = Some(Pending { spi_in, message_id, exchange: Exchange::IkeAuth, chain });
            }
            Err(why) => {
                chain.push(Kind::Notify, &why.notify());
                self.answer(sa, Exchange::IkeAuth, message_id, &chain);
                self.timers.set(Timer::Expire(sa.own_spi), now.mono + self.config.policy.childless_lifetime);
                self.outputs.push_back(Output::Note(Event::ChildRefused { identity: peer.identity, why }));
            }
        }
    }

    pub(super) fn note_refused(&mut self, sa: &IkeSa, why: Refusal) {
        self.outputs.push_back(Output::Note(Event::ChildRefused { identity: sa.identity(), why }));
    }
}

/// What a side signs: its first message, the other's nonce, and a MAC of its identity (RFC 7296 section 2.15).
fn signed_octets(alg: Prf, message: &[u8], nonce: &[u8], sk_p: &Secret, id_body: &[u8]) -> Vec<u8> {
    let mac = prf(alg, sk_p.expose(), &[id_body]);
    [message, nonce, mac.expose()].concat()
}
