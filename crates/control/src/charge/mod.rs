//! What does an account owe for a month, on which paper, and is it paid? (R7.5)
//!
//! What is held (leases, plans, what left from managed IPs) is read, `engine::charge` reckons, and here it becomes an invoice: once a
//! month is over, one for each account that owes something, numbered without gaps, never changed. A mistake is corrected by a credit note,
//! in the same row of numbers. All that stands on a paper is kept with it, so that it can be shown as it was whatever changes.

/// Of an invoice `i`: it waits to be paid.
macro_rules! unpaid {
    () => {
        "i.corrects IS NULL AND i.paid_at IS NULL AND i.total_cents + \
         COALESCE((SELECT SUM(n.total_cents) FROM invoice n WHERE n.corrects = i.number), 0) > 0"
    };
}

mod billing;
mod handover;
mod paper;
mod pdf;

pub use self::billing::Billing;
use self::billing::{biller, line};
use crate::account;
use crate::actor::Actor;
use crate::audit::{self, Line as AuditLine, Subject};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::price;
use crate::refusal::Refusal;
use crate::statistics::{Dimension, Question};
use crate::store::{Change, Columns, number, q, row, rows, run};
use engine::charge::{self, Cents, Held, Item, Line, Overflow, Prices, Stay, Use, charge, expected};
use engine::counts::Grain;
use engine::month::Month;
use engine::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// After the end of a month it is closed: by then all of it is counted.
const CLOSED_AFTER: Duration = Duration::from_secs(6 * 3_600);
/// Invoices that are made in one change: few syncs, and nobody waits long for the database.
const AT_ONCE: usize = 200;

/// A line, with the IP that it is about where the account may know it (R2.8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(flatten)]
    pub line: Line,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
}

/// All that stands on an invoice or a credit note.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Paper {
    pub biller: Billing,
    pub billed: Billing,
    pub entries: Vec<Entry>,
    /// Of a credit note.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvoiceState {
    Open,
    Paid,
    /// Credit notes leave nothing of it.
    Credited,
    /// It is a credit note itself.
    CreditNote,
}

impl InvoiceState {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            InvoiceState::Open => "open",
            InvoiceState::Paid => "paid",
            InvoiceState::Credited => "credited",
            InvoiceState::CreditNote => "credit-note",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    pub number: i64,
    /// As it is called: `2026-000012`.
    pub id: String,
    pub account: String,
    pub month: Month,
    /// The invoice that a credit note is about.
    pub corrects: Option<String>,
    pub total_cents: i64,
    /// What credit notes take from it.
    pub credited_cents: i64,
    pub paper: Paper,
    pub made_at: Timestamp,
    pub paid_at: Option<Timestamp>,
    pub paid_by: Option<String>,
}

impl Invoice {
    #[must_use]
    pub fn state(&self) -> InvoiceState {
        match (&self.corrects, self.paid_at) {
            (Some(_), _) => InvoiceState::CreditNote,
            (None, Some(_)) => InvoiceState::Paid,
            (None, None) if self.credited_cents >= self.total_cents => InvoiceState::Credited,
            (None, None) => InvoiceState::Open,
        }
    }

    #[must_use]
    pub fn due_cents(&self) -> i64 {
        if self.state() == InvoiceState::Open { self.total_cents - self.credited_cents } else { 0 }
    }

    /// A page of its own, for a browser and its printer.
    #[must_use]
    pub fn page(&self) -> String {
        paper::page(self)
    }

    /// A row for each line, for a spreadsheet.
    #[must_use]
    pub fn table(&self) -> String {
        paper::table(self)
    }

    /// PDF, in nothing but ASCII.
    #[must_use]
    pub fn print(&self) -> String {
        paper::print(self)
    }
}

/// What the running month costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    pub month: Month,
    pub currency: String,
    pub until_day: i64,
    pub so_far: Vec<Entry>,
    pub so_far_cents: i64,
    /// If all stays as it is, and each coming day is like those before.
    pub expected: Vec<Entry>,
    pub expected_cents: i64,
}

#[derive(Clone, Debug, Default)]
pub struct InvoiceFilter {
    pub account: Option<String>,
    pub month: Option<Month>,
    /// Only those that wait to be paid.
    pub open: bool,
}

