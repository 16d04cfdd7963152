//! How does an invoice look: as a page, as a table, as a print?

use super::pdf::{Pdf, Style};
use super::{Billing, Entry, Invoice, InvoiceState};
use crate::csv::field;
use engine::charge::{Cents, Decimal, grouped};
use engine::month::date_of;
use std::fmt::Write as _;

/// What a line says in columns.
struct Columns {
    what: String,
    days: String,
    price: String,
    amount: String,
}

fn columns(entry: &Entry) -> Columns {
    let line = &entry.line;
    let much = match line.messages {
        Some(messages) => grouped(messages),
        None => format!("{} of {} days", line.days(), line.month_days),
    };
    Columns {
        what: line.words.clone(),
        days: much,
        price: Decimal(line.micro_cents).to_string(),
        amount: Cents(line.amount_cents).to_string(),
    }
}

fn title(invoice: &Invoice) -> String {
    match &invoice.corrects {
        Some(_) => format!("Credit note {}", invoice.id),
        None => format!("Invoice {}", invoice.id),
    }
}

/// What else is to be known of it, each a sentence.
fn remarks(invoice: &Invoice) -> Vec<String> {
    let currency = &invoice.paper.biller.currency;
    let mut said = Vec::new();
    if let (Some(corrects), Some(reason)) = (&invoice.corrects, &invoice.paper.reason) {
        said.push(format!("It corrects invoice {corrects}: {reason}"));
    }
    if invoice.corrects.is_none() && invoice.credited_cents > 0 {
        said.push(format!("Credited since: {} {currency}.", Cents(invoice.credited_cents)));
    }
    match (invoice.state(), &invoice.paid_by) {
        (InvoiceState::Paid, Some(by)) => said.push(format!("Paid: {by}.")),
        (InvoiceState::Open, _) => said.push(format!("To be paid: {} {currency}.", Cents(invoice.due_cents()))),
        _ => {}
    }
    said.extend(invoice.paper.biller.note.clone());
    said
}

fn of_party(party: &Billing) -> Vec<String> {
    let mut lines = vec![party.name.clone()];
    lines.extend(party.address.iter().cloned());
    lines.extend(party.tax_id.iter().map(|id| format!("Tax id {id}")));
    lines.retain(|line| !line.is_empty());
    lines
}

