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
        let (mut orders, mut answers, mut told) = (Vec::new(), Vec::new(), Vec::new());
        let (mut smalls_left, mut puts_left) = (smalls, puts);
        while smalls_left + puts_left > 0 {
            // A message comes last, so that its answer speaks for the whole group.
            if smalls_left > 0 && (puts_left <= 1 || self.dice.below(2) == 0) {
                smalls_left -= 1;
                if self.dice.below(6) == 0 {
                    told.push(self.order_told(&mut orders));
                } else {
                    self.order_small(&mut orders);
                }
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
        for (event, mut answer) in told {
            let durable = answer.try_recv().unwrap().is_ok();
            (self.events[event].durable, self.events[event].refused) = (durable, !durable);
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

    /// A note that somebody waits for.
    fn order_told(&mut self, orders: &mut Vec<Order>) -> (usize, oneshot::Receiver<Result<(), PutFault>>) {
        let event = self.event();
        let (answer, answered) = oneshot::channel();
        self.events.push(Event { octets: event.clone(), durable: false, refused: false });
        orders.push(Order::Small(Small { what: What::Note, key: 0, event, answer: Some(answer) }));
        (self.events.len() - 1, answered)
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
        orders.push(Order::Small(Small { what, key, event, answer: None }));
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

    fn synced_by_close(&mut self) {
        self.log.take().unwrap().close();
        self.synced();
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
        world
            .log()
            .commit(&mut vec![Order::Small(Small { what: What::Remove(None), key, event, answer: None })], now_ms);
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

/// A life in which everything happens once: messages, updates, ends, full segments, carrying forward, deleting.
fn script(world: &mut World) {
    for _ in 0..6 {
        world.group(2, 1);
        world.group(0, 2);
        world.tend(30);
    }
    // One message stays behind in each old segment, so that it has to be carried forward.
    for i in 0..120 {
        world.group(1, 0);
        let keys: Vec<Key> =
            world.messages.iter().filter(|(_, m)| m.acknowledged && !m.ended).map(|(k, _)| *k).collect();
        if keys.len() > 4 && i % 8 != 0 {
            let key = *keys.iter().max_by_key(|key| world.messages[*key].nth).unwrap();
            end(world, key);
        }
        world.tend(30);
    }
}

fn end(world: &mut World, key: Key) {
    world.messages.get_mut(&key).unwrap().ended = true;
    let event = world.event();
    world.events.push(Event { octets: event.clone(), durable: false, refused: false });
    let now_ms = world.now_ms;
    world.log().commit(&mut vec![Order::Small(Small { what: What::Remove(None), key, event, answer: None })], now_ms);
}

fn changes_of_script() -> u64 {
    let mut world = World::new(1, small_options());
    let before = world.disk.changes();
    script(&mut world);
    world.disk.changes() - before
}

// A1, A2: the power goes at every write, sync, rename and removal in turn.
#[test]
fn survives_a_power_cut_at_every_operation() {
    for nth in 1..=changes_of_script() {
        let mut world = World::new(1, small_options());
        world.disk.plan(Some(Plan::PowerCut { nth }));
        script(&mut world);
        world.power_cut([Unsynced::Lost, Unsynced::Torn { seed: nth }, Unsynced::Kept][nth as usize % 3]);
        world.settle();
        world.compare();
    }
}

// A10: every operation fails once, and everything works again afterwards by itself.
#[test]
fn survives_a_failure_of_every_operation() {
    for nth in 1..=changes_of_script() {
        let mut world = World::new(1, small_options());
        world.disk.plan(Some(Plan::FailOnce { nth, errno: [EIO, ENOSPC][nth as usize % 2] }));
        script(&mut world);
        world.settle();
        world.compare();
        world.compare_events_with_model(false);
        world.power_cut(Unsynced::Lost);
    }
}

// R1.2: nothing is acknowledged by a disk that fails from some moment on, and what was stays readable.
#[test]
fn refuses_messages_while_the_disk_fails_and_takes_them_again() {
    for nth in (1..=changes_of_script()).step_by(7) {
        let mut world = World::new(1, small_options());
        world.disk.plan(Some(Plan::FailFrom { nth, errno: EIO }));
        script(&mut world);
        let refused = world.group(1, 0);
        assert!(matches!(refused[0], Err(PutFault::Failing { .. })), "{refused:?}");
        world.compare();
        world.disk.plan(None);
        world.settle();
        world.compare();
        assert!(world.group(1, 1)[0].is_ok());
        world.settle();
        world.compare_events_with_model(false);
        world.power_cut(Unsynced::Lost);
    }
}

// A note that somebody waits for is durable when the answer comes, without a message beside it; and refused, it never was.
#[test]
fn tells_what_is_durable_and_refuses_the_rest() {
    let tell = |world: &mut World| {
        let mut orders = Vec::new();
        let (event, mut answer) = world.order_told(&mut orders);
        let now_ms = world.now_ms;
        world.log().commit(&mut orders, now_ms);
        let durable = answer.try_recv().unwrap().is_ok();
        (world.events[event].durable, world.events[event].refused) = (durable, !durable);
        durable
    };
    for nth in 1..8 {
        let mut world = World::new(4, small_options());
        assert!(tell(&mut world));
        world.power_cut(Unsynced::Lost);
        world.disk.plan(Some(Plan::FailFrom { nth, errno: EIO }));
        while tell(&mut world) {}
        world.disk.plan(None);
        world.settle();
        assert!(tell(&mut world));
        world.settle();
        world.compare_events_with_model(false);
        world.power_cut(Unsynced::Lost);
    }
}

// A2: one message, nothing else, and the power goes right after the answer: the name is on the disk as well.
#[test]
fn keeps_the_last_acknowledged_message() {
    let mut world = World::new(3, small_options());
    for _ in 0..20 {
        assert!(world.group(1, 0)[0].is_ok());
        world.power_cut(Unsynced::Lost);
    }
    assert_eq!(world.messages.len(), 20);
}

// A7: the last file cut at a random octet, or followed by noise.
#[test]
fn starts_with_a_torn_or_noisy_tail() {
    for seed in 0..50 {
        let mut world = World::new(seed, small_options());
        world.group(6, 3);
        world.group(0, 2);
        world.log = None;
        world.disk.kill();
        let logs = world.disk.paths().into_iter().filter(|path| path.starts_with("/spool/queue"));
        let last = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log")).max().unwrap();
        let cut = world.dice.below(2) == 0;
        let noise: Vec<u8> = (0..4096).map(|_| world.dice.below(256) as u8).collect();
        let mut at = 0;
        let choice = world.dice.below(1 << 20);
        world.disk.tamper(&last, |octets| {
            while octets.last() == Some(&0) {
                octets.pop();
            }
            at = if cut { choice % octets.len() as u64 } else { octets.len() as u64 };
            octets.truncate(at as usize);
            octets.extend(if cut { &[][..] } else { &noise });
        });
        let opened = Log::open(Arc::new(world.disk.clone()), &dir(), world.options.clone(), 0).unwrap();
        let found: BTreeMap<Key, LiveMessage> =
            opened.live.map(|live| live.unwrap()).map(|live| (live.key, live)).collect();
        for (key, found) in &found {
            assert_eq!(found.head, world.messages[key].head);
            let stored = opened.log.shelf().read(*key, Patience::MayBlock).unwrap();
            assert_eq!(stored.body, world.messages[key].body);
        }
        let kept = world.messages.values().filter(|message| message.acknowledged && !message.ended).count();
        if cut {
            // What is behind the cut is gone, and it is said if a record was cut through.
            assert!(found.len() <= world.messages.len());
        } else {
            assert_eq!(found.len(), kept);
            assert_eq!(opened.dropped.iter().map(|dropped| dropped.octets).sum::<u64>(), 4096, "{:?}", opened.dropped);
        }
    }
}

// A7: damage in the middle costs the record it hits, and is reported with its place.
#[test]
fn goes_on_behind_damage_in_the_middle() {
    let mut world = World::new(9, Options { segment_bytes: 1 << 20, ..small_options() });
    world.group(10, 0);
    let shelf = world.log().shelf();
    let (victim, place) = {
        let key = *world.messages.iter().find(|(_, message)| message.nth == 5).unwrap().0;
        (key, shelf.book().index.get(key).unwrap().message)
    };
    world.log = None;
    world.disk.kill();
    world.disk.tamper(&dir().join("queue/00000001.log"), |octets| octets[place.offset as usize + 70] ^= 1);
    let opened = Log::open(Arc::new(world.disk.clone()), &dir(), world.options.clone(), 0).unwrap();
    let keys: BTreeSet<Key> = opened.live.map(|live| live.unwrap().key).collect();
    assert!(!keys.contains(&victim));
    assert_eq!(keys.len(), 9);
    assert_eq!((opened.dropped.len(), opened.dropped[0].offset), (1, u64::from(place.offset)));
    let report = check_on(Arc::new(world.disk.clone()), &dir()).unwrap();
    assert_eq!((report.live, report.damaged.len()), (9, 1));
    assert!(report.to_string().contains("live       9 messages"), "{report}");
}

// A record inside the body of a message is never taken for one of ours, even where damage makes us search.
#[test]
fn is_not_fooled_by_a_record_inside_a_body() {
    let mut world = World::new(4, Options { segment_bytes: 1 << 20, ..small_options() });
    world.group(1, 0);
    let path = dir().join("queue/00000001.log");
    let mut image = Vec::new();
    world.disk.tamper(&path, |octets| image = octets[64..1000].to_vec());
    let (answer, mut answered) = oneshot::channel();
    let payload_crc = Parts { body: &image, ..Parts::default() }.crc();
    let put = PutOrder { key: 77, head: vec![], body: image.into(), event: vec![], payload_crc, answer };
    world.log().commit(&mut vec![Order::Put(put)], 0);
    answered.try_recv().unwrap().unwrap();
    let place = world.log().shelf().book().index.get(77).unwrap().message;
    world.log = None;
    world.disk.kill();
    world.disk.tamper(&path, |octets| octets[place.offset as usize] ^= 1);
    let opened = Log::open(Arc::new(world.disk.clone()), &dir(), world.options.clone(), 0).unwrap();
    assert_eq!(opened.live.count(), 1);
    assert_eq!(opened.dropped.len(), 1);
}

// A10: a full disk refuses messages at once, lets small records go, and takes messages again by itself.
#[test]
fn lets_mail_go_out_of_a_full_disk() {
    for free_min_bytes in [0, 6000] {
        let mut world = World::new(5, Options { free_min_bytes, ..small_options() });
        world.disk.set_capacity(Some(60_000));
        let mut taken = 0;
        while world.group(1, 0)[0].is_ok() {
            taken += 1;
        }
        assert!(taken > 20, "{taken}");
        assert!(matches!(world.log().shelf().health(), Health::Full { .. }));
        world.compare();
        world.disk.set_capacity(Some(world.disk.used_bytes()));
        world.tend(300);
        assert!(matches!(world.group(1, 0)[0], Err(PutFault::Full { .. })));
        // Not a block is left: the reserve, then memory.
        for _ in 0..15 {
            world.group(0, 2);
            world.tend(10);
        }
        world.compare();
        world.disk.set_capacity(None);
        world.settle();
        assert_eq!(world.log().figures_held(), 0);
        assert!(world.group(1, 0)[0].is_ok());
        world.settle();
        world.compare();
        world.compare_events_with_model(false);
        world.power_cut(Unsynced::Lost);
    }
}

// A10: what is held in memory is bounded; ends of messages are never given up.
#[test]
fn holds_no_more_than_it_may() {
    let mut world = World::new(6, Options { held_bytes_max: 4000, reserve_bytes: 0, ..small_options() });
    world.group(20, 0);
    world.disk.plan(Some(Plan::FailFrom { nth: 1, errno: EIO }));
    let keys: Vec<Key> = world.messages.keys().copied().collect();
    for key in keys {
        let event = vec![1; 300];
        let orders = &mut vec![
            Order::Small(Small { what: What::Update(vec![2; 300]), key, event: event.clone(), answer: None }),
            Order::Small(Small { what: What::Remove(None), key, event, answer: None }),
        ];
        world.log().commit(orders, 0);
    }
    let shelf = world.log().shelf();
    assert!(crate::read::Counts::read(&shelf.counts.events_lost) > 20);
    assert_eq!(shelf.book().index.len(), 0);
    world.disk.plan(None);
    world.messages.clear();
    world.settle();
    world.log = None;
    world.disk.power_cycle(Unsynced::Lost);
    let opened = Log::open(Arc::new(world.disk.clone()), &dir(), world.options.clone(), 0).unwrap();
    assert_eq!(opened.live.count(), 0);
}

// One message that waits for days does not hold the segments around it.
#[test]
fn carries_forward_exactly_what_lives() {
    let mut world = World::new(8, small_options());
    script(&mut world);
    world.settle();
    let shelf = world.log().shelf();
    assert!(crate::read::Counts::read(&shelf.counts.bytes_carried) > 0);
    let held = shelf.book().disk_bytes();
    let live = shelf.book().live_bytes();
    assert!(held <= 2 * live + 6 * 4096, "{held} for {live}");
    world.compare();
    world.power_cut(Unsynced::Lost);
    world.compare();
}

// A missing or damaged sidecar costs time only.
#[test]
fn rebuilds_a_sidecar() {
    let mut world = World::new(10, small_options());
    script(&mut world);
    world.synced_by_close();
    let sidecars: Vec<PathBuf> =
        world.disk.paths().into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "idx")).collect();
    assert!(sidecars.len() > 2);
    for (i, path) in sidecars.iter().enumerate() {
        world.disk.tamper(path, |octets| {
            let at = octets.len() * i / sidecars.len();
            octets[at] ^= 0x10;
        });
    }
    world.open(Certainty::All);
}

// A13
#[test]
fn refuses_a_second_process() {
    let mut world = World::new(11, small_options());
    let second = Log::open(Arc::new(world.disk.clone()), &dir(), small_options(), 0);
    let Err(fault) = second else { panic!("two processes own one spool") };
    assert!(matches!(&fault, OpenFault::Locked(path) if path == Path::new("/spool")));
    assert!(fault.to_string().contains("in use by another process"), "{fault}");
    assert!(world.group(1, 0)[0].is_ok());
    world.compare();
}

#[test]
fn refuses_a_key_that_lives() {
    let mut world = World::new(12, small_options());
    world.group(1, 0);
    let key = *world.messages.keys().next().unwrap();
    let (answer, mut answered) = oneshot::channel();
    let payload_crc = Parts::default().crc();
    let put = PutOrder { key, head: vec![], body: Bytes::new(), event: vec![], payload_crc, answer };
    world.log().commit(&mut vec![Order::Put(put)], 0);
    assert_eq!(answered.try_recv().unwrap(), Err(PutFault::Taken));
    world.compare();
}

// E4: events are kept up to a bound, by whole files, oldest first.
#[test]
fn keeps_events_up_to_the_bound() {
    let mut world = World::new(13, Options { events_bytes_max: 10_000, ..small_options() });
    for _ in 0..300 {
        world.group(0, 3);
        world.tend(100);
    }
    let mut reader = world.log().events().reader();
    let kept = read_all(&mut reader, Cursor(0));
    let octets: usize = kept.iter().map(|(_, event)| event.len() + 64).sum();
    assert!((6_000..12_500).contains(&octets), "{octets}");
    assert_eq!(kept.last().unwrap().1, world.events.last().unwrap().octets);
}
