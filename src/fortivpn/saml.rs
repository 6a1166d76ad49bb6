//! Sign-in with the browser: the link to open, and the id with which the browser comes back to us.

use crate::wire::http::percent_encode;

/// Where FortiGates send the browser back to, unless configured otherwise.
pub const DEFAULT_PORT: u16 = 8020;
const MAX_ID: usize = 1024;

/// The link that starts the sign-in. `host` is as in a URL, with its port where it is not 443.
pub(super) fn start_url(host: &str, realm: Option<&str>) -> String {
    let mut url = format!("https://{host}/remote/saml/start?redirect=1").into_bytes();
    if let Some(realm) = realm {
        url.extend(b"&realm=");
        percent_encode(&mut url, realm.as_bytes());
    }
    String::from_utf8_lossy(&url).into_owned()
}

/// True if `id` may become part of a request of ours: any web page can send one here.
pub fn is_valid_id(id: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let long = "a".repeat(MAX_ID);
        for id in ["6c1f0a9e-5d1b-4b4e-9e60-0b6d2a2f9b11", "A_b.9", &long] {
            assert!(is_valid_id(id), "{id}");
        }
        let too_long = "a".repeat(MAX_ID + 1);
        for id in ["", "../x", "a%0d%0aX:y", "a b", "a&b", "a\r\nX", "\u{e9}", &too_long] {
            assert!(!is_valid_id(id), "{id}");
        }
    }

    #[test]
    fn link() {
        assert_eq!(start_url("gw.example", None), "https://gw.example/remote/saml/start?redirect=1");
        let url = start_url("gw.example:10443", Some("a b/c"));
        assert_eq!(url, "https://gw.example:10443/remote/saml/start?redirect=1&realm=a%20b%2Fc");
    }
}
