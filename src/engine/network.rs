//! Notices that the network of this host has changed: another Wi-Fi, a cable, a route. Where the system does not tell,
//! a dead connection is still noticed, only later.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::sys;

/// Addresses and routes change many at a time: one change is told so long after the first of them.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// Watches addresses and routes. Times are monotonic.
#[derive(Debug)]
pub struct NetworkWatch {
    messages: Option<File>,
    tell_at: Option<Duration>,
}

impl NetworkWatch {
    /// Begins to watch. What the system does not allow is left out.
    pub fn open(registry: &Registry, token: Token) -> Self {
        let opened = sys::network_changes().and_then(|messages| {
            registry.register(&mut SourceFd(&messages.as_raw_fd()), token, Interest::READABLE)?;
            Ok(messages)
        });
        if let Err(error) = &opened {
            log::debug!("changes of the network are not noticed: {error}");
        }
        Self { messages: opened.ok(), tell_at: None }
    }

    /// The system has told something. What it is does not matter.
    pub fn handle_event(&mut self, now: Duration) {
        let Some(messages) = &mut self.messages else { return };
        let mut buffer = [0; 8192];
        loop {
            match messages.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Messages were lost: something has changed.
                Err(_) => {}
            }
            self.tell_at.get_or_insert(now + DEBOUNCE);
        }
    }

    /// When `poll_change` has something to tell.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.tell_at
    }

    /// True once for each change.
    pub fn poll_change(&mut self, now: Duration) -> bool {
        self.tell_at.take_if(|at| *at <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_messages_are_one_change() {
        let poll = mio::Poll::new().unwrap();
        let mut watch = NetworkWatch { messages: None, ..NetworkWatch::open(poll.registry(), Token(0)) };
        let socket = std::os::unix::net::UnixDatagram::pair().unwrap();
        socket.1.set_nonblocking(true).unwrap();
        watch.messages = Some(std::os::fd::OwnedFd::from(socket.1).into());
        let ms = Duration::from_millis;
        for at in [1000, 1200] {
            for _ in 0..3 {
                socket.0.send(b"a message").unwrap();
            }
            watch.handle_event(ms(at));
        }
        assert_eq!(watch.poll_timeout(), Some(ms(1500)));
        assert!(!watch.poll_change(ms(1499)));
        assert!(watch.poll_change(ms(1500)));
        assert!(!watch.poll_change(ms(3000)));
        assert_eq!(watch.poll_timeout(), None);
    }
}
