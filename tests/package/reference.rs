//! What the package says about options: the sample configuration, its manual page, completions; and its units.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::PROGRAM;
use crate::lab::run;

const SAMPLE: &str = "packaging/pterodapter.toml";

/// The options of `ikev2` that may stand in the file, each with the default that the help tells.
fn options() -> BTreeMap<String, Option<String>> {
    let help = run(Command::new(PROGRAM).args(["ikev2", "--help"])).text;
    let (options, _) = help.split_once("\nCommands:").expect("options come first");
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut last = None;
    for line in options.lines().map(str::trim) {
        if let Some(option) = line.strip_prefix("--") {
            let name = option.split(' ').next().unwrap_or_default();
            last = Some(name.to_owned());
        } else if line.starts_with('-') || line.is_empty() {
            last = None;
        }
        if let Some(name) = &last {
            let text = found.entry(name.clone()).or_default();
            text.push_str(line);
            text.push(' ');
        }
    }
    found.remove("config");
    assert!(found.len() > 30, "{found:?}");
    let default = |text: String| Some(text.split_once("[default: ")?.1.split_once(']')?.0.to_owned());
    found.into_iter().map(|(name, text)| (name, default(text))).collect()
}

/// Key and value of each line that stands there as a comment.
fn sample() -> Vec<(String, String)> {
    let text = fs::read_to_string(SAMPLE).expect("file");
    let entry = |line: &str| {
        let (key, value) = line.strip_prefix('#')?.split_once(" = ")?;
        let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        is_key.then(|| (key.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// What `check` says to this configuration, and its exit code.
fn check(text: &str) -> (Option<i32>, String) {
    let dir = TempDir::new().expect("directory");
    let path = dir.path().join("sample.toml");
    fs::write(&path, text).expect("file");
    let out = Command::new(PROGRAM).arg("check").arg("--config").arg(&path).output().expect("it runs");
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn the_sample_configuration_has_every_option_with_its_default() {
    let (options, sample) = (options(), sample());
    let keys: BTreeSet<&String> = sample.iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), sample.len(), "a key stands there twice");
    let expected: BTreeSet<&String> = options.keys().collect();
    assert_eq!(keys, expected, "{SAMPLE} and 'ikev2 --help' differ");
    for (key, value) in &sample {
        // Longer ones are for people: "ask for it", "cores - 1".
        let Some(default) = options.get(key).and_then(Option::as_ref).filter(|text| !text.contains(' '))
        else {
            continue;
        };
        assert_eq!(value.trim_matches('"'), default, "{key}");
    }
}

#[test]
fn every_line_of_the_sample_configuration_is_taken() {
    let text = fs::read_to_string(SAMPLE).expect("file");
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        let is_entry = |line: &str| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ");
        if is_entry(pair[1]) {
            assert!(pair[0].starts_with("# "), "{} has no line that explains it", pair[1]);
        }
    }
    let entries: String = sample().iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    // The file passes; some of its lines exclude each other, which is seen only afterwards.
    let (code, says) = check(&entries);
    assert!(code == Some(2) && says.contains("cannot be used with"), "{code:?} {says}");
    let (code, says) = check(&(entries + "no-such-key = 1\n"));
    assert!(code == Some(78) && says.contains("unknown key 'no-such-key'"), "{code:?} {says}");
    let (code, says) = check(&text);
    assert!(code == Some(2) && says.contains("required"), "{code:?} {says}");
}

#[test]
fn the_manual_page_of_the_configuration_has_every_option() {
    let page = fs::read_to_string("packaging/man/pterodapter.toml.5").expect("file").replace("\\-", "-");
    let entries = page.lines().filter_map(|line| line.strip_prefix(".BR ")?.split_once(" \" = "));
    let keys: Vec<String> = entries.map(|(key, _)| key.to_owned()).collect();
    let expected: BTreeSet<String> = options().into_keys().collect();
    assert_eq!(keys.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(keys.len(), expected.len(), "a key stands there twice");
    for name in ["pterodapter.8", "pterodapter.toml.5"] {
        let done = run(Command::new("man")
            .args(["--warnings", "-l", "-Tutf8"])
            .arg(format!("packaging/man/{name}")));
        assert!(done.ok && !done.text.contains("warning:"), "{name}: {}", done.text);
    }
}

#[test]
fn shells_complete_commands_and_options() {
    let script = |shell: &str| run(Command::new(PROGRAM).args(["completions", shell])).text;
    for shell in ["bash", "zsh", "fish"] {
        let text = script(shell);
        for word in ["tunnel-domain", "setup", "device", "login", "check"] {
            assert!(text.contains(word), "{shell}: nothing about {word}");
        }
    }
    let ask = format!(
        "{}\nCOMP_WORDS=(pterodapter --dest); COMP_CWORD=1; _pterodapter pterodapter --dest pterodapter; \
         echo \"${{COMPREPLY[*]}}\"",
        script("bash")
    );
    assert_eq!(run(Command::new("bash").args(["-c", &ask])).text, "--destination\n");
}

/// The figure that `systemd-analyze security` gives is at most 1.5; a service without any hardening has 9.6.
#[test]
fn the_service_exposes_little() {
    let unit = "packaging/systemd/pterodapter.service";
    let done =
        run(Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=15", unit]));
    let last = done.text.lines().last().unwrap_or_default();
    assert!(done.ok && last.contains("Overall exposure level"), "{}", done.text);
}
