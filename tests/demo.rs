//! The demonstration as a test: the gateway, the daemon and the probe on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use pterodapter::demo::run::{DemoOptions, run};

#[test]
fn every_step_works() {
    if let Err(error) = run(DemoOptions { stay: false, bytes: 5_000_000 }) {
        panic!("{error}");
    }
}
