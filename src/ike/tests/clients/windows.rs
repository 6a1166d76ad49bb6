//! Windows 10 and 11, built-in: untouched, with the registry value, and with one line of PowerShell.

use super::*;
use crate::crypto::{Cipher, Group, Integrity, Prf};

use notify_type::{FRAGMENTATION_SUPPORTED, MOBIKE_SUPPORTED, NO_PROPOSAL_CHOSEN};

/// "MS NT5 ISAKMPOAKLEY" version 9, "MS-Negotiation Discovery Capable", "Vid-Initial-Contact", and one without a name.
const VENDORS: [Part; 4] = [
    Part::Vendor("1e2b516905991c7d7c96fcbfb587e46100000009"),
    Part::Vendor("fb1de3cdf341b7ea16b7e5be0855f120"),
    Part::Vendor("26244d38eddb61b3172a36e3d0cfb819"),
    Part::Vendor("01528bbbc00696121849ab9a1c5b2a5100000002"),
];
const INTEGRITIES: [(&str, &str); 3] =
    [("SHA1_96", "PRF_SHA1"), ("SHA2_256_128", "PRF_SHA2_256"), ("SHA2_384_192", "PRF_SHA2_384")];
const CBC_SHA1: Cipher = Cipher::Aes256Cbc(Integrity::HmacSha1);
const CBC_SHA256: Cipher = Cipher::Aes256Cbc(Integrity::HmacSha256);

/// With its defaults for Child SAs, by a certificate of the machine.
fn windows(name: &'static str, proposals: Vec<Proposal>, guess: u16) -> Script {
    let mut init = vec![Part::Sa, Part::Ke, Part::Nonce, Part::Notify(FRAGMENTATION_SUPPORTED)];
    init.extend([Part::NatSource, Part::NatDestination]);
    init.extend(VENDORS);
    let auth = vec![
        Part::IdI,
        Part::Cert,
        Part::CertReq(53),
        Part::Auth,
        Part::Notify(MOBIKE_SUPPORTED),
        Part::Cp,
        Part::Sa,
        Part::TsI,
        Part::TsR,
    ];
    Script {
        name,
        ike: proposals,
        guess,
        nonce_len: 48,
        init,
        auth,
        esp: esp(&[
            "AES_CBC_256 SHA1_96 NO_ESN",
            "AES_CBC_128 SHA1_96 NO_ESN",
            "3DES SHA1_96 NO_ESN",
            "DES SHA1_96 NO_ESN",
            "NULL SHA1_96 NO_ESN",
        ]),
        asked: &[1, 3, 4, 23456, 8, 10, 23457],
        offered: both_families(),
        // 580 octets of UDP, the marker among them.
        datagram_len: 576,
        at_4500: false,
        system: Some(System::Windows),
    }
}

