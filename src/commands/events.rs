//! `weir events`: what has happened, searched and followed.

use crate::client::{Answer, Fault};
use crate::commands::show::text;
use crate::commands::verb::Act::Get;
use crate::commands::verb::Shown::{Page, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, query};
use serde_json::Value;

const FILTERS: &[Arg] = &[
    query("account", "Of this account, by name or id; `self` is the key's own"),
    query("subaccount", "Of this subaccount, by name or id"),
    query("recipient", "About this recipient's address").also("to"),
    query("message", "About this message, by its id"),
    query("tag", "With this tag: `name`, or `name=value`"),
    query("stream", "Of this kind of the account's mail"),
    query("configuration-set", "Sent with this configuration set").also("set"),
    query("ip", "That left or tried to leave from this IP"),
    query("pool", "By this pool, by name or id"),
    query("provider", "At this provider, such as gmail"),
    query("class", "That the remote's answer put into this class").one_of(&[
        "hard",
        "soft",
        "block",
        "throttle",
        "admin",
        "undetermined",
    ]),
    query("kind", "Of this kind, such as `bounced`; several with commas between them"),
    query("from", "Not before this moment, such as 2026-11-21T10:00:00Z"),
    query("until", "Before this moment"),
];

pub const NOUN: Noun = Noun {
    name: "events",
    about: "What has happened to messages, recipients and lanes",
    verbs: &[
        Verb::row(
            "find",
            (Get, "events"),
            "Events that fit, newest first",
            Table(&["at", "kind", "recipient", "ip", "provider", "class", "reply", "why/words", "message"]),
            "weir events find --recipient bob@gmail.com --kind bounced,deferred --from 2026-11-01T00:00:00Z",
        )
        .takes(FILTERS),
        Verb::row(
            "follow",
            (Get, "events:follow"),
            "Events as they happen, one a line, until you stop it",
            Page(|_, _| String::new()),
            "weir events follow --account shop --kind bounced",
        )
        .by(follow)
        .takes(FILTERS),
    ],
};

/// With `--json`, each line is the event as the interface tells it.
fn follow(line: &Line) -> Result<Answer, Fault> {
    let as_json = line.is("json");
    line.follow(&mut |event| if as_json { event.to_string() } else { told(event) })
}

fn told(event: &Value) -> String {
    let parts = ["ip", "provider", "reply"].map(|field| text(event, field).replace('\n', " "));
    let why = text(event, "why/words").to_owned();
    let said: Vec<String> = parts.into_iter().chain([why]).filter(|part| !part.is_empty()).collect();
    let (at, kind) = (text(event, "at"), text(event, "kind"));
    format!("{at}  {kind:<10} {}  {}", text(event, "recipient"), said.join(" · ")).trim_end().to_owned()
}
