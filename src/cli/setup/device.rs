//! `pterodapter setup device`: a certificate for one device, in the form that its system takes.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::crypto::pkcs12::{self, Contents};
use crate::crypto::sign::KeyKind;
use crate::crypto::{Certificate, Secret, SystemRandom, pem};
use crate::provision::Role;
use crate::provision::profile::{Profile, android, apple, networkmanager, strongswan, windows};

use super::super::args::{self, Command, Ikev2Args};
use super::super::{Failure, config_file, one_line, terminal};
use super::files::{Files, PRIVATE, PUBLIC};
use super::serve::{self, Offer, Server};
use super::user::password;
use super::{CONFIGURATION, DEVICES, LEAF_DAYS, existing_authority, record, refused, say};

/// The ports that clients use if nothing else is said.
const USUAL_PORTS: (u16, u16) = (500, 4500);

/// The options of `setup device`.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// The device's name, say alice-laptop; it becomes its identity
    #[arg(value_name = "NAME")]
    name: String,

    /// The system whose VPN client will be used
    #[arg(long, value_name = "OS")]
    os: System,

    /// Where to put the files for the device
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,

    /// macOS, iOS: connect by itself when it is needed
    #[arg(long)]
    on_demand: bool,

    /// Windows: a network that takes the tunnel, repeatable [default: everything]
    #[arg(long = "route", value_name = "NETWORK", value_parser = network)]
    routes: Vec<String>,

    /// macOS, iOS, Android: write no file, but offer the profile by a link (with a QR code) that works once
    #[arg(long, conflicts_with = "out")]
    serve: bool,

    /// Where to serve the link [default: this host's address towards the default route, a free port]
    #[arg(long, value_name = "IP:PORT", requires = "serve")]
    listen: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    Macos,
    Ios,
    Windows,
    Android,
    Strongswan,
    #[value(name = "networkmanager")]
    NetworkManager,
}

