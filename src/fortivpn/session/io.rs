//! What goes into a session and what comes out.

use std::fmt;
use std::time::Duration;

use crate::crypto::Secret;
use crate::fortivpn::config::TunnelConfig;
use crate::fortivpn::error::{CloseReason, Error};
use crate::fortivpn::event::{DownReason, Event};
use crate::fortivpn::question::{Answer, Question};
use crate::fortivpn::{DEFAULT_MRU, DEFAULT_USER_AGENT};

/// Where to connect and who we are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Host name or address of the gateway.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Realm, where the account is not in the default one.
    pub realm: Option<String>,
    /// How to sign in.
    pub credentials: Credentials,
    /// `User-Agent`; [`DEFAULT_USER_AGENT`] unless the gateway is special.
    pub user_agent: String,
    /// The MRU to offer, in octets; [`DEFAULT_MRU`] is what gateways expect.
    pub mru: u16,
    /// Ask for a push notification where the gateway offers one, instead of a code.
    pub push: bool,
    /// Go on with the old password where the gateway offers a new one but does not insist.
    pub keep_password: bool,
    /// The results of a host check, for gateways that insist on one.
    pub host_check: Option<HostCheckValues>,
}

/// What the gateway's host check would find, as its administrator knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCheckValues {
    /// Value of `hostcheck`.
    pub hostcheck: String,
    /// Value of `check_virtual_desktop`.
    pub virtual_desktop: String,
}

impl Config {
    /// The usual settings for a gateway.
    pub fn new(host: impl Into<String>, port: u16, credentials: Credentials) -> Self {
        Self {
            host: host.into(),
            port,
            realm: None,
            credentials,
            user_agent: DEFAULT_USER_AGENT.to_owned(),
            mru: DEFAULT_MRU,
            push: true,
            keep_password: true,
            host_check: None,
        }
    }
}

/// How to sign in. A TLS client certificate, where there is one, goes with any of them.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// With the browser.
    Saml,
    /// With user name and password.
    Password {
        /// User name.
        username: String,
        /// Password; without one a person is asked.
        password: Option<Secret>,
    },
    /// With a user name and whatever the gateway then asks for; mostly behind a client certificate.
    Username {
        /// User name.
        username: String,
    },
    /// With the TLS client certificate alone.
    Certificate,
    /// With the cookie of a session that was signed in elsewhere, in any form that [`cookie::parse_given`] reads.
    ///
    /// [`cookie::parse_given`]: crate::fortivpn::cookie::parse_given
    Cookie(Secret),
}

/// What the session is told.
pub enum Input {
    /// Connect the uplink. A person's action.
    Start,
    /// TLS is up, and the gateway's certificate was accepted.
    Connected,
    /// The connection ended, or did not come up.
    Closed(CloseReason),
    /// The browser came back with this id.
    SamlId(String),
    /// A person, or a program for one, answers an [`Output::Ask`].
    Answer {
        /// Which question.
        question: u32,
        /// The answer.
        answer: Answer,
    },
    /// A person gives the cookie of a session that was signed in elsewhere; in any form, as in [`Credentials`].
    Cookie(Secret),
    /// Sign in like this from the next time on; host and port stay what they are. The tunnel that is up stays, and so
    /// does what a person is asked for now.
    Settings {
        /// With all its secrets.
        config: Box<Config>,
        /// The credentials are others than before. Otherwise what was refused is not sent again.
        credentials_changed: bool,
    },
    /// The host's addresses or routes changed: see whether the gateway is still there.
    NetworkChanged,
    /// A person's action: try again now, also what was refused.
    Retry,
    /// End the session, within three seconds.
    Stop,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("Start"),
            Self::Connected => f.write_str("Connected"),
            Self::Closed(reason) => write!(f, "Closed({reason:?})"),
            Self::SamlId(_) => f.write_str("SamlId([redacted])"),
            Self::Answer { question, .. } => write!(f, "Answer({question}, [redacted])"),
            Self::Cookie(_) => f.write_str("Cookie([redacted])"),
            Self::Settings { config, .. } => write!(f, "Settings({config:?})"),
            Self::NetworkChanged => f.write_str("NetworkChanged"),
            Self::Retry => f.write_str("Retry"),
            Self::Stop => f.write_str("Stop"),
        }
    }
}

/// What the session wants.
#[derive(PartialEq, Eq)]
pub enum Output {
    /// Open a TLS connection to the gateway; answer with `Connected` or `Closed`.
    Connect,
    /// Close the connection, or give up opening it. Nothing about it is told to the session any more.
    Disconnect {
        /// Flush and send close_notify first.
        graceful: bool,
    },
    /// Send these octets inside TLS. They may be secret.
    Write(Vec<u8>),
    /// A person has to open this link; the browser brings the id for [`Input::SamlId`].
    LoginNeeded {
        /// The link.
        url: String,
        /// The tunnel is still up, and the gateway ends the session after this time.
        left: Option<Duration>,
    },
    /// A person has to answer this; see [`Input::Answer`]. It takes the place of the question before it.
    Ask(Question),
    /// Nothing is wanted from a person any more: the link and the question are void.
    LoginDone,
    /// IPv4 packets may flow. Comes again when PPP changed something.
    Up(TunnelConfig),
    /// The tunnel is gone; the session goes on by itself.
    Down(DownReason),
    /// The session waits for [`Input::Retry`].
    Failed(Error),
    /// Something to log.
    Note(Event),
    /// After [`Input::Stop`]: there is nothing more to do.
    Stopped,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("Connect"),
            Self::Disconnect { graceful } => write!(f, "Disconnect {{ graceful: {graceful} }}"),
            Self::Write(bytes) => write!(f, "Write([{} octets redacted])", bytes.len()),
            Self::LoginNeeded { url, left } => write!(f, "LoginNeeded({url}, {left:?})"),
            Self::Ask(question) => write!(f, "Ask({question:?})"),
            Self::LoginDone => f.write_str("LoginDone"),
            Self::Up(config) => write!(f, "Up({config:?})"),
            Self::Down(reason) => write!(f, "Down({reason:?})"),
            Self::Failed(error) => write!(f, "Failed({error:?})"),
            Self::Note(event) => write!(f, "Note({event:?})"),
            Self::Stopped => f.write_str("Stopped"),
        }
    }
}
