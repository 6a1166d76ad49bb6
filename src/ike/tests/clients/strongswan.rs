//! strongSwan: of Linux, its app for Android, and NetworkManager.

use super::*;
use crate::crypto::{Cipher, Group, Prf};

use notify_type::{
    FRAGMENTATION_SUPPORTED, INITIAL_CONTACT, MESSAGE_ID_SYNC_SUPPORTED, MOBIKE_SUPPORTED,
    MULTIPLE_AUTH_SUPPORTED, REDIRECT_SUPPORTED,
};

const NO_ADDITIONAL_ADDRESSES: u16 = 16399;
const EAP_ONLY_AUTHENTICATION: u16 = 16417;

const GROUPS: &str = "P256 P384 P521 BRAINPOOL_256 BRAINPOOL_384 BRAINPOOL_512 X25519 X448 MODP_3072 MODP_4096 \
    MODP_6144 MODP_8192 MODP_2048";
const PRFS: &str = "PRF_SHA2_256 PRF_SHA2_384 PRF_SHA2_512 PRF_XCBC PRF_CMAC PRF_SHA1";
const ESP_AEAD: &str = "AES_GCM_16_128 AES_GCM_16_192 AES_GCM_16_256 CHACHA20_POLY1305";
const ESP_CLASSIC: &str =
    "AES_CBC_128 AES_CBC_192 AES_CBC_256 SHA2_256_128 SHA2_384_192 SHA2_512_256 SHA1_96 XCBC_96";

const CHILD_REKEY: [Part; 6] = [Part::RekeySa, Part::Sa, Part::Nonce, Part::Ke, Part::TsI, Part::TsR];
const CHILD_REKEY_WITHOUT_KE: [Part; 5] = [Part::RekeySa, Part::Sa, Part::Nonce, Part::TsI, Part::TsR];

/// We prefer SHA2-256 of the PRFs, X25519 of the groups, but take the curve that it guessed.
fn choice(group: Group) -> Choice {
    Choice { ike: (2, Cipher::Aes256Gcm, Prf::HmacSha256, group), esp: (1, Cipher::Aes256Gcm) }
}

/// Linux with swanctl: one inner IPv4 address.
fn linux(guess: u16) -> Script {
    let classic = "AES_CBC_128 AES_CBC_192 AES_CBC_256 AES_CTR_128 AES_CTR_192 AES_CTR_256 CAMELLIA_CBC_128 \
        CAMELLIA_CBC_192 CAMELLIA_CBC_256 3DES SHA2_256_128 SHA2_384_192 SHA2_512_256 XCBC_96 CMAC_96 SHA1_96";
    let aead = "AES_GCM_16_128 AES_GCM_16_192 AES_GCM_16_256 AES_CCM_16_128 AES_CCM_16_192 AES_CCM_16_256 \
        CHACHA20_POLY1305 AES_GCM_12_128 AES_GCM_12_192 AES_GCM_12_256 AES_GCM_8_128 AES_GCM_8_192 AES_GCM_8_256 \
        AES_CCM_12_128 AES_CCM_12_192 AES_CCM_12_256 AES_CCM_8_128 AES_CCM_8_192 AES_CCM_8_256";
    let init = vec![
        Part::Sa,
        Part::Ke,
        Part::Nonce,
        Part::NatSource,
        Part::NatDestination,
        Part::Notify(FRAGMENTATION_SUPPORTED),
        Part::Hashes(&[2, 3, 4, 5]),
        Part::Notify(REDIRECT_SUPPORTED),
    ];
    let auth = vec![
        Part::IdI,
        Part::Notify(INITIAL_CONTACT),
        Part::Cert,
        Part::CertReq(1),
        Part::IdR,
        Part::Auth,
        Part::Cp,
        Part::Sa,
        Part::TsI,
        Part::TsR,
        Part::Notify(MOBIKE_SUPPORTED),
        Part::Notify(NO_ADDITIONAL_ADDRESSES),
        Part::Notify(MULTIPLE_AUTH_SUPPORTED),
        Part::Notify(EAP_ONLY_AUTHENTICATION),
        Part::Notify(MESSAGE_ID_SYNC_SUPPORTED),
    ];
    Script {
        name: "strongSwan",
        ike: ike(&[&format!("{classic} {PRFS} {GROUPS}"), &format!("{aead} {PRFS} {GROUPS}")]),
        guess,
        nonce_len: 32,
        init,
        auth,
        esp: esp(&[&format!("{ESP_AEAD} NO_ESN"), &format!("{ESP_CLASSIC} NO_ESN")]),
        asked: &[1, 3],
        offered: vec![everything()],
        datagram_len: 1280 - 28,
        at_4500: false,
        system: Some(System::StrongSwan),
    }
}

/// NetworkManager: both families, no INITIAL_CONTACT where the gateway's identity is only its host name.
fn network_manager() -> Script {
    let mut script = linux(19);
    script.auth.retain(|part| *part != Part::Notify(INITIAL_CONTACT));
    let (asked, offered) = (&[1, 8, 3, 10], both_families());
    Script { name: "NetworkManager", asked, offered, ..script }
}

const APP_GROUPS: &str = "X25519 P384 P521 MODP_3072 MODP_4096 P256 MODP_8192";
const APP_AEAD: &str = "AES_GCM_16_256 AES_GCM_16_128 CHACHA20_POLY1305";
const APP_CLASSIC: &str =
    "AES_CBC_256 AES_CBC_192 AES_CBC_128 SHA2_384_192 SHA2_256_128 SHA2_512_256 SHA1_96";

