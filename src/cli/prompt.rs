//! A request as a person at a terminal sees it.

use crate::crypto::Secret;
use crate::engine::Request;
use crate::fortivpn::{Question, QuestionKind};

use super::terminal::Input;

/// What a person is asked, and how far they are.
#[derive(Debug)]
pub struct Prompt {
    request: Request,
    /// A new password, of which the second copy is still missing.
    first: Option<Secret>,
}

/// What a typed line is.
#[derive(Debug)]
pub enum Typed {
    /// For the link: an address, an id or a cookie.
    Pasted(Secret),
    /// For the question with this number.
    Answer(u32, Secret),
    /// Nothing yet; say this.
    More(&'static str),
}

impl Prompt {
    /// Shows the request: gives back what to print. `qr` draws a code of a link where one is of use.
    pub fn show(
        request: Request,
        input: Option<&Input>,
        qr: impl FnOnce(&str) -> Option<String>,
    ) -> (Self, String) {
        let typing = input.filter(|input| input.is_terminal());
        let text = match &request {
            Request::Link { url, .. } => {
                let code = qr(url).map(|code| format!("{code}\n")).unwrap_or_default();
                let paste = typing.map_or("", |_| PASTE);
                format!("\nSign in: open this address in a browser.\n\n  {url}\n\n{code}{paste}")
            }
            Request::Question(question) => {
                if let Some(input) = typing {
                    input.hide();
                }
                let label = typing.map(|_| label(question.kind)).unwrap_or_default();
                format!("\nSign in: {request}\n{label}")
            }
        };
        (Self { request, first: None }, text)
    }

    /// A line was typed.
    pub fn handle_line(&mut self, line: Secret) -> Typed {
        let Request::Question(Question { id, kind, .. }) = &self.request else {
            return if line.is_empty() { Typed::More("") } else { Typed::Pasted(line) };
        };
        let is_new = matches!(kind, QuestionKind::NewPassword { .. });
        match self.first.take() {
            _ if !is_new || line.is_empty() || line.expose() == b"skip" => Typed::Answer(*id, line),
            None => {
                self.first = Some(line);
                Typed::More("the same once more: ")
            }
            Some(first) if first.expose() == line.expose() => Typed::Answer(*id, line),
            Some(_) => Typed::More("these were two different ones; new password: "),
        }
    }
}

const PASTE: &str = "The browser runs on another machine? Then it ends at an address that it cannot open, \
                     http://127.0.0.1:8020/?id=...\nPaste that address here.\n";

fn label(kind: QuestionKind) -> &'static str {
    match kind {
        QuestionKind::Password => "password: ",
        QuestionKind::Code { push: true } => "code (or Enter for the push): ",
        QuestionKind::Code { push: false } | QuestionKind::EmailCode | QuestionKind::SmsCode => "code: ",
        QuestionKind::TwoCodes => "two codes, with a space between: ",
        QuestionKind::Challenge => "answer: ",
        QuestionKind::NewPassword { may_skip: true } => "new password (or Enter to keep the old one): ",
        QuestionKind::NewPassword { may_skip: false } => "new password: ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(kind: QuestionKind) -> Request {
        Request::Question(Question { id: 3, kind, text: "Please".to_owned(), sent_to: None, again: false })
    }

    fn typed(prompt: &mut Prompt, line: &str) -> String {
        match prompt.handle_line(Secret::from(line.as_bytes())) {
            Typed::Pasted(text) => format!("pasted {}", String::from_utf8_lossy(text.expose())),
            Typed::Answer(id, text) => format!("{id}: {}", String::from_utf8_lossy(text.expose())),
            Typed::More(text) => format!("more {text}"),
        }
    }

    #[test]
    fn a_link_comes_with_its_code_and_takes_what_is_pasted() {
        let link = Request::Link { url: "https://gw.example/".to_owned(), until: None };
        let (mut prompt, text) = Prompt::show(link, None, |url| Some(format!("[code of {url}]")));
        assert!(text.contains("\n  https://gw.example/\n\n[code of https://gw.example/]\n"), "{text}");
        assert_eq!(typed(&mut prompt, ""), "more ");
        assert_eq!(typed(&mut prompt, "id=1"), "pasted id=1");
    }

    #[test]
    fn a_new_password_is_typed_twice() {
        let (mut prompt, text) =
            Prompt::show(question(QuestionKind::NewPassword { may_skip: true }), None, |_| None);
        assert_eq!(text, "\nSign in: the gateway wants a new password, but the old one may stay: Please\n");
        assert!(typed(&mut prompt, "n3w").starts_with("more the same"));
        assert!(typed(&mut prompt, "other").starts_with("more these were two"));
        typed(&mut prompt, "n3w");
        assert_eq!(typed(&mut prompt, "n3w"), "3: n3w");
        assert_eq!(typed(&mut prompt, ""), "3: ", "the old one stays");
        let (mut prompt, _) = Prompt::show(question(QuestionKind::Password), None, |_| None);
        assert_eq!(typed(&mut prompt, "s3cret"), "3: s3cret");
    }
}
