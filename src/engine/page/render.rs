//! The page as HTML. It needs no script and no other resource.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::{Visit, Visitor};
use crate::base::Date;
use crate::engine::desk::Request;
use crate::engine::state::{Device, State, Uplink};
use crate::engine::status::Span;
use crate::fortivpn::{Question, QuestionKind};

/// The looks, for light and dark, and for narrow screens.
pub const STYLE: &str = include_str!("style.css");
/// Devices that are listed.
const DEVICES: usize = 20;
/// Characters of an error that are shown.
const ERROR: usize = 300;
/// The page looks again after so many seconds, while something goes on without the visitor.
const REFRESH: u32 = 2;

/// What the visitor's own action came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    /// It did what it should.
    pub good: bool,
    /// A sentence.
    pub text: &'a str,
}

/// The whole page.
pub fn page(visit: &Visit<'_>, request: Option<&Request>, token: &str, notice: Option<Notice<'_>>) -> String {
    let Visit { now, state, visitor, .. } = *visit;
    let view = View { now: now.wall, mono: now.mono, state, visitor, request, token };
    let pending =
        request.is_none() && matches!(state.uplink, Uplink::Connecting | Uplink::Waiting | Uplink::Down);
    let refresh = pending || notice.is_some_and(|notice| notice.good);
    let mut body = String::with_capacity(4096);
    // Writing to a string does not fail.
    let _ = view.write(&mut body, notice);
    document(view.heading(), refresh, &body)
}

/// A page of one sentence, with the way back.
pub fn message(title: &str, text: &str) -> String {
    let body = format!(
        "<main><section class=\"state off\"><h1>{}</h1><p>{}</p><p><a href=\"/\">Show how the tunnel is</a></p></section></main>",
        Escaped(title),
        Escaped(text)
    );
    document(title, false, &body)
}

fn document(title: &str, refresh: bool, body: &str) -> String {
    let refresh = match refresh {
        true => format!("<meta http-equiv=\"refresh\" content=\"{REFRESH};url=/\">"),
        false => String::new(),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">{refresh}\
         <title>{} - pterodapter</title><style>{STYLE}</style></head>\
         <body><header>pterodapter</header>{body}</body></html>\n",
        Escaped(title)
    )
}

struct View<'a> {
    now: Duration,
    mono: Duration,
    state: &'a State,
    visitor: Visitor,
    request: Option<&'a Request>,
    token: &'a str,
}

