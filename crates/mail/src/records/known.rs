//! What is known of the DNS so far, and what has to be asked?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

/// However a stranger's records refer to each other, no more is asked about one wanted record.
const QUESTIONS_MAX: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    Txt,
    Mx,
    Cname,
    /// A and AAAA.
    #[serde(rename = "A")]
    Addresses,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Txt => "TXT",
            Kind::Mx => "MX",
            Kind::Cname => "CNAME",
            Kind::Addresses => "A or AAAA",
        })
    }
}

/// In lower case, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    pub kind: Kind,
    pub name: String,
}

/// What the DNS says. Names in it in lower case, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Each record with its character-strings joined.
    Texts(Vec<String>),
    /// Preference and host; a null MX is one host with an empty name.
    Hosts(Vec<(u16, String)>),
    Target(String),
    Addresses(Vec<IpAddr>),
    /// The name exists, without such a record.
    NoData,
    NoSuchName,
    /// Nothing can be said now; in words.
    Later(String),
}

#[derive(Clone, Debug, Default)]
pub struct Known {
    answers: BTreeMap<Question, Answer>,
    open: BTreeSet<Question>,
}

impl Known {
    pub fn new() -> Known {
        Known::default()
    }

    pub fn tell(&mut self, question: Question, answer: Answer) {
        self.open.remove(&question);
        self.answers.insert(question, answer);
    }

    /// `None` when it has to be asked first, which is written down. A judge goes on as far as it can without the answer,
    /// so that many questions are asked at once.
    pub(super) fn ask(&mut self, kind: Kind, name: &str) -> Option<Answer> {
        let question = Question { kind, name: canonical(name) };
        if let Some(answer) = self.answers.get(&question) {
            return Some(answer.clone());
        }
        if !is_askable(&question.name) {
            return Some(Answer::NoSuchName);
        }
        if self.answers.len() + self.open.len() >= QUESTIONS_MAX && !self.open.contains(&question) {
            return Some(Answer::Later(format!("more than {QUESTIONS_MAX} look-ups would be needed")));
        }
        self.open.insert(question);
        None
    }

    pub(super) fn take_open(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.open).into_iter().collect()
    }
}

pub(super) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// RFC 1035 2.3.4. What cannot be a name cannot exist.
fn is_askable(name: &str) -> bool {
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_graphic());
    name.len() <= 253 && name.split('.').all(label)
}
