//! Prices, invoices, and who bills whom. (R7.5)

use super::account::Plan;
use super::words::{Address, Time, words};
use super::{Answer, At, Call, called, created, listed, told, whole};
use crate::asked::{Body, Everything, Listed, Listing};
use crate::caller::Desk;
use crate::problem::Problem;
use axum::http::header;
use axum::response::IntoResponse as _;
use control::charge as theirs;
use control::price as theirs_too;
use engine::charge::{Cents, Decimal, Item, MICRO_CENTS, Price, Rate, Rung, price_of};
use engine::month::{Month, date_of, day_of};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(prices, set_price))
        .routes(routes!(biller, set_biller))
        .routes(routes!(billing, set_billing))
        .routes(routes!(invoices))
        .routes(routes!(all_invoices))
        .routes(routes!(invoice))
        .routes(routes!(page))
        .routes(routes!(table))
        .routes(routes!(print))
        .routes(routes!(credit))
        .routes(routes!(pay))
        .routes(routes!(forecast))
}

words!(
    /// `standard`, `purchase`: a dedicated IP that was granted or purchased. `managed-ip`, `managed-pool`, `managed-account`: an IP of a
    /// managed pool, the pool, all of an account in a region. `managed-thousand`: messages delivered from their IPs.
    PriceItem is Item { Standard, Purchase, ManagedIp, ManagedPool, ManagedAccount, ManagedThousand }
);

words!(
    /// `credited`: credit notes leave nothing of it.
    InvoiceState is theirs::InvoiceState { Open, Paid, Credited, CreditNote }
);

/// An amount without thousands' signs, such as `1234.50`.
fn amount(cents: i64) -> String {
    Cents(cents).to_string().replace(',', "")
}

fn price(micro_cents: i64) -> String {
    Decimal(micro_cents).to_string()
}

/// A price as text; whole ones may come as a number.
fn money<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Text(String),
        Whole(u64),
    }
    match Said::deserialize(from) {
        Ok(Said::Text(text)) => Ok(text),
        Ok(Said::Whole(whole)) => Ok(whole.to_string()),
        Err(_) => Err(D::Error::custom("a price is text such as \"24.95\"")),
    }
}

fn micro_cents(field: &str, text: &str) -> Result<i64, Problem> {
    price_of(text).map_err(|_| {
        let detail = "A price is from 0 to 1,000,000, with a point and at most eight decimals.";
        Problem::invalid(field, detail, "Write it such as 24.95 or 0.0004.")
    })
}

/// Cents, where less is not charged.
pub(super) fn cents(field: &str, text: &str) -> Result<i64, Problem> {
    let micro_cents = micro_cents(field, text)?;
    if micro_cents % MICRO_CENTS == 0 {
        return Ok(micro_cents / MICRO_CENTS);
    }
    Err(Problem::invalid(field, "This amount has two decimals.", "Write it such as 24.95."))
}

/// Up to so many messages of the month, a thousand cost so much.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PriceStep {
    /// Null: all the rest.
    up_to: Option<u64>,
    #[serde(deserialize_with = "money")]
    price: String,
}

/// What something costs from a day on, until there is another price for the same.
#[derive(Serialize, ToSchema)]
struct ListPrice {
    item: PriceItem,
    /// Null: on every plan.
    #[schema(required)]
    plan: Option<Plan>,
    /// Null: in every region.
    #[schema(required)]
    region: Option<String>,
    /// A date; null: since ever.
    #[schema(required)]
    from: Option<String>,
    /// A month of it, or null.
    #[schema(required)]
    month: Option<String>,
    /// A thousand messages, or null.
    #[schema(required)]
    thousand: Option<Vec<PriceStep>>,
}

