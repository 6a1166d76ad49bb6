//! What the gateway's answer to a sign-in request means.

use super::answer::{Answer, query_value};
use super::form::Form;
use super::round::Round;
use super::{CookieJar, LOGIN_CHECK, LOGIN_PAGE};
use crate::fortivpn::error::Error;
use crate::fortivpn::text::{one_line, percent_decode, unescape};
use crate::wire::http::Response;

const HOST_CHECK: &str = "/remote/hostcheck_install";
const HOST_CHECK_RESULT: &str = "/remote/hostcheck_validate";
const LOGIN_CONFIRM: &str = "/remote/loginconfirm";

/// What an answer means.
#[derive(Debug)]
pub(in crate::fortivpn) enum Verdict {
    /// The session cookie is there.
    Accepted,
    /// One more GET, to this target.
    HostCheck(String),
    /// The results of a host check are wanted, at this target.
    HostCheckResult(String),
    /// The login page again, in other words: one more GET, to this target.
    LoginPage(String),
    /// A person has to do something.
    Round(Round),
    /// No; with the gateway's words, if it said any.
    Failed(Error, String),
}

/// Our own names, to know them in the gateway's answers.
pub(in crate::fortivpn) struct Own<'a> {
    /// The gateway as in a URL.
    pub(in crate::fortivpn) host: &'a str,
    pub(in crate::fortivpn) realm: &'a str,
}

/// Judges an answer whose cookies are in `jar` already.
pub(in crate::fortivpn) fn judge(response: &Response, jar: &CookieJar, own: &Own<'_>) -> Verdict {
    // A session cookie outweighs everything that the body says.
    if jar.session().is_some() {
        return Verdict::Accepted;
    }
    let body = String::from_utf8_lossy(&response.body);
    match response.head.status {
        200 => judge_body(&body, own),
        401 => judge_page(&body, own),
        403 | 405 => failed(Error::Denied),
        status @ 300..=399 => {
            match local_target(response.head.header("location").unwrap_or_default(), own.host) {
                Some(target) => judge_target(&target, own).unwrap_or(failed(Error::BadStatus(status))),
                None => failed(Error::OtherHost),
            }
        }
        status @ 500.. => failed(Error::LoginUnanswered(format!("status {status}"))),
        status => failed(Error::BadStatus(status)),
    }
}

fn failed(error: Error) -> Verdict {
    Verdict::Failed(error, String::new())
}

fn judge_body(body: &str, own: &Own<'_>) -> Verdict {
    let Some(answer) = Answer::parse(body) else {
        return judge_html(body);
    };
    if let Some(round) = Round::of_answer(&answer) {
        return Verdict::Round(round);
    }
    let target = answer.get("redir").unwrap_or_default();
    let error = answer.error().map(error_of_code);
    let verdict = error.map(failed).or_else(|| judge_target(target, own));
    match verdict.unwrap_or(failed(Error::Denied)) {
        Verdict::Failed(error, _) => Verdict::Failed(error, one_line(answer.words())),
        verdict => verdict,
    }
}

/// The codes that gateways give behind `err=`.
fn error_of_code(code: &str) -> Error {
    match code.trim_start_matches("sslvpn_login_") {
        "password_expired" => Error::PasswordExpired,
        "unknown_user" => Error::UnknownUser,
        "no_matching_policy" => Error::NoPolicy,
        code if ["lock", "block", "too_many", "attempt"].iter().any(|word| code.contains(word)) => {
            Error::LockedOut
        }
        _ => Error::Denied,
    }
}

fn judge_html(body: &str) -> Verdict {
    if let Some(at) = body.find(HOST_CHECK_RESULT) {
        let target = body.get(at..).and_then(|rest| rest.split(['"', '\'', ' ', '>', '<']).next());
        return match target.map(unescape).filter(|target| is_clean(target)) {
            Some(target) => Verdict::HostCheckResult(target),
            None => failed(Error::HostCheck),
        };
    }
    if body.contains(LOGIN_CONFIRM) {
        return failed(Error::SessionExists);
    }
    // Without a cookie, an empty page and any other page mean the same.
    failed(Error::Denied)
}

