//! The form of a page that asks for a code (status 401): a small reader of HTML that forgives what pages do.

use crate::crypto::Secret;
use crate::fortivpn::text::{one_line, unescape};

const MAX_FIELDS: usize = 32;
/// Inputs that a person does not fill in and that are not sent along.
const BUTTONS: [&str; 7] = ["submit", "button", "image", "reset", "checkbox", "radio", "file"];

/// A form with one thing to fill in.
#[derive(Debug)]
pub(super) struct Form {
    /// Where to send it, as the page says; may be empty.
    pub(super) action: String,
    /// Names and values in the order of the page; the value that is `None` is the answer.
    pub(super) fields: Vec<(String, Option<Secret>)>,
    /// What the page says about it.
    pub(super) prompt: String,
}

impl Form {
    /// The first form of the page that has something to fill in.
    pub(super) fn parse(page: &str) -> Option<Self> {
        let mut prompt = Prompt::default();
        let mut forms: Vec<(String, Vec<Input>)> = Vec::new();
        let mut inside = false;
        for token in Tokens(page) {
            match token {
                Token::Text(text) => prompt.text(text),
                Token::Close(name) if name.eq_ignore_ascii_case("form") => inside = false,
                Token::Close(_) => prompt.bold = false,
                Token::Open(name, attributes) if name.eq_ignore_ascii_case("form") => {
                    inside = true;
                    forms.push((Attributes(attributes).get("action").unwrap_or_default(), Vec::new()));
                }
                Token::Open(name, attributes) if name.eq_ignore_ascii_case("input") => {
                    if let (true, Some((_, inputs))) = (inside, forms.last_mut())
                        && inputs.len() < MAX_FIELDS
                    {
                        inputs.extend(Input::new(&Attributes(attributes)));
                    }
                }
                Token::Open(name, _) => prompt.bold = name.eq_ignore_ascii_case("b"),
            }
        }
        forms.into_iter().find_map(|(action, inputs)| {
            let wanted = inputs.iter().position(|input| input.kind == Kind::Password);
            let wanted = wanted.or_else(|| inputs.iter().position(|input| input.kind == Kind::Visible))?;
            let field = |(at, input): (usize, Input)| (input.name, (at != wanted).then_some(input.value));
            let fields = inputs.into_iter().enumerate().map(field).collect();
            Some(Self { action, fields, prompt: prompt.best() })
        })
    }
}

/// The text in bold, or the one that begins with "Please".
#[derive(Default)]
struct Prompt {
    bold: bool,
    in_bold: Option<String>,
    please: Option<String>,
}

impl Prompt {
    fn text(&mut self, text: &str) {
        let line = one_line(text);
        if line.is_empty() {
            return;
        }
        if self.please.is_none() && line.starts_with("Please") {
            self.please = Some(line.clone());
        }
        if self.bold && self.in_bold.is_none() {
            self.in_bold = Some(line);
        }
    }

    fn best(&self) -> String {
        self.in_bold.clone().or_else(|| self.please.clone()).unwrap_or_default()
    }
}

#[derive(PartialEq, Eq)]
enum Kind {
    Hidden,
    Password,
    Visible,
}

struct Input {
    name: String,
    value: Secret,
    kind: Kind,
}

impl Input {
    fn new(attributes: &Attributes<'_>) -> Option<Self> {
        let name = attributes.get("name").filter(|name| !name.is_empty())?;
        let kind = attributes.get("type").unwrap_or_default().trim().to_ascii_lowercase();
        let style = attributes.get("style").unwrap_or_default().to_ascii_lowercase();
        let style: String = style.split_whitespace().collect();
        let kind = match kind.as_str() {
            kind if BUTTONS.contains(&kind) => return None,
            "hidden" => Kind::Hidden,
            _ if style.contains("display:none") || attributes.get("hidden").is_some() => Kind::Hidden,
            "password" => Kind::Password,
            _ => Kind::Visible,
        };
        let value = Secret::new(attributes.get("value").unwrap_or_default().into_bytes());
        Some(Self { name, value, kind })
    }
}

enum Token<'a> {
    /// Name, and the text of the attributes.
    Open(&'a str, &'a str),
    Close(&'a str),
    Text(&'a str),
}

/// What is left of the page.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn skip_past(&mut self, end: &str) {
        let at = self.0.as_bytes().windows(end.len()).position(|w| w.eq_ignore_ascii_case(end.as_bytes()));
        self.0 = at.and_then(|at| self.0.get(at + end.len()..)).unwrap_or_default();
    }

    /// The tag whose `<` is gone already.
    fn tag(&mut self) -> (&'a str, &'a str) {
        let mut quote = None;
        let end = self.0.bytes().position(|b| match quote {
            Some(open) => {
                if b == open {
                    quote = None;
                }
                false
            }
            None if b == b'"' || b == b'\'' => {
                quote = Some(b);
                false
            }
            None => b == b'>',
        });
        // Quotes that do not pair up: then the first `>` ends it.
        let end = end.or_else(|| self.0.find('>')).unwrap_or(self.0.len());
        let tag = self.0.get(..end).unwrap_or_default();
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        let name = tag.find(|c: char| c.is_ascii_whitespace() || c == '/').unwrap_or(tag.len());
        tag.split_at_checked(name).unwrap_or((tag, ""))
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let Some(rest) = self.0.strip_prefix('<') else {
                let end = self.0.find('<').unwrap_or(self.0.len());
                let (text, rest) = self.0.split_at_checked(end)?;
                self.0 = rest;
                return (!text.is_empty()).then_some(Token::Text(text));
            };
            self.0 = rest;
            if rest.starts_with("!--") {
                self.skip_past("-->");
            } else if let Some(rest) = rest.strip_prefix('/') {
                self.0 = rest;
                return Some(Token::Close(self.tag().0));
            } else if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
                let (name, attributes) = self.tag();
                for raw in ["script", "style"] {
                    if name.eq_ignore_ascii_case(raw) {
                        self.skip_past(&format!("</{raw}"));
                        self.tag();
                    }
                }
                return Some(Token::Open(name, attributes));
            } else if rest.starts_with(['!', '?']) {
                self.tag();
            } else {
                return Some(Token::Text("<"));
            }
        }
    }
}

