//! IKE_SA_INIT (RFC 7296 section 1.2): the only exchange open to strangers.

use std::net::IpAddr;

use super::auth::HASHES;
use super::cookie::challenge;
use super::error::{Event, Refusal};
use super::exchange::{notifies, required};
use super::fragment::Channel;
use super::gate::is_initial_request;
use super::half_open::Verdict;
use super::intermediate::Intermediate;
use super::keymat::{IkeKeys, Nonces};
use super::proposal::{Chosen, IkeSuite, choose_ike, groups};
use super::sa::{Admitted, IkeSa, Init, InitiatedBy, State};
use super::system::Hints;
use super::{Output, Responder, Timer};
use crate::base::{Now, Path};
use crate::crypto::Group;
use crate::crypto::Kem;
use crate::crypto::dh::{KeyPair, check_public_value};
use crate::crypto::hash::{sha1, sha256};
use crate::wire::ike::{
    Chain, HEADER_LEN, Header, Ke, Kind, Notify, Payload, emit_cert_request, emit_proposals, notify_type,
    parse_chain, parse_nonce, parse_proposals,
};

/// Longest initial request: it is kept until the peer is authenticated. Those of clients are shorter than a datagram
/// that IP need not fragment; this has room for a proposal with every transform that there could be.
pub(super) const MAX_INIT_LEN: usize = 4 * 1024;

/// Octets of a payload's header, and of a CERTREQ payload before its first authority.
const PAYLOAD_HEAD: usize = 4;
const CERT_REQUEST_HEAD: usize = PAYLOAD_HEAD + 1;

/// The acceptable parts of an initial request.
struct Hello<'a> {
    chosen: Chosen<IkeSuite>,
    public: &'a [u8],
    ni: &'a [u8],
    fragmentation: bool,
    use_ppk: bool,
    hashes: Option<Vec<u16>>,
    hints: Hints,
}

impl Responder {
    pub(super) fn handle_init(&mut self, now: Now, path: Path, header: Header, bytes: &[u8]) {
        if !is_initial_request(&header, bytes) {
            self.stats.out_of_place += 1;
            return;
        }
        if self.shutting_down {
            self.stats.refused += 1;
            return;
        }
        let request_hash = sha256(&[bytes]);
        if let Some(spi_r) = self.half_opens.get(&request_hash) {
            if let Some(State::HalfOpen(init)) = self.sas.get(spi_r).map(|sa| &sa.state) {
                let response = init.response.clone();
                self.stats.answered_again += 1;
                self.send_all(path, &[response]);
            }
            return;
        }
        if let Err(why) = self.handle_hello(now, path, header, bytes, request_hash) {
            let notify = why.notify();
            if self.errors.allow(now.mono) || self.is_proved(now, path, header, bytes) {
                self.answer_stranger(path, header, &[(Kind::Notify, &notify)]);
            }
            if matches!(why, Refusal::NoProposal) {
                self.note_stranger(now, Event::InitRefused { remote: path.remote, why });
            }
        }
    }

    /// Whether a good cookie is in it. A flood of others must not keep its sender from an answer.
    fn is_proved(&self, now: Now, path: Path, header: Header, bytes: &[u8]) -> bool {
        let payloads = parse_chain(header.next_payload, bytes.get(HEADER_LEN..).unwrap_or_default());
        payloads.is_ok_and(|payloads| {
            let ni = required(&payloads, Kind::Nonce).and_then(parse_nonce);
            let cookies = &self.shared.lock().cookies;
            let good =
                |ni| cookies.check(now.mono, path.remote.ip(), (header.spi_i, ni), cookie_of(&payloads));
            ni.is_ok_and(good)
        })
    }

    fn handle_hello(
        &mut self,
        now: Now,
        path: Path,
        header: Header,
        bytes: &[u8],
        request_hash: [u8; 32],
    ) -> Result<(), Refusal> {
        let payloads = parse_chain(header.next_payload, bytes.get(HEADER_LEN..).unwrap_or_default())?;
        let ni = parse_nonce(required(&payloads, Kind::Nonce)?)?;
        let cookie = cookie_of(&payloads);
        let (remote, request) = (path.remote.ip(), (header.spi_i, ni));
        let common = self.shared.lock();
        let proved = || common.cookies.check(now.mono, remote, request, cookie);
        let verdict = self.admission.judge(&self.config.policy, remote, proved);
        let asked = (verdict == Verdict::Challenge).then(|| common.cookies.make(now.mono, remote, request));
        drop(common);
        if let Some(cookie) = asked {
            // Outside the budget of errors: a flood must not keep others from their cookie.
            self.stats.cookies += 1;
            self.outputs.push_back(Output::Send { path, bytes: challenge(header, &cookie) });
            return Ok(());
        }
        if verdict == Verdict::Refuse {
            self.stats.refused += 1;
            return Ok(());
        }
        let hello = Hello::parse(&payloads, ni, groups(self.config.policy.weak_groups))?;
        self.open_ike_sa(now, path, header, bytes, request_hash, hello)
    }

