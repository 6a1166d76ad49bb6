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
use crate::wire::http::percent_decode;

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

    /// Other helpers, from the next request on; a code that was used does not come back, unless it is another one.
    pub fn set_aids(&mut self, aids: Aids, otp_changed: bool) {
        let otp = if otp_changed { aids.otp } else { self.aids.otp.take() };
        self.aids = Aids { otp, ..aids };
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
    let id = String::from_utf8(percent_decode(value.as_bytes())).ok()?;
    saml::is_valid_id(&id).then_some(id)
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
mod tests;
