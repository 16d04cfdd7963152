//! What is queued, where does it wait, and whose turn is it?
//!
//! A message is a few dozen octets here; its words stay in the spool. For each recipient domain (and each time to try again) it has a
//! *ticket*, and a ticket waits in exactly one place: until a second comes, for its domain to be looked up, in a path's fair queue, in
//! a session, or held. Far-future mail simply lies in the bucket of its second: a ticket is so small that fetching it again from the
//! spool would save nothing.
//!
//! Fairness: a path (one lane, one site, one TLS class) serves its accounts in turn, an account its streams in turn, a stream first
//! come first served. A turn is one message; large ones cost several turns. So a million messages of one account stand one turn before
//! another account's ten (R5.2).

use crate::envelope::{Addresses, LastAnswer, Moved, Notify, PoolRule, Route, TlsWish, Wish};
use crate::id::{AccountId, MessageId, PoolId, StreamId, SubaccountId};
use crate::route;
use crate::simulator::Simulated;
use crate::slab::{Interner, NONE, Slab};
use crate::split::Reader;
use crate::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

/// One message, for every 64 KiB or part of it, costs one turn; no message costs more than sixteen.
const TURN_OCTETS: u32 = 64 << 10;
const COST_MAX: u32 = 16;

#[derive(Debug)]
pub struct Message {
    // Two halves: a u128 would align, and so grow, the whole.
    id: [u64; 2],
    pub accepted_at: Timestamp,
    pub expires_at: Timestamp,
    pub moved: Option<Box<Moved>>,
    pub recipients: Slots,
    pub origin: u32,
    /// The IP it leaves from; `NONE` while its route is not decided.
    pub ip: u32,
    pub first_ticket: u32,
    /// Its second of life: the delay notice or the end, whichever is next. 0: none.
    life_second: u32,
    life_next: u32,
    life_prev: u32,
    pub cost: u8,
    pub tls: TlsWish,
    pub delay_notified: bool,
    pub has_sender: bool,
    /// Days since its recipient who was active longest ago was; the maximum where that is not known.
    pub idle_days: u16,
    /// Its first recipient, for a test drive.
    pub reader: Reader,
}

impl Message {
    #[must_use]
    pub fn id(&self) -> MessageId {
        MessageId(u128::from(self.id[0]) << 64 | u128::from(self.id[1]))
    }

    #[must_use]
    pub fn id_low(&self) -> u64 {
        self.id[1]
    }
}

/// What a new message brings.
#[derive(Debug)]
pub struct NewMessage {
    pub id: MessageId,
    pub accepted_at: Timestamp,
    pub expires_at: Timestamp,
    pub moved: Option<Box<Moved>>,
    pub recipients: Slots,
    pub origin: u32,
    pub ip: u32,
    pub size: u32,
    pub tls: TlsWish,
    pub delay_notified: bool,
    pub has_sender: bool,
    pub idle_days: u16,
    pub reader: Reader,
}

/// How a recipient stands.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// A number of `Queue::answers`, or `NONE`.
    pub last: u32,
    pub attempts: u16,
    pub fate: Fate,
    notify: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Waiting,
    Held,
    Delivered,
    Bounced,
    Expired,
    Deleted,
    Rejected,
}

impl Fate {
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Fate::Waiting | Fate::Held)
    }
}

impl Slot {
    #[must_use]
    pub fn new(notify: Option<Notify>) -> Slot {
        let notify = notify.map_or(0, |asked| {
            1 | u8::from(asked.success) << 1 | u8::from(asked.failure) << 2 | u8::from(asked.delay) << 3
        });
        Slot { last: NONE, attempts: 0, fate: Fate::Waiting, notify }
    }

    #[must_use]
    pub fn notify(self) -> Option<Notify> {
        let bit = |place: u8| self.notify >> place & 1 == 1;
        bit(0).then(|| Notify { success: bit(1), failure: bit(2), delay: bit(3) })
    }
}

/// Most messages have one recipient; it lives inside.
#[derive(Debug)]
pub enum Slots {
    One([Slot; 1]),
    Many(Box<[Slot]>),
}

