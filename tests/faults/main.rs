//! The whole daemon against everything that a FortiGate, or what pretends to be one, does on good and on bad days.
//!
//! Numbers are those of the gateway double (`demo::gateway::Scenario`). In every case the tunnel comes back and
//! packets flow, or the daemon stops with one sentence that says what to do; and the gateway's journal shows that no
//! secret was sent once more than it may be. F41 is DTLS, which there is not: the tunnel is TLS only.
//!
//! | | outcome | tests (here, in `tests/transport.rs` and in `tests/page.rs`) |
//! |---|---|---|
//! | B01 | the realm that was given is signed in to; a wrong one is told | `b01_the_account_is_in_the_realm_that_was_given_whatever_the_entry_looks_like` |
//! | B02 | not needed for a password; enough for a certificate alone | `b02_the_login_page_is_not_needed_for_a_password`, `b02_a_certificate_alone_is_enough_for_its_user` |
//! | B03 | not asked for | `b03_the_plain_form_is_enough_and_nothing_is_probed` |
//! | B04 | no GET has a body or a length | `b04_a_get_has_no_body_and_no_length` |
//! | B05 | every character of a password arrives | `b05_every_character_of_a_password_arrives` |
//! | B06 | sent back as it came | `b06_the_cookie_is_sent_back_as_it_came` |
//! | B07 | the cookie counts | `b07_success_is_the_cookie_whatever_the_body_says` |
//! | B08 | told, with the step that was refused | `b08_a_denial_after_the_second_factor_is_told` |
//! | B09 | every factor is asked for in its way and answered in the gateway's | `b09_push_is_approved`, `b09_a_code_in_place_of_the_push`, `b09_codes_of_every_kind`, `b09_two_codes_of_a_drifting_token`, `b09_a_new_sign_in_after_a_drop_asks_for_a_new_code` |
//! | B10 | passed, or told | `b10_a_session_elsewhere_is_told`, `b10_host_checks_are_passed_or_told` |
//! | B11 | the link is shown until the browser has signed in | `b11_the_browser_signs_in`, `b11_an_identity_provider_that_refuses_leaves_the_link_open` |
//! | B12 | not asked for | `b12_portal_pages_do_not_matter` |
//! | B13 | both families asked for, IPv4 taken | `b13_the_configuration_is_asked_for_both_families_and_taken_for_ipv4` |
//! | B14 | in order and in time; a gateway too slow for itself is told | `b14_the_tunnel_follows_the_configuration_in_time` |
//! | B15 | negotiated, and no frame was out of place | `b15_ppp_as_fortigates_speak_it` |
//! | B16 | ping, UDP, DNS, TCP, HTTP | `b16_everything_behind_the_gateway_is_reached` |
//! | B17 | no foreign source | `b17_no_packet_leaves_with_another_source_than_the_assigned_one` |
//! | B18 | a new sign-in | `b18_timeouts_in_every_style_are_got_over` |
//! | B19 | the cookie is used again | `b19_a_second_tunnel_on_one_cookie_after_silence` |
//! | B20 | Terminate, then logout | `b20_the_end_is_terminate_then_logout` |
//! | B21 | any cut | `b21_records_may_be_cut_anywhere` |
//! | B22 | pins, names, versions, client certificates | `b22_pins_stand_for_certificates_of_every_kind`, `b22_certificates_that_nobody_vouches_for_are_explained`, `b22_the_name_to_look_for_can_be_given`, `b22_versions_and_groups`, `b22_client_certificates` |
//! | B23 | only known paths | `b23_only_known_paths_and_methods_are_asked_for` |
//! | B24 | PPP is tried all the same | `b24_a_gateway_that_lists_no_ppp_is_tried_with_ppp` |
//! | F01 | handshake given up after its time; tried again for ever, a minute apart at most; nothing is sent | `f01_a_gateway_that_is_away_is_tried_for_ever_and_nothing_is_sent`, `f01_a_gateway_without_a_word_is_left_after_a_while` |
//! | F02 | tried again; what cannot be agreed on is told | `f02_handshakes_that_break_are_tried_again`, `f02_what_cannot_be_agreed_on_is_told` |
//! | F03 | an error that nothing was sent with; a person decides | `f03_a_pin_that_does_not_fit_ends_everything_before_a_word`, `f03_a_certificate_that_changes_under_way_gets_no_cookie`, `f03_a_pinned_certificate_without_its_key_is_worth_nothing` |
//! | F04 | a GET is repeated once, silently; credentials and answers only if none of it was sent, else "it was not repeated" | `f04_a_closed_connection_costs_a_get_one_silent_repetition`, `f04_credentials_without_an_answer_are_not_sent_again`, `f04_the_answer_to_a_question_is_repeated_only_if_none_of_it_was_sent` |
//! | F05 | slow ones work; long and endless ones are bounded errors | `f05_slow_long_and_endless_answers` |
//! | F06 | work | `f06_chunks_as_fortigates_send_them` |
//! | F07 | "HTTP ..." errors; a GET that was cut is tried again | `f07_malformed_chunks_end_in_an_error` |
//! | F08 | works | `f08_a_body_may_end_with_the_connection` |
//! | F09 | "compressed" error | `f09_a_compressed_body_is_a_clear_error` |
//! | F10 | the cookie is found; an empty one, `0` and none are denials | `f10_the_cookie_is_found_however_it_is_set` |
//! | F11 | errors; the other host is not even connected to | `f11_redirects_lead_nowhere_and_no_secret_leaves_the_gateway` |
//! | F12 | an error by its code, one attempt; asked for again after a person said so; a lockout is told | `f12_a_denial_is_sent_once_whatever_it_looks_like`, `f12_a_refused_password_is_asked_for_again_when_a_person_says_so_and_a_lockout_is_told`, `f12_an_accepted_password_signs_in_again_once_after_a_drop` |
//! | F13 | approved after 0.1 to 115 s: works; denied and forgotten: errors; one attempt | `f13_a_push_that_is_approved_after_55_s_works`, `f13_a_push_that_nobody_approves_is_told_in_time`, `f13_pushes_approved_denied_and_forgotten` |
//! | F14 | asked again, ten rounds at most; words are made fit to be shown | `f14_a_wrong_code_then_the_right_one`, `f14_rounds_one_after_the_other_and_not_for_ever`, `f14_the_words_of_a_question_are_made_fit_to_be_shown` |
//! | F15 | skipped, kept or changed as is wanted; the new password is the password from then on | `f15_a_password_that_expires_is_kept_or_changed_as_is_wanted` |
//! | F16 | works; a missing form is an error | `f16_the_form_of_a_page_in_every_spelling` |
//! | F17 | a new link; no hang; a used id changes nothing | `f17_a_trade_that_takes_20_s_works_and_one_that_takes_for_ever_does_not_hang`, `f17_a_trade_that_fails_asks_for_a_new_sign_in`, `f17_a_slow_trade_and_one_that_stays_open_do_not_hang`, `f17_a_used_id_changes_nothing` |
//! | F18 | nothing disturbs the sign-in | `f18_whatever_finds_the_port_does_not_disturb_the_sign_in`, `f18_slow_clients_and_a_hundred_connections_lock_no_browser_out` |
//! | F19 | read, or a bounded error; no address: tried again slowly | `f19_xml_of_any_style_is_read`, `f19_xml_without_an_address_or_none_at_all_is_an_error` |
//! | F20 | bad routes are left out and counted, 4096 are kept | `f20_bad_routes_are_left_out_and_many_are_bounded` |
//! | F21 | an error right after the sign-in, a new sign-in after a drop | `f21_a_cookie_from_elsewhere_opens_a_tunnel_and_a_dead_one_is_told`, `f21_no_configuration_right_after_the_sign_in_is_an_error`, `f21_no_configuration_after_a_drop_means_a_new_sign_in` |
//! | F22 | an error that names the status; accidents are tried again | `f22_silence_in_place_of_frames_is_given_up_after_20_s`, `f22_an_http_answer_in_place_of_frames_is_told_by_its_status`, `f22_an_accident_in_place_of_frames_is_got_over` |
//! | F23 | in step, or the tunnel comes back | `f23_frames_that_are_none_end_the_tunnel_and_it_comes_back`, `f23_odd_frames_stay_in_step` |
//! | F24 | harmless | `f24_packets_at_the_wrong_time_or_of_unknown_protocols_are_harmless` |
//! | F25 | negotiated, or an error in time | `f25_lcp_with_options_of_every_kind`, `f25_lcp_that_makes_no_sense_ends_in_an_error`, `f25_options_of_impossible_lengths_are_an_error_in_time` |
//! | F26 | up within 10 s | `f26_lost_packets_are_sent_again` |
//! | F27 | as RFC 1661 says; storms are bounded errors | `f27_stale_double_and_altered_acks_and_storms_of_naks` |
//! | F28 | adopted, ignored, or "no address in PPP" | `f28_ipcp_with_other_addresses_and_options` |
//! | F29 | the same tunnel goes on | `f29_a_new_negotiation_in_the_session_keeps_the_tunnel` |
//! | F30 | stays up; answers are limited | `f30_a_gateway_that_answers_no_echo_is_alive_while_data_flows`, `f30_echoes_may_be_missing_wrong_or_a_flood` |
//! | F31 | noticed within 30 s, comes back | `f31_silence_is_noticed_within_30_s_wherever_it_begins`, `f31_a_black_hole_is_noticed_within_thirty_seconds` |
//! | F32 | comes back, devices do not notice; a session that was ended on purpose is not tried again | `f32_however_a_tunnel_ends_it_comes_back_and_devices_do_not_notice`, `f32_connections_of_devices_survive_a_reconnection_with_the_same_address` |
//! | F33 | the cookie is used again where the gateway said so, else one new sign-in | `f33_a_cookie_is_used_again_where_the_gateway_said_so_and_not_elsewhere` |
//! | F34 | told in time; a new sign-in | `f34_the_end_of_a_session_is_told_in_time`, `f34_sessions_that_expire_are_followed_by_a_new_sign_in`, `f34_echoes_keep_a_session_where_they_count_as_activity` |
//! | F35 | packets are dropped by name, memory is bounded, flows again | `f35_a_gateway_that_stops_reading_costs_packets_not_memory`, `f35_a_gateway_that_reads_octet_by_octet` |
//! | F36 | cut, answered or dropped by name | `f36_oversized_and_wrong_packets_are_cut_answered_or_dropped_by_name` |
//! | F37 | the end takes its three seconds | `f37_the_end_does_not_wait_for_a_gateway_that_does_not_answer` |
//! | F38 | one new sign-in when the gateway is back | `f38_a_fresh_session_is_not_left_to_die_however_many_tunnels_were_lost_before`, `f38_a_gateway_that_restarts_costs_one_sign_in` |
//! | F39 | the next address, a quarter of a second later | `f39_dead_addresses_cost_little` |
//! | F40 | stays up; without end: an error, and the tunnel comes back | `f40_tls_does_what_it_may_in_a_session` |
//! | F42 | one question and no false death; a real one within three seconds | `f42_an_hour_of_sleep_is_no_false_death_and_a_real_one_is_seen_at_once` |
//! | F43 | one slow retry a minute, no new sign-in | `f43_without_a_free_address_the_daemon_waits_and_signs_in_no_more` |
//! | F44 | an error after two rounds | `f44_a_host_check_without_end_ends` |
//! | F45 | works | `f45_a_cookie_that_comes_with_the_configuration_opens_the_tunnel` |
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "../daemon/common.rs"]
mod common;
#[path = "../daemon/lab.rs"]
mod lab;

