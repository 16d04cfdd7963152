//! `weir webhook`: who is told of events as they happen.

use crate::commands::verb::Act::{Delete, Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Said, Table};
use crate::commands::verb::{Arg, Noun, Verb, body};

const ALL: &str = "accounts/{account}/webhooks";
const ONE: &str = "accounts/{account}/webhooks/{webhook}";
const FIELDS: &[&str] = &[
    "id",
    "name",
    "target",
    "kinds",
    "subaccount",
    "events_max",
    "wait_ms",
    "paused/code",
    "paused/words",
    "waiting_since",
    "failing_since",
    "failures",
    "next_at",
    "secret",
    "revision",
];
const KINDS: Arg = body("kinds", "The kinds of events it hears of; without it, all").list();
const EVENTS_MAX: Arg = body("events-max", "Events of one request at most").number();
const WAIT_MS: Arg = body("wait-ms", "Milliseconds that a request waits to become full").number();

pub const NOUN: Noun = Noun {
    name: "webhook",
    about: "Webhooks: who is told of events as they happen",
    verbs: &[
        Verb::row(
            "list",
            (Get, ALL),
            "Webhooks of an account, oldest first",
            Table(&["id", "name", "target", "kinds", "paused/code"]),
            "weir webhook list --account shop",
        ),
        Verb::row(
            "show",
            (Get, ONE),
            "One webhook, and how it stands with its target",
            Card(FIELDS),
            "weir webhook show orders --account shop",
        ),
        Verb::row(
            "create",
            (Post, ALL),
            "Have events sent to an address; the secret that signs them is shown this once",
            Card(FIELDS),
            "weir webhook create orders --target https://shop.example/events --kinds delivered,bounced --account shop",
        )
        .takes(&[
            body("name", "What it is called").positional(),
            body("target", "Where events are sent to").required(),
            body("subaccount", "Of one subaccount's mail alone"),
            KINDS,
            EVENTS_MAX,
            WAIT_MS,
        ]),
        Verb::row(
            "change",
            (Patch, ONE),
            "Change, pause or resume a webhook",
            Card(FIELDS),
            "weir webhook change orders --paused no --account shop",
        )
        .takes(&[
            body("name", "What it is called from now on"),
            body("target", "Where events are sent to from now on"),
            KINDS,
            EVENTS_MAX,
            WAIT_MS,
            body("paused", "Whether nothing is sent; `no` goes on with the first event that was not taken").yes_no(),
        ]),
        Verb::row(
            "rotate",
            (Post, "accounts/{account}/webhooks/{webhook}/rotate"),
            "Make a new secret, shown this once; the old one signs beside it for a while",
            Card(FIELDS),
            "weir webhook rotate orders --overlap-s 3600 --account shop",
        )
        .takes(&[body("overlap-s", "For how many seconds; a day without it").number()]),
        Verb::row(
            "replay",
            (Post, "accounts/{account}/webhooks/{webhook}/replay"),
            "Send again what has happened since a moment",
            Card(FIELDS),
            "weir webhook replay orders --from 2026-11-21T10:00:00Z --account shop",
        )
        .takes(&[body("from", "Since when").required()]),
        Verb::row(
            "deliveries",
            (Get, "accounts/{account}/webhooks/{webhook}/deliveries"),
            "What was sent and answered lately, newest first",
            Table(&["at", "batch", "events", "taken", "status", "took_ms", "words"]),
            "weir webhook deliveries orders --account shop --limit 20",
        ),
        Verb::row(
            "delete",
            (Delete, ONE),
            "Delete a webhook; what it was not sent yet is not sent",
            Said("Webhook {webhook} is gone."),
            "weir webhook delete orders --account shop",
        ),
    ],
};
