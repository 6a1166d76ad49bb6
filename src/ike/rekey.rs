//! Rekey of the IKE SA by the peer (RFC 7296 sections 1.3.2, 2.18), and our own rekey of a Child SA.

use std::time::Duration;

use super::additional::{FollowUp, Outcome};
use super::child::{Agreed, InitiatedBy};
use super::error::{Event, Refusal};
use super::exchange::{notifies, required};
use super::fragment::Channel;
use super::init::check_group;
use super::keymat::{IkeKeys, Nonces, Shared};
use super::proposal::{IkeSuite, choose_esp, choose_ike, groups, own_esp_offer};
use super::sa::{IkeSa, OwnRekey, OwnRequest, State};
use super::selector::{keep_common_families, narrow};
use super::{GoneReason, Output, Responder, Timer};
use crate::base::Now;
use crate::crypto::Kem;
use crate::crypto::dh::KeyPair;
use crate::wire::Malformed;
use crate::wire::ike::{
    Chain, Exchange, Ke, Kind, Notify, Payload, Proposal, emit_proposals, emit_selectors, notify_type,
    parse_nonce, parse_proposals, parse_selectors, protocol,
};

impl Responder {
    /// A new IKE SA takes over Child SAs, device and requests; the old one waits for its Delete.
    pub(super) fn rekey_ike(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        payloads: &[Payload<'_>],
        proposals: &[Proposal],
    ) -> Result<(), Refusal> {
        sa.may_be_replaced()?;
        let ni = parse_nonce(required(payloads, Kind::Nonce)?)?;
        let ke = Ke::parse(required(payloads, Kind::Ke)?)?;
        let groups = groups(self.config.policy.weak_groups);
        let chosen = choose_ike(proposals, 8, Some(ke.group), groups, &Kem::ALL);
        let chosen = chosen.ok_or(Refusal::NoProposal)?;
        let suite = chosen.suite;
        let peer_public = check_group(suite.group, &ke)?;
        let spi_i = chosen.peer_spi.as_slice().try_into().map_or(0, u64::from_be_bytes);
        if spi_i == 0 {
            return Err(Refusal::Syntax(Malformed("SPI")));
        }
        let pair = KeyPair::generate(suite.group)?;
        let public = Ke { group: suite.group.transform_id(), data: pair.public() }.emit();
        let shared = Shared::from(pair.agree(peer_public)?);
        let (spi_r, nr) = (self.new_ike_spi(), self.new_nonce());
        let (nonces, spis) = (Nonces { ni, nr: &nr }, (spi_i, spi_r));

        let mut chain = Chain::new();
        chain.push(Kind::Sa, &emit_proposals(&[chosen.answer(&spi_r.to_be_bytes())]));
        chain.push(Kind::Nonce, &nr);
        chain.push(Kind::Ke, &public);
        let exchange = Exchange::CreateChildSa;
        if suite.kems.iter().any(Option::is_some) {
            let follow_up = FollowUp::new(suite.kems, shared, nonces, Outcome::Ike(suite, spis));
            self.await_follow_up(now, sa, (exchange, message_id), chain, follow_up);
            return Ok(());
        }
        let new = self.successor_of_ike(now, sa, suite, &shared, nonces, spis)?;
        self.answer(sa, exchange, message_id, &chain);
        if matches!(sa.state, State::Established) {
            self.hand_over(now, sa, new);
        }
        Ok(())
    }

    /// The IKE SA that takes over, not in force yet.
    pub(super) fn successor_of_ike(
        &self,
        now: Now,
        sa: &IkeSa,
        suite: IkeSuite,
        shared: &Shared,
        nonces: Nonces<'_>,
        spis: (u64, u64),
    ) -> Result<IkeSa, Refusal> {
        let keys = IkeKeys::rekeyed(suite, (sa.suite.prf, &sa.sk_d), shared, nonces, spis)?;
        let channel = Channel::new(suite.cipher, &keys.protect_i, &keys.protect_r)?;
        Ok(IkeSa::new(spis, suite, keys.sk_d, channel, sa.path, now.mono))
    }

    pub(super) fn hand_over(&mut self, now: Now, old: &mut IkeSa, mut new: IkeSa) {
        new.fragmentation = old.fragmentation;
        new.has_ppk = old.has_ppk;
        new.children = std::mem::take(&mut old.children);
        new.client = old.client.take();
        new.queued = std::mem::take(&mut old.queued);
        for child in &new.children {
            self.children.insert(child.spi_in, new.spi_r);
        }
        if let Some(client) = &new.client {
            self.devices.insert(client.device, new.spi_r);
            self.outputs.push_back(Output::IkeRekeyed { device: client.device });
        }
        old.state = State::Rekeyed;
        self.stats.ike_rekeys += 1;
        let policy = &self.config.policy;
        self.timers.cancel(Timer::Liveness(old.spi_r));
        self.timers.cancel(Timer::Lifetime(old.spi_r));
        self.timers.cancel(Timer::Refresh(old.spi_r));
        self.timers.set(Timer::Expire(old.spi_r), now.mono + policy.linger);
        self.timers.set(Timer::Liveness(new.spi_r), now.mono + policy.liveness_after);
        let end = new.client.as_ref().map_or(Duration::MAX, |client| client.valid_until);
        self.timers.set(Timer::Lifetime(new.spi_r), end.min(now.mono + policy.ike_lifetime));
        self.watch_childless(now, &new);
        self.start_request(now, &mut new);
        self.refresh(now, &mut new);
        self.sas.insert(new.spi_r, Box::new(new));
    }

    /// Our own request to replace a Child SA: with the cipher in use, without a new key exchange (which some
    /// clients refuse). `None` if there is nothing to replace.
    pub(super) fn rekey_request(&mut self, sa: &IkeSa, spi_in: u32) -> Option<(Chain, OwnRekey)> {
        let child = sa.child(spi_in).filter(|child| !child.deleting && child.replaced_by.is_none())?;
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
        Some((chain, OwnRekey { nonce, spi_in: new_spi, ts_local, ts_remote, offer: self.offer.clone() }))
    }

    /// The answer to that. Where the peer does not want, the connection ends if the SA is at the end of its life.
    pub(super) fn finish_rekey(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        request: OwnRequest,
        own: OwnRekey,
        payloads: &[Payload<'_>],
    ) {
        let Some(old) = request.rekeys().filter(|old| sa.child(*old).is_some()) else {
            return; // the peer deleted it meanwhile
        };
        let refused =
            notifies(payloads).map(|notify| notify.kind).find(|k| *k < notify_type::INITIAL_CONTACT);
        match (request, refused) {
            (OwnRequest::RefreshChild(_), Some(kind)) => {
                self.refresh_refused(now, sa, kind == notify_type::TEMPORARY_FAILURE);
            }
            (_, None) if self.accept_rekey(now, sa, old, own, payloads).is_ok() => {}
            _ => {
                self.outputs.push_back(Output::Note(Event::RekeyFailed { identity: sa.identity() }));
                self.close(now, sa, GoneReason::Expired);
            }
        }
    }

    fn accept_rekey(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        spi_in: u32,
        own: OwnRekey,
        payloads: &[Payload<'_>],
    ) -> Result<(), Refusal> {
        let old = sa.child(spi_in).ok_or(Refusal::ChildNotFound(spi_in))?;
        let nr = parse_nonce(required(payloads, Kind::Nonce)?)?;
        let proposals = parse_proposals(required(payloads, Kind::Sa)?)?;
        let chosen = choose_esp(&proposals, true, None, &[], &[]).filter(|chosen| {
            proposals.len() == 1 && chosen.suite.cipher == old.cipher && chosen.suite.group.is_none()
        });
        let chosen = chosen.ok_or(Refusal::NoProposal)?;
        let mut ts_local = narrow(&parse_selectors(required(payloads, Kind::TsI)?)?, &own.ts_local);
        let mut ts_remote = narrow(&parse_selectors(required(payloads, Kind::TsR)?)?, &own.ts_remote);
        keep_common_families(&mut ts_local, &mut ts_remote);
        if ts_local.is_empty() || ts_remote.is_empty() {
            return Err(Refusal::Selectors);
        }
        let spi_out = chosen.peer_spi_u32().ok_or(Refusal::NoProposal)?;
        let suite = chosen.suite;
        let (offer, replaces) = (own.offer, Some(spi_in));
        let agreed = Agreed { spi_in: own.spi_in, spi_out, suite, ts_local, ts_remote, offer, replaces };
        self.install(now, sa, agreed, &Shared::default(), Nonces { ni: &own.nonce, nr }, InitiatedBy::Us)
    }
}
