//! `pterodapter setup`: from nothing to a configuration with certificates, and from there to profiles for devices.

mod device;
mod dialogue;
mod files;

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::crypto::sign::KeyKind;
use crate::crypto::{Certificate, pem};
use crate::engine::{Clock, Suffix};
use crate::provision::{Authority, Role, Validity};

use super::Failure;
use super::args::Destination;

use self::device::DeviceArgs;
use self::dialogue::Dialogue;
use self::files::{Files, PRIVATE, PUBLIC};

const CONFIGURATION: &str = "pterodapter.toml";
const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const SERVER_CERT: &str = "server.pem";
const SERVER_KEY: &str = "server.key";
/// The certificates of devices, as a record.
const DEVICES: &str = "devices";

const CA_DAYS: u32 = 3650;
/// No system refuses a certificate of this length.
const LEAF_DAYS: u32 = 825;
/// Where the company is for clients if there are suffixes: RFC 8215 keeps it for such use.
const NAT64_PREFIX: &str = "64:ff9b:1::/96";

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

    /// Overwrite what is there; the CA is kept
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

    /// Use this key, say an RSA one, for our certificate [default: a new ECDSA key]
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
    /// The devices that have certificates
    List,
}

/// Sets up, or sets up a device, or lists devices.
pub(super) fn run(args: &SetupArgs) -> Result<(), Failure> {
    let wall = Clock::start().now().wall;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout());
    let Some(action) = &args.action else {
        let dialogue = io::stdin().is_terminal().then_some(Dialogue::new(&mut input, &mut output));
        let done = server(args, wall, dialogue)?;
        return say(&done);
    };
    let stray = args.destination.is_some()
        || !args.names.is_empty()
        || !args.dns64_tunnel_suffix.is_empty()
        || args.server_key.is_some();
    if stray {
        return Err(Failure::Usage(
            "only --dir and --force go with 'setup device' and 'setup list'".to_owned(),
        ));
    }
    say(&match action {
        Action::Device(device) => device::run(device, &args.dir, args.force, wall)?,
        Action::List => list(&args.dir, wall)?,
    })
}

fn say(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(|why| Failure::Runtime(format!("cannot write: {why}")))
}

/// Makes what the server needs; the text for the person.
fn server(args: &SetupArgs, wall: Duration, dialogue: Option<Dialogue<'_>>) -> Result<String, Failure> {
    let answers = Answers::complete(args, dialogue)?;
    let names: Vec<&str> = answers.names.iter().map(String::as_str).collect();
    let [first, ..] = names.as_slice() else {
        return Err(Failure::Usage("--name is missing: the name that clients dial".to_owned()));
    };
    let (authority, is_new) = match authority(&args.dir)? {
        Some(authority) => (authority, false),
        None => (Authority::new(&authority_name(first), wall, CA_DAYS).map_err(refused)?, true),
    };
    let validity = Validity::days(wall, LEAF_DAYS);
    let issued = match &args.server_key {
        Some(path) => {
            let key = files::read(path)?;
            authority.issue_with_key(Role::Server, &names, validity, &key)
        }
        None => authority.issue(Role::Server, &names, validity, KeyKind::P256),
    }
    .map_err(refused)?;

    let mut files = Files::new(&args.dir, args.force);
    files.add(CONFIGURATION, PUBLIC, configuration(&answers, first));
    if is_new {
        files.add(CA_CERT, PUBLIC, authority.cert_pem());
        files.add(CA_KEY, PRIVATE, authority.key_pem());
    }
    files.add(SERVER_CERT, PUBLIC, issued.cert_pem.as_str());
    files.add(SERVER_KEY, PRIVATE, issued.key_pem.as_str());
    let written = files.write()?;
    let dir = args.dir.display();
    let rsa = if Certificate::parse(&issued.cert_der).is_ok_and(|cert| cert.key_kind() == Some(KeyKind::Rsa))
    {
        "The key is an RSA one: macOS, iOS and Windows will not take it.\n"
    } else {
        ""
    };
    let kept = if is_new { "" } else { "The CA was kept, so devices need nothing new.\n" };
    Ok(format!(
        "{written}{kept}{rsa}
Next:
  pterodapter check --config {dir}/{CONFIGURATION}
  pterodapter ikev2 --config {dir}/{CONFIGURATION}
  pterodapter setup device NAME --os OS --dir {dir}
"
    ))
}

/// What has to be known.
struct Answers {
    destination: Destination,
    names: Vec<String>,
    suffixes: Vec<Suffix>,
}

