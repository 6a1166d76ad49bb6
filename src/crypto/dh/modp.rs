//! Diffie-Hellman modulo a safe prime with generator 2 (RFC 3526, RFC 2409), in constant time. ring has none.

use std::sync::LazyLock;

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, Uint};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, Zeroizing};

use super::super::{Error, Group, Secret};

/// The longest private exponent in octets.
const MAX_EXPONENT_LEN: usize = 60;
const EXPONENT_LIMBS: usize = (MAX_EXPONENT_LEN * 8).div_ceil(crypto_bigint::Limb::BITS as usize);
/// Octets of a limb.
const LIMB_LEN: usize = crypto_bigint::Limb::BYTES;

/// A private exponent that is used once, and its public value.
pub(super) struct KeyPair {
    exponent: Zeroizing<Vec<u8>>,
    public: Vec<u8>,
}

impl KeyPair {
    /// A fresh pair. `group` must be a MODP group.
    pub(super) fn generate(group: Group) -> Result<Self, Error> {
        let mut exponent = Zeroizing::new(vec![0; exponent_len(group).ok_or(Error::Internal)?]);
        SystemRandom::new().fill(&mut exponent).map_err(|_| Error::Internal)?;
        Self::from_exponent(group, exponent)
    }

    fn from_exponent(group: Group, exponent: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        let mut generator = vec![0; group.public_len() - 1];
        generator.push(2);
        let public = power(group, &generator, &exponent)?.to_vec();
        Ok(Self { exponent, public })
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// The shared secret, as long as the prime. Refuses 0, 1, p - 1 and what is no number below p (RFC 6989
    /// section 2.1).
    pub(super) fn agree(&self, group: Group, peer_public: &[u8]) -> Result<Secret, Error> {
        let shared = power(group, peer_public, &self.exponent)?;
        Ok(Secret::from(shared.as_slice()))
    }
}

/// Octets of private exponent: twice the strength that RFC 3526 section 8 gives the group at most. Short exponents are
/// safe in these groups, whose only small subgroup has two elements.
fn exponent_len(group: Group) -> Option<usize> {
    match group {
        Group::Modp1024 | Group::Modp2048 => Some(40),
        Group::Modp3072 => Some(52),
        Group::Modp4096 => Some(MAX_EXPONENT_LEN),
        Group::P256 | Group::P384 | Group::X25519 => None,
    }
}

/// Refuses what no exponent is worth: 0, 1, p - 1, and what is no number below p.
pub(super) fn check_public_value(group: Group, value: &[u8]) -> Result<(), Error> {
    match group {
        Group::Modp1024 => MODP_1024_FIELD.number(value).map(drop),
        Group::Modp2048 => MODP_2048_FIELD.number(value).map(drop),
        Group::Modp3072 => MODP_3072_FIELD.number(value).map(drop),
        Group::Modp4096 => MODP_4096_FIELD.number(value).map(drop),
        Group::P256 | Group::P384 | Group::X25519 => Err(Error::Internal),
    }
}

fn power(group: Group, base: &[u8], exponent: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    match group {
        Group::Modp1024 => MODP_1024_FIELD.power(base, exponent),
        Group::Modp2048 => MODP_2048_FIELD.power(base, exponent),
        Group::Modp3072 => MODP_3072_FIELD.power(base, exponent),
        Group::Modp4096 => MODP_4096_FIELD.power(base, exponent),
        Group::P256 | Group::P384 | Group::X25519 => Err(Error::Internal),
    }
}

/// The integers modulo a prime of `LIMBS` limbs.
struct Field<const LIMBS: usize>(FixedMontyParams<LIMBS>);

impl<const LIMBS: usize> Field<LIMBS> {
    fn new(prime: &str) -> Self {
        Self(FixedMontyParams::new(Odd::<Uint<LIMBS>>::from_be_hex(prime)))
    }

    /// A number from 2 to p - 2, big-endian, as long as the prime.
    fn number(&self, octets: &[u8]) -> Result<Uint<LIMBS>, Error> {
        if octets.len() != LIMBS * LIMB_LEN {
            return Err(Error::BadPublicValue);
        }
        let number = Uint::<LIMBS>::from_be_slice(octets);
        let last = self.0.modulus().as_ref().wrapping_sub(&Uint::ONE);
        if number <= Uint::ONE || number >= last { Err(Error::BadPublicValue) } else { Ok(number) }
    }

