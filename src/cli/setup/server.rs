//! `pterodapter setup` itself: a configuration, a CA and our certificates.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::crypto::PrivateKey;
use crate::crypto::sign::KeyKind;
use crate::engine::Suffix;
use crate::provision::{Authority, Role, Validity};

use super::super::Failure;
use super::super::args::Destination;
use super::dialogue::Dialogue;
use super::files::{self, Files, PRIVATE, PUBLIC};
use super::{
    CA_CERT, CA_KEY, CONFIGURATION, CRL, LEAF_DAYS, RSA_CERT, RSA_KEY, SERVER_CERT, SERVER_KEY, SetupArgs,
    authority, refused, revoke,
};

const CA_DAYS: u32 = 3650;
/// Where the company is for clients if there are suffixes: RFC 8215 keeps it for such use.
const NAT64_PREFIX: &str = "64:ff9b:1::/96";

/// Makes what the server needs; the text for the person.
pub fn run(args: &SetupArgs, wall: Duration, dialogue: Option<Dialogue<'_>>) -> Result<String, Failure> {
    let answers = Answers::complete(args, dialogue)?;
    let names: Vec<&str> = answers.names.iter().map(String::as_str).collect();
    let [first, ..] = names.as_slice() else {
        return Err(Failure::Usage("--name is missing: the name that clients dial".to_owned()));
    };
    let (authority, is_new) = match authority(&args.dir)? {
        Some(authority) => (authority, false),
        None => (Authority::new(&authority_name(first), wall, CA_DAYS).map_err(refused)?, true),
    };
    let validity = authority.leaf_validity(wall, LEAF_DAYS).map_err(refused)?;
    let given = args.server_key.as_deref().map(GivenKey::read).transpose()?;
    let issue = |kind| match given.as_ref().filter(|given| given.stands_for(kind)) {
        Some(given) => authority.issue_with_key(Role::Server, &names, validity, &given.pem),
        None => authority.issue(Role::Server, &names, validity, kind),
    };
    let ecdsa = issue(KeyKind::P256).map_err(refused)?;
    let rsa = issue(KeyKind::Rsa).map_err(refused)?;

    let mut files = Files::new(&args.dir, args.force);
    files.add_keeping_old(CONFIGURATION, PUBLIC, configuration(&answers, first));
    if is_new {
        files.add(CA_CERT, PUBLIC, authority.cert_pem());
        files.add(CA_KEY, PRIVATE, authority.key_pem());
    }
    // What was revoked stays so; but a list of another CA would be refused.
    let list = revoke::list(&args.dir, &authority, wall)?;
    if is_new {
        files.add(CRL, PUBLIC, list)
    } else {
        files.replace(CRL, PUBLIC, list)
    }
    for (cert, key, issued) in [(SERVER_CERT, SERVER_KEY, ecdsa), (RSA_CERT, RSA_KEY, rsa)] {
        files.add(cert, PUBLIC, issued.cert_pem);
        files.add(key, PRIVATE, issued.key_pem);
    }
    let written = files.write()?;
    let dir = args.dir.display();
    let kept = if is_new { "" } else { "The CA was kept, so devices need nothing new.\n" };
    Ok(format!(
        "{written}{kept}
Next:
  pterodapter check --config {dir}/{CONFIGURATION}
  pterodapter ikev2 --config {dir}/{CONFIGURATION}
  pterodapter setup device NAME --os OS --dir {dir}
"
    ))
}

/// The key of `--server-key`.
struct GivenKey {
    kind: KeyKind,
    pem: String,
}

impl GivenKey {
    fn read(path: &Path) -> Result<Self, Failure> {
        let pem = files::read(path)?;
        let kind = PrivateKey::from_pem(pem.as_bytes()).map_err(|why| refused(why.into()))?.kind();
        Ok(Self { kind, pem })
    }

    /// Whether it is in the place of a new key of this kind: an RSA one, or any of ECDSA.
    fn stands_for(&self, kind: KeyKind) -> bool {
        (self.kind == KeyKind::Rsa) == (kind == KeyKind::Rsa)
    }
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
crl = [\"{CRL}\"]
# ECDSA for most clients, RSA for those that know nothing else
cert = [\"{SERVER_CERT}\", \"{RSA_CERT}\"]
key = [\"{SERVER_KEY}\", \"{RSA_KEY}\"]

# To sign in with a password instead of SAML in a browser; it is asked for, unless it is in a file of mode 600:
#username = \"alice\"
#password-file = \"password\"
{split}",
        port = destination.port
    )
}
