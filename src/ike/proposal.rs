//! Negotiation by our own preference over all proposals and transforms (RFC 7296 sections 2.7 and 3.3), with additional
//! key exchanges (RFC 9370 section 2.2).

use std::ops::RangeInclusive;

use crate::crypto::{Cipher, Group, Integrity, Kem, Prf};
use crate::wire::ike::{KeyLength, Proposal, Transform, protocol, transform_type};

/// AEADs first: one pass over the data, and no MAC key to agree on. Then what old clients have, SHA-1 last.
const CIPHERS: [Cipher; 11] = [
    Cipher::Aes256Gcm,
    Cipher::Aes128Gcm,
    Cipher::ChaCha20Poly1305,
    Cipher::Aes256Cbc(Integrity::HmacSha256),
    Cipher::Aes256Cbc(Integrity::HmacSha384),
    Cipher::Aes256Cbc(Integrity::HmacSha512),
    Cipher::Aes128Cbc(Integrity::HmacSha256),
    Cipher::Aes128Cbc(Integrity::HmacSha384),
    Cipher::Aes128Cbc(Integrity::HmacSha512),
    Cipher::Aes256Cbc(Integrity::HmacSha1),
    Cipher::Aes128Cbc(Integrity::HmacSha1),
];
const PRFS: [Prf; 4] = [Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512, Prf::HmacSha1];
const GROUPS: [Group; 6] =
    [Group::X25519, Group::P256, Group::P384, Group::Modp2048, Group::Modp3072, Group::Modp4096];
const GROUPS_WITH_WEAK: [Group; 7] = [
    Group::X25519,
    Group::P256,
    Group::P384,
    Group::Modp2048,
    Group::Modp3072,
    Group::Modp4096,
    Group::Modp1024,
];

/// The groups that we take, best first; 1024-bit MODP only where `with_weak` says so.
pub(super) const fn groups(with_weak: bool) -> &'static [Group] {
    if with_weak { &GROUPS_WITH_WEAK } else { &GROUPS }
}

/// Transform ID that means "none" for INTEG, KE, additional key exchanges and (as "no extended numbers") ESN.
const NONE: u16 = 0;

/// The mechanisms of the additional key exchanges, in their order; none comes twice.
pub(super) type Kems = [Option<Kem>; Kem::ALL.len()];

/// The algorithms of an IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IkeSuite {
    pub(super) cipher: Cipher,
    pub(super) prf: Prf,
    pub(super) group: Group,
    pub(super) kems: Kems,
}

/// The algorithms of a Child SA; the group is for perfect forward secrecy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EspSuite {
    pub(super) cipher: Cipher,
    pub(super) group: Option<Group>,
    pub(super) kems: Kems,
}

/// A chosen proposal: what we agreed on, and what the answer says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen<S> {
    pub(super) suite: S,
    /// Number of the proposal, echoed.
    pub(super) number: u8,
    /// The peer's SPI.
    pub(super) peer_spi: Vec<u8>,
    /// ESN was offered (as NO_ESN) and is answered.
    esn: bool,
    /// One for each type of additional key exchange that was offered, NONE included.
    additional: Vec<Transform>,
}

/// A proposal with additional key exchanges that we can do.
struct Candidate<'a> {
    proposal: &'a Proposal,
    kems: Kems,
    additional: Vec<Transform>,
}

impl Candidate<'_> {
    fn choose<S>(&self, suite: S, esn: bool) -> Chosen<S> {
        let Proposal { number, spi, .. } = self.proposal;
        let (peer_spi, additional) = (spi.clone(), self.additional.clone());
        Chosen { suite, number: *number, peer_spi, esn, additional }
    }
}

