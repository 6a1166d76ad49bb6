//! What clients get: inner addresses, DNS, and the selectors of our side; and how a change of it reaches them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use super::error::Event;
use super::sa::{Child, Client, IkeSa, OwnRequest, State};
use super::selector::{any_between, keep_common_families, summarise};
use super::{Output, Responder, Timer};
use crate::base::{Now, TrafficSelector};
use crate::wire::ike::{Attribute, CfgType, Configuration, MAX_SELECTORS, attribute};

/// Bits 64 to 95 of the IPv6 address of every device. The first octet is not zero, as it is in a NAT64 prefix
/// (RFC 6052 section 2.2): so the address is never inside one.
const DEVICE_TAG: u32 = 0x7074_6572;

/// When a client that was busy is asked again to let us rekey.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(60);

/// What clients get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPlan {
    /// DNS servers over IPv4; always made reachable through the tunnel, like the in-tunnel host.
    pub dns: Vec<Ipv4Addr>,
    /// The company's side of the tunnel: IPv4.
    pub ts: Vec<TrafficSelector>,
    /// IPv6 for clients that ask for it; without it they get none.
    pub nat64: Option<Nat64Plan>,
    /// Domains whose names the tunnel's DNS servers know, as RFC 8598 writes them: A-labels, without a final dot.
    pub domains: Vec<String>,
}

/// IPv6 inside the tunnel, where the company is IPv4 behind a stateless translator (RFC 7915).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64Plan {
    /// The /96 whose addresses stand for IPv4 addresses (RFC 6052: bits 64 to 71 are zero); its last 32 bits do not
    /// count.
    pub prefix: Ipv6Addr,
}

impl ClientPlan {
    /// Everything through the tunnel, over IPv4, and one DNS server.
    pub fn full_tunnel(dns: Ipv4Addr) -> Self {
        let ts = vec![any_between(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST)];
        Self { dns: vec![dns], ts, nat64: None, domains: Vec::new() }
    }

    /// The selectors of our side: the company's, DNS servers and in-tunnel host where those leave them out, and the
    /// NAT64 prefix. With the event that says so where there were more than clients take.
    fn offer(&self, host: Ipv4Addr) -> (Vec<TrafficSelector>, Option<Event>) {
        let mut selectors = Vec::new();
        for ts in self.ts.iter().filter(|ts| ts.first.is_ipv4()) {
            if !selectors.contains(ts) {
                selectors.push(*ts);
            }
        }
        for address in self.dns.iter().copied().chain([host]) {
            let ip = IpAddr::V4(address);
            if !selectors.iter().any(|ts| ts.protocol == 0 && ts.first <= ip && ip <= ts.last) {
                selectors.push(any_between(address, address));
            }
        }
        let mapped = self
            .nat64
            .map(|nat64| any_between(nat64.map(Ipv4Addr::UNSPECIFIED), nat64.map(Ipv4Addr::BROADCAST)));
        let wanted = selectors.len();
        let mut selectors = summarise(selectors, MAX_SELECTORS - usize::from(mapped.is_some()));
        let event = (selectors.len() < wanted)
            .then_some(Event::SelectorsSummarised { wanted, offered: selectors.len() });
        selectors.extend(mapped);
        (selectors, event)
    }

    /// The answer to a CFG_REQUEST of a client with these addresses.
    pub(super) fn configuration(
        &self,
        host: Ipv4Addr,
        request: &Configuration<'_>,
        client: &Client,
    ) -> Vec<u8> {
        let mut values: Vec<(u16, Vec<u8>)> = Vec::new();
        if client.has_ipv4() {
            values.push((attribute::INTERNAL_IP4_ADDRESS, client.address.octets().to_vec()));
            values.push((attribute::INTERNAL_IP4_NETMASK, vec![255; 4]));
            let dns = self.dns.iter().map(|server| server.octets().to_vec());
            values.extend(dns.map(|value| (attribute::INTERNAL_IP4_DNS, value)));
        }
        if let (Some(address), Some(nat64)) = (client.address6, self.nat64) {
            let prefix_len = 128;
            values.push((attribute::INTERNAL_IP6_ADDRESS, [&address.octets()[..], &[prefix_len]].concat()));
            values.push((attribute::INTERNAL_IP6_DNS, nat64.map(host).octets().to_vec()));
        }
        let domains = self.domains.iter().map(|domain| domain.as_bytes().to_vec());
        values.extend(domains.map(|value| (attribute::INTERNAL_DNS_DOMAIN, value)));
        let asked = values.iter().filter(|(kind, _)| request.asks(*kind));
        let attributes = asked.map(|(kind, value)| Attribute { kind: *kind, value }).collect();
        Configuration { cfg_type: CfgType::Reply, attributes }.emit()
    }
}