impl View<'_> {
    fn write(&self, out: &mut String, notice: Option<Notice<'_>>) -> fmt::Result {
        out.write_str("<main>")?;
        if let Some(Notice { good, text }) = notice {
            let (class, role) = if good { ("good", "status") } else { ("bad", "alert") };
            write!(out, "<p class=\"notice {class}\" role=\"{role}\">{}</p>", Escaped(text))?;
        }
        let class = match self.state.uplink {
            Uplink::Up => " up",
            Uplink::Failed | Uplink::Stopped => " off",
            Uplink::Connecting | Uplink::Waiting | Uplink::Down => "",
        };
        write!(
            out,
            "<section class=\"state{class}\"><h1>{}</h1><p class=\"soft\">since {}</p><p>{}</p>",
            self.heading(),
            Ago(self.state.since, self.now),
            Escaped(&self.next_step())
        )?;
        if self.state.uplink == Uplink::Failed {
            write!(
                out,
                "<form method=\"post\" action=\"/retry\">{}<button>Try again</button></form>",
                self.token()
            )?;
        }
        out.write_str("</section>")?;
        match self.request {
            Some(Request::Link { url, .. }) => self.write_sign_in(out, url)?,
            Some(Request::Question(question)) => self.write_question(out, question)?,
            None => {}
        }
        self.write_tunnel(out)?;
        self.write_devices(out)?;
        self.write_errors(out)?;
        write!(out, "</main><footer><p>As of {}. <a href=\"/\">Look again</a></p></footer>", Utc(self.now))
    }

    fn heading(&self) -> &'static str {
        match self.state.uplink {
            Uplink::Connecting => "Connecting to the gateway",
            Uplink::Waiting if self.request.is_none() => "Signing in",
            Uplink::Waiting => "Waiting for a sign-in",
            Uplink::Up => "The tunnel is up",
            Uplink::Down => "The tunnel is down, reconnecting",
            Uplink::Failed => "No tunnel",
            Uplink::Stopped => "Stopped",
        }
    }

    /// What to do next, in one sentence.
    fn next_step(&self) -> String {
        match (self.request, self.state.uplink) {
            (Some(Request::Link { until: Some(until), .. }), Uplink::Up) => format!(
                "Sign in now: the gateway ends the session in {}, and the tunnel with it.",
                Span(until.saturating_sub(self.mono))
            ),
            (Some(Request::Link { .. }), _) if self.is_local() => {
                "Sign in with the button below; the browser comes back here by itself.".into()
            }
            (Some(Request::Link { .. }), _) => {
                "Sign in with the button below, then bring the address at which the browser ends back here."
                    .into()
            }
            (Some(Request::Question(_)), _) => "Answer the gateway's question below.".into(),
            (None, Uplink::Connecting | Uplink::Waiting) => "Nothing to do: this takes a few seconds.".into(),
            (None, Uplink::Up) => "Nothing to do: you can close this page.".into(),
            (None, Uplink::Down) => "Nothing to do: it comes back by itself.".into(),
            (None, Uplink::Failed) => match self.state.errors.front() {
                Some((_, error)) => format!("Before you try again: {}.", shortened(error)),
                None => "Try again.".into(),
            },
            (None, Uplink::Stopped) => "Start pterodapter again.".into(),
        }
    }

    fn is_local(&self) -> bool {
        self.visitor == Visitor::Local
    }

    fn token(&self) -> String {
        format!("<input type=\"hidden\" name=\"token\" value=\"{}\">", self.token)
    }

    fn write_sign_in(&self, out: &mut String, url: &str) -> fmt::Result {
        // On a device the browser ends at an address that cannot be loaded: this page must stay.
        let window = if self.is_local() { "" } else { " target=\"_blank\"" };
        write!(
            out,
            "<section><h2>Sign in</h2><p><a class=\"button\" rel=\"noreferrer\"{window} href=\"{}\">Sign in</a></p>",
            Escaped(url)
        )?;
        if self.is_local() {
            out.write_str(
                "<p>Signed in on another device? Paste the address at which its browser ended:</p>",
            )?;
        } else {
            out.write_str(
                "<p>After the sign-in the browser cannot load its last page. That is as it should be: copy the \
                 address of that page and paste it here.</p>",
            )?;
        }
        write!(
            out,
            "<form method=\"post\" action=\"/paste\">{}<label for=\"address\">Address, or the id in it</label>\
             <input id=\"address\" name=\"address\" required autocomplete=\"off\" autocapitalize=\"none\" \
             spellcheck=\"false\" placeholder=\"http://127.0.0.1:8020/?id=...\"><button class=\"other\">Use this address</button></form>",
            self.token()
        )?;
        if !self.is_local() {
            out.write_str(
                "<p class=\"soft\">The sign-in page does not load? Then this device sends everything through the \
                 tunnel, which is not there yet. Copy the link of the button, open it on another device, or here with \
                 this VPN disconnected, and sign in. Copy the address at the end, connect again if need be, and paste \
                 it above within a few minutes.</p>",
            )?;
        }
        out.write_str("</section>")
    }

    fn write_question(&self, out: &mut String, question: &Question) -> fmt::Result {
        let Question { id, kind, text, sent_to, again } = question;
        let (title, fields) = fields(*kind);
        write!(out, "<section><h2>{title}</h2>")?;
        if *again {
            out.write_str(
                "<p class=\"bad\" role=\"alert\">The last answer was refused. A few wrong answers lock the account.</p>",
            )?;
        }
        if !text.is_empty() {
            write!(out, "<p>The gateway says:</p><blockquote><bdi>{}</bdi></blockquote>", Escaped(text))?;
        }
        if let Some(to) = sent_to {
            write!(out, "<p>A code was sent to <bdi>{}</bdi>.</p>", Escaped(to))?;
        }
        write!(
            out,
            "<form method=\"post\" action=\"/answer\">{}<input type=\"hidden\" name=\"question\" value=\"{id}\">\
             {fields}<button>Send</button>",
            self.token()
        )?;
        match kind {
            QuestionKind::Code { push: true } => out.write_str(
                "<button class=\"other\" name=\"how\" value=\"push\" formnovalidate>Confirm on the phone instead</button>",
            )?,
            QuestionKind::NewPassword { may_skip: true } => out.write_str(
                "<button class=\"other\" name=\"how\" value=\"skip\" formnovalidate>Keep the old password</button>",
            )?,
            _ => {}
        }
        out.write_str("</form></section>")
    }

    fn write_tunnel(&self, out: &mut String) -> fmt::Result {
        write!(
            out,
            "<section><h2>Tunnel</h2><dl><dt>Gateway</dt><dd><bdi>{}</bdi></dd>",
            Escaped(&self.state.gateway)
        )?;
        if let Some(tunnel) = self.state.tunnel.as_ref().filter(|_| self.state.uplink == Uplink::Up) {
            write!(out, "<dt>Address</dt><dd>{}</dd>", tunnel.address)?;
            let dns: Vec<String> = tunnel.dns.iter().map(ToString::to_string).collect();
            if !dns.is_empty() {
                write!(out, "<dt>DNS</dt><dd>{}</dd>", dns.join(", "))?;
            }
        }
        if let Some(ends) = self.state.session_ends {
            write!(out, "<dt>Session ends</dt><dd>{}", Utc(ends))?;
            if ends > self.now {
                write!(out, " (in {})", Span(ends - self.now))?;
            }
            out.write_str("</dd>")?;
        }
        out.write_str("</dl></section>")
    }

    /// A device hears of others only how many there are.
    fn write_devices(&self, out: &mut String) -> fmt::Result {
        let devices = &self.state.devices;
        write!(out, "<section><h2>Devices connected: {}</h2>", devices.len())?;
        let mine = |device: &&Device| match self.visitor {
            Visitor::Local => true,
            Visitor::Device(address) => device.address == address,
        };
        let mut shown = devices.iter().filter(mine).take(DEVICES).peekable();
        if shown.peek().is_some() {
            out.write_str("<ul>")?;
            for Device { identity, address, since, .. } in shown {
                let this = if self.is_local() { "" } else { "This device: " };
                write!(
                    out,
                    "<li>{this}<bdi>{}</bdi><br><span class=\"soft\">{address}, since {}</span></li>",
                    Escaped(identity),
                    Ago(*since, self.now)
                )?;
            }
            out.write_str("</ul>")?;
        }
        if self.is_local() && devices.len() > DEVICES {
            write!(out, "<p>and {} more</p>", devices.len() - DEVICES)?;
        }
        out.write_str("</section>")
    }

    fn write_errors(&self, out: &mut String) -> fmt::Result {
        // The last one is said above where it needs a person.
        let said = usize::from(self.state.uplink == Uplink::Failed);
        if self.state.errors.len() <= said {
            return Ok(());
        }
        out.write_str("<section><h2>Last errors</h2><ul>")?;
        for (at, error) in self.state.errors.iter().skip(said) {
            write!(
                out,
                "<li><bdi>{}</bdi><br><span class=\"soft\">{}</span></li>",
                Escaped(&shortened(error)),
                Ago(*at, self.now)
            )?;
        }
        out.write_str("</ul></section>")
    }
}

