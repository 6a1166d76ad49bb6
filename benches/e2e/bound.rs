//! What cannot be done without: each component alone, in the cheapest form known, over as many packets as a burst has.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use pterodapter::crypto::cipher::CipherKey;
use pterodapter::crypto::{Cipher, SystemRandom};
use pterodapter::engine::Pool;
use pterodapter::nat::Flows;

use crate::sockets::{self, Batched, Segmented, TRAIN};
use crate::support::Run;
use crate::support::packets::{self, DEVICE, ESP_HEAD, EXTERNAL, TAG, sealed_len};
use crate::support::thread_cpu;
use crate::{BURST, FRAME, LEN, TLS_PIECE};

const NOW: Duration = Duration::from_secs(1000);
const WRITE: usize = 64 << 10;
const READ: usize = 128 << 10;
/// Datagrams of the largest GSO send.
const SEGMENTS: usize = 45;
/// Octets of ESP that are encrypted.
const CIPHERTEXT: usize = sealed_len(LEN) - ESP_HEAD;

pub struct Bound {
    key: CipherKey,
    flows: Flows,
    batched: Batched,
    segmented: Segmented,
    plain: UdpSocket,
    near: TcpStream,
    far: TcpStream,
}

impl Bound {
    pub fn new() -> io::Result<Self> {
        let mut flows = Flows::new(32_768, Pool::DEFAULT.host(), &mut SystemRandom::new());
        flows.set_external(Some(EXTERNAL));
        let (near, far) = sockets::tcp()?;
        Ok(Self {
            key: CipherKey::new(Cipher::Aes256Gcm, &[0x17; 36]).map_err(io::Error::other)?,
            flows,
            batched: Batched::new(sockets::udp()?)?,
            segmented: Segmented::new(sockets::udp()?)?,
            plain: sockets::udp()?,
            near,
            far,
        })
    }

    /// Measures all components once and records them and their sums.
    pub fn measure(&mut self, run: &mut Run) -> io::Result<()> {
        let mut record = |name: &str, cpu: Duration| {
            let value = cpu.as_nanos() as f64 / BURST as f64;
            run.record(&format!("part: {name}"), value);
            value
        };
        let open = record("ring open", self.open(&[CIPHERTEXT; BURST])?);
        let seal = record("ring seal", self.seal(CIPHERTEXT - TAG, BURST, false)?);
        let [out, inbound] = self.translate()?;
        let (out, inbound) = (record("NAT44 outbound", out), record("NAT44 inbound", inbound));
        let records = (BURST * FRAME).div_ceil(TLS_PIECE);
        let tls_seal = record("TLS seal, 16 KiB", self.seal(TLS_PIECE, records, true)?);
        let tls_open = record("TLS open, 16 KiB", self.open(&vec![TLS_PIECE + TAG; records])?);
        let short_open = record("TLS open, short records", self.open(&[FRAME + TAG; BURST])?);
        let write = record("TCP write, 64 KiB", self.write()?);
        let read = record("TCP read, 128 KiB", self.read()?);
        let copy = record("copy", copy());
        let send = record("UDP send, GSO 45", self.send()?);
        let single = record("UDP receive, single", self.receive(1)?);
        let trains = record("UDP receive, trains of 16", self.receive(TRAIN)?);
        run.record("up, single: bound", single + open + out + tls_seal + write);
        run.record("up, trains: bound", trains + open + out + tls_seal + write);
        run.record("down: bound", read + tls_open + inbound + copy + seal + send);
        run.record("down, short records: bound", read + short_open + inbound + copy + seal + send);
        Ok(())
    }

    fn seal(&self, len: usize, count: usize, copied: bool) -> io::Result<Duration> {
        let mut buffers = vec![vec![0x5a; len]; 64];
        let source = vec![0x5a; len];
        let start = thread_cpu();
        for number in 0..count {
            let buffer = &mut buffers[number % 64];
            if copied {
                buffer.copy_from_slice(black_box(&source));
            }
            let (mut iv, mut tag) = ([0; 8], [0; TAG]);
            self.key.seal(number as u64, &[0; 8], &mut iv, buffer, &mut tag).map_err(io::Error::other)?;
            black_box(tag);
        }
        Ok(thread_cpu() - start)
    }

