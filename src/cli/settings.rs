//! What was meant: files read, keys parsed, certificates checked. No socket is opened here.

mod credentials;
mod files;
mod ppk;
mod uplink;
mod users;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::crypto::pki::{ChainError, CrlError};
use crate::crypto::{self, Certificate, TrustAnchors};
use crate::engine::{Access, Config, Identity, Split};
use crate::fortivpn::cookie;

use super::args::Ikev2Args;
use files::Files;

pub use credentials::in_words;
pub use uplink::{control_of_daemon, controls_to_try, page};

const DAY: u64 = 24 * 60 * 60;
/// A certificate that ends within this time should be renewed.
pub const SOON: Duration = Duration::from_secs(30 * DAY);

/// A configuration that will not do: which option, and what is wrong with it.
#[derive(Debug)]
pub enum Error {
    /// A file cannot be read.
    Unreadable { option: &'static str, path: PathBuf, why: io::Error },
    /// A file does not hold what it should.
    Unusable { option: &'static str, path: PathBuf, why: crypto::Error },
    /// A file of authorities holds something else.
    NotAnAuthority { path: PathBuf, why: ChainError },
    /// A revocation list cannot be used.
    BadList { path: PathBuf, why: CrlError },
    /// The key belongs to another certificate: to `fits`, if that is one of ours.
    KeyMismatch { option: &'static str, key: PathBuf, cert: PathBuf, fits: Option<PathBuf> },
    /// The key needs a passphrase.
    Encrypted { path: PathBuf },
    /// Our certificate was valid until so long ago.
    Expired { path: PathBuf, ago: Duration },
    /// Our certificate becomes valid after so long.
    NotYetValid { path: PathBuf, after: Duration },
    /// A file of post-quantum preshared keys cannot be used.
    BadPpk { path: PathBuf, line: usize, why: &'static str },
    /// Where a secret of one line should be, there is none.
    NoLine { option: &'static str, path: PathBuf },
    /// A line of a file does not say what it should.
    BadLine { option: &'static str, path: PathBuf, line: usize, why: &'static str },
    /// There is no session cookie.
    NoCookie { path: PathBuf, why: cookie::Error },
    /// There is no directory of credentials.
    NoCredentials { option: &'static str, name: String },
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { option, path, why } => {
                write!(f, "{option}: cannot read {}: {why}", path.display())
            }
            Self::Unusable { option, path, why } => write!(f, "{option}: {}: {why}", path.display()),
            Self::NotAnAuthority { path, why } => {
                write!(
                    f,
                    "--cacert: {}: {why}; give the CA that signs the clients' certificates",
                    path.display()
                )
            }
            Self::BadList { path, why } => write!(f, "--crl: {}: {why}", path.display()),
            Self::KeyMismatch { option, key, cert, fits } => {
                let (key, cert) = (key.display(), cert.display());
                write!(f, "{option}: {key} is not the key of the first certificate in {cert}")?;
                fits.as_ref().map_or(Ok(()), |fits| {
                    write!(f, ", but of that in {}: give keys in the order of --cert", fits.display())
                })
            }
            Self::Encrypted { path } => write!(
                f,
                "--user-key: {} needs a passphrase; take it away with 'openssl pkey -in FILE -out NEW' and chmod 600 the \
                 new file",
                path.display()
            ),
            Self::Expired { path, ago } => {
                write!(f, "--cert: {} expired {} ago; issue a new one", path.display(), Days(*ago))
            }
            Self::NotYetValid { path, after } => {
                write!(f, "--cert: {} is valid only in {}; is the clock right?", path.display(), Days(*after))
            }
            Self::BadPpk { path, line, why } => {
                write!(f, "--ppk-file: {} line {line}: {why}", path.display())
            }
            Self::NoLine { option, path } => {
                write!(f, "{option}: the first line of {} is empty or not text", path.display())
            }
            Self::BadLine { option, path, line, why } => {
                write!(f, "{option}: {}:{line}: {why}", path.display())
            }
            Self::NoCookie { path, why } => write!(f, "--cookie-file: {}: {why}", path.display()),
            Self::NoCredentials { option, name } => write!(
                f,
                "{option}: there are no credentials here; credential:{name} needs a service with LoadCredential={name}:FILE"
            ),
        }
    }
}

/// What works, but deserves a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Our certificate is not from the clients' authority.
    OtherIssuer { cert: PathBuf, why: ChainError },
    /// Clients compare our name with the certificate.
    NameNotInCertificate { cert: PathBuf, name: String },
    /// Our certificate ends soon.
    ExpiresSoon { cert: PathBuf, left: Duration },
    /// The certificate of an authority ended so long ago.
    AuthorityExpired { name: String, ago: Duration },
    /// The certificate of an authority ends soon.
    AuthorityExpiresSoon { name: String, left: Duration },
    /// A revocation list takes an authority back.
    AuthorityRevoked(String),
    /// A newer revocation list was promised for so long ago.
    OldList { path: PathBuf, ago: Duration },
    /// Everyone on this machine may read a secret.
    WorldReadable(PathBuf),
    /// Other machines reach the SAML listener.
    SamlListenPublic(IpAddr),
    /// The NAT64 prefix is the one for public addresses.
    WellKnownPrefix,
    /// Clients may agree on a key exchange that can be broken.
    WeakGroups,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherIssuer { cert, why: ChainError::Revoked } => write!(
                f,
                "--cert: {} is on a revocation list of --crl: clients may refuse it; issue a new one",
                cert.display()
            ),
            Self::OtherIssuer { cert, why } => write!(
                f,
                "--cert: {} does not chain to --cacert ({why}): clients must trust its issuer by other means",
                cert.display()
            ),
            Self::NameNotInCertificate { cert, name } => write!(
                f,
                "--id-hostname {name} is not among the names in {}: most clients will refuse it",
                cert.display()
            ),
            Self::ExpiresSoon { cert, left } => write!(
                f,
                "--cert: {} expires in {}; if 'pterodapter setup' made it: sudo pterodapter setup renew",
                cert.display(),
                Days(*left)
            ),
            Self::AuthorityExpired { name, ago } => write!(
                f,
                "--cacert: the certificate of {name:?} expired {} ago: most clients refuse what it signed",
                Days(*ago)
            ),
            Self::AuthorityExpiresSoon { name, left } => {
                write!(f, "--cacert: the certificate of {name:?} expires in {}: devices need a new CA", Days(*left))
            }
            Self::AuthorityRevoked(name) => {
                write!(f, "--cacert: {name:?} is on a revocation list of --crl: it is not trusted")
            }
            Self::OldList { path, ago } => write!(
                f,
                "--crl: {}: its authority promised a newer one {} ago; what it lists stays refused, but what was revoked \
                 since is not in it",
                path.display(),
                Days(*ago)
            ),
            Self::WorldReadable(path) => {
                write!(f, "every user of this machine can read {}: chmod 600 it", path.display())
            }
            Self::WellKnownPrefix => f.write_str(
                "--nat64-prefix 64:ff9b::/96 is reserved for public addresses (RFC 6052): some systems refuse private \
                 ones in it; take a /96 inside 64:ff9b:1::/48, say 64:ff9b:1::/96",
            ),
            Self::WeakGroups => f.write_str(
                "--allow-weak-windows-defaults: a client may agree on 1024-bit MODP, which states can break; better give \
                 Windows the settings that 'pterodapter setup device' writes",
            ),
            Self::SamlListenPublic(ip) => {
                write!(f, "--saml-listen {ip} is not a loopback address: other machines can answer the login")
            }
        }
    }
}

/// A length of time, in whole days where it has some.
pub struct Days(pub Duration);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() / DAY {
            0 => f.write_str("less than a day"),
            1 => f.write_str("1 day"),
            days => write!(f, "{days} days"),
        }
    }
}

