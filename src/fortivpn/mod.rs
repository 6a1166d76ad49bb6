//! The FortiVPN client: login, configuration, tunnel, session.
//!
//! [`Session`] is the whole of it. It speaks through one TLS connection at a time, which the engine opens and
//! closes for it; the certificate is the engine's matter, and nothing is written before it was accepted.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

pub mod config;
pub mod cookie;
mod error;
mod event;
mod login;
mod policy;
mod question;
pub mod saml;
mod session;
mod text;
mod tunnel;

pub use config::{Reuse, Route, SplitDns, TunnelConfig};
pub use error::{CloseReason, Error};
pub use event::{DownReason, Event};
pub use question::{Answer, Question, QuestionKind};
pub use session::{Config, Credentials, HostCheckValues, Input, Output, Session};
pub use tunnel::Stats;

/// The User-Agent that every FortiGate knows, unless configured otherwise.
pub const DEFAULT_USER_AGENT: &str = "Mozilla/5.0 SV1";
/// The MRU that every FortiGate has seen.
pub const DEFAULT_MRU: u16 = 1354;
