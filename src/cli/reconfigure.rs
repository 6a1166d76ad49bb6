//! The daemon's side of `reload`: reads the configuration again, in a thread where files may take their time.

use std::ffi::OsString;
use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Receiver;

use crate::engine::{NewSignIn, ReloadRequest, Reloader, Update};

use super::args::{Command, Ikev2Args, Invocation, Source};
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
        let Loaded { config, contents, warnings } =
            settings::load(&args, &ikev2::system(), self.stdin.content())
                .map_err(|faults| format!("{faults}{}", hint(&args, &faults)))?;
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
fn hint(args: &Ikev2Args, faults: &Faults) -> &'static str {
    match (faults.faults.first(), &args.key) {
        (Some(Error::KeyMismatch { option: "--key", .. }), Source::Credential(_)) => {
            "; systemd hands over a new key only at a restart: systemctl restart pterodapter"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_only_a_restart_brings_is_explained() {
        let args = |key: &str| {
            let argv = ["pterodapter", "ikev2", "--destination=a", "--cacert=a", "--cert=a", key];
            match super::super::args::parse(argv).unwrap().command {
                Command::Ikev2(args) => args,
                other => panic!("{other:?}"),
            }
        };
        let faults = |option| {
            let (key, cert) = ("k".into(), "c".into());
            Faults { faults: vec![Error::KeyMismatch { option, key, cert }], warnings: Vec::new() }
        };
        for (key, option, expected) in [
            ("--key=credential:server.key", "--key", true),
            ("--key=server.key", "--key", false),
            ("--key=credential:server.key", "--user-key", false),
        ] {
            let hint = hint(&args(key), &faults(option));
            assert_eq!(hint.contains("systemctl restart"), expected, "{key} {option}");
        }
    }
}
