//! Published vectors through our own wrappers, the ciphers, MACs, groups and signatures as IKE and ESP use them: those of
//! Project Wycheproof, and those of the RFCs (`rfc`). Each test of the former states how many vectors it ran and how many
//! have no form in IKE, so that none is skipped unseen. More vectors of RFCs stand beside what they test, in `src`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod aead;
mod cbc;
mod curve;
mod dh;
mod mac;
mod rfc;
mod sign;

/// What became of the vectors of one test.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    run: usize,
    /// Valid ones that we refuse, all for the reason that the test gives.
    stricter: usize,
    not_applicable: usize,
}
