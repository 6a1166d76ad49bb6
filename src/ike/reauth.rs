//! A client that connects anew while we still have a connection of its identity: reauthentication (RFC 7296 section
//! 2.8.3), a client that lost its state (2.4), or one more device.

use super::error::Event;
use super::sa::{Client, IkeSa, OwnRequest, State};
use super::{GoneReason, Output, Responder};
use crate::base::Now;

/// The connection that a new one of the same device takes over: its IKE SA by our SPI, the Child SA in charge by our
/// SPI, and the device.
pub(super) struct Inheritance {
    own_spi: u64,
    pub(super) spi_in: u32,
    pub(super) client: Client,
}

impl Responder {
    /// Other connections of this identity. One from the very address and port of the new one is the same device. It has
    /// lost the old connection if it says INITIAL_CONTACT: that is forgotten at once. Else it may be about to change
    /// from the old to the new one, which takes over (see [`Responder::inheritance`]). Behind one NAT there may be several
    /// devices, so others are asked whether they live: after INITIAL_CONTACT all of them, else those of the same host. Where
    /// an identity may have one device only, all others are ended.
    pub(super) fn replace_connections(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        identity: &str,
        initial_contact: bool,
    ) {
        let remote = sa.path.remote;
        let same = |other: &IkeSa| other.client.as_ref().is_some_and(|client| client.identity == identity);
        let mut others: Vec<_> =
            self.sas.values().filter(|other| same(other)).map(|other| other.own_spi).collect();
        others.sort_unstable();
        for own_spi in others {
            self.with_sa(own_spi, |this, other| {
                if other.path.remote == remote && initial_contact {
                    this.abandon(other, GoneReason::Replaced);
                } else if other.path.remote == remote {
                    sa.succeeds = Some(own_spi);
                } else if this.config.policy.unique {
                    this.close(now, other, GoneReason::Replaced);
                } else if initial_contact || other.path.remote.ip() == remote.ip() {
                    this.request(now, other, OwnRequest::Liveness);
                }
            });
        }
    }

    /// What a new IKE SA takes over, if its client wants the families of addresses that `fits` says. Otherwise the old
    /// connection ends here.
    pub(super) fn inheritance(
        &mut self,
        sa: &mut IkeSa,
        fits: impl FnOnce(&Client) -> bool,
    ) -> Option<Inheritance> {
        let own_spi = sa.succeeds.take()?;
        let old = self.sas.get(&own_spi)?;
        let child = old.children.iter().find(|child| child.is_in_charge()).map(|child| child.spi_in);
        let client = old.client.clone().filter(|client| client.announced && fits(client));
        if let (State::Established, Some(spi_in), Some(client)) = (&old.state, child, client) {
            return Some(Inheritance { own_spi, spi_in, client });
        }
        self.with_sa(own_spi, |this, old| this.abandon(old, GoneReason::Replaced));
        None
    }

    /// The device is with its new IKE SA, whose Child SA takes over from those of the old one. What is under way on
    /// those still arrives, until the peer deletes them, or has had time to.
    pub(super) fn take_over(&mut self, now: Now, inheritance: Inheritance, new_spi_in: u32) {
        let Inheritance { own_spi, client, .. } = inheritance;
        self.with_sa(own_spi, |this, old| {
            old.client = None;
            old.queued.clear();
            let in_charge = old.children.iter_mut().filter(|child| child.is_in_charge());
            in_charge.for_each(|child| child.replaced_by = Some(new_spi_in));
            this.retire(now, old);
        });
        self.outputs.push_back(Output::IkeRekeyed { device: client.device });
        self.outputs.push_back(Output::Note(Event::Reauthenticated { identity: client.identity }));
    }
}
