//! Options of the way to the FortiGate, and of signing in there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use rustls::pki_types::ServerName;

use crate::engine::{Pin, Proxy};

const SIGN_IN: &str = "Signing in";
const PEOPLE: &str = "How people take part";
const WAY: &str = "The way to the FortiGate";

/// How to reach the FortiGate and sign in.
#[derive(Args, Clone, Debug, Default)]
pub struct UplinkArgs {
    /// Sign in with a password [default: by SAML in a browser]
    #[arg(long, value_name = "USER", help_heading = SIGN_IN)]
    pub username: Option<String>,

    /// First line is the password [default: ask for it]
    #[arg(long, value_name = "FILE", requires = "username", help_heading = SIGN_IN)]
    pub password_file: Option<Source>,

    /// There is no password, only what the gateway asks for
    #[arg(long, requires = "username", conflicts_with = "password_file", help_heading = SIGN_IN)]
    pub no_password: bool,

    /// Realm, where the account is not in the default one
    #[arg(long, value_name = "NAME", help_heading = SIGN_IN)]
    pub realm: Option<String>,

    /// First line is the first one-time code
    #[arg(long, value_name = "FILE", help_heading = SIGN_IN)]
    pub otp: Option<Source>,

    /// Shell command that prints a one-time code
    #[arg(long, value_name = "CMD", conflicts_with = "otp", help_heading = SIGN_IN)]
    pub otp_command: Option<String>,

    /// Ask for the code, even where a tap on the phone would do
    #[arg(long, help_heading = SIGN_IN)]
    pub no_push: bool,

    /// Choose a new password where the gateway offers that
    #[arg(long, requires = "username", help_heading = SIGN_IN)]
    pub renew_password: bool,

    /// Our certificate towards the FortiGate (PEM)
    #[arg(long, value_name = "FILE", requires = "user_key", help_heading = SIGN_IN)]
    pub user_cert: Option<PathBuf>,

    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "user_cert", help_heading = SIGN_IN)]
    pub user_key: Option<Source>,

    /// Sign in with the browser although there is a client certificate
    #[arg(long, conflicts_with_all = ["username", "cookie_file"], help_heading = SIGN_IN)]
    pub saml: bool,

    /// Use a session that another tool signed in to; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "username", help_heading = SIGN_IN)]
    pub cookie_file: Option<Source>,

    /// What to say where the gateway insists on a host check
    #[arg(long, value_name = "VALUE", help_heading = SIGN_IN)]
    pub host_check: Option<String>,

    /// The same, for the check of the virtual desktop
    #[arg(long, value_name = "VALUE", requires = "host_check", help_heading = SIGN_IN)]
    pub check_virtual_desktop: Option<String>,

    /// Local page, where the browser comes back; repeatable [default: port 8020]
    #[arg(long, value_name = "IP:PORT", help_heading = PEOPLE)]
    pub saml_listen: Vec<SocketAddr>,

    /// Open the sign-in in the browser of this desktop
    #[arg(long, help_heading = PEOPLE)]
    pub open_browser: bool,

    /// Shell command that tells a person to sign in
    #[arg(long, value_name = "CMD", help_heading = PEOPLE)]
    pub login_hook: Option<String>,

    /// Socket for 'pterodapter login', status and others, or none
    #[arg(long, value_name = "FILE", help_heading = PEOPLE)]
    pub control: Option<PathBuf>,

    /// Serve /metrics for Prometheus at the local page
    #[arg(long, help_heading = PEOPLE)]
    pub metrics: bool,

    /// More CA certificates to trust for the FortiGate (PEM)
    #[arg(long, value_name = "FILE", help_heading = WAY)]
    pub gateway_ca: Option<PathBuf>,

    /// Trust only this certificate, repeatable (sha256:...)
    #[arg(long, value_name = "DIGEST", conflicts_with = "gateway_ca", help_heading = WAY)]
    pub trusted_cert: Vec<Pin>,

    /// Name to ask for in TLS, and to look for in the certificate
    #[arg(long, value_name = "NAME", value_parser = server_name, help_heading = WAY)]
    pub sni: Option<ServerName<'static>>,

    /// Proxy: http://[user@]host:port or socks5://[user@]host:port
    #[arg(long, value_name = "URL", help_heading = WAY)]
    pub uplink_proxy: Option<Proxy>,

    /// First line is the proxy's password
    #[arg(long, value_name = "FILE", requires = "uplink_proxy", help_heading = WAY)]
    pub uplink_proxy_password_file: Option<Source>,

    /// Send something after so long without traffic
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(10..=86_400),
          help_heading = WAY)]
    pub keepalive: Option<u32>,

    /// User-Agent, for gateways that want a certain one
    #[arg(long, value_name = "TEXT", value_parser = user_agent, help_heading = WAY)]
    pub user_agent: Option<String>,
}

