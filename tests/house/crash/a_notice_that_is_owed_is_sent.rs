//! Is the sender told of a failure although the process was killed in between?

use crate::support::{Dice, Manner, Message, Plan, Town, alone, until_true};

const ROUNDS: usize = 4;
const MESSAGES: usize = 25;

// R1.2, R5.3: killed at any moment between the refusal and the notice, each sender is told at least once.
#[test]
fn a_failure_is_told_although_it_was_killed_in_between() {
    let _machine = alone();
    let seed = Dice::seed();
    let mut dice = Dice(seed);
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).delivery("notify", "\"failure\"").open();
    let mut told = 0;
    for round in 0..ROUNDS {
        let refused = provider.heard("RCPT TO:<rcpt550");
        let mut smtp = house.smtp();
        for number in 0..MESSAGES {
            let from = format!("s{round}-{number}@shop.test");
            smtp.take(&from, &["rcpt550@mail.test"], &Message::plain("lost"));
        }
        let enough = refused + 1 + dice.below(MESSAGES);
        until_true("some are refused", || provider.heard("RCPT TO:<rcpt550") >= enough);
        house.kill();
        house.start();
        for number in 0..MESSAGES {
            let to = format!("s{round}-{number}@shop.test");
            provider.wait_for_one_to(&to);
        }
        house.wait_queue_empty();
        told += MESSAGES;
    }
    println!("{told} senders told by {} notices over {ROUNDS} kills (seed {seed})", provider.count());
}
