//! Stateless NAT64 from the company to the device, pieces included, and what answers a packet that is not translated.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use pterodapter::nat::nat64::{self, Limits, Mapping, Refused, Translated};
use pterodapter::nat::{Prefix96, icmp};
use pterodapter::wire::checksum;
use pterodapter::wire::ip::{self, Ipv4};
use pterodapter::wire::ipv6::Ipv6;

const DEVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const DEVICE6: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 1, 0, 2);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0);
const LIMITS: Limits = Limits::new(1438, 1354);

fuzz_target!(|data: &[u8]| {
    // The first octet says how much is free in front, and whether the packet is made to fit.
    let Some((&front, data)) = data.split_first() else { return };
    let mut packet = data.to_vec();
    if front & 1 == 0 {
        fix(&mut packet);
    }
    let mapping = Mapping::new(Prefix96::new(PREFIX).unwrap(), DEVICE6, DEVICE, HOST);
    let front = usize::from(front);
    let mut buf = [&vec![0; front][..], &packet].concat();
    let end = buf.len();
    match nat64::translate_v4_to_v6(&mapping, &LIMITS, &mut buf, front..end) {
        Ok(Translated::Whole(range)) => {
            let header = Ipv6::parse(&buf[range.clone()]).unwrap();
            assert_eq!((header.dst, header.total_len()), (DEVICE6, range.len()));
            let message = &buf[range][40..];
            if header.next_header == 58 && message[0] < 128 {
                let pseudo =
                    checksum::pseudo_v6(header.src.octets(), header.dst.octets(), 58, message.len() as u32);
                assert_eq!(checksum::fold(checksum::sum(message, pseudo)), 0xffff);
                assert!(header.total_len() <= 1280);
            }
        }
        Ok(Translated::Split(split)) => {
            assert!(split.count() > 0 && split.count() <= nat64::max_pieces(&LIMITS, packet.len()));
            let mut next = None;
            for index in 0..split.count() {
                // Offsets may run out where the packet was a late fragment.
                let Some(piece) = split.piece(index) else { break };
                assert!(next.is_none_or(|next| next == piece.payload.start));
                next = Some(piece.payload.end);
                let packet = [&piece.headers[..], &buf[piece.payload]].concat();
                assert_eq!(Ipv6::parse(&packet).map(|header| header.total_len()), Ok(packet.len()));
                assert!(packet.len() <= 1280);
            }
        }
        Err(Refused { answer: Some(kind), .. }) => {
            assert_eq!(buf[front..], packet, "untouched, to be quoted");
            let mut error = [0; icmp::MAX_LEN];
            if let Some(len) = icmp::emit_error(&mut error, HOST, kind, &packet) {
                assert_eq!(Ipv4::parse(&error[..len]).map(|header| header.src), Ok(HOST));
            }
        }
        Err(_) => {}
    }
    let _ = nat64::room_in_front(&packet);
});

/// Otherwise hardly a packet would come past its destination and checksums.
fn fix(packet: &mut [u8]) {
    let Ok(header) = Ipv4::parse(packet) else { return };
    packet[16..20].copy_from_slice(&DEVICE.octets());
    if header.protocol == ip::ICMP && header.total_len >= header.header_len + 4 {
        let message = &mut packet[header.header_len..header.total_len];
        message[2..4].fill(0);
        let sum = checksum::of(message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..header.header_len]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}
