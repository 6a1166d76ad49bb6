//! What the pages quote from the log is what the program says.

use std::fs;
use std::path::Path;

/// In tables with the column "the log says"; `...` stands for what differs.
#[test]
fn quoted_log_lines_are_the_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut source = String::new();
    read_all(&root.join("src"), &mut source);
    let (mut foreign, mut count) = (Vec::new(), 0);
    for page in ["docs/troubleshooting.md", "docs/fortigate.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let mut quotes = false;
        for line in text.lines() {
            if !line.starts_with('|') {
                quotes = false;
            } else if line.starts_with("| the log says |") {
                quotes = true;
            } else if quotes {
                let cell = line.split(" | ").next().unwrap_or_default();
                for part in cell.split('`').skip(1).step_by(2).flat_map(|quote| quote.split("...")) {
                    count += 1;
                    if !source.contains(part.trim()) {
                        foreign.push(format!("{page}: {part}"));
                    }
                }
            }
        }
    }
    assert!(count > 40, "only {count} lines are quoted");
    assert!(foreign.is_empty(), "the program never says {foreign:#?}");
}

/// All source, with texts that go on in the next line joined.
fn read_all(folder: &Path, source: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, source);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut pieces = text.split("\\\n");
            source.push_str(pieces.next().unwrap_or_default());
            pieces.for_each(|piece| source.push_str(piece.trim_start()));
        }
    }
}