/// What the checks need to know of the system.
#[derive(Clone, Debug)]
pub struct System {
    /// Wall clock, since 1970-01-01 UTC.
    pub wall: Duration,
    /// Cores that we may use.
    pub cores: usize,
    /// There is a `::1`.
    pub loopback_v6: bool,
    /// Where systemd puts credentials (`$CREDENTIALS_DIRECTORY`).
    pub credentials: Option<PathBuf>,
    /// Where the control socket goes, unless an option says otherwise.
    pub control: Option<PathBuf>,
}

/// Digests of what options read, by their long names: to see later whether it is still the same.
pub type Contents = BTreeMap<String, [u8; 32]>;

/// A configuration with all that its options name.
#[derive(Debug)]
pub struct Loaded {
    /// It.
    pub config: Config,
    /// What deserves a look.
    pub warnings: Vec<Warning>,
    /// What was read.
    pub contents: Contents,
}

/// Everything that is wrong with the options and the files they name; at least one thing.
#[derive(Debug)]
pub struct Faults {
    /// What is broken.
    pub faults: Vec<Error>,
    /// What works all the same, but deserves a look.
    pub warnings: Vec<Warning>,
}

impl std::error::Error for Faults {}

/// The first of them: one line.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.faults.first().map_or(Ok(()), |fault| fault.fmt(f))
    }
}

