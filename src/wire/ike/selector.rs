//! Traffic selector payloads (RFC 7296 section 3.13).

use std::net::IpAddr;

use crate::base::TrafficSelector;
use crate::wire::{Malformed, Reader};

/// Most selectors in one payload.
pub const MAX_SELECTORS: usize = 64;

const TS_IPV4_ADDR_RANGE: u8 = 7;
const TS_IPV6_ADDR_RANGE: u8 = 8;

/// Reads the body of a TSi or TSr payload. Selectors of unknown types are skipped; a start above its end is an error
/// except for ports, where it means OPAQUE (RFC 4301), which we treat as a selector that is not usable and skip.
pub fn parse_selectors(body: &[u8]) -> Result<Vec<TrafficSelector>, Malformed> {
    let mut r = Reader::new(body, "TS payload");
    let (count, _reserved) = (usize::from(r.u8()?), r.take(3)?);
    if count == 0 || count > MAX_SELECTORS {
        return Err(r.malformed());
    }
    let mut selectors = Vec::new();
    for _ in 0..count {
        let (kind, protocol, length) = (r.u8()?, r.u8()?, usize::from(r.u16()?));
        let mut s = r.sub(length.checked_sub(4).ok_or(r.malformed())?, "traffic selector")?;
        let (port_first, port_last) = (s.u16()?, s.u16()?);
        let (first, last) = match kind {
            TS_IPV4_ADDR_RANGE => (IpAddr::from(s.array::<4>()?), IpAddr::from(s.array::<4>()?)),
            TS_IPV6_ADDR_RANGE => (IpAddr::from(s.array::<16>()?), IpAddr::from(s.array::<16>()?)),
            _ => continue,
        };
        s.finish()?;
        if first > last {
            return Err(s.malformed());
        }
        if port_first <= port_last {
            selectors.push(TrafficSelector { first, last, protocol, port_first, port_last });
        }
    }
    r.finish()?;
    Ok(selectors)
}

/// Writes the body of a TSi or TSr payload; at most 255 selectors, `first` and `last` of one family each.
pub fn emit_selectors(selectors: &[TrafficSelector]) -> Vec<u8> {
    let mut out = vec![u8::try_from(selectors.len()).unwrap_or(u8::MAX), 0, 0, 0];
    for selector in selectors {
        let (kind, length) =
            if selector.first.is_ipv4() { (TS_IPV4_ADDR_RANGE, 16) } else { (TS_IPV6_ADDR_RANGE, 40) };
        out.extend([kind, selector.protocol, 0, length]);
        out.extend(selector.port_first.to_be_bytes());
        out.extend(selector.port_last.to_be_bytes());
        for address in [selector.first, selector.last] {
            match address {
                IpAddr::V4(address) => out.extend(address.octets()),
                IpAddr::V6(address) => out.extend(address.octets()),
            }
        }
    }
    out
}
