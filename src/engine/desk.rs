//! The desk: what the session wants from a person, and what people and their programs bring, by whatever way it comes.
//!
//! No I/O: the event loop carries requests to the local page, the control socket, the terminal and helper programs, and
//! what they say back.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::base::Now;
use crate::crypto::Secret;
use crate::fortivpn::{Answer, Input, Output, Question, QuestionKind, cookie, saml};

use super::helper::{Program, Purpose};

/// A program that prints a code may run for so long.
const CODE_TIME: Duration = Duration::from_secs(30);
/// A program that tells a person may run for so long.
const HOOK_TIME: Duration = Duration::from_secs(60);
/// Where this is, a session cookie is.
const COOKIE_NAME: &str = "SVPNCOOKIE";
/// Without its name, a cookie is at least this long.
const BARE_COOKIE: usize = 40;

/// What a person has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Open the link in a browser.
    Link {
        /// The link.
        url: String,
        /// The tunnel is still up until then (monotonic); `None` where it is down.
        until: Option<Duration>,
    },
    /// Answer a question.
    Question(Question),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let question = match self {
            Self::Link { url, .. } => {
                return write!(f, "open this address in a browser on this machine: {url}");
            }
            Self::Question(question) => question,
        };
        if question.again {
            f.write_str("the last answer was refused; ")?;
        }
        f.write_str(match question.kind {
            QuestionKind::Password => "the password is needed",
            QuestionKind::Code { push: false } => "a code of the token is needed",
            QuestionKind::Code { push: true } => "a code of the token is needed, or a push to the phone",
            QuestionKind::EmailCode => "the code that came by e-mail is needed",
            QuestionKind::SmsCode => "the code that came by SMS is needed",
            QuestionKind::TwoCodes => "two codes of the token in a row are needed",
            QuestionKind::Challenge => "the gateway has a question",
            QuestionKind::NewPassword { may_skip: false } => "a new password is needed",
            QuestionKind::NewPassword { may_skip: true } => {
                "the gateway wants a new password, but the old one may stay"
            }
        })?;
        if let Some(sent_to) = &question.sent_to {
            write!(f, " (sent to {sent_to})")?;
        }
        if question.text.is_empty() { Ok(()) } else { write!(f, ": {}", question.text) }
    }
}

/// What a person brings.
#[derive(Debug)]
pub enum Submission {
    /// The address that the browser was sent to, the sign-in id in it, or a session cookie.
    Pasted(Secret),
    /// The answer to a question.
    Answer {
        /// Which question.
        question: u32,
        /// The answer.
        answer: Answer,
    },
    /// The answer to a question, as it was typed: `push` and `skip` are words, two codes have a space between.
    Typed {
        /// Which question.
        question: u32,
        /// One line.
        text: Secret,
    },
    /// Try again.
    Retry,
}

/// Why a submission is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody is asked to sign in now.
    NotAsked,
    /// It is neither an id nor an address with one.
    NotAnId,
    /// It should be a session cookie, but is none.
    NotACookie(cookie::Error),
    /// The tunnel is up: a cookie is of no use.
    IsUp,
    /// The question is not open any more.
    OtherQuestion,
    /// There is nothing in it.
    Empty,
    /// One code where two are wanted.
    TwoCodes,
    /// The gateway offers no push.
    NoPush,
    /// The gateway insists on a new password.
    NoSkip,
    /// An answer of another kind than the question.
    OtherKind,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotACookie(why) => return why.fmt(f),
            Self::IsUp => "the tunnel is up already: a cookie is not needed",
            Self::NotAsked => "no sign-in is asked for at the moment",
            Self::NotAnId => {
                "this is not the address that the browser was sent to (http://127.0.0.1:8020/?id=...)"
            }
            Self::OtherQuestion => "this question is not open any more",
            Self::Empty => "the answer is empty",
            Self::TwoCodes => "two codes are needed, one after the other: wait for the token to change",
            Self::NoPush => "the gateway offers no push to the phone: give the code",
            Self::NoSkip => "the gateway insists on a new password",
            Self::OtherKind => "this is no answer to the question",
        })
    }
}

