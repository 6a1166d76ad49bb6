//! The IKEv2 responder (RFC 7296).
