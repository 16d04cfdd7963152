//! `weir person`: who may sign in, and as what.

use crate::commands::show::text;
use crate::commands::verb::Act::{Delete, Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Page, Said, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, body};
use serde_json::Value;

const FIELDS: &[&str] =
    &["id", "account", "email", "role", "has_password", "has_totp", "disabled_at", "revision", "created_at"];
const ALL: &str = "[accounts/{account}/]people";
const ONE: &str = "people/{person}";
const ORDERS: &str = "people/{person}/orders";
const ROLE: Arg = body("role", "What they may do; operator and operator-read-only are not for an account's people")
    .one_of(&["operator", "operator-read-only", "owner", "developer", "viewer"]);

pub const NOUN: Noun = Noun {
    name: "person",
    about: "People: who may sign in, and as what",
    verbs: &[
        Verb::row(
            "invite",
            (Post, ALL),
            "Invite somebody; the link to set a password with is shown this once",
            Page(invited),
            "weir person invite ann@example.com --account shop --role owner",
        )
        .takes(&[body("email", "Their mail address").positional(), ROLE.required()]),
        Verb::row(
            "list",
            (Get, ALL),
            "People, oldest first",
            Table(&["email", "role", "account", "has_password", "has_totp", "disabled_at"]),
            "weir person list --account shop",
        ),
        Verb::row("show", (Get, ONE), "One person", Card(FIELDS), "weir person show ann@example.com"),
        Verb::row(
            "role",
            (Patch, ONE),
            "Give a person another role",
            Card(FIELDS),
            "weir person role ann@example.com developer",
        )
        .takes(&[ROLE.positional()]),
        Verb::row(
            "disable",
            (Post, ORDERS),
            "Sign a person out, and let them in no more",
            Card(FIELDS),
            "weir person disable ann@example.com",
        )
        .says(&[("order", "disable")]),
        Verb::row("enable", (Post, ORDERS), "Let them in again", Card(FIELDS), "weir person enable ann@example.com")
            .says(&[("order", "enable")]),
        Verb::row(
            "link",
            (Post, "people/{person}/link"),
            "A new link, for a forgotten password or an invitation that was not taken up",
            Page(invited),
            "weir person link ann@example.com",
        ),
        Verb::row(
            "whose-link",
            (Post, "links"),
            "Whose link it is, if it is good; needs no key",
            Card(FIELDS),
            "weir person whose-link LINK",
        )
        .open()
        .takes(&[body("link", "The link").positional()]),
        Verb::row(
            "set-password",
            (Post, "links/password"),
            "Set the password that a link is for; the link is used up. Needs no key",
            Card(FIELDS),
            "weir person set-password --link LINK < password.txt",
        )
        .open()
        .takes(&[
            body("link", "The link of the invitation").required(),
            body("password", "The password; without this, a line of standard input").secret(),
        ]),
        Verb::row(
            "sessions",
            (Get, "people/{person}/sessions"),
            "Where a person is signed in",
            Table(&["id", "from", "created_at", "seen_at", "expires_at"]),
            "weir person sessions ann@example.com",
        ),
        Verb::row(
            "sign-out",
            (Delete, "people/{person}/sessions"),
            "Sign a person out everywhere",
            Said("{person} is signed out everywhere."),
            "weir person sign-out ann@example.com",
        ),
        Verb::row(
            "end-session",
            (Delete, "people/{person}/sessions/{session}"),
            "End one session of a person's",
            Said("The session is over."),
            "weir person end-session ann@example.com SESSION_ID",
        ),
        Verb::row(
            "turn-off-codes",
            (Delete, "people/{person}/totp"),
            "Ask for no code any more, for who lost the telephone. For the operator",
            Card(FIELDS),
            "weir person turn-off-codes ann@example.com",
        ),
        Verb::row(
            "remove",
            (Delete, ONE),
            "Remove a person; only the audit log remembers them",
            Said("{person} is removed."),
            "weir person remove ann@example.com",
        ),
    ],
};

fn invited(answer: &Value, _: &Line) -> String {
    let link = text(answer, "link");
    format!(
        "{} may come in as {}, with this one-time link, good until {}:\n\n  {link}\n\nIt is shown this once. They set a password with\n\n  \
         weir person set-password --link {link}",
        text(answer, "person/email"),
        text(answer, "person/role"),
        text(answer, "expires_at"),
    )
}
