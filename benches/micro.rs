//! Single steps of the packet path against what they are made of. `cargo bench --bench micro`.

#[allow(dead_code, reason = "made for all benches")]
mod support;

use std::hint::black_box;
use std::io::{self, IoSlice, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use crossbeam_queue::ArrayQueue;
use pterodapter::crypto::cipher::CipherKey;
use pterodapter::crypto::{Cipher, Integrity, SystemRandom};
use pterodapter::dns::{Dns64, Forwarder, Output, Suffix, Transport};
use pterodapter::engine::Pool;
use pterodapter::engine::job::{self, Batch, Direction, Origin, Slot, Tunnel, Verdict};
use pterodapter::esp::{self, ReplayWindow};
use pterodapter::nat::Flows;
use pterodapter::nat::nat64::{Limits, Translated, translate_v4_to_v6, translate_v6_to_v4};
use pterodapter::wire::ip::{self, Ipv4};
use pterodapter::wire::ipv6::{self, Ipv6};
use pterodapter::wire::{checksum, dns, forti, ppp, tcp};
use ring::hmac;

use support::packets::{self, child_sa};
use support::{Run, Target, at_least, tls};

/// Packets that are worked on in one go; the median of `REPEATS` goes is one measurement.
const PACKETS: usize = 128;
const REPEATS: usize = 25;
/// The same for goes that are longer and depend on the scheduler.
const HAND_OFFS: usize = 9;
/// Frames of one turn.
const BATCH: usize = 32;
/// Octets of a full TLS record.
const RECORD: usize = 16 << 10;
/// The time as the address translation sees it.
const NOW: Duration = Duration::from_secs(1000);

/// One arm: its name and what gives nanoseconds per packet.
type Arm = (String, Box<dyn FnMut() -> f64>);

fn main() -> ExitCode {
    let mut arms: Vec<Arm> = Vec::new();
    for len in [1354, 64] {
        arms.extend(cipher(len));
        arms.extend(esp_and_jobs(len));
        arms.extend(nat(len));
    }
    arms.extend(cbc(1354));
    arms.extend(nat64());
    arms.extend(dns64());
    arms.extend(tls_records());
    arms.extend(hand_off());

    let mut run = Run::default();
    for round in 0..support::rounds() {
        for index in 0..arms.len() {
            let at = (index + round) % arms.len();
            let (name, measure) = &mut arms[at];
            run.record(name, measure());
        }
    }
    let (ratios, verdict) = run.judge(&TARGETS);
    let head = format!("# micro\n\n{}\n\n", support::machine());
    support::report("micro", &format!("{head}{}\n{ratios}", run.table("ns per packet")));
    support::exit(verdict)
}

const TARGETS: [Target; 13] = [
    at_most("esp open / ring, 1354 B", "esp open 1354", "ring open 1354", 1.15),
    at_most("esp seal / ring, 1354 B", "esp seal 1354", "ring seal 1354", 1.15),
    at_most("esp open / ring, 64 B", "esp open 64", "ring open 64", 1.6),
    at_most("esp seal / ring, 64 B", "esp seal 64", "ring seal 64", 1.6),
    at_most("whole open job / ring, 1354 B", "open job 1354", "ring open 1354", 1.3),
    at_most("whole seal job / ring, 1354 B", "seal job 1354", "ring seal 1354", 1.3),
    at_least("AES-CBC: raw / seal jobs, 1354 B", "AES-CBC raw seal 1354", "AES-CBC seal jobs 1354", 0.85),
    at_least("AES-CBC: raw / open jobs, 1354 B", "AES-CBC raw open 1354", "AES-CBC open jobs 1354", 0.85),
    at_least(
        "AES-CBC: seal one by one / jobs",
        "AES-CBC seal job of one 1354",
        "AES-CBC seal jobs 1354",
        1.5,
    ),
    at_most("NAT64 6 to 4 / header and checksum, 1400 B", "NAT64 6 to 4", "IPv4 header", 2.5),
    at_most("NAT64 4 to 6 / header and checksum, 1400 B", "NAT64 4 to 6", "IPv6 header", 2.5),
    at_most("TLS: 32 frames at once / one by one", "TLS 32 frames at once", "TLS one by one", 0.62),
    at_most("hand-off: 32 at once / one by one", "hand-off 32 at once", "hand-off one by one", 0.3),
];

const fn at_most(
    what: &'static str,
    numerator: &'static str,
    denominator: &'static str,
    limit: f64,
) -> Target {
    Target { what, numerator, denominator, at_least: false, limit }
}

/// An arm over `PACKETS` buffers of `len` octets. `prepare` is not timed. The median of many short goes, so that an
/// interruption spoils one of them only.
fn arm(
    name: String,
    len: usize,
    mut prepare: impl FnMut(&mut [Vec<u8>]) + 'static,
    mut work: impl FnMut(&mut [Vec<u8>]) + 'static,
) -> Arm {
    let mut buffers = vec![vec![0; len]; PACKETS];
    let mut go = move || {
        prepare(&mut buffers);
        let start = support::now();
        work(&mut buffers);
        start.elapsed().as_nanos() as f64 / PACKETS as f64
    };
    (name, Box::new(move || median(REPEATS, &mut go)))
}

fn median(count: usize, go: impl FnMut() -> f64) -> f64 {
    let mut goes: Vec<f64> = std::iter::repeat_with(go).take(count).collect();
    goes.sort_by(f64::total_cmp);
    goes[count / 2]
}

/// Copies the same packet into all buffers.
fn fill(template: Vec<u8>) -> impl FnMut(&mut [Vec<u8>]) {
    move |buffers| buffers.iter_mut().for_each(|buffer| buffer.copy_from_slice(&template))
}

/// The cipher alone, on as many octets as ESP encrypts.
fn cipher(len: usize) -> [Arm; 2] {
    let key = || CipherKey::new(Cipher::Aes256Gcm, &[0x17; 36]).expect("a key");
    let (seal_key, open_key) = (key(), key());
    let sealed_len = packets::sealed_len(len) - packets::ESP_HEAD;
    let plain_len = sealed_len - packets::TAG;
    let mut template = vec![0x5a; sealed_len];
    let (body, tag) = template.split_at_mut(plain_len);
    let (mut iv, mut seal_iv, mut seal_tag) = ([0; 8], [0; 8], [0; packets::TAG]);
    open_key.seal(7, &[0; 8], &mut iv, body, tag).expect("sealed");
    let mut number = 0u64;
    [
        arm(format!("ring seal {len}"), plain_len, fill(vec![0x5a; plain_len]), move |buffers| {
            for buffer in buffers {
                number += 1;
                seal_key.seal(number, &[0; 8], &mut seal_iv, buffer, &mut seal_tag).expect("sealed");
                black_box(seal_tag);
            }
        }),
        arm(format!("ring open {len}"), sealed_len, fill(template), move |buffers| {
            for buffer in buffers {
                black_box(open_key.open(&iv, &[0; 8], buffer).expect("authentic"));
            }
        }),
    ]
}

/// ESP with sequence numbers and replay window, and the whole jobs with the checks of the inner packet.
fn esp_and_jobs(len: usize) -> [Arm; 4] {
    let sa = || esp::Sa::new(&child_sa(Cipher::Aes256Gcm)).expect("an SA");
    let tunnel = || Tunnel::new(&child_sa(Cipher::Aes256Gcm), Pool::DEFAULT, None).expect("a tunnel");
    let total = packets::sealed_len(len);
    let plain = |from_server: bool| {
        let inner = match from_server {
            true => packets::udp((packets::SERVER, 1), (packets::DEVICE, 1), len, 0),
            false => packets::outbound(packets::DEVICE, len, 0),
        };
        let mut plain = vec![0; total];
        plain[packets::ESP_HEAD..packets::ESP_HEAD + len].copy_from_slice(&inner);
        plain
    };
    let sealed = || {
        let (sa, plain, mut seq) = (sa(), plain(false), 0);
        move |buffers: &mut [Vec<u8>]| {
            for buffer in buffers {
                seq += 1;
                buffer.copy_from_slice(&plain);
                esp::seal(&sa, seq, buffer, len).expect("sealed");
            }
        }
    };
    let slot = |range, seq| Slot { range, seq, origin: Origin::Company, inner: 0, verdict: Verdict::Pending };

    let (seal_sa, open_sa, seal_tunnel, open_tunnel) = (sa(), sa(), tunnel(), tunnel());
    let (mut numbers, mut job_numbers) = (esp::Sequence::new(), esp::Sequence::new());
    let (mut window, mut job_window) = (ReplayWindow::new(), ReplayWindow::new());
    [
        arm(format!("esp seal {len}"), total, fill(plain(true)), move |buffers| {
            let first = numbers.reserve(PACKETS as u32).expect("numbers left");
            for (seq, buffer) in (first..).zip(buffers) {
                black_box(esp::seal(&seal_sa, seq, buffer, len).expect("sealed"));
            }
        }),
        arm(format!("esp open {len}"), total, sealed(), move |buffers| {
            for buffer in buffers {
                let (_, seq) = esp::sequence(buffer).expect("long enough");
                window.check(seq).expect("new");
                black_box(esp::open(&open_sa, buffer).expect("authentic"));
                window.commit(seq).expect("new");
            }
        }),
        arm(format!("seal job {len}"), total, fill(plain(true)), move |buffers| {
            let first = job_numbers.reserve(PACKETS as u32).expect("numbers left");
            for (seq, buffer) in (first..).zip(buffers) {
                let mut slot = slot(packets::ESP_HEAD..packets::ESP_HEAD + len, seq);
                job::seal(&seal_tunnel, buffer, std::slice::from_mut(&mut slot), 1354, None);
                assert_eq!(slot.verdict, Verdict::Forward);
            }
        }),
        arm(format!("open job {len}"), total, sealed(), move |buffers| {
            for buffer in buffers {
                let (_, seq) = esp::sequence(buffer).expect("long enough");
                job_window.check(seq).expect("new");
                let mut slot = slot(0..buffer.len(), seq);
                job::open(&open_tunnel, buffer, &mut slot, 1354, None);
                assert_eq!(slot.verdict, Verdict::Forward);
                job_window.commit(seq).expect("new");
            }
        }),
    ]
}

/// AES-256-CBC with HMAC-SHA2-256 in whole batches, and what they are made of, as cheap as it can be: AES on as many
/// octets without waiting for a chain, and the MAC.
fn cbc(len: usize) -> [Arm; 5] {
    let cipher = Cipher::Aes256Cbc(Integrity::HmacSha256);
    let text_len = (len + 2).next_multiple_of(16);
    let total = 8 + cipher.iv_len() + text_len + cipher.tag_len();
    let aes = || Aes256::new(&[0x17; 32].into());
    let mac = || hmac::Key::new(hmac::HMAC_SHA256, &[0x17; 32]);
    let (seal_aes, open_aes, seal_mac, open_mac) = (aes(), aes(), mac(), mac());
    let sa = esp::Sa::new(&child_sa(cipher)).expect("an SA");
    let mut sealed = vec![0; total];
    sealed[24..24 + len].copy_from_slice(&packets::outbound(packets::DEVICE, len, 0));
    esp::seal(&sa, 1, &mut sealed, len).expect("sealed");
    let plain = packets::udp((packets::SERVER, 1), (packets::DEVICE, 1), len, 0);
    let up = move |batch: &mut Batch| batch.push_sealed(&sealed, 1);
    let down = move |batch: &mut Batch| batch.push_plain(&plain, Origin::Company);
    let alone = down.clone();
    [
        arm(format!("AES-CBC raw seal {len}"), total, fill(vec![0x5a; total]), move |buffers| {
            for buffer in buffers {
                let (blocks, _) = Array::slice_as_chunks_mut(&mut buffer[8..24 + text_len]);
                seal_aes.encrypt_blocks(blocks);
                black_box(hmac::sign(&seal_mac, &buffer[..24 + text_len]));
            }
        }),
        arm(format!("AES-CBC raw open {len}"), total, fill(vec![0x5a; total]), move |buffers| {
            for buffer in buffers {
                black_box(hmac::sign(&open_mac, &buffer[..24 + text_len]));
                let (blocks, _) = Array::slice_as_chunks_mut(&mut buffer[24..24 + text_len]);
                open_aes.decrypt_blocks(blocks);
            }
        }),
        batches(format!("AES-CBC seal jobs {len}"), cipher, Direction::Down, BATCH, down),
        batches(format!("AES-CBC seal job of one {len}"), cipher, Direction::Down, 1, alone),
        batches(format!("AES-CBC open jobs {len}"), cipher, Direction::Up, BATCH, up),
    ]
}

/// An arm that works on a batch of `count` packets, which `push` appends one by one; that is not timed.
fn batches(
    name: String,
    cipher: Cipher,
    direction: Direction,
    count: usize,
    push: impl Fn(&mut Batch) -> bool + 'static,
) -> Arm {
    let tunnel = Arc::new(Tunnel::new(&child_sa(cipher), Pool::DEFAULT, None).expect("a tunnel"));
    let mut batch = Batch { direction, mtu: 1354, ..Batch::default() };
    let mut number = 0;
    let mut go = move || {
        batch.clear();
        batch.tunnel = Some(Arc::clone(&tunnel));
        for _ in 0..count {
            assert!(push(&mut batch), "room for a packet");
        }
        for slot in &mut batch.slots {
            number += 1;
            slot.seq = number;
        }
        let start = support::now();
        batch.run();
        let elapsed = start.elapsed().as_nanos() as f64 / count as f64;
        assert!(batch.slots.iter().all(|slot| slot.verdict == Verdict::Forward));
        elapsed
    };
    (name, Box::new(move || median(REPEATS, &mut go)))
}

/// NAT44 in both directions, of an existing flow.
fn nat(len: usize) -> [Arm; 2] {
    let out = packets::outbound(packets::DEVICE, len, 0);
    let flows = || {
        let mut flows = Flows::new(1024, Pool::DEFAULT.host(), &mut SystemRandom::new());
        flows.set_external(Some(packets::EXTERNAL));
        flows.translate_outbound(NOW, &mut out.clone()).expect("a flow");
        flows
    };
    let (mut up, mut down) = (flows(), flows());
    [
        arm(format!("NAT44 outbound {len}"), len, fill(out.clone()), move |buffers| {
            for buffer in buffers {
                up.translate_outbound(NOW, black_box(buffer)).expect("translated");
            }
        }),
        arm(format!("NAT44 inbound {len}"), len, fill(packets::inbound(len, 0)), move |buffers| {
            for buffer in buffers {
                black_box(down.translate_inbound(NOW, black_box(buffer)).expect("translated"));
            }
        }),
    ]
}

/// NAT64 of a TCP packet of 1400 octets in place, and what it cannot do without: the new header, and one checksum
/// folded over as many octets.
fn nat64() -> [Arm; 4] {
    const LEN: usize = 1400;
    const GROWTH: usize = packets::NAT64_GROWTH;
    let tunnel = Tunnel::new(&child_sa(Cipher::Aes256Gcm), Pool::DEFAULT, Some(packets::prefix()));
    let mapping = *tunnel.as_ref().ok().and_then(Tunnel::nat64).expect("a device with IPv6");
    let shadow = Pool::DEFAULT.shadow(packets::DEVICE).expect("a device");
    let limits = Limits::new(1500, 1500);
    let server6 = packets::prefix().embed(packets::SERVER);
    let v6 = packets::packet(ip::TCP, (packets::DEVICE6, 1), (server6, 1), LEN, 0);
    let mut v4 = packets::packet(ip::TCP, (packets::SERVER, 1), (shadow, 1), LEN, 0);
    let (header6, header4) = (Ipv6::parse(&v6).expect("IPv6"), Ipv4::parse(&v4).expect("IPv4"));
    v4.splice(..0, [0; GROWTH]);
    [
        arm("NAT64 6 to 4".into(), LEN, fill(v6.clone()), move |buffers| {
            for buffer in buffers {
                let range = translate_v6_to_v4(&mapping, &limits, black_box(buffer), 0..LEN, 7);
                assert_eq!(range, Ok(GROWTH..LEN));
            }
        }),
        arm("IPv4 header".into(), LEN, fill(v6), move |buffers| {
            for buffer in buffers {
                black_box(header4).emit(&mut black_box(buffer)[GROWTH..]).expect("room");
            }
        }),
        arm("NAT64 4 to 6".into(), GROWTH + LEN, fill(v4.clone()), move |buffers| {
            for buffer in buffers {
                let range = GROWTH..GROWTH + LEN;
                let whole = translate_v4_to_v6(&mapping, &limits, black_box(buffer), range);
                assert_eq!(whole, Ok(Translated::Whole(0..GROWTH + LEN)));
            }
        }),
        arm("IPv6 header".into(), GROWTH + LEN, fill(v4), move |buffers| {
            for buffer in buffers {
                black_box(header6).emit(black_box(buffer)).expect("room");
                let sum = checksum::of(&buffer[..ipv6::HEADER_LEN]);
                buffer[ipv6::HEADER_LEN + tcp::CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
            }
        }),
    ]
}

/// A query for AAAA and its answer through the forwarder: made from an A record, and passed on.
fn dns64() -> [Arm; 2] {
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 53);
    let made = ("synthesised", "corp", dns::kind::A, &[10, 77, 0, 80][..]);
    let passed = ("passed on", "else", dns::kind::AAAA, &[0x20; 16][..]);
    [made, passed].map(|(how, domain, asked, address)| {
        let message = |flags: u16, kind: u16, answers: &[u8]| {
            let header =
                [&[0, 1][..], &flags.to_be_bytes(), &[0, 1, 0, u8::from(!answers.is_empty()), 0, 0, 0, 0]];
            let name = [b"\x03www\x04", domain.as_bytes(), b"\x07example\0"].concat();
            [&header.concat(), &name, &kind.to_be_bytes()[..], &dns::IN.to_be_bytes(), answers].concat()
        };
        // The name by a pointer, type, IN, 300 s, length.
        let [len, kind] = [address.len() as u16, asked].map(u16::to_be_bytes);
        let record = [&[0xc0, 12], &kind[..], &[0, 1, 0, 0, 1, 44], &len, address].concat();
        let query = message(dns::RD, dns::kind::AAAA, &[]);
        let mut response = message(dns::QR | dns::RD | dns::RA, asked, &record);
        let answer_len = query.len() + 28;

        let mut forwarder = Forwarder::new(Box::new(SystemRandom::new()));
        let suffixes = vec![Suffix::parse("corp.example").expect("a domain")];
        forwarder.set_dns64(Some(Dns64 { prefix: packets::prefix().octets(), suffixes }));
        forwarder.set_servers(&[SERVER]);
        let client = SocketAddrV4::new(packets::DEVICE, packets::DEVICE_PORT);
        arm(format!("DNS, AAAA {how}"), query.len(), fill(query), move |buffers| {
            for query in buffers {
                let transport = Transport::Udp(Pool::DEFAULT.host());
                forwarder.handle_query(NOW, client, transport, query).expect("a query");
                let Some(Output::ToServer { local_port, bytes, .. }) = forwarder.poll_output() else {
                    panic!("the server is asked");
                };
                response[..2].copy_from_slice(&bytes[..2]);
                forwarder.handle_response(SERVER, local_port, &response).expect("an answer");
                let Some(Output::ToClient { bytes, .. }) = black_box(forwarder.poll_output()) else {
                    panic!("the client is answered");
                };
                assert_eq!(bytes.len(), answer_len);
            }
        })
    })
}

/// Frames into TLS records: a turn's worth at once, as the daemon does it, and one record and write per frame.
fn tls_records() -> [Arm; 3] {
    let frame = || {
        let mut frame = packets::outbound(packets::DEVICE, 1354 + forti::DATA_HEADER_LEN, 0);
        let header = frame.first_chunk_mut().expect("long enough");
        forti::emit_header(header, ppp::protocol::IPV4, 1354);
        frame
    };
    let (len, key) = (frame().len(), CipherKey::new(Cipher::Aes256Gcm, &[0x17; 36]).expect("a key"));
    // The servers must outlive nothing: a client writes without them.
    let ((mut together, _), (mut alone, _)) = (tls::pair(), tls::pair());
    let (mut record, mut number) = (vec![0; RECORD], 0u64);
    [
        arm("TLS 32 frames at once".into(), len, fill(frame()), move |buffers| {
            for batch in buffers.chunks(BATCH) {
                let slices: Vec<IoSlice<'_>> = batch.iter().map(|frame| IoSlice::new(frame)).collect();
                assert_eq!(together.writer().write_vectored(&slices).expect("memory"), len * batch.len());
                while together.wants_write() {
                    together.write_tls(&mut Discard).expect("memory");
                }
            }
        }),
        arm("TLS one by one".into(), len, fill(frame()), move |buffers| {
            for frame in buffers {
                alone.writer().write_all(frame).expect("memory");
                while alone.wants_write() {
                    alone.write_tls(&mut Discard).expect("memory");
                }
            }
        }),
        arm("TLS by hand: copy and ring, 16 KiB".into(), len, fill(frame()), move |buffers| {
            let (mut iv, mut tag) = ([0; 8], [0; packets::TAG]);
            let mut filled = 0;
            for mut frame in buffers.iter().map(Vec::as_slice) {
                while !frame.is_empty() {
                    let (piece, rest) = frame.split_at(frame.len().min(RECORD - filled));
                    record[filled..filled + piece.len()].copy_from_slice(piece);
                    (filled, frame) = (filled + piece.len(), rest);
                    if filled == RECORD {
                        number += 1;
                        key.seal(number, &[0; 5], &mut iv, &mut record, &mut tag).expect("sealed");
                        black_box(tag);
                        filled = 0;
                    }
                }
            }
            number += 1;
            key.seal(number, &[0; 5], &mut iv, &mut record[..filled], &mut tag).expect("sealed");
            black_box(tag);
        }),
    ]
}

/// Takes all and keeps nothing.
struct Discard;

impl Write for Discard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| black_box(slice).len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packets to another thread and back, by 32 and one by one, over the queue that the workers have.
fn hand_off() -> [Arm; 2] {
    [("hand-off 32 at once", BATCH), ("hand-off one by one", 1)].map(|(name, batch)| {
        let arm: Arm = (name.into(), Box::new(move || median(HAND_OFFS, || stream_through(batch))));
        arm
    })
}

/// Nanoseconds per packet from the first push until the other thread has given all batches back.
fn stream_through(batch: usize) -> f64 {
    const COUNT: usize = 32 * 512;
    let (jobs, done) = (ArrayQueue::<Box<usize>>::new(16), ArrayQueue::<Box<usize>>::new(17));
    let start = support::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = 0;
            while seen < COUNT {
                match jobs.pop() {
                    Some(job) => {
                        seen += *job;
                        let _ = done.push(job);
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        let mut free: Vec<Box<usize>> = (0..16).map(|_| Box::new(batch)).collect();
        let (mut sent, mut back) = (0, 0);
        while back < COUNT {
            while sent < COUNT
                && let Some(job) = free.pop()
            {
                sent += batch;
                jobs.push(job).expect("room for all jobs");
            }
            match done.pop() {
                Some(job) => {
                    back += batch;
                    free.push(job);
                }
                None => std::thread::yield_now(),
            }
        }
    });
    start.elapsed().as_nanos() as f64 / COUNT as f64
}
