//! Base64 (RFC 4648 section 4), with padding.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The low six bits.
const SEXTET: u32 = 0x3f;

/// The text for `octets`.
pub fn emit(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let bits =
            group.iter().fold(0, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - group.len()));
        for position in 0..4 {
            let sextet = (bits >> (18 - 6 * position) & SEXTET) as usize;
            let letter = ALPHABET.get(sextet).filter(|_| position <= group.len());
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

/// The octets of a text without white space; `None` if it is none.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    let (groups, []) = text.as_bytes().as_chunks::<4>() else { return None };
    let mut octets = Vec::with_capacity(groups.len() * 3);
    for (index, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|letter| **letter == b'=').count();
        if padding > 2 || (padding > 0 && index + 1 < groups.len()) {
            return None;
        }
        let mut bits: u32 = 0;
        for letter in group.iter().take(4 - padding) {
            let sextet = ALPHABET.iter().position(|known| known == letter)?;
            bits = bits << 6 | u32::try_from(sextet).ok()?;
        }
        let [_, whole @ ..] = (bits << (6 * padding)).to_be_bytes();
        octets.extend(whole.iter().take(3 - padding));
    }
    // One text for each value: bits that belong to no octet are zero.
    (emit(&octets) == text).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_rfc_4648() {
        for (octets, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(emit(octets.as_bytes()), text);
            assert_eq!(parse(text).as_deref(), Some(octets.as_bytes()));
        }
        assert_eq!(parse("+/8="), Some(vec![0xfb, 0xff]));
    }

    #[test]
    fn what_is_no_base64() {
        for text in ["Z", "Zg", "Zg=", "Zh==", "Z===", "====", "Zg==Zg==", "Zm9\n", "Zm-v", "é+"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
