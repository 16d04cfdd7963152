//! How long does it take to close a month of very many leases? On SQLite, each lease with days of its own, every tenth one given back.
//!
//! `cargo run --release -p control --example invoices -- FOLDER [LEASES] [ACCOUNTS]`; figures as JSON.

#![allow(clippy::disallowed_methods)] // it measures, so it needs a clock

use control::archive::Archive;
use control::charge::InvoiceFilter;
use control::office::Setting;
use control::seal::Sealer;
use control::store::{Location, Store};
use control::{Actor, Office, Window};
use engine::id::RegionId;
use engine::time::Timestamp;
use net::dns::{FixedAnswers, FixedDns};
use sqlx::{AnyConnection, Connection as _, Executor as _};
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const REGION: &str = "local";
/// 2026-11-01, and a day after the end of that month.
const BEGIN: i64 = 1_793_491_200_000_000;
const CLOSED: i64 = BEGIN + 31 * DAY;
const DAY: i64 = 86_400_000_000;

type Done = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Done {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().ok_or("which folder?")?);
    let mut number = |usual: i64| words.next().map_or(Ok(usual), |word| word.parse());
    let (leases, accounts) = (number(100_000)?, number(5_000)?);
    std::fs::create_dir_all(&folder)?;
    let location = Location::Sqlite(folder.join("control.db"));
    let archive = Archive::beside(&location)?;
    archive.bring_up_to_date().await?;
    let office = Office::new(Setting {
        store: Store::open(&location).await?,
        archive,
        sealer: Sealer::of_key(&[7; 32]).ok_or("no key")?,
        now: Arc::new(|| Timestamp(CLOSED)),
        dns: Arc::new(FixedDns::new(FixedAnswers::default(), None)),
        block_lists: Vec::new(),
        host: "weir.test".to_owned(),
        return_path: None,
        region: RegionId::new(REGION),
        schedules: Arc::default(),
        schedule: engine::schedule::DEFAULT.into(),
    });
    office.make_home().await?;
    let mut conn = AnyConnection::connect(&format!("sqlite://{}", folder.join("control.db").display())).await?;
    fill(&mut conn, leases, accounts).await?;
    conn.close().await?;

    // The month before is closed, as it would be.
    let mut change = office.store().change().await?;
    let closed = "INSERT INTO month_closed (month, closed_at) VALUES (2026 * 12 + 9, 0)";
    change.conn().execute(closed).await?;
    change.commit().await?;

    let began = Instant::now();
    let invoices = office.close_months().await?;
    let took = began.elapsed();
    let all = office.invoices(&Actor::command_line(), &InvoiceFilter::default(), &Window::default()).await?.items;
    let newest = all.first().map_or(0, |invoice| invoice.number);
    office.close().await;
    println!(
        "{{\"leases\": {leases}, \"invoices\": {invoices}, \"last_number\": {newest}, \"took_s\": {:.2}, \"mark_s\": 10}}",
        took.as_secs_f64()
    );
    Ok(())
}

/// The rows as they would stand after calls, in one transaction.
async fn fill(conn: &mut AnyConnection, leases: i64, accounts: i64) -> Done {
    conn.execute("PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; BEGIN").await?;
    for number in 0..accounts {
        let insert = "INSERT INTO account (id, name, plan, standing, senders, has_payment_method, revision, created_at) \
                      VALUES ($1, $2, 'standard', 'production', 'verified', 1, 1, $3)";
        let named = sqlx::query(insert).bind(format!("acc_{number:026}")).bind(format!("tenant {number}")).bind(BEGIN);
        named.execute(&mut *conn).await?;
        let plan = "INSERT INTO plan_since (account, from_day, plan) VALUES ($1, 0, 'standard')";
        sqlx::query(plan).bind(format!("acc_{number:026}")).execute(&mut *conn).await?;
    }
    for number in 0..leases {
        let address = format!("10.{}.{}.{}", number / 65_536, number / 256 % 256, number % 256);
        let insert = "INSERT INTO ip (address, region, bind, ehlo, state, state_since, revision, created_at) \
                      VALUES ($1, $2, $1, $3, 'leased', $4, 1, $4)";
        let ip =
            sqlx::query(insert).bind(address.clone()).bind(REGION).bind(format!("m{number}.weir.test")).bind(BEGIN);
        ip.execute(&mut *conn).await?;
        let started = BEGIN + number % 28 * DAY;
        let ended = (number % 10 == 0).then_some(started + DAY);
        let (origin, item) = if number % 3 == 0 { ("purchase", "purchase") } else { ("grant", "standard") };
        let insert = "INSERT INTO lease (id, ip, account, origin, price_cents, started_at, ended_at, item) \
                      VALUES ($1, $2, $3, $4, 2495, $5, $6, $7)";
        let lease = sqlx::query(insert)
            .bind(format!("lease_{number:026}"))
            .bind(address)
            .bind(format!("acc_{:026}", number % accounts))
            .bind(origin)
            .bind(started)
            .bind(ended)
            .bind(item);
        lease.execute(&mut *conn).await?;
    }
    conn.execute("COMMIT").await?;
    Ok(())
}
