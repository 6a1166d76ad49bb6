//! Android 12 and later, its own client.

use super::*;
use crate::crypto::{Cipher, Group, Prf};

use notify_type::{FRAGMENTATION_SUPPORTED, MOBIKE_SUPPORTED};

const CHOICE: Choice =
    Choice { ike: (2, Cipher::Aes256Gcm, Prf::HmacSha256, Group::X25519), esp: (2, Cipher::Aes256Gcm) };

/// Two proposals for each SA, with many transforms of a type, and no curve of NIST.
fn android(at_4500: bool) -> Script {
    let prfs = "PRF_SHA2_512 PRF_SHA2_384 PRF_SHA2_256 PRF_XCBC PRF_CMAC PRF_SHA1";
    let groups = "MODP_4096 X25519 MODP_3072 MODP_2048";
    let classic = "AES_CTR_256 AES_CBC_256 AES_CTR_192 AES_CBC_192 AES_CTR_128 AES_CBC_128 \
        SHA2_512_256 SHA2_384_192 SHA2_256_128 XCBC_96 CMAC_96";
    let aead = "CHACHA20_POLY1305 AES_GCM_16_256 AES_GCM_12_256 AES_GCM_8_256 AES_GCM_16_192 AES_GCM_12_192 \
        AES_GCM_8_192 AES_GCM_16_128 AES_GCM_12_128 AES_GCM_8_128";
    let init = vec![
        Part::Sa,
        Part::Ke,
        Part::Nonce,
        Part::NatSource,
        Part::NatDestination,
        Part::Notify(FRAGMENTATION_SUPPORTED),
        Part::Hashes(&[1, 2, 3, 4]),
    ];
    let auth = vec![
        Part::IdI,
        Part::IdR,
        Part::Cert,
        Part::Auth,
        Part::Cp,
        Part::Sa,
        Part::TsI,
        Part::TsR,
        Part::Notify(MOBIKE_SUPPORTED),
    ];
    Script {
        name: if at_4500 { "Android, at port 4500" } else { "Android" },
        ike: ike(&[&format!("{classic} {groups} {prfs}"), &format!("{aead} {groups} {prfs}")]),
        guess: 16,
        nonce_len: 32,
        init,
        auth,
        esp: esp(&[&format!("{classic} NO_ESN"), &format!("{aead} NO_ESN")]),
        asked: &[1, 8, 3, 10],
        offered: both_families(),
        datagram_len: 1280 - 28,
        at_4500,
        system: Some(System::Android),
    }
}

/// It verifies PKCS #1 v1.5 only, so the server has an RSA key here; and it signs with the longest hash of our list.
fn with_rsa(world: &World, identity: &str) -> Who {
    let signing = Signing::Rfc7427(SignatureScheme::RsaPkcs1Sha384);
    Who::modern(world, identity).with_rsa(world, identity, signing)
}

#[test]
fn android_is_led_from_modp_4096_to_x25519_and_an_aead() {
    for (identity, at_4500) in [("alice@example.com", false), ("phone.example.com", true)] {
        let mut world = world(KeyKind::Rsa, false);
        let who = with_rsa(&world, identity);
        let script = android(at_4500);
        let mut session = Session::open(&mut world, script.clone(), who, CHOICE);
        // It takes no other padding than PKCS #1 v1.5, which has an AlgorithmIdentifier of 15 octets.
        assert_eq!(session.server_algorithm.len(), 15);
        session.ask(&mut world);
        let parts = [Part::RekeySa, Part::Sa, Part::Nonce, Part::TsI, Part::TsR];
        session.rekey_child(&mut world, &parts, &script.esp, None, 2);
        session.rekey_ike(&mut world, &script.ike, 2);
        session.rekey_child(&mut world, &parts, &script.esp, None, 2);
        session.say_goodbye(&mut world);
    }
}

/// By address, which the profile may name instead of a host.
#[test]
fn android_asks_for_the_server_by_address() {
    let mut world = world(KeyKind::Rsa, false);
    let mut who = with_rsa(&world, "alice@example.com");
    who.id_r = Some((IdType::Ipv4, vec![192, 0, 2, 1]));
    Session::open(&mut world, android(false), who, CHOICE).say_goodbye(&mut world);
}

/// Its three types of profile, at a server with both kinds of certificates: what it gets is RSA.
#[test]
fn android_with_a_password_and_with_a_pre_shared_key() {
    let both = [KeyKind::P256, KeyKind::Rsa];
    let mut world = world_with(&both, false);
    let method = auth_method::DIGITAL_SIGNATURE;
    let who = Who::modern(&world, "alice@example.com").with_password("alice", method);
    let mut session = Session::open(&mut world, android(false), who, CHOICE);
    assert_eq!(session.server_algorithm.len(), 15, "PKCS #1 v1.5");
    session.say_goodbye(&mut world);

    let mut world = world_with(&both, false);
    let who = with_rsa(&world, "alice@example.com");
    let mut session = Session::open(&mut world, android(false), who, CHOICE);
    assert_eq!(session.server_algorithm.len(), 15);
    session.say_goodbye(&mut world);

    let mut world = world_with(&both, false);
    let who = Who::modern(&world, "alice@example.com").with_psk();
    Session::open(&mut world, android(true), who, CHOICE).say_goodbye(&mut world);
}
