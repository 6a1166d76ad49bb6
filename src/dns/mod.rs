//! The DNS forwarder of the in-tunnel host.
//!
//! Messages pass byte for byte but for the identifier: names, EDNS options and answers are the client's and the server's
//! own business. The forwarder matches answers to queries (RFC 5452: identifier, port, server and question), asks the
//! next server when one is silent, and says SERVFAIL when none answers.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod forwarder;

pub use forwarder::{Forwarder, Output, Transport};