    fn open_ike_sa(
        &mut self,
        now: Now,
        path: Path,
        header: Header,
        bytes: &[u8],
        request_hash: [u8; 32],
        hello: Hello<'_>,
    ) -> Result<(), Refusal> {
        let suite = hello.chosen.suite;
        let pair = KeyPair::generate(suite.group)?;
        let public = pair.public().to_vec();
        let shared = pair.agree(hello.public)?;
        let (spi_i, spi_r) = (header.spi_i, self.new_ike_spi());
        let nr = self.new_nonce();
        let nonces = Nonces { ni: hello.ni, nr: &nr };
        let keys = IkeKeys::initial(suite, &shared, nonces, (spi_i, spi_r))?;

        let mut chain = Chain::new();
        chain.push(Kind::Sa, &emit_proposals(&[hello.chosen.answer(&[])]));
        chain.push(Kind::Ke, &Ke { group: suite.group.transform_id(), data: &public }.emit());
        chain.push(Kind::Nonce, &nr);
        self.push_nat_detection(&mut chain, (spi_i, spi_r), path);
        let intermediate = Intermediate::new(suite.kems);
        let use_ppk = hello.use_ppk && !self.config.identity.access.ppks.is_empty();
        let supported = hello.supported(use_ppk);
        let authorities = self.config.identity.access.anchors.spki_hashes();
        let rest: usize = supported.iter().map(|notify| PAYLOAD_HEAD + notify.len()).sum();
        push_cert_request(&mut chain, authorities, bytes.len().saturating_sub(rest));
        supported.iter().for_each(|notify| chain.push(Kind::Notify, notify));
        let response = chain.emit_message(Header { spi_r, initiator: false, response: true, ..header });

        let init = Init {
            request: bytes.to_vec(),
            response: response.clone(),
            ni: hello.ni.to_vec(),
            nr,
            sk_pi: keys.sk_pi,
            sk_pr: keys.sk_pr,
            intermediate,
            use_ppk,
            hashes: hello.hashes,
            hints: hello.hints,
            admitted: Admitted { request_hash, remote: path.remote.ip() },
            eap: None,
        };
        let mut sa = IkeSa::new(
            (spi_r, spi_i),
            InitiatedBy::Peer,
            suite,
            keys.sk_d,
            Channel::new(suite.cipher, &keys.protect_i, &keys.protect_r)?,
            path,
            now.mono,
        );
        sa.state = State::HalfOpen(Box::new(init));
        sa.fragmentation = hello.fragmentation;
        sa.expected_id = 1;
        self.admission.enter(path.remote.ip());
        self.half_opens.insert(request_hash, spi_r);
        self.keep(Box::new(sa));
        self.timers.set(Timer::Expire(spi_r), now.mono + self.config.policy.half_open_lifetime);
        self.send_all(path, &[response]);
        Ok(())
    }

    /// Both hashes of RFC 7296 section 2.23. Ours of the source is random: whatever lies between, the peer finds a
    /// NAT and sends ESP in UDP, which is all that we can receive.
    pub(super) fn push_nat_detection(&mut self, chain: &mut Chain, (spi_i, spi_r): (u64, u64), path: Path) {
        let mut random = [0; 20];
        self.rng.fill(&mut random);
        chain.push(Kind::Notify, &Notify::new(notify_type::NAT_DETECTION_SOURCE_IP, &random).emit());
        let (port, v4, v6);
        let address = match path.remote.ip() {
            IpAddr::V4(address) => {
                v4 = address.octets();
                &v4[..]
            }
            IpAddr::V6(address) => {
                v6 = address.octets();
                &v6[..]
            }
        };
        port = path.remote.port().to_be_bytes();
        let hash = sha1(&[&spi_i.to_be_bytes(), &spi_r.to_be_bytes(), address, &port]);
        chain.push(Kind::Notify, &Notify::new(notify_type::NAT_DETECTION_DESTINATION_IP, &hash).emit());
    }

