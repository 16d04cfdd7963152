//! What if the machine grants little memory, much is queued already, and more comes than it can hold?

use crate::support::{Manner, MemoryLimit, Message, Plan, Smtp, Town, alone, skip, until_true};
use engine::envelope::{Addresses, Envelope, PoolRule, Recipient, Route, TlsWish, Wish};
use engine::id::{AccountId, MessageId, PoolId, RegionId, StreamId};
use engine::time::Timestamp;
use mail::address::Domain;
use mta::record::{self, Entry};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MEMORY: u64 = 512 << 20;
const QUEUED: u32 = 200_000;
const DOMAINS: u32 = 1_000;
/// Handed to the spool before their answers are waited for.
const TOGETHER: u32 = 2_000;
/// Sessions that send large messages at one time, more octets together than the process may have.
const SUBMITTERS: u32 = 48;
const LARGE: usize = 16 << 20;
const EACH: u32 = 2;

/// A spool with so much mail in it, as a house that was stopped would leave it.
fn fill(data: &Path, town: &Town) {
    let options = spool::Options { free_min_bytes: 1 << 20, ..spool::Options::default() };
    let (spool, _) = spool::open(data, options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let accepted_at = Timestamp(now.as_micros().try_into().unwrap());
    let body = bytes::Bytes::from(Message::new("one of many").body(&"Some lines of text.\r\n".repeat(50)));
    let mut first = 0;
    while first < QUEUED {
        let puts: Vec<_> = (first..QUEUED.min(first + TOGETHER))
            .map(|number| {
                let message = MessageId(now.as_millis() << 80 | 7 << 76 | 2 << 62 | u128::from(number));
                let domain = format!("d{}.test", number % DOMAINS);
                let recipient = Recipient {
                    address: format!("u{number}@{domain}"),
                    domain: Domain::parse(&domain).unwrap(),
                    notify: None,
                    orcpt: None,
                };
                let route = Route {
                    pool: PoolId::new("shared"),
                    name: "shared".into(),
                    addresses: Addresses::Shown,
                    rule: PoolRule::Shared,
                    candidates: vec![town.source(0)],
                    chosen: town.source(0),
                };
                let envelope = Envelope {
                    message,
                    account: AccountId::new("shop"),
                    stream: StreamId::new(""),
                    wish: Wish { region: RegionId::new("local"), pool: None, set: None, subaccount: None },
                    route: Some(route),
                    sender: Some("ann@shop.test".into()),
                    sender_domain: Domain::parse("shop.test").ok(),
                    return_path: "ann@shop.test".into(),
                    recipients: vec![recipient],
                    accepted_at,
                    due_at: accepted_at,
                    expires_at: accepted_at + Duration::from_secs(72 * 3_600),
                    tls: TlsWish::IfOffered,
                    size: u32::try_from(body.len()).unwrap(),
                    message_id_header: format!("<{number}@shop.test>"),
                    tags: Vec::new(),
                    envid: None,
                    ret: None,
                    smtputf8: false,
                    once: None,
                };
                let events = record::write_entries(message, &[Entry::of_acceptance(&envelope)]);
                spool.put(message.0, record::write_envelope(&envelope), body.clone(), events)
            })
            .collect();
        runtime.block_on(async {
            for put in puts {
                put.await.unwrap();
            }
        });
        first += TOGETHER;
    }
    spool.close();
}

// E1: 512 MiB, 200,000 queued, and three times that memory on its way in at one time: it says “later” and is not killed; what it
// said yes to is there.
#[test]
fn with_little_memory_it_says_later_and_is_not_killed() {
    let _machine = alone();
    let limit = match MemoryLimit::of(MEMORY) {
        Ok(limit) => limit,
        Err(why) => return skip(&format!("no process can be given little memory here: {why}")),
    };
    let town = Town::new();
    let provider = town.provider(1, Manner { banner: Some("421 4.3.2 Later"), ..Manner::default() });
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("little-memory-{}", std::process::id()));
    fill(&data, &town);
    let mut house = Plan::new(&town).data_in(&data).memory(&limit).open();
    house.wait_log("the queue is recovered");
    println!("{QUEUED} queued: {} MiB resident", house.resident_bytes() >> 20);

    let large = Message::new("large")
        .body(&"A line of some length, many times over, in a large message.\r\n".repeat(LARGE / 61));
    let (taken, later) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for number in 0..SUBMITTERS {
            let (house, large, taken, later) = (&house, &large, &taken, &later);
            scope.spawn(move || {
                let mut smtp = Smtp::open(house.smtp_at());
                for _ in 0..EACH {
                    let to = format!("large{number}@mail.test");
                    match smtp.send("ann@shop.test", &[&to], large) {
                        Ok(answer) if answer.code == 250 => drop(taken.fetch_add(1, Ordering::Relaxed)),
                        Ok(answer) if [421, 451, 452].contains(&answer.code) => {
                            later.fetch_add(1, Ordering::Relaxed);
                            smtp = Smtp::open(house.smtp_at());
                        }
                        Ok(answer) => panic!("{answer:?}"),
                        // What is far above the limit is cut off while it is still being sent: the 421 may not be read then.
                        Err(_) => {
                            later.fetch_add(1, Ordering::Relaxed);
                            smtp = Smtp::open(house.smtp_at());
                        }
                    }
                }
            });
        }
    });
    let (taken, later) = (taken.into_inner(), later.into_inner());
    println!(
        "{taken} large messages taken, {later} times “later”; {} MiB resident, {} MiB at most in its group",
        house.resident_bytes() >> 20,
        limit.peak_bytes() >> 20
    );
    assert_eq!(limit.killed(), 0, "the kernel had to end it");
    assert!(house.is_running());
    assert!(later > 0, "it never said “later”: this was not too much");
    // It serves on.
    house.smtp().take("ann@shop.test", &["small@mail.test"], &Message::plain("small"));
    until_true("all that was taken is queued", || house.figure("weir_queue_messages") as u32 == QUEUED + taken + 1);
    drop((house, provider));
    let _ = std::fs::remove_dir_all(&data);
}
