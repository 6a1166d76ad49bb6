//! The reading end of a capture that comes over the control socket.

use crate::wire::pcapng::{self, Block};

use super::tap::SIDES;

/// Follows a capture as it comes: counts packets, and gives whole blocks only, so that what is written can be read,
/// however the capture ends.
#[derive(Debug, Default)]
pub struct Follower {
    bytes: Vec<u8>,
    /// Octets at the front of `bytes` that were given.
    given: usize,
    packets: u64,
    lost: u64,
    statistics: usize,
}

impl Follower {
    /// More bytes came; gives the blocks that are whole now. An error if this is no capture.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<&[u8], crate::wire::Malformed> {
        self.bytes.drain(..std::mem::take(&mut self.given));
        self.bytes.extend_from_slice(bytes);
        while let Some((block, len)) = pcapng::parse_block(self.bytes.get(self.given..).unwrap_or_default())?
        {
            self.given += len;
            match block {
                Block::Packet => self.packets += 1,
                Block::Statistics { dropped } => {
                    self.lost += dropped;
                    self.statistics += 1;
                }
                Block::Other => {}
            }
        }
        Ok(self.bytes.get(..self.given).unwrap_or_default())
    }

    /// Packets that came, and those that were lost before.
    pub fn counts(&self) -> (u64, u64) {
        (self.packets, self.lost)
    }

    /// True if the capture ended in order: there are the statistics of all its interfaces.
    pub fn is_finished(&self) -> bool {
        self.statistics == SIDES.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::pcapng::{Heading, Packet, Statistics};

    #[test]
    fn whole_blocks_come_through_however_they_are_cut() {
        let mut sent = Vec::new();
        pcapng::emit_section(&mut sent, "test");
        for dropped in [0, 3] {
            let (time, heading) = (Duration::ZERO, Heading::Inbound);
            pcapng::emit_packet(
                &mut sent,
                &Packet { interface: 0, time, heading, dropped, bytes: &[1; 1400] },
            );
        }
        let packets = sent.len();
        for interface in 0..2 {
            let (start, stop) = (Duration::ZERO, Duration::ZERO);
            let statistics =
                Statistics { interface, start, stop, received: 0, dropped: 2 + u64::from(interface) };
            pcapng::emit_statistics(&mut sent, &statistics);
        }
        for step in [1, 7, 1000, sent.len()] {
            let (mut follower, mut got) = (Follower::default(), Vec::new());
            for piece in sent.chunks(step) {
                got.extend_from_slice(follower.feed(piece).unwrap());
                assert_eq!(follower.is_finished(), got.len() == sent.len());
            }
            assert_eq!((&got, follower.counts()), (&sent, (2, 5)));
        }
        let mut follower = Follower::default();
        assert!(follower.feed(&sent[..packets - 1]).unwrap().len() < packets - 1400);
        assert_eq!((follower.counts(), follower.is_finished()), ((1, 0), false));
        assert!(Follower::default().feed(&[0; 64]).is_err());
    }
}
