//! The DNS forwarder of the in-tunnel host.
//!
//! Messages pass byte for byte but for the identifier: names, EDNS options and answers are the client's and the server's
//! own business. The forwarder matches answers to queries (RFC 5452: identifier, port, server and question), asks the
//! next server when one is silent, and says SERVFAIL when none answers.
//!
//! With [`Dns64`] the names of some domains lead through the NAT64 prefix, and only there: their AAAA records are made
//! from their A records, and what would lead a client past the tunnel is not told. Those queries are asked, and their
//! answers written, by us. All other names pass as before.
//!
//! A [`lookup`] of our own goes the same way as a client's, but for DNS64.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod dns64;
mod forwarder;
pub mod lookup;
mod reply;
mod reverse;
mod suffix;

#[cfg(test)]
mod tests;

pub use dns64::Dns64;
pub use forwarder::{Forwarder, Output, Transport};
pub use suffix::{Suffix, SuffixError};
