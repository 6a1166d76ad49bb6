//! The short answer of a sign-in: `key=value,key=value,...`, with the gateway's words behind `chal_msg=`.

const WORDS: &str = "chal_msg=";

/// An answer that begins with `ret=`.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    fields: &'a str,
    words: &'a str,
}

impl<'a> Answer<'a> {
    /// `None` for pages and everything else that is no such answer.
    pub(super) fn parse(body: &'a str) -> Option<Self> {
        let body = body.trim_start_matches('\u{feff}').trim();
        if !body.starts_with("ret=") {
            return None;
        }
        // The words may hold commas: they are the last field, and go to the end.
        let at = body.match_indices(WORDS).map(|(at, _)| at).find(|&at| {
            let before = body.get(..at).unwrap_or_default();
            before.ends_with([',', '\r', '\n'])
        });
        let (fields, words) = match at {
            Some(at) => (body.get(..at), body.get(at + WORDS.len()..)),
            None => (Some(body), None),
        };
        Some(Self { fields: fields.unwrap_or_default(), words: words.unwrap_or_default() })
    }

    /// The value of a field, as it came.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.fields
            .split([',', '\r', '\n'])
            .filter_map(|field| field.split_once('='))
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim())
    }

    /// True if the field is there with the value 1.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.get(key) == Some("1")
    }

    /// The gateway's words, as they came.
    pub(super) fn words(&self) -> &'a str {
        self.words
    }

    /// The code of an error: a field of its own, or in the query of the redirection.
    pub(super) fn error(&self) -> Option<&'a str> {
        self.get("err").or_else(|| query_value(self.get("redir")?, "err"))
    }
}

/// A value in the query of a target, as it is there.
pub(super) fn query_value<'a>(target: &'a str, key: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key).map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let body = "ret=6,actionurl=/remote/logincheck,magic=1-12,reqid=0,grpid=1,pid=249,is_chal_rsp=1,pass_renew=1,\
                    chal_msg=a, b=c,ret=1,chal_msg=x & <b>\r\n";
        let answer = Answer::parse(body).unwrap();
        for (key, value) in [
            ("ret", Some("6")),
            ("magic", Some("1-12")),
            ("reqid", Some("0")),
            ("grpid", Some("1")),
            ("is_chal_rsp", Some("1")),
            ("b", None),
            ("chal_msg", None),
            ("agic", None),
        ] {
            assert_eq!(answer.get(key), value, "{key}");
        }
        assert_eq!(answer.words(), "a, b=c,ret=1,chal_msg=x & <b>");
        let answer = Answer::parse("\u{feff}ret=0,redir=/remote/login?&err=sslvpn_x&lang=en").unwrap();
        assert_eq!((answer.error(), answer.words()), (Some("sslvpn_x"), ""));
        assert_eq!(Answer::parse("ret=0,err=a,redir=/x?err=b").unwrap().error(), Some("a"));
        assert!(Answer::parse("ret=2,xchal_msg=1,tokeninfo=").unwrap().get("tokeninfo").is_some());
        for body in ["", "<html>ret=1", "redir=/x,ret=1", " retry"] {
            assert!(Answer::parse(body).is_none(), "{body}");
        }
    }

    #[test]
    fn any_cut_and_any_flip_is_read() {
        let whole = "ret=2,reqid=1,polid=1-1,grp=,magic=3-8,tokeninfo=ftm_push,chal_msg=a\u{fc},b";
        for at in (0..=whole.len()).filter(|&at| whole.is_char_boundary(at)) {
            if let Some(answer) = Answer::parse(&whole[..at]) {
                let _ = (answer.get("magic"), answer.words(), answer.error());
            }
        }
        for at in 0..whole.len() {
            let mut bytes = whole.as_bytes().to_vec();
            bytes[at] ^= 0x20;
            if let Some(answer) = Answer::parse(&String::from_utf8_lossy(&bytes)) {
                assert!(answer.get("reqid").is_none_or(|id| !id.contains(',')));
            }
        }
    }
}
