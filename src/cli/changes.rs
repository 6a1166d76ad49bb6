//! What is different in a configuration that was read again, and what that takes. It knows values and digests, and
//! never says more than which option it is.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;

use crate::engine::Config;

use super::settings::{Contents, in_words};

/// Options by their long names, with the values that hold: given or default.
pub type Options = BTreeMap<String, Vec<OsString>>;

/// A configuration, as far as it can be compared with another.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What was typed or stands in the configuration file.
    pub options: Options,
    /// What the files have in them that options name.
    pub contents: Contents,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    AtOnce,
    NextSignIn,
    NextConnection,
    Restart,
}

/// An option that is not named here needs a restart.
fn effect(option: &str) -> Effect {
    match option {
        "cacert"
        | "cert"
        | "key"
        | "crl"
        | "ppk-file"
        | "id-hostname"
        | "allow-id"
        | "eap-users"
        | "eap-tls"
        | "psk-file"
        | "gateway-routes"
        | "tunnel-domain"
        | "dns64-tunnel-suffix"
        | "log-level"
        | "log-file" => Effect::AtOnce,
        "username"
        | "password-file"
        | "no-password"
        | "realm"
        | "otp"
        | "otp-command"
        | "no-push"
        | "renew-password"
        | "saml"
        | "cookie-file"
        | "host-check"
        | "check-virtual-desktop"
        | "login-hook"
        | "user-agent" => Effect::NextSignIn,
        "user-cert"
        | "user-key"
        | "gateway-ca"
        | "trusted-cert"
        | "sni"
        | "uplink-proxy"
        | "uplink-proxy-password-file"
        | "keepalive" => Effect::NextConnection,
        _ => Effect::Restart,
    }
}

/// Options of which each says who we are at the gateway.
const CREDENTIALS: [&str; 7] =
    ["username", "password-file", "no-password", "saml", "cookie-file", "user-cert", "user-key"];
/// Another gateway would get the new secrets only after a restart; this one must not.
const GATEWAY: &str = "destination";

/// The options that are different.
#[derive(Debug)]
pub struct Changes(Vec<(String, Effect)>);

impl Changes {
    /// From `old` to `new`. Where an option names a file, what is in it counts, not its name.
    pub fn between(old: &Known, new: &Known) -> Self {
        let is_changed = |option: &&String| {
            let option = option.as_str();
            match (old.contents.get(option), new.contents.get(option)) {
                (Some(old), Some(new)) => old != new,
                _ => old.options.get(option) != new.options.get(option),
            }
        };
        let all: BTreeSet<&String> = [old, new]
            .into_iter()
            .flat_map(|known| known.options.keys().chain(known.contents.keys()))
            .collect();
        let changed: Vec<&String> = all.into_iter().filter(is_changed).collect();
        let is_elsewhere = changed.iter().any(|option| *option == GATEWAY);
        let effect = |option: &str| match effect(option) {
            Effect::NextSignIn | Effect::NextConnection if is_elsewhere => Effect::Restart,
            effect => effect,
        };
        Self(changed.into_iter().map(|option| (option.clone(), effect(option))).collect())
    }

    /// `new`, but for what stays as it was in `old` until a restart: that will be a change the next time, too.
    pub fn settle(&self, old: &Known, mut new: Known) -> Known {
        for option in self.having(Effect::Restart) {
            put(&mut new.options, option, old.options.get(option));
            put(&mut new.contents, option, old.contents.get(option));
        }
        new
    }

    /// Something that matters for signing in.
    pub fn of_sign_in(&self) -> bool {
        self.having(Effect::NextSignIn).next().is_some() || self.of_credentials()
    }

    /// Who we are at the gateway.
    pub fn of_credentials(&self) -> bool {
        self.now_or_later().any(|option| CREDENTIALS.contains(&option))
    }

    /// The way to the gateway.
    pub fn of_way(&self) -> bool {
        self.having(Effect::NextConnection).next().is_some()
    }

    /// This option.
    pub fn of(&self, option: &str) -> bool {
        self.now_or_later().any(|changed| changed == option)
    }