/// Programs that help with the sign-in, and a code that is known beforehand.
#[derive(Debug, Default)]
pub struct Aids {
    /// Answers the first question for a code.
    pub otp: Option<Secret>,
    /// Prints a code, for every such question.
    pub otp_command: Option<String>,
    /// Tells a person about a request.
    pub login_hook: Option<String>,
}

/// The one request that is open, and what came in for the session.
#[derive(Debug, Default)]
pub struct Desk {
    aids: Aids,
    request: Option<Request>,
    /// It is another one than was last told.
    changed: bool,
    is_up: bool,
    /// A program is asked for the answer to this question; people are not, unless it fails.
    at_program: Option<Question>,
    programs: VecDeque<Program>,
    inputs: VecDeque<Input>,
}

impl Desk {
    /// A desk with helpers.
    pub fn new(aids: Aids) -> Self {
        Self { aids, ..Self::default() }
    }

    /// What a person has to do now.
    pub fn request(&self) -> Option<&Request> {
        self.request.as_ref()
    }

    /// True once after every change of the request.
    pub fn poll_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The session said something.
    pub fn handle_output(&mut self, now: Now, output: &Output) {
        match output {
            Output::Up(_) => self.is_up = true,
            Output::Down(_) => self.is_up = false,
            _ => {}
        }
        let request = match output {
            Output::LoginNeeded { url, left } => {
                Some(Request::Link { url: url.clone(), until: left.map(|left| now.mono + left) })
            }
            Output::Ask(question) if self.is_answered_without_people(question) => None,
            Output::Ask(question) => Some(Request::Question(question.clone())),
            Output::LoginDone | Output::Failed(_) | Output::Stopped => None,
            _ => return,
        };
        if !matches!(output, Output::Ask(_)) {
            self.at_program = None;
        }
        self.set_request(now, request);
    }

    /// The program for a code has ended, with or without one.
    pub fn handle_code(&mut self, now: Now, question: u32, code: Option<Secret>) {
        let Some(asked) = self.at_program.take_if(|asked| asked.id == question) else { return };
        match code {
            Some(code) => {
                self.inputs.push_back(Input::Answer { question, answer: Answer::Text(code) });
            }
            None => self.set_request(now, Some(Request::Question(asked))),
        }
    }

    /// Somebody brings something. A typed answer is read as the question wants it: codes without the spaces in them, two
    /// codes with a space between, the words `push` and `skip` where they are offered.
    pub fn submit(&mut self, submission: Submission) -> Result<(), Refusal> {
        let input = match submission {
            Submission::Retry => Input::Retry,
            Submission::Answer { question, answer } => {
                check_kind(self.open_question(question)?.kind, &answer)?;
                self.close();
                Input::Answer { question, answer }
            }
            Submission::Typed { question, text } => {
                let answer = read_answer(self.open_question(question)?.kind, &text)?;
                self.close();
                Input::Answer { question, answer }
            }
            Submission::Pasted(text) => self.pasted(&text)?,
        };
        self.inputs.push_back(input);
        Ok(())
    }

    /// The next input for the session.
    pub fn poll_input(&mut self) -> Option<Input> {
        self.inputs.pop_front()
    }

    /// The next program to run.
    pub fn poll_program(&mut self) -> Option<Program> {
        self.programs.pop_front()
    }

    fn open_question(&self, id: u32) -> Result<&Question, Refusal> {
        match &self.request {
            Some(Request::Question(open)) if open.id == id => Ok(open),
            _ => Err(Refusal::OtherQuestion),
        }
    }

    /// A code that was refused is a person's matter: otherwise a wrong one would be sent until the account is locked.
    fn is_answered_without_people(&mut self, question: &Question) -> bool {
        self.at_program = None;
        if !question.kind.is_code() || question.again {
            return false;
        }
        if let Some(code) = self.aids.otp.take() {
            self.inputs.push_back(Input::Answer { question: question.id, answer: Answer::Text(code) });
            return true;
        }
        let Some(command) = &self.aids.otp_command else { return false };
        self.programs.push_back(Program {
            purpose: Purpose::Code { question: question.id },
            command: command.clone(),
            environment: question_environment(question),
            limit: CODE_TIME,
        });
        self.at_program = Some(question.clone());
        true
    }

    /// What was answered is not open any more: two people must not answer it.
    fn close(&mut self) {
        self.request = None;
        self.changed = true;
    }

