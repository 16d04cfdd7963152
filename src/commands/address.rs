//! `weir address`: single addresses that an account may send from, and in the sandbox to.

use crate::commands::verb::Act::{Delete, Get, Post};
use crate::commands::verb::Shown::{Card, Said, Table};
use crate::commands::verb::{Noun, Verb, body};

const FIELDS: &[&str] = &["id", "account", "address", "state", "verified_at", "expires_at", "created_at"];
const ALL: &str = "accounts/{account}/addresses";
const ONE: &str = "accounts/{account}/addresses/{address}";

pub const NOUN: Noun = Noun {
    name: "address",
    about: "Addresses: single mailboxes that an account shows to be its own",
    verbs: &[
        Verb::row(
            "create",
            (Post, ALL),
            "Claim an address; a token is mailed there",
            Card(FIELDS),
            "weir address create ann@example.com --account shop",
        )
        .takes(&[body("address", "The mail address").positional()]),
        Verb::row(
            "list",
            (Get, ALL),
            "The account's addresses",
            Table(&["address", "state", "verified_at", "expires_at"]),
            "weir address list --account shop",
        ),
        Verb::row("show", (Get, ONE), "One address", Card(FIELDS), "weir address show ann@example.com --account shop"),
        Verb::row(
            "confirm",
            (Post, "address-confirmations"),
            "Confirm an address with the token that was mailed to it; needs no key",
            Card(FIELDS),
            "weir address confirm TOKEN",
        )
        .open()
        .takes(&[body("token", "The token, as the mail has it").positional()]),
        Verb::row(
            "verify",
            (Post, "accounts/{account}/addresses/{address}/verification"),
            "Vouch for an address without mail. For the operator",
            Card(FIELDS),
            "weir address verify ann@example.com --account shop",
        ),
        Verb::row(
            "delete",
            (Delete, ONE),
            "Delete an address",
            Said("Address {address} is gone."),
            "weir address delete ann@example.com --account shop",
        ),
    ],
};