impl From<Price> for ListPrice {
    fn from(of: Price) -> ListPrice {
        let (month, thousand) = match of.rate {
            Rate::Month { cents } => (Some(amount(cents)), None),
            Rate::Thousand(rungs) => {
                let step = |rung: Rung| PriceStep { up_to: rung.up_to, price: price(rung.micro_cents) };
                (None, Some(rungs.into_iter().map(step).collect()))
            }
        };
        ListPrice {
            item: of.item.into(),
            plan: of.plan.map(Into::into),
            region: of.region,
            // Those that nobody has dated.
            from: (of.from_day > 1).then(|| date_of(of.from_day)),
            month,
            thousand,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPrice {
    item: PriceItem,
    /// Without it, on every plan.
    plan: Option<Plan>,
    /// Without it, in every region.
    region: Option<String>,
    /// A date, today or later; without it, today.
    from: Option<String>,
    /// What a month costs, such as `24.95`.
    month: Option<String>,
    /// What a thousand messages cost, in steps that rise.
    #[serde(default)]
    thousand: Vec<PriceStep>,
}

/// Who bills, as it stands on invoices.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Biller {
    name: String,
    #[serde(default)]
    address_lines: Vec<String>,
    #[schema(required)]
    tax_id: Option<String>,
    /// Three letters, such as `USD`; amounts have two decimals.
    currency: String,
    /// What is written under the sum.
    #[schema(required)]
    note: Option<String>,
}

/// Who is billed.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BillingParty {
    name: String,
    #[serde(default)]
    address_lines: Vec<String>,
    #[schema(required)]
    tax_id: Option<String>,
}

impl From<theirs::Billing> for Biller {
    fn from(of: theirs::Billing) -> Biller {
        Biller { name: of.name, address_lines: of.address, tax_id: of.tax_id, currency: of.currency, note: of.note }
    }
}

impl From<theirs::Billing> for BillingParty {
    fn from(of: theirs::Billing) -> BillingParty {
        BillingParty { name: of.name, address_lines: of.address, tax_id: of.tax_id }
    }
}

/// One line, with its working.
#[derive(Serialize, ToSchema)]
struct InvoiceEntry {
    item: PriceItem,
    region: String,
    #[schema(required)]
    lease: Option<String>,
    #[schema(required)]
    ip: Option<Address>,
    /// The name of a managed pool.
    #[schema(required)]
    pool: Option<String>,
    first_day: String,
    last_day: String,
    days: i64,
    month_days: i64,
    #[schema(required)]
    messages: Option<u64>,
    /// Of a month, or of a thousand messages.
    price: String,
    amount: String,
    words: String,
}

impl From<theirs::Entry> for InvoiceEntry {
    fn from(entry: theirs::Entry) -> InvoiceEntry {
        let (days, line) = (entry.line.days(), entry.line);
        InvoiceEntry {
            item: line.item.into(),
            region: line.region,
            lease: line.lease,
            ip: entry.ip.map(Address),
            pool: line.pool,
            first_day: date_of(line.first_day),
            last_day: date_of(line.last_day),
            days,
            month_days: line.month_days,
            messages: line.messages,
            price: price(line.micro_cents),
            amount: amount(line.amount_cents),
            words: line.words,
        }
    }
}

/// An invoice, or a credit note that corrects one.
#[derive(Serialize, ToSchema)]
struct Invoice {
    id: String,
    account: String,
    /// Such as `2026-11`.
    month: String,
    state: InvoiceState,
    /// Of a credit note: the invoice that it is about.
    #[schema(required)]
    corrects: Option<String>,
    currency: String,
    /// Below nought on a credit note.
    total: String,
    /// What credit notes took from it.
    credited: String,
    /// What is still to be paid.
    due: String,
    made_at: Time,
    #[schema(required)]
    paid_at: Option<Time>,
    /// By which payment.
    #[schema(required)]
    paid_by: Option<String>,
}

fn view(invoice: &theirs::Invoice) -> Invoice {
    Invoice {
        id: invoice.id.clone(),
        account: invoice.account.clone(),
        month: invoice.month.to_string(),
        state: invoice.state().into(),
        corrects: invoice.corrects.clone(),
        currency: invoice.paper.biller.currency.clone(),
        total: amount(invoice.total_cents),
        credited: amount(invoice.credited_cents),
        due: amount(invoice.due_cents()),
        made_at: Time(invoice.made_at),
        paid_at: invoice.paid_at.map(Time),
        paid_by: invoice.paid_by.clone(),
    }
}

/// All that stands on it.
#[derive(Serialize, ToSchema)]
struct InvoicePaper {
    #[serde(flatten)]
    invoice: Invoice,
    biller: Biller,
    billed: BillingParty,
    entries: Vec<InvoiceEntry>,
    /// Of a credit note.
    #[schema(required)]
    reason: Option<String>,
}

/// What the running month costs.
#[derive(Serialize, ToSchema)]
struct InvoiceForecast {
    month: String,
    currency: String,
    /// The last day that is in `so_far`.
    until: String,
    so_far: String,
    so_far_entries: Vec<InvoiceEntry>,
    /// If all stays as it is, and the coming days are like those before.
    expected: String,
    expected_entries: Vec<InvoiceEntry>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCredit {
    /// Without it, all that is left of the invoice.
    amount: Option<String>,
    reason: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPayment {
    /// By which payment, so that it is found again.
    reference: String,
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct WantedInvoices {
    /// Such as `2026-11`.
    month: Option<String>,
    /// Only those that wait to be paid.
    open: bool,
}

impl WantedInvoices {
    fn theirs(self, account: Option<String>) -> Result<theirs::InvoiceFilter, Problem> {
        let read = |text: String| {
            let wrong = |_| Problem::invalid("month", "This is no month.", "Write it such as 2026-11.");
            text.parse::<Month>().map_err(wrong)
        };
        Ok(theirs::InvoiceFilter { account, month: self.month.map(read).transpose()?, open: self.open })
    }
}

/// All prices that were ever said, oldest first.
#[utoipa::path(get, path = "/prices", responses((status = 200, body = Listed<ListPrice>)))]
async fn prices(call: Call, _: Listing<Everything>) -> Answer {
    whole(call.office.prices(&call.by).await?, ListPrice::from)
}

/// Say what something costs from today or a later day on. For the operator.
#[utoipa::path(post, path = "/prices", request_body = NewPrice, responses((status = 200, body = ListPrice)))]
async fn set_price(call: Call, Body(new): Body<NewPrice>) -> Answer {
    call.by.may_operate()?;
    let rate = match (&new.month, new.thousand.is_empty()) {
        (Some(month), true) => Rate::Month { cents: cents("month", month)? },
        (None, false) => {
            let step =
                |step: &PriceStep| Ok(Rung { up_to: step.up_to, micro_cents: micro_cents("thousand", &step.price)? });
            Rate::Thousand(new.thousand.iter().map(step).collect::<Result<_, Problem>>()?)
        }
        _ => return Err(Problem::invalid("month", "A price is one of a month, or of a thousand.", "Say one of them.")),
    };
    let wrong = |_| Problem::invalid("from", "This is no date.", "Write it such as 2026-12-01.");
    let new = theirs_too::NewPrice {
        item: new.item.into(),
        plan: new.plan.map(Into::into),
        region: new.region,
        from_day: new.from.map(|date| day_of(&date)).transpose().map_err(wrong)?,
        rate,
    };
    told(ListPrice::from(call.office.set_price(&call.by, new).await?))
}

/// Who bills, and in which currency. For the operator.
#[utoipa::path(get, path = "/billing", responses((status = 200, body = Biller)))]
async fn biller(call: Call) -> Answer {
    told(Biller::from(call.office.biller(&call.by).await?))
}

/// Say who bills, and in which currency; it stands on invoices that are made from now on. For the operator.
#[utoipa::path(put, path = "/billing", request_body = Biller, responses((status = 200, body = Biller)))]
async fn set_biller(call: Call, Body(to): Body<Biller>) -> Answer {
    let to = theirs::Billing {
        name: to.name,
        address: to.address_lines,
        tax_id: to.tax_id,
        currency: to.currency,
        note: to.note,
    };
    told(Biller::from(call.office.set_biller(&call.by, to).await?))
}

/// Whom the account's invoices are for.
#[utoipa::path(get, path = "/accounts/{account}/billing", responses((status = 200, body = BillingParty)))]
async fn billing(call: Call, At([account]): At<1>) -> Answer {
    told(BillingParty::from(call.office.billing(&call.by, &account).await?))
}

/// Say whom the account's invoices are for, from the next one on.
#[utoipa::path(put, path = "/accounts/{account}/billing", request_body = BillingParty, responses((status = 200, body = BillingParty)))]
async fn set_billing(call: Call, At([account]): At<1>, Body(to): Body<BillingParty>) -> Answer {
    let to =
        theirs::Billing { name: to.name, address: to.address_lines, tax_id: to.tax_id, ..theirs::Billing::default() };
    told(BillingParty::from(call.office.set_billing(&call.by, &account, to).await?))
}

/// The account's invoices and credit notes, newest first.
#[utoipa::path(get, path = "/accounts/{account}/invoices", params(WantedInvoices), responses((status = 200, body = Listed<Invoice>)))]
async fn invoices(call: Call, At([account]): At<1>, list: Listing<WantedInvoices>) -> Answer {
    let account = called(&call.by, Some(account))?;
    listed(call.office.invoices(&call.by, &list.of.theirs(account)?, &list.window).await?, |invoice| view(&invoice))
}

/// Everybody's invoices and credit notes, newest first; of an account's key or person, its own.
#[utoipa::path(get, path = "/invoices", params(WantedInvoices), responses((status = 200, body = Listed<Invoice>)))]
async fn all_invoices(call: Call, list: Listing<WantedInvoices>) -> Answer {
    let own = call.by.account().map(|own| own.as_str().to_owned());
    listed(call.office.invoices(&call.by, &list.of.theirs(own)?, &list.window).await?, |invoice| view(&invoice))
}

/// One invoice or credit note, with all that stands on it.
#[utoipa::path(get, path = "/accounts/{account}/invoices/{invoice}", responses((status = 200, body = InvoicePaper)))]
async fn invoice(call: Call, At([account, invoice]): At<2>) -> Answer {
    told(shown(call.office.invoice(&call.by, &account, &invoice).await?))
}

/// A paper with all that stands on it, as whoever reads it sees it.
pub(crate) fn shown(of: theirs::Invoice) -> impl Serialize {
    let invoice = view(&of);
    InvoicePaper {
        invoice,
        biller: of.paper.biller.into(),
        billed: of.paper.billed.into(),
        entries: of.paper.entries.into_iter().map(InvoiceEntry::from).collect(),
        reason: of.paper.reason,
    }
}

fn as_file(kind: &'static str, text: String) -> Answer {
    // A page of ours holds words of customers; it fetches and runs nothing.
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, policy)], text).into_response())
}

