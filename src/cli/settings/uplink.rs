//! The way to the FortiGate, and signing in there.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::cli::args::{Destination, Ikev2Args, Source, UplinkArgs};
use crate::crypto;
use crate::engine::{ClientCertificate, SignIn, Transport};
use crate::fortivpn::{self, Credentials, HostCheckValues, cookie};

use super::files::Files;
use super::{Error, System};

/// Where a FortiGate sends the browser, unless told otherwise.
const PAGE_PORT: u16 = fortivpn::saml::DEFAULT_PORT;

/// Who we are at the FortiGate.
pub fn session(
    args: &UplinkArgs,
    destination: &Destination,
    files: &mut Files<'_, impl Read>,
) -> Option<fortivpn::Config> {
    let credentials = credentials(args, files);
    let credentials = files.keep(credentials)?;
    let mut config = fortivpn::Config::new(destination.host.clone(), destination.port, credentials);
    config.realm = args.realm.clone();
    // Who gives codes does not want the phone to ring.
    config.push = !args.no_push && args.otp.is_none() && args.otp_command.is_none();
    config.keep_password = !args.renew_password;
    config.host_check = args.host_check.as_ref().map(|hostcheck| HostCheckValues {
        hostcheck: hostcheck.clone(),
        virtual_desktop: args.check_virtual_desktop.clone().unwrap_or_default(),
    });
    if let Some(user_agent) = &args.user_agent {
        config.user_agent.clone_from(user_agent);
    }
    Some(config)
}

fn credentials(args: &UplinkArgs, files: &mut Files<'_, impl Read>) -> Result<Credentials, Error> {
    if let Some(source) = &args.cookie_file {
        let (content, path) = files.whole("--cookie-file", source)?;
        let cookie = cookie::parse_given(content.expose()).map_err(|why| Error::NoCookie { path, why })?;
        return Ok(Credentials::Cookie(cookie));
    }
    Ok(match (&args.username, &args.password_file) {
        (Some(username), _) if args.no_password => Credentials::Username { username: username.clone() },
        (Some(username), source) => {
            let password = source.as_ref().map(|source| files.line("--password-file", source)).transpose()?;
            Credentials::Password { username: username.clone(), password }
        }
        (None, _) if args.user_cert.is_some() && !args.saml => Credentials::Certificate,
        (None, _) => Credentials::Saml,
    })
}

/// How the FortiGate is reached and recognised.
pub fn transport(args: &UplinkArgs, files: &mut Files<'_, impl Read>) -> Option<Transport> {
    let mut proxy = args.uplink_proxy.clone();
    if let (Some(user), Some(source)) =
        (proxy.as_mut().and_then(|proxy| proxy.user.as_mut()), &args.uplink_proxy_password_file)
    {
        let password = files.line("--uplink-proxy-password-file", source);
        if let Some(password) = files.keep(password) {
            user.1 = password;
        }
    }
    let client = match (&args.user_cert, &args.user_key) {
        (Some(cert), Some(key)) => {
            let client = client_certificate(cert, key, files);
            files.keep(client)
        }
        _ => None,
    };
    let roots = gateway_roots(args, files);
    let roots = files.keep(roots)?;
    Some(Transport {
        roots,
        pins: args.trusted_cert.clone(),
        server_name: args.sni.clone(),
        client,
        proxy,
        keepalive: args.keepalive.map(|seconds| Duration::from_secs(seconds.into())),
        ..Transport::default()
    })
}

fn gateway_roots(
    args: &UplinkArgs,
    files: &mut Files<'_, impl Read>,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let Some(path) = &args.gateway_ca else { return Ok(Vec::new()) };
    let roots = files.certificates("--gateway-ca", path)?;
    Ok(roots.iter().map(|root| CertificateDer::from(root.der().to_vec())).collect())
}

/// The FortiGate judges it, so it is only checked that it is a certificate with its key.
fn client_certificate(
    cert: &Path,
    key: &Source,
    files: &mut Files<'_, impl Read>,
) -> Result<ClientCertificate, Error> {
    let content = files.public_file("--user-cert", cert)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content.expose()).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| Error::Unusable {
        option: "--user-cert",
        path: cert.to_owned(),
        why: crypto::Error::Malformed("PEM file: no certificate in it"),
    })?;
    let (content, path) = files.whole("--user-key", key)?;
    let unusable = |path: &Path, why| Error::Unusable { option: "--user-key", path: path.to_owned(), why };
    let key = PrivateKeyDer::from_pem_slice(content.expose()).map_err(|_| {
        if content.expose().windows(9).any(|window| window == b"ENCRYPTED") {
            Error::Encrypted { path: path.clone() }
        } else {
            unusable(&path, crypto::Error::BadKey("no private key in the PEM file"))
        }
    })?;
    let signer = any_supported_type(&key)
        .map_err(|_| unusable(&path, crypto::Error::BadKey("neither RSA, ECDSA nor Ed25519")))?;
    match CertifiedKey::new(chain.clone(), signer).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(Error::KeyMismatch { option: "--user-key", key: path, cert: cert.to_owned(), fits: None })
        }
        _ => Ok(ClientCertificate { chain, key }),
    }
}

/// Who helps where a sign-in needs a person. The console is the caller's matter.
pub fn sign_in(args: &UplinkArgs, system: &System, files: &mut Files<'_, impl Read>) -> Option<SignIn> {
    let otp = args.otp.as_ref().map(|source| files.line("--otp", source)).transpose();
    let otp = files.keep(otp)?;
    let control = match &args.control {
        Some(path) if path == Path::new("none") => None,
        Some(path) => Some(path.clone()),
        None => system.control.clone(),
    };
    Some(SignIn {
        otp,
        otp_command: args.otp_command.clone(),
        login_hook: args.login_hook.clone(),
        control,
        control_may_fail: args.control.is_none(),
        console: None,
    })
}

/// Where the local page is.
pub fn page(args: &Ikev2Args, system: &System) -> Vec<SocketAddr> {
    if !args.uplink.saml_listen.is_empty() {
        return args.uplink.saml_listen.clone();
    }
    let v6 = system.loopback_v6.then_some(Ipv6Addr::LOCALHOST.into());
    let ips = [Ipv4Addr::LOCALHOST.into()].into_iter().chain(v6);
    ips.map(|ip| SocketAddr::new(ip, PAGE_PORT)).collect()
}

/// Where the control socket of a daemon is, unless an option says otherwise: in the directory that systemd made for the
/// service, or in that of the user's session.
pub fn control_of_daemon() -> Option<PathBuf> {
    let service = std::env::var_os("RUNTIME_DIRECTORY").and_then(|directories| {
        std::env::split_paths(&directories).next().map(|directory| directory.join(SOCKET))
    });
    service.or_else(control_of_session)
}

/// Where to look for the control socket of a daemon: the user's own, then that of the service.
pub fn controls_to_try() -> Vec<PathBuf> {
    let service = Path::new("/run/pterodapter").join(SOCKET);
    control_of_session().into_iter().chain([service]).collect()
}

const SOCKET: &str = "control.sock";

fn control_of_session() -> Option<PathBuf> {
    let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty())?;
    Some(PathBuf::from(directory).join("pterodapter").join(SOCKET))
}
