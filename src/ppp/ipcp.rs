//! The options of IPCP (RFC 1332, RFC 1877): our address, and the DNS servers where the configuration names none.

use std::net::Ipv4Addr;

use super::Fault;
use super::negotiation::{Options, Verdict};
use crate::base::Random;
use crate::wire::ppp::{ConfigOption, emit_option, protocol};

/// The deprecated option of both addresses (RFC 1172): the sender's, then the receiver's.
const ADDRESSES: u8 = 1;
const ADDRESS: u8 = 3;
/// Primary and secondary DNS server (RFC 1877).
const DNS: [u8; 2] = [129, 131];

pub(super) struct Ipcp {
    pub(super) address: Ipv4Addr,
    /// The peer's own address; whatever it says is fine.
    pub(super) peer: Option<Ipv4Addr>,
    /// What we ask for: `None` is not asked for (any more).
    dns: [Option<Ipv4Addr>; 2],
}

impl Ipcp {
    pub(super) fn new(address: Ipv4Addr, ask_dns: bool) -> Self {
        Self { address, peer: None, dns: [ask_dns.then_some(Ipv4Addr::UNSPECIFIED); 2] }
    }

    /// The DNS servers that the peer told.
    pub(super) fn dns(&self) -> Vec<Ipv4Addr> {
        self.dns.iter().flatten().copied().filter(|a| !a.is_unspecified()).collect()
    }

    fn dns_slot(&mut self, kind: u8) -> Option<&mut Option<Ipv4Addr>> {
        self.dns.iter_mut().zip(DNS).find(|(_, k)| *k == kind).map(|(slot, _)| slot)
    }
}

fn address_of(option: ConfigOption<'_>) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(option.value).ok().map(Ipv4Addr::from)
}

impl Options for Ipcp {
    const PROTOCOL: u16 = protocol::IPCP;

    fn emit(&self, out: &mut Vec<u8>) {
        emit_option(out, ADDRESS, &self.address.octets());
        for (kind, server) in DNS.into_iter().zip(self.dns) {
            if let Some(server) = server {
                emit_option(out, kind, &server.octets());
            }
        }
    }

    fn handle_nak(&mut self, option: ConfigOption<'_>, _: &mut dyn Random) -> Result<(), Fault> {
        let told = address_of(option).filter(|a| !a.is_unspecified());
        if option.kind == ADDRESS {
            self.address = told.ok_or(Fault::NoAddress)?;
        } else if let Some(slot) = self.dns_slot(option.kind).filter(|slot| slot.is_some()) {
            *slot = told;
        }
        Ok(())
    }

    fn handle_reject(&mut self, option: ConfigOption<'_>) -> Result<(), Fault> {
        if option.kind == ADDRESS {
            return Err(Fault::NoAddress);
        }
        if let Some(slot) = self.dns_slot(option.kind) {
            *slot = None;
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.peer = None;
    }

    fn judge(&mut self, option: ConfigOption<'_>, _: &mut dyn Random) -> Result<Verdict, Fault> {
        // Refusing the peer's address only makes a FortiGate insist for ever; the address itself has no use.
        Ok(match (option.kind, address_of(option)) {
            (ADDRESS, Some(address)) => {
                self.peer = Some(address);
                Verdict::Ack
            }
            (ADDRESSES, None) => match option.value.split_first_chunk::<4>() {
                Some((peer, ours)) if ours == self.address.octets() => {
                    self.peer = Some(Ipv4Addr::from(*peer));
                    Verdict::Ack
                }
                _ => Verdict::Reject,
            },
            _ => Verdict::Reject,
        })
    }
}
