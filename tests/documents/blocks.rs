//! The fenced blocks of the pages, for the tests that run them.
//!
//! A block of `sh` has a mark on the line before, which readers do not see:
//!
//! ```text
//! <!-- run: PLACE -->                one of `PLACES`: a test runs the block there
//! <!-- run: PLACE, until: TEXT -->   it does not end by itself; the test waits until it prints TEXT, and ends it later
//! <!-- not run: REASON -->           no test can run it
//! ```
//!
//! `<!-- prepare: PLACE` opens commands that only the test runs, up to a line with `-->`.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::path::Path;

/// Where blocks are run: in an empty directory; in one where a daemon runs; in a network namespace with a FortiGate's
/// double; in a Debian system with the package; in the source tree.
pub const PLACES: [&str; 5] = ["here", "daemon", "netns", "package", "checkout"];

/// One block of a page.
#[derive(Debug)]
pub struct Block {
    /// The page, below the root of the source tree.
    pub page: String,
    /// The line of its first fence.
    pub line: usize,
    /// The word behind the fence.
    pub language: String,
    /// What it is marked with.
    pub mark: Option<Mark>,
    /// Its lines, without the indentation of the fence.
    pub text: String,
}

/// The comment before a block.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark {
    /// A test runs it.
    Run {
        /// One of [`PLACES`].
        place: String,
        /// What it prints when it has begun, if it goes on then.
        until: Option<String>,
    },
    /// No test can, and why.
    NotRun(String),
}

impl Block {
    /// For messages: page and line.
    pub fn at(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// What it prints when it has begun, if it does not end by itself.
    pub fn until(&self) -> Option<&str> {
        match &self.mark {
            Some(Mark::Run { until, .. }) => until.as_deref(),
            _ => None,
        }
    }

    fn runs_at(&self, wanted: &str) -> bool {
        matches!(&self.mark, Some(Mark::Run { place, .. }) if place == wanted)
    }
}

/// All pages for readers: README.md and those of docs.
pub fn pages() -> Vec<String> {
    fn below(folder: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).expect(folder) {
            let entry = entry.expect(folder);
            let name = format!("{folder}/{}", entry.file_name().display());
            if entry.path().is_dir() {
                below(&name, found);
            } else if name.ends_with(".md") {
                found.push(name);
            }
        }
    }
    let mut found = vec!["README.md".to_owned()];
    below("docs", &mut found);
    found.sort();
    found
}

/// The blocks of a page that are to be run at `place`, in their order.
pub fn to_run(page: &str, place: &str) -> Vec<Block> {
    assert!(PLACES.contains(&place), "{place}");
    of(page).into_iter().filter(|block| block.runs_at(place)).collect()
}

/// All blocks of a page, those of comments included.
pub fn of(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect(page);
    parse(page, &text)
}

/// All blocks of this text.
pub fn parse(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    let mut before = "";
    while let Some((index, line)) = lines.next() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let (end, language, mark) = if let Some(language) = trimmed.strip_prefix("```") {
            ("```", language.trim(), mark(before))
        } else if let Some(rest) = trimmed.strip_prefix("<!-- prepare: ") {
            ("-->", "sh", Some(run(rest)))
        } else {
            before = trimmed;
            continue;
        };
        let mut text = String::new();
        loop {
            let (_, line) = lines.next().unwrap_or_else(|| panic!("{page}:{}: it has no end", index + 1));
            if line.trim() == end {
                break;
            }
            let blanks = line.len() - line.trim_start().len();
            text.push_str(&line[indent.min(blanks)..]);
            text.push('\n');
        }
        let page = page.to_owned();
        blocks.push(Block { page, line: index + 1, language: language.to_owned(), mark, text });
        before = "";
    }
    blocks
}

fn mark(line: &str) -> Option<Mark> {
    let inner = line.trim().strip_prefix("<!-- ")?.strip_suffix(" -->")?;
    if let Some(reason) = inner.strip_prefix("not run: ") {
        return Some(Mark::NotRun(reason.to_owned()));
    }
    inner.strip_prefix("run: ").map(run)
}

fn run(rest: &str) -> Mark {
    let (place, until) = match rest.split_once(", until: ") {
        Some((place, until)) => (place, Some(until.to_owned())),
        None => (rest, None),
    };
    Mark::Run { place: place.to_owned(), until }
}
