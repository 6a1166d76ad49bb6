//! Rekey of the IKE SA by the peer (RFC 7296 sections 1.3.2, 2.18), and what passes from the old one to the new one.

use std::time::Duration;

use super::additional::{FollowUp, Outcome};
use super::error::Refusal;
use super::exchange::required;
use super::fragment::Channel;
use super::init::check_group;
use super::keymat::{IkeKeys, Nonces, Shared};
use super::proposal::{IkeSuite, choose_ike, groups};
use super::sa::{IkeSa, InitiatedBy, Proposed, Rival, State};
use super::{CREATIONS, Output, Responder, Timer};
use crate::base::Now;
use crate::crypto::Kem;
use crate::crypto::dh::KeyPair;
use crate::wire::Malformed;
use crate::wire::ike::{Chain, Exchange, Ke, Kind, Payload, Proposal, emit_proposals, parse_nonce};

/// How long before the end of an IKE SA that its client has not renewed we do so.
const REKEY_BEFORE: Duration = Duration::from_secs(600);

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
        let spi_i = chosen.peer_spi_u64().ok_or(Refusal::Syntax(Malformed("SPI")))?;
        if !sa.creations.allow(now.mono) {
            return Err(Refusal::Busy);
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
        self.replace_for_peer(now, sa, new, nonces);
        Ok(())
    }

    /// The peer has its answer: `new` takes over.
    pub(super) fn replace_for_peer(&mut self, now: Now, sa: &mut IkeSa, new: IkeSa, nonces: Nonces<'_>) {
        if matches!(sa.state, State::Established) {
            let own_spi = new.own_spi;
            self.hand_over(now, sa, new);
            if let Some(Proposed::Ike(own)) = sa.outstanding.as_mut().and_then(|own| own.proposed.as_mut()) {
                own.rival = Some(Rival::new(own_spi, nonces));
            }
        }
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
        Ok(IkeSa::new((spis.1, spis.0), InitiatedBy::Peer, suite, keys.sk_d, channel, sa.path, now.mono))
    }

    /// Child SAs, device and requests pass to the new IKE SA.
    pub(super) fn hand_over(&mut self, now: Now, old: &mut IkeSa, mut new: IkeSa) {
        new.fragmentation = old.fragmentation;
        new.has_ppk = old.has_ppk;
        new.mobike = old.mobike;
        new.creations = std::mem::replace(&mut old.creations, CREATIONS);
        new.children = std::mem::take(&mut old.children);
        new.client = old.client.take();
        new.queued = std::mem::take(&mut old.queued);
        for child in &new.children {
            self.children.insert(child.spi_in, new.own_spi);
        }
        if let Some(client) = &new.client {
            self.devices.insert(client.device, new.own_spi);
            self.outputs.push_back(Output::IkeRekeyed { device: client.device });
        }
        self.stats.ike_rekeys += 1;
        self.retire(now, old);
        let end = new.client.as_ref().map_or(Duration::MAX, |client| client.valid_until);
        self.set_renewal(now, &new, end);
        self.watch_childless(now, &new);
        self.start_request(now, &mut new);
        self.refresh(now, &mut new);
        self.keep(Box::new(new));
    }

    /// An IKE SA that another one has replaced waits for its Delete.
    pub(super) fn retire(&mut self, now: Now, old: &mut IkeSa) {
        old.state = State::Rekeyed;
        self.cancel_renewal(old);
        self.timers.set(Timer::Expire(old.own_spi), now.mono + self.config.policy.linger);
    }

    /// From now on the IKE SA is watched: whether the peer lives, whether it renews, when all must end.
    pub(super) fn set_renewal(&mut self, now: Now, sa: &IkeSa, valid_until: Duration) {
        let policy = &self.config.policy;
        let end = now.mono + policy.ike_lifetime;
        self.timers.set(Timer::Liveness(sa.own_spi), now.mono + policy.liveness_after);
        self.timers.set(Timer::RekeyIke(sa.own_spi), end.saturating_sub(REKEY_BEFORE));
        self.timers.set(Timer::Lifetime(sa.own_spi), end.min(valid_until));
    }

    pub(super) fn cancel_renewal(&mut self, sa: &IkeSa) {
        for timer in [Timer::Liveness, Timer::Lifetime, Timer::RekeyIke, Timer::Refresh] {
            self.timers.cancel(timer(sa.own_spi));
        }
    }
}
