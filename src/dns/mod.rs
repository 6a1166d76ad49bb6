//! The DNS forwarder of the in-tunnel host.
