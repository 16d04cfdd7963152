//! `weir account`: the tenants, and how much each may send.

use crate::commands::verb::Act::{Get, Patch, Post, Put};
use crate::commands::verb::Shown::{Card, Table};
use crate::commands::verb::{Arg, Noun, Verb, body, path};

const FIELDS: &[&str] =
    &["id", "name", "plan", "standing", "standing_reason", "senders", "has_payment_method", "revision", "created_at"];
const NAME: Arg = path("account", "The account, by name or id").positional();
const ONE: &str = "accounts/{account}";
const PLAN: Arg = body("plan", "What it pays for").one_of(&["free", "standard", "enterprise"]);

pub const NOUN: Noun = Noun {
    name: "account",
    about: "Accounts: who sends, on which plan, how much, and whether at all",
    verbs: &[
        Verb::row(
            "create",
            (Post, "accounts"),
            "Make an account, with its default pool. For the operator",
            Card(FIELDS),
            "weir account create shop --standing production",
        )
        .takes(&[
            body("name", "What it is called; no two are called the same").positional(),
            PLAN,
            body("standing", "A sandbox account reaches only recipients that it has shown to be its own")
                .one_of(&["sandbox", "production"]),
            body("has-payment-method", "It can be charged").flag(),
        ]),
        Verb::row(
            "list",
            (Get, "accounts"),
            "All accounts, oldest first. For the operator",
            Table(&["id", "name", "plan", "standing", "created_at"]),
            "weir account list",
        ),
        Verb::row("show", (Get, ONE), "One account; `self` is the key's own", Card(FIELDS), "weir account show shop")
            .takes(&[NAME]),
        Verb::row(
            "change",
            (Patch, ONE),
            "Change name, plan, standing. For the operator",
            Card(FIELDS),
            "weir account change shop --plan enterprise",
        )
        .takes(&[
            NAME,
            body("name", "What it is called from now on"),
            PLAN,
            body("standing", "How it may send").one_of(&["sandbox", "production", "paused"]),
            body("standing-reason", "Why; with --standing"),
            body("senders", "What may stand in From: verified domains and addresses only, or any")
                .one_of(&["verified", "any"]),
            body("has-payment-method", "Whether it can be charged").yes_no(),
        ]),
        Verb::row(
            "pause",
            (Patch, ONE),
            "Let an account send nothing until it is resumed. For the operator",
            Card(FIELDS),
            "weir account pause shop --standing-reason \"Too many complaints; write to abuse@example.net\"",
        )
        .says(&[("standing", "paused")])
        .takes(&[
            NAME,
            body("standing-reason", "Why, and what ends it; the account reads it in every refusal").required(),
        ]),
        Verb::row(
            "resume",
            (Patch, ONE),
            "Let a paused account send again. For the operator",
            Card(FIELDS),
            "weir account resume shop",
        )
        .takes(&[NAME, body("standing", "As what it goes on").or("production").one_of(&["production", "sandbox"])]),
        Verb::row(
            "quota",
            (Get, "accounts/{account}/quotas"),
            "How much the account may send in each region, and how much of it is used",
            Table(&["region", "per_day", "per_second", "used", "used_percent"]),
            "weir account quota shop",
        )
        .takes(&[NAME]),
        Verb::row(
            "set-quota",
            (Put, "accounts/{account}/quotas/{region}"),
            "Set how much the account may send in a region. For the operator",
            Card(&["region", "per_day", "per_second"]),
            "weir account set-quota shop --region main --per-day 50000 --per-second 20",
        )
        .takes(&[
            NAME,
            path("region", "The region; `weir region list` has all").required(),
            body("per-day", "Recipients in any 24 hours").number().required(),
            body("per-second", "Recipients a second").number().required(),
        ]),
    ],
};