/// Turns options into the daemon's configuration. `stdin` is read only for an option that says so.
///
/// # Errors
/// Every rule that is broken.
pub fn load(args: &Ikev2Args, system: &System, stdin: impl Read) -> Result<Loaded, Box<Faults>> {
    let credentials = system.credentials.as_deref();
    let mut files =
        Files { credentials, stdin, warnings: Vec::new(), contents: Contents::new(), faults: Vec::new() };
    let identity = identity(args, system, &mut files);
    let uplink = uplink::session(&args.uplink, &args.destination, &mut files);
    let transport = uplink::transport(&args.uplink, &mut files);
    let page = page(args, system);
    let public = page.iter().map(SocketAddr::ip).filter(|ip| !ip.is_loopback());
    files.warnings.extend(public.map(Warning::SamlListenPublic));
    let sign_in = uplink::sign_in(&args.uplink, system, &mut files);
    let split = split(args, &mut files.warnings);
    let weak_groups = args.allow_weak_windows_defaults;
    files.warnings.extend(weak_groups.then_some(Warning::WeakGroups));
    let Files { warnings, contents, faults, .. } = files;
    match (identity, uplink, transport, sign_in) {
        (Some(identity), Some(uplink), Some(transport), Some(sign_in)) if faults.is_empty() => {
            let config = Config {
                listen: listen(args),
                ike_port: args.ike_port.get(),
                nat_port: args.nat_port.get(),
                identity,
                pool: args.client_pool,
                workers: args.workers.unwrap_or(system.cores.saturating_sub(1)),
                uplink,
                transport,
                page,
                metrics: args.uplink.metrics,
                sign_in,
                split,
                unique: args.unique,
                weak_groups,
                reload: None,
                pcap: args.pcap.clone(),
            };
            Ok(Loaded { config, warnings, contents })
        }
        _ => Err(Box::new(Faults { faults, warnings })),
    }
}

/// The addresses to serve on. The engine falls back to 0.0.0.0 where the system has no IPv6.
pub fn listen(args: &Ikev2Args) -> Vec<IpAddr> {
    if args.listen_ip.is_empty() { vec![Ipv6Addr::UNSPECIFIED.into()] } else { args.listen_ip.clone() }
}

fn split(args: &Ikev2Args, warnings: &mut Vec<Warning>) -> Split {
    if args.nat64_prefix.is_some_and(|prefix| prefix.is_well_known()) {
        warnings.push(Warning::WellKnownPrefix);
    }
    Split {
        nat64: args.nat64_prefix,
        dns64_suffixes: args.dns64_tunnel_suffix.clone(),
        gateway_routes: args.gateway_routes,
        tunnel_domains: args.tunnel_domain.clone(),
    }
}

fn identity(args: &Ikev2Args, system: &System, files: &mut Files<'_, impl Read>) -> Option<Identity> {
    let anchors = anchors(args, system, files);
    let users = args.eap_users.as_ref().map(|source| users::users(files, source));
    let users = users.and_then(|users| files.keep(users)).unwrap_or_default();
    let psks = args.psk_file.as_ref().map(|source| users::psks(files, source));
    let psks = psks.and_then(|psks| files.keep(psks)).unwrap_or_default();
    let ppks = args.ppk_file.as_ref().map(|source| ppk::read(source, files));
    let ppks = ppks.and_then(|ppks| files.keep(ppks)).unwrap_or_default();
    let credentials = credentials::credentials(args, system, anchors.as_ref(), files);
    let (allowed, eap_tls) = (args.allow_id.clone(), args.eap_tls);
    Some(Identity {
        hostname: args.id_hostname.clone(),
        credentials: credentials?,
        access: Access { users, psks, ppks, eap_tls, allowed, ..Access::by_certificate(anchors?) },
    })
}