impl Answers {
    /// What is not among the options is asked for, where there is somebody to ask.
    fn complete(args: &SetupArgs, mut dialogue: Option<Dialogue<'_>>) -> Result<Self, Failure> {
        let was_complete = args.destination.is_some() && !args.names.is_empty();
        let missing =
            |what: &str| Failure::Usage(format!("{what} is missing, and there is no terminal to ask on"));
        let destination = match (&args.destination, &mut dialogue) {
            (Some(destination), _) => destination.clone(),
            (None, Some(dialogue)) => dialogue
                .ask("The FortiGate (host or host:port)", |text| text.parse().map_err(str::to_owned))?,
            (None, None) => return Err(missing("--destination")),
        };
        let names = match (args.names.as_slice(), &mut dialogue) {
            ([], Some(dialogue)) => {
                dialogue.ask("The name that clients will dial, or several with blanks between", names)?
            }
            ([], None) => return Err(missing("--name")),
            (given, _) => given.to_vec(),
        };
        let suffixes = match (args.dns64_tunnel_suffix.as_slice(), &mut dialogue) {
            // Whoever gave the rest as options wants no questions.
            ([], Some(dialogue)) if !was_complete => dialogue.ask(
                "Domains that take the tunnel, and nothing else does (leave empty for everything)",
                suffixes,
            )?,
            (given, _) => given.to_vec(),
        };
        Ok(Self { destination, names, suffixes })
    }
}

fn names(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = words(text).map(str::to_owned).collect();
    // Whether they can be in a certificate is best asked where certificates are made.
    let probe: Vec<&str> = names.iter().map(String::as_str).collect();
    let validity = Validity::days(Duration::ZERO, 1);
    let authority = Authority::new("probe", Duration::ZERO, 1).map_err(|why| why.to_string())?;
    authority.issue(Role::Server, &probe, validity, KeyKind::P256).map_err(|why| why.to_string())?;
    Ok(names)
}

fn suffixes(text: &str) -> Result<Vec<Suffix>, String> {
    words(text).map(|word| Suffix::parse(word).map_err(|why| why.to_string())).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',', '\t']).filter(|word| !word.is_empty())
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

/// A common name that says whose it is, where that is short enough for one.
fn authority_name(server: &str) -> String {
    let name = format!("VPN CA of {server}");
    if name.len() <= 64 { name } else { "pterodapter VPN CA".to_owned() }
}

fn configuration(answers: &Answers, name: &str) -> String {
    let destination = &answers.destination;
    let host = match destination.host.parse() {
        Ok(IpAddr::V6(v6)) => format!("[{v6}]"),
        _ => destination.host.clone(),
    };
    let split = if answers.suffixes.is_empty() {
        String::new()
    } else {
        let list: Vec<_> = answers.suffixes.iter().map(|suffix| format!("\"{suffix}\"")).collect();
        format!(
            "\n# Only the names in these domains lead into the tunnel, over IPv6.\n\
             nat64-prefix = \"{NAT64_PREFIX}\"\ndns64-tunnel-suffix = [{}]\n",
            list.join(", ")
        )
    };
    // Host names, addresses and domains were checked: nothing in them needs an escape.
    format!(
        "# The options of 'pterodapter --help', without their dashes. What is typed on the command line wins.
# File names are relative to this directory.

destination = \"{host}:{port}\"
id-hostname = \"{name}\"
cacert = \"{CA_CERT}\"
cert = \"{SERVER_CERT}\"
key = \"{SERVER_KEY}\"

# To sign in with a password instead of SAML in a browser; it is asked for, unless it is in a file of mode 600:
#username = \"alice\"
#password-file = \"password\"
{split}",
        port = destination.port
    )
}

/// One line for each device.
fn list(dir: &Path, wall: Duration) -> Result<String, Failure> {
    const DAY: u64 = 24 * 60 * 60;
    let mut text = String::new();
    for path in files::with_extension(&dir.join(DEVICES), "pem")? {
        let certificates = pem::certificates(files::read(&path)?.as_bytes())
            .map_err(|why| Failure::Configuration(format!("{}: {why}", path.display())))?;
        let Some(certificate) = certificates.first() else { continue };
        let until = match certificate.not_after().checked_sub(wall) {
            Some(left) => format!("valid for {} days", left.as_secs() / DAY),
            None => "expired".to_owned(),
        };
        text.push_str(&format!("{:<24} {until}\n", certificate.common_name().unwrap_or_default()));
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
