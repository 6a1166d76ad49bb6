//! Requests in, answers out: message IDs, retransmissions, and which exchange has its place when.

use super::error::Refusal;
use super::fragment::{MAX_MESSAGE, OpenError, Piece, Reassembly};
use super::gate::MAX_UNAUTHENTICATED;
use super::sa::{IkeSa, Pending, State};
use super::{Output, Responder, Timer};
use crate::base::{Now, Path};
use crate::wire::ike::{Chain, Exchange, Header, Kind, Notify, Payload, Protected, notify_type, parse_chain};

impl Responder {
    /// A message for an IKE SA that we have. Nothing happens before its integrity is checked.
    pub(super) fn handle_protected(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        path: Path,
        header: Header,
        bytes: &[u8],
    ) {
        let Ok(protected) = Protected::parse(&header, bytes) else {
            self.stats.malformed += 1;
            return;
        };
        if header.response {
            return self.handle_own_answer(now, sa, &header, &protected);
        }
        if Some(header.message_id) == sa.expected_id.checked_sub(1) {
            return self.answer_again(sa, path, &protected);
        }
        let in_place =
            header.message_id == sa.expected_id && sa.pending.is_none() && sa.takes(header.exchange);
        if !in_place || protected.fragment.is_some() && !sa.fragmentation {
            self.stats.out_of_place += 1;
            return;
        }
        let Some((first, payloads)) = self.open(now, sa, (header.message_id, false), &protected) else {
            return;
        };
        self.hear(now, sa);
        let parsed = parse_chain(first, &payloads);
        if parsed.as_ref().is_ok_and(|payloads| self.refuse_nat(now, sa, &header, payloads, path)) {
            return;
        }
        self.follow(sa, path);
        match parsed {
            Ok(parsed) => self.handle_request(now, sa, &header, (first, &payloads), &parsed),
            Err(why) => self.refuse_request(now, sa, &header, why.into()),
        }
    }

    /// Opens a message, or a fragment: then the payloads come when the last piece is there.
    pub(super) fn open(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        message: (u32, bool),
        protected: &Protected<'_>,
    ) -> Option<(u8, Vec<u8>)> {
        let payloads = match sa.channel.open(protected) {
            Ok(payloads) => payloads,
            Err(OpenError::BadTag) => {
                self.stats.bad_tag += 1;
                return None;
            }
            Err(OpenError::Malformed(_)) => {
                self.stats.malformed += 1;
                return None;
            }
        };
        match protected.fragment {
            Some(fragment) => {
                let limit = if sa.is_strangers() { MAX_UNAUTHENTICATED } else { MAX_MESSAGE };
                let piece = Piece { fragment, first: protected.first, payloads };
                Reassembly::add(&mut sa.reassembly, now.mono, message, piece, limit)
            }
            None => {
                sa.reassembly = None;
                Some((protected.first, payloads))
            }
        }
    }

    /// The peer repeats its last request: it gets the same answer, octet for octet. Of a fragmented request only the
    /// first fragment counts (RFC 7383 section 2.6.1).
    fn answer_again(&mut self, sa: &IkeSa, path: Path, protected: &Protected<'_>) {
        if protected.fragment.is_some_and(|fragment| fragment.number != 1) {
            return;
        }
        if sa.previous.as_deref().unwrap_or(&sa.channel).open(protected).is_err() {
            self.stats.bad_tag += 1;
            return;
        }
        self.stats.answered_again += 1;
        self.send_all(path, &sa.answer);
    }

    /// The peer has said something authentic.
    pub(super) fn hear(&mut self, now: Now, sa: &mut IkeSa) {
        sa.heard = now.mono;
        if let Some(client) = sa.client.as_ref().filter(|client| client.announced) {
            self.outputs.push_back(Output::Heard { device: client.device });
        }
    }

    /// The peer is where its newest authentic request comes from.
    fn follow(&mut self, sa: &mut IkeSa, path: Path) {
        if sa.path == path {
            return;
        }
        sa.path = path;
        if let Some(client) = sa.client.as_ref().filter(|client| client.announced) {
            let identity = client.identity.clone();
            self.outputs.push_back(Output::Moved { device: client.device, identity, path });
        }
    }

