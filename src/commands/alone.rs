//! What can be asked that belongs to no noun: `weir cancel`, `weir preview`, `weir classify`, `weir stats`, `weir audit`.

use crate::client::{Answer, Fault};
use crate::commands::show;
use crate::commands::verb::Act::{Delete, Get, Post};
use crate::commands::verb::Shown::{Card, Page, Said, Table};
use crate::commands::verb::{Line, Verb, body, query};
use serde_json::{Value, json};

pub const VERBS: &[Verb] = &[
    Verb::row(
        "cancel",
        (Delete, "messages/{id}"),
        "Cancel a scheduled message, until its time",
        Said("Message {id} is cancelled."),
        "weir cancel 019a8f6e5d7c7b3e9f1a2b3c4d5e6f70",
    ),
    Verb::row(
        "preview",
        (Post, "routes:preview"),
        "Where a message would go now, by which rule; nothing is sent",
        Card(&["region", "route/pool", "route/rule_words", "route/ip", "route/candidates", "decided_at"]),
        "weir preview --account shop --from ann@example.com --to bob@gmail.com --set receipts",
    )
    .by(preview)
    .takes(&[
        body("account", "For the operator: whose mail, by name or id"),
        body("from", "The sender"),
        body("to", "A recipient; may be given several times").list(),
        body("pool", "The pool it names"),
        body("configuration-set", "The configuration set it is sent with").also("set"),
        body("subaccount", "The subaccount it is of"),
        body("region", "The region it names"),
        body("send-at", "When it is due, such as 2030-01-01T10:00:00Z"),
    ]),
    Verb::row(
        "advise",
        (Get, "accounts/{account}/advice"),
        "Which IPs an account should have, why, and at what cost; by its figures, or by what is typed",
        Page(advised),
        "weir advise --account shop --per-month 150000 --sensitive",
    )
    .takes(&[
        query("per-month", "Messages a month, in place of those measured").number(),
        query("steady", "Whether they come evenly, in place of what is measured").yes_no(),
        query("kinds", "Kinds of mail that go differently, such as receipts and newsletters").number(),
        query("sensitive", "Mail that must arrive at once").flag(),
        query("audited", "Somebody asks who governs the IPs").flag(),
        query("hands-off", "Nobody is there to look after IPs").flag(),
        query("needs-addresses", "Somebody must put the addresses on a list").flag(),
    ]),
    Verb::row(
        "classify",
        (Post, "replies:classify"),
        "What a remote server's reply means here, by which rule, and what follows; nothing is sent",
        Page(meaning),
        "weir classify \"550 5.1.1 The email account that you tried to reach does not exist\" --provider google",
    )
    .takes(&[
        body("reply", "The reply as it came, in quotes").positional(),
        body("provider", "Whose reply it is, such as google; without it, the rules for everybody are asked"),
    ]),
    Verb::row(
        "stats",
        (Get, "statistics"),
        "How much was sent, and what became of it",
        Page(stats),
        "weir stats --account shop --by provider --from 2026-11-01T00:00:00Z",
    )
    .takes(&[
        query("account", "Of this account, by name or id; `self` is the key's own"),
        query("subaccount", "Of this subaccount, by name or id"),
        query("configuration-set", "Sent with this configuration set").also("set"),
        query("pool", "By this pool, by its id"),
        query("ip", "From this IP"),
        query("provider", "At this provider, such as gmail"),
        query("domain", "Of this domain of the sender's"),
        query(
            "by",
            "Told apart by account, subaccount, configuration_set, pool, ip, provider, domain; with commas between",
        ),
        query("resolution", "A line for each").one_of(&["minute", "hour", "day"]),
        query("from", "From this moment on; without it, a day before the end"),
        query("until", "Before this moment; without it, now"),
    ]),
    Verb::row(
        "audit",
        (Get, "audit"),
        "Who changed what, when, from where; newest first",
        Table(&["at", "actor_kind", "actor_name", "actor_from", "action", "subject_kind", "subject", "account"]),
        "weir audit --account shop --limit 20",
    )
    .takes(&[
        query("account", "Of this account, by name or id; `self` is the key's own"),
        query("subject", "About one thing, by its id"),
    ]),
];

