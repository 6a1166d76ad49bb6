//! A flood of datagrams from many ports, at a steady rate.
#![allow(dead_code, reason = "each binary uses its part")]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pterodapter::wire::ike::{
    Chain, Exchange, HEADER_LEN, Header, Ke, KeyLength, Kind, Notify, Proposal, Transform, emit_proposals,
    notify_type, protocol, transform_type,
};

/// Ports that it comes from.
const PORTS: usize = 256;
/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(1);
/// A sender that fell behind does not make up for more than this.
const CATCH_UP: Duration = Duration::from_millis(20);

/// What it consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// Noise, IKE headers with SPIs of nobody, ESP of nobody.
    Garbage,
    /// Well-formed IKE_SA_INIT requests, each with an SPI and a nonce of its own.
    Initial,
}

/// A flood; ends when dropped.
pub struct Flood {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Whom it may hit, and whom it hits now.
    targets: Vec<SocketAddr>,
    aim: AtomicUsize,
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Flood {
    /// `per_second` datagrams to the first of `targets`, until another is aimed at, and `total` at most.
    pub fn start(targets: Vec<SocketAddr>, matter: Matter, per_second: u32, total: u64) -> io::Result<Self> {
        let (aim, stop, sent) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicU64::new(0));
        let shared = Arc::new(Shared { targets, aim, stop, sent });
        let sockets = (0..PORTS).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.send(&sockets, matter, per_second, total)
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hits this one of the targets from now on.
    pub fn aim(&self, target: usize) {
        self.shared.aim.store(target, Ordering::Relaxed);
    }

    /// Datagrams so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// True when all are sent.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Where it panicked, it has said why.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn send(&self, sockets: &[UdpSocket], matter: Matter, per_second: u32, total: u64) {
        let mut templates = match matter {
            Matter::Garbage => garbage(),
            Matter::Initial => vec![initial_request(&[], 500)],
        };
        let (mut number, mut last, mut owed) = (0_u64, clock(), 0.0);
        while number < total && !self.stop.load(Ordering::Relaxed) {
            thread::sleep(TICK);
            let passed = last.elapsed().min(CATCH_UP);
            last = clock();
            owed += passed.as_secs_f64() * f64::from(per_second);
            let to = self.targets[self.aim.load(Ordering::Relaxed)];
            while owed >= 1.0 && number < total {
                owed -= 1.0;
                number += 1;
                let kinds = templates.len();
                let datagram = &mut templates[number as usize % kinds];
                make_different(datagram, matter, number);
                // It may be refused, where nobody listens any more.
                let _ = sockets[number as usize % PORTS].send_to(datagram, to);
            }
            self.sent.store(number, Ordering::Relaxed);
        }
    }
}

/// Another SPI, or whatever is at its place, and another nonce.
fn make_different(datagram: &mut [u8], matter: Matter, number: u64) {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    if let Some(spi) = datagram.first_chunk_mut() {
        *spi = number.to_be_bytes();
    }
    if let (Matter::Initial, Some(nonce)) = (matter, datagram.last_chunk_mut()) {
        *nonce = number.to_le_bytes();
    }
}

/// One of each kind.
fn garbage() -> Vec<Vec<u8>> {
    let header = |spi_r: u64, exchange, length: u32| {
        let (next_payload, message_id) = (46, u32::from(exchange != Exchange::IkeSaInit));
        let (initiator, response) = (true, false);
        Header { spi_i: 1, spi_r, next_payload, major: 2, exchange, initiator, response, message_id, length }
            .emit()
    };
    let with = |header: [u8; 28], len: usize| [&header[..], &vec![0x5a; len - 28]].concat();
    vec![
        vec![0x5a; 60],
        vec![0xa5; 1200],
        // The SPI of nobody, as IKE and as ESP.
        with(header(7 << 40, Exchange::Informational, 80), 80),
        with(header(7 << 40, Exchange::IkeAuth, 1200), 1200),
        // A length that is not the datagram's, no SPI of ours, an initial request of a header alone.
        with(header(7, Exchange::IkeAuth, 99), 400),
        with(header(0, Exchange::IkeAuth, 300), 300),
        header(0, Exchange::IkeSaInit, 28).to_vec(),
        vec![0xff],
    ]
}

/// An IKE_SA_INIT request of `len` octets (those of clients have about 500), with a cookie if there is one. The nonce is
/// last.
pub fn initial_request(cookie: &[u8], len: usize) -> Vec<u8> {
    let cipher = |id, bits| Transform { kind: transform_type::ENCR, id, key_length: KeyLength::Bits(bits) };
    let kinds = [(transform_type::PRF, 5), (transform_type::KE, 31), (transform_type::KE, 19)];
    let others = kinds.map(|(kind, id)| Transform::new(kind, id));
    let transforms = [cipher(20, 256), cipher(20, 128)].into_iter().chain(others).collect();
    let proposal = Proposal { number: 1, protocol: protocol::IKE, spi: vec![], transforms };
    let mut chain = Chain::new();
    if !cookie.is_empty() {
        chain.push(Kind::Notify, &Notify::new(notify_type::COOKIE, cookie).emit());
    }
    chain.push(Kind::Sa, &emit_proposals(&[proposal]));
    chain.push(Kind::Ke, &Ke { group: 31, data: &[9; 32] }.emit());
    for kind in [notify_type::NAT_DETECTION_SOURCE_IP, notify_type::NAT_DETECTION_DESTINATION_IP] {
        chain.push(Kind::Notify, &Notify::new(kind, &[7; 20]).emit());
    }
    let (vendor, nonce) = (4, 4 + 32);
    chain.push(Kind::Vendor, &vec![3; len - HEADER_LEN - chain.bytes().len() - vendor - nonce]);
    chain.push(Kind::Nonce, &[1; 32]);
    chain.emit_message(Header {
        spi_i: 1,
        spi_r: 0,
        next_payload: 0,
        major: 2,
        exchange: Exchange::IkeSaInit,
        initiator: true,
        response: false,
        message_id: 0,
        length: 0,
    })
}

#[expect(clippy::disallowed_methods, reason = "a rate needs a clock")]
fn clock() -> Instant {
    Instant::now()
}
