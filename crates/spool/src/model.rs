//! Does the spool keep what a map keeps, whatever the disk and the power do?
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::check::check_on;
use crate::fault::{Health, OpenFault, PutFault, ReadFault};
use crate::log::{Log, Opened, Order, PutOrder, Small, What};
use crate::read::{LiveMessage, Patience, Stored};
use crate::record::Parts;
use crate::sim::{Plan, SimDisk, Unsynced};
use crate::{Cursor, Key, Options};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn octets(&mut self, max: u64) -> Vec<u8> {
        let first = self.below(256) as u8;
        (0..self.below(max + 1)).map(|i| first.wrapping_add(i as u8)).collect()
    }
}

struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
    nth: u64,
    acknowledged: bool,
    /// The newest last; those before it may come back after a power cut.
    states: Vec<Vec<u8>>,
    ended: bool,
}

struct Event {
    octets: Vec<u8>,
    durable: bool,
    /// Of a message that was refused: may turn up after a crash, and only then.
    refused: bool,
}

struct World {
    disk: SimDisk,
    options: Options,
    log: Option<Log>,
    now_ms: u64,
    dice: Dice,
    count: u64,
    messages: BTreeMap<Key, Message>,
    events: Vec<Event>,
    /// What a reader that goes on from its cursor has seen.
    seen: Vec<(Cursor, Vec<u8>)>,
}

fn dir() -> PathBuf {
    PathBuf::from("/spool")
}

fn small_options() -> Options {
    Options {
        segment_bytes: 4096,
        free_min_bytes: 0,
        reserve_bytes: 4096,
        event_segment_bytes: 2048,
        files_open_max: 3,
        ..Options::default()
    }
}

impl World {
    fn new(seed: u64, options: Options) -> World {
        let mut world = World {
            disk: SimDisk::new(),
            options,
            log: None,
            now_ms: 0,
            dice: Dice(seed),
            count: 0,
            messages: BTreeMap::new(),
            events: Vec::new(),
            seen: Vec::new(),
        };
        world.open(Certainty::All);
        world
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    fn event(&mut self) -> Vec<u8> {
        self.count += 1;
        let mut event = self.count.to_be_bytes().to_vec();
        event.resize(8 + self.dice.below(40) as usize, 7);
        event
    }

    fn some_key(&mut self) -> Option<Key> {
        let keys: Vec<Key> =
            self.messages.iter().filter(|(_, m)| m.acknowledged && !m.ended).map(|(k, _)| *k).collect();
        (!keys.is_empty()).then(|| keys[self.dice.below(keys.len() as u64) as usize])
    }

    /// A group of orders: some small ones, and some messages among them. Whether each message was taken.
    fn group(&mut self, puts: u64, smalls: u64) -> Vec<Result<(), PutFault>> {
        let (mut orders, mut answers) = (Vec::new(), Vec::new());
        let (mut smalls_left, mut puts_left) = (smalls, puts);
        while smalls_left + puts_left > 0 {
            // A message comes last, so that its answer speaks for the whole group.
            if smalls_left > 0 && (puts_left <= 1 || self.dice.below(2) == 0) {
                smalls_left -= 1;
                self.order_small(&mut orders);
            } else {
                puts_left -= 1;
                answers.push(self.order_put(&mut orders));
            }
        }
        let now_ms = self.now_ms;
        self.log().commit(&mut orders, now_ms);
        let mut outcomes = Vec::new();
        for (key, event, mut answer) in answers {
            let outcome = answer.try_recv().unwrap();
            if outcome.is_ok() {
                self.messages.get_mut(&key).unwrap().acknowledged = true;
                self.events[event].durable = true;
            } else {
                self.events[event].refused = true;
                self.events[event].durable = false;
            }
            outcomes.push(outcome);
        }
        if outcomes.last().is_some_and(Result::is_ok) {
            self.synced();
        }
        outcomes
    }

    fn order_put(&mut self, orders: &mut Vec<Order>) -> (Key, usize, oneshot::Receiver<Result<(), PutFault>>) {
        let (event, nth) = (self.event(), self.count);
        let key = Key::from(self.dice.below(1 << 30)) << 64 | Key::from(nth);
        let (head, body) = (self.dice.octets(100), self.dice.octets(900));
        let payload_crc = Parts { head: &head, state: &[], body: &body, event: &event }.crc();
        let (answer, answered) = oneshot::channel();
        let put =
            PutOrder { key, head: head.clone(), body: body.clone().into(), event: event.clone(), payload_crc, answer };
        orders.push(Order::Put(put));
        self.messages.insert(key, Message { head, body, nth, acknowledged: false, states: vec![vec![]], ended: false });
        self.events.push(Event { octets: event, durable: false, refused: false });
        (key, self.events.len() - 1, answered)
    }

    fn order_small(&mut self, orders: &mut Vec<Order>) {
        let event = self.event();
        let (what, key) = match (self.dice.below(5), self.some_key()) {
            (0, _) | (_, None) => (What::Note, 0),
            (1 | 2, Some(key)) => {
                let state = self.dice.octets(60);
                self.messages.get_mut(&key).unwrap().states.push(state.clone());
                (What::Update(state), key)
            }
            (_, Some(key)) => {
                self.messages.get_mut(&key).unwrap().ended = true;
                (What::Remove(None), key)
            }
        };
        self.events.push(Event { octets: event.clone(), durable: false, refused: false });
        orders.push(Order::Small(Small { what, key, event }));
    }

    /// Everything ordered so far is durable.
    fn synced(&mut self) {
        self.messages.retain(|_, message| !(message.ended && message.acknowledged));
        for message in self.messages.values_mut() {
            message.states.drain(..message.states.len() - 1);
        }
        self.events.iter_mut().filter(|event| !event.refused).for_each(|event| event.durable = true);
    }

    fn tend(&mut self, ms: u64) {
        self.now_ms += ms;
        let now_ms = self.now_ms;
        self.log().tend(now_ms);
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            self.tend(10);
        }
        assert_eq!(self.log().shelf().health(), Health::Accepting);
    }

