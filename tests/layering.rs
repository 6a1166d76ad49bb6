//! Dependencies between the modules go one way (see the map in `src/lib.rs`): each module may name only those listed
//! here. Test code is exempt, comments are not code.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The cores know each other only through values of `base`; `fortivpn` alone speaks to one, `ppp`.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("base", &["crypto"]),
    ("wire", &["base"]),
    ("crypto", &["base", "wire"]),
    ("ike", &["base", "wire", "crypto"]),
    ("esp", &["base", "wire", "crypto"]),
    ("nat", &["base", "wire", "crypto"]),
    ("dns", &["base", "wire", "crypto"]),
    ("ppp", &["base", "wire", "crypto"]),
    ("fortivpn", &["base", "wire", "crypto", "ppp"]),
    ("engine", &["base", "wire", "crypto", "ike", "esp", "nat", "dns", "ppp", "fortivpn"]),
    ("provision", &["base", "wire", "crypto"]),
    // The doubles share no state code with what they test: a mistake on both sides would pass.
    ("demo", &["base", "wire", "crypto", "engine", "provision"]),
    ("cli", &["base", "crypto", "fortivpn", "engine", "provision", "demo"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Files that may name more than their module: (path below `src`, module, why).
const EXCEPTIONS: &[(&str, &str)] = &[
    // It starts the daemon, so it fills in the daemon's configuration.
    ("demo/run.rs", "fortivpn"),
];

/// Where one module may name only these items of another: the values that every layer speaks of.
const ONLY_ITEMS: &[(&str, &str, &[&str])] = &[("base", "crypto", &["Cipher", "Secret"])];

#[test]
fn dependencies_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    let test_only: Vec<PathBuf> = files.iter().flat_map(|file| test_modules(file)).collect();
    let mut offences = String::new();
    let mut seen = 0;
    for file in &files {
        if test_only.iter().any(|t| file.starts_with(t) || *file == t.with_extension("rs")) {
            continue;
        }
        let below = file.strip_prefix(&src).unwrap();
        let text = fs::read_to_string(file).unwrap();
        for found in names(&text) {
            seen += 1;
            if let Some(why) = offence(below, &found) {
                writeln!(offences, "src/{}:{}: {why}", below.display(), found.line).unwrap();
            }
        }
    }
    assert!(seen > 20, "only {seen} paths found: this test does not see the code");
    assert!(offences.is_empty(), "\n{offences}");
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// The first component of a path below `src`: the module, or `main` or `lib`.
fn module_of(below: &Path) -> String {
    let first = below.iter().next().unwrap();
    Path::new(first).file_stem().unwrap().to_str().unwrap().to_owned()
}

fn offence(below: &Path, found: &Name) -> Option<String> {
    let from = module_of(below);
    let Some((_, allowed)) = MAY_NAME.iter().find(|(module, _)| *module == from) else {
        return Some(format!("module {from} has no place in the order; give it one in tests/layering.rs"));
    };
    let to = found.path.first()?.as_str();
    if to == from || !MAY_NAME.iter().any(|(module, _)| *module == to) {
        return None; // itself, or a macro or item of the crate's root
    }
    let excepted = EXCEPTIONS.iter().any(|(file, module)| Path::new(file) == below && *module == to);
    if !allowed.contains(&to) && !excepted {
        return Some(format!("{from} must not depend on {to}"));
    }
    let (_, _, items) = ONLY_ITEMS.iter().find(|(a, b, _)| *a == from && *b == to)?;
    let item = found.path.get(1).map_or("*", String::as_str);
    (!items.contains(&item)).then(|| format!("{from} may name only {items:?} of {to}, not {item}"))
}

/// A path as written from the crate's root.
#[derive(Debug, PartialEq)]
struct Name {
    line: usize,
    path: Vec<String>,
}

/// Every path that starts at `crate::` (or `pterodapter::`, in `main.rs`) outside comments, strings and test modules.
fn names(text: &str) -> Vec<Name> {
    let code = without_tests(&blanked(text));
    let mut found = Vec::new();
    for root in ["crate::", "pterodapter::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            tree(&code, at + root.len(), &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads a use tree (`a::b`, `a::{b, c::d}`, `{a, b}`) at `at`; returns where it ends.
fn tree(code: &str, mut at: usize, prefix: &mut Vec<String>, found: &mut Vec<Name>) -> usize {
    let depth = prefix.len();
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        let rest = &code[at..];
        if rest.starts_with('{') {
            at += 1;
            loop {
                at = tree(code, at, prefix, found);
                at += code[at..].len() - code[at..].trim_start().len();
                match code[at..].chars().next() {
                    Some(',') => at += 1,
                    Some('}') => break at += 1,
                    _ => break,
                }
            }
            break;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            if rest.starts_with('*') {
                prefix.push("*".to_owned());
                at += 1;
                found.push(Name { line: line_of(code, at), path: prefix.clone() });
            }
            break;
        }
        prefix.push(rest[..end].to_owned());
        at += end;
        if code[at..].starts_with("::") && !code[at..].starts_with("::<") {
            at += 2;
        } else {
            found.push(Name { line: line_of(code, at), path: prefix.clone() });
            let renamed = code[at..].trim_start();
            if let Some(new) = renamed.strip_prefix("as ") {
                at = code.len() - new.len();
                at += new.find([',', '}', ';']).unwrap_or(new.len());
            }
            break;
        }
    }
    prefix.truncate(depth);
    at
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The text with comments and literals replaced by spaces; line breaks stay.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let raw =
            rest.strip_prefix('r').or_else(|| rest.strip_prefix("br")).map(|r| r.trim_start_matches('#'));
        let in_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(body) = raw.filter(|r| r.starts_with('"') && !in_word) {
            let opening = rest.len() - body.len();
            let hashes = rest[..opening].matches('#').count();
            let closing = format!("\"{}", "#".repeat(hashes));
            body[1..].find(&closing).map_or(rest.len(), |end| opening + 1 + end + closing.len())
        } else if c == '"' {
            quoted(rest)
        } else {
            char_literal(rest).unwrap_or_default()
        };
        if skip == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..skip].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[skip..];
        }
    }
    out
}

