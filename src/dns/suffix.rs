//! Domain suffixes, as people write them.

use std::fmt;

/// Longest name as text, without the final dot.
const MAX_TEXT: usize = 253;
const MAX_LABEL: usize = 63;

/// Why a text is not a domain suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuffixError {
    /// Nothing is left, or two dots stand side by side.
    EmptyLabel,
    /// A leading `*.` or `.`.
    Wildcard,
    /// Longer than a name can be.
    TooLong,
    /// A label longer than 63 octets.
    LabelTooLong(String),
    /// A label that begins or ends with a hyphen.
    Hyphen(String),
    /// A character that host names do not have.
    Character(char),
    /// A label in another script, not in its form for the wire.
    NotAscii(String),
    /// A label that begins like an A-label, but is none.
    NotALabel(String),
    /// An IPv4 address.
    Address,
}

impl fmt::Display for SuffixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyLabel => write!(f, "a domain name with a label between any two dots is expected"),
            Self::Wildcard => {
                write!(f, "leave out what stands in front: names below the domain are included")
            }
            Self::TooLong => write!(f, "longer than {MAX_TEXT} characters"),
            Self::LabelTooLong(label) => write!(f, "label '{label}' is longer than {MAX_LABEL} characters"),
            Self::Hyphen(label) => write!(f, "label '{label}' begins or ends with a hyphen"),
            Self::Character(c) => write!(f, "a domain name cannot contain {c:?}"),
            Self::NotAscii(label) => {
                write!(f, "label '{label}' is not ASCII: write its A-label, which begins with 'xn--'")
            }
            Self::NotALabel(label) => write!(f, "label '{label}' begins with 'xn--' but is no A-label"),
            Self::Address => write!(f, "this is an address, not a domain name"),
        }
    }
}

impl std::error::Error for SuffixError {}

/// A domain: itself and everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suffix {
    text: String,
    wire: Vec<u8>,
}

impl Suffix {
    /// Reads a domain name: ASCII labels of letters, digits, hyphens and underscores (Active Directory has them), with or
    /// without the final dot. Labels that begin with `xn--` must be A-labels: Punycode (RFC 3492) of something that is
    /// neither ASCII nor upper case.
    pub fn parse(text: &str) -> Result<Self, SuffixError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > 1 && (text.starts_with("*.") || text.starts_with('.')) {
            return Err(SuffixError::Wildcard);
        }
        let mut wire = Vec::new();
        for label in text.split('.') {
            check_label(label)?;
            wire.push(label.len() as u8); // at most 63
            wire.extend_from_slice(label.as_bytes());
        }
        if text.len() > MAX_TEXT {
            return Err(SuffixError::TooLong);
        }
        if text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err(SuffixError::Address);
        }
        wire.push(0);
        wire.make_ascii_lowercase();
        Ok(Self { text: text.to_ascii_lowercase(), wire })
    }

    /// The name in lower case, without the final dot.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name in wire form.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }
}

impl fmt::Display for Suffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_label(label: &str) -> Result<(), SuffixError> {
    if label.is_empty() {
        return Err(SuffixError::EmptyLabel);
    }
    if !label.is_ascii() {
        return Err(SuffixError::NotAscii(label.to_owned()));
    }
    if let Some(c) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
        return Err(SuffixError::Character(c));
    }
    if label.len() > MAX_LABEL {
        return Err(SuffixError::LabelTooLong(label.to_owned()));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(SuffixError::Hyphen(label.to_owned()));
    }
    let lower = label.to_ascii_lowercase();
    match lower.strip_prefix("xn--") {
        Some(punycode) if !is_u_label(punycode) => Err(SuffixError::NotALabel(label.to_owned())),
        _ => Ok(()),
    }
}

/// True where this decodes to something that an A-label may stand for.
fn is_u_label(punycode: &str) -> bool {
    decode_punycode(punycode).is_some_and(|decoded| {
        decoded.iter().any(|c| !c.is_ascii()) && !decoded.iter().any(|c| c.is_uppercase() || c.is_control())
    })
}

