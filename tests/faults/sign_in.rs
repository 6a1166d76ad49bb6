//! F12 to F17, F44, B8 to B11: signing in.

use std::process::Command;
use std::time::Duration;

use pterodapter::crypto::Secret;
use pterodapter::demo::gateway::{
    AnswerFault, CloseStyle, CookieStyle, Decision, DenyMode, Event, Factor, FactorOutcome, Fault, FormStyle,
    HostCheck, IdentityProvider, LoginOutcome, Scenario, User,
};
use pterodapter::engine::{Submission, Uplink};
use pterodapter::fortivpn::{Answer, Credentials, QuestionKind};

use super::lab::{PASSWORD, Setup, eventually, password};
use super::*;

const CODE: &str = "482913";
const TRADE: &str = "/remote/saml/auth_id";
const HOST_CHECK: &str = "/remote/hostcheck_install";

fn text(text: &str) -> Answer {
    Answer::Text(Secret::from(text.as_bytes()))
}

/// Alice, who has these factors.
fn alice(factors: impl IntoIterator<Item = Factor>) -> Setup {
    let alice = factors.into_iter().fold(User::new("alice", PASSWORD), User::with_factor);
    Setup { users: vec![alice], ..Setup::default() }
}

fn outcomes(lab: &Lab) -> Vec<FactorOutcome> {
    let outcome = |event| match event {
        Event::SecondFactor { outcome, .. } => Some(outcome),
        _ => None,
    };
    lab.gateway.journal().into_iter().filter_map(|entry| outcome(entry.event)).collect()
}

fn violations(lab: &Lab) -> usize {
    lab.count(|event| matches!(event, Event::Violation(_)))
}

/// The tunnel is up and packets flow.
fn comes_up(lab: &Lab) {
    let device = device(lab);
    lab.wait_for_tunnel(1);
    flows(lab, &device);
    assert_eq!(violations(lab), 0, "{:?}", lab.gateway.journal());
}

/// The daemon has failed and leaves the gateway alone.
fn stays_failed(lab: &Lab, words: &str) {
    lab.wait_for_failure(words);
    std::thread::sleep(Duration::from_millis(200));
    let before = lab.gateway.journal().len();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(lab.gateway.journal().len(), before, "{:?}", lab.gateway.journal());
}

#[test]
fn f12_a_denial_is_sent_once_whatever_it_looks_like() {
    let modes = [
        (DenyMode::Body, "refused the sign-in"),
        (DenyMode::Status405, "refused the sign-in"),
        (DenyMode::Status403, "refused the sign-in"),
        (DenyMode::EmptyCookie, "refused the sign-in"),
        (DenyMode::Redirect, "refused the sign-in"),
    ];
    let codes = [
        ("sslvpn_login_permission_denied", "refused the sign-in"),
        ("sslvpn_login_password_expired", "password has expired"),
        ("sslvpn_login_unknown_user", "does not know this user"),
        ("sslvpn_login_no_matching_policy", "no policy"),
        ("something_new", "refused the sign-in"),
    ];
    let modes = modes.map(|(deny_mode, words)| (Scenario { deny_mode, ..Scenario::default() }, words));
    let codes = codes.map(|(deny_error, words)| (Scenario { deny_error, ..Scenario::default() }, words));
    each(modes.into_iter().chain(codes), |(scenario, words)| {
        let lab = fails(Setup { credentials: password("wrong"), ..Setup::of(scenario) }, words);
        assert_eq!((lab.posts(), lab.requests(CONFIG)), (1, 0));
        // Devices connect all the same, and cause nothing.
        device(&lab);
        assert_eq!(lab.posts(), 1);
    });
    // Also to the right password.
    let lab = fails(Setup::of(Scenario { deny_all: true, ..Scenario::default() }), "refused the sign-in");
    assert_eq!(lab.posts(), 1);
    let lab = fails(
        Setup::of(Scenario { refused_user_agent: Some("SV1".into()), ..Scenario::default() }),
        "refused the sign-in",
    );
    assert_eq!(lab.posts(), 1);
}

