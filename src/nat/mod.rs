//! NAT44 flows, MSS and MTU.
