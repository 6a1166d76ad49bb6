//! Views and writers over bytes. No parser here indexes, panics or allocates by a length that the peer chose.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

pub mod checksum;
pub mod dns;
pub mod eap;
pub mod edit;
pub mod forti;
pub mod http;
pub mod icmp;
pub mod icmpv6;
pub mod ike;
pub mod ip;
pub mod ipv6;
pub mod pcapng;
pub mod ppp;
mod reader;
pub mod tcp;
pub mod udp;

pub use reader::{Malformed, Reader};