impl Slots {
    #[must_use]
    pub fn new(slots: Vec<Slot>) -> Slots {
        match slots[..] {
            [one] => Slots::One([one]),
            _ => Slots::Many(slots.into_boxed_slice()),
        }
    }

    #[must_use]
    pub fn all(&self) -> &[Slot] {
        match self {
            Slots::One(one) => one,
            Slots::Many(many) => many,
        }
    }

    pub fn at(&mut self, recipient: u16) -> &mut Slot {
        match self {
            Slots::One(one) => &mut one[usize::from(recipient)],
            Slots::Many(many) => &mut many[usize::from(recipient)],
        }
    }
}

/// Some recipients of one domain of one message, that are tried together.
#[derive(Debug)]
pub struct Ticket {
    pub recipients: Recipients,
    pub due: Timestamp,
    pub message: u32,
    pub domain: u32,
    pub place: Place,
    /// The message's next ticket.
    pub sibling: u32,
    next: u32,
    prev: u32,
    pub wait: Wait,
    /// Attempts in which nothing was tried; a remote may not keep a message going round for ever.
    pub fruitless: u8,
    /// What an order wants done as soon as the attempt is over.
    pub after: After,
    /// Its recipients are the simulator's, and nothing is sent.
    pub simulated: Option<Simulated>,
}

#[derive(Clone, Debug)]
pub enum Recipients {
    One([u16; 1]),
    Many(Box<[u16]>),
}

impl Recipients {
    #[must_use]
    pub fn new(list: &[u16]) -> Recipients {
        match *list {
            [one] => Recipients::One([one]),
            _ => Recipients::Many(list.into()),
        }
    }

    #[must_use]
    pub fn all(&self) -> &[u16] {
        match self {
            Recipients::One(one) => one,
            Recipients::Many(many) => many,
        }
    }
}

/// Where a ticket is. Exactly one place at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between two places, within one step.
    Nowhere,
    /// In the bucket of this second.
    Due(u32),
    /// For its domain to be looked up, in this flow of the domain.
    Domain(u32),
    /// In this flow of a path.
    Flow(u32),
    /// On this session, in transfer.
    Session(u32),
    Held,
}

/// Why a ticket lies in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Scheduled,
    Retry,
    SenderDomain,
    Stream,
    NoIp,
    /// Its account is paused.
    Paused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Nothing,
    Hold,
    Delete,
}

/// What many messages have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub account: AccountId,
    pub subaccount: Option<SubaccountId>,
    pub stream: StreamId,
    pub sender_domain: Option<Arc<str>>,
    pub home: Home,
}

/// Where messages may leave from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// Scheduled: by this wish it is decided when their time comes (R1.6).
    Undecided(Wish),
    Decided {
        pool: PoolId,
        name: Arc<str>,
        addresses: Addresses,
        rule: PoolRule,
        candidates: Vec<IpAddr>,
        moment: Moment,
    },
}

/// When a route was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The envelope holds the route.
    Acceptance,
    /// The message's state holds it.
    Due,
}

impl Home {
    #[must_use]
    pub fn of(route: &Route, moment: Moment) -> Home {
        Home::Decided {
            pool: route.pool.clone(),
            name: Arc::clone(&route.name),
            addresses: route.addresses,
            rule: route.rule,
            candidates: route.candidates.clone(),
            moment,
        }
    }

    #[must_use]
    pub fn pool(&self) -> Option<&PoolId> {
        match self {
            Home::Undecided(_) => None,
            Home::Decided { pool, .. } => Some(pool),
        }
    }

    /// What a message's state keeps of it: the route, where the envelope has none.
    #[must_use]
    pub fn kept_with_state(&self, message: MessageId) -> Option<Route> {
        match self {
            Home::Decided { pool, name, addresses, rule, candidates, moment: Moment::Due } => Some(Route {
                pool: pool.clone(),
                name: Arc::clone(name),
                addresses: *addresses,
                rule: *rule,
                chosen: candidates[route::place(message, 0, candidates.len())?],
                candidates: candidates.clone(),
            }),
            _ => None,
        }
    }
}

