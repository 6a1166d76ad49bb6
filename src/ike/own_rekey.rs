//! Rekeys that we begin, and what becomes of them where the peer begins the same (RFC 7296 sections 2.8, 2.25).
//!
//! The client renews its SAs; we do so as a backstop, with the algorithms that are in use. Of two that replace the same
//! one, that with the lowest of the four nonces is redundant, and is deleted by the side that created it; the other side
//! deletes the replaced one.

use super::child::Agreed;
use super::error::{Event, Refusal};
use super::exchange::{notifies, required};
use super::fragment::Channel;
use super::init::check_group;
use super::keymat::{IkeKeys, Nonces, Shared};
use super::plan::ASK_AGAIN;
use super::proposal::{IkeSuite, Kems, choose_esp, choose_ike, own_esp_offer, own_ike_offer};
use super::sa::{IkeSa, InitiatedBy, OwnIkeRekey, OwnRekey, OwnRequest, Rival, State};
use super::selector::{keep_common_families, narrow};
use super::{GoneReason, Output, Responder, System, Timer};
use crate::base::Now;
use crate::crypto::dh::KeyPair;
use crate::wire::ike::{
    Chain, Ke, Kind, Notify, Payload, emit_proposals, emit_selectors, notify_type, parse_nonce,
    parse_proposals, parse_selectors, protocol,
};

impl<S> Rival<S> {
    /// The peer's SA, with the nonces of its exchange.
    pub(super) fn new(own_spi: S, nonces: Nonces<'_>) -> Self {
        Self { own_spi, lowest_nonce: nonces.ni.min(nonces.nr).to_vec() }
    }

    /// Whether ours, made with these nonces, is the redundant one.
    fn prevails(&self, nonces: Nonces<'_>) -> bool {
        nonces.ni.min(nonces.nr) < self.lowest_nonce.as_slice()
    }
}

fn is_windows(sa: &IkeSa) -> bool {
    sa.client.as_ref().is_some_and(|client| client.system == Some(System::Windows))
}

