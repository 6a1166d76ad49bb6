//! IKE_SA_INIT and IKE_AUTH: from nothing to an IKE SA with one Child SA (RFC 7296 sections 1.2, 2.6, 2.7 and 2.19).

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::auth;
use super::esp::{Inbound, Outbound};
use super::link;
use super::message::{
    FLAG_INITIATOR, FLAG_RESPONSE, Header, Message, Payload, attribute, emit_chain, emit_config_request,
    exchange, kind, notify, parse_chain, parse_config_reply, parse_key_exchange, parse_selectors,
};
use super::proposal::{emit_esp, emit_ike, parse_esp, parse_ike};
use super::sa::{IkeSa, Keys};
use super::{ClientConfig, Clock, Counters, ProbeError};
use crate::base::{Random, TrafficSelector};
use crate::crypto::dh::KeyPair;
use crate::crypto::{Certificate, Group, PrivateKey, Secret, SystemRandom, TrustAnchors, pem};
use crate::wire::Malformed;

/// How long an answer is waited for, before the first retransmission and each further one.
pub(super) const WAITS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
    Duration::from_millis(3000),
    Duration::from_millis(4000),
];
/// Answers to IKE_SA_INIT that ask to start again, before the probe gives up.
const MAX_RESTARTS: u32 = 5;
/// IKE behind UDP port 4500 starts with four zero octets (RFC 3948).
pub(super) const MARKER: [u8; 4] = [0; 4];

/// What a handshake leaves behind.
pub(super) struct Established {
    pub socket: UdpSocket,
    pub server: SocketAddr,
    pub ike: IkeSa,
    pub outbound: Outbound,
    pub inbound: Inbound,
    pub assigned: Assigned,
    pub routes: Vec<TrafficSelector>,
}

/// What CFG_REPLY says.
#[derive(Clone, Debug)]
pub(super) struct Assigned {
    pub address: Ipv4Addr,
    pub address6: Option<Ipv6Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub dns6: Vec<Ipv6Addr>,
    pub domains: Vec<String>,
}

/// Certificates and key of the configuration, read.
struct Credentials {
    chain: Vec<Certificate>,
    key: PrivateKey,
    authorities: Vec<Certificate>,
}

/// The result of IKE_SA_INIT.
struct Init {
    ike: IkeSa,
    request: Vec<u8>,
    response: Vec<u8>,
    nonce_i: Vec<u8>,
    nonce_r: Vec<u8>,
    hashes_listed: bool,
}

/// Random octets.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes);
    bytes
}

/// An SPI for a new ESP SA of ours.
pub(super) fn random_spi() -> u32 {
    u32::from_be_bytes(random()) | 0x100
}

/// Runs both exchanges.
pub(super) fn connect(
    config: &ClientConfig,
    clock: &Clock,
    counters: &mut Counters,
) -> Result<Established, ProbeError> {
    let credentials = Credentials {
        chain: pem::certificates(config.cert_pem.as_bytes())?,
        key: pem::private_key(config.key_pem.as_bytes())?,
        authorities: pem::certificates(config.ca_pem.as_bytes())?,
    };
    let init = init(config, counters)?;
    authenticate(config, &credentials, init, clock, counters)
}