/// The system as it is typed.
fn system_name(os: System) -> String {
    os.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Issues the certificate and writes the files; the text for the person.
pub fn run(args: &DeviceArgs, dir: &Path, force: bool, wall: Duration) -> Result<String, Failure> {
    let name = args.name.as_str();
    check_name(name)?;
    // Before anything is made: what cannot be had needs no certificate.
    let offered = if args.serve { Some((servable(args.os)?, Server::bind(args.listen)?)) } else { None };
    let server = configuration(dir)?;
    let authority = existing_authority(dir)?;
    let validity = authority.leaf_validity(wall, LEAF_DAYS).map_err(refused)?;
    let identity = authority.issue(Role::Client, &[name], validity, KeyKind::P256).map_err(refused)?;
    let parse = |der: &[u8]| Certificate::parse(der).map_err(|why| refused(why.into()));
    if parse(&identity.cert_der)?.sans().is_empty() {
        return Err(not_a_name(name));
    }
    let authority_name = parse(authority.cert_der())?.common_name().unwrap_or_default().to_owned();
    let key = pem::pkcs8_der(identity.key_pem.as_bytes())
        .ok_or_else(|| Failure::Runtime("the new key is in no form that we know".to_owned()))?;
    let mut random = SystemRandom::new();
    let password = password(20, &mut random);
    let contents = Contents {
        name,
        key: key.expose(),
        certificate: &identity.cert_der,
        authority: authority.cert_der(),
    };
    let domains: Vec<String> = server
        .dns64_tunnel_suffix
        .iter()
        .chain(&server.tunnel_domain)
        .map(|suffix| suffix.to_string().trim_start_matches('.').to_owned())
        .collect();
    let profile = Profile {
        server: &server.id_hostname,
        port: port(args.os, &server)?,
        device: name,
        identity: &identity,
        authority_name: &authority_name,
        authority_pem: authority.cert_pem(),
        authority_der: authority.cert_der(),
        pkcs12: &pkcs12::emit(contents, &password, &mut random),
        dns_server: dns_server(&server),
        nat64_prefix: server.nat64_prefix.map(|prefix| prefix.to_string()),
        split: server.nat64_prefix.is_some()
            || server.gateway_routes
            || !server.tunnel_domain.is_empty()
            || !args.routes.is_empty(),
        routes: &args.routes,
        domains: &domains,
        on_demand: args.on_demand,
    };

    let mut files = Files::new(Path::new(""), force);
    let mut texts = texts(args.os, &profile);
    let record = record::with_new(dir, name, &system_name(args.os), &identity)?;
    let record_path = dir.join(record::path(DEVICES, name));
    let Some(((media_type, steps), link)) = offered else {
        for (file, mode, content) in texts {
            files.add(args.out.join(file), mode, content);
        }
        files.add(record_path, PUBLIC, record);
        return Ok(format!("{}{}", files.write()?, advice(args, &password)));
    };
    files.add(record_path, PUBLIC, record);
    let written = files.write()?;
    let (file, _, content) = texts.swap_remove(0);
    let offer = Offer { file, media_type, steps, content: Secret::new(content.into_bytes()) };
    serve(&written, &password, &link, offer)
}

/// Media type and steps where the profile is one file, and of no use without its password.
fn servable(os: System) -> Result<(&'static str, &'static [&'static str]), Failure> {
    match os {
        System::Ios => Ok((
            apple::MEDIA_TYPE,
            &[
                "Download the profile, and allow it.",
                "Settings: tap <em>Profile Downloaded</em>, or General, VPN &amp; Device Management. Install it.",
                "It asks for the code of this device, then for the password.",
                "Settings, VPN: switch it on.",
            ],
        )),
        System::Macos => Ok((
            apple::MEDIA_TYPE,
            &[
                "Download the profile and open it.",
                "System Settings, General, Device Management: open the profile and install it.",
                "It asks for the password.",
                "System Settings, VPN: switch it on.",
            ],
        )),
        System::Android => Ok((
            android::MEDIA_TYPE,
            &[
                "Install the app <em>strongSwan VPN Client</em>.",
                "Download the profile (the browser may warn, since the link is not encrypted) and open it with the app.",
                "Import it. It asks for the password.",
                "In the app: connect.",
            ],
        )),
        System::Windows | System::Strongswan | System::NetworkManager => Err(Failure::Usage(format!(
            "--serve is for ios, macos and android, whose profile is one file behind a password; the files for {} are \
             to be copied: leave --serve out",
            system_name(os)
        ))),
    }
}

/// Offers the profile until it was fetched; the text for the person then.
fn serve(written: &str, password: &str, server: &Server, offer: Offer) -> Result<String, Failure> {
    let link = server.link();
    let code = terminal::qr_code(io::stdout(), &link).map(|code| format!("\n{code}")).unwrap_or_default();
    let file = offer.file.clone();
    say(&format!(
        "{written}{code}\nOpen this on the device, in the same network, within {} minutes. It can be downloaded once:\n  \
         {link}\n\nIt asks for this password, which is shown only now:\n  {password}\n\n\
         The link is not encrypted: use it in a network that you trust.\n\
         The password is what protects the key in the file.\n\n",
        serve::OFFER.as_secs() / 60
    ))?;
    let is_terminal = io::stdout().is_terminal();
    let waiting = |left: Duration| {
        if is_terminal {
            let left = left.as_secs();
            // Where it cannot be shown there is nobody to see it.
            let _ = say(&format!(
                "\rwaiting for the download, {}:{:02} left (Ctrl-C ends) ",
                left / 60,
                left % 60
            ));
        }
    };
    let fetched = server.serve(offer, serve::OFFER, waiting)?;
    let end = if is_terminal { "\n" } else { "" };
    if fetched {
        return Ok(format!("{end}{file} was downloaded; the link does not work any more\n"));
    }
    say(end)?;
    Err(Failure::Runtime(format!(
        "nobody downloaded {file}; is TCP port {} open in this host's firewall? Again with --force",
        server.port()
    )))
}

/// The files for the device, with their modes.
fn texts(os: System, profile: &Profile<'_>) -> Vec<(String, u32, String)> {
    let Profile { device, identity, authority_pem, .. } = profile;
    let (cert, key, ca) = (&identity.cert_pem, &identity.key_pem, *authority_pem);
    match os {
        System::Macos | System::Ios => {
            vec![(format!("{device}.mobileconfig"), PRIVATE, apple::mobileconfig(profile))]
        }
        System::Windows => vec![
            (format!("{device}-install.ps1"), PRIVATE, windows::install(profile)),
            (format!("{device}-remove.ps1"), PUBLIC, windows::remove(profile)),
        ],
        System::Android => vec![(format!("{device}.sswan"), PRIVATE, android::sswan(profile))],
        System::Strongswan => {
            let file = |name: &str| format!("{device}-strongswan/{name}");
            vec![
                (file("conf.d/pterodapter.conf"), PUBLIC, strongswan::swanctl(profile)),
                (file("x509ca/pterodapter.pem"), PUBLIC, ca.to_owned()),
                (file(&format!("x509/{device}.pem")), PUBLIC, cert.clone()),
                (file(&format!("private/{device}.key")), PRIVATE, key.clone()),
            ]
        }
        System::NetworkManager => {
            let file = |name: &str| format!("{device}-networkmanager/{name}");
            vec![
                (file("pterodapter.nmconnection"), PRIVATE, networkmanager::nmconnection(profile)),
                (file("ca.pem"), PUBLIC, ca.to_owned()),
                (file(&format!("{device}.pem")), PUBLIC, cert.clone()),
                (file(&format!("{device}.key")), PRIVATE, key.clone()),
            ]
        }
    }
}

/// What to do with the files.
fn advice(args: &DeviceArgs, password: &str) -> String {
    let DeviceArgs { name, out, .. } = args;
    let out = out.display();
    let next = match args.os {
        System::Macos => format!(
            "Open {name}.mobileconfig on the Mac, then System Settings, General, Device Management.\n"
        ),
        System::Ios => format!(
            "Send {name}.mobileconfig by AirDrop or mail, open it, then Settings, General, VPN & Device Management.\n"
        ),
        System::Windows => format!(
            "Copy {name}-install.ps1 to the machine, and in PowerShell as administrator:\n  \
             powershell -ExecutionPolicy Bypass -File {name}-install.ps1\n"
        ),
        System::Android => {
            format!("Copy {name}.sswan to the device and open it with the strongSwan app.\n")
        }
        System::Strongswan => {
            return format!(
                "\nOn the device, as root:\n  cp -r {out}/{name}-strongswan/* /etc/swanctl/\n  \
                 systemctl restart strongswan\n  swanctl --initiate --child company\n"
            );
        }
        System::NetworkManager => {
            let dir = networkmanager::DIRECTORY;
            return format!(
                "\nOn the device, as root, in {out}/{name}-networkmanager:\n  \
                 install -d -m 700 {dir}\n  install -m 600 *.pem *.key {dir}/\n  \
                 install -m 600 pterodapter.nmconnection /etc/NetworkManager/system-connections/\n  \
                 nmcli connection reload\n"
            );
        }
    };
    format!(
        "\n{next}It asks for this password, which is shown only now:\n  {password}\n\
         The file holds the device's key: send it on a safe way, and delete it afterwards.\n"
    )
}

/// The server's own configuration.
fn configuration(dir: &Path) -> Result<Ikev2Args, Failure> {
    let path = dir.join(CONFIGURATION);
    if !path.exists() {
        let text = format!("there is no {}; run 'pterodapter setup' first", path.display());
        return Err(Failure::Configuration(text));
    }
    let mut option = OsString::from("--config=");
    option.push(&path);
    let argv = vec!["pterodapter".into(), option, "ikev2".into()];
    let argv = config_file::merge(&args::definition(), argv)
        .map_err(|error| Failure::Configuration(error.to_string()))?;
    match args::parse(argv) {
        Ok(args::Invocation { command: Command::Ikev2(args), .. }) => Ok(*args),
        Ok(_) => Err(Failure::Configuration(format!("{} is for another command", path.display()))),
        Err(error) => {
            Err(Failure::Configuration(format!("{}: {}", path.display(), one_line(&error.to_string()))))
        }
    }
}

/// The name becomes a file, a certificate's identity, and a word in several languages.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let fine = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 64
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c));
    if fine { Ok(()) } else { Err(not_a_name(name)) }
}

