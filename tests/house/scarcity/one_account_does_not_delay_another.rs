//! Does one account's mass of mail for a dead domain keep another's waiting?

use crate::support::submitter::call;
use crate::support::{Manner, Message, Plan, Smtp, Town, alone, until_true};
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const MASS: u32 = 20_000;
const OTHERS: usize = 50;

fn slowest(provider: &crate::support::FakeProvider, send: impl Fn(&str), begin: &str) -> Duration {
    let mut times: Vec<Duration> = (0..OTHERS)
        .map(|number| {
            let to = format!("{begin}{number}@alive.test");
            let began = Instant::now();
            send(&to);
            provider.wait_for_one_to(&to).at.duration_since(began)
        })
        .collect();
    times.sort();
    times[OTHERS * 99 / 100 - 1]
}

// E5, R5.2
#[test]
fn a_mass_for_a_dead_domain_delays_nobody_else() {
    let _machine = alone();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    // Nobody listens at the town's second host.
    let other =
        "[[account]]\nid = \"other\"\nsenders = \"any\"\n[[credential]]\naccount = \"other\"\nkey = \"other-key\"";
    let house = Plan::new(&town).answer("dead.test", &["mx.dead.test"], &[town.host(2)]).more(other).open();
    let send = |to: &str| {
        let body = json!({ "from": "bea@other.test", "to": to, "text": "x" }).to_string();
        let answer = call(house.http_at(), "POST", "/api/v1/messages", Some("other-key"), body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    };
    let quiet = slowest(&provider, send, "quiet");
    let next = AtomicU32::new(0);
    let message = Message::plain("mass");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut smtp = Smtp::open(house.smtp_at());
                while next.fetch_add(1, Ordering::Relaxed) < MASS {
                    let answer = smtp.send("ann@shop.test", &["nobody@dead.test"], &message).unwrap();
                    assert_eq!(answer.code, 250, "{answer:?}");
                }
            });
        }
    });
    until_true("the mass is queued", || house.figure("weir_queue_messages") as u32 >= MASS);
    let busy = slowest(&provider, send, "busy");
    println!("first attempt p99 {quiet:?} when quiet, {busy:?} behind {MASS} for a dead domain");
    // Twice the quiet value; below 100 ms the machine's own noise is larger.
    assert!(busy <= (quiet * 2).max(Duration::from_millis(100)), "{quiet:?} when quiet, {busy:?} behind the mass");
}