fn init(config: &ClientConfig, counters: &mut Counters) -> Result<Init, ProbeError> {
    let socket = link::bind(config.server)?;
    let spi_i = u64::from_be_bytes(random()) | 1;
    let nonce_i = random::<32>().to_vec();
    let mut group = config.key_exchange;
    let mut cookie: Option<Vec<u8>> = None;
    for _ in 0..MAX_RESTARTS {
        let pair = KeyPair::generate(group)?;
        let request = init_request(config, spi_i, &pair, &nonce_i, cookie.as_deref());
        let response = ask(&socket, config.server, std::slice::from_ref(&request), counters, |datagram| {
            let header = Header::parse(datagram).ok()?;
            let ours =
                header.spi_i == spi_i && header.flags & (FLAG_RESPONSE | FLAG_INITIATOR) == FLAG_RESPONSE;
            (ours && header.exchange == exchange::IKE_SA_INIT).then(|| datagram.to_vec())
        })?;
        let header = Header::parse(&response)?;
        let body = response.get(super::message::HEADER_LEN..).unwrap_or_default();
        let message = Message { header, payloads: parse_chain(header.next, body)? };
        if let Some(token) = message.notify(notify::COOKIE) {
            counters.cookies += 1;
            cookie = Some(token.to_vec());
        } else if let Some(wanted) = message.notify(notify::INVALID_KE_PAYLOAD) {
            counters.invalid_ke += 1;
            group = other_group(config, wanted, group)?;
        } else if let Some(error) = message.error() {
            return Err(ProbeError::Refused { exchange: exchange::IKE_SA_INIT, notify: error });
        } else {
            let ike = init_keys(config, &message, pair, &nonce_i, spi_i)?;
            let nonce_r = message.find(kind::NONCE).unwrap_or_default().to_vec();
            let hashes_listed = message.notify(notify::SIGNATURE_HASH_ALGORITHMS).is_some();
            return Ok(Init { ike, request, response, nonce_i, nonce_r, hashes_listed });
        }
    }
    Err(ProbeError::Protocol("the responder asks to start again for ever"))
}

fn init_request(
    config: &ClientConfig,
    spi_i: u64,
    pair: &KeyPair,
    nonce: &[u8],
    cookie: Option<&[u8]>,
) -> Vec<u8> {
    let mut payloads: Vec<_> =
        cookie.map(|token| Payload::notify(notify::COOKIE, token)).into_iter().collect();
    payloads.extend([
        emit_ike(&config.suites, &[]),
        Payload::key_exchange(pair.group().transform_id(), pair.public()),
        Payload::new(kind::NONCE, nonce),
        // A hash that fits no address says "behind NAT": ESP then always travels in UDP.
        Payload::notify(notify::NAT_DETECTION_SOURCE_IP, &random::<20>()),
        Payload::notify(notify::NAT_DETECTION_DESTINATION_IP, &random::<20>()),
    ]);
    if config.fragment_size > 0 {
        payloads.push(Payload::notify(notify::FRAGMENTATION_SUPPORTED, &[]));
    }
    if config.list_hashes {
        // SHA2-256, SHA2-384, SHA2-512 (RFC 7427 section 4)
        payloads.push(Payload::notify(notify::SIGNATURE_HASH_ALGORITHMS, &[0, 2, 0, 3, 0, 4]));
    }
    let (next, body) = emit_chain(&payloads);
    let header = Header {
        spi_i,
        spi_r: 0,
        next,
        exchange: exchange::IKE_SA_INIT,
        flags: FLAG_INITIATOR,
        message_id: 0,
    };
    let mut request = Vec::new();
    header.emit(&mut request, body.len());
    request.extend(body);
    request
}

/// The group that INVALID_KE_PAYLOAD names; it must be one that was offered and not the one just tried.
fn other_group(config: &ClientConfig, wanted: &[u8], tried: Group) -> Result<Group, ProbeError> {
    let id = <[u8; 2]>::try_from(wanted).map_err(|_| Malformed("INVALID_KE_PAYLOAD"))?;
    Group::from_transform_id(u16::from_be_bytes(id))
        .filter(|group| *group != tried && config.suites.iter().any(|suite| suite.group == *group))
        .ok_or(ProbeError::Protocol("INVALID_KE_PAYLOAD names a group that was not offered"))
}

