//! Is every acknowledged message delivered, whatever moment the process is killed at?

use crate::support::provider::Taken;
use crate::support::{Dice, FakeProvider, House, Manner, Message, Plan, Smtp, Town, alone, until_true};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// In everyday runs; `WEIR_KILL_ROUNDS=200` for a long one.
const ROUNDS: u32 = 10;
const SUBMITTERS: u64 = 4;
/// Up to this long after the first message of a round.
const KILL_WITHIN: Duration = Duration::from_millis(400);
const FILLING: usize = 3_000;

/// Submitters that go on until they are told to stop or their server is gone, and note what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeSet<u64>>>);

impl Acknowledged {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Load {
    fn begin(to: SocketAddr, numbers: &Arc<AtomicU64>, acknowledged: &Acknowledged) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |_| {
            let (stop, numbers, acknowledged) = (stop.clone(), numbers.clone(), acknowledged.clone());
            std::thread::spawn(move || {
                let _ = submit(to, &stop, &numbers, &acknowledged);
            })
        };
        Load { threads: (0..SUBMITTERS).map(thread).collect(), stop }
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Ends with an error when the server is gone: what had no answer then counts as not acknowledged.
fn submit(to: SocketAddr, stop: &AtomicBool, numbers: &AtomicU64, acknowledged: &Acknowledged) -> std::io::Result<()> {
    let mut smtp = Smtp::connect(to)?;
    smtp.answer()?;
    smtp.say("EHLO app.test")?;
    while !stop.load(Ordering::SeqCst) {
        let number = numbers.fetch_add(1, Ordering::SeqCst);
        let answer = smtp.send("ann@shop.test", &[&format!("u{number}@mail.test")], &numbered(number))?;
        match answer.code {
            250 => drop(acknowledged.0.lock().unwrap().insert(number)),
            421 => return Ok(()),
            _ => panic!("{answer:?}"),
        }
    }
    Ok(())
}

/// Long enough that half of it would be seen to be half.
fn numbered(number: u64) -> Vec<u8> {
    let filling = "All of this line must arrive, or none of it.\r\n".repeat(FILLING / 46);
    Message::new(&format!("number {number}")).body(&format!("begin {number}\r\n{filling}end {number}"))
}

fn number_of(message: &crate::support::Received) -> u64 {
    message
        .header("Subject")
        .and_then(|subject| subject.strip_prefix("number ")?.parse().ok())
        .expect("a numbered message")
}

struct Figures {
    delivered: usize,
    duplicates: usize,
}

/// Whole, and every copy with the Message-ID of the first.
fn examine(provider: &FakeProvider) -> (BTreeSet<u64>, Figures) {
    provider.look(|all| {
        let mut ids: BTreeMap<u64, String> = BTreeMap::new();
        let mut duplicates = 0;
        for message in all.iter().filter(|message| message.taken == Taken::Accepted) {
            let number = number_of(message);
            let id = message.header("Message-ID").unwrap();
            let whole = numbered(number);
            let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            assert_eq!(message.body(), &whole[body..], "number {number} is not whole");
            match ids.get(&number) {
                Some(first) => {
                    assert_eq!(*first, id, "a second copy of number {number} under another Message-ID");
                    duplicates += 1;
                }
                None => drop(ids.insert(number, id)),
            }
        }
        (ids.keys().copied().collect(), Figures { delivered: ids.len(), duplicates })
    })
}

fn town_with_load() -> (Town, FakeProvider, House) {
    let town = Town::new();
    let provider = town.provider(1, Manner { slow: Duration::from_millis(3), ..Manner::default() });
    let house = Plan::new(&town).open();
    (town, provider, house)
}

// A4, A5, R1.2, R5.6: killed again and again without ever emptying the queue: nothing acknowledged is lost, nothing is there by
// half, and no more copies than transactions that were open at the kills.
#[test]
fn nothing_acknowledged_is_lost_by_killing_it_under_load() {
    let _machine = alone();
    let rounds = std::env::var("WEIR_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let seed = Dice::seed();
    let mut dice = Dice(seed);
    let (_town, provider, mut house) = town_with_load();
    let (numbers, acknowledged) = (Arc::new(AtomicU64::new(0)), Acknowledged::default());
    for round in 0..rounds {
        let before = acknowledged.count();
        let load = Load::begin(house.smtp_at(), &numbers, &acknowledged);
        until_true("the round's first message is acknowledged", || acknowledged.count() > before);
        // The moment is the test's subject: chance chooses it, nothing is waited for.
        std::thread::sleep(KILL_WITHIN.mul_f64(dice.below(1_000) as f64 / 1_000.0));
        house.kill();
        load.end();
        // What was under way has ended on the provider's side too.
        until_true("the provider has noticed", || provider.open() == 0);
        let (figures, open) = (examine(&provider).1, provider.cut_short());
        assert!(figures.duplicates <= open, "round {round}, seed {seed}: {} copies, {open} open", figures.duplicates);
        house.start();
    }
    let accepted = acknowledged.0.lock().unwrap().clone();
    until_true("all that was acknowledged is delivered", || examine(&provider).0.is_superset(&accepted));
    house.wait_queue_empty();
    let ((delivered, figures), open) = (examine(&provider), provider.cut_short());
    assert!(figures.duplicates <= open, "seed {seed}: {} copies, {open} open", figures.duplicates);
    let unasked = delivered.difference(&accepted).count();
    // What had no answer may have been kept: at most one a submitter and round.
    assert!(unasked as u64 <= u64::from(rounds) * SUBMITTERS, "{unasked} that nobody was told of");
    println!(
        "{rounds} kills (seed {seed}): {} acknowledged, 0 lost, {} delivered, {unasked} without an answer, {} copies of {open} transactions open",
        accepted.len(),
        figures.delivered,
        figures.duplicates,
    );
}

// R1.2, D10: killed while a message's data comes in, nothing of it is there afterwards.
#[test]
fn a_message_that_was_coming_in_never_half_exists() {
    let _machine = alone();
    let (_town, provider, mut house) = town_with_load();
    let mut smtp = house.smtp();
    smtp.expect("MAIL FROM:<ann@shop.test>", 250);
    smtp.expect("RCPT TO:<u1@mail.test>", 250);
    smtp.expect("DATA", 354);
    smtp.raw(&numbered(1)).unwrap();
    // Read, because something behind it in another session is answered.
    let id = house.submit_to("other@mail.test");
    house.wait_state(&id, "delivered");
    house.kill();
    house.start();
    assert_eq!(house.queued(), 0);
    let id = house.submit_to("another@mail.test");
    house.wait_state(&id, "delivered");
    assert!(provider.to("u1@mail.test").is_empty());
}

// A6: told to stop under load it ends by itself within its limit, takes nothing new, loses nothing, sends nothing twice.
#[test]
fn told_to_stop_it_ends_in_time_and_loses_nothing() {
    let _machine = alone();
    let (_town, provider, mut house) = town_with_load();
    let (numbers, acknowledged) = (Arc::new(AtomicU64::new(0)), Acknowledged::default());
    let address = house.smtp_at();
    let load = Load::begin(address, &numbers, &acknowledged);
    // One who is connected and says nothing is told to go.
    let mut idle = house.smtp();
    until_true("the load is on", || acknowledged.count() > 100);
    let (status, took) = house.terminate();
    load.end();
    assert!(status.success(), "{status}\n{}", house.log());
    assert!(took < Duration::from_secs(30), "it took {took:?}");
    assert_eq!(idle.answer().unwrap().code, 421);
    assert!(Smtp::connect(address).is_err(), "somebody still listens");
    let accepted = acknowledged.0.lock().unwrap().clone();
    house.start();
    until_true("all that was acknowledged is delivered", || examine(&provider).0.is_superset(&accepted));
    house.wait_queue_empty();
    let (_, figures) = examine(&provider);
    assert_eq!(figures.duplicates, 0);
    println!("stopped in {took:?} with {} acknowledged", accepted.len());
}

// A13: the second one refuses and leaves; the first does not notice.
#[test]
fn a_second_process_on_the_same_data_refuses() {
    let _machine = alone();
    let (_town, _provider, mut house) = town_with_load();
    let output = house.start_second();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains(&house.data.display().to_string()), "{words}");
    assert!(house.is_running());
    let id = house.submit_to("bob@mail.test");
    house.wait_state(&id, "delivered");
}
