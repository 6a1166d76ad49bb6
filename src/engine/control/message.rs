//! What is said over the control socket: one JSON object per line, each way.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::Now;
use crate::crypto::Secret;
use crate::engine::desk::Request;
use crate::engine::state::{State, Uplink};
use crate::engine::status::Status;
use crate::fortivpn;

/// What the daemon is asked.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Tell how the sign-in is, now and at every change.
    Login,
    /// The address that the browser was sent to, the id in it, or a session cookie.
    Paste {
        /// As it was copied.
        #[serde(with = "text")]
        text: Secret,
    },
    /// The answer to a question.
    Answer {
        /// Which question.
        question: u32,
        /// As it was typed.
        #[serde(with = "text")]
        text: Secret,
    },
    /// Try again.
    Retry,
    /// Send the packets of a device, or all packets. After [`Reply::Accepted`] they come as a pcapng file, until the
    /// client closes its sending side; then its end comes.
    Capture {
        /// Its number, identity or inner address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
    },
    /// Tell how everything is.
    Status,
    /// End the connection of a device.
    Disconnect {
        /// Its number, or an identity: then all of its devices.
        device: String,
    },
    /// Read the configuration again.
    Reload,
}

/// What the daemon says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// How the sign-in is.
    SignIn(SignInState),
    /// What was brought goes to the gateway; or the capture begins.
    Accepted,
    /// How everything is.
    Status(Box<Status>),
    /// It was done.
    Done {
        /// What, in lines for the person.
        text: String,
    },
    /// It is of no use.
    Refused {
        /// One sentence.
        reason: String,
    },
}

/// How the sign-in is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct SignInState {
    /// How the uplink is.
    pub uplink: Uplink,
    /// The address in the company's network, while the tunnel is up.
    pub address: Option<std::net::Ipv4Addr>,
    /// What a person has to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
    /// The last error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl SignInState {
    /// As it is now.
    pub fn new(now: Now, state: &State, request: Option<&Request>) -> Self {
        Self {
            uplink: state.uplink,
            address: state.present_tunnel().map(|tunnel| tunnel.address),
            wanted: request.map(|request| Wanted::new(now, request)),
            error: state.errors.front().map(|(_, text)| text.clone()),
        }
    }
}

/// What a person has to do.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Wanted {
    /// Open the link in a browser.
    Link {
        /// The link.
        url: String,
        /// The tunnel is still up for so many seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left: Option<u64>,
    },
    /// Answer a question.
    Question(#[serde(with = "Question")] fortivpn::Question),
}

impl Wanted {
    /// As it is now.
    pub fn new(now: Now, request: &Request) -> Self {
        match request {
            Request::Link { url, until } => Self::Link {
                url: url.clone(),
                left: until.map(|until| until.saturating_sub(now.mono).as_secs()),
            },
            Request::Question(question) => Self::Question(question.clone()),
        }
    }
}

impl From<Wanted> for Request {
    /// The time is counted from now on.
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Link { url, left } => Self::Link { url, until: left.map(Duration::from_secs) },
            Wanted::Question(question) => Self::Question(question),
        }
    }
}

/// The form of [`fortivpn::Question`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "fortivpn::Question")]
struct Question {
    id: u32,
    #[serde(with = "QuestionKind")]
    kind: fortivpn::QuestionKind,
    text: String,
    sent_to: Option<String>,
    again: bool,
}

/// The form of [`fortivpn::QuestionKind`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "fortivpn::QuestionKind", tag = "answer", rename_all = "kebab-case")]
enum QuestionKind {
    Password,
    Code { push: bool },
    EmailCode,
    SmsCode,
    TwoCodes,
    Challenge,
    NewPassword { may_skip: bool },
}

/// Secrets as JSON strings.
mod text {
    use super::{Deserialize, Deserializer, Secret, Serialize, Serializer};

    pub fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(secret.expose()) {
            Ok(text) => text.serialize(serializer),
            Err(_) => Err(serde::ser::Error::custom("not UTF-8")),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(|text| Secret::new(text.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_objects_with_a_name() {
        for (text, expected) in [
            (r#"{"command":"login"}"#, "Login"),
            (r#"{"command":"retry"}"#, "Retry"),
            (r#"{"command":"capture"}"#, "Capture { device: None }"),
            (r#"{"command":"capture","device":"3"}"#, "Capture { device: Some(\"3\") }"),
            (r#"{"command":"status"}"#, "Status"),
            (r#"{"command":"disconnect","device":"7"}"#, "Disconnect { device: \"7\" }"),
            (r#"{"command":"reload"}"#, "Reload"),
            (r#"{"command":"paste","text":"id=abc"}"#, "Paste { text: [redacted] }"),
            (
                r#"{"command":"answer","question":3,"text":"1\"2"}"#,
                "Answer { question: 3, text: [redacted] }",
            ),
        ] {
            let command: Command = serde_json::from_str(text).unwrap();
            assert_eq!(format!("{command:?}"), expected);
            assert_eq!(serde_json::to_string(&command).unwrap(), text);
        }
        for text in ["", "{}", r#"{"command":"fly"}"#, r#"{"command":"paste"}"#, "[1]"] {
            assert!(serde_json::from_str::<Command>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_state_comes_through_whole() {
        let question = fortivpn::Question {
            id: 4,
            kind: fortivpn::QuestionKind::NewPassword { may_skip: true },
            text: "New password".to_owned(),
            sent_to: None,
            again: false,
        };
        let now = Now { mono: Duration::from_secs(5), boot: Duration::ZERO, wall: Duration::ZERO };
        let mut state = State { uplink: Uplink::Waiting, ..State::default() };
        state.errors.push_front((Duration::ZERO, "no luck".to_owned()));
        let link =
            Request::Link { url: "https://gw.example/".to_owned(), until: Some(Duration::from_secs(65)) };
        for (request, form) in [
            (
                Request::Question(question),
                r#"{"what":"question","id":4,"kind":{"answer":"new-password","may_skip":true},"text":"New password","#,
            ),
            (link, r#"{"what":"link","url":"https://gw.example/","left":60}"#),
        ] {
            let reply = Reply::SignIn(SignInState::new(now, &state, Some(&request)));
            let text = serde_json::to_string(&reply).unwrap();
            assert!(text.starts_with(r#"{"reply":"sign-in","uplink":"waiting","address":null,"wanted":"#));
            assert!(text.contains(form) && text.contains(r#""error":"no luck""#), "{text}");
            assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
        }
    }
}
