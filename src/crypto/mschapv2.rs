//! MS-CHAPv2 (RFC 2759) and the keys from it (RFC 3079), for EAP-MSCHAPv2: the only use of MD4 and of DES alone.
//!
//! Both are broken, and the hash of a password is as good as the password: what protects it is the IKE SA around it.

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use md4::{Digest, Md4};
use zeroize::Zeroizing;

use super::Secret;
use super::hash::sha1;

/// Octets of an NT hash, of a challenge, and of a response.
pub const HASH_LEN: usize = 16;
/// Octets of a challenge.
pub const CHALLENGE_LEN: usize = 16;
/// Octets of a response.
pub const RESPONSE_LEN: usize = 24;

/// Constants of RFC 2759 section 8.7.
const SIGNING: &[u8] = b"Magic server to client signing constant";
const ITERATION: &[u8] = b"Pad to make it do more than one iteration";
/// Constants of RFC 3079 section 3.4.
const MASTER_KEY: &[u8] = b"This is the MPPE Master Key";
const CLIENT_SENDS: &[u8] =
    b"On the client side, this is the send key; on the server side, it is the receive key.";
const SERVER_SENDS: &[u8] =
    b"On the client side, this is the receive key; on the server side, it is the send key.";

/// What both sides know of one attempt, apart from the password.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The challenge of the authenticator: of the server.
    pub authenticator: &'a [u8; CHALLENGE_LEN],
    /// The challenge of the peer: of the client.
    pub peer: &'a [u8; CHALLENGE_LEN],
    /// The user's name, without a domain.
    pub user: &'a [u8],
}

/// MD4 of the password in UTF-16LE (section 8.3).
pub fn nt_hash(password: &str) -> Secret {
    let unicode: Zeroizing<Vec<u8>> =
        Zeroizing::new(password.encode_utf16().flat_map(u16::to_le_bytes).collect());
    md4(&unicode)
}

impl Attempt<'_> {
    /// The response of a client with this NT hash (section 8.1).
    pub fn response(&self, hash: &Secret) -> [u8; RESPONSE_LEN] {
        let challenge = self.challenge_hash();
        // Section 8.5: the hash with zeros behind it is three keys of seven octets.
        let mut padded = Zeroizing::new([0; 21]);
        padded.iter_mut().zip(hash.expose()).for_each(|(to, from)| *to = *from);
        let mut response = [0; RESPONSE_LEN];
        for (block, key) in response.as_chunks_mut().0.iter_mut().zip(padded.as_chunks().0) {
            *block = des(key, challenge);
        }
        response
    }

    /// What shows the client that the server knows the password as well (section 8.7), behind "S=".
    pub fn authenticator_response(&self, hash: &Secret, response: &[u8; RESPONSE_LEN]) -> String {
        let twice = md4(hash.expose());
        let digest = sha1(&[twice.expose(), response, SIGNING]);
        let digest = sha1(&[&digest, &self.challenge_hash(), ITERATION]);
        digest.iter().map(|octet| format!("{octet:02X}")).collect()
    }

    /// Section 8.2.
    fn challenge_hash(&self) -> [u8; 8] {
        let digest = sha1(&[self.peer, self.authenticator, self.user]);
        digest.first_chunk().copied().unwrap_or_default()
    }
}

/// The Master Session Key of EAP-MSCHAPv2: the two keys of the server side (RFC 3079 section 3.4), the one to receive
/// first, and zeros.
pub fn msk(hash: &Secret, response: &[u8; RESPONSE_LEN]) -> Secret {
    let twice = md4(hash.expose());
    let master = Zeroizing::new(sha1(&[twice.expose(), response, MASTER_KEY]));
    let key = |text: &[u8]| {
        let master = master.first_chunk::<16>().map_or(&[][..], |master| master);
        Zeroizing::new(sha1(&[master, &[0; 40], text, &[0xf2; 40]]))
    };
    let mut msk = Zeroizing::new([0; 64]);
    let keys = [key(CLIENT_SENDS), key(SERVER_SENDS)];
    for (place, key) in msk.as_chunks_mut::<16>().0.iter_mut().zip(&keys) {
        place.iter_mut().zip(key.iter()).for_each(|(to, from)| *to = *from);
    }
    Secret::from(&msk[..])
}

fn md4(data: &[u8]) -> Secret {
    Secret::from(&Md4::digest(data)[..])
}

/// DES of `block`; the key has no parity bits yet, and DES does not look at them.
fn des(key: &[u8; 7], block: [u8; 8]) -> [u8; 8] {
    let bits = Zeroizing::new(key.iter().fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet)));
    let mut spread = Zeroizing::new([0; 8]);
    for (index, octet) in (0..8).rev().zip(spread.iter_mut()) {
        *octet = ((*bits >> (7 * index)) as u8) << 1;
    }
    let mut block = block.into();
    Des::new(&(*spread).into()).encrypt_block(&mut block);
    block.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let octets = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        octets.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<_>>().try_into().unwrap()
    }

    /// RFC 2759 section 9.2.
    #[test]
    fn sample_of_rfc_2759() {
        let attempt = Attempt {
            authenticator: &hex("5b5d7c7d7b3f2f3e3c2c602132262628"),
            peer: &hex("21402324255e262a28295f2b3a337c7e"),
            user: b"User",
        };
        let hash = nt_hash("clientPass");
        assert_eq!(attempt.challenge_hash(), hex("d02e4386bce91226"));
        assert_eq!(hash.expose(), hex::<16>("44ebba8d5312b8d611474411f56989ae"));
        assert_eq!(md4(hash.expose()).expose(), hex::<16>("41c00c584bd2d91c4017a2a12fa59f3f"));
        let response = attempt.response(&hash);
        assert_eq!(response, hex("82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df"));
        let shown = attempt.authenticator_response(&hash, &response);
        assert_eq!(shown, "407A5589115FD0D6209F510FE9C04566932CDA56");
    }

    /// RFC 3079 section 3.5.3: the same sample; the send key of the server is that of the sample.
    #[test]
    fn sample_of_rfc_3079() {
        let response = hex("82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df");
        let msk = msk(&nt_hash("clientPass"), &response);
        assert_eq!(msk.len(), 64);
        assert_eq!(msk.expose()[16..32], hex::<16>("8b7cdc149b993a1ba118cb153f56dccb"));
        assert_eq!(msk.expose()[32..], [0; 32]);
        assert_ne!(msk.expose()[..16], msk.expose()[16..32]);
    }
}
