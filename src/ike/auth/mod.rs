//! IKE_AUTH (RFC 7296 section 1.2): who the peer is, and its first Child SA.
//!
//! * `certificate`: a peer that signs. `psk`: one with a pre-shared key. `eap`: one that answers questions.
//! * `own`: our half, `choice`: by which of our certificates. `signature`: identities and AUTH payloads of both.

mod certificate;
mod choice;
mod eap;
mod own;
mod psk;
mod signature;

use std::time::Duration;

use super::access::Proof;
use super::error::{AuthError, Event, Refusal};
use super::exchange::{notifies, required, single};
use super::keymat::Nonces;
use super::sa::{IkeSa, Init, Pending, State};
use super::system::Hints;
use super::{Output, Responder, Timer};
use crate::base::Now;
use crate::crypto::Prf;
use crate::crypto::prf::prf;
use crate::wire::ike::{
    Auth, Chain, Exchange, Id, Kind, Notify, Payload, auth_method, notify_type, parse_chain,
};

pub(super) use eap::Conversation;
pub(super) use signature::HASHES;
use signature::display_id;

/// An authenticated peer.
pub(super) struct Peer {
    pub(super) identity: String,
    pub(super) proof: Proof,
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

/// What comes of a request.
enum Outcome {
    /// The peer is authenticated: our half.
    Admit(Peer, Chain),
    /// EAP goes on, with this answer at this time.
    Continue(Chain, Duration),
    /// EAP has ended in failure, and this is the last answer.
    Fail(AuthError, Chain, Duration),
}

impl Responder {
    pub(super) fn handle_auth(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        payloads: &[Payload<'_>],
    ) {
        let without_ppk = self.mix_ppk(sa, payloads);
        let has_ppk = sa.has_ppk;
        let (alg, State::HalfOpen(init)) = (sa.suite.prf, &mut sa.state) else { return };
        let begins = init.eap.is_none();
        let outcome = without_ppk.and_then(|data| {
            if begins {
                self.authenticate(now, alg, init, payloads, data)
            } else {
                self.continue_eap(now, alg, init, sa.path.remote, payloads, data)
            }
        });
        match outcome {
            Ok(Outcome::Admit(peer, _)) if !self.config.identity.access.allows(&peer.identity) => {
                self.refuse_auth(now, sa, message_id, AuthError::NotAllowed(peer.identity), payloads);
            }
            Ok(Outcome::Admit(peer, mut own)) => {
                if has_ppk {
                    own.push(Kind::Notify, &Notify::new(notify_type::PPK_IDENTITY, &[]).emit());
                }
                match init.eap.take() {
                    Some(eap) => {
                        let asked = parse_chain(eap.asked.first(), eap.asked.bytes()).unwrap_or_default();
                        self.admit(now, sa, message_id, &asked, peer, own);
                    }
                    None => self.admit(now, sa, message_id, payloads, peer, own),
                }
            }
            Ok(Outcome::Continue(chain, due)) => {
                if begins {
                    self.timers.set(Timer::Expire(sa.own_spi), now.mono + self.config.policy.eap_lifetime);
                }
                self.answer_at(now, sa, message_id, chain, due);
            }
            Ok(Outcome::Fail(why, chain, due)) => {
                if let Some(eap) = &mut init.eap {
                    eap.failed = Some(why);
                }
                self.answer_at(now, sa, message_id, chain, due);
            }
            Err(why) => self.refuse_auth(now, sa, message_id, why, payloads),
        }
    }

    /// Who the peer is, and our half of the authentication: the first payloads of the answer. `data`, if any, is to be
    /// verified in place of the data in AUTH.
    fn authenticate(
        &mut self,
        now: Now,
        alg: Prf,
        init: &mut Init,
        payloads: &[Payload<'_>],
        data: Option<&[u8]>,
    ) -> Result<Outcome, AuthError> {
        let claim = Claim::parse(payloads)?;
        let Some(Auth { method, data: as_sent }) = claim.auth else {
            return self.begin_eap(now, alg, init, payloads, &claim);
        };
        let auth = &Auth { method, data: data.unwrap_or(as_sent) };
        if auth.method == auth_method::SHARED_KEY {
            return self.verify_psk(alg, init, &claim, auth);
        }
        let (peer, scheme) = self.verify_certificate(now, alg, init, payloads, &claim, auth)?;
        let own = self.prove(alg, init, claim.asked.as_ref(), Some(scheme))?;
        Ok(Outcome::Admit(peer, own))
    }

    /// An answer of EAP. Where it must wait, the peer may repeat its request meanwhile and hears nothing.
    fn answer_at(&mut self, now: Now, sa: &mut IkeSa, message_id: u32, chain: Chain, due: Duration) {
        let pending = Pending { spi_in: None, message_id, exchange: Exchange::IkeAuth, chain };
        sa.pending = Some(pending);
        if due <= now.mono {
            self.answer_now(now, sa);
        } else {
            self.timers.set(Timer::Answer(sa.own_spi), due);
        }
    }

    /// The time of an answer of EAP has come; it may be the last one.
    pub(super) fn answer_now(&mut self, now: Now, sa: &mut IkeSa) {
        let Some(pending) = sa.pending.take() else { return };
        self.answer_pending(sa, pending);
        let State::HalfOpen(init) = &mut sa.state else { return };
        let Some(why) = init.eap.as_mut().and_then(|eap| eap.failed.take()) else { return };
        let claimed = claimed(init, &[]);
        self.end_auth(now, sa, claimed, why);
    }

    fn refuse_auth(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        why: AuthError,
        payloads: &[Payload<'_>],
    ) {
        let State::HalfOpen(init) = &sa.state else { return };
        let claimed = claimed(init, payloads);
        let mut chain = Chain::new();
        chain.push(Kind::Notify, &why.notify());
        self.answer(sa, Exchange::IkeAuth, message_id, &chain);
        self.end_auth(now, sa, claimed, why);
    }

    fn end_auth(&mut self, now: Now, sa: &mut IkeSa, claimed: String, why: AuthError) {
        self.stats.auth_failed += 1;
        self.close_silently(now, sa);
        self.note_stranger(now, Event::AuthFailed { remote: sa.path.remote, claimed, why });
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
                let exchange = Exchange::IkeAuth;
                sa.pending = Some(Pending { spi_in: Some(spi_in), message_id, exchange, chain });
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

/// Who the peer of an unfinished authentication says it is.
fn claimed(init: &Init, payloads: &[Payload<'_>]) -> String {
    if let Some(eap) = &init.eap {
        return eap.claimed();
    }
    let id = payloads.iter().find(|payload| payload.kind == Kind::IdI);
    let id = id.and_then(|payload| Id::parse(payload.body).ok());
    id.map_or_else(|| "no identity".to_owned(), |id| display_id(&id, None))
}

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Peer,
    Us,
}

/// What a side signs: its first message, the other's nonce, a MAC of its identity (RFC 7296 section 2.15), and the
/// exchanges between (RFC 9242 section 3.3.2).
fn signed_octets(alg: Prf, init: &Init, by: Side, id_body: &[u8]) -> Vec<u8> {
    let (message, nonce, sk_p) = match by {
        Side::Peer => (&init.request, &init.nr, &init.sk_pi),
        Side::Us => (&init.response, &init.ni, &init.sk_pr),
    };
    let mac = prf(alg, sk_p.expose(), &[id_body]);
    [message, nonce, mac.expose(), &init.intermediate.signed()].concat()
}
