//! What can go wrong, each with one sentence that says what to do.

use std::fmt;

use super::{config, cookie};
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

/// Why the session stopped trying. Only a person's action starts it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// User name, password, realm or group refused.
    Denied,
    /// The gateway does not know the user.
    UnknownUser,
    /// The user is known, but no policy of the gateway lets it in.
    NoPolicy,
    /// Too many refusals: the gateway refuses everything for a while.
    LockedOut,
    /// The password has expired.
    PasswordExpired,
    /// The new password was refused; the gateway's words.
    NewPasswordRefused(String),
    /// The one-time code was refused.
    CodeRefused,
    /// The answer to the question of the authentication server was refused.
    AnswerRefused,
    /// The sign-in was not confirmed on the phone.
    PushDenied,
    /// Nobody confirmed on the phone in time.
    PushTimeout,
    /// Nobody gave the one-time code in time.
    CodeTimeout,
    /// Nobody answered the question in time.
    AnswerTimeout,
    /// The gateway asks on and on.
    TooManyRounds,
    /// The page that asks for a code has no field for one.
    BadForm,
    /// The account belongs to this realm.
    OtherRealm(String),
    /// The client certificate alone does not sign in.
    CertificateAlone,
    /// The gateway refuses the TLS client certificate, or misses one.
    ClientCertificate(String),
    /// What was given for a cookie is none.
    BadCookie(cookie::Error),
    /// The gateway refuses the cookie that was given.
    CookieRefused,
    /// The session of the cookie that was given is over.
    CookieOver,
    /// The same user is signed in elsewhere and the gateway allows one session.
    SessionExists,
    /// The gateway asks for a host check again and again, or for its results.
    HostCheck,
    /// The answer to the sign-in never came, so nobody knows whether it counted.
    LoginUnanswered(String),
    /// Nobody signed in with the browser, or gave the password, in time.
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
            Self::UnknownUser => {
                f.write_str("the gateway does not know this user: check the user name and the realm")
            }
            Self::NoPolicy => f.write_str(
                "no policy of the gateway lets this user in: check the realm, or ask its administrator for a policy \
                 for the user's group",
            ),
            Self::LockedOut => f.write_str(
                "the gateway refuses every sign-in from here for a while, because too many failed: wait a minute or \
                 more, check user name and password, then try again once",
            ),
            Self::PasswordExpired => f.write_str(
                "the password has expired: change it on the web portal or with the administrator, then sign in \
                 with the new one",
            ),
            Self::NewPasswordRefused(words) if words.is_empty() => f.write_str(
                "the gateway refused the new password: try again with one that the password policy allows",
            ),
            Self::NewPasswordRefused(words) => {
                write!(f, "the gateway refused the new password ({words}): try again with another one")
            }
            Self::CodeRefused => f.write_str(
                "the gateway refused the one-time code: wait for the next code, check the clock of the token, and \
                 sign in again",
            ),
            Self::AnswerRefused => {
                f.write_str("the gateway refused the answer to its question: sign in again and answer anew")
            }
            Self::PushDenied => f.write_str(
                "the sign-in was not confirmed on the phone: sign in again and approve it there, or give a code; if \
                 there was no time to, the gateway's remoteauthtimeout is too short",
            ),
            Self::PushTimeout => {
                f.write_str("nobody confirmed the sign-in on the phone in time: sign in again and approve it there")
            }
            Self::CodeTimeout => {
                f.write_str("nobody gave the one-time code in time: sign in again and have the token at hand")
            }
            Self::AnswerTimeout => f.write_str("nobody answered the gateway's question in time: sign in again"),
            Self::TooManyRounds => f.write_str(
                "the gateway asks one question after the other without an end: sign in again, and tell its \
                 administrator if that stays",
            ),
            Self::BadForm => f.write_str(
                "the gateway's page for the one-time code has no field for one: ask its administrator about the \
                 authentication server, and report the page",
            ),
            Self::OtherRealm(realm) => {
                write!(f, "the gateway sends this account to the realm \"{realm}\": give that realm")
            }
            Self::CertificateAlone => f.write_str(
                "the gateway does not sign in by the client certificate alone: give a user name too, or check that \
                 the certificate is the one of a PKI user",
            ),
            Self::ClientCertificate(why) => {
                write!(f, "the gateway wants a good TLS client certificate: give it, with its key ({why})")
            }
            Self::BadCookie(why) => why.fmt(f),
            Self::CookieRefused => f.write_str(
                "the gateway refuses the cookie that was given: get a new one, from the same public address as this \
                 host's and with the same User-Agent, and use it at once, for one tunnel",
            ),
            Self::CookieOver => {
                f.write_str("the session of the cookie that was given is over: sign in elsewhere and give a new one")
            }
            Self::SessionExists => {
                f.write_str("this user is signed in elsewhere and the gateway allows one session: end the other one")
            }
            Self::HostCheck => f.write_str(
                "the gateway insists on a host check: give the values that it wants, or ask its administrator to exempt \
                 this client",
            ),
            Self::LoginUnanswered(why) => {
                write!(f, "the sign-in got no clear answer ({why}); it was not repeated: try again in a minute")
            }
            Self::SignInTimeout => f.write_str("nobody signed in in time: start the sign-in again"),
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

