//! The desk: what the session wants from a person, and what people bring, by whatever way they come.
//!
//! No I/O: the event loop carries requests to the local page, the control socket, the terminal and helper programs, and
//! their submissions back.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::base::Now;
use crate::crypto::Secret;
use crate::fortivpn::{Answer, Input, Output, Question, saml};

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
    /// The question is not open any more.
    OtherQuestion,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "no sign-in is asked for at the moment",
            Self::NotAnId => {
                "this is not the address that the browser was sent to (http://127.0.0.1:8020/?id=...)"
            }
            Self::OtherQuestion => "this question is not open any more",
        })
    }
}

/// The one request that is open, and what came in for the session.
#[derive(Debug, Default)]
pub struct Desk {
    request: Option<Request>,
    inputs: VecDeque<Input>,
}

impl Desk {
    /// What a person has to do now.
    pub fn request(&self) -> Option<&Request> {
        self.request.as_ref()
    }

    /// The session said something. True if the request changed.
    pub fn handle_output(&mut self, now: Now, output: &Output) -> bool {
        let request = match output {
            Output::LoginNeeded { url, left } => {
                Some(Request::Link { url: url.clone(), until: left.map(|left| now.mono + left) })
            }
            Output::Ask(question) => Some(Request::Question(question.clone())),
            Output::LoginDone | Output::Stopped => None,
            _ => return false,
        };
        let changed = request != self.request;
        self.request = request;
        changed
    }

    /// Somebody brings something.
    pub fn submit(&mut self, submission: Submission) -> Result<(), Refusal> {
        let input = match submission {
            Submission::Retry => Input::Retry,
            Submission::Answer { question, answer } => match &self.request {
                Some(Request::Question(open)) if open.id == question => Input::Answer { question, answer },
                _ => return Err(Refusal::OtherQuestion),
            },
            Submission::Pasted(text) => {
                let text = String::from_utf8_lossy(text.expose()).trim().to_owned();
                let id = text.split_once("id=").map_or(&*text, |(_, rest)| rest);
                let id = id.split('&').next().unwrap_or_default();
                match &self.request {
                    Some(Request::Link { .. }) if saml::is_valid_id(id) => Input::SamlId(id.to_owned()),
                    Some(Request::Link { .. }) => return Err(Refusal::NotAnId),
                    _ => return Err(Refusal::NotAsked),
                }
            }
        };
        self.inputs.push_back(input);
        Ok(())
    }

    /// The next input for the session.
    pub fn poll_input(&mut self) -> Option<Input> {
        self.inputs.pop_front()
    }
}
