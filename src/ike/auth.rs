//! IKE_AUTH (RFC 7296 section 1.2): who the peer is, and its first Child SA.

use std::sync::Arc;
use std::time::Duration;

use super::error::{AuthError, Event, Refusal};
use super::exchange::{notifies, required, single};
use super::keymat::Nonces;
use super::sa::{IkeSa, Init, OwnRequest, Pending, State};
use super::signature::{belongs, display_id, own_id, sign, verify};
use super::system::Hints;
use super::{GoneReason, Output, Responder, Timer};
use crate::base::Now;
use crate::crypto::pki::Certificate;
use crate::crypto::prf::prf;
use crate::crypto::{Prf, Secret};
use crate::wire::Malformed;
use crate::wire::ike::{Auth, Cert, Chain, Exchange, Id, Kind, Payload, notify_type};

/// Most CERT payloads of a peer, and the longest certificate.
const MAX_CERTIFICATES: usize = 6;
const MAX_CERTIFICATE_LEN: usize = 16 * 1024;

/// An authenticated peer, and our half of the authentication.
pub(super) struct Peer {
    pub(super) identity: String,
    /// Its certificate, then the intermediates that it sent.
    pub(super) chain: Arc<[Certificate]>,
    /// When its certificate ends, in monotonic time.
    pub(super) valid_until: Duration,
    /// What it shows of its system.
    pub(super) hints: Hints,
    /// Bodies of our payloads.
    id_r: Vec<u8>,
    auth: Vec<u8>,
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
            Ok(peer) => self.admit(now, sa, message_id, payloads, peer),
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

    /// Checks chain, identity and signature of the peer, in this order, and signs our side.
    fn authenticate(
        &self,
        now: Now,
        alg: Prf,
        init: &Init,
        payloads: &[Payload<'_>],
    ) -> Result<Peer, AuthError> {
        let id_body = required(payloads, Kind::IdI)?;
        let id = Id::parse(id_body)?;
        let auth = Auth::parse(single(payloads, Kind::Auth)?.ok_or(AuthError::EapWanted)?)?;
        let asked = single(payloads, Kind::IdR)?.map(Id::parse).transpose()?;

        let chain = parse_certificates(payloads)?;
        let (certificate, intermediates) = chain.split_first().ok_or(AuthError::NoCertificate)?;
        let identity = &self.config.identity;
        identity.anchors.verify_client(certificate, intermediates, now.wall).map_err(AuthError::Chain)?;
        if !belongs(&id, certificate) {
            return Err(AuthError::NotTheCertificates);
        }
        let octets = signed_octets(alg, &init.request, &init.nr, &init.sk_pi, id_body);
        let scheme = verify(&auth, certificate, &octets)?;

        let id_r = own_id(asked.as_ref(), &identity.hostname, identity.chain.first());
        let octets = signed_octets(alg, &init.response, &init.ni, &init.sk_pr, &id_r);
        let auth = sign(&identity.key, init.hashes.as_deref(), scheme, &octets)?;
        let valid_until = now.mono.saturating_add(certificate.not_after().saturating_sub(now.wall));
        let identity = display_id(&id, Some(certificate));
        Ok(Peer { identity, chain: chain.into(), valid_until, hints: init.hints, id_r, auth })
    }

    /// The peer is authenticated: it gets an address and a Child SA, or is told why not.
    fn admit(&mut self, now: Now, sa: &mut IkeSa, message_id: u32, payloads: &[Payload<'_>], peer: Peer) {
        self.leave_half_open(sa);
        let State::HalfOpen(init) = std::mem::replace(&mut sa.state, State::Established) else { return };
        self.timers.cancel(Timer::Expire(sa.spi_r));
        self.timers.set(Timer::Liveness(sa.spi_r), now.mono + self.config.policy.liveness_after);
        let end = peer.valid_until.min(now.mono + self.config.policy.ike_lifetime);
        self.timers.set(Timer::Lifetime(sa.spi_r), end);

        let initial_contact = notifies(payloads).any(|notify| notify.kind == notify_type::INITIAL_CONTACT);
        self.replace_connections(now, sa, &peer.identity, initial_contact);

        let mut chain = Chain::new();
        chain.push(Kind::IdR, &peer.id_r);
        for certificate in &self.config.identity.chain {
            chain.push(Kind::Cert, &Cert { encoding: Cert::X509, data: certificate.der() }.emit());
        }
        chain.push(Kind::Auth, &peer.auth);
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

/// The peer's certificate, then its intermediates. Other encodings than X.509 are passed over: nothing is fetched.
fn parse_certificates(payloads: &[Payload<'_>]) -> Result<Vec<Certificate>, AuthError> {
    let mut certificates = Vec::new();
    for payload in payloads.iter().filter(|payload| payload.kind == Kind::Cert) {
        let cert = Cert::parse(payload.body)?;
        if cert.encoding != Cert::X509 {
            continue;
        }
        if certificates.len() == MAX_CERTIFICATES || cert.data.len() > MAX_CERTIFICATE_LEN {
            return Err(AuthError::Syntax(Malformed("CERT payloads: too many or too long")));
        }
        certificates.push(Certificate::parse(cert.data).map_err(AuthError::Certificate)?);
    }
    Ok(certificates)
}

/// What a side signs: its first message, the other's nonce, and a MAC of its identity (RFC 7296 section 2.15).
fn signed_octets(alg: Prf, message: &[u8], nonce: &[u8], sk_p: &Secret, id_body: &[u8]) -> Vec<u8> {
    let mac = prf(alg, sk_p.expose(), &[id_body]);
    [message, nonce, mac.expose()].concat()
}