/// The app: Child SAs with a list of groups, and without. What it knows of group 24 is that it once guessed it.
fn app(guess: u16) -> Script {
    let offered = both_families();
    let (groups, hashes) = (APP_GROUPS, APP_CLASSIC);
    let with_groups = esp(&[
        &format!("{APP_AEAD} {groups} NO_ESN"),
        &format!("{hashes} {groups} MODP_2048 NO_ESN"),
        &format!("{APP_AEAD} NO_ESN"),
        &format!("{hashes} NO_ESN"),
    ]);
    let datagram_len = 1400 - 28;
    Script {
        name: "strongSwan's app",
        asked: &[1, 8, 3, 10],
        esp: with_groups,
        offered,
        datagram_len,
        ..linux(guess)
    }
}

#[test]
fn strongswan_of_linux() {
    for (guess, group) in [(19, Group::P256), (31, Group::X25519), (20, Group::P384), (15, Group::X25519)] {
        let mut world = world(KeyKind::P256, false);
        let who = Who::modern(&world, "laptop.example.com");
        let script = linux(guess);
        let mut session = Session::open(&mut world, script.clone(), who, choice(group));
        // All groups, and NONE since 6.0.2.
        let before = [format!("{ESP_AEAD} {GROUPS} NO_ESN"), format!("{ESP_CLASSIC} {GROUPS} NO_ESN")];
        let since =
            [format!("{ESP_AEAD} {GROUPS} NONE NO_ESN"), format!("{ESP_CLASSIC} {GROUPS} NONE NO_ESN")];
        for [aead, classic] in [before, since] {
            let proposals = esp(&[&aead, &classic]);
            session.rekey_child(&mut world, &CHILD_REKEY, &proposals, Some(group), 1);
        }
        session.rekey_ike(&mut world, &script.ike, 2);
        session.rekey_child(&mut world, &CHILD_REKEY_WITHOUT_KE, &script.esp, None, 1);
        session.say_goodbye(&mut world);
    }
}

/// With RSA keys on both sides, and with signature_authentication = no.
#[test]
fn strongswan_with_other_signatures() {
    let mut world = world(KeyKind::Rsa, false);
    let signing = Signing::Rfc7427(SignatureScheme::RsaPkcs1Sha256);
    let name = "laptop.example.com";
    let who = Who::modern(&world, name).with_rsa(&world, name, signing);
    let session = Session::open(&mut world, linux(19), who, choice(Group::P256));
    assert_eq!(session.server_algorithm.len(), 15, "PKCS #1 v1.5 for a peer that signs by it");

    let mut world = super::world(KeyKind::P256, false);
    let mut script = linux(19);
    script.init.retain(|part| !matches!(part, Part::Hashes(_)));
    let who = Who::classic(&world, name).by_subject();
    let who = Who { id_r: Some(id("vpn.example")), ..who };
    Session::open(&mut world, script, who, choice(Group::P256)).say_goodbye(&mut world);
}

/// It sends its certificate because we asked for one in IKE_SA_INIT, which every session here checks.
#[test]
fn network_manager_with_both_families() {
    let mut world = world(KeyKind::P256, false);
    let who = Who::modern(&world, "laptop.example.com").by_subject();
    let who = Who { id_r: Some(id("vpn.example")), ..who };
    let script = network_manager();
    let mut session = Session::open(&mut world, script.clone(), who, choice(Group::P256));
    let proposals = esp(&[&format!("{ESP_AEAD} {GROUPS} NONE NO_ESN")]);
    session.rekey_child(&mut world, &CHILD_REKEY, &proposals, Some(Group::P256), 1);
    session.rekey_ike(&mut world, &script.ike, 2);
    session.say_goodbye(&mut world);
}

#[test]
fn app_of_today_and_one_that_guessed_group_24() {
    for (guess, group) in [(19, Group::P256), (24, Group::X25519)] {
        let mut world = world(KeyKind::P256, false);
        let who = Who::modern(&world, "phone.example.com");
        let script = app(guess);
        let mut session = Session::open(&mut world, script.clone(), who, choice(group));
        session.rekey_child(&mut world, &CHILD_REKEY, &script.esp, Some(group), 1);
        session.rekey_child(&mut world, &CHILD_REKEY_WITHOUT_KE, &script.esp, None, 3);
        session.rekey_ike(&mut world, &script.ike, 2);
        session.say_goodbye(&mut world);
    }
}

/// The app and NetworkManager with a password, NetworkManager with a pre-shared key.
#[test]
fn strongswan_with_a_password_and_with_a_pre_shared_key() {
    let method = auth_method::DIGITAL_SIGNATURE;
    for script in [linux(31), app(19), network_manager()] {
        for server in [KeyKind::P256, KeyKind::Rsa] {
            let mut world = world(server, false);
            let group = Group::from_transform_id(script.guess).unwrap();
            let who = Who::modern(&world, "alice@example.com").with_password("alice", method);
            Session::open(&mut world, script.clone(), who, choice(group)).say_goodbye(&mut world);
        }
    }
    let mut world = world(KeyKind::P256, false);
    let who = Who::modern(&world, "alice@example.com").with_psk();
    Session::open(&mut world, network_manager(), who, choice(Group::P256)).say_goodbye(&mut world);
}
