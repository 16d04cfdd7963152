//! How are the rule files read, and what is said when one is wrong?

use std::ops::Range;
use std::time::Duration;
use thiserror::Error;

/// What is wrong with a rule file: which line, which rule, which field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {rule}: {field}: {what}")]
pub struct RuleError {
    pub line: usize,
    /// The rule's name, or "file" when it is not known.
    pub rule: String,
    pub field: String,
    pub what: String,
}

/// The text of a rule file, to say where something is.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a>(pub &'a str);

impl Source<'_> {
    #[must_use]
    pub fn wrong(self, at: &Range<usize>, rule: &str, field: &str, what: impl Into<String>) -> RuleError {
        RuleError { line: self.line(at.start), rule: rule.to_owned(), field: field.to_owned(), what: what.into() }
    }

    /// A fault of the TOML reader, with the rule and field it happened in.
    #[must_use]
    pub fn unreadable(self, fault: &toml::de::Error) -> RuleError {
        let at = fault.span().unwrap_or(0..0);
        let head = self.0.get(..at.start).unwrap_or(self.0);
        let block = head.rfind("\n[[").map_or(0, |start| start + 1);
        let rest = self.0.get(block..).unwrap_or("");
        let end = rest.get(2..).and_then(|rest| rest.find("\n[[")).map_or(rest.len(), |end| end + 2);
        let name = rest.get(..end).unwrap_or("").lines().find_map(|line| value_of(line, "name")).unwrap_or("file");
        let line_start = head.rfind('\n').map_or(0, |end| end + 1);
        let line = self.0.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or("");
        let field = line.split('=').next().unwrap_or("").trim();
        self.wrong(&at, name, if field.is_empty() || field.starts_with('[') { "file" } else { field }, fault.message())
    }

    fn line(self, offset: usize) -> usize {
        self.0.bytes().take(offset).filter(|octet| *octet == b'\n').count() + 1
    }
}

fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let value = line.trim().strip_prefix(key)?.trim_start().strip_prefix('=')?.trim();
    value.strip_prefix('"')?.split('"').next()
}

/// "90s", "15m", "2h", "3d".
pub fn duration(text: &str) -> Result<Duration, String> {
    let says = || format!("\"{text}\" is not a time such as \"90s\", \"15m\", \"2h\" or \"3d\"");
    let unit = match text.chars().last().ok_or_else(says)? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(says()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| says())?;
    // A year is more than any of these mean; larger numbers are slips.
    let seconds = count.checked_mul(unit).filter(|seconds| (1..=366 * 86_400).contains(seconds)).ok_or_else(says)?;
    Ok(Duration::from_secs(seconds))
}