#[test]
fn f12_a_refused_password_is_asked_for_again_when_a_person_says_so_and_a_lockout_is_told() {
    let lab = fails(Setup { credentials: password("wrong"), ..Setup::default() }, "refused the sign-in");
    assert_eq!(lab.posts(), 1);
    lab.submit(Submission::Retry);
    let question = lab.question();
    assert_eq!((question.kind, question.again), (QuestionKind::Password, true));
    assert_eq!(lab.posts(), 1, "nothing is sent before there is a password");
    lab.answer(&question, text("wrong too"));
    eventually(Duration::from_secs(10), "it is tried", || lab.posts() == 2);
    stays_failed(&lab, "wait a minute");
    // The double blocks the address for a minute now: the right one is refused, and not repeated.
    lab.submit(Submission::Retry);
    let question = lab.question();
    lab.answer(&question, text(PASSWORD));
    eventually(Duration::from_secs(10), "it is tried", || lab.posts() == 3);
    stays_failed(&lab, "too many failed");
    let locked = |event: &Event| matches!(event, Event::Login { outcome: LoginOutcome::LockedOut, .. });
    assert_eq!((lab.posts(), lab.count(locked)), (3, 1));
    // A minute later.
    lab.gateway.restart(Duration::ZERO);
    std::thread::sleep(Duration::from_secs(1));
    lab.submit(Submission::Retry);
    let question = lab.question();
    lab.answer(&question, text(PASSWORD));
    comes_up(&lab);
    assert_eq!(lab.posts(), 4);
}

#[test]
fn f12_an_accepted_password_signs_in_again_once_after_a_drop() {
    let lab = works(Setup::default());
    lab.gateway.set_scenario(Scenario { deny_all: true, ..Scenario::default() });
    lab.gateway.kick_tunnels(CloseStyle::Fin);
    stays_failed(&lab, "refused the sign-in");
    assert_eq!(lab.posts(), 2);
}

#[test]
fn f13_pushes_approved_denied_and_forgotten() {
    let soon = Duration::from_millis(1500);
    let lab = Lab::start(alice([Factor::push(Decision::Approve, soon)]));
    comes_up(&lab);
    assert_eq!((lab.posts(), outcomes(&lab)), (2, vec![FactorOutcome::Accepted]));

    let cases = [(Decision::Deny, FactorOutcome::PushDenied), (Decision::Never, FactorOutcome::TimedOut)];
    each(cases, |(decision, outcome)| {
        let push_timeout = Duration::from_secs(2);
        let scenario = Scenario { push_timeout, ..Scenario::default() };
        let lab = Lab::start(Setup { scenario, ..alice([Factor::push(decision, soon)]) });
        stays_failed(&lab, "not confirmed on the phone");
        assert_eq!((lab.posts(), outcomes(&lab)), (2, vec![outcome]), "asked once");
    });
}

#[test]
fn b09_push_is_approved() {
    let soon = Duration::from_millis(100);
    let pushes = [
        Factor::push(Decision::Approve, soon),
        Factor::remote_push(Decision::Approve, soon),
        Factor::push(Decision::Approve, soon).or_code(CODE),
    ];
    each(pushes, |push| {
        let lab = Lab::start(alice([push]));
        comes_up(&lab);
        assert_eq!((lab.posts(), outcomes(&lab)), (2, vec![FactorOutcome::Accepted]));
    });
}

#[test]
fn b09_a_code_in_place_of_the_push() {
    let push = Factor::push(Decision::Never, Duration::ZERO).or_code(CODE);
    let mut setup = alice([push]);
    setup.configure = Box::new(|config| config.uplink.push = false);
    let lab = Lab::start(setup);
    let question = lab.question();
    assert_eq!(question.kind, QuestionKind::Code { push: true });
    lab.answer(&question, text(CODE));
    comes_up(&lab);
    assert_eq!((lab.posts(), outcomes(&lab)), (2, vec![FactorOutcome::Accepted]));
}