    /// While it runs, the spool answers exactly.
    fn compare(&mut self) {
        let shelf = self.log().shelf();
        for (key, message) in &self.messages {
            let read = shelf.read(*key, Patience::MayBlock);
            if message.acknowledged && !message.ended {
                let state = message.states.last().unwrap().clone();
                let expected = Stored { head: message.head.clone(), state, body: Bytes::from(message.body.clone()) };
                assert_eq!(read.unwrap(), expected, "message {}", message.nth);
            } else {
                assert!(matches!(read, Err(ReadFault::Unknown(_))), "message {}", message.nth);
            }
        }
        let live = self.messages.values().filter(|message| message.acknowledged && !message.ended).count();
        assert_eq!(shelf.book().index.len(), live);
    }

    fn compare_events(&mut self) {
        let mut reader = self.log().events().reader();
        let cursor = self.seen.last().map_or(Cursor(0), |(cursor, _)| *cursor);
        let more = read_all(&mut reader, cursor);
        self.seen.extend(more);
        let all = read_all(&mut self.log().events().reader(), Cursor(0));
        if self.log().events().broken().is_some() {
            // What was not synced is copied again at the next try.
            assert!(self.seen.starts_with(&all), "an event changed");
            return;
        }
        assert!(all == self.seen, "a reader that went on saw something else than one that began again");
        let mut back = Vec::new();
        let visitor = &mut |cursor, event: &[u8]| {
            back.push((cursor, event.to_vec()));
            std::ops::ControlFlow::Continue(())
        };
        reader.scan_back(visitor).unwrap();
        back.reverse();
        assert!(back == all, "backwards it is another log");
    }

    /// The events in the log are those of the model: all that were durable, none twice, none out of order.
    fn compare_events_with_model(&mut self, crashed: bool) {
        self.compare_events();
        let mut expected = self.events.iter_mut();
        for (_, octets) in &self.seen {
            let found = expected.by_ref().find(|event| {
                assert!(event.octets == *octets || !event.durable, "an event is missing before {octets:?}");
                event.octets == *octets
            });
            let found = found.unwrap_or_else(|| panic!("event {octets:?} twice, unknown or out of order"));
            assert!(crashed || !found.refused, "event of a refused message");
            (found.durable, found.refused) = (true, false);
        }
        // A log that could not be written is behind until the next try.
        let behind = self.log.as_ref().is_some_and(|log| log.events().broken().is_some());
        assert!(behind || expected.all(|event| !event.durable), "an event is missing at the end");
        if crashed {
            self.events.retain(|event| event.durable);
        }
    }

