//! `weir suppression`: to whom an account sends nothing any more.

use crate::client::{Answer, Fault, escaped};
use crate::commands::say;
use crate::commands::show::{items, text};
use crate::commands::verb::Act::{Delete, Get, Post, Put};
use crate::commands::verb::Shown::{Card, Page, Said, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, body, query};
use control::csv::is_whole;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};

const FIELDS: &[&str] = &["account", "address", "stream", "reason", "message", "detail", "created_at", "expires_at"];
/// In the order of an exported table, which can be imported again.
const COLUMNS: &[&str] = &["address", "stream", "reason", "detail", "created_at", "expires_at"];
const ALL: &str = "accounts/{account}/suppressions";
const ONE: &str = "accounts/{account}/suppressions/{address}";
/// Entries of one call.
const LINES_A_CALL: usize = 500;
/// And octets: a body has a limit.
const OCTETS_A_CALL: usize = 40 << 10;
/// Of what was wrong, so much is told.
const WRONG_TOLD: usize = 100;

const REASON: Arg = query("reason", "Those with this reason").one_of(&["bounce", "complaint", "unsubscribe", "manual"]);
const DOMAIN: Arg = query("domain", "All at this domain");
const BEGINS: Arg = query("begins", "All that begin with this");
const FROM: Arg = query("from", "Put there not before this moment, such as 2026-11-21T10:00:00Z");
const UNTIL: Arg = query("until", "Put there before this moment");
const STREAM: Arg = query("stream", "The entry for mail of this stream alone");

pub const NOUN: Noun = Noun {
    name: "suppression",
    about: "Suppression lists: to whom an account sends nothing any more",
    verbs: &[
        Verb::row(
            "list",
            (Get, ALL),
            "Whom the account sends nothing, by address",
            Table(&["address", "stream", "reason", "created_at", "expires_at"]),
            "weir suppression list --account shop --domain example.com",
        )
        .takes(&[REASON, DOMAIN, BEGINS, FROM, UNTIL]),
        Verb::row(
            "show",
            (Get, ONE),
            "Why nothing is sent to an address",
            Card(FIELDS),
            "weir suppression show bob@example.com --account shop",
        )
        .takes(&[STREAM]),
        Verb::row(
            "put",
            (Put, ONE),
            "Send nothing to an address any more",
            Card(FIELDS),
            "weir suppression put bob@example.com --account shop --detail \"asked by telephone\"",
        )
        .takes(&[
            body("reason", "Why").one_of(&["bounce", "complaint", "unsubscribe", "manual"]),
            body("stream", "For mail of this stream alone"),
            body("detail", "In a few words"),
            body("expires-at", "The entry ends by itself, such as 2027-01-15T00:00:00Z"),
        ]),
        Verb::row(
            "remove",
            (Delete, ONE),
            "Write to an address again",
            Said("{address} is off the list."),
            "weir suppression remove bob@example.com --account shop",
        )
        .takes(&[STREAM]),
        Verb::row(
            "import",
            (Post, "accounts/{account}/suppressions:import"),
            "Put all addresses of a table (CSV) on the list, however long it is",
            Page(imported),
            "weir suppression import list.csv --account shop",
        )
        .takes(&[body("csv", "A file whose first line names the columns, one of them address; - is standard input")
            .positional()
            .file()])
        .by(import),
        Verb::row(
            "export",
            (Get, ALL),
            "The whole list as a table (CSV), however long it is",
            Page(exported),
            "weir suppression export --account shop --reason bounce",
        )
        .takes(&[REASON, DOMAIN, BEGINS, FROM, UNTIL])
        .by(export),
    ],
};

