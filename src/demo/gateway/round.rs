//! What a question is asked with, so that the answer can be checked against it.

use std::time::Duration;

use super::factor::Step;
use super::http::field;

/// A question that waits for its answer.
pub struct Round {
    /// Who is asked (index of the account).
    pub user: usize,
    /// Which of the user's factors.
    pub number: usize,
    /// How often it was asked, this time included.
    pub asked: u32,
    /// Since when.
    pub since: Duration,
    pub reqid: String,
    pub polid: String,
    pub grp: String,
    pub magic: String,
    pub grpid: String,
    pub pid: String,
    pub peer: String,
}

impl Round {
    /// A question with values that nobody can guess.
    pub fn new(user: usize, number: usize, peer: Option<&str>, now: Duration, random: [u8; 24]) -> Self {
        let (words, _) = random.as_chunks::<4>();
        let word = |at: usize| words.get(at).map_or(0, |word| u32::from_be_bytes(*word));
        let magic = format!("1-{:08x}", word(0));
        Self {
            user,
            number,
            asked: 1,
            since: now,
            // Nine digits and never 0.
            reqid: (100_000_000 + word(1) % 900_000_000).to_string(),
            polid: format!("1-{}-{:08x}", word(2) % 10, word(0)),
            grp: format!("grp{:04x}", word(3) & 0xffff),
            magic,
            grpid: (word(4) % 1000).to_string(),
            pid: (word(5) % 1000).to_string(),
            peer: peer.unwrap_or_default().to_owned(),
        }
    }

    /// The form of a challenge's `grpid` in the answer.
    pub fn joined_grpid(&self) -> String {
        format!("{},{},1", self.grpid, self.pid)
    }

    /// Whether an answer to `step` brings back what the question came with, in the way of the login page's script
    /// or, for tokens, in the way of openconnect and openfortivpn.
    pub fn is_echoed(&self, form: &[(String, String)], step: Step) -> bool {
        // The script joins the policy to the request: `reqid=<reqid>,<polid>`.
        let (reqid, joined) = field(form, "reqid").split_once(',').unwrap_or((field(form, "reqid"), ""));
        let given = |key, value: &str| field(form, key) == value;
        let magic = given("magic", &self.magic);
        reqid == self.reqid
            && match step {
                Step::Form => magic && given("grpid", &self.joined_grpid()),
                Step::Challenge | Step::Renewal => {
                    magic && given("grpid", &self.joined_grpid()) && given("peer", &self.peer)
                }
                Step::Code | Step::Push | Step::Email | Step::Sms | Step::Drift => {
                    let pushes = step == Step::Push && !field(form, "ftmpush").is_empty();
                    let policy = given("polid", &self.polid) && (joined.is_empty() || joined == self.polid);
                    policy
                        && given("grp", &self.grp)
                        && given("peer", &self.peer)
                        && (magic || pushes && given("magic", ""))
                }
            }
    }
}