/// The clients' authorities, with what they took back.
fn anchors(args: &Ikev2Args, system: &System, files: &mut Files<'_, impl Read>) -> Option<TrustAnchors> {
    let authorities = files.certificates("--cacert", &args.cacert);
    let authorities = files.keep(authorities)?;
    for authority in &authorities {
        let name = authority.display_name();
        match Lifetime::of(authority, system.wall) {
            Lifetime::Over(ago) => files.warnings.push(Warning::AuthorityExpired { name, ago }),
            Lifetime::EndsSoon(left) => files.warnings.push(Warning::AuthorityExpiresSoon { name, left }),
            Lifetime::Ahead(_) | Lifetime::Long => {}
        }
    }
    let not_authority = |why| Error::NotAnAuthority { path: args.cacert.clone(), why };
    let mut anchors = files.keep(TrustAnchors::new(&authorities).map_err(not_authority))?;
    for path in &args.crl {
        let lists = files.lists(path);
        for list in files.keep(lists).unwrap_or_default() {
            if let Some(ago) = system.wall.checked_sub(list.next_update()) {
                files.warnings.push(Warning::OldList { path: path.clone(), ago });
            }
            let bad = |why| Error::BadList { path: path.clone(), why };
            let revoked = files.keep(anchors.add_list(list).map_err(bad)).unwrap_or_default();
            files.warnings.extend(revoked.iter().map(|ca| Warning::AuthorityRevoked(ca.display_name())));
        }
    }
    Some(anchors)
}

/// How much of a certificate's time is left.
enum Lifetime {
    /// It begins after so long.
    Ahead(Duration),
    Long,
    EndsSoon(Duration),
    /// It ended so long ago.
    Over(Duration),
}

