//! `weir case`: requests that a person or a policy answers, with the reason.

use crate::commands::show::{card, items, text};
use crate::commands::verb::Act::{Delete, Get, Patch, Post};
use crate::commands::verb::Shown::{Card, Page, Said, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, body, query};
use serde_json::Value;

const FIELDS: &[&str] = &[
    "id",
    "account",
    "kind",
    "state",
    "language",
    "request",
    "facts",
    "decision",
    "opened_at",
    "due_at",
    "is_overdue",
    "answered_at",
    "changed_at",
    "revision",
];
const COLUMNS: &[&str] = &["id", "account", "kind", "state", "opened_at", "due_at", "is_overdue"];
const ONE: &str = "accounts/{account}/cases/{case}";
const KINDS: &[&str] = &["dedicated-ips", "relinquish", "managed-pool", "quota", "leave-sandbox"];
const STATES: &[&str] = &["open", "waiting", "granted", "partly-granted", "denied", "confirmed", "closed"];

const KIND: Arg = query("kind", "Only those of this kind").one_of(KINDS);
const STATE: Arg = query("state", "Only those that stand so").one_of(STATES);
const OVERDUE: Arg = query("overdue", "Only those whose answer is overdue").flag();

pub const NOUN: Noun = Noun {
    name: "case",
    about: "Cases: dedicated IPs, giving them back, managed pools, quotas, leaving the sandbox",
    verbs: &[
        Verb::row(
            "open",
            (Post, "accounts/{account}/cases"),
            "Ask for something; the first answer is due within a day. docs/operate/cases.md says which answers each kind needs",
            Card(FIELDS),
            "weir case open dedicated-ips --account shop --requests region=local,quantity=2 --mail-type transactional --website https://shop.example --opted-in \"at checkout\" --bounces \"off the list at once\" --use-case \"receipts\" --terms yes",
        )
        .takes(&[
            body("kind", "What is asked for").one_of(KINDS).positional(),
            body("requests", "One for each region: region=local,quantity=2 · region=local,rate=20 · region=local,ips=192.0.2.1 · region=local,per_day=50000,per_second=14").objects(),
            body("mail-type", "transactional, marketing, system, subscription or other: what most of it is"),
            body("website", "The web site"),
            body("opted-in", "How the list is built, and how recipients opted in"),
            body("bounces", "What happens with bounces and complaints"),
            body("opting-out", "How recipients opt out"),
            body("number-chosen", "How the wanted number was chosen"),
            body("use-case", "What it is for"),
            body("terms", "Agrees to the terms").yes_no(),
            body("only-opted-in", "Writes only to who asked for it").yes_no(),
            body("bounce-process", "Has a process for bounces and complaints").yes_no(),
            body("pool", "Where leased IPs go; what a managed pool is to be called"),
            body("traffic", "Of a managed pool: kinds=newsletters,per_day=2000,per_month=60000,is_steady=true,domains=shop.example").object(),
            body("although-empty", "Of IPs that are given back: pools may be without any then").flag(),
            body("language", "In which language the service speaks in it").one_of(&["en", "ja"]),
        ]),
        Verb::row(
            "list",
            (Get, "[accounts/{account}/]cases"),
            "Cases, newest first",
            Table(COLUMNS),
            "weir case list --overdue",
        )
        .takes(&[KIND, STATE, OVERDUE]),
        Verb::row("show", (Get, ONE), "One case, with all that was said in it", Page(file), "weir case show case_01… --account shop"),
        Verb::row(
            "say",
            (Post, "accounts/{account}/cases/{case}/messages"),
            "Say something in a case",
            Card(&["id", "state", "due_at"]),
            "weir case say case_01… \"Which web site is it?\" --account shop --asks",
        )
        .takes(&[
            body("text", "What is said").positional(),
            body("asks", "Of the operator: it waits for the customer's answer").flag(),
            body("attachments", "Small files: name=list.txt,content=BASE64").objects(),
        ]),
        Verb::row(
            "grant",
            (Post, "accounts/{account}/cases/{case}/answer"),
            "Grant what is asked for, or a part of it. For the operator",
            Card(FIELDS),
            "weir case grant case_01… --account shop --grants region=local,quantity=1 --reason \"one is enough for 5,000 a day\"",
        )
        .says(&[("answer", "grant")])
        .takes(&[
            body("grants", "What is granted, where it is not all of it; as in weir case open --requests").objects(),
            body("reason", "Needed where less is granted than was asked for"),
        ]),
        Verb::row(
            "deny",
            (Post, "accounts/{account}/cases/{case}/answer"),
            "Deny a case, with the reason and what would change it. For the operator",
            Card(FIELDS),
            "weir case deny case_01… --account shop --reason \"4 % of the mail bounces\" --would-change \"under 2 % for 30 days\"",
        )
        .says(&[("answer", "deny")])
        .takes(&[
            body("reason", "Why").required(),
            body("would-change", "What would change this answer").required(),
        ]),
        Verb::row(
            "confirm",
            (Post, "accounts/{account}/cases/{case}/confirmation"),
            "Confirm that IPs are given back; this cannot be undone",
            Card(FIELDS),
            "weir case confirm case_01… --account shop",
        ),
        Verb::row(
            "close",
            (Post, "accounts/{account}/cases/{case}/closing"),
            "End a case that nobody has answered",
            Card(FIELDS),
            "weir case close case_01… --account shop",
        ),
        Verb::row(
            "reopen",
            (Post, "accounts/{account}/cases/{case}/reopening"),
            "Have a case looked at once more",
            Card(FIELDS),
            "weir case reopen case_01… \"We have cleaned our lists\" --account shop",
        )
        .takes(&[body("text", "Why it should be").positional()]),
        Verb::row(
            "attachment",
            (Get, "accounts/{account}/cases/{case}/attachments/{attachment}"),
            "A file that somebody attached, in base64",
            Card(&["name", "content"]),
            "weir case attachment case_01… att_01… --account shop",
        ),
        Verb::row(
            "stop-waiting",
            (Post, "accounts/{account}/cases/{case}/waiting-end"),
            "Wait no more for IPs that were granted and are not there yet",
            Card(&["id", "state"]),
            "weir case stop-waiting case_01… --account shop",
        ),
        Verb::row(
            "criteria",
            (Get, "accounts/{account}/criteria"),
            "By which criteria a request would be granted at once, and how close the account is to each",
            Page(standings),
            "weir case criteria quota --account shop --per-day 50000",
        )
        .takes(&[
            query("kind", "What would be asked for").one_of(KINDS).positional(),
            query("quantity", "So many IPs").number(),
            query("per-day", "So many recipients in 24 hours").number(),
            query("per-second", "So many a second").number(),
        ]),
        Verb::row(
            "waiting",
            (Get, "waiting-ips"),
            "What was granted and waits for IPs. For the operator",
            Table(&["case", "account", "region", "quantity", "since"]),
            "weir case waiting",
        ),
    ],
};

