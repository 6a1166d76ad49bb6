//! The gateway as a program of its own, for tests that run it in another network namespace.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{CloseStyle, FarSide, Gateway, GatewayConfig, Scenario, User};
use crate::provision::Authority;

/// Validity of the certificates.
const DAYS: u32 = 30;

/// What a person or a test chooses about a gateway; certificates are made to fit.
#[derive(Clone, Debug)]
pub struct Options {
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

impl Default for Options {
    /// A free port of 127.0.0.1, the built-in network, nobody who may log in.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            far_side: FarSide::Builtin,
            users: Vec::new(),
            names: Vec::new(),
            ca_file: None,
            scenario: Scenario::default(),
        }
    }
}

impl Options {
    /// Understands `--listen IP:PORT`, `--far-side builtin|reflect|tun:NAME`, `--user NAME:PASSWORD[:REALM]`, `--name NAME`,
    /// `--ca-file PATH` and `--reuse SECONDS`. The error is what to tell the user.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            let option = option.to_string_lossy().into_owned();
            let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
            let text = value.to_string_lossy().into_owned();
            match option.as_str() {
                "--listen" => options.listen = text.parse().map_err(|e| format!("--listen {text}: {e}"))?,
                "--far-side" => options.far_side = parse_far_side(&text)?,
                "--user" => options.users.push(parse_user(&text)?),
                "--name" => options.names.push(text),
                "--ca-file" => options.ca_file = Some(value.into()),
                "--reuse" => options.scenario.reuse = Some(parse_time(&text, Duration::from_secs)?),
                _ => return Err(format!("unknown option {option}")),
            }
        }
        Ok(options)
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

/// `builtin`, `reflect` or `tun:NAME`.
pub fn parse_far_side(text: &str) -> Result<FarSide, String> {
    match (text, text.strip_prefix("tun:")) {
        ("builtin", _) => Ok(FarSide::Builtin),
        ("reflect", _) => Ok(FarSide::Reflect),
        (_, Some(name)) => Ok(FarSide::Tun { name: name.to_owned() }),
        _ => Err(format!("--far-side {text}: builtin, reflect or tun:NAME")),
    }
}

/// `NAME:PASSWORD` or `NAME:PASSWORD:REALM`.
pub fn parse_user(text: &str) -> Result<User, String> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(password), realm) => {
            Ok(User::new(name, password).in_realm(realm.unwrap_or_default()))
        }
        _ => Err("--user NAME:PASSWORD[:REALM]".into()),
    }
}

/// Runs a gateway made of `args` until the standard input ends, so that it never outlives who started it.
pub fn main_from_args(args: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    run(Options::parse(args)?, &mut io::stdin(), &mut io::stdout())
}

/// Runs a gateway until `input` ends. When it is ready it says so in one line of `output`: the word `ready`, its
/// address, and the path of its authority's certificate. Each line of `input` is a command: `drop`,
/// `restart` or `journal`, with what it takes.
pub fn run(options: Options, input: &mut dyn Read, output: &mut dyn Write) -> Result<(), String> {
    let ca_file = options.ca_file.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("pterodapter-gateway-{}.pem", std::process::id()))
    });
    let (config, ca_pem) = options.into_config()?;
    std::fs::write(&ca_file, ca_pem).map_err(|e| format!("{}: {e}", ca_file.display()))?;
    let gateway = Gateway::start(config).map_err(|e| format!("cannot start the gateway: {e}"))?;
    // Nobody may be reading; the gateway is up all the same.
    let mut say = |text: String| {
        let _ = writeln!(output, "{text}").and_then(|()| output.flush());
    };
    say(format!("ready {} {}", gateway.addr(), ca_file.display()));
    for line in BufReader::new(input).lines().map_while(Result::ok) {
        match Command::parse(&line) {
            Ok(Command::Drop(style)) => gateway.kick_tunnels(style),
            Ok(Command::Restart(downtime)) => gateway.restart(downtime),
            Ok(Command::Journal) => {
                let entries: Vec<_> = gateway.journal().iter().map(|entry| format!("{entry:?}")).collect();
                say(format!("{}\n{} entries", entries.join("\n"), entries.len()));
            }
            Err(error) => say(error),
        }
    }
    gateway.stop();
    Ok(())
}

/// What a running gateway is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// `drop close-notify|fin|reset|terminate|blackhole`: all tunnels.
    Drop(CloseStyle),
    /// `restart MILLISECONDS`: see [`Gateway::restart`].
    Restart(Duration),
    /// `journal`: print what has happened so far, and the number of entries.
    Journal,
}

impl Command {
    fn parse(line: &str) -> Result<Self, String> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["drop", "close-notify"] => Ok(Self::Drop(CloseStyle::CloseNotify)),
            ["drop", "fin"] => Ok(Self::Drop(CloseStyle::Fin)),
            ["drop", "reset"] => Ok(Self::Drop(CloseStyle::Reset)),
            ["drop", "terminate"] => Ok(Self::Drop(CloseStyle::Terminate)),
            ["drop", "blackhole"] => Ok(Self::Drop(CloseStyle::Blackhole)),
            ["restart", downtime] => parse_time(downtime, Duration::from_millis).map(Self::Restart),
            ["journal"] => Ok(Self::Journal),
            _ => Err(format!("unknown command {line}")),
        }
    }
}

fn parse_time(text: &str, unit: fn(u64) -> Duration) -> Result<Duration, String> {
    text.parse().map(unit).map_err(|e| format!("{text}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        Options::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn options() {
        let options = parse(&[
            "--listen",
            "127.0.0.1:4443",
            "--far-side",
            "tun:corp0",
            "--user",
            "a:b:c:d",
            "--name",
            "gw",
            "--reuse",
            "60",
        ]);
        let options = options.unwrap();
        assert_eq!(options.listen.port(), 4443);
        assert_eq!(options.far_side, FarSide::Tun { name: "corp0".into() });
        assert_eq!(options.scenario.reuse, Some(Duration::from_secs(60)));
        let user = &options.users[0];
        assert_eq!((user.name.as_str(), user.password.as_str(), user.realm.as_str()), ("a", "b", "c:d"));
        let (config, ca_pem) = options.into_config().unwrap();
        assert!(config.chain_pem.contains("BEGIN CERTIFICATE") && ca_pem.contains("BEGIN CERTIFICATE"));
        for bad in [&["--listen"], &["--no-such"]] {
            assert!(parse(bad).is_err());
        }
        assert_eq!(Command::parse("drop reset"), Ok(Command::Drop(CloseStyle::Reset)));
        assert_eq!(Command::parse("restart 250"), Ok(Command::Restart(Duration::from_millis(250))));
        for bad in ["", "drop", "drop it", "restart soon"] {
            assert!(Command::parse(bad).is_err(), "{bad}");
        }
        for bad in [["--user", "name"], ["--reuse", "long"], ["--far-side", "moon"], ["--listen", "here"]] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn runs_until_its_input_ends() {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        let mut output = Vec::new();
        let options = Options { ca_file: Some(ca_file.clone()), ..Options::default() };
        let mut input = io::Cursor::new("drop fin\njump\njournal\n");
        run(options, &mut input, &mut output).unwrap();
        let lines = String::from_utf8(output).unwrap();
        let lines: Vec<_> = lines.lines().collect();
        assert!(lines[0].starts_with("ready 127.0.0.1:") && lines[0].ends_with("ca.pem"), "{lines:?}");
        assert_eq!(lines[1..], ["unknown command jump", "", "0 entries"]);
        assert!(std::fs::read_to_string(ca_file).unwrap().contains("BEGIN CERTIFICATE"));
    }
}