macro_rules! columns {
    () => {
        "i.number, i.id, i.account, i.month, c.id, i.total_cents, i.paper, i.made_at, i.paid_at, i.paid_by, \
         CAST(COALESCE((SELECT -SUM(n.total_cents) FROM invoice n WHERE n.corrects = i.number), 0) AS BIGINT) \
         FROM invoice i LEFT JOIN invoice c ON c.number = i.corrects"
    };
}

fn read(row: &AnyRow) -> Result<Invoice, Refusal> {
    Ok(Invoice {
        number: row.whole(0)?,
        id: row.text(1)?,
        account: row.text(2)?,
        month: Month::numbered(row.whole(3)?).unwrap_or(Month::of_day(0)),
        corrects: row.text_or_none(4)?,
        total_cents: row.whole(5)?,
        // What another version wrote is shown as far as it can be.
        paper: serde_json::from_str(&row.text(6)?).unwrap_or_default(),
        made_at: Timestamp(row.whole(7)?),
        paid_at: row.whole_or_none(8)?.map(Timestamp),
        paid_by: row.text_or_none(9)?,
        credited_cents: row.whole(10)?,
    })
}

async fn find(conn: &mut AnyConnection, account: &str, id: &str) -> Result<Invoice, Refusal> {
    let query =
        q!(concat!("SELECT ", columns!(), " WHERE i.account = $1 AND i.id = $2"), account.to_owned(), id.to_owned());
    row(conn, query).await?.as_ref().map(read).transpose()?.ok_or_else(|| Refusal::not_found("invoice", id))
}

/// What was made since, in its order.
pub(crate) async fn made_after(conn: &mut AnyConnection, after: i64, most: i64) -> Result<Vec<Invoice>, Refusal> {
    let query = q!(concat!("SELECT ", columns!(), " WHERE i.number > $1 ORDER BY i.number LIMIT $2"), after, most);
    rows(conn, query).await?.iter().map(read).collect()
}

fn too_large(_: Overflow) -> Refusal {
    Refusal::conflict(
        "amount_too_large",
        "The amount is larger than any that can be written down.",
        "Look at the prices: one of them is a slip.",
    )
}

/// A lease as it is charged.
struct Leased {
    account: String,
    ip: IpAddr,
    /// R2.8: it is a managed pool's, or is in one by now.
    is_hidden: bool,
    stay: Stay,
}

/// Leases that have a day in the month, by account.
async fn leased(conn: &mut AnyConnection, month: Month, account: Option<&str>) -> Result<Vec<Leased>, Refusal> {
    let query = q!(
        "SELECT l.account, l.ip, l.id, l.item, i.region, l.pool, COALESCE(p.name, l.pool_name), l.agreed_cents, \
         l.started_at, l.ended_at, COALESCE(n.kind, '') FROM lease l JOIN ip i ON i.address = l.ip \
         LEFT JOIN pool p ON p.id = l.pool LEFT JOIN pool n ON n.id = i.pool \
         WHERE l.started_at < $1 AND (l.ended_at IS NULL OR l.ended_at >= $2) AND ($3 = '' OR l.account = $3) \
         ORDER BY l.account, l.id",
        month.ends_at().0,
        month.begins_at().0,
        account.unwrap_or_default().to_owned(),
    );
    let found = rows(conn, query).await?;
    let read = |row: &AnyRow| {
        let pool = row.text_or_none(5)?.zip(row.text_or_none(6)?);
        let item = Item::of(&row.text(3)?).unwrap_or(Item::Standard);
        Ok(Leased {
            is_hidden: item == Item::ManagedIp || row.text(10)? == "managed",
            account: row.text(0)?,
            ip: row.text(1)?.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])),
            stay: Stay {
                lease: row.text(2)?,
                item,
                region: row.text(4)?,
                pool,
                agreed_cents: row.whole_or_none(7)?,
                first_day: Timestamp(row.whole(8)?).day(),
                last_day: row.whole_or_none(9)?.map(|at| Timestamp(at).day()),
            },
        })
    };
    found.iter().map(read).collect()
}

type Plans = BTreeMap<String, Vec<(i64, engine::snapshot::Plan)>>;