/// Chooses IKE algorithms. `spi_len` is 0 in IKE_SA_INIT and 8 in a rekey. `ke` is the group of the peer's KE payload,
/// `kems` are the mechanisms for additional key exchanges: better with one than without.
pub(super) fn choose_ike(
    proposals: &[Proposal],
    spi_len: usize,
    ke: Option<u16>,
    groups: &[Group],
    kems: &[Kem],
) -> Option<Chosen<IkeSuite>> {
    let usable = |p: &&Proposal| p.protocol == protocol::IKE && p.spi.len() == spi_len && is_usable(p);
    // The weak group only where nothing else will do: neither a better cipher nor the peer's guess is worth it.
    let (weak, fair): (Vec<_>, Vec<_>) =
        by_preference(groups, ke).into_iter().partition(|group| *group == Group::Modp1024);
    for candidates in with_and_without(proposals.iter().filter(usable).collect(), kems) {
        let pairs = [&fair, &weak].into_iter().flat_map(|groups| {
            CIPHERS.into_iter().flat_map(move |cipher| groups.iter().map(move |group| (cipher, *group)))
        });
        for ((cipher, group), prf) in pairs.flat_map(|pair| PRFS.map(|prf| (pair, prf))) {
            let found = candidates.iter().find(|Candidate { proposal: p, .. }| {
                offers_cipher(p, cipher)
                    && offers(p, transform_type::PRF, prf.transform_id())
                    && offers(p, transform_type::KE, group.transform_id())
            });
            if let Some(found) = found {
                return Some(found.choose(IkeSuite { cipher, prf, group, kems: found.kems }, false));
            }
        }
    }
    None
}

/// Our order of groups, but for the one of the peer's KE payload: it goes before its like, which saves a round trip. A
/// MODP group does not go before curves: the round trip costs less than its arithmetic.
fn by_preference(groups: &[Group], ke: Option<u16>) -> Vec<Group> {
    let guess = ke.and_then(Group::from_transform_id).filter(|guess| groups.contains(guess));
    let mut ordered = groups.to_vec();
    ordered.sort_by_key(|group| (!group.is_curve(), Some(*group) != guess));
    ordered
}

/// Chooses ESP algorithms. In IKE_AUTH (`with_ke` false) groups are ignored, as there is no key exchange. Otherwise the
/// group of the KE payload is preferred; without a KE payload, no group; else ours (answered by INVALID_KE_PAYLOAD).
/// Additional key exchanges come only behind one with a group.
pub(super) fn choose_esp(
    proposals: &[Proposal],
    with_ke: bool,
    ke: Option<u16>,
    groups: &[Group],
    kems: &[Kem],
) -> Option<Chosen<EspSuite>> {
    let usable = |p: &&Proposal| p.protocol == protocol::ESP && p.spi.len() == 4 && is_usable(p);
    let usable: Vec<_> = proposals.iter().filter(usable).collect();
    let known = ke.and_then(Group::from_transform_id).filter(|group| groups.contains(group));
    let ordered = by_preference(groups, ke).into_iter().map(Some);
    let groups: Vec<Option<Group>> = match known {
        _ if !with_ke => vec![None],
        Some(group) => [Some(group), None].into_iter().chain(ordered).collect(),
        None => [None].into_iter().chain(ordered).collect(),
    };
    let passes = if with_ke { with_and_without(usable, kems) } else { [without_ke(usable), vec![]] };
    for candidates in passes {
        for (cipher, group) in CIPHERS.into_iter().flat_map(|cipher| groups.iter().map(move |g| (cipher, *g)))
        {
            let found = candidates.iter().find(|Candidate { proposal: p, kems, .. }| {
                let group_fits = match group {
                    _ if !with_ke => true,
                    Some(group) => offers(p, transform_type::KE, group.transform_id()),
                    None if kems.iter().any(Option::is_some) => false,
                    None => !has(p, transform_type::KE) || offers(p, transform_type::KE, NONE),
                };
                let esn_fits = !has(p, transform_type::ESN) || offers(p, transform_type::ESN, NONE);
                offers_cipher(p, cipher) && group_fits && esn_fits && spi_of(p).is_some_and(|spi| spi > 255)
            });
            if let Some(found) = found {
                let esn = has(found.proposal, transform_type::ESN);
                return Some(found.choose(EspSuite { cipher, group, kems: found.kems }, esn));
            }
        }
    }
    None
}

