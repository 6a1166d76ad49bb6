//! The documents keep up with the program: their lists are complete, their links lead somewhere, their commands work.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod blocks;
mod commands;
#[path = "../daemon/common.rs"]
mod common;
mod formats;
mod links;
mod log_lines;
mod machine;
mod shell;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Every name that `Error::name` can give has its line in the table.
#[test]
fn every_error_has_its_cure() {
    let source = fs::read_to_string("src/fortivpn/error.rs").unwrap();
    let (_, names) = source.split_once("pub fn name(&self)").unwrap();
    let (names, _) = names.split_once("\n}\n").unwrap();
    let names: Vec<&str> =
        names.lines().filter_map(|line| line.split_once(" => \"")?.1.strip_suffix("\",")).collect();
    assert!(names.len() > 30, "{names:?}");
    let document = fs::read_to_string("docs/fortigate.md").unwrap();
    let (_, table) = document.split_once("## What the errors mean").unwrap();
    let without: Vec<&&str> = names.iter().filter(|name| !table.contains(&format!("`{name}`"))).collect();
    assert!(without.is_empty(), "docs/fortigate.md says nothing about {without:?}");
}

/// Every option stands where people look for it: on its page and in the manual page.
#[test]
fn every_option_is_documented() {
    let read = |path: &str| fs::read_to_string(path).unwrap().replace("\\-", "-");
    let documents = [
        ("docs/options.md", read("docs/options.md")),
        ("the manual page", read("packaging/man/pterodapter.8")),
    ];
    for command in [
        &["ikev2"][..],
        &["login"],
        &["status"],
        &["disconnect"],
        &["reload"],
        &["capture"],
        &["demo"],
        &["setup"],
        &["setup", "device"],
        &["setup", "revoke"],
        &["setup", "renew"],
    ] {
        let program = env!("CARGO_BIN_EXE_pterodapter");
        let help = Command::new(program).args(command).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let options: BTreeSet<&str> =
            words(&help).filter(|word| word.starts_with("--") && word.len() > 2).collect();
        assert!(options.len() > 1, "{command:?}: {help}");
        for (name, text) in &documents {
            let known: BTreeSet<&str> = words(text).chain(["--help", "--version"]).collect();
            let without: Vec<_> = options.difference(&known).collect();
            assert!(without.is_empty(), "{name} says nothing about {without:?} of {command:?}");
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
}
