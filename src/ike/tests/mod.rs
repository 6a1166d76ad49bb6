//! The responder against an initiator in memory, with a virtual clock.

mod admission;
mod clients;
mod collide;
mod connect;
mod eap;
mod eap_tls;
mod habits;
mod life;
mod mobike;
mod negative;
mod network;
mod plan;
mod post_quantum;
mod psk;
mod rekey;
