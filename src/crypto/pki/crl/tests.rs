//! Lists that openssl made, and damaged ones.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;
use crate::crypto::TrustAnchors;
use crate::crypto::pki::ChainError;

const DAY: Duration = Duration::from_secs(86_400);

/// What `openssl ca` needs; each authority has its own database.
const CONFIG: &str = "
[req]
distinguished_name = dn
[dn]
[ca]
default_ca = ca_default
[ca_default]
database = $ENV::CA.db
serial = $ENV::CA.serial
crlnumber = $ENV::CA.crlnumber
certificate = $ENV::CA.pem
private_key = $ENV::CA.key
new_certs_dir = .
unique_subject = no
default_md = sha256
default_days = 100
default_crl_days = 10
policy = policy
copy_extensions = none
[policy]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[no_lists]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[leaf]
basicConstraints = CA:FALSE
extendedKeyUsage = clientAuth
[list]
authorityKeyIdentifier = keyid
[delta]
authorityKeyIdentifier = keyid
2.5.29.27 = critical, DER:020101
[indirect]
issuingDistributionPoint = critical, @indirect_point
[indirect_point]
fullname = URI:http://ca.example/all.crl
indirectCRL = TRUE
[clients]
issuingDistributionPoint = critical, @clients_point
[clients_point]
fullname = URI:http://ca.example/clients.crl
onlyuser = TRUE
";

/// A directory in which openssl is the authority.
struct OpenSsl(TempDir);

impl OpenSsl {
    /// With a root and an intermediate; none where openssl is missing.
    fn new() -> Option<Self> {
        let found = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none(), "openssl is missing");
            println!("skipped: openssl is not installed");
            return None;
        }
        let this = Self(TempDir::new().unwrap());
        std::fs::write(this.path().join("ca.cnf"), CONFIG).unwrap();
        this.root("root", "authority");
        this.issue("root", "middle", "authority");
        this.database("middle");
        Some(this)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, ca: &str, args: &str) {
        let output = Command::new("openssl")
            .args(args.split_whitespace())
            .env("CA", ca)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{args}: {output:?}");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap()
    }

    fn cert(&self, name: &str) -> Certificate {
        pem::certificates(&self.read(&format!("{name}.pem"))).unwrap().swap_remove(0)
    }

    fn database(&self, ca: &str) {
        std::fs::write(self.path().join(format!("{ca}.db")), "").unwrap();
        std::fs::write(self.path().join(format!("{ca}.crlnumber")), "01\n").unwrap();
    }

    /// A self-signed authority; all of them have one name.
    fn root(&self, name: &str, extensions: &str) {
        self.run(
            name,
            &format!(
                "req -x509 -config ca.cnf -extensions {extensions} -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc \
                 -days 100 -subj /CN=root -keyout {name}.key -out {name}.pem"
            ),
        );
        self.database(name);
    }

    fn issue(&self, ca: &str, name: &str, extensions: &str) {
        self.run(
            ca,
            &format!(
                "req -new -config ca.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN={name} \
                 -keyout {name}.key -out {name}.csr"
            ),
        );
        self.run(
            ca,
            &format!(
                "ca -batch -notext -config ca.cnf -rand_serial -extensions {extensions} -in {name}.csr -out {name}.pem"
            ),
        );
    }

    fn revoke(&self, ca: &str, name: &str) {
        self.run(ca, &format!("ca -config ca.cnf -revoke {name}.pem -crl_reason keyCompromise"));
    }

    /// The authority's list as it is now; `more` for openssl.
    fn list(&self, ca: &str, more: &str) -> Vec<u8> {
        self.run(ca, &format!("ca -config ca.cnf -gencrl {more} -out list.pem"));
        self.read("list.pem")
    }
}

fn one(content: &[u8]) -> Result<Crl, CrlError> {
    Crl::parse_file(content).map(|mut lists| lists.swap_remove(0))
}

