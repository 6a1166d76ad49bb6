//! What browsers, and whatever else finds the port, send to the local page.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pterodapter::engine::page::request::{MAX_REQUEST, parse};
use pterodapter::fortivpn::saml;

fuzz_target!(|data: &[u8]| {
    match parse(data) {
        Ok(Some(request)) => {
            // What comes behind a request does not change it.
            let longer = [data, b"behind"].concat();
            assert_eq!(parse(&longer), Ok(Some(request)));
            assert!(
                request.query_field("id").is_none_or(|id| !saml::is_valid_id(id) || !id.contains(['&', '%']))
            );
            assert!(request.form_field("answer").is_none_or(|answer| answer.len() <= data.len()));
        }
        Ok(None) => assert!(data.len() < MAX_REQUEST, "a reader must not wait for more than it can keep"),
        Err(_) => {}
    }
});
