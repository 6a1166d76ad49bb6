//! Stateless NAT64 from the device to the company, and the ICMPv6 errors that answer what is not translated.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use pterodapter::nat::Prefix96;
use pterodapter::nat::nat64::{self, Limits, Mapping, Refused};
use pterodapter::wire::ip::{self, Ipv4};
use pterodapter::wire::ipv6::Ipv6;
use pterodapter::wire::{checksum, icmpv6};

const DEVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const DEVICE6: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 1, 0, 2);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0);
const LIMITS: Limits = Limits::new(1438, 1354);

fuzz_target!(|data: &[u8]| {
    // The first octet says how much is free in front, and whether the addresses are made to fit.
    let Some((&front, data)) = data.split_first() else { return };
    let mut packet = data.to_vec();
    if let Some(header) = packet.first_chunk_mut::<40>().filter(|_| front & 1 == 0) {
        header[8..24].copy_from_slice(&DEVICE6.octets());
        header[24..36].copy_from_slice(&PREFIX.octets()[..12]);
    }
    let mapping = Mapping::new(Prefix96::new(PREFIX).unwrap(), DEVICE6, DEVICE, HOST);
    fix_checksum(&mut packet);
    let front = usize::from(front);
    let mut buf = [&vec![0; front][..], &packet].concat();
    let end = buf.len();
    match nat64::translate_v6_to_v4(&mapping, &LIMITS, &mut buf, front..end, 7) {
        Ok(range) => {
            let header = Ipv4::parse(&buf[range.clone()]).unwrap();
            assert_eq!((header.src, header.total_len, header.header_len), (DEVICE, range.len(), 20));
            assert_eq!(checksum::of(&buf[range.start..range.start + 20]), 0);
            let message = header.payload(&buf[range]);
            if header.protocol == ip::ICMP && matches!(message[0], 3 | 11 | 12) {
                assert!(checksum::of(message) == 0 && header.total_len <= 576);
            }
        }
        Err(Refused { answer: Some(kind), .. }) => {
            assert_eq!(buf[front..], packet, "untouched, to be quoted");
            let mut error = [0; nat64::MAX_LEN];
            if let Some(len) = nat64::emit_error(&mut error, mapping.host_v6(), kind, &packet) {
                let header = Ipv6::parse(&error[..len]).unwrap();
                assert_eq!((header.total_len(), header.src), (len, mapping.host_v6()));
            }
        }
        Err(_) => {}
    }
});

/// Otherwise no ICMPv6 error would come past its checksum.
fn fix_checksum(packet: &mut [u8]) {
    let Ok(header) = Ipv6::parse(packet) else { return };
    let packet = &mut packet[..header.total_len()];
    let Ok(upper) = header.upper(packet) else { return };
    let message = &mut packet[upper.at..];
    if upper.protocol != 58 || message.len() < 4 {
        return;
    }
    message[icmpv6::CHECKSUM..4].fill(0);
    let pseudo = checksum::pseudo_v6(header.src.octets(), header.dst.octets(), 58, message.len() as u32);
    let sum = !checksum::fold(checksum::sum(message, pseudo));
    message[icmpv6::CHECKSUM..4].copy_from_slice(&sum.to_be_bytes());
}
