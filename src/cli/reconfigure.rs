//! The daemon's side of `reload`: reads the configuration again, in a thread where files may take their time.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Receiver;

use crate::engine::{NewSignIn, ReloadRequest, Reloader, Update};

use super::args::{Command, Invocation};
use super::changes::{Changes, Known};
use super::ikev2;
use super::logging;
use super::settings::{self, Error, Faults, Loaded};

/// What a running daemon was started with.
#[derive(Debug)]
pub struct Reconfigurer {
    /// What was typed, before the configuration file came to it.
    pub typed: Vec<OsString>,
    /// What was on standard input, for the one option that has read it.
    pub stdin: ikev2::Stdin,
    /// What holds now.
    pub known: Known,
}

impl Reconfigurer {
    /// Serves `requests` in a thread that ends with the daemon.
    pub fn start(
        mut self,
        requests: Receiver<ReloadRequest>,
        reloader: Reloader,
    ) -> io::Result<JoinHandle<()>> {
        let serve = move || {
            for request in requests {
                let outcome = self.read().map(Box::new);
                reloader.finish(request, outcome);
            }
        };
        thread::Builder::new().name("reload".to_owned()).spawn(serve)
    }

    /// Reads everything again. Until all of it is known to be good nothing changes.
    fn read(&mut self) -> Result<Update, String> {
        let invocation = super::read_command_line(self.typed.clone())?;
        let Invocation { log_level, command: Command::Ikev2(args), options } = invocation else {
            return Err("the configuration is not one of ikev2 any more".to_owned());
        };
        self.stdin.check(&args)?;
        let system = ikev2::system();
        let Loaded { config, contents, warnings } = settings::load(&args, &system, self.stdin.content())
            .map_err(|faults| format!("{faults}{}", hint(system.credentials.as_deref(), &faults)))?;
        let known = Known { options, contents };
        let changes = Changes::between(&self.known, &known);
        let mut update = Update {
            text: changes.describe(&config, &known.options),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            identity: config.identity,
            split: config.split,
            sign_in: changes.of_sign_in().then_some(NewSignIn {
                config: config.uplink,
                credentials_changed: changes.of_credentials(),
                aids: config.sign_in,
                otp_changed: changes.of("otp"),
            }),
            way: None,
        };
        if changes.of_way() {
            update.set_transport(config.transport).map_err(|error| format!("cannot set up TLS: {error}"))?;
        }
        // Opened anew also where nothing has changed: the file may have been moved away.
        logging::set_file(args.log_file.as_deref())?;
        logging::set_level(log_level);
        self.known = changes.settle(&self.known, known);
        Ok(update)
    }
}

/// systemd hands over a new key only to a new process, and the certificate is there already.
fn hint(credentials: Option<&Path>, faults: &Faults) -> &'static str {
    let key = match faults.faults.first() {
        Some(
            Error::KeyMismatch { option: "--key", key: path, .. }
            | Error::Unusable { option: "--key", path, .. }
            | Error::Unreadable { option: "--key", path, .. },
        ) => path,
        _ => return "",
    };
    if credentials.is_some_and(|directory| key.starts_with(directory)) {
        "; systemd hands over a new key only at a restart: systemctl restart pterodapter"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_only_a_restart_brings_is_explained() {
        let fault = |option, key: &str| {
            let (key, cert) = (key.into(), "c".into());
            let mismatch = Error::KeyMismatch { option, key, cert, fits: None };
            Faults { faults: vec![mismatch], warnings: Vec::new() }
        };
        let run = Some(Path::new("/run/credentials/x"));
        for (credentials, option, key, expected) in [
            (run, "--key", "/run/credentials/x/server.key", true),
            (run, "--key", "/etc/server.key", false),
            (None, "--key", "/run/credentials/x/server.key", false),
            (run, "--user-key", "/run/credentials/x/user.key", false),
        ] {
            let hint = hint(credentials, &fault(option, key));
            assert_eq!(hint.contains("systemctl restart"), expected, "{key} {option}");
        }
    }
}
