//! The stateless translator against published vectors, byte for byte.
//!
//! They are read from `$PTERODAPTER_VECTORS/nat64`, or from `../shared/vectors/nat64` beside the repository. Where there
//! are none the test says so and passes, but not in continuous integration.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::env;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use pterodapter::nat::nat64::{
    self, Kind6, Limits, Mapping, Refused, Translated, translate_v4_to_v6, translate_v6_to_v4,
};
use pterodapter::nat::{Prefix96, icmp};

const DEVICE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 33);
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Octets free in front of each packet.
const ROOM: usize = 128;

/// A knob that we do not have: an error whose source is not the device's address is a spoofed packet here.
const SKIPPED_KNOB: &str = "\"icmp_source_for_untranslatable\"";

fn vectors(file: &str) -> Option<String> {
    // A worktree may lie one folder deeper than the repository.
    let beside = || {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .skip(1)
            .take(2)
            .map(|up| up.join("shared/vectors"))
            .collect()
    };
    let folders: Vec<PathBuf> =
        env::var_os("PTERODAPTER_VECTORS").map_or_else(beside, |folder| vec![PathBuf::from(folder)]);
    let found = folders.iter().map(|folder| folder.join("nat64").join(file)).find(|path| path.exists());
    let text = found.map(|path| fs::read_to_string(path).unwrap());
    if text.is_none() {
        assert!(env::var("CI").as_deref() != Ok("true"), "no vectors ({file}): set PTERODAPTER_VECTORS");
        println!("skipped: no {file} in $PTERODAPTER_VECTORS/nat64 or ../shared/vectors/nat64");
    }
    text
}

/// The text of a string field: the lines are compact JSON without escapes in what is read here.
fn text<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_once(&format!("\"{key}\":\""))?.1.split('"').next()
}