/// In pieces, each with the line of names: neither this program nor the service holds the whole.
fn import(line: &Line) -> Result<Answer, Fault> {
    let path = line.text("csv").unwrap_or("-");
    let unreadable = |fault: std::io::Error| Fault::Line(format!("{path} cannot be read: {fault}"));
    let reader: Box<dyn BufRead> = match path {
        "-" => Box::new(BufReader::new(std::io::stdin())),
        path => Box::new(BufReader::new(File::open(path).map_err(unreadable)?)),
    };
    let at = line.filled("accounts/{account}/suppressions:import");
    let mut lines = Whole { reader, number: 0 };
    let Some((_, head)) = lines.next().map_err(unreadable)? else {
        return line.call(Post, &at, Some(&json!({ "csv": "" })), &[]);
    };
    let (mut put, mut wrong, mut wrong_count) = (0, Vec::new(), 0);
    loop {
        let (mut piece, mut numbers) = (head.clone(), Vec::new());
        while numbers.len() < LINES_A_CALL && piece.len() < OCTETS_A_CALL {
            let Some((number, text)) = lines.next().map_err(unreadable)? else { break };
            numbers.extend(std::iter::repeat_n(number, text.matches('\n').count().max(1)));
            piece.push_str(&text);
        }
        // A file of names alone is sent all the same, to hear whether they are right.
        let said = line.call(Post, &at, Some(&json!({ "csv": piece })), &[])?;
        put += said.value["put"].as_u64().unwrap_or(0);
        for one in items(&said.value, "wrong") {
            wrong_count += 1;
            let place = one["line"].as_u64().unwrap_or(0) as usize;
            if wrong.len() < WRONG_TOLD {
                let number = place.checked_sub(2).and_then(|at| numbers.get(at)).copied().unwrap_or(place);
                wrong.push(json!({ "line": number, "detail": text(one, "detail") }));
            }
        }
        if numbers.is_empty() || lines.is_at_end().map_err(unreadable)? {
            break;
        }
    }
    Ok(Answer::summed(json!({ "put": put, "wrong": wrong, "wrong_count": wrong_count })))
}

/// Lines of a table: what is quoted may go over several.
struct Whole {
    reader: Box<dyn BufRead>,
    number: usize,
}

impl Whole {
    fn next(&mut self) -> std::io::Result<Option<(usize, String)>> {
        let mut whole = String::new();
        let begun = self.number + 1;
        loop {
            // A file without line ends is no table, and is not held as a whole.
            let read = (&mut self.reader).take(OCTETS_A_CALL as u64).read_line(&mut whole)?;
            self.number += usize::from(read > 0);
            if read == 0 || is_whole(&whole) || whole.len() > OCTETS_A_CALL {
                break;
            }
        }
        if !whole.is_empty() && !whole.ends_with('\n') {
            whole.push('\n');
        }
        Ok((!whole.is_empty()).then_some((begun, whole)))
    }

    fn is_at_end(&mut self) -> std::io::Result<bool> {
        self.reader.fill_buf().map(<[u8]>::is_empty)
    }
}

fn imported(answer: &Value, _: &Line) -> String {
    let count = answer["wrong_count"].as_u64().unwrap_or(0);
    let mut page = format!("{} on the list, {count} lines could not be used.", answer["put"]);
    for wrong in items(answer, "wrong") {
        page.push_str(&format!("\n  line {}: {}", wrong["line"], text(wrong, "detail")));
    }
    page
}

/// Page by page; the last one is shown by the row.
fn export(line: &Line) -> Result<Answer, Fault> {
    let fields = ["reason", "domain", "begins", "from", "until"].map(|name| line.text(name).map(|value| (name, value)));
    let narrowed: String =
        fields.into_iter().flatten().map(|(name, value)| format!("&{name}={}", escaped(value))).collect();
    let mut after = String::new();
    say(COLUMNS.join(","));
    loop {
        let path = format!("{}?limit=500{narrowed}{after}", line.filled(ALL));
        let page = line.call(Get, &path, None, &[])?;
        let next = text(&page.value, "next").to_owned();
        if next.is_empty() {
            return Ok(page);
        }
        say(exported(&page.value, line));
        after = format!("&after={}", escaped(&next));
    }
}

fn exported(page: &Value, _: &Line) -> String {
    let quoted = |value: &str| {
        if value.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", value.replace('"', "\"\""))
        } else {
            value.to_owned()
        }
    };
    let row = |entry: &Value| COLUMNS.iter().map(|name| quoted(text(entry, name))).collect::<Vec<_>>().join(",");
    items(page, "items").iter().map(row).collect::<Vec<_>>().join("\n")
}
