//! A FortiVPN gateway and an IKEv2 probe client.

pub mod probe;
pub mod gateway;