    /// `base` to the power of `exponent`, big-endian, as long as the prime.
    fn power(&self, base: &[u8], exponent: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let base = self.number(base)?;
        if exponent.len() > MAX_EXPONENT_LEN {
            return Err(Error::Internal);
        }
        let bits = u32::try_from(exponent.len() * 8).map_err(|_| Error::Internal)?;
        let mut padded = Zeroizing::new([0; EXPONENT_LIMBS * LIMB_LEN]);
        padded.iter_mut().rev().zip(exponent.iter().rev()).for_each(|(to, from)| *to = *from);
        let mut exponent = Uint::<EXPONENT_LIMBS>::from_be_slice(&*padded);
        let mut result = FixedMontyForm::new(&base, &self.0).pow_bounded_exp(&exponent, bits).retrieve();
        exponent.zeroize();
        let mut out = Zeroizing::new(Vec::with_capacity(LIMBS * LIMB_LEN));
        out.extend_from_slice(result.to_be_bytes().as_ref());
        result.zeroize();
        Ok(out)
    }
}

static MODP_1024_FIELD: LazyLock<Field<{ 1024 / 8 / LIMB_LEN }>> = LazyLock::new(|| Field::new(MODP_1024));
static MODP_2048_FIELD: LazyLock<Field<{ 2048 / 8 / LIMB_LEN }>> = LazyLock::new(|| Field::new(MODP_2048));
static MODP_3072_FIELD: LazyLock<Field<{ 3072 / 8 / LIMB_LEN }>> = LazyLock::new(|| Field::new(MODP_3072));
static MODP_4096_FIELD: LazyLock<Field<{ 4096 / 8 / LIMB_LEN }>> = LazyLock::new(|| Field::new(MODP_4096));

/// The prime of a MODP group, for the tests of what is no public value.
#[cfg(test)]
pub(crate) fn prime(group: Group) -> Vec<u8> {
    let hex = match group {
        Group::Modp1024 => MODP_1024,
        Group::Modp2048 => MODP_2048,
        Group::Modp3072 => MODP_3072,
        _ => MODP_4096,
    };
    let octet = |at: usize| hex.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    (0..hex.len()).step_by(2).filter_map(octet).collect()
}

/// RFC 2409 section 6.2.
const MODP_1024: &str = "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD\
     EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED\
     EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF";

/// RFC 3526 section 3.
const MODP_2048: &str = "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD\
     EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED\
     EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F\
     83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B\
     E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510\
     15728E5A8AACAA68FFFFFFFFFFFFFFFF";

/// RFC 3526 section 4.
const MODP_3072: &str = "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD\
     EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED\
     EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F\
     83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B\
     E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510\
     15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7\
     ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C\
     BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF";

/// RFC 3526 section 5.
const MODP_4096: &str = "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD\
     EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED\
     EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F\
     83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B\
     E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510\
     15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7\
     ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C\
     BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D7\
     88719A10BDBA5B2699C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6\
     287C59474E6BC05D99B2964FA090C3A2233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA9\
     93B4EA988D8FDDC186FFB7DC90A6C08F4DF435C934063199FFFFFFFFFFFFFFFF";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hash;

    const ALL: [Group; 4] = [Group::Modp1024, Group::Modp2048, Group::Modp3072, Group::Modp4096];

    /// First octets of SHA-256 of 2^x and 3^x for x = 0x010203..., computed with another program's integers and primes
    /// that came from the formulas of the RFCs.
    #[test]
    fn powers_equal_an_independent_computation() {
        let expected = [
            ["1d096a46d790f69f", "3056c6f839bf2b87"],
            ["3ae26e14ac54744b", "928aed59b5fad821"],
            ["0cfaf1c71301f657", "fbfe70dfe4b4662c"],
            ["7c9e4cdd9c1f1d69", "dc72f7a3da735005"],
        ];
        for (group, expected) in ALL.into_iter().zip(expected) {
            let exponent: Vec<u8> = (1..=exponent_len(group).unwrap() as u8).collect();
            let ours = KeyPair::from_exponent(group, exponent.into()).unwrap();
            let mut three = vec![0; group.public_len()];
            *three.last_mut().unwrap() = 3;
            let shared = ours.agree(group, &three).unwrap();
            for (value, expected) in [ours.public(), shared.expose()].into_iter().zip(expected) {
                let digest = hash::sha256(&[value]);
                let start: String = digest[..8].iter().map(|octet| format!("{octet:02x}")).collect();
                assert_eq!((value.len(), start.as_str()), (group.public_len(), expected), "{group:?}");
            }
        }
    }

