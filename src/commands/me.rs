//! `weir me`: who asks; and for people, how they come in and go out.

use crate::commands::verb::Act::{Delete, Get, Post};
use crate::commands::verb::Shown::{Card, Said};
use crate::commands::verb::{Arg, Noun, Verb, body};

const PERSON: &[&str] = &["email", "role", "has_password", "has_totp"];
const CODE: Arg = body("code", "The six digits that the authenticator app shows");

pub const NOUN: Noun = Noun {
    name: "me",
    about: "Who asks, and what they may do; signing in and out",
    verbs: &[
        Verb::row(
            "show",
            (Get, "me"),
            "Whose key this is, and what it is good for",
            Card(&["kind", "id", "name", "account", "subaccount", "scopes", "person/email", "person/role"]),
            "weir me show",
        ),
        Verb::row(
            "sign-in",
            (Post, "sessions"),
            "Sign in; the token that is answered stands for WEIR_KEY",
            Card(&["token", "session/expires_at", "person/email", "person/role"]),
            "weir me sign-in --email ann@example.com",
        )
        .open()
        .takes(&[
            body("email", "The mail address").required(),
            body("password", "The password; without this, a line of standard input").secret(),
            CODE,
        ]),
        Verb::row("sign-out", (Delete, "me/session"), "Sign out", Said("Signed out."), "weir me sign-out"),
        Verb::row(
            "change-password",
            (Post, "me/password"),
            "Change one's own password; every session ends",
            Said("The password is changed, and every session has ended."),
            "weir me change-password < old-and-new-password.txt",
        )
        .takes(&[
            body("old-password", "The password until now; without this, a line of standard input").secret(),
            body("password", "The new one; without this, the next line").secret(),
        ]),
        Verb::row(
            "enrol-codes",
            (Post, "me/totp"),
            "A secret for an authenticator app; codes are asked for once it is confirmed",
            Card(&["secret", "url"]),
            "weir me enrol-codes",
        ),
        Verb::row(
            "confirm-codes",
            (Post, "me/totp/confirmation"),
            "Show with a code that the app has the secret",
            Card(PERSON),
            "weir me confirm-codes 123456",
        )
        .takes(&[CODE.positional()]),
        Verb::row(
            "turn-off-codes",
            (Post, "me/totp/removal"),
            "Ask for no code any more",
            Card(PERSON),
            "weir me turn-off-codes 123456",
        )
        .takes(&[CODE.positional()]),
    ],
};
