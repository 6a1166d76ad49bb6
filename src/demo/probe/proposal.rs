//! SA payloads: what the probe offers and how it reads the one answer (RFC 7296 section 3.3).

use super::message::{Payload, kind};
use crate::crypto::{Cipher, Group, Prf};
use crate::wire::{Malformed, Reader};

const ENCR: u8 = 1;
const PRF: u8 = 2;
const INTEG: u8 = 3;
const KE: u8 = 4;
const ESN: u8 = 5;

/// One algorithm suite for the IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Cipher.
    pub cipher: Cipher,
    /// Pseudo-random function.
    pub prf: Prf,
    /// Key exchange method.
    pub group: Group,
}

impl Default for Suite {
    /// AES-256-GCM, HMAC-SHA-256, X25519.
    fn default() -> Self {
        Self { cipher: Cipher::Aes256Gcm, prf: Prf::HmacSha256, group: Group::X25519 }
    }
}

/// A transform on its way out: type, ID, Key Length.
type Transform = (u8, u16, Option<u16>);

impl Suite {
    fn transforms(&self) -> Vec<Transform> {
        let mut transforms = protection(self.cipher);
        transforms.push((PRF, self.prf.transform_id(), None));
        transforms.push((KE, self.group.transform_id(), None));
        transforms
    }
}

fn protection(cipher: Cipher) -> Vec<Transform> {
    let integrity = cipher.integrity().map(|mac| (INTEG, mac.transform_id(), None));
    [(ENCR, cipher.transform_id(), cipher.key_bits())].into_iter().chain(integrity).collect()
}

fn esp_transforms(cipher: Cipher, group: Option<Group>) -> Vec<Transform> {
    let mut transforms = protection(cipher);
    transforms.extend(group.map(|group| (KE, group.transform_id(), None)));
    transforms.push((ESN, 0, None));
    transforms
}

/// An SA payload for the IKE SA; `spi` is empty in IKE_SA_INIT and our new SPI in a rekey.
pub(super) fn emit_ike(suites: &[Suite], spi: &[u8]) -> Payload {
    emit(1, spi, &suites.iter().map(Suite::transforms).collect::<Vec<_>>())
}

/// An SA payload for ESP, with a key exchange method when forward secrecy is asked for.
pub(super) fn emit_esp(ciphers: &[Cipher], spi: u32, group: Option<Group>) -> Payload {
    emit(3, &spi.to_be_bytes(), &ciphers.iter().map(|a| esp_transforms(*a, group)).collect::<Vec<_>>())
}

/// One proposal per list of transforms, numbered from 1.
fn emit(protocol: u8, spi: &[u8], proposals: &[Vec<Transform>]) -> Payload {
    let mut body = Vec::new();
    for (index, transforms) in proposals.iter().enumerate() {
        let mut inner = spi.to_vec();
        for (i, (transform_type, id, key_bits)) in transforms.iter().enumerate() {
            let len: u16 = if key_bits.is_some() { 12 } else { 8 };
            inner.extend([if i + 1 < transforms.len() { 3 } else { 0 }, 0]);
            inner.extend(len.to_be_bytes());
            inner.extend([*transform_type, 0]);
            inner.extend(id.to_be_bytes());
            if let Some(bits) = key_bits {
                inner.extend([0x80, 14]);
                inner.extend(bits.to_be_bytes());
            }
        }
        body.extend([if index + 1 < proposals.len() { 2 } else { 0 }, 0]);
        body.extend(((inner.len() + 8) as u16).to_be_bytes());
        body.extend([(index + 1) as u8, protocol, spi.len() as u8, transforms.len() as u8]);
        body.extend(inner);
    }
    Payload::new(kind::SA, body)
}

/// The single proposal of an answer.
struct Chosen<'a> {
    number: usize,
    spi: &'a [u8],
    transforms: Vec<Transform>,
}

fn parse(body: &[u8], protocol: u8) -> Result<Chosen<'_>, Malformed> {
    let mut r = Reader::new(body, "chosen proposal");
    let (last, _, len) = (r.u8()?, r.u8()?, r.u16()?);
    let (number, proto, spi_len, count) = (r.u8()?, r.u8()?, r.u8()?, r.u8()?);
    if last != 0 || usize::from(len) != body.len() || proto != protocol || number == 0 {
        return Err(r.malformed());
    }
    let spi = r.take(usize::from(spi_len))?;
    let mut transforms = Vec::new();
    for _ in 0..count {
        let (_more, _, len) = (r.u8()?, r.u8()?, r.u16()?);
        let (transform_type, _, id) = (r.u8()?, r.u8()?, r.u16()?);
        let mut attributes = r.sub(usize::from(len).saturating_sub(8), "transform attribute")?;
        let key_bits = match attributes.is_empty() {
            true => None,
            false if attributes.u16()? == 0x800e => Some(attributes.u16()?),
            false => return Err(attributes.malformed()),
        };
        attributes.finish()?;
        transforms.push((transform_type, id, key_bits));
    }
    r.finish()?;
    transforms.sort_unstable();
    Ok(Chosen { number: usize::from(number) - 1, spi, transforms })
}

/// The suite that the responder chose and its SPI. It must be one that was offered, under its number, each transform once.
pub(super) fn parse_ike<'a>(body: &'a [u8], offered: &[Suite]) -> Result<(Suite, &'a [u8]), Malformed> {
    let chosen = parse(body, 1)?;
    let suite = offered.get(chosen.number).filter(|suite| {
        let mut transforms = suite.transforms();
        transforms.sort_unstable();
        transforms == chosen.transforms
    });
    Ok((*suite.ok_or(Malformed("IKE proposal: not one of ours"))?, chosen.spi))
}

/// The ESP cipher that the responder chose and its SPI.
pub(super) fn parse_esp(
    body: &[u8],
    offered: &[Cipher],
    group: Option<Group>,
) -> Result<(Cipher, u32), Malformed> {
    let chosen = parse(body, 3)?;
    let cipher = offered.get(chosen.number).filter(|cipher| {
        let mut transforms = esp_transforms(**cipher, group);
        transforms.sort_unstable();
        transforms == chosen.transforms
    });
    let spi = <[u8; 4]>::try_from(chosen.spi).map(u32::from_be_bytes).unwrap_or(0);
    if spi < 256 {
        return Err(Malformed("ESP proposal: SPI"));
    }
    Ok((*cipher.ok_or(Malformed("ESP proposal: not one of ours"))?, spi))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_offered_suite_is_accepted() {
        let p256 = Suite { group: Group::P256, ..Suite::default() };
        let answer = emit_ike(&[Suite::default()], &[9; 8]);
        assert_eq!(parse_ike(&answer.body, &[Suite::default()]), Ok((Suite::default(), &[9; 8][..])));
        assert!(parse_ike(&answer.body, &[p256]).is_err());
        assert!(
            parse_ike(&emit_ike(&[p256, p256], &[]).body, &[p256]).is_err(),
            "two proposals in an answer"
        );

        let esp = emit_esp(&[Cipher::ChaCha20Poly1305], 0x1234, Some(Group::P256));
        assert_eq!(
            parse_esp(&esp.body, &[Cipher::ChaCha20Poly1305], Some(Group::P256)),
            Ok((Cipher::ChaCha20Poly1305, 0x1234))
        );
        assert!(parse_esp(&esp.body, &[Cipher::ChaCha20Poly1305], None).is_err(), "a group nobody asked for");
        for end in 0..esp.body.len() {
            assert!(parse_esp(&esp.body[..end], &[Cipher::ChaCha20Poly1305], Some(Group::P256)).is_err());
        }
    }
}
