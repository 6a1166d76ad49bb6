//! A blocking TCP connection through the tunnel.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use super::ProbeError;
use super::client::inner;
use super::shared::{Core, Shared};

/// A TCP connection through the tunnel. `&Stream` reads and writes too, so two threads can share one. Dropping it
/// closes the connection in good order.
pub struct Stream {
    shared: Arc<Shared>,
    handle: SocketHandle,
}

impl Stream {
    pub(super) fn connect(shared: &Arc<Shared>, to: SocketAddr, buffer: usize) -> Result<Self, ProbeError> {
        let handle = shared.lock().stack.connect(to, buffer).ok_or(inner("no TCP socket"))?;
        let stream = Self { shared: shared.clone(), handle };
        let open =
            shared.wait(shared.timeout, "a TCP connection", |core| match stream.socket(core).state() {
                tcp::State::SynSent | tcp::State::SynReceived => None,
                tcp::State::Closed => Some(false),
                _ => Some(true),
            })?;
        if open { Ok(stream) } else { Err(ProbeError::Inner(format!("{to} refused the connection"))) }
    }

    fn socket<'a>(&self, core: &'a mut Core) -> &'a mut tcp::Socket<'static> {
        core.stack.sockets.get_mut::<tcp::Socket>(self.handle)
    }

    /// Says that nothing more will be written (FIN); reading goes on.
    pub fn shutdown_write(&self) {
        let mut core = self.shared.lock();
        self.socket(&mut core).close();
        core.pump();
    }
}

/// Errors of the connection as `std::io` has them.
fn io_error(error: ProbeError) -> io::Error {
    match error {
        ProbeError::Timeout(_) => ErrorKind::TimedOut.into(),
        ProbeError::Closed => ErrorKind::NotConnected.into(),
        other => io::Error::other(other),
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = |core: &mut Core| match self.socket(core).recv_slice(buf) {
            Ok(0) if !buf.is_empty() => None,
            Ok(count) => Some(Ok(count)),
            Err(tcp::RecvError::Finished) => Some(Ok(0)),
            Err(tcp::RecvError::InvalidState) => Some(Err(ErrorKind::ConnectionReset.into())),
        };
        self.shared.wait(self.shared.timeout, "TCP data", read).map_err(io_error)?
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let write = |core: &mut Core| match self.socket(core).send_slice(buf) {
            Ok(0) if !buf.is_empty() => None,
            Ok(count) => Some(Ok(count)),
            Err(_) => Some(Err(ErrorKind::ConnectionReset.into())),
        };
        self.shared.wait(self.shared.timeout, "room to write", write).map_err(io_error)?
    }

    /// Waits until the peer has acknowledged everything.
    fn flush(&mut self) -> io::Result<()> {
        let flushed = |core: &mut Core| {
            let socket = self.socket(core);
            (socket.send_queue() == 0 || !socket.is_active()).then_some(())
        };
        self.shared.wait(self.shared.timeout, "acknowledgements", flushed).map_err(io_error)
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        core.stack.close(self.handle);
        core.pump();
    }
}
