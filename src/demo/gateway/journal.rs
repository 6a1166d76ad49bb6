//! What the gateway has seen, for tests to look at. Secrets are left out when an entry is made.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::factor::Step;

/// Entries beyond this many are not kept.
const LIMIT: usize = 65_536;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A TCP connection was accepted.
    Accepted(SocketAddr),
    /// A TLS handshake failed.
    TlsFailed(String),
    /// A request head was read.
    Request(RequestHead),
    /// The status that answered the request before it.
    Answered(u16),
    /// A login attempt and how it ended.
    Login {
        /// The name as sent.
        user: String,
        /// The realm as sent; empty is the default one.
        realm: String,
        /// How it ended.
        outcome: LoginOutcome,
    },
    /// A second factor was answered.
    SecondFactor {
        /// The user's name.
        user: String,
        /// What was asked for.
        step: Step,
        /// What the answer was worth.
        outcome: FactorOutcome,
    },
    /// A SAML id was traded for a cookie, or not.
    SamlTrade(bool),
    /// A tunnel request was refused.
    TunnelRefused(&'static str),
    /// The PPP link of a tunnel came up with this client address.
    TunnelUp(Ipv4Addr),
    /// The PPP link of a tunnel that was up has been negotiated anew.
    LinkAgain(Ipv4Addr),
    /// A tunnel ended.
    TunnelDown {
        /// The client's address.
        address: Ipv4Addr,
        /// Who ended it, and how.
        why: TunnelEnd,
        /// What went through.
        counts: Counts,
    },
    /// A user logged out.
    Logout(String),
    /// The gateway is back after a restart.
    Restarted,
    /// The client broke a rule that a gateway enforces.
    Violation(&'static str),
}

/// A request without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query, decoded; values of secret keys are `*`.
    pub query: Vec<(String, String)>,
    /// Names in lower case and values of the headers; cookie values are `*`.
    pub headers: Vec<(String, String)>,
    /// Keys of the form in the body, in order.
    pub form_keys: Vec<String>,
}

impl RequestHead {
    /// The value of the header `name` (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// How a login attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// A session was made.
    Granted,
    /// Wrong name, password or realm.
    Denied,
    /// The source address is blocked.
    LockedOut,
    /// Name and password were right, and a second factor is asked for. `Granted` or `Denied` follows.
    Asked,
}

/// What an answer to a second factor was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorOutcome {
    /// Right.
    Accepted,
    /// Wrong; the login is denied.
    Refused,
    /// Wrong; the question comes again.
    AskedAgain,
    /// The password is not changed now.
    Skipped,
    /// The person has denied the push.
    PushDenied,
    /// Nobody has decided about the push.
    TimedOut,
    /// The answer does not bring back what the question came with.
    NotEchoed,
}

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// The client sent a Terminate-Request.
    ClientTerminated,
    /// The client closed the connection, or it broke.
    ClientClosed,
    /// The client's bytes were no frames.
    OutOfSync,
    /// The gateway was told to drop it.
    Dropped(super::CloseStyle),
    /// The session's idle timeout.
    Idle,
    /// The session's authentication timeout.
    AuthExpired,
    /// The gateway stopped.
    Stopped,
}

/// Frames and packets of one tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames from the client.
    pub frames_in: u64,
    /// Frames to the client.
    pub frames_out: u64,
    /// IP packets from the client.
    pub packets_in: u64,
    /// Octets of IP packets from the client.
    pub octets_in: u64,
    /// LCP Echo-Requests from the client.
    pub echoes_in: u64,
    /// Packets dropped because their source is not the assigned address.
    pub spoofed: u64,
    /// Frames that were malformed or came at the wrong time.
    pub ignored: u64,
}

/// An event and when it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Since the gateway started.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

#[derive(Default)]
pub(super) struct Journal(Mutex<Vec<Entry>>);

impl Journal {
    pub(super) fn note(&self, at: Duration, event: Event) {
        log::debug!("gateway double: {event:?}");
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() < LIMIT {
            entries.push(Entry { at, event });
        }
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