    /// `inner` is what was sealed: type of the first payload, and the payloads.
    fn handle_request(
        &mut self,
        now: Now,
        sa: &mut IkeSa,
        header: &Header,
        inner: (u8, &[u8]),
        payloads: &[Payload<'_>],
    ) {
        match header.exchange {
            Exchange::IkeIntermediate => self.handle_intermediate(now, sa, header, inner, payloads),
            Exchange::IkeAuth => self.handle_auth(now, sa, header.message_id, payloads),
            Exchange::CreateChildSa => self.handle_create_child(now, sa, header.message_id, payloads),
            Exchange::Informational => self.handle_informational(now, sa, header.message_id, payloads),
            Exchange::IkeFollowupKe => self.handle_follow_up(now, sa, header.message_id, payloads),
            Exchange::IkeSaInit | Exchange::Other(_) => {}
        }
    }

    /// Answers with an error. Before authentication that is the end of the IKE SA (RFC 7296 section 2.21.2).
    pub(super) fn refuse_request(&mut self, now: Now, sa: &mut IkeSa, header: &Header, why: Refusal) {
        let mut chain = Chain::new();
        chain.push(Kind::Notify, &why.notify());
        self.answer(sa, header.exchange, header.message_id, &chain);
        if matches!(sa.state, State::HalfOpen(_)) {
            self.close_silently(now, sa);
        }
    }

    /// Answers the request `message_id`, and keeps the answer for retransmissions.
    pub(super) fn answer(&mut self, sa: &mut IkeSa, exchange: Exchange, message_id: u32, chain: &Chain) {
        let header = sa.header(exchange, message_id, true);
        match (sa.channel.seal(header, chain, sa.fragmentation), message_id.checked_add(1)) {
            (Ok(datagrams), Some(next)) => {
                self.send_all(sa.path, &datagrams);
                sa.answer = datagrams;
                sa.previous = None;
                sa.expected_id = next;
            }
            // Neither a failing cipher nor four thousand million requests leave anything to be said.
            _ => self.abandon(sa, super::GoneReason::Expired),
        }
    }

    /// Sends the answer that waited.
    pub(super) fn answer_pending(&mut self, sa: &mut IkeSa, pending: Pending) {
        self.answer(sa, pending.exchange, pending.message_id, &pending.chain);
    }

    pub(super) fn send_all(&mut self, path: Path, datagrams: &[Vec<u8>]) {
        self.outputs.extend(datagrams.iter().map(|bytes| Output::Send { path, bytes: bytes.clone() }));
    }

    /// Ends a half-open IKE SA, whatever it became; the last answer stays for retransmissions a while.
    pub(super) fn close_silently(&mut self, now: Now, sa: &mut IkeSa) {
        sa.pending = None;
        if !matches!(sa.state, State::Dead) {
            sa.state =
                State::Closed(if let State::HalfOpen(init) = &sa.state { Some(init.admitted) } else { None });
            self.timers.set(Timer::Expire(sa.own_spi), now.mono + self.config.policy.half_open_lifetime);
        }
        self.timers.cancel(Timer::Answer(sa.own_spi));
        self.timers.cancel(Timer::Retransmit(sa.own_spi));
        self.cancel_renewal(sa);
    }

    /// Tells a peer of another major version which one we speak.
    pub(super) fn answer_other_version(&mut self, now: Now, path: Path, request: Header) {
        let notify = Notify::new(notify_type::INVALID_MAJOR_VERSION, &[]).emit();
        if self.errors.allow(now.mono) {
            self.answer_stranger(path, request, &[(Kind::Notify, &notify)]);
        }
    }

    /// An unprotected answer to an initial request, without state. None is longer than its request.
    pub(super) fn answer_stranger(&mut self, path: Path, request: Header, payloads: &[(Kind, &[u8])]) {
        let mut chain = Chain::new();
        payloads.iter().for_each(|(kind, body)| chain.push(*kind, body));
        let header = Header { major: 2, initiator: false, response: true, ..request };
        let bytes = chain.emit_message(header);
        if bytes.len() <= request.length as usize {
            self.outputs.push_back(Output::Send { path, bytes });
        }
    }
}

/// The one payload of this kind; two are a breach of the rules, none is `None`.
pub(super) fn single<'a>(
    payloads: &[Payload<'a>],
    kind: Kind,
) -> Result<Option<&'a [u8]>, crate::wire::Malformed> {
    let mut found = payloads.iter().filter(|payload| payload.kind == kind);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(crate::wire::Malformed("message: a payload occurs twice")),
        (first, None) => Ok(first.map(|payload| payload.body)),
    }
}

/// Like [`single`], where the payload must be there.
pub(super) fn required<'a>(payloads: &[Payload<'a>], kind: Kind) -> Result<&'a [u8], crate::wire::Malformed> {
    single(payloads, kind)?.ok_or(crate::wire::Malformed("message: a payload is missing"))
}

/// All well-formed notifies.
pub(super) fn notifies<'a>(payloads: &'a [Payload<'a>]) -> impl Iterator<Item = Notify<'a>> {
    let bodies = payloads.iter().filter(|payload| payload.kind == Kind::Notify);
    bodies.filter_map(|payload| Notify::parse(payload.body).ok())
}
