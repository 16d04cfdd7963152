//! `weir signal`: what providers themselves say of IPs and domains.

use crate::commands::show::items;
use crate::commands::verb::Act::{Get, Post};
use crate::commands::verb::Shown::{Page, Table};
use crate::commands::verb::{Line, Noun, Verb, body, query};
use serde_json::Value;

const COLUMNS: &[&str] =
    &["date", "provider", "of", "verdict", "complaints/rate", "complaints/below", "recipients", "traps"];

pub const NOUN: Noun = Noun {
    name: "signal",
    about: "Signals: what providers themselves say of IPs and domains",
    verbs: &[
        Verb::row(
            "list",
            (Get, "signals"),
            "What they say, the newest day first. For the operator",
            Table(COLUMNS),
            "weir signal list --of 192.0.2.1",
        )
        .takes(&[query("of", "Only of this address or domain")]),
        Verb::row(
            "import",
            (Post, "signals"),
            "Take in a file that a provider gave, whole or not at all. For the operator",
            Page(taken),
            "weir signal import snds.csv --kind snds",
        )
        .takes(&[
            body("text", "The file as it was fetched; - is standard input").positional().file(),
            body("kind", "Whose it is: Microsoft's SNDS, or Google Postmaster Tools (CSV or JSON)")
                .one_of(&["snds", "postmaster"])
                .required(),
        ]),
    ],
};

fn taken(answer: &Value, _: &Line) -> String {
    let opened = items(answer, "opened").iter().filter_map(Value::as_str);
    let head = format!("{} taken in.", answer["put"].as_u64().unwrap_or(0));
    opened.fold(head, |page, words| format!("{page}\nNew incident: {words}"))
}
