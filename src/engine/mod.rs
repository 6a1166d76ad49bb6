//! Threads, sockets and queues around the cores.

mod clock;
mod config;
mod counters;
mod datapath;
mod desk;
mod device;
mod domains;
mod event_loop;
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
pub use event_loop::{Handle, StartError, Stopper, start, start_under, try_ports};
pub use service_manager::{HandoverError, ServiceManager};