/// An invoice as a page, for a browser and its printer.
#[utoipa::path(get, path = "/accounts/{account}/invoices/{invoice}/page", responses((status = 200, body = String, content_type = "text/html")))]
async fn page(call: Call, At([account, invoice]): At<2>) -> Answer {
    as_file("text/html; charset=utf-8", call.office.invoice(&call.by, &account, &invoice).await?.page())
}

/// An invoice as a table, a row a line.
#[utoipa::path(get, path = "/accounts/{account}/invoices/{invoice}/table", responses((status = 200, body = String, content_type = "text/csv")))]
async fn table(call: Call, At([account, invoice]): At<2>) -> Answer {
    as_file("text/csv; charset=utf-8", call.office.invoice(&call.by, &account, &invoice).await?.table())
}

/// An invoice as a PDF.
#[utoipa::path(get, path = "/accounts/{account}/invoices/{invoice}/print", responses((status = 200, body = String, content_type = "application/pdf")))]
async fn print(call: Call, At([account, invoice]): At<2>) -> Answer {
    as_file("application/pdf", call.office.invoice(&call.by, &account, &invoice).await?.print())
}

/// Correct an invoice by a credit note. For the operator.
#[utoipa::path(post, path = "/accounts/{account}/invoices/{invoice}/credits", request_body = NewCredit, responses((status = 201, body = Invoice)))]
async fn credit(call: Call, At([account, invoice]): At<2>, Body(new): Body<NewCredit>) -> Answer {
    call.by.may_operate()?;
    let much = new.amount.map(|much| cents("amount", &much)).transpose()?;
    let note = call.office.credit(&call.by, &account, &invoice, much, &new.reason).await?;
    created(&["accounts", &note.account, "invoices", &note.id], None, view(&note))
}

/// Write down that an invoice was paid. For the operator, or the program that takes the money.
#[utoipa::path(post, path = "/accounts/{account}/invoices/{invoice}/payment", request_body = NewPayment, responses((status = 200, body = Invoice)))]
async fn pay(call: Call, At([account, invoice]): At<2>, Body(new): Body<NewPayment>) -> Answer {
    told(view(&call.office.mark_paid(&call.by, &account, &invoice, &new.reference).await?))
}

/// What the running month has cost, and will cost if nothing changes.
#[utoipa::path(get, path = "/accounts/{account}/forecast", responses((status = 200, body = InvoiceForecast)))]
async fn forecast(call: Call, At([account]): At<1>) -> Answer {
    let forecast = call.office.forecast(&call.by, &account).await?;
    told(InvoiceForecast {
        month: forecast.month.to_string(),
        currency: forecast.currency,
        until: date_of(forecast.until_day),
        so_far: amount(forecast.so_far_cents),
        so_far_entries: forecast.so_far.into_iter().map(InvoiceEntry::from).collect(),
        expected: amount(forecast.expected_cents),
        expected_entries: forecast.expected.into_iter().map(InvoiceEntry::from).collect(),
    })
}
