//! pterodapter lets the IKEv2 client of a laptop or phone reach the network behind a FortiGate SSL VPN.
//!
//! It is an IKEv2 responder in user space (RFC 7296 subset, ESP in UDP) in front of a FortiVPN client
//! (HTTPS login, PPP over TLS), with address translation between. No root, no tun device, no kernel IPsec.
//!
//! # Map
//!
//! Dependencies go one way, and `tests/layering.rs` checks it:
//!
//! ```text
//! main -> cli -> demo -> {engine, provision} -> {ike, esp, nat, dns, ppp, fortivpn} -> {wire, crypto} -> base
//! ```
//!
//! * [`base`]: time, randomness, reasons to drop, and the value in which IKE and ESP meet.
//! * [`wire`]: views and writers over bytes. [`crypto`]: the only place that names ring.
//! * [`ike`], [`esp`], [`nat`], [`dns`], [`ppp`], [`fortivpn`]: protocol cores. They do no I/O: bytes, events and
//!   the time go in; bytes, events and the next timeout come out.
//! * [`engine`]: threads, sockets and queues around the cores. [`provision`]: certificates.
//! * [`demo`]: a FortiVPN gateway and an IKEv2 client, for `pterodapter demo` and the tests. [`cli`]: options to settings.
//!
//! # Rules
//!
//! 1. Synchronous and multi-threaded: one event loop, a fixed worker pool, an IKE thread; no async runtime.
//! 2. A peer never panics us: bounded readers only. Nothing unauthenticated has an effect beyond a bounded answer.
//! 3. The packet path never allocates, locks, logs or waits; each reason to drop is a named counter.
//! 4. The order of packets within one SA is kept.
//! 5. Unsafe code lives in `engine::sys` only, each block with its reason.

pub mod base;
pub mod cli;
pub mod crypto;
pub mod demo;
pub mod dns;
pub mod engine;
pub mod esp;
pub mod fortivpn;
pub mod ike;
pub mod nat;
pub mod ppp;
pub mod provision;
pub mod wire;