/// Each policy, with its criteria.
fn standings(answer: &Value, _: &Line) -> String {
    let all = items(answer, "items");
    if all.is_empty() {
        return "No policy grants this; a person answers, within a day.".to_owned();
    }
    let one = |standing: &Value| {
        let would = if standing["would_grant"] == true { "grants it at once" } else { "does not grant it" };
        let mut lines = vec![format!("{} {would}", text(standing, "policy"))];
        lines.extend(criteria(standing));
        lines.join("\n")
    };
    all.iter().map(one).collect::<Vec<_>>().join("\n\n")
}

fn criteria(of: &Value) -> Vec<String> {
    let line =
        |point: &Value| format!("  {} {}", if point["met"] == true { "yes" } else { "no " }, text(point, "words"));
    items(of, "criteria").iter().map(line).collect()
}

/// Past cases, with what would have been said.
fn rehearsal(answer: &Value, _: &Line) -> String {
    let all = items(answer, "items");
    let granted = all.iter().filter(|past| past["would_grant"] == true).count();
    let mut lines = vec![format!("It would have granted {granted} of {} past cases.", all.len())];
    for past in all {
        let would = if past["would_grant"] == true { "would grant" } else { "would not" };
        lines.push(format!(
            "\n{} of {}: {would}; it was {}",
            text(past, "case"),
            text(past, "account"),
            text(past, "state")
        ));
        lines.extend(criteria(past));
    }
    lines.join("\n")
}

const POLICY: &[&str] = &["id", "name", "kind", "is_on", "criteria", "revision", "created_at"];
const CRITERIA: Arg = body(
    "criteria",
    "standing_days_min=30,bounces_below=200,complaints_below=5,times_peak_max=3 …: of bounces and complaints in 10,000; docs/operate/cases.md has all",
)
.object();

pub const POLICY_NOUN: Noun = Noun {
    name: "policy",
    about: "Policies: which requests are granted by rule. For the operator",
    verbs: &[
        Verb::row(
            "create",
            (Post, "policies"),
            "Make a policy; it is off until it is switched on",
            Card(POLICY),
            "weir policy create good-senders --kind quota --criteria standing_days_min=30,bounces_below=200,complaints_below=5,times_peak_max=3,statements=yes",
        )
        .takes(&[
            body("name", "What it is called").positional(),
            body("kind", "Which requests it is about").one_of(KINDS).required(),
            CRITERIA,
        ]),
        Verb::row("list", (Get, "policies"), "All policies", Table(&["id", "name", "kind", "is_on", "criteria"]), "weir policy list"),
        Verb::row("show", (Get, "policies/{policy}"), "One policy", Card(POLICY), "weir policy show good-senders"),
        Verb::row(
            "try",
            (Get, "policies/{policy}/rehearsal"),
            "What it would have said to past cases",
            Page(rehearsal),
            "weir policy try good-senders",
        ),
        Verb::row(
            "change",
            (Patch, "policies/{policy}"),
            "Switch a policy on or off, or give it other criteria",
            Card(POLICY),
            "weir policy change good-senders --is-on yes",
        )
        .takes(&[body("is-on", "Whether it answers").yes_no(), CRITERIA]),
        Verb::row("delete", (Delete, "policies/{policy}"), "Delete a policy", Said("Policy {policy} is gone."), "weir policy delete good-senders"),
    ],
};

fn file(answer: &Value, _: &Line) -> String {
    let mut lines = vec![card(answer, FIELDS)];
    for entry in items(answer, "entries") {
        lines.push(format!(
            "\n{}  {} ({}): {}",
            text(entry, "at"),
            text(entry, "name"),
            text(entry, "party"),
            text(entry, "act")
        ));
        let said = text(entry, "text");
        lines.extend(said.lines().map(|line| format!("    {line}")));
        for attached in items(entry, "attachments") {
            lines.push(format!(
                "    attached: {} ({} octets), {}",
                text(attached, "name"),
                text(attached, "octets"),
                text(attached, "id")
            ));
        }
    }
    lines.join("\n")
}
