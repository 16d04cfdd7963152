//! `weir test-drive`: a part of a configuration set's mail goes by another pool.

use crate::commands::show::{card, items, table};
use crate::commands::verb::Act::{Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Page, Table};
use crate::commands::verb::{Line, Noun, Verb, body};
use serde_json::{Value, json};

const FIELDS: &[&str] = &[
    "id",
    "set",
    "pool_name",
    "percent",
    "percent_a_day",
    "guarded",
    "state",
    "reason",
    "started_at",
    "ends_at",
    "ended_at",
];
const ALL: &str = "accounts/{account}/test-drives";
const ONE: &str = "accounts/{account}/test-drives/{test_drive}";
const ORDERS: &str = "accounts/{account}/test-drives/{test_drive}/orders";

pub const NOUN: Noun = Noun {
    name: "test-drive",
    about: "Test drives: a part of a configuration set's mail goes by another pool, and both are compared",
    verbs: &[
        Verb::row(
            "start",
            (Post, ALL),
            "Send a part of a set's mail by another pool; always to the same recipients",
            Card(FIELDS),
            "weir test-drive start letters --pool own --percent 10 --account shop",
        )
        .takes(&[
            body("set", "The configuration set").positional(),
            body("pool", "The pool to be tried").required(),
            body("percent", "Of the recipients, such as 10").decimal().required(),
            body("days", "From 1 to 28; without this, 14").number(),
            body("guarded", "no: it goes on although the new side does harm").yes_no(),
        ]),
        Verb::row(
            "list",
            (Get, ALL),
            "The account's test drives, newest first",
            Table(&["id", "set", "pool_name", "percent", "state", "started_at", "ends_at"]),
            "weir test-drive list --account shop",
        ),
        Verb::row(
            "show",
            (Get, ONE),
            "How both sides do, with a verdict; by its id or its set",
            Page(report),
            "weir test-drive show letters --account shop",
        ),
        Verb::row(
            "change",
            (Patch, ONE),
            "Change a share, or let it grow day by day until all mail takes the new pool",
            Card(FIELDS),
            "weir test-drive change letters --percent-a-day 10 --account shop",
        )
        .takes(&[
            body("percent", "Of the recipients").decimal(),
            body("percent-a-day", "So much more each day; 0: no more").decimal(),
            body("guarded", "Whether harm ends it").yes_no(),
            body("days", "How long, from its beginning").number(),
        ]),
        Verb::row(
            "finish",
            (Post, ORDERS),
            "Move all mail of the set to the new pool",
            Card(FIELDS),
            "weir test-drive finish letters --account shop",
        )
        .says(&[("order", "finish")]),
        Verb::row(
            "end",
            (Post, ORDERS),
            "Go back: no mail takes the new pool any more",
            Card(FIELDS),
            "weir test-drive end letters --account shop",
        )
        .says(&[("order", "end")]),
    ],
};

fn report(answer: &Value, _: &Line) -> String {
    let between = |of: &Value, name: &str| {
        let of = |suffix: &str| of[format!("{name}{suffix}")].as_f64().unwrap_or_default();
        format!("{:.3} ({:.3} to {:.3})", of(""), of("_least"), of("_most"))
    };
    let line = |of: &Value| {
        json!({
            "percent": of["figure"], "new": between(of, "new"), "old": between(of, "old"), "difference": between(of, "more"),
        })
    };
    let figures: Vec<Value> = items(answer, "figures").iter().map(line).collect();
    let side = |name: &str| {
        let mut side = answer[name].clone();
        side["side"] = json!(name);
        for part in ["p50", "p95"] {
            let of = |suffix: &str| side[format!("{part}{suffix}_s")].as_f64();
            if let (Some(s), Some(least), Some(most)) = (of(""), of("_least"), of("_most")) {
                side[format!("{part}_s")] = json!(format!("{s:.1} ({least:.1} to {most:.1})"));
            }
        }
        side
    };
    let counts = [side("new"), side("old")];
    [
        card(answer, FIELDS),
        format!("\n{}\n", answer["words"].as_str().unwrap_or_default()),
        table(&figures, &["percent", "new", "old", "difference"]),
        String::new(),
        table(
            &counts,
            &["side", "sent", "delivered", "bounced", "blocked", "complained", "deferred", "p50_s", "p95_s"],
        ),
    ]
    .join("\n")
}
