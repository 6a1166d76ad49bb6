//! Negotiation by our own preference over all proposals and transforms (RFC 7296 sections 2.7 and 3.3).

use crate::crypto::{Aead, Group, Prf};
use crate::wire::ike::{KeyLength, Proposal, Transform, protocol, transform_type};

const AEADS: [Aead; 3] = [Aead::Aes256Gcm, Aead::Aes128Gcm, Aead::ChaCha20Poly1305];
const PRFS: [Prf; 3] = [Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512];
const GROUPS: [Group; 3] = [Group::X25519, Group::P256, Group::P384];

/// Transform ID that means "none" for INTEG, KE and (as "no extended numbers") ESN.
const NONE: u16 = 0;

/// The algorithms of an IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IkeSuite {
    pub(super) aead: Aead,
    pub(super) prf: Prf,
    pub(super) group: Group,
}

/// The algorithms of a Child SA; the group is for perfect forward secrecy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EspSuite {
    pub(super) aead: Aead,
    pub(super) group: Option<Group>,
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
}

/// Chooses IKE algorithms. `spi_len` is 0 in IKE_SA_INIT and 8 in a rekey. The group of the peer's KE payload wins
/// over our order of groups if it is acceptable at all: that saves a round trip.
pub(super) fn choose_ike(
    proposals: &[Proposal],
    spi_len: usize,
    ke: Option<u16>,
) -> Option<Chosen<IkeSuite>> {
    let usable =
        || proposals.iter().filter(|p| p.protocol == protocol::IKE && p.spi.len() == spi_len && is_usable(p));
    let groups = ke.and_then(Group::from_transform_id).into_iter().chain(GROUPS);
    for (aead, group) in AEADS.into_iter().flat_map(|aead| groups.clone().map(move |group| (aead, group))) {
        for prf in PRFS {
            let found = usable().find(|p| {
                offers_aead(p, aead)
                    && offers(p, transform_type::PRF, prf.transform_id())
                    && offers(p, transform_type::KE, group.transform_id())
            });
            if let Some(p) = found {
                let suite = IkeSuite { aead, prf, group };
                return Some(Chosen { suite, number: p.number, peer_spi: p.spi.clone(), esn: false });
            }
        }
    }
    None
}

/// Chooses ESP algorithms. In IKE_AUTH (`rekey` false) groups are ignored, as there is no key exchange. Otherwise
/// the group of the KE payload is preferred; without a KE payload, no group; else ours (answered by INVALID_KE_PAYLOAD).
pub(super) fn choose_esp(proposals: &[Proposal], with_ke: bool, ke: Option<u16>) -> Option<Chosen<EspSuite>> {
    let usable =
        || proposals.iter().filter(|p| p.protocol == protocol::ESP && p.spi.len() == 4 && is_usable(p));
    let groups: Vec<Option<Group>> = match ke.and_then(Group::from_transform_id) {
        _ if !with_ke => vec![None],
        Some(group) => [Some(group), None].into_iter().chain(GROUPS.map(Some)).collect(),
        None => [None].into_iter().chain(GROUPS.map(Some)).collect(),
    };
    for (aead, group) in AEADS.into_iter().flat_map(|aead| groups.iter().map(move |group| (aead, *group))) {
        let found = usable().find(|p| {
            let group_fits = match group {
                _ if !with_ke => true,
                Some(group) => offers(p, transform_type::KE, group.transform_id()),
                None => !has(p, transform_type::KE) || offers(p, transform_type::KE, NONE),
            };
            let esn_fits = !has(p, transform_type::ESN) || offers(p, transform_type::ESN, NONE);
            offers_aead(p, aead) && group_fits && esn_fits && spi_of(p).is_some_and(|spi| spi > 255)
        });
        if let Some(p) = found {
            let esn = has(p, transform_type::ESN);
            return Some(Chosen {
                suite: EspSuite { aead, group },
                number: p.number,
                peer_spi: p.spi.clone(),
                esn,
            });
        }
    }
    None
}

