//! What was typed: options and values, checked only for their form. Reads no file and opens no socket.

mod uplink;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use log::LevelFilter;

use crate::engine::{self, MAX_TUNNEL_DOMAINS, Pattern, Pool, Prefix96, Suffix};

use super::capture::CaptureArgs;
use super::changes::Options;
use super::completions::CompletionsArgs;
use super::disconnect::DisconnectArgs;
use super::setup::SetupArgs;
use super::status::StatusArgs;

pub use uplink::{Source, UplinkArgs};

const USAGE: &str = "pterodapter [OPTIONS] ikev2 | check\n       pterodapter setup [OPTIONS] [device | list | revoke | user | psk | renew]\n       pterodapter login [TEXT | -] [--control <FILE>]\n       pterodapter status [--json] [--watch] | disconnect <ID> | reload\n       \
                     pterodapter capture <FILE> [--device <ID>] [--seconds <N>]\n       \
                     pterodapter [--log-level <LEVEL>] demo [--stay]";

const CLIENTS: &str = "IKEv2 clients";
const TUNNEL: &str = "What takes the tunnel [default: everything over IPv4]";

const EXAMPLES: &str = "\
Commands:
  ikev2  Serve IKEv2 clients; options may stand before or after the word
  check  Say what is wrong with the options and the files they name, without starting
  setup  Make a configuration with certificates, and profiles of devices (see 'setup --help')
  login  Help a running pterodapter to sign in (see 'login --help')
  status, disconnect, reload
         Show how a running pterodapter is, end the connection of a device, read the configuration again
  capture
         Write packets to a file, or to Wireshark (see 'capture --help')
  demo   Show the whole path on this machine, with nothing set up (see 'demo --help')

Examples:
  pterodapter demo
  pterodapter --destination vpn.example.com:443 --cacert ca.pem --cert vpn.pem --key vpn.key ikev2
  pterodapter ikev2 --destination=vpn.example.com:443 --cacert=ca.pem --cert=vpn.pem --key=vpn.key \\
      --username=alice --ike-port=5500 --nat-port=5501
  pterodapter login 'http://127.0.0.1:8020/?id=...'

FILE of a secret: a file, - for standard input, or credential:NAME for what systemd hands over (LoadCredential=).

Exit codes: 0 done, or ended by a signal; 1 broken while running; 2 wrong usage; 69 no daemon runs; 77 not permitted; 78 wrong configuration; 130 interrupted";

/// Behind the commands on the first screen.
const FIRST_STEPS: &str = "
Examples:
  pterodapter demo
  sudo pterodapter setup
  pterodapter check && pterodapter ikev2

More: 'pterodapter COMMAND --help'; 'pterodapter --help' for all options of ikev2 and check";

const LOGIN_EXAMPLES: &str = "\
Examples:
  pterodapter login
  pterodapter login 'http://127.0.0.1:8020/?id=...'
  pterodapter login - < cookie.txt";

const RELOAD_EXAMPLES: &str = "\
Examples:
  sudo pterodapter reload
  systemctl reload pterodapter

0: done, and what has changed is printed. 78: the configuration will not do, and nothing has changed.";

const FIRST_SCREEN: &str = "{about}\n\n{usage-heading} {usage}{after-help}";
const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}\n\n{all-args}{after-help}";

/// A parsed command line.
#[derive(Debug)]
pub struct Invocation {
    /// How much to log.
    pub log_level: LevelFilter,
    /// What to do.
    pub command: Command,
    /// The options of `ikev2` by their long names, with the values that hold.
    pub options: Options,
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Serve IKEv2 clients.
    Ikev2(Box<Ikev2Args>),
    /// Say what is wrong with the options of `ikev2`.
    Check(Box<Ikev2Args>),
    /// Make configuration, certificates and profiles.
    Setup(SetupArgs),
    /// Run the demonstration.
    Demo(DemoArgs),
    /// Help a running daemon to sign in.
    Login(LoginArgs),
    /// Write the packets of a running daemon.
    Capture(CaptureArgs),
    /// Print what a shell needs to complete our command lines.
    Completions(CompletionsArgs),
    /// Show how a running daemon is.
    Status(StatusArgs),
    /// End the connection of a device.
    Disconnect(DisconnectArgs),
    /// Let a running daemon read its configuration again.
    Reload(ReloadArgs),
}

