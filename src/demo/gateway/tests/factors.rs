//! Second factors, asked and answered over real sockets.

use super::*;

const PASSWORD: &str = "username=alice&credential=p%2Bw&realm=&ajax=1";

fn bench(user: User) -> Bench {
    Bench::with_users(vec![user], Scenario::default())
}

fn alice(factor: Factor) -> User {
    User::new("alice", "p+w").with_factor(factor)
}

/// The values of a `ret=` body.
struct Question(Vec<(String, String)>);

impl Question {
    fn new(answer: &Answer) -> Self {
        assert_eq!((answer.0, answer.cookie("SVPNCOOKIE")), (200, None), "{}", answer.2);
        let (front, message) = answer.2.split_once(",chal_msg=").unwrap();
        let pairs = front.split(',').map(|pair| pair.split_once('=').unwrap());
        let pairs = pairs.chain([("chal_msg", message)]);
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, key: &str) -> &str {
        super::super::http::field(&self.0, key)
    }

    /// The answer in the way of openconnect, with `more` at the end.
    fn token(&self, more: &str) -> String {
        let keys = ["reqid", "polid", "grp", "portal", "peer", "magic"];
        let echoed: Vec<_> = keys.iter().map(|key| format!("{key}={}", self.get(key))).collect();
        format!("username=alice&realm=&{}&{more}", echoed.join("&"))
    }

    /// The answer to a challenge in the way of the login page's script.
    fn challenge(&self, more: &str) -> String {
        let (magic, reqid, grpid, pid) =
            (self.get("magic"), self.get("reqid"), self.get("grpid"), self.get("pid"));
        format!("ajax=1&username=alice&realm=&magic={magic}&reqid={reqid},&grpid={grpid},{pid},1&{more}")
    }
}

fn ask(bench: &Bench) -> Question {
    Question::new(&bench.post("/remote/logincheck", PASSWORD))
}

fn answer(bench: &Bench, body: &str) -> bool {
    bench.post("/remote/logincheck", body).cookie("SVPNCOOKIE").is_some()
}

fn outcomes(bench: &Bench) -> Vec<(Step, FactorOutcome)> {
    let events = bench.gateway.journal().into_iter().filter_map(|entry| match entry.event {
        Event::SecondFactor { step, outcome, .. } => Some((step, outcome)),
        _ => None,
    });
    events.collect()
}

#[test]
fn codes_by_token_mail_and_sms() {
    for (factor, ret, info, step) in [
        (Factor::code("123456"), "2", "", Step::Code),
        (Factor::push(Decision::Never, Duration::ZERO).or_code("123456"), "2", "ftm_push", Step::Push),
        (Factor::email("a***@corp.example", "123456"), "3", "a%2A%2A%2A%40corp.example", Step::Email),
        (Factor::sms("+49****89", "123456"), "4", "%2B49%2A%2A%2A%2A89", Step::Sms),
    ] {
        let bench = bench(alice(factor));
        let question = ask(&bench);
        assert_eq!((question.get("ret"), question.get("tokeninfo")), (ret, info));
        assert_ne!(question.get("reqid"), ask(&bench).get("reqid"), "each time another");
        assert!(answer(&bench, &question.token("code=123456&code2=")));
        assert!(!answer(&bench, &question.token("code=123456&code2=")), "once");
        assert!(!answer(&bench, &ask(&bench).token("code=123457&code2=")));
        assert_eq!(outcomes(&bench), [(step, FactorOutcome::Accepted), (step, FactorOutcome::Refused)]);
        let journal = format!("{:?}", bench.gateway.journal());
        assert!(!journal.contains("123456") && !journal.contains(question.get("magic")), "{journal}");
        let granted =
            Event::Login { user: "alice".into(), realm: String::new(), outcome: LoginOutcome::Granted };
        bench.wait_for(|event| *event == granted);
    }
}

