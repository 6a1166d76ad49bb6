//! Every parser of IKE messages; what parses is written and parsed again with the same result.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pterodapter::wire::eap;
use pterodapter::wire::ike::{
    Auth, Cert, Configuration, Delete, HEADER_LEN, Header, Id, Ke, KeyLength, Kind, Notify, Proposal,
    Protected, emit_proposals, emit_selectors, parse_cert_request, parse_chain, parse_nonce, parse_proposals,
    parse_selectors,
};

fuzz_target!(|message: &[u8]| {
    let Ok(header) = Header::parse(message) else { return };
    assert_eq!(Header::parse(&header.emit()).as_ref(), Ok(&header));
    let _ = header.covers(message);
    let _ = Protected::parse(&header, message);
    let _ = Protected::strip_padding(message);
    let Ok(payloads) = parse_chain(header.next_payload, &message[HEADER_LEN..]) else { return };
    for payload in payloads {
        body(payload.kind, payload.body);
    }
});

fn body(kind: Kind, body: &[u8]) {
    match kind {
        Kind::Sa => {
            // An odd attribute is known to be odd, but its octets are not kept.
            let odd =
                |proposal: &Proposal| proposal.transforms.iter().any(|t| t.key_length == KeyLength::Odd);
            if let Ok(proposals) = parse_proposals(body)
                && !proposals.iter().any(odd)
            {
                assert_eq!(parse_proposals(&emit_proposals(&proposals)).as_ref(), Ok(&proposals));
            }
        }
        Kind::TsI | Kind::TsR => {
            if let Ok(selectors) = parse_selectors(body)
                && !selectors.is_empty()
            {
                assert_eq!(parse_selectors(&emit_selectors(&selectors)).as_ref(), Ok(&selectors));
            }
        }
        Kind::Ke => drop(Ke::parse(body)),
        Kind::IdI | Kind::IdR => drop(Id::parse(body)),
        Kind::Cert => drop(Cert::parse(body)),
        Kind::CertReq => drop(parse_cert_request(body)),
        Kind::Auth => drop(Auth::parse(body).map(|auth| auth.split_digital_signature().is_ok())),
        Kind::Nonce => drop(parse_nonce(body)),
        Kind::Notify => drop(Notify::parse(body)),
        Kind::Delete => drop(Delete::parse(body)),
        Kind::Eap => {
            if let Ok(packet) = eap::Packet::parse(body) {
                assert_eq!(packet.emit(), body);
            }
        }
        Kind::Cp => drop(Configuration::parse(body).map(|cp| cp.emit())),
        _ => {}
    }
}