/// Parses `argv` (the first element is the program's name).
///
/// # Errors
/// What clap reports; that includes `--help` and `--version`, which are not failures.
pub fn parse<I, T>(argv: I) -> Result<Invocation, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let argv: Vec<OsString> = argv.into_iter().map(Into::into).collect();
    let mut command = match argv.as_slice() {
        [_] => first_screen(),
        [_, option] if option == "-h" => first_screen(),
        _ => Typed::command(),
    };
    let matches = command
        .try_get_matches_from_mut(argv)
        .map_err(|error| name_commands(&mut Typed::command(), error))?;
    if let Some(name) = matches.subcommand_name() {
        let stray = command
            .get_arguments()
            .filter(|arg| !arg.is_global_set())
            .map(|arg| arg.get_id().as_str())
            .find(|id| matches.value_source(id) == Some(ValueSource::CommandLine));
        if let Some(id) = stray {
            let text = format!("'{}' belongs to ikev2, not to {name}", id.replace('_', "-"));
            return Err(command.error(ErrorKind::ArgumentConflict, text));
        }
    }
    let typed = Typed::from_arg_matches(&matches)?;
    let run = match (typed.sub, typed.ikev2) {
        (Some(Sub::Demo(demo)), _) => Command::Demo(demo),
        (Some(Sub::Setup(setup)), _) => Command::Setup(setup),
        (Some(Sub::Login(login)), _) => Command::Login(login),
        (Some(Sub::Capture(capture)), _) => Command::Capture(capture),
        (Some(Sub::Completions(completions)), _) => Command::Completions(completions),
        (Some(Sub::Status(status)), _) => Command::Status(status),
        (Some(Sub::Disconnect(disconnect)), _) => Command::Disconnect(disconnect),
        (Some(Sub::Reload(reload)), _) => Command::Reload(reload),
        (None, Some(mut ikev2)) => {
            ikev2.uplink = typed.uplink;
            ikev2.check_contradictions().map_err(|text| command.error(ErrorKind::ArgumentConflict, text))?;
            match ikev2.word.as_str() {
                "check" => Command::Check(Box::new(ikev2)),
                _ => Command::Ikev2(Box::new(ikev2)),
            }
        }
        (None, None) => {
            let text =
                "give a command: ikev2, check, setup, login, status, disconnect, reload, capture or demo";
            return Err(command.error(ErrorKind::MissingRequiredArgument, text));
        }
    };
    Ok(Invocation { log_level: typed.log_level, command: run, options: options(&command, &matches) })
}

fn options(command: &clap::Command, matches: &ArgMatches) -> Options {
    let value = |arg: &Arg| {
        let values = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
        Some((arg.get_long()?.to_owned(), values.map(OsString::from).collect()))
    };
    let takes_value = |arg: &&Arg| !matches!(arg.get_action(), ArgAction::Help | ArgAction::Version);
    command.get_arguments().filter(takes_value).filter_map(value).collect()
}

/// What is shown to who asks for nothing yet: commands and first steps, without the many options of `ikev2`.
fn first_screen() -> clap::Command {
    let (commands, _) = EXAMPLES.split_once("\nExamples:").unwrap_or((EXAMPLES, ""));
    // Where to read on is said once, below.
    let without_hint = |line: &str| format!("{}\n", line.split(" (see '").next().unwrap_or_default());
    let text: String = commands.lines().map(without_hint).collect::<String>() + FIRST_STEPS;
    let usage = "pterodapter COMMAND [OPTIONS]";
    Typed::command().help_template(FIRST_SCREEN).override_usage(usage).after_help(text)
}

/// For clap a word that is no command is a wrong value of the one positional argument.
fn name_commands(command: &mut clap::Command, error: clap::Error) -> clap::Error {
    let is_word =
        matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(arg)) if arg == "<COMMAND>");
    match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(word)) if is_word && !word.is_empty() => {
            let others = command.get_subcommands().map(clap::Command::get_name);
            let all: Vec<_> = ["ikev2", "check"].into_iter().chain(others).collect();
            let text = format!("there is no command '{word}'; there are {}", all.join(", "));
            command.error(ErrorKind::InvalidSubcommand, text)
        }
        _ => error,
    }
}

