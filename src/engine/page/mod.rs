//! The local page: how the tunnel is, what to do next, and the place to do it. The browser comes back here after SAML.
//!
//! The same page is served on loopback ([`Listener`]) and, to connected devices, by the in-tunnel host. [`Page`] does no I/O.
#![deny(clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

mod listener;
mod metrics;
mod render;
pub mod request;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::base::{Now, Random};
use crate::crypto::Secret;
use crate::crypto::hash::{constant_time_eq, sha256};
use crate::fortivpn::{self, QuestionKind, saml};

use super::desk::{Desk, Refusal, Submission};
use super::state::{State, Uplink};
use super::status::Status;

pub use listener::{Listener, TOKENS};
use render::Notice;
use request::{Fault, Method, Request};

/// The type of the page.
const HTML: &str = "text/html; charset=utf-8";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// A program on this host.
    Local,
    /// The device with this inner address.
    Device(Ipv4Addr),
}

/// What an answer depends on.
#[derive(Clone, Copy)]
pub struct Visit<'a> {
    /// The time.
    pub now: Now,
    /// How things are.
    pub state: &'a State,
    /// Who asks.
    pub visitor: Visitor,
    /// Makes the status for `/metrics`, where the visitor may have that.
    pub metrics: Option<&'a dyn Fn(&Desk) -> Status>,
}

/// Answers requests.
pub struct Page {
    /// In every form, so that no other site can send one.
    token: String,
    policy: String,
    local: Vec<IpAddr>,
    in_tunnel: Vec<IpAddr>,
}

/// A response. Its head is the same for all but for these.
struct Response {
    status: &'static str,
    content_type: &'static str,
    /// More lines of the head.
    lines: &'static str,
    body: String,
}

impl Page {
    /// The page at these addresses: of the [`Listener`], and of the in-tunnel host.
    pub fn new(rng: &mut dyn Random, local: &[SocketAddr], in_tunnel: Vec<IpAddr>) -> Self {
        let mut token = [0; 16];
        rng.fill(&mut token);
        let style = STANDARD.encode(sha256(&[render::STYLE.as_bytes()]));
        Self {
            token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
            policy: format!(
                "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; \
                 base-uri 'none'"
            ),
            local: local.iter().map(SocketAddr::ip).collect(),
            in_tunnel,
        }
    }

    /// The response to what came so far, or `None` where more of the request has to come. What a person brings goes to
    /// the desk.
    pub fn answer(&self, bytes: &[u8], visit: &Visit<'_>, desk: &mut Desk) -> Option<Vec<u8>> {
        let (response, head_only) = match request::parse(bytes) {
            Ok(None) => return None,
            Ok(Some(request)) => (self.respond(&request, visit, desk), request.method == Method::Head),
            Err(fault) => (refuse(fault), false),
        };
        Some(self.emit(&response, visit.visitor, head_only))
    }

    fn respond(&self, request: &Request<'_>, visit: &Visit<'_>, desk: &mut Desk) -> Response {
        if !self.is_ours(request.host, visit.visitor) {
            return message(
                "421 Misdirected Request",
                "Not here",
                "Open this page by its address, not by a name.",
            );
        }
        if let ("/metrics", Some(status)) = (request.path, visit.metrics) {
            return match request.method {
                Method::Get | Method::Head => Response {
                    status: "200 OK",
                    content_type: metrics::CONTENT_TYPE,
                    lines: "",
                    body: metrics::emit(&status(desk)),
                },
                _ => not_allowed("Allow: GET, HEAD\r\n"),
            };
        }
        match (request.path, request.method) {
            (_, Method::Options) => empty("204 No Content", "Allow: GET, HEAD, POST\r\n"),
            ("/", Method::Get) => match request.query_field("id") {
                Some(id) => self.signed_in(id, visit, desk),
                None => self.show("200 OK", visit, desk, None),
            },
            ("/", Method::Head) => self.show("200 OK", visit, desk, None),
            ("/favicon.ico", Method::Get | Method::Head) => empty("204 No Content", ""),
            ("/answer" | "/paste" | "/retry", Method::Post) => self.submit(request, visit, desk),
            ("/", _) => not_allowed("Allow: GET, HEAD\r\n"),
            ("/answer" | "/paste" | "/retry", _) => not_allowed("Allow: POST\r\n"),
            _ => message("404 Not Found", "Nothing here", "There is only one page."),
        }
    }

