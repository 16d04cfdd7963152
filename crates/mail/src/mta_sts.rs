//! Does a domain's MTA-STS policy (RFC 8461) let us speak to this host, and must the policy be fetched?
//!
//! Fetching, and the certificate of the policy host, are not here.

use serde::{Deserialize, Serialize};

/// RFC 8461 3.2: senders may refuse policies over 64 KiB.
pub const POLICY_OCTETS_MAX: usize = 64 * 1024;
/// RFC 8461 3.2: about a year.
pub const MAX_AGE_SECONDS_MAX: u64 = 31_557_600;
const PATTERNS_MAX: usize = 500;
const ID_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Deliver only where host and certificate fit.
    Enforce,
    /// Report, but deliver.
    Testing,
    /// The domain takes its policy back.
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    mode: Mode,
    max_age_seconds: u64,
    mx: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("the policy is larger than {POLICY_OCTETS_MAX} octets")]
    TooLarge,
    #[error("the policy does not say version: STSv1")]
    Version,
    #[error("line {0} of the policy is not of the form `key: value`")]
    Line(usize),
    #[error("the policy has no mode of enforce, testing or none")]
    Mode,
    #[error("the policy has no max_age between 0 and {MAX_AGE_SECONDS_MAX} seconds")]
    MaxAge,
    #[error("the policy names no mx host")]
    NoMx,
    #[error("the policy names more than {PATTERNS_MAX} mx hosts")]
    TooManyMx,
    #[error("`{0}` is not a host name or a pattern like *.example.com")]
    Mx(String),
}

impl Policy {
    /// RFC 8461 3.2. Unknown keys are passed over; of a key that repeats, the first counts, except `mx`.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        if text.len() > POLICY_OCTETS_MAX {
            return Err(PolicyError::TooLarge);
        }
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let (key, value) = line.split_once(':').ok_or(PolicyError::Line(index + 1))?;
            let value = value.trim();
            match key.trim() {
                "version" => _ = version.get_or_insert(value),
                "mode" => _ = mode.get_or_insert(value),
                "max_age" => _ = max_age.get_or_insert(value),
                "mx" => mx.push(pattern(value)?),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyError::Version);
        }
        let mode = match mode {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            _ => return Err(PolicyError::Mode),
        };
        let max_age_seconds = max_age
            .filter(|age| age.len() <= 10 && age.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|age| age.parse().ok())
            .filter(|age| *age <= MAX_AGE_SECONDS_MAX)
            .ok_or(PolicyError::MaxAge)?;
        if mx.is_empty() && mode != Mode::None {
            return Err(PolicyError::NoMx);
        }
        if mx.len() > PATTERNS_MAX {
            return Err(PolicyError::TooManyMx);
        }
        Ok(Policy { mode, max_age_seconds, mx })
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn max_age_seconds(&self) -> u64 {
        self.max_age_seconds
    }

    /// The hosts and patterns as the policy names them, in lower case.
    pub fn mx(&self) -> &[String] {
        &self.mx
    }

    /// RFC 8461 4.1: a `*.` stands for exactly one label, the left-most. Host names in A-label form.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            None => pattern.eq_ignore_ascii_case(host),
            Some(parent) => {
                host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && parent.eq_ignore_ascii_case(rest))
            }
        })
    }
}

/// The `id` of the record at `_mta-sts.DOMAIN`, given all TXT answers there.
///
/// RFC 8461 3.1: answers that do not begin with `v=STSv1;` are passed over, and more than one that does is no policy.
pub fn record_id<T: AsRef<str>>(answers: &[T]) -> Option<String> {
    let mut records = answers.iter().filter_map(|answer| answer.as_ref().strip_prefix("v=STSv1")).filter_map(|rest| {
        let rest = rest.trim_start_matches([' ', '\t']);
        rest.strip_prefix(';')
    });
    let (record, None) = (records.next()?, records.next()) else {
        return None;
    };
    let id = record.split(';').find_map(|field| field.trim().strip_prefix("id="))?;
    let well_formed = (1..=ID_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    well_formed.then(|| id.to_owned())
}

/// A policy as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cached {
    pub policy: Policy,
    /// The record's id at the time of the fetch.
    pub id: String,
    pub fetched_at_unix: i64,
}