/// Length of the string literal at the start of `text`.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Length of the character literal at the start of `text`, if it is one and not a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let content = match body.strip_prefix('\\') {
        Some(escaped) => 1 + escaped.chars().next()?.len_utf8() + escaped[1..].find('\'')?,
        None => body.chars().next()?.len_utf8(),
    };
    body[content..].starts_with('\'').then_some(content + 2)
}

/// Blanks every item that follows `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let end = item_end(&out, start);
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return start + at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Where the modules live that `file` declares as `#[cfg(test)] mod name;` (without extension).
fn test_modules(file: &Path) -> Vec<PathBuf> {
    let code = blanked(&fs::read_to_string(file).unwrap());
    let stem = file.file_stem().unwrap();
    let dir = if ["mod", "lib", "main"].iter().any(|s| stem == *s) {
        file.parent().unwrap().to_owned()
    } else {
        file.with_extension("")
    };
    let mut found = Vec::new();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let item = &code[start..item_end(&code, start)];
        if let Some((_, name)) = item.trim_end_matches(';').rsplit_once("mod ")
            && !item.contains('{')
        {
            found.push(dir.join(name.trim()));
        }
    }
    found
}

#[test]
fn the_reader_sees_paths_and_nothing_else() {
    let text = r##"
        use crate::wire::{self, checksum, ip::{Ipv4, *}};
        //! [`crate::comment`]
        /* crate::comment */
        const A: &str = "crate::literal"; const B: &str = r#"crate::"raw"#; const C: char = '"';
        fn f<'a>(x: &'a crate::base::Now) -> crate::esp::Sa { super::g(crate::nat::Flows::<u8>::new()) }
        use crate::{dns as names, ppp};
        #[cfg(test)]
        mod tests { use crate::engine::Config; fn f() { {} } }
        pub(crate) use crate::ike;
    "##;
    let paths: Vec<String> =
        names(text).iter().map(|n| format!("{} {}", n.line, n.path.join("::"))).collect();
    let expected = [
        "2 wire::self",
        "2 wire::checksum",
        "2 wire::ip::Ipv4",
        "2 wire::ip::*",
        "6 base::Now",
        "6 esp::Sa",
        "6 nat::Flows",
        "7 dns",
        "7 ppp",
        "10 ike",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn the_order_refuses_what_it_should() {
    let verdict = |file: &str, path: &[&str]| {
        let path = path.iter().map(|s| (*s).to_owned()).collect();
        offence(Path::new(file), &Name { line: 1, path }).is_none()
    };
    assert!(verdict("ike/auth.rs", &["crypto", "Prf"]));
    assert!(verdict("ike/auth.rs", &["ike", "sa"]));
    assert!(verdict("fortivpn/session.rs", &["ppp"]));
    assert!(verdict("base/child_sa.rs", &["crypto", "Cipher"]));
    assert!(verdict("demo/run.rs", &["fortivpn"]));
    assert!(!verdict("ike/auth.rs", &["esp"]));
    assert!(!verdict("ppp/lcp.rs", &["fortivpn"]));
    assert!(!verdict("wire/ip.rs", &["nat"]));
    assert!(!verdict("engine/udp.rs", &["cli"]));
    assert!(!verdict("base/mod.rs", &["crypto", "PrivateKey"]));
    assert!(!verdict("demo/gateway.rs", &["ppp"]));
    assert!(!verdict("main.rs", &["engine"]));
    assert!(!verdict("newcomer/mod.rs", &["base"]));
}
