//! What can be asked that belongs to no noun: `weir cancel`, `weir preview`, `weir audit`.

use crate::client::{Answer, Fault};
use crate::commands::verb::Act::{Delete, Get, Post};
use crate::commands::verb::Shown::{Card, Said, Table};
use crate::commands::verb::{Line, Verb, body, query};
use serde_json::json;

pub const VERBS: &[Verb] = &[
    Verb::row(
        "cancel",
        (Delete, "messages/{id}"),
        "Cancel a scheduled message, until its time",
        Said("Message {id} is cancelled."),
        "weir cancel 019a8f6e5d7c7b3e9f1a2b3c4d5e6f70",
    ),
    Verb::row(
        "preview",
        (Post, "routes:preview"),
        "Where a message would go now, by which rule; nothing is sent",
        Card(&["region", "route/pool", "route/rule_words", "route/ip", "route/candidates", "decided_at"]),
        "weir preview --account shop --from ann@example.com --to bob@gmail.com --set receipts",
    )
    .by(preview)
    .takes(&[
        body("account", "For the operator: whose mail, by name or id"),
        body("from", "The sender"),
        body("to", "A recipient; may be given several times").list(),
        body("pool", "The pool it names"),
        body("configuration-set", "The configuration set it is sent with").also("set"),
        body("subaccount", "The subaccount it is of"),
        body("region", "The region it names"),
        body("send-at", "When it is due, such as 2030-01-01T10:00:00Z"),
    ]),
    Verb::row(
        "audit",
        (Get, "audit"),
        "Who changed what, when, from where; newest first",
        Table(&["at", "actor_kind", "actor_name", "actor_from", "action", "subject_kind", "subject", "account"]),
        "weir audit --account shop --limit 20",
    )
    .takes(&[
        query("account", "Of this account, by name or id; `self` is the key's own"),
        query("subject", "About one thing, by its id"),
    ]),
];

/// The data plane knows accounts by id.
fn preview(line: &Line) -> Result<Answer, Fault> {
    let mut body = line.body()?;
    if let Some(called) = line.text("account") {
        body.insert("account".to_owned(), json!(line.account_id(called)?));
    }
    line.ask_with(body)
}
