//! Does mail survive a name server that fails, is silent, or is gone, and does waiting cost nothing?

use crate::support::{Manner, Message, NameServer, Plan, Smtp, Town, alone, until_true, within};
use net::dns::authority::{Trouble, Zone};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const DOMAINS: usize = 300;
/// Each to so many recipients of as many domains, so that a hundred thousand wait, each for itself.
const MESSAGES: usize = 10_000;
const RECIPIENTS: usize = 10;
const SUBMITTERS: usize = 8;
/// How long the processor's use is watched.
const WATCHED: Duration = Duration::from_secs(3);
/// An order for everything is given again after this, while some domains have not had their answer.
const ORDER_EVERY: Duration = Duration::from_secs(2);
const DELIVERED_WITHIN: Duration = Duration::from_secs(300);

fn zone(town: &Town) -> Zone {
    Zone::parse(&format!("*.far.test MX 10 mx.far.test\nmx.far.test A {}\nfar.test A 127.0.0.1", town.host(1))).unwrap()
}

fn failing(town: &Town, trouble: Trouble) -> Zone {
    (0..DOMAINS).fold(zone(town), |zone, number| zone.trouble(&format!("d{number}.far.test"), trouble).unwrap())
}

// C2: no bounce, no busy loop, and all of it delivered afterwards.
#[test]
fn a_hundred_thousand_wait_for_the_name_server_and_are_delivered_afterwards() {
    let _machine = alone();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut names = NameServer::start(failing(&town, Trouble::Fails));
    let house = Plan::new(&town).ask(names.address()).delivery("notify", "\"failure\"").open();
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..SUBMITTERS {
            scope.spawn(|| {
                let mut smtp = Smtp::open(house.smtp_at());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= MESSAGES {
                        return;
                    }
                    let address = |place| format!("u{number}@d{}.far.test", (number * RECIPIENTS + place) % DOMAINS);
                    let to: Vec<String> = (0..RECIPIENTS).map(address).collect();
                    let to: Vec<&str> = to.iter().map(String::as_str).collect();
                    smtp.take("ann@shop.test", &to, &Message::plain("waiting"));
                }
            });
        }
    });
    println!("queued in {:?}", began.elapsed());
    let one = house.submit_to("bob@d0.far.test");
    house.wait_why(&one, "dns-unavailable");
    // By the time that this much is queued, a name that fails was asked for again and again, ever more rarely.
    let asked = names.questions();
    assert!(asked < DOMAINS as u64 * 20, "{asked} questions about {DOMAINS} names that fail");
    names.replace(failing(&town, Trouble::Silent));
    house.retry_all();
    names.stop();
    house.retry_all();

    let (watched, cpu_s, said) = (Instant::now(), house.cpu_s(), house.log().len());
    until_true("the processor was watched for long enough", || watched.elapsed() >= WATCHED);
    let share = (house.cpu_s() - cpu_s) / watched.elapsed().as_secs_f64();
    println!("{:.1} % of a processor while nothing can be done", share * 100.0);
    assert!(share < 0.2, "{:.0} % of a processor while nothing can be done", share * 100.0);
    assert!(house.log().len() - said < 100_000, "it talks too much while it waits");
    assert_eq!(house.figure("weir_queue_messages") as usize, MESSAGES + 1, "something was given up");

    names.restart(&zone(&town));
    let expected = MESSAGES * RECIPIENTS + 1;
    let (began, mut ordered) = (Instant::now(), None::<Instant>);
    let arrived = within(DELIVERED_WITHIN, || {
        if ordered.is_none_or(|at| at.elapsed() >= ORDER_EVERY) {
            house.retry_all();
            ordered = Some(Instant::now());
        }
        (provider.count() >= expected).then_some(())
    });
    println!("delivered {} in {:?}", provider.count(), began.elapsed());
    assert!(arrived.is_some(), "{} of {expected} are delivered", provider.count());
    house.wait_queue_empty();
    let recipients = provider.look(|all| all.iter().map(|message| message.to.len()).sum::<usize>());
    assert_eq!((provider.count(), recipients), (expected, expected), "something was sent twice");
    assert_eq!(house.figure("weir_recipient_outcomes_total{what=\"bounced\""), 0.0);
}
