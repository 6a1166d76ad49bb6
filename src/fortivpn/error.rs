//! What can go wrong, each with one sentence that says what to do.

use std::fmt;
use std::time::Duration;

use super::config;
use crate::ppp;
use crate::wire::http;

/// How a TLS connection ended, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The gateway closed it, with or without close_notify.
    Eof,
    /// The connection was reset.
    Reset,
    /// TLS failed, for other reasons than trust.
    Tls(String),
    /// No answer in time.
    Timeout,
    /// Connection refused, or no route.
    Refused(String),
    /// The name of the gateway could not be resolved.
    Resolve(String),
    /// The certificate of the gateway is not trusted. Never tried again by itself.
    Trust(String),
    /// The gateway wants another client certificate, or one at all. Never tried again by itself.
    ClientCertificate(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("the gateway closed the connection"),
            Self::Reset => f.write_str("the connection was reset"),
            Self::Tls(why) => write!(f, "TLS failed: {why}"),
            Self::Timeout => f.write_str("the gateway did not answer in time"),
            Self::Refused(why) => write!(f, "no connection: {why}"),
            Self::Resolve(why) => write!(f, "the gateway's name was not found: {why}"),
            Self::Trust(why) => write!(f, "the gateway's certificate is not trusted: {why}"),
            Self::ClientCertificate(why) => write!(f, "no sign-in without a good client certificate: {why}"),
        }
    }
}

/// A second factor that the account needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondFactor {
    /// `ret=2`: a token code; or, if `push`, a tap on the phone.
    Token {
        /// The gateway would also send a push notification.
        push: bool,
    },
    /// `ret=3`: a code sent by e-mail.
    Email,
    /// `ret=4`: a code sent by SMS.
    Sms,
    /// `ret=5`: two token codes in a row.
    TokenDrift,
    /// `ret=6`: a question of the authentication server.
    Challenge,
    /// `ret=6` with `pass_renew`: a new password.
    PasswordRenewal,
    /// A page with a form (status 401).
    Form,
}

/// Why the session stopped trying. Only a person's action starts it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// User name, password, realm or group refused.
    Denied,
    /// The password has expired.
    PasswordExpired,
    /// The account needs more than a password.
    SecondFactor(SecondFactor),
    /// The same user is signed in elsewhere and the gateway allows one session.
    SessionExists,
    /// The gateway asks for a host check again and again, or for its results.
    HostCheck,
    /// The answer to the sign-in never came, so nobody knows whether it counted.
    LoginUnanswered(String),
    /// Nobody signed in with the browser in time.
    SignInTimeout,
    /// The gateway accepted the sign-in, but refuses the session that it gave.
    SessionRefused,
    /// The gateway refuses the tunnel right after a good sign-in: status, or `None` for a closed connection.
    TunnelRefused(Option<u16>),
    /// The gateway has no tunnel mode.
    NoTunnelMode,
    /// The configuration of the gateway is of no use.
    BadConfig(config::Error),
    /// The gateway answers something that is no answer.
    BadAnswer(http::Error),
    /// The gateway answers with a status that has no meaning here.
    BadStatus(u16),
    /// The gateway sends us to another host.
    OtherHost,
    /// The gateway's tunnel carries something else than frames.
    NoFrames,
    /// PPP cannot be negotiated.
    Ppp(ppp::Fault),
    /// The gateway's certificate is not trusted.
    Trust(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str(
                "the gateway refused the sign-in: check user name, password and realm, and wait a minute before \
                 the next try, because two failures lock the account for 60 s (a user outside the group, a portal \
                 without web mode or a forbidden source address look the same)",
            ),
            Self::PasswordExpired => f.write_str("the password has expired: change it, then sign in again"),
            Self::SecondFactor(factor) => factor.fmt(f),
            Self::SessionExists => {
                f.write_str("this user is signed in elsewhere and the gateway allows one session: end the other one")
            }
            Self::HostCheck => f.write_str(
                "the gateway insists on a host check, which is not supported yet: ask its administrator to exempt \
                 this client",
            ),
            Self::LoginUnanswered(why) => {
                write!(f, "the sign-in got no clear answer ({why}); it was not repeated: try again in a minute")
            }
            Self::SignInTimeout => f.write_str("nobody signed in with the browser in time: start the sign-in again"),
            Self::SessionRefused => f.write_str(
                "the gateway refuses the session of an accepted sign-in: sign in again; if that does not help, ask \
                 its administrator",
            ),
            Self::TunnelRefused(status) => {
                f.write_str("the gateway accepted the sign-in but refuses the tunnel (")?;
                match status {
                    Some(status) => write!(f, "status {status}")?,
                    None => f.write_str("it closes the connection")?,
                }
                f.write_str("): check the realm; the user's portal must allow tunnel mode and pass this host")
            }
            Self::NoTunnelMode => f.write_str(
                "the gateway has no SSL VPN tunnel mode (removed in FortiOS 7.6.3): ask its administrator for \
                 another way in",
            ),
            Self::BadConfig(why) => write!(f, "the gateway's configuration cannot be used: {why}"),
            Self::BadAnswer(why) => write!(f, "this is no FortiGate, or something is in between: {why}"),
            Self::BadStatus(status) => {
                write!(f, "this is no FortiGate SSL VPN (status {status}): check host and port")
            }
            Self::OtherHost => f.write_str("the gateway redirects to another host: give that host as the gateway"),
            Self::NoFrames => f.write_str("the gateway's tunnel carries something else than PPP frames: report it"),
            Self::Ppp(fault) => write!(f, "{fault}: try again, and report it if it stays"),
            Self::Trust(why) => write!(f, "the gateway's certificate is not trusted, nothing was sent: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for SecondFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs = match self {
            Self::Token { push: false } => "a one-time code from its token",
            Self::Token { push: true } => "a one-time code or a confirmation on the phone",
            Self::Email => "a one-time code sent by e-mail",
            Self::Sms => "a one-time code sent by SMS",
            Self::TokenDrift => "two token codes in a row",
            Self::Challenge => "an answer to a question",
            Self::PasswordRenewal => "a new password; set one on the web portal",
            Self::Form => "a one-time code on a web page",
        };
        write!(f, "this account needs {needs}; not supported yet")
    }
}

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
            Self::RoutesSkipped(count) => {
                write!(f, "{count} routes of the gateway are malformed and left out")
            }
            Self::AddressAdopted => {
                f.write_str("PPP gave another address than the configuration; using that one")
            }
        }
    }
}
