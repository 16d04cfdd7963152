//! What was really sent? A file says it, day by day and provider by provider.
//!
//! Two forms: a table with commas between (`day,provider,recipients`), and what `weir stats --by provider --resolution day --json` and
//! `GET /api/v1/statistics` answer. Of the latter everything counts that went to a provider and met its end there; what was accepted
//! has no provider yet, and tries that are repeated are not recipients.

use engine::time::Timestamp;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

const DAY_MICROS: i64 = 86_400_000_000;
/// Two years, one of them a leap year.
pub const DAYS_MAX: usize = 731;
/// To one provider in a day: more is a slip.
const RECIPIENTS_MAX: u64 = 1_000_000_000;
const COLUMNS: [&str; 3] = ["day", "provider", "recipients"];
/// So many of the last whole weeks are repeated where more days are asked for: a month tells more than a week that had a holiday.
const WEEKS_REPEATED: usize = 4;

/// Recipients that were written to, from the first day of the file to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    first: Timestamp,
    days: usize,
    /// Each as long as there are days.
    providers: BTreeMap<Arc<str>, Vec<u64>>,
    /// Days in between that the file does not have, counted from the first one.
    holes: Vec<usize>,
}

/// What is wrong with the file, and how it is mended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {what}")]
pub struct HistoryError {
    place: Place,
    what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    File,
    Line(usize),
    /// Of an answer that is written without lines, counted from 1.
    Item(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File => f.write_str("file"),
            Place::Line(line) => write!(f, "line {line}"),
            Place::Item(item) => write!(f, "item {item}"),
        }
    }
}

impl Place {
    fn wrong(self, what: impl Into<String>) -> HistoryError {
        HistoryError { place: self, what: what.into() }
    }
}

impl History {
    /// Reads a file in which no other providers than these may stand.
    pub fn parse(text: &str, providers: &BTreeSet<Arc<str>>) -> Result<History, HistoryError> {
        let text = text.trim_start_matches('\u{feff}');
        let mut rows = Rows { providers, sums: BTreeMap::new() };
        if text.trim_start().starts_with(['{', '[']) {
            rows.read_answer(text)?;
        } else {
            rows.read_table(text)?;
        }
        rows.history()
    }

    /// The beginning of its first day.
    #[must_use]
    pub fn first(&self) -> Timestamp {
        self.first
    }

    /// From the first to the last, those without mail included.
    #[must_use]
    pub fn days(&self) -> usize {
        self.days
    }

    /// Days in between of which the file says nothing, as they are written.
    pub fn holes(&self) -> impl Iterator<Item = String> {
        self.holes.iter().map(|day| written(self.first.0.div_euclid(DAY_MICROS) + i64::try_from(*day).unwrap_or(0)))
    }

    pub fn providers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.providers.keys()
    }

    /// So many days of a provider: those of the file, and after its end its last whole weeks again and again, so that a Monday stays
    /// one. What is shorter than a week is repeated as it is.
    #[must_use]
    pub fn of(&self, provider: &str, days: usize) -> Arc<[u64]> {
        let Some(known) = self.providers.get(provider) else { return vec![0; days].into() };
        let repeated = match (self.days / 7).min(WEEKS_REPEATED) {
            0 => self.days,
            weeks => weeks * 7,
        };
        let again = known[self.days - repeated..].iter().cycle();
        known.iter().chain(again).take(days).copied().collect()
    }
}

/// What was read so far.
struct Rows<'a> {
    providers: &'a BTreeSet<Arc<str>>,
    /// By the day's number since 1970 and the provider.
    sums: BTreeMap<(i64, Arc<str>), u64>,
}