impl Nat64Plan {
    /// The IPv6 address that stands for an IPv4 address of the company (RFC 6052 section 2.2).
    pub fn map(&self, address: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.prefix.to_bits() & !0xffff_ffff | u128::from(address.to_bits()))
    }

    /// The IPv6 address of the device with this pool address (RFC 7757): in the /64 of the prefix, so that clients
    /// choose it as source towards the prefix (RFC 6724), and outside the /96.
    pub fn device(&self, address: Ipv4Addr) -> Ipv6Addr {
        let network = self.prefix.to_bits() & (u128::MAX << 64);
        Ipv6Addr::from_bits(network | u128::from(DEVICE_TAG) << 32 | u128::from(address.to_bits()))
    }
}

impl Responder {
    /// New clients get the new plan, and connected ones when their Child SA is rekeyed: by us, at once, or by them.
    pub(super) fn handle_plan(&mut self, now: Now, plan: ClientPlan) {
        let changed = self.set_plan(plan);
        if changed {
            let mut all: Vec<u64> = self.sas.keys().copied().collect();
            all.sort_unstable();
            all.into_iter().for_each(|own_spi| self.with_sa(own_spi, |this, sa| this.refresh(now, sa)));
        }
    }

    /// Takes a plan for what is negotiated from now on; says whether the selectors are others.
    pub(super) fn set_plan(&mut self, plan: ClientPlan) -> bool {
        let (offer, event) = plan.offer(self.leases.host());
        self.plan = plan;
        let changed = *self.offer != *offer;
        if changed {
            self.offer = Arc::from(offer);
            self.stats.summarised += u64::from(event.is_some());
            self.outputs.extend(event.map(Output::Note));
        }
        changed
    }

    /// Whether a Child SA was negotiated under another plan.
    pub(super) fn is_stale(&self, child: &Child) -> bool {
        *child.offer != *self.offer
    }

    /// Rekeys the Child SAs that were negotiated under another plan, if the client takes that.
    pub(super) fn refresh(&mut self, now: Now, sa: &mut IkeSa) {
        let client = sa.client.as_ref().filter(|client| client.announced && client.takes_rekey);
        if client.is_none() || !matches!(sa.state, State::Established) {
            return;
        }
        // One that the peer has not heard of yet cannot be rekeyed; its turn comes when it has.
        let unheard = sa.pending.as_ref().and_then(|pending| pending.spi_in);
        let in_charge = |child: &&Child| child.is_in_charge() && Some(child.spi_in) != unheard;
        let children = sa.children.iter().filter(in_charge).filter(|child| self.is_stale(child));
        let children: Vec<u32> = children.map(|child| child.spi_in).collect();
        for spi_in in children {
            self.request(now, sa, OwnRequest::RefreshChild(spi_in));
        }
    }

    /// The client did not take our rekey for a changed plan: later, if it is only busy, else never again.
    pub(super) fn refresh_refused(&mut self, now: Now, sa: &mut IkeSa, busy: bool) {
        if busy {
            self.timers.set(Timer::Refresh(sa.own_spi), now.mono + ASK_AGAIN);
        } else if let Some(client) = sa.client.as_mut() {
            client.takes_rekey = false;
            self.outputs.push_back(Output::Note(Event::PlanRefused { identity: client.identity.clone() }));
        }
    }

    /// The selectors, ours and the client's, that the successor of a Child SA may have: those of the old one, however
    /// wide the peer asks; after a change of the plan those of today.
    pub(super) fn successor(
        &self,
        client: &Client,
        old: &Child,
    ) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
        if !self.is_stale(old) {
            return (old.ts_local.clone(), old.ts_remote.clone());
        }
        let (mut local, mut remote) = (self.offer.to_vec(), client.selectors.clone());
        keep_common_families(&mut local, &mut remote);
        (local, remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_company_and_of_devices() {
        let company = Ipv4Addr::new(192, 0, 2, 33);
        let device = Ipv4Addr::new(198, 19, 255, 2);
        for (prefix, mapped, host) in [
            ("64:ff9b:1::", "64:ff9b:1::c000:221", "64:ff9b:1:0:7074:6572:c613:ff02"),
            ("64:ff9b::", "64:ff9b::c000:221", "64:ff9b::7074:6572:c613:ff02"),
            ("fd00:1:2:3:4:5:6:7", "fd00:1:2:3:4:5:c000:221", "fd00:1:2:3:7074:6572:c613:ff02"),
        ] {
            let plan = Nat64Plan { prefix: prefix.parse().unwrap() };
            assert_eq!(
                (plan.map(company), plan.device(device)),
                (mapped.parse().unwrap(), host.parse().unwrap())
            );
            assert_ne!(
                plan.map(device).to_bits() >> 32,
                plan.device(device).to_bits() >> 32,
                "outside the /96"
            );
        }
    }
}