/// `name="value" name='value' name=value name`, in any case and order.
struct Attributes<'a>(&'a str);

impl Attributes<'_> {
    /// The value of the first attribute of this name, resolved; empty where it has none.
    fn get(&self, name: &str) -> Option<String> {
        let blank = |c: char| c.is_ascii_whitespace() || c == '/';
        let mut rest = self.0.trim_start_matches(blank);
        while !rest.is_empty() {
            let end = rest.find(|c: char| blank(c) || c == '=').unwrap_or(rest.len());
            let (found, after) = rest.split_at_checked(end)?;
            let after_name = after.trim_start();
            let (value, behind) = match after_name.strip_prefix('=').map(str::trim_start) {
                None => ("", after),
                Some(value) => match value.chars().next() {
                    Some(quote @ ('"' | '\'')) => {
                        let inner = value.get(1..).unwrap_or_default();
                        inner.split_once(quote).unwrap_or((inner, ""))
                    }
                    _ => {
                        let end = value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len());
                        let (value, behind) = value.split_at_checked(end)?;
                        // `<input value=abc/>`: the slash belongs to the tag.
                        let last = behind.trim().is_empty();
                        (if last { value.strip_suffix('/').unwrap_or(value) } else { value }, behind)
                    }
                },
            };
            if found.eq_ignore_ascii_case(name) {
                return Some(unescape(value));
            }
            rest = behind.trim_start_matches(blank);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: &str = "<html><body><form action=\"/remote/logincheck\" method=\"POST\"><b>Please enter your code</b>\
        <input type=\"hidden\" name=\"magic\" value=\"1-55443322\"><input type=\"hidden\" name=\"username\" value=\"alice\">\
        <input type=\"hidden\" name=\"reqid\" value=\"12345678\"><input type=\"hidden\" name=\"grpid\" value=\"0,1234,1\">\
        <input type=\"password\" name=\"credential\"><input class=\"button\" type=\"submit\" value=\"OK\"></form></body></html>";

    fn shown(page: &str) -> Option<String> {
        let form = Form::parse(page)?;
        let field = |(name, value): &(String, Option<Secret>)| {
            let value =
                value.as_ref().map_or("?".into(), |v| String::from_utf8_lossy(v.expose()).into_owned());
            format!("{name}={value}")
        };
        let fields: Vec<_> = form.fields.iter().map(field).collect();
        Some(format!("{} {} [{}]", form.action, fields.join("&"), form.prompt))
    }

    #[test]
    fn forms_as_pages_write_them() {
        let usual = "/remote/logincheck magic=1-55443322&username=alice&reqid=12345678&grpid=0,1234,1&credential=? \
                     [Please enter your code]";
        assert_eq!(shown(USUAL).as_deref(), Some(usual));
        let odd = "<HTML><!-- <form action='/wrong'><input name=x> --><script>'<form><input name=y>'</script>\
            <p>a &amp; b</p>Please look<FORM METHOD='post'\n ACTION = '/remote/logincheck'>\
            <B class=x>Please  enter\nyour&nbsp;code</B><INPUT value='1-55443322' name=magic TYPE=hidden />\
            <input name='username' value=\"alice\" type=text style=\"Display : none;\">\
            <input\tname=\"reqid\" type='hidden' value=12345678><input data-x='a>b' value='0,1234,1' type=\"hidden\" name='grpid'/>\
            <input autocomplete=off name=credential type=password></FORM>";
        assert_eq!(shown(odd).as_deref(), Some(usual));
        for (page, expected) in [
            ("<form><input name=code>", Some(" code=? []")),
            (
                "<form action=/x><input name=code value=abc/></form>Please type <i>it</i>",
                Some("/x code=? [Please type]"),
            ),
            ("<form><input name=a value='x&quot;y'><input type=password name=p>", Some(" a=x\"y&p=? []")),
            ("<form><input type=submit name=s></form><form action=/y><input name=c>", Some("/y c=? []")),
            ("<form><input hidden name=h value=1><input name=c>", Some(" h=1&c=? []")),
            ("<input name=c>", None),
            ("<form></form><input name=c>", None),
            ("<form><input type=hidden name=c value=1></form>", None),
            ("<b>Please</b>", None),
            ("<form action='/x", None),
            ("< form><input name=x>", None),
            ("", None),
        ] {
            assert_eq!(shown(page).as_deref(), expected, "{page}");
        }
        let many = format!("<form>{}", "<input type=hidden name=a>".repeat(1000));
        assert!(Form::parse(&many).is_none());
        assert!(!format!("{:?}", Form::parse(USUAL)).contains("55443322"));
    }

    #[test]
    fn any_cut_and_any_flip_is_read() {
        for at in 0..USUAL.len() {
            let _ = Form::parse(&USUAL[..at]);
            for flip in [0x01, 0x02, 0x1c, 0x20] {
                let mut bytes = USUAL.as_bytes().to_vec();
                bytes[at] ^= flip;
                if let Some(form) = Form::parse(&String::from_utf8_lossy(&bytes)) {
                    assert_eq!(form.fields.iter().filter(|(_, value)| value.is_none()).count(), 1);
                }
            }
        }
    }
}