#[test]
fn b09_codes_of_every_kind() {
    let cases = [
        (Factor::code(CODE), QuestionKind::Code { push: false }, None),
        (Factor::email("a***@corp.example", CODE), QuestionKind::EmailCode, Some("a***@corp.example")),
        (Factor::sms("+49 *** 89", CODE), QuestionKind::SmsCode, Some("+49 *** 89")),
        (Factor::challenge(CODE), QuestionKind::Challenge, None),
        (Factor::form(CODE), QuestionKind::Code { push: false }, None),
    ];
    each(cases, |(factor, kind, sent_to)| {
        // In a realm, which has to be in every round.
        let user = User::new("alice", PASSWORD).in_realm("staff").with_factor(factor);
        let lab = Lab::start(Setup {
            users: vec![user],
            configure: Box::new(|config| config.uplink.realm = Some("staff".into())),
            ..Setup::default()
        });
        let question = lab.question();
        assert_eq!((question.kind, question.sent_to.as_deref(), question.again), (kind, sent_to, false));
        assert!(!question.text.is_empty());
        assert_eq!(lab.posts(), 1);
        lab.answer(&question, text(CODE));
        comes_up(&lab);
        assert_eq!((lab.posts(), outcomes(&lab)), (2, vec![FactorOutcome::Accepted]));
    });
}

#[test]
fn b09_two_codes_of_a_drifting_token() {
    let lab = Lab::start(alice([Factor::drift("111111", "222222")]));
    let question = lab.question();
    assert_eq!(question.kind, QuestionKind::TwoCodes);
    let codes = ["111111", "222222"].map(|code| Secret::from(code.as_bytes()));
    let [first, second] = codes;
    lab.answer(&question, Answer::TwoCodes(first, second));
    comes_up(&lab);
    assert_eq!((lab.posts(), outcomes(&lab)), (2, vec![FactorOutcome::Accepted]));
}

#[test]
fn b09_a_new_sign_in_after_a_drop_asks_for_a_new_code() {
    let lab = Lab::start(alice([Factor::codes(&[CODE, "777777"])]));
    lab.answer(&lab.question(), text(CODE));
    comes_up(&lab);
    lab.gateway.kick_tunnels(CloseStyle::Fin);
    let question = lab.question();
    assert_eq!((lab.posts(), lab.state().uplink), (3, Uplink::Waiting), "the used code is not sent again");
    lab.answer(&question, text("777777"));
    lab.wait_for_tunnel(2);
    flows(&lab, &device(&lab));
    assert_eq!(lab.posts(), 4);
}

#[test]
fn f14_a_wrong_code_then_the_right_one() {
    let lab = Lab::start(alice([Factor::code(CODE).tries(2)]));
    lab.answer(&lab.question(), text("000000"));
    let question = lab.question();
    assert!(question.again);
    lab.answer(&question, text(CODE));
    comes_up(&lab);
    assert_eq!((lab.posts(), outcomes(&lab)), (3, vec![FactorOutcome::AskedAgain, FactorOutcome::Accepted]));
    // Where the gateway gives no second try, a person has to start anew.
    let lab = Lab::start(alice([Factor::code(CODE)]));
    lab.answer(&lab.question(), text("000000"));
    stays_failed(&lab, "one-time code");
    assert_eq!((lab.posts(), outcomes(&lab)), (2, vec![FactorOutcome::Refused]));
    lab.submit(Submission::Retry);
    lab.answer(&lab.question(), text(CODE));
    comes_up(&lab);
    assert_eq!(lab.posts(), 4);
}

#[test]
fn f14_rounds_one_after_the_other_and_not_for_ever() {
    let factors = [Factor::code("1"), Factor::challenge("2").prompted("Colour?"), Factor::form("3")];
    let lab = Lab::start(alice(factors));
    for answer in ["1", "2", "3"] {
        lab.answer(&lab.question(), text(answer));
    }
    comes_up(&lab);
    assert_eq!(lab.posts(), 4);

    let lab = Lab::start(alice((0..50).map(|_| Factor::challenge("yes"))));
    for _ in 0..10 {
        lab.answer(&lab.question(), text("yes"));
    }
    stays_failed(&lab, "one question after the other");
    assert_eq!(lab.posts(), 11);
}