    fn open(&mut self, certainty: Certainty) {
        let opened = Log::open(Arc::new(self.disk.clone()), &dir(), self.options.clone(), self.now_ms);
        let Opened { log, live, .. } = opened.unwrap();
        self.log = Some(log);
        let live: Vec<LiveMessage> = live.map(Result::unwrap).collect();
        let keys: BTreeSet<Key> = live.iter().map(|message| message.key).collect();
        assert_eq!(keys.len(), live.len());
        let mut last = 0;
        for LiveMessage { key, head, state } in live {
            let message = self.messages.get_mut(&key).unwrap_or_else(|| panic!("{key:x} came back"));
            assert!(message.nth > last, "not in the order of put");
            last = message.nth;
            assert_eq!(head, message.head);
            if certainty == Certainty::All {
                assert_eq!(Some(&state), message.states.last());
                assert!(!message.ended, "{} was removed", message.nth);
            }
            assert!(message.states.contains(&state), "a state that never was");
            (message.acknowledged, message.ended, message.states) = (true, false, vec![state]);
        }
        for (key, message) in &self.messages {
            assert!(keys.contains(key) || message.ended || !message.acknowledged, "{} was lost", message.nth);
        }
        self.messages.retain(|key, _| keys.contains(key));
        self.compare();
        self.compare_events_with_model(true);
    }

    fn kill(&mut self) {
        // What waits in memory because the disk took nothing dies with the process.
        let certainty = if self.log().figures_held() == 0 { Certainty::All } else { Certainty::Durable };
        self.log = None;
        self.disk.kill();
        self.open(certainty);
    }

    fn power_cut(&mut self, unsynced: Unsynced) {
        self.log = None;
        self.disk.power_cycle(unsynced);
        self.open(Certainty::Durable);
        let report = check_on(Arc::new(self.disk.clone()), &dir()).unwrap();
        assert_eq!(report.live, self.messages.len() as u64);
        assert_eq!(report.events, self.seen.len() as u64);
    }

    fn some_unsynced(&mut self) -> Unsynced {
        match self.dice.below(4) {
            0 => Unsynced::Lost,
            1 => Unsynced::Kept,
            _ => Unsynced::Torn { seed: self.dice.below(1 << 40) },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// All that was ordered is there.
    All,
    /// All that was durable is there.
    Durable,
}

fn read_all(reader: &mut crate::EventLog, mut cursor: Cursor) -> Vec<(Cursor, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        let more = reader.next(cursor, 7).unwrap();
        let Some((last, _)) = more.last() else { return all };
        cursor = *last;
        all.extend(more);
    }
}

fn random_life(seed: u64, steps: u64, faults: bool) {
    let mut world = World::new(seed, small_options());
    for _ in 0..steps {
        match world.dice.below(40) {
            0 if faults => {
                let (nth, errno) = (1 + world.dice.below(12), [EIO, ENOSPC][world.dice.below(2) as usize]);
                world.disk.plan(Some(Plan::FailOnce { nth, errno }));
            }
            1 => {
                world.disk.plan(None);
                world.kill();
            }
            2 => {
                let unsynced = world.some_unsynced();
                world.power_cut(unsynced);
            }
            3 => {
                // The power goes somewhere in the middle of what comes next.
                let nth = 1 + world.dice.below(20);
                world.disk.plan(Some(Plan::PowerCut { nth }));
                for _ in 0..4 {
                    let puts = 1 + world.dice.below(3);
                    world.group(puts, 2);
                    world.tend(20);
                }
                let unsynced = world.some_unsynced();
                world.power_cut(unsynced);
            }
            4 => {
                world.compare();
                world.tend(0);
                world.compare_events_with_model(false);
            }
            5..=20 => {
                let (puts, smalls) = (world.dice.below(4), world.dice.below(3));
                world.group(puts, smalls);
            }
            21..=32 => {
                let smalls = 1 + world.dice.below(6);
                world.group(0, smalls);
            }
            _ => {
                let ms = world.dice.below(30);
                world.tend(ms);
            }
        }
    }
    world.disk.plan(None);
    world.settle();
    world.compare();
    // Everything ends: one segment stays, and the spool is as good as new.
    while let Some(key) = world.some_key() {
        world.messages.get_mut(&key).unwrap().ended = true;
        let event = world.event();
        world.events.push(Event { octets: event.clone(), durable: false, refused: false });
        let now_ms = world.now_ms;
        world.log().commit(&mut vec![Order::Small(Small { what: What::Remove(None), key, event })], now_ms);
    }
    world.settle();
    world.compare_events_with_model(false);
    assert_eq!(world.log().shelf().book().segments.len(), 1);
    world.kill();
}

// R1.2, A1, A2, A4
#[test]
fn keeps_what_a_map_keeps_through_kills_and_power_cuts() {
    for seed in 0..20 {
        eprintln!("seed {seed}");
        random_life(seed, 600, false);
    }
}

// R1.2, A10
#[test]
fn keeps_what_a_map_keeps_through_failing_disks() {
    for seed in 100..120 {
        eprintln!("seed {seed}");
        random_life(seed, 600, true);
    }
}
