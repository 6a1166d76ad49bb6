//! Android with the strongSwan app: a profile (`.sswan`), which the app imports when the file is opened.

use super::{Profile, base64, json, uuid};

/// By this media type the system knows the file.
pub const MEDIA_TYPE: &str = "application/vnd.strongswan.profile";

/// The whole file.
pub fn sswan(profile: &Profile<'_>) -> String {
    let port = profile.port.map_or(String::new(), |port| format!("    \"port\": {port},\n"));
    format!(
        "{{
  \"uuid\": {uuid},
  \"name\": {server},
  \"type\": \"ikev2-cert\",
  \"remote\": {{
    \"addr\": {server},
    \"id\": {server},
{port}    \"cert\": {authority}
  }},
  \"local\": {{
    \"id\": {device},
    \"p12\": {pkcs12}
  }}
}}
",
        uuid = json(&uuid(&[profile.server, profile.device, "android"]).to_lowercase()),
        server = json(profile.server),
        device = json(profile.device),
        authority = json(&base64(profile.authority_der)),
        pkcs12 = json(&base64(profile.pkcs12)),
    )
}
