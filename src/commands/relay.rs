//! `weir relay`: SMTP services elsewhere that take what finds no place.

use crate::commands::verb::Act::{Delete, Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Said, Table};
use crate::commands::verb::{Arg, Noun, Verb, away, body};

const FIELDS: &[&str] =
    &["id", "account", "name", "host", "port", "security", "user", "address", "revision", "created_at"];
const ALL: &str = "accounts/{account}/relays";
const ONE: &str = "accounts/{account}/relays/{relay}";

const SECURITY: Arg =
    body("security", "What protects the connection; clear is for one's own network, without a password").one_of(&[
        "start-tls",
        "tls",
        "clear",
    ]);

pub const NOUN: Noun = Noun {
    name: "relay",
    about: "Relays: SMTP services elsewhere that take what an account's warming IPs have no place for",
    verbs: &[
        Verb::row(
            "create",
            (Post, ALL),
            "Make a relay known; mail leaves by it where a pool says so",
            Card(FIELDS),
            "weir relay create before --account shop --host email-smtp.eu-west-1.amazonaws.com --user AKIA… --password secret.txt",
        )
        .takes(&[
            body("name", "What it is called").positional(),
            body("host", "The host name of the service"),
            body("port", "Without this, 587; with tls, 465").number(),
            SECURITY,
            body("user", "The name to sign in with"),
            body("password", "A file with the password to sign in with; - is standard input").file(),
        ]),
        Verb::row("list", (Get, ALL), "The account's relays", Table(&["id", "name", "host", "port", "user"]), "weir relay list --account shop"),
        Verb::row("show", (Get, ONE), "One relay; its password is shown to nobody", Card(FIELDS), "weir relay show before --account shop"),
        Verb::row(
            "change",
            (Patch, ONE),
            "Change a relay; another host or name needs the password anew",
            Card(FIELDS),
            "weir relay change before --account shop --password secret.txt",
        )
        .takes(&[
            body("name", "What it is called from now on"),
            body("host", "The host name of the service"),
            body("port", "Its port").number(),
            SECURITY,
            body("user", "The name to sign in with"),
            away("no-user", "user", "It asks for none; the password is forgotten"),
            body("password", "A file with the password to sign in with; - is standard input").file(),
        ]),
        Verb::row(
            "delete",
            (Delete, ONE),
            "Forget a relay that no pool uses; what waits for it goes back to its pool",
            Said("Relay {relay} is gone."),
            "weir relay delete before --account shop",
        ),
    ],
};