    fn open(&self, lens: &[usize]) -> io::Result<Duration> {
        let mut total = Duration::ZERO;
        // As many at a time as stay in the cache.
        for lens in lens.chunks(64) {
            let mut buffers: Vec<Vec<u8>> = lens.iter().map(|len| vec![0x5a; *len]).collect();
            let mut iv = [0; 8];
            for buffer in &mut buffers {
                let (body, tag) = buffer.split_last_chunk_mut::<{ TAG }>().ok_or(io::ErrorKind::Other)?;
                self.key.seal(7, &[0; 8], &mut iv, body, tag).map_err(io::Error::other)?;
            }
            let start = thread_cpu();
            for buffer in &mut buffers {
                black_box(self.key.open(&iv, &[0; 8], buffer).map_err(io::Error::other)?);
            }
            total += thread_cpu() - start;
        }
        Ok(total)
    }

    fn translate(&mut self) -> io::Result<[Duration; 2]> {
        let mut outbound = vec![packets::outbound(DEVICE, LEN, 0); 64];
        let mut inbound = vec![packets::inbound(LEN, 0); 64];
        let template = [outbound[0].clone(), inbound[0].clone()];
        let mut total = [Duration::ZERO; 2];
        for _ in 0..BURST / 64 {
            let start = thread_cpu();
            for packet in &mut outbound {
                self.flows.translate_outbound(NOW, packet).map_err(|r| io::Error::other(r.name()))?;
            }
            let middle = thread_cpu();
            for packet in &mut inbound {
                self.flows.translate_inbound(NOW, packet).map_err(|r| io::Error::other(r.name()))?;
            }
            total[0] += middle - start;
            total[1] += thread_cpu() - middle;
            outbound.iter_mut().for_each(|packet| packet.copy_from_slice(&template[0]));
            inbound.iter_mut().for_each(|packet| packet.copy_from_slice(&template[1]));
        }
        Ok(total)
    }

    /// The reader takes its turn in between and is not timed: memory stays warm, and nobody has to be woken.
    fn write(&mut self) -> io::Result<Duration> {
        let mut bytes = vec![0x5a; BURST * FRAME];
        let mut total = Duration::ZERO;
        for piece in bytes.chunks_mut(WRITE) {
            let start = thread_cpu();
            self.near.write_all(piece)?;
            total += thread_cpu() - start;
            self.far.read_exact(piece)?;
        }
        Ok(total)
    }

    fn read(&mut self) -> io::Result<Duration> {
        // The kernel's buffers take all of it.
        self.far.write_all(&vec![0x5a; BURST * FRAME])?;
        let (mut buffer, mut rest) = (vec![0; READ], BURST * FRAME);
        let start = thread_cpu();
        while rest > 0 {
            rest -= self.near.read(&mut buffer)?;
        }
        Ok(thread_cpu() - start)
    }

    fn send(&mut self) -> io::Result<Duration> {
        let (to, size) = (self.plain.local_addr()?, sealed_len(LEN));
        let bytes = vec![0x5a; SEGMENTS * size];
        let mut rest = BURST;
        let start = thread_cpu();
        while rest > 0 {
            let count = rest.min(SEGMENTS);
            self.segmented.send(to, &bytes[..count * size], size)?;
            rest -= count;
        }
        let cpu = thread_cpu() - start;
        sockets::drain(&self.plain, BURST).map(|_| cpu)
    }

    fn receive(&mut self, train: usize) -> io::Result<Duration> {
        let to = self.batched.socket.local_addr()?;
        let burst = vec![vec![0x5a; sealed_len(LEN)]; BURST];
        if train > 1 {
            self.segmented.send_trains(to, &burst, train)?;
        } else {
            for packet in &burst {
                self.plain.send_to(packet, to)?;
            }
        }
        let mut count = 0;
        let start = thread_cpu();
        while count < BURST {
            count += self.batched.receive()?;
        }
        Ok(thread_cpu() - start)
    }
}

fn copy() -> Duration {
    let source = vec![vec![0x5a; LEN]; 64];
    let mut slot = vec![vec![0; LEN]; 64];
    let start = thread_cpu();
    for number in 0..BURST {
        slot[number % 64].copy_from_slice(black_box(&source[number % 64]));
        black_box(&slot);
    }
    thread_cpu() - start
}