#[test]
fn f14_the_words_of_a_question_are_made_fit_to_be_shown() {
    let cases = [
        ("Enter, please, your code=now,ret=1", "Enter, please, your code=now,ret=1"),
        ("Tom & Jerry&reqid=1", "Tom & Jerry&reqid=1"),
        ("Bitte Zahl eingeben: größer ☃", "Bitte Zahl eingeben: größer ☃"),
        ("\u{1b}[2J\u{1b}]0;owned\u{7}Code\u{9b}1m\u{202e}!", "Code"),
    ];
    each(cases, |(words, part)| {
        let lab = Lab::start(alice([Factor::challenge(CODE).prompted(words)]));
        let question = lab.question();
        assert!(question.text.contains(part), "{:?}", question.text);
        assert!(!question.text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{:?}", question.text);
        lab.answer(&question, text(CODE));
        comes_up(&lab);
        assert_eq!(lab.posts(), 2);
    });
}

#[test]
fn f15_a_password_that_expires_is_kept_or_changed_as_is_wanted() {
    // Skipped without a word to anyone.
    let lab = Lab::start(alice([Factor::renewal().skippable()]));
    comes_up(&lab);
    assert_eq!((lab.posts(), outcomes(&lab)), (2, vec![FactorOutcome::Skipped]));

    let choosing = |factor: Factor| Setup {
        configure: Box::new(|config| config.uplink.keep_password = false),
        ..alice([factor])
    };
    let lab = Lab::start(choosing(Factor::renewal().skippable()));
    let question = lab.question();
    assert_eq!(question.kind, QuestionKind::NewPassword { may_skip: true });
    lab.answer(&question, Answer::Skip);
    comes_up(&lab);
    assert_eq!(outcomes(&lab), [FactorOutcome::Skipped]);

    // Changed, at the second try; it is the password from then on.
    each([true, false], |skippable| {
        let factor = if skippable { Factor::renewal().skippable() } else { Factor::renewal() };
        let lab = Lab::start(choosing(factor));
        let question = lab.question();
        assert_eq!(question.kind, QuestionKind::NewPassword { may_skip: skippable });
        lab.answer(&question, text("short"));
        let question = lab.question();
        assert!(question.again && question.text.contains("policy"), "{question:?}");
        lab.answer(&question, text("a longer one"));
        comes_up(&lab);
        assert_eq!(outcomes(&lab), [FactorOutcome::AskedAgain, FactorOutcome::Accepted]);
        lab.gateway.kick_tunnels(CloseStyle::Fin);
        lab.answer(&lab.question(), text("another new one"));
        lab.wait_for_tunnel(2);
    });
}

#[test]
fn f16_the_form_of_a_page_in_every_spelling() {
    each([FormStyle::Usual, FormStyle::Odd], |form_style| {
        let lab = Lab::start(Setup {
            scenario: Scenario { form_style, ..Scenario::default() },
            ..alice([Factor::form(CODE)])
        });
        let question = lab.question();
        assert_eq!(question.text, "Please enter your token code");
        lab.answer(&question, text(CODE));
        comes_up(&lab);
        assert_eq!(lab.posts(), 2);
    });
    let scenario = Scenario { form_style: FormStyle::Missing, ..Scenario::default() };
    let lab = Lab::start(Setup { scenario, ..alice([Factor::form(CODE)]) });
    lab.wait_for_failure("");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(lab.posts(), 1);
}

#[test]
fn f04_the_answer_to_a_question_is_repeated_only_if_none_of_it_was_sent() {
    // The gateway has closed the connection while the person was thinking.
    let scenario = Scenario { close_after_answer: true, ..Scenario::default() };
    let lab = Lab::start(Setup { scenario, ..alice([Factor::code(CODE)]) });
    let question = lab.question();
    std::thread::sleep(Duration::from_millis(300));
    lab.answer(&question, text(CODE));
    comes_up(&lab);
    assert_eq!(lab.posts(), 2);
    each([Fault::Close, Fault::Reset, Fault::Lost], |what| {
        let scenario = faulty([AnswerFault::on(LOGIN, what).after(1)]);
        let lab = Lab::start(Setup { scenario, ..alice([Factor::code(CODE)]) });
        lab.answer(&lab.question(), text(CODE));
        stays_failed(&lab, "it was not repeated");
        assert_eq!(lab.posts(), 2);
    });
}

#[test]
fn b08_a_denial_after_the_second_factor_is_told() {
    each([DenyMode::Body, DenyMode::Status405, DenyMode::EmptyCookie], |deny_mode| {
        let scenario = Scenario { deny_mode, ..Scenario::default() };
        let lab = Lab::start(Setup { scenario, ..alice([Factor::code(CODE)]) });
        lab.answer(&lab.question(), text("000000"));
        stays_failed(&lab, "one-time code");
        assert_eq!((lab.posts(), outcomes(&lab)), (2, vec![FactorOutcome::Refused]));
    });
}

#[test]
fn b10_host_checks_are_passed_or_told() {
    let lab = works(Setup::of(Scenario { host_check: HostCheck::Hop, ..Scenario::default() }));
    assert_eq!((lab.posts(), lab.requests(HOST_CHECK)), (1, 1));
    each([HostCheck::Form, HostCheck::Fail], |host_check| {
        let lab = fails(Setup::of(Scenario { host_check, ..Scenario::default() }), "host check");
        assert_eq!((lab.posts(), lab.requests(HOST_CHECK)), (1, 1));
    });
    let with_values = |host_check| Setup {
        configure: Box::new(|config| {
            let (hostcheck, virtual_desktop) = ("0100".into(), "0".into());
            config.uplink.host_check =
                Some(pterodapter::fortivpn::HostCheckValues { hostcheck, virtual_desktop });
        }),
        ..Setup::of(Scenario { host_check, ..Scenario::default() })
    };
    let lab = works(with_values(HostCheck::Form));
    assert_eq!((lab.posts(), violations(&lab)), (2, 0));
    let lab = fails(with_values(HostCheck::Fail), "");
    assert_eq!(lab.posts(), 2);
}

#[test]
fn f44_a_host_check_without_end_ends() {
    let lab = fails(Setup::of(Scenario { host_check: HostCheck::Loop, ..Scenario::default() }), "host check");
    assert_eq!((lab.posts(), lab.requests(HOST_CHECK)), (1, 2));
}

/// A browser that signs in; gives the page at which it ends.
fn browse(lab: &Lab, url: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--location", "--max-time", "30", url])
        .output()
        .unwrap();
    let _ = lab;
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn by_browser(scenario: Scenario) -> Lab {
    Lab::start(Setup { credentials: Credentials::Saml, ..Setup::of(scenario) })
}

/// True if there is no browser. On CI there must be one.
fn no_browser() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "curl is missing");
    if !found {
        println!("skipped: curl is not installed");
    }
    !found
}

