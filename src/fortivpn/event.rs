//! What a session tells of itself.

use std::fmt;
use std::time::Duration;

use super::cookie;
use super::error::CloseReason;
use crate::ppp;

/// Why the tunnel went down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// The connection ended.
    Connection(CloseReason),
    /// The gateway ended the session; its text.
    Terminated(String),
    /// The gateway answers nothing any more.
    Unanswered,
    /// The stream of frames is out of step.
    OutOfSync,
    /// PPP was negotiated anew, and that failed.
    Ppp(ppp::Fault),
    /// A person signed in anew before the session ended: a tunnel of the new session follows.
    Renewing,
    /// We were told to stop.
    Stopped,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(why) => why.fmt(f),
            Self::Terminated(text) if text.is_empty() => f.write_str("the gateway ended the session"),
            Self::Terminated(text) => write!(f, "the gateway ended the session: {text}"),
            Self::Unanswered => f.write_str("the gateway answers nothing any more"),
            Self::OutOfSync => f.write_str("the gateway's frames are out of step"),
            Self::Ppp(fault) => fault.fmt(f),
            Self::Renewing => f.write_str("changing over to the new sign-in"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// Worth a line in a log; nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next try comes after this time.
    Retrying {
        /// Time until then.
        after: Duration,
        /// What happened.
        why: String,
    },
    /// The tunnel is opened again with the session that we have.
    Resuming,
    /// The session cannot be resumed; a new sign-in follows.
    SigningIn,
    /// The gateway refused the sign-in of the browser; the link may be opened again.
    SignInRefused,
    /// The gateway asks for a confirmation on the phone.
    ApproveOnPhone,
    /// The gateway offered to change the password, and the old one was kept; the gateway's words.
    PasswordKept(String),
    /// The gateway ends the session after this time.
    SessionEnds(Duration),
    /// What was given for a cookie is none; nothing was done with it.
    NoCookie(cookie::Error),
    /// Routes that are malformed or too many, and are left out.
    RoutesSkipped(usize),
    /// PPP gave another address than the configuration.
    AddressAdopted,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retrying { after, why } => write!(f, "{why}; next try in {:.1} s", after.as_secs_f32()),
            Self::Resuming => f.write_str("reconnecting with the session that we have"),
            Self::SigningIn => f.write_str("the session is over; signing in again"),
            Self::SignInRefused => {
                f.write_str("the gateway refused the browser's sign-in: open the link again")
            }
            Self::ApproveOnPhone => f.write_str("approve the sign-in on your phone"),
            Self::PasswordKept(words) if words.is_empty() => {
                f.write_str("the gateway offered to change the password; the old one was kept")
            }
            Self::PasswordKept(words) => write!(f, "the password was kept, the gateway says: {words}"),
            Self::SessionEnds(left) => {
                write!(f, "the gateway ends the session in {} s; a new sign-in follows then", left.as_secs())
            }
            Self::NoCookie(why) => why.fmt(f),
            Self::RoutesSkipped(count) => {
                write!(f, "{count} routes of the gateway are malformed and left out")
            }
            Self::AddressAdopted => {
                f.write_str("PPP gave another address than the configuration; using that one")
            }
        }
    }
}
