//! The status as text for people.

use std::fmt;
use std::time::Duration;

use crate::engine::control::message::Wanted;
use crate::engine::status::{DeviceStatus, Level, Moment, Queues, Span, Status, UplinkStatus};
use crate::engine::{Request, Uplink};

/// Columns of the words in front.
const LABEL: usize = 10;
/// Columns of a device's number and the gap behind it.
const NUMBER: usize = 6;
/// Columns of a figure on the right.
const FIGURE: usize = 12;
/// Networks that are listed.
const ROUTES: usize = 6;
/// Errors that are listed.
const ERRORS: usize = 3;

/// How it is to look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Lines, where there are not more.
    pub height: Option<usize>,
    /// With colours.
    pub colour: bool,
    /// Another picture follows: words are broken where they are too long, and it is said how it ends.
    pub is_watching: bool,
}

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Strong,
    Soft,
    Good,
    Warning,
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Soft => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
        }
    }
}

/// Lines of styled text.
#[derive(Debug)]
pub struct Picture {
    lines: Vec<Vec<(Style, String)>>,
    look: Look,
}

/// How the daemon is; with what came and went since the status `before`.
pub fn picture(status: &Status, before: Option<&Status>, look: &Look) -> Picture {
    let mut picture = Picture::new(look);
    let running = Span(status.started.ago(status.now));
    picture.title(&format!("pterodapter {}, running for {running}", status.version));
    picture.uplink(&status.uplink, status.now);
    // Numbers begin anew with the daemon.
    let before = before.filter(|before| before.started == status.started);
    picture.devices(status, before);
    picture.rest(status);
    picture
}

/// There is no daemon, for this reason.
pub fn absent(reason: &str, look: &Look) -> Picture {
    let mut picture = Picture::new(look);
    picture.title("pterodapter");
    picture.field("Daemon", Style::Bad, reason);
    picture
}

impl Picture {
    fn new(look: &Look) -> Self {
        // Narrower than this nothing can be told.
        Self { lines: Vec::new(), look: Look { width: look.width.max(40), ..*look } }
    }

