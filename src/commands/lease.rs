//! `weir lease`: how an account gets dedicated IPs, and gives them back in two steps.

use crate::commands::show::{card, items, table, text};
use crate::commands::verb::Act::{Get, Post};
use crate::commands::verb::Shown::{Page, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, body, query};
use serde_json::Value;

const COLUMNS: &[&str] = &["id", "ip", "account", "origin", "price_cents", "started_at", "ended_at"];
const REGION: Arg = body("region", "Without this, the home region");
const POOL: Arg = body("pool", "The pool they go into; without this, the account's default pool");
const NEW_POOL: Arg = body("new-pool", "A pool to be made for them: 1 to 20 letters and digits");

pub const NOUN: Noun = Noun {
    name: "lease",
    about: "Leases: how an account gets IPs of its own, and gives them back",
    verbs: &[
        Verb::row(
            "purchase",
            (Post, "accounts/{account}/leases"),
            "Lease dedicated IPs, charged by the day",
            Page(leased),
            "weir lease purchase --account shop --quantity 2 --new-pool news",
        )
        .takes(&[body("quantity", "How many").number().or("1"), REGION, POOL, NEW_POOL]),
        Verb::row(
            "grant",
            (Post, "accounts/{account}/grants"),
            "Give an account dedicated IPs. For the operator",
            Page(leased),
            "weir lease grant --account shop --ips 192.0.2.1,192.0.2.2",
        )
        .takes(&[
            body("quantity", "How many; not with --ips").number(),
            body("ips", "These and no others").list(),
            REGION,
            POOL,
            NEW_POOL,
            body("agreed-price", "What each costs a month, such as 19.00; without this, as the price list says"),
        ]),
        Verb::row(
            "list",
            (Get, "[accounts/{account}/]leases"),
            "Leases, oldest first: what an account has and had, and what it costs",
            Table(COLUMNS),
            "weir lease list --account shop --running",
        )
        .takes(&[query("running", "Only those that have not ended").flag()]),
        Verb::row(
            "release",
            (Post, "accounts/{account}/releases"),
            "Ask to give IPs back; nothing changes before it is confirmed",
            Page(asked),
            "weir lease release 192.0.2.1 --account shop",
        )
        .takes(&[
            body("ips", "The addresses").list().positional(),
            body("although-empty", "Pools may be without IPs then").flag(),
        ]),
        Verb::row(
            "confirm",
            (Post, "accounts/{account}/releases/{release}/confirmation"),
            "Confirm a release: the leases end now, and it cannot be undone",
            Table(COLUMNS),
            "weir lease confirm RELEASE_ID --account shop --token TOKEN",
        )
        .takes(&[body("token", "As `weir lease release` printed it").required()]),
    ],
};

fn leased(answer: &Value, _: &Line) -> String {
    let pool = card(&answer["pool"], &["name", "region", "ips"]);
    format!("{}\n\nThe pool they are in:\n{pool}", table(items(answer, "leases"), COLUMNS))
}

fn asked(answer: &Value, line: &Line) -> String {
    let account = line.text("account").map(|account| format!(" --account {account}")).unwrap_or_default();
    format!(
        "{}\nNothing has changed yet. To confirm, until {}:\n\n  weir lease confirm {}{account} --token {}",
        text(answer, "words"),
        text(answer, "expires_at"),
        text(answer, "id"),
        text(answer, "token"),
    )
}
