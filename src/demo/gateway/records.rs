//! The TLS records of a tunnel: rustls makes them, until records are wanted that rustls does not make. Then its keys
//! are taken over, and records are made here (RFC 5246, RFC 5288, RFC 7905, RFC 8446).

use std::io::{self, Read, Write};

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion, ServerConnection};

use super::frame::Deframer;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEADER: usize = 5;
const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// A record's plaintext.
const LIMIT: usize = 16 * 1024;

/// One TLS connection after its handshake.
pub(super) struct Records {
    maker: Option<Maker>,
    /// The start of a record whose rest is still to come.
    partial: Vec<u8>,
}

enum Maker {
    Rustls(Box<ServerConnection>),
    Own(Box<Own>),
}

impl Records {
    pub fn new(tls: ServerConnection) -> Self {
        Self { maker: Some(Maker::Rustls(Box::new(tls))), partial: Vec::new() }
    }

    /// Takes octets from the socket; what was in the records goes to `deframer`. False when the client has closed.
    pub fn receive(&mut self, bytes: &[u8], deframer: &mut Deframer) -> io::Result<bool> {
        let joined;
        let mut rest = if self.partial.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.partial).as_slice(), bytes].concat();
            &joined
        };
        let mut open = true;
        while let Some(len) = record_len(rest) {
            let (record, others) = rest.split_at(len);
            rest = others;
            open &= match &mut self.maker {
                Some(Maker::Rustls(tls)) => receive_by_rustls(tls, record, deframer)?,
                Some(Maker::Own(own)) => own.receive(record, deframer)?,
                None => false,
            };
        }
        self.partial = rest.to_vec();
        Ok(open)
    }

    /// Makes records of `bytes`: one, unless they are too many.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.maker {
            Some(Maker::Rustls(tls)) => tls.writer().write_all(bytes),
            Some(Maker::Own(own)) => {
                bytes.chunks(LIMIT).try_for_each(|part| own.seal(APPLICATION_DATA, part))
            }
            None => Ok(()),
        }
    }

    pub fn wants_write(&self) -> bool {
        match &self.maker {
            Some(Maker::Rustls(tls)) => tls.wants_write(),
            Some(Maker::Own(own)) => !own.out.is_empty(),
            None => false,
        }
    }

    /// Writes what there is, once.
    pub fn write_to(&mut self, socket: &mut impl Write) -> io::Result<()> {
        match &mut self.maker {
            Some(Maker::Rustls(tls)) => tls.write_tls(socket).map(drop),
            Some(Maker::Own(own)) => {
                let len = socket.write(&own.out)?;
                own.out.drain(..len);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub fn send_close_notify(&mut self) -> io::Result<()> {
        match &mut self.maker {
            Some(Maker::Rustls(tls)) => {
                tls.send_close_notify();
                Ok(())
            }
            Some(Maker::Own(own)) => own.seal(ALERT, &CLOSE_NOTIFY),
            None => Ok(()),
        }
    }

    /// A TLS 1.3 KeyUpdate; TLS 1.2 has no such thing.
    pub fn update_keys(&mut self) {
        if let Some(Maker::Rustls(tls)) = &mut self.maker {
            let _ = tls.refresh_traffic_keys();
        }
    }

    /// A fatal alert.
    pub fn send_alert(&mut self, description: u8) -> io::Result<()> {
        self.own()?.seal(ALERT, &[2, description])
    }

    /// A record of application data with nothing in it.
    pub fn send_empty(&mut self) -> io::Result<()> {
        self.own()?.seal(APPLICATION_DATA, &[])
    }

    /// A HelloRequest of TLS 1.2 (RFC 5246, section 7.4.1.1); nothing with TLS 1.3, which has none.
    pub fn send_hello_request(&mut self) -> io::Result<()> {
        let own = self.own()?;
        if own.tls13 { Ok(()) } else { own.seal(HANDSHAKE, &[0; 4]) }
    }

    /// Takes the keys over from rustls.
    fn own(&mut self) -> io::Result<&mut Own> {
        self.maker = match self.maker.take() {
            Some(Maker::Rustls(mut tls)) => {
                let mut out = Vec::new();
                while tls.wants_write() {
                    tls.write_tls(&mut out)?;
                }
                let tls13 = tls.protocol_version() == Some(ProtocolVersion::TLSv1_3);
                let secrets = tls.dangerous_extract_secrets().map_err(io::Error::other)?;
                let (tx, rx) = (Direction::new(&secrets.tx)?, Direction::new(&secrets.rx)?);
                Some(Maker::Own(Box::new(Own { tls13, tx, rx, out })))
            }
            other => other,
        };
        match &mut self.maker {
            Some(Maker::Own(own)) => Ok(own),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// The length of the whole record at the front, if it is there.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let &[_, _, _, l0, l1] = bytes.first_chunk::<HEADER>()?;
    let len = HEADER + usize::from(u16::from_be_bytes([l0, l1]));
    (bytes.len() >= len).then_some(len)
}

fn receive_by_rustls(
    tls: &mut ServerConnection,
    mut record: &[u8],
    deframer: &mut Deframer,
) -> io::Result<bool> {
    let mut open = true;
    let mut buffer = [0; LIMIT];
    while !record.is_empty() {
        tls.read_tls(&mut record)?;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        open &= !state.peer_has_closed();
        let mut rest = state.plaintext_bytes_to_read();
        while rest > 0 {
            let len = tls.reader().read(&mut buffer[..rest.min(LIMIT)])?;
            deframer.extend(&buffer[..len]);
            rest = if len == 0 { 0 } else { rest - len };
        }
    }
    Ok(open)
}

/// Records made here.
struct Own {
    tls13: bool,
    tx: Direction,
    rx: Direction,
    out: Vec<u8>,
}

/// The key of one direction, and how many records it has seen.
struct Direction {
    key: LessSafeKey,
    iv: [u8; 12],
    /// AES-GCM, whose records in TLS 1.2 carry half of their nonce.
    gcm: bool,
    count: u64,
}

impl Direction {
    fn new((count, secrets): &(u64, ConnectionTrafficSecrets)) -> io::Result<Self> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(io::Error::other)?;
        let iv = iv.as_ref().try_into().map_err(io::Error::other)?;
        let gcm = *algorithm != aead::CHACHA20_POLY1305;
        Ok(Self { key: LessSafeKey::new(key), iv, gcm, count: *count })
    }

    /// The sequence number and the nonce of the next record.
    fn next(&mut self) -> ([u8; 8], [u8; 12]) {
        let number = self.count.to_be_bytes();
        self.count += 1;
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(number).for_each(|(octet, other)| *octet ^= other);
        (number, nonce)
    }
}

/// What TLS 1.2 authenticates beside the text.
fn aad12(number: [u8; 8], kind: u8, len: usize) -> Aad<Vec<u8>> {
    Aad::from([number.as_slice(), &[kind, 3, 3], &(len as u16).to_be_bytes()].concat())
}

impl Own {
    /// Appends a record of `kind` to the output.
    fn seal(&mut self, kind: u8, text: &[u8]) -> io::Result<()> {
        let (number, nonce) = self.tx.next();
        let mut body = text.to_vec();
        let (outer, aad, explicit) = if self.tls13 {
            body.push(kind);
            let len = (body.len() + aead::MAX_TAG_LEN) as u16;
            let header = [&[APPLICATION_DATA, 3, 3], len.to_be_bytes().as_slice()].concat();
            (APPLICATION_DATA, Aad::from(header), &[][..])
        } else {
            (kind, aad12(number, kind, text.len()), if self.tx.gcm { &nonce[4..] } else { &[][..] })
        };
        let nonce_of_key = Nonce::assume_unique_for_key(nonce);
        self.tx.key.seal_in_place_append_tag(nonce_of_key, aad, &mut body).map_err(io::Error::other)?;
        let len = (explicit.len() + body.len()) as u16;
        self.out.extend_from_slice(&[&[outer, 3, 3], len.to_be_bytes().as_slice(), explicit, &body].concat());
        Ok(())
    }

    /// Opens a record. False for close_notify; what else is no data is ignored.
    fn receive(&mut self, record: &[u8], deframer: &mut Deframer) -> io::Result<bool> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let (header, body) = record.split_first_chunk::<HEADER>().ok_or_else(broken)?;
        let (number, mut nonce) = self.rx.next();
        let mut kind = header[0];
        let (aad, mut body) = if self.tls13 {
            (Aad::from(header.to_vec()), body.to_vec())
        } else {
            let mut body = body;
            if self.rx.gcm {
                let (explicit, rest) = body.split_first_chunk::<8>().ok_or_else(broken)?;
                nonce[4..].copy_from_slice(explicit);
                body = rest;
            }
            let len = body.len().checked_sub(aead::MAX_TAG_LEN).ok_or_else(broken)?;
            (aad12(number, kind, len), body.to_vec())
        };
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut text = &*self.rx.key.open_in_place(nonce, aad, &mut body).map_err(|_| broken())?;
        if self.tls13 {
            let end = text.iter().rposition(|octet| *octet != 0).ok_or_else(broken)?;
            (kind, text) = (text[end], &text[..end]);
        }
        match kind {
            APPLICATION_DATA => deframer.extend(text),
            ALERT => return Ok(text != CLOSE_NOTIFY && text.first() != Some(&2)),
            _ => {}
        }
        Ok(true)
    }
}
