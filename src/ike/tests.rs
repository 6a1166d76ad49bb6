//! The responder against an initiator in memory, with a virtual clock.

use std::net::Ipv4Addr;

use super::testing::*;
use super::*;
use crate::crypto::sign::{KeyKind, SignatureScheme};
use crate::crypto::{Aead, Group, Prf};
use crate::provision::{Authority, Role, Validity};
use crate::wire::ike::*;

#[test]
fn connects() {
    let mut world = World::new();
    let client = world.connect("alice@example.com", 4500);
    assert_eq!(world.take_log(), ["install", "connected alice@example.com 198.19.255.2"]);
    assert_eq!(client.address, Some(Ipv4Addr::new(198, 19, 255, 2)));
    assert_eq!(client.dns, [Ipv4Addr::new(198, 19, 255, 1)]);
}