/// The proposals with at least one additional key exchange of `kems`, and those that do without any.
fn with_and_without<'a>(usable: Vec<&'a Proposal>, kems: &[Kem]) -> [Vec<Candidate<'a>>; 2] {
    let candidates = |kems: &[Kem]| {
        let additional = |proposal: &&'a Proposal| {
            let additional = choose_additional(proposal, transform_type::ADDITIONAL_KE, kems)?;
            let mut kems = additional.iter().filter_map(|t| Kem::from_transform_id(t.id));
            let kems = std::array::from_fn(|_| kems.next());
            Some(Candidate { proposal, kems, additional })
        };
        usable.iter().filter_map(additional).collect::<Vec<_>>()
    };
    let mut with = candidates(kems);
    with.retain(|candidate| candidate.kems.iter().any(Option::is_some));
    [with, candidates(&[])]
}

/// All of them, where key exchanges have no meaning.
fn without_ke(usable: Vec<&Proposal>) -> Vec<Candidate<'_>> {
    let bare = |proposal| Candidate { proposal, kems: Kems::default(), additional: vec![] };
    usable.into_iter().map(bare).collect()
}

/// One transform for each of the types that the proposal has: no mechanism twice, and NONE only where it is offered
/// (RFC 9370 section 2.2.2).
fn choose_additional(p: &Proposal, mut types: RangeInclusive<u8>, kems: &[Kem]) -> Option<Vec<Transform>> {
    let Some(kind) = types.find(|kind| has(p, *kind)) else { return Some(vec![]) };
    let with = |id: u16, left: &[Kem]| {
        let rest =
            if offers(p, kind, id) { choose_additional(p, types.clone(), left)? } else { return None };
        Some([&[Transform::new(kind, id)], &rest[..]].concat())
    };
    let one = kems.iter().find_map(|kem| {
        let left: Vec<_> = kems.iter().copied().filter(|other| other != kem).collect();
        with(kem.transform_id(), &left)
    });
    one.or_else(|| with(NONE, kems))
}

impl Chosen<IkeSuite> {
    /// The proposal of our answer; `spi` is empty in IKE_SA_INIT.
    pub(super) fn answer(&self, spi: &[u8]) -> Proposal {
        let mut transforms = protection(self.suite.cipher);
        transforms.extend([
            Transform::new(transform_type::PRF, self.suite.prf.transform_id()),
            Transform::new(transform_type::KE, self.suite.group.transform_id()),
        ]);
        transforms.extend(&self.additional);
        Proposal { number: self.number, protocol: protocol::IKE, spi: spi.to_vec(), transforms }
    }

    /// The peer's SPI as a number, which is not zero.
    pub(super) fn peer_spi_u64(&self) -> Option<u64> {
        self.peer_spi.as_slice().try_into().ok().map(u64::from_be_bytes).filter(|spi| *spi != 0)
    }
}

impl Chosen<EspSuite> {
    /// The proposal of our answer.
    pub(super) fn answer(&self, spi: u32) -> Proposal {
        let mut transforms = protection(self.suite.cipher);
        transforms
            .extend(self.suite.group.map(|group| Transform::new(transform_type::KE, group.transform_id())));
        transforms.extend(&self.additional);
        if self.esn {
            transforms.push(Transform::new(transform_type::ESN, NONE));
        }
        Proposal { number: self.number, protocol: protocol::ESP, spi: spi.to_be_bytes().to_vec(), transforms }
    }

    /// The peer's SPI as a number.
    pub(super) fn peer_spi_u32(&self) -> Option<u32> {
        self.peer_spi.as_slice().try_into().ok().map(u32::from_be_bytes)
    }
}

/// The IKE proposal that we make ourselves when we rekey: the algorithms that are in use.
pub(super) fn own_ike_offer(suite: IkeSuite, spi: u64) -> Proposal {
    Chosen { suite, number: 1, peer_spi: Vec::new(), esn: false, additional: Vec::new() }
        .answer(&spi.to_be_bytes())
}

/// The ESP proposal that we make ourselves when we rekey: the algorithms that are in use.
pub(super) fn own_esp_offer(cipher: Cipher, spi: u32) -> Proposal {
    let mut transforms = protection(cipher);
    transforms.push(Transform::new(transform_type::ESN, NONE));
    Proposal { number: 1, protocol: protocol::ESP, spi: spi.to_be_bytes().to_vec(), transforms }
}

impl std::fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.cipher, self.prf, self.group)?;
        self.kems.iter().flatten().try_for_each(|kem| write!(f, "+{kem}"))
    }
}

