//! The commands in the pages work as they are written.

use std::fs;
use std::path::Path;

use crate::blocks::{self, Mark, PLACES};
use crate::machine;
use crate::shell;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pterodapter");

/// No block is forgotten: each has a language, and a shell's says where it is run or why it cannot be.
#[test]
fn every_block_has_its_mark() {
    let mut faults = Vec::new();
    for block in blocks::pages().iter().flat_map(|page| blocks::of(page)) {
        let fault = match (block.language.as_str(), &block.mark) {
            ("", _) => "no language",
            ("sh", None) => "neither 'run' nor 'not run' on the line before",
            ("sh", Some(Mark::Run { place, .. })) if !PLACES.contains(&place.as_str()) => "an unknown place",
            ("sh", Some(Mark::NotRun(reason))) if reason.len() < 10 => "no reason",
            ("sh" | "text" | "toml" | "powershell" | "ini" | "json" | "yaml", _) => continue,
            _ => "a language that no test reads",
        };
        faults.push(format!("{}: {fault}", block.at()));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// In an empty directory, as an ordinary user may be.
#[test]
fn commands_work_in_an_empty_directory() {
    let mut count = 0;
    for page in blocks::pages() {
        let blocks = blocks::to_run(&page, "here");
        if blocks.is_empty() {
            continue;
        }
        count += blocks.len();
        let directory = tempfile::tempdir().unwrap();
        let (bin, work) = (directory.path().join("bin"), directory.path().join("work"));
        for folder in [&bin, &work] {
            fs::create_dir(folder).unwrap();
        }
        std::os::unix::fs::symlink(PROGRAM, bin.join("pterodapter")).unwrap();
        let script = directory.path().join("script");
        fs::write(&script, shell::script(&blocks)).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let home = work.display().to_string();
        let output = shell::run(&script, &work, &[("PATH", &path), ("HOME", &home)], 120);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{page}: {}\n{printed}", output.status);
        assert!(printed.ends_with("== end\n"), "{page}: {printed}");
    }
    assert!(count > 0, "no block is marked");
}

/// On a machine of their own, with a FortiGate's double in the network.
#[test]
fn commands_work_on_a_machine_with_a_gateway() {
    machine::run_all("netns", "commands::commands_work_on_a_machine_with_a_gateway");
}

/// The same, where a daemon is signed in and has a device.
#[test]
fn commands_work_beside_a_daemon() {
    machine::run_all("daemon", "commands::commands_work_beside_a_daemon");
}

/// In the source tree: on CI only, since that is two minutes of compiling.
#[test]
fn commands_work_in_the_source_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let blocks: Vec<_> = blocks::pages().iter().flat_map(|page| blocks::to_run(page, "checkout")).collect();
    assert!(!blocks.is_empty(), "no block is marked");
    if std::env::var_os("CI").is_none() {
        println!(
            "skipped: with CI=true these are run: {:?}",
            blocks.iter().map(blocks::Block::at).collect::<Vec<_>>()
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    fs::write(&script, shell::script(&blocks)).unwrap();
    let environment: Vec<(String, String)> = std::env::vars().collect();
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let output = shell::run(&script, root, &environment, 1800);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.ends_with("== end\n"), "{}\n{printed}", output.status);
}