/// What a question is called, and the fields for its answer.
fn fields(kind: QuestionKind) -> (&'static str, String) {
    let field = |name: &str, label: &str, attributes: &str| {
        format!(
            "<label for=\"{name}\">{label}</label><input id=\"{name}\" name=\"{name}\" required {attributes} \
             autocapitalize=\"none\" spellcheck=\"false\">"
        )
    };
    const DIGITS: &str = "autocomplete=\"one-time-code\" inputmode=\"numeric\"";
    const CODE: &str = "autocomplete=\"one-time-code\"";
    const NEW: &str = "type=\"password\" autocomplete=\"new-password\"";
    match kind {
        QuestionKind::Password => {
            let attributes = "type=\"password\" autocomplete=\"current-password\"";
            ("Password", field("answer", "Password of the account", attributes))
        }
        QuestionKind::Code { .. } => ("One-time code", field("answer", "Code of the token", CODE)),
        QuestionKind::EmailCode => ("One-time code", field("answer", "Code from the e-mail", DIGITS)),
        QuestionKind::SmsCode => ("One-time code", field("answer", "Code from the SMS", DIGITS)),
        QuestionKind::TwoCodes => {
            let second =
                field("second", "The code that comes after it", "autocomplete=\"off\" inputmode=\"numeric\"");
            ("Two codes in a row", field("answer", "Code that the token shows", DIGITS) + &second)
        }
        QuestionKind::Challenge => {
            ("Question of the gateway", field("answer", "Answer", "autocomplete=\"off\""))
        }
        QuestionKind::NewPassword { .. } => {
            ("New password", field("answer", "New password", NEW) + &field("second", "The same again", NEW))
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ERROR) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Text as HTML, in an element or in a quoted attribute.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() => f.write_char(char::REPLACEMENT_CHARACTER)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A moment of the past (wall clock), and how long ago that is.
struct Ago(Duration, Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} ago)", Utc(self.0), Span(self.1.saturating_sub(self.0)))
    }
}

/// A moment of the wall clock. Which time zone the visitor is in is not known.
struct Utc(Duration);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let date = Date::of(self.0);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "<time datetime=\"{date}T{hour:02}:{minute:02}:{second:02}Z\">{date} {hour:02}:{minute:02} UTC</time>"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_868_800, "2000-03-01 00:00"),
            (1_709_164_800, "2024-02-29 00:00"),
            (1_767_225_599, "2025-12-31 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
            (13_569_465_600, "2400-01-01 00:00"),
        ] {
            assert!(
                Utc(Duration::from_secs(seconds)).to_string().contains(&format!(">{text} UTC")),
                "{text}"
            );
        }
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (3599, "59 min"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            Escaped("<a href='x'>\"&\u{1b}\n").to_string(),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\u{fffd}\u{fffd}"
        );
        assert_eq!(shortened(&"é".repeat(ERROR + 1)), format!("{}...", "é".repeat(ERROR)));
    }
}
