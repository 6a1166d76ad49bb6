//! INFORMATIONAL (RFC 7296 section 1.4), our own requests, timers, and the ends of connections.

use std::time::Duration;

use super::cookie::ROTATION;
use super::error::GoneReason;
use super::plan::ASK_AGAIN;
use super::sa::{IkeSa, Outstanding, OwnRequest, Proposed, State};
use super::{Identity, Output, Responder, Timer};
use crate::base::Now;
use crate::wire::Malformed;
use crate::wire::ike::notify_type::AUTHENTICATION_FAILED;
use crate::wire::ike::{Chain, Delete, Exchange, Header, Kind, Notify, Payload, Protected, parse_chain};

impl Responder {
    pub(super) fn handle_informational(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        payloads: &[Payload<'_>],
    ) {
        let deletes = payloads.iter().filter(|payload| payload.kind == Kind::Delete);
        let deletes: Result<Vec<_>, Malformed> = deletes.map(|payload| Delete::parse(payload.body)).collect();
        let deletes = match deletes {
            Ok(deletes) => deletes,
            Err(why) => {
                let header = sa.header(Exchange::Informational, message_id, false);
                return self.refuse_request(now, sa, &header, why.into());
            }
        };
        let mut chain = Chain::new();
        // An initiator that does not accept our AUTH says so here, and may say nothing more (section 2.21.2).
        let rejected = payloads
            .iter()
            .filter(|payload| payload.kind == Kind::Notify)
            .any(|payload| Notify::parse(payload.body).is_ok_and(|n| n.kind == AUTHENTICATION_FAILED));
        if rejected || deletes.contains(&Delete::Ike) {
            self.answer(sa, Exchange::Informational, message_id, &chain);
            let why = if rejected { GoneReason::Rejected } else { GoneReason::PeerDeleted };
            self.end_client(sa, Some(why));
            return self.close_silently(now, sa);
        }
        let spis = deletes.iter().flat_map(|d| if let Delete::Esp(spis) = d { spis.as_slice() } else { &[] });
        let mut deleted = Vec::new();
        for spi in spis {
            let Some(child) = sa.children.iter().find(|child| child.spi_out == *spi) else { continue };
            // Where both Deletes cross, the answers name nothing (RFC 7296 section 1.4.1).
            let (spi_in, crossing) = (child.spi_in, child.deleting);
            self.remove_child(sa, spi_in);
            self.watch_childless(now, sa);
            deleted.extend((!crossing).then_some(spi_in));
        }
        if !deleted.is_empty() {
            chain.push(Kind::Delete, &Delete::Esp(deleted).emit());
        }
        match self.answer_mobility(sa, payloads, &mut chain) {
            Ok(()) => self.answer(sa, Exchange::Informational, message_id, &chain),
            Err(why) => {
                let header = sa.header(Exchange::Informational, message_id, false);
                self.refuse_request(now, sa, &header, why.into());
            }
        }
    }

    /// Queues a request of ours and sends it as soon as the one before is answered.
    pub(super) fn request(&mut self, now: Now, sa: &mut IkeSa, request: OwnRequest) {
        let under_way = sa.outstanding.as_ref().is_some_and(|own| own.request == request);
        if !under_way && !sa.queued.contains(&request) {
            sa.queued.push_back(request);
            self.start_request(now, sa);
        }
    }

    pub(super) fn start_request(&mut self, now: Now, sa: &mut IkeSa) {
        while sa.outstanding.is_none() {
            // All SAs stay as they are while the peer exchanges keys for a rekey.
            if sa.follow_up.is_some() && sa.queued.front().is_some_and(|own| own.changes_sas()) {
                return;
            }
            let Some(request) = sa.queued.pop_front() else { return };
            let mut chain = Chain::new();
            let mut proposed = None;
            match request {
                OwnRequest::Liveness => {}
                OwnRequest::DeleteIke => chain.push(Kind::Delete, &Delete::Ike.emit()),
                OwnRequest::DeleteChild(spi_in) => {
                    let Some(child) = sa.child_mut(spi_in) else { continue };
                    child.deleting = true;
                    let replaced_by = child.replaced_by;
                    self.outputs.extend(replaced_by.map(|spi_in| Output::UseOutbound { spi_in }));
                    chain.push(Kind::Delete, &Delete::Esp(vec![spi_in]).emit());
                }
                OwnRequest::RefreshChild(spi_in) if !sa.child(spi_in).is_some_and(|c| self.is_stale(c)) => {
                    continue;
                }
                OwnRequest::RekeyChild(spi_in) | OwnRequest::RefreshChild(spi_in) => {
                    let Some((payloads, own)) = self.child_rekey_request(sa, spi_in) else { continue };
                    (chain, proposed) = (payloads, Some(Proposed::Child(own)));
                }
                // The Child SA that the peer waits for would be forgotten by both (RFC 7296 section 2.25.2).
                OwnRequest::RekeyIke if sa.pending.is_some() => {
                    self.timers.set(Timer::RekeyIke(sa.own_spi), now.mono + ASK_AGAIN);
                    continue;
                }
                OwnRequest::RekeyIke => {
                    let Some((payloads, own)) = self.ike_rekey_request(sa) else { continue };
                    (chain, proposed) = (payloads, Some(Proposed::Ike(own)));
                }
            }
            let exchange = if proposed.is_some() { Exchange::CreateChildSa } else { Exchange::Informational };
            let id = sa.next_request_id;
            let header = sa.header(exchange, id, false);
            match (sa.channel.seal(header, &chain, sa.fragmentation), id.checked_add(1)) {
                (Ok(datagrams), Some(next)) => {
                    sa.next_request_id = next;
                    let own = Outstanding::new(request, (id, exchange), datagrams, proposed);
                    sa.outstanding = Some(Box::new(own));
                    self.send_request(now, sa);
                }
                _ => return self.abandon(sa, GoneReason::Expired),
            }
        }
    }

    /// Sends the outstanding request, again and again, until the peer is taken for dead.
    fn send_request(&mut self, now: Now, sa: &mut IkeSa) {
        let path = sa.path;
        let Some(own) = sa.outstanding.as_mut() else { return };
        match own.next_wait() {
            Some(wait) => {
                self.timers.set(Timer::Retransmit(sa.own_spi), now.mono + wait);
                self.send_all(path, &own.datagrams);
            }
            None => self.abandon(sa, GoneReason::DeadPeer),
        }
    }

    /// An answer to our request: only to the one outstanding, and only of its exchange.
    pub(super) fn handle_own_answer(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        header: &Header,
        protected: &Protected<'_>,
    ) {
        let awaited = sa
            .outstanding
            .as_ref()
            .is_some_and(|own| own.message_id == header.message_id && own.exchange == header.exchange);
        if !awaited || matches!(sa.state, State::Closed(_) | State::Dead) {
            self.stats.out_of_place += 1;
            return;
        }
        let Some((first, payloads)) = self.open(now, sa, (header.message_id, true), protected) else {
            return;
        };
        self.hear(now, sa);
        let Some(own) = sa.outstanding.take() else { return };
        self.timers.cancel(Timer::Retransmit(sa.own_spi));
        let payloads = parse_chain(first, &payloads).unwrap_or_default();
        match own.request {
            OwnRequest::Liveness => {}
            // One that was replaced by reauthentication still has Child SAs.
            OwnRequest::DeleteIke => self.abandon(sa, GoneReason::Expired),
            OwnRequest::DeleteChild(spi_in) => {
                self.remove_child(sa, spi_in);
                self.watch_childless(now, sa);
            }
            OwnRequest::RekeyChild(_) | OwnRequest::RefreshChild(_) | OwnRequest::RekeyIke => {
                match own.proposed {
                    Some(Proposed::Child(child)) => {
                        self.finish_child_rekey(now, sa, own.request, child, &payloads);
                    }
                    Some(Proposed::Ike(ike)) => self.finish_ike_rekey(now, sa, ike, &payloads),
                    None => {}
                }
            }
        }
        if !matches!(sa.state, State::Dead) {
            self.start_request(now, sa);
        }
    }

    /// Ends the connection from our side, with a Delete.
    pub(super) fn close(&mut self, now: Now, sa: &mut IkeSa, why: GoneReason) {
        match sa.state {
            State::Established => {
                self.end_client(sa, Some(why));
                sa.pending = None;
                sa.state = State::Deleting;
                sa.queued.clear();
                self.timers.cancel(Timer::Expire(sa.own_spi));
                self.cancel_renewal(sa);
                self.request(now, sa, OwnRequest::DeleteIke);
            }
            State::HalfOpen(_) => self.abandon(sa, why),
            State::Rekeyed | State::Deleting | State::Closed(_) | State::Dead => {}
        }
    }

    /// Ends an IKE SA without a word to the peer.
    pub(super) fn abandon(&mut self, sa: &mut IkeSa, why: GoneReason) {
        self.leave_half_open(sa);
        self.end_client(sa, Some(why));
        sa.state = State::Dead;
    }

    /// The device is gone: its Child SAs, and its hold on the address. Said aloud if its coming was.
    pub(super) fn end_client(&mut self, sa: &mut IkeSa, why: Option<GoneReason>) {
        let mut children: Vec<u32> = sa.children.iter().map(|child| child.spi_in).collect();
        // All go: none takes over from another, except one of the next IKE SA.
        sa.children.iter_mut().for_each(|child| {
            child.replaced_by = child.replaced_by.filter(|new| !children.contains(new));
        });
        children.drain(..).for_each(|spi_in| self.remove_child(sa, spi_in));
        let Some(client) = sa.client.take() else { return };
        self.leases.release(client.device);
        self.devices.remove(&client.device);
        if let Some(why) = why.filter(|_| client.announced) {
            self.outputs.push_back(Output::Gone { device: client.device, identity: client.identity, why });
        }
    }

    /// New rules about whom we let in: clients that they would not let in now are ended.
    pub(super) fn handle_identity(&mut self, now: Now, identity: Identity) {
        self.config.identity = identity;
        let access = &self.config.identity.access;
        let verdict = |sa: &IkeSa| {
            let client = sa.client.as_ref()?;
            Some((sa.own_spi, access.review(&client.identity, &client.proof, now.wall).err()?))
        };
        let mut ended: Vec<_> = self.sas.values().filter_map(|sa| verdict(sa)).collect();
        ended.sort_unstable_by_key(|(own_spi, _)| *own_spi);
        for (own_spi, why) in ended {
            self.with_sa(own_spi, |this, sa| this.close(now, sa, why));
        }
    }

    pub(super) fn handle_shutdown(&mut self, now: Now) {
        self.shutting_down = true;
        let mut all: Vec<u64> = self.sas.keys().copied().collect();
        all.sort_unstable();
        for own_spi in all {
            self.with_sa(own_spi, |this, sa| match sa.state {
                State::Rekeyed => this.abandon(sa, GoneReason::Shutdown),
                _ => this.close(now, sa, GoneReason::Shutdown),
            });
        }
        self.timers.set(Timer::Shutdown, now.mono + self.config.policy.shutdown_wait);
    }

    pub(super) fn handle_timer(&mut self, now: Now, timer: Timer) {
        match timer {
            Timer::Expire(own_spi) => self.with_sa(own_spi, |this, sa| this.expire(now, sa)),
            Timer::Retransmit(own_spi) => self.with_sa(own_spi, |this, sa| {
                this.stats.retransmitted += 1;
                this.send_request(now, sa);
            }),
            Timer::Answer(own_spi) => self.with_sa(own_spi, |this, sa| this.answer_now(now, sa)),
            Timer::Liveness(own_spi) => self.with_sa(own_spi, |this, sa| this.check_liveness(now, sa)),
            Timer::Lifetime(own_spi) => self.with_sa(own_spi, |this, sa| {
                let ended = sa.client.as_ref().is_some_and(|client| client.valid_until <= now.mono);
                let why = if ended { GoneReason::CertificateExpired } else { GoneReason::Expired };
                this.close(now, sa, why);
            }),
            Timer::RekeyIke(own_spi) => {
                self.with_sa(own_spi, |this, sa| this.request(now, sa, OwnRequest::RekeyIke));
            }
            Timer::ChildLinger(spi_in) => {
                self.with_child(spi_in, |this, sa| this.request(now, sa, OwnRequest::DeleteChild(spi_in)));
            }
            Timer::ChildLifetime(spi_in) => {
                self.with_child(spi_in, |this, sa| this.renew_child(now, sa, spi_in));
            }
            Timer::FollowUp(own_spi) => self.with_sa(own_spi, |this, sa| {
                sa.follow_up = None;
                this.start_request(now, sa);
            }),
            Timer::Refresh(own_spi) => self.with_sa(own_spi, |this, sa| this.refresh(now, sa)),
            Timer::Cookies => {
                self.shared.lock().cookies.rotate(now.mono, self.rng.as_mut());
                self.timers.set(timer, now.mono + ROTATION);
            }
            Timer::Shutdown => {
                let all: Vec<u64> = self.sas.keys().copied().collect();
                for own_spi in all {
                    self.with_sa(own_spi, |this, sa| this.abandon(sa, GoneReason::Shutdown));
                }
            }
        }
    }

    fn expire(&mut self, now: Now, sa: &mut IkeSa) {
        match sa.state {
            State::HalfOpen(_) | State::Closed(_) => self.abandon(sa, GoneReason::Expired),
            State::Rekeyed => {
                sa.state = State::Deleting;
                self.request(now, sa, OwnRequest::DeleteIke);
            }
            State::Established if sa.children.is_empty() => self.close(now, sa, GoneReason::Childless),
            State::Established | State::Deleting | State::Dead => {}
        }
    }

    fn check_liveness(&mut self, now: Now, sa: &mut IkeSa) {
        let after = self.config.policy.liveness_after.max(Duration::from_secs(1));
        let due = sa.heard + after;
        if now.mono < due {
            self.timers.set(Timer::Liveness(sa.own_spi), due);
        } else {
            self.timers.set(Timer::Liveness(sa.own_spi), now.mono + after);
            self.request(now, sa, OwnRequest::Liveness);
        }
    }
}