impl Chosen<IkeSuite> {
    /// The proposal of our answer; `spi` is empty in IKE_SA_INIT.
    pub(super) fn answer(&self, spi: &[u8]) -> Proposal {
        let transforms = vec![
            encr(self.suite.aead),
            Transform::new(transform_type::PRF, self.suite.prf.transform_id()),
            Transform::new(transform_type::KE, self.suite.group.transform_id()),
        ];
        Proposal { number: self.number, protocol: protocol::IKE, spi: spi.to_vec(), transforms }
    }
}

impl Chosen<EspSuite> {
    /// The proposal of our answer.
    pub(super) fn answer(&self, spi: u32) -> Proposal {
        let mut transforms = vec![encr(self.suite.aead)];
        transforms
            .extend(self.suite.group.map(|group| Transform::new(transform_type::KE, group.transform_id())));
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

/// The ESP proposal that we make ourselves when we rekey: the algorithms that are in use.
pub(super) fn own_esp_offer(aead: Aead, spi: u32) -> Proposal {
    let transforms = vec![encr(aead), Transform::new(transform_type::ESN, NONE)];
    Proposal { number: 1, protocol: protocol::ESP, spi: spi.to_be_bytes().to_vec(), transforms }
}

/// A short name, such as `AES-GCM-16-256`.
pub(super) const fn aead_name(aead: Aead) -> &'static str {
    match aead {
        Aead::Aes128Gcm => "AES-GCM-16-128",
        Aead::Aes256Gcm => "AES-GCM-16-256",
        Aead::ChaCha20Poly1305 => "ChaCha20-Poly1305",
    }
}

const fn prf_name(prf: Prf) -> &'static str {
    match prf {
        Prf::HmacSha256 => "HMAC-SHA2-256",
        Prf::HmacSha384 => "HMAC-SHA2-384",
        Prf::HmacSha512 => "HMAC-SHA2-512",
    }
}

const fn group_name(group: Group) -> &'static str {
    match group {
        Group::P256 => "P-256",
        Group::P384 => "P-384",
        Group::X25519 => "X25519",
    }
}

impl std::fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", aead_name(self.aead), prf_name(self.prf), group_name(self.group))
    }
}

fn encr(aead: Aead) -> Transform {
    let key_length = aead.key_bits().map_or(KeyLength::Absent, KeyLength::Bits);
    Transform { kind: transform_type::ENCR, id: aead.transform_id(), key_length }
}

