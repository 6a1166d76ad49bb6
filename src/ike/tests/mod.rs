//! The responder against an initiator in memory, with a virtual clock.

mod clients;
mod connect;
mod hostile;
mod life;
mod plan;
mod rekey;
