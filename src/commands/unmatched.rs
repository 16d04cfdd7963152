//! `weir unmatched`: what came back and belongs to no message. For the operator.

use crate::commands::verb::Act::{Delete, Get};
use crate::commands::verb::Shown::{Card, Said, Table};
use crate::commands::verb::{Noun, Verb, path};

const FIELDS: &[&str] = &["id", "at", "cause", "cause_words", "to", "from", "peer", "octets", "message"];
const ONE: &str = "unmatched/{id}";

pub const NOUN: Noun = Noun {
    name: "unmatched",
    about: "What came back and belongs to no message: forged, too old, or no report",
    verbs: &[
        Verb::row(
            "list",
            (Get, "unmatched"),
            "What is kept, newest first",
            Table(&["id", "at", "cause", "to", "from", "peer"]),
            "weir unmatched list",
        ),
        Verb::row("show", (Get, ONE), "One of them, as it came", Card(FIELDS), "weir unmatched show ID")
            .takes(&[path("id", "Its id; see `weir unmatched list`").positional()]),
        Verb::row("delete", (Delete, ONE), "Throw one of them away", Said("{id} is gone."), "weir unmatched delete ID")
            .takes(&[path("id", "Its id; see `weir unmatched list`").positional()]),
    ],
};