#[test]
fn b11_the_browser_signs_in() {
    if no_browser() {
        return;
    }
    each([HostCheck::Off, HostCheck::Hop], |host_check| {
        let lab = by_browser(Scenario { host_check, ..Scenario::default() });
        let link = lab.link();
        assert!(link.ends_with("/remote/saml/start?redirect=1"), "{link}");
        browse(&lab, &link);
        comes_up(&lab);
        assert_eq!((lab.posts(), lab.requests(TRADE)), (0, 1));
    });
}

#[test]
fn f17_a_trade_that_fails_asks_for_a_new_sign_in() {
    if no_browser() {
        return;
    }
    let trade = |what: Fault| faulty([AnswerFault::on(TRADE, what).times(1)]);
    let cases = [
        trade(Fault::status(403)),
        trade(Fault::Cookie(CookieStyle::Missing)),
        trade(Fault::Cookie(CookieStyle::Zero)),
        trade(Fault::Close),
        trade(Fault::Lost),
        Scenario { saml_id_lifetime: Duration::ZERO, ..Scenario::default() },
    ];
    each(cases, |scenario| {
        let lab = by_browser(scenario);
        browse(&lab, &lab.link());
        let again = lab.link();
        assert_eq!((lab.requests(TRADE), lab.tunnels()), (1, 0), "an id is traded once");
        let scenario = Scenario { saml_port: lab.gateway.scenario().saml_port, ..Scenario::default() };
        lab.gateway.set_scenario(scenario);
        browse(&lab, &again);
        comes_up(&lab);
        assert_eq!((lab.posts(), lab.requests(TRADE)), (0, 2));
    });
}

#[test]
fn f17_a_slow_trade_and_one_that_stays_open_do_not_hang() {
    if no_browser() {
        return;
    }
    each([Fault::Delay(Duration::from_secs(3)), Fault::KeptOpen], |what| {
        let lab = by_browser(fault(TRADE, what));
        browse(&lab, &lab.link());
        comes_up(&lab);
        assert_eq!((lab.posts(), lab.requests(TRADE)), (0, 1));
    });
}

