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
use super::sa::{IkeSa, Init, OwnRequest, Pending, State};
use super::system::Hints;
use super::{GoneReason, Output, Responder, Timer};
use crate::base::Now;
use crate::crypto::Prf;
use crate::crypto::pki::Certificate;
use crate::crypto::prf::prf;
use crate::wire::ike::{Auth, Chain, Exchange, Id, Kind, Notify, Payload, notify_type};

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
        let without_ppk = self.mix_ppk(sa, payloads);
        let State::HalfOpen(init) = &sa.state else { return };
        let result = without_ppk.and_then(|auth| self.authenticate(now, sa.suite.prf, init, payloads, auth));
        match result {
            Ok((peer, mut own)) => {
                if sa.has_ppk {
                    own.push(Kind::Notify, &Notify::new(notify_type::PPK_IDENTITY, &[]).emit());
                }
                self.admit(now, sa, message_id, payloads, peer, own);
            }
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

    /// Who the peer is, and our half of the authentication: the first payloads of the answer. `data`, if any, is to be
    /// verified in place of the data in AUTH.
    fn authenticate(
        &self,
        now: Now,
        alg: Prf,
        init: &Init,
        payloads: &[Payload<'_>],
        data: Option<&[u8]>,
    ) -> Result<(Peer, Chain), AuthError> {
        let claim = Claim::parse(payloads)?;
        let Auth { method, data: as_sent } = claim.auth.ok_or(AuthError::EapWanted)?;
        let auth = Auth { method, data: data.unwrap_or(as_sent) };
        let (peer, scheme) = self.verify_certificate(now, alg, init, payloads, &claim, &auth)?;
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
        self.timers.cancel(Timer::Expire(sa.spi_r));
        self.timers.set(Timer::Liveness(sa.spi_r), now.mono + self.config.policy.liveness_after);
        let end = peer.valid_until.min(now.mono + self.config.policy.ike_lifetime);
        self.timers.set(Timer::Lifetime(sa.spi_r), end);

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
                self.timers.set(Timer::Expire(sa.spi_r), now.mono + self.config.policy.childless_lifetime);
                self.outputs.push_back(Output::Note(Event::ChildRefused { identity: peer.identity, why }));
            }
        }
    }

    /// Other connections of this identity. One from the very address and port of the new one is the same device: it
    /// is replaced at once, and its address is free for the new one. Behind one NAT there may be several devices, so
    /// others are asked whether they live: after INITIAL_CONTACT all of them, else those of the same host.
    fn replace_connections(&mut self, now: Now, sa: &IkeSa, identity: &str, initial_contact: bool) {
        let remote = sa.path.remote;
        let same = |other: &IkeSa| other.client.as_ref().is_some_and(|client| client.identity == identity);
        let mut others: Vec<_> =
            self.sas.values().filter(|other| same(other)).map(|other| other.spi_r).collect();
        others.sort_unstable();
        for spi_r in others {
            self.with_sa(spi_r, |this, other| {
                if other.path.remote == remote {
                    this.abandon(other, GoneReason::Replaced);
                } else if initial_contact || other.path.remote.ip() == remote.ip() {
                    this.request(now, other, OwnRequest::Liveness);
                }
            });
        }
    }

    pub(super) fn note_refused(&mut self, sa: &IkeSa, why: Refusal) {
        self.outputs.push_back(Output::Note(Event::ChildRefused { identity: sa.identity(), why }));
    }
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