    #[test]
    fn values_of_a_small_subgroup_or_outside_the_field_are_refused() {
        for (group, prime) in ALL.into_iter().zip([MODP_1024, MODP_2048, MODP_3072, MODP_4096]) {
            let ours = KeyPair::generate(group).unwrap();
            let mut prime: Vec<u8> = (0..prime.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&prime[i..i + 2], 16).unwrap())
                .collect();
            let number = |low| [vec![0; group.public_len() - 1], vec![low]].concat();
            let mut bad = vec![number(0), number(1), vec![0xff; prime.len()], prime.clone(), vec![2], vec![]];
            *prime.last_mut().unwrap() -= 1;
            bad.push(prime.clone());
            for value in bad {
                assert_eq!(ours.agree(group, &value).unwrap_err(), Error::BadPublicValue, "{group:?}");
            }
            *prime.last_mut().unwrap() -= 1;
            assert!(ours.agree(group, &prime).is_ok(), "p - 2 is in the group");
        }
    }

    /// RFC 2409 section 6.2 and RFC 3526: p = 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) pi) + k).
    #[test]
    fn primes_come_from_the_digits_of_pi() {
        for (prime, bits, k) in [
            (MODP_1024, 1024, 129_093),
            (MODP_2048, 2048, 124_476),
            (MODP_3072, 3072, 1_690_314),
            (MODP_4096, 4096, 240_904),
        ] {
            let digits: String = prime.chars().filter(|digit| !digit.is_whitespace()).collect();
            // Between 64 ones at both ends; those of the lower end are the - 1, which borrows from the middle.
            let middle = pi_times_2_to(bits - 130).plus(k - 1);
            let ones = "F".repeat(16);
            assert_eq!(digits, format!("{ones}{}{ones}", middle.hex(bits / 4 - 32)), "{bits} bits");
        }
    }

    /// Safe primes: (p - 1) / 2 is one too. By Miller and Rabin with a few bases, which a prime made of pi does not fool.
    #[test]
    fn primes_are_safe_primes() {
        assert!(is_safe_prime::<{ 1024 / 8 / LIMB_LEN }>(MODP_1024));
        assert!(is_safe_prime::<{ 2048 / 8 / LIMB_LEN }>(MODP_2048));
        assert!(is_safe_prime::<{ 3072 / 8 / LIMB_LEN }>(MODP_3072));
        assert!(is_safe_prime::<{ 4096 / 8 / LIMB_LEN }>(MODP_4096));
        assert!(!is_safe_prime::<{ 1024 / 8 / LIMB_LEN }>(&MODP_1024.replacen("C90FDAA2", "C90FDAA3", 1)));
    }

    fn is_safe_prime<const LIMBS: usize>(prime: &str) -> bool {
        let prime = Uint::<LIMBS>::from_be_hex(prime);
        // Both are 3 modulo 4, so that one power decides: 1 or -1.
        let half = prime.shr(1);
        [prime, half].into_iter().all(|number| {
            let params = FixedMontyParams::new_vartime(Odd::new(number).into_option().unwrap());
            [2, 3].into_iter().all(|base| {
                let power =
                    FixedMontyForm::new(&Uint::from_u32(base), &params).pow(&number.shr(1)).retrieve();
                power == Uint::ONE || power == number.wrapping_sub(&Uint::ONE)
            })
        })
    }

    /// A whole number, its least 32 bits first.
    struct Big(Vec<u32>);

    impl Big {
        fn plus(mut self, mut carry: u32) -> Self {
            for word in &mut self.0 {
                let (sum, overflow) = word.overflowing_add(carry);
                (*word, carry) = (sum, u32::from(overflow));
            }
            self
        }

        fn divide(&mut self, by: u32) {
            let mut rest = 0;
            for word in self.0.iter_mut().rev() {
                let number = rest << 32 | u64::from(*word);
                *word = u32::try_from(number / u64::from(by)).unwrap();
                rest = number % u64::from(by);
            }
        }

        /// Adds `other`, or takes it away.
        fn accumulate(&mut self, other: &Self, add: bool) {
            let mut carry = 0;
            for (word, other) in self.0.iter_mut().zip(&other.0) {
                let other = i64::from(*other);
                let sum = i64::from(*word) + carry + if add { other } else { -other };
                (*word, carry) = (sum as u32, sum >> 32);
            }
        }

        fn hex(&self, digits: usize) -> String {
            let all: String = self.0.iter().rev().map(|word| format!("{word:08X}")).collect();
            let (zeros, number) = all.split_at(all.len() - digits);
            assert!(zeros.bytes().all(|digit| digit == b'0'));
            number.to_owned()
        }
    }

    /// floor(2^bits pi) by Machin: pi = 16 arctan 1/5 - 4 arctan 1/239, with 90 bits more for what is rounded off.
    fn pi_times_2_to(bits: usize) -> Big {
        let words = (bits + 90) / 32;
        assert_eq!((bits + 90) % 32, 24);
        let mut pi = Big(vec![0; words + 2]);
        for (factor, number, positive) in [(16, 5, true), (4, 239, false)] {
            let mut power = Big(vec![0; words + 2]);
            power.0[words] = factor << 24;
            power.divide(number);
            for odd in (1..).step_by(2) {
                let mut term = Big(power.0.clone());
                term.divide(odd);
                if term.0.iter().all(|word| *word == 0) {
                    break;
                }
                pi.accumulate(&term, positive == (odd % 4 == 1));
                power.divide(number * number);
            }
        }
        // 90 bits are two words and 26 bits.
        Big(pi.0[2..].windows(2).map(|pair| pair[0] >> 26 | pair[1] << 6).collect())
    }
}
