//! `pterodapter setup`: from nothing to a configuration with certificates, and from there to profiles for devices.

mod device;
mod dialogue;
mod files;
mod record;
mod renew;
mod revoke;
mod serve;
mod server;
mod user;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::engine::{Clock, Suffix};
use crate::provision::Authority;

use super::Failure;
use super::args::Destination;
use super::settings::SOON;

use self::device::DeviceArgs;
use self::dialogue::Dialogue;
use self::record::Record;
use self::user::{Kind, UserArgs};

const CONFIGURATION: &str = "pterodapter.toml";
const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const SERVER_CERT: &str = "server.pem";
const SERVER_KEY: &str = "server.key";
/// The same for clients that verify RSA only.
const RSA_CERT: &str = "server-rsa.pem";
const RSA_KEY: &str = "server-rsa.key";
const CRL: &str = "crl.pem";
const USERS: &str = "eap-users";
const PSKS: &str = "psks";
/// The certificates of devices, as a record.
const DEVICES: &str = "devices";
/// Those that were taken back.
const REVOKED: &str = "revoked";

/// No system refuses a certificate of this length.
const LEAF_DAYS: u32 = 825;

/// At the end of the help of `setup`.
pub const EXAMPLES: &str = "\
Examples:
  sudo pterodapter setup --destination vpn.example.com:443 --name gw.example.net
  sudo pterodapter setup device alice-laptop --os macos --out .";
const DEVICE_EXAMPLE: &str = "\
Example:
  sudo pterodapter setup device alice-phone --os ios --on-demand --out /tmp";

/// The options of `setup`.
#[derive(Args, Clone, Debug)]
pub struct SetupArgs {
    /// Where configuration, certificates and keys are
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/pterodapter")]
    dir: PathBuf,

    /// Overwrite what is there, but keep the CA, and the old configuration as pterodapter.toml.old; renew before it is due
    #[arg(long, global = true)]
    force: bool,

    /// The FortiGate; the port is 443 if left out
    #[arg(long, value_name = "HOST:PORT")]
    destination: Option<Destination>,

    /// Name or address that clients dial, repeatable; the first is our identity
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,

    /// Domain whose names lead into the tunnel, repeatable [default: everything takes the tunnel]
    #[arg(long, value_name = "DOMAIN", value_parser = Suffix::parse)]
    dns64_tunnel_suffix: Vec<Suffix>,

    /// Use this key, ECDSA or RSA, for our certificate of its kind [default: new keys]
    #[arg(long, value_name = "FILE")]
    server_key: Option<PathBuf>,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// Make the certificate of a device, and the profile that its system reads
    #[command(after_help = DEVICE_EXAMPLE)]
    Device(DeviceArgs),
    /// The devices that have certificates, what ends soon, and what was revoked
    List,
    /// Take the certificates of a device back: writes crl.pem
    Revoke {
        /// The device's name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Give a user a new password, for devices that come without a certificate (EAP-MSCHAPv2)
    User(UserArgs),
    /// Give an identity a new pre-shared key, for devices that come without a certificate
    Psk(UserArgs),
    /// Renew our own certificates, with the same keys, if they end within 30 days
    Renew,
}

/// Does what was asked for, and says what was done.
pub(super) fn run(args: &SetupArgs) -> Result<(), Failure> {
    let wall = Clock::start().now().wall;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout());
    let Some(action) = &args.action else {
        let dialogue = io::stdin().is_terminal().then_some(Dialogue::new(&mut input, &mut output));
        let done = server::run(args, wall, dialogue)?;
        return say(&done);
    };
    let stray = args.destination.is_some()
        || !args.names.is_empty()
        || !args.dns64_tunnel_suffix.is_empty()
        || args.server_key.is_some();
    if stray {
        return Err(Failure::Usage(
            "only --dir and --force go with 'setup device', 'list', 'revoke', 'user', 'psk' and 'renew'"
                .to_owned(),
        ));
    }
    say(&match action {
        Action::Device(device) => device::run(device, &args.dir, args.force, wall)?,
        Action::List => list(&args.dir, wall)?,
        Action::Revoke { name } => revoke::run(name, &args.dir, wall)?,
        Action::User(user) => user::run(Kind::Password, user, &args.dir, args.force)?,
        Action::Psk(user) => user::run(Kind::PreSharedKey, user, &args.dir, args.force)?,
        Action::Renew => renew::run(&args.dir, args.force, wall)?,
    })
}

fn say(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|why| Failure::Runtime(format!("cannot write: {why}")))
}

/// The authority of this directory, if there is one.
fn authority(dir: &Path) -> Result<Option<Authority>, Failure> {
    let (cert, key) = (dir.join(CA_CERT), dir.join(CA_KEY));
    if !cert.exists() && !key.exists() {
        return Ok(None);
    }
    let authority = Authority::load(&files::read(&cert)?, &files::read(&key)?);
    authority.map(Some).map_err(|why| Failure::Configuration(format!("{}: {why}", cert.display())))
}

/// The authority that must be there.
fn existing_authority(dir: &Path) -> Result<Authority, Failure> {
    authority(dir)?.ok_or_else(|| {
        Failure::Configuration(format!("there is no CA in {}; run 'pterodapter setup' first", dir.display()))
    })
}

/// A line for each device, and for each that was taken back.
fn list(dir: &Path, wall: Duration) -> Result<String, Failure> {
    let mut text = String::new();
    for device in Record::devices(dir)? {
        let Some(newest) = device.newest() else { continue };
        let valid = renew::valid_for(newest.not_after(), wall);
        let earlier = device.certificates.iter().skip(1).filter(|one| one.not_after() > wall).count();
        let earlier = match earlier {
            0 => String::new(),
            1 => ", and so is an earlier certificate".to_owned(),
            several => format!(", and so are {several} earlier certificates"),
        };
        let soon = if newest.not_after() < wall + SOON {
            format!("; for a new one: {}", device.renewal(dir))
        } else {
            String::new()
        };
        text.push_str(&format!("{:<24} {valid}{earlier}{soon}\n", device.name));
    }
    for device in Record::revoked(dir)? {
        let count = match device.certificates.len() {
            1 => "1 certificate".to_owned(),
            several => format!("{several} certificates"),
        };
        text.push_str(&format!("{:<24} revoked ({count})\n", device.name));
    }
    Ok(if text.is_empty() {
        "no devices yet: pterodapter setup device NAME --os OS\n".to_owned()
    } else {
        text
    })
}

/// The certificate cannot be made.
fn refused(error: crate::provision::Error) -> Failure {
    Failure::Configuration(error.to_string())
}
