//! The responder against an initiator in memory, with a virtual clock.

mod connect;
mod eap;
mod life;
mod negative;
mod network;
mod plan;
mod psk;
mod rekey;
