//! Whom we let in, and by what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::GoneReason;
use super::ppk::Ppk;
use crate::crypto::Secret;
use crate::crypto::hash::constant_time_eq;
use crate::crypto::pki::{Certificate, TrustAnchors};

/// Whom we let in, and by what.
#[derive(Debug)]
pub struct Access {
    /// Authorities of client certificates.
    pub anchors: TrustAnchors,
    /// NT hashes of the passwords of those who come by EAP-MSCHAPv2.
    pub users: Secrets,
    /// Clients may show their certificate by EAP-TLS, too.
    pub eap_tls: bool,
    /// Pre-shared keys of those who come by one.
    pub psks: Secrets,
    /// Post-quantum preshared keys, for clients that have one as well.
    pub ppks: Vec<Ppk>,
    /// Identities that are let in, by whatever they prove them; all where there are none.
    pub allowed: Vec<Pattern>,
}

/// How a client has proven its identity: whether it still would is asked when [`Access`] changes.
#[derive(Clone, Debug)]
pub(super) enum Proof {
    /// Its certificate, then the intermediates that it sent.
    Certificate(Arc<[Certificate]>),
    /// The NT hash of its password.
    Password(Secret),
    /// Its pre-shared key.
    Psk(Secret),
}

impl Access {
    /// Everyone with a certificate of `anchors`, and nobody else.
    pub fn by_certificate(anchors: TrustAnchors) -> Self {
        let (users, psks) = (Secrets::default(), Secrets::default());
        Self { anchors, users, eap_tls: false, psks, ppks: Vec::new(), allowed: Vec::new() }
    }

    /// Whether clients may ask for EAP.
    pub(super) fn offers_eap(&self) -> bool {
        !self.users.is_empty() || self.eap_tls
    }

    /// Whether this identity is let in, once it is proven.
    pub(super) fn allows(&self, identity: &str) -> bool {
        self.allowed.is_empty() || self.allowed.iter().any(|pattern| pattern.matches(identity))
    }

    /// Whether a client that was let in would be let in now.
    pub(super) fn review(&self, identity: &str, proof: &Proof, wall: Duration) -> Result<(), GoneReason> {
        let holds = |secrets: &Secrets, secret: &Secret| {
            let now = secrets.get(identity);
            now.is_some_and(|now| constant_time_eq(now.expose(), secret.expose()))
        };
        match proof {
            Proof::Certificate(chain) => {
                if let Some((own, intermediates)) = chain.split_first() {
                    self.anchors.verify_client(own, intermediates, wall).map_err(GoneReason::Untrusted)?;
                }
            }
            Proof::Password(hash) if !holds(&self.users, hash) => return Err(GoneReason::SecretGone),
            Proof::Psk(psk) if !holds(&self.psks, psk) => return Err(GoneReason::SecretGone),
            Proof::Password(_) | Proof::Psk(_) => {}
        }
        if self.allows(identity) { Ok(()) } else { Err(GoneReason::NotAllowed) }
    }
}

/// Secrets by the name of who has them; names have no case.
#[derive(Debug, Default)]
pub struct Secrets(HashMap<String, Secret>);

impl Secrets {
    /// Adds one; false if the name has one already.
    pub fn add(&mut self, name: &str, secret: Secret) -> bool {
        self.0.insert(name.to_lowercase(), secret).is_none()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(&name.to_lowercase())
    }
}

/// A pattern of identities: `*` stands for any characters, `?` for one. Case does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<char>);

impl Pattern {
    /// # Errors
    /// There is nothing in it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.trim().is_empty() {
            return Err("give an identity, with * and ? for what may be anything");
        }
        Ok(Self(text.to_lowercase().chars().collect()))
    }

    /// The last `*` takes as little as will do, and one character more each time that the rest does not fit: what is
    /// before it need not be looked at again.
    fn matches(&self, identity: &str) -> bool {
        let identity: Vec<char> = identity.to_lowercase().chars().collect();
        let (mut at, mut p) = (0, 0);
        let mut star = None;
        while let Some(c) = identity.get(at) {
            match self.0.get(p) {
                Some('*') => {
                    star = Some((p, at));
                    p += 1;
                }
                Some(wanted) if *wanted == '?' || wanted == c => (at, p) = (at + 1, p + 1),
                _ => {
                    let Some((after, taken)) = star else { return false };
                    star = Some((after, taken + 1));
                    (at, p) = (taken + 1, after + 1);
                }
            }
        }
        self.0.iter().skip(p).all(|rest| *rest == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, identity, expected) in [
            ("alice", "Alice", true),
            ("alice", "alice2", false),
            ("alice*", "alice", true),
            ("*@example.com", "bob@EXAMPLE.com", true),
            ("*@example.com", "bob@example.com.evil", false),
            ("CN=*, O=Example", "cn=phone, o=example", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("?????", "alice", true),
            ("?????", "bob", false),
            ("*", "", true),
            ("?", "", false),
            ("**ä?", "xÄü", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(identity), expected, "{pattern} {identity}");
        }
        assert!(Pattern::parse(" ").is_err());
        let hostile = Pattern::parse(&"*a".repeat(64)).unwrap();
        assert!(!hostile.matches(&"b".repeat(256)), "and it ends");
    }
}
