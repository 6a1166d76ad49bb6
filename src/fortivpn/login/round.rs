//! A further round of a sign-in: what the gateway asks, and how an answer goes back to it.

use super::answer::Answer as Reply;
use super::form::Form;
use super::{Account, LOGIN_CHECK};
use crate::crypto::Secret;
use crate::fortivpn::question::{Answer, QuestionKind};
use crate::fortivpn::text::{one_line, percent_decode};
use crate::wire::http::percent_encode;

/// One question of the gateway.
#[derive(Debug)]
pub(in crate::fortivpn) struct Round {
    pub(in crate::fortivpn) kind: QuestionKind,
    /// The gateway's words, clean.
    pub(in crate::fortivpn) text: String,
    pub(in crate::fortivpn) sent_to: Option<String>,
    way: Way,
}

/// How the answer goes back. What came with the question goes back as it came.
#[derive(Debug)]
enum Way {
    /// `ret=2` to `ret=5`. `push` is the value of `ftmpush`, where that is possible.
    Token { echo: Secret, magic: Secret, push: Option<&'static str> },
    /// `ret=6`.
    Challenge { magic: Secret, reqid: Secret, joined_reqid: Secret, grpid: Secret, peer: Option<Secret> },
    /// A page.
    Page { target: String, form: Form },
}

/// What an answer was, to tell what its refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fortivpn) enum Kind {
    Code,
    Push,
    Answer,
    NewPassword,
    KeptPassword,
}

