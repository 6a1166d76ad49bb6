//! LCP and IPCP as client (RFC 1661, RFC 1332).
