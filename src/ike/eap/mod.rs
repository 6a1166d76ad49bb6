//! The server's side of EAP (RFC 3748): packets in, packets out, without IKE.
//!
//! First it asks for the identity, since Windows waits for that; then comes the method: MSCHAPv2 where there are users, and TLS where it
//! is on and the client wants it, or there is nothing else.

mod mschapv2;
mod tls;

use std::fmt;
use std::time::Duration;

use super::Identity;
use super::access::Proof;
use crate::base::Random;
use crate::crypto::pki::ChainError;
use crate::crypto::{self, Secret};
use crate::wire::Malformed;
use crate::wire::eap::{Packet, code, emit_end, kind};
use mschapv2::Mschapv2;
use tls::Tls;

/// Longest identity or user name that is taken.
const LONGEST_NAME: usize = 256;

/// Most packets of a client.
const MAX_ROUNDS: u32 = 20;

/// A conversation with one client.
#[derive(Debug)]
pub(super) struct Server {
    /// How many packets the client has sent.
    rounds: u32,
    /// Of our last request.
    identifier: u8,
    /// Of the one whose response is being answered.
    answered: u8,
    stage: Stage,
    /// Who the client says it is.
    identity: String,
}

#[derive(Debug)]
enum Stage {
    Identity,
    Mschapv2(Mschapv2),
    Tls(Box<Tls>),
    Over,
}

/// Who the client is, and what both sides know now.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) identity: String,
    pub(super) proof: Proof,
    /// The Master Session Key.
    pub(super) msk: Secret,
}

/// Our answer to a packet.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) packet: Vec<u8>,
    /// A password was tried: the answer waits for its turn.
    pub(super) attempt: Option<Attempt>,
    /// This is the last packet.
    pub(super) end: Option<Result<Proven, EapError>>,
}

/// Somebody tried a password.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) user: String,
    /// What is wrong with it.
    pub(super) wrong: Option<EapError>,
}

/// What a method does next.
#[derive(Debug)]
enum Turn {
    /// Asks, with these data.
    Ask(Vec<u8>),
    /// Asks again, since a password was tried.
    Judged(Attempt, Vec<u8>),
    /// Ends, since a wrong password was tried too often.
    Refused(Attempt),
    Done(Proven),
    Failed(EapError),
}

/// Why EAP came to no good end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EapError {
    /// The packet breaks the rules.
    Malformed(Malformed),
    /// The packet has no place here.
    OutOfPlace,
    /// The client refuses the methods that we have, and would like these.
    NoCommonMethod(Vec<u8>),
    /// There is no such user.
    UnknownUser(String),
    /// Another password was expected of this user.
    WrongPassword(String),
    /// After a wrong password the client has not tried another one.
    GivenUp,
    /// Too many wrong passwords of this user, or from this source.
    TooMany(String),
    /// The TLS handshake failed.
    Tls(crypto::Error),
    /// No trusted chain.
    Chain(ChainError),
    /// The EAP identity is none of the certificate's.
    NotTheCertificates,
    /// The conversation has no end.
    TooLong,
}

impl fmt::Display for EapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "{why}"),
            Self::OutOfPlace => f.write_str("the EAP packet has no place here"),
            Self::NoCommonMethod(wanted) => write!(
                f,
                "the client takes none of our EAP methods, but type {wanted:?}; set it to user name and password \
                 (MSCHAPv2, type 26), which needs --eap-users, or a certificate (EAP-TLS, type 13), which needs --eap-tls"
            ),
            Self::UnknownUser(user) => write!(f, "there is no user {user:?} in --eap-users"),
            Self::WrongPassword(user) => write!(f, "wrong password of user {user:?}"),
            Self::GivenUp => f.write_str("the client did not try another password"),
            Self::TooMany(user) => {
                write!(f, "user {user:?}: too many wrong passwords of late, this one was not looked at")
            }
            Self::Tls(why) => write!(f, "EAP-TLS failed: {why}"),
            Self::Chain(why) => write!(f, "the client's certificate is not trusted: {why}"),
            Self::NotTheCertificates => f.write_str("the client's EAP identity is not in its certificate"),
            Self::TooLong => f.write_str("EAP came to no end"),
        }
    }
}

