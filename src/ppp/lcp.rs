//! The options of LCP (RFC 1661 section 6): MRU and magic number; everything else is rejected.

use super::Fault;
use super::negotiation::{Options, Verdict};
use crate::base::Random;
use crate::wire::ppp::{ConfigOption, emit_option, protocol};

const MRU: u8 = 1;
const MAGIC: u8 = 5;
/// The MRU where nobody negotiates one, and the smallest that is of use.
const DEFAULT_MRU: u16 = 1500;
const MIN_MRU: u16 = 576;
/// Equal magic numbers that are no accident.
const MAX_COLLISIONS: u8 = 4;

pub(super) struct Lcp {
    /// What we want to receive; `None` when the peer does not negotiate it.
    mru: Option<u16>,
    peer_mru: u16,
    magic: Option<u32>,
    collisions: u8,
}

impl Lcp {
    pub(super) fn new(mru: u16, rng: &mut dyn Random) -> Self {
        Self { mru: Some(mru), peer_mru: DEFAULT_MRU, magic: Some(random_magic(rng)), collisions: 0 }
    }

    /// Our magic number; 0 when it was rejected (RFC 1661 section 6.4).
    pub(super) fn magic(&self) -> u32 {
        self.magic.unwrap_or(0)
    }

    /// The largest packet for both directions.
    pub(super) fn mtu(&self) -> u16 {
        self.mru.unwrap_or(DEFAULT_MRU).min(self.peer_mru)
    }
}

fn random_magic(rng: &mut dyn Random) -> u32 {
    let mut bytes = [0; 4];
    rng.fill(&mut bytes);
    u32::from_be_bytes(bytes).max(1)
}

impl Options for Lcp {
    const PROTOCOL: u16 = protocol::LCP;

    fn emit(&self, out: &mut Vec<u8>) {
        if let Some(mru) = self.mru {
            emit_option(out, MRU, &mru.to_be_bytes());
        }
        if let Some(magic) = self.magic {
            emit_option(out, MAGIC, &magic.to_be_bytes());
        }
    }

    fn handle_nak(&mut self, option: ConfigOption<'_>, rng: &mut dyn Random) -> Result<(), Fault> {
        match (option.kind, option.value) {
            (MRU, [high, low]) => {
                let wanted = u16::from_be_bytes([*high, *low]).max(MIN_MRU);
                self.mru = self.mru.map(|mru| mru.min(wanted));
            }
            (MAGIC, _) => self.magic = self.magic.map(|_| random_magic(rng)),
            _ => {}
        }
        Ok(())
    }

    fn handle_reject(&mut self, option: ConfigOption<'_>) -> Result<(), Fault> {
        match option.kind {
            MRU => self.mru = None,
            MAGIC => self.magic = None,
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.peer_mru = DEFAULT_MRU;
    }

    fn judge(&mut self, option: ConfigOption<'_>, rng: &mut dyn Random) -> Result<Verdict, Fault> {
        Ok(match (option.kind, option.value) {
            (MRU, [high, low]) => match u16::from_be_bytes([*high, *low]) {
                mru if mru < MIN_MRU => Verdict::Nak(DEFAULT_MRU.to_be_bytes().to_vec()),
                mru => {
                    self.peer_mru = mru;
                    Verdict::Ack
                }
            },
            (MAGIC, [a, b, c, d]) => {
                let theirs = u32::from_be_bytes([*a, *b, *c, *d]);
                if theirs == 0 || Some(theirs) == self.magic {
                    self.collisions += 1;
                    if self.collisions > MAX_COLLISIONS {
                        return Err(Fault::Loopback);
                    }
                    Verdict::Nak(random_magic(rng).to_be_bytes().to_vec())
                } else {
                    Verdict::Ack
                }
            }
            _ => Verdict::Reject,
        })
    }
}
