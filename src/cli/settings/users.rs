//! The files of those who come without a certificate: passwords, as hashes, and pre-shared keys.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::cli::args::Source;
use crate::crypto::Secret;
use crate::engine::Secrets;

use super::Error;
use super::files::Files;

/// Octets of a pre-shared key in hexadecimal or base64: 128 bits.
const KEY_OCTETS: usize = 16;
/// Characters of one in plain text. Of letters and digits at random that is 128 bits.
const KEY_CHARACTERS: usize = 22;
/// Different octets or characters: a key at random has more, `0000...` has not.
const DIFFERENT: usize = 8;

/// Lines of `name:hash`.
pub fn users(files: &mut Files<'_, impl Read>, source: &Source) -> Result<Secrets, Error> {
    read(files, "--eap-users", source, user)
}

/// Lines of `identity: key`.
pub fn psks(files: &mut Files<'_, impl Read>, source: &Source) -> Result<Secrets, Error> {
    read(files, "--psk-file", source, identity)
}

fn read(
    files: &mut Files<'_, impl Read>,
    option: &'static str,
    source: &Source,
    entry: Entry,
) -> Result<Secrets, Error> {
    let (content, path) = files.whole(option, source)?;
    parse(content.expose(), entry).map_err(|(line, why)| Error::BadLine { option, path, line, why })
}

/// What a line says.
type Entry = fn(&str) -> Result<(&str, Secret), &'static str>;

/// What the lines of a file say; empty ones and those that begin with `#` say nothing. An error has its line.
fn parse(content: &[u8], entry: Entry) -> Result<Secrets, (usize, &'static str)> {
    let mut secrets = Secrets::default();
    for (number, line) in (1..).zip(content.split(|octet| *octet == b'\n')) {
        let line = std::str::from_utf8(line).map_err(|_| (number, "this is not UTF-8"))?.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, secret) = entry(line).map_err(|why| (number, why))?;
        let name = name.trim();
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err((number, "there is no name before the colon"));
        }
        if !secrets.add(name, secret) {
            return Err((number, "the name is there twice (upper and lower case are one)"));
        }
    }
    Ok(secrets)
}

fn user(line: &str) -> Result<(&str, Secret), &'static str> {
    let (name, hash) = line.split_once(':').ok_or("expected name:hash")?;
    let hash = hex(hash.trim()).filter(|hash| hash.len() == KEY_OCTETS).ok_or(
        "behind the name must be the NT hash of a password, 32 hexadecimal digits, and no password: 'pterodapter \
         setup user NAME' makes such a line",
    )?;
    if name.contains('\\') {
        return Err("a name has no domain here: what a client puts before a backslash does not count");
    }
    Ok((name, hash))
}

fn identity(line: &str) -> Result<(&str, Secret), &'static str> {
    let (identity, key) =
        line.split_once(": ").ok_or("expected identity: key, with a space behind the colon")?;
    Ok((identity, psk(key.trim())?))
}

/// A key as strongSwan has it: `0x` and hexadecimal digits, `0s` and base64, or the characters themselves. Its length can
/// be seen, and whether it is all the same; that it is random cannot.
fn psk(text: &str) -> Result<Secret, &'static str> {
    let too_short = "the key is too short: 128 bits at random are wanted, in 16 octets (0x and 32 hexadecimal digits, or 0s \
                     and base64) or 22 characters; 'pterodapter setup psk IDENTITY' makes one";
    let (key, least) = if let Some(digits) = text.strip_prefix("0x") {
        (hex(digits).ok_or("behind 0x there must be hexadecimal digits, two for each octet")?, KEY_OCTETS)
    } else if let Some(encoded) = text.strip_prefix("0s") {
        let octets = STANDARD.decode(encoded).map_err(|_| "behind 0s there must be base64")?;
        (Secret::new(octets), KEY_OCTETS)
    } else if text.chars().all(|c| c.is_ascii_graphic()) {
        (Secret::from(text.as_bytes()), KEY_CHARACTERS)
    } else {
        return Err("a key has ASCII characters without spaces; write others as 0x and hexadecimal digits");
    };
    if key.len() < least {
        return Err(too_short);
    }
    let mut different = Zeroizing::new(key.expose().to_vec());
    different.sort_unstable();
    different.dedup();
    if different.len() < DIFFERENT {
        return Err("the key repeats itself: take a random one; 'pterodapter setup psk IDENTITY' makes one");
    }
    Ok(key)
}

fn hex(text: &str) -> Option<Secret> {
    let digits: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?);
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| Secret::new(pairs.iter().map(|[high, low]| high << 4 | low).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, entry: Entry) -> Result<Secrets, String> {
        parse(text.as_bytes(), entry).map_err(|(line, why)| format!("{line}: {why}"))
    }

    #[test]
    fn users_have_hashes_and_no_passwords() {
        let hash = "44ebba8d5312b8d611474411f56989AE";
        let good = format!("# users\n\nalice:{hash}\r\n  Bob Builder : {hash}");
        assert_eq!(load(&good, user).unwrap().len(), 2);
        assert!(load("", user).unwrap().is_empty());
        for (line, says) in [
            ("alice", "expected name:hash"),
            ("alice:clientPass", "and no password: 'pterodapter setup user NAME'"),
            ("alice:44ebba8d5312b8d611474411f56989aef0", "32 hexadecimal digits"),
            (&format!(":{hash}"), "no name"),
            (&format!("CORP\\alice:{hash}"), "no domain"),
            (&format!("alice:{hash}\nALICE:{hash}"), "twice"),
        ] {
            let found = load(&format!("carol:{hash}\n{line}"), user).unwrap_err();
            assert!(found.contains(says), "{line}: {found}");
            assert!(!found.contains("clientPass") && !found.contains("44eb"), "{found}");
        }
    }

    #[test]
    fn keys_are_long_enough_and_not_all_the_same() {
        for line in [
            "phone: 0x00112233445566778899aabbccddeeff",
            "bob@example.com: 0sABEiM0RVZneImaq7zN3u/w==",
            "2001:db8::7: kd8Wq2mVz0LrT5bYx7NcPa",
            "tablet: abcde-fghij-kmnpq-rstuv-wxyz2-3",
        ] {
            assert_eq!(load(line, identity).unwrap().len(), 1, "{line}");
        }
        for (line, says) in [
            ("phone kd8Wq2mVz0LrT5bYx7NcPa", "expected identity: key"),
            ("phone: kd8Wq2mVz0LrT5bYx7NcP", "too short"),
            ("phone: 0x00112233445566778899aabbccddee", "too short"),
            ("phone: 0x00112233445566778899aabbccddeef", "two for each"),
            ("phone: 0sABEiM0RVZneImaq7zN3u", "too short"),
            ("phone: 0s!", "base64"),
            ("phone: 0x00000000000000000000000000000000", "repeats"),
            ("phone: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "repeats"),
            ("phone: correct horse battery staple", "without spaces"),
            ("phone: ", "expected identity"),
        ] {
            let found = load(&format!("\n{line}"), identity).unwrap_err();
            assert!(found.starts_with("2: ") && found.contains(says), "{line}: {found}");
        }
    }
}