#[test]
fn what_a_question_came_with_has_to_come_back() {
    let scenario = Scenario { lockout: None, ..Scenario::default() };
    let bench = Bench::with_users(vec![alice(Factor::code("1")).in_realm("staff")], scenario);
    let first = "username=alice&credential=p%2Bw&realm=staff&ajax=1";
    let good = || {
        let question = Question::new(&bench.post("/remote/logincheck", first));
        question.token("code=1").replace("realm=", "realm=staff")
    };
    assert!(answer(&bench, &good()));
    for key in ["username", "realm", "reqid", "polid", "grp", "magic"] {
        let body = good();
        let without: Vec<_> = body.split('&').filter(|pair| !pair.starts_with(&format!("{key}="))).collect();
        assert!(!answer(&bench, &without.join("&")), "without {key}");
        let wrong: Vec<_> = body
            .split('&')
            .map(|pair| if pair.starts_with(&format!("{key}=")) { format!("{pair}x") } else { pair.into() })
            .collect();
        assert!(!answer(&bench, &wrong.join("&")), "wrong {key}");
    }
    let question = Question::new(&bench.post("/remote/logincheck", first));
    let script = format!(
        "ajax=1&username=alice&realm=staff&code=1&code2=&polid={polid}&grp={}&magic={}&reqid={},{polid}&grpid=0,0,0&credential=p%2Bw",
        question.get("grp"),
        question.get("magic"),
        question.get("reqid"),
        polid = question.get("polid"),
    );
    assert!(answer(&bench, &script), "as the login page answers");
}

#[test]
fn push() {
    let short = Duration::from_millis(60);
    for (factor, asked, outcome) in [
        (Factor::push(Decision::Approve, short), "ftmpush=1", FactorOutcome::Accepted),
        (Factor::remote_push(Decision::Approve, short), "ftmpush=0", FactorOutcome::Accepted),
        (Factor::push(Decision::Deny, short), "ftmpush=1", FactorOutcome::PushDenied),
        (Factor::push(Decision::Never, short), "ftmpush=1", FactorOutcome::TimedOut),
        (Factor::push(Decision::Approve, short * 10), "ftmpush=1", FactorOutcome::TimedOut),
        (Factor::remote_push(Decision::Approve, short), "ftmpush=1", FactorOutcome::NotEchoed),
    ] {
        let scenario = Scenario { push_timeout: short * 2, ..Scenario::default() };
        let bench = Bench::with_users(vec![alice(factor)], scenario);
        let body = ask(&bench).token(asked);
        let (front, _) = body.split_once("&magic=").unwrap();
        let good = answer(&bench, &format!("{front}&{asked}"));
        assert_eq!(good, outcome == FactorOutcome::Accepted);
        assert_eq!(outcomes(&bench), [(Step::Push, outcome)]);
    }
}

#[test]
fn drift_rounds_and_single_codes() {
    let user = alice(Factor::drift("111", "222").tries(2)).with_factor(Factor::codes(&["333", "444"]));
    let bench = bench(user.with_factor(Factor::challenge("blue").prompted("A, b & <b>ü</b>\x1b[31m=?")));
    let login = |first: &str, second: &str| {
        let drift = ask(&bench);
        assert_eq!(drift.get("ret"), "5");
        let again = Question::new(&bench.post("/remote/logincheck", &drift.token("code=111&code2=111")));
        assert_eq!(again.get("ret"), "5", "asked again");
        let code = Question::new(&bench.post("/remote/logincheck", &again.token(first)));
        let third = bench.post("/remote/logincheck", &code.token(second));
        if third.2.starts_with("ret=0") {
            return false;
        }
        let question = Question::new(&third);
        assert_eq!((question.get("ret"), question.get("chal_msg")), ("6", "A, b & <b>ü</b>\x1b[31m=?"));
        answer(&bench, &question.challenge("credential=p%2Bw&credential2=blue"))
    };
    assert!(login("code=111&code2=222", "code=444"));
    assert!(!login("code=111&code2=222", "code=444"), "used");
    assert!(login("code=111&code2=222", "code=333"));
}