    /// Other names may lead here by a trick of their owner's (DNS rebinding). Ports are not compared: whoever forwards
    /// this port to another sees that in `Host`, and a page of another port cannot send forms here for want of the token.
    fn is_ours(&self, host: &str, visitor: Visitor) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.split_once(':').map_or(host, |(name, _)| name),
        };
        let address = name.parse::<IpAddr>().ok();
        match visitor {
            Visitor::Device(_) => address.is_some_and(|ip| self.in_tunnel.contains(&ip)),
            Visitor::Local => match address {
                // An address cannot be rebound, and with `0.0.0.0` it is any of the host's, or of what is before it.
                Some(ip) => {
                    ip == IpAddr::V4(Ipv4Addr::LOCALHOST)
                        || ip == IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)
                        || self.local.iter().any(|ours| *ours == ip || ours.is_unspecified())
                }
                None => name.eq_ignore_ascii_case("localhost"),
            },
        }
    }

    fn show(
        &self,
        status: &'static str,
        visit: &Visit<'_>,
        desk: &Desk,
        notice: Option<Notice<'_>>,
    ) -> Response {
        let body = render::page(visit, desk.request(), &self.token, notice);
        Response { status, content_type: HTML, lines: "", body }
    }

    /// The browser comes back from the gateway: the one GET that changes something.
    fn signed_in(&self, id: &str, visit: &Visit<'_>, desk: &mut Desk) -> Response {
        let result = match saml::is_valid_id(id) {
            true => desk.submit(Submission::Pasted(Secret::from(id.as_bytes()))),
            false => Err(Refusal::NotAnId),
        };
        let (status, good, text) = match (result, visit.state.uplink) {
            (Ok(()), _) => (
                "200 OK",
                true,
                "Signed in, you can close this tab. It shows in a moment whether the tunnel came up.",
            ),
            (Err(Refusal::NotAnId), _) => {
                ("400 Bad Request", false, "What the gateway sent is no sign-in. Please open its link again.")
            }
            (Err(_), Uplink::Up) => ("200 OK", true, "Already signed in, you can close this tab."),
            (Err(_), Uplink::Connecting | Uplink::Down) => {
                ("200 OK", true, "Already signed in; the tunnel is not up yet.")
            }
            (Err(_), Uplink::Waiting | Uplink::Failed | Uplink::Stopped) => (
                "409 Conflict",
                false,
                "Nobody asked for this sign-in now, so it was not used. What to do instead is said below.",
            ),
        };
        self.show(status, visit, desk, Some(Notice { good, text }))
    }

    /// A form. A browser says in `Origin` where it is from; what else could send one does not know the token.
    fn submit(&self, request: &Request<'_>, visit: &Visit<'_>, desk: &mut Desk) -> Response {
        let own = format!("http://{}", request.host);
        let token = request.form_field("token").unwrap_or_else(|| Secret::new(Vec::new()));
        if request.origin.is_some_and(|origin| !origin.eq_ignore_ascii_case(&own))
            || !constant_time_eq(token.expose(), self.token.as_bytes())
        {
            return message(
                "403 Forbidden",
                "Not sent from here",
                "The form is not from this page, or from before a restart. Nothing was done; please try again.",
            );
        }
        let result = match submission(request, desk) {
            Ok(submission) => desk.submit(submission).map_err(|refusal| refusal.to_string()),
            Err(text) => Err(text.to_owned()),
        };
        match result {
            Ok(()) => empty("303 See Other", "Location: /\r\n"),
            Err(text) => {
                let text = format!("That was not used: {text}.");
                self.show("409 Conflict", visit, desk, Some(Notice { good: false, text: &text }))
            }
        }
    }

    fn emit(&self, response: &Response, visitor: Visitor, head_only: bool) -> Vec<u8> {
        let Response { status, content_type, lines, body } = response;
        // Browsers complain about this one where they do not hold the address for trustworthy.
        let opener = match visitor {
            Visitor::Local => "Cross-Origin-Opener-Policy: same-origin\r\n",
            Visitor::Device(_) => "",
        };
        let content = match (body.len(), status.starts_with("204")) {
            (_, true) => String::new(),
            (0, _) => "Content-Length: 0\r\n".to_owned(),
            (len, _) => format!("Content-Type: {content_type}\r\nContent-Length: {len}\r\n"),
        };
        // With "no-referrer" browsers would not say where a form is from.
        let mut out = format!(
            "HTTP/1.1 {status}\r\n{content}{lines}Connection: close\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: {}\r\nReferrer-Policy: same-origin\r\nX-Content-Type-Options: nosniff\r\n\
             X-Frame-Options: DENY\r\n{opener}\r\n",
            self.policy
        );
        if !head_only {
            out.push_str(body);
        }
        out.into_bytes()
    }
}

