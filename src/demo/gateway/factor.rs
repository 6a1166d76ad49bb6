//! Second factors: what the gateway asks for after the password.

use std::time::Duration;

/// What an answer to a second factor is, in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A token code (`ret=2`).
    Code,
    /// Approval on a phone (`ret=2` with `tokeninfo=ftm_push` or `remote_token_auth`).
    Push,
    /// A code sent by e-mail (`ret=3`).
    Email,
    /// A code sent by SMS (`ret=4`).
    Sms,
    /// This code and the next one, because the token's clock drifts (`ret=5`).
    Drift,
    /// A question of a RADIUS server or directory (`ret=6`).
    Challenge,
    /// A new password (`ret=6` with `pass_renew=1`).
    Renewal,
    /// The HTML form (401).
    Form,
}

/// What the person with the phone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Taps "approve".
    Approve,
    /// Taps "deny".
    Deny,
    /// Does not see it; the gateway gives up after `Scenario::push_timeout`.
    Never,
}

#[derive(Clone, Copy)]
pub(super) struct Push {
    pub decision: Decision,
    pub after: Duration,
    pub remote: bool,
}

/// One second factor of an account. A user may have several, asked one after the other.
#[derive(Clone)]
pub struct Factor {
    pub(super) step: Step,
    /// The right answers.
    pub(super) answers: Vec<String>,
    /// Each of them is good once.
    pub(super) once: bool,
    /// Where a code was sent to.
    pub(super) sent_to: String,
    pub(super) prompt: Option<String>,
    pub(super) push: Option<Push>,
    pub(super) tries: u32,
    pub(super) skippable: bool,
}

impl Factor {
    fn new(step: Step, answers: &[&str]) -> Self {
        Self {
            step,
            answers: answers.iter().map(|&answer| answer.to_owned()).collect(),
            once: false,
            sent_to: String::new(),
            prompt: None,
            push: None,
            tries: 1,
            skippable: false,
        }
    }

    /// A token with this code.
    pub fn code(code: &str) -> Self {
        Self::new(Step::Code, &[code])
    }

    /// A token whose codes are good once each.
    pub fn codes(codes: &[&str]) -> Self {
        Self { once: true, ..Self::new(Step::Code, codes) }
    }

    /// A push to a phone that is decided so long after it was asked for; [`Self::or_code`] allows a code too.
    pub fn push(decision: Decision, after: Duration) -> Self {
        Self { push: Some(Push { decision, after, remote: false }), ..Self::new(Step::Push, &[]) }
    }

    /// As [`Self::push`], by a remote server: `tokeninfo=remote_token_auth`, asked for by `ftmpush=0`.
    pub fn remote_push(decision: Decision, after: Duration) -> Self {
        Self { push: Some(Push { decision, after, remote: true }), ..Self::new(Step::Push, &[]) }
    }

    /// A code that was e-mailed to `address`.
    pub fn email(address: &str, code: &str) -> Self {
        Self { sent_to: address.to_owned(), ..Self::new(Step::Email, &[code]) }
    }

    /// A code that was sent to a telephone number.
    pub fn sms(number: &str, code: &str) -> Self {
        Self { sent_to: number.to_owned(), ..Self::new(Step::Sms, &[code]) }
    }

    /// Two codes that follow each other.
    pub fn drift(code: &str, next: &str) -> Self {
        Self::new(Step::Drift, &[code, next])
    }

    /// A question.
    pub fn challenge(answer: &str) -> Self {
        Self::new(Step::Challenge, &[answer])
    }

    /// A new password is wanted, of eight characters or more; it replaces the old one while the gateway lives.
    pub fn renewal() -> Self {
        Self { tries: u32::MAX, ..Self::new(Step::Renewal, &[]) }
    }

    /// A code in an HTML form.
    pub fn form(code: &str) -> Self {
        Self::new(Step::Form, &[code])
    }

    /// The words of the question (`chal_msg`), verbatim.
    pub fn prompted(mut self, words: &str) -> Self {
        self.prompt = Some(words.to_owned());
        self
    }

    /// A code is good in place of the push.
    pub fn or_code(mut self, code: &str) -> Self {
        self.answers.push(code.to_owned());
        self
    }

    /// So many answers may be wrong before the login is denied, the last of them included.
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// The new password may be refused (`allow_cancel=1`).
    pub fn skippable(mut self) -> Self {
        self.skippable = true;
        self
    }

    pub(super) fn words(&self) -> &str {
        let usual = match self.step {
            Step::Code | Step::Push | Step::Form => "Please enter your token code",
            Step::Email | Step::Sms => "Please enter the code that was sent to you",
            Step::Drift => "Please enter this token code and the next one",
            Step::Challenge => "Enter your answer",
            Step::Renewal if self.skippable => {
                "Your password will expire in 3 days. Would you like to change it?"
            }
            Step::Renewal => "Your password has expired. Please enter a new one.",
        };
        self.prompt.as_deref().unwrap_or(usual)
    }
}

impl std::fmt::Debug for Factor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Factor").field("step", &self.step).finish_non_exhaustive()
    }
}