/// What clap knows of the program.
pub fn definition() -> clap::Command {
    Typed::command()
}

/// Lets the IKEv2 client of a laptop or phone reach the network behind a FortiGate SSL VPN.
#[derive(Parser)]
#[command(
    name = "pterodapter",
    version,
    override_usage = USAGE,
    help_template = TEMPLATE,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    max_term_width = 110,
)]
struct Typed {
    /// off, error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info", value_parser = level_parser(),
          hide_possible_values = true, display_order = 90)]
    log_level: LevelFilter,

    /// Options from a file [default: /etc/pterodapter/pterodapter.toml]
    #[arg(long, value_name = "FILE", display_order = 80)]
    config: Option<PathBuf>,

    #[command(flatten)]
    ikev2: Option<Ikev2Args>,

    #[command(flatten)]
    uplink: UplinkArgs,

    #[command(subcommand)]
    sub: Option<Sub>,
}

#[derive(Subcommand)]
enum Sub {
    /// A gateway, the daemon and an IKEv2 client in one process on loopback: connects, moves data, prints a table
    #[command(hide = true, after_help = "Example:\n  pterodapter demo --stay")]
    Demo(DemoArgs),
    /// Makes a configuration with certificates, and with 'device' the profile of a device
    #[command(hide = true, after_help = super::setup::EXAMPLES)]
    Setup(SetupArgs),
    /// Helps a running pterodapter to sign in: shows what it waits for and takes the answer. 0 when signed in
    #[command(hide = true, after_help = LOGIN_EXAMPLES)]
    Login(LoginArgs),
    /// Writes the packets of a running pterodapter, on both sides of the translation, to a new pcapng file. Everything
    /// in it is in clear text
    #[command(hide = true, after_help = super::capture::EXAMPLES)]
    Capture(CaptureArgs),
    /// Prints what bash, zsh or fish needs to complete the command lines of pterodapter
    #[command(hide = true)]
    Completions(CompletionsArgs),
    /// Shows how a running pterodapter is: uplink, devices, drops, queues
    #[command(hide = true)]
    Status(StatusArgs),
    /// Ends the connection of a device of a running pterodapter
    #[command(hide = true)]
    Disconnect(DisconnectArgs),
    /// Lets a running pterodapter read its configuration again, and says what has changed; no device is disconnected,
    /// unless its certificate is not trusted any more
    #[command(hide = true, after_help = RELOAD_EXAMPLES)]
    Reload(ReloadArgs),
}

/// The options of `ikev2`.
#[derive(Args, Clone, Debug)]
pub struct Ikev2Args {
    /// The command word itself, anywhere among the options.
    #[arg(value_name = "COMMAND", required = true, value_parser = ["ikev2", "check"], hide = true)]
    word: String,

    /// The FortiGate; the port is 443 if left out
    #[arg(long, required = true, value_name = "HOST:PORT")]
    pub destination: Destination,

    /// CA certificates that sign the clients' certificates (PEM)
    #[arg(long, required = true, value_name = "FILE")]
    pub cacert: PathBuf,

    /// Revocation lists of those CAs (PEM or DER), repeatable
    #[arg(long, value_name = "FILE")]
    pub crl: Vec<PathBuf>,

    /// Our certificate, then its intermediates (PEM), repeatable
    #[arg(long, required = true, value_name = "FILE")]
    pub cert: Vec<PathBuf>,

    /// Its private key (PEM: PKCS#8, PKCS#1 or SEC1), repeatable
    #[arg(long, required = true, value_name = "FILE")]
    pub key: Vec<Source>,

    /// Append log lines to this file, too
    #[arg(long, value_name = "FILE", display_order = 91)]
    pub log_file: Option<PathBuf>,

    /// Our name, as in our certificate
    #[arg(long, value_name = "NAME", default_value = "pterodapter", help_heading = CLIENTS)]
    pub id_hostname: String,

    /// Address to serve on, repeatable [default: ::, with IPv4]
    #[arg(long, value_name = "IP", help_heading = CLIENTS)]
    pub listen_ip: Vec<IpAddr>,

    /// UDP port for IKE
    #[arg(long, value_name = "PORT", default_value = "500", help_heading = CLIENTS)]
    pub ike_port: NonZeroU16,