fn encr(cipher: Cipher) -> Transform {
    let key_length = cipher.key_bits().map_or(KeyLength::Absent, KeyLength::Bits);
    Transform { kind: transform_type::ENCR, id: cipher.transform_id(), key_length }
}

/// The transforms of a cipher: ENCR, and INTEG where it has one.
fn protection(cipher: Cipher) -> Vec<Transform> {
    let integrity = cipher.integrity().map(|mac| Transform::new(transform_type::INTEG, mac.transform_id()));
    [encr(cipher)].into_iter().chain(integrity).collect()
}

/// An AEAD allows no integrity transform but NONE (RFC 5282 section 8).
fn offers_cipher(p: &Proposal, cipher: Cipher) -> bool {
    let integrity = match cipher.integrity() {
        Some(mac) => offers(p, transform_type::INTEG, mac.transform_id()),
        None => !has(p, transform_type::INTEG) || offers(p, transform_type::INTEG, NONE),
    };
    integrity && p.transforms.contains(&encr(cipher))
}

fn offers(p: &Proposal, kind: u8, id: u16) -> bool {
    p.transforms.contains(&Transform::new(kind, id))
}

fn has(p: &Proposal, kind: u8) -> bool {
    p.transforms.iter().any(|t| t.kind == kind)
}

fn spi_of(p: &Proposal) -> Option<u32> {
    p.spi.as_slice().try_into().ok().map(u32::from_be_bytes)
}

