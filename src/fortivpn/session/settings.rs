//! New settings for a session that runs already: they are for the next sign-in.

use super::{Config, Session, State};

/// Settings that wait for the next sign-in.
pub(super) struct Next {
    config: Config,
    /// The credentials in it are others than before: what was refused or used up is forgotten.
    credentials: bool,
}

impl Session {
    /// A sign-in that is under way goes on as it began.
    pub(super) fn take_settings(&mut self, config: Config, credentials: bool) {
        let credentials = credentials || self.next.as_ref().is_some_and(|next| next.credentials);
        self.next = Some(Next { config, credentials });
        if matches!(self.state, State::Idle | State::Failed | State::Stopped | State::Tunnel { .. }) {
            self.use_settings();
        }
    }

    /// A sign-in is about to begin.
    pub(super) fn use_settings(&mut self) {
        let Some(Next { mut config, credentials }) = self.next.take() else { return };
        if credentials {
            self.sign_in.replace_credentials(&mut config.credentials);
        } else {
            config.credentials = self.config.credentials.clone();
        }
        (config.host, config.port) = (std::mem::take(&mut self.config.host), self.config.port);
        self.config = config;
    }
}