mod behaviours;
mod clock;
mod drops;
mod http;
mod ppp;
mod sign_in;
mod xml;

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::happens;
use lab::{Lab, Setup};
use pterodapter::demo::gateway::{AnswerFault, Fault, Scenario};
use pterodapter::demo::probe::Client;

const LOGIN: &str = "/remote/logincheck";
const CONFIG: &str = "/remote/fortisslvpn_xml";
const TUNNEL: &str = "/remote/sslvpn-tunnel";
const LOGOUT: &str = "/remote/logout";
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);

/// Runs all cases at the same time: most of the time they wait.
fn each<T: Debug + Send>(cases: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            let run = &run;
            scope.spawn(move || {
                let name: String = format!("{case:?}").chars().take(200).collect();
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(case))) {
                    eprintln!("in the case {name}");
                    resume_unwind(panic);
                }
            });
        }
    });
}

/// What waits for long. The harness runs few tests at a time, so these start together, with the first of them.
const SLOW: [(&str, fn()); 9] = [
    ("b19", behaviours::second_tunnels),
    ("f25", ppp::impossible_lengths),
    ("f26", ppp::lost_packets),
    ("f30", ppp::odd_echoes),
    ("f31", drops::black_holes),
    ("f33", drops::cookies_again),
    ("f34", drops::echoes_as_activity),
    ("f35", drops::no_reading),
    ("f38", drops::restarts),
];

