//! The gateway's words, made fit to be shown: on a terminal, in a log, on a page.

use crate::wire::http;

/// Limit for one text, in characters.
const MAX_TEXT: usize = 500;

/// One clean line: without tags, control characters, terminal escapes and characters that turn text around.
pub(super) fn one_line(text: &str) -> String {
    let plain = unescape(&without_tags(text));
    let mut line = String::new();
    let mut room = MAX_TEXT;
    for word in without_controls(&plain).split_whitespace() {
        if room == 0 {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(room));
        room = room.saturating_sub(word.chars().count() + 1);
    }
    line
}

/// Each tag becomes a space; a `<` that opens none stays.
fn without_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        let is_tag = after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
        match after.split_once('>').filter(|_| is_tag) {
            Some((_, behind)) => {
                out.push(' ');
                rest = behind;
            }
            // No tag can end any more: what is left is text.
            None if !after.contains('>') => {
                out.push('<');
                out.push_str(after);
                return out;
            }
            None => {
                out.push('<');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Resolves the character references that matter in attributes and prompts.
pub(super) fn unescape(text: &str) -> String {
    const NAMED: [(&str, char); 6] =
        [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("apos", '\''), ("nbsp", ' ')];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        // The longest reference is `&#x10FFFF;`.
        let end = after.bytes().take(9).position(|b| b == b';');
        let reference = end.and_then(|end| Some((after.get(..end)?, after.get(end + 1..)?)));
        let resolved = reference.and_then(|(name, behind)| {
            let number =
                |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
            let c = match name.strip_prefix('#') {
                Some(digits) => match digits.strip_prefix(['x', 'X']) {
                    Some(hex) => number(hex, 16),
                    None => number(digits, 10),
                },
                None => NAMED.iter().find(|(known, _)| *known == name).map(|(_, c)| *c),
            };
            Some((c?, behind))
        });
        match resolved {
            Some((c, behind)) => {
                out.push(c);
                rest = behind;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn without_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // Terminal escapes: a sequence with parameters, or a string up to its end.
            '\u{1b}' => match chars.next_if(|c| matches!(c, '[' | ']')) {
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(_) => while chars.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {},
                None => {}
            },
            c if c.is_whitespace() => out.push(' '),
            c if c.is_control() || is_invisible(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// Characters without a shape, among them those that change the direction of the text around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What a value in a URL says.
pub(super) fn percent_decode(text: &str) -> String {
    String::from_utf8_lossy(&http::percent_decode(text.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_become_one_clean_line() {
        for (words, line) in [
            ("Please enter your token code", "Please enter your token code"),
            ("  two\r\nlines\tand\u{0}  more ", "two lines and more"),
            ("a, b & c &amp; d; 5 < 6 > 4", "a, b & c & d; 5 < 6 > 4"),
            ("<b>Bold</b><br/>next<script x='y'>", "Bold next"),
            ("not closed <b", "not closed <b"),
            ("&lt;b&gt;&#27;[31mred&#x1b;[0m &bad; &#xffffffff;", "<b>red &bad; &#xffffffff;"),
            ("\u{1b}]0;title\u{7}after\u{1b}[2Jend\u{1b}", "afterend"),
            ("abc\u{202e}fed\u{200b}\u{feff}", "abcfed"),
            ("Gr\u{fc}\u{df}e \u{1f512}", "Gr\u{fc}\u{df}e \u{1f512}"),
            ("", ""),
        ] {
            assert_eq!(one_line(words), line, "{words:?}");
        }
        assert_eq!(one_line(&"x".repeat(5000)).len(), MAX_TEXT);
        assert!(one_line(&"x ".repeat(5000)).len() <= MAX_TEXT + 1);
    }

    proptest! {
        #[test]
        fn nothing_that_moves_a_cursor_comes_through(text in any::<String>()) {
            let line = one_line(&text);
            prop_assert!(line.chars().all(|c| !c.is_control() && !is_invisible(c)));
            prop_assert!(line.chars().count() <= MAX_TEXT + 1);
            percent_decode(&text);
        }
    }
}
