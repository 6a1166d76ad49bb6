//! Windows: a PowerShell script that imports the certificates and makes the connection, and one that undoes it.

use crate::crypto::hash::sha1;

use super::{Profile, base64};

const ADMINISTRATOR: &str = "#Requires -RunAsAdministrator";

const REMOVE_CONNECTION: &str = "\
if (Get-VpnConnection -Name $name -AllUserConnection -ErrorAction SilentlyContinue) {
    Remove-VpnConnection -Name $name -AllUserConnection -Force
}
";

/// The script that sets the connection up. It asks for the password of the PKCS#12 file that it carries.
pub fn install(profile: &Profile<'_>) -> String {
    let name = quote(profile.server);
    let mut script = format!(
        "{ADMINISTRATOR}\n\
         # Sets up the VPN connection {server} for {device}. In PowerShell as administrator:\n\
         #   powershell -ExecutionPolicy Bypass -File THIS-FILE\n\
         # It holds the device's key: delete it afterwards.\n\
         $ErrorActionPreference = 'Stop'\n\n\
         $name = {name}\n\
         $authority = {ca}\n\
         $identity = {p12}\n\n\
         $password = Read-Host -AsSecureString 'Password of the certificate'\n\
         $file = Join-Path $env:TEMP ([IO.Path]::GetRandomFileName())\n\
         try {{\n\
         \x20   [IO.File]::WriteAllBytes($file, [Convert]::FromBase64String($authority))\n\
         \x20   Import-Certificate -FilePath $file -CertStoreLocation Cert:\\LocalMachine\\Root | Out-Null\n\
         \x20   [IO.File]::WriteAllBytes($file, [Convert]::FromBase64String($identity))\n\
         \x20   Import-PfxCertificate -FilePath $file -CertStoreLocation Cert:\\LocalMachine\\My -Password $password | Out-Null\n\
         }} finally {{\n\
         \x20   Remove-Item $file -ErrorAction SilentlyContinue\n\
         }}\n\n\
         {REMOVE_CONNECTION}\
         Add-VpnConnection -Name $name -ServerAddress {name} -TunnelType Ikev2 `\n\
         \x20   -AuthenticationMethod MachineCertificate -EncryptionLevel Required -AllUserConnection\n\
         Set-VpnConnectionIPsecConfiguration -ConnectionName $name -AllUserConnection -Force `\n\
         \x20   -EncryptionMethod GCMAES256 -IntegrityCheckMethod SHA256 -DHGroup ECP256 `\n\
         \x20   -CipherTransformConstants GCMAES256 -AuthenticationTransformConstants GCMAES256 -PfsGroup ECP256\n",
        server = profile.server,
        device = profile.device,
        ca = quote(&base64(profile.authority_der)),
        p12 = quote(&base64(profile.pkcs12)),
    );
    if profile.split {
        let own = format!("{}/32", profile.dns_server);
        let routes: Vec<_> = [&own]
            .into_iter()
            .chain(&profile.nat64_prefix)
            .chain(profile.routes)
            .map(|route| quote(route))
            .collect();
        script.push_str(&format!(
            "\nSet-VpnConnection -Name $name -AllUserConnection -SplitTunneling $true\n\
             foreach ($network in {}) {{\n\
             \x20   Add-VpnConnectionRoute -ConnectionName $name -AllUserConnection -DestinationPrefix $network\n\
             }}\n",
            routes.join(", ")
        ));
    }
    if !profile.domains.is_empty() {
        let domains: Vec<_> = profile.domains.iter().map(|domain| quote(&format!(".{domain}"))).collect();
        script.push_str(&format!(
            "\n{}foreach ($domain in {}) {{\n\
             \x20   Add-DnsClientNrptRule -Namespace $domain -NameServers {} -Comment {}\n\
             }}\n",
            remove_rules(profile),
            domains.join(", "),
            quote(&profile.dns_server.to_string()),
            comment(profile),
        ));
    }
    script.push_str("\nWrite-Host \"Ready: connect to $name in the network menu.\"\n");
    script.replace('\n', "\r\n")
}

/// The script that takes back what [`install`] did.
pub fn remove(profile: &Profile<'_>) -> String {
    let name = quote(profile.server);
    let script = format!(
        "{ADMINISTRATOR}\n\
         # Removes the VPN connection {server} of {device}, its certificates and its rules for names.\n\
         $name = {name}\n\n\
         rasdial $name /disconnect | Out-Null\n\
         {REMOVE_CONNECTION}\
         {}\
         foreach ($certificate in 'My\\{own}', 'Root\\{ca}') {{\n\
         \x20   Remove-Item \"Cert:\\LocalMachine\\$certificate\" -ErrorAction SilentlyContinue\n\
         }}\n",
        remove_rules(profile),
        server = profile.server,
        device = profile.device,
        own = thumbprint(&profile.identity.cert_der),
        ca = thumbprint(profile.authority_der),
    );
    script.replace('\n', "\r\n")
}

fn remove_rules(profile: &Profile<'_>) -> String {
    format!(
        "Get-DnsClientNrptRule | Where-Object Comment -eq {} | Remove-DnsClientNrptRule -Force\n",
        comment(profile)
    )
}

/// What marks our rules.
fn comment(profile: &Profile<'_>) -> String {
    quote(&format!("pterodapter {}", profile.server))
}

/// A literal string: only its quote has a meaning. PowerShell takes typographic quotes for it, too.
fn quote(text: &str) -> String {
    let doubled: String = text
        .chars()
        .flat_map(|c| std::iter::repeat_n(c, if matches!(c, '\'' | '\u{2018}'..='\u{201b}') { 2 } else { 1 }))
        .collect();
    format!("'{doubled}'")
}

fn thumbprint(der: &[u8]) -> String {
    sha1(&[der]).iter().map(|octet| format!("{octet:02X}")).collect()
}