    fn set_request(&mut self, now: Now, request: Option<Request>) {
        if request == self.request {
            return;
        }
        if let (Some(request), Some(command)) = (&request, &self.aids.login_hook) {
            let environment = match request {
                Request::Question(question) => question_environment(question),
                Request::Link { url, until } => {
                    let left = until.map(|until| until.saturating_sub(now.mono).as_secs().to_string());
                    let left = left.map(|left| ("PTERODAPTER_LEFT", left));
                    left.into_iter().chain([("PTERODAPTER_LOGIN_URL", url.clone())]).collect()
                }
            };
            let (purpose, command, limit) = (Purpose::Hook, command.clone(), HOOK_TIME);
            self.programs.push_back(Program { purpose, command, environment, limit });
        }
        self.request = request;
        self.changed = true;
    }

    fn pasted(&mut self, text: &Secret) -> Result<Input, Refusal> {
        let text = std::str::from_utf8(text.expose()).map_err(|_| Refusal::NotAnId)?.trim();
        let is_asked = matches!(self.request, Some(Request::Link { .. }));
        let is_cookie = text.contains(COOKIE_NAME) || (is_asked && text.len() >= BARE_COOKIE);
        let input = match sign_in_id(text) {
            Some(id) if is_asked => Input::SamlId(id),
            // What could be an id is no cookie: any web page can send a browser here with one.
            None if is_cookie => match cookie::parse_given(text.as_bytes()) {
                Ok(_) if self.is_up => return Err(Refusal::IsUp),
                Ok(cookie) => Input::Cookie(cookie),
                Err(why) if text.contains(COOKIE_NAME) => return Err(Refusal::NotACookie(why)),
                Err(_) => return Err(Refusal::NotAnId),
            },
            _ => return Err(if is_asked { Refusal::NotAnId } else { Refusal::NotAsked }),
        };
        if is_asked {
            self.close();
        }
        Ok(input)
    }
}

/// Whether a sign-in id can be found in what a person copied.
pub fn is_sign_in_id(text: &str) -> bool {
    sign_in_id(text.trim()).is_some()
}

/// The id in what a person copied: the address with it, `id=...`, or the id alone.
fn sign_in_id(text: &str) -> Option<String> {
    let text = text.split('#').next().unwrap_or_default();
    let query = match text.split_once('?') {
        Some((_, query)) => query,
        None if text.contains('=') => text,
        None => return saml::is_valid_id(text).then(|| text.to_owned()),
    };
    let value = query.split('&').find_map(|pair| pair.strip_prefix("id="))?;
    let id = String::from_utf8(percent_decode(value)?).ok()?;
    saml::is_valid_id(&id).then_some(id)
}

/// The octets that `text` stands for in a URL.
fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        decoded.extend(rest.bytes());
    }
    Some(decoded)
}

/// Reads a typed line as the question wants it.
fn read_answer(kind: QuestionKind, text: &Secret) -> Result<Answer, Refusal> {
    let line = std::str::from_utf8(text.expose()).map_err(|_| Refusal::OtherKind)?;
    let line = line.trim_end_matches(['\r', '\n']);
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_word = |word: &str| words.len() == 1 && words.iter().all(|w| w.eq_ignore_ascii_case(word));
    let secret = |text: &str| Secret::from(text.as_bytes());
    match kind {
        QuestionKind::Code { push } if is_word("push") || (push && words.is_empty()) => {
            if push {
                Ok(Answer::Push)
            } else {
                Err(Refusal::NoPush)
            }
        }
        QuestionKind::NewPassword { may_skip: true } if is_word("skip") || words.is_empty() => {
            Ok(Answer::Skip)
        }
        _ if words.is_empty() => Err(Refusal::Empty),
        QuestionKind::TwoCodes => match *words.as_slice() {
            [first, second] => Ok(Answer::TwoCodes(secret(first), secret(second))),
            _ => Err(Refusal::TwoCodes),
        },
        QuestionKind::Code { .. } | QuestionKind::EmailCode | QuestionKind::SmsCode => {
            Ok(Answer::Text(Secret::new(words.concat().into_bytes())))
        }
        QuestionKind::Challenge => Ok(Answer::Text(secret(line.trim()))),
        QuestionKind::Password | QuestionKind::NewPassword { .. } => Ok(Answer::Text(secret(line))),
    }
}