/// Status 401: the form for a code, or a plain no.
fn judge_page(body: &str, own: &Own<'_>) -> Verdict {
    let Some(form) = Form::parse(body) else {
        return failed(if body.to_ascii_lowercase().contains("<form") {
            Error::BadForm
        } else {
            Error::Denied
        });
    };
    let target = match form.action.as_str() {
        "" => Some(LOGIN_CHECK.to_owned()),
        action => local_target(action.as_bytes(), own.host).filter(|target| is_clean(target)),
    };
    match target {
        Some(target) => Verdict::Round(Round::of_form(form, target)),
        None => failed(Error::OtherHost),
    }
}

/// Where the gateway wants us to go next, and what that means; `None` if nothing.
fn judge_target(target: &str, own: &Own<'_>) -> Option<Verdict> {
    let path = target.split('?').next().unwrap_or_default();
    Some(match path {
        HOST_CHECK if is_clean(target) => Verdict::HostCheck(target.to_owned()),
        _ if path.starts_with(LOGIN_CONFIRM) => failed(Error::SessionExists),
        LOGIN_PAGE => match (query_value(target, "err"), query_value(target, "realm").map(percent_decode)) {
            (Some(code), _) => failed(error_of_code(code)),
            (None, Some(realm)) if !realm.is_empty() && realm != own.realm => {
                failed(Error::OtherRealm(one_line(&realm)))
            }
            _ if is_clean(target) => Verdict::LoginPage(target.to_owned()),
            _ => failed(Error::Denied),
        },
        _ => return None,
    })
}

/// Fit for a request line.
fn is_clean(target: &str) -> bool {
    target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic())
}

