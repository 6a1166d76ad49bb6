//! LCP and IPCP as client (RFC 1661, RFC 1332), as FortiGates speak them: no authentication, no compression, no
//! header compression; liveness by LCP echo.
//!
//! [`Link`] is the whole of it: PPP control packets, the time and randomness go in; control packets, [`Event`]s and
//! the next timeout come out.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod echo;
mod ipcp;
mod lcp;
mod link;
mod negotiation;

pub use link::{Closed, Event, Link, Settings};

use std::fmt;

/// Why a negotiation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The link was not open in time.
    Timeout,
    /// The peer went on refusing what we asked for.
    NotConverging,
    /// The peer refuses IPv4, or the packets that negotiate it.
    Refused,
    /// The peer gives us no address.
    NoAddress,
    /// The line echoes: the magic numbers stay equal (RFC 1661 section 6.4).
    Loopback,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "the gateway did not finish the PPP negotiation in time",
            Self::NotConverging => "the gateway refused every PPP option set",
            Self::Refused => "the gateway refuses IPv4 in PPP",
            Self::NoAddress => "the gateway gives no address in PPP",
            Self::Loopback => "the gateway sends our own PPP packets back",
        })
    }
}

impl std::error::Error for Fault {}