impl Rows<'_> {
    fn read_table(&mut self, text: &str) -> Result<(), HistoryError> {
        let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let (number, head) = lines.next().ok_or_else(|| Place::File.wrong(nothing()))?;
        let head = cells(head);
        let mut columns = [0; COLUMNS.len()];
        for (column, name) in columns.iter_mut().zip(COLUMNS) {
            *column = head.iter().position(|cell| cell == name).ok_or_else(|| {
                let what = format!("there is no column {name}; the first line names them: {}", COLUMNS.join(","));
                Place::Line(number).wrong(what)
            })?;
        }
        for (number, line) in lines {
            let (place, cells) = (Place::Line(number), cells(line));
            let cell = |column: usize| cells.get(columns[column]).map_or("", String::as_str);
            let day = format!("{}T00:00:00Z", cell(0)).parse::<Timestamp>().map_err(|_| {
                place.wrong(format!("day: “{}” is no date; write one that exists, such as 2026-08-31", cell(0)))
            })?;
            let recipients = cell(2).parse::<u64>().map_err(|_| {
                place.wrong(format!("recipients: “{}” is no count; write a whole number from 0 on", cell(2)))
            })?;
            let key = (day.0.div_euclid(DAY_MICROS), self.provider(place, cell(1))?);
            if self.sums.contains_key(&key) {
                let what = format!("{} has {} already; leave one row of the two, with their sum", cell(0), cell(1));
                return Err(place.wrong(what));
            }
            self.add(place, key, recipients)?;
        }
        Ok(())
    }

    fn read_answer(&mut self, text: &str) -> Result<(), HistoryError> {
        let answer: Answer = serde_json::from_str(text).map_err(|fault| {
            Place::Line(fault.line())
                .wrong(format!("{fault}; give what `weir stats --by provider --resolution day --json` prints"))
        })?;
        let mut seen = BTreeSet::new();
        for (number, item) in (1..).zip(&answer.items) {
            let place = Place::Item(number);
            let at =
                item.at.as_deref().ok_or_else(|| place.wrong("at: there is no time; ask with --resolution day"))?;
            let day = at.parse::<Timestamp>().map_err(|fault| place.wrong(format!("at: “{at}” is {fault}")))?;
            let provider = item
                .of
                .get("provider")
                .ok_or_else(|| place.wrong("of: there is no provider; ask with --by provider"))?;
            // Told apart by more, or by the hour, lines of one day and provider belong together; the same line twice does not.
            if !seen.insert((day, &item.of)) {
                return Err(place.wrong("it stands there twice; leave one of the two"));
            }
            // What met its end before anybody knew where to was not sent.
            if provider.is_empty() {
                continue;
            }
            let key = (day.0.div_euclid(DAY_MICROS), self.provider(place, provider)?);
            for (name, count) in item.ended() {
                let count = u64::try_from(count)
                    .map_err(|_| place.wrong(format!("{name}: {count} is no count; write a whole number from 0 on")))?;
                self.add(place, key.clone(), count)?;
            }
        }
        Ok(())
    }

    fn provider(&self, place: Place, name: &str) -> Result<Arc<str>, HistoryError> {
        self.providers.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.providers.iter().map(|name| &**name).collect();
            let what = format!(
                "provider: there is none called “{name}”; name it in the scenario, or write one of {}",
                names.join(", ")
            );
            place.wrong(what)
        })
    }

    fn add(&mut self, place: Place, key: (i64, Arc<str>), recipients: u64) -> Result<(), HistoryError> {
        let sum = self.sums.entry(key).or_default();
        *sum = sum.saturating_add(recipients);
        if *sum > RECIPIENTS_MAX {
            return Err(place.wrong(format!("recipients: {sum} a day to one provider; at most {RECIPIENTS_MAX}")));
        }
        Ok(())
    }

    fn history(self) -> Result<History, HistoryError> {
        let known: BTreeSet<i64> = self.sums.keys().map(|(day, _)| *day).collect();
        let (Some(first), Some(last)) = (known.first().copied(), known.last().copied()) else {
            return Err(Place::File.wrong(nothing()));
        };
        let days = usize::try_from(last - first).unwrap_or(usize::MAX).saturating_add(1);
        if days > DAYS_MAX {
            let what =
                format!("{} to {} are {days} days; leave at most {DAYS_MAX}, two years", written(first), written(last));
            return Err(Place::File.wrong(what));
        }
        let number = |day: i64| usize::try_from(day - first).unwrap_or(0);
        let mut providers: BTreeMap<Arc<str>, Vec<u64>> = BTreeMap::new();
        for ((day, provider), recipients) in self.sums {
            providers.entry(provider).or_insert_with(|| vec![0; days])[number(day)] = recipients;
        }
        let holes = (first..=last).filter(|day| !known.contains(day)).map(number).collect();
        Ok(History { first: Timestamp(first * DAY_MICROS), days, providers, holes })
    }
}