/// Tickets in a row, linked through themselves.
#[derive(Clone, Copy, Debug)]
pub struct List {
    head: u32,
    tail: u32,
    pub len: u32,
}

impl Default for List {
    fn default() -> List {
        List { head: NONE, tail: NONE, len: 0 }
    }
}

impl List {
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }
}

/// Tickets and the links between them.
#[derive(Debug, Default)]
pub struct Tickets {
    slab: Slab<Ticket>,
}

impl std::ops::Index<u32> for Tickets {
    type Output = Ticket;
    fn index(&self, at: u32) -> &Ticket {
        &self.slab[at]
    }
}

impl std::ops::IndexMut<u32> for Tickets {
    fn index_mut(&mut self, at: u32) -> &mut Ticket {
        &mut self.slab[at]
    }
}

impl Tickets {
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Ticket)> {
        self.slab.iter()
    }

    pub fn push_back(&mut self, list: &mut List, at: u32, place: Place) {
        let ticket = &mut self.slab[at];
        debug_assert!(ticket.place == Place::Nowhere, "a ticket is in one place at a time");
        ticket.place = place;
        ticket.prev = list.tail;
        ticket.next = NONE;
        if list.tail == NONE {
            list.head = at;
        } else {
            self.slab[list.tail].next = at;
        }
        list.tail = at;
        list.len += 1;
    }

    pub fn push_front(&mut self, list: &mut List, at: u32, place: Place) {
        let ticket = &mut self.slab[at];
        debug_assert!(ticket.place == Place::Nowhere, "a ticket is in one place at a time");
        ticket.place = place;
        ticket.prev = NONE;
        ticket.next = list.head;
        if list.head == NONE {
            list.tail = at;
        } else {
            self.slab[list.head].prev = at;
        }
        list.head = at;
        list.len += 1;
    }

    pub fn unlink(&mut self, list: &mut List, at: u32) {
        let ticket = &mut self.slab[at];
        let (prev, next) = (ticket.prev, ticket.next);
        ticket.place = Place::Nowhere;
        ticket.prev = NONE;
        ticket.next = NONE;
        if prev == NONE {
            list.head = next;
        } else {
            self.slab[prev].next = next;
        }
        if next == NONE {
            list.tail = prev;
        } else {
            self.slab[next].prev = prev;
        }
        list.len -= 1;
    }

    pub fn pop_front(&mut self, list: &mut List) -> Option<u32> {
        let at = list.first()?;
        self.unlink(list, at);
        Some(at)
    }
}

/// Messages, tickets and their buckets in time.
#[derive(Debug, Default)]
pub struct Queue {
    pub messages: Slab<Message>,
    pub tickets: Tickets,
    pub origins: Interner<Origin>,
    pub answers: Answers,
    by_id: BTreeMap<MessageId, u32>,
    due: BTreeMap<u32, List>,
    life: BTreeMap<u32, u32>,
}

impl Queue {
    pub fn add_message(&mut self, new: NewMessage) -> u32 {
        let MessageId(id) = new.id;
        let at = self.messages.insert(Message {
            id: [(id >> 64) as u64, id as u64],
            accepted_at: new.accepted_at,
            expires_at: new.expires_at,
            moved: new.moved,
            recipients: new.recipients,
            origin: new.origin,
            ip: new.ip,
            first_ticket: NONE,
            life_second: 0,
            life_next: NONE,
            life_prev: NONE,
            cost: u8::try_from(new.size.div_ceil(TURN_OCTETS).clamp(1, COST_MAX)).unwrap_or(1),
            tls: new.tls,
            delay_notified: new.delay_notified,
            has_sender: new.has_sender,
            idle_days: new.idle_days,
            reader: new.reader,
        });
        self.by_id.insert(new.id, at);
        at
    }

    /// The message is over; its tickets were removed before.
    pub fn remove_message(&mut self, at: u32) {
        self.set_life(at, None);
        let Some(message) = self.messages.remove(at) else {
            return;
        };
        self.by_id.remove(&message.id());
        self.origins.release(message.origin);
        for slot in message.recipients.all() {
            self.answers.release(slot.last);
        }
    }