/// The path of a Location on our own host; `None` for other hosts and for plain HTTP.
fn local_target(location: &[u8], host: &str) -> Option<String> {
    let location = std::str::from_utf8(location).ok()?;
    let path = match location.strip_prefix("https://") {
        Some(rest) => rest.strip_prefix(host)?,
        None => location,
    };
    (path.starts_with('/') && !path.starts_with("//")).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fortivpn::question::QuestionKind;
    use crate::wire::http::ResponseReader;

    fn verdict(head: &str, body: &str) -> String {
        let text = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let response = ResponseReader::new().handle_bytes(text.as_bytes()).unwrap().unwrap();
        let mut jar = CookieJar::default();
        jar.absorb(&response.head);
        match judge(&response, &jar, &Own { host: "gw:10443", realm: "staff" }) {
            Verdict::Accepted => "accepted".into(),
            Verdict::HostCheck(target) => format!("hop {target}"),
            Verdict::HostCheckResult(target) => format!("result {target}"),
            Verdict::LoginPage(target) => format!("page {target}"),
            Verdict::Round(round) => format!("{:?} {:?} {:?}", round.kind, round.text, round.sent_to),
            Verdict::Failed(error, words) if words.is_empty() => error.name().into(),
            Verdict::Failed(error, words) => format!("{} ({words})", error.name()),
        }
    }

    #[test]
    fn short_answers() {
        let hop = "/remote/hostcheck_install?auth_type=1&user=61&&grpname=73&realm=x";
        let question = |kind: QuestionKind, text: &str, to: Option<&str>| format!("{kind:?} {text:?} {to:?}");
        let code = |push| QuestionKind::Code { push };
        for (body, expected) in [
            ("ret=0,redir=/remote/login?&err=sslvpn_login_permission_denied&lang=en", "denied".into()),
            ("ret=0,redir=/remote/login?&err=sslvpn_login_unknown_user&lang=en", "unknown-user".into()),
            ("ret=0,redir=/remote/login?&err=sslvpn_login_no_matching_policy&lang=en", "no-policy".into()),
            (
                "ret=0,redir=/remote/login?&err=sslvpn_login_password_expired&lang=en",
                "password-expired".into(),
            ),
            ("ret=0,redir=/remote/login?&err=sslvpn_login_too_many_attempts&lang=en", "locked-out".into()),
            ("ret=0,err=sslvpn_login_whatever,chal_msg=<b>No</b>\x07", "denied (No)".into()),
            ("ret=0,redir=/remote/login?realm=other", "other-realm".into()),
            ("ret=0", "denied".into()),
            ("", "denied".into()),
            ("<html>Permission denied</html>", "denied".into()),
            ("ret=1,redir=/remote/index", "denied".into()),
            ("ret=1,redir=/remote/loginconfirm?x", "session-exists".into()),
            ("<a href=/remote/loginconfirm>", "session-exists".into()),
            ("ret=1,redir=/remote/hostcheck_install?a b", "denied".into()),
            (
                "<form action='/remote/hostcheck_validate?x=1&amp;y'>",
                "result /remote/hostcheck_validate?x=1&y".into(),
            ),
            (
                "ret=2,reqid=1,polid=1-1,grp=,magic=3-8,tokeninfo=ftm_push,chal_msg=a, <i>b</i>,ret=1,b=c",
                question(code(true), "a, b ,ret=1,b=c", None),
            ),
            ("ret=2,reqid=1,tokeninfo=", question(code(false), "", None)),
            ("ret=2,reqid=1", question(code(false), "", None)),
            ("ret=7,tokeninfo=remote_token_auth", question(code(true), "", None)),
            (
                "ret=3,reqid=77,tokeninfo=a%2A%40corp.example",
                question(QuestionKind::EmailCode, "", Some("a*@corp.example")),
            ),
            ("ret=4,reqid=78,tokeninfo=%2B49%1b", question(QuestionKind::SmsCode, "", Some("+49"))),
            ("ret=5,reqid=78,tokeninfo=", question(QuestionKind::TwoCodes, "", None)),
            (
                "ret=6,magic=1,chal_msg=pass_renew=1,x",
                question(QuestionKind::Challenge, "pass_renew=1,x", None),
            ),
            (
                "ret=6,magic=1,pass_renew=1,allow_cancel=1,chal_msg=Change?",
                question(QuestionKind::NewPassword { may_skip: true }, "Change?", None),
            ),
            ("ret=6,pass_renew=1", question(QuestionKind::NewPassword { may_skip: false }, "", None)),
        ] {
            assert_eq!(verdict("200 OK", body), expected, "{body}");
        }
        assert_eq!(verdict("200 OK", &format!("ret=1,redir={hop}")), format!("hop {hop}"));
    }

    #[test]
    fn statuses() {
        let page =
            "<form action='/remote/logincheck'><b>Code?</b><input name=credential type=password></form>";
        let off_host = page.replace("/remote", "https://evil/remote");
        for (head, body, expected) in [
            ("401 Authorization Required", "", "denied"),
            ("401 Authorization Required", page, "Code { push: false } \"Code?\" None"),
            ("401 Unauthorized", &off_host, "other-host"),
            ("401 Authorization Required", "<html><form action=x>", "bad-form"),
            ("403 Forbidden", "", "denied"),
            ("405 Method Not Allowed", "", "denied"),
            ("404 Not Found", "", "bad-status"),
            ("503 Busy", "", "login-unanswered"),
            ("302 Found\r\nLocation: /remote/login?lang=en", "", "page /remote/login?lang=en"),
            ("302 Found\r\nLocation: https://gw:10443/remote/login", "", "page /remote/login"),
            ("302 Found\r\nLocation: /remote/login?realm=staff", "", "page /remote/login?realm=staff"),
            ("302 Found\r\nLocation: /remote/login?realm=guests", "", "other-realm"),
            (
                "302 Found\r\nLocation: /remote/login?&err=sslvpn_login_password_expired",
                "",
                "password-expired",
            ),
            ("302 Found\r\nLocation: https://evil/remote/hostcheck_install", "", "other-host"),
            ("302 Found\r\nLocation: https://gw:10443.evil/remote/hostcheck_install", "", "other-host"),
            ("302 Found\r\nLocation: http://gw:10443/remote/hostcheck_install", "", "other-host"),
            ("302 Found\r\nLocation: //evil/remote/login", "", "other-host"),
            ("302 Found\r\nLocation: /else", "", "bad-status"),
            ("403 Forbidden\r\nSet-Cookie: SVPNCOOKIE=v", "", "accepted"),
        ] {
            assert_eq!(verdict(head, body), expected, "{head} {body}");
        }
    }
}