impl UplinkArgs {
    /// Refuses what clap cannot see. `others` are the secrets that have nothing to do with the gateway.
    pub(super) fn check_contradictions<'a>(
        &'a self,
        others: impl Iterator<Item = (&'static str, &'a Source)>,
    ) -> Result<(), String> {
        let secrets = self.secrets().chain(others);
        let on_stdin: Vec<&str> = secrets.filter(|(_, s)| **s == Source::Stdin).map(|(o, _)| o).collect();
        if let [first, second, ..] = *on_stdin {
            return Err(format!(
                "{first} and {second} cannot both read standard input; give one of them a file"
            ));
        }
        if self.otp.is_some() || self.otp_command.is_some() {
            let option = if self.otp.is_some() { "--otp" } else { "--otp-command" };
            if self.username.is_none() && (self.saml || self.user_cert.is_none()) {
                return Err(format!("{option} needs --username: a browser asks for codes itself"));
            }
        }
        if self.uplink_proxy_password_file.is_some()
            && self.uplink_proxy.as_ref().is_some_and(|proxy| proxy.user.is_none())
        {
            return Err(
                "--uplink-proxy-password-file needs a user name: --uplink-proxy http://user@host:port"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Everything secret, with its option.
    fn secrets(&self) -> impl Iterator<Item = (&'static str, &Source)> {
        let all = [
            ("--password-file", &self.password_file),
            ("--otp", &self.otp),
            ("--user-key", &self.user_key),
            ("--cookie-file", &self.cookie_file),
            ("--uplink-proxy-password-file", &self.uplink_proxy_password_file),
        ];
        all.into_iter().filter_map(|(option, source)| Some((option, source.as_ref()?)))
    }

    /// The option that reads standard input.
    pub(super) fn reader_of_stdin(&self) -> Option<&'static str> {
        self.secrets().find(|(_, source)| **source == Source::Stdin).map(|(option, _)| option)
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `-`: standard input.
    Stdin,
    /// `credential:NAME`: what systemd hands over (LoadCredential=).
    Credential(String),
    /// A file.
    File(PathBuf),
}

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("credential:") {
            Some(name) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
                Err("a credential has a plain name: credential:NAME")
            }
            Some(name) => Ok(Self::Credential(name.to_owned())),
            None if text == "-" => Ok(Self::Stdin),
            None if text.is_empty() => Err("give the name of a file"),
            None => Ok(Self::File(text.into())),
        }
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, &'static str> {
    ServerName::try_from(text.to_owned()).map_err(|_| "not a host name")
}

fn user_agent(text: &str) -> Result<String, &'static str> {
    let is_fit = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_fit { Ok(text.to_owned()) } else { Err("a User-Agent is one line of ASCII") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_three_places() {
        for (text, expected) in [
            ("-", Ok(Source::Stdin)),
            ("credential:otp", Ok(Source::Credential("otp".to_owned()))),
            ("/etc/x", Ok(Source::File("/etc/x".into()))),
            ("x", Ok(Source::File("x".into()))),
        ] {
            assert_eq!(text.parse(), expected);
        }
        for text in ["", "credential:", "credential:../x", "credential:a/b"] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
