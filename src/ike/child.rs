//! Child SAs: the first one, further ones, and their rekey by the peer (RFC 7296 sections 1.3, 2.8, 2.9, 3.15).

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::additional::{FollowUp, Outcome};
use super::auth::Peer;
use super::error::Refusal;
use super::exchange::{notifies, required, single};
use super::init::check_group;
use super::keymat::{Nonces, Shared, child_keys};
use super::proposal::{Chosen, EspSuite, choose_esp, groups};
use super::sa::{Child, Client, IkeSa, InitiatedBy, OwnRequest, Pending, Proposed, Rival, State};
use super::selector::{any_between, keep_common_families, narrow};
use super::system::System;
use super::{Output, Responder, Timer};
use crate::base::{ChildSa, DeviceId, Now, TrafficSelector};
use crate::crypto::Kem;
use crate::crypto::dh::KeyPair;
use crate::wire::Malformed;
use crate::wire::ike::{
    CfgType, Chain, Configuration, Exchange, Ke, Kind, Payload, Proposal, attribute, emit_proposals,
    emit_selectors, notify_type, parse_nonce, parse_proposals, parse_selectors, protocol,
};

/// A Child SA as agreed, before it has keys.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) spi_in: u32,
    pub(super) spi_out: u32,
    pub(super) suite: EspSuite,
    pub(super) ts_local: Vec<TrafficSelector>,
    pub(super) ts_remote: Vec<TrafficSelector>,
    /// The selectors of our side before narrowing.
    pub(super) offer: Arc<[TrafficSelector]>,
    /// Our SPI of the SA that it replaces.
    pub(super) replaces: Option<u32>,
}

