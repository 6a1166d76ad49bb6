//! Time, and programs that may be missing.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// True if `condition` comes to hold within `limit`.
pub fn happens(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = clock();
    while !condition() {
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[expect(clippy::disallowed_methods, reason = "tests measure time")]
fn clock() -> Instant {
    Instant::now()
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "tests make certificates that are valid now")]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// True if a program is missing. On CI nothing may be.
pub fn skipped_without(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|place| place.join(program).is_file());
    assert!(found || std::env::var_os("CI").is_none(), "{program} is missing");
    if !found {
        println!("skipped: {program} is not installed");
    }
    !found
}
