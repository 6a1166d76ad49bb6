//! The gateway as a program of its own, for tests that run it in another network namespace.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{FarSide, Gateway, GatewayConfig, Scenario, User};
use crate::provision::Authority;

/// Validity of the certificates.
const DAYS: u32 = 30;

/// The options of `--gateway-only`.
#[derive(Clone, Debug)]
pub struct Command {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The network behind.
    pub far_side: FarSide,
    /// The accounts.
    pub users: Vec<User>,
    /// Further names of the certificate, beside the listening address.
    pub names: Vec<String>,
    /// Where the certificate of the authority goes; next to the temporary files when absent.
    pub ca_file: Option<std::path::PathBuf>,
    /// The behaviour.
    pub scenario: Scenario,
}

impl Command {
    /// Understands `--listen IP:PORT`, `--far-side builtin|tun:NAME`, `--user NAME:PASSWORD[:REALM]`, `--name NAME`
    /// and `--ca-file PATH`. The error is what to tell the user.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut command = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            far_side: FarSide::Builtin,
            users: Vec::new(),
            names: Vec::new(),
            ca_file: None,
            scenario: Scenario::default(),
        };
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            let option = option.to_string_lossy().into_owned();
            let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
            let text = value.to_string_lossy().into_owned();
            match option.as_str() {
                "--listen" => command.listen = text.parse().map_err(|e| format!("--listen {text}: {e}"))?,
                "--far-side" => command.far_side = parse_far_side(&text)?,
                "--user" => command.users.push(parse_user(&text)?),
                "--name" => command.names.push(text),
                "--ca-file" => command.ca_file = Some(value.into()),
                _ => return Err(format!("unknown option {option}")),
            }
        }
        Ok(command)
    }

    /// The configuration with a certificate of a new authority, and that authority's certificate in PEM.
    pub fn into_config(self) -> Result<(GatewayConfig, String), String> {
        let ip = self.listen.ip().to_string();
        let names: Vec<&str> =
            std::iter::once(ip.as_str()).chain(self.names.iter().map(String::as_str)).collect();
        let issued = Authority::new("pterodapter demo", wall_clock(), DAYS).and_then(|authority| {
            let server = authority.issue_server(&names, wall_clock(), DAYS)?;
            Ok((server, authority.cert_pem().to_owned()))
        });
        let (server, ca_pem) = issued.map_err(|e| e.to_string())?;
        let config = GatewayConfig {
            listen: self.listen,
            chain_pem: server.cert_pem,
            key_pem: server.key_pem,
            users: self.users,
            scenario: self.scenario,
            far_side: self.far_side,
        };
        Ok((config, ca_pem))
    }
}

#[expect(clippy::disallowed_methods, reason = "a certificate for a program that runs for minutes")]
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// `builtin` or `tun:NAME`.
pub fn parse_far_side(text: &str) -> Result<FarSide, String> {
    match (text, text.strip_prefix("tun:")) {
        ("builtin", _) => Ok(FarSide::Builtin),
        (_, Some(name)) => Ok(FarSide::Tun { name: name.to_owned() }),
        _ => Err(format!("--far-side {text}: builtin or tun:NAME")),
    }
}

/// `NAME:PASSWORD` or `NAME:PASSWORD:REALM`.
pub fn parse_user(text: &str) -> Result<User, String> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(password), realm) => {
            Ok(User { realm: realm.unwrap_or_default().to_owned(), ..User::new(name, password) })
        }
        _ => Err("--user NAME:PASSWORD[:REALM]".into()),
    }
}

/// Runs a gateway until the standard input ends. Prints one line when it is ready: `ready`, its address, and the
/// path of the authority's certificate.
pub fn main_from_args(args: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let command = Command::parse(args)?;
    let ca_file = command.ca_file.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("pterodapter-gateway-{}.pem", std::process::id()))
    });
    let (config, ca_pem) = command.into_config()?;
    std::fs::write(&ca_file, ca_pem).map_err(|e| format!("{}: {e}", ca_file.display()))?;
    let gateway = Gateway::start(config).map_err(|e| format!("cannot start the gateway: {e}"))?;
    let mut out = io::stdout();
    // Nobody may be reading; the gateway is up all the same.
    let _ = writeln!(out, "ready {} {}", gateway.addr(), ca_file.display()).and_then(|()| out.flush());
    let mut rest = Vec::new();
    let _ = io::stdin().read_to_end(&mut rest);
    gateway.stop();
    Ok(())
}
