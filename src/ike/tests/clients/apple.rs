//! macOS and iOS, by hand and by profile, of every era.

use super::*;
use crate::crypto::{Cipher, Group, Integrity, Prf};

use notify_type::{
    ESP_TFC_PADDING_NOT_SUPPORTED, FRAGMENTATION_SUPPORTED, INITIAL_CONTACT, MOBIKE_SUPPORTED,
    REDIRECT_SUPPORTED,
};

const NON_FIRST_FRAGMENTS_ALSO: u16 = 16395;
const EAP_ONLY_AUTHENTICATION: u16 = 16417;
const CBC_SHA256: Cipher = Cipher::Aes256Cbc(Integrity::HmacSha256);

const CHILD_REKEY: [Part; 6] = [Part::RekeySa, Part::Sa, Part::Nonce, Part::Ke, Part::TsI, Part::TsR];
const CHILD_REKEY_WITHOUT_KE: [Part; 5] = [Part::RekeySa, Part::Sa, Part::Nonce, Part::TsI, Part::TsR];

/// By a certificate, as an FQDN.
fn apple(name: &'static str, ike_lines: &[&str], guess: u16, esp_lines: &[&str]) -> Script {
    let init = vec![
        Part::Sa,
        Part::Ke,
        Part::Nonce,
        Part::Notify(REDIRECT_SUPPORTED),
        Part::NatSource,
        Part::NatDestination,
        Part::Notify(FRAGMENTATION_SUPPORTED),
    ];
    let auth = vec![
        Part::IdI,
        Part::Cert,
        Part::Notify(INITIAL_CONTACT),
        Part::IdR,
        Part::Auth,
        Part::Cp,
        Part::Notify(ESP_TFC_PADDING_NOT_SUPPORTED),
        Part::Notify(NON_FIRST_FRAGMENTS_ALSO),
        Part::Sa,
        Part::TsI,
        Part::TsR,
        Part::Notify(MOBIKE_SUPPORTED),
    ];
    Script {
        name,
        ike: ike(ike_lines),
        guess,
        nonce_len: 16,
        init,
        auth,
        esp: esp(esp_lines),
        asked: &[1, 2, 6, 3, 8, 12, 10, 25],
        offered: both_families(),
        datagram_len: 1252,
        at_4500: false,
        system: Some(System::Apple),
    }
}

/// iOS 12 to 16 by hand, and some builds of macOS.
fn ios16() -> Script {
    let cbc = "AES_CBC_256 SHA2_256_128 NO_ESN";
    apple(
        "iOS 16",
        &[
            "AES_CBC_256 SHA2_256_128 PRF_SHA2_256 MODP_2048",
            "AES_CBC_256 SHA2_256_128 PRF_SHA2_256 P256",
            "AES_CBC_256 SHA2_256_128 PRF_SHA2_256 MODP_1536",
            "AES_CBC_128 SHA1_96 PRF_SHA1 MODP_1024",
            "3DES SHA1_96 PRF_SHA1 MODP_1024",
        ],
        14,
        &[cbc, cbc, cbc, "AES_CBC_128 SHA1_96 NO_ESN", "3DES SHA1_96 NO_ESN"],
    )
}

fn macos13() -> Script {
    apple(
        "macOS 13",
        &["AES_CBC_256 SHA2_256_128 PRF_SHA2_256 MODP_2048"],
        14,
        &["AES_CBC_256 SHA2_256_128 NO_ESN"],
    )
}

/// macOS 14 by a profile without algorithms, and iOS of that time.
fn macos14() -> Script {
    let (gcm, cbc) = ("AES_GCM_16_256 NO_ESN", "AES_CBC_256 SHA2_256_128 NO_ESN");
    let mut script = apple(
        "macOS 14",
        &[
            "AES_GCM_16_256 PRF_SHA2_256 P256",
            "AES_GCM_16_256 PRF_SHA2_256 MODP_2048",
            "AES_CBC_256 SHA2_256_128 PRF_SHA2_256 P256",
            "AES_CBC_256 SHA2_256_128 PRF_SHA2_256 MODP_2048",
        ],
        19,
        &[gcm, gcm, cbc, cbc],
    );
    script.auth.push(Part::Notify(EAP_ONLY_AUTHENTICATION));
    script
}

