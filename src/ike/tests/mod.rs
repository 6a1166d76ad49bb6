//! The responder against an initiator in memory, with a virtual clock.

mod clients;
mod connect;
mod eap;
mod eap_tls;
mod hostile;
mod life;
mod plan;
mod psk;
mod rekey;
