use super::*;
use crate::base::Path;
use crate::crypto::{Integrity, Secret};

const ALL: [Cipher; 7] = [
    Cipher::Aes128Gcm,
    Cipher::Aes256Gcm,
    Cipher::ChaCha20Poly1305,
    Cipher::Aes128Cbc(Integrity::HmacSha1),
    Cipher::Aes256Cbc(Integrity::HmacSha256),
    Cipher::Aes256Cbc(Integrity::HmacSha384),
    Cipher::Aes256Cbc(Integrity::HmacSha512),
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// An SA whose two directions share one key, so that it opens what it seals.
fn sa(cipher: Cipher, spi: u32, first_key_octet: u8) -> Sa {
    let mut keymat: Vec<u8> = (first_key_octet..).take(cipher.keymat_len()).collect();
    if cipher.integrity().is_none() {
        let salt = keymat.last_chunk_mut().unwrap();
        *salt = [0xa0, 0xa1, 0xa2, 0xa3];
    }
    Sa::new(&ChildSa {
        device: DeviceId(1),
        spi_in: spi,
        spi_out: spi,
        cipher,
        key_in: Secret::new(keymat.clone()),
        key_out: Secret::new(keymat),
        address: Ipv4Addr::new(198, 19, 255, 2),
        address6: None,
        ts_local: Vec::new(),
        ts_remote: Vec::new(),
        path: Path {
            socket: 0,
            local: None,
            local_port: 4500,
            remote: "192.0.2.1:4500".parse().unwrap(),
            marker: true,
        },
        replaces: None,
    })
    .unwrap()
}

/// `inner` sealed in a buffer of just the right length.
fn sealed(sa: &Sa, seq: u32, inner: &[u8]) -> Vec<u8> {
    let mut buf = vec![0xee; sa.sealed_len(inner.len())];
    buf[sa.headroom()..][..inner.len()].copy_from_slice(inner);
    assert_eq!(seal(sa, seq, &mut buf, inner.len()), Ok(buf.len()));
    buf
}

/// A packet with any plaintext, authentic.
fn forged(sa: &Sa, plaintext: &[u8]) -> Vec<u8> {
    let header = [sa.spi_out.to_be_bytes(), 9u32.to_be_bytes()].concat();
    let (mut iv, mut tag) = (vec![0; sa.cipher().iv_len()], vec![0; sa.cipher().tag_len()]);
    let mut body = plaintext.to_vec();
    sa.outbound.seal(3, &header, &mut iv, &mut body, &mut tag).unwrap();
    [header, iv, body, tag].concat()
}

#[test]
fn opens_the_packet_of_rfc_7634_appendix_a() {
    let sa = sa(Cipher::ChaCha20Poly1305, 0x0102_0304, 0x80);
    let mut packet = hex("01020304 00000005 1011121314151617
         24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f7
         2aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b82829f641e0
         76aaa8266b7fb0f7b11b369907e1ad43");
    assert_eq!(sequence(&packet), Some((0x0102_0304, 5)));
    let opened = open(&sa, &mut packet).unwrap();
    assert_eq!(opened, Opened { seq: 5, inner: 16..16 + 84, next_header: NextHeader::Ipv4 });
    assert_eq!(
        packet[opened.inner],
        hex("45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f1011
             12131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637")
    );
}

/// RFC 3602 section 4, case 7: a ping through a tunnel. The RFC has no MAC; that is from another program's HMAC-SHA1.
#[test]
fn opens_the_packet_of_rfc_3602() {
    let mut keymat = hex("0123456789abcdef0123456789abcdef");
    keymat.extend([9; 20]);
    let sa = Sa {
        inbound: CipherKey::new(Cipher::Aes128Cbc(Integrity::HmacSha1), &keymat).unwrap(),
        ..sa(ALL[3], 0x8765, 0)
    };
    let mut packet = hex("00008765 00000002 f4e765244f6407adf13dc1380f673f37
         773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8e4ecaec78ac53aad7a0f022b859243c6
         47752e94a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d
         69b60c21518c82663bac91c3");
    let opened = open(&sa, &mut packet).unwrap();
    assert_eq!((opened.seq, opened.next_header), (2, NextHeader::Ipv4));
    assert_eq!(
        packet[opened.inner],
        hex("45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a20400
             08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637")
    );
}

/// Made with another implementation of the ciphers.
#[test]
fn seals_to_known_answers() {
    let inner = hex("45000015000102030405060708090a0b0c0d0e0f99");
    let answers = [
        "0000000000000007 79b7e3e5dfd1f570757cfbaeb5b49a31b0947d42fda1fb6847910aea0a3ec3429421d7e19debebcb",
        "0000000000000007 357b3c2956e3f9d66d5a9c633fb21c920e7937990eef2970a4325bb3de86ffd4ed42812313210e27",
        "0000000000000007 e99bba82bf0d97da2bbd30ebf5f9d9322095fe62479b43d2222b82808f4c5a4aefde51a8a7664659",
        "b9322f19c62b38e9bed82bd3e67b1319 e6638d40184e5d0b045ab4777128fee642da650a589813ef59280f83c104c9c8
         4104f675b36ee4a01ecee613",
        "5d15369920a8454134a61443fe5fd1b0 3d8184e0a1107f5faa1b348f96dc3f5fb53ce62f716e57b433848f05615867ce
         fb6416ecb60f81668be365fad451363a",
        "5d15369920a8454134a61443fe5fd1b0 3d8184e0a1107f5faa1b348f96dc3f5fb53ce62f716e57b433848f05615867ce
         9ef236dc169601cccf06d64d1eea3f040059e7109023bcf3",
        "5d15369920a8454134a61443fe5fd1b0 3d8184e0a1107f5faa1b348f96dc3f5fb53ce62f716e57b433848f05615867ce
         0c1c325f6df80851b18883ae02b79ddaed8aff0d46b94ca38061617803384a8f",
    ];
    for (cipher, answer) in ALL.into_iter().zip(answers) {
        let packet = sealed(&sa(cipher, 0xc0ff_ee01, 0), 7, &inner);
        assert_eq!(packet, hex(&format!("c0ffee01 00000007 {answer}")), "{cipher:?}");
    }
}

#[test]
fn opens_what_it_sealed_at_every_length() {
    for cipher in ALL {
        let sa = sa(cipher, 0x1000, 1);
        for (version, next_header) in [(0x45, NextHeader::Ipv4), (0x60, NextHeader::Ipv6)] {
            for len in (1..70).chain([1280, 1438, 1500, 9000, 65535]) {
                let inner: Vec<u8> = [version].into_iter().chain(0..=255).cycle().take(len).collect();
                let mut packet = sealed(&sa, u32::MAX, &inner);
                assert!(packet.len() < len + 24 + 16 + 2 + 32 && packet.len().is_multiple_of(4));
                let opened = open(&sa, &mut packet).unwrap();
                assert_eq!((opened.seq, opened.next_header), (u32::MAX, next_header));
                assert_eq!(packet[opened.inner], inner);
            }
        }
    }
}

/// N62; what is wrong with the packet inside is a matter of `engine::job`.
#[test]
fn n62_every_changed_bit_and_every_truncation() {
    for (cipher, overhead, multiple) in
        [(Cipher::Aes256Gcm, 16 + 16, 4), (Cipher::Aes128Cbc(Integrity::HmacSha256), 24 + 16, 16)]
    {
        let sa = sa(cipher, 0x1000, 1);
        let packet = sealed(&sa, 5, &[0x45; 30]);
        for bit in 0..packet.len() * 8 {
            let mut bad = packet.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&sa, &mut bad), Err(Reason::EspBadTag), "bit {bit}");
        }
        for len in 0..packet.len() {
            let is_possible = len > overhead && (len - overhead) % multiple == 0;
            let expected = if is_possible { Reason::EspBadTag } else { Reason::EspMalformed };
            assert_eq!(open(&sa, &mut packet[..len].to_vec()), Err(expected), "length {len}");
            assert_eq!(sequence(&packet[..len]).is_some(), len >= 8);
        }
    }
}

/// ESP in UDP over IPv4.
#[test]
fn inner_packets_are_as_large_as_the_link_allows() {
    use Integrity::{HmacSha1, HmacSha256, HmacSha384, HmacSha512};
    for (cipher, expected) in [
        (Cipher::Aes256Gcm, [1438, 1338, 1218]),
        (Cipher::Aes256Cbc(HmacSha256), [1422, 1326, 1198]),
        (Cipher::Aes256Cbc(HmacSha1), [1422, 1326, 1214]),
        (Cipher::Aes128Cbc(HmacSha384), [1422, 1310, 1198]),
        (Cipher::Aes128Cbc(HmacSha512), [1406, 1310, 1182]),
    ] {
        let sa = sa(cipher, 0x1000, 1);
        assert_eq!([1500, 1400, 1280].map(|mtu| sa.inner_mtu(mtu)), expected, "{cipher:?}");
        for mtu in 200..1600 {
            let inner = sa.inner_mtu(mtu);
            assert!(sa.sealed_len(inner) + 28 <= mtu && sa.sealed_len(inner + 1) + 28 > mtu);
        }
    }
    let sa = sa(Cipher::Aes128Gcm, 0x1000, 1);
    assert_eq!(sa.inner_mtu(0), 0);
}

#[test]
fn n62_packets_of_up_to_60_octets_and_without_anything_but_an_iv() {
    for cipher in ALL {
        let sa = sa(cipher, 0x1000, 1);
        let packet = sealed(&sa, 5, &[0x45; 60]);
        for len in 0..=60 {
            for mut short in [packet[..len].to_vec(), vec![0; len], vec![0xff; len]] {
                let result = open(&sa, &mut short);
                assert!(matches!(result, Err(Reason::EspMalformed | Reason::EspBadTag)), "{cipher:?} {len}");
            }
        }
        // An IV and a tag that is right, with nothing between them.
        assert_eq!(open(&sa, &mut forged(&sa, &[])), Err(Reason::EspMalformed), "{cipher:?}");
    }
}

#[test]
fn n62_trailers_of_authentic_packets() {
    let sa = sa(Cipher::Aes128Gcm, 0x1000, 1);
    for (plaintext, expected) in [
        (&[0x45, 1, 0, 4][..], Ok(16..18)),
        (&[0x45, 1, 2, 3, 9, 9, 2, 4], Ok(16..20)), // the content of padding is not looked at
        (&[0, 0, 0, 4], Ok(16..18)),                // nor is the inner packet
        (&[1, 2, 2, 41], Ok(16..16)),
        (&[1, 2, 3, 4], Err(Reason::EspBadTrailer)),
        (&[1, 2, 255, 4], Err(Reason::EspBadTrailer)),
        (&[1, 2, 254, 41], Err(Reason::EspBadTrailer)),
        (&[1, 2, 0, 0], Err(Reason::EspBadTrailer)),
        (&[1, 2, 0, 6], Err(Reason::EspBadTrailer)),
        (&[1, 2, 0, 17], Err(Reason::EspBadTrailer)),
        (&[1, 2, 0, 255], Err(Reason::EspBadTrailer)),
        (&[1, 2, 255, 59], Err(Reason::EspDummy)),
        (&[1, 2, 0, 59], Err(Reason::EspDummy)),
    ] {
        let mut packet = forged(&sa, plaintext);
        assert_eq!(open(&sa, &mut packet).map(|opened| opened.inner), expected, "{plaintext:?}");
    }
}

#[test]
fn seals_nothing_that_it_must_not() {
    let sa = sa(Cipher::Aes128Gcm, 0x1000, 1);
    let mut buf = [0x45; 100];
    assert_eq!(seal(&sa, 0, &mut buf, 20), Err(Reason::EspExhausted));
    assert_eq!(seal(&sa, 1, &mut buf[..sa.sealed_len(20) - 1], 20), Err(Reason::EspMalformed));
    assert_eq!(seal(&sa, 1, &mut buf, 0), Err(Reason::InnerMalformed));
    buf[sa.headroom()] = 0x50;
    assert_eq!(seal(&sa, 1, &mut buf, 20), Err(Reason::InnerMalformed));
}

#[test]
fn several_packets_at_once_are_what_they_are_one_by_one() {
    for cipher in ALL {
        let sa = sa(cipher, 0x1000, 1);
        let mut inners: Vec<Vec<u8>> =
            (0..LANES).map(|i| vec![i as u8; 300 * (i * 5 % LANES) + 20]).collect();
        inners.iter_mut().for_each(|inner| inner[0] = 0x45);
        for count in 0..=LANES {
            let mut packets: Vec<Vec<u8>> = Vec::new();
            for (seq, inner) in (1..).zip(&inners[..count]) {
                let mut packet = vec![0xee; sa.sealed_len(inner.len())];
                packet[sa.headroom()..][..inner.len()].copy_from_slice(inner);
                assert_eq!(lay_out(&sa, seq, &mut packet, inner.len()), Ok(packet.len()));
                packets.push(packet);
            }
            seal_all(&sa, packets.iter_mut().map(Vec::as_mut_slice)).unwrap();
            let expected: Vec<_> =
                (1..).zip(&inners[..count]).map(|(seq, inner)| sealed(&sa, seq, inner)).collect();
            assert_eq!(packets, expected, "{cipher:?}");
        }
        let mut packets = vec![vec![0; 100]; LANES + 1];
        assert_eq!(seal_all(&sa, packets.iter_mut().map(Vec::as_mut_slice)), Err(Reason::EspMalformed));
        assert_eq!(seal_all(&sa, [&mut [0; 20][..]].into_iter()), Err(Reason::EspMalformed));
    }
}

#[test]
fn keys_must_fit_and_stay_hidden() {
    let sa = sa(Cipher::Aes128Gcm, 0x1000, 0xab);
    assert_eq!(sa.cipher(), Cipher::Aes128Gcm);
    assert!(format!("{sa:?}").contains("[redacted]"));
}