impl Lifetime {
    fn of(certificate: &Certificate, wall: Duration) -> Self {
        let (from, until) = (certificate.not_before(), certificate.not_after());
        if wall > until {
            Self::Over(wall - until)
        } else if wall < from {
            Self::Ahead(from - wall)
        } else if until - wall < SOON {
            Self::EndsSoon(until - wall)
        } else {
            Self::Long
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use tempfile::TempDir;

    use super::super::args::{self, Command};
    use super::*;
    use crate::crypto::sign::KeyKind;
    use crate::fortivpn::Credentials;
    use crate::provision::{Authority, Issued, Role, Validity};

    const WALL: Duration = Duration::from_secs(1_800_000_000);

    fn system() -> System {
        let (credentials, control) = (None, Some("/run/x/control.sock".into()));
        System { wall: WALL, cores: 4, loopback_v6: true, credentials, control }
    }

    /// A directory with a CA, a server certificate and a password, all in order.
    struct Files(TempDir);

    impl Files {
        fn new() -> Self {
            let files = Self(TempDir::new().unwrap());
            let ca = Authority::new("test CA", WALL, 100).unwrap();
            files.write("ca.pem", ca.cert_pem());
            files.write("ca.key", &ca.key_pem());
            files.put("server", &ca.issue_server(&["gw.example", "192.0.2.1"], WALL, 50).unwrap());
            files.write("password", "s3cret\nsecond line\n");
            files
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
            fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
        }

        fn put(&self, name: &str, issued: &Issued) {
            self.write(&format!("{name}.pem"), &issued.cert_pem);
            self.write(&format!("{name}.key"), &issued.key_pem);
        }

        /// Options that load; those of `more` come instead of ours of the same name.
        fn args(&self, more: &[&str]) -> Ikev2Args {
            let file = |name: &str| self.path(name).display().to_string();
            let defaults = [
                ("--destination", "fortigate.example:10443".to_owned()),
                ("--cacert", file("ca.pem")),
                ("--cert", file("server.pem")),
                ("--key", file("server.key")),
                ("--id-hostname", "gw.example".to_owned()),
            ];
            let given = |option: &str| more.iter().any(|m| m.split('=').next() == Some(option));
            let mut argv = vec!["pterodapter".to_owned(), "ikev2".to_owned()];
            argv.extend(defaults.iter().filter(|(o, _)| !given(o)).map(|(o, v)| format!("{o}={v}")));
            argv.extend(more.iter().map(|m| m.replace("=@", &format!("={}/", self.0.path().display()))));
            match args::parse(argv).unwrap().command {
                Command::Ikev2(args) => *args,
                other => panic!("{other:?}"),
            }
        }

        /// Loads with `more` options; `@` in them stands for the directory.
        fn load(&self, more: &[&str]) -> Result<(Config, Vec<Warning>), Box<Faults>> {
            let mut system = system();
            system.credentials = Some(self.0.path().to_owned());
            let loaded = load(&self.args(more), &system, &b"from stdin\r\nmore"[..])?;
            Ok((loaded.config, loaded.warnings))
        }
    }

    #[test]
    fn options_become_a_configuration() {
        let files = Files::new();
        let (config, warnings) = files.load(&[]).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(config.listen, [IpAddr::from(Ipv6Addr::UNSPECIFIED)]);
        assert_eq!((config.ike_port, config.nat_port, config.workers), (500, 4500, 3));
        assert_eq!((config.uplink.host.as_str(), config.uplink.port), ("fortigate.example", 10443));
        assert!(matches!(config.uplink.credentials, Credentials::Saml));
        assert_eq!(
            (config.identity.hostname.as_str(), config.identity.credentials[0].chain.len()),
            ("gw.example", 1)
        );
        assert!(config.transport.roots.is_empty());

        let (config, _) =
            files.load(&["--workers=0", "--listen-ip=192.0.2.9", "--gateway-ca=@ca.pem"]).unwrap();
        assert_eq!((config.workers, config.transport.roots.len()), (0, 1));
        assert_eq!(config.listen, [IpAddr::from([192, 0, 2, 9])]);
        assert_eq!(config.pcap, None);
        let (config, _) = files.load(&["--pcap=@new.pcapng"]).unwrap();
        assert_eq!(config.pcap, Some(files.path("new.pcapng")));
    }

    #[test]
    fn certificates_and_keys_go_in_pairs() {
        let files = Files::new();
        let ca = Authority::load(
            &fs::read_to_string(files.path("ca.pem")).unwrap(),
            &fs::read_to_string(files.path("ca.key")).unwrap(),
        );
        let rsa = ca.unwrap().issue(Role::Server, &["gw.example"], Validity::days(WALL, 60), KeyKind::Rsa);
        files.put("rsa", &rsa.unwrap());
        let pairs = ["--cert=@server.pem", "--cert=@rsa.pem"];
        let load = |more: &[&str]| files.load(&[&pairs[..], more].concat());
        let (config, warnings) = load(&["--key=@server.key", "--key=@rsa.key"]).unwrap();
        let kinds: Vec<_> = config.identity.credentials.iter().map(|own| own.key.kind()).collect();
        assert_eq!((kinds, warnings), (vec![KeyKind::P256, KeyKind::Rsa], vec![]));
        let words = in_words(&config.identity.credentials);
        assert_eq!(words, "certificates (ECDSA P-256 valid until 2027-03-06, RSA valid until 2027-03-16)");

        let swapped = load(&["--key=@rsa.key", "--key=@server.key"]).unwrap_err();
        assert_eq!(swapped.faults.len(), 2);
        let text = swapped.to_string();
        assert!(text.contains("rsa.key is not the key of the first certificate in "), "{text}");
        assert!(text.ends_with("rsa.pem: give keys in the order of --cert"), "{text}");
        let broken = load(&["--key=@server.key", "--key=@missing"]).unwrap_err();
        assert!(broken.to_string().starts_with("--key: cannot read "), "{broken}");
        let (_, warnings) = load(&["--key=@server.key", "--key=@rsa.key", "--id-hostname=other"]).unwrap();
        assert_eq!(warnings.len(), 2, "each certificate: {warnings:?}");
    }

    #[test]
    fn what_systemd_hands_over_stands_for_the_file_of_its_name() {
        let files = Files::new();
        // The directory of credentials is that of the files; this name is elsewhere.
        let (config, _) = files.load(&["--key=/root/only/server.key"]).unwrap();
        assert_eq!(config.identity.credentials.len(), 1);
        let missing = files.load(&["--key=/root/only/other.key"]).unwrap_err().to_string();
        assert!(missing.contains("cannot read /root/only/other.key"), "{missing}");
    }

    #[test]
    fn the_password_is_the_first_line_of_a_file_or_of_stdin() {
        let files = Files::new();
        for (option, expected) in [
            ("--password-file=@password", "s3cret"),
            ("--password-file=-", "from stdin"),
            ("--password-file=credential:password", "s3cret"),
        ] {
            let (config, _) = files.load(&["--username=alice", option]).unwrap();
            let Credentials::Password { username, password } = config.uplink.credentials else {
                panic!("no password")
            };
            assert_eq!(
                (username.as_str(), password.as_ref().unwrap().expose()),
                ("alice", expected.as_bytes())
            );
        }
    }

    #[test]
    fn every_way_to_sign_in_has_its_options() {
        let files = Files::new();
        let ca = Authority::new("users", WALL, 100).unwrap();
        files.put("me", &ca.issue_client("alice", WALL, 50).unwrap());
        files.write("cookie", "Set-Cookie: SVPNCOOKIE=abc; path=/\n");
        let config = |more: &[&str]| files.load(more).unwrap().0;
        let own = ["--user-cert=@me.pem", "--user-key=@me.key"];
        let with_own = |more: &[&'static str]| config(&[&own[..], more].concat());
        let credentials = |config: &Config| format!("{:?}", config.uplink.credentials);
        for (config, expected) in [
            (config(&[]), "Saml"),
            (config(&["--username=a"]), "Password { username: \"a\", password: None }"),
            (config(&["--username=a", "--no-password"]), "Username { username: \"a\" }"),
            (config(&["--cookie-file=@cookie"]), "Cookie([redacted])"),
            (with_own(&[]), "Certificate"),
            (with_own(&["--saml"]), "Saml"),
            (with_own(&["--username=a"]), "Password { username: \"a\", password: None }"),
        ] {
            assert_eq!(credentials(&config), expected);
        }
        assert!(with_own(&["--saml"]).transport.client.is_some());
    }

    #[test]
    fn options_of_the_uplink_arrive() {
        let files = Files::new();
        let digest = format!("--trusted-cert=sha256:{}", "ab".repeat(32));
        let (config, _) = files
            .load(&[
                "--username=a",
                "--realm=staff",
                "--no-push",
                "--renew-password",
                "--user-agent=X/1",
                "--otp=-",
                "--login-hook=tell",
                "--control=/x/y",
                "--saml-listen=127.0.0.1:9",
                "--saml-listen=[::1]:9",
                "--host-check=ok",
                "--sni=other.example",
                "--uplink-proxy=socks5://me@proxy:1080",
                "--uplink-proxy-password-file=@password",
                "--keepalive=60",
                &digest,
            ])
            .unwrap();
        let uplink = &config.uplink;
        assert_eq!((uplink.realm.as_deref(), &*uplink.user_agent), (Some("staff"), "X/1"));
        assert!(!uplink.push && !uplink.keep_password && uplink.host_check.is_some());
        assert_eq!(config.sign_in.otp.as_ref().unwrap().expose(), b"from stdin");
        assert_eq!(config.sign_in.login_hook.as_deref(), Some("tell"));
        assert_eq!(
            (config.sign_in.control.as_deref(), config.sign_in.control_may_fail),
            (Some(Path::new("/x/y")), false)
        );
        assert_eq!(
            config.page.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["127.0.0.1:9", "[::1]:9"]
        );
        let transport = &config.transport;
        assert_eq!(transport.pins.len(), 1);
        assert_eq!(transport.keepalive, Some(Duration::from_secs(60)));
        assert!(transport.server_name.is_some());
        let (user, password) = transport.proxy.as_ref().unwrap().user.as_ref().unwrap();
        assert_eq!((user.as_str(), password.expose()), ("me", &b"s3cret"[..]));

        let (config, _) = files.load(&[]).unwrap();
        assert_eq!(
            config.page.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["127.0.0.1:8020", "[::1]:8020"]
        );
        assert_eq!(
            (config.sign_in.control.as_deref(), config.sign_in.control_may_fail),
            (Some(Path::new("/run/x/control.sock")), true)
        );
        assert_eq!(files.load(&["--control=none"]).unwrap().0.sign_in.control, None);
        let no_v6 = System { loopback_v6: false, ..system() };
        assert_eq!(load(&files.args(&[]), &no_v6, &b""[..]).unwrap().config.page.len(), 1);
        let refused =
            load(&files.args(&["--username=a", "--otp=credential:x"]), &system(), &b""[..]).unwrap_err();
        assert!(refused.to_string().contains("LoadCredential=x:FILE"), "{refused}");
    }

    #[test]
    fn what_works_but_deserves_a_look_is_a_warning() {
        let files = Files::new();
        let warnings = |more: &[&str]| files.load(more).unwrap().1;
        let stranger = Authority::new("public CA", WALL, 100).unwrap();
        files.put("public", &stranger.issue_server(&["gw.example"], WALL, 50).unwrap());
        let other_issuer =
            |cert| Warning::OtherIssuer { cert: files.path(cert), why: ChainError::UnknownIssuer };
        let found = warnings(&["--cert=@public.pem", "--key=@public.key"]);
        assert_eq!(found, [other_issuer("public.pem")]);

        files.put("short", &stranger.issue_server(&["gw.example"], WALL, 3).unwrap());
        files.write(
            "both.pem",
            &[&*fs::read_to_string(files.path("ca.pem")).unwrap(), stranger.cert_pem()].concat(),
        );
        let found = warnings(&["--cert=@short.pem", "--key=@short.key", "--cacert=@both.pem"]);
        assert_eq!(
            found,
            [Warning::ExpiresSoon { cert: files.path("short.pem"), left: Duration::from_secs(3 * DAY) }]
        );

        assert_eq!(warnings(&["--allow-weak-windows-defaults"]), [Warning::WeakGroups]);
        assert_eq!(warnings(&["--id-hostname=192.0.2.1"]), []);
        let not_in =
            |cert: &str| Warning::NameNotInCertificate { cert: files.path(cert), name: "other".into() };
        assert_eq!(warnings(&["--id-hostname=other"]), [not_in("server.pem")]);
        assert_eq!(
            warnings(&["--saml-listen=192.0.2.1:80"]),
            [Warning::SamlListenPublic([192, 0, 2, 1].into())]
        );
        fs::set_permissions(files.path("server.key"), Permissions::from_mode(0o644)).unwrap();
        assert_eq!(warnings(&[]), [Warning::WorldReadable(files.path("server.key"))]);
    }

    #[test]
    fn what_cannot_work_is_refused_in_one_line() {
        let files = Files::new();
        let ca = Authority::new("test CA", WALL, 100).unwrap();
        let month = Duration::from_secs(30 * DAY);
        files.put("old", &ca.issue_server(&["gw.example"], WALL - 2 * month, 30).unwrap());
        files.put("early", &ca.issue_server(&["gw.example"], WALL + month, 30).unwrap());
        files.put("other", &ca.issue_server(&["gw.example"], WALL, 30).unwrap());
        files.write("empty", "\n");
        files.write(
            "locked.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        files.write("garbage", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
        files.write("ppk", &format!("# for carol\ncarol {}\ndave 00ff\n", "ab".repeat(32)));
        files.write("twice", &format!("carol {0}\ncarol {0}\n", "ab".repeat(32)));
        for (more, says) in [
            (&["--cert=@missing"][..], "--cert: cannot read"),
            (&["--cert=@garbage"], "--cert: "),
            (&["--cert=@empty"], "no certificate"),
            (&["--key=@server.pem"], "--key: "),
            (&["--key=@other.key"], "is not the key of"),
            (&["--cert=@old.pem", "--key=@old.key"], "expired 30 days ago"),
            (&["--cert=@early.pem", "--key=@early.key"], "valid only in 29 days"),
            (&["--cacert=@server.pem"], "give the CA"),
            (&["--gateway-ca=@password"], "--gateway-ca: "),
            (&["--username=a", "--password-file=@empty"], "first line"),
            (&["--username=a", "--password-file=@nowhere"], "--password-file: cannot read"),
            (&["--key=/dev/zero"], "larger than"),
            (&["--username=a", "--otp=@empty"], "--otp: the first line"),
            (&["--ppk-file=@nowhere"], "--ppk-file: cannot read"),
            (&["--ppk-file=@ppk"], "ppk line 3: the key is shorter than 256 bits"),
            (&["--ppk-file=@twice"], "twice line 2: this PPK_ID"),
            (&["--ppk-file=@empty"], "there is no key"),
            (&["--cookie-file=-"], "--cookie-file: standard input: this is no session cookie"),
            (&["--user-cert=@server.pem", "--user-key=@other.key"], "--user-key: "),
            (&["--user-cert=@empty", "--user-key=@other.key"], "no certificate"),
            (&["--user-cert=@server.pem", "--user-key=@empty"], "no private key"),
            (&["--user-cert=@server.pem", "--user-key=@locked.key"], "openssl pkey"),
        ] {
            let found = files.load(more).unwrap_err();
            let text = found.to_string();
            assert!(text.contains(says), "{more:?}: {text}");
            assert_eq!((text.lines().count(), found.faults.len()), (1, 1), "{found:?}");
        }
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let files = Files::new();
        let found = files.load(&[
            "--cacert=@missing",
            "--cert=@nowhere",
            "--key=@server.pem",
            "--gateway-ca=@password",
            "--username=a",
            "--password-file=@nothing",
            "--otp=@none",
            "--user-cert=@no.pem",
            "--user-key=@no.key",
            "--uplink-proxy=http://me@proxy:1",
            "--uplink-proxy-password-file=@gone",
            "--saml-listen=192.0.2.1:80",
        ]);
        let found = found.unwrap_err();
        let options: Vec<String> =
            found.faults.iter().map(|f| f.to_string().split(':').next().unwrap().to_owned()).collect();
        let expected = [
            "--cacert",
            "--cert",
            "--key",
            "--password-file",
            "--uplink-proxy-password-file",
            "--user-cert",
            "--gateway-ca",
            "--otp",
        ];
        assert_eq!(options, expected);
        assert_eq!(found.warnings, [Warning::SamlListenPublic([192, 0, 2, 1].into())]);
    }

    #[test]
    fn revocation_lists_are_of_the_clients_authorities() {
        let files = Files::new();
        let ca = |name: &str| Authority::new(name, WALL, 1000).unwrap();
        let (ours, other) = (ca("ours"), ca("other"));
        files.write("both.pem", &[ours.cert_pem(), ca("second").cert_pem()].concat());
        let (alice, bob) =
            (ours.issue_client("alice", WALL, 50).unwrap(), ours.issue_client("bob", WALL, 50).unwrap());
        let alice_cert = Certificate::parse(&alice.cert_der).unwrap();
        let list = |ca: &Authority, wall| {
            ca.revocation_list([(alice_cert.serial(), wall)], None, wall, wall + 10 * day()).unwrap()
        };
        files.write("crl.pem", &list(&ours, WALL));
        files.write("old.pem", &list(&ours, WALL - 30 * day()));
        files.write("stranger.pem", &list(&other, WALL));
        let load = |crl: &str| files.load(&["--cacert=@both.pem", crl]);
        let other_issuer =
            Warning::OtherIssuer { cert: files.path("server.pem"), why: ChainError::UnknownIssuer };
        for (crl, warnings) in [
            ("--crl=@crl.pem", vec![]),
            ("--crl=@old.pem", vec![Warning::OldList { path: files.path("old.pem"), ago: 20 * day() }]),
        ] {
            let (config, found) = load(crl).unwrap();
            let expected = [warnings, vec![other_issuer.clone()]].concat();
            assert_eq!(found, expected, "{crl}");
            let anchors = &config.identity.access.anchors;
            assert_eq!(anchors.verify_client(&alice_cert, &[], WALL), Err(ChainError::Revoked));
            let bob = Certificate::parse(&bob.cert_der).unwrap();
            assert_eq!(anchors.verify_client(&bob, &[], WALL), Ok(()));
        }
        for (crl, says) in [
            ("--crl=@stranger.pem", "stranger.pem: no authority in --cacert"),
            ("--crl=@ca.pem", "ca.pem: malformed PEM file: no revocation list in it"),
            ("--crl=@missing.pem", "--crl: cannot read"),
        ] {
            let found = load(crl).unwrap_err().to_string();
            assert!(found.contains(says), "{crl}: {found}");
        }
    }

    fn day() -> Duration {
        Duration::from_secs(DAY)
    }
}