/// Types that we do not know must be optional, that is offer NONE.
fn is_usable(p: &Proposal) -> bool {
    use transform_type::{ADDITIONAL_KE, ENCR, ESN, INTEG, KE, PRF};
    p.transforms.iter().map(|t| t.kind).all(|kind| match kind {
        ENCR | PRF | INTEG | KE | ESN => true,
        _ if ADDITIONAL_KE.contains(&kind) => true,
        _ => offers(p, kind, NONE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use transform_type::{ENCR, ESN, INTEG, KE, PRF};

    fn gcm(bits: u16) -> Transform {
        Transform { kind: ENCR, id: 20, key_length: KeyLength::Bits(bits) }
    }

    const fn t(kind: u8, id: u16) -> Transform {
        Transform::new(kind, id)
    }

    fn ike(number: u8, transforms: &[Transform]) -> Proposal {
        Proposal { number, protocol: protocol::IKE, spi: vec![], transforms: transforms.to_vec() }
    }

    fn esp(number: u8, spi: u32, transforms: &[Transform]) -> Proposal {
        Proposal {
            number,
            protocol: protocol::ESP,
            spi: spi.to_be_bytes().to_vec(),
            transforms: transforms.to_vec(),
        }
    }

    #[test]
    fn ike_by_our_preference_across_proposals() {
        let cbc = Transform { kind: ENCR, id: 12, key_length: KeyLength::Bits(256) };
        // The two proposals of Android: the AEAD one is second, and the first guess of a group is not ours.
        let android = [
            ike(1, &[cbc, t(INTEG, 14), t(KE, 16), t(KE, 31), t(PRF, 7), t(PRF, 5)]),
            ike(2, &[t(ENCR, 28), gcm(256), gcm(128), t(KE, 16), t(KE, 31), t(PRF, 7), t(PRF, 5)]),
        ];
        let chosen = choose_ike(&android, 0, Some(16), groups(false), &Kem::ALL).unwrap();
        assert_eq!(chosen.number, 2);
        assert_eq!(
            chosen.suite,
            IkeSuite {
                cipher: Cipher::Aes256Gcm,
                prf: Prf::HmacSha256,
                group: Group::X25519,
                kems: [None; 2]
            }
        );
        assert_eq!(chosen.answer(&[]), ike(2, &[gcm(256), t(PRF, 5), t(KE, 31)]));
        let suite = |transforms: &[Transform], ke| {
            choose_ike(&[ike(9, transforms)], 0, Some(ke), groups(false), &Kem::ALL).map(|c| c.suite)
        };
        let p256 = Some(IkeSuite {
            cipher: Cipher::Aes128Gcm,
            prf: Prf::HmacSha384,
            group: Group::P256,
            kems: [None; 2],
        });
        for (name, transforms, ke, expected) in [
            ("KE guess wins", vec![gcm(128), t(PRF, 6), t(KE, 31), t(KE, 19)], 19, p256),
            ("INTEG NONE", vec![gcm(128), t(INTEG, 0), t(PRF, 6), t(KE, 19)], 19, p256),
            ("INTEG with AEAD", vec![gcm(128), t(INTEG, 12), t(PRF, 6), t(KE, 19)], 19, None),
            (
                "optional ADDKE that we lack",
                vec![gcm(128), t(6, 35), t(6, 0), t(PRF, 6), t(KE, 19)],
                19,
                p256,
            ),
            ("mandatory ADDKE that we lack", vec![gcm(128), t(6, 35), t(PRF, 6), t(KE, 19)], 19, None),
            ("AES without key length", vec![t(ENCR, 20), t(PRF, 6), t(KE, 19)], 19, None),
            ("192 bits", vec![gcm(192), t(PRF, 6), t(KE, 19)], 19, None),
            ("no PRF", vec![gcm(128), t(KE, 19)], 19, None),
            ("only MODP-1024", vec![gcm(128), t(PRF, 6), t(KE, 2)], 2, None),
            ("CBC without INTEG", vec![cbc, t(PRF, 6), t(KE, 19)], 19, None),
            ("CBC with MD5", vec![cbc, t(INTEG, 1), t(PRF, 6), t(KE, 19)], 19, None),
            ("3DES", vec![t(ENCR, 3), t(INTEG, 12), t(PRF, 6), t(KE, 19)], 19, None),
            ("MODP-1536", vec![gcm(128), t(PRF, 6), t(KE, 5)], 5, None),
        ] {
            assert_eq!(suite(&transforms, ke), expected, "{name}");
        }
        let rekey = Proposal { spi: vec![1; 8], ..ike(3, &[gcm(256), t(PRF, 5), t(KE, 19)]) };
        assert_eq!(
            choose_ike(std::slice::from_ref(&rekey), 0, Some(19), groups(false), &Kem::ALL),
            None,
            "an SPI in IKE_SA_INIT"
        );
        assert_eq!(choose_ike(&[rekey], 8, Some(19), groups(false), &Kem::ALL).unwrap().number, 3);
    }

    /// What clients without a profile offer, shortened to what decides, and what they get.
    #[test]
    fn clients_with_their_own_defaults_get_the_best_they_offer() {
        let cbc = |bits| Transform { kind: ENCR, id: 12, key_length: KeyLength::Bits(bits) };
        let (tripledes, sha1, sha256, sha384) = (t(ENCR, 3), t(INTEG, 2), t(INTEG, 12), t(INTEG, 13));
        let windows = |number, encr, integ, prf, group| {
            let integ = Some(integ).filter(|_| encr != gcm(256));
            ike(number, &[&[encr][..], integ.as_slice(), &[t(PRF, prf), t(KE, group)]].concat())
        };
        let windows10 = |group| {
            vec![
                windows(1, tripledes, sha1, 2, group),
                windows(2, cbc(256), sha1, 2, group),
                windows(3, tripledes, sha256, 5, group),
                windows(4, cbc(256), sha256, 5, group),
                windows(5, cbc(256), sha384, 6, group),
            ]
        };
        let macos13 = [ike(1, &[cbc(256), sha256, t(PRF, 5), t(KE, 14)])];
        let ios16 = [ike(1, &[cbc(256), sha256, t(PRF, 5), t(KE, 14), t(KE, 19), t(KE, 5)])];
        let cbc256 =
            |mac, prf, group| IkeSuite { cipher: Cipher::Aes256Cbc(mac), prf, group, kems: [None; 2] };
        let (mac, prf) = (Integrity::HmacSha256, Prf::HmacSha256);
        for (name, proposals, ke, weak, expected) in [
            ("Windows 10", windows10(2), 2, false, None),
            (
                "Windows 10, weak groups allowed",
                windows10(2),
                2,
                true,
                Some(cbc256(mac, prf, Group::Modp1024)),
            ),
            ("Windows, registry value", windows10(14), 14, false, Some(cbc256(mac, prf, Group::Modp2048))),
            ("macOS 13", macos13.to_vec(), 14, false, Some(cbc256(mac, prf, Group::Modp2048))),
            ("iOS 16", ios16.to_vec(), 14, true, Some(cbc256(mac, prf, Group::P256))),
            (
                "Windows 11",
                vec![windows(1, gcm(256), sha256, 6, 2), windows(2, cbc(256), sha384, 6, 2)],
                2,
                true,
                Some(IkeSuite {
                    cipher: Cipher::Aes256Gcm,
                    prf: Prf::HmacSha384,
                    group: Group::Modp1024,
                    kems: [None; 2],
                }),
            ),
        ] {
            let chosen =
                choose_ike(&proposals, 0, Some(ke), groups(weak), &Kem::ALL).map(|chosen| chosen.suite);
            assert_eq!(chosen, expected, "{name}");
        }
        let answer = choose_ike(&macos13, 0, Some(14), groups(false), &Kem::ALL).unwrap().answer(&[]);
        assert_eq!(answer, ike(1, &[cbc(256), sha256, t(PRF, 5), t(KE, 14)]));
        let esp_windows =
            [esp(1, 300, &[cbc(256), sha1, t(ESN, 0)]), esp(2, 300, &[cbc(128), sha1, t(ESN, 0)])];
        let chosen = choose_esp(&esp_windows, false, None, groups(false), &Kem::ALL).unwrap();
        assert_eq!(chosen.suite.cipher, Cipher::Aes256Cbc(Integrity::HmacSha1));
        assert_eq!(chosen.answer(400), esp(1, 400, &[cbc(256), sha1, t(ESN, 0)]));
    }

    #[test]
    fn esp_with_and_without_forward_secrecy() {
        let choose = |proposals: &[Proposal], with_ke, ke| {
            choose_esp(proposals, with_ke, ke, groups(false), &Kem::ALL)
                .map(|c| (c.number, c.suite.cipher, c.suite.group))
        };
        let apple = [esp(1, 256, &[gcm(256), t(KE, 19), t(ESN, 0)]), esp(2, 256, &[gcm(256), t(ESN, 0)])];
        assert_eq!(choose(&apple, true, Some(19)), Some((1, Cipher::Aes256Gcm, Some(Group::P256))));
        assert_eq!(choose(&apple, true, None), Some((2, Cipher::Aes256Gcm, None)));
        assert_eq!(
            choose(&apple, false, None),
            Some((1, Cipher::Aes256Gcm, None)),
            "groups in IKE_AUTH are ignored"
        );
        let strongswan = [esp(7, 256, &[gcm(128), t(KE, 19), t(KE, 31), t(KE, 0), t(ESN, 0)])];
        assert_eq!(choose(&strongswan, true, Some(31)), Some((7, Cipher::Aes128Gcm, Some(Group::X25519))));
        assert_eq!(choose(&strongswan, true, None), Some((7, Cipher::Aes128Gcm, None)));
        assert_eq!(choose(&strongswan, true, Some(14)), Some((7, Cipher::Aes128Gcm, None)));
        let strict = [esp(1, 256, &[t(ENCR, 28), t(KE, 20)])];
        assert_eq!(choose(&strict, true, None), Some((1, Cipher::ChaCha20Poly1305, Some(Group::P384))));
        for (name, bad) in [
            ("only ESN", esp(1, 256, &[gcm(256), t(ESN, 1)])),
            ("reserved SPI", esp(1, 255, &[gcm(256)])),
            ("ChaCha20 with a key length", esp(1, 256, &[Transform { id: 28, ..gcm(256) }])),
            ("AH", Proposal { protocol: 2, ..esp(1, 256, &[gcm(256)]) }),
            ("long SPI", Proposal { spi: vec![1; 8], ..esp(1, 256, &[gcm(256)]) }),
        ] {
            assert_eq!(choose(&[bad], true, None), None, "{name}");
        }
        let answer =
            choose_esp(&apple, true, Some(19), groups(false), &Kem::ALL).unwrap().answer(0x1234_5678);
        assert_eq!(answer, esp(1, 0x1234_5678, &[gcm(256), t(KE, 19), t(ESN, 0)]));
        let lenient = choose_esp(&[esp(1, 256, &[gcm(256)])], true, None, groups(false), &Kem::ALL)
            .unwrap()
            .answer(300);
        assert_eq!(
            lenient,
            esp(1, 300, &[gcm(256)]),
            "an ESN transform that was not offered is not answered"
        );
    }

    #[test]
    fn additional_key_exchanges() {
        use Kem::{MlKem768 as M768, MlKem1024 as M1024};
        let base = [gcm(256), t(PRF, 5), t(KE, 31)];
        let with = |additional: &[Transform]| ike(1, &[&base[..], additional].concat());
        let choose = |proposals: &[Proposal], kems: &[Kem]| {
            let chosen = choose_ike(proposals, 0, Some(31), groups(false), kems)?;
            let answered = chosen.answer(&[]).transforms.get(base.len()..).unwrap().to_vec();
            Some((chosen.suite.kems, answered))
        };
        let one = |kem| [Some(kem), None];
        for (name, offered, expected) in [
            ("one", &[t(6, 36)][..], Some((one(M768), vec![t(6, 36)]))),
            ("the larger one", &[t(6, 37)], Some((one(M1024), vec![t(6, 37)]))),
            ("our preference", &[t(6, 37), t(6, 36), t(6, 0)], Some((one(M768), vec![t(6, 36)]))),
            ("not the first type", &[t(9, 36)], Some((one(M768), vec![t(9, 36)]))),
            ("both", &[t(7, 36), t(6, 37)], Some(([Some(M1024), Some(M768)], vec![t(6, 37), t(7, 36)]))),
            (
                "none twice, whichever comes first",
                &[t(6, 36), t(6, 37), t(7, 36)],
                Some(([Some(M1024), Some(M768)], vec![t(6, 37), t(7, 36)])),
            ),
            ("the same twice", &[t(6, 36), t(7, 36)], None),
            (
                "NONE is answered",
                &[t(6, 35), t(6, 0), t(7, 36), t(8, 36), t(8, 0)],
                Some((one(M768), vec![t(6, 0), t(7, 36), t(8, 0)])),
            ),
            ("one that we lack", &[t(6, 36), t(7, 35)], None),
            ("with a key length", &[Transform { key_length: KeyLength::Bits(768), ..t(6, 36) }], None),
            ("a type of the future", &[t(13, 36)], None),
        ] {
            assert_eq!(choose(&[with(offered)], &Kem::ALL), expected, "{name}");
        }
        let none = Some(([None; 2], vec![t(6, 0)]));
        assert_eq!(choose(&[with(&[t(6, 36)])], &[]), None, "without IKE_INTERMEDIATE");
        assert_eq!(choose(&[with(&[t(6, 36), t(6, 0)])], &[]), none, "without IKE_INTERMEDIATE");
        // Better with a weaker cipher than without.
        let weaker = ike(2, &[gcm(128), t(PRF, 5), t(KE, 19), t(6, 36)]);
        let both = [with(&[]), weaker];
        assert_eq!(choose(&both, &Kem::ALL), Some((one(M768), vec![t(6, 36)])));
        assert_eq!(choose(&both, &[]), Some(([None; 2], vec![])));

        let child = [esp(1, 256, &[gcm(256), t(KE, 31), t(KE, 0), t(6, 36), t(6, 0), t(ESN, 0)])];
        let choose = |with_ke, ke| {
            let chosen = choose_esp(&child, with_ke, ke, groups(false), &Kem::ALL)?;
            Some((chosen.suite.group, chosen.suite.kems, chosen.answer(300)))
        };
        let (x25519, number) = (Some(Group::X25519), 300);
        let full = esp(1, number, &[gcm(256), t(KE, 31), t(6, 36), t(ESN, 0)]);
        assert_eq!(choose(true, Some(31)), Some((x25519, one(M768), full.clone())));
        assert_eq!(choose(true, None), Some((x25519, one(M768), full)), "INVALID_KE_PAYLOAD asks for one");
        let bare = esp(1, number, &[gcm(256), t(ESN, 0)]);
        assert_eq!(choose(false, None), Some((None, [None; 2], bare)), "IKE_AUTH exchanges no keys");
        let strict = [esp(1, 256, &[gcm(256), t(6, 36)])];
        assert_eq!(choose_esp(&strict, true, None, groups(false), &Kem::ALL), None, "none without a first");
    }
}
