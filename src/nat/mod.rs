//! NAT44 flows, MSS and MTU.
//!
//! [`Flows`] translates between the devices' stable pool addresses and the one address that the gateway assigned
//! (RFC 4787, RFC 5382, RFC 5508). Packets are changed in place, checksums incrementally: no payload octet is read.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod flow;
mod flows;
mod fragments;
mod hash;
pub mod icmp;
pub mod limit;
pub mod mtu;
mod rewrite;

pub use flows::Flows;

#[cfg(test)]
mod tests;
