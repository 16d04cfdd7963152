//! Does a month end in the right invoice, once, for good? (R7.5)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::account::AccountChange;
use control::charge::{Billing, Invoice, InvoiceFilter, InvoiceState};
use control::lease::{Grant, Into, Order};
use control::price::NewPrice;
use control::setting::Setting;
use control::{Actor, Kind, Office, Refusal, Window};
use engine::charge::{Item, Rate, Rung, price_of};
use engine::month::{Month, day_of};
use engine::snapshot::{Leaving, Plan, PoolKind};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use support::sent::{Sent, send_by};
use support::{Bench, Engine, bench, no_dns, on_both};

const HOUR: Duration = Duration::from_secs(3_600);

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

fn month_price(item: Item, price: &str, from: Option<&str>) -> NewPrice {
    let cents = price_of(price).unwrap() / 1_000_000;
    let from_day = from.map(|date| day_of(date).unwrap());
    NewPrice { item, plan: None, region: None, from_day, rate: Rate::Month { cents } }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn order(quantity: u32, into: Into) -> Order {
    Order { region: None, quantity, into }
}

async fn lease(bench: &Bench, account: &str, last: u8, agreed_cents: Option<i64>, into: Into) {
    let grant = Grant { order: order(0, into), ips: vec![ip(last)], agreed_cents };
    bench.office.grant(&bench.by, account, &grant).await.unwrap();
}

async fn give_back(bench: &Bench, account: &str, last: u8) {
    let own = bench.key_of(account);
    let asked = bench.office.ask_release(&own, account, &[ip(last)], true).await.unwrap();
    bench.office.confirm_release(&own, account, &asked.id, &asked.token).await.unwrap();
}

/// A region with fit IPs, and an account; checks are believed as long as the test lasts.
async fn begun(bench: &Bench, ips: u8) -> String {
    bench.region().await;
    bench.office.set_setting(&bench.by, Setting::CheckMaxAgeHours, 80_000).await.unwrap();
    bench.ips(ips).await;
    // From this month on it is charged.
    assert_eq!(bench.office.close_months().await.unwrap(), 0);
    bench.account("acme", Plan::Standard).await
}

async fn invoices(office: &Office, by: &Actor, account: Option<&str>) -> Vec<Invoice> {
    let wanted = InvoiceFilter { account: account.map(str::to_owned), ..InvoiceFilter::default() };
    office.invoices(by, &wanted, &Window::default()).await.unwrap().items
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (Kind, &'static str) {
    let refusal = result.unwrap_err();
    (refusal.kind, refusal.code)
}

/// The month of docs/operate/charges.md, day by day. It begins on 1 November 2026.
async fn the_documents_month(bench: &Bench) -> String {
    let acme = begun(bench, 5).await;
    let (office, by) = (&bench.office, &bench.by);
    let managed = control::pool::NewPool {
        region: None,
        name: "bulk".into(),
        kind: PoolKind::Managed,
        overflow: None,
        leaving: Leaving::Shared,
        relay: None,
        active_within: None,
    };
    let bulk = office.create_pool(by, &acme, managed).await.unwrap();
    office.set_price(by, month_price(Item::ManagedPool, "15.00", None)).await.unwrap();
    let rung = |up_to, price| Rung { up_to, micro_cents: price_of(price).unwrap() };
    let rate = Rate::Thousand(vec![rung(Some(10_000), "0.50"), rung(None, "0.25")]);
    let thousands = NewPrice { item: Item::ManagedThousand, plan: None, region: None, from_day: None, rate };
    office.set_price(by, thousands).await.unwrap();
    let address = vec!["1 Main Street".to_owned(), "Springfield".to_owned()];
    let acme_pays = Billing { name: "Acme <Ltd>".into(), address, tax_id: Some("US-1".into()), ..Billing::default() };
    office.set_billing(&bench.key_of(&acme), &acme, acme_pays).await.unwrap();

    lease(bench, &acme, 2, None, Into::Default).await;
    bench.days(4);
    let bought = office.purchase(&bench.key_of(&acme), &acme, &order(1, Into::Default)).await.unwrap();
    assert_eq!(bought.leases[0].ip, ip(1));
    bench.days(5);
    office.set_price(by, month_price(Item::Standard, "29.95", Some("2026-11-16"))).await.unwrap();
    lease(bench, &acme, 3, None, Into::Default).await;
    bench.days(2);
    lease(bench, &acme, 4, None, Into::Pool("bulk".into())).await;
    for delivered in [8_000, 7_500] {
        bench.days(1);
        send_by(bench, &acme, (&bulk.id, ip(4)), "google", Sent { delivered, ..Sent::default() }).await;
    }
    // What the pool's mail left by others is no charge.
    send_by(
        bench,
        &acme,
        (&bulk.id, IpAddr::from([198, 51, 100, 1])),
        "google",
        Sent { delivered: 500, ..Sent::default() },
    )
    .await;
    bench.days(6);
    give_back(bench, &acme, 2).await;
    bench.days(5);
    lease(bench, &acme, 5, Some(1_900), Into::Default).await;
    bench.pass(HOUR);
    give_back(bench, &acme, 5).await;
    acme
}

// R7.5: the month that a document reckons by hand, line by line and to the cent.
#[test]
fn spec_r7_5_a_month_is_what_the_document_says() {
    on_both(async |bench| {
        let acme = the_documents_month(bench).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let forecast = office.forecast(own, &acme).await.unwrap();
        assert_eq!((forecast.month, forecast.until_day), (month("2026-11"), day_of("2026-11-25").unwrap()));
        assert!(forecast.so_far_cents < forecast.expected_cents, "{forecast:?}");
        bench.days(6);
        bench.pass(5 * HOUR);
        assert_eq!(office.close_months().await.unwrap(), 1);
        let made = invoices(office, own, Some(&acme)).await;
        assert_eq!((made.len(), made[0].month, made[0].state()), (1, month("2026-11"), InvoiceState::Open));
        assert_eq!((made[0].id.as_str(), made[0].total_cents), ("2026-000001", 8_707));

        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let document = fs::read_to_string(root.join("docs/operate/charges.md")).unwrap();
        let (_, block) = document.split_once("<!-- the invoice -->\n```\n").unwrap();
        let told: Vec<&str> = block.split_once("\n```").unwrap().0.lines().collect();
        let words: Vec<&str> = made[0].paper.entries.iter().map(|entry| entry.line.words.as_str()).collect();
        assert_eq!(told, words);
        assert!(document.contains("= 87.07"));
        // R2.8: the managed IP's address stands nowhere.
        for paper in [made[0].page(), made[0].table(), made[0].print()] {
            assert!(
                paper.contains("2026-000001") && paper.contains("87.07") || paper.starts_with("invoice,"),
                "{paper}"
            );
            assert!(paper.contains("192.0.2.3") && !paper.contains("192.0.2.4"), "{paper}");
        }
        assert!(made[0].page().contains("Acme &lt;Ltd&gt;") && made[0].page().contains("US-1"));
        assert_eq!(made[0].table().lines().count(), 1 + made[0].paper.entries.len());
    });
}

// R7.5: what is over stays as it was: by prices, by plans, by a second round, by a stop in the middle; numbers have no gap.
#[test]
fn spec_r7_5_what_is_over_stays() {
    on_both(async |bench| {
        let acme = begun(bench, 6).await;
        let bolt = bench.account("bolt", Plan::Standard).await;
        let idle = bench.account("idle", Plan::Standard).await;
        let (office, by) = (&bench.office, &bench.by);
        lease(bench, &acme, 1, None, Into::Default).await;
        lease(bench, &bolt, 2, None, Into::Default).await;
        bench.days(30);
        assert_eq!(office.close_months().await.unwrap(), 0, "not before all is counted");
        bench.pass(6 * HOUR);
        // A stop after what one of them was to get was written, and not yet for good.
        let mut change = office.store().change().await.unwrap();
        let halfway = "INSERT INTO invoice (number, id, account, month, total_cents, paper, made_at) \
                       VALUES (1, '2026-000001', $1, 24322, 1, '{}', 1)";
        sqlx::query(halfway).bind(acme.clone()).execute(change.conn()).await.unwrap();
        drop(change);
        let (one, other) = tokio::join!(office.close_months(), office.close_months());
        assert_eq!(one.unwrap() + other.unwrap(), 2, "one each, whoever is first");
        assert_eq!(office.close_months().await.unwrap(), 0);
        let first = invoices(office, by, None).await;
        let numbers: Vec<i64> = first.iter().map(|invoice| invoice.number).collect();
        assert_eq!(numbers, [2, 1]);
        assert!(first.iter().all(|invoice| invoice.total_cents == 2_495));
        assert!(invoices(office, by, Some(&idle)).await.is_empty(), "who owes nothing gets none");

        // December costs more and is on another plan; November is what it was.
        let past =
            NewPrice { from_day: Some(day_of("2026-11-30").unwrap()), ..month_price(Item::Standard, "1.00", None) };
        assert_eq!(refused(office.set_price(by, past).await).0, Kind::Invalid);
        office.set_price(by, month_price(Item::Standard, "30.00", None)).await.unwrap();
        let cheap = NewPrice { plan: Some(Plan::Enterprise), ..month_price(Item::Standard, "15.50", None) };
        office.set_price(by, cheap).await.unwrap();
        bench.days(15);
        let plan = AccountChange { plan: Some(Plan::Enterprise), ..AccountChange::default() };
        office.change_account(by, &bolt, plan).await.unwrap();
        assert_eq!(invoices(office, by, None).await, first);
        bench.days(60);
        // Two months were missed; each is closed by itself.
        assert_eq!(bench.again().await.close_months().await.unwrap(), 4);
        let of = |all: &[Invoice], account: &str, text: &str| {
            let of_month = |invoice: &&Invoice| invoice.account == account && invoice.month == month(text);
            all.iter().find(of_month).unwrap().total_cents
        };
        let all = invoices(office, by, None).await;
        // The first of December at the old price: it was set when the day had begun, and holds from that day.
        assert_eq!((of(&all, &acme, "2026-12"), of(&all, &acme, "2027-01")), (3_000, 3_000));
        // Fifteen days at 30.00, sixteen at 15.50, of 31; then the whole month.
        assert_eq!((of(&all, &bolt, "2026-12"), of(&all, &bolt, "2027-01")), (1_452 + 800, 1_550));
        let numbers: Vec<i64> = all.iter().map(|invoice| invoice.number).collect();
        assert_eq!(numbers, [6, 5, 4, 3, 2, 1]);
        assert!(all[0].id.starts_with("2027-"));
    });
}

// R7.5: an installation that has leased for long before it charges makes no invoices of that time.
#[test]
fn what_was_leased_before_anybody_was_charged_is_free() {
    on_both(async |bench| {
        bench.region().await;
        bench.ips(1).await;
        let acme = bench.account("acme", Plan::Standard).await;
        lease(bench, &acme, 1, None, Into::Default).await;
        bench.days(75);
        assert_eq!(bench.office.close_months().await.unwrap(), 0);
        bench.days(20);
        assert_eq!(bench.office.close_months().await.unwrap(), 1);
        let made = invoices(&bench.office, &bench.by, None).await;
        assert_eq!((made.len(), made[0].month), (1, month("2027-01")));
    });
}

// R7.5: a mistake is corrected by a credit note, never by a change; and a payment is written down.
#[test]
fn a_mistake_is_corrected_by_a_credit_note() {
    on_both(async |bench| {
        let acme = begun(bench, 2).await;
        let (office, by, own) = (&bench.office, &bench.by, &bench.key_of(&acme));
        lease(bench, &acme, 1, None, Into::Default).await;
        bench.days(31);
        office.close_months().await.unwrap();
        let id = invoices(office, by, None).await[0].id.clone();
        assert_eq!(refused(office.credit(own, &acme, &id, Some(1), "x").await).0, Kind::Forbidden);
        assert_eq!(refused(office.credit(by, &acme, &id, Some(2_496), "x").await).0, Kind::Invalid);
        assert_eq!(refused(office.credit(by, &acme, &id, Some(1), " ").await).0, Kind::Invalid);
        let note = office.credit(by, &acme, &id, Some(500), "the IP was down on the 3rd").await.unwrap();
        assert_eq!((note.number, note.total_cents, note.corrects.as_deref()), (2, -500, Some(id.as_str())));
        assert_eq!(note.state(), InvoiceState::CreditNote);
        assert!(note.page().contains("Credit note") && note.table().contains(",-5.00,USD,"), "{}", note.table());
        assert_eq!(refused(office.credit(by, &acme, &note.id, Some(1), "x").await).1, "credit_note");
        let invoice = office.invoice(own, &acme, &id).await.unwrap();
        assert_eq!((invoice.total_cents, invoice.due_cents()), (2_495, 1_995));
        assert_eq!(office.invoices_open().await.unwrap(), 1);
        let paid = office.mark_paid(by, &acme, &id, "ch_123").await.unwrap();
        assert_eq!((paid.state(), paid.due_cents(), paid.paid_by.as_deref()), (InvoiceState::Paid, 0, Some("ch_123")));
        assert_eq!(refused(office.mark_paid(by, &acme, &id, "ch_124").await).1, "not_open");
        assert_eq!(office.invoices_open().await.unwrap(), 0);
        // The database refuses as well.
        for sql in ["UPDATE invoice SET total_cents = 1", "DELETE FROM invoice"] {
            let mut change = office.store().change().await.unwrap();
            assert!(sqlx::query(sql).execute(change.conn()).await.is_err(), "{sql}");
        }
        let gap = "INSERT INTO invoice (number, id, account, month, total_cents, paper, made_at) VALUES (9, 'x', $1, 1, 1, '{}', 1)";
        let mut change = office.store().change().await.unwrap();
        assert!(sqlx::query(gap).bind(acme.clone()).execute(change.conn()).await.is_err());
        drop(change);
        // R2.8
        let bolt = bench.account("bolt", Plan::Standard).await;
        let other = bench.key_of(&bolt);
        assert_eq!(refused(office.invoice(&other, &acme, &id).await).0, Kind::NotFound);
        assert_eq!(refused(office.invoice(&other, &bolt, &id).await).0, Kind::NotFound);
        let whole = office.credit(by, &acme, &id, None, "closed").await.unwrap();
        assert_eq!((whole.total_cents, office.invoice(by, &acme, &id).await.unwrap().credited_cents), (-1_995, 2_495));
    });
}

// R7.5: leases of any days in a leap February: the invoice is the sum of what each day costs alone, within a cent a line; and whoever
// has a whole month pays the whole price.
#[test]
fn whatever_is_leased_adds_up() {
    let mut runner = TestRunner::new(Config { cases: 12, ..Config::default() });
    let days = proptest::collection::vec((0u64..30, 0u64..30), 1..8);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let held = runner.run(&days, |leases| {
        runtime.block_on(async {
            let bench = bench(Engine::Sqlite, no_dns()).await;
            let acme = begun(&bench, 8).await;
            // To 1 February 2028, which has 29 days.
            bench.days(457);
            bench.office.close_months().await.unwrap();
            let mut steps: Vec<(u64, bool, u8)> = Vec::new();
            for (at, (from, until)) in leases.iter().enumerate() {
                let last = u8::try_from(at + 1).unwrap();
                let (from, until) = (*from.min(until), *from.max(until));
                steps.push((from, false, last));
                steps.push((until, true, last));
            }
            steps.sort_unstable();
            let mut day = 0;
            for (at, ends, last) in steps {
                bench.days(at - day);
                day = at;
                if ends {
                    give_back(&bench, &acme, last).await;
                } else {
                    lease(&bench, &acme, last, None, Into::Default).await;
                }
            }
            bench.days(32 - day);
            bench.office.close_months().await.unwrap();
            let made = invoices(&bench.office, &bench.by, Some(&acme)).await;
            let total: i64 =
                made.iter().filter(|invoice| invoice.month == month("2028-02")).map(|one| one.total_cents).sum();
            let held: u64 =
                leases.iter().map(|(from, until)| from.max(until).min(&28) + 1 - from.min(until).min(&29)).sum();
            let expected = i64::try_from(held).unwrap() * 2_495 / 29;
            prop_assert!(
                (total - expected).abs() <= i64::try_from(leases.len()).unwrap(),
                "{} {} {}",
                total,
                expected,
                held
            );
            Ok(())
        })
    });
    held.unwrap();
}
