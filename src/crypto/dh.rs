//! Ephemeral Diffie-Hellman in the forms of the KE payload (RFC 3526, RFC 5903, RFC 8031).

mod modp;

use std::fmt;

use ring::agreement::{
    ECDH_P256, ECDH_P384, EphemeralPrivateKey, PublicKey, UnparsedPublicKey, X25519, agree_ephemeral,
};
use ring::rand::SystemRandom;

use super::{Error, Group, Secret};

#[cfg(test)]
pub(crate) use modp::prime;

/// First octet of an uncompressed point; on the IKE wire it is left out.
const UNCOMPRESSED: u8 = 4;
/// The longest point that we handle: P-384 with its first octet.
const MAX_POINT_LEN: usize = 97;

/// A private value that is used once, and its public value.
pub struct KeyPair {
    group: Group,
    values: Values,
}

enum Values {
    Curve(EphemeralPrivateKey, PublicKey),
    Modp(modp::KeyPair),
}

impl KeyPair {
    /// A fresh pair from the system's random generator. A MODP group takes milliseconds.
    pub fn generate(group: Group) -> Result<Self, Error> {
        let alg = match group {
            Group::P256 => &ECDH_P256,
            Group::P384 => &ECDH_P384,
            Group::X25519 => &X25519,
            Group::Modp1024 | Group::Modp2048 | Group::Modp3072 | Group::Modp4096 => {
                let values = Values::Modp(modp::KeyPair::generate(group)?);
                return Ok(Self { group, values });
            }
        };
        let private =
            EphemeralPrivateKey::generate(alg, &SystemRandom::new()).map_err(|_| Error::Internal)?;
        let public = private.compute_public_key().map_err(|_| Error::Internal)?;
        Ok(Self { group, values: Values::Curve(private, public) })
    }

    /// The group.
    pub fn group(&self) -> Group {
        self.group
    }

    /// Key Exchange Data for the KE payload: x || y for ECP groups, 32 octets for X25519, as long as the prime for MODP
    /// groups.
    pub fn public(&self) -> &[u8] {
        match &self.values {
            Values::Modp(pair) => pair.public(),
            Values::Curve(_, public) => match (self.group, public.as_ref()) {
                (Group::P256 | Group::P384, [UNCOMPRESSED, point @ ..]) => point,
                (_, bytes) => bytes,
            },
        }
    }

    /// The shared secret g^ir with the peer's Key Exchange Data: the x coordinate for ECP groups.
    /// Refuses values of a wrong length, points off the curve, X25519 values that give all zeros, and numbers outside
    /// 2..=p-2 (RFC 6989).
    pub fn agree(self, peer_public: &[u8]) -> Result<Secret, Error> {
        if peer_public.len() != self.group.public_len() {
            return Err(Error::BadPublicValue);
        }
        let private = match self.values {
            Values::Modp(pair) => return pair.agree(self.group, peer_public),
            Values::Curve(private, _) => private,
        };
        let mut point = [UNCOMPRESSED; MAX_POINT_LEN];
        let prefix = usize::from(self.group != Group::X25519);
        let point = point.get_mut(..prefix + peer_public.len()).ok_or(Error::BadPublicValue)?;
        point.get_mut(prefix..).ok_or(Error::BadPublicValue)?.copy_from_slice(peer_public);

        let peer = UnparsedPublicKey::new(private.algorithm(), &*point);
        agree_ephemeral(private, &peer, |shared| Secret::from(shared)).map_err(|_| Error::BadPublicValue)
    }
}

/// Refuses what is seen to be no public value without any work, so that none is done for it: a wrong length, and
/// numbers out of range for MODP groups.
pub fn check_public_value(group: Group, value: &[u8]) -> Result<(), Error> {
    match group {
        _ if value.len() != group.public_len() => Err(Error::BadPublicValue),
        Group::P256 | Group::P384 | Group::X25519 => Ok(()),
        Group::Modp1024 | Group::Modp2048 | Group::Modp3072 | Group::Modp4096 => {
            modp::check_public_value(group, value)
        }
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?}, [redacted])", self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Group, usize); 7] = [
        (Group::P256, 32),
        (Group::P384, 48),
        (Group::X25519, 32),
        (Group::Modp1024, 128),
        (Group::Modp2048, 256),
        (Group::Modp3072, 384),
        (Group::Modp4096, 512),
    ];

    #[test]
    fn two_parties_agree() {
        for (group, secret_len) in ALL {
            let (a, b) = (KeyPair::generate(group).unwrap(), KeyPair::generate(group).unwrap());
            assert_eq!(a.group(), group);
            assert_eq!(a.public().len(), group.public_len());
            let (to_a, to_b) = (b.public().to_vec(), a.public().to_vec());
            let (at_a, at_b) = (a.agree(&to_a).unwrap(), b.agree(&to_b).unwrap());
            assert_eq!(at_a.expose(), at_b.expose());
            assert_eq!(at_a.len(), secret_len);
        }
    }

    #[test]
    fn refuses_bad_values() {
        for (group, _) in ALL {
            let good = KeyPair::generate(group).unwrap().public().to_vec();
            let with_prefix = [&[UNCOMPRESSED], good.as_slice()].concat();
            let mut off_curve = good.clone();
            off_curve[5] ^= 1;
            let mut bad = vec![
                vec![],
                vec![0; good.len()],
                good[1..].to_vec(),
                with_prefix,
                [&good[..], &[0]].concat(),
            ];
            match group {
                Group::P256 | Group::P384 => bad.extend([off_curve, vec![0xff; good.len()]]),
                Group::Modp1024 | Group::Modp2048 | Group::Modp3072 | Group::Modp4096 => {
                    bad.push(vec![0xff; good.len()]);
                }
                // Points of small order (RFC 7748 section 7): 1, one of order 8, and p - 1.
                Group::X25519 => bad.extend([
                    [&[1][..], &[0; 31]].concat(),
                    b"\xe0\xeb\x7a\x7c\x3b\x41\xb8\xae\x16\x56\xe3\xfa\xf1\x9f\xc4\x6a\
                      \xda\x09\x8d\xeb\x9c\x32\xb1\xfd\x86\x62\x05\x16\x5f\x49\xb8\x00"
                        .to_vec(),
                    [&[0xec][..], &[0xff; 30], &[0x7f]].concat(),
                ]),
            }
            for value in bad {
                let ours = KeyPair::generate(group).unwrap();
                assert_eq!(ours.agree(&value).unwrap_err(), Error::BadPublicValue, "{group:?} {value:02x?}");
            }
        }
    }
}
