//! MOBIKE (RFC 4555) as responder: the client says that it has moved, and asks whether a NAT is between.
//!
//! A client is followed without it, too: it is where its newest authentic request, or ESP packet, comes from. So an
//! update of addresses needs no more than an answer, and a NAT that takes another port in the midst of a connection does
//! no harm, whatever was negotiated. Nothing old and nothing repeated moves anybody.
//!
//! There is no return routability check (section 3.7) of ours. An authenticated client could point its own traffic at a
//! stranger, with or without MOBIKE; we know its name, and what it gets is what it asked for. Against that stands that
//! a client whose answer to such a check is late or wrong must be cut off, and no stock client was seen to be asked.

use std::net::IpAddr;

use super::exchange::notifies;
use super::sa::IkeSa;
use super::{Refusal, Responder};
use crate::base::{Now, Path};
use crate::wire::Malformed;
use crate::wire::ike::{Chain, Header, Kind, Notify, Payload, notify_type};

/// Octets of the data of COOKIE2 (RFC 4555 section 4.2.5).
const COOKIE2_LEN: std::ops::RangeInclusive<usize> = 8..=64;

impl Responder {
    /// Agrees to MOBIKE in IKE_AUTH, if the client has it.
    pub(super) fn agree_on_mobike(sa: &mut IkeSa, payloads: &[Payload<'_>], chain: &mut Chain) {
        sa.mobike = notifies(payloads).any(|notify| notify.kind == notify_type::MOBIKE_SUPPORTED);
        if sa.mobike {
            chain.push(Kind::Notify, &Notify::new(notify_type::MOBIKE_SUPPORTED, &[]).emit());
        }
    }

    /// What an answer in INFORMATIONAL says of addresses: the hashes of both, if the request has its own, and COOKIE2 as
    /// it came. Further addresses of the client need no answer: we never begin a change.
    pub(super) fn answer_mobility(
        &mut self,
        sa: &IkeSa,
        payloads: &[Payload<'_>],
        chain: &mut Chain,
    ) -> Result<(), Malformed> {
        if !sa.mobike {
            return Ok(());
        }
        if notifies(payloads).any(|notify| notify.kind == notify_type::NAT_DETECTION_SOURCE_IP) {
            self.push_nat_detection(chain, sa.spis(), sa.path);
        }
        for cookie in notifies(payloads).filter(|notify| notify.kind == notify_type::COOKIE2) {
            if !COOKIE2_LEN.contains(&cookie.data.len()) {
                return Err(Malformed("COOKIE2 notify"));
            }
            chain.push(Kind::Notify, &Notify::new(notify_type::COOKIE2, cookie.data).emit());
        }
        Ok(())
    }

    /// Refuses a request whose sender allows no NAT (section 3.9) but came through one: it moves nobody, and the answer
    /// goes back the way that the request came. False if there is no such demand, or it holds.
    pub(super) fn refuse_nat(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        header: &Header,
        payloads: &[Payload<'_>],
        path: Path,
    ) -> bool {
        let mut demands = notifies(payloads).filter(|notify| notify.kind == notify_type::NO_NATS_ALLOWED);
        if demands.all(|demand| is_untranslated(demand.data, path)) {
            return false;
        }
        let kept = std::mem::replace(&mut sa.path, path);
        self.refuse_request(now, sa, header, Refusal::UnexpectedNat);
        sa.path = kept;
        true
    }
}

/// Whether the addresses and ports with which a request was sent, as its NO_NATS_ALLOWED has them, are those with which
/// it arrived: source, destination, source port, destination port.
fn is_untranslated(sent: &[u8], path: Path) -> bool {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let source = octets(path.remote.ip());
    // Where the system did not tell our address, the sender's word stands.
    let destination = path.local.map_or_else(
        || sent.get(source.len()..).and_then(|rest| rest.get(..source.len())).unwrap_or_default().to_vec(),
        octets,
    );
    let ports = [path.remote.port().to_be_bytes(), path.local_port.to_be_bytes()];
    sent == [&source[..], &destination, ports.as_flattened()].concat()
}
