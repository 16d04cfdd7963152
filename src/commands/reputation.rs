//! `weir reputation` and `weir incident`: how mail is doing, what has gone wrong, and what mends it.

use crate::commands::show::{card, items, table, text};
use crate::commands::verb::Act::{Get, Post};
use crate::commands::verb::Shown::{Page, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, query};
use serde_json::Value;

const INCIDENT: &[&str] = &[
    "id",
    "kind",
    "weight",
    "account",
    "ip",
    "domain",
    "provider",
    "words",
    "mend",
    "link",
    "opened_at",
    "until",
    "closed_at",
    "closed_because",
];
const INCIDENTS: &[&str] =
    &["id", "opened_at", "kind", "weight", "account", "ip", "domain", "provider", "closed_at", "words"];
const RATED: &[&str] = &["of", "score/value", "score/low", "score/high", "score/band", "level", "sent", "days"];
const AT: &[&str] = &["provider", "score/value", "score/low", "score/high", "score/band", "level", "sent"];
const SAID: &[&str] = &["provider", "date", "verdict", "complaints/rate", "complaints/below", "recipients", "traps"];
const ACCOUNT: Arg = query("account", "Of this account; self is the caller's own");

pub const NOUN: Noun = Noun {
    name: "reputation",
    about: "How accounts, domains, pools and IPs are doing, by what became of their mail",
    verbs: &[Verb::row(
        "show",
        (Get, "reputations"),
        "Scores, and what is wrong: the operator sees all mail, an account its own",
        Page(rated),
        "weir reputation show domain --account shop",
    )
    .takes(&[
        query("by", "What is rated").one_of(&["account", "pool", "domain", "ip"]).positional(),
        query("of", "Only this one: an id, a domain, an address"),
        ACCOUNT,
    ])],
};

pub const INCIDENT_NOUN: Noun = Noun {
    name: "incident",
    about: "Incidents: what has gone wrong with accounts and IPs, and what mends it",
    verbs: &[
        Verb::row(
            "list",
            (Get, "incidents"),
            "Newest first: the operator sees all, an account what is its own to know",
            Table(INCIDENTS),
            "weir incident list --open",
        )
        .takes(&[ACCOUNT, query("open", "Only those that are not over").flag()]),
        Verb::row(
            "show",
            (Get, "incidents/{incident}"),
            "One of them, with its evidence",
            Page(incident),
            "weir incident show inc_01j9m5",
        ),
        Verb::row(
            "close",
            (Post, "incidents/{incident}/orders"),
            "Close it; what is still wrong opens it anew. For the operator",
            Page(incident),
            "weir incident close inc_01j9m5",
        )
        .says(&[("order", "close")]),
    ],
};

fn rated(answer: &Value, _: &Line) -> String {
    let found = items(answer, "items");
    if found.is_empty() {
        return "Nothing was sent yet.".into();
    }
    let mut page = table(found, RATED);
    for one in found {
        let of = text(one, "of");
        let concerns = items(one, "concerns").iter().map(|concern| text(concern, "words"));
        let incidents = items(one, "incidents").iter().map(|incident| text(incident, "words"));
        for words in concerns.chain(incidents) {
            page.push_str(&format!("\n{of}: {words}"));
        }
    }
    if let [one] = found {
        page.push_str(&format!("\n\n{}", table(items(one, "providers"), AT)));
        let signals = items(one, "signals");
        if !signals.is_empty() {
            page.push_str(&format!("\n\nWhat providers say themselves:\n{}", table(signals, SAID)));
        }
        for part in items(&one["score"], "components") {
            let leaves = part["leaves"].as_f64().unwrap_or(1.0) * 100.0;
            let rate = part["share"]["rate"].as_f64().unwrap_or(0.0) * 100.0;
            page.push_str(&format!("\n{}: {rate:.3} %, which leaves {leaves:.0} of 100", text(part, "part")));
        }
    }
    page
}

fn incident(answer: &Value, _: &Line) -> String {
    let evidence = serde_json::to_string_pretty(&answer["evidence"]).unwrap_or_default();
    format!("{}\n\nEvidence:\n{evidence}", card(answer, INCIDENT))
}
