//! What only a person knows: a password, a one-time code, the answer to a challenge.

use std::fmt;

use crate::crypto::Secret;

/// A question of the gateway, or of ours about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names it in the answer; no other question of the session has the same.
    pub id: u32,
    /// What is wanted.
    pub kind: QuestionKind,
    /// The gateway's own words, one line without control characters; often empty.
    pub text: String,
    /// Where the gateway sent a code, as it says: `a***@corp.example`.
    pub sent_to: Option<String>,
    /// An answer to the same question was refused before.
    pub again: bool,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// The password of the account.
    Password,
    /// A code of a token (`ret=2`), or of the form of a page (status 401).
    Code {
        /// A confirmation on the phone would do as well: [`Answer::Push`].
        push: bool,
    },
    /// A code that came by e-mail (`ret=3`).
    EmailCode,
    /// A code that came by SMS (`ret=4`).
    SmsCode,
    /// Two codes of a token in a row (`ret=5`): [`Answer::TwoCodes`].
    TwoCodes,
    /// Whatever the authentication server asks (`ret=6`).
    Challenge,
    /// A new password (`ret=6` with `pass_renew`).
    NewPassword {
        /// The old one may stay: [`Answer::Skip`].
        may_skip: bool,
    },
}

impl QuestionKind {
    /// True if one one-time code is an answer, so that a program may give it.
    pub fn is_code(self) -> bool {
        matches!(self, Self::Code { .. } | Self::EmailCode | Self::SmsCode | Self::Challenge)
    }
}

/// What a person says to a [`Question`].
#[derive(Clone)]
pub enum Answer {
    /// A password, a code, an answer.
    Text(Secret),
    /// This code and the one after it.
    TwoCodes(Secret, Secret),
    /// Confirm on the phone.
    Push,
    /// Leave the password as it is.
    Skip,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text([redacted])",
            Self::TwoCodes(..) => "TwoCodes([redacted])",
            Self::Push => "Push",
            Self::Skip => "Skip",
        })
    }
}
