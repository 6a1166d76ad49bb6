//! F04 to F11: HTTP.

use std::time::Duration;

use pterodapter::demo::gateway::{AnswerFault, CookieStyle, Fault, Framing, Scenario};

use super::lab::{Lab, Setup};
use super::*;

#[test]
fn f04_a_closed_connection_costs_a_get_one_silent_repetition() {
    let scenarios = [
        Scenario { close_after_answer: true, ..Scenario::default() },
        fault("*", Fault::ClosedSilently),
        once(CONFIG, Fault::Close),
        once(CONFIG, Fault::Reset),
        once(CONFIG, Fault::Lost),
    ];
    each(scenarios, |scenario| {
        let lab = works(Setup::of(scenario));
        assert_eq!((lab.posts(), lab.tunnels()), (1, 1));
        assert!(lab.requests(CONFIG) <= 2);
        assert_eq!(lab.errors(), Vec::<String>::new(), "silent");
    });
}

#[test]
fn f04_credentials_without_an_answer_are_not_sent_again() {
    each([Fault::Close, Fault::Reset, Fault::Lost], |what| {
        let lab = fails(Setup::of(once(LOGIN, what)), "it was not repeated");
        assert_eq!(lab.posts(), 1);
    });
}

#[test]
fn f05_slow_long_and_endless_answers() {
    let slow = Fault::Dribble(Duration::from_millis(2));
    each([LOGIN, CONFIG], |path| {
        let lab = works(Setup::of(fault(path, slow.clone())));
        assert_eq!(lab.posts(), 1);
    });
    let cases = [
        (LOGIN, Fault::Padding(65_536), "HTTP head is longer"),
        (LOGIN, Fault::EndlessHead, "HTTP head is longer"),
        (LOGIN, Fault::EndlessBody, "HTTP body is longer"),
        (CONFIG, Fault::Padding(65_536), "HTTP head is longer"),
        (CONFIG, Fault::EndlessHead, "HTTP head is longer"),
        (CONFIG, Fault::EndlessBody, "HTTP body is longer"),
        (TUNNEL, Fault::page(403, "text/html", &"x".repeat(2 << 20)), "refuses the tunnel"),
    ];
    each(cases, |(path, what, words)| {
        let lab = fails(Setup::of(fault(path, what)), words);
        assert_eq!(lab.posts(), 1);
    });
}

#[test]
fn f06_chunks_as_fortigates_send_them() {
    let usual = Scenario::default;
    let scenarios = [
        Scenario { chunk_padding: true, ..usual() },
        Scenario { chunk_padding: false, ..usual() },
        Scenario { doubled_last_chunk: true, ..usual() },
        fault("*", Fault::Framing(Framing::UpperCase)),
        fault("*", Fault::Framing(Framing::Extension)),
        fault("*", Fault::Framing(Framing::Length)),
    ];
    each(scenarios, |scenario| {
        let lab = works(Setup::of(scenario));
        assert_eq!((lab.posts(), lab.requests(CONFIG), lab.requests(TUNNEL)), (1, 1, 1));
    });
}

#[test]
fn f07_malformed_chunks_end_in_an_error() {
    let sizes = ["zz", "", "-1", "0x10", "10000000000000000000", "fffffffffffffff0"];
    let malformed = sizes.map(|size| Fault::Framing(Framing::BadSize(size)));
    each([LOGIN, CONFIG].into_iter().flat_map(|path| malformed.clone().map(|what| (path, what))), |case| {
        let (path, what) = case;
        let lab = fails(Setup::of(fault(path, what)), "HTTP");
        assert_eq!(lab.posts(), 1);
    });
    let cut = Fault::Framing(Framing::NoLastChunk);
    let lab = fails(Setup::of(fault(LOGIN, cut.clone())), "it was not repeated");
    assert_eq!(lab.posts(), 1);
    // A GET may be sent again, after a while.
    let lab = works(Setup::of(once(CONFIG, cut)));
    assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 2));
}

#[test]
fn f08_a_body_may_end_with_the_connection() {
    each([Framing::UntilClose, Framing::UntilCut], |framing| {
        let lab = works(Setup::of(fault("*", Fault::Framing(framing))));
        assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 1));
    });
}

#[test]
fn f09_a_compressed_body_is_a_clear_error() {
    each([LOGIN, CONFIG], |path| {
        let lab = fails(Setup::of(fault(path, Fault::Gzip)), "compressed");
        assert_eq!(lab.posts(), 1);
    });
}

#[test]
fn f10_the_cookie_is_found_however_it_is_set() {
    use CookieStyle::*;
    let styles = [LowerCase, TwoSpaces, NoSemicolon, SameSite, ClearingFirst, ClearingLast, Lookalikes];
    let scenarios = styles.map(|style| fault(LOGIN, Fault::Cookie(style)));
    let lengths = [16, 4096].map(|cookie_length| Scenario { cookie_length, ..Scenario::default() });
    each(scenarios.into_iter().chain(lengths), |scenario| {
        let lab = works(Setup::of(scenario));
        assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 1));
    });
    each([Zero, Missing], |style| {
        let lab = fails(Setup::of(fault(LOGIN, Fault::Cookie(style))), "refused the sign-in");
        assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 0));
    });
}

#[test]
fn f11_redirects_lead_nowhere_and_no_secret_leaves_the_gateway() {
    let other = Lab::start(Setup { credentials: super::lab::password("wrong"), ..Setup::default() });
    other.wait_for_failure("refused");
    let before = other.gateway.journal().len();
    let elsewhere = other.gateway.addr();
    let cases = [
        (LOGIN, format!("https://{elsewhere}{LOGIN}"), "another host"),
        (LOGIN, format!("https://{elsewhere}/remote/hostcheck_install?a=1"), "another host"),
        (LOGIN, format!("//{elsewhere}/remote/login"), "another host"),
        (LOGIN, format!("http://{elsewhere}/remote/hostcheck_install"), "another host"),
        (LOGIN, LOGIN.to_owned(), "status 302"),
        (LOGIN, "/remote/login?lang=en".to_owned(), "refused the sign-in"),
        (CONFIG, format!("https://{elsewhere}{CONFIG}"), "refuses the session"),
        (CONFIG, CONFIG.to_owned(), "refuses the session"),
        (TUNNEL, format!("https://{elsewhere}{TUNNEL}"), "refuses the tunnel"),
    ];
    each(cases, |(path, location, words)| {
        let lab = fails(Setup::of(fault(path, Fault::redirect(&location))), words);
        assert_eq!(lab.posts(), 1);
    });
    let loops = [
        AnswerFault::on(LOGIN, Fault::redirect("/remote/hostcheck_install?a=1")),
        AnswerFault::on("/remote/hostcheck_install", Fault::redirect("/remote/hostcheck_install?a=1")),
    ];
    let lab = fails(Setup::of(faulty(loops)), "host check");
    assert_eq!((lab.posts(), lab.requests("/remote/hostcheck_install")), (1, 2));
    assert_eq!(other.gateway.journal().len(), before, "the other host was not even connected to");
}
