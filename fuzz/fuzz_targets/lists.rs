//! Can any table break the reading of suppression lists, or say something else in pieces than as a whole?
#![no_main]

// The room it stands in has a runtime, a database and a server, none of which is looked at here.
#[path = "../../crates/control/src/csv.rs"]
mod csv;

use csv::{is_whole, records};
use engine::suppression::{Reason, canonical};
use engine::time::Timestamp;
use libfuzzer_sys::fuzz_target;
use mail::address::Mailbox;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let whole: Vec<(usize, Vec<String>)> = records(text).collect();
    let lines = text.lines().count();
    let mut before = 0;
    for (line, fields) in &whole {
        assert!(*line > before && *line <= lines.max(1), "record of line {line} of {lines}");
        before = *line;
        assert!(!fields.is_empty());
        for field in fields {
            assert!(field.len() <= text.len());
            if let Ok(mailbox) = Mailbox::parse(field.trim()) {
                let listed = canonical(&mailbox);
                assert!(!listed.chars().any(char::is_control), "{listed:?}");
            }
            let _ = Reason::of(field);
            if let Ok(at) = field.parse::<Timestamp>() {
                assert_eq!(at.to_string().parse(), Ok(at));
            }
        }
    }
    assert_eq!(in_pieces(text), whole, "a table is the same, however it is sent");
    assert_eq!(written(&whole), whole.iter().map(|(_, fields)| fields.clone()).collect::<Vec<_>>());
});

/// As `weir suppression import` reads a file: whole lines, each read by itself.
fn in_pieces(text: &str) -> Vec<(usize, Vec<String>)> {
    let (mut all, mut piece, mut begun) = (Vec::new(), String::new(), 1);
    let last = text.split_inclusive('\n').count();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        piece.push_str(line);
        if is_whole(&piece) || number + 1 == last {
            all.extend(records(&piece).map(|(line, fields)| (begun + line - 1, fields)));
            begun = number + 2;
            piece.clear();
        }
    }
    all
}

/// Every field quoted, and read again.
fn written(whole: &[(usize, Vec<String>)]) -> Vec<Vec<String>> {
    let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
    let line = |fields: &Vec<String>| fields.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n";
    let table: String = whole.iter().map(|(_, fields)| line(fields)).collect();
    records(&table).map(|(_, fields)| fields).collect()
}
