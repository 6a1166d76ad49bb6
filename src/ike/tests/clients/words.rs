//! Proposals in words, as logs of IKE show them.

use crate::crypto::{Cipher, Group, Prf};
use crate::ike::testing::{encr, protection};
use crate::wire::ike::{KeyLength, Proposal, Transform, protocol, transform_type};

use transform_type::{ENCR, ESN, INTEG, KE, PRF};

/// Names of transforms; those with a key length have it behind the name (`AES_CBC_256`).
const TRANSFORMS: [(&str, u8, u16); 46] = [
    ("DES", ENCR, 2),
    ("3DES", ENCR, 3),
    ("NULL", ENCR, 11),
    ("AES_CBC", ENCR, 12),
    ("AES_CTR", ENCR, 13),
    ("AES_CCM_8", ENCR, 14),
    ("AES_CCM_12", ENCR, 15),
    ("AES_CCM_16", ENCR, 16),
    ("AES_GCM_8", ENCR, 18),
    ("AES_GCM_12", ENCR, 19),
    ("AES_GCM_16", ENCR, 20),
    ("CAMELLIA_CBC", ENCR, 23),
    ("CHACHA20_POLY1305", ENCR, 28),
    ("MD5_96", INTEG, 1),
    ("SHA1_96", INTEG, 2),
    ("XCBC_96", INTEG, 5),
    ("CMAC_96", INTEG, 8),
    ("SHA2_256_128", INTEG, 12),
    ("SHA2_384_192", INTEG, 13),
    ("SHA2_512_256", INTEG, 14),
    ("PRF_SHA1", PRF, 2),
    ("PRF_XCBC", PRF, 4),
    ("PRF_SHA2_256", PRF, 5),
    ("PRF_SHA2_384", PRF, 6),
    ("PRF_SHA2_512", PRF, 7),
    ("PRF_CMAC", PRF, 8),
    ("NONE", KE, 0),
    ("MODP_1024", KE, 2),
    ("MODP_1536", KE, 5),
    ("MODP_2048", KE, 14),
    ("MODP_3072", KE, 15),
    ("MODP_4096", KE, 16),
    ("MODP_6144", KE, 17),
    ("MODP_8192", KE, 18),
    ("P256", KE, 19),
    ("P384", KE, 20),
    ("P521", KE, 21),
    ("BRAINPOOL_256", KE, 28),
    ("BRAINPOOL_384", KE, 29),
    ("BRAINPOOL_512", KE, 30),
    ("X25519", KE, 31),
    ("X448", KE, 32),
    ("ML_KEM_768", KE, 36),
    ("ML_KEM_1024", KE, 37),
    ("NO_ESN", ESN, 0),
    ("ESN", ESN, 1),
];

fn transform(word: &str) -> Transform {
    let find = |name: &str| TRANSFORMS.iter().find(|(known, ..)| *known == name);
    if let Some((_, kind, id)) = find(word) {
        return Transform::new(*kind, *id);
    }
    let (name, bits) = word.rsplit_once('_').unwrap();
    let (_, kind, id) = find(name).unwrap_or_else(|| panic!("{word}"));
    Transform { kind: *kind, id: *id, key_length: KeyLength::Bits(bits.parse().unwrap()) }
}

/// Proposals numbered from 1, of IKE; the SPI is put in when they are sent.
pub(super) fn ike(lines: &[&str]) -> Vec<Proposal> {
    proposals(protocol::IKE, lines)
}

/// The same of ESP.
pub(super) fn esp(lines: &[&str]) -> Vec<Proposal> {
    proposals(protocol::ESP, lines)
}

fn proposals(protocol: u8, lines: &[&str]) -> Vec<Proposal> {
    let transforms = |line: &str| line.split_whitespace().map(transform).collect();
    let proposal = |(number, line): (u8, &&str)| Proposal {
        number,
        protocol,
        spi: vec![],
        transforms: transforms(line),
    };
    (1..).zip(lines).map(proposal).collect()
}

/// What a client and we are to agree on, and in which of its proposals.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    pub(super) ike: (u8, Cipher, Prf, Group),
    pub(super) esp: (u8, Cipher),
}

impl Choice {
    /// The proposal of our answer in IKE_SA_INIT and in a rekey.
    pub(super) fn ike_answer(&self, number: u8, spi: &[u8]) -> Proposal {
        let (_, cipher, prf, group) = self.ike;
        let mut transforms = protection(cipher);
        transforms.push(Transform::new(PRF, prf.transform_id()));
        transforms.push(Transform::new(KE, group.transform_id()));
        Proposal { number, protocol: protocol::IKE, spi: spi.to_vec(), transforms }
    }

    /// The proposal of our answer for a Child SA.
    pub(super) fn esp_answer(&self, number: u8, group: Option<Group>, spi: &[u8]) -> Proposal {
        let mut transforms = protection(self.esp.1);
        transforms.extend(group.map(|group| Transform::new(KE, group.transform_id())));
        transforms.push(Transform::new(ESN, 0));
        Proposal { number, protocol: protocol::ESP, spi: spi.to_vec(), transforms }
    }
}

#[test]
fn words_are_transforms() {
    assert_eq!(transform("AES_GCM_16_256"), encr(Cipher::Aes256Gcm));
    assert_eq!(transform("CHACHA20_POLY1305"), encr(Cipher::ChaCha20Poly1305));
    assert_eq!(transform("SHA2_384_192"), Transform::new(INTEG, 13));
    let proposals = esp(&["AES_CBC_128 SHA1_96 NO_ESN", "NULL SHA1_96"]);
    assert_eq!((proposals[1].number, proposals[0].transforms.len(), proposals[0].protocol), (2, 3, 3));
}
