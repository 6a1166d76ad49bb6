//! What goes into a session and what comes out.

use std::fmt;

use crate::crypto::Secret;
use crate::fortivpn::config::TunnelConfig;
use crate::fortivpn::error::{CloseReason, DownReason, Error, Event};

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
    /// `User-Agent`; [`crate::fortivpn::DEFAULT_USER_AGENT`] unless the gateway is special.
    pub user_agent: String,
    /// The MRU to offer, in octets; [`crate::fortivpn::DEFAULT_MRU`] is what gateways expect.
    pub mru: u16,
}

/// How to sign in.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// With the browser; it comes back to this port on loopback.
    Saml {
        /// `saml-redirect-port` of the gateway.
        port: u16,
    },
    /// With a password.
    Password {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
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
    /// A person has to open this link; listen on loopback for the browser.
    LoginNeeded {
        /// The link.
        url: String,
    },
    /// Stop listening.
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
            Self::LoginNeeded { url } => write!(f, "LoginNeeded({url})"),
            Self::LoginDone => f.write_str("LoginDone"),
            Self::Up(config) => write!(f, "Up({config:?})"),
            Self::Down(reason) => write!(f, "Down({reason:?})"),
            Self::Failed(error) => write!(f, "Failed({error:?})"),
            Self::Note(event) => write!(f, "Note({event:?})"),
            Self::Stopped => f.write_str("Stopped"),
        }
    }
}