    #[must_use]
    pub fn find(&self, id: MessageId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// By id, from the first one after `after`.
    pub fn in_order(&self, after: Option<MessageId>) -> impl Iterator<Item = u32> + '_ {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        self.by_id.range((from, std::ops::Bound::Unbounded)).map(|(_, at)| *at)
    }

    pub fn add_ticket(&mut self, message: u32, domain: u32, recipients: Recipients, due: Timestamp, wait: Wait) -> u32 {
        let sibling = self.messages[message].first_ticket;
        let at = self.tickets.slab.insert(Ticket {
            recipients,
            due,
            message,
            domain,
            place: Place::Nowhere,
            sibling,
            next: NONE,
            prev: NONE,
            wait,
            fruitless: 0,
            after: After::Nothing,
            simulated: None,
        });
        self.messages[message].first_ticket = at;
        at
    }

    /// Takes a ticket that is nowhere out of its message. Gives back its domain.
    pub fn remove_ticket(&mut self, at: u32) -> u32 {
        let ticket = self.tickets.slab.remove(at).expect("the caller holds it");
        debug_assert!(ticket.place == Place::Nowhere, "it was taken from its place first");
        let message = &mut self.messages[ticket.message];
        if message.first_ticket == at {
            message.first_ticket = ticket.sibling;
        } else {
            let mut before = message.first_ticket;
            while self.tickets[before].sibling != at {
                before = self.tickets[before].sibling;
            }
            self.tickets[before].sibling = ticket.sibling;
        }
        ticket.domain
    }

    pub fn tickets_of(&self, message: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.messages[message].first_ticket;
        std::iter::from_fn(move || {
            let here = (at != NONE).then_some(at)?;
            at = self.tickets[here].sibling;
            Some(here)
        })
    }

    pub fn put_due(&mut self, at: u32, due: Timestamp, wait: Wait) {
        let second = second_of(due);
        let ticket = &mut self.tickets[at];
        ticket.due = due;
        ticket.wait = wait;
        self.tickets.push_back(self.due.entry(second).or_default(), at, Place::Due(second));
    }

    /// The next ticket whose second has come.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<u32> {
        let mut first = self.due.first_entry().filter(|entry| is_reached(*entry.key(), now))?;
        let at = self.tickets.pop_front(first.get_mut());
        if first.get().len == 0 {
            first.remove();
        }
        at
    }

    pub fn take_due(&mut self, at: u32, second: u32) {
        if let Some(list) = self.due.get_mut(&second) {
            self.tickets.unlink(list, at);
            if list.len == 0 {
                self.due.remove(&second);
            }
        }
    }

    /// When something rings in `message`'s life; `None`: no more.
    pub fn set_life(&mut self, message: u32, at: Option<Timestamp>) {
        let second = at.map_or(0, second_of);
        let own = &mut self.messages[message];
        if own.life_second == second {
            return;
        }
        let (old, prev, next) = (own.life_second, own.life_prev, own.life_next);
        own.life_second = second;
        own.life_prev = NONE;
        own.life_next = NONE;
        if old != 0 {
            if next != NONE {
                self.messages[next].life_prev = prev;
            }
            match (prev, next) {
                (NONE, NONE) => drop(self.life.remove(&old)),
                (NONE, next) => drop(self.life.insert(old, next)),
                (prev, next) => self.messages[prev].life_next = next,
            }
        }
        if second != 0
            && let Some(head) = self.life.insert(second, message)
        {
            self.messages[head].life_prev = message;
            self.messages[message].life_next = head;
        }
    }

    /// A message whose second of life has come; it stays until it is given another.
    #[must_use]
    pub fn life_reached(&self, now: Timestamp) -> Option<u32> {
        self.life.first_key_value().filter(|(second, _)| is_reached(**second, now)).map(|(_, message)| *message)
    }

    #[must_use]
    pub fn next_second(&self) -> Option<Timestamp> {
        let due = self.due.first_key_value().map(|(second, _)| *second);
        let life = self.life.first_key_value().map(|(second, _)| *second);
        due.into_iter().chain(life).min().map(|second| Timestamp::from_unix_seconds(i64::from(second)))
    }

    /// For `check_invariants`: how many tickets the buckets hold.
    #[must_use]
    pub fn due_len(&self) -> usize {
        self.due.values().map(|list| list.len as usize).sum()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }
}

