//! `pterodapter setup user` and `setup psk`: secrets for those who come without a certificate. We choose them, since what
//! people choose is guessed, and show them once: of a password only the hash stays here.

use std::path::Path;

use clap::Args;
use zeroize::Zeroizing;

use crate::base::Random;
use crate::crypto::{SystemRandom, mschapv2};

use super::super::Failure;
use super::files::{self, Files, PRIVATE};
use super::{CONFIGURATION, PSKS, USERS};

/// The options of `setup user` and of `setup psk`.
#[derive(Args, Clone, Debug)]
pub struct UserArgs {
    /// The name that the device will say
    #[arg(value_name = "NAME")]
    name: String,

    /// Take the secret away, and give no new one
    #[arg(long)]
    remove: bool,
}

/// What kind of secret it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Password,
    PreSharedKey,
}

impl Kind {
    /// The file, and the option that names it.
    const fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::Password => (USERS, "eap-users"),
            Self::PreSharedKey => (PSKS, "psk-file"),
        }
    }

    /// The name in a line.
    fn name(self, line: &str) -> Option<&str> {
        let (name, _) = line.split_once(if self == Self::Password { ":" } else { ": " })?;
        Some(name.trim()).filter(|name| !name.starts_with('#'))
    }

    /// A new secret, and the line that lets it in.
    fn make(self, name: &str, random: &mut dyn Random) -> (Zeroizing<String>, String) {
        match self {
            Self::Password => {
                let password = password(20, random);
                let hash = mschapv2::nt_hash(&password);
                let hex: String = hash.expose().iter().map(|octet| format!("{octet:02x}")).collect();
                (password, format!("{name}:{hex}"))
            }
            Self::PreSharedKey => {
                let key = password(30, random);
                let line = format!("{name}: {}", *key);
                (key, line)
            }
        }
    }
}

/// Changes the file; the text for the person.
pub fn run(kind: Kind, args: &UserArgs, dir: &Path, force: bool) -> Result<String, Failure> {
    let name = args.name.as_str();
    check_name(kind, name)?;
    let (file, option) = kind.file();
    let before = Zeroizing::new(files::read_if_there(&dir.join(file))?.unwrap_or_default());
    let is_other =
        |line: &&str| kind.name(line).is_none_or(|other| other.to_lowercase() != name.to_lowercase());
    let mut lines: Vec<&str> = before.lines().filter(is_other).collect();
    let is_there = lines.len() < before.lines().count();
    if args.remove && !is_there {
        return Err(Failure::Usage(format!("{name:?} has no line in {}", dir.join(file).display())));
    }
    if !args.remove && is_there && !force {
        return Err(Failure::Configuration(format!(
            "{name:?} has a secret in {}; --force makes a new one in its place",
            dir.join(file).display()
        )));
    }
    let made = (!args.remove).then(|| kind.make(name, &mut SystemRandom::new()));
    lines.extend(made.iter().map(|(_, line)| line.as_str()));
    let mut out = Files::new(dir, true);
    out.replace(file, PRIVATE, lines.iter().flat_map(|line| [*line, "\n"]).collect::<String>());
    let written = out.write()?;
    let done = match &made {
        Some((secret, _)) => format!("\n{name}, shown only now:\n  {}\n", **secret),
        None => format!("{name} is not let in any more\n"),
    };
    Ok(format!("{written}{done}{}\nNow:\n  pterodapter reload\n", missing(dir, file, option)))
}

/// What the configuration lacks for it to take effect.
fn missing(dir: &Path, file: &str, option: &str) -> String {
    let configuration = files::read_if_there(&dir.join(CONFIGURATION)).ok().flatten().unwrap_or_default();
    if configuration.lines().any(|line| line.trim_start().starts_with(option)) {
        return String::new();
    }
    format!(
        "\nThe daemon does not know the file: add this line to {}\n  {option} = \"{file}\"\n\
         As a service it must be able to read it, too:\n  chgrp pterodapter {path} && chmod 640 {path}\n",
        dir.join(CONFIGURATION).display(),
        path = dir.join(file).display()
    )
}

/// A name that the file can hold, and that every client can say.
fn check_name(kind: Kind, name: &str) -> Result<(), Failure> {
    let fits = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c) || c == ':' && kind != Kind::Password);
    if !name.is_empty() && name.len() <= 64 && fits {
        return Ok(());
    }
    Err(Failure::Usage(format!("{name:?} cannot be a name here: letters, digits and - _ . @")))
}

/// So many characters of 32 at random: five bits each, easy to read off and to type on a telephone.
pub fn password(characters: usize, random: &mut dyn Random) -> Zeroizing<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = Zeroizing::new(vec![0; characters]);
    random.fill(&mut bytes);
    let mut password = Zeroizing::new(String::with_capacity(2 * characters));
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && index % 5 == 0 {
            password.push('-');
        }
        password.extend(LETTERS.get(usize::from(byte % 32)).map(|letter| char::from(*letter)));
    }
    password
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn secrets_are_made_changed_and_taken_away() {
        let place = TempDir::new().unwrap();
        let dir = place.path();
        let run = |kind, name: &str, remove, force| {
            let args = UserArgs { name: name.to_owned(), remove };
            run(kind, &args, dir, force).map_err(|failure| failure.parts().1.to_owned())
        };
        let shown = |text: &str| {
            let (_, rest) = text.split_once("shown only now:\n  ").unwrap();
            rest.lines().next().unwrap().to_owned()
        };
        let lines = |file: &str| -> Vec<String> {
            fs::read_to_string(dir.join(file)).unwrap().lines().map(str::to_owned).collect()
        };
        let text = run(Kind::Password, "alice", false, false).unwrap();
        assert!(text.contains("eap-users = \"eap-users\"") && text.contains("chmod 640"), "{text}");
        let password = shown(&text);
        assert_eq!(password.len(), 23);
        let hash = |password: &str| {
            let hash = mschapv2::nt_hash(password);
            hash.expose().iter().map(|octet| format!("{octet:02x}")).collect::<String>()
        };
        assert_eq!(lines(USERS), [format!("alice:{}", hash(&password))]);
        assert_eq!(fs::metadata(dir.join(USERS)).unwrap().permissions().mode() & 0o777, 0o600);

        fs::write(dir.join(CONFIGURATION), "eap-users = \"eap-users\"\n").unwrap();
        assert!(run(Kind::Password, "ALICE", false, false).unwrap_err().contains("--force makes a new one"));
        let text = run(Kind::Password, "bob", false, false).unwrap();
        assert!(!text.contains("add this line"), "{text}");
        let new = shown(&run(Kind::Password, "alice", false, true).unwrap());
        assert_ne!(new, password);
        assert_eq!(lines(USERS)[1], format!("alice:{}", hash(&new)));
        run(Kind::Password, "alice", true, false).unwrap();
        assert_eq!(lines(USERS).len(), 1);
        assert!(run(Kind::Password, "alice", true, false).unwrap_err().contains("has no line"));

        fs::write(dir.join(PSKS), "# telephones\n2001:db8::7: old\n").unwrap();
        let key = shown(&run(Kind::PreSharedKey, "phone", false, false).unwrap());
        assert_eq!(key.len(), 35, "thirty characters of five bits");
        run(Kind::PreSharedKey, "2001:db8::7", true, false).unwrap();
        assert_eq!(lines(PSKS), ["# telephones".to_owned(), format!("phone: {key}")]);
        for name in ["", "a:b", "CORP\\alice", "two words", "#x"] {
            assert!(run(Kind::Password, name, false, false).is_err(), "{name}");
        }
    }
}