fn init_keys(
    config: &ClientConfig,
    message: &Message,
    pair: KeyPair,
    nonce_i: &[u8],
    spi_i: u64,
) -> Result<IkeSa, ProbeError> {
    let spi_r = message.header.spi_r;
    if spi_r == 0 || message.header.message_id != 0 {
        return Err(ProbeError::Protocol("IKE_SA_INIT response without SPI"));
    }
    let nonce_r = message.find(kind::NONCE).ok_or(Malformed("IKE_SA_INIT: no nonce"))?;
    if !(16..=256).contains(&nonce_r.len()) {
        return Err(Malformed("nonce length").into());
    }
    let (suite, spi) =
        parse_ike(message.find(kind::SA).ok_or(Malformed("IKE_SA_INIT: no SA"))?, &config.suites)?;
    if !spi.is_empty() {
        return Err(Malformed("IKE_SA_INIT: SPI in the proposal").into());
    }
    let shared = agree(pair, suite.group, message)?;
    let keys = Keys::initial(suite, &shared, [nonce_i, nonce_r], [spi_i, spi_r])?;
    let fragments = message.notify(notify::FRAGMENTATION_SUPPORTED).is_some();
    let mut ike = IkeSa::new(suite, keys, [spi_i, spi_r], if fragments { config.fragment_size } else { 0 });
    ike.next_request = 1;
    Ok(ike)
}

/// The shared secret with the public value in a response, which must be of the negotiated group.
pub(super) fn agree(pair: KeyPair, negotiated: Group, message: &Message) -> Result<Secret, ProbeError> {
    let body = message.find(kind::KE).ok_or(Malformed("response without KE payload"))?;
    let (group, public) = parse_key_exchange(body)?;
    if group != pair.group().transform_id() || negotiated != pair.group() {
        return Err(ProbeError::Protocol("KE payload of another group than negotiated"));
    }
    Ok(pair.agree(public)?)
}

fn authenticate(
    config: &ClientConfig,
    credentials: &Credentials,
    init: Init,
    clock: &Clock,
    counters: &mut Counters,
) -> Result<Established, ProbeError> {
    let Init { mut ike, request, response, nonce_i, nonce_r, hashes_listed } = init;
    let server = SocketAddr::new(config.server.ip(), config.nat_port);
    let socket = link::bind(server)?;
    let leaf = credentials.chain.first().ok_or(ProbeError::Config("no client certificate"))?;
    let id_body = match &config.identity {
        Some(name) => auth::identity(name),
        None => auth::identity_of(leaf),
    };
    let spi_in = random_spi();
    let prf = ike.suite.prf;
    let octets = auth::signed_octets(&request, &nonce_r, prf, &ike.keys.sk_pi, &id_body);
    let mut payloads = vec![Payload::new(kind::IDI, id_body), Payload::notify(notify::INITIAL_CONTACT, &[])];
    payloads.extend(credentials.chain.iter().map(auth::emit_certificate));
    payloads.extend([
        auth::emit_certificate_request(&credentials.authorities),
        Payload::new(kind::IDR, auth::identity(&config.server_id)),
        auth::sign(&credentials.key, config.list_hashes && hashes_listed, &octets)?,
        emit_config_request(config.ipv6),
        emit_esp(&config.esp, spi_in, None),
        Payload::everything(kind::TSI, config.ipv6),
        Payload::everything(kind::TSR, config.ipv6),
        Payload::notify(notify::MOBIKE_SUPPORTED, &[]),
    ]);
    let datagrams: Vec<_> = ike
        .seal(exchange::IKE_AUTH, false, ike.next_request, &payloads)?
        .into_iter()
        .map(|datagram| [&MARKER[..], &datagram].concat())
        .collect();
    counters.fragments_out += if datagrams.len() > 1 { datagrams.len() as u64 } else { 0 };
    ike.next_request += 1;

    let mut fragments_in = 0;
    let message = ask(&socket, server, &datagrams, counters, |datagram| {
        let datagram = datagram.strip_prefix(&MARKER)?;
        fragments_in += u64::from(datagram.get(16) == Some(&kind::SKF));
        let message = ike.open(datagram).ok()??;
        (message.header.message_id == 1 && message.header.flags & FLAG_RESPONSE != 0).then_some(message)
    })?;
    counters.fragments_in += fragments_in;
    if let Some(error) = message.error() {
        return Err(ProbeError::Refused { exchange: exchange::IKE_AUTH, notify: error });
    }
    let anchors = TrustAnchors::new(&credentials.authorities)?;
    auth::verify(&message, &config.server_id, &anchors, clock.wall(), |id_body| {
        auth::signed_octets(&response, &nonce_i, prf, &ike.keys.sk_pr, id_body)
    })?;

    let assigned = Assigned::parse(&message)?;
    let routes = selectors(&message, &assigned)?;
    let sa = message.find(kind::SA).ok_or(Malformed("IKE_AUTH: no SA"))?;
    let (cipher, spi_out) = parse_esp(sa, &config.esp, None)?;
    let [key_out, key_in] = ike.keys.child(None, [&nonce_i, &nonce_r], cipher.keymat_len())?;
    Ok(Established {
        socket,
        server,
        ike,
        outbound: Outbound::new(cipher, spi_out, &key_out)?,
        inbound: Inbound::new(cipher, spi_in, spi_out, &key_in)?,
        assigned,
        routes,
    })
}

