//! `weir key`: credentials, the secrets by which programs are let in.

use crate::client::{Answer, Fault};
use crate::commands::show::{pairs, text};
use crate::commands::verb::Act::{Delete, Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Page, Said, Table};
use crate::commands::verb::{Line, Noun, Verb, away, body};
use serde_json::{Value, json};

const FIELDS: &[&str] = &[
    "id",
    "account",
    "subaccount",
    "kind",
    "name",
    "login",
    "scopes",
    "networks",
    "expires_at",
    "revoked_at",
    "overlap_until",
    "revision",
    "created_at",
];
const ALL: &str = "[accounts/{account}/]credentials";
const ONE: &str = "[accounts/{account}/]credentials/{credential}";
const SCOPES: &[&str] = &["send", "read", "manage"];

pub const NOUN: Noun = Noun {
    name: "key",
    about: "Keys: what lets programs in, by HTTP, SMTP, or as clients of Amazon SES",
    verbs: &[
        Verb::row(
            "create",
            (Post, ALL),
            "Make a key; its secret is shown this once",
            Page(shown),
            "weir key create --account shop --kind smtp",
        )
        .by(create)
        .takes(&[
            body("kind", "api: for HTTP. aws: an access key, for clients of Amazon SES. smtp: a user and a password")
                .or("api")
                .one_of(&["api", "aws", "smtp"]),
            body("name", "What you call it").or("made by weir key create"),
            body("scopes", "What it is good for; without this all of them, of an smtp key send alone")
                .list()
                .one_of(SCOPES),
            body("subaccount", "Of this subaccount alone"),
            body("networks", "Good only from these, such as 192.0.2.0/24").list(),
            body("expires-at", "Good until then, such as 2030-01-01T00:00:00Z"),
        ]),
        Verb::row(
            "list",
            (Get, ALL),
            "Keys, without their secrets",
            Table(&["id", "kind", "name", "login", "scopes", "expires_at", "revoked_at"]),
            "weir key list --account shop",
        ),
        Verb::row(
            "show",
            (Get, ONE),
            "One key, without its secret",
            Card(FIELDS),
            "weir key show KEY_ID --account shop",
        ),
        Verb::row(
            "change",
            (Patch, ONE),
            "Change what a key is good for",
            Card(FIELDS),
            "weir key change KEY_ID --scopes send,read",
        )
        .takes(&[
            body("name", "What you call it"),
            body("scopes", "What it is good for").list().one_of(SCOPES),
            body("networks", "Good only from these").list(),
            body("expires-at", "Good until then"),
            away("no-end", "expires_at", "Good until it is revoked"),
        ]),
        Verb::row(
            "rotate",
            (Post, "[accounts/{account}/]credentials/{credential}/rotation"),
            "Make a new secret for a key; the old one is good for a while beside it",
            Page(shown),
            "weir key rotate KEY_ID --account shop --overlap-s 3600",
        )
        .takes(&[body(
            "overlap-s",
            "For how long the old secret is good, in seconds; 0 ends it at once, without this a day",
        )
        .number()]),
        Verb::row(
            "revoke",
            (Delete, ONE),
            "Take a key back, at once and for good",
            Said("Key {credential} is good no more."),
            "weir key revoke KEY_ID --account shop",
        ),
    ],
};

/// The interface wants scopes to be named. Who makes a key by hand and names none wants one that does all that its kind can.
fn create(line: &Line) -> Result<Answer, Fault> {
    let mut body = line.body()?;
    let usual = if body.get("kind") == Some(&json!("smtp")) { &SCOPES[..1] } else { SCOPES };
    body.entry("scopes").or_insert_with(|| json!(usual));
    line.ask_with(body)
}

fn shown(answer: &Value, _: &Line) -> String {
    let mut rows = vec![("id".to_owned(), text(answer, "credential/id").to_owned())];
    for field in ["key", "access_key_id", "secret_access_key", "user", "password"] {
        if !text(answer, field).is_empty() {
            rows.push((field.replace('_', " "), text(answer, field).to_owned()));
        }
    }
    for (region, password) in answer["smtp_passwords"].as_object().into_iter().flatten() {
        let password = password.as_str().unwrap_or_default();
        rows.push((format!("SMTP password in {region}"), password.to_owned()));
    }
    let hint = match text(answer, "credential/kind") {
        "api" => "For the command line: export WEIR_KEY=KEY. ",
        "aws" => "By SMTP the access key id is the user name. ",
        _ => "",
    };
    format!("{}\n\n{hint}The secret is shown this once.", pairs(&rows))
}
