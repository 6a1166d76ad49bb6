//! The gateway as a program of its own, for tests that run it in another network namespace.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use super::{FarSide, Gateway, GatewayConfig, Scenario, User};

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
