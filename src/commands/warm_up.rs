//! `weir warm-up`: how far new IPs are, what they may send today, and why.

use crate::commands::show::{card, items, table, text};
use crate::commands::verb::Act::{Get, Post, Put};
use crate::commands::verb::Shown::{Page, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, body};
use serde_json::Value;

const ONE: &str = "ips/{ip}/warm-up";
const ORDERS: &str = "ips/{ip}/warm-up/orders";
const COURSES: &[&str] =
    &["provider", "state", "stage", "stages", "percent", "allowed", "today/used", "today/turned_away", "until"];
const SCHEDULE: Arg = body("schedule", "A schedule's name, or learning: as fast as each provider bears");

pub const NOUN: Noun = Noun {
    name: "warm-up",
    about: "Warm-ups: how far new IPs are, what they may send today, and why",
    verbs: &[
        Verb::row(
            "list",
            (Get, "[accounts/{account}/]warm-ups"),
            "How IPs warm up: the operator sees all, an account those it leases",
            Page(all),
            "weir warm-up list --account shop",
        ),
        Verb::row("show", (Get, ONE), "One IP: how far it is, and why", Page(one), "weir warm-up show 192.0.2.1"),
        Verb::row(
            "start",
            (Post, ORDERS),
            "Begin at the first stage",
            Page(one),
            "weir warm-up start 192.0.2.1 --schedule steady",
        )
        .says(&[("order", "start")])
        .takes(&[SCHEDULE]),
        Verb::row(
            "pause",
            (Post, ORDERS),
            "Let it send what it may, and grow no further",
            Page(one),
            "weir warm-up pause 192.0.2.1",
        )
        .says(&[("order", "pause")]),
        Verb::row("resume", (Post, ORDERS), "Let it grow again", Page(one), "weir warm-up resume 192.0.2.1")
            .says(&[("order", "resume")]),
        Verb::row(
            "set",
            (Post, ORDERS),
            "Go on from a stage, or from a percentage",
            Page(one),
            "weir warm-up set 192.0.2.1 --percent 40",
        )
        .says(&[("order", "set")])
        .takes(&[body("stage", "From 1").number(), body("percent", "From 0 to 100").number()]),
        Verb::row("done", (Post, ORDERS), "Take it for warm", Page(one), "weir warm-up done 192.0.2.1")
            .says(&[("order", "done")]),
        Verb::row(
            "off",
            (Post, ORDERS),
            "Let it send without limit, whatever comes",
            Page(one),
            "weir warm-up off 192.0.2.1",
        )
        .says(&[("order", "off")]),
        Verb::row(
            "new-ips",
            (Put, "accounts/{account}/warm-up"),
            "Whether IPs that are leased from now on warm up by themselves",
            Page(new_ips),
            "weir warm-up new-ips no --account shop",
        )
        .takes(&[body("new-ips", "yes or no").yes_no().positional()]),
        Verb::row(
            "schedules",
            (Get, "warm-up-schedules"),
            "The schedules there are",
            Table(&["name", "per", "used_percent", "words", "volumes"]),
            "weir warm-up schedules",
        ),
    ],
};

fn one(answer: &Value, _: &Line) -> String {
    let head = card(answer, &["ip", "schedule", "ordered", "ordered_at"]);
    if answer["schedule"].is_null() {
        return format!("{head}\n\nIt does not warm up: it may send without limit.");
    }
    let courses = items(answer, "courses");
    if courses.is_empty() {
        return format!("{head}\n\nNothing was sent from it yet.");
    }
    let mut page = format!("{head}\n\n{}", table(courses, COURSES));
    for course in courses {
        let said = [text(&course["why"], "words"), text(&course["last"], "words")];
        let provider = course["provider"].as_str().unwrap_or("all providers");
        for words in said.into_iter().filter(|words| !words.is_empty()) {
            page.push_str(&format!("\n{provider}: {words}"));
        }
    }
    page
}

fn all(answer: &Value, line: &Line) -> String {
    let pages: Vec<String> = items(answer, "items").iter().map(|ip| one(ip, line)).collect();
    if pages.is_empty() { "There are no IPs.".into() } else { pages.join("\n\n") }
}

fn new_ips(answer: &Value, _: &Line) -> String {
    let yes = answer["new_ips"].as_bool().unwrap_or_default();
    let what = if yes { "warm up by themselves" } else { "may send without limit" };
    format!("IPs that are leased from now on {what}.")
}