async fn plans(conn: &mut AnyConnection, account: Option<&str>) -> Result<Plans, Refusal> {
    let query = q!(
        "SELECT account, from_day, plan FROM plan_since WHERE $1 = '' OR account = $1 ORDER BY account, from_day",
        account.unwrap_or_default().to_owned(),
    );
    let mut plans = Plans::new();
    for row in rows(conn, query).await? {
        let plan = account::plan_of(&row.text(2)?).unwrap_or_default();
        plans.entry(row.text(0)?).or_default().push((row.whole(1)?, plan));
    }
    Ok(plans)
}

/// R2.8: the address of a managed pool's IP stands on no paper.
fn entries(lines: Vec<Line>, leased: &[Leased]) -> Vec<Entry> {
    let ip_of: BTreeMap<&str, IpAddr> =
        leased.iter().filter(|known| !known.is_hidden).map(|known| (known.stay.lease.as_str(), known.ip)).collect();
    let entry = |line: Line| {
        let ip = line.lease.as_deref().and_then(|lease| ip_of.get(lease)).copied();
        Entry { line, ip }
    };
    lines.into_iter().map(entry).collect()
}

impl Office {
    /// Closes every month that is over and was not closed, from that on in which this was asked first; how many invoices were made. Asked again after a stop, it goes on where it was.
    pub async fn close_months(&self) -> Result<usize, Refusal> {
        let mut made = 0;
        loop {
            let mut conn = self.store().read().await?;
            let closed = row(&mut conn, q!("SELECT MAX(month) FROM month_closed")).await?;
            let closed = closed.map(|row| row.whole_or_none(0)).transpose()?.flatten();
            let next = match closed.and_then(Month::numbered) {
                Some(last) => last.next(),
                // What was leased before anybody was charged stays free.
                None => {
                    drop(conn);
                    self.write_closed(Month::of(self.now()).before()).await?;
                    return Ok(made);
                }
            };
            drop(conn);
            if self.now() < next.ends_at() + CLOSED_AFTER {
                return Ok(made);
            }
            made += self.close_month(next).await?;
        }
    }

    async fn close_month(&self, month: Month) -> Result<usize, Refusal> {
        let mut conn = self.store().read().await?;
        let (prices, plans) = (price::all(&mut conn).await?, plans(&mut conn, None).await?);
        let leased = leased(&mut conn, month, None).await?;
        drop(conn);
        let mut made = 0;
        let accounts: Vec<&[Leased]> = leased.chunk_by(|one, other| one.account == other.account).collect();
        for some in accounts.chunks(AT_ONCE) {
            let mut owed = Vec::with_capacity(some.len());
            for of_account in some {
                let account = of_account[0].account.as_str();
                let plans = plans.get(account).cloned().unwrap_or_default();
                let held = self.held(account, of_account, plans, month).await?;
                // One that cannot be written down is the operator's to see, and holds up nobody else's.
                match charge(month, month.last_day(), &held, &prices)
                    .and_then(|lines| Ok((charge::sum(&lines)?, lines)))
                {
                    Ok((0, _)) => {}
                    Ok((total, lines)) => owed.push((account, total, entries(lines, of_account))),
                    Err(fault) => tracing::error!(account, %month, %fault, "an account is not invoiced"),
                }
            }
            made += self.make_invoices(month, owed).await?;
        }
        self.write_closed(month).await?;
        if made > 0 {
            tracing::info!(%month, invoices = made, "the month is invoiced");
        }
        Ok(made)
    }

