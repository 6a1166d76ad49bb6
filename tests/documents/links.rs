//! Links between the pages.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::blocks;

/// What a relative link names exists, and so does the heading behind `#`.
#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = blocks::pages();
    pages.push("CHANGELOG.md".to_owned());
    let (mut broken, mut count) = (Vec::new(), 0);
    for page in pages {
        for target in links(&prose(&root.join(&page))) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { root.join(&page) } else { beside(root, &page, file) };
            let fine = path.exists() && (anchor.is_empty() || anchors(&path).contains(anchor));
            if !fine {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(count > 30, "only {count} links were found");
    assert!(broken.is_empty(), "these links lead nowhere: {broken:#?}");
}

/// So does a file or folder of the project that a page names between backticks.
#[test]
fn files_that_are_named_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut missing, mut count) = (Vec::new(), 0);
    for page in blocks::pages() {
        let prose = prose(&root.join(&page));
        for span in prose.split('`').skip(1).step_by(2) {
            let ours = ["src/", "tests/", "packaging/", "docs/", "benches/"]
                .iter()
                .any(|start| span.starts_with(start));
            if ours && !span.contains(['*', '<', ' ']) {
                count += 1;
                if !root.join(span).exists() {
                    missing.push(format!("{page}: {span}"));
                }
            }
        }
    }
    assert!(count > 30, "only {count} files are named");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// No page of docs is hidden: from the README a reader can reach all.
#[test]
fn every_page_can_be_reached() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut reached = HashSet::new();
    let mut open = vec![PathBuf::from("README.md")];
    while let Some(page) = open.pop() {
        if !reached.insert(page.clone()) {
            continue;
        }
        for target in links(&prose(&root.join(&page))) {
            let file = target.split('#').next().unwrap_or_default();
            if file.ends_with(".md") && !file.contains("://") {
                let path = beside(root, &page.display().to_string(), file).canonicalize();
                let path = path.unwrap_or_else(|why| panic!("{}: {target}: {why}", page.display()));
                open.push(path.strip_prefix(root.canonicalize().unwrap()).unwrap().to_owned());
            }
        }
    }
    let lost: Vec<_> =
        blocks::pages().into_iter().filter(|page| !reached.contains(Path::new(page))).collect();
    assert!(lost.is_empty(), "no way leads to {lost:?}");
}

fn beside(root: &Path, page: &str, file: &str) -> PathBuf {
    root.join(page).parent().unwrap_or(root).join(file)
}

/// The page without its fenced blocks.
fn prose(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

fn links(prose: &str) -> Vec<String> {
    let rest = prose.split("](").skip(1);
    rest.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors of a page, made from its headings as forges do.
fn anchors(path: &Path) -> HashSet<String> {
    let prose = prose(path);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = text.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == ' ' || *c == '_');
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}