impl Error {
    /// A short name that does not change: for documentation, status and programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::UnknownUser => "unknown-user",
            Self::NoPolicy => "no-policy",
            Self::LockedOut => "locked-out",
            Self::PasswordExpired => "password-expired",
            Self::NewPasswordRefused(_) => "new-password-refused",
            Self::CodeRefused => "code-refused",
            Self::AnswerRefused => "answer-refused",
            Self::PushDenied => "push-denied",
            Self::PushTimeout => "push-timeout",
            Self::CodeTimeout => "code-timeout",
            Self::AnswerTimeout => "answer-timeout",
            Self::TooManyRounds => "too-many-rounds",
            Self::BadForm => "bad-form",
            Self::OtherRealm(_) => "other-realm",
            Self::CertificateAlone => "certificate-alone",
            Self::ClientCertificate(_) => "client-certificate",
            Self::BadCookie(_) => "bad-cookie",
            Self::CookieRefused => "cookie-refused",
            Self::CookieOver => "cookie-over",
            Self::SessionExists => "session-exists",
            Self::HostCheck => "host-check",
            Self::LoginUnanswered(_) => "login-unanswered",
            Self::SignInTimeout => "sign-in-timeout",
            Self::SessionRefused => "session-refused",
            Self::TunnelRefused(_) => "tunnel-refused",
            Self::NoTunnelMode => "no-tunnel-mode",
            Self::BadConfig(_) => "bad-config",
            Self::BadAnswer(_) => "bad-answer",
            Self::BadStatus(_) => "bad-status",
            Self::OtherHost => "other-host",
            Self::NoFrames => "no-frames",
            Self::Ppp(_) => "ppp",
            Self::Trust(_) => "trust",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_name_of_its_own_and_one_sentence() {
        let word = || "word".to_owned();
        let all = [
            Error::Denied,
            Error::UnknownUser,
            Error::NoPolicy,
            Error::LockedOut,
            Error::PasswordExpired,
            Error::NewPasswordRefused(word()),
            Error::CodeRefused,
            Error::AnswerRefused,
            Error::PushDenied,
            Error::PushTimeout,
            Error::CodeTimeout,
            Error::AnswerTimeout,
            Error::TooManyRounds,
            Error::BadForm,
            Error::OtherRealm(word()),
            Error::CertificateAlone,
            Error::ClientCertificate(word()),
            Error::BadCookie(cookie::Error::Empty),
            Error::CookieRefused,
            Error::CookieOver,
            Error::SessionExists,
            Error::HostCheck,
            Error::LoginUnanswered(word()),
            Error::SignInTimeout,
            Error::SessionRefused,
            Error::TunnelRefused(None),
            Error::NoTunnelMode,
            Error::BadConfig(config::Error::Malformed),
            Error::BadAnswer(http::Error::ChunkSize),
            Error::BadStatus(418),
            Error::OtherHost,
            Error::NoFrames,
            Error::Ppp(ppp::Fault::Timeout),
            Error::Trust(word()),
        ];
        let mut names: Vec<_> = all.iter().map(Error::name).collect();
        for (error, name) in all.iter().zip(&names) {
            let sentence = error.to_string();
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
            assert!(
                sentence.len() > 20 && !sentence.ends_with('.') && !sentence.contains("  "),
                "{sentence}"
            );
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