/// The proposal that was agreed on, alone, under its number of that time.
fn agreed_on(script: &Script, number: u8) -> Vec<Proposal> {
    script.ike.iter().filter(|proposal| proposal.number == number).cloned().collect()
}

#[test]
fn ios_16_by_hand_is_led_to_a_curve() {
    let mut world = world(KeyKind::P256, false);
    let who = Who::classic(&world, "phone.example.com");
    let choice = Choice { ike: (2, CBC_SHA256, Prf::HmacSha256, Group::P256), esp: (1, CBC_SHA256) };
    let script = ios16();
    let mut session = Session::open(&mut world, script.clone(), who, choice);
    assert_eq!(session.init_lens, [604, 604 - 256 + 64], "as in logs");
    let both = esp(&["AES_CBC_256 SHA2_256_128 P256 NO_ESN", "AES_CBC_256 SHA2_256_128 NO_ESN"]);
    session.rekey_child(&mut world, &CHILD_REKEY, &both, Some(Group::P256), 1);
    session.rekey_ike(&mut world, &agreed_on(&script, 2), 2);
    session.rekey_child(&mut world, &CHILD_REKEY_WITHOUT_KE, &both, None, 2);
    session.ask(&mut world);
    session.say_goodbye(&mut world);
}

#[test]
fn macos_13_by_hand() {
    let mut world = world(KeyKind::P256, false);
    let who = Who::classic(&world, "alice@example.com");
    let choice = Choice { ike: (1, CBC_SHA256, Prf::HmacSha256, Group::Modp2048), esp: (1, CBC_SHA256) };
    let script = macos13();
    let mut session = Session::open(&mut world, script.clone(), who, choice);
    session.rekey_child(&mut world, &CHILD_REKEY_WITHOUT_KE, &script.esp, None, 1);
    session.rekey_ike(&mut world, &script.ike, 1);
    session.say_goodbye(&mut world);
}

#[test]
fn macos_14_and_later_with_opportunistic_forward_secrecy() {
    let mut world = world(KeyKind::P256, false);
    let who = Who::classic(&world, "mac.example.com");
    let choice =
        Choice { ike: (1, Cipher::Aes256Gcm, Prf::HmacSha256, Group::P256), esp: (1, Cipher::Aes256Gcm) };
    let script = macos14();
    let mut session = Session::open(&mut world, script.clone(), who, choice);
    let both = esp(&["AES_GCM_16_256 P256 NO_ESN", "AES_GCM_16_256 NO_ESN"]);
    session.rekey_child(&mut world, &CHILD_REKEY, &both, Some(Group::P256), 1);
    session.rekey_child(&mut world, &CHILD_REKEY_WITHOUT_KE, &both, None, 2);
    session.rekey_ike(&mut world, &agreed_on(&script, 1), 1);
    // Its proposal of a rekey has the number that won at setup, which was 3 with other servers.
    let third = agreed_on(&script, 1).into_iter().map(|p| Proposal { number: 3, ..p });
    session.rekey_ike(&mut world, &third.collect::<Vec<_>>(), 3);
    session.rekey_child(&mut world, &CHILD_REKEY, &both, Some(Group::P256), 1);
    session.say_goodbye(&mut world);
}

