//! ESP (RFC 4303): open, seal, replay window.
