//! Threads, sockets and queues around the cores.

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
pub mod page;
mod plan;
mod reassembly;
mod service_manager;
mod state;
pub mod sys;
mod tls;
mod udp;
mod uplink;
mod worker;

pub mod host;

pub use crate::dns::Suffix;
pub use crate::nat::Prefix96;
pub use clock::Clock;
pub use config::{
    ClientCertificate, Config, Identity, MAX_TUNNEL_DOMAINS, Pin, Pool, Proxy, ProxyKind, SignIn, Split,
    Transport,
};
pub use counters::{Counters, Snapshot};
pub use desk::{Refusal, Request, Submission};
pub use event_loop::{Handle, StartError, Stopper, Submitter, start, start_under};
pub use service_manager::{HandoverError, ServiceManager};
pub use state::Uplink;
