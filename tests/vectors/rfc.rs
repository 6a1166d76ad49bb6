//! Vectors of RFCs 2202, 4231, 4868, 5903 and 7748, and of draft-mcgrew-gcm-test-01.

use pterodapter::crypto::cipher::CipherKey;
use pterodapter::crypto::dh::KeyPair;
use pterodapter::crypto::prf::prf;
use pterodapter::crypto::{Cipher, Group, Integrity, Prf};

use crate::curve::{p256, p384, x25519};

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn counting(len: u8) -> Vec<u8> {
    (1..=len).collect()
}

#[test]
fn rfc_2202_section_3() {
    let two_blocks = b"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data";
    for (key, data, expected) in [
        (vec![0x0b; 20], &b"Hi There"[..], "b617318655057264e28bc0b6fb378c8ef146be00"),
        (b"Jefe".to_vec(), b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (vec![0xaa; 20], &[0xdd; 50], "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
        (counting(25), &[0xcd; 50], "4c9007f4026250c6bc8414f9bf50c86c2d7235da"),
        (vec![0x0c; 20], b"Test With Truncation", "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"),
        (
            vec![0xaa; 80],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "aa4ae5e15272d00e95705637ce8a3b55ed402112",
        ),
        (vec![0xaa; 80], two_blocks, "e8e99d0f45237d786d6bbaa7965c7808bbff1a91"),
    ] {
        assert_eq!(prf(Prf::HmacSha1, &key, &[data]).expose(), hex(expected), "{data:?}");
    }
}

/// Test cases 3, 4, 5 and 7, their first 16 octets; the others stand beside the function.
#[test]
fn rfc_4231_section_4() {
    let long =
        b"This is a test using a larger than block-size key and a larger than block-size data. The key \
        needs to be hashed before being used by the HMAC algorithm.";
    for (key, data, expected) in [
        (
            vec![0xaa; 20],
            &[0xdd; 50][..],
            [
                "773ea91e36800e46854db8ebd09181a7",
                "88062608d3e6ad8a0aa2ace014c8a86f",
                "fa73b0089d56a284efb0f0756c890be9",
            ],
        ),
        (
            counting(25),
            &[0xcd; 50],
            [
                "82558a389a443c0ea4cc819899f2083a",
                "3e8a69b7783c25851933ab6290af6ca7",
                "b0ba465637458c6990e5a8c5f61d4af7",
            ],
        ),
        (
            vec![0x0c; 20],
            b"Test With Truncation",
            [
                "a3b6167473100ee06e0c796c2955552b",
                "3abf34c3503b2a23a46efc619baef897",
                "415fad6271580a531d4179bc891d87a6",
            ],
        ),
        (
            vec![0xaa; 131],
            long,
            [
                "9b09ffa71b942fcb27635fbcd5b0e944",
                "6617178e941f020d351e2f254e8fd32c",
                "e37b6a775dc87dbaa4dfa9f96e5e3ffd",
            ],
        ),
    ] {
        for (alg, expected) in [Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512].into_iter().zip(expected) {
            assert_eq!(prf(alg, &key, &[data]).expose()[..16], hex(expected), "{alg:?} {data:?}");
        }
    }
}

/// AUTH256, AUTH384 and AUTH512, the numbers 1 to 4, as a PRF that is cut; and as the MAC of ESP, but for number 1, which
/// is shorter than an IV.
#[test]
fn rfc_4868_section_2_7_2() {
    let key_of_4 = |len: u8| match len {
        // The RFC counts on from 0a after 32 octets, but here only.
        48 => [counting(32), (0x0a..0x1a).collect()].concat(),
        len => counting(len),
    };
    for (alg, integrity, expected) in [
        (
            Prf::HmacSha256,
            Integrity::HmacSha256,
            [
                "198a607eb44bfbc69903a0f1cf2bbdc5",
                "167f928588c5cc2eef8e3093caa0e87c",
                "cdcb1220d1ecccea91e53aba3092f962",
                "372efcf9b40b35c2115b1346903d2ef4",
            ],
        ),
        (
            Prf::HmacSha384,
            Integrity::HmacSha384,
            [
                "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973",
                "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d",
                "809f439be00274321d4a538652164b53554a508184a0c316",
                "5b540085c6e6358096532b2493609ed1cb298f774f87bb5c",
            ],
        ),
        (
            Prf::HmacSha512,
            Integrity::HmacSha512,
            [
                "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
                "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454",
                "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8",
                "5e6688e5a3daec826ca32eaea224eff5e700628947470e13ad01302561bab108",
            ],
        ),
    ] {
        let len = alg.output_len();
        let inputs = [
            (vec![0x0b; len], &b"Hi There"[..]),
            (b"Jefe".repeat(len / 4), b"what do ya want for nothing?"),
            (vec![0xaa; len], &[0xdd; 50]),
            (key_of_4(len as u8), &[0xcd; 50]),
        ];
        for ((key, data), expected) in inputs.into_iter().zip(expected) {
            let mut tag = hex(expected);
            assert_eq!(tag.len(), integrity.tag_len());
            assert_eq!(prf(alg, &key, &[data]).expose()[..tag.len()], tag, "{alg:?} {data:?}");
            if let Some((aad, iv)) = data.split_last_chunk::<16>() {
                let cipher = CipherKey::new(Cipher::Aes256Cbc(integrity), &[&[1; 32], &key[..]].concat());
                assert_eq!(cipher.unwrap().open(iv, aad, &mut tag), Ok(0), "{integrity:?} {data:?}");
            }
        }
    }
}

/// Private values, and the shared secret. ring takes no private value from outside: what the other implementation says of
/// these is what the RFC says, and ours agrees with it.
#[test]
fn rfc_5903_sections_8_1_and_8_2() {
    let curve = p256();
    let i = hex("c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433");
    let r = hex("c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53");
    let public_i = hex("dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180
         5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3");
    let shared = hex("d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de");
    assert_eq!(curve.public(&i), public_i);
    assert_eq!([curve.agree(&r, &public_i), curve.agree(&i, &curve.public(&r))], [shared.clone(), shared]);
    let ours = KeyPair::generate(Group::P256).unwrap();
    let expected = curve.agree(&i, ours.public());
    assert_eq!(ours.agree(&public_i).unwrap().expose(), expected);

    let curve = p384();
    let i = hex("099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655
         e35b538041e649ee3faef896783ab194");
    let r = hex("41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942
         e0308312916b8ed2960e4bd55a7448fc");
    let public_i = hex("667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4
         c88732aee95f41aa9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947da
         e69b4c634573a81c");
    let shared = hex("11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4
         d603135569b9e9d09cf5d4a270f59746");
    assert_eq!(curve.public(&i), public_i);
    assert_eq!([curve.agree(&r, &public_i), curve.agree(&i, &curve.public(&r))], [shared.clone(), shared]);
    let ours = KeyPair::generate(Group::P384).unwrap();
    let expected = curve.agree(&i, ours.public());
    assert_eq!(ours.agree(&public_i).unwrap().expose(), expected);
}

#[test]
fn rfc_7748_section_6_1() {
    let base = [&[9][..], &[0; 31]].concat();
    let alice = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let public_bob = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(x25519(&bob, &base), public_bob);
    assert_eq!(x25519(&bob, &alice), shared);
    let ours = KeyPair::generate(Group::X25519).unwrap();
    let expected = x25519(&bob, ours.public());
    assert_eq!(ours.agree(&public_bob).unwrap().expose(), expected);
}

/// Whole packets of AES-GCM in ESP without extended sequence numbers. (Their next header is none that we take, so they go
/// no further than the cipher.)
#[test]
fn draft_mcgrew_gcm_test_01() {
    for (cipher, key, packet, plaintext) in [
        (
            Cipher::Aes128Gcm,
            "feffe9928665731c6d6a8f9467308308 cafebabe",
            "0000a5f8 0000000a facedbaddecaf888
             deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f51330d0eec416642
             cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a",
            "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100000100000000000003736970
             0963796265726369747902646b00000100010001",
        ),
        (
            Cipher::Aes256Gcm,
            "abbccddef00112233445566778899aababbccddef00112233445566778899aab 11223344",
            "4a2cbfe3 00000002 0102030405060708
             ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763748a637985771d347f0545659f14e99d
             ef842d8eb335f4eecfdbf831824b4c4915956c96",
            "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b4
             0101040201020201",
        ),
    ] {
        let key = CipherKey::new(cipher, &hex(key)).unwrap();
        let packet = hex(packet);
        let (header, rest) = packet.split_at(8);
        let (iv, sealed) = rest.split_at(8);
        let (mut opened, plaintext) = (sealed.to_vec(), hex(plaintext));
        assert_eq!(key.open(iv, header, &mut opened), Ok(plaintext.len()));
        assert_eq!(opened[..plaintext.len()], plaintext);
        let (mut our_iv, mut tag, mut text) = ([0; 8], [0; 16], plaintext);
        key.seal(u64::from_be_bytes(iv.try_into().unwrap()), header, &mut our_iv, &mut text, &mut tag)
            .unwrap();
        assert_eq!([header, &our_iv, &text, &tag].concat(), packet);
    }
}
