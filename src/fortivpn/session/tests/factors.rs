//! Further rounds of a sign-in: codes, push, challenges, new passwords, pages.

use super::*;

const FIRST: &str = "username=alice&credential=correct%20horse%26&realm=staff&ajax=1&just_logged_in=1";
const TOKEN: &str = "ret=2,reqid=139361911,polid=1-3-8e4d197,grp=,portal=,peer=,magic=3-8e4d197,tokeninfo=,\
                     chal_msg=Please enter your token code";
const PUSH: &str = "ret=2,reqid=13,polid=1-3,grp=,magic=3-8,tokeninfo=ftm_push,chal_msg=Code?";
const RENEWAL: &str = "ret=6,actionurl=/remote/logincheck,magic=1-12,reqid=0,grpid=1,pid=249,is_chal_rsp=1,pass_renew=1,\
                       allow_cancel=1,chal_msg=Your password will expire in 3 days. <b>Change</b> it?";
const FORCED: &str = "ret=6,magic=1-12,reqid=0,grpid=1,pid=249,is_chal_rsp=1,pass_renew=1,chal_msg=Change it";

fn asked(replies: Vec<Reply>) -> Bench {
    let mut b = Bench::password().script("/remote/logincheck", replies);
    b.handle(Input::Start);
    b
}

#[test]
fn a_code_on_a_connection_of_its_own() {
    let mut b = asked(vec![ok("", TOKEN), accepted("c2")]);
    let question = b.question();
    assert_eq!(question.kind, QuestionKind::Code { push: false });
    assert_eq!((question.text.as_str(), question.again), ("Please enter your token code", false));
    assert_eq!((b.connected, b.connects), (false, 1), "nobody waits on a connection");
    b.say("123456");
    assert!(b.session.is_up());
    assert_eq!(b.connects, 2);
    let second = "username=alice&realm=staff&reqid=139361911&polid=1-3-8e4d197&grp=&portal=&peer=&code=123456&code2=\
                  &magic=3-8e4d197";
    assert_eq!(b.bodies, [FIRST, second]);
    assert_eq!(b.events[1], Output::LoginDone);
    let shown = format!("{:?} {:?}", b.session, b.events);
    assert!(!shown.contains("3-8e4d197") && !shown.contains("123456"));
    // After a drop the password goes by itself, a code is asked for.
    b.script.insert("/remote/logincheck", vec![ok("", TOKEN), accepted("c3")]);
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden"), Open]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(3.0);
    assert_eq!((b.questions(), b.bodies.len()), (2, 3));
    b.say("654321");
    assert!(b.session.is_up());
    assert!(!b.bodies[3].contains("123456"));
}

#[test]
fn what_each_question_is() {
    for (body, kind, text, to) in [
        (
            "ret=3,reqid=77,polid=1-1-77,grp=,magic=1-77,tokeninfo=a%2A%2A%2A%40corp.example",
            QuestionKind::EmailCode,
            "",
            Some("a***@corp.example"),
        ),
        ("ret=4,reqid=78,magic=1,tokeninfo=%2B49%2A%2A89", QuestionKind::SmsCode, "", Some("+49**89")),
        ("ret=5,reqid=7,magic=1,tokeninfo=,chal_msg=Drift", QuestionKind::TwoCodes, "Drift", None),
        (
            "ret=6,magic=1,reqid=4,grpid=0,pid=2,is_chal_rsp=1,chal_msg=A, <b>b</b> & \u{1b}[31mc",
            QuestionKind::Challenge,
            "A, b & c",
            None,
        ),
        (FORCED, QuestionKind::NewPassword { may_skip: false }, "Change it", None),
    ] {
        let b = asked(vec![ok("", body)]);
        let question = b.question();
        assert_eq!((question.kind, &*question.text, question.sent_to.as_deref()), (kind, text, to));
    }
    let mut b = asked(vec![ok("", "ret=5,reqid=7,magic=1,tokeninfo="), accepted("c")]);
    b.say("111111");
    assert!(b.connected || b.bodies.len() == 1, "one code is no answer to two");
    b.answer(Answer::TwoCodes(Secret::from(&b"111111"[..]), Secret::from(&b"222222"[..])));
    assert!(b.session.is_up() && b.bodies[1].contains("&code=111111&code2=222222&"));
}