enum Value<'a> {
    /// Encoded here.
    Text(&'a [u8]),
    /// Encoded already, or to be sent as it came.
    Raw(&'a [u8]),
}
use Value::{Raw, Text};

impl Round {
    /// The question of a short answer, if it is one.
    pub(super) fn of_answer(reply: &Reply<'_>) -> Option<Self> {
        let token = reply.get("tokeninfo");
        let push = match token {
            Some(info) if info.starts_with("ftm_push") => Some("1"),
            Some("remote_token_auth") => Some("0"),
            _ => None,
        };
        let may_skip = reply.is_set("allow_cancel");
        let kind = match reply.get("ret")? {
            "3" => QuestionKind::EmailCode,
            "4" => QuestionKind::SmsCode,
            "5" => QuestionKind::TwoCodes,
            "6" if reply.is_set("pass_renew") => QuestionKind::NewPassword { may_skip },
            "6" => QuestionKind::Challenge,
            "2" => QuestionKind::Code { push: push.is_some() },
            _ if token.is_some() => QuestionKind::Code { push: push.is_some() },
            _ => return None,
        };
        let sent_to = match kind {
            QuestionKind::EmailCode | QuestionKind::SmsCode => {
                token.map(|info| one_line(&percent_decode(info)))
            }
            _ => None,
        };
        let raw = |key| as_it_came(reply.get(key).unwrap_or_default());
        let magic = Secret::new(raw("magic"));
        let way = match kind {
            QuestionKind::Challenge | QuestionKind::NewPassword { .. } => {
                let reqid = raw("reqid");
                let polid = reply.get("polid").map(as_it_came);
                let joined = polid.map_or(reqid.clone(), |polid| [&*reqid, &polid].join(&b','));
                let grpid = [raw("grpid"), raw("pid"), raw("is_chal_rsp")].join(&b',');
                Way::Challenge {
                    magic,
                    reqid: Secret::new(reqid),
                    joined_reqid: Secret::new(joined),
                    grpid: Secret::new(grpid),
                    peer: reply.get("peer").map(|peer| Secret::new(as_it_came(peer))),
                }
            }
            _ => {
                let echo = ["reqid", "polid", "grp", "portal", "peer"].map(|key| {
                    let value = raw(key);
                    [key.as_bytes(), &value].join(&b'=')
                });
                Way::Token { echo: Secret::new(echo.join(&b'&')), magic, push }
            }
        };
        let text = one_line(reply.words());
        Some(Self { kind, text, sent_to: sent_to.filter(|hint| !hint.is_empty()), way })
    }

    /// The form of a page; `target` is its action, on our own host.
    pub(super) fn of_form(form: Form, target: String) -> Self {
        let text = form.prompt.clone();
        Self {
            kind: QuestionKind::Code { push: false },
            text,
            sent_to: None,
            way: Way::Page { target, form },
        }
    }

    /// Where the answer goes.
    pub(in crate::fortivpn) fn target(&self) -> &str {
        match &self.way {
            Way::Page { target, .. } => target,
            _ => LOGIN_CHECK,
        }
    }

    /// The body that brings the answer, and what it was; `None` if the answer is of another kind than the question.
    pub(in crate::fortivpn) fn body(&self, account: &Account<'_>, answer: &Answer) -> Option<(Kind, Secret)> {
        let (username, realm) = (Text(account.username.as_bytes()), Text(account.realm.as_bytes()));
        let password = account.password.map(Secret::expose).unwrap_or_default();
        match (&self.way, answer) {
            (Way::Token { echo, magic, .. }, Answer::Text(_) | Answer::TwoCodes(..)) => {
                let (first, second) = match answer {
                    Answer::Text(code) if self.kind != QuestionKind::TwoCodes => (code.expose(), &b""[..]),
                    Answer::TwoCodes(first, second) if self.kind == QuestionKind::TwoCodes => {
                        (first.expose(), second.expose())
                    }
                    _ => return None,
                };
                let body = body(&[
                    ("username", username),
                    ("realm", realm),
                    ("", Raw(echo.expose())),
                    ("code", Text(first)),
                    ("code2", Text(second)),
                    ("magic", Raw(magic.expose())),
                ]);
                Some((Kind::Code, body))
            }
            (Way::Token { echo, push: Some(push), .. }, Answer::Push) => {
                let push = ("ftmpush", Raw(push.as_bytes()));
                let body = body(&[("username", username), ("realm", realm), ("", Raw(echo.expose())), push]);
                Some((Kind::Push, body))
            }
            (Way::Challenge { magic, reqid, joined_reqid, grpid, peer }, _) => {
                let skips = matches!(answer, Answer::Skip);
                let (kind, answer) = match (answer, self.kind) {
                    (Answer::Text(answer), QuestionKind::Challenge) => (Kind::Answer, answer.expose()),
                    (Answer::Text(new), QuestionKind::NewPassword { .. }) => {
                        (Kind::NewPassword, new.expose())
                    }
                    (Answer::Skip, QuestionKind::NewPassword { may_skip: true }) => {
                        (Kind::KeptPassword, &b""[..])
                    }
                    _ => return None,
                };
                let peer = peer.as_ref().map(|peer| ("peer", Raw(peer.expose())));
                let (magic, grpid) = (("magic", Raw(magic.expose())), ("grpid", Raw(grpid.expose())));
                let mut fields = vec![("ajax", Raw(b"1")), ("username", username)];
                if skips {
                    fields.extend([magic, ("realm", realm), ("credential", Text(password))]);
                    fields.extend([("reqid", Raw(reqid.expose())), grpid, ("skip", Raw(b"1"))]);
                    fields.extend(peer);
                } else {
                    fields.extend([("realm", realm), magic, ("reqid", Raw(joined_reqid.expose())), grpid]);
                    fields.extend(peer);
                    if kind == Kind::NewPassword {
                        fields.push(("credential", Text(answer)));
                    } else {
                        fields.extend([("credential", Text(password)), ("credential2", Text(answer))]);
                    }
                }
                Some((kind, body(&fields)))
            }
            (Way::Page { form, .. }, Answer::Text(code)) => {
                let field = |(name, value): &'_ (String, Option<Secret>)| {
                    let mut encoded = Vec::new();
                    percent_encode(&mut encoded, name.as_bytes());
                    (String::from_utf8_lossy(&encoded).into_owned(), value.clone())
                };
                let fields: Vec<_> = form.fields.iter().map(field).collect();
                let mut pairs: Vec<(&str, Value<'_>)> = fields
                    .iter()
                    .map(|(name, value)| (name.as_str(), Text(value.as_ref().unwrap_or(code).expose())))
                    .collect();
                // Without it the gateway takes the default realm.
                if !account.realm.is_empty() && !fields.iter().any(|(name, _)| name == "realm") {
                    pairs.push(("realm", realm));
                }
                Some((Kind::Code, body(&pairs)))
            }
            _ => None,
        }
    }
}

/// A value of the gateway's answer as it goes back: raw, unless that would break the form.
fn as_it_came(value: &str) -> Vec<u8> {
    if value.bytes().all(|b| b.is_ascii_graphic() && b != b'&') {
        return value.as_bytes().to_vec();
    }
    let mut out = Vec::new();
    percent_encode(&mut out, value.as_bytes());
    out
}

/// A field without a name is a piece of the body.
fn body(fields: &[(&str, Value<'_>)]) -> Secret {
    // Enough for every value encoded whole: a growing vector would leave copies of a secret behind.
    let room = |(name, value): &(&str, Value<'_>)| match value {
        Text(value) => name.len() + 3 * value.len() + 2,
        Raw(value) => name.len() + value.len() + 2,
    };
    let mut out = Vec::with_capacity(fields.iter().map(room).sum());
    for (name, value) in fields {
        if !out.is_empty() {
            out.push(b'&');
        }
        if !name.is_empty() {
            out.extend(name.as_bytes());
            out.push(b'=');
        }
        match value {
            Text(value) => percent_encode(&mut out, value),
            Raw(value) => out.extend(*value),
        }
    }
    Secret::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: &str) -> Answer {
        Answer::Text(Secret::from(answer.as_bytes()))
    }

    fn sent(question: &str, answer: &Answer) -> Option<(Kind, String)> {
        let round = match Form::parse(question) {
            Some(form) => Round::of_form(form, "/remote/logincheck".into()),
            None => Round::of_answer(&Reply::parse(question).unwrap()).unwrap(),
        };
        let password = Secret::from(&b"p+w"[..]);
        let account = Account { username: "al ice", password: Some(&password), realm: "staff" };
        let (kind, body) = round.body(&account, answer)?;
        assert_eq!(body.expose().len(), body.len());
        Some((kind, String::from_utf8(body.expose().to_vec()).unwrap()))
    }

    #[test]
    fn answers_as_the_known_clients_send_them() {
        let token = "ret=2,reqid=1399,polid=1-3-8e4,grp=g%20,portal=,peer=p,magic=3-8e4,tokeninfo=ftm_push,chal_msg=x";
        let remote = "ret=2,reqid=1,magic=2,tokeninfo=remote_token_auth";
        let plain = "ret=2,reqid=1,polid=2,grp=,magic=3,tokeninfo=";
        let drift = "ret=5,reqid=1,magic=2,tokeninfo=";
        let challenge = "ret=6,magic=123,actionurl=/remote/logincheck,reqid=456,portal=,grpid=0,pid=214,is_chal_rsp=1,chal_msg=E";
        let policy = "ret=6,magic=1,reqid=2,polid=3,grpid=4,pid=5,is_chal_rsp=1,peer=cn";
        let renewal =
            "ret=6,magic=1-1,reqid=0,grpid=1,pid=249,is_chal_rsp=1,pass_renew=1,allow_cancel=1,chal_msg=x";
        let forced = "ret=6,magic=1,reqid=0,grpid=1,pid=2,is_chal_rsp=1,pass_renew=1";
        let page = "<form action=/remote/logincheck><input type=hidden name=magic value=1-55><input type=hidden name=grpid \
                    value='0,1'><input type=password name=credential>";
        let two = Answer::TwoCodes(Secret::from(&b"111111"[..]), Secret::from(&b"222222"[..]));
        for (question, answer, kind, expected) in [
            (
                token,
                text("12 3"),
                Kind::Code,
                "username=al%20ice&realm=staff&reqid=1399&polid=1-3-8e4&grp=g%20&portal=&peer=p&code=12%203&code2=&magic=3-8e4",
            ),
            (
                token,
                Answer::Push,
                Kind::Push,
                "username=al%20ice&realm=staff&reqid=1399&polid=1-3-8e4&grp=g%20&portal=&peer=p&ftmpush=1",
            ),
            (
                remote,
                Answer::Push,
                Kind::Push,
                "username=al%20ice&realm=staff&reqid=1&polid=&grp=&portal=&peer=&ftmpush=0",
            ),
            (
                drift,
                two.clone(),
                Kind::Code,
                "username=al%20ice&realm=staff&reqid=1&polid=&grp=&portal=&peer=&code=111111&code2=222222&magic=2",
            ),
            (
                challenge,
                text("blue & green"),
                Kind::Answer,
                "ajax=1&username=al%20ice&realm=staff&magic=123&reqid=456&grpid=0,214,1&credential=p%2Bw&credential2=blue%20%26%20green",
            ),
            (
                policy,
                text("a"),
                Kind::Answer,
                "ajax=1&username=al%20ice&realm=staff&magic=1&reqid=2,3&grpid=4,5,1&peer=cn&credential=p%2Bw&credential2=a",
            ),
            (
                renewal,
                text("new+"),
                Kind::NewPassword,
                "ajax=1&username=al%20ice&realm=staff&magic=1-1&reqid=0&grpid=1,249,1&credential=new%2B",
            ),
            (
                renewal,
                Answer::Skip,
                Kind::KeptPassword,
                "ajax=1&username=al%20ice&magic=1-1&realm=staff&credential=p%2Bw&reqid=0&grpid=1,249,1&skip=1",
            ),
            (page, text("123456"), Kind::Code, "magic=1-55&grpid=0%2C1&credential=123456&realm=staff"),
        ] {
            assert_eq!(sent(question, &answer), Some((kind, expected.into())), "{question}");
        }
        for (question, answer) in [
            (plain, Answer::Push),
            (plain, Answer::Skip),
            (plain, two.clone()),
            (drift, text("1")),
            (challenge, Answer::Skip),
            (challenge, Answer::Push),
            (forced, Answer::Skip),
            (page, Answer::Push),
            (page, two),
        ] {
            assert_eq!(sent(question, &answer), None, "{question} {answer:?}");
        }
        // What would break the form is encoded.
        let odd = sent("ret=2,reqid=a&b c,magic=\u{fc},tokeninfo=", &text("1")).unwrap().1;
        assert!(odd.contains("reqid=a%26b%20c&") && odd.ends_with("magic=%C3%BC"), "{odd}");
    }
}