fn not_a_name(name: &str) -> Failure {
    Failure::Usage(format!(
        "{name:?} cannot be a device's name: letters, digits and hyphens, like a host name or an e-mail address"
    ))
}

fn network(text: &str) -> Result<String, String> {
    let form = || "expected a network, for example 10.0.0.0/8".to_owned();
    let (address, len) = text.split_once('/').ok_or_else(form)?;
    let address: std::net::IpAddr = address.parse().map_err(|_| form())?;
    let len: u8 = len.parse().map_err(|_| form())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if len > most { Err(form()) } else { Ok(format!("{address}/{len}")) }
}

/// The port that the client must be told, if any; some cannot be told.
fn port(os: System, server: &Ikev2Args) -> Result<Option<u16>, Failure> {
    if (server.ike_port.get(), server.nat_port.get()) == USUAL_PORTS {
        return Ok(None);
    }
    match os {
        System::Macos | System::Ios | System::Windows => Err(Failure::Configuration(format!(
            "this system can use only the ports 500 and 4500, and the server has {} and {}",
            server.ike_port, server.nat_port
        ))),
        _ => Ok(Some(server.nat_port.get())),
    }
}

/// Our own address inside the tunnel.
fn dns_server(server: &Ikev2Args) -> Ipv4Addr {
    server.client_pool.host()
}
