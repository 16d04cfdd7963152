//! `weir price` and `weir invoice`: what things cost, and what is owed.

use crate::client::{Answer, Fault};
use crate::commands::show::{card, items, table, text};
use crate::commands::verb::Act::{Get, Post, Put};
use crate::commands::verb::Shown::{Card, Page, Table};
use crate::commands::verb::{Arg, Line, Noun, Verb, body, query};
use serde_json::{Value, json};

const ITEMS: &[&str] = &["standard", "purchase", "managed-ip", "managed-pool", "managed-account", "managed-thousand"];
const PRICE: &[&str] = &["item", "plan", "region", "from", "month", "thousand"];

pub const PRICES: Noun = Noun {
    name: "price",
    about: "Prices: what things cost, since when",
    verbs: &[
        Verb::row(
            "list",
            (Get, "prices"),
            "All prices that were ever said, oldest first",
            Table(PRICE),
            "weir price list",
        ),
        Verb::row(
            "set",
            (Post, "prices"),
            "Say what something costs from today or a later day on; 0 ends a charge. For the operator",
            Card(PRICE),
            "weir price set standard --month 29.95 --from 2027-01-01",
        )
        .takes(&[
            body("item", "What has the price; docs/operate/charges.md says what each is").one_of(ITEMS).positional(),
            body("month", "What a month of it costs, such as 24.95"),
            body(
                "thousand",
                "What a thousand messages cost, in steps that rise: up_to=1000000,price=0.40, and then price=0.25",
            )
            .objects(),
            body("plan", "On this plan alone").one_of(&["free", "standard", "enterprise"]),
            body("region", "In this region alone"),
            body("from", "The first day, such as 2027-01-01; without this, today"),
        ]),
    ],
};

const COLUMNS: &[&str] = &["id", "account", "month", "state", "currency", "total", "due", "corrects"];
const FIELDS: &[&str] = &[
    "id", "account", "month", "state", "corrects", "currency", "total", "credited", "due", "made_at", "paid_at",
    "paid_by",
];
const ONE: &str = "accounts/{account}/invoices/{invoice}";
const BILLER: &[&str] = &["name", "address_lines", "tax_id", "currency", "note"];
const BILLED: &[&str] = &["name", "address_lines", "tax_id"];
const NAME: Arg = body("name", "The name on invoices").required();
const ADDRESS: Arg = body("address-lines", "The lines of the address, with commas between").list();
const TAX_ID: Arg = body("tax-id", "The number that a tax office knows it by");

pub const INVOICES: Noun = Noun {
    name: "invoice",
    about: "Invoices and credit notes: what an account owes for a month, and whether it is paid",
    verbs: &[
        Verb::row(
            "list",
            (Get, "[accounts/{account}/]invoices"),
            "Invoices and credit notes, newest first",
            Table(COLUMNS),
            "weir invoice list --open",
        )
        .takes(&[
            query("month", "Only those of this month, such as 2026-11"),
            query("open", "Only those that wait to be paid").flag(),
        ]),
        Verb::row(
            "show",
            (Get, ONE),
            "One, with the working of each line",
            Page(paper),
            "weir invoice show 2026-000001 --account shop",
        ),
        Verb::row(
            "page",
            (Get, "accounts/{account}/invoices/{invoice}/page"),
            "As a page (HTML), for a browser and its printer",
            Page(as_it_is),
            "weir invoice page 2026-000001 --account shop",
        )
        .by(file),
        Verb::row(
            "table",
            (Get, "accounts/{account}/invoices/{invoice}/table"),
            "As a table (CSV), a row a line",
            Page(as_it_is),
            "weir invoice table 2026-000001 --account shop",
        )
        .by(file),
        Verb::row(
            "print",
            (Get, "accounts/{account}/invoices/{invoice}/print"),
            "As a PDF",
            Page(as_it_is),
            "weir invoice print 2026-000001 --account shop",
        )
        .by(file),
        Verb::row(
            "forecast",
            (Get, "accounts/{account}/forecast"),
            "What the running month has cost, and will cost if nothing changes",
            Page(forecast),
            "weir invoice forecast --account shop",
        ),
        Verb::row(
            "credit",
            (Post, "accounts/{account}/invoices/{invoice}/credits"),
            "Correct an invoice by a credit note; it cannot be taken back. For the operator",
            Card(FIELDS),
            "weir invoice credit 2026-000001 --account shop --amount 5.00 --reason \"the IP was down on the 3rd\"",
        )
        .takes(&[
            body("amount", "How much, such as 5.00; without this, all that is left"),
            body("reason", "Why; it stands on the note").required(),
        ]),
        Verb::row(
            "paid",
            (Post, "accounts/{account}/invoices/{invoice}/payment"),
            "Write down that an invoice was paid. For the operator",
            Card(FIELDS),
            "weir invoice paid 2026-000001 --account shop --reference ch_123",
        )
        .takes(&[body("reference", "By which payment").required()]),
        Verb::row(
            "billing",
            (Get, "accounts/{account}/billing"),
            "Whom the account's invoices are for",
            Card(BILLED),
            "weir invoice billing --account shop",
        ),
        Verb::row(
            "set-billing",
            (Put, "accounts/{account}/billing"),
            "Say whom the account's invoices are for",
            Card(BILLED),
            "weir invoice set-billing --account shop --name \"Shop Ltd\" --address-lines \"1 Main Street,Springfield\"",
        )
        .takes(&[NAME, ADDRESS, TAX_ID]),
        Verb::row(
            "biller",
            (Get, "billing"),
            "Who bills, and in which currency. For the operator",
            Card(BILLER),
            "weir invoice biller",
        ),
        Verb::row(
            "set-biller",
            (Put, "billing"),
            "Say who bills, and in which currency. For the operator",
            Card(BILLER),
            "weir invoice set-biller --name \"Weir Ltd\" --currency EUR",
        )
        .takes(&[
            NAME,
            ADDRESS,
            TAX_ID,
            body("currency", "Three letters, such as USD").required(),
            body("note", "What is written under the sum"),
        ]),
    ],
};

/// What is no JSON, as it came.
fn file(line: &Line) -> Result<Answer, Fault> {
    let answer = line.ask()?;
    Ok(Answer::summed(json!({ "content": answer.to_string() })))
}

fn as_it_is(answer: &Value, _: &Line) -> String {
    text(answer, "content").to_owned()
}

fn entries(answer: &Value, name: &str) -> Vec<String> {
    let line = |entry: &Value| match entry["ip"].as_str() {
        Some(ip) => format!("{ip}: {}", text(entry, "words")),
        None => text(entry, "words").to_owned(),
    };
    items(answer, name).iter().map(line).collect()
}

fn paper(answer: &Value, _: &Line) -> String {
    let mut lines = vec![card(answer, FIELDS)];
    if let Some(reason) = answer["reason"].as_str() {
        lines.push(format!("\n{reason}"));
    }
    lines.push(String::new());
    lines.extend(entries(answer, "entries"));
    lines.join("\n")
}

fn forecast(answer: &Value, _: &Line) -> String {
    let whole = [("until today", "so_far"), ("expected", "expected")].map(
        |(what, field)| json!({ "what": what, "amount": text(answer, field), "currency": text(answer, "currency") }),
    );
    let mut lines = vec![table(&whole, &["what", "amount", "currency"]), String::new()];
    lines.extend(entries(answer, "expected_entries"));
    lines.join("\n")
}
