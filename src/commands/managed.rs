//! `weir managed`: how many IPs managed pools have and need, and by which figures.

use crate::commands::show::{card, items, table};
use crate::commands::verb::Act::{Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Page, Table};
use crate::commands::verb::{Line, Noun, Verb, body};
use serde_json::Value;

const ONE: &str = "accounts/{account}/pools/{pool}/scaling";
const ORDERS: &str = "scalings/{scaling}/orders";
const FIELDS: &[&str] = &["pool", "name", "ips", "ips_min", "ips_max", "asks", "sent", "sent_on_own"];
const PROVIDERS: &[&str] = &["provider", "sent_per_day", "carries_per_day", "allowed_today"];
const DECISIONS: &[&str] = &["id", "at", "change", "outcome", "by", "words", "said"];
const DECISION: &[&str] = &[
    "id", "pool", "at", "change", "ips", "needed", "provider", "busy_day", "per_ip", "outcome", "by", "words", "said",
];

pub const NOUN: Noun = Noun {
    name: "managed",
    about: "Managed pools: how many IPs each has and needs, and by which figures",
    verbs: &[
        Verb::row(
            "show",
            (Get, ONE),
            "What it carries, how much leaves from its own IPs, and every decision",
            Page(one),
            "weir managed show bulk --account shop",
        ),
        Verb::row(
            "bounds",
            (Patch, ONE),
            "How many IPs it may have, and whether the operator is asked first",
            Page(one),
            "weir managed bounds bulk --account shop --ips-max 4",
        )
        .takes(&[
            body("ips-min", "It never has fewer").number(),
            body("ips-max", "It never has more").number(),
            body("asks", "yes: the operator is asked before there are more or fewer. For the operator").yes_no(),
        ]),
        Verb::row(
            "fit",
            (Post, "accounts/{account}/managed-pool-fit"),
            "Whether a managed pool may be had for such mail, and whether it would do good",
            Page(fit),
            "weir managed fit --account shop --per-day 5000 --per-month 120000 --volume steady --domains shop.example",
        )
        .takes(&[
            body("per-day", "Messages a day").number().required(),
            body("per-month", "Messages a month").number().required(),
            body("volume", "How they come").one_of(&["steady", "bursts"]).required(),
            body("domains", "Those it would send from").list().required(),
            body("regions", "Where it sends from; without this, the home region").list(),
            body("needs-addresses", "Somebody must put its addresses on a list").flag(),
        ]),
        Verb::row(
            "proposed",
            (Get, "scalings"),
            "Decisions that wait for an answer. For the operator",
            Table(DECISION),
            "weir managed proposed",
        ),
        Verb::row(
            "approve",
            (Post, ORDERS),
            "Let it be done. For the operator",
            Card(DECISION),
            "weir managed approve 7",
        )
        .says(&[("order", "approve")]),
        Verb::row("refuse", (Post, ORDERS), "Let it be. For the operator", Card(DECISION), "weir managed refuse 7")
            .says(&[("order", "refuse")]),
    ],
};

fn one(answer: &Value, _: &Line) -> String {
    let mut page = card(answer, FIELDS);
    for (name, columns) in [("providers", PROVIDERS), ("decisions", DECISIONS)] {
        let rows = items(answer, name);
        if !rows.is_empty() {
            page.push_str(&format!("\n\n{}", table(rows, columns)));
        }
    }
    page
}

fn fit(answer: &Value, _: &Line) -> String {
    let head = match answer["may_have"].as_bool() {
        Some(true) => "It may have one.",
        _ => "It may not have one yet.",
    };
    let advice = items(answer, "advice");
    let against = match advice.len() {
        0 => "Nothing speaks against it.".to_owned(),
        _ => format!("What speaks against it:\n{}", table(advice, &["code", "words"])),
    };
    format!("{head}\n\n{}\n\n{against}", table(items(answer, "requirements"), &["code", "met", "words"]))
}
