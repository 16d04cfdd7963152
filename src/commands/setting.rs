//! `weir setting`: the limits and prices that an operator can move.

use crate::commands::verb::Act::{Get, Put};
use crate::commands::verb::Shown::{Card, Table};
use crate::commands::verb::{Noun, Verb, body};

const FIELDS: &[&str] = &["name", "value", "default", "words"];

pub const NOUN: Noun = Noun {
    name: "setting",
    about: "Settings: limits and prices of this installation. For the operator",
    verbs: &[
        Verb::row("list", (Get, "settings"), "All settings with their values", Table(FIELDS), "weir setting list"),
        Verb::row("show", (Get, "settings/{name}"), "One setting", Card(FIELDS), "weir setting show rest_days"),
        Verb::row(
            "set",
            (Put, "settings/{name}"),
            "Give a setting another value",
            Card(FIELDS),
            "weir setting set rest_days 14",
        )
        .takes(&[body("value", "A whole number").number().positional()]),
    ],
};