#[test]
fn what_openssl_revoked_is_refused() {
    let Some(openssl) = OpenSsl::new() else { return };
    for (ca, name) in [("root", "alice"), ("root", "bob"), ("middle", "carol"), ("middle", "dave")] {
        openssl.issue(ca, name, "leaf");
    }
    let [root, middle, alice, bob, carol, dave] =
        ["root", "middle", "alice", "bob", "carol", "dave"].map(|name| openssl.cert(name));
    openssl.revoke("root", "alice");
    openssl.revoke("middle", "carol");
    let wall = bob.not_before() + DAY;
    let of_root = one(&openssl.list("root", "")).unwrap();
    let of_middle = one(&openssl.list("middle", "-crlexts list")).unwrap();
    assert_eq!(of_root.revoked().keys().map(Vec::as_slice).collect::<Vec<_>>(), [alice.serial()]);
    assert_eq!((of_root.number(), of_root.issuer_der()), (&[1][..], root.subject_der()));
    assert_eq!(of_root.next_update().as_secs() / DAY.as_secs(), wall.as_secs() / DAY.as_secs() + 9);

    let mut anchors = TrustAnchors::new(std::slice::from_ref(&root)).unwrap();
    let verdict = |anchors: &TrustAnchors, certificate: &Certificate| {
        anchors.verify_client(certificate, std::slice::from_ref(&middle), wall)
    };
    assert_eq!(verdict(&anchors, &alice), Ok(()), "before it knows the list");
    assert_eq!(anchors.add_list(of_root.clone()), Ok(vec![]));
    assert_eq!(verdict(&anchors, &alice), Err(ChainError::Revoked));
    assert_eq!(verdict(&anchors, &bob), Ok(()));
    assert_eq!(verdict(&anchors, &carol), Ok(()), "its issuer has no list here");
    // An old list counts for ever.
    assert_eq!(anchors.verify_client(&alice, &[], wall + 50 * DAY), Err(ChainError::Revoked));

    // The intermediate signs lists for its own; it must be in --cacert for that.
    assert_eq!(anchors.add_list(of_middle.clone()), Err(CrlError::UnknownSigner));
    let mut both = TrustAnchors::new(&[root, middle.clone()]).unwrap();
    for list in [of_root, of_middle] {
        assert_eq!(both.add_list(list), Ok(vec![]));
    }
    let verdicts = [&alice, &bob, &carol, &dave].map(|certificate| verdict(&both, certificate));
    assert_eq!(verdicts, [Err(ChainError::Revoked), Ok(()), Err(ChainError::Revoked), Ok(())]);

    // With the intermediate all its certificates are gone, also where it was an authority of its own.
    openssl.revoke("root", "middle");
    let newer = one(&openssl.list("root", "")).unwrap();
    assert_eq!(newer.number(), [2]);
    assert_eq!(anchors.add_list(newer.clone()), Ok(vec![]));
    assert_eq!(verdict(&anchors, &dave), Err(ChainError::Revoked));
    assert_eq!(both.add_list(newer), Ok(vec![middle.clone()]));
    assert_eq!(verdict(&both, &dave), Err(ChainError::Revoked));
    assert_eq!(both.verify_client(&dave, &[], wall), Err(ChainError::UnknownIssuer));
    assert_eq!(both.spki_hashes().len(), 1);
}

#[test]
fn authorities_of_one_name_are_told_apart_by_their_keys() {
    let Some(openssl) = OpenSsl::new() else { return };
    openssl.root("second", "authority");
    openssl.root("third", "no_lists");
    for (ca, name) in [("root", "alice"), ("second", "bob"), ("third", "carol")] {
        openssl.issue(ca, name, "leaf");
        openssl.revoke(ca, name);
    }
    let [root, second, third] = ["root", "second", "third"].map(|name| openssl.cert(name));
    let lists = ["root", "second", "third"].map(|ca| one(&openssl.list(ca, "")).unwrap());
    let [of_root, of_second, of_third] = lists;
    let wall = root.not_before() + DAY;
    let mut anchors = TrustAnchors::new(&[root.clone(), second, third]).unwrap();
    assert_eq!(anchors.add_list(of_third), Err(CrlError::UnknownSigner), "its key may not sign lists");
    let verdicts = |anchors: &TrustAnchors| {
        ["alice", "bob", "carol"].map(|name| anchors.verify_client(&openssl.cert(name), &[], wall))
    };
    anchors.add_list(of_second.clone()).unwrap();
    assert_eq!(verdicts(&anchors), [Ok(()), Err(ChainError::Revoked), Ok(())]);
    anchors.add_list(of_root).unwrap();
    assert_eq!(verdicts(&anchors), [Err(ChainError::Revoked), Err(ChainError::Revoked), Ok(())]);
    let mut alone = TrustAnchors::new(&[root]).unwrap();
    assert_eq!(alone.add_list(of_second), Err(CrlError::UnknownSigner), "of that name, but another key");
}

#[test]
fn forms_and_what_is_not_supported() {
    let Some(openssl) = OpenSsl::new() else { return };
    openssl.issue("root", "alice", "leaf");
    openssl.revoke("root", "alice");
    let pem = openssl.list("root", "");
    openssl.run("root", "crl -in list.pem -outform DER -out list.der");
    let list = one(&openssl.read("list.der")).unwrap();
    assert_eq!(one(&pem).unwrap(), list);
    let two = Crl::parse_file(&[&pem[..], &openssl.read("root.pem"), &pem].concat()).unwrap();
    assert_eq!(two, [list.clone(), list]);
    assert!(one(&openssl.list("root", "-crlexts clients")).is_ok(), "of clients only: these are all");
    for (more, says) in [
        ("-crlexts delta", "a delta list; give the complete one"),
        ("-crlexts indirect", "an indirect or partial list"),
    ] {
        let error = one(&openssl.list("root", more)).unwrap_err().to_string();
        assert!(error.contains(says), "{more}: {error}");
    }
    for content in [&b""[..], b"text", b"\x30", &openssl.read("root.pem"), openssl.cert("root").der()] {
        assert!(matches!(one(content), Err(CrlError::Malformed(_) | CrlError::Unusable(_))), "{content:?}");
    }
}

#[test]
fn damaged_lists_never_panic_and_never_count() {
    let Some(openssl) = OpenSsl::new() else { return };
    openssl.issue("root", "alice", "leaf");
    openssl.revoke("root", "alice");
    openssl.list("root", "-crlexts list");
    openssl.run("root", "crl -in list.pem -outform DER -out list.der");
    let (der, root) = (openssl.read("list.der"), openssl.cert("root"));
    assert!(one(&der).unwrap().is_signed_by(&root));
    for len in 0..der.len() {
        assert!(Crl::parse(&der[..len]).is_err(), "{len} octets");
    }
    for at in 0..der.len() {
        let mut bad = der.clone();
        bad[at] ^= 0x55;
        assert!(!Crl::parse(&bad).is_ok_and(|list| list.is_signed_by(&root)), "octet {at}");
    }
}