/// Buckets ring at the whole second that is not before the moment. Seconds in 32 bits reach to 2106.
fn second_of(at: Timestamp) -> u32 {
    u32::try_from(at.second_reached().max(1)).unwrap_or(u32::MAX)
}

fn is_reached(second: u32, now: Timestamp) -> bool {
    Timestamp::from_unix_seconds(i64::from(second)) <= now
}

/// Last answers, shared: up to a limit word for word, beyond it one for all that differ only in their numbers, so that a million
/// deferred messages do not keep a million sentences.
#[derive(Debug, Default)]
pub struct Answers {
    slab: Slab<(Arc<LastAnswer>, u32, Option<String>)>,
    shared: BTreeMap<String, u32>,
}

impl Answers {
    /// Keeps an answer once more.
    pub fn hold(&mut self, answer: Arc<LastAnswer>, exact_max: u32) -> u32 {
        if self.slab.len() < exact_max as usize {
            return self.slab.insert((answer, 1, None));
        }
        let key = likeness(&answer);
        if let Some(at) = self.shared.get(&key) {
            self.slab[*at].1 += 1;
            return *at;
        }
        let at = self.slab.insert((answer, 1, Some(key.clone())));
        self.shared.insert(key, at);
        at
    }

    pub fn release(&mut self, at: u32) {
        let Some(entry) = self.slab.get_mut(at) else {
            return;
        };
        entry.1 -= 1;
        if entry.1 == 0
            && let Some((_, _, Some(key))) = self.slab.remove(at)
        {
            self.shared.remove(&key);
        }
    }

    #[must_use]
    pub fn get(&self, at: u32) -> Option<&Arc<LastAnswer>> {
        self.slab.get(at).map(|entry| &entry.0)
    }
}

/// The answer without what is likely to differ from message to message: words with a digit in them, and addresses.
fn likeness(answer: &LastAnswer) -> String {
    let mut key = format!("{} {}", answer.ip, answer.why.code());
    if let Some(reply) = &answer.reply {
        key.push_str(&reply.code.to_string());
        let plain = |word: &&str| !word.bytes().any(|octet| octet.is_ascii_digit() || octet == b'@');
        for word in reply.text.split_whitespace().filter(plain).take(16) {
            key.push(' ');
            key.push_str(word);
        }
    }
    key
}

/// Which row of whose, and which end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Of a path; it was there before and lost its place through no fault of its own.
    Front,
    /// Of a path.
    Back,
    /// Of a domain that is looked up: those that wait for it come out as fairly as they are served.
    Domain,
}

/// The fair queue of one path, or of those that wait for one domain: accounts in turn, inside an account its streams in turn.
#[derive(Debug, Default)]
pub struct Turns {
    accounts: VecDeque<u32>,
    by_account: BTreeMap<AccountId, u32>,
    pub ready: u32,
}

#[derive(Debug)]
struct AccountFlow {
    account: AccountId,
    streams: VecDeque<u32>,
    by_stream: BTreeMap<StreamId, u32>,
    credit: i32,
    ready: u32,
}

#[derive(Debug)]
struct StreamFlow {
    /// The path, or the domain.
    owner: u32,
    account: u32,
    stream: StreamId,
    list: List,
}

/// All accounts' and streams' places in all paths.
#[derive(Debug, Default)]
pub struct Flows {
    accounts: Slab<AccountFlow>,
    streams: Slab<StreamFlow>,
}