impl Assigned {
    fn parse(message: &Message) -> Result<Self, ProbeError> {
        let attributes = parse_config_reply(message.find(kind::CP).ok_or(Malformed("IKE_AUTH: no CP"))?)?;
        let values =
            |wanted| attributes.iter().filter(move |(kind, _)| *kind == wanted).map(|(_, value)| *value);
        let ipv4 = |wanted| values(wanted).filter_map(|v| Some(Ipv4Addr::from(<[u8; 4]>::try_from(v).ok()?)));
        let address = ipv4(attribute::IP4_ADDRESS).next();
        let address6 = values(attribute::IP6_ADDRESS).next().map(|value| match value.split_last() {
            Some((128, octets)) => <[u8; 16]>::try_from(octets).map_err(|_| Malformed("IPv6 address")),
            _ => Err(Malformed("IPv6 address: not one host")),
        });
        let dns6 = values(attribute::IP6_DNS).map(|value| <[u8; 16]>::try_from(value).map(Ipv6Addr::from));
        let domains = values(attribute::DNS_DOMAIN).map(|value| String::from_utf8(value.to_vec()));
        Ok(Self {
            address: address.ok_or(ProbeError::Protocol("no address was assigned"))?,
            address6: address6.transpose()?.map(Ipv6Addr::from),
            dns: ipv4(attribute::IP4_DNS).collect(),
            dns6: dns6.collect::<Result<_, _>>().map_err(|_| Malformed("IPv6 DNS server"))?,
            domains: domains.collect::<Result<_, _>>().map_err(|_| Malformed("DNS domain"))?,
        })
    }
}

/// Our addresses must be in TSi; TSr is what the tunnel leads to.
pub(super) fn selectors(message: &Message, own: &Assigned) -> Result<Vec<TrafficSelector>, ProbeError> {
    let ts_i = parse_selectors(message.find(kind::TSI).ok_or(Malformed("no TSi"))?)?;
    let ts_r = parse_selectors(message.find(kind::TSR).ok_or(Malformed("no TSr"))?)?;
    let inside = |address: IpAddr| ts_i.iter().any(|ts| ts.first <= address && address <= ts.last);
    if !inside(own.address.into()) || !own.address6.is_none_or(|a| inside(a.into())) || ts_r.is_empty() {
        return Err(ProbeError::Protocol("an assigned address is outside TSi, or TSr is empty"));
    }
    Ok(ts_r)
}

/// Sends a request until `accept` takes an answer.
fn ask<T>(
    socket: &UdpSocket,
    to: SocketAddr,
    datagrams: &[Vec<u8>],
    counters: &mut Counters,
    mut accept: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, ProbeError> {
    let mut buffer = vec![0; 65_535];
    for (attempt, wait) in WAITS.into_iter().enumerate() {
        counters.retransmissions += u64::from(attempt > 0);
        for datagram in datagrams {
            socket.send_to(datagram, to)?;
        }
        let clock = Clock::start();
        while let Some(left) = wait.checked_sub(clock.now()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left))?;
            match socket.recv_from(&mut buffer) {
                Ok((len, from)) if from == to => {
                    if let Some(answer) = buffer.get(..len).and_then(&mut accept) {
                        return Ok(answer);
                    }
                }
                Ok(_) => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Err(ProbeError::Timeout("an answer of the server"))
}
