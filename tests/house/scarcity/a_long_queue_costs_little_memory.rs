//! Does memory stay bounded, however much is queued?

use crate::support::{Manner, Message, Plan, Smtp, Town, alone, until_true};
use std::sync::atomic::{AtomicU32, Ordering};

const QUEUED: u32 = 50_000;
const SUBMITTERS: u32 = 8;
/// Of the 512 MiB that 200,000 may have, the share of 50,000, and what a process needs at all.
const RESIDENT_MAX: u64 = 192 << 20;

// E1, scaled down to a quarter.
#[test]
fn fifty_thousand_queued_messages_fit_into_little_memory() {
    let _machine = alone();
    let town = Town::new();
    let provider = town.provider(1, Manner { banner: Some("421 4.3.2 Later"), ..Manner::default() });
    let house = Plan::new(&town).open();
    let next = AtomicU32::new(0);
    let message = Message::new("one of many").body(&"Some lines of text.\r\n".repeat(50));
    std::thread::scope(|scope| {
        for _ in 0..SUBMITTERS {
            scope.spawn(|| {
                let mut smtp = Smtp::open(house.smtp_at());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= QUEUED {
                        return;
                    }
                    let to = format!("u{number}@d{}.test", number % 1_000);
                    let answer = smtp.send("ann@shop.test", &[&to], &message).unwrap();
                    assert_eq!(answer.code, 250, "{answer:?}");
                }
            });
        }
    });
    until_true("all of it is queued", || house.figure("weir_queue_messages") as u32 >= QUEUED);
    let resident = house.resident_bytes();
    println!("{QUEUED} queued: {} MiB resident", resident >> 20);
    assert!(resident < RESIDENT_MAX, "{} MiB", resident >> 20);
    drop(provider);
}
