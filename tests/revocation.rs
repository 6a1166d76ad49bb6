//! `setup revoke` and the daemon: who was taken back is out, at a reload and after a restart, and nobody else.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "daemon/common.rs"]
mod common;
#[path = "daemon/program.rs"]
mod program;

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::happens;
use program::Program;
use pterodapter::demo::gateway::{Scenario, User};
use pterodapter::demo::probe::{Client, ClientConfig};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");
const WEB_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 80);
const PATIENCE: Duration = Duration::from_secs(30);

/// `setup` with the daemon's own authority; what it prints.
fn setup(program: &Program, arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM)
        .args(["setup", "--dir"])
        .arg(program.path("etc"))
        .args(arguments)
        .current_dir(program.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A device with a certificate from `setup`.
fn device(program: &Program, name: &str) -> ClientConfig {
    setup(program, &["device", name, "--os=strongswan", "--force"]);
    let read = |file: String| fs::read_to_string(program.path(&file)).unwrap();
    let mut config = program.client_config(name);
    config.cert_pem = read(format!("{name}-strongswan/x509/{name}.pem"));
    config.key_pem = read(format!("{name}-strongswan/private/{name}.key"));
    config
}

fn reload(program: &Program) -> String {
    let output = program.run(&["reload"]);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

fn says(program: &Program, text: &str) -> bool {
    happens(PATIENCE, || program.printed().contains(text))
}

#[test]
fn who_was_revoked_is_out() {
    let users = vec![User::new("alice", "secret")];
    let files = [("password", "secret"), ("conf.toml", "username = \"alice\"\n")];
    let options = ["--config={}/conf.toml", "--password-file={}/password"];
    let mut program = Program::start(Scenario::default(), users, &files, &options);
    assert!(happens(PATIENCE, || program.tunnels() == 1), "{}", program.printed());
    fs::create_dir(program.path("etc")).unwrap();
    fs::write(program.path("etc/ca.pem"), program.authority().cert_pem()).unwrap();
    fs::write(program.path("etc/ca.key"), program.authority().key_pem()).unwrap();
    setup(&program, &["--destination=127.0.0.1:1", "--name=vpn.example"]);
    fs::write(program.path("conf.toml"), "username = \"alice\"\ncrl = [\"etc/crl.pem\"]\n").unwrap();
    assert!(reload(&program).starts_with("new: --crl\n"));

    let (phone, laptop) = (device(&program, "phone"), device(&program, "laptop"));
    let clients = [&phone, &laptop].map(|config| Client::connect(config.clone()).unwrap());
    for client in &clients {
        client.ping(WEB_SERVER).unwrap();
    }

    assert!(setup(&program, &["revoke", "phone"]).contains("pterodapter reload"));
    clients[0].ping(WEB_SERVER).unwrap();
    assert!(reload(&program).starts_with("new: --crl\n"));
    assert!(happens(PATIENCE, || clients[0].is_closed()), "{}", program.printed());
    assert!(says(
        &program,
        "phone is gone: its certificate is not trusted any more: certificate was revoked"
    ));
    clients[1].ping(WEB_SERVER).unwrap();

    // It does not come back, neither now nor after a restart; with a new certificate it does.
    let refused = |program: &Program, times: usize| {
        assert!(Client::connect(phone.clone()).is_err());
        let line = "was not let in: the client's certificate is not trusted: certificate was revoked";
        assert!(
            happens(PATIENCE, || program.printed().matches(line).count() == times),
            "{}",
            program.printed()
        );
    };
    refused(&program, 1);
    program.restart();
    assert!(happens(PATIENCE, || program.tunnels() == 2), "{}", program.printed());
    refused(&program, 2);
    let again = device(&program, "phone");
    for config in [again, laptop] {
        Client::connect(config).unwrap().ping(WEB_SERVER).unwrap();
    }
    assert!(program.stop().success());
}