#[test]
fn challenges_and_renewal() {
    let open = Scenario { lockout: None, ..Scenario::default() };
    let bench = Bench::with_users(vec![alice(Factor::challenge("blue"))], open.clone());
    for bad in ["credential2=blue", "credential=p%2Bw&credential2=red", "credential=blue", "code=blue"] {
        assert!(!answer(&bench, &ask(&bench).challenge(bad)), "{bad}");
    }
    assert!(!answer(&bench, &ask(&bench).token("credential=p%2Bw&credential2=blue")), "no grpid");

    let bench = Bench::with_users(vec![alice(Factor::renewal().skippable())], open.clone());
    let question = ask(&bench);
    assert_eq!((question.get("pass_renew"), question.get("allow_cancel")), ("1", "1"));
    assert!(answer(&bench, &question.challenge("credential=p%2Bw&skip=1")));

    let bench = Bench::with_users(vec![alice(Factor::renewal())], open);
    let question = ask(&bench);
    assert_eq!((question.get("pass_renew"), question.get("allow_cancel")), ("1", ""));
    assert!(!answer(&bench, &question.challenge("credential=p%2Bw&skip=1")));
    let refused = bench.post("/remote/logincheck", &ask(&bench).challenge("credential=short"));
    let again = Question::new(&refused);
    assert!(again.get("chal_msg").contains("policy"));
    assert!(answer(&bench, &again.challenge("credential=long%20enough")));
    assert!(bench.post("/remote/logincheck", PASSWORD).2.starts_with("ret=0"), "the old one");
    let new = bench.post("/remote/logincheck", "username=alice&credential=long%20enough&ajax=1");
    assert!(new.2.starts_with("ret=6"));
    let kinds = outcomes(&bench).into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>();
    assert_eq!(kinds, [FactorOutcome::NotEchoed, FactorOutcome::AskedAgain, FactorOutcome::Accepted]);
}

#[test]
fn html_form() {
    for form_style in [FormStyle::Usual, FormStyle::Odd, FormStyle::Missing] {
        let bench = bench(alice(Factor::form("123456")));
        bench.gateway.set_scenario(Scenario { form_style, ..Scenario::default() });
        let page = bench.post("/remote/logincheck", PASSWORD);
        assert!(page.1.starts_with("HTTP/1.1 401 Authorization Required\r\n"));
        if form_style != FormStyle::Usual {
            assert_eq!(page.2.to_lowercase().contains("grpid"), form_style == FormStyle::Odd);
            continue;
        }
        let value = |name: &str| {
            let (_, rest) = page.2.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
            super::super::http::percent_encode(rest.split('"').next().unwrap())
        };
        let hidden: Vec<_> = ["magic", "username", "reqid", "grpid"]
            .iter()
            .map(|name| format!("{name}={}", value(name)))
            .collect();
        let answer = bench.post("/remote/logincheck", &format!("{}&credential=123456", hidden.join("&")));
        assert!(answer.cookie("SVPNCOOKIE").is_some());
    }
}

#[test]
fn wrong_codes_lock_out_and_questions_end() {
    let bench = bench(alice(Factor::code("1")));
    let spare = ask(&bench);
    for _ in 0..2 {
        assert!(!answer(&bench, &ask(&bench).token("code=2")));
    }
    assert!(!answer(&bench, &spare.token("code=1")), "blocked");
    let scenario = Scenario { factor_timeout: Duration::ZERO, ..Scenario::default() };
    let bench = Bench::with_users(vec![alice(Factor::code("1"))], scenario);
    assert!(!answer(&bench, &ask(&bench).token("code=1")), "too late");
}

#[test]
fn one_session_each() {
    let bench = bench(User::new("alice", "p+w"));
    bench.gateway.set_scenario(Scenario { session_limit: Some(1), ..Scenario::default() });
    let old = bench.session();
    let limit = bench.login();
    assert_eq!((limit.cookie("SVPNCOOKIE"), limit.2.as_str()), (None, "ret=1,redir=/remote/loginconfirm"));
    let temporary = format!("SVPNTMPCOOKIE={}", limit.cookie("SVPNTMPCOOKIE").unwrap());
    assert!(bench.get("/remote/loginconfirm", &temporary).2.contains("already"));
    assert_eq!(bench.get("/remote/index", &old).0, 200);
    let new = bench.get("/remote/loginconfirm?confirm=1", &temporary);
    let new = format!("SVPNCOOKIE={}", new.cookie("SVPNCOOKIE").unwrap());
    assert_eq!((bench.get("/remote/index", &old).0, bench.get("/remote/index", &new).0), (302, 200));
}
