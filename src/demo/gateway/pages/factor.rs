//! The rounds after the password: questions, and the answers to them.

use std::time::Duration;

use super::super::factor::{Decision, Factor, Push, Step};
use super::super::http::{Response, field, percent_encode};
use super::super::journal::{Event, FactorOutcome, LoginOutcome};
use super::super::round::Round;
use super::super::scenario::FormStyle;
use super::Page;

/// Shorter passwords are refused.
const MIN_PASSWORD: usize = 8;
const TICK: Duration = Duration::from_millis(10);

type Form = [(String, String)];

/// What an answer was worth.
enum Verdict {
    Right,
    Skipped,
    Wrong(FactorOutcome),
}

impl Page<'_> {
    /// Asks the user's factor `number`, or grants when there is none left.
    pub(super) fn next_factor(&self, user: usize, number: usize, ajax: bool) -> Response {
        let Some(account) = self.shared.users.get(user) else { return self.denied() };
        let Some(factor) = account.factors.get(number) else {
            self.note_login(&account.name, &account.realm, LoginOutcome::Granted);
            return self.grant(&account.name, &account.realm, "1", ajax);
        };
        if number == 0 {
            self.note_login(&account.name, &account.realm, LoginOutcome::Asked);
        }
        self.ask(Round::new(user, number, self.peer, self.shared.now(), self.shared.random()), factor, None)
    }

    /// Asks; `words` are said in place of the usual ones.
    fn ask(&self, round: Round, factor: &Factor, words: Option<&str>) -> Response {
        let words = words.unwrap_or(factor.words());
        let Round { reqid, polid, grp, magic, peer, grpid, pid, .. } = &round;
        let response = if factor.step == Step::Form {
            self.html_form(&round, words)
        } else {
            let token = |ret: u8, info: &str| {
                format!(
                    "ret={ret},reqid={reqid},polid={polid},grp={grp},portal=,peer={peer},magic={magic},\
                     tokeninfo={info},chal_msg={words}"
                )
            };
            let challenge = |more: &str| {
                let peer = if peer.is_empty() { String::new() } else { format!("peer={peer},") };
                format!(
                    "ret=6,actionurl=/remote/logincheck,magic={magic},reqid={reqid},portal=,grpid={grpid},\
                     pid={pid},is_chal_rsp=1,{peer}{more}chal_msg={words}"
                )
            };
            let body = match (factor.step, factor.push) {
                (Step::Push, Some(Push { remote: true, .. })) => token(2, "remote_token_auth"),
                (Step::Push, _) => token(2, "ftm_push"),
                (Step::Email, _) => token(3, &percent_encode(&factor.sent_to)),
                (Step::Sms, _) => token(4, &percent_encode(&factor.sent_to)),
                (Step::Drift, _) => token(5, ""),
                (Step::Challenge, _) => challenge(""),
                (Step::Renewal, _) if factor.skippable => challenge("pass_renew=1,allow_cancel=1,"),
                (Step::Renewal, _) => challenge("pass_renew=1,"),
                (Step::Code | Step::Form, _) => token(2, ""),
            };
            Response::new(200, "text/plain", body)
        };
        self.shared.sessions().ask(round);
        response
    }

    fn html_form(&self, round: &Round, words: &str) -> Response {
        let user = self.shared.users.get(round.user).map_or("", |user| user.name.as_str());
        let Round { reqid, magic, .. } = round;
        let grpid = round.joined_grpid();
        let body = match self.scenario.form_style {
            FormStyle::Usual => format!(
                "<html><body><form action=\"/remote/logincheck\" method=\"POST\"><b>{words}</b>\
                 <input type=\"hidden\" name=\"magic\" value=\"{magic}\">\
                 <input type=\"hidden\" name=\"username\" value=\"{user}\">\
                 <input type=\"hidden\" name=\"reqid\" value=\"{reqid}\">\
                 <input type=\"hidden\" name=\"grpid\" value=\"{grpid}\">\
                 <input type=\"password\" name=\"credential\">\
                 <input class=\"button\" type=\"submit\" value=\"OK\"></form></body></html>"
            ),
            FormStyle::Odd => format!(
                "<HTML><body><!-- <form action='/wrong'> --><p>&amp;</p><FORM METHOD='post'\n ACTION = '/remote/logincheck'>\
                 <b>{words}</b><INPUT value='{magic}' name=magic TYPE=hidden />\
                 <input name='username' value=\"{user}\" type=text style=\"display: none;\">\
                 <input\tname=\"reqid\" type='hidden' value={reqid}><input data-x='a>b' value='{grpid}' type=\"hidden\" name='grpid'/>\
                 <input autocomplete=off name=credential type=password></FORM></body></HTML>"
            ),
            FormStyle::Missing => format!("<html><body><b>{words}</b></body></html>"),
        };
        Response::html(401, body)
    }

    /// An answer: right, wrong, or not what was asked for.
    pub(super) fn second_round(&self, form: &Form, ajax: bool) -> Response {
        let now = self.shared.now();
        let round = self.shared.sessions().answered(now, self.scenario, self.source, field(form, "reqid"));
        let Some(round) = round else {
            self.note(Event::Violation("an answer to nothing that was asked"));
            return self.denied();
        };
        let found = self.shared.users.get(round.user);
        let Some((account, factor)) = found.and_then(|user| Some((user, user.factors.get(round.number)?)))
        else {
            return self.denied();
        };
        let note = |outcome| {
            let user = account.name.clone();
            self.note(Event::SecondFactor { user, step: factor.step, outcome });
        };
        let echoed = round.is_echoed(form, factor.step) && field(form, "username") == account.name;
        let verdict = if !echoed {
            self.note(Event::Violation("an answer without what the question came with"));
            Verdict::Wrong(FactorOutcome::NotEchoed)
        } else if field(form, "realm") != account.realm {
            self.note(Event::Violation("an answer without the realm"));
            Verdict::Wrong(FactorOutcome::NotEchoed)
        } else {
            self.judge(&round, factor, form)
        };
        match verdict {
            Verdict::Right => note(FactorOutcome::Accepted),
            Verdict::Skipped => note(FactorOutcome::Skipped),
            Verdict::Wrong(FactorOutcome::Refused) if round.asked < factor.tries => {
                note(FactorOutcome::AskedAgain);
                let words = (factor.step == Step::Renewal).then_some(
                    "The new password does not conform to the policy: at least 8 characters, not the old one",
                );
                let again = Round::new(round.user, round.number, self.peer, now, self.shared.random());
                return self.ask(Round { asked: round.asked + 1, ..again }, factor, words);
            }
            Verdict::Wrong(outcome) => {
                note(outcome);
                self.shared.sessions().strike(now, self.scenario, self.source);
                self.note_login(&account.name, &account.realm, LoginOutcome::Denied);
                return self.denied();
            }
        }
        self.next_factor(round.user, round.number + 1, ajax)
    }

    fn judge(&self, round: &Round, factor: &Factor, form: &Form) -> Verdict {
        let right = |is_right| if is_right { Verdict::Right } else { Verdict::Wrong(FactorOutcome::Refused) };
        let is_password =
            |word: &str| self.shared.sessions().password_of(&self.shared.users, round.user) == word;
        match factor.step {
            Step::Push if !field(form, "ftmpush").is_empty() => {
                self.wait_for_push(factor, field(form, "ftmpush"))
            }
            Step::Drift => {
                let given = [field(form, "code"), field(form, "code2")];
                right(factor.answers == given)
            }
            Step::Challenge if !is_password(field(form, "credential")) => {
                self.note(Event::Violation("an answer without the password"));
                Verdict::Wrong(FactorOutcome::NotEchoed)
            }
            Step::Challenge => right(factor.answers.iter().any(|a| a == field(form, "credential2"))),
            Step::Renewal if field(form, "skip") == "1" => {
                if factor.skippable && is_password(field(form, "credential")) {
                    Verdict::Skipped
                } else {
                    Verdict::Wrong(FactorOutcome::NotEchoed)
                }
            }
            Step::Renewal => {
                let new = field(form, "credential");
                let good = new.chars().count() >= MIN_PASSWORD && !is_password(new);
                if good {
                    self.shared.sessions().set_password(round.user, new.to_owned());
                }
                right(good)
            }
            Step::Form => right(self.is_code(round, factor, field(form, "credential"))),
            Step::Code | Step::Push | Step::Email | Step::Sms => {
                right(self.is_code(round, factor, field(form, "code")))
            }
        }
    }

    fn is_code(&self, round: &Round, factor: &Factor, code: &str) -> bool {
        let known = factor.answers.iter().any(|answer| answer == code);
        known && (!factor.once || self.shared.sessions().use_code(round.user, code))
    }

    /// Blocks until the person has decided, or the gateway has had enough of it.
    fn wait_for_push(&self, factor: &Factor, asked: &str) -> Verdict {
        let Some(push) = factor.push else { return Verdict::Wrong(FactorOutcome::Refused) };
        if asked != if push.remote { "0" } else { "1" } {
            self.note(Event::Violation("a push asked for in the wrong way"));
            return Verdict::Wrong(FactorOutcome::NotEchoed);
        }
        let never = push.decision == Decision::Never || push.after >= self.scenario.push_timeout;
        let wait = if never { self.scenario.push_timeout } else { push.after };
        let until = self.shared.now() + wait;
        while self.shared.now() < until && !self.life.is_over() {
            std::thread::sleep(TICK);
        }
        match push.decision {
            _ if never => Verdict::Wrong(FactorOutcome::TimedOut),
            Decision::Approve => Verdict::Right,
            _ => Verdict::Wrong(FactorOutcome::PushDenied),
        }
    }
}