    /// Takes an IKE SA out of the half-open ones, if it is one.
    pub(super) fn leave_half_open(&mut self, sa: &IkeSa) {
        let admitted = match &sa.state {
            State::HalfOpen(init) => Some(init.admitted),
            State::Closed(admitted) => *admitted,
            _ => None,
        };
        if let Some(admitted) = admitted {
            self.admission.leave(admitted.remote);
            self.half_opens.remove(&admitted.request_hash);
        }
    }
}

impl<'a> Hello<'a> {
    fn parse(payloads: &[Payload<'a>], ni: &'a [u8], groups: &[Group]) -> Result<Self, Refusal> {
        let proposals = parse_proposals(required(payloads, Kind::Sa)?)?;
        let ke = Ke::parse(required(payloads, Kind::Ke)?)?;
        let has = |kind| notifies(payloads).any(|notify| notify.kind == kind);
        let kems = if has(notify_type::INTERMEDIATE_EXCHANGE_SUPPORTED) { &Kem::ALL[..] } else { &[] };
        let chosen = choose_ike(&proposals, 0, Some(ke.group), groups, kems).ok_or(Refusal::NoProposal)?;
        let public = check_group(chosen.suite.group, &ke)?;
        let hashes = notifies(payloads).find(|notify| notify.kind == notify_type::SIGNATURE_HASH_ALGORITHMS);
        let hashes =
            hashes.map(|n| n.data.as_chunks().0.iter().map(|hash| u16::from_be_bytes(*hash)).collect());
        let hints = Hints::new(payloads, &proposals);
        let fragmentation = has(notify_type::FRAGMENTATION_SUPPORTED);
        let use_ppk = has(notify_type::USE_PPK);
        Ok(Self { chosen, public, ni, fragmentation, use_ppk, hashes, hints })
    }

    /// Bodies of the notifies by which we say that we can do what the peer can.
    fn supported(&self, use_ppk: bool) -> Vec<Vec<u8>> {
        let mut notifies = Vec::new();
        if self.fragmentation {
            notifies.push(Notify::new(notify_type::FRAGMENTATION_SUPPORTED, &[]).emit());
        }
        if self.hashes.is_some() {
            let hashes = HASHES.map(u16::to_be_bytes);
            let kind = notify_type::SIGNATURE_HASH_ALGORITHMS;
            notifies.push(Notify::new(kind, hashes.as_flattened()).emit());
        }
        if self.chosen.suite.kems.iter().any(Option::is_some) {
            notifies.push(Notify::new(notify_type::INTERMEDIATE_EXCHANGE_SUPPORTED, &[]).emit());
        }
        if use_ppk {
            notifies.push(Notify::new(notify_type::USE_PPK, &[]).emit());
        }
        notifies
    }
}

/// The cookie in an initial request.
pub(super) fn cookie_of<'a>(payloads: &[Payload<'a>]) -> Option<&'a [u8]> {
    let bodies = payloads.iter().filter(|payload| payload.kind == Kind::Notify);
    let mut notifies = bodies.filter_map(|payload| Notify::parse(payload.body).ok());
    notifies.find(|notify| notify.kind == notify_type::COOKIE).map(|notify| notify.data)
}

/// Names the authorities whose certificates we take. Of many only the first: the answer gets no longer than `longest`
/// by them, except by the first one, since clients that see no CERTREQ send no certificate.
fn push_cert_request(chain: &mut Chain, authorities: &[[u8; 20]], longest: usize) {
    let head = HEADER_LEN + chain.bytes().len() + CERT_REQUEST_HEAD;
    let room = longest.saturating_sub(head) / 20;
    if let Some(first) = authorities.get(..room.max(1).min(authorities.len())).filter(|a| !a.is_empty()) {
        chain.push(Kind::CertReq, &emit_cert_request(first));
    }
}

/// The public value of a KE payload, if it is of the chosen group.
pub(super) fn check_group<'a>(group: Group, ke: &Ke<'a>) -> Result<&'a [u8], Refusal> {
    if ke.group != group.transform_id() {
        return Err(Refusal::InvalidKe(group));
    }
    check_public_value(group, ke.data)?;
    Ok(ke.data)
}
