//! What `pterodapter setup` writes, used as it is: the daemon with the configuration file, strongSwan and NetworkManager
//! with the profile of a device.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::lab::*;
use crate::strongswan::Strongswan;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
const LIMIT: Duration = Duration::from_secs(10);
const SERVER: &str = "vpn.example.test";
/// A host of the network that the gateway plays.
const COMPANY: &str = "10.77.0.10";

/// Runs NetworkManager on a bus of its own, with the files of `$1` in their places, connects, pings and disconnects. charon-nm
/// does ESP in user space, as in the other tests.
const NETWORK_MANAGER: &str = r#"
profile=$1 company=$2
for place in /run /etc/NetworkManager /var/lib/NetworkManager; do
    mount -t tmpfs tmpfs $place
done
# Without udev NetworkManager takes the word of the kernel, if nobody can write there.
mount -o remount,ro,bind /sys
mkdir -p /run/dbus /etc/NetworkManager/pterodapter /etc/NetworkManager/system-connections
install -m 600 "$profile"/*.pem "$profile"/*.key /etc/NetworkManager/pterodapter/
install -m 600 "$profile"/*.nmconnection /etc/NetworkManager/system-connections/
cat >/etc/NetworkManager/NetworkManager.conf <<'END'
[main]
plugins=keyfile
dns=none
[connectivity]
enabled=false
[device]
match-device=interface-name:up0
managed=1
END
cat >/etc/NetworkManager/system-connections/up0.nmconnection <<'END'
[connection]
id=up0
type=ethernet
interface-name=up0
[ipv4]
method=manual
address1=10.99.1.2/24,10.99.1.1
[ipv6]
method=disabled
END
chmod 600 /etc/NetworkManager/system-connections/up0.nmconnection
cat >/run/strongswan.conf <<'END'
charon-nm {
    load = random nonce openssl pubkey pem pkcs1 pkcs8 x509 constraints kdf gcm kernel-libipsec kernel-netlink socket-default nm
    plugins {
        kernel-libipsec {
            allow_peer_ts = yes
        }
        kernel-netlink {
            fwmark = !0x42
        }
        socket-default {
            fwmark = 0x42
        }
    }
}
END
mount --bind /run/strongswan.conf /etc/strongswan.conf
dbus-daemon --system --fork --nopidfile
NetworkManager --no-daemon --log-level=INFO &
for try in $(seq 50); do
    [ "$(nmcli --terse --fields RUNNING general status 2>/dev/null)" != running ] || break
    sleep 0.2
done
nmcli --wait 10 connection up up0
nmcli device
nmcli --wait 25 connection up "$(sed -n 's/^id=//p' "$profile"/*.nmconnection)"
ip address
ping -n -c 3 -i 0.2 -W 2 "$company"
nmcli --wait 10 connection down "$(sed -n 's/^id=//p' "$profile"/*.nmconnection)"
echo all of it worked
"#;

/// A gateway double, and the daemon with what `setup` wrote.
struct Service {
    etc: PathBuf,
    daemon: Process,
    _gateway: Process,
}

impl Service {
    fn start(lab: &Lab) -> Self {
        let etc = lab.path("etc");
        let listen = format!("{GATEWAY}:10443");
        setup(&etc, &["--destination", &listen, "--name", SERVER]);

        // The gateway's part of the configuration is by hand, as it would be.
        let (gateway_ca, toml) = (lab.path("gateway.pem"), etc.join("pterodapter.toml"));
        fs::write(etc.join("password"), "secret\n").expect("file");
        must(Command::new("chmod").arg("600").arg(etc.join("password")));
        let more = format!(
            "username = \"alice\"\npassword-file = \"password\"\ngateway-ca = \"{}\"\n",
            gateway_ca.display()
        );
        fs::write(&toml, fs::read_to_string(&toml).expect("written by setup") + &more).expect("file");

        let gateway_ca = gateway_ca.display().to_string();
        let double = [PROGRAM, "demo", "--gateway-only", "--listen", &listen];
        let account = ["--user", "alice:secret", "--ca-file", &gateway_ca];
        let mut gateway = lab.start(CORP, "gateway", &[], &[&double[..], &account].concat());
        gateway.wait_log("ready ", LIMIT);
        let config = format!("--config={}", toml.display());
        let checked = lab.must(SRV, 10, &format!("{PROGRAM} check {config}"));
        assert!(checked.starts_with("ready to start"), "{checked}");
        let mut daemon = lab.start(SRV, "pterodapter", &[], &[PROGRAM, &config, "ikev2"]);
        daemon.wait_log("the tunnel is up", LIMIT);
        fs::write(lab.hosts(CLI), format!("{SRV_FROM_CLI} {SERVER}\n")).expect("file");
        Self { etc, daemon, _gateway: gateway }
    }

    /// The profile of a device, in the directory `out`.
    fn device(&self, lab: &Lab, os: &str) -> PathBuf {
        let out = lab.path("out");
        setup(&self.etc, &["device", "alice-laptop", "--os", os, "--out", &out.display().to_string()]);
        out
    }
}

fn setup(etc: &std::path::Path, args: &[&str]) {
    must(Command::new(PROGRAM).arg("setup").arg("--dir").arg(etc).args(args));
}

#[test]
fn a_profile_from_setup_connects_strongswan_as_it_is() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab);
    let profile = service.device(&lab, "strongswan");
    let client = Strongswan::with_files(&lab, CLI, &profile.join("alice-laptop-strongswan"));
    assert!(client.must("--list-conns").contains("company: TUNNEL"), "{}", client.must("--list-conns"));
    client.must("--initiate --child company --timeout 20");
    lab.must(CLI, 10, &format!("ping -n -c 3 -i 0.2 -W 2 {COMPANY}"));
    assert!(service.daemon.log().contains("alice-laptop"), "{}", service.daemon.log());
    client.must("--terminate --ike pterodapter");
}

#[test]
fn a_profile_from_setup_connects_network_manager_as_it_is() {
    let Some(lab) = Lab::open() else { return };
    let service = Service::start(&lab);
    let profile = service.device(&lab, "networkmanager").join("alice-laptop-networkmanager");
    let (script, profile) = (lab.path("network-manager"), profile.display().to_string());
    fs::write(&script, NETWORK_MANAGER).expect("file");
    let script = script.display().to_string();
    let line =
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-eux", &script];
    let mut manager = lab.start(CLI, "network-manager", &[], &[&line[..], &[&profile, COMPANY]].concat());
    manager.wait_log("all of it worked", Duration::from_secs(60));
    assert!(service.daemon.log().contains("alice-laptop connected"), "{}", service.daemon.log());
}
