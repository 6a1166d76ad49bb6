//! EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2): user name and password, which both sides prove.

use super::{Attempt, EapError, Proven, Turn, shown};
use crate::base::Random;
use crate::crypto::Secret;
use crate::crypto::hash::constant_time_eq;
use crate::crypto::mschapv2::{self, CHALLENGE_LEN, HASH_LEN, RESPONSE_LEN};
use crate::ike::access::{Proof, Secrets};
use crate::wire::{Malformed, Reader};

/// What a packet is.
mod op_code {
    pub(super) const CHALLENGE: u8 = 1;
    pub(super) const RESPONSE: u8 = 2;
    pub(super) const SUCCESS: u8 = 3;
    pub(super) const FAILURE: u8 = 4;
}

/// Octets of a response before the name: challenge, reserved, response, flags.
const VALUE_LEN: u8 = 49;

/// A wrong password may be followed by so many others.
const RETRIES: u8 = 2;

/// The method's state.
#[derive(Debug)]
pub(super) struct Mschapv2 {
    challenge: [u8; CHALLENGE_LEN],
    /// How many passwords were wrong.
    wrong: u8,
    /// Set while the client is to acknowledge that we know its password as well.
    proven: Option<Proven>,
}

/// What a client answers to a challenge.
struct Response<'a> {
    id: u8,
    peer: [u8; CHALLENGE_LEN],
    response: [u8; RESPONSE_LEN],
    name: &'a [u8],
}

impl Mschapv2 {
    /// The challenge of a server of this `name`.
    pub(super) fn new(name: &str, rng: &mut dyn Random) -> (Self, Vec<u8>) {
        let mut random = [0; 1 + CHALLENGE_LEN];
        rng.fill(&mut random);
        let [id, challenge @ ..] = random;
        let value = [&[CHALLENGE_LEN as u8][..], &challenge, name.as_bytes()].concat();
        (Self { challenge, wrong: 0, proven: None }, emit(op_code::CHALLENGE, id, &value))
    }

    /// Whether the client has answered nothing yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.wrong == 0 && self.proven.is_none()
    }

    pub(super) fn handle(
        &mut self,
        users: &Secrets,
        rng: &mut dyn Random,
        data: &[u8],
    ) -> Result<Turn, EapError> {
        match (data, self.proven.take()) {
            ([op_code::SUCCESS, ..], Some(proven)) => Ok(Turn::Done(proven)),
            ([op_code::RESPONSE, ..], None) => self.judge(users, rng, &Response::parse(data)?),
            // The client does not want to try again.
            ([op_code::FAILURE, ..], None) if self.wrong > 0 => Err(EapError::GivenUp),
            _ => Err(EapError::OutOfPlace),
        }
    }

    fn judge(
        &mut self,
        users: &Secrets,
        rng: &mut dyn Random,
        said: &Response<'_>,
    ) -> Result<Turn, EapError> {
        // A domain before the name is not part of what is hashed.
        let name = said.name.rsplit(|octet| *octet == b'\\').next().unwrap_or_default();
        let user = shown(name)?;
        let hash = users.get(&user);
        let known = hash.is_some();
        // For a user whom we do not know everything is done as well.
        let hash = hash.cloned().unwrap_or_else(|| Secret::new(vec![0; HASH_LEN]));
        let attempt = mschapv2::Attempt { authenticator: &self.challenge, peer: &said.peer, user: name };
        let expected = attempt.response(&hash);
        let shown_to_client = attempt.authenticator_response(&hash, &expected);
        let msk = mschapv2::msk(&hash, &expected);
        let right = constant_time_eq(&expected, &said.response) & known;
        if right {
            let identity = user.to_lowercase();
            self.proven = Some(Proven { identity, proof: Proof::Password(hash), msk });
            let text = format!("S={shown_to_client} M=Welcome");
            return Ok(Turn::Judged(
                Attempt { user, wrong: None },
                emit(op_code::SUCCESS, said.id, text.as_bytes()),
            ));
        }
        let why = if known { EapError::WrongPassword } else { EapError::UnknownUser };
        let attempt = Attempt { wrong: Some(why(user.clone())), user };
        self.wrong += 1;
        if self.wrong > RETRIES {
            return Ok(Turn::Refused(attempt));
        }
        rng.fill(&mut self.challenge);
        let challenge: String = self.challenge.iter().map(|octet| format!("{octet:02X}")).collect();
        let text = format!("E=691 R=1 C={challenge} V=3 M=Wrong user name or password");
        Ok(Turn::Judged(attempt, emit(op_code::FAILURE, said.id, text.as_bytes())))
    }
}

impl<'a> Response<'a> {
    /// The identifier in it may be any: what it answers shows in the hash.
    fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(data, "EAP-MSCHAPv2 response");
        let (_, id, length, value) = (r.u8()?, r.u8()?, r.u16()?, r.u8()?);
        if usize::from(length) != data.len() || value != VALUE_LEN {
            return Err(r.malformed());
        }
        let peer = r.array()?;
        r.take(8)?;
        let response = r.array()?;
        r.u8()?;
        Ok(Self { id, peer, response, name: r.rest() })
    }
}

/// The data of our packets; their length is that of code, identifier, length and what follows.
fn emit(op_code: u8, id: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    [&[op_code, id][..], &length.to_be_bytes(), value].concat()
}