impl From<Malformed> for EapError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Server {
    /// A new conversation, and its first packet.
    pub(super) fn new(rng: &mut dyn Random) -> (Self, Vec<u8>) {
        let mut identifier = [0];
        rng.fill(&mut identifier);
        let [identifier] = identifier;
        let mut server = Self {
            rounds: 0,
            identifier,
            answered: identifier,
            stage: Stage::Identity,
            identity: String::new(),
        };
        let packet = server.request(kind::IDENTITY, &[]);
        (server, packet)
    }

    /// Who the client says it is; empty before it has.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Takes a packet of the client.
    pub(super) fn handle(
        &mut self,
        own: &Identity,
        wall: Duration,
        rng: &mut dyn Random,
        bytes: &[u8],
    ) -> Reply {
        self.answered = self.identifier;
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return self.end(Err(EapError::TooLong));
        }
        match self.turn(own, wall, rng, bytes).unwrap_or_else(Turn::Failed) {
            Turn::Ask(data) => self.ask(None, &data),
            Turn::Judged(attempt, data) => self.ask(Some(attempt), &data),
            Turn::Refused(attempt) => {
                let why = attempt.wrong.clone().unwrap_or(EapError::GivenUp);
                Reply { attempt: Some(attempt), ..self.end(Err(why)) }
            }
            Turn::Done(proven) => self.end(Ok(proven)),
            Turn::Failed(why) => self.end(Err(why)),
        }
    }

    /// Ends it; the reply is the last one.
    pub(super) fn end(&mut self, end: Result<Proven, EapError>) -> Reply {
        self.stage = Stage::Over;
        let code = if end.is_ok() { code::SUCCESS } else { code::FAILURE };
        // The identifier of the response that it answers (RFC 3748 section 4.2).
        Reply { packet: emit_end(code, self.answered), attempt: None, end: Some(end) }
    }

    fn turn(
        &mut self,
        own: &Identity,
        wall: Duration,
        rng: &mut dyn Random,
        bytes: &[u8],
    ) -> Result<Turn, EapError> {
        let packet = Packet::parse(bytes)?;
        if packet.code != code::RESPONSE || packet.identifier != self.identifier {
            return Err(EapError::OutOfPlace);
        }
        match (&mut self.stage, packet.kind) {
            (Stage::Identity, kind::IDENTITY) => {
                self.identity = shown(packet.data)?;
                // It is what most clients want, and spares them a refusal.
                if own.access.users.is_empty() {
                    self.begin_tls(own)
                } else {
                    Ok(self.begin_mschapv2(own, rng))
                }
            }
            (Stage::Mschapv2(method), kind::MSCHAPV2) => method.handle(&own.access.users, rng, packet.data),
            (Stage::Mschapv2(method), kind::NAK)
                if own.access.eap_tls && method.is_fresh() && packet.data.contains(&kind::TLS) =>
            {
                self.begin_tls(own)
            }
            (Stage::Tls(method), kind::TLS) => method.handle(own, wall, &self.identity, packet.data),
            (Stage::Mschapv2(_) | Stage::Tls(_), kind::NAK) => {
                Err(EapError::NoCommonMethod(packet.data.iter().take(8).copied().collect()))
            }
            _ => Err(EapError::OutOfPlace),
        }
    }

    fn begin_mschapv2(&mut self, own: &Identity, rng: &mut dyn Random) -> Turn {
        let (method, data) = Mschapv2::new(&own.hostname, rng);
        self.stage = Stage::Mschapv2(method);
        Turn::Ask(data)
    }

    fn begin_tls(&mut self, own: &Identity) -> Result<Turn, EapError> {
        let (method, data) = Tls::new(own)?;
        self.stage = Stage::Tls(Box::new(method));
        Ok(Turn::Ask(data))
    }

    fn ask(&mut self, attempt: Option<Attempt>, data: &[u8]) -> Reply {
        let kind = match self.stage {
            Stage::Mschapv2(_) => kind::MSCHAPV2,
            Stage::Tls(_) => kind::TLS,
            Stage::Identity | Stage::Over => kind::IDENTITY,
        };
        Reply { packet: self.request(kind, data), attempt, end: None }
    }

    fn request(&mut self, kind: u8, data: &[u8]) -> Vec<u8> {
        self.identifier = self.identifier.wrapping_add(1);
        Packet { code: code::REQUEST, identifier: self.identifier, kind, data }.emit()
    }
}

