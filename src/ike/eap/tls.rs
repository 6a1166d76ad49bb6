//! EAP-TLS (RFC 5216, RFC 9190): a certificate as in IKE itself, for clients that have theirs where only EAP finds it.

use std::time::Duration;

use super::{EapError, Proven, Turn, shown};
use crate::crypto::Certificate;
use crate::crypto::pki::SubjectAltName;
use crate::crypto::tls::Server;
use crate::ike::Identity;
use crate::ike::access::Proof;
use crate::wire::{Malformed, Reader};

/// Flags of a packet: a length follows; there is more; the server begins.
const LENGTH: u8 = 0x80;
const MORE: u8 = 0x40;
const START: u8 = 0x20;

/// Octets of TLS in one packet of ours, so that it needs no fragments of IKE.
const PIECE: usize = 1000;

/// Most octets of TLS that a client may send before we answer.
const MAX_FLIGHT: usize = 64 * 1024;

/// Most certificates of a client.
const MAX_CERTIFICATES: usize = 6;

/// The method's state.
#[derive(Debug)]
pub(super) struct Tls {
    server: Server,
    /// What has come of the client's flight.
    incoming: Vec<u8>,
    /// What has not gone of ours.
    outgoing: Vec<u8>,
    /// Set when only our last flight is to be acknowledged.
    proven: Option<Proven>,
}

impl Tls {
    /// Begins; the data of the first packet.
    pub(super) fn new(own: &Identity) -> Result<(Self, Vec<u8>), EapError> {
        let credentials = own.credentials.iter().map(|own| (own.chain.as_slice(), &own.key));
        let server = Server::new(credentials).map_err(EapError::Tls)?;
        Ok((Self { server, incoming: Vec::new(), outgoing: Vec::new(), proven: None }, vec![START]))
    }

    /// Takes the data of a packet of the client that says it is `identity`.
    pub(super) fn handle(
        &mut self,
        own: &Identity,
        wall: Duration,
        identity: &str,
        data: &[u8],
    ) -> Result<Turn, EapError> {
        let (piece, more) = parse(data)?;
        let acknowledges = piece.is_empty() && !more;
        if !self.outgoing.is_empty() {
            return if acknowledges {
                Ok(Turn::Ask(self.next_piece(false)))
            } else {
                Err(EapError::OutOfPlace)
            };
        }
        if let Some(proven) = self.proven.take() {
            return if acknowledges { Ok(Turn::Done(proven)) } else { Err(EapError::OutOfPlace) };
        }
        if piece.is_empty() {
            return Err(EapError::OutOfPlace);
        }
        self.incoming.extend(piece);
        if self.incoming.len() > MAX_FLIGHT {
            return Err(Malformed("EAP-TLS: too long").into());
        }
        if more {
            return Ok(Turn::Ask(vec![0]));
        }
        let flight = std::mem::take(&mut self.incoming);
        self.outgoing = self.server.exchange(&flight).map_err(EapError::Tls)?;
        if self.server.is_done() {
            self.proven = Some(self.verify(own, wall, identity)?);
        }
        if self.outgoing.is_empty() {
            Err(EapError::OutOfPlace)
        } else {
            Ok(Turn::Ask(self.next_piece(true)))
        }
    }

    /// The client has the key of its certificate: is that one trusted, and is it the client's?
    fn verify(&self, own: &Identity, wall: Duration, identity: &str) -> Result<Proven, EapError> {
        let chain = self.server.client().map_err(EapError::Tls)?;
        if chain.len() > MAX_CERTIFICATES {
            return Err(Malformed("EAP-TLS: too many certificates").into());
        }
        let (certificate, intermediates) = chain.split_first().ok_or(EapError::OutOfPlace)?;
        own.access.anchors.verify_client(certificate, intermediates, wall).map_err(EapError::Chain)?;
        let name = name_of(certificate, identity).ok_or(EapError::NotTheCertificates)?;
        let msk = self.server.msk().map_err(EapError::Tls)?;
        Ok(Proven { identity: shown(name.as_bytes())?, proof: Proof::Certificate(chain.into()), msk })
    }

    fn next_piece(&mut self, is_first: bool) -> Vec<u8> {
        let total = self.outgoing.len();
        let rest = self.outgoing.split_off(total.min(PIECE));
        let piece = std::mem::replace(&mut self.outgoing, rest);
        let mut flags = if self.outgoing.is_empty() { 0 } else { MORE };
        let mut length = Vec::new();
        if is_first && flags == MORE {
            flags |= LENGTH;
            length.extend(u32::try_from(total).unwrap_or(u32::MAX).to_be_bytes());
        }
        [&[flags][..], &length, &piece].concat()
    }
}

/// The octets of TLS in a packet, and whether more follow.
fn parse(data: &[u8]) -> Result<(&[u8], bool), EapError> {
    let mut r = Reader::new(data, "EAP-TLS packet");
    let flags = r.u8()?;
    // The length is a hint; the limit holds without it.
    if flags & LENGTH != 0 {
        r.u32()?;
    }
    if flags & START != 0 { Err(EapError::OutOfPlace) } else { Ok((r.rest(), flags & MORE != 0)) }
}

/// The name of the certificate that the client says is its own: an alternative name, the common name (Windows), or the
/// whole subject. Windows puts `host/` before that of a machine.
fn name_of(certificate: &Certificate, identity: &str) -> Option<String> {
    let wanted = identity.strip_prefix("host/").unwrap_or(identity);
    let alternative = certificate.sans().iter().filter_map(|san| match san {
        SubjectAltName::Dns(name) | SubjectAltName::Email(name) => Some(name.as_str()),
        SubjectAltName::Ip(_) | SubjectAltName::Other => None,
    });
    let mut names = alternative.chain(certificate.common_name());
    let found = names.find(|name| name.eq_ignore_ascii_case(wanted)).map(str::to_ascii_lowercase);
    found.or_else(|| Some(certificate.display_name()).filter(|name| name == wanted))
}
