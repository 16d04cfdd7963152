//! `weir domain`: from where an account may send, what to publish for it, and the keys its mail is signed with.

use crate::client::{Answer, Fault};
use crate::commands::show::{items, text};
use crate::commands::verb::Act::{Delete, Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Page, Said, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, away, body, here, path};
use hyper::StatusCode;
use serde_json::{Value, json};

const FIELDS: &[&str] = &[
    "id",
    "account",
    "name",
    "state",
    "words",
    "verified_at",
    "verified_by",
    "losing_until",
    "mail_from",
    "mail_from_is_good",
    "tracking_host",
    "checked_at",
    "check_at",
    "revision",
    "created_at",
];
const ALL: &str = "accounts/{account}/domains";
const ONE: &str = "accounts/{account}/domains/{domain}";
const CHECK: &str = "accounts/{account}/domains/{domain}/check";
const KEYS: &str = "accounts/{account}/domains/{domain}/dkim-keys";
const KEY_COLUMNS: &[&str] = &["selector", "algorithm", "origin", "state", "state_since"];

const MAIL_FROM: Arg = body("mail-from", "A name below the domain that its bounces go to");
const TRACKING: Arg = body("tracking-host", "A name below the domain that leads here, for links and pictures");

pub const NOUN: Noun = Noun {
    name: "domain",
    about: "Domains: from where an account may send, and what to publish for it",
    verbs: &[
        Verb::row("create", (Post, ALL), "Claim a domain, with keys for it", Card(FIELDS), "weir domain create example.com --account shop").takes(&[
            body("name", "The domain, such as example.com").positional(),
            MAIL_FROM,
            TRACKING,
        ]),
        Verb::row("list", (Get, ALL), "The account's domains", Table(&["name", "state", "verified_by", "words"]), "weir domain list --account shop"),
        Verb::row("show", (Get, ONE), "One domain: how it stands and why", Card(FIELDS), "weir domain show example.com --account shop"),
        Verb::row("change", (Patch, ONE), "Change where its bounces and links go", Card(FIELDS), "weir domain change example.com --account shop --mail-from bounce.example.com")
            .takes(&[
                MAIL_FROM,
                away("no-mail-from", "mail_from", "Bounces go to the service's own name"),
                TRACKING,
                away("no-tracking-host", "tracking_host", "Links and pictures lead to the service's own name"),
            ]),
        Verb::row(
            "records",
            (Get, "accounts/{account}/domains/{domain}/records"),
            "What to publish in the DNS, and what was found there",
            Page(records),
            "weir domain records example.com --account shop",
        ),
        Verb::row("check", (Post, CHECK), "Look for its records now", Card(FIELDS), "weir domain check example.com --account shop"),
        Verb::row(
            "verify",
            (Post, "accounts/{account}/domains/{domain}/verification"),
            "Have a domain verified: by its records, or without DNS on the operator's word; claims it first where needed",
            Card(FIELDS),
            "weir domain verify example.com --account shop --without-dns",
        )
        .by(verify)
        .takes(&[here("without-dns", "The operator vouches for it, and nothing is looked up").flag()]),
        Verb::row("keys", (Get, KEYS), "The keys its mail is signed with", Table(KEY_COLUMNS), "weir domain keys example.com --account shop"),
        Verb::row(
            "rotate-dkim",
            (Post, "accounts/{account}/domains/{domain}/dkim-rotation"),
            "Make successors of its keys; each signs once its record is published",
            Table(KEY_COLUMNS),
            "weir domain rotate-dkim example.com --account shop",
        ),
        Verb::row(
            "bring-key",
            (Post, KEYS),
            "Bring a DKIM key of your own",
            Table(KEY_COLUMNS),
            "weir domain bring-key example.com --account shop --selector s1 --pem s1.pem",
        )
        .takes(&[
            body("selector", "Its name below _domainkey").required(),
            body("pem", "A file with the private key; - is standard input").file().required(),
        ]),
        Verb::row(
            "remove-key",
            (Delete, "accounts/{account}/domains/{domain}/dkim-keys/{selector}"),
            "Take away a key that does not sign",
            Said("The key {selector} is gone."),
            "weir domain remove-key example.com --account shop --selector s1",
        )
        .takes(&[path("selector", "Its name below _domainkey").required()]),
        Verb::row("delete", (Delete, ONE), "Delete a domain with its keys; its mail is refused from then on", Said("Domain {domain} is gone."), "weir domain delete example.com --account shop"),
    ],
};

/// One line is enough to have a domain that can be sent from: it is claimed where it is not yet.
fn verify(line: &Line) -> Result<Answer, Fault> {
    let ask = || if line.is("without-dns") { line.ask() } else { line.call(Post, &line.filled(CHECK), None, &[]) };
    match ask() {
        Err(Fault::Refused { status: StatusCode::NOT_FOUND, .. }) => {
            let new = json!({ "name": line.text("domain") });
            line.call(Post, &line.filled(ALL), Some(&new), &[])?;
            ask()
        }
        answered => answered,
    }
}

/// A block for each record, ready to be copied into a zone.
fn records(answer: &Value, _: &Line) -> String {
    let block = |record: &Value| {
        let need = if record["required"] == true { "required" } else { "advised" };
        let value = text(record, "value");
        let mut lines = vec![
            format!("{} ({need}, {})", text(record, "purpose"), text(record, "state")),
            format!("  {} {}", text(record, "name"), text(record, "kind")),
            format!("  {value}"),
        ];
        let found = items(record, "found").iter().filter_map(Value::as_str).filter(|found| *found != value);
        lines.extend(found.map(|found| format!("  found instead: {found}")));
        lines.extend(items(record, "problems").iter().map(|problem| format!("  {}", text(problem, "words"))));
        if !text(record, "note").is_empty() {
            lines.push(format!("  {}", text(record, "note")));
        }
        lines.join("\n")
    };
    items(answer, "items").iter().map(block).collect::<Vec<_>>().join("\n\n")
}