#[test]
fn the_gateway_decides_about_a_wrong_code() {
    let mut b = asked(vec![ok("", TOKEN), ok("", TOKEN), accepted("c")]);
    b.say("000000");
    assert!(b.question().again && b.questions() == 2);
    b.say("123456");
    assert!(b.session.is_up());
    for refusal in [status("405 Method Not Allowed"), denied(), ok("SVPNCOOKIE=", "")] {
        let mut b = asked(vec![ok("", TOKEN), refusal, accepted("c")]);
        b.say("000000");
        b.run(3600.0);
        assert_eq!((b.failed(), b.bodies.len()), (Some(&Error::CodeRefused), 2));
        b.handle(Input::Retry);
        assert!(b.session.is_up() && b.questions() == 1, "the password was good");
    }
    let mut b = asked(vec![ok("", TOKEN), Close(CloseReason::Eof)]);
    b.say("000000");
    b.run(600.0);
    assert!(matches!(b.failed(), Some(Error::LoginUnanswered(_))));
    assert_eq!(b.bodies.len(), 2, "a code is sent once");
}

#[test]
fn an_answer_that_cannot_be_sent_is_kept_for_a_while() {
    let mut b = asked(vec![ok("", TOKEN), accepted("c")]);
    b.refuse = vec![CloseReason::Refused("down".into()); 2];
    b.say("123456");
    b.run(4.0);
    assert!(b.session.is_up());
    let mut b = asked(vec![ok("", TOKEN), accepted("c")]);
    b.refuse = vec![CloseReason::Refused("down".into()); 20];
    b.say("123456");
    b.run(120.0);
    assert!(matches!(b.failed(), Some(Error::LoginUnanswered(_))));
    assert_eq!(b.bodies.len(), 1);
}

#[test]
fn time_to_answer_is_limited() {
    for (body, error) in [
        (TOKEN, Error::CodeTimeout),
        ("ret=6,magic=1,chal_msg=Colour?", Error::AnswerTimeout),
        (FORCED, Error::AnswerTimeout),
    ] {
        let mut b = asked(vec![ok("", body), accepted("c")]);
        b.run(179.0);
        assert_eq!(b.failed(), None);
        b.run(2.0);
        assert_eq!(b.events[1..], [Output::LoginDone, Output::Failed(error)]);
        b.say("late");
        assert_eq!(b.bodies.len(), 1);
    }
    let mut b = asked(vec![ok("", TOKEN)]);
    b.handle(Input::Stop);
    assert_eq!(b.events[1..], [Output::LoginDone, Output::Stopped]);
}

#[test]
fn rounds_are_limited() {
    let mut b = asked(vec![ok("", TOKEN)]);
    for _ in 0..20 {
        if b.failed().is_none() {
            b.say("1");
        }
    }
    assert_eq!((b.failed(), b.bodies.len()), (Some(&Error::TooManyRounds), 11));
}