    /// What to tell people, in lines.
    pub fn describe(&self, config: &Config, new: &Options) -> String {
        let line = |what: &str, effect, name: &dyn Fn(&str) -> Option<String>| {
            let names: Vec<String> = self.having(effect).filter_map(name).collect();
            (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
        };
        let option = |option: &str| Some(format!("--{option}"));
        let in_words = |option: &str| match option {
            "cert" => Some(in_words(&config.identity.credentials)),
            // With a new certificate it goes without saying.
            "key" if self.of("cert") => None,
            "key" => Some("key".to_owned()),
            "cacert" => Some(Authorities(config.identity.access.anchors.spki_hashes().len()).to_string()),
            "log-level" => {
                let level = new.get(option).and_then(|values| values.first());
                Some(format!("log level {}", level.map(|level| level.to_string_lossy()).unwrap_or_default()))
            }
            _ => Some(format!("--{option}")),
        };
        let lines = [
            line("new", Effect::AtOnce, &in_words),
            line("from the next sign-in on", Effect::NextSignIn, &option),
            line("from the next connection to the gateway on", Effect::NextConnection, &option),
            line("needs a restart", Effect::Restart, &option),
        ];
        let lines: Vec<String> = lines.into_iter().flatten().collect();
        if lines.is_empty() { "nothing has changed".to_owned() } else { lines.join("\n") }
    }

    fn having(&self, effect: Effect) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(_, its)| *its == effect).map(|(option, _)| option.as_str())
    }

    fn now_or_later(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, effect)| *effect != Effect::Restart).map(|(option, _)| option.as_str())
    }
}

fn put<V: Clone>(map: &mut BTreeMap<String, V>, option: &str, value: Option<&V>) {
    match value {
        Some(value) => drop(map.insert(option.to_owned(), value.clone())),
        None => drop(map.remove(option)),
    }
}

struct Authorities(usize);

impl fmt::Display for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 authority"),
            count => write!(f, "{count} authorities"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::args;
    use super::*;

    fn known(options: &[(&str, &str)], contents: &[(&str, u8)]) -> Known {
        let options = options.iter().map(|(option, value)| ((*option).to_owned(), vec![value.into()]));
        let contents = contents.iter().map(|(option, digest)| ((*option).to_owned(), [*digest; 32]));
        Known { options: options.collect(), contents: contents.collect() }
    }

    fn changes(old: &Known, new: &Known) -> Vec<(String, Effect)> {
        Changes::between(old, new).0
    }

    #[test]
    fn the_table_names_options_that_there_are() {
        let definition = args::definition();
        let exists = |option: &str| definition.get_arguments().any(|arg| arg.get_long() == Some(option));
        for option in [
            "cert",
            "key",
            "id-hostname",
            "allow-id",
            "eap-users",
            "psk-file",
            "log-file",
            "log-level",
            "gateway-routes",
        ] {
            assert!(exists(option) && effect(option) == Effect::AtOnce, "{option}");
        }
        for option in CREDENTIALS {
            assert!(exists(option) && effect(option) != Effect::Restart, "{option}");
        }
        for option in [GATEWAY, "ike-port", "nat-port", "listen-ip", "client-pool", "nat64-prefix", "workers"]
        {
            assert!(exists(option) && effect(option) == Effect::Restart, "{option}");
        }
        assert_eq!(effect("an option of tomorrow"), Effect::Restart);
    }

    #[test]
    fn contents_count_where_there_are_some() {
        let old = known(&[("cert", "a.pem"), ("realm", "staff")], &[("cert", 1)]);
        let moved = known(&[("cert", "b.pem"), ("realm", "staff")], &[("cert", 1)]);
        assert_eq!(changes(&old, &moved), [], "the same certificate somewhere else");
        let renewed = known(&[("cert", "a.pem")], &[("cert", 2)]);
        let expected = [("cert".to_owned(), Effect::AtOnce), ("realm".to_owned(), Effect::NextSignIn)];
        assert_eq!(changes(&old, &renewed), expected);
        let first = known(&[("cert", "a.pem"), ("realm", "staff"), ("otp", "x")], &[("cert", 1), ("otp", 1)]);
        assert_eq!(changes(&old, &first), [("otp".to_owned(), Effect::NextSignIn)]);
    }

    #[test]
    fn what_needs_a_restart_is_a_change_until_then() {
        let old = known(&[("workers", "1"), ("realm", "a")], &[]);
        let new = known(&[("workers", "2"), ("realm", "b")], &[]);
        let changes = Changes::between(&old, &new);
        let settled = changes.settle(&old, new.clone());
        assert_eq!(super::tests::changes(&settled, &new), [("workers".to_owned(), Effect::Restart)]);
        assert!(super::tests::changes(&settled, &known(&[("workers", "1"), ("realm", "b")], &[])).is_empty());
    }

    #[test]
    fn secrets_for_another_gateway_wait_with_it() {
        let old =
            known(&[("destination", "a"), ("username", "x"), ("id-hostname", "h")], &[("password-file", 1)]);
        let new =
            known(&[("destination", "b"), ("username", "y"), ("id-hostname", "i")], &[("password-file", 2)]);
        let changes = Changes::between(&old, &new);
        assert!(!changes.of_sign_in() && !changes.of_credentials() && !changes.of_way());
        assert!(changes.of("id-hostname"));
        let settled = changes.settle(&old, new);
        assert_eq!(settled.options["username"], ["x"]);
        assert_eq!(settled.contents["password-file"], [1; 32]);
    }
}
