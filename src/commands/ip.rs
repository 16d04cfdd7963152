//! `weir ip`: the inventory of addresses that mail leaves from.

use crate::commands::show::{items, table};
use crate::commands::verb::Act::{Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Page, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, away, body, query};
use serde_json::Value;

const FIELDS: &[&str] = &[
    "address",
    "region",
    "ehlo",
    "state",
    "state_since",
    "state_until",
    "pool",
    "account",
    "rotation_reason",
    "wiring/bind",
    "wiring/hop",
    "revision",
];
const COLUMNS: &[&str] = &["address", "region", "state", "pool", "account", "ehlo", "rotation_reason"];
const CHECKS: &[&str] = &["name", "outcome", "at", "words"];
const ONE: &str = "ips/{ip}";
const ORDERS: &str = "ips/{ip}/orders";

const EHLO: Arg = body("ehlo", "The name it greets with; {ip} stands for the address with hyphens");
const BIND: Arg = body("bind", "What is bound on the machine, behind one-to-one NAT");
const HOP: Arg = body("hop", "The machine that has it: \"socks5 192.0.2.1:1080\" or \"proxy 192.0.2.1:1080\"");
const REASON: Arg = body("reason", "Why; it stays in the IP's story").required();

pub const NOUN: Noun = Noun {
    name: "ip",
    about: "IPs: the addresses mail leaves from, what each is for, and whether it is fit",
    verbs: &[
        Verb::row(
            "add",
            (Post, "ips"),
            "Add IPs to the inventory, all or none. For the operator",
            Table(COLUMNS),
            "weir ip add 192.0.2.0/28 --ehlo \"mta-{ip}.example.net\"",
        )
        .takes(&[
            body("addresses", "Addresses, or networks such as 192.0.2.0/28").list().positional(),
            body("region", "Where it stays for ever; without this, the home region"),
            EHLO,
            BIND,
            HOP,
            body("shared-pool", "A shared pool they go into at once"),
        ]),
        Verb::row(
            "list",
            (Get, "[accounts/{account}/]ips"),
            "IPs by address: the operator sees all, an account those it leases",
            Table(COLUMNS),
            "weir ip list --state available",
        )
        .takes(&[
            query("region", "Of this region"),
            query("state", "In this state").one_of(&[
                "available",
                "leased",
                "shared",
                "draining",
                "resting",
                "out-of-service",
            ]),
            query("pool", "Of this pool"),
        ]),
        Verb::row(
            "discover",
            (Get, "ips/discovered"),
            "What this machine has and the inventory has not. For the operator",
            Table(&["address", "interface", "reach", "up"]),
            "weir ip discover",
        ),
        Verb::row("show", (Get, ONE), "One IP", Card(FIELDS), "weir ip show 192.0.2.1"),
        Verb::row(
            "change",
            (Patch, ONE),
            "Change its name or wiring. For the operator",
            Card(FIELDS),
            "weir ip change 192.0.2.1 --ehlo mta1.example.net",
        )
        .takes(&[EHLO, BIND, HOP, away("no-hop", "hop", "It is on this machine")]),
        Verb::row(
            "check",
            (Post, "ips/{ip}/checks"),
            "Look at it now: is it here, do its names lead back, is it on a block list. For the operator",
            Table(CHECKS),
            "weir ip check 192.0.2.1",
        ),
        Verb::row(
            "story",
            (Get, "ips/{ip}/story"),
            "Its life, and what its checks found. For the operator",
            Page(story),
            "weir ip story 192.0.2.1",
        ),
        Verb::row(
            "share",
            (Post, ORDERS),
            "Put it into a shared pool. For the operator",
            Card(FIELDS),
            "weir ip share 192.0.2.1 --pool shared",
        )
        .says(&[("order", "share")])
        .takes(&[body("pool", "The shared pool, by name or id").required()]),
        Verb::row(
            "unshare",
            (Post, ORDERS),
            "Take it out of its shared pool. For the operator",
            Card(FIELDS),
            "weir ip unshare 192.0.2.1",
        )
        .says(&[("order", "unshare")]),
        Verb::row(
            "out-of-service",
            (Post, ORDERS),
            "Let nobody have it, while nobody leases it. For the operator",
            Card(FIELDS),
            "weir ip out-of-service 192.0.2.1 --reason \"moving\"",
        )
        .says(&[("order", "out-of-service")])
        .takes(&[REASON]),
        Verb::row(
            "available",
            (Post, ORDERS),
            "Let it be leased. For the operator",
            Card(FIELDS),
            "weir ip available 192.0.2.1 --reason \"moved\"",
        )
        .says(&[("order", "available")])
        .takes(&[REASON]),
        Verb::row(
            "out-of-rotation",
            (Post, ORDERS),
            "Give it no new mail, wherever it is; what is queued on it still leaves. For the operator",
            Card(FIELDS),
            "weir ip out-of-rotation 192.0.2.1 --reason \"listed by a block list\"",
        )
        .says(&[("order", "out-of-rotation")])
        .takes(&[REASON]),
        Verb::row(
            "into-rotation",
            (Post, ORDERS),
            "Give it new mail again. For the operator",
            Card(FIELDS),
            "weir ip into-rotation 192.0.2.1",
        )
        .says(&[("order", "into-rotation")]),
    ],
};

fn story(answer: &Value, _: &Line) -> String {
    let steps = table(items(answer, "steps"), &["at", "state", "actor", "reason"]);
    match items(answer, "checks") {
        [] => format!("{steps}\n\nIt was not checked yet: weir ip check."),
        checks => format!("{steps}\n\n{}", table(checks, CHECKS)),
    }
}
