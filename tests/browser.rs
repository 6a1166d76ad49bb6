//! The local page in a real browser: headless Chromium, the gateway double and its identity provider.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/lab.rs"]
mod lab;
#[path = "browser/webdriver.rs"]
mod webdriver;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::skipped_without;
use lab::{Lab, PASSWORD, Setup, eventually, password};
use pterodapter::demo::gateway::{CloseStyle, Factor, IdentityProvider, Scenario, User};
use pterodapter::demo::probe::Client;
use pterodapter::fortivpn::Credentials;
use webdriver::Browser;

const SECONDS: Duration = Duration::from_secs(20);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);

/// One browser at a time is enough for the machine.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True if the browser is missing. On CI it may not be.
fn skipped() -> bool {
    ["chromedriver", "chromium"].into_iter().any(skipped_without)
}

/// A daemon that waits for the browser, and the address of its page.
fn waiting(identity_provider: IdentityProvider) -> (Lab, String) {
    let scenario = Scenario { identity_provider, ..Scenario::default() };
    let lab = Lab::start(Setup { scenario, credentials: Credentials::Saml, ..Setup::default() });
    let page = format!("http://{}/", lab.daemon().page_addresses()[0]);
    (lab, page)
}

/// Waits until the page, which looks again by itself, shows `text`.
fn shows(browser: &Browser, text: &str) {
    let mut last = String::new();
    for _ in 0..SECONDS.as_millis() / 50 {
        last = browser.text();
        if last.contains(text) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the browser does not show {text:?} but:\n{last}");
}

#[test]
fn a_person_signs_in_from_the_page_to_the_tunnel() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let (lab, page) = waiting(IdentityProvider::Form);
    let browser = Browser::start("");
    browser.open(&page);
    shows(&browser, "Waiting for a sign-in");
    browser.screenshots("waiting");
    browser.click("a.button");
    shows(&browser, "Example identity provider");
    browser.type_into("[name=username]", "alice");
    browser.type_into("[name=password]", "not this");
    browser.click("button");
    shows(&browser, "That was wrong");
    browser.type_into("[name=username]", "alice");
    browser.type_into("[name=password]", PASSWORD);
    browser.click("button");
    shows(&browser, "Signed in, you can close this tab.");
    assert!(browser.url().starts_with(&format!("{page}?id=")), "{}", browser.url());
    browser.screenshots("signed-in");
    shows(&browser, "The tunnel is up");
    eventually(SECONDS, "the id leaves the address bar", || browser.url() == page);
    lab.wait_for_tunnel(1);
    browser.screenshots("up");
    // Nobody asked for this one.
    browser.open(&format!("{page}?id=6c1f0a9e-5d1b-4b4e-9e60-0b6d2a2f9b11"));
    shows(&browser, "Already signed in, you can close this tab.");
    assert_eq!(browser.console_errors(&page), [""; 0]);
}

#[test]
fn providers_that_answer_by_script_or_by_a_button_lead_to_the_tunnel_too() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let browser = Browser::start("");
    for provider in [IdentityProvider::Script, IdentityProvider::Button] {
        let (lab, page) = waiting(provider);
        browser.open(&page);
        shows(&browser, "Waiting for a sign-in");
        browser.click("a.button");
        if provider == IdentityProvider::Button {
            browser.click("#continue");
        }
        shows(&browser, "The tunnel is up");
        lab.wait_for_tunnel(1);
        assert_eq!(browser.console_errors(&page), [""; 0]);
    }
}

#[test]
fn what_goes_wrong_is_said() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let (lab, page) = waiting(IdentityProvider::AtOnce);
    let browser = Browser::start("");
    browser.open(&page);
    shows(&browser, "Waiting for a sign-in");
    browser.open(&format!("{page}?id=..%2f..%0d%0aX"));
    shows(&browser, "What the gateway sent is no sign-in. Please open its link again.");
    browser.screenshots("no-id");
    browser.open(&page);
    browser.type_into("#address", "this is not it");
    browser.click("form button");
    shows(&browser, "That was not used: this is not the address that the browser was sent to");
    // The form is good, but the gateway does not know this id.
    browser.type_into("#address", "http://127.0.0.1:8020/?id=6c1f0a9e-5d1b-4b4e-9e60-0b6d2a2f9b11");
    browser.click("form button");
    shows(&browser, "Last errors");
    browser.screenshots("refused");
    if browser.text().contains("Try again") {
        browser.click("form[action='/retry'] button");
        shows(&browser, "Waiting for a sign-in");
    }
    browser.click("a.button");
    shows(&browser, "The tunnel is up");
    lab.wait_for_tunnel(1);
    // A browser counts an answer of 400 or 409 for an error, and says so.
    let others: Vec<String> = browser
        .console_errors(&page)
        .into_iter()
        .filter(|error| !error.contains("the server responded with a status of 4"))
        .collect();
    assert_eq!(others, [""; 0]);
}