    /// The text, cut to the height that there is.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let room = self.look.height.unwrap_or(usize::MAX).max(2);
        let shown = if self.lines.len() > room { room - 1 } else { self.lines.len() };
        for line in self.lines.iter().take(shown) {
            text.push_str(&self.painted(line));
            text.push('\n');
        }
        if shown < self.lines.len() {
            let more = format!("({} more lines)", self.lines.len() - shown);
            text.push_str(&self.painted(&[(Style::Soft, more)]));
            text.push('\n');
        }
        text
    }

    fn painted(&self, line: &[(Style, String)]) -> String {
        let paint = |(style, text): &(Style, String)| match (self.look.colour, style.code()) {
            (true, code) if !code.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.clone(),
        };
        line.iter().map(paint).collect::<String>().trim_end().to_owned()
    }

    fn title(&mut self, text: &str) {
        let hint = if self.look.is_watching { "every second; Ctrl-C ends" } else { "" };
        let gap = self.look.width.saturating_sub(text.len() + hint.len()).max(1);
        self.lines.push(vec![(Style::Strong, text.to_owned()), (Style::Soft, " ".repeat(gap) + hint)]);
        self.lines.push(Vec::new());
    }

    /// A word in front, and text beside it.
    fn field(&mut self, label: &str, style: Style, text: &str) {
        let mut label = Some(label);
        for line in self.wrapped(text, self.look.width.saturating_sub(LABEL)) {
            let label = format!("{:LABEL$}", label.take().unwrap_or(""));
            self.lines.push(vec![(Style::Soft, label), (style, line)]);
        }
    }

    /// Text in lines of so many columns. A longer word, which may be an address to be copied, stays whole where it can.
    fn wrapped(&self, text: &str, columns: usize) -> Vec<String> {
        let mut lines = vec![String::new()];
        for word in clean(text).split_whitespace() {
            let mut word: Vec<char> = word.chars().collect();
            while let Some(line) = lines.last_mut() {
                let used = line.chars().count();
                let gap = usize::from(used > 0);
                if used + gap + word.len() <= columns || (used == 0 && !self.look.is_watching) {
                    line.extend(" ".repeat(gap).chars().chain(word));
                    break;
                }
                if used == 0 {
                    line.extend(word.drain(..columns.min(word.len())));
                }
                lines.push(String::new());
            }
        }
        lines
    }

    /// Text, and two figures at the right edge.
    fn row(&mut self, number: &str, style: Style, text: &str, figures: [String; 2]) {
        let room = self.look.width.saturating_sub(NUMBER + 2 * FIGURE);
        let [up, down] = figures;
        self.lines.push(vec![
            (Style::Soft, format!("{number:>4}  ")),
            (style, format!("{:room$}", cut(text, room))),
            (Style::Plain, format!("{up:>FIGURE$}{down:>FIGURE$}")),
        ]);
    }

    fn uplink(&mut self, uplink: &UplinkStatus, now: Moment) {
        let style = match uplink.state {
            Uplink::Up => Style::Good,
            Uplink::Connecting | Uplink::Waiting | Uplink::Down => Style::Warning,
            Uplink::Failed | Uplink::Stopped => Style::Bad,
        };
        let since = Span(uplink.since.ago(now));
        self.field("Uplink", style, &format!("{} (for {since})", uplink.state.describe()));
        self.field("Gateway", Style::Plain, &uplink.gateway);
        if let Some(tunnel) = &uplink.tunnel {
            self.field("Address", Style::Plain, &format!("{}, MTU {}", tunnel.address, tunnel.mtu));
            if !tunnel.dns.is_empty() {
                self.field("DNS", Style::Plain, &joined(&tunnel.dns));
            }
            let routes = if tunnel.routes.is_empty() { "all".to_owned() } else { joined(&tunnel.routes) };
            let without = match tunnel.excludes.as_slice() {
                [] => String::new(),
                excludes => format!(", without {}", joined(excludes)),
            };
            self.field("Routes", Style::Plain, &(routes + &without));
        }
        if let Some(end) = uplink.session_ends {
            let left = Span(now.ago(end));
            self.field("Session", Style::Plain, &format!("ends in {left}"));
        }
        match &uplink.wanted {
            Some(Wanted::Link { url, .. }) => {
                self.field(
                    "To do",
                    Style::Warning,
                    "open this address in a browser, or see 'pterodapter login':",
                );
                self.field("", Style::Strong, url);
            }
            Some(question @ Wanted::Question(_)) => {
                let question = Request::from(question.clone());
                self.field("To do", Style::Warning, &format!("{question} (see 'pterodapter login')"));
            }
            None => {}
        }
        for (index, error) in uplink.errors.iter().take(ERRORS).enumerate() {
            let label = if index == 0 { "Errors" } else { "" };
            self.field(label, Style::Plain, &format!("{} ago: {}", Span(error.at.ago(now)), error.text));
        }
        self.lines.push(Vec::new());
    }

    fn devices(&mut self, status: &Status, before: Option<&Status>) {
        let room = self.look.width.saturating_sub(LABEL + 2 * FIGURE);
        let count = format!("{:room$}", status.devices.len());
        let heads = if status.devices.is_empty() {
            String::new()
        } else {
            format!("{:>FIGURE$}{:>FIGURE$}", "up", "down")
        };
        let count = count.trim_start();
        self.lines.push(vec![
            (Style::Soft, format!("{:LABEL$}", "Devices")),
            (Style::Plain, format!("{count:room$}")),
            (Style::Soft, heads),
        ]);
        for device in &status.devices {
            let old = before.and_then(|before| before.devices.iter().find(|old| old.id == device.id));
            let passed = before.map_or(Duration::ZERO, |before| before.now.ago(status.now));
            self.device(device, status.now, old.zip(Some(passed)));
        }
        self.lines.push(Vec::new());
    }

    fn device(&mut self, device: &DeviceStatus, now: Moment, before: Option<(&DeviceStatus, Duration)>) {
        let system = device.system.as_ref().map(|system| format!(" ({system})")).unwrap_or_default();
        let totals = [device.up.octets, device.down.octets].map(|octets| Octets(octets).to_string());
        let room = self.look.width.saturating_sub(NUMBER + 2 * FIGURE + system.len());
        let name = cut(&clean(&device.identity), room) + &system;
        self.row(&device.id.to_string(), Style::Strong, &name, totals);
        let rate = |new: u64, old: u64, passed: Duration| {
            let octets = new.saturating_sub(old) as f64 / passed.as_secs_f64();
            format!("{}/s", Octets(octets as u64))
        };
        let rates = match before.filter(|(_, passed)| !passed.is_zero()) {
            Some((old, passed)) => [
                rate(device.up.octets, old.up.octets, passed),
                rate(device.down.octets, old.down.octets, passed),
            ],
            None => [String::new(), String::new()],
        };
        let (since, seen) = (Span(device.since.ago(now)), Span(device.seen.ago(now)));
        self.row("", Style::Plain, &format!("connected {since} ago, seen {seen} ago"), rates);
        let six = device.address6.map(|address| format!(", {address}")).unwrap_or_default();
        let columns = self.look.width.saturating_sub(NUMBER);
        let place = format!("{}{six} from {}", device.address, device.remote);
        let rekeys = match (device.child_rekeys, device.ike_rekeys) {
            (0, 0) => None,
            (child, ike) => Some(format!("rekeyed: {child} times the Child SA, {ike} times the IKE SA")),
        };
        for text in [Some(place), Some(device.suite.clone()), rekeys].into_iter().flatten() {
            for line in self.wrapped(&text, columns) {
                self.lines.push(vec![(Style::Plain, " ".repeat(NUMBER) + &line)]);
            }
        }
    }

    fn rest(&mut self, status: &Status) {
        let counters = &status.counters;
        self.field(
            "Traffic",
            Style::Plain,
            &format!(
                "up {} in {} packets, down {} in {} packets",
                Octets(counters.up_bytes),
                counters.up_packets,
                Octets(counters.down_bytes),
                counters.down_packets
            ),
        );
        let drops: Vec<String> =
            counters.drops.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let drops = if drops.is_empty() { "nothing".to_owned() } else { drops.join(", ") };
        self.field("Dropped", Style::Plain, &drops);
        let Queues { batches, uplink_octets, ike_datagrams, dns_queries, nat_flows, .. } = status.queues;
        let level = |Level { used, limit }: Level| format!("{used}/{limit}");
        let uplink =
            [uplink_octets.used, uplink_octets.limit].map(|octets| Octets(octets as u64).to_string());
        self.field(
            "Queues",
            Style::Plain,
            &format!(
                "uplink {} of {}, IKE {}, DNS {}, flows {}, batches {}",
                uplink[0],
                uplink[1],
                level(ike_datagrams),
                level(dns_queries),
                level(nat_flows),
                level(batches)
            ),
        );
        let ike = &status.ike;
        let bad = ike.malformed + ike.unknown_spi + ike.bad_tag + ike.out_of_place;
        self.field(
            "IKE",
            Style::Plain,
            &format!(
                "{} half-open, {} not let in, {} without room, {} cookies, {bad} bad messages",
                ike.half_open, ike.auth_failed, ike.refused, ike.cookies
            ),
        );
    }
}

/// A list that does not get too long.
fn joined(all: &[impl fmt::Display]) -> String {
    let shown: Vec<String> = all.iter().take(ROUTES).map(ToString::to_string).collect();
    let more = match all.len().saturating_sub(ROUTES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}

/// At most so many columns.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(3)).chain("...".chars()).collect()
}

/// What others wrote must not steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

/// Octets in the unit that leaves one to three digits in front of the point.
struct Octets(u64);

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in UNITS {
            // What would be rounded up to a thousand takes the next unit.
            if value < 999.5 {
                break;
            }
            (value, unit) = (value / 1000.0, next);
        }
        if value < 99.95 { write!(f, "{value:.1} {unit}") } else { write!(f, "{value:.0} {unit}") }
    }
}

#[cfg(test)]
mod tests;