/// The result of one of [`SLOW`].
fn slow(name: &str) {
    static STARTED: OnceLock<Mutex<HashMap<&str, JoinHandle<()>>>> = OnceLock::new();
    // Where some tests are chosen, only those run.
    if std::env::args().nth(1).is_some_and(|filter| !filter.starts_with('-')) {
        let (_, run) = SLOW.into_iter().find(|(known, _)| *known == name).unwrap();
        return run();
    }
    let all = || SLOW.into_iter().map(|(name, run)| (name, std::thread::spawn(run))).collect();
    let test = STARTED.get_or_init(|| Mutex::new(all())).lock().unwrap().remove(name).unwrap();
    if let Err(panic) = test.join() {
        resume_unwind(panic);
    }
}

/// A gateway with faults.
fn faulty(faults: impl IntoIterator<Item = AnswerFault>) -> Scenario {
    Scenario { faults: faults.into_iter().collect(), ..Scenario::default() }
}

/// One fault of the answers to `path`.
fn fault(path: &str, fault: Fault) -> Scenario {
    faulty([AnswerFault::on(path, fault)])
}

/// A fault of the first answer to `path`.
fn once(path: &str, fault: Fault) -> Scenario {
    faulty([AnswerFault::on(path, fault).times(1)])
}

/// A device whose calls do not wait for long.
fn device(lab: &Lab) -> Client {
    let mut config = lab.client_config("laptop.example");
    config.timeout = Duration::from_secs(1);
    Client::connect(config).unwrap()
}

