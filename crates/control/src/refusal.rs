//! What do we tell a caller whose wish is not carried out?
//!
//! One type for every surface: a stable code for programs, a sentence for people, how to mend it. Each surface turns it into its
//! own shape in one place.

/// What kind of no it is; every surface maps this to its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value is wrong and will be wrong again.
    Invalid,
    /// We do not know who asks.
    Unknown,
    /// Who asks may not do this.
    Forbidden,
    /// It is not there, or nobody's business of who asks.
    NotFound,
    /// It does not go together with how things stand.
    Conflict,
    /// It was changed by somebody else since the caller looked.
    Changed,
    /// Too often; the same later is fine.
    TooOften,
    /// The database cannot be used at this moment.
    Unavailable,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    pub kind: Kind,
    /// Stable, for programs: `pool_in_use`.
    pub code: &'static str,
    pub sentence: String,
    pub mend: String,
    /// The field at fault, where one is.
    pub field: Option<String>,
    /// The rule of the specification behind it, where one is.
    pub rule: Option<&'static str>,
}

impl Refusal {
    #[must_use]
    pub fn new(kind: Kind, code: &'static str, sentence: impl Into<String>, mend: impl Into<String>) -> Refusal {
        Refusal { kind, code, sentence: sentence.into(), mend: mend.into(), field: None, rule: None }
    }

    #[must_use]
    pub fn invalid(field: &str, sentence: impl Into<String>, mend: impl Into<String>) -> Refusal {
        Refusal::new(Kind::Invalid, "invalid_field", sentence, mend).at(field)
    }

    #[must_use]
    pub fn not_found(what: &str, id: &str) -> Refusal {
        // What was asked for is said back in part only: it may be anything.
        let id: String = id.chars().filter(|letter| !letter.is_control()).take(80).collect();
        Refusal::new(
            Kind::NotFound,
            "not_found",
            format!("There is no {what} {id}."),
            "Check the name or id; the list shows what there is.",
        )
    }

    #[must_use]
    pub fn conflict(code: &'static str, sentence: impl Into<String>, mend: impl Into<String>) -> Refusal {
        Refusal::new(Kind::Conflict, code, sentence, mend)
    }

    #[must_use]
    pub fn forbidden(code: &'static str, sentence: impl Into<String>, mend: impl Into<String>) -> Refusal {
        Refusal::new(Kind::Forbidden, code, sentence, mend)
    }

    #[must_use]
    pub fn at(mut self, field: &str) -> Refusal {
        self.field = Some(field.to_owned());
        self
    }

    #[must_use]
    pub fn by_rule(mut self, rule: &'static str) -> Refusal {
        self.rule = Some(rule);
        self
    }
}