/// The error notify of an answer.
fn refusal(payloads: &[Payload<'_>]) -> Option<u16> {
    notifies(payloads).map(|notify| notify.kind).find(|kind| *kind < notify_type::INITIAL_CONTACT)
}

impl Responder {
    /// A Child SA is old. Windows refuses our rekeys and renews its SAs itself, more often than that.
    pub(super) fn renew_child(&mut self, now: Now, sa: &mut IkeSa, spi_in: u32) {
        if !is_windows(sa) {
            self.request(now, sa, OwnRequest::RekeyChild(spi_in));
        }
    }

    /// The sequence numbers of a Child SA come to their end: one that cannot be rekeyed cannot stay.
    pub(super) fn relieve_child(&mut self, now: Now, sa: &mut IkeSa, spi_in: u32) {
        if is_windows(sa) {
            self.close(now, sa, GoneReason::Expired);
        } else {
            self.request(now, sa, OwnRequest::RekeyChild(spi_in));
        }
    }

    /// A request to replace a Child SA: without a new key exchange, which some clients refuse. `None` if there is
    /// nothing to replace.
    pub(super) fn child_rekey_request(&mut self, sa: &IkeSa, spi_in: u32) -> Option<(Chain, OwnRekey)> {
        let child = sa.child(spi_in).filter(|child| child.is_in_charge())?;
        let (ts_local, ts_remote) = self.successor(sa.client.as_ref()?, child);
        let (nonce, new_spi) = (self.new_nonce(), self.new_esp_spi());
        let mut chain = Chain::new();
        let spi = spi_in.to_be_bytes();
        let notify = Notify { protocol: protocol::ESP, spi: &spi, kind: notify_type::REKEY_SA, data: &[] };
        chain.push(Kind::Notify, &notify.emit());
        chain.push(Kind::Sa, &emit_proposals(&[own_esp_offer(child.cipher, new_spi)]));
        chain.push(Kind::Nonce, &nonce);
        chain.push(Kind::TsI, &emit_selectors(&ts_local));
        chain.push(Kind::TsR, &emit_selectors(&ts_remote));
        let (cipher, offer, rival) = (child.cipher, self.offer.clone(), None);
        Some((chain, OwnRekey { nonce, spi_in: new_spi, cipher, ts_local, ts_remote, offer, rival }))
    }

    /// The answer to that. Where the peer does not want, the connection ends if the SA is at the end of its life.
    pub(super) fn finish_child_rekey(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        request: OwnRequest,
        own: OwnRekey,
        payloads: &[Payload<'_>],
    ) {
        let Some(old) = request.rekeys().filter(|_| matches!(sa.state, State::Established)) else { return };
        let is_refresh = matches!(request, OwnRequest::RefreshChild(_));
        match refusal(payloads) {
            None if self.accept_child_rekey(now, sa, old, own, payloads).is_ok() => {}
            // The peer has replaced or deleted it meanwhile.
            Some(_) if !sa.child(old).is_some_and(|child| child.is_in_charge()) => {}
            Some(kind) if is_refresh => {
                self.refresh_refused(now, sa, kind == notify_type::TEMPORARY_FAILURE);
            }
            Some(notify_type::TEMPORARY_FAILURE) => {
                self.timers.set(Timer::ChildLifetime(old), now.mono + ASK_AGAIN);
            }
            Some(notify_type::CHILD_SA_NOT_FOUND) => {
                self.remove_child(sa, old);
                self.watch_childless(now, sa);
            }
            _ => self.fail_rekey(now, sa),
        }
    }

    fn accept_child_rekey(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        old: u32,
        own: OwnRekey,
        payloads: &[Payload<'_>],
    ) -> Result<(), Refusal> {
        let nr = parse_nonce(required(payloads, Kind::Nonce)?)?;
        let proposals = parse_proposals(required(payloads, Kind::Sa)?)?;
        let chosen = choose_esp(&proposals, true, None, &[], &[]).filter(|chosen| {
            proposals.len() == 1 && chosen.suite.cipher == own.cipher && chosen.suite.group.is_none()
        });
        let chosen = chosen.ok_or(Refusal::NoProposal)?;
        let mut ts_local = narrow(&parse_selectors(required(payloads, Kind::TsI)?)?, &own.ts_local);
        let mut ts_remote = narrow(&parse_selectors(required(payloads, Kind::TsR)?)?, &own.ts_remote);
        keep_common_families(&mut ts_local, &mut ts_remote);
        if ts_local.is_empty() || ts_remote.is_empty() {
            return Err(Refusal::Selectors);
        }
        let spi_out = chosen.peer_spi_u32().ok_or(Refusal::NoProposal)?;
        let (spi_in, suite, offer) = (own.spi_in, chosen.suite, own.offer);
        let replaces = sa.child(old).map(|child| child.spi_in);
        let agreed = Agreed { spi_in, spi_out, suite, ts_local, ts_remote, offer, replaces };
        let nonces = Nonces { ni: &own.nonce, nr };
        self.install(now, sa, agreed, &Shared::default(), nonces, InitiatedBy::Us)?;

        let rival = own.rival.filter(|rival| sa.child(rival.own_spi).is_some());
        if let Some(rival) = rival {
            let theirs = rival.own_spi;
            let (winner, loser) = if rival.prevails(nonces) { (theirs, spi_in) } else { (spi_in, theirs) };
            for replaced in [old, loser] {
                sa.child_mut(replaced).into_iter().for_each(|child| child.replaced_by = Some(winner));
            }
            if loser == theirs {
                self.timers.set(Timer::ChildLinger(theirs), now.mono + self.config.policy.linger);
            }
        }
        Ok(())
    }

    /// A request to replace the IKE SA, with the algorithms in use: any client can do what it did. `None` if there is
    /// nothing worth it.
    pub(super) fn ike_rekey_request(&mut self, sa: &IkeSa) -> Option<(Chain, Box<OwnIkeRekey>)> {
        if !matches!(sa.state, State::Established) || sa.client.is_none() {
            return None;
        }
        // No additional key exchange: that of the first IKE SA lives on in SK_d.
        let suite = IkeSuite { kems: Kems::default(), ..sa.suite };
        let pair = KeyPair::generate(suite.group).ok()?;
        let (nonce, own_spi) = (self.new_nonce(), self.new_ike_spi());
        let mut chain = Chain::new();
        chain.push(Kind::Sa, &emit_proposals(&[own_ike_offer(suite, own_spi)]));
        chain.push(Kind::Nonce, &nonce);
        chain.push(Kind::Ke, &Ke { group: suite.group.transform_id(), data: pair.public() }.emit());
        Some((chain, Box::new(OwnIkeRekey { nonce, own_spi, suite, pair, rival: None })))
    }

    /// The answer to that. A client that refuses keeps its IKE SA until the end of its life.
    pub(super) fn finish_ike_rekey(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        own: Box<OwnIkeRekey>,
        payloads: &[Payload<'_>],
    ) {
        match refusal(payloads) {
            Some(notify_type::TEMPORARY_FAILURE) if matches!(sa.state, State::Established) => {
                self.timers.set(Timer::RekeyIke(sa.own_spi), now.mono + ASK_AGAIN);
            }
            Some(_) => {}
            None if self.accept_ike_rekey(now, sa, own, payloads).is_ok() => {}
            None => self.fail_rekey(now, sa),
        }
    }

    /// The new IKE SA is ours. Where the peer has made one, too, it has the device already, and one of them goes.
    fn accept_ike_rekey(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        own: Box<OwnIkeRekey>,
        payloads: &[Payload<'_>],
    ) -> Result<(), Refusal> {
        let OwnIkeRekey { nonce, own_spi, suite, pair, rival } = *own;
        let nr = parse_nonce(required(payloads, Kind::Nonce)?)?;
        let ke = Ke::parse(required(payloads, Kind::Ke)?)?;
        let proposals = parse_proposals(required(payloads, Kind::Sa)?)?;
        let chosen = choose_ike(&proposals, 8, Some(ke.group), &[suite.group], &[]);
        let chosen = chosen.filter(|chosen| proposals.len() == 1 && chosen.suite == suite);
        let peer_spi = chosen.and_then(|chosen| chosen.peer_spi_u64()).ok_or(Refusal::NoProposal)?;
        let shared = Shared::from(pair.agree(check_group(suite.group, &ke)?)?);
        let nonces = Nonces { ni: &nonce, nr };
        let keys = IkeKeys::rekeyed(suite, (sa.suite.prf, &sa.sk_d), &shared, nonces, (own_spi, peer_spi))?;
        let channel = Channel::new(suite.cipher, &keys.protect_r, &keys.protect_i)?;
        let spis = (own_spi, peer_spi);
        let mut new = IkeSa::new(spis, InitiatedBy::Us, suite, keys.sk_d, channel, sa.path, now.mono);

        let theirs = rival.as_ref().map(|rival| rival.own_spi);
        let in_charge = theirs.map_or(Some(&*sa), |theirs| self.sas.get(&theirs).map(|sa| &**sa));
        let in_charge = in_charge.is_some_and(|sa| matches!(sa.state, State::Established));
        if !in_charge || rival.is_some_and(|rival| rival.prevails(nonces)) {
            // Redundant; the peer deletes the one that both have replaced.
            new.state = State::Deleting;
            self.request(now, &mut new, OwnRequest::DeleteIke);
            self.keep(Box::new(new));
            return Ok(());
        }
        match theirs {
            Some(theirs) => self.with_sa(theirs, |this, theirs| this.hand_over(now, theirs, new)),
            None => self.hand_over(now, sa, new),
        }
        sa.state = State::Deleting;
        self.request(now, sa, OwnRequest::DeleteIke);
        Ok(())
    }

    fn fail_rekey(&mut self, now: Now, sa: &mut IkeSa) {
        if matches!(sa.state, State::Established) {
            self.outputs.push_back(Output::Note(Event::RekeyFailed { identity: sa.identity() }));
            self.close(now, sa, GoneReason::Expired);
        }
    }
}