/// Waits until the device reaches the company.
fn flows(lab: &Lab, device: &Client) {
    if !happens(Duration::from_secs(40), || device.ping(SERVER).is_ok()) {
        panic!("nothing flows: {:?}", lab.state());
    }
}

/// The daemon gets over it: packets flow. Gives the lab to look at.
fn works(setup: Setup) -> Lab {
    let lab = Lab::start(setup);
    let device = device(&lab);
    lab.wait_for_tunnel(1);
    flows(&lab, &device);
    lab
}

/// The daemon gives up with an error that says `words`, and leaves the gateway alone.
fn fails(setup: Setup, words: &str) -> Lab {
    let lab = Lab::start(setup);
    lab.wait_for_failure(words);
    let requests = |lab: &Lab| lab.gateway.journal().len();
    std::thread::sleep(Duration::from_millis(200));
    let before = requests(&lab);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(requests(&lab), before, "it goes on: {:?}", lab.gateway.journal());
    lab
}

#[expect(clippy::disallowed_methods, reason = "tests measure time")]
fn clock() -> Instant {
    Instant::now()
}

#[test]
fn the_table_is_complete() {
    let sources = [
        include_str!("behaviours.rs"),
        include_str!("clock.rs"),
        include_str!("drops.rs"),
        include_str!("http.rs"),
        include_str!("ppp.rs"),
        include_str!("sign_in.rs"),
        include_str!("xml.rs"),
        include_str!("../transport.rs"),
        include_str!("../page.rs"),
    ];
    let numbered = |name: &&str| {
        let number = name.get(1..3).is_some_and(|number| number.parse::<u8>().is_ok());
        number && name.starts_with(['b', 'f']) && name.get(3..4) == Some("_")
    };
    let tests = sources.iter().flat_map(|source| source.split("#[test]\nfn ").skip(1));
    let tests: Vec<&str> = tests.filter_map(|test| test.split('(').next()).filter(numbered).collect();
    let table: Vec<&str> =
        include_str!("main.rs").lines().filter(|line| line.starts_with("//! | ")).collect();
    for (kind, count) in [('F', 45), ('B', 24)] {
        for number in (1..=count).filter(|number| (kind, *number) != ('F', 41)) {
            let row = table.iter().find(|row| row.starts_with(&format!("//! | {kind}{number:02} | ")));
            let row = row.unwrap_or_else(|| panic!("{kind}{number:02} is not in the table"));
            let named: Vec<&str> = row.split('`').filter(numbered).collect();
            let prefix = format!("{}{number:02}_", kind.to_ascii_lowercase());
            let there: Vec<&str> = tests.iter().copied().filter(|test| test.starts_with(&prefix)).collect();
            assert_eq!(named, there, "{kind}{number:02}");
            assert!(!there.is_empty(), "{kind}{number:02}");
        }
    }
}