impl Flows {
    /// Puts a ticket into its stream's row, of a path or of a domain that is looked up.
    pub fn put(&mut self, tickets: &mut Tickets, turns: &mut Turns, owner: u32, origin: &Origin, at: u32, end: End) {
        let account = match turns.by_account.get(&origin.account) {
            Some(found) => *found,
            None => {
                let flow = AccountFlow {
                    account: origin.account.clone(),
                    streams: VecDeque::new(),
                    by_stream: BTreeMap::new(),
                    credit: 0,
                    ready: 0,
                };
                let found = self.accounts.insert(flow);
                turns.by_account.insert(origin.account.clone(), found);
                turns.accounts.push_back(found);
                found
            }
        };
        let flow = &mut self.accounts[account];
        flow.ready += 1;
        let stream = match flow.by_stream.get(&origin.stream) {
            Some(found) => *found,
            None => {
                let row = StreamFlow { owner, account, stream: origin.stream.clone(), list: List::default() };
                let found = self.streams.insert(row);
                flow.by_stream.insert(origin.stream.clone(), found);
                flow.streams.push_back(found);
                found
            }
        };
        let list = &mut self.streams[stream].list;
        match end {
            End::Front => tickets.push_front(list, at, Place::Flow(stream)),
            End::Back => tickets.push_back(list, at, Place::Flow(stream)),
            End::Domain => tickets.push_back(list, at, Place::Domain(stream)),
        }
        turns.ready += 1;
    }

    /// Takes the ticket whose turn it is. `cost_of` says how many turns a ticket costs.
    pub fn pop(&mut self, tickets: &mut Tickets, turns: &mut Turns, cost_of: impl Fn(&Ticket) -> u8) -> Option<u32> {
        while let Some(account) = turns.accounts.pop_front() {
            let flow = &mut self.accounts[account];
            if flow.ready == 0 {
                turns.by_account.remove(&flow.account);
                let gone = self.accounts.remove(account);
                for stream in gone.into_iter().flat_map(|flow| flow.streams) {
                    self.streams.remove(stream);
                }
                continue;
            }
            // An account that paid for a large message waits until it has earned its next turn; alone, it need not.
            if flow.credit < 0 && !turns.accounts.is_empty() {
                flow.credit += 1;
                turns.accounts.push_back(account);
                continue;
            }
            let at = Flows::pop_stream(&mut self.streams, flow, tickets)?;
            flow.ready -= 1;
            flow.credit = 1 - i32::from(cost_of(&tickets[at]));
            turns.accounts.push_back(account);
            turns.ready -= 1;
            return Some(at);
        }
        None
    }

    fn pop_stream(streams: &mut Slab<StreamFlow>, flow: &mut AccountFlow, tickets: &mut Tickets) -> Option<u32> {
        while let Some(stream) = flow.streams.pop_front() {
            let row = &mut streams[stream];
            if let Some(at) = tickets.pop_front(&mut row.list) {
                flow.streams.push_back(stream);
                return Some(at);
            }
            flow.by_stream.remove(&row.stream);
            streams.remove(stream);
        }
        None
    }

    /// Which path, or domain, this row belongs to.
    #[must_use]
    pub fn owner_of(&self, stream: u32) -> u32 {
        self.streams[stream].owner
    }

    /// Takes a ticket out of the middle.
    pub fn take(&mut self, tickets: &mut Tickets, turns: &mut Turns, stream: u32, at: u32) {
        let row = &mut self.streams[stream];
        tickets.unlink(&mut row.list, at);
        self.accounts[row.account].ready -= 1;
        turns.ready -= 1;
    }

    /// Some ticket of the path, whosever turn it is.
    #[must_use]
    pub fn any(&self, turns: &Turns) -> Option<u32> {
        let streams = turns.accounts.iter().flat_map(|account| &self.accounts[*account].streams);
        streams.into_iter().find_map(|stream| self.streams[*stream].list.first())
    }

    /// The path is gone: its empty rows go too.
    pub fn clear(&mut self, turns: &mut Turns) {
        debug_assert!(turns.ready == 0, "a path with tickets stays");
        for account in turns.accounts.drain(..) {
            for stream in self.accounts.remove(account).into_iter().flat_map(|flow| flow.streams) {
                self.streams.remove(stream);
            }
        }
        turns.by_account.clear();
    }

    /// For `check_invariants`: tickets in all rows.
    #[must_use]
    pub fn tickets_len(&self) -> usize {
        self.streams.iter().map(|(_, row)| row.list.len as usize).sum()
    }
}