/// A profile with algorithms has them alone; each kind of identity, and of a client's certificate.
#[test]
fn profiles_with_one_suite() {
    let gcm = Cipher::Aes256Gcm;
    let chacha = Cipher::ChaCha20Poly1305;
    for (name, ike_line, (cipher, prf, group), (esp_line, esp_cipher), identity, rsa) in [
        (
            "profile: AES-256-GCM, SHA2-256, group 19",
            "AES_GCM_16_256 PRF_SHA2_256 P256",
            (gcm, Prf::HmacSha256, Group::P256),
            ("AES_GCM_16_256", gcm),
            "phone.example.com",
            false,
        ),
        (
            "profile: AES-256-GCM, SHA2-384, group 20, an RSA certificate",
            "AES_GCM_16_256 PRF_SHA2_384 P384",
            (gcm, Prf::HmacSha384, Group::P384),
            ("AES_GCM_16_256", gcm),
            "phone.example.com",
            true,
        ),
        (
            "profile: ChaCha20Poly1305, SHA2-512, group 31",
            "CHACHA20_POLY1305 PRF_SHA2_512 X25519",
            (chacha, Prf::HmacSha512, Group::X25519),
            ("CHACHA20_POLY1305", chacha),
            "alice@example.com",
            false,
        ),
        (
            "profile: defaults since iOS 14",
            "AES_CBC_256 SHA2_256_128 PRF_SHA2_256 MODP_2048",
            (CBC_SHA256, Prf::HmacSha256, Group::Modp2048),
            ("AES_CBC_256 SHA2_256_128", CBC_SHA256),
            "192.168.1.10",
            false,
        ),
    ] {
        let mut world = world(KeyKind::P256, false);
        let mut who = Who::classic(&world, identity);
        if rsa {
            who = who.with_rsa(&world, identity, Signing::Rsa(SignatureScheme::RsaPkcs1Sha1));
        }
        if let Ok(address) = identity.parse::<Ipv4Addr>() {
            // No LocalIdentifier: the client's own address.
            who.id_i = (IdType::Ipv4, address.octets().to_vec());
        }
        let choice = Choice { ike: (1, cipher, prf, group), esp: (1, esp_cipher) };
        let script = apple(name, &[ike_line], group.transform_id(), &[&format!("{esp_line} NO_ESN")]);
        let mut session = Session::open(&mut world, script.clone(), who, choice);
        session.rekey_child(&mut world, &CHILD_REKEY_WITHOUT_KE, &script.esp, None, 1);
        // EnablePFS.
        let word = ike_line.rsplit_once(' ').unwrap().1;
        let pfs = esp(&[&format!("{esp_line} {word} NO_ESN")]);
        session.rekey_child(&mut world, &CHILD_REKEY, &pfs, Some(group), 1);
        session.rekey_ike(&mut world, &script.ike, 1);
        session.say_goodbye(&mut world);
    }
}

/// By hand: iOS takes RSA certificates of servers only, macOS both kinds; with two we give it RSA.
#[test]
fn by_hand_with_a_user_name_or_a_shared_secret() {
    use KeyKind::{P256, Rsa};
    let cbc =
        |number, group| Choice { ike: (number, CBC_SHA256, Prf::HmacSha256, group), esp: (1, CBC_SHA256) };
    let gcm =
        Choice { ike: (1, Cipher::Aes256Gcm, Prf::HmacSha256, Group::P256), esp: (1, Cipher::Aes256Gcm) };
    for (script, choice) in
        [(ios16(), cbc(2, Group::P256)), (macos13(), cbc(1, Group::Modp2048)), (macos14(), gcm)]
    {
        for (servers, method) in [
            (&[Rsa][..], auth_method::RSA),
            (&[P256], auth_method::ECDSA_256),
            (&[P256, Rsa], auth_method::RSA),
        ] {
            let mut world = world_with(servers, false);
            let who = Who::classic(&world, "phone.example.com").with_password("alice", method);
            let mut session = Session::open(&mut world, script.clone(), who, choice);
            session.rekey_child(&mut world, &CHILD_REKEY_WITHOUT_KE, &script.esp, None, 1);
            session.say_goodbye(&mut world);
        }
        let mut world = world(Rsa, false);
        let who = Who::classic(&world, "phone.example.com").with_psk();
        Session::open(&mut world, script.clone(), who, choice).say_goodbye(&mut world);
    }
}
