//! A configuration that is read again while the daemon runs.
//!
//! Whoever asks for it, by a signal or over the control socket, asks the event loop, so that there is one order of
//! things. The loop passes the request on to whoever can read files ([`Config::reload`](super::Config::reload)), and
//! takes what comes back through [`Reloader::finish`].

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::fortivpn;
use crate::ike::Identity;

use super::control::Ticket;
use super::uplink::Way;
use super::worker::LoopWaker;
use super::{SignIn, Split, Transport};

/// Requests and results that may wait.
pub(super) const WAITING: usize = 16;

/// Somebody wants the configuration to be read again.
#[derive(Debug)]
pub struct ReloadRequest {
    /// Who waits for the outcome.
    pub(super) asked_by: Option<Ticket>,
}

/// What a running daemon takes of a configuration. The rest needs a restart.
#[derive(Debug)]
pub struct Update {
    /// Who we are and whom we let in, at once.
    pub identity: Identity,
    /// What takes the tunnel, at once. The NAT64 prefix stays what it is.
    pub split: Split,
    /// For the next sign-in.
    pub sign_in: Option<NewSignIn>,
    /// For the next connection to the gateway.
    pub way: Option<Way>,
    /// What has changed, in lines for people.
    pub text: String,
    /// What works, but deserves a look.
    pub warnings: Vec<String>,
}

/// How to sign in the next time. The gateway stays what it is.
#[derive(Debug)]
pub struct NewSignIn {
    /// Who we are at the gateway.
    pub config: fortivpn::Config,
    /// Its credentials are others than before; what was refused is not sent again otherwise.
    pub credentials_changed: bool,
    /// The code and the programs that help.
    pub aids: SignIn,
    /// The code is another one than before; one that was used is not sent again otherwise.
    pub otp_changed: bool,
}

impl Update {
    /// Takes another way to the gateway.
    ///
    /// # Errors
    /// TLS cannot be set up like this.
    pub fn set_transport(&mut self, transport: Transport) -> Result<(), rustls::Error> {
        self.way = Some(Way::new(transport)?);
        Ok(())
    }
}

/// What the loop hears about reloading.
#[derive(Debug)]
pub(super) enum Reloading {
    /// A signal asks for it.
    Asked,
    /// The configuration was read, or why it will not do.
    Read(ReloadRequest, Result<Box<Update>, String>),
}

/// Lets a daemon have its configuration read again. Can be cloned and sent to where that is wanted or done.
#[derive(Clone, Debug)]
pub struct Reloader {
    pub(super) to_loop: Sender<Reloading>,
    pub(super) waker: Arc<LoopWaker>,
}

impl Reloader {
    /// Asks for it. Returns at once; the log has the outcome.
    pub fn ask(&self) {
        // As many as may wait are still to be done: they will read what is there now.
        let _ = self.to_loop.try_send(Reloading::Asked);
        self.waker.wake();
    }

    /// Ends a request: with what to apply, or with why nothing changes.
    pub fn finish(&self, request: ReloadRequest, outcome: Result<Box<Update>, String>) {
        // Fails only where the loop has ended. It never waits for us, so there will be room.
        let _ = self.to_loop.send(Reloading::Read(request, outcome));
        self.waker.wake();
    }
}
