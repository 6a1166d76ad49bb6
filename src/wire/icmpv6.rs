//! ICMPv6 messages (RFC 4443): types, and what a checksum covers.

/// Length of the header: type, code, checksum and four octets that depend on the type.
pub const HEADER_LEN: usize = 8;
/// Offset of the checksum. It covers an IPv6 pseudo header as well.
pub const CHECKSUM: usize = 2;

/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;

/// Redirect (RFC 4861): informational by number, but no error may answer it (RFC 4443 section 2.4).
const REDIRECT: u8 = 137;

/// True where no ICMPv6 error may be sent about a message of this type: errors, known or not, and redirects.
pub const fn is_error(kind: u8) -> bool {
    kind < 128 || kind == REDIRECT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_number() {
        for kind in [UNREACHABLE, PACKET_TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM, 0, 100, 127, REDIRECT] {
            assert!(is_error(kind), "{kind}");
        }
        for kind in [ECHO_REQUEST, ECHO_REPLY, 130, 143, 255] {
            assert!(!is_error(kind), "{kind}");
        }
    }
}