/// A name as people may see it: what is not printable is replaced, as no user's name has it.
fn shown(name: &[u8]) -> Result<String, EapError> {
    if name.len() > LONGEST_NAME {
        return Err(Malformed("EAP: name too long").into());
    }
    let printable = |c: char| if c.is_control() { '?' } else { c };
    Ok(String::from_utf8_lossy(name).chars().map(printable).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;
    use crate::crypto::mschapv2::nt_hash;
    use crate::ike::testing::{WALL, identity};
    use crate::provision::Authority;

    fn own() -> Identity {
        let authority = Authority::new("Test CA", WALL, 365).unwrap();
        let issued = authority.issue_server(&["vpn.example"], WALL, 300).unwrap();
        let mut own = identity("vpn.example", &issued, &[&authority]);
        own.access.users.add("alice", nt_hash("password"));
        own.access.eap_tls = true;
        own
    }

    /// A server that has asked for the password, and the right answer.
    fn challenged(own: &Identity, rng: &mut SystemRandom) -> (Server, Vec<u8>) {
        let (mut server, first) = Server::new(rng);
        let response =
            |identifier, kind, data| Packet { code: code::RESPONSE, identifier, kind, data }.emit();
        let identity = response(first[1], kind::IDENTITY, b"alice");
        let challenge = server.handle(own, WALL, rng, &identity).packet;
        let peer = [7; 16];
        let authenticator = challenge[10..26].try_into().unwrap();
        let attempt =
            crate::crypto::mschapv2::Attempt { authenticator: &authenticator, peer: &peer, user: b"alice" };
        let answer = attempt.response(&nt_hash("password"));
        let data = [&[2, 9, 0, 59, 49][..], &peer, &[0; 8], &answer, &[0], b"alice"].concat();
        (server, response(challenge[1], kind::MSCHAPV2, &data))
    }

    fn is_let_on(reply: &Reply) -> bool {
        reply.end.is_none() && reply.attempt.as_ref().is_some_and(|attempt| attempt.wrong.is_none())
    }

    /// Every bit of a response counts, but for those that say nothing; and no length is believed.
    #[test]
    fn changed_and_truncated_packets_let_nobody_in() {
        let (own, mut rng) = (own(), SystemRandom::new());
        let (mut server, good) = challenged(&own, &mut rng);
        assert!(is_let_on(&server.handle(&own, WALL, &mut rng, &good)));
        // MS-CHAPv2-ID, reserved, flags.
        let free = [6..7, 26..34, 58..59];
        for at in 0..good.len() {
            for bit in 0..8 {
                let (mut server, mut packet) = challenged(&own, &mut rng);
                packet[at] ^= 1 << bit;
                let reply = server.handle(&own, WALL, &mut rng, &packet);
                assert_eq!(is_let_on(&reply), free.iter().any(|range| range.contains(&at)), "{at} {bit}");
            }
            let (mut server, packet) = challenged(&own, &mut rng);
            assert!(server.handle(&own, WALL, &mut rng, &packet[..at]).end.is_some(), "{at}");
        }
    }

    #[test]
    fn an_end_is_the_end() {
        let (own, mut rng) = (own(), SystemRandom::new());
        let (mut server, good) = challenged(&own, &mut rng);
        let reply = server.handle(&own, WALL, &mut rng, &[]);
        assert_eq!((reply.packet[0], &reply.packet[1..2]), (code::FAILURE, &good[1..2]));
        let reply = server.handle(&own, WALL, &mut rng, &good);
        assert!(matches!(reply.end, Some(Err(EapError::OutOfPlace))));
    }
}
