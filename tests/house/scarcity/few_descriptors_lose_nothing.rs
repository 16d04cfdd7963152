//! What if the process may not open another file or socket?

use crate::support::{Manner, Message, Plan, Smtp, Town, alone, until_true};
use std::time::{Duration, Instant};

const DESCRIPTORS: u32 = 128;
const WATCHED: Duration = Duration::from_secs(2);

// E2: it stops accepting for a while, does not spin, does not crash, and loses nothing.
#[test]
fn out_of_descriptors_it_waits_without_spinning_and_goes_on() {
    let _machine = alone();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).descriptors(DESCRIPTORS).open();
    let queued: Vec<String> = (0..20).map(|number| format!("u{number}@mail.test")).collect();
    let mut smtp = house.smtp();
    let ids: Vec<String> = queued.iter().map(|to| smtp.take("ann@shop.test", &[to], &Message::plain("x"))).collect();
    // More than it may have: the kernel takes them, the house cannot.
    let many: Vec<Smtp> = (0..DESCRIPTORS * 2).map_while(|_| Smtp::connect(house.smtp_at()).ok()).collect();
    assert!(many.len() as u32 > DESCRIPTORS);
    house.wait_log("cannot accept");
    let (began, cpu_s) = (Instant::now(), house.cpu_s());
    until_true("the processor was watched for long enough", || began.elapsed() >= WATCHED);
    let share = (house.cpu_s() - cpu_s) / began.elapsed().as_secs_f64();
    assert!(share < 0.2, "{:.0} % of a processor", share * 100.0);
    assert!(house.is_running());
    // Who was in goes on.
    let late = smtp.take("ann@shop.test", &["late@mail.test"], &Message::plain("x"));
    drop(many);
    until_true("it takes connections again", || {
        Smtp::connect(house.smtp_at()).is_ok_and(|mut smtp| smtp.answer().is_ok_and(|banner| banner.code == 220))
    });
    house.retry_all();
    for id in ids.iter().chain([&late]) {
        house.wait_state(id, "delivered");
    }
    assert_eq!(provider.count(), queued.len() + 1);
}
