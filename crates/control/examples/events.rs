//! What does keeping events cost, and finding them? Figures for `bench/README.md`.
//!
//! `cargo run --release -p control --example events -- DATA [EVENTS [uncounted]]`
//!
//! Messages of two hundred accounts, each accepted and then delivered, deferred or bounced, over 90 days, taken in as from a queue's
//! log; then searches for single recipients and messages, and statistics of one account, unless it is left uncounted. On one core: run
//! it under `taskset -c 0`.

use control::archive::{Archive, Told, ToldEvent};
use control::block::Wanted;
use control::office::Setting;
use control::seal::Sealer;
use control::statistics::{Dimension, Question};
use control::store::{Location, Store};
use control::{Actor, Office};
use engine::classify::{Class, Meaning, Subtype};
use engine::envelope::{Addresses, Envelope, PoolRule, Recipient, Route, TlsWish, Wish};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, MessageId, PoolId, RegionId, StreamId};
use engine::time::Timestamp;
use mail::address::Domain;
use mail::reply::Reply;
use net::dns::{FixedAnswers, FixedDns};
use sqlx::{AnyConnection, Connection as _};
use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// 2026-08-03, ninety days before November.
const START: i64 = 1_785_715_200_000_000;
const DAYS: u64 = 90;
const ACCOUNTS: u64 = 200;
const PROVIDERS: [&str; 8] = ["gmail", "microsoft", "yahoo", "apple", "gmx", "orange", "mail.example", "comcast"];
/// Messages whose events are told in one transaction.
const AT_ONCE: u64 = 2_000;
const SEARCHES: u64 = 200;

struct Town {
    step: Duration,
    domains: Vec<Domain>,
}

