//! The file of post-quantum preshared keys: a PPK_ID and a key on each line.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Error;
use super::files::Files;
use crate::cli::args::Source;
use crate::crypto::Secret;
use crate::engine::Ppk;

/// RFC 8784 section 6 wants 256 bits.
const SHORTEST_KEY: usize = 32;

/// The keys in the file of `--ppk-file`.
pub fn read(source: &Source, files: &mut Files<'_, impl Read>) -> Result<Vec<Ppk>, Error> {
    let (content, path) = files.whole("--ppk-file", source)?;
    let bad = |line, why| Error::BadPpk { path: path.clone(), line, why };
    let text = std::str::from_utf8(content.expose()).map_err(|_| bad(1, "this is no text"))?;
    let mut ppks: Vec<Ppk> = vec![];
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let ppk = parse(line).map_err(|why| bad(number, why))?;
        if ppks.iter().any(|other| other.id == ppk.id) {
            return Err(bad(number, "this PPK_ID was there already; give each key its own"));
        }
        ppks.push(ppk);
    }
    if ppks.is_empty() {
        Err(bad(1, "there is no key; write a PPK_ID, a blank and the key"))
    } else {
        Ok(ppks)
    }
}

fn parse(line: &str) -> Result<Ppk, &'static str> {
    let (id, key) = line.rsplit_once(char::is_whitespace).ok_or("write a PPK_ID, a blank and the key")?;
    let key = decode(key).ok_or("the key is neither hexadecimal nor base64")?;
    if key.len() < SHORTEST_KEY {
        return Err("the key is shorter than 256 bits; make one with 'openssl rand -hex 32'");
    }
    Ok(Ppk { id: id.trim_end().as_bytes().to_vec(), secret: key })
}

/// Hexadecimal where it can be that, else base64; as strongSwan writes them (`0x`, `0s`), or bare.
fn decode(text: &str) -> Option<Secret> {
    let octets = match (text.strip_prefix("0x"), text.strip_prefix("0s")) {
        (Some(hex), _) => from_hex(hex)?,
        (None, Some(base64)) => STANDARD.decode(base64).ok()?,
        (None, None) => from_hex(text).or_else(|| STANDARD.decode(text).ok())?,
    };
    Some(Secret::new(octets))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks();
    let octet = |[high, low]: &[u32; 2]| u8::try_from(high << 4 | low).ok();
    pairs.iter().map(octet).collect::<Option<_>>().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let hex = "00ff".repeat(16);
        for (line, id, first) in [
            (format!("carol {hex}"), "carol", 0),
            (format!("carol at home\t0x{}", hex.to_uppercase()), "carol at home", 0),
            (format!("a  {}", STANDARD.encode([9; 32])), "a", 9),
            (format!("a 0s{}", STANDARD.encode([8; 33])), "a", 8),
        ] {
            let ppk = parse(&line).unwrap();
            assert_eq!((ppk.id.as_slice(), ppk.secret.expose()[0]), (id.as_bytes(), first), "{line}");
        }
        for (line, says) in [
            ("carol", "a blank"),
            ("carol 00ff", "256 bits"),
            ("carol 0x0", "neither"),
            ("carol not-a-key!", "neither"),
        ] {
            assert!(parse(line).unwrap_err().contains(says), "{line}");
        }
    }
}