    /// UDP port for IKE and ESP behind NAT
    #[arg(long, value_name = "PORT", default_value = "4500", help_heading = CLIENTS)]
    pub nat_port: NonZeroU16,

    /// Inner addresses of clients
    #[arg(long, value_name = "NET", default_value = "198.19.255.0/24", value_parser = client_pool, help_heading = CLIENTS)]
    pub client_pool: Pool,

    /// Post-quantum preshared keys: a PPK_ID and a key on each line
    #[arg(long, value_name = "FILE", help_heading = CLIENTS)]
    pub ppk_file: Option<Source>,

    /// A person has one device: a new connection ends the others
    #[arg(long, help_heading = CLIENTS)]
    pub unique: bool,

    /// Take Windows' default 1024-bit key exchange; it can be broken
    #[arg(long, help_heading = CLIENTS)]
    pub allow_weak_windows_defaults: bool,

    /// Let in only who fits (* and ?), repeatable
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::parse, help_heading = CLIENTS)]
    pub allow_id: Vec<Pattern>,

    /// Users with passwords (EAP-MSCHAPv2) of 'setup user'
    #[arg(long, value_name = "FILE", help_heading = CLIENTS)]
    pub eap_users: Option<Source>,

    /// Take certificates by EAP-TLS, too
    #[arg(long, help_heading = CLIENTS)]
    pub eap_tls: bool,

    /// Pre-shared keys of 'setup psk'
    #[arg(long, value_name = "FILE", help_heading = CLIENTS)]
    pub psk_file: Option<Source>,

    /// Worker threads for ESP; 0 uses none [default: cores - 1]
    #[arg(long, value_name = "N", help_heading = CLIENTS)]
    pub workers: Option<usize>,

    /// Capture all packets into a new file, in clear text
    #[arg(long, value_name = "FILE", display_order = 85)]
    pub pcap: Option<PathBuf>,

    /// Only the gateway's split-tunnel routes take the tunnel
    #[arg(long, help_heading = TUNNEL)]
    pub gateway_routes: bool,

    /// Only the addresses of this name take the tunnel, repeatable
    #[arg(long, value_name = "NAME", value_parser = Suffix::parse, help_heading = TUNNEL)]
    pub tunnel_domain: Vec<Suffix>,

    /// Give clients IPv6, with the company inside this /96
    #[arg(long, value_name = "PREFIX", help_heading = TUNNEL)]
    pub nat64_prefix: Option<Prefix96>,

    /// Domain whose names lead into the NAT64 prefix, repeatable
    #[arg(long, value_name = "DOMAIN", requires = "nat64_prefix", value_parser = Suffix::parse, help_heading = TUNNEL)]
    pub dns64_tunnel_suffix: Vec<Suffix>,

    /// The way to the FortiGate, and signing in there. clap cannot have it inside a group that may be absent.
    #[arg(skip)]
    pub uplink: UplinkArgs,
}

impl Ikev2Args {
    /// The option that reads standard input; there is one at most.
    pub fn reader_of_stdin(&self) -> Option<&'static str> {
        let ours = self.secrets().find(|(_, source)| **source == Source::Stdin).map(|(option, _)| option);
        ours.or_else(|| self.uplink.reader_of_stdin())
    }

    /// Everything secret towards clients, with its option.
    fn secrets(&self) -> impl Iterator<Item = (&'static str, &Source)> {
        let keys = self.key.iter().map(|key| ("--key", key));
        let users = self.eap_users.iter().map(|users| ("--eap-users", users));
        let psks = self.psk_file.iter().map(|psks| ("--psk-file", psks));
        keys.chain(users).chain(psks).chain(self.ppk_file.iter().map(|ppks| ("--ppk-file", ppks)))
    }

    /// Refuses what clap cannot see.
    fn check_contradictions(&self) -> Result<(), String> {
        if self.ike_port == self.nat_port {
            return Err(format!("--ike-port and --nat-port are both {}; they must differ", self.ike_port));
        }
        let twice = self
            .listen_ip
            .iter()
            .enumerate()
            .find(|(i, ip)| self.listen_ip.iter().take(*i).any(|e| e == *ip));
        if let Some((_, ip)) = twice {
            return Err(format!("--listen-ip {ip} is given twice"));
        }
        if self.tunnel_domain.len() > MAX_TUNNEL_DOMAINS {
            return Err(format!("--tunnel-domain can be given {MAX_TUNNEL_DOMAINS} times, not more"));
        }
        let (certs, keys) = (self.cert.len(), self.key.len());
        if certs != keys {
            return Err(format!(
                "there are {certs} of --cert and {keys} of --key: each certificate needs its key, in the same order"
            ));
        }
        self.uplink.check_contradictions(self.secrets())
    }
}

