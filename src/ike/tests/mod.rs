//! The responder against an initiator in memory, with a virtual clock.

mod connect;
mod life;
mod negative;
mod network;
mod plan;
mod rekey;
