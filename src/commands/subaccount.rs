//! `weir subaccount`: parts of an account, each with its own pool and keys.

use crate::commands::verb::Act::{Delete, Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Said, Table};
use crate::commands::verb::{Noun, Verb, away, body};

const FIELDS: &[&str] = &["id", "account", "name", "pool", "sends", "revision", "created_at"];
const ALL: &str = "accounts/{account}/subaccounts";
const ONE: &str = "accounts/{account}/subaccounts/{subaccount}";

pub const NOUN: Noun = Noun {
    name: "subaccount",
    about: "Subaccounts: parts of an account with a pool and keys of their own",
    verbs: &[
        Verb::row(
            "create",
            (Post, ALL),
            "Make a subaccount",
            Card(FIELDS),
            "weir subaccount create news --account shop --pool news",
        )
        .takes(&[body("name", "What it is called").positional(), body("pool", "All its mail leaves from this pool")]),
        Verb::row(
            "list",
            (Get, ALL),
            "The account's subaccounts",
            Table(&["id", "name", "pool", "sends"]),
            "weir subaccount list --account shop",
        ),
        Verb::row("show", (Get, ONE), "One subaccount", Card(FIELDS), "weir subaccount show news --account shop"),
        Verb::row(
            "change",
            (Patch, ONE),
            "Change a subaccount",
            Card(FIELDS),
            "weir subaccount change news --account shop --sends no",
        )
        .takes(&[
            body("name", "What it is called from now on"),
            body("pool", "All its mail leaves from this pool"),
            away("no-pool", "pool", "Its mail leaves as the account's does"),
            body("sends", "Whether mail is taken from it").yes_no(),
        ]),
        Verb::row(
            "delete",
            (Delete, ONE),
            "Delete a subaccount; its keys stop with it",
            Said("Subaccount {subaccount} is gone."),
            "weir subaccount delete news --account shop",
        ),
    ],
};