/// The meaning, a line for each sentence of what follows, and what others call it.
fn meaning(answer: &Value, _: &Line) -> String {
    let said = |field: &str| show::text(answer, field).to_owned();
    let mut rows: Vec<(String, String)> =
        ["class", "subtype", "rule"].map(|field| (field.to_owned(), said(field))).into();
    let sentences = show::items(answer, "reaction").iter().filter_map(Value::as_str);
    let names = std::iter::once("reaction").chain(std::iter::repeat(""));
    rows.extend(names.zip(sentences).map(|(name, sentence)| (name.to_owned(), sentence.to_owned())));
    let theirs = |fields: [&str; 2]| fields.map(|field| said(&format!("vocabularies/{field}"))).join("/");
    let code = show::at(answer, "vocabularies/sparkpost/code");
    let [name, category] = ["name", "category"].map(|field| said(&format!("vocabularies/sparkpost/{field}")));
    let delay = said("vocabularies/ses/delay_type");
    rows.extend([
        ("SparkPost".to_owned(), format!("{code} {name} ({category})")),
        ("SES".to_owned(), format!("{}; a delay: {delay}", theirs(["ses/bounce_type", "ses/bounce_subtype"]))),
        ("Resend".to_owned(), theirs(["resend/type", "resend/subtype"])),
    ]);
    show::pairs(&rows)
}

/// The answer, why, what each way costs, and what would change it.
fn advised(answer: &Value, _: &Line) -> String {
    let points = |name: &str| {
        let line = |point: &Value| {
            format!("  {} {}", if point["met"] == true { "+" } else { "-" }, show::text(point, "words"))
        };
        show::items(answer, name).iter().map(line).collect::<Vec<_>>()
    };
    let mut lines = vec![show::text(answer, "words").to_owned(), String::new()];
    lines.extend(points("reasons"));
    lines.push(String::new());
    lines.push(show::table(show::items(answer, "costs"), &["way", "ips", "a_month", "a_thousand"]));
    lines.push("\nWhat would change this answer:".to_owned());
    let changes = show::items(answer, "would_change");
    lines.extend(changes.iter().filter_map(Value::as_str).map(|said| format!("  {said}")));
    lines.push("\nWhat a managed pool requires:".to_owned());
    lines.extend(points("requirements"));
    lines.join("\n")
}

/// A line for each time and place, with what is not nought of the less usual counts.
fn stats(answer: &Value, _: &Line) -> String {
    let items = show::items(answer, "items");
    let is_said =
        |field: &str| items.iter().any(|item| item.pointer(&format!("/{field}")).is_some_and(|is| *is != json!(0)));
    const ALL: &[&str] = &[
        "at",
        "of/account",
        "of/subaccount",
        "of/configuration_set",
        "of/pool",
        "of/ip",
        "of/provider",
        "of/domain",
        "accepted",
        "delivered",
        "deferred",
        "hard",
        "soft",
        "blocked",
        "other",
        "expired",
        "deleted",
        "rejected",
        "suppressed",
        "complained",
        "unsubscribed",
        "opened",
        "clicked",
        "delivered_p50_s",
        "delivered_p95_s",
    ];
    let usual = ["accepted", "delivered", "deferred", "hard", "soft", "blocked"];
    let fields: Vec<&str> = ALL.iter().copied().filter(|field| usual.contains(field) || is_said(field)).collect();
    let (from, until) = (show::text(answer, "from"), show::text(answer, "until"));
    format!("{from} to {until}\n{}", show::table(items, &fields))
}

/// The data plane knows accounts by id.
fn preview(line: &Line) -> Result<Answer, Fault> {
    let mut body = line.body()?;
    if let Some(called) = line.text("account") {
        body.insert("account".to_owned(), json!(line.account_id(called)?));
    }
    line.ask_with(body)
}
