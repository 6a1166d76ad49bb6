//! ESP: what a stranger sends is refused; what we seal opens again, and not after a flip of any bit.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pterodapter::base::{ChildSa, DeviceId, Path};
use pterodapter::crypto::{Cipher, Integrity, Secret};
use pterodapter::esp::{self, LANES, ReplayWindow, Sa};

/// Both directions have the same key, so that one SA opens what it seals.
static SAS: LazyLock<[Sa; 7]> = LazyLock::new(|| {
    [
        Cipher::Aes128Gcm,
        Cipher::Aes256Gcm,
        Cipher::ChaCha20Poly1305,
        Cipher::Aes128Cbc(Integrity::HmacSha1),
        Cipher::Aes256Cbc(Integrity::HmacSha256),
        Cipher::Aes128Cbc(Integrity::HmacSha384),
        Cipher::Aes256Cbc(Integrity::HmacSha512),
    ]
    .map(sa)
});

fn sa(cipher: Cipher) -> Sa {
    let key = || Secret::new(vec![7; cipher.keymat_len()]);
    let address = Ipv4Addr::new(198, 19, 255, 2);
    let path = Path {
        socket: 0,
        local: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        local_port: 4500,
        remote: ([192, 0, 2, 1], 4500).into(),
        marker: true,
    };
    let child = ChildSa {
        device: DeviceId(1),
        spi_in: 0x1234_5678,
        spi_out: 0x1234_5678,
        cipher,
        key_in: key(),
        key_out: key(),
        address,
        address6: None,
        ts_local: Vec::new(),
        ts_remote: Vec::new(),
        path,
        replaces: None,
    };
    Sa::new(&child).expect("key of the right length")
}

fuzz_target!(|data: &[u8]| {
    let _ = esp::sequence(data);
    let Some((&choice, data)) = data.split_first() else { return };
    let sa = &SAS[usize::from(choice) % SAS.len()];
    let mut forged = data.to_vec();
    assert!(esp::open(sa, &mut forged).is_err(), "a forgery passed");

    let Some((&[a, b, c, d, flip], inner)) = data.split_first_chunk::<5>() else { return };
    let seq = u32::from_be_bytes([a, b, c, d]);
    let mut packet = vec![0; sa.sealed_len(inner.len())];
    packet[sa.headroom()..][..inner.len()].copy_from_slice(inner);
    let Ok(len) = esp::seal(sa, seq, &mut packet, inner.len()) else { return };
    assert_eq!(len, packet.len());
    let mut flipped = packet.clone();
    let at = usize::from(flip) % len;
    flipped[at] ^= 1 << (flip % 8);
    // The SPI has led to the SA already; it is part of what is authenticated all the same.
    assert!(esp::open(sa, &mut flipped).is_err(), "octet {at} is not protected");

    together(sa, seq, inner, &packet);
    let opened = esp::open(sa, &mut packet).expect("our own packet");
    assert_eq!((opened.seq, &packet[opened.inner]), (seq, inner));

    let mut window = ReplayWindow::new();
    for pair in inner.chunks_exact(2) {
        let seq = u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        let fresh = window.check(seq).is_ok();
        assert_eq!(window.commit(seq).is_ok(), fresh);
        assert!(window.commit(seq).is_err(), "{seq} passed twice");
    }
});

/// Packets sealed side by side are those sealed one after the other. `first` is the first of them; each of the others has
/// half of the one before inside.
fn together(sa: &Sa, seq: u32, inner: &[u8], first: &[u8]) {
    let mut len = inner.len();
    let mut one_by_one = vec![first.to_vec()];
    let mut packets = vec![lay_out(sa, seq, inner)];
    while let (Some(next), true) = (seq.checked_add(packets.len() as u32), packets.len() < LANES && len > 1) {
        len /= 2;
        let mut packet = vec![0; sa.sealed_len(len)];
        packet[sa.headroom()..][..len].copy_from_slice(&inner[..len]);
        assert_eq!(esp::seal(sa, next, &mut packet, len), Ok(packet.len()));
        one_by_one.push(packet);
        packets.push(lay_out(sa, next, &inner[..len]));
    }
    esp::seal_all(sa, packets.iter_mut().map(Vec::as_mut_slice)).expect("sealed");
    assert_eq!(packets, one_by_one);
}

fn lay_out(sa: &Sa, seq: u32, inner: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; sa.sealed_len(inner.len())];
    packet[sa.headroom()..][..inner.len()].copy_from_slice(inner);
    assert_eq!(esp::lay_out(sa, seq, &mut packet, inner.len()), Ok(packet.len()));
    packet
}
