//! Real peers in network namespaces: Debian's strongSwan, which does ESP in user space, against the real
//! binary and the gateway double, with real servers behind it. Needs root and the packages named in `lab::TOOLS`.

mod company;
mod lab;
mod pki;
mod strongswan;

use company::Company;
use lab::*;
use pki::*;
use strongswan::*;

#[test]
fn bringup() {
    let Some(lab) = Lab::open() else { return };
    let ca = Authority::new(&lab, "company", Key::P256);
    let server = ca.issue("vpn.example.test", "DNS:vpn.example.test,IP:10.99.1.1", Usage::Server);
    let alice = ca.issue("alice", "DNS:alice,email:alice@example.test", Usage::Client);
    let _company = Company::start(&lab);
    lab.ip(CORP, "route add 198.19.255.0/24 via 10.99.2.1");
    lab.ip(SRV, "route add 10.98.0.0/16 via 10.99.2.2");
    lab.must(SRV, 5, "sysctl -w net.ipv4.ip_forward=1");
    let conf = format!("connections {{\n srv {{\n version = 2\n encap = yes\n pools = p\n local {{\n auth = pubkey\n id = vpn.example.test\n certs = {}\n }}\n remote {{\n auth = pubkey\n }}\n children {{\n net {{\n local_ts = 0.0.0.0/0\n }}\n }}\n }}\n}}\npools {{\n p {{\n addrs = 198.19.255.2-198.19.255.250\n dns = 10.98.0.1\n }}\n}}\n", server.cert.display());
    let srv = Strongswan::start(&lab, SRV, &conf, &ca.cert(), &server);
    let cli = Strongswan::client(&lab, CLI, &ClientConfig { server: SRV_FROM_CLI, server_id: "vpn.example.test", trust: &ca.cert(), identity: &alice, id: "alice", connection: "", child: "" });
    cli.connect().unwrap();
    println!("{}", cli.sas());
    println!("{} {:?} {:?}", cli.inner_address(), cli.child_spis(), cli.ike_spis());
    println!("{}", std::fs::read_to_string(lab.resolv_conf(CLI)).unwrap());
    for c in ["ip a", "ip route show table 220", "ping -c3 -i0.2 10.98.0.1", "ping -c1 -M do -s 1372 10.98.0.1", "ping -c1 -M do -s 1373 10.98.0.1", "ping -c1 -M dont -s 4000 10.98.0.1", "dig @10.98.0.1 www.corp.example +short", "dig @10.98.0.1 big.corp.example TXT +noedns", "curl -sS -o /dev/null -w %{http_code}-%{size_download} http://www.corp.example:8000/blob",
      "iperf3 -c 10.98.0.1 -t 2 -J -P 4"] {
        println!("{c}: {}", lab.run(CLI, 20, c).text);
    }
    println!("{}", cli.must("--rekey --child net"));
    println!("{}", cli.must("--rekey --ike vpn"));
    std::thread::sleep(std::time::Duration::from_secs(1));
    println!("{} {:?} {:?}", cli.inner_address(), cli.child_spis(), cli.ike_spis());
    println!("{}", cli.log());
    println!("{}", srv.log());
}
