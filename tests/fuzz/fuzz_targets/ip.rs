//! Address translation in both directions, MSS clamping, fragmentation and ICMP errors, over a sequence of packets.
#![no_main]

use std::net::Ipv4Addr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pterodapter::nat::icmp::{self, Kind};
use pterodapter::nat::{Flows, mtu};
use pterodapter::wire::ip::Ipv4;
use pterodapter_fuzz::{Counter, Events};

const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 1);
const DEVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 2);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(10, 212, 134, 200);

fuzz_target!(|data: &[u8]| {
    let mut flows = Flows::new(64, HOST, &mut Counter::default());
    flows.set_external(Some(EXTERNAL));
    let mut now = Duration::ZERO;
    for (kind, bytes) in Events(data) {
        let mut packet = bytes.to_vec();
        match kind % 8 {
            0 => {
                if flows.translate_outbound(now, &mut packet).is_ok() {
                    assert_eq!(Ipv4::parse(&packet).map(|ip| ip.src), Ok(EXTERNAL));
                }
            }
            1 => match flows.translate_inbound(now, &mut packet) {
                Ok(device) => assert_eq!(Ipv4::parse(&packet).map(|ip| ip.dst), Ok(device)),
                Err(_) => drop(flows.forward_unsolicited(now, &mut packet, DEVICE)),
            },
            2 => drop(mtu::clamp_mss(&mut packet, 1200)),
            3 => {
                let limit = 576;
                let _ = mtu::fragment(&mut packet, limit, |piece| {
                    assert!(piece.len() <= limit && Ipv4::parse(piece).is_ok());
                });
            }
            4 => {
                let mut buf = [0; icmp::MAX_LEN];
                for kind in [Kind::FragNeeded { mtu: 1200 }, Kind::NetUnreachable, Kind::TtlExceeded] {
                    if let Some(len) = icmp::emit_error(&mut buf, HOST, kind, &packet) {
                        assert_eq!(Ipv4::parse(&buf[..len]).map(|ip| ip.src), Ok(HOST));
                    }
                }
            }
            5 => flows.set_external((bytes.len() % 2 == 0).then_some(EXTERNAL)),
            _ => {
                now += Duration::from_millis(bytes.len() as u64 * 100);
                flows.handle_timeout(now);
            }
        }
        while flows.poll_held().is_some() {}
        assert!(flows.len() <= 64);
    }
});