fn nothing() -> String {
    format!("there are no rows; each is a day, a provider and a count, under a first line {}", COLUMNS.join(","))
}

/// 2026-08-31
fn written(day: i64) -> String {
    Timestamp(day.saturating_mul(DAY_MICROS)).to_string().chars().take(10).collect()
}

/// Of a line. What stands between quotation marks may have commas.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            _ => cells.last_mut().expect("there is one from the beginning").push(letter),
        }
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// As `GET /api/v1/statistics` gives it; what is not asked for here is passed over.
#[derive(Deserialize)]
struct Answer {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    at: Option<String>,
    #[serde(default)]
    of: BTreeMap<String, String>,
    delivered: i64,
    hard: i64,
    soft: i64,
    blocked: i64,
    other: i64,
    expired: i64,
}

impl Item {
    /// Each recipient once, by how it ended.
    fn ended(&self) -> [(&'static str, i64); 6] {
        [
            ("delivered", self.delivered),
            ("hard", self.hard),
            ("soft", self.soft),
            ("blocked", self.blocked),
            ("other", self.other),
            ("expired", self.expired),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failing unwrap is a failing test.
    use super::{History, HistoryError};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn read(text: &str) -> Result<History, HistoryError> {
        let names: BTreeSet<Arc<str>> = ["google", "yahoo", "other"].map(Arc::from).into();
        History::parse(text, &names)
    }

    fn of(history: &History, provider: &str, days: usize) -> Vec<u64> {
        history.of(provider, days).to_vec()
    }

    #[test]
    fn a_table_in_any_order_is_read() {
        let text = "\u{feff}account,day,recipients,provider\r\n\"a, b\",2028-03-01,7,google\r\n\r\nx,2028-02-28, 5 ,yahoo\nx,2028-02-28,0,google";
        let history = read(text).unwrap();
        // A leap year.
        assert_eq!((history.days(), history.first().to_string().as_str()), (3, "2028-02-28T00:00:00.000Z"));
        assert_eq!((of(&history, "google", 3), of(&history, "yahoo", 3)), (vec![0, 0, 7], vec![5, 0, 0]));
        assert_eq!(history.holes().collect::<Vec<_>>(), ["2028-02-29"]);
    }

    #[test]
    fn an_answer_of_the_interface_is_read() {
        let line = |at: &str, of: &str, delivered: i64, hard: i64| {
            format!(
                "{{\"at\":\"{at}\",\"of\":{of},\"accepted\":9,\"delivered\":{delivered},\"deferred\":99,\"hard\":{hard},\"soft\":1,\
                 \"blocked\":0,\"other\":0,\"expired\":0,\"deleted\":0,\"delivered_p50_s\":null}}"
            )
        };
        let (first, second) = ("2026-08-01T00:00:00.000Z", "2026-08-02T00:00:00.000Z");
        let answer = |items: &[String]| {
            format!("{{\"from\":\"{first}\",\"until\":\"{second}\",\"items\":[{}]}}", items.join(","))
        };
        let google = |ip: &str| format!("{{\"ip\":\"{ip}\",\"provider\":\"google\"}}");
        let items = [
            line(first, &google("192.0.2.1"), 10, 2),
            line(first, &google("192.0.2.2"), 20, 0),
            line(first, "{\"provider\":\"\"}", 0, 0),
            line(second, "{\"provider\":\"other\"}", 4, 0),
        ];
        let history = read(&answer(&items)).unwrap();
        assert_eq!((of(&history, "google", 2), of(&history, "other", 2)), (vec![34, 0], vec![0, 5]));
        assert_eq!(history.holes().count(), 0);

        let check = |items: &[String], expected: &str| {
            assert_eq!(read(&answer(items)).unwrap_err().to_string(), expected);
        };
        check(
            &[],
            "file: there are no rows; each is a day, a provider and a count, under a first line day,provider,recipients",
        );
        check(
            &[line("2026-08", &google(""), 1, 1)],
            "item 1: at: “2026-08” is not a time as RFC 3339 writes it, such as 2026-11-21T10:00:00Z",
        );
        check(&[line(first, "{}", 1, 1)], "item 1: of: there is no provider; ask with --by provider");
        check(&[items[0].clone(), items[0].clone()], "item 2: it stands there twice; leave one of the two");
        check(&[line(first, &google(""), -1, 1)], "item 1: delivered: -1 is no count; write a whole number from 0 on");
        let untimed = items[0].replace(&format!("\"at\":\"{first}\","), "");
        check(&[untimed], "item 1: at: there is no time; ask with --resolution day");
        let error = read("{\"items\":[\n{\"of\":{}}\n]}").unwrap_err().to_string();
        assert!(error.starts_with("line 2: missing field `delivered`") && error.contains("--json"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |rows: &str, expected: &str| {
            let error = read(&format!("day,provider,recipients\n{rows}")).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check("2026-08-01,google,-3", "line 2: recipients: “-3” is no count; write a whole number from 0 on");
        check("2026-08-01,google,many", "line 2: recipients: “many” is no count; write a whole number from 0 on");
        check("2026-08-01,google", "line 2: recipients: “” is no count; write a whole number from 0 on");
        check(
            "2026-08-01,google,2000000000",
            "line 2: recipients: 2000000000 a day to one provider; at most 1000000000",
        );
        check(
            "\n2026-02-30,google,1",
            "line 3: day: “2026-02-30” is no date; write one that exists, such as 2026-08-31",
        );
        check("1.8.2026,google,1", "line 2: day: “1.8.2026” is no date; write one that exists, such as 2026-08-31");
        check(
            "2026-08-01,gogle,1",
            "line 2: provider: there is none called “gogle”; name it in the scenario, or write one of google, other, yahoo",
        );
        check(
            "2026-08-01,google,1\n2026-08-02,google,1\n2026-08-01,google,1",
            "line 4: 2026-08-01 has google already; leave one row of the two, with their sum",
        );
        check(
            "2024-01-01,google,1\n2026-01-01,google,1",
            "file: 2024-01-01 to 2026-01-01 are 732 days; leave at most 731, two years",
        );
        check(
            "",
            "file: there are no rows; each is a day, a provider and a count, under a first line day,provider,recipients",
        );
        let error = read("day,provider,count\n2026-08-01,google,1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 1: there is no column recipients; the first line names them: day,provider,recipients"
        );
        assert!(read(" \n").is_err());
    }

    #[test]
    fn after_its_end_the_last_whole_weeks_come_again() {
        let table = |days: u64| {
            let row = |day: u64| format!("2026-{:02}-{:02},google,{day}\n", 1 + day / 28, 1 + day % 28);
            format!("day,provider,recipients\n{}", (0..days).map(row).collect::<String>())
        };
        assert_eq!(of(&read(&table(3)).unwrap(), "google", 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(of(&read(&table(9)).unwrap(), "google", 18)[9..], [2, 3, 4, 5, 6, 7, 8, 2, 3]);
        assert_eq!(of(&read(&table(9)).unwrap(), "google", 2), [0, 1]);
        assert_eq!(of(&read(&table(9)).unwrap(), "yahoo", 2), [0, 0]);
    }
}