/// RFC 3492 section 6.2, with the parameters of section 5.
fn decode_punycode(text: &str) -> Option<Vec<char>> {
    const BASE: u32 = 36;
    const TMIN: u32 = 1;
    const TMAX: u32 = 26;
    let (basic, digits) = text.rsplit_once('-').unwrap_or(("", text));
    let mut output: Vec<char> = basic.chars().collect();
    let (mut code, mut at, mut bias, mut first) = (128u32, 0u32, 72u32, true);
    let mut digits = digits.chars();
    while digits.as_str() != "" {
        let before = at;
        let mut weight = 1u32;
        for k in (BASE..).step_by(BASE as usize) {
            let digit = match digits.next()? {
                c @ 'a'..='z' => u32::from(c) - u32::from('a'),
                c @ '0'..='9' => u32::from(c) - u32::from('0') + 26,
                _ => return None,
            };
            at = at.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(TMIN, TMAX);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
        }
        let len = u32::try_from(output.len()).ok()? + 1;
        let mut delta = (at - before) / if first { 700 } else { 2 };
        first = false;
        delta += delta / len;
        bias = 0;
        while delta > (BASE - TMIN) * TMAX / 2 {
            delta /= BASE - TMIN;
            bias += BASE;
        }
        bias += (BASE - TMIN + 1) * delta / (delta + 38);
        code = code.checked_add(at / len)?;
        at %= len;
        output.insert(at as usize, char::from_u32(code)?);
        at += 1;
    }
    Some(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_read_or_refused_with_the_reason() {
        for (text, shown) in [
            ("corp.example", "corp.example"),
            ("Corp.Example.", "corp.example"),
            ("internal", "internal"),
            ("_msdcs.ad.example", "_msdcs.ad.example"),
            ("r3---sn.example", "r3---sn.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("XN--MNCHEN-3YA.de", "xn--mnchen-3ya.de"),
            ("xn--fiqs8s", "xn--fiqs8s"),
            ("1.example", "1.example"),
        ] {
            assert_eq!(Suffix::parse(text).map(|s| s.to_string()), Ok(shown.to_owned()));
        }
        assert_eq!(Suffix::parse("aB.c").unwrap().wire(), b"\x02ab\x01c\0");
        let long = "x".repeat(64);
        let longest = ["y".repeat(63), "y".repeat(63), "y".repeat(63), "y".repeat(61)].join(".");
        assert_eq!(Suffix::parse(&longest).unwrap().wire().len(), 255);
        for (text, error) in [
            ("", SuffixError::EmptyLabel),
            (".", SuffixError::EmptyLabel),
            ("a..b", SuffixError::EmptyLabel),
            ("a.b..", SuffixError::EmptyLabel),
            ("*.corp.example", SuffixError::Wildcard),
            (".corp.example", SuffixError::Wildcard),
            (&long, SuffixError::LabelTooLong(long.clone())),
            (&format!("{longest}.z"), SuffixError::TooLong),
            ("-a.example", SuffixError::Hyphen("-a".into())),
            ("a-.example", SuffixError::Hyphen("a-".into())),
            ("a b.example", SuffixError::Character(' ')),
            ("a*.example", SuffixError::Character('*')),
            ("bücher.example", SuffixError::NotAscii("bücher".into())),
            ("xn--.example", SuffixError::Hyphen("xn--".into())),
            ("xn--abc-.example", SuffixError::Hyphen("xn--abc-".into())),
            ("xn--a.example", SuffixError::NotALabel("xn--a".into())),
            ("xn--zzzzzzzz99999", SuffixError::NotALabel("xn--zzzzzzzz99999".into())),
            ("xn--bcher-_", SuffixError::NotALabel("xn--bcher-_".into())),
            ("10.1.2.3", SuffixError::Address),
        ] {
            assert_eq!(Suffix::parse(text), Err(error.clone()), "{text}: {error}");
        }
    }

    #[test]
    fn punycode_is_decoded() {
        for (text, decoded) in [
            ("bcher-kva", "bücher"),
            ("mnchen-3ya", "münchen"),
            ("fiqs8s", "中国"),
            ("ihqwcrb4cv8a8dqg056pqjye", "他们为什么不说中文"),
            ("proprostnemluvesky-uyb24dma41a", "pročprostěnemluvíčesky"),
        ] {
            assert_eq!(decode_punycode(text).map(String::from_iter).as_deref(), Some(decoded));
        }
    }
}