/// Whether the question takes an answer of this kind.
fn check_kind(kind: QuestionKind, answer: &Answer) -> Result<(), Refusal> {
    match (answer, kind) {
        (Answer::Text(text), _) if text.is_empty() => Err(Refusal::Empty),
        (Answer::Text(_), QuestionKind::TwoCodes) => Err(Refusal::TwoCodes),
        (Answer::Text(_), _)
        | (Answer::TwoCodes(..), QuestionKind::TwoCodes)
        | (Answer::Push, QuestionKind::Code { push: true })
        | (Answer::Skip, QuestionKind::NewPassword { may_skip: true }) => Ok(()),
        (Answer::Push, _) => Err(Refusal::NoPush),
        (Answer::Skip, QuestionKind::NewPassword { .. }) => Err(Refusal::NoSkip),
        _ => Err(Refusal::OtherKind),
    }
}

/// What a program is told about a question: never a secret.
fn question_environment(question: &Question) -> Vec<(&'static str, String)> {
    let kind = match question.kind {
        QuestionKind::Password => "password",
        QuestionKind::Code { .. } => "code",
        QuestionKind::EmailCode => "email-code",
        QuestionKind::SmsCode => "sms-code",
        QuestionKind::TwoCodes => "two-codes",
        QuestionKind::Challenge => "challenge",
        QuestionKind::NewPassword { .. } => "new-password",
    };
    vec![
        ("PTERODAPTER_QUESTION", kind.to_owned()),
        ("PTERODAPTER_TEXT", question.text.clone()),
        ("PTERODAPTER_SENT_TO", question.sent_to.clone().unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fortivpn::{CloseReason, DownReason, Error};

    const NOW: Now = Now { mono: Duration::from_secs(100), boot: Duration::ZERO, wall: Duration::ZERO };
    const ID: &str = "6c1f0a9e-5d1b-4b4e-9e60-0b6d2a2f9b11";

    fn question(id: u32, kind: QuestionKind) -> Question {
        Question { id, kind, text: "Token code".to_owned(), sent_to: None, again: false }
    }

    fn ask(id: u32, kind: QuestionKind) -> Output {
        Output::Ask(question(id, kind))
    }

    fn link(left: Option<u64>) -> Output {
        Output::LoginNeeded {
            url: "https://gw.example/start".to_owned(),
            left: left.map(Duration::from_secs),
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::from(text.as_bytes())
    }

    const CODE: QuestionKind = QuestionKind::Code { push: false };

    /// Whether people hear of it.
    fn asks(desk: &mut Desk, output: &Output) -> bool {
        desk.handle_output(NOW, output);
        desk.poll_change()
    }

    fn told(desk: &mut Desk) -> Vec<String> {
        let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
        std::iter::from_fn(|| desk.poll_input())
            .map(|input| match input {
                Input::SamlId(id) => format!("id {id}"),
                Input::Cookie(cookie) => format!("cookie {}", text(&cookie)),
                Input::Answer { question, answer: Answer::Text(answer) } => {
                    format!("{question} {}", text(&answer))
                }
                Input::Answer { question, answer: Answer::TwoCodes(a, b) } => {
                    format!("{question} {}+{}", text(&a), text(&b))
                }
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn an_id_is_found_in_whatever_a_person_copies() {
        for text in [
            ID.to_owned(),
            format!(" {ID}\n"),
            format!("id={ID}"),
            format!("http://127.0.0.1:8020/?id={ID}"),
            format!("http://localhost:9000/x?a=b&id={ID}&c#top"),
            format!("https://[::1]/?id={}", ID.replace('-', "%2d")),
        ] {
            let mut desk = Desk::default();
            desk.handle_output(NOW, &link(None));
            assert_eq!(desk.submit(Submission::Pasted(secret(&text))), Ok(()), "{text}");
            assert_eq!(told(&mut desk), [format!("id {ID}")], "{text}");
            assert_eq!(desk.request(), None, "what is answered is not open any more");
        }
        for text in [
            "",
            "https://gw.example/remote/saml/start?redirect=1",
            "id=",
            "id=%0d%0a",
            "id=%4",
            "a b",
            "?id=%c3",
        ] {
            let mut desk = Desk::default();
            desk.handle_output(NOW, &link(None));
            assert_eq!(desk.submit(Submission::Pasted(secret(text))), Err(Refusal::NotAnId), "{text}");
            assert!(told(&mut desk).is_empty() && desk.request().is_some());
        }
    }

    #[test]
    fn a_cookie_is_taken_at_any_time_an_id_only_when_asked_for() {
        let mut desk = Desk::default();
        assert_eq!(desk.submit(Submission::Pasted(secret(ID))), Err(Refusal::NotAsked));
        assert_eq!(desk.submit(Submission::Pasted(secret("SVPNCOOKIE=abc; path=/"))), Ok(()));
        assert_eq!(desk.submit(Submission::Retry), Ok(()));
        assert_eq!(told(&mut desk), ["cookie abc", "Retry"]);
        let empty = desk.submit(Submission::Pasted(secret("SVPNCOOKIE=")));
        assert_eq!(empty, Err(Refusal::NotACookie(cookie::Error::NoCookie)));
        desk.handle_output(NOW, &link(None));
        let bare = format!("{}%2b/==", "a".repeat(BARE_COOKIE));
        assert_eq!(desk.submit(Submission::Pasted(secret(&bare))), Ok(()));
        assert_eq!(told(&mut desk), [format!("cookie {bare}")], "beside the link it needs no name");
    }

    #[test]
    fn typed_answers_are_read_as_the_question_wants_them() {
        const NEW: QuestionKind = QuestionKind::NewPassword { may_skip: true };
        const PUSH: QuestionKind = QuestionKind::Code { push: true };
        for (kind, typed, expected) in [
            (CODE, "123 456\r\n", Ok("7 123456")),
            (CODE, "push", Err(Refusal::NoPush)),
            (CODE, "  ", Err(Refusal::Empty)),
            (PUSH, "Push", Ok("Answer(7, [redacted])")),
            (PUSH, "", Ok("Answer(7, [redacted])")),
            (PUSH, "123456", Ok("7 123456")),
            (QuestionKind::SmsCode, " 12 ", Ok("7 12")),
            (QuestionKind::TwoCodes, "123456  234567", Ok("7 123456+234567")),
            (QuestionKind::TwoCodes, "123456", Err(Refusal::TwoCodes)),
            (QuestionKind::Challenge, " blue sky\n", Ok("7 blue sky")),
            (QuestionKind::Password, " pass word ", Ok("7  pass word ")),
            (QuestionKind::Password, "push", Ok("7 push")),
            (NEW, "skip", Ok("Answer(7, [redacted])")),
            (NEW, "n3w", Ok("7 n3w")),
            (QuestionKind::NewPassword { may_skip: false }, "", Err(Refusal::Empty)),
        ] {
            let mut desk = Desk::default();
            desk.handle_output(NOW, &ask(7, kind));
            let stale = Submission::Typed { question: 6, text: secret(typed) };
            assert_eq!(desk.submit(stale), Err(Refusal::OtherQuestion));
            let result = desk.submit(Submission::Typed { question: 7, text: secret(typed) });
            assert_eq!(result, expected.map(drop), "{kind:?} {typed:?}");
            assert_eq!(told(&mut desk), expected.into_iter().collect::<Vec<_>>(), "{kind:?} {typed:?}");
        }
    }

    #[test]
    fn answers_of_another_kind_are_refused() {
        let (one, two) = (|| Answer::Text(secret("1")), || Answer::TwoCodes(secret("1"), secret("2")));
        for (kind, answer, expected) in [
            (CODE, one(), Ok(())),
            (CODE, two(), Err(Refusal::OtherKind)),
            (CODE, Answer::Push, Err(Refusal::NoPush)),
            (CODE, Answer::Text(secret("")), Err(Refusal::Empty)),
            (QuestionKind::TwoCodes, one(), Err(Refusal::TwoCodes)),
            (QuestionKind::TwoCodes, two(), Ok(())),
            (QuestionKind::NewPassword { may_skip: false }, Answer::Skip, Err(Refusal::NoSkip)),
            (QuestionKind::Password, Answer::Skip, Err(Refusal::OtherKind)),
        ] {
            let mut desk = Desk::default();
            desk.handle_output(NOW, &ask(1, kind));
            assert_eq!(desk.submit(Submission::Answer { question: 1, answer }), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_code_given_beforehand_answers_the_first_question_for_a_code_only() {
        let mut desk = Desk::new(Aids { otp: Some(secret("111")), ..Aids::default() });
        assert!(asks(&mut desk, &ask(1, QuestionKind::Password)), "people know the password");
        assert!(told(&mut desk).is_empty());
        assert!(asks(&mut desk, &ask(2, CODE)), "the password is not asked for any more");
        assert_eq!((told(&mut desk), desk.request()), (vec!["2 111".to_owned()], None));
        assert!(asks(&mut desk, &ask(3, CODE)));
        assert!(told(&mut desk).is_empty() && desk.request().is_some());
    }

    #[test]
    fn a_command_answers_every_question_for_a_code_once() {
        let mut desk = Desk::new(Aids { otp_command: Some("totp".to_owned()), ..Aids::default() });
        for id in [1, 2] {
            assert!(!asks(&mut desk, &ask(id, CODE)), "nobody else is asked");
            let program = desk.poll_program().unwrap();
            assert_eq!((program.command.as_str(), program.purpose), ("totp", Purpose::Code { question: id }));
            assert_eq!(
                program.environment[..2],
                [("PTERODAPTER_QUESTION", "code".to_owned()), ("PTERODAPTER_TEXT", "Token code".to_owned())]
            );
            desk.handle_code(NOW, id + 1, Some(secret("0")));
            assert!(told(&mut desk).is_empty(), "not the question that is open");
            desk.handle_code(NOW, id, Some(secret("222")));
            assert_eq!(told(&mut desk), [format!("{id} 222")]);
            assert!(!desk.poll_change());
        }
        let again = Question { again: true, ..question(3, CODE) };
        assert!(asks(&mut desk, &Output::Ask(again)), "a code that was refused is a person's matter");
        assert!(desk.poll_program().is_none() && desk.request().is_some());
    }

    #[test]
    fn people_are_asked_where_the_command_fails_and_not_when_it_is_late() {
        let mut desk = Desk::new(Aids { otp_command: Some("totp".to_owned()), ..Aids::default() });
        desk.handle_output(NOW, &ask(1, CODE));
        desk.handle_code(NOW, 1, None);
        assert!(desk.poll_change());
        assert_eq!(desk.request(), Some(&Request::Question(question(1, CODE))));
        assert!(asks(&mut desk, &ask(2, CODE)), "the first question is not open any more");
        assert!(!asks(&mut desk, &Output::Failed(Error::Denied)));
        desk.handle_code(NOW, 2, Some(secret("222")));
        assert!(told(&mut desk).is_empty() && !desk.poll_change(), "too late");
    }

    #[test]
    fn the_hook_hears_of_every_new_request_but_no_secret() {
        let mut desk = Desk::new(Aids { login_hook: Some("tell".to_owned()), ..Aids::default() });
        let mut environment = |output: &Output| {
            desk.handle_output(NOW, output);
            let program = desk.poll_program()?;
            assert_eq!((program.command.as_str(), program.purpose), ("tell", Purpose::Hook));
            Some(
                program
                    .environment
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            )
        };
        let url = "PTERODAPTER_LOGIN_URL=https://gw.example/start";
        assert_eq!(environment(&link(None)).unwrap(), url);
        assert_eq!(environment(&link(None)), None, "nothing new");
        assert_eq!(environment(&link(Some(600))).unwrap(), format!("PTERODAPTER_LEFT=600 {url}"));
        assert_eq!(environment(&Output::LoginDone), None);
        let sms = Question { sent_to: Some("+49***7".to_owned()), ..question(1, QuestionKind::SmsCode) };
        assert_eq!(
            environment(&Output::Ask(sms)).unwrap(),
            "PTERODAPTER_QUESTION=sms-code PTERODAPTER_TEXT=Token code PTERODAPTER_SENT_TO=+49***7"
        );
        assert_eq!(environment(&Output::Down(DownReason::Connection(CloseReason::Eof))), None);
    }

    #[test]
    fn requests_are_sentences() {
        let code = Question {
            again: true,
            sent_to: Some("a***@b".to_owned()),
            ..question(1, QuestionKind::EmailCode)
        };
        assert_eq!(
            Request::Question(code).to_string(),
            "the last answer was refused; the code that came by e-mail is needed (sent to a***@b): Token code"
        );
    }
}