    async fn write_closed(&self, month: Month) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let close = q!(
            "INSERT INTO month_closed (month, closed_at) VALUES ($1, $2) ON CONFLICT (month) DO NOTHING",
            month.number(),
            self.now().0
        );
        run(change.conn(), close).await?;
        change.commit().await
    }

    async fn make_invoices(&self, month: Month, owed: Vec<(&str, i64, Vec<Entry>)>) -> Result<usize, Refusal> {
        let mut change = self.store().change().await?;
        let biller = biller(change.conn()).await?;
        let mut made = 0;
        for (account, total, entries) in owed {
            let there = q!(
                "SELECT COUNT(*) FROM invoice WHERE account = $1 AND month = $2 AND corrects IS NULL",
                account.to_owned(),
                month.number(),
            );
            if number(change.conn(), there).await? > 0 {
                continue;
            }
            let billed = self.billed(change.conn(), account).await?;
            let paper = Paper { biller: biller.clone(), billed, entries, reason: None };
            self.write_paper(&mut change, &Actor::service(), (account, month, None), total, &paper).await?;
            made += 1;
        }
        if made > 0 {
            change.commit().await?;
        }
        Ok(made)
    }

    /// Numbered and written down for good.
    async fn write_paper(
        &self,
        change: &mut Change,
        by: &Actor,
        (account, month, corrects): (&str, Month, Option<i64>),
        total_cents: i64,
        paper: &Paper,
    ) -> Result<String, Refusal> {
        let now = self.now();
        let next = number(change.conn(), q!("SELECT COALESCE(MAX(number), 0) + 1 FROM invoice")).await?;
        let id = format!("{}-{next:06}", Month::of(now).year());
        let insert = q!(
            "INSERT INTO invoice (number, id, account, month, corrects, total_cents, paper, made_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            next,
            id.clone(),
            account.to_owned(),
            month.number(),
            corrects,
            total_cents,
            json!(paper).to_string(),
            now.0,
        );
        run(change.conn(), insert).await?;
        let detail = json!({ "month": month.to_string(), "total_cents": total_cents, "reason": paper.reason });
        let action = if corrects.is_some() { "credited" } else { "made" };
        let line = AuditLine { subject: Subject::Invoice, id: &id, account: Some(account), action, detail };
        audit::write(change, by, now, line).await?;
        Ok(id)
    }

    async fn held(
        &self,
        account: &str,
        leased: &[Leased],
        plans: Vec<(i64, engine::snapshot::Plan)>,
        month: Month,
    ) -> Result<Held, Refusal> {
        let stays: Vec<Stay> = leased.iter().map(|known| known.stay.clone()).collect();
        let uses = self.uses(account, leased, month).await?;
        Ok(Held { plans, stays, uses })
    }

    /// What was delivered from IPs of managed pools, on days that each was leased.
    async fn uses(&self, account: &str, leased: &[Leased], month: Month) -> Result<Vec<Use>, Refusal> {
        let managed: Vec<&Leased> = leased.iter().filter(|known| known.stay.item == Item::ManagedIp).collect();
        if managed.is_empty() {
            return Ok(Vec::new());
        }
        let asked = Question {
            account: Some(account.to_owned()),
            by: vec![Dimension::Ip],
            grain: Some(Grain::Day),
            from: Some(month.begins_at()),
            until: Some(month.ends_at()),
            ..Question::default()
        };
        let figures = self.counts(&asked, true).await?.figures;
        let used = figures.iter().filter_map(|figure| {
            let day = figure.at?.day();
            let ip: IpAddr = figure.of.first()?.1.parse().ok()?;
            let sent = u64::try_from(*figure.counts.get("delivered")?).ok()?;
            let is_held = |known: &&&Leased| {
                known.ip == ip && known.stay.first_day <= day && known.stay.last_day.is_none_or(|last| last >= day)
            };
            let known = managed.iter().find(is_held)?;
            Some(Use { region: known.stay.region.clone(), day, sent })
        });
        Ok(used.collect())
    }

    /// What the running month has cost until today, and will cost if nothing changes.
    pub async fn forecast(&self, by: &Actor, account: &str) -> Result<Forecast, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?.id;
        by.may_read_part(&account, None)?;
        let today = self.now().day();
        let month = Month::of_day(today);
        let prices: Prices = price::all(&mut conn).await?;
        let plans = plans(&mut conn, Some(&account)).await?.remove(&account).unwrap_or_default();
        let leased = leased(&mut conn, month, Some(&account)).await?;
        let currency = biller(&mut conn).await?.currency;
        drop(conn);
        let held = self.held(&account, &leased, plans, month).await?;
        let so_far = charge(month, today, &held, &prices).map_err(too_large)?;
        let coming = Held { uses: expected(&held.uses, month, today).map_err(too_large)?, ..held };
        let whole = charge(month, month.last_day(), &coming, &prices).map_err(too_large)?;
        Ok(Forecast {
            month,
            currency,
            until_day: today,
            so_far_cents: charge::sum(&so_far).map_err(too_large)?,
            so_far: entries(so_far, &leased),
            expected_cents: charge::sum(&whole).map_err(too_large)?,
            expected: entries(whole, &leased),
        })
    }

    /// The newest first; an account sees its own.
    pub async fn invoices(
        &self,
        by: &Actor,
        wanted: &InvoiceFilter,
        window: &Window,
    ) -> Result<Page<Invoice>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = match &wanted.account {
            Some(called) => {
                let account = account::reach(&mut conn, by, called, Actor::may_read).await?;
                by.may_read_part(&account, None)?;
                account
            }
            None => {
                by.may_watch()?;
                String::new()
            }
        };
        let before: i64 = window.after.as_deref().and_then(|after| after.parse().ok()).unwrap_or(i64::MAX);
        let query = q!(
            concat!(
                "SELECT ",
                columns!(),
                " WHERE i.number < $1 AND ($2 = '' OR i.account = $2) AND ($3 < 0 OR i.month = $3) AND ($4 = 0 OR ",
                unpaid!(),
                ") ORDER BY i.number DESC LIMIT $5"
            ),
            before,
            account,
            wanted.month.map_or(-1, Month::number),
            i64::from(wanted.open),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |invoice| invoice.number.to_string()))
    }

    pub async fn invoice(&self, by: &Actor, account: &str, id: &str) -> Result<Invoice, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::reach(&mut conn, by, account, Actor::may_read).await?;
        by.may_read_part(&account, None)?;
        find(&mut conn, &account, id).await
    }

    /// A part of an invoice, or all that is left of it, is owed no more.
    pub async fn credit(
        &self,
        by: &Actor,
        account: &str,
        id: &str,
        cents: Option<i64>,
        reason: &str,
    ) -> Result<Invoice, Refusal> {
        by.may_operate()?;
        let reason = line("reason", reason)?;
        let mut change = self.store().change().await?;
        let account = account::find(change.conn(), account).await?.id;
        let invoice = find(change.conn(), &account, id).await?;
        if invoice.corrects.is_some() {
            let sentence = "A credit note is not corrected by another.";
            return Err(Refusal::conflict(
                "credit_note",
                sentence,
                "What was credited too much stays with the customer.",
            ));
        }
        let left = invoice.total_cents - invoice.credited_cents;
        let cents = cents.unwrap_or(left);
        if !(1..=left).contains(&cents) {
            let sentence = format!("Of this invoice {} are left to be credited.", Cents(left));
            return Err(Refusal::invalid("amount", sentence, "Credit from 0.01 up to that."));
        }
        let (biller, billed) = (invoice.paper.biller.clone(), invoice.paper.billed.clone());
        let paper = Paper { biller, billed, entries: Vec::new(), reason: Some(reason) };
        let of = (account.as_str(), invoice.month, Some(invoice.number));
        let note = self.write_paper(&mut change, by, of, -cents, &paper).await?;
        let note = find(change.conn(), &account, &note).await?;
        change.commit().await?;
        Ok(note)
    }

    /// Somebody has paid it; by which payment, whoever looks for it finds.
    pub async fn mark_paid(&self, by: &Actor, account: &str, id: &str, reference: &str) -> Result<Invoice, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let account = account::find(change.conn(), account).await?.id;
        self.pay(&mut change, by, &account, id, reference).await?;
        let is = find(change.conn(), &account, id).await?;
        change.commit().await?;
        Ok(is)
    }

    async fn pay(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &str,
        id: &str,
        reference: &str,
    ) -> Result<(), Refusal> {
        let reference = line("reference", reference)?;
        let was = find(change.conn(), account, id).await?;
        if was.state() != InvoiceState::Open {
            let sentence = format!("There is nothing to pay: it is {}.", was.state().code());
            return Err(Refusal::conflict("not_open", sentence, "Look at it again."));
        }
        let pay = q!(
            "UPDATE invoice SET paid_at = $2, paid_by = $3 WHERE number = $1",
            was.number,
            self.now().0,
            reference.clone(),
        );
        run(change.conn(), pay).await?;
        let detail = json!({ "reference": reference, "due_cents": was.due_cents() });
        let written =
            AuditLine { subject: Subject::Invoice, id: &was.id, account: Some(account), action: "paid", detail };
        audit::write(change, by, self.now(), written).await
    }

    /// Invoices that wait to be paid.
    pub async fn invoices_open(&self) -> Result<i64, Refusal> {
        let query = q!(concat!("SELECT COUNT(*) FROM invoice i WHERE ", unpaid!()));
        number(&mut *self.store().read().await?, query).await
    }
}