impl Responder {
    /// Address, configuration and Child SA of IKE_AUTH. Appends the payloads of the answer to `chain`.
    pub(super) fn create_first_child(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        peer: &Peer,
        payloads: &[Payload<'_>],
        nonces: Nonces<'_>,
        chain: &mut Chain,
    ) -> Result<u32, Refusal> {
        let request = single(payloads, Kind::Cp)?.map(Configuration::parse).transpose()?;
        let request = request.filter(|cp| cp.cfg_type == CfgType::Request).ok_or(Refusal::NoAddressAsked)?;
        let ipv4 = request.asks(attribute::INTERNAL_IP4_ADDRESS);
        let nat64 = self.plan.nat64.filter(|_| request.asks(attribute::INTERNAL_IP6_ADDRESS));
        if !ipv4 && nat64.is_none() {
            return Err(Refusal::NoAddressAsked);
        }
        let proposals = parse_proposals(required(payloads, Kind::Sa)?)?;
        let chosen = choose_esp(&proposals, false, None, &[], &[]).ok_or(Refusal::NoProposal)?;

        let inheritance = self.inheritance(sa, |old| {
            old.has_ipv4() == ipv4 && old.address6 == nat64.map(|nat64| nat64.device(old.address))
        });
        let (device, address) = match &inheritance {
            Some(old) => (old.client.device, old.client.address),
            None => {
                let device = DeviceId(self.next_device);
                self.next_device = self.next_device.wrapping_add(1);
                (device, self.leases.acquire(&peer.identity, device, wanted_address(&request))?)
            }
        };
        let address6 = nat64.map(|nat64| nat64.device(address));
        let mut selectors: Vec<_> = ipv4.then(|| any_between(address, address)).into_iter().collect();
        selectors.extend(address6.map(|address6| any_between(address6, address6)));
        let mine = self.offer.clone();
        let replaces = inheritance.as_ref().map(|old| old.spi_in);
        let agreed = self.agree(&chosen, payloads, &mine, &selectors, replaces);
        let agreed = agreed.inspect_err(|_| {
            if inheritance.is_none() {
                self.leases.release(device);
            }
        })?;
        self.devices.insert(device, sa.own_spi);
        let system = peer.hints.guess(payloads, &request);
        let client = Client {
            device,
            identity: peer.identity.clone(),
            proof: peer.proof.clone(),
            system,
            address,
            address6,
            selectors,
            takes_rekey: system != Some(System::Windows),
            valid_until: peer.valid_until,
            announced: inheritance.is_some(),
        };
        chain.push(Kind::Cp, &self.plan.configuration(self.leases.host(), &request, &client));
        sa.client = Some(client);
        push_agreement(chain, &chosen, &agreed);
        Self::agree_on_mobike(sa, payloads, chain);
        let spi_in = agreed.spi_in;
        inheritance.into_iter().for_each(|old| self.take_over(now, old, spi_in));
        self.install(now, sa, agreed, &Shared::default(), nonces, InitiatedBy::Peer)
            .inspect_err(|_| self.end_client(sa, None))?;
        Ok(spi_in)
    }

    pub(super) fn handle_create_child(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        payloads: &[Payload<'_>],
    ) {
        let open = if matches!(sa.state, State::Established) { Ok(()) } else { Err(Refusal::Busy) };
        let result = open.and_then(|()| Ok(parse_proposals(required(payloads, Kind::Sa)?)?));
        let result = result.and_then(|proposals| {
            if proposals.iter().any(|proposal| proposal.protocol == protocol::IKE) {
                self.rekey_ike(now, sa, message_id, payloads, &proposals)
            } else {
                self.create_child(now, sa, message_id, payloads, &proposals)
            }
        });
        if let Err(why) = result {
            if !matches!(why, Refusal::InvalidKe(_) | Refusal::Busy | Refusal::ChildNotFound(_)) {
                self.note_refused(sa, why);
            }
            let header = sa.header(Exchange::CreateChildSa, message_id, false);
            self.refuse_request(now, sa, &header, why);
        }
    }

    fn create_child(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        payloads: &[Payload<'_>],
        proposals: &[Proposal],
    ) -> Result<(), Refusal> {
        if sa.outstanding.as_ref().is_some_and(|own| own.request == OwnRequest::RekeyIke) {
            return Err(Refusal::Busy);
        }
        let client = sa.client.as_ref().ok_or(Refusal::TooManyChildren)?;
        let replaces = find_replaced(sa, payloads)?;
        if sa.children.len() >= self.config.policy.children_per_ike_sa {
            return Err(Refusal::TooManyChildren);
        }
        let ni = parse_nonce(required(payloads, Kind::Nonce)?)?;
        let ke = single(payloads, Kind::Ke)?.map(Ke::parse).transpose()?;
        let groups = groups(self.config.policy.weak_groups);
        let chosen = choose_esp(proposals, true, ke.map(|ke| ke.group), groups, &Kem::ALL);
        let chosen = chosen.ok_or(Refusal::NoProposal)?;

        let (ts_local, ts_remote) = match replaces {
            Some(old) => self.successor(client, old),
            None => (self.offer.to_vec(), client.selectors.clone()),
        };
        let mut agreed =
            self.agree(&chosen, payloads, &ts_local, &ts_remote, replaces.map(|old| old.spi_in))?;
        // A peer that asks for the old selectors does not get all of a changed plan: the rest waits for our rekey.
        if let Some(old) = replaces.filter(|old| self.is_stale(old) && agreed.ts_local != ts_local) {
            agreed.offer = old.offer.clone();
        }

        if !sa.creations.allow(now.mono) {
            return Err(Refusal::Busy);
        }
        let (shared, public) = match chosen.suite.group {
            Some(group) => {
                let peer = check_group(group, &ke.ok_or(Refusal::InvalidKe(group))?)?;
                let pair = KeyPair::generate(group)?;
                let public = Ke { group: group.transform_id(), data: pair.public() }.emit();
                (Shared::from(pair.agree(peer)?), Some(public))
            }
            None => (Shared::default(), None),
        };
        let nr = self.new_nonce();
        let mut chain = Chain::new();
        chain.push(Kind::Sa, &emit_proposals(&[chosen.answer(agreed.spi_in)]));
        chain.push(Kind::Nonce, &nr);
        if let Some(public) = public {
            chain.push(Kind::Ke, &public);
        }
        chain.push(Kind::TsI, &emit_selectors(&agreed.ts_remote));
        chain.push(Kind::TsR, &emit_selectors(&agreed.ts_local));
        let (spi_in, kems, nonces) = (agreed.spi_in, chosen.suite.kems, Nonces { ni, nr: &nr });
        let exchange = Exchange::CreateChildSa;
        if kems.iter().any(Option::is_some) {
            let follow_up = FollowUp::new(kems, shared, nonces, Outcome::Child(agreed));
            self.await_follow_up(now, sa, (exchange, message_id), chain, follow_up);
            return Ok(());
        }
        self.install_for_peer(now, sa, agreed, &shared, nonces)?;
        sa.pending = Some(Pending { spi_in: Some(spi_in), message_id, exchange, chain });
        Ok(())
    }

    /// A Child SA that the peer has begun. Where we are about to replace the same one, that has a rival now.
    pub(super) fn install_for_peer(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        agreed: Agreed,
        shared: &Shared,
        nonces: Nonces<'_>,
    ) -> Result<(), Refusal> {
        let (spi_in, replaces) = (agreed.spi_in, agreed.replaces);
        self.install(now, sa, agreed, shared, nonces, InitiatedBy::Peer)?;
        if let Some(own) = sa.outstanding.as_mut().filter(|own| own.request.rekeys() == replaces)
            && let Some(Proposed::Child(own)) = own.proposed.as_mut()
        {
            own.rival = Some(Rival::new(spi_in, nonces));
        }
        self.timers.cancel(Timer::Expire(sa.own_spi));
        Ok(())
    }

    /// Narrows the peer's selectors to ours and picks an SPI.
    fn agree(
        &mut self,
        chosen: &Chosen<EspSuite>,
        payloads: &[Payload<'_>],
        ts_local: &[TrafficSelector],
        ts_remote: &[TrafficSelector],
        replaces: Option<u32>,
    ) -> Result<Agreed, Refusal> {
        let offered_remote = parse_selectors(required(payloads, Kind::TsI)?)?;
        let offered_local = parse_selectors(required(payloads, Kind::TsR)?)?;
        let mut ts_remote = narrow(&offered_remote, ts_remote);
        let mut ts_local = narrow(&offered_local, ts_local);
        keep_common_families(&mut ts_local, &mut ts_remote);
        if ts_remote.is_empty() || ts_local.is_empty() {
            return Err(Refusal::Selectors);
        }
        let spi_out = chosen.peer_spi_u32().ok_or(Refusal::Syntax(Malformed("SPI")))?;
        let (spi_in, suite, offer) = (self.new_esp_spi(), chosen.suite, self.offer.clone());
        Ok(Agreed { spi_in, spi_out, suite, ts_local, ts_remote, offer, replaces })
    }

    /// Derives the keys of a Child SA and hands it to the data path.
    pub(super) fn install(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        agreed: Agreed,
        shared: &Shared,
        nonces: Nonces<'_>,
        by: InitiatedBy,
    ) -> Result<(), Refusal> {
        let client = sa.client.as_ref().ok_or(Refusal::TooManyChildren)?;
        let cipher = agreed.suite.cipher;
        let (i2r, r2i) = child_keys((sa.suite.prf, &sa.sk_d), cipher, shared, nonces)?;
        let (key_in, key_out) = if by == InitiatedBy::Peer { (i2r, r2i) } else { (r2i, i2r) };
        let Agreed { spi_in, spi_out, ts_local, ts_remote, offer, replaces, .. } = agreed;
        self.outputs.push_back(Output::Install(Box::new(ChildSa {
            device: client.device,
            spi_in,
            spi_out,
            cipher,
            key_in,
            key_out,
            address: client.address,
            address6: client.address6,
            ts_local: ts_local.clone(),
            ts_remote: ts_remote.clone(),
            path: sa.path,
            replaces,
        })));
        if let Some(old) = replaces.and_then(|old| sa.child_mut(old)) {
            old.replaced_by = Some(spi_in);
            self.stats.child_rekeys += 1;
        }
        let (replaced_by, deleting) = (None, false);
        let replaces = replaces.filter(|old| sa.child(*old).is_some());
        sa.children.push(Child {
            spi_in,
            spi_out,
            cipher,
            ts_local,
            ts_remote,
            offer,
            replaces,
            replaced_by,
            deleting,
        });
        self.children.insert(spi_in, sa.own_spi);
        self.timers.set(Timer::ChildLifetime(spi_in), now.mono + self.config.policy.child_lifetime);
        Ok(())
    }

    /// The data path has a Child SA: the peer may hear of it.
    pub(super) fn handle_installed(&mut self, now: Now, sa: &mut IkeSa, spi_in: u32) {
        let old =
            sa.children.iter().find(|child| child.replaced_by == Some(spi_in)).map(|child| child.spi_in);
        match sa.pending.take_if(|pending| pending.spi_in == Some(spi_in)) {
            Some(pending) => {
                self.announce(sa, spi_in);
                self.answer_pending(sa, pending);
                if let Some(old) = old {
                    self.timers.set(Timer::ChildLinger(old), now.mono + self.config.policy.linger);
                }
            }
            // Our own rekey: the peer has the new SA already. Where the peer's prevails, it deletes the old one, and we
            // delete ours.
            None => {
                let new = sa.child(spi_in);
                let redundant = new.filter(|new| !new.is_in_charge()).map(|new| new.spi_in);
                if let Some(superfluous) = redundant.or(new.and_then(|new| new.replaces)) {
                    self.request(now, sa, OwnRequest::DeleteChild(superfluous));
                }
            }
        }
        self.refresh(now, sa);
    }

    fn announce(&mut self, sa: &mut IkeSa, spi_in: u32) {
        let esp = sa.child(spi_in).map(|child| child.cipher.to_string()).unwrap_or_default();
        let ppk = if sa.has_ppk { "+PPK" } else { "" };
        let suite = format!("IKE {}{ppk}, ESP {esp}", sa.suite);
        if let Some(client) = sa.client.as_mut().filter(|client| !client.announced) {
            client.announced = true;
            self.outputs.push_back(Output::Connected {
                device: client.device,
                identity: client.identity.clone(),
                system: client.system,
                address: client.address,
                address6: client.address6,
                path: sa.path,
                suite,
            });
        }
    }

    /// Takes a Child SA from the data path; the one that replaced it takes over first.
    pub(super) fn remove_child(&mut self, sa: &mut IkeSa, spi_in: u32) {
        let Some(index) = sa.children.iter().position(|child| child.spi_in == spi_in) else { return };
        let child = sa.children.swap_remove(index);
        if let Some(new) = child.replaced_by.filter(|new| self.children.contains_key(new)) {
            self.outputs.push_back(Output::UseOutbound { spi_in: new });
        }
        // The one it replaced, if still there, is in charge again.
        for old in sa.children.iter_mut().filter(|old| old.replaced_by == Some(spi_in)) {
            old.replaced_by = None;
            self.timers.cancel(Timer::ChildLinger(old.spi_in));
            self.outputs.push_back(Output::UseOutbound { spi_in: old.spi_in });
        }
        self.children.remove(&spi_in);
        self.timers.cancel(Timer::ChildLinger(spi_in));
        self.timers.cancel(Timer::ChildLifetime(spi_in));
        self.outputs.push_back(Output::Remove { spi_in });
    }

    /// An established IKE SA without Child SA does not stay long.
    pub(super) fn watch_childless(&mut self, now: Now, sa: &IkeSa) {
        if matches!(sa.state, State::Established) && sa.children.is_empty() {
            self.timers.set(Timer::Expire(sa.own_spi), now.mono + self.config.policy.childless_lifetime);
        }
    }
}

/// The IPv4 address that the client would like to have.
fn wanted_address(request: &Configuration<'_>) -> Option<Ipv4Addr> {
    let mut wanted = request.attributes.iter().filter(|a| a.kind == attribute::INTERNAL_IP4_ADDRESS);
    wanted.find_map(|a| <[u8; 4]>::try_from(a.value).ok()).map(Ipv4Addr::from)
}

/// The Child SA that REKEY_SA names, by the SPI on which the peer receives.
fn find_replaced<'s>(sa: &'s IkeSa, payloads: &[Payload<'_>]) -> Result<Option<&'s Child>, Refusal> {
    let Some(rekey) = notifies(payloads).find(|notify| notify.kind == notify_type::REKEY_SA) else {
        return Ok(None);
    };
    let spi = <[u8; 4]>::try_from(rekey.spi).ok().filter(|_| rekey.protocol == protocol::ESP);
    let spi = u32::from_be_bytes(spi.ok_or(Refusal::Syntax(Malformed("REKEY_SA notify")))?);
    let child = sa.children.iter().find(|child| child.spi_out == spi).ok_or(Refusal::ChildNotFound(spi))?;
    child.may_be_replaced()?;
    Ok(Some(child))
}

fn push_agreement(chain: &mut Chain, chosen: &Chosen<EspSuite>, agreed: &Agreed) {
    chain.push(Kind::Sa, &emit_proposals(&[chosen.answer(agreed.spi_in)]));
    chain.push(Kind::TsI, &emit_selectors(&agreed.ts_remote));
    chain.push(Kind::TsR, &emit_selectors(&agreed.ts_local));
}
