//! A FortiVPN gateway and an IKEv2 probe client, and the demonstration that puts the daemon between them.

pub mod gateway;
pub mod probe;
pub mod run;
