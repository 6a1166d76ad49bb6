//! The tunnel configuration of the gateway.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pterodapter::fortivpn::TunnelConfig;

fuzz_target!(|xml: &[u8]| {
    let Ok(config) = TunnelConfig::parse(xml) else { return };
    assert!(!config.address.is_unspecified());
    for route in config.routes.iter().chain(&config.excludes) {
        assert!(route.prefix_len <= 32);
    }
});
