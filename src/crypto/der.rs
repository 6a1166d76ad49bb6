//! A bounded reader of DER (X.690), as much of it as certificates and keys need. Zero-copy, never panics.

use super::Error;

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const NULL: u8 = 0x05;
pub const OID: u8 = 0x06;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

/// The tag of the constructed, context-specific element `[number]`.
pub const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The tag of the primitive, context-specific element `[number]`.
pub const fn context_primitive(number: u8) -> u8 {
    0x80 | number
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    pub tag: u8,
    /// The content.
    pub value: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Debug)]
pub struct Der<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Der<'a> {
    /// A reader over the elements in `bytes`; `what` names the structure in errors.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// The error of this reader.
    pub fn malformed(&self) -> Error {
        Error::Malformed(self.what)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An error unless everything was read.
    pub fn finish(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    /// The next element, whatever it is.
    pub fn any(&mut self) -> Result<Element<'a>, Error> {
        let (element, rest) = split_element(self.rest).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(element)
    }

    /// The next element, which must have this tag.
    pub fn element(&mut self, tag: u8) -> Result<Element<'a>, Error> {
        self.optional(tag)?.ok_or(self.malformed())
    }

    /// The content of the next element, which must have this tag.
    pub fn value(&mut self, tag: u8) -> Result<&'a [u8], Error> {
        self.element(tag).map(|element| element.value)
    }

    /// The next element if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Error> {
        if self.rest.first() == Some(&tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// A reader over the content of the next element, which must have this tag.
    pub fn nested(&mut self, tag: u8) -> Result<Der<'a>, Error> {
        self.value(tag).map(|value| Der::new(value, self.what))
    }

    /// The octets of a BIT STRING without unused bits.
    pub fn bit_string(&mut self) -> Result<&'a [u8], Error> {
        match self.value(BIT_STRING)? {
            [0, octets @ ..] => Ok(octets),
            _ => Err(self.malformed()),
        }
    }

    /// A BOOLEAN DEFAULT FALSE.
    pub fn optional_bool(&mut self) -> Result<bool, Error> {
        match self.optional(BOOLEAN)?.map(|element| element.value) {
            None => Ok(false),
            Some([value]) => Ok(*value != 0),
            Some(_) => Err(self.malformed()),
        }
    }
}

/// A reader over the content of the one SEQUENCE that `bytes` must be.
pub fn sequence<'a>(bytes: &'a [u8], what: &'static str) -> Result<Der<'a>, Error> {
    let mut outer = Der::new(bytes, what);
    let inner = outer.nested(SEQUENCE)?;
    outer.finish().map(|()| inner)
}

/// Splits the first element off. Only single-octet tags and definite, minimal lengths below 2^24 pass.
fn split_element(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = octets.iter().fold(0, |len, octet| len << 8 | usize::from(*octet));
            let minimal = len >= 0x80 && octets.first() != Some(&0);
            (minimal.then_some(len)?, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(len)?;
    let (whole, _) = bytes.split_at_checked(bytes.len() - rest.len())?;
    Some((Element { tag, value, whole }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_elements_and_keeps_their_bytes() {
        let bytes = [0x30, 5, 2, 1, 7, 5, 0, 0xff];
        let mut der = Der::new(&bytes, "test");
        let sequence = der.element(SEQUENCE).unwrap();
        assert_eq!(sequence.whole, &bytes[..7]);
        let mut inner = Der::new(sequence.value, "test");
        assert_eq!(inner.value(INTEGER), Ok(&[7][..]));
        assert!(inner.optional(OID).unwrap().is_none());
        assert_eq!(inner.value(NULL), Ok(&[][..]));
        assert_eq!(inner.finish(), Ok(()));
        assert_eq!(der.finish(), Err(Error::Malformed("test")));
    }

    #[test]
    fn refuses_what_is_not_der() {
        let bad: [&[u8]; 9] = [
            &[],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],          // indefinite
            &[0x30, 0x81, 1, 0],          // not minimal
            &[0x30, 0x82, 0, 0x80],       // not minimal, and short
            &[0x30, 0x84, 0, 0, 0, 1, 0], // longer than anything we read
            &[0x30, 0x83, 0xff, 0xff, 0xff],
            &[0x1f, 0x81, 0], // multi-octet tag
        ];
        for bytes in bad {
            assert!(Der::new(bytes, "test").any().is_err(), "{bytes:02x?}");
        }
    }
}
