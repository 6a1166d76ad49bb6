//! TCP connects under way: the sockets of a [`Race`].

use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::connect::{LANES, Race};
use super::ended::Ended;
use crate::fortivpn::CloseReason;

/// Writes that stay unacknowledged for this long end the connection.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(25);

/// Connects to whichever address answers first.
#[derive(Debug)]
pub struct Dialer {
    race: Race,
    sockets: [Option<TcpStream>; LANES],
    /// What the poll calls the socket of the first lane.
    first_token: Token,
    connected: Option<usize>,
    /// Why the last address failed.
    failure: CloseReason,
}

impl Dialer {
    /// A dialer that has not begun. Its sockets have the tokens from `first_token` on.
    pub fn new(race: Race, first_token: Token) -> Self {
        let failure = CloseReason::Resolve("the name has no address".into());
        Self { race, sockets: Default::default(), first_token, connected: None, failure }
    }

    /// What came after TCP failed at the address that was connected: the others are tried.
    pub fn handle_failed(&mut self, reason: CloseReason) {
        self.failure = reason;
    }

    /// A socket is ready.
    pub fn handle_event(&mut self, token: Token) {
        let lane = token.0.wrapping_sub(self.first_token.0);
        let Some(socket) = self.sockets.get(lane).and_then(Option::as_ref) else { return };
        let result = match socket.take_error() {
            Ok(None) => socket.peer_addr().map(drop),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match result {
            Ok(()) => self.connected = self.connected.or(Some(lane)),
            // An event of an earlier socket: this one is still connecting.
            Err(error)
                if error.kind() == std::io::ErrorKind::NotConnected
                    || error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => self.drop_lane(lane, Ended::Io(error).close_reason(false)),
        }
    }

    /// Goes on. The connection or, when every address has failed, why the last one did.
    pub fn poll(
        &mut self,
        now: Duration,
        registry: &Registry,
    ) -> Option<Result<(TcpStream, SocketAddr), CloseReason>> {
        if let Some(lane) = self.connected.take()
            && let Some(stream) = self.sockets.get_mut(lane).and_then(Option::take)
            && let Some(address) = self.race.handle_connected(lane)
        {
            self.sockets = Default::default();
            tune(&stream);
            return Some(Ok((stream, address)));
        }
        while let Some(lane) = self.race.poll_expired(now) {
            self.drop_lane(lane, CloseReason::Timeout);
        }
        while let Some((lane, address)) = self.race.poll_start(now) {
            log::debug!("connecting to {address}");
            let token = Token(self.first_token.0 + lane);
            let connecting = TcpStream::connect(address).and_then(|mut stream| {
                registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                Ok(stream)
            });
            match (connecting, self.sockets.get_mut(lane)) {
                (Ok(stream), Some(socket)) => *socket = Some(stream),
                (Err(error), _) => self.drop_lane(lane, Ended::Io(error).close_reason(false)),
                (Ok(_), None) => {}
            }
        }
        self.race.is_lost().then(|| Err(self.failure.clone()))
    }

    /// When `poll` has something to do without an event.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.race.poll_timeout()
    }

    fn drop_lane(&mut self, lane: usize, reason: CloseReason) {
        log::debug!("{reason}");
        self.failure = reason;
        self.race.handle_failed(lane);
        if let Some(socket) = self.sockets.get_mut(lane) {
            *socket = None;
        }
    }
}

/// Small packets leave at once; a dead path is noticed.
fn tune(stream: &TcpStream) {
    // None of these options is needed to work; systems without one do without.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60));
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}
