//! Does mail survive a name server that fails, is silent, or is gone, and does waiting cost nothing?

use crate::support::{Manner, NameServer, Plan, Town, alone, until_true};
use net::dns::authority::{Trouble, Zone};
use std::time::{Duration, Instant};

const DOMAINS: usize = 300;
/// How long the processor's use is watched.
const WATCHED: Duration = Duration::from_secs(3);

fn zone(town: &Town) -> Zone {
    Zone::parse(&format!("*.far.test MX 10 mx.far.test\nmx.far.test A {}\nfar.test A 127.0.0.1", town.host(1))).unwrap()
}

fn failing(town: &Town, trouble: Trouble) -> Zone {
    (0..DOMAINS).fold(zone(town), |zone, number| zone.trouble(&format!("d{number}.far.test"), trouble).unwrap())
}

// C2: no bounce, no busy loop, and all of it delivered afterwards.
#[test]
fn mail_waits_for_the_name_server_and_is_delivered_afterwards() {
    let _machine = alone();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut names = NameServer::start(failing(&town, Trouble::Fails));
    let house = Plan::new(&town).ask(names.address()).open();
    let mut smtp = house.smtp();
    let message = crate::support::Message::plain("waiting");
    let ids: Vec<String> = (0..DOMAINS)
        .map(|number| smtp.take("ann@shop.test", &[&format!("bob@d{number}.far.test")], &message))
        .collect();
    house.wait_why(&ids[0], "dns-unavailable");
    house.wait_why(&ids[DOMAINS - 1], "dns-unavailable");
    let asked = names.questions();
    assert!(asked < DOMAINS as u64 * 10, "{asked} questions about {DOMAINS} names that fail");
    names.replace(failing(&town, Trouble::Silent));
    house.retry_all();
    names.stop();
    house.retry_all();
    let (began, cpu_s, said) = (Instant::now(), house.cpu_s(), house.log().len());
    until_true("the processor was watched for long enough", || began.elapsed() >= WATCHED);
    let share = (house.cpu_s() - cpu_s) / began.elapsed().as_secs_f64();
    assert!(share < 0.2, "{:.0} % of a processor while nothing can be done", share * 100.0);
    assert!(house.log().len() - said < 100_000, "it talks too much while it waits");
    assert_eq!(house.queued(), DOMAINS, "something was given up");
    names.restart(&zone(&town));
    let arrived = || {
        house.retry_all();
        provider.count() >= DOMAINS
    };
    until_true("all of it is delivered", arrived);
    house.wait_queue_empty();
    assert_eq!(provider.count(), DOMAINS);
}
