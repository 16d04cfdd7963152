//! `weir tier`: among which others senders share IPs, and why.

use crate::commands::show::{card, items, table};
use crate::commands::verb::Act::{Get, Put};
use crate::commands::verb::Shown::{Page, Table};
use crate::commands::verb::{Line, Noun, Verb, body};
use serde_json::Value;

const ONE: &str = "accounts/{account}/tier";
const FIELDS: &[&str] = &["account", "name", "tier", "since", "reason", "well_days", "would", "words"];
const COLUMNS: &[&str] = &["account", "name", "tier", "since", "would", "well_days", "reason", "words"];

pub const NOUN: Noun = Noun {
    name: "tier",
    about: "Tiers: among which others senders share IPs, why, and what is next",
    verbs: &[
        Verb::row(
            "list",
            (Get, "tiers"),
            "Where all accounts stand, and where they would go now. For the operator",
            Table(COLUMNS),
            "weir tier list",
        ),
        Verb::row(
            "show",
            (Get, ONE),
            "Where an account stands, and where it has been",
            Page(one),
            "weir tier show --account shop",
        ),
        Verb::row(
            "set",
            (Put, ONE),
            "Put an account into a tier, whatever its figures. For the operator",
            Page(one),
            "weir tier set trusted --account shop --reason \"known for years\"",
        )
        .takes(&[
            body("tier", "Where it stands from now on")
                .one_of(&["penalty", "probation", "standard", "trusted"])
                .positional(),
            body("reason", "Why; the account reads it").required(),
        ]),
        Verb::row(
            "follow",
            (Put, ONE),
            "Let an account go by its figures again. For the operator",
            Page(one),
            "weir tier follow --account shop",
        ),
    ],
};

fn one(answer: &Value, _: &Line) -> String {
    let moves = items(answer, "moves");
    let head = card(answer, FIELDS);
    if moves.is_empty() {
        return head;
    }
    format!("{head}\n\n{}", table(moves, &["at", "was", "became", "actor", "words"]))
}