fn number(line: &str, key: &str) -> Option<usize> {
    let rest = line.split_once(&format!("\"{key}\":"))?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn list<'a>(line: &'a str, key: &str) -> Vec<&'a str> {
    let Some((_, rest)) = line.split_once(&format!("\"{key}\":[")) else { return Vec::new() };
    let items = rest.split(']').next().unwrap().split(',');
    items.map(|item| item.trim_matches('"')).filter(|item| !item.is_empty()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// What came of a packet: packets, or the reason with the ICMP error that answers it.
type Outcome = Result<Vec<Vec<u8>>, (String, Option<Vec<u8>>)>;

fn to_v4(mapping: &Mapping, limits: &Limits, packet: &[u8]) -> Outcome {
    let mut buf = [&[0xee; ROOM], packet].concat();
    let range = ROOM..buf.len();
    match translate_v6_to_v4(mapping, limits, &mut buf, range, 0x4242) {
        Ok(range) => {
            assert_eq!(range.end, buf.len(), "ends where the IPv6 packet ended");
            Ok(vec![buf[range].to_vec()])
        }
        Err(Refused { reason, answer }) => {
            let mut error = [0; nat64::MAX_LEN];
            let answer = answer.and_then(|kind: Kind6| {
                let len = nat64::emit_error(&mut error, mapping.host_v6(), kind, &buf[ROOM..])?;
                Some(error[..len].to_vec())
            });
            Err((reason.name().into(), answer))
        }
    }
}

fn to_v6(mapping: &Mapping, limits: &Limits, packet: &[u8]) -> Outcome {
    let mut buf = [&[0xee; ROOM], packet].concat();
    let range = ROOM..buf.len();
    match translate_v4_to_v6(mapping, limits, &mut buf, range) {
        Ok(Translated::Whole(range)) => {
            assert_eq!(range.end, buf.len(), "ends where the IPv4 packet ended");
            Ok(vec![buf[range].to_vec()])
        }
        Ok(Translated::Split(split)) => {
            assert!(split.count() <= nat64::max_pieces(limits, packet.len()));
            let pieces = (0..split.count()).map(|index| split.piece(index).unwrap());
            Ok(pieces.map(|piece| [&piece.headers[..], &buf[piece.payload]].concat()).collect())
        }
        Err(Refused { reason, answer }) => {
            let mut error = [0; icmp::MAX_LEN];
            let answer = answer.and_then(|kind| {
                let len = icmp::emit_error(&mut error, HOST, kind, &buf[ROOM..])?;
                Some(error[..len].to_vec())
            });
            Err((reason.name().into(), answer))
        }
    }
}

fn check(line: &str, outcome: &Outcome) -> Result<(), String> {
    let expected: Vec<Vec<u8>> = list(line, "packets").into_iter().map(hex).collect();
    let ignored: Vec<usize> = list(line, "ignore_bytes").into_iter().map(|at| at.parse().unwrap()).collect();
    match (text(line, "action").unwrap(), outcome) {
        ("forward", Ok(packets)) => {
            if packets.len() != expected.len() {
                return Err(format!("{} packets, not {}", packets.len(), expected.len()));
            }
            for (packet, expected) in packets.iter().zip(&expected) {
                let differs = |at: &usize| packet.get(*at) != expected.get(*at) && !ignored.contains(at);
                if let Some(at) = (0..packet.len().max(expected.len())).find(differs) {
                    return Err(format!("octet {at} differs:\n{packet:02x?}\n{expected:02x?}"));
                }
            }
            Ok(())
        }
        ("reply", Err((_, None))) if line.contains("\"policy\"") => Ok(()),
        ("reply", Err((reason, Some(answer)))) => {
            let header_len = if number(line, "version") == Some(6) { 40 } else { 20 };
            let message = &answer[header_len..];
            let quoted = hex(text(line, "quoted").unwrap());
            let kinds = [message[0], message[1]].map(|field| Some(usize::from(field)));
            let mtu = usize::from(u16::from_be_bytes([message[6], message[7]]));
            let icmp = line.split_once("\"icmp\":").unwrap().1;
            if kinds != [number(icmp, "type"), number(icmp, "code")]
                || number(icmp, "mtu").is_some_and(|expected| expected != mtu)
                || message[8..] != quoted
            {
                return Err(format!("{reason}: answered {message:02x?}"));
            }
            Ok(())
        }
        ("drop", Err((_, None))) => Ok(()),
        (action, outcome) => Err(format!("expected {action}, got {outcome:02x?}")),
    }
}

fn run(profile: &str, device_v6: Ipv6Addr) {
    let Some(lines) = vectors(&format!("jool.{profile}.jsonl")) else { return };
    let prefix = Prefix96::new("2001:db8:64:ff9b::".parse().unwrap()).unwrap();
    let mapping = Mapping::new(prefix, device_v6, DEVICE_V4, HOST);
    let (mut ran, mut skipped, mut failed) = (0, 0, Vec::new());
    for line in lines.lines() {
        if line.contains(SKIPPED_KNOB) {
            skipped += 1;
            continue;
        }
        let limits = Limits {
            mtu6: number(line, "ipv6_side_mtu").unwrap_or(1500),
            mtu4: number(line, "ipv4_side_mtu").unwrap_or(1500),
            lowest_ipv6_mtu: number(line, "lowest_ipv6_mtu").unwrap_or(1280),
            compute_udp_checksum: !line.contains("\"amend_udp_zero_checksum\":false"),
        };
        let packet = hex(text(line, "in").unwrap());
        let outcome = match text(line, "dir").unwrap() {
            "6to4" => to_v4(&mapping, &limits, &packet),
            "4to6" => to_v6(&mapping, &limits, &packet),
            other => panic!("{other}"),
        };
        ran += 1;
        if let Err(why) = check(line, &outcome) {
            failed.push(format!("{}: {why}", text(line, "id").unwrap()));
        }
    }
    println!("{profile}: {ran} cases, {skipped} skipped (a knob that we do not have)");
    assert!(failed.is_empty(), "{} of {ran} failed:\n{}", failed.len(), failed.join("\n"));
    assert_eq!((ran, skipped), (128, 2));
}

#[test]
fn device_with_an_address_of_its_own() {
    run("host", "fd00:c11e:47::2".parse().unwrap());
}

#[test]
fn device_inside_the_prefix() {
    run("same96", "2001:db8:64:ff9b::192.0.2.33".parse().unwrap());
}

#[test]
fn embedded_addresses() {
    let Some(table) = vectors("rfc6052-embedding.json") else { return };
    let (mut ran, mut refused) = (0, 0);
    for row in table.split('{').skip(1) {
        let row = row.replace("\": ", "\":");
        let (prefix, v4) = (text(&row, "prefix").unwrap(), text(&row, "v4").unwrap().parse().unwrap());
        let v6: Ipv6Addr = text(&row, "v6").unwrap().parse().unwrap();
        match prefix.parse::<Prefix96>() {
            Ok(prefix) => {
                assert_eq!(prefix.embed(v4), v6, "{row}");
                assert_eq!(prefix.extract(v6), Some(v4), "{row}");
                ran += 1;
            }
            Err(_) => {
                assert!(!prefix.ends_with("/96"), "{row}");
                refused += 1;
            }
        }
    }
    assert_eq!((ran, refused), (3, 8), "other lengths than 96 are refused");
}
