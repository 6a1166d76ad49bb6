//! Threads, sockets and queues around the cores.

pub mod capture;
mod clock;
mod config;
pub mod control;
mod counters;
mod datapath;
mod desk;
mod device;
mod domains;
mod event_loop;
mod helper;
mod ike_thread;
#[doc(hidden)]
pub mod job;
mod network;
pub mod page;
mod plan;
mod reassembly;
mod reload;
mod service_manager;
mod state;
pub mod status;
pub mod sys;
mod transport;
mod udp;
mod uplink;
mod worker;

pub mod host;

pub use crate::dns::Suffix;
pub use crate::ike::{Access, Credential, Identity, Pattern, Ppk, Secrets};
pub use crate::nat::Prefix96;
pub use clock::Clock;
pub use config::{Config, MAX_TUNNEL_DOMAINS, Pool, SignIn, Split};
pub use counters::{Counters, Snapshot};
pub use desk::{Refusal, Request, Submission, is_sign_in_id};
pub use event_loop::{Handle, StartError, Stopper, Submitter, start, start_under, try_ports};
pub use reload::{NewSignIn, ReloadRequest, Reloader, Update};
pub use service_manager::{HandoverError, ServiceManager};
pub use state::{Device, State, Uplink};
pub use status::Status;
pub use transport::{ClientCertificate, Pin, PinError, Proxy, ProxyError, ProxyKind, Transport};
