//! The documents keep up with the program.

use std::fs;

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