fn offers_aead(p: &Proposal, aead: Aead) -> bool {
    p.transforms.contains(&encr(aead))
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

/// An AEAD allows no integrity transform but NONE (RFC 5282 section 8); types that we do not know (additional key
/// exchanges, RFC 9370, among them) must be optional, that is offer NONE.
fn is_usable(p: &Proposal) -> bool {
    p.transforms.iter().map(|t| t.kind).all(|kind| match kind {
        transform_type::ENCR | transform_type::PRF | transform_type::KE | transform_type::ESN => true,
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
        let chosen = choose_ike(&android, 0, Some(16)).unwrap();
        assert_eq!(chosen.number, 2);
        assert_eq!(
            chosen.suite,
            IkeSuite { aead: Aead::Aes256Gcm, prf: Prf::HmacSha256, group: Group::X25519 }
        );
        assert_eq!(chosen.answer(&[]), ike(2, &[gcm(256), t(PRF, 5), t(KE, 31)]));
        let suite =
            |transforms: &[Transform], ke| choose_ike(&[ike(9, transforms)], 0, Some(ke)).map(|c| c.suite);
        let p256 = Some(IkeSuite { aead: Aead::Aes128Gcm, prf: Prf::HmacSha384, group: Group::P256 });
        for (name, transforms, ke, expected) in [
            ("KE guess wins", vec![gcm(128), t(PRF, 6), t(KE, 31), t(KE, 19)], 19, p256),
            ("INTEG NONE", vec![gcm(128), t(INTEG, 0), t(PRF, 6), t(KE, 19)], 19, p256),
            ("INTEG with AEAD", vec![gcm(128), t(INTEG, 12), t(PRF, 6), t(KE, 19)], 19, None),
            ("optional ADDKE", vec![gcm(128), t(6, 36), t(6, 0), t(PRF, 6), t(KE, 19)], 19, p256),
            ("mandatory ADDKE", vec![gcm(128), t(6, 36), t(PRF, 6), t(KE, 19)], 19, None),
            ("AES without key length", vec![t(ENCR, 20), t(PRF, 6), t(KE, 19)], 19, None),
            ("192 bits", vec![gcm(192), t(PRF, 6), t(KE, 19)], 19, None),
            ("no PRF", vec![gcm(128), t(KE, 19)], 19, None),
            ("only MODP-1024", vec![gcm(128), t(PRF, 6), t(KE, 2)], 2, None),
            ("CBC only", vec![cbc, t(INTEG, 12), t(PRF, 6), t(KE, 19)], 19, None),
        ] {
            assert_eq!(suite(&transforms, ke), expected, "{name}");
        }
        let rekey = Proposal { spi: vec![1; 8], ..ike(3, &[gcm(256), t(PRF, 5), t(KE, 19)]) };
        assert_eq!(choose_ike(std::slice::from_ref(&rekey), 0, Some(19)), None, "an SPI in IKE_SA_INIT");
        assert_eq!(choose_ike(&[rekey], 8, Some(19)).unwrap().number, 3);
    }

    #[test]
    fn esp_with_and_without_forward_secrecy() {
        let choose = |proposals: &[Proposal], with_ke, ke| {
            choose_esp(proposals, with_ke, ke).map(|c| (c.number, c.suite.aead, c.suite.group))
        };
        let apple = [esp(1, 256, &[gcm(256), t(KE, 19), t(ESN, 0)]), esp(2, 256, &[gcm(256), t(ESN, 0)])];
        assert_eq!(choose(&apple, true, Some(19)), Some((1, Aead::Aes256Gcm, Some(Group::P256))));
        assert_eq!(choose(&apple, true, None), Some((2, Aead::Aes256Gcm, None)));
        assert_eq!(
            choose(&apple, false, None),
            Some((1, Aead::Aes256Gcm, None)),
            "groups in IKE_AUTH are ignored"
        );
        let strongswan = [esp(7, 256, &[gcm(128), t(KE, 19), t(KE, 31), t(KE, 0), t(ESN, 0)])];
        assert_eq!(choose(&strongswan, true, Some(31)), Some((7, Aead::Aes128Gcm, Some(Group::X25519))));
        assert_eq!(choose(&strongswan, true, None), Some((7, Aead::Aes128Gcm, None)));
        assert_eq!(choose(&strongswan, true, Some(14)), Some((7, Aead::Aes128Gcm, None)));
        let strict = [esp(1, 256, &[t(ENCR, 28), t(KE, 20)])];
        assert_eq!(choose(&strict, true, None), Some((1, Aead::ChaCha20Poly1305, Some(Group::P384))));
        for (name, bad) in [
            ("only ESN", esp(1, 256, &[gcm(256), t(ESN, 1)])),
            ("reserved SPI", esp(1, 255, &[gcm(256)])),
            ("ChaCha20 with a key length", esp(1, 256, &[Transform { id: 28, ..gcm(256) }])),
            ("AH", Proposal { protocol: 2, ..esp(1, 256, &[gcm(256)]) }),
            ("long SPI", Proposal { spi: vec![1; 8], ..esp(1, 256, &[gcm(256)]) }),
        ] {
            assert_eq!(choose(&[bad], true, None), None, "{name}");
        }
        let answer = choose_esp(&apple, true, Some(19)).unwrap().answer(0x1234_5678);
        assert_eq!(answer, esp(1, 0x1234_5678, &[gcm(256), t(KE, 19), t(ESN, 0)]));
        let lenient = choose_esp(&[esp(1, 256, &[gcm(256)])], true, None).unwrap().answer(300);
        assert_eq!(
            lenient,
            esp(1, 300, &[gcm(256)]),
            "an ESN transform that was not offered is not answered"
        );
    }
}
