//! ICMP messages (RFC 792): types, and echoes.

use std::net::Ipv4Addr;

use super::edit::put;
use super::{checksum, ip};

/// Length of the header: type, code, checksum and four octets that depend on the type.
pub const HEADER_LEN: usize = 8;
/// Offset of the checksum.
pub const CHECKSUM: usize = 2;
/// Offset of the identifier of a query.
pub const ID: usize = 4;

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;
/// Timestamp request.
pub const TIMESTAMP_REQUEST: u8 = 13;
/// Timestamp reply.
pub const TIMESTAMP_REPLY: u8 = 14;

/// What a message is to a translator (RFC 5508).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Asks, with an identifier.
    Query,
    /// Answers a query, with the same identifier.
    Reply,
    /// Quotes the packet that it is about.
    Error,
    /// Anything else (redirects, router discovery): not for routers to pass on.
    Other,
}

/// The class of a message by its type.
pub const fn class(kind: u8) -> Class {
    match kind {
        ECHO_REQUEST | TIMESTAMP_REQUEST => Class::Query,
        ECHO_REPLY | TIMESTAMP_REPLY => Class::Reply,
        UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM => Class::Error,
        _ => Class::Other,
    }
}

/// Builds a packet with an echo request. The identification of the packet is also that of the echo.
pub fn echo_request(id: u16, from: Ipv4Addr, to: Ipv4Addr) -> Option<Vec<u8>> {
    let mut packet = vec![0; ip::HEADER_LEN];
    ip::emit_header(&mut packet, id, ip::ICMP, from, to, HEADER_LEN)?;
    let [high, low] = id.to_be_bytes();
    let mut request = [ECHO_REQUEST, 0, 0, 0, high, low, 0, 0];
    let sum = checksum::of(&request);
    put(&mut request, CHECKSUM, sum.to_be_bytes())?;
    packet.extend(request);
    Some(packet)
}

/// Builds the packet that answers the echo request `message` (ICMP header and data). `None` where `message` is no echo
/// request or its checksum is wrong.
pub fn echo_reply(id: u16, from: Ipv4Addr, to: Ipv4Addr, message: &[u8]) -> Option<Vec<u8>> {
    if message.len() < HEADER_LEN || message.first() != Some(&ECHO_REQUEST) || checksum::of(message) != 0 {
        return None;
    }
    let mut packet = vec![0; ip::HEADER_LEN];
    ip::emit_header(&mut packet, id, ip::ICMP, from, to, message.len())?;
    packet.extend_from_slice(message);
    let reply = packet.get_mut(ip::HEADER_LEN..)?;
    put(reply, 0, [ECHO_REPLY, 0, 0, 0])?;
    let sum = checksum::of(reply);
    put(reply, CHECKSUM, sum.to_be_bytes())?;
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_is_answered_with_the_same_data() {
        let (here, there) = (Ipv4Addr::new(198, 19, 255, 1), Ipv4Addr::new(198, 19, 255, 2));
        let mut request = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, b'h', b'i', b'!'];
        assert_eq!(echo_reply(1, here, there, &request), None, "checksum");
        let sum = checksum::of(&request).to_be_bytes();
        request[2..4].copy_from_slice(&sum);
        let packet = echo_reply(1, here, there, &request).unwrap();
        let header = ip::Ipv4::parse(&packet).unwrap();
        assert_eq!((header.src, header.dst), (here, there));
        let reply = header.payload(&packet);
        assert_eq!((reply[0], checksum::of(reply), &reply[4..]), (0, 0, &request[4..]));
        for len in 0..request.len() {
            assert_eq!(echo_reply(1, here, there, &request[..len]), None);
        }
        let request = echo_request(7, there, here).unwrap();
        let request = ip::Ipv4::parse(&request).unwrap().payload(&request);
        assert!(echo_reply(1, here, there, request).is_some());
    }
}