/// The options of `login`.
#[derive(Args, Clone, Debug)]
pub struct LoginArgs {
    /// The address that the browser was sent to (http://127.0.0.1:8020/?id=...) or the id in it; - reads an address,
    /// an id, a cookie or an answer from standard input [default: ask]
    #[arg(value_name = "TEXT", value_parser = not_secret)]
    pub text: Option<String>,

    /// The control socket of the daemon
    #[arg(long, value_name = "FILE")]
    pub control: Option<PathBuf>,
}

/// The options of `reload`.
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// The control socket of the daemon
    #[arg(long, value_name = "FILE")]
    pub control: Option<PathBuf>,
}

/// Other users of the machine see a command line: a sign-in id in it is of use once, and for a moment.
fn not_secret(text: &str) -> Result<String, &'static str> {
    if text.contains("SVPNCOOKIE") {
        return Err(
            "other users of this machine can see a cookie in the command line: use 'login -' and standard input",
        );
    }
    if text != "-" && !engine::is_sign_in_id(text) {
        return Err(
            "this is neither the address that the browser was sent to nor the id in it; passwords and codes \
                    go to 'login -' or are asked for",
        );
    }
    Ok(text.to_owned())
}

/// The options of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Stay up afterwards and print how to connect a client of your own
    #[arg(long)]
    pub stay: bool,

    /// Only the gateway, for tests; what follows are its own options
    #[arg(long, hide = true, num_args = 0.., allow_hyphen_values = true, value_name = "OPTIONS")]
    pub gateway_only: Option<Vec<OsString>>,
}

fn level_parser() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|name| LevelFilter::from_str(&name))
}

/// The FortiGate's place: a host name or address, and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Host name, or an address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Destination {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "expected host:port, for example vpn.example.com:443";
        if text.contains("://") || text.contains('/') {
            return Err("expected host:port, not a URL");
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or(FORM)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| FORM)?;
                (host, if behind.is_empty() { None } else { Some(behind.strip_prefix(':').ok_or(FORM)?) })
            }
            None => match text.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("write an IPv6 address in brackets: [2001:db8::1]:443");
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            Some(digits) => {
                digits.parse::<NonZeroU16>().map_err(|_| "the port must be a number from 1 to 65535")?.get()
            }
            None => 443,
        };
        rustls::pki_types::ServerName::try_from(host).map_err(|_| FORM)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Reads a pool of inner addresses and says what is wrong with one that will not do.
