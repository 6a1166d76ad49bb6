//! The local page of the real daemon: what finds the port besides a browser changes nothing, a browser signs in, and a
//! device gets the same page through its tunnel.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/lab.rs"]
mod lab;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use common::skipped_without;
use lab::{Lab, Setup, eventually, password};
use pterodapter::demo::gateway::Event;
use pterodapter::demo::probe::Client;
use pterodapter::engine::{Prefix96, Split};
use pterodapter::fortivpn::Credentials;

const SECONDS: Duration = Duration::from_secs(10);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const WEB_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

/// A daemon that waits for the browser.
fn waiting() -> Lab {
    let lab = Lab::start(Setup { credentials: Credentials::Saml, ..Setup::default() });
    eventually(SECONDS, "a sign-in is asked for", || get(&lab, "/").contains("Waiting for a sign-in"));
    lab
}

fn address(lab: &Lab) -> SocketAddr {
    lab.daemon().page_addresses()[0]
}

/// Sends `request` as it is, and gives what comes back until the end.
fn send(lab: &Lab, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address(lab)).unwrap();
    stream.set_read_timeout(Some(SECONDS)).unwrap();
    stream.write_all(request).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    String::from_utf8(response).unwrap()
}

fn request(lab: &Lab, method: &str, target: &str) -> String {
    let host = address(lab);
    send(lab, format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: test\r\n\r\n").as_bytes())
}

fn get(lab: &Lab, target: &str) -> String {
    request(lab, "GET", target)
}

/// A form with the token that the page has now.
fn form(page: &str, path: &str, host: &str, fields: &str) -> String {
    let token = page.split_once("name=\"token\" value=\"").unwrap().1.split_once('"').unwrap().0;
    let body = format!("token={token}&{fields}");
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn post(lab: &Lab, path: &str, fields: &str) -> String {
    send(lab, form(&get(lab, "/"), path, &address(lab).to_string(), fields).as_bytes())
}

fn trades(lab: &Lab) -> Vec<bool> {
    let trade = |event| if let Event::SamlTrade(good) = event { Some(good) } else { None };
    lab.gateway.journal().into_iter().filter_map(|entry| trade(entry.event)).collect()
}

/// Signs in at the gateway, and gives the address to which it then sends the browser.
fn sign_in_elsewhere(lab: &Lab) -> Option<String> {
    if skipped_without("curl") {
        return None;
    }
    let start = format!("https://{}/remote/saml/start?redirect=1", lab.gateway.addr());
    let curl = std::process::Command::new("curl")
        .args([
            "--silent",
            "--max-time",
            "10",
            "--insecure",
            "--location",
            "--max-redirs",
            "2",
            "--write-out",
        ])
        .args(["%{redirect_url}", &start])
        .output()
        .unwrap();
    let address = String::from_utf8(curl.stdout).unwrap();
    assert!(address.contains("/?id="), "{address}");
    Some(address)
}

#[test]
fn f18_whatever_finds_the_port_does_not_disturb_the_sign_in() {
    let lab = waiting();
    let head = |response: &str| response.lines().next().unwrap_or_default().to_owned();
    // What browsers do on their own.
    assert_eq!(head(&get(&lab, "/favicon.ico")), "HTTP/1.1 204 No Content");
    let preflight = request(&lab, "OPTIONS", "/?id=6c1f");
    assert!(head(&preflight).contains("204") && !preflight.contains("Access-Control"), "{preflight}");
    let speculative = TcpStream::connect(address(&lab)).unwrap();
    // A port scan, with and without a reset.
    drop(TcpStream::connect(address(&lab)).unwrap());
    let mut reset = TcpStream::connect(address(&lab)).unwrap();
    reset.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    drop(reset);
    // Nonsense of every kind.
    for (nonsense, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n"[..], "400"),
        (b"SSH-2.0-scan\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n", "421"),
        (&[b'A'; 20_000], "431"),
        (b"POST /paste HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", "413"),
        (b"POST /paste HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\naddress=6c1f0a9e-5d1", "403"),
        (b"POST /?id=6c1f HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
    ] {
        let response = send(&lab, nonsense);
        assert_eq!(head(&response).get(9..12), Some(status), "{nonsense:.30?}: {response:.200}");
    }
    // Hostile ids.
    for id in ["a%0d%0aCookie:%20x", "../../logout", "..%2f", "x%20HTTP/1.1", "", &"a".repeat(10_000)] {
        assert!(
            get(&lab, &format!("/?id={id}")).contains("no sign-in. Please open its link again"),
            "{id:.20}"
        );
    }
    assert!(get(&lab, "/").contains("Waiting for a sign-in"));
    assert!(trades(&lab).is_empty(), "nothing of this went to the gateway");

    let Some(back) = sign_in_elsewhere(&lab) else { return };
    let target = back.split_once(&address(&lab).to_string()).unwrap().1;
    assert!(get(&lab, target).contains("Signed in, you can close this tab."));
    lab.wait_for_tunnel(1);
    assert!(get(&lab, "/").contains("The tunnel is up"));
    // The browser repeats its request, or somebody brings another id.
    for target in [target, "/?id=6c1f0a9e-5d1b-4b4e-9e60-0b6d2a2f9b11"] {
        assert!(get(&lab, target).contains("Already signed in, you can close this tab."));
    }
    assert_eq!(trades(&lab), [true]);
    drop(speculative);
}

#[test]
fn f18_slow_clients_and_a_hundred_connections_lock_no_browser_out() {
    let lab = waiting();
    let connect = || TcpStream::connect(address(&lab)).unwrap();
    let mut slow: Vec<TcpStream> = std::iter::repeat_with(connect).take(100).collect();
    for stream in &mut slow {
        // Most are gone already.
        let _ = stream.write_all(b"GET /?id=6c1f");
    }
    for _ in 0..10 {
        assert!(get(&lab, "/").contains("Waiting for a sign-in"));
    }
    // Those that are left trickle on, and have their time and no more.
    let mut last = slow.pop().unwrap();
    for _ in 0..24 {
        std::thread::sleep(Duration::from_millis(250));
        if last.write_all(b"x").is_err() {
            break;
        }
    }
    last.set_read_timeout(Some(SECONDS)).unwrap();
    assert!(matches!(last.read(&mut [0; 16]), Ok(0) | Err(_)), "cut off");
    // A browser that closes its side after the request is answered all the same.
    let mut half = connect();
    half.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", address(&lab)).as_bytes()).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut response = String::new();
    half.read_to_string(&mut response).unwrap();
    assert!(response.ends_with("</html>\n"), "{response:.100}");
    assert!(trades(&lab).is_empty());
}

#[test]
fn the_address_is_pasted_and_a_refused_one_leads_to_a_new_sign_in() {
    let lab = waiting();
    assert!(
        post(&lab, "/paste", "address=hello%21").contains("not the address that the browser was sent to")
    );
    let Some(_) = sign_in_elsewhere(&lab) else { return };
    // A good form, but the gateway does not know it.
    assert!(post(&lab, "/paste", "address=6c1f0a9e").starts_with("HTTP/1.1 303"));
    eventually(SECONDS, "the gateway refuses", || trades(&lab) == [false]);
    eventually(SECONDS, "a person may act", || {
        let page = get(&lab, "/");
        page.contains("action=\"/retry\"") || page.contains("action=\"/paste\"")
    });
    if get(&lab, "/").contains("action=\"/retry\"") {
        assert!(post(&lab, "/retry", "").starts_with("HTTP/1.1 303"));
        eventually(SECONDS, "the sign-in starts again", || get(&lab, "/").contains("action=\"/paste\""));
    }
    let back = sign_in_elsewhere(&lab).unwrap().replace(':', "%3A").replace('/', "%2F").replace('?', "%3F");
    assert!(
        post(&lab, "/paste", &format!("address={}", back.replace('=', "%3D"))).starts_with("HTTP/1.1 303")
    );
    lab.wait_for_tunnel(1);
    assert_eq!(trades(&lab), [false, true]);
}

#[test]
fn a_refused_password_is_shown_with_what_to_do() {
    let lab = Lab::start(Setup { credentials: password("wrong"), ..Setup::default() });
    eventually(SECONDS, "the page says so", || {
        let page = get(&lab, "/");
        page.contains("No tunnel")
            && page.contains("two failures lock the account")
            && page.contains("action=\"/retry\"")
    });
    assert!(!get(&lab, "/").contains("wrong"));
}

/// The device's own page, whichever way it came.
fn on_device(client: &Client, url: &str) -> String {
    let response = client.http_get(url).unwrap();
    assert_eq!(response.status, 200);
    String::from_utf8(response.body).unwrap()
}

#[test]
fn a_device_signs_in_through_the_in_tunnel_page() {
    let lab = waiting();
    let client = lab.connect("laptop.example").unwrap();
    let _other = lab.connect("other.example").unwrap();
    let page = on_device(&client, &format!("http://{HOST}/"));
    for text in [
        "Waiting for a sign-in",
        "Devices connected: 2",
        "This device: <bdi>laptop.example",
        "action=\"/paste\"",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("other.example"));
    assert_eq!(client.http_get(&format!("http://{HOST}/other")).unwrap().status, 404);
    // By another name or from another site: refused.
    let exchange = |request: &str| {
        let mut stream = client.tcp_connect(SocketAddr::new(HOST.into(), 80)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    };
    assert!(exchange("GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n").starts_with("HTTP/1.1 421"));
    let foreign = form(&page, "/paste", &HOST.to_string(), "address=6c1f")
        .replace("\r\n\r\n", "\r\nOrigin: null\r\n\r\n");
    assert!(exchange(&foreign).starts_with("HTTP/1.1 403"));
    let Some(back) = sign_in_elsewhere(&lab) else { return };
    let response = exchange(&form(&page, "/paste", &HOST.to_string(), &format!("address={back}")));
    assert!(response.starts_with("HTTP/1.1 303") && response.contains("Location: /\r\n"), "{response}");
    lab.wait_for_tunnel(1);
    eventually(SECONDS, "the page says so", || {
        on_device(&client, &format!("http://{HOST}/")).contains("The tunnel is up")
    });
    client.ping(WEB_SERVER).unwrap();
    assert_eq!(trades(&lab), [true]);
}

#[test]
fn a_device_that_speaks_ipv6_finds_the_page_in_the_nat64_prefix() {
    let prefix: Prefix96 = "64:ff9b:1::/96".parse().unwrap();
    let split = Split { nat64: Some(prefix), ..Split::default() };
    let lab = Lab::start(Setup { split, ..Setup::default() });
    let mut config = lab.client_config("phone.example");
    config.ipv6 = true;
    let client = Client::connect(config).unwrap();
    let image: Ipv6Addr = prefix.embed(HOST);
    let page = on_device(&client, &format!("http://[{image}]/"));
    assert!(page.contains("This device: <bdi>phone.example"), "{page}");
}
