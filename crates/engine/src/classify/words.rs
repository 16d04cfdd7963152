//! What does a reading come to, in sentences for people?

use super::{Reaction, ReactionKind, Reading, Scope};
use mail::reply::Reply;
use std::time::Duration;

impl Reading<'_> {
    /// What follows when a message is answered this at its first attempt: of the message first, then of whatever else.
    #[must_use]
    pub fn words(&self, reply: &Reply) -> Vec<String> {
        let alarm = self.alert.then(|| "The operator is told.".to_owned());
        let reactions = self.reactions.iter().map(Reaction::words);
        std::iter::once(self.of_message(reply)).chain(reactions).chain(alarm).collect()
    }

    fn of_message(&self, reply: &Reply) -> String {
        if self.is_final(reply, 1) {
            return "The message bounces.".to_owned();
        }
        let when = self.retry_in.map_or_else(|| "by its schedule".to_owned(), |wait| format!("in {}", time(wait)));
        match self.tries_max {
            None => format!("The message is tried again {when}."),
            Some(max) => format!("The message is tried again {when}, and bounces after {max} attempts."),
        }
    }
}

impl Reaction {
    fn words(&self) -> String {
        let mail = match self.scope {
            Scope::Lane => "mail from this IP to this provider",
            Scope::Netblock => "mail from all IPs of its network to this provider",
            Scope::SenderDomain => "mail of the sending domain to this provider",
            Scope::Stream => "mail of the stream to this provider",
        };
        let what = match self.kind {
            ReactionKind::Slow { per_minute: None, lasts } => format!("goes at half its pace for {}", time(lasts)),
            ReactionKind::Slow { per_minute: Some(rate), lasts } => {
                format!("goes at half its pace, and at most {rate} a minute, for {}", time(lasts))
            }
            ReactionKind::Connections { max, lasts } => {
                format!("has at most {} for {}", counted(max, "connection"), time(lasts))
            }
            ReactionKind::PerConnection { max, lasts } => {
                format!("has at most {} a connection for {}", counted(max, "message"), time(lasts))
            }
            ReactionKind::Suspend { lasts: Some(lasts) } => format!("waits for {}", time(lasts)),
            ReactionKind::Suspend { lasts: None } => "waits until an operator resumes it".to_owned(),
        };
        let words = match self.after {
            1 => format!("{mail} {what}."),
            nth => format!("from answer {nth} of this kind within {} on, {mail} {what}.", time(self.within)),
        };
        let (first, rest) = words.split_at(1);
        first.to_uppercase() + rest
    }
}

/// In the largest unit that fits evenly.
fn time(lasts: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let seconds = lasts.as_secs();
    let (unit, name) =
        UNITS.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit)).unwrap_or((1, "second"));
    counted(seconds / unit, name)
}

fn counted(count: impl Into<u64>, name: &str) -> String {
    match count.into() {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failing unwrap is a failing test
    use super::*;
    use crate::classify::Rules;

    fn told(code: u16, rule: &str) -> Vec<String> {
        let head = "[[rule]]\nname = \"a\"\nclass = \"block\"\nsubtype = \"policy\"\ntext = 'x'\n";
        let rules = Rules::parse(&format!("{head}{rule}")).unwrap();
        let reply = Reply::plain(code, "x");
        rules.classify("google", &reply).words(&reply)
    }

    #[test]
    fn every_reaction_is_a_sentence() {
        assert_eq!(told(550, ""), ["The message bounces."]);
        assert_eq!(told(450, "alert = true"), ["The message is tried again by its schedule.", "The operator is told."]);
        let tries = "message = \"retry\"\nretry_in = \"90m\"\ntries_max = 3";
        assert_eq!(told(550, tries), ["The message is tried again in 90 minutes, and bounces after 3 attempts."]);
        let cases = [
            ("slow = \"half\", for = \"1h\"", "Mail from this IP to this provider goes at half its pace for 1 hour."),
            (
                "slow = \"10/min\", scope = \"netblock\", for = \"90s\"",
                "Mail from all IPs of its network to this provider goes at half its pace, and at most 10 a minute, for 90 seconds.",
            ),
            (
                "connections = 1, for = \"2d\"",
                "Mail from this IP to this provider has at most 1 connection for 2 days.",
            ),
            (
                "per_connection = 2, for = \"30m\"",
                "Mail from this IP to this provider has at most 2 messages a connection for 30 minutes.",
            ),
            (
                "suspend = \"4h\", scope = \"sender-domain\"",
                "Mail of the sending domain to this provider waits for 4 hours.",
            ),
            (
                "suspend = \"released\", scope = \"stream\", after = 2, within = \"2h\"",
                "From answer 2 of this kind within 2 hours on, mail of the stream to this provider waits until an operator resumes it.",
            ),
        ];
        for (reaction, sentence) in cases {
            assert_eq!(told(450, &format!("then = [{{ {reaction} }}]"))[1..], [sentence]);
        }
    }
}
