//! `weir region`: the places that mail leaves from.

use crate::commands::verb::Act::{Get, Post};
use crate::commands::verb::Shown::{Card, Table};
use crate::commands::verb::{Noun, Verb, body};

const FIELDS: &[&str] = &["id", "created_at"];

pub const NOUN: Noun = Noun {
    name: "region",
    about: "Regions: places with their own IPs",
    verbs: &[
        Verb::row(
            "create",
            (Post, "regions"),
            "Make a region, with a shared pool. For the operator",
            Card(FIELDS),
            "weir region create eu-west",
        )
        .takes(&[body("region", "Small letters, digits and hyphens").positional()]),
        Verb::row("list", (Get, "regions"), "All regions", Table(FIELDS), "weir region list"),
        Verb::row("show", (Get, "regions/{region}"), "One region", Card(FIELDS), "weir region show eu-west"),
    ],
};