#[test]
fn a_refused_password_is_tried_again_by_a_person_only() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let lab = Lab::start(Setup { credentials: password("wrong"), ..Setup::default() });
    let browser = Browser::start("");
    let page = format!("http://{}/", lab.daemon().page_addresses()[0]);
    browser.open(&page);
    shows(&browser, "No tunnel");
    browser.screenshots("failed");
    assert!(browser.text().contains("two failures lock the account"));
    assert_eq!(browser.console_errors(&page), [""; 0]);
}

#[test]
fn a_question_is_answered_wrong_then_right() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let alice = User::new("alice", PASSWORD).with_factor(Factor::code("246810"));
    let lab = Lab::start(Setup { users: vec![alice], ..Setup::default() });
    let page = format!("http://{}/", lab.daemon().page_addresses()[0]);
    let browser = Browser::start("");
    browser.open(&page);
    shows(&browser, "Code of the token");
    browser.screenshots("question");
    browser.type_into("#answer", "111111");
    browser.click("form button");
    shows(&browser, "refused");
    browser.screenshots("question-refused");
    // Only a person goes on from here.
    if browser.text().contains("Try again") {
        browser.click("form[action='/retry'] button");
        shows(&browser, "Code of the token");
    }
    browser.type_into("#answer", "246810");
    browser.click("form button");
    shows(&browser, "The tunnel is up");
    lab.wait_for_tunnel(1);
    assert_eq!(browser.console_errors(&page), [""; 0]);
}

#[test]
fn pages_of_others_can_neither_see_nor_do_anything() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let (lab, page) = waiting(IdentityProvider::AtOnce);
    let port = lab.daemon().page_addresses()[0].port();
    let browser = Browser::start("MAP rebound.example 127.0.0.1");
    browser.open(&page);
    shows(&browser, "Waiting for a sign-in");
    browser.open(&format!("http://rebound.example:{port}/"));
    shows(&browser, "Open this page by its address, not by a name.");
    browser.open(&format!("http://rebound.example:{port}/?id=6c1f"));
    shows(&browser, "Open this page by its address, not by a name.");
    browser.open(&format!(
        "data:text/html,<form method=post action={page}paste><input name=address value=6c1f><button>x"
    ));
    browser.click("button");
    shows(&browser, "Nothing was done");
    browser.open(&page);
    shows(&browser, "Waiting for a sign-in");
}

#[test]
fn a_device_sees_the_page_through_its_tunnel() {
    if skipped() {
        return;
    }
    let _turn = turn();
    let (lab, page) = waiting(IdentityProvider::AtOnce);
    let phone = lab.connect("phone.example").unwrap();
    let _laptop = lab.connect("laptop.example").unwrap();
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = relay.local_addr().unwrap().port();
    let phone = Arc::new(phone);
    std::thread::spawn(move || relay_to_host(&relay, &phone));
    let browser = Browser::start(&format!("MAP {HOST} 127.0.0.1:{port}"));
    browser.open(&format!("http://{HOST}/"));
    shows(&browser, "This device: phone.example");
    browser.screenshots("in-tunnel");
    assert!(!browser.text().contains("laptop.example"));
    browser.type_into("#address", "this is not it");
    browser.click("form button");
    shows(&browser, "That was not used");
    let errors = browser.console_errors(&format!("http://{HOST}/"));
    assert!(errors.iter().all(|error| error.contains("status of 409")), "{errors:?}");
    // On the adapter's own host the rest of the sign-in goes by itself.
    browser.open(&page);
    shows(&browser, "laptop.example");
    browser.click("a.button");
    shows(&browser, "The tunnel is up");
    lab.wait_for_tunnel(1);
    browser.open(&format!("http://{HOST}/"));
    shows(&browser, "The tunnel is up");
    // This gateway wants a new sign-in after every drop.
    lab.gateway.kick_tunnels(CloseStyle::Reset);
    browser.open(&page);
    shows(&browser, "Waiting for a sign-in");
    shows(&browser, "the connection was reset");
    browser.screenshots("devices");
}

/// Carries connections to the in-tunnel host through the tunnel of `client`, as long as the process lives.
fn relay_to_host(relay: &TcpListener, client: &Arc<Client>) {
    for stream in relay.incoming() {
        let (mut stream, client) = (stream.unwrap(), Arc::clone(client));
        std::thread::spawn(move || -> io::Result<()> {
            stream.set_read_timeout(Some(Duration::from_millis(200)))?;
            let mut request = Vec::new();
            let mut piece = [0; 16 * 1024];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                request.extend_from_slice(&piece[..count]);
            }
            let up = client.tcp_connect(SocketAddr::new(HOST.into(), 80)).map_err(io::Error::other)?;
            (&up).write_all(&request)?;
            let mut response = Vec::new();
            (&up).read_to_end(&mut response)?;
            stream.write_all(&response)
        });
    }
}
