//! `pterodapter login` and the programs that help with a sign-in, at the real daemon.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/lab.rs"]
mod lab;
#[path = "daemon/program.rs"]
mod program;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use std::{fs, thread};

use common::{happens, skipped_without};
use lab::{Lab, Setup};
use pterodapter::demo::gateway::{Factor, Scenario, User};
use pterodapter::engine::Uplink;
use pterodapter::fortivpn::Credentials;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
const PASSWORD: &str = "corr3ct-horse";

/// A daemon for `user` that asks for the password, and the way to its control socket.
fn asking(
    user: User,
    more: impl Fn(&mut pterodapter::engine::Config, &Path) + Send + 'static,
) -> (Lab, TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let control = directory.path().join("control.sock");
    let (socket, place) = (control.clone(), directory.path().to_owned());
    let lab = Lab::start(Setup {
        credentials: Credentials::Password { username: user.name.clone(), password: None },
        users: vec![user],
        configure: Box::new(move |config| {
            config.sign_in.control = Some(socket.clone());
            more(config, &place);
        }),
        ..Setup::default()
    });
    (lab, directory, control)
}

fn login(control: &Path, arguments: &[&str]) -> Child {
    Command::new(PROGRAM)
        .arg("login")
        .arg("--control")
        .arg(control)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn login_with(control: &Path, arguments: &[&str], typed: &str) -> (Option<i32>, String) {
    let mut child = login(control, arguments);
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    said(child.wait_with_output().unwrap())
}

fn said(output: Output) -> (Option<i32>, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_password_from_standard_input_signs_in_and_programs_help() {
    let mut user = User::new("alice", PASSWORD);
    user.factors = vec![Factor::code("246810")];
    let (mut lab, directory, control) = asking(user, |config, place| {
        config.sign_in.otp_command = Some("test \"$PTERODAPTER_QUESTION\" = code && echo 246810".to_owned());
        let heard = place.join("heard");
        config.sign_in.login_hook = Some(format!("echo \"$PTERODAPTER_QUESTION\" >> {}", heard.display()));
    });
    lab.question();
    let (code, text) = login_with(&control, &["-"], &format!("{PASSWORD}\n"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("signed in: the tunnel is up, address 10."), "{text}");
    lab.wait_for_tunnel(1);
    assert_eq!(fs::read_to_string(directory.path().join("heard")).unwrap(), "password\n");
    let (code, text) = login_with(&control, &[], "");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("no sign-in is needed"), "{text}");
    assert!(lab.stop());
    assert!(!control.exists());
}

#[test]
fn a_wrong_password_is_said_and_only_a_person_tries_again() {
    let (lab, _directory, control) = asking(User::new("alice", PASSWORD), |_, _| {});
    lab.question();
    let (code, text) = login_with(&control, &["-"], "wrong\n");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("pterodapter: ") && text.contains("refused"), "{text}");
    lab.wait_for_failure("refused");
    let (code, text) = login_with(&control, &["-"], PASSWORD);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("the last try failed: ") && text.contains("signed in"), "{text}");
    assert_eq!(lab.state().uplink, Uplink::Up);
}

#[test]
fn what_cannot_work_has_its_sentence_and_exit_code() {
    let (lab, directory, control) = asking(User::new("alice", PASSWORD), |_, _| {});
    lab.question();
    let nowhere = directory.path().join("nowhere");
    for (control, arguments, typed, code, says) in [
        (&control, &["6c1f0a9e"][..], "", 1, "no link is open: the password is needed"),
        (&control, &[], "", 1, "the password is needed; answer with 'pterodapter login -'"),
        (&control, &["-"], "\n", 78, "nothing on standard input"),
        (&control, &["SVPNCOOKIE=x"], "", 2, "use 'login -'"),
        (&nowhere, &[], "", 69, "no pterodapter listens at"),
    ] {
        let (got, text) = login_with(control, arguments, typed);
        assert_eq!((got, text.lines().count()), (Some(code), 1), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}

/// The address at which a browser on another machine would end.
fn end_of_the_browser(link: &str) -> String {
    let mut address = link.to_owned();
    for _ in 0..5 {
        let curl = Command::new("curl")
            .args([
                "--silent",
                "--insecure",
                "--max-time",
                "10",
                "--output",
                "/dev/null",
                "--write-out",
                "%{redirect_url}",
            ])
            .arg(&address)
            .output()
            .unwrap();
        address = String::from_utf8(curl.stdout).unwrap();
        if address.starts_with("http://127.0.0.1:") {
            return address;
        }
    }
    panic!("the gateway does not send the browser back: {address}");
}

#[test]
fn the_address_of_a_browser_elsewhere_signs_in() {
    if skipped_without("curl") {
        return;
    }
    let directory = TempDir::new().unwrap();
    let control = directory.path().join("control.sock");
    let socket = control.clone();
    let lab = Lab::start(Setup {
        credentials: Credentials::Saml,
        configure: Box::new(move |config| config.sign_in.control = Some(socket)),
        ..Setup::default()
    });
    let link = lab.link();
    let address = end_of_the_browser(&link);
    let (code, text) = login_with(&control, &[&address], "");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("signed in: the tunnel is up"), "{text}");
    assert_eq!(lab.state().uplink, Uplink::Up);
}

/// A program of the test stands in for that of the desktop.
#[test]
#[cfg(target_os = "linux")]
fn the_link_is_opened_where_there_is_a_desktop() {
    let opener =
        "#!/bin/sh\nprintf '%s' \"$1\" >\"${0%/*}/opening\" && mv \"${0%/*}/opening\" \"${0%/*}/opened\"\n";
    let path = format!("{{}}:{}", std::env::var("PATH").unwrap());
    let program = program::Program::start_in(
        &[("DISPLAY", ":7"), ("PATH", &path)],
        Scenario::default(),
        vec![User::new("alice", PASSWORD)],
        &[("xdg-open", opener)],
        &["--open-browser", "--realm=staff"],
    );
    let opened = program.control().with_file_name("opened");
    assert!(happens(Duration::from_secs(10), || opened.exists()), "{}", program.printed());
    let expected = format!("https://{}/remote/saml/start?redirect=1&realm=staff", program.gateway.addr());
    assert_eq!(fs::read_to_string(opened).unwrap(), expected);
}

/// `script` gives the program a terminal.
#[test]
fn at_a_terminal_a_password_is_asked_for_and_not_shown() {
    if skipped_without("script") {
        return;
    }
    let (lab, _directory, control) = asking(User::new("alice", PASSWORD), |_, _| {});
    lab.question();
    let command = format!("stty -a; {PROGRAM} login --control {}; echo code $?; stty -a", control.display());
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (prompted, prompt) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        let mut seen = Vec::new();
        let mut piece = [0; 1000];
        while let Ok(length @ 1..) = std::io::Read::read(&mut stdout, &mut piece) {
            seen.extend_from_slice(&piece[..length]);
            if seen.windows(10).any(|window| window == b"password: ") {
                // Once is enough.
                let _ = prompted.send(());
            }
        }
        String::from_utf8(seen).unwrap()
    });
    prompt.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    stdin.write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    let text = reader.join().unwrap();
    drop(stdin);
    child.wait().unwrap();
    assert!(text.contains("signed in") && text.contains("code 0"), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
    assert_eq!(text.matches(" echo ").count(), 2, "as it was before: {text}");
}
