//! Clients that nobody asked for, but that show what initiators do.

use super::*;
use crate::crypto::{Cipher, Group, Prf};

use notify_type::{FRAGMENTATION_SUPPORTED, MOBIKE_SUPPORTED};

fn plain(name: &'static str, ike_lines: &[&str], guess: u16, esp_lines: &[&str]) -> Script {
    let init = vec![
        Part::Sa,
        Part::Ke,
        Part::Nonce,
        Part::NatSource,
        Part::NatDestination,
        Part::Notify(FRAGMENTATION_SUPPORTED),
        Part::Hashes(&[2, 3, 4]),
    ];
    let auth = vec![
        Part::IdI,
        Part::IdR,
        Part::Cert,
        Part::CertReq(1),
        Part::Auth,
        Part::Cp,
        Part::Notify(MOBIKE_SUPPORTED),
        Part::Sa,
        Part::TsI,
        Part::TsR,
    ];
    Script {
        name,
        ike: ike(ike_lines),
        guess,
        nonce_len: 32,
        init,
        auth,
        esp: esp(esp_lines),
        asked: &[1, 2, 3],
        offered: vec![everything()],
        datagram_len: 1252,
        at_4500: false,
        system: None,
    }
}

/// OpenIKED offers extended sequence numbers beside none, and "no group" for the first Child SA.
#[test]
fn openiked_offers_extended_sequence_numbers() {
    let groups = "X25519 P521 P384 P256 MODP_4096 MODP_3072 MODP_2048 MODP_1536 MODP_1024";
    let aead =
        format!("AES_GCM_16_128 AES_GCM_16_256 PRF_SHA2_256 PRF_SHA2_384 PRF_SHA2_512 PRF_SHA1 {groups}");
    let classic = format!(
        "AES_CBC_256 AES_CBC_192 AES_CBC_128 3DES SHA2_256_128 SHA2_384_192 SHA2_512_256 SHA1_96 \
         PRF_SHA2_256 PRF_SHA2_384 PRF_SHA2_512 PRF_SHA1 {groups}"
    );
    let esp_lines = [
        "AES_GCM_16_128 AES_GCM_16_256 NONE ESN NO_ESN",
        "AES_CBC_256 AES_CBC_192 AES_CBC_128 SHA2_256_128 SHA2_384_192 SHA2_512_256 SHA1_96 NONE ESN NO_ESN",
    ];
    let script = plain("OpenIKED", &[&aead, &classic], 31, &esp_lines);
    let choice =
        Choice { ike: (1, Cipher::Aes256Gcm, Prf::HmacSha256, Group::X25519), esp: (1, Cipher::Aes256Gcm) };
    let mut world = world(KeyKind::P256, true);
    let who = Who::modern(&world, "laptop.example.com");
    let mut session = Session::open(&mut world, script.clone(), who, choice);
    let parts = [Part::RekeySa, Part::Sa, Part::Nonce, Part::TsI, Part::TsR];
    session.rekey_child(&mut world, &parts, &script.esp, None, 1);
    session.rekey_ike(&mut world, &script.ike, 1);
    session.say_goodbye(&mut world);
}

/// MikroTik asks for its configuration again when it rekeys.
#[test]
fn mikrotik_asks_for_configuration_in_a_rekey() {
    let line = "AES_CBC_256 SHA2_256_128 PRF_SHA2_256 MODP_2048";
    let cipher = Cipher::Aes256Cbc(crate::crypto::Integrity::HmacSha256);
    let script = plain("MikroTik", &[line], 14, &["AES_CBC_256 SHA2_256_128 NO_ESN"]);
    let choice = Choice { ike: (1, cipher, Prf::HmacSha256, Group::Modp2048), esp: (1, cipher) };
    let mut world = world(KeyKind::P256, false);
    let who = Who::modern(&world, "router.example.com");
    let mut session = Session::open(&mut world, script.clone(), who, choice);
    let parts = [Part::RekeySa, Part::Cp, Part::Sa, Part::Nonce, Part::TsI, Part::TsR];
    session.rekey_child(&mut world, &parts, &script.esp, None, 1);
    session.say_goodbye(&mut world);
}
