//! macOS and iOS: a configuration profile (`.mobileconfig`) with the authority, the identity and an IKEv2 connection.

use super::{Profile, base64, uuid, xml};

/// By this media type the system knows the file.
pub const MEDIA_TYPE: &str = "application/x-apple-aspen-config";

/// Apple's limit for one line is none, but people look into these files.
const COLUMNS: usize = 76;

/// The whole file.
pub fn mobileconfig(profile: &Profile<'_>) -> String {
    let identifier = format!("pterodapter.{}.{}", profile.server, profile.device);
    let id = |part: &str| uuid(&[profile.server, profile.device, "apple", part]);
    let payload = |kind: &str, part: &str, name: &str, rest: &str| {
        format!(
            "        <dict>\n{}{rest}        </dict>\n",
            [
                text(12, "PayloadType", kind),
                number(12, "PayloadVersion", 1),
                text(12, "PayloadIdentifier", &format!("{identifier}.{part}")),
                text(12, "PayloadUUID", &id(part)),
                text(12, "PayloadDisplayName", name),
            ]
            .concat()
        )
    };
    let payloads = [
        payload(
            "com.apple.security.root",
            "ca",
            profile.authority_name,
            &data(12, "PayloadContent", profile.authority_der),
        ),
        payload(
            "com.apple.security.pkcs12",
            "identity",
            profile.device,
            &data(12, "PayloadContent", profile.pkcs12),
        ),
        payload("com.apple.vpn.managed", "vpn", profile.server, &connection(profile, &id("identity"))),
    ]
    .concat();
    let head = [
        text(4, "PayloadType", "Configuration"),
        number(4, "PayloadVersion", 1),
        text(4, "PayloadIdentifier", &identifier),
        text(4, "PayloadUUID", &id("profile")),
        text(4, "PayloadDisplayName", &format!("VPN {}", profile.server)),
    ]
    .concat();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n{head}    <key>PayloadContent</key>\n    <array>\n{payloads}    </array>\n\
         </dict>\n</plist>\n"
    )
}

/// The part of the VPN payload that is about the VPN.
fn connection(profile: &Profile<'_>, identity: &str) -> String {
    let suite = |key: &str| {
        let values = [
            text(20, "EncryptionAlgorithm", "AES-256-GCM"),
            text(20, "IntegrityAlgorithm", "SHA2-256"),
            number(20, "DiffieHellmanGroup", 19),
        ];
        format!(
            "                <key>{key}</key>\n                <dict>\n{}                </dict>\n",
            values.concat()
        )
    };
    let ikev2 = [
        text(16, "RemoteAddress", profile.server),
        text(16, "RemoteIdentifier", profile.server),
        text(16, "LocalIdentifier", profile.device),
        text(16, "AuthenticationMethod", "Certificate"),
        text(16, "CertificateType", "ECDSA256"),
        text(16, "PayloadCertificateUUID", identity),
        text(16, "ServerCertificateIssuerCommonName", profile.authority_name),
        text(16, "ServerCertificateCommonName", profile.server),
        number(16, "EnablePFS", 1),
        suite("IKESecurityAssociationParameters"),
        suite("ChildSecurityAssociationParameters"),
        if profile.on_demand { on_demand(profile.domains) } else { String::new() },
    ];
    [
        text(12, "UserDefinedName", profile.server),
        text(12, "VPNType", "IKEv2"),
        format!("            <key>IKEv2</key>\n            <dict>\n{}            </dict>\n", ikev2.concat()),
    ]
    .concat()
}

/// With domains: for their names, where they do not resolve without. Else always.
fn on_demand(domains: &[String]) -> String {
    let rule = if domains.is_empty() {
        text(24, "Action", "Connect")
    } else {
        let list: String =
            domains.iter().map(|domain| format!("{:36}<string>{}</string>\n", "", xml(domain))).collect();
        format!(
            "{}                        <key>ActionParameters</key>\n                        <array>\n\
             \x20                           <dict>\n                                <key>Domains</key>\n\
             \x20                               <array>\n{list}                                </array>\n{}\
             \x20                           </dict>\n                        </array>\n",
            text(24, "Action", "EvaluateConnection"),
            text(32, "DomainAction", "ConnectIfNeeded")
        )
    };
    format!(
        "{}                <key>OnDemandRules</key>\n                <array>\n                    <dict>\n{rule}\
         \x20                   </dict>\n                </array>\n",
        number(16, "OnDemandEnabled", 1)
    )
}

fn text(indent: usize, key: &str, value: &str) -> String {
    format!("{:indent$}<key>{key}</key><string>{}</string>\n", "", xml(value))
}

fn number(indent: usize, key: &str, value: u32) -> String {
    format!("{:indent$}<key>{key}</key><integer>{value}</integer>\n", "")
}

fn data(indent: usize, key: &str, bytes: &[u8]) -> String {
    let mut lines = String::new();
    let text = base64(bytes);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(COLUMNS));
        lines.push_str(line);
        lines.push('\n');
        rest = behind;
    }
    format!("{:indent$}<key>{key}</key>\n{:indent$}<data>\n{lines}{:indent$}</data>\n", "", "", "")
}
