//! `weir set`: configuration sets, which an application sends with by name.

use crate::commands::verb::Act::{Delete, Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Said, Table};
use crate::commands::verb::{Arg, Noun, Verb, away, body};

const FIELDS: &[&str] = &[
    "id",
    "account",
    "name",
    "pool",
    "tls",
    "lifetime_s",
    "suppression",
    "tracking_host",
    "tracks_opens",
    "tracks_clicks",
    "unsubscribe",
    "destinations",
    "sends",
    "reputation",
    "revision",
    "created_at",
];
const ALL: &str = "accounts/{account}/configuration-sets";
const ONE: &str = "accounts/{account}/configuration-sets/{set}";

const POOL: Arg = body("pool", "Its mail leaves from this pool");
const TLS: Arg = body("tls", "How the last leg is protected").one_of(&["if-offered", "required"]);
const LIFETIME: Arg = body("lifetime-s", "How long a message may wait, in seconds").number();
const SUPPRESSION: Arg =
    body("suppression", "What ends writing to a recipient").list().one_of(&["bounce", "complaint"]);
const TRACKING: Arg = body("tracking-host", "The name that links and pictures lead to");
const TRACKS_OPENS: Arg = body("tracks-opens", "Whether it is heard of who opens a message").yes_no();
const TRACKS_CLICKS: Arg = body("tracks-clicks", "Whether it is heard of who follows a link").yes_no();
const UNSUBSCRIBE: Arg = body("unsubscribe", "Whether readers are offered an end of the stream by one click").yes_no();
const DESTINATIONS: Arg = body("destinations", "Names of event destinations").list();
const SENDS: Arg = body("sends", "Whether mail is taken with it").yes_no();
const REPUTATION: Arg = body("reputation", "Whether its figures are kept apart").yes_no();

pub const NOUN: Noun = Noun {
    name: "set",
    about: "Configuration sets: what an application sends with, by name",
    verbs: &[
        Verb::row(
            "create",
            (Post, ALL),
            "Make a configuration set",
            Card(FIELDS),
            "weir set create receipts --account shop --tls required --lifetime-s 7200",
        )
        .takes(&[
            body("name", "What messages call it").positional(),
            POOL,
            TLS,
            LIFETIME,
            SUPPRESSION,
            TRACKING,
            TRACKS_OPENS,
            TRACKS_CLICKS,
            UNSUBSCRIBE,
            DESTINATIONS,
            SENDS,
            REPUTATION,
        ]),
        Verb::row(
            "list",
            (Get, ALL),
            "The account's configuration sets",
            Table(&["name", "pool", "tls", "lifetime_s", "sends"]),
            "weir set list --account shop",
        ),
        Verb::row("show", (Get, ONE), "One configuration set", Card(FIELDS), "weir set show receipts --account shop"),
        Verb::row(
            "change",
            (Patch, ONE),
            "Change a configuration set",
            Card(FIELDS),
            "weir set change receipts --account shop --no-pool",
        )
        .takes(&[
            POOL,
            away("no-pool", "pool", "Its mail leaves as the account's does"),
            TLS,
            away("no-tls", "tls", "As the account has it"),
            LIFETIME,
            away("no-lifetime", "lifetime_s", "As the account has it"),
            SUPPRESSION,
            away("no-suppression", "suppression", "As the account has it"),
            TRACKING,
            TRACKS_OPENS,
            TRACKS_CLICKS,
            UNSUBSCRIBE,
            away("no-tracking-host", "tracking_host", "As the account has it"),
            DESTINATIONS,
            SENDS,
            REPUTATION,
        ]),
        Verb::row(
            "delete",
            (Delete, ONE),
            "Delete a configuration set; what is queued with it goes on as it was accepted",
            Said("Configuration set {set} is gone."),
            "weir set delete receipts --account shop",
        ),
    ],
};
