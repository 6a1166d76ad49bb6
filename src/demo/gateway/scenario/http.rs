//! Answers that go wrong.

use std::time::Duration;

/// A fault of the answers to one path.
#[derive(Clone, Debug)]
pub struct AnswerFault {
    pub(in super::super) path: String,
    pub(in super::super) after: u32,
    pub(in super::super) times: Option<u32>,
    pub(in super::super) fault: Fault,
}

impl AnswerFault {
    /// `fault` for each answer to a request of `path` (without its query); `*` is every path.
    pub fn on(path: &str, fault: Fault) -> Self {
        Self { path: path.to_owned(), after: 0, times: None, fault }
    }

    /// So many times only, counted from the moment the scenario is set.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// The first `answers` are as usual.
    pub fn after(mut self, answers: u32) -> Self {
        self.after = answers;
        self
    }
}

/// What is wrong with an answer. Several may be combined.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This in place of the answer; nothing is done about the request.
    Answer {
        /// The status code.
        status: u16,
        /// Header lines (name, value), beside those that each answer has.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// These octets in place of the answer, then FIN without close_notify; nothing is done about the request.
    Bytes(Vec<u8>),
    /// The connection closes; nothing is done about the request.
    Close,
    /// The connection breaks; nothing is done about the request.
    Reset,
    /// No answer, and the connection stays open; nothing is done about the request.
    Hang,
    /// The request is done, and then the connection closes without an answer.
    Lost,
    /// The answer comes so much later.
    Delay(Duration),
    /// The head of the answer comes octet by octet, with a pause after each.
    Dribble(Duration),
    /// The first octets come in a TLS record of their own, the others a moment later.
    Split(usize),
    /// The head has header lines of so many octets more.
    Padding(usize),
    /// The head never ends.
    EndlessHead,
    /// The body never ends.
    EndlessBody,
    /// How the end of the body is told.
    Framing(Framing),
    /// The body is compressed.
    Gzip,
    /// The answer says that the connection will close, but it does not.
    KeptOpen,
    /// The connection closes after the answer, which does not say so.
    ClosedSilently,
    /// How the session cookie is set.
    Cookie(CookieStyle),
}

impl Fault {
    /// A short page of this status.
    pub fn status(status: u16) -> Self {
        Self::page(status, "text/html", &format!("<html><body><h1>{status}</h1></body></html>"))
    }

    /// A redirect.
    pub fn redirect(location: &str) -> Self {
        Self::Answer { status: 302, headers: vec![("Location", location.to_owned())], body: String::new() }
    }

    /// A page.
    pub fn page(status: u16, content_type: &str, body: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            body: body.to_owned(),
        }
    }
}

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Content-Length.
    Length,
    /// The end of the stream, after close_notify.
    UntilClose,
    /// The end of the stream, without close_notify.
    UntilCut,
    /// Chunks whose sizes are in upper case, with leading zeros.
    UpperCase,
    /// Chunks with extensions, and a trailer.
    Extension,
    /// This text in place of the first chunk's size.
    BadSize(&'static str),
    /// Chunks, but the last one and the end of the connection is missing: the stream just ends.
    NoLastChunk,
}

/// How the session cookie is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieStyle {
    /// `set-cookie:` in lower case, no space.
    LowerCase,
    /// Two spaces after the colon.
    TwoSpaces,
    /// The value ends the line.
    NoSemicolon,
    /// With `samesite=Strict` and `;` without a space.
    SameSite,
    /// The clearing cookie comes first.
    ClearingFirst,
    /// The clearing cookie comes last.
    ClearingLast,
    /// Cookies with like names come before and after.
    Lookalikes,
    /// The value is `0`.
    Zero,
    /// There is none.
    Missing,
}
