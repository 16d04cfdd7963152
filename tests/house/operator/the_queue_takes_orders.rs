//! Do list, hold, release, retry and delete do what they say, by the command line?

use crate::support::{House, Manner, Plan, Town, among_others, until_true};

fn ordered(house: &House, words: &[&str]) -> String {
    let output = house.weir(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

// R2.7
#[test]
fn what_waits_is_listed_held_released_retried_and_deleted() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let one = house.submit_to("grey1@one.test");
    let two = house.submit_to("grey2@two.test");
    house.wait_why(&one, "greylisted");
    house.wait_why(&two, "greylisted");

    let page = ordered(&house, &["queue", "list"]);
    assert!(page.contains(&one) && page.contains(&two), "{page}");
    assert!(page.contains("one.test") && page.contains(&town.source(0).to_string()), "{page}");
    let page = ordered(&house, &["queue", "list", "--domain", "one.test"]);
    assert!(page.contains(&one) && !page.contains(&two), "{page}");
    let page = ordered(&house, &["queue", "lanes"]);
    assert!(page.contains(&town.source(0).to_string()), "{page}");

    // Held, not even an order to retry moves it.
    assert!(ordered(&house, &["queue", "hold", "--message", &one]).starts_with("1 "));
    until_true("it is held", || house.recipient(&one)["state"] == "held");
    ordered(&house, &["queue", "retry", "--all"]);
    house.wait_state(&two, "delivered");
    assert_eq!(house.recipient(&one)["state"], "held");
    assert!(provider.to("grey1@one.test").is_empty());

    ordered(&house, &["queue", "release", "--message", &one]);
    ordered(&house, &["queue", "retry", "--message", &one]);
    house.wait_state(&one, "delivered");

    let three = house.submit_to("grey3@three.test");
    house.wait_why(&three, "greylisted");
    ordered(&house, &["queue", "delete", "--domain", "three.test"]);
    house.wait_state(&three, "deleted");
    house.wait_queue_empty();
    assert!(provider.to("grey3@three.test").is_empty());
}

// Without a word about which, nothing happens: too easily typed.
#[test]
fn an_order_for_everything_must_say_so() {
    let _others = among_others();
    let town = Town::new();
    let house = Plan::new(&town).open();
    let output = house.weir(&["queue", "delete"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--all"));
}

// What is held stays held across a kill; what was deleted stays deleted.
#[test]
fn orders_outlive_the_process() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).open();
    let (held, deleted) = (house.submit_to("grey1@one.test"), house.submit_to("grey2@two.test"));
    house.wait_why(&held, "greylisted");
    house.wait_why(&deleted, "greylisted");
    ordered(&house, &["queue", "hold", "--message", &held]);
    ordered(&house, &["queue", "delete", "--message", &deleted]);
    until_true("both orders are done", || house.recipient(&held)["state"] == "held" && house.queued() == 1);
    house.kill();
    house.start();
    until_true("the queue is recovered", || house.queued() == 1);
    ordered(&house, &["queue", "retry", "--all"]);
    assert_eq!(house.recipient(&held)["state"], "held");
    ordered(&house, &["queue", "release", "--all"]);
    ordered(&house, &["queue", "retry", "--all"]);
    house.wait_state(&held, "delivered");
    assert_eq!(provider.count(), 1);
}
