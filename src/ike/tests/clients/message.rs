//! The payloads of a client's messages, in its order.

use super::*;
use crate::crypto::hash::sha1;
use crate::wire::ike::*;

/// The client's address behind its NAT, and ours.
const PRIVATE: [u8; 4] = [192, 168, 1, 10];
pub(super) const SERVER: [u8; 4] = [192, 0, 2, 1];

/// What changes from message to message.
#[derive(Default)]
pub(super) struct Content<'a> {
    pub(super) proposals: &'a [Proposal],
    pub(super) spi: &'a [u8],
    pub(super) nonce: &'a [u8],
    pub(super) ke: Option<(u16, &'a [u8])>,
    /// The client's SPI of the Child SA that is replaced.
    pub(super) replaced: u32,
}

impl Session {
    pub(super) fn payloads(&self, parts: &[Part], content: &Content<'_>) -> Vec<(Kind, Vec<u8>)> {
        let client = &self.client;
        let nat = |address: [u8; 4], port: u16| {
            let port = port.to_be_bytes();
            sha1(&[&client.spi_i.to_be_bytes(), &0_u64.to_be_bytes(), &address, &port])
        };
        let notify = |kind, data: &[u8]| (Kind::Notify, Notify::new(kind, data).emit());
        let payload = |part: &Part| match *part {
            Part::Sa => {
                let with_spi = |p: &Proposal| Proposal { spi: content.spi.to_vec(), ..p.clone() };
                let proposals: Vec<_> = content.proposals.iter().map(with_spi).collect();
                (Kind::Sa, emit_proposals(&proposals))
            }
            Part::Ke => {
                let (group, data) = content.ke.unwrap();
                (Kind::Ke, Ke { group, data }.emit())
            }
            Part::Nonce => (Kind::Nonce, content.nonce.to_vec()),
            Part::NatSource => {
                notify(notify_type::NAT_DETECTION_SOURCE_IP, &nat(PRIVATE, client.path.local_port))
            }
            Part::NatDestination => {
                notify(notify_type::NAT_DETECTION_DESTINATION_IP, &nat(SERVER, client.path.local_port))
            }
            Part::Notify(kind) => notify(kind, &[]),
            Part::Hashes(hashes) => {
                let data: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_be_bytes()).collect();
                notify(notify_type::SIGNATURE_HASH_ALGORITHMS, &data)
            }
            Part::Vendor(hex) => (Kind::Vendor, octets(hex)),
            Part::IdI => (Kind::IdI, client.id_body()),
            Part::Cert => (Kind::Cert, Cert { encoding: Cert::X509, data: &client.cert.cert_der }.emit()),
            Part::CertReq(count) => {
                let ours = Certificate::parse(&client.ca).unwrap().spki_sha1();
                let others = (1..count).map(|_| random::<20>());
                (Kind::CertReq, emit_cert_request(&others.chain([ours]).collect::<Vec<_>>()))
            }
            Part::IdR => {
                let (kind, data) = client.id_r.as_ref().unwrap();
                (Kind::IdR, Id { kind: *kind, data }.emit())
            }
            Part::Auth => {
                let psk = matches!(self.proof, Proof::Psk);
                (Kind::Auth, if psk { client.shared_key_auth(PSK) } else { client.auth_body() })
            }
            Part::Cp => {
                let attributes =
                    client.asked.iter().map(|kind| Attribute { kind: *kind, value: &[] }).collect();
                (Kind::Cp, Configuration { cfg_type: CfgType::Request, attributes }.emit())
            }
            Part::TsI => (Kind::TsI, emit_selectors(&client.offered)),
            Part::TsR => (Kind::TsR, emit_selectors(&client.offered)),
            Part::RekeySa => {
                let spi = content.replaced.to_be_bytes();
                let kind = notify_type::REKEY_SA;
                (Kind::Notify, Notify { protocol: protocol::ESP, spi: &spi, kind, data: &[] }.emit())
            }
        };
        parts.iter().map(payload).collect()
    }
}

pub(super) fn without(parts: &[Part], left_out: &[Part]) -> Vec<Part> {
    parts.iter().copied().filter(|part| !left_out.contains(part)).collect()
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}
