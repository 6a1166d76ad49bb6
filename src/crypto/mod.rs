//! Cryptography by name: the only place that names ring (and, later, RustCrypto for what ring lacks).

mod secret;
mod suite;

pub use secret::Secret;
pub use suite::{Aead, Group, Prf};
