//! What do we tell a submitter whose message we do not take?
//!
//! One type for every surface: a stable code for programs, a sentence for people, how to mend it, and whether trying again
//! helps. Each surface turns it into its own shape in one place; for SMTP that place is here.

use mail::reply::Reply;
use std::time::Duration;

/// What kind of no it is; every surface maps this to its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The submission itself is wrong and will be wrong again.
    Invalid,
    /// The message is larger than we take.
    TooLarge,
    /// Who submits may not do this.
    Forbidden,
    /// We do not know who submits.
    Unknown,
    /// A key or password that is none of ours: a mistake, or a guess.
    WrongSecret,
    /// What it names is not there.
    NotFound,
    /// Too much at once; the same again later is fine.
    Busy,
    /// We cannot keep it safe right now.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    /// Stable, for programs: `sender_not_verified`.
    pub code: &'static str,
    pub enhanced: (u8, u16, u16),
    pub sentence: String,
    pub mend: String,
    /// The field of the submission that is at fault, where one is.
    pub field: Option<String>,
    /// How long to wait before the same is worth trying again, where that is known.
    pub wait: Option<Duration>,
}

impl Refusal {
    #[must_use]
    pub fn new(
        kind: Kind,
        code: &'static str,
        enhanced: (u8, u16, u16),
        sentence: impl Into<String>,
        mend: impl Into<String>,
    ) -> Refusal {
        Refusal { kind, code, enhanced, sentence: sentence.into(), mend: mend.into(), field: None, wait: None }
    }

    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Refusal {
        self.field = Some(field.into());
        self
    }

    /// Whether the same submission may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Busy | Kind::Unavailable)
    }

    #[must_use]
    pub fn to_reply(&self) -> Reply {
        let code = match self.kind {
            Kind::Busy | Kind::Unavailable => match self.enhanced {
                (_, 3, 1) => 452,
                (_, 7, _) => 454,
                _ => 451,
            },
            Kind::TooLarge => 552,
            Kind::Unknown | Kind::WrongSecret => 535,
            Kind::Invalid => 554,
            Kind::Forbidden | Kind::NotFound => 550,
        };
        let text =
            if self.mend.is_empty() { self.sentence.clone() } else { format!("{} {}", self.sentence, self.mend) };
        Reply::new(code, self.enhanced, text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Refusal};

    #[test]
    fn what_passes_is_a_4xx_and_what_stays_is_a_5xx() {
        let full = Refusal::new(Kind::Unavailable, "spool_full", (4, 3, 1), "There is no room.", "Try again later.");
        assert_eq!(full.to_reply().code, 452);
        assert!(full.is_passing());
        let sender = Refusal::new(Kind::Forbidden, "sender_not_verified", (5, 7, 1), "No.", "");
        assert_eq!(sender.to_reply().code, 550);
        assert!(!sender.is_passing());
    }
}
