//! Additional key exchanges of a rekey or a new Child SA that the peer began: IKE_FOLLOWUP_KE (RFC 9370 section 2.2.4).

use std::collections::VecDeque;

use super::child::Agreed;
use super::error::Refusal;
use super::exchange::notifies;
use super::keymat::{Nonces, Shared};
use super::proposal::{IkeSuite, Kems};
use super::sa::{IkeSa, Pending, State};
use super::{Responder, Timer};
use crate::base::Now;
use crate::crypto::Kem;
use crate::wire::ike::{Chain, Exchange, Kind, Notify, Payload, notify_type};

/// Octets by which an exchange names the one before it.
const LINK_LEN: usize = 16;

/// What is kept between CREATE_CHILD_SA and the last IKE_FOLLOWUP_KE.
#[derive(Debug)]
pub(super) struct FollowUp {
    link: [u8; LINK_LEN],
    to_come: VecDeque<Kem>,
    shared: Shared,
    ni: Vec<u8>,
    nr: Vec<u8>,
    outcome: Outcome,
}

/// What comes out in the end.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An IKE SA with these SPIs, the peer's first.
    Ike(IkeSuite, (u64, u64)),
    Child(Agreed),
}

impl FollowUp {
    pub(super) fn new(kems: Kems, shared: Shared, nonces: Nonces<'_>, outcome: Outcome) -> Self {
        let to_come = kems.into_iter().flatten().collect();
        let (ni, nr) = (nonces.ni.to_vec(), nonces.nr.to_vec());
        Self { link: [0; LINK_LEN], to_come, shared, ni, nr, outcome }
    }
}

impl Responder {
    /// Answers with `chain`, and waits for the next key exchange. There is room for one rekey: a newer one takes it.
    pub(super) fn await_follow_up(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        (exchange, message_id): (Exchange, u32),
        mut chain: Chain,
        mut follow_up: FollowUp,
    ) {
        self.rng.fill(&mut follow_up.link);
        let link = Notify::new(notify_type::ADDITIONAL_KEY_EXCHANGE, &follow_up.link).emit();
        chain.push(Kind::Notify, &link);
        sa.follow_up = Some(Box::new(follow_up));
        self.timers.set(Timer::FollowUp(sa.own_spi), now.mono + self.config.policy.linger);
        self.answer(sa, exchange, message_id, &chain);
    }

    pub(super) fn handle_follow_up(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        payloads: &[Payload<'_>],
    ) {
        let link = notifies(payloads).find(|notify| notify.kind == notify_type::ADDITIONAL_KEY_EXCHANGE);
        let known = sa.follow_up.take_if(|known| link.is_some_and(|link| link.data == known.link));
        let known = known.filter(|_| matches!(sa.state, State::Established));
        let result = known.ok_or(Refusal::StateNotFound);
        let result = result.and_then(|known| self.follow_up(now, sa, message_id, payloads, *known));
        if let Err(why) = result {
            if !matches!(why, Refusal::StateNotFound | Refusal::Busy | Refusal::ChildNotFound(_)) {
                self.note_refused(sa, why);
            }
            let header = sa.header(Exchange::IkeFollowupKe, message_id, false);
            self.refuse_request(now, sa, &header, why);
        }
        self.start_request(now, sa);
    }

    fn follow_up(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message_id: u32,
        payloads: &[Payload<'_>],
        mut known: FollowUp,
    ) -> Result<(), Refusal> {
        let kem = known.to_come.pop_front().ok_or(Refusal::StateNotFound)?;
        let (ke, shared) = self.encapsulate(kem, payloads)?;
        known.shared.additional.push(shared);
        let exchange = Exchange::IkeFollowupKe;
        let mut chain = Chain::new();
        chain.push(Kind::Ke, &ke);
        if !known.to_come.is_empty() {
            self.await_follow_up(now, sa, (exchange, message_id), chain, known);
            return Ok(());
        }
        self.timers.cancel(Timer::FollowUp(sa.own_spi));
        let FollowUp { shared, ni, nr, outcome, .. } = known;
        let nonces = Nonces { ni: &ni, nr: &nr };
        match outcome {
            Outcome::Ike(suite, spis) => {
                sa.may_be_replaced()?;
                let new = self.successor_of_ike(now, sa, suite, &shared, nonces, spis)?;
                self.answer(sa, exchange, message_id, &chain);
                self.replace_for_peer(now, sa, new, nonces);
            }
            Outcome::Child(agreed) => {
                if let Some(spi_in) = agreed.replaces {
                    let old = sa.child(spi_in).ok_or(Refusal::ChildNotFound(agreed.spi_out))?;
                    old.may_be_replaced()?;
                }
                let spi_in = agreed.spi_in;
                self.install_for_peer(now, sa, agreed, &shared, nonces)?;
                sa.pending = Some(Pending { spi_in: Some(spi_in), message_id, exchange, chain });
            }
        }
        Ok(())
    }
}
