//! The responder against an initiator in memory, with a virtual clock.

mod connect;
mod hostile;
mod life;
mod plan;
mod post_quantum;
mod rekey;