/// What a form brings, or what is wrong with it.
fn submission(request: &Request<'_>, desk: &Desk) -> Result<Submission, &'static str> {
    const NOTHING: &str = "nothing was filled in";
    let field = |name| request.form_field(name).filter(|value| !value.is_empty());
    match request.path {
        "/retry" => Ok(Submission::Retry),
        "/paste" => field("address").map(Submission::Pasted).ok_or(NOTHING),
        _ => {
            let question = field("question")
                .and_then(|id| std::str::from_utf8(id.expose()).ok()?.parse().ok())
                .ok_or("the form is not whole")?;
            let kind = match desk.request() {
                Some(super::desk::Request::Question(open)) if open.id == question => Some(open.kind),
                _ => None,
            };
            let how = field("how");
            let first = || field("answer").ok_or(NOTHING);
            let answer = match (how.as_ref().map(Secret::expose), kind) {
                (Some(b"push"), _) => fortivpn::Answer::Push,
                (Some(b"skip"), _) => fortivpn::Answer::Skip,
                (_, Some(QuestionKind::TwoCodes)) => {
                    fortivpn::Answer::TwoCodes(first()?, field("second").ok_or("the second code is missing")?)
                }
                (_, Some(QuestionKind::NewPassword { .. })) => {
                    let (new, again) = (first()?, field("second"));
                    if !again.is_some_and(|again| constant_time_eq(new.expose(), again.expose())) {
                        return Err("the two passwords differ");
                    }
                    fortivpn::Answer::Text(new)
                }
                _ => fortivpn::Answer::Text(first()?),
            };
            Ok(Submission::Answer { question, answer })
        }
    }
}

fn empty(status: &'static str, lines: &'static str) -> Response {
    Response { status, content_type: HTML, lines, body: String::new() }
}

fn message(status: &'static str, title: &str, text: &str) -> Response {
    Response { status, content_type: HTML, lines: "", body: render::message(title, text) }
}

fn not_allowed(lines: &'static str) -> Response {
    Response {
        lines,
        ..message("405 Method Not Allowed", "Not like this", "This page is opened with its link.")
    }
}

fn refuse(fault: Fault) -> Response {
    let (status, text) = match fault {
        Fault::Malformed => ("400 Bad Request", "This is not a request that a browser sends."),
        Fault::HeadTooLong => ("431 Request Header Fields Too Large", "This request is too long."),
        Fault::BodyTooLong => ("413 Content Too Large", "This is too long for this form."),
    };
    message(status, "Not understood", text)
}

#[cfg(test)]
mod tests;