fn id(at: Timestamp, n: u64) -> MessageId {
    let ms = u128::try_from(at.0 / 1_000).unwrap_or(0);
    MessageId(ms << 80 | 7 << 76 | u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

impl Town {
    fn at(&self, n: u64) -> Timestamp {
        Timestamp(START) + Duration::from_micros(u64::try_from(self.step.as_micros()).unwrap_or(1) * n)
    }

    fn message(&self, n: u64) -> MessageId {
        id(self.at(n), n)
    }

    fn recipient(&self, n: u64) -> String {
        // Everybody hears about ten times.
        format!("recipient.{}@{}", n.wrapping_mul(0x9e37_79b9) % (n / 10 + 1), self.domains[n as usize % 8])
    }

    fn told(&self, n: u64) -> [Told; 2] {
        let (at, account) = (self.at(n), account_of(n % ACCOUNTS));
        let ip = IpAddr::from([192, 0, 2, (n / ACCOUNTS / 8 % 16) as u8]);
        let envelope = Envelope {
            message: self.message(n),
            account: account.clone(),
            stream: StreamId::new(""),
            wish: Wish { region: RegionId::new("local"), pool: None, set: Some("weekly".into()), subaccount: None },
            route: Some(Route {
                pool: PoolId::new("pool_0000000000000000000000000"),
                name: "own".into(),
                addresses: Addresses::Shown,
                rule: PoolRule::AccountDefault,
                candidates: vec![ip],
                chosen: ip,
            }),
            sender: Some("news@sender.example".into()),
            sender_domain: Some(self.domains[0].clone()),
            return_path: format!("b-{n:032x}@bounces.sender.example"),
            recipients: vec![Recipient {
                address: self.recipient(n),
                domain: self.domains[n as usize % 8].clone(),
                notify: None,
                orcpt: None,
            }],
            accepted_at: at,
            due_at: at,
            expires_at: at + Duration::from_secs(259_200),
            tls: TlsWish::IfOffered,
            size: 20_000,
            message_id_header: format!("<{n:032x}@sender.example>"),
            tags: vec![("campaign".into(), (n / 100_000).to_string())],
            envid: None,
            ret: None,
            smtputf8: false,
            once: None,
        };
        let (kind, meaning, code) = match n % 50 {
            0 => (EventKind::Bounced, Some(Meaning::own(Class::Hard, Subtype::UnknownUser)), 550),
            1 | 2 => (EventKind::Deferred, Some(Meaning::own(Class::Soft, Subtype::Greylisted)), 450),
            _ => (EventKind::Delivered, None, 250),
        };
        let became = Event {
            message: Some(envelope.message),
            recipient: Some(0),
            account: Some(account.clone()),
            pool: Some(PoolId::new("pool_0000000000000000000000000")),
            ip: Some(ip),
            provider: Some(PROVIDERS[(n / ACCOUNTS) as usize % 8].into()),
            host: Some("mx1.provider.example".into()),
            reply: Some(Reply::new(
                code,
                (u8::try_from(code / 100).unwrap_or(2), 0, 0),
                format!("Ok: queued as {n:012x}"),
            )),
            meaning,
            attempt: 1,
            took: Some(Duration::from_millis(300)),
            ..Event::new(at + Duration::from_millis(200 + n % 3_000), kind)
        };
        let accepted = Event {
            message: Some(envelope.message),
            account: Some(account),
            pool: became.pool.clone(),
            ip: Some(ip),
            ..Event::new(at, EventKind::Accepted)
        };
        // About what the log's own record has.
        let record = postcard::to_stdvec(&envelope).ok();
        let address = Some(self.recipient(n));
        let first = ToldEvent { event: accepted, address: None, accepted: Some(envelope), route: None, record };
        let second = ToldEvent { event: became, address, accepted: None, route: None, record: None };
        [Told { cursor: n * 2 + 1, events: vec![first] }, Told { cursor: n * 2 + 2, events: vec![second] }]
    }
}

fn account_of(number: u64) -> AccountId {
    AccountId::new(&format!("acc_{number:026}"))
}

/// With the accounts in its database, at the end of the ninety days.
async fn office(location: &Location, archive: Archive) -> Result<Office, Box<dyn Error>> {
    let office = Office::new(Setting {
        store: Store::open(location).await?,
        archive,
        sealer: Sealer::of_key(&[7; 32]).ok_or("no key")?,
        now: Arc::new(|| Timestamp(START) + Duration::from_secs(DAYS * 86_400)),
        dns: Arc::new(FixedDns::new(FixedAnswers::default(), None)),
        block_lists: Vec::new(),
        host: "weir.test".to_owned(),
        return_path: None,
        region: RegionId::new("local"),
        schedules: Arc::default(),
        schedule: engine::schedule::DEFAULT.into(),
    });
    let Location::Sqlite(path) = location else { return Err("SQLite".into()) };
    let mut conn = AnyConnection::connect(&format!("sqlite://{}", path.display())).await?;
    for account in 0..ACCOUNTS {
        let insert = sqlx::query(
            "INSERT INTO account (id, name, plan, standing, senders, has_payment_method, revision, created_at) \
             VALUES ($1, $1, 'standard', 'production', 'verified', 0, 1, 0) ON CONFLICT DO NOTHING",
        );
        insert.bind(account_of(account).to_string()).execute(&mut conn).await?;
    }
    conn.close().await?;
    Ok(office)
}

/// Adds all of it up.
async fn count(office: &Office, archive: &Archive) -> Result<Duration, Box<dyn Error>> {
    let mut counting = Duration::ZERO;
    loop {
        let since = office.counts_kept_since().await?;
        let began = Instant::now();
        let more = archive.count(since).await?;
        counting += began.elapsed();
        if !more {
            return Ok(counting);
        }
    }
}

fn percentiles(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    println!("{what}: p50 {:.1?}, p99 {:.1?}, longest {:.1?}", at(50), at(99), at(100));
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let data = PathBuf::from(words.next().ok_or("which folder?")?);
    let events: u64 = words.next().map_or(Ok(5_000_000), |word| word.parse())?;
    let is_counted = words.next().is_none();
    std::fs::create_dir_all(&data)?;
    let location = Location::Sqlite(data.join("control.db"));
    let archive = Archive::beside(&location)?;
    archive.bring_up_to_date().await?;
    let messages = events / 2;
    let step = Duration::from_secs(DAYS * 86_400) / u32::try_from(messages)?;
    let domains = (0..8).map(|n| Domain::parse(&format!("d{n}.example"))).collect::<Result<_, _>>()?;
    let town = Arc::new(Town { step, domains });

    let (mut keeping, mut longest) = (Duration::ZERO, Duration::ZERO);
    for first in (0..messages).step_by(usize::try_from(AT_ONCE)?) {
        let told: Vec<Told> = (first..(first + AT_ONCE).min(messages)).flat_map(|n| town.told(n)).collect();
        let last = told.last().map_or(0, |told| told.cursor);
        let began = Instant::now();
        archive.take_in("queue", last, told).await?;
        keeping += began.elapsed();
        longest = longest.max(began.elapsed());
    }
    println!("{events} events kept in {keeping:.1?}: {:.0} events/s", events as f64 / keeping.as_secs_f64());
    println!("longest transaction of {} events: {longest:.1?}", AT_ONCE * 2);
    let office = office(&location, archive.clone()).await?;
    let counting = if is_counted { count(&office, &archive).await? } else { Duration::ZERO };
    if is_counted {
        println!("{events} events counted in {counting:.1?}: {:.0} events/s", events as f64 / counting.as_secs_f64());
        println!("kept and counted: {:.0} events/s", events as f64 / (keeping + counting).as_secs_f64());
    }
    let bytes = archive.bytes().await? as f64;
    let file = std::fs::metadata(data.join("events.db"))?.len() as f64;
    println!("octets an event: {:.0} in blocks, {:.0} on disk", bytes / events as f64, file / events as f64);

    let (mut by_recipient, mut by_message) = (Vec::new(), Vec::new());
    for search in 0..SEARCHES {
        let n = search.wrapping_mul(0x9e37_79b9_7f4a_7c15) % messages;
        let wanted = Wanted { recipient: Some(town.recipient(n)), ..Wanted::default() };
        let began = Instant::now();
        let found = archive.search(&wanted, None, 50).await?;
        by_recipient.push(began.elapsed());
        let is_there = found.events.iter().any(|kept| kept.event.message == Some(town.message(n)));
        if !is_there && found.next.is_none() {
            return Err(format!("what was sent to {} is not found", town.recipient(n)).into());
        }
        let began = Instant::now();
        let story = archive.story(town.message(n)).await?;
        by_message.push(began.elapsed());
        if story.len() != 2 {
            return Err(format!("{} events of message {n}", story.len()).into());
        }
    }
    percentiles("search by recipient, a page of 50", by_recipient);
    percentiles("search by message", by_message);
    if !is_counted {
        office.close().await;
        return Ok(());
    }
    let mut by_provider = Vec::new();
    for account in 0..ACCOUNTS {
        let asked = Question {
            account: Some(account_of(account).to_string()),
            by: vec![Dimension::Provider],
            from: Some(Timestamp(START)),
            until: Some(Timestamp(START) + Duration::from_secs(DAYS * 86_400)),
            ..Question::default()
        };
        let began = Instant::now();
        let told = office.statistics(&Actor::command_line(), asked).await?;
        by_provider.push(began.elapsed());
        if told.figures.len() != PROVIDERS.len() + 1 {
            return Err(format!("{} lines of account {account}", told.figures.len()).into());
        }
    }
    percentiles("90 days by provider, one account", by_provider);
    office.close().await;
    Ok(())
}