/// A row for each line, and what it takes to reckon it again. Amounts have a point and no other sign.
pub(super) fn table(invoice: &Invoice) -> String {
    let mut out = String::from(
        "invoice,corrects,account,month,item,region,pool,ip,lease,first_day,last_day,days,month_days,messages,price,amount,currency,words\r\n",
    );
    let mut add = |fields: [String; 18]| {
        let fields: Vec<String> = fields.iter().map(|text| field(text)).collect();
        out.push_str(&fields.join(","));
        out.push_str("\r\n");
    };
    let currency = || invoice.paper.biller.currency.clone();
    let plain = |text: String| text.replace(',', "");
    for entry in &invoice.paper.entries {
        let line = &entry.line;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let days = if line.messages.is_some() { String::new() } else { line.days().to_string() };
        add([
            invoice.id.clone(),
            String::new(),
            invoice.account.clone(),
            invoice.month.to_string(),
            line.item.code().to_owned(),
            line.region.clone(),
            text(&line.pool),
            entry.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            text(&line.lease),
            date_of(line.first_day),
            date_of(line.last_day),
            days,
            line.month_days.to_string(),
            line.messages.map(|messages| messages.to_string()).unwrap_or_default(),
            plain(Decimal(line.micro_cents).to_string()),
            plain(Cents(line.amount_cents).to_string()),
            currency(),
            line.words.clone(),
        ]);
    }
    if let Some(corrects) = &invoice.corrects {
        let mut fields: [String; 18] = std::array::from_fn(|_| String::new());
        fields[0].clone_from(&invoice.id);
        fields[1].clone_from(corrects);
        fields[2].clone_from(&invoice.account);
        fields[3] = invoice.month.to_string();
        fields[15] = plain(Cents(invoice.total_cents).to_string());
        fields[16] = currency();
        fields[17] = invoice.paper.reason.clone().unwrap_or_default();
        add(fields);
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter => out.push(letter),
        }
    }
    out
}

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;color:#1c2430;background:#fff;max-width:60rem;margin:2.5rem auto;padding:0 1.5rem}\
h1{font-size:1.5rem;margin:0 0 .2rem}.quiet{color:#5b6675}.parties{display:flex;gap:4rem;margin:2rem 0;flex-wrap:wrap}\
.parties h2{font-size:.8rem;font-weight:600;color:#5b6675;margin:0 0 .3rem}table{width:100%;border-collapse:collapse;margin:1.5rem 0}\
th{font-size:.8rem;text-align:left;color:#5b6675;border-bottom:1px solid #b9c2cd;padding:.4rem .6rem}\
td{padding:.5rem .6rem;border-bottom:1px solid #e4e8ed;vertical-align:top}.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
tfoot td{font-weight:600;border-bottom:0;border-top:2px solid #1c2430}@media print{body{margin:0;max-width:none;font-size:11pt}tr{break-inside:avoid}}";

pub(super) fn page(invoice: &Invoice) -> String {
    let currency = escaped(&invoice.paper.biller.currency);
    let title = escaped(&title(invoice));
    let party = |head: &str, party: &Billing| {
        let lines: Vec<String> = of_party(party).iter().map(|line| escaped(line)).collect();
        if lines.is_empty() {
            return String::new();
        }
        format!("<div><h2>{head}</h2>{}</div>", lines.join("<br>"))
    };
    let mut rows = String::new();
    for entry in &invoice.paper.entries {
        let Columns { what, days, price, amount } = columns(entry);
        let ip = entry.ip.map(|ip| format!("<br><span class=quiet>{ip}</span>")).unwrap_or_default();
        // Writing into a text cannot fail.
        let _ = write!(
            rows,
            "<tr><td>{}{ip}</td><td class=n>{days}</td><td class=n>{price}</td><td class=n>{amount}</td></tr>",
            escaped(&what)
        );
    }
    if invoice.corrects.is_some() {
        let _ = write!(
            rows,
            "<tr><td>{}</td><td></td><td></td><td class=n>{}</td></tr>",
            escaped(invoice.paper.reason.as_deref().unwrap_or_default()),
            Cents(invoice.total_cents)
        );
    }
    let remarks: String = remarks(invoice).iter().map(|said| format!("<p>{}</p>", escaped(said))).collect();
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>\
         <p class=quiet>For {}, made on {}, account {}</p><div class=parties>{}{}</div>\
         <table><thead><tr><th>What, and how it is reckoned</th><th class=n>How much</th><th class=n>Price</th>\
         <th class=n>{currency}</th></tr></thead><tbody>{rows}</tbody><tfoot><tr><td colspan=3>Sum</td><td class=n>{}</td></tr></tfoot></table>\
         {remarks}</body></html>\n",
        invoice.month,
        date_of(invoice.made_at.day()),
        escaped(&invoice.account),
        party("From", &invoice.paper.biller),
        party("To", &invoice.paper.billed),
        Cents(invoice.total_cents),
    )
}

pub(super) fn print(invoice: &Invoice) -> String {
    let currency = &invoice.paper.biller.currency;
    let mut pdf = Pdf::new(&title(invoice));
    pdf.text(Style::Title, &title(invoice));
    let made = date_of(invoice.made_at.day());
    pdf.text(Style::Plain, &format!("For {}, made on {made}, account {}", invoice.month, invoice.account));
    for (head, party) in [("From", &invoice.paper.biller), ("To", &invoice.paper.billed)] {
        let lines = of_party(party);
        if lines.is_empty() {
            continue;
        }
        pdf.gap();
        pdf.text(Style::Bold, head);
        for line in lines {
            pdf.text(Style::Plain, &line);
        }
    }
    pdf.gap();
    pdf.row(Style::Bold, "What, and how it is reckoned", currency);
    for entry in &invoice.paper.entries {
        let Columns { what, amount, .. } = columns(entry);
        let what = entry.ip.map(|ip| format!("{ip}: {what}")).unwrap_or(what);
        pdf.row(Style::Plain, &what, &amount);
    }
    if invoice.corrects.is_some() {
        let reason = invoice.paper.reason.as_deref().unwrap_or_default();
        pdf.row(Style::Plain, reason, &Cents(invoice.total_cents).to_string());
    }
    pdf.row(Style::Bold, "Sum", &Cents(invoice.total_cents).to_string());
    pdf.gap();
    for said in remarks(invoice) {
        pdf.text(Style::Plain, &said);
    }
    pdf.finish()
}
