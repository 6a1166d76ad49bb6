//! NAT44 flows, stateless NAT64, MSS and MTU.
//!
//! [`Flows`] translates between the devices' stable pool addresses and the one address that the gateway assigned
//! (RFC 4787, RFC 5382, RFC 5508). Packets are changed in place, checksums incrementally: no payload octet is read.
//! [`nat64`] translates between IPv6 and IPv4 (RFC 7915) inside a [`Prefix96`] (RFC 6052).
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod flow;
mod flows;
mod fragments;
mod hash;
pub mod icmp;
pub mod limit;
pub mod mtu;
pub mod nat64;
mod prefix;
mod rewrite;

pub use flows::Flows;
pub use prefix::{Prefix96, PrefixError};

#[cfg(test)]
mod tests;
