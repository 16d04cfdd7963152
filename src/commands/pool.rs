//! `weir pool`: which IPs send together, and for whom.

use crate::commands::verb::Act::{Delete, Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Said, Table};
use crate::commands::verb::{Arg, Noun, Verb, away, body, query};

const FIELDS: &[&str] = &[
    "id",
    "account",
    "region",
    "name",
    "kind",
    "is_default",
    "overflow",
    "leaving",
    "relay",
    "active_within",
    "ips",
    "revision",
    "created_at",
];
const COLUMNS: &[&str] = &["id", "name", "region", "kind", "is_default", "overflow", "ips"];
const ALL: &str = "accounts/{account}/pools";
const ONE: &str = "accounts/{account}/pools/{pool}";

const OVERFLOW: Arg = body("overflow", "The pool that takes what exceeds this one's allowance");
const LEAVING: Arg = body(
    "leaving",
    "Where mail goes that its IPs have no place for today, after that: by the shared pool, a relay, or never",
)
.one_of(&["shared", "relay", "never"]);
const RELAY: Arg = body("relay", "The account's relay that takes what finds no place; see weir relay");
const ACTIVE_WITHIN: Arg =
    body("active-within", "Mail to whoever opened or clicked within so many days goes by its warming IPs first")
        .number();
const REGION: Arg = body("region", "Without this, the home region");

pub const NOUN: Noun = Noun {
    name: "pool",
    about: "Pools: which IPs send together, and for whom",
    verbs: &[
        Verb::row("create", (Post, ALL), "Make a pool", Card(FIELDS), "weir pool create news --account shop").takes(&[
            body("name", "1 to 20 letters and digits").positional(),
            REGION,
            body("kind", "standard: arranged by the account. managed: by the service, for the operator to make")
                .one_of(&["standard", "managed"]),
            OVERFLOW,
            LEAVING,
            RELAY,
            ACTIVE_WITHIN,
        ]),
        Verb::row("list", (Get, ALL), "The account's pools", Table(COLUMNS), "weir pool list --account shop"),
        Verb::row("show", (Get, ONE), "One pool, with its IPs", Card(FIELDS), "weir pool show news --account shop"),
        Verb::row(
            "rename",
            (Patch, ONE),
            "Give a pool another name",
            Card(FIELDS),
            "weir pool rename news letters --account shop",
        )
        .takes(&[body("name", "What it is called from now on").positional()]),
        Verb::row(
            "change",
            (Patch, ONE),
            "Change a pool's name, or where its mail goes while its IPs warm up",
            Card(FIELDS),
            "weir pool change news --account shop --overflow default",
        )
        .takes(&[
            body("name", "What it is called from now on"),
            OVERFLOW,
            away("no-overflow", "overflow", "Nothing leaves by another pool"),
            LEAVING,
            RELAY,
            away("no-relay", "relay", "Nothing leaves by a relay"),
            ACTIVE_WITHIN,
            away("all-alike", "active_within", "Whoever it is for, mail has the same places"),
        ]),
        Verb::row(
            "move-ip",
            (Post, "accounts/{account}/pools/{pool}/ips"),
            "Move one of the account's IPs into this pool",
            Card(FIELDS),
            "weir pool move-ip news 192.0.2.1 --account shop",
        )
        .takes(&[
            body("ip", "The address; it leaves the pool it is in").positional(),
            body("although-empty", "The pool it leaves may be without IPs then").flag(),
        ]),
        Verb::row(
            "delete",
            (Delete, ONE),
            "Delete a pool; what is queued from it leaves all the same",
            Said("Pool {pool} is gone."),
            "weir pool delete news --account shop --move-ips-to default",
        )
        .takes(&[
            query("move-ips-to", "The pool its IPs go to; without this, a pool that has IPs stays"),
            query("although-used", "What uses it uses none from then on; without this, a pool in use stays").flag(),
        ]),
        Verb::row(
            "shared",
            (Get, "shared-pools"),
            "The shared pools of all regions. For the operator",
            Table(COLUMNS),
            "weir pool shared",
        ),
        Verb::row(
            "create-shared",
            (Post, "shared-pools"),
            "Make a further shared pool. For the operator",
            Card(FIELDS),
            "weir pool create-shared newcomers --tier probation",
        )
        .takes(&[
            body("name", "What it is called").positional(),
            REGION,
            body("tier", "For the senders of this tier; without this, for whoever names it").one_of(&[
                "penalty",
                "probation",
                "standard",
                "trusted",
            ]),
        ]),
    ],
};
