//! The responder against an initiator in memory, with a virtual clock.

mod connect;
mod eap;
mod eap_tls;
mod life;
mod negative;
mod network;
mod plan;
mod psk;
mod rekey;
