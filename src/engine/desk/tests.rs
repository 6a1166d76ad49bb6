use super::*;
use crate::fortivpn::{CloseReason, DownReason, Error};

const NOW: Now = Now { mono: Duration::from_secs(100), boot: Duration::ZERO, wall: Duration::ZERO };
const ID: &str = "6c1f0a9e-5d1b-4b4e-9e60-0b6d2a2f9b11";

fn question(id: u32, kind: QuestionKind) -> Question {
    Question { id, kind, text: "Token code".to_owned(), sent_to: None, again: false }
}

fn ask(id: u32, kind: QuestionKind) -> Output {
    Output::Ask(question(id, kind))
}

fn link(left: Option<u64>) -> Output {
    Output::LoginNeeded { url: "https://gw.example/start".to_owned(), left: left.map(Duration::from_secs) }
}

fn secret(text: &str) -> Secret {
    Secret::from(text.as_bytes())
}

const CODE: QuestionKind = QuestionKind::Code { push: false };

/// Whether people hear of it.
fn asks(desk: &mut Desk, output: &Output) -> bool {
    desk.handle_output(NOW, output);
    desk.poll_change()
}

fn told(desk: &mut Desk) -> Vec<String> {
    let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
    std::iter::from_fn(|| desk.poll_input())
        .map(|input| match input {
            Input::SamlId(id) => format!("id {id}"),
            Input::Cookie(cookie) => format!("cookie {}", text(&cookie)),
            Input::Answer { question, answer: Answer::Text(answer) } => {
                format!("{question} {}", text(&answer))
            }
            Input::Answer { question, answer: Answer::TwoCodes(a, b) } => {
                format!("{question} {}+{}", text(&a), text(&b))
            }
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn an_id_is_found_in_whatever_a_person_copies() {
    for text in [
        ID.to_owned(),
        format!(" {ID}\n"),
        format!("id={ID}"),
        format!("http://127.0.0.1:8020/?id={ID}"),
        format!("http://localhost:9000/x?a=b&id={ID}&c#top"),
        format!("https://[::1]/?id={}", ID.replace('-', "%2d")),
    ] {
        let mut desk = Desk::default();
        desk.handle_output(NOW, &link(None));
        assert_eq!(desk.submit(Submission::Pasted(secret(&text))), Ok(()), "{text}");
        assert_eq!(told(&mut desk), [format!("id {ID}")], "{text}");
        assert_eq!(desk.request(), None, "what is answered is not open any more");
    }
    for text in
        ["", "https://gw.example/remote/saml/start?redirect=1", "id=", "id=%0d%0a", "id=%4", "a b", "?id=%c3"]
    {
        let mut desk = Desk::default();
        desk.handle_output(NOW, &link(None));
        assert_eq!(desk.submit(Submission::Pasted(secret(text))), Err(Refusal::NotAnId), "{text}");
        assert!(told(&mut desk).is_empty() && desk.request().is_some());
    }
}

#[test]
fn a_cookie_is_taken_at_any_time_an_id_only_when_asked_for() {
    let mut desk = Desk::default();
    assert_eq!(desk.submit(Submission::Pasted(secret(ID))), Err(Refusal::NotAsked));
    assert_eq!(desk.submit(Submission::Pasted(secret("SVPNCOOKIE=abc; path=/"))), Ok(()));
    assert_eq!(desk.submit(Submission::Retry), Ok(()));
    assert_eq!(told(&mut desk), ["cookie abc", "Retry"]);
    let empty = desk.submit(Submission::Pasted(secret("SVPNCOOKIE=")));
    assert_eq!(empty, Err(Refusal::NotACookie(cookie::Error::NoCookie)));
    desk.handle_output(NOW, &link(None));
    let bare = format!("{}%2b/==", "a".repeat(BARE_COOKIE));
    assert_eq!(desk.submit(Submission::Pasted(secret(&bare))), Ok(()));
    assert_eq!(told(&mut desk), [format!("cookie {bare}")], "beside the link it needs no name");
}

#[test]
fn typed_answers_are_read_as_the_question_wants_them() {
    const NEW: QuestionKind = QuestionKind::NewPassword { may_skip: true };
    const PUSH: QuestionKind = QuestionKind::Code { push: true };
    for (kind, typed, expected) in [
        (CODE, "123 456\r\n", Ok("7 123456")),
        (CODE, "push", Err(Refusal::NoPush)),
        (CODE, "  ", Err(Refusal::Empty)),
        (PUSH, "Push", Ok("Answer(7, [redacted])")),
        (PUSH, "", Ok("Answer(7, [redacted])")),
        (PUSH, "123456", Ok("7 123456")),
        (QuestionKind::SmsCode, " 12 ", Ok("7 12")),
        (QuestionKind::TwoCodes, "123456  234567", Ok("7 123456+234567")),
        (QuestionKind::TwoCodes, "123456", Err(Refusal::TwoCodes)),
        (QuestionKind::Challenge, " blue sky\n", Ok("7 blue sky")),
        (QuestionKind::Password, " pass word ", Ok("7  pass word ")),
        (QuestionKind::Password, "push", Ok("7 push")),
        (NEW, "skip", Ok("Answer(7, [redacted])")),
        (NEW, "n3w", Ok("7 n3w")),
        (QuestionKind::NewPassword { may_skip: false }, "", Err(Refusal::Empty)),
    ] {
        let mut desk = Desk::default();
        desk.handle_output(NOW, &ask(7, kind));
        let stale = Submission::Typed { question: 6, text: secret(typed) };
        assert_eq!(desk.submit(stale), Err(Refusal::OtherQuestion));
        let result = desk.submit(Submission::Typed { question: 7, text: secret(typed) });
        assert_eq!(result, expected.map(drop), "{kind:?} {typed:?}");
        assert_eq!(told(&mut desk), expected.into_iter().collect::<Vec<_>>(), "{kind:?} {typed:?}");
    }
}

#[test]
fn answers_of_another_kind_are_refused() {
    let (one, two) = (|| Answer::Text(secret("1")), || Answer::TwoCodes(secret("1"), secret("2")));
    for (kind, answer, expected) in [
        (CODE, one(), Ok(())),
        (CODE, two(), Err(Refusal::OtherKind)),
        (CODE, Answer::Push, Err(Refusal::NoPush)),
        (CODE, Answer::Text(secret("")), Err(Refusal::Empty)),
        (QuestionKind::TwoCodes, one(), Err(Refusal::TwoCodes)),
        (QuestionKind::TwoCodes, two(), Ok(())),
        (QuestionKind::NewPassword { may_skip: false }, Answer::Skip, Err(Refusal::NoSkip)),
        (QuestionKind::Password, Answer::Skip, Err(Refusal::OtherKind)),
    ] {
        let mut desk = Desk::default();
        desk.handle_output(NOW, &ask(1, kind));
        assert_eq!(desk.submit(Submission::Answer { question: 1, answer }), expected, "{kind:?}");
    }
}

#[test]
fn a_code_given_beforehand_answers_the_first_question_for_a_code_only() {
    let mut desk = Desk::new(Aids { otp: Some(secret("111")), ..Aids::default() });
    assert!(asks(&mut desk, &ask(1, QuestionKind::Password)), "people know the password");
    assert!(told(&mut desk).is_empty());
    assert!(asks(&mut desk, &ask(2, CODE)), "the password is not asked for any more");
    assert_eq!((told(&mut desk), desk.request()), (vec!["2 111".to_owned()], None));
    assert!(asks(&mut desk, &ask(3, CODE)));
    assert!(told(&mut desk).is_empty() && desk.request().is_some());
}

#[test]
fn a_command_answers_every_question_for_a_code_once() {
    let mut desk = Desk::new(Aids { otp_command: Some("totp".to_owned()), ..Aids::default() });
    for id in [1, 2] {
        assert!(!asks(&mut desk, &ask(id, CODE)), "nobody else is asked");
        let program = desk.poll_program().unwrap();
        assert_eq!((program.command.as_str(), program.purpose), ("totp", Purpose::Code { question: id }));
        assert_eq!(
            program.environment[..2],
            [("PTERODAPTER_QUESTION", "code".to_owned()), ("PTERODAPTER_TEXT", "Token code".to_owned())]
        );
        desk.handle_code(NOW, id + 1, Some(secret("0")));
        assert!(told(&mut desk).is_empty(), "not the question that is open");
        desk.handle_code(NOW, id, Some(secret("222")));
        assert_eq!(told(&mut desk), [format!("{id} 222")]);
        assert!(!desk.poll_change());
    }
    let again = Question { again: true, ..question(3, CODE) };
    assert!(asks(&mut desk, &Output::Ask(again)), "a code that was refused is a person's matter");
    assert!(desk.poll_program().is_none() && desk.request().is_some());
}

#[test]
fn people_are_asked_where_the_command_fails_and_not_when_it_is_late() {
    let mut desk = Desk::new(Aids { otp_command: Some("totp".to_owned()), ..Aids::default() });
    desk.handle_output(NOW, &ask(1, CODE));
    desk.handle_code(NOW, 1, None);
    assert!(desk.poll_change());
    assert_eq!(desk.request(), Some(&Request::Question(question(1, CODE))));
    assert!(asks(&mut desk, &ask(2, CODE)), "the first question is not open any more");
    assert!(!asks(&mut desk, &Output::Failed(Error::Denied)));
    desk.handle_code(NOW, 2, Some(secret("222")));
    assert!(told(&mut desk).is_empty() && !desk.poll_change(), "too late");
}

#[test]
fn the_hook_hears_of_every_new_request_but_no_secret() {
    let mut desk = Desk::new(Aids { login_hook: Some("tell".to_owned()), ..Aids::default() });
    let mut environment = |output: &Output| {
        desk.handle_output(NOW, output);
        let program = desk.poll_program()?;
        assert_eq!((program.command.as_str(), program.purpose), ("tell", Purpose::Hook));
        Some(
            program
                .environment
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" "),
        )
    };
    let url = "PTERODAPTER_LOGIN_URL=https://gw.example/start";
    assert_eq!(environment(&link(None)).unwrap(), url);
    assert_eq!(environment(&link(None)), None, "nothing new");
    assert_eq!(environment(&link(Some(600))).unwrap(), format!("PTERODAPTER_LEFT=600 {url}"));
    assert_eq!(environment(&Output::LoginDone), None);
    let sms = Question { sent_to: Some("+49***7".to_owned()), ..question(1, QuestionKind::SmsCode) };
    assert_eq!(
        environment(&Output::Ask(sms)).unwrap(),
        "PTERODAPTER_QUESTION=sms-code PTERODAPTER_TEXT=Token code PTERODAPTER_SENT_TO=+49***7"
    );
    assert_eq!(environment(&Output::Down(DownReason::Connection(CloseReason::Eof))), None);
}

#[test]
fn requests_are_sentences() {
    let code =
        Question { again: true, sent_to: Some("a***@b".to_owned()), ..question(1, QuestionKind::EmailCode) };
    assert_eq!(
        Request::Question(code).to_string(),
        "the last answer was refused; the code that came by e-mail is needed (sent to a***@b): Token code"
    );
}