#[test]
fn push_to_the_phone() {
    let body = "username=alice&realm=staff&reqid=13&polid=1-3&grp=&portal=&peer=&ftmpush=1";
    let mut b = asked(vec![ok("", PUSH), Silence]);
    assert_eq!(b.events, [Output::Note(Event::ApproveOnPhone)]);
    assert_eq!(b.bodies, [FIRST, body]);
    // The tap takes its time.
    b.run(55.0);
    let Http(text) = accepted("c") else { unreachable!() };
    b.bytes(text.as_bytes());
    b.pump();
    assert!(b.session.is_up());

    let mut b = asked(vec![ok("", PUSH), Silence]);
    b.run(119.0);
    assert_eq!(b.failed(), None);
    b.run(2.0);
    assert_eq!(b.failed(), Some(&Error::PushTimeout));
    let b = asked(vec![ok("", PUSH), denied()]);
    assert_eq!(b.failed(), Some(&Error::PushDenied));
    // The gateway asks once more: then a person decides.
    let mut b = asked(vec![ok("", PUSH), ok("", PUSH), ok("", PUSH), accepted("c")]);
    assert_eq!((b.question().kind, b.question().again), (QuestionKind::Code { push: true }, true));
    b.answer(Answer::Push);
    assert_eq!(b.bodies[1..], [body, body]);
    b.say("123456");
    assert!(b.session.is_up());

    let mut b = Bench::password().script("/remote/logincheck", vec![ok("", PUSH), accepted("c")]);
    b.session.config.push = false;
    b.handle(Input::Start);
    assert_eq!(b.question().kind, QuestionKind::Code { push: true });
    b.answer(Answer::Push);
    assert_eq!(b.bodies[1], body);
    let remote = PUSH.replace("ftm_push", "remote_token_auth");
    let b = asked(vec![ok("", &remote), accepted("c")]);
    assert!(b.session.is_up() && b.bodies[1].ends_with("&ftmpush=0"));
}

#[test]
fn challenge_rounds() {
    let round = |n: u8, text: &str| {
        ok("", &format!("ret=6,magic={n},reqid=456,portal=,grpid=0,pid=214,is_chal_rsp=1,chal_msg={text}"))
    };
    let mut b = asked(vec![
        round(1, "Colour?"),
        round(2, "Animal, or plant?"),
        round(3, "Animal, or plant?"),
        accepted("c"),
    ]);
    b.say("blue");
    assert_eq!((b.question().text.as_str(), b.question().again), ("Animal, or plant?", false));
    b.say("oak");
    assert!(b.question().again);
    b.say("ant");
    assert!(b.session.is_up());
    let tail = "&credential=correct%20horse%26&credential2=";
    for (n, answer) in [(1, "blue"), (2, "oak"), (3, "ant")] {
        let body =
            format!("ajax=1&username=alice&realm=staff&magic={n}&reqid=456&grpid=0,214,1{tail}{answer}");
        assert_eq!(b.bodies[n], body);
    }
    let mut b = asked(vec![round(1, "Colour?"), denied()]);
    b.say("red");
    assert_eq!(b.failed(), Some(&Error::AnswerRefused));
}

#[test]
fn a_password_that_may_be_kept_is_kept() {
    let b = asked(vec![ok("", RENEWAL), accepted("c")]);
    assert!(b.session.is_up());
    let words = "Your password will expire in 3 days. Change it?";
    assert_eq!(b.events[0], Output::Note(Event::PasswordKept(words.into())));
    let skip = "ajax=1&username=alice&magic=1-12&realm=staff&credential=correct%20horse%26&reqid=0&grpid=1,249,1&skip=1";
    assert_eq!(b.bodies[1], skip);
    let mut b = Bench::password().script("/remote/logincheck", vec![ok("", RENEWAL), accepted("c")]);
    b.session.config.keep_password = false;
    b.handle(Input::Start);
    assert_eq!(b.question().kind, QuestionKind::NewPassword { may_skip: true });
    b.answer(Answer::Skip);
    assert!(b.session.is_up() && b.bodies[1] == skip);
}

#[test]
fn a_new_password_is_the_password_from_then_on() {
    let policy = FORCED.replace("Change it", "Too short: <i>8</i> characters, please");
    let mut b = asked(vec![ok("", FORCED), ok("", &policy), ok("", TOKEN), accepted("c")]);
    b.answer(Answer::Skip);
    assert_eq!(b.bodies.len(), 1, "this one may not be kept");
    b.say("short");
    let question = b.question();
    assert_eq!((question.text.as_str(), question.again), ("Too short: 8 characters, please", true));
    b.say("long enough");
    assert_eq!(b.question().kind, QuestionKind::Code { push: false });
    b.say("123456");
    assert!(b.session.is_up());
    let renewed =
        "ajax=1&username=alice&realm=staff&magic=1-12&reqid=0&grpid=1,249,1&credential=long%20enough";
    assert_eq!(b.bodies[2], renewed);
    b.script.insert("/remote/logincheck", vec![accepted("d")]);
    b.script.insert("/remote/sslvpn-tunnel", vec![status("403 Forbidden"), Open]);
    b.handle(Input::Closed(CloseReason::Eof));
    b.run(3.0);
    assert!(b.session.is_up());
    assert!(b.bodies[4].starts_with("username=alice&credential=long%20enough&realm=staff"));

    let mut b = asked(vec![ok("", FORCED), ok("", "ret=0,chal_msg=It was used before"), denied()]);
    b.say("old one");
    assert_eq!(b.failed(), Some(&Error::NewPasswordRefused("It was used before".into())));
    b.handle(Input::Retry);
    assert_eq!(b.bodies[2], FIRST, "the old password is still the one");
}

