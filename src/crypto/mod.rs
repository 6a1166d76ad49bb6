//! Cryptography by name: the only place that names ring (and RustCrypto for what ring lacks).
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

pub mod cipher;
mod der;
pub mod dh;
mod error;
pub mod hash;
pub mod kem;
pub mod method14;
pub mod mschapv2;
pub mod pem;
pub mod pkcs12;
pub mod pki;
pub mod prf;
pub mod rng;
pub mod rsa;
mod secret;
pub mod sign;
mod suite;
pub mod tls;

pub use error::Error;
pub use pki::{Certificate, TrustAnchors};
pub use rng::SystemRandom;
pub use secret::Secret;
pub use sign::PrivateKey;
pub use suite::{Cipher, Group, Integrity, Kem, Prf};
