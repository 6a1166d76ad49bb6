//! Linux with strongSwan: a connection for swanctl. Its files have the names that they get in `/etc/swanctl`.

use super::Profile;

/// The file for `conf.d`. It refers to `x509/DEVICE.pem`; key and authority are found by themselves.
pub fn swanctl(profile: &Profile<'_>) -> String {
    let Profile { server, device, .. } = profile;
    let (vips, remote_ts) = match profile.nat64_prefix {
        Some(_) => ("0.0.0.0, ::", "0.0.0.0/0, ::/0"),
        None => ("0.0.0.0", "0.0.0.0/0"),
    };
    let ports = profile
        .port
        .map_or(String::new(), |port| format!("        local_port = 4500\n        remote_port = {port}\n"));
    format!(
        "connections {{
    pterodapter {{
        version = 2
        remote_addrs = {server}
{ports}        vips = {vips}
        proposals = aes256gcm16-prfsha256-ecp256
        local {{
            auth = pubkey
            certs = {device}.pem
            id = {device}
        }}
        remote {{
            auth = pubkey
            id = {server}
        }}
        children {{
            company {{
                # the server narrows this to what it serves
                remote_ts = {remote_ts}
                esp_proposals = aes256gcm16-ecp256, aes256gcm16
            }}
        }}
    }}
}}
"
    )
}