/// Every cipher with every hash, in proposals of their own.
fn combined(ciphers: &[&str], group: &str) -> Vec<Proposal> {
    let line = |cipher: &str, (integ, prf): (&str, &str)| match cipher.contains("GCM") {
        true => format!("{cipher} {prf} {group}"),
        false => format!("{cipher} {integ} {prf} {group}"),
    };
    let lines: Vec<_> =
        ciphers.iter().flat_map(|cipher| INTEGRITIES.map(|integrity| line(cipher, integrity))).collect();
    ike(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

const CLASSIC: [&str; 4] = ["3DES", "AES_CBC_128", "AES_CBC_192", "AES_CBC_256"];

fn windows10() -> Script {
    windows("Windows 10", combined(&CLASSIC, "MODP_1024"), 2)
}

/// Another build of Windows 10: six proposals, hash by hash.
fn windows10_short() -> Script {
    let lines: Vec<_> = INTEGRITIES
        .iter()
        .flat_map(|(integ, prf)| {
            ["3DES", "AES_CBC_256"].map(|cipher| format!("{cipher} {integ} {prf} MODP_1024"))
        })
        .collect();
    let proposals = ike(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    windows("Windows 10 with six proposals", proposals, 2)
}

fn windows11() -> Script {
    let ciphers = [&CLASSIC[..], &["AES_GCM_16_128", "AES_GCM_16_256"]].concat();
    windows("Windows 11", combined(&ciphers, "MODP_1024"), 2)
}

/// What `Set-VpnConnectionIPsecConfiguration` set: one proposal of each kind.
fn powershell(name: &'static str, ike_line: &str, guess: u16, esp_line: &str) -> Script {
    Script { esp: esp(&[&format!("{esp_line} NO_ESN")]), ..windows(name, ike(&[ike_line]), guess) }
}

/// A machine whose certificate has a key on P-256.
fn machine(world: &World) -> Who {
    Who::classic(world, "pc.example.com").by_subject()
}

/// A Child SA is replaced without KE, with wider selectors than agreed on; or with KE, behind the selectors.
fn rekey(session: &mut Session, world: &mut World, esp_line: &str, pfs: Option<(&str, Group)>) {
    let mut parts = vec![Part::RekeySa, Part::Sa, Part::Nonce, Part::TsI, Part::TsR];
    parts.extend(pfs.map(|_| Part::Ke));
    let group = pfs.map_or("", |(word, _)| word);
    let proposals = esp(&[&format!("{esp_line} {group} NO_ESN")]);
    session.rekey_child(world, &parts, &proposals, pfs.map(|(_, group)| group), 1);
}

/// Delete of the Child SA, then of the IKE SA in the next exchange.
fn say_goodbye(mut session: Session, world: &mut World) {
    session.ask(world);
    let child = session.client.children.last().unwrap().clone();
    assert_eq!(session.delete_child(world, child.spi), [child.peer_spi]);
    session.say_goodbye(world);
}

/// Between equals we take SHA2-256 before SHA2-384: group 2 is what states break.
#[test]
fn untouched_needs_weak_groups() {
    let cbc =
        |number| Choice { ike: (number, CBC_SHA256, Prf::HmacSha256, Group::Modp1024), esp: (1, CBC_SHA1) };
    let gcm = Choice { ike: (17, Cipher::Aes256Gcm, Prf::HmacSha256, Group::Modp1024), ..cbc(0) };
    for (script, choice) in [(windows10(), cbc(11)), (windows10_short(), cbc(4)), (windows11(), gcm)] {
        let mut world = world(KeyKind::P256, false);
        let who = machine(&world);
        assert_eq!(Session::refused(&mut world, script.clone(), who, choice), NO_PROPOSAL_CHOSEN);

        let mut world = super::world(KeyKind::P256, true);
        let who = machine(&world);
        let proposals = script.ike.clone();
        let mut session = Session::open(&mut world, script, who, choice);
        assert!(session.auth_datagrams > 3, "{}", session.auth_datagrams);
        rekey(&mut session, &mut world, "AES_CBC_256 SHA1_96", None);
        session.rekey_ike(&mut world, &proposals, choice.ike.0);
        rekey(&mut session, &mut world, "AES_CBC_256 SHA1_96", None);
        say_goodbye(session, &mut world);
    }
}

#[test]
fn initial_request_is_as_long_as_in_logs() {
    let mut world = world(KeyKind::P256, true);
    let choice = Choice { ike: (4, CBC_SHA256, Prf::HmacSha256, Group::Modp1024), esp: (1, CBC_SHA1) };
    let who = machine(&world);
    let session = Session::open(&mut world, windows10_short(), who, choice);
    assert!((612..=632).contains(&session.init_lens[0]), "{:?}", session.init_lens);
}

/// NegotiateDH2048_AES256: 1 adds group 14 with AES-256, whatever the group of the KE payload; 2 leaves nothing else.
#[test]
fn with_the_registry_value() {
    let strong = || combined(&["AES_CBC_256"], "MODP_2048");
    let added_to = |proposals: Vec<Proposal>| {
        let count = proposals.len() as u8;
        let more = strong().into_iter().map(|p| Proposal { number: p.number + count, ..p });
        proposals.into_iter().chain(more).collect::<Vec<_>>()
    };
    let (added, added11) = (added_to(windows10().ike), added_to(windows11().ike));
    let choice =
        |number| Choice { ike: (number, CBC_SHA256, Prf::HmacSha256, Group::Modp2048), esp: (1, CBC_SHA1) };
    for (name, proposals, guess, choice, weak) in [
        ("Windows, registry value 2", strong(), 14, choice(2), false),
        ("Windows, registry value 1", added.clone(), 14, choice(14), false),
        ("Windows, registry value 1, guessing group 2", added.clone(), 2, choice(14), false),
        ("Windows, registry value 1, weak groups allowed", added, 2, choice(14), true),
        // Where the better cipher comes with the weak group only, the group decides.
        ("Windows 11, registry value 1, weak groups allowed", added11, 2, choice(20), true),
    ] {
        let mut world = world(KeyKind::P256, weak);
        let who = machine(&world);
        let mut session = Session::open(&mut world, windows(name, proposals.clone(), guess), who, choice);
        rekey(&mut session, &mut world, "AES_CBC_256 SHA1_96", None);
        session.rekey_ike(&mut world, &proposals, choice.ike.0);
        say_goodbye(session, &mut world);
    }
}

/// Lines that our documents and others recommend.
#[test]
fn with_one_line_of_powershell() {
    let gcm256 = (Cipher::Aes256Gcm, "AES_GCM_16_256");
    let gcm128 = (Cipher::Aes128Gcm, "AES_GCM_16_128");
    let (p256, p384) = (("P256", Group::P256), ("P384", Group::P384));
    for (name, ike_line, suite, esp_suite, pfs) in [
        (
            "GCMAES256, SHA256, ECP256, PFS ECP256",
            "AES_GCM_16_256 PRF_SHA2_256 P256",
            (Cipher::Aes256Gcm, Prf::HmacSha256, Group::P256),
            gcm256,
            Some(p256),
        ),
        (
            "GCMAES256, SHA384, ECP384, PFS ECP384",
            "AES_GCM_16_256 PRF_SHA2_384 P384",
            (Cipher::Aes256Gcm, Prf::HmacSha384, Group::P384),
            gcm256,
            Some(p384),
        ),
        (
            "GCMAES256, SHA256, ECP256, without PFS",
            "AES_GCM_16_256 PRF_SHA2_256 P256",
            (Cipher::Aes256Gcm, Prf::HmacSha256, Group::P256),
            gcm256,
            None,
        ),
        (
            "AES128, SHA384, ECP256, ESP with GCMAES128",
            "AES_CBC_128 SHA2_384_192 PRF_SHA2_384 P256",
            (Cipher::Aes128Cbc(Integrity::HmacSha384), Prf::HmacSha384, Group::P256),
            gcm128,
            Some(p256),
        ),
        (
            "AES256, SHA256, Group14, PFS2048",
            "AES_CBC_256 SHA2_256_128 PRF_SHA2_256 MODP_2048",
            (CBC_SHA256, Prf::HmacSha256, Group::Modp2048),
            (CBC_SHA256, "AES_CBC_256 SHA2_256_128"),
            Some(("MODP_2048", Group::Modp2048)),
        ),
    ] {
        let choice = Choice { ike: (1, suite.0, suite.1, suite.2), esp: (1, esp_suite.0) };
        let script = powershell(name, ike_line, suite.2.transform_id(), esp_suite.1);
        let mut world = world(KeyKind::P256, false);
        let who = machine(&world);
        let mut session = Session::open(&mut world, script, who, choice);
        rekey(&mut session, &mut world, esp_suite.1, pfs);
        // Some builds forget the group when they rekey, some send one that was not set.
        rekey(&mut session, &mut world, esp_suite.1, None);
        rekey(&mut session, &mut world, esp_suite.1, Some(p256));
        session.rekey_ike(&mut world, &ike(&[ike_line]), 1);
        say_goodbye(session, &mut world);
    }
}

/// A certificate with an RSA key signs by method 1, with SHA-1; ours answers by the kind of its own key.
#[test]
fn machine_certificates_of_every_kind() {
    let choice = Choice { ike: (2, CBC_SHA256, Prf::HmacSha256, Group::Modp2048), esp: (1, CBC_SHA1) };
    for (server, client, method) in [
        (KeyKind::P256, KeyKind::Rsa, auth_method::ECDSA_256),
        (KeyKind::P384, KeyKind::P256, auth_method::ECDSA_384),
        (KeyKind::P256, KeyKind::P384, auth_method::ECDSA_256),
        (KeyKind::Rsa, KeyKind::Rsa, auth_method::RSA),
    ] {
        let mut world = world(server, false);
        let mut who = Who { method, ..Who::classic(&world, "pc.example.com") };
        if client == KeyKind::P384 {
            let valid = Validity::days(WALL, 365);
            who.cert = world.authority.issue(Role::Client, &["pc.example.com"], valid, client).unwrap();
        }
        if client == KeyKind::Rsa {
            let signing = Signing::Rsa(SignatureScheme::RsaPkcs1Sha1);
            who = who.with_rsa(&world, "pc.example.com", signing);
        }
        let script = windows("Windows, registry value 2", combined(&["AES_CBC_256"], "MODP_2048"), 14);
        let session = Session::open(&mut world, script, who.by_subject(), choice);
        say_goodbye(session, &mut world);
    }
}

/// A user name and a password: the client is an IPv4 address until EAP, and asks for nobody.
#[test]
fn user_name_and_password() {
    use KeyKind::{P256, Rsa};
    let cbc =
        |number, group| Choice { ike: (number, CBC_SHA256, Prf::HmacSha256, group), esp: (1, CBC_SHA1) };
    let gcm = (1, Cipher::Aes256Gcm, Prf::HmacSha256, Group::P256);
    let strong = || windows("Windows, registry value 2", combined(&["AES_CBC_256"], "MODP_2048"), 14);
    let curve =
        || powershell("Windows, PowerShell", "AES_GCM_16_256 PRF_SHA2_256 P256", 19, "AES_GCM_16_256");
    for (script, choice, servers, method) in [
        (windows10(), cbc(11, Group::Modp1024), &[P256][..], auth_method::ECDSA_256),
        (windows10(), cbc(11, Group::Modp1024), &[Rsa], auth_method::RSA),
        (strong(), cbc(2, Group::Modp2048), &[P256], auth_method::ECDSA_256),
        (strong(), cbc(2, Group::Modp2048), &[P256, Rsa], auth_method::RSA),
        (curve(), Choice { ike: gcm, esp: (1, Cipher::Aes256Gcm) }, &[Rsa, P256], auth_method::ECDSA_256),
    ] {
        let mut world = world_with(servers, true);
        let who = Who::classic(&world, "pc.example.com").with_password("EXAMPLE\\Alice", method);
        let who = Who { id_i: (IdType::Ipv4, vec![192, 168, 1, 10]), id_r: None, ..who };
        let mut session = Session::open(&mut world, script, who, choice);
        assert!(
            (3..=4).contains(&session.auth_datagrams),
            "three in logs; the initiator of these tests pads more"
        );
        session.ask(&mut world);
        say_goodbye(session, &mut world);
    }
}