#[test]
fn the_form_of_a_page() {
    let page = "<html><body><form action=\"/remote/logincheck\" method=\"POST\"><b>Please enter your code</b>\
                <input type=\"hidden\" name=\"magic\" value=\"1-55443322\"><input type=\"hidden\" name=\"username\" value=\"alice\">\
                <input type=\"hidden\" name=\"reqid\" value=\"12345678\"><input type=\"hidden\" name=\"grpid\" value=\"0,1234,1\">\
                <input type=\"password\" name=\"credential\"><input class=\"button\" type=\"submit\" value=\"OK\"></form>";
    let reply = |page: &str| {
        Http(format!(
            "HTTP/1.1 401 Authorization Required\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        ))
    };
    let mut b = asked(vec![reply(page), accepted("c")]);
    assert_eq!(b.question().text, "Please enter your code");
    b.say("123456");
    assert!(b.session.is_up());
    let body =
        "magic=1-55443322&username=alice&reqid=12345678&grpid=0%2C1234%2C1&credential=123456&realm=staff";
    assert_eq!(b.bodies[1], body);
    let b = asked(vec![reply("<html><b>Please</b></html>")]);
    assert_eq!(b.failed(), Some(&Error::Denied));
    let b = asked(vec![reply("<form action=/remote/logincheck></form>")]);
    assert_eq!(b.failed(), Some(&Error::BadForm));
    let b = asked(vec![reply(&page.replace("\"/remote", "\"https://other.example/remote"))]);
    assert_eq!(b.failed(), Some(&Error::OtherHost));
}

#[test]
fn a_code_behind_a_certificate() {
    let mut b = Bench::username()
        .script("/remote/logincheck", vec![ok("", &TOKEN.replace("peer=", "peer=cn1")), accepted("c")]);
    b.handle(Input::Start);
    b.say("123456");
    assert!(b.session.is_up() && b.bodies[1].contains("&peer=cn1&code=123456&"));
}

proptest! {
    #[test]
    fn whatever_is_asked_nothing_panics_and_the_sign_in_ends(
        rounds in prop::collection::vec((0..6usize, prop::collection::vec(any::<u8>(), 0..60), 0..5u8), 1..15),
    ) {
        const BODIES: [&str; 6] = [TOKEN, PUSH, RENEWAL, FORCED, "ret=5,tokeninfo=", "<form><input name=c value='"];
        let reply = |&(which, ref junk, cut): &(usize, Vec<u8>, u8)| {
            let body = BODIES[which];
            let body = &body[..body.len() * (5 - usize::from(cut)) / 5];
            let status = if which == 5 { "401 Authorization Required" } else { "200 OK" };
            let junk: String = junk.iter().map(|&b| char::from(b)).collect();
            let length = body.len() + junk.len();
            Http(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}{junk}"))
        };
        let mut b = asked(rounds.iter().map(reply).collect());
        for _ in 0..20 {
            if b.failed().is_none() {
                let kind = b.question().kind;
                prop_assert!(b.question().text.chars().all(|c| !c.is_control()));
                match kind {
                    QuestionKind::TwoCodes => {
                        b.answer(Answer::TwoCodes(Secret::from(&b"1"[..]), Secret::from(&b"2"[..])));
                    }
                    _ => b.say("1"),
                }
            }
        }
        prop_assert!(b.failed().is_some() && b.bodies.len() <= 12);
    }
}