#[test]
fn f17_a_used_id_changes_nothing() {
    if no_browser() {
        return;
    }
    let lab = by_browser(Scenario::default());
    browse(&lab, &lab.link());
    comes_up(&lab);
    let id = "6c1f0a9e-5d1b-4b4e-9e60-0b6d2a2f9b11";
    lab.submit(Submission::Pasted(Secret::from(id.as_bytes())));
    let port = lab.gateway.scenario().saml_port;
    browse(&lab, &format!("http://127.0.0.1:{port}/?id={id}"));
    std::thread::sleep(Duration::from_millis(500));
    flows(&lab, &device(&lab));
    assert_eq!((lab.tunnels(), lab.requests(TRADE)), (1, 1));
}

#[test]
fn b11_an_identity_provider_that_refuses_leaves_the_link_open() {
    if no_browser() {
        return;
    }
    let identity_provider = IdentityProvider::Refuse;
    let lab = by_browser(Scenario { identity_provider, ..Scenario::default() });
    let link = lab.link();
    assert!(browse(&lab, &link).contains("Access denied"));
    let scenario = Scenario { saml_port: lab.gateway.scenario().saml_port, ..Scenario::default() };
    lab.gateway.set_scenario(scenario);
    browse(&lab, &link);
    comes_up(&lab);
    assert_eq!(lab.requests(TRADE), 1);
}

#[test]
fn b02_a_certificate_alone_is_enough_for_its_user() {
    let authority = pterodapter::provision::Authority::new("PKI users", crate::common::wall(), 2).unwrap();
    let issued = authority.issue_client("alice", crate::common::wall(), 2).unwrap();
    let user = User::new("alice", "").with_certificate("alice");
    let lab = Lab::start(Setup {
        users: vec![user],
        credentials: Credentials::Certificate,
        scenario: Scenario {
            tls: pterodapter::demo::gateway::TlsKnobs {
                client_certificate: pterodapter::demo::gateway::ClientCertificate::Required(
                    authority.cert_pem().into(),
                ),
                ..Default::default()
            },
            ..Scenario::default()
        },
        configure: Box::new(move |config| config.transport.client = Some(client(&issued))),
        ..Setup::default()
    });
    comes_up(&lab);
    assert_eq!((lab.posts(), lab.requests("/remote/login")), (0, 1));
}

fn client(issued: &pterodapter::provision::Issued) -> pterodapter::engine::ClientCertificate {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    pterodapter::engine::ClientCertificate {
        chain: vec![CertificateDer::from(issued.cert_der.clone())],
        key: PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
    }
}

/// Signs in elsewhere; the cookie.
fn cookie_from_elsewhere(lab: &Lab) -> String {
    let login = format!("https://{}{LOGIN}", lab.gateway.addr());
    let form = format!("username=alice&credential={}&realm=&ajax=1", PASSWORD.replace(' ', "%20"));
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--include", "--data", &form, &login])
        .output()
        .unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    let line = answer.lines().find(|line| line.contains("SVPNCOOKIE=")).unwrap();
    line.split_once("SVPNCOOKIE=").unwrap().1.split(';').next().unwrap().to_owned()
}

#[test]
fn f21_a_cookie_from_elsewhere_opens_a_tunnel_and_a_dead_one_is_told() {
    if no_browser() {
        return;
    }
    let forms: [fn(&str) -> String; 4] = [
        |cookie| cookie.to_owned(),
        |cookie| format!("SVPNCOOKIE={cookie}; path=/; secure; httponly\r\n"),
        |cookie| format!("\"SVPNCOOKIE={cookie}\"\n"),
        |cookie| format!("Set-Cookie: SVPNCOOKIE={cookie}"),
    ];
    each(forms.into_iter().enumerate(), |(number, form)| {
        let dead = Credentials::Cookie(Secret::from(&b"ZGVhZA==%0a"[..]));
        let lab = fails(Setup { credentials: dead, ..Setup::default() }, "refuses the cookie");
        assert_eq!((lab.posts(), lab.requests(CONFIG)), (0, 1));
        let cookie = form(&cookie_from_elsewhere(&lab));
        // A bare value may be anything, so a person has to say that it is a cookie.
        let cookie = if number == 0 { format!("SVPNCOOKIE={cookie}") } else { cookie };
        lab.submit(Submission::Pasted(Secret::from(cookie.as_bytes())));
        comes_up(&lab);
        // Its end is nothing that can be got over without a person.
        lab.gateway.kick_tunnels(CloseStyle::Terminate);
        lab.wait_for_failure("is over");
        assert_eq!(lab.posts(), 1, "that was the one elsewhere");
    });
}
