//! IKEv2 messages over bytes (RFC 7296 section 3, RFC 7383): header, payload chain, and the bodies of payloads.
//! Both ways, and without cryptography: what is encrypted comes and goes as octets.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod body;
mod chain;
mod config;
mod header;
mod notify;
mod proposal;
mod protected;
mod selector;

pub use body::{
    Auth, Cert, Delete, Id, IdType, Ke, auth_method, emit_cert_request, parse_cert_request, parse_nonce,
};
pub use chain::{Chain, ChainError, MAX_PAYLOADS, Payload, parse_chain};
pub use config::{Attribute, CfgType, Configuration, attribute};
pub use header::{Exchange, HEADER_LEN, Header};
pub use notify::{Notify, notify_type};
pub use proposal::{
    KeyLength, MAX_PROPOSALS, Proposal, Transform, emit_proposals, parse_proposals, protocol, transform_type,
};
pub use protected::{FragmentNumber, Protected, emit_protected_head, protected_head_len};
pub use selector::{MAX_SELECTORS, emit_selectors, parse_selectors};

/// Payload types (RFC 7296 section 3.2, RFC 7383 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Security Association.
    Sa = 33,
    /// Key Exchange.
    Ke = 34,
    /// Identification of the initiator.
    IdI = 35,
    /// Identification of the responder.
    IdR = 36,
    /// Certificate.
    Cert = 37,
    /// Certificate Request.
    CertReq = 38,
    /// Authentication.
    Auth = 39,
    /// Nonce.
    Nonce = 40,
    /// Notify.
    Notify = 41,
    /// Delete.
    Delete = 42,
    /// Vendor ID.
    Vendor = 43,
    /// Traffic selectors of the initiator.
    TsI = 44,
    /// Traffic selectors of the responder.
    TsR = 45,
    /// Encrypted and Authenticated.
    Sk = 46,
    /// Configuration.
    Cp = 47,
    /// Extensible Authentication.
    Eap = 48,
    /// Encrypted and Authenticated Fragment.
    Skf = 53,
}

impl Kind {
    /// The payload type with this number, if we know it.
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            33 => Self::Sa,
            34 => Self::Ke,
            35 => Self::IdI,
            36 => Self::IdR,
            37 => Self::Cert,
            38 => Self::CertReq,
            39 => Self::Auth,
            40 => Self::Nonce,
            41 => Self::Notify,
            42 => Self::Delete,
            43 => Self::Vendor,
            44 => Self::TsI,
            45 => Self::TsR,
            46 => Self::Sk,
            47 => Self::Cp,
            48 => Self::Eap,
            53 => Self::Skf,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
