//! Linux desktops: a connection for NetworkManager with its strongSwan plugin, as a keyfile.

use super::{Profile, uuid};

/// Where the certificates and the key are put; NetworkManager's keyfiles want absolute names.
pub const DIRECTORY: &str = "/etc/NetworkManager/pterodapter";

/// The whole file. It refers to `ca.pem`, `DEVICE.pem` and `DEVICE.key` in [`DIRECTORY`].
pub fn nmconnection(profile: &Profile<'_>) -> String {
    let Profile { server, device, .. } = profile;
    let port = profile.port.map_or(String::new(), |port| format!("server-port={port}\n"));
    format!(
        "[connection]
id=VPN {server}
uuid={uuid}
type=vpn
autoconnect=false

[vpn]
service-type=org.freedesktop.NetworkManager.strongswan
address={server}
{port}certificate={DIRECTORY}/ca.pem
method=key
usercert={DIRECTORY}/{device}.pem
userkey={DIRECTORY}/{device}.key
local-identity={device}
remote-identity={server}
virtual=yes
encap=no
ipcomp=no
proposal=yes
ike=aes256gcm16-prfsha256-ecp256
esp=aes256gcm16
password-flags=4

[ipv4]
method=auto

[ipv6]
method=auto
",
        uuid = uuid(&[server, device, "networkmanager"]).to_lowercase(),
    )
}
