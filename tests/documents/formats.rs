//! Blocks and files that are no commands: read by what reads them in earnest, or by a parser that is not ours.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::blocks::{self, Block};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");

fn in_language(language: &str) -> Vec<Block> {
    let blocks: Vec<_> = blocks::pages().iter().flat_map(|page| blocks::of(page)).collect();
    blocks.into_iter().filter(|block| block.language == language).collect()
}

/// The program knows the keys and takes the values; options for what a block leaves out.
#[test]
fn configurations_are_such() {
    let blocks = in_language("toml");
    assert!(blocks.len() > 3, "{blocks:?}");
    let place = tempfile::tempdir().unwrap();
    let check = |toml: &str| -> (Option<i32>, String) {
        fs::write(place.path().join("part.toml"), toml).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["check", "--config", "part.toml"]).current_dir(place.path());
        for needed in ["destination=127.0.0.1:1", "cacert=ca.pem", "cert=server.pem", "key=server.key"] {
            let (key, _) = needed.split_once('=').unwrap();
            if !toml.lines().any(|line| line.starts_with(key)) {
                command.arg(format!("--{needed}"));
            }
        }
        let done = command.stdin(Stdio::null()).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    // None of the files exists: a block that is understood gets as far as that.
    let understood = |(code, text): &(Option<i32>, String)| *code == Some(78) && text.contains("cannot read");
    for block in &blocks {
        let answer = check(&block.text);
        assert!(understood(&answer), "{}: {answer:?}", block.at());
    }
    for wrong in ["listen_ip = [\"::\"]", "ike-port = 70000", "nat64-prefix = \"64:ff9b::/64\"", "ike-port"] {
        assert!(!understood(&check(wrong)), "{wrong}");
    }
}

#[test]
fn powershell_has_no_syntax_error() {
    let blocks = in_language("powershell");
    assert!(blocks.len() > 3, "{blocks:?}");
    let Some(python) = python_with("import tree_sitter, tree_sitter_powershell", "tests/setup --ci") else {
        return;
    };
    let code = r#"
import sys, tree_sitter, tree_sitter_powershell
parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
def errors(text):
    return parser.parse(text).root_node.has_error
assert errors(b"foreach ($x in 1, 2 { }"), "it finds no fault in anything"
sys.exit(errors(sys.stdin.buffer.read()))
"#;
    for block in blocks {
        passes(&block.at(), &python, code, &block.text);
    }
}

#[test]
fn ini_and_json_are_such() {
    let python = python_with("import configparser, json", "python3").unwrap();
    for (language, code) in [
        ("ini", "import configparser, sys; configparser.RawConfigParser(strict=False).read_file(sys.stdin)"),
        ("json", "import json, sys; json.load(sys.stdin)"),
    ] {
        for block in in_language(language) {
            passes(&block.at(), &python, code, &block.text);
        }
    }
}

/// What packaging has for other systems.
#[test]
fn files_for_other_systems_are_well_formed() {
    let python = python_with("import plistlib", "python3").unwrap();
    let plist = r#"
import plistlib, sys
agent = plistlib.load(sys.stdin.buffer)
assert agent["Label"] == "pterodapter" and agent["ProgramArguments"][0] == "/bin/sh", agent
"#;
    passes("pterodapter.plist", &python, plist, &packaging("launchd/pterodapter.plist"));

    let Some(python) = python_with("import yaml", "python3-yaml") else { return };
    let compose = r#"
import sys, yaml
service, = yaml.safe_load(sys.stdin)["services"].values()
assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
assert service["ports"][:2] == ["500:5500/udp", "4500:5501/udp"], service["ports"]
"#;
    passes("compose.yaml", &python, compose, &packaging("container/compose.yaml"));
    for block in in_language("yaml") {
        passes(&block.at(), &python, "import sys, yaml; yaml.safe_load(sys.stdin)", &block.text);
    }
}

fn packaging(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)).expect(name)
}

/// The code ends with 0 for this input.
fn passes(what: &str, python: &str, code: &str, input: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), input).unwrap();
    let stdin = fs::File::open(file.path()).unwrap();
    let done: Output = Command::new(python).args(["-c", code]).stdin(stdin).output().unwrap();
    assert!(done.status.success(), "{what}: {}\n{input}", String::from_utf8_lossy(&done.stderr));
}

/// A Python that can do this; without one the test is left out, but not on CI.
fn python_with(code: &str, package: &str) -> Option<String> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python3").display().to_string();
    let able = [ours.as_str(), "/usr/bin/python3", "python3"].into_iter().find(|python| {
        Command::new(python).args(["-c", code]).output().is_ok_and(|done| done.status.success())
    });
    assert!(
        able.is_some() || std::env::var_os("CI").is_none(),
        "must not be skipped in CI: {package} is missing"
    );
    if able.is_none() {
        println!("skipped: {package} is missing");
    }
    able.map(str::to_owned)
}