impl Cached {
    pub fn fresh(&self, now_unix: i64) -> bool {
        let age = now_unix.saturating_sub(self.fetched_at_unix);
        u64::try_from(age).is_ok_and(|age| age < self.policy.max_age_seconds)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheDecision {
    /// The cached policy holds.
    Use,
    /// Fetch. Should that fail, a cached policy that is still fresh holds; without one there is no policy.
    Refetch,
    /// The domain has no policy.
    None,
}

/// What holds, given what is cached and the id in today's record; `None` when there is no valid record or DNS did not
/// answer, which takes a policy that is still fresh out of force no more than a fault would (RFC 8461 5.1).
pub fn decide(cached: Option<&Cached>, record_id: Option<&str>, now_unix: i64) -> CacheDecision {
    match (cached.filter(|cached| cached.fresh(now_unix)), record_id) {
        (Some(cached), Some(id)) if cached.id != id => CacheDecision::Refetch,
        (Some(_), _) => CacheDecision::Use,
        (None, Some(_)) => CacheDecision::Refetch,
        (None, None) => CacheDecision::None,
    }
}

fn pattern(value: &str) -> Result<String, PolicyError> {
    let host = value.strip_prefix("*.").unwrap_or(value);
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(PolicyError::Mx(value.chars().take(80).collect()));
    }
    Ok(value.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const POLICY: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net\r\nmax_age: 604800\r\nnew: x\r\n";

    // R5.1
    #[test]
    fn the_policy_of_rfc_8461_is_read() {
        for text in [POLICY.to_owned(), POLICY.replace("\r\n", "\n"), POLICY.replace(": ", ":")] {
            let policy = Policy::parse(&text).unwrap();
            assert_eq!(policy.mode(), Mode::Enforce);
            assert_eq!(policy.max_age_seconds(), 604_800);
            assert_eq!(policy.mx(), ["mail.example.com", "*.example.net"]);
        }
    }

    #[test]
    fn a_pattern_covers_exactly_one_label() {
        let policy = Policy::parse(POLICY).unwrap();
        let check = |host, expected| assert_eq!(policy.covers(host), expected, "{host}");
        check("mail.example.com", true);
        check("MAIL.example.com.", true);
        check("mx1.example.net", true);
        check("a.mx1.example.net", false);
        check("example.net", false);
        check(".example.net", false);
        check("mail.example.com.evil.org", false);
        check("xmail.example.com", false);
    }

    #[test]
    fn a_broken_policy_is_refused_with_its_reason() {
        let check = |text: &str, expected| assert_eq!(Policy::parse(text), Err(expected), "{text}");
        check("", PolicyError::Version);
        check("mode: none\nmax_age: 1", PolicyError::Version);
        check("version: STSv1\nnonsense", PolicyError::Line(2));
        check("version: STSv1\nmode: strict\nmax_age: 1", PolicyError::Mode);
        check("version: STSv1\nmode: enforce\nmax_age: 1", PolicyError::NoMx);
        check("version: STSv1\nmode: testing\nmx: a.b\nmax_age: -1", PolicyError::MaxAge);
        check("version: STSv1\nmode: testing\nmx: a.b\nmax_age: 31557601", PolicyError::MaxAge);
        check("version: STSv1\nmode: testing\nmx: a.b", PolicyError::MaxAge);
        check("version: STSv1\nmode: testing\nmx: a.*.b\nmax_age: 1", PolicyError::Mx("a.*.b".into()));
        check("version: STSv1\nmode: testing\nmx: *.\nmax_age: 1", PolicyError::Mx("*.".into()));
        check(&"x".repeat(POLICY_OCTETS_MAX + 1), PolicyError::TooLarge);
        assert!(Policy::parse("version: STSv1\nmode: none\nmax_age: 0").is_ok());
    }

    #[test]
    fn the_record_id_is_read() {
        let check = |answers: &[&str], expected: Option<&str>| {
            assert_eq!(record_id(answers).as_deref(), expected, "{answers:?}");
        };
        check(&["v=STSv1; id=20160831085700Z;"], Some("20160831085700Z"));
        check(&["v=STSv1;id=1"], Some("1"));
        check(&["v=spf1 -all", "v=STSv1; ext=1; id=2"], Some("2"));
        check(&["v=STSv1; id=1", "v=STSv1; id=2"], None);
        check(&["v=STSv2; id=1"], None);
        check(&["v=STSv1 id=1"], None);
        check(&["v=STSv1; id="], None);
        check(&["v=STSv1; id=a-b"], None);
        check(&["v=STSv1; id=012345678901234567890123456789012"], None);
        check(&[], None);
    }

    // R5.1
    #[test]
    fn a_fresh_policy_outlives_its_record() {
        let policy = Policy::parse("version: STSv1\nmode: enforce\nmx: a.b\nmax_age: 100").unwrap();
        let cached = Cached { policy, id: "1".into(), fetched_at_unix: 1_000 };
        let check = |cached, id, now, expected| {
            assert_eq!(decide(cached, id, now), expected, "{id:?} at {now}");
        };
        check(Some(&cached), Some("1"), 1_099, CacheDecision::Use);
        check(Some(&cached), None, 1_099, CacheDecision::Use);
        check(Some(&cached), Some("2"), 1_099, CacheDecision::Refetch);
        check(Some(&cached), Some("1"), 1_100, CacheDecision::Refetch);
        check(Some(&cached), None, 1_100, CacheDecision::None);
        check(None, Some("1"), 1_000, CacheDecision::Refetch);
        check(None, None, 1_000, CacheDecision::None);
        // A clock that went back does not make a policy eternal.
        check(Some(&cached), Some("1"), 999, CacheDecision::Refetch);
    }
}