fn client_pool(text: &str) -> Result<Pool, String> {
    let form = || "expected an IPv4 network, for example 198.19.255.0/24".to_owned();
    let (address, prefix_len) = text.split_once('/').ok_or_else(form)?;
    let address: Ipv4Addr = address.parse().map_err(|_| form())?;
    let prefix_len: u8 = prefix_len.parse().map_err(|_| form())?;
    if !(16..=29).contains(&prefix_len) {
        return Err("the prefix length must be from 16 to 29".to_owned());
    }
    let network = Ipv4Addr::from_bits(address.to_bits() & !(u32::MAX >> prefix_len));
    let [first, ..] = network.octets();
    if first == 0 || first >= 224 || network.is_loopback() || network.is_link_local() {
        return Err("clients cannot have addresses of this network".to_owned());
    }
    Pool::new(address, prefix_len)
        .ok_or_else(|| format!("it has host bits set; the network is {network}/{prefix_len}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: [&str; 4] = ["--destination=gw.example:4443", "--cacert=ca", "--cert=cert", "--key=key"];

    fn ikev2(before: &[&str], after: &[&str]) -> Result<Ikev2Args, clap::Error> {
        let argv = ["pterodapter"].iter().chain(before).chain(&["ikev2"]).chain(after);
        match parse(argv)?.command {
            Command::Ikev2(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    fn refused(before: &[&str], after: &[&str]) -> String {
        let error = ikev2(before, after).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    #[test]
    fn clap_finds_no_fault_in_the_definition() {
        Typed::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_after_the_word_and_in_both_forms() {
        let before = ikev2(&REQUIRED, &[]).unwrap();
        let after = ikev2(&[], &REQUIRED).unwrap();
        let mixed = ikev2(
            &["--destination", "gw.example:4443", "--key", "key"],
            &["--cacert", "ca", "--cert", "cert"],
        );
        for args in [before, after, mixed.unwrap()] {
            assert_eq!(args.destination, Destination { host: "gw.example".into(), port: 4443 });
            assert_eq!((args.ike_port.get(), args.nat_port.get()), (500, 4500));
            assert_eq!(args.id_hostname, "pterodapter");
            assert_eq!(args.client_pool, Pool::DEFAULT);
            assert!(args.listen_ip.is_empty() && args.workers.is_none() && args.uplink.username.is_none());
        }
    }

    #[test]
    fn a_repeatable_option_adds_up_across_the_word() {
        let args =
            ikev2(&["--listen-ip", "192.0.2.1"], &[&["--listen-ip=2001:db8::1"], &REQUIRED[..]].concat());
        assert_eq!(args.unwrap().listen_ip.len(), 2);
    }

    #[test]
    fn the_log_level_goes_with_every_command() {
        let level = |argv: &[&str]| parse(argv).unwrap().log_level;
        assert_eq!(level(&["pterodapter", "demo"]), LevelFilter::Info);
        assert_eq!(level(&["pterodapter", "--log-level", "off", "demo"]), LevelFilter::Off);
        assert_eq!(level(&["pterodapter", "demo", "--log-level=trace", "--stay"]), LevelFilter::Trace);
    }

    #[test]
    fn options_behind_gateway_only_are_the_gateways() {
        let argv = ["pterodapter", "demo", "--gateway-only", "--listen", "127.0.0.1:0", "--user=a:b"];
        match parse(argv).unwrap().command {
            Command::Demo(demo) => {
                assert_eq!(demo.gateway_only.unwrap(), ["--listen", "127.0.0.1:0", "--user=a:b"])
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_unknown_or_contradictory_is_refused() {
        assert!(refused(&[], &[]).contains("--destination"));
        assert!(refused(&REQUIRED[1..], &[]).contains("--destination"));
        let with = |more: &[&str]| refused(&REQUIRED, more);
        for (more, says) in [
            (&["--frobnicate"][..], "--frobnicate"),
            (&["--log-level=loud"], "loud"),
            (&["--ike-port=0"], "--ike-port"),
            (&["--ike-port=70000"], "--ike-port"),
            (&["--ike-port=4500"], "must differ"),
            (&["--ike-port=1", "--ike-port=2"], "multiple times"),
            (&["--listen-ip=::1", "--listen-ip=::1"], "twice"),
            (&["--password-file=-"], "--username"),
            (&["--username=a", "--password-file=-", "--no-password"], "--no-password"),
            (&["--username=a", "--password-file=-", "--otp=-"], "cannot both read standard input"),
            (&["--username=a", "--saml"], "--saml"),
            (&["--username=a", "--otp=x", "--otp-command=y"], "--otp-command"),
            (&["--otp-command=y"], "a browser asks for codes itself"),
            (&["--username=a", "--cookie-file=-"], "--cookie-file"),
            (&["--user-cert=c"], "--user-key"),
            (&["--trusted-cert=sha256:12"], "64 hexadecimal digits"),
            (&["--uplink-proxy=http://a:b@c:1"], "--uplink-proxy"),
            (&["--uplink-proxy=http://c:1", "--uplink-proxy-password-file=x"], "needs a user name"),
            (&["--keepalive=1"], "--keepalive"),
            (&["--sni=a b"], "not a host name"),
            (&["--user-agent=a\nb"], "one line"),
            (&["--client-pool=10.0.0.0"], "IPv4 network"),
            (&["--client-pool=10.0.0.1/24"], "10.0.0.0/24"),
            (&["--client-pool=10.0.0.0/30"], "prefix length"),
            (&["--client-pool=127.0.0.0/24"], "cannot have"),
            (&["--workers=many"], "--workers"),
            (&["--tunnel-domain=10.1.2.3"], "not a domain name"),
            (&["--tunnel-domain=a.example"; MAX_TUNNEL_DOMAINS + 1], "256 times"),
            (&["demo"], "belongs to ikev2"),
            (&["second"], "second"),
        ] {
            let text = with(more);
            assert!(text.contains(says), "{more:?}: {text}");
        }
        let twice = refused(&REQUIRED[..3], &["--key=-", "--otp=-", "--username=a"]);
        assert!(twice.contains("--otp and --key cannot both read standard input"), "{twice}");
        let alone = refused(&REQUIRED, &["--cert=rsa"]);
        assert!(
            alone.contains("there are 2 of --cert and 1 of --key: each certificate needs its key"),
            "{alone}"
        );
        let stray = parse(["pterodapter", "--key=k", "demo"]).unwrap_err();
        assert!(stray.to_string().contains("'key' belongs to ikev2"), "{stray}");
        assert_eq!(parse(["pterodapter", "ikev3"]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(["pterodapter"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn destinations() {
        let parsed = |text: &str| text.parse::<Destination>().map(|d| (d.host, d.port));
        for (text, host, port) in [
            ("vpn.example.com:10443", "vpn.example.com", 10443),
            ("vpn.example.com", "vpn.example.com", 443),
            ("192.0.2.7:443", "192.0.2.7", 443),
            ("[2001:db8::1]:8443", "2001:db8::1", 8443),
            ("[2001:db8::1]", "2001:db8::1", 443),
        ] {
            assert_eq!(parsed(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in [
            "",
            ":443",
            "host:",
            "host:0",
            "host:x",
            "2001:db8::1",
            "https://vpn.example.com",
            "[::1",
            "[host]:1",
            "a b:1",
        ] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_would_show_a_secret_is_refused() {
        let login = |text: &str| -> Result<_, clap::Error> {
            match parse(["pterodapter", "login", text])?.command {
                Command::Login(login) => Ok(login.text),
                other => panic!("{other:?}"),
            }
        };
        for text in ["-", "6c1f0a9e-5d1b", "id=6c1f0a9e", "http://127.0.0.1:8020/?id=6c1f0a9e"] {
            assert_eq!(login(text).unwrap().as_deref(), Some(text));
        }
        for (text, says) in
            [("SVPNCOOKIE=a", "login -"), ("p@ss word", "passwords and codes go to 'login -'")]
        {
            let error = login(text).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(says), "{error}");
        }
        assert!(
            parse(["pterodapter", "--control=x", "login"])
                .unwrap_err()
                .to_string()
                .contains("'control' belongs")
        );
    }

    #[test]
    fn help_is_short_and_has_headings() {
        let error = parse(["pterodapter", "ikev2", "--help"]).unwrap_err();
        assert_eq!(error.exit_code(), 0);
        let text = error.to_string();
        assert!(text.lines().count() <= 110, "{} lines:\n{text}", text.lines().count());
        for part in [
            "\nOptions:",
            "\nIKEv2 clients:",
            "\nWhat takes the tunnel",
            "\nSigning in:",
            "\nHow people take part:",
            "\nThe way to the FortiGate:",
            "\nCommands:",
            "\nExamples:",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(text.contains("\nExit codes: 0 done"), "{text}");
        // Nothing, and -h, show what fits on a screen.
        for (argv, code) in [(&["pterodapter"][..], 2), (&["pterodapter", "-h"], 0)] {
            let error = parse(argv).unwrap_err();
            let text = error.to_string();
            assert_eq!(error.exit_code(), code);
            assert!(text.lines().count() <= 30 && !text.contains("--listen-ip"), "{text}");
            for part in ["Usage: pterodapter COMMAND", ", reload\n", "\nExamples:", "\nMore: "] {
                assert!(text.contains(part), "{part} in\n{text}");
            }
        }
        for command in ["login", "reload", "demo", "setup"] {
            let text = parse(["pterodapter", command, "--help"]).unwrap_err().to_string();
            assert!(text.contains("\nExample") && text.lines().count() <= 40, "{text}");
        }
        assert!(
            parse(["pterodapter", "--version"]).unwrap_err().to_string().contains(env!("CARGO_PKG_VERSION"))
        );
    }
}
