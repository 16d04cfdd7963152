//! Where does a ticket go? Into time, to its domain, or into the queue of a path.

use super::warm::Walk;
use super::{
    Action, Alarm, CHECK_IP_EVERY, DomainEntry, DomainStatus, Drain, Engine, IpEntry, Lane, Path, ProviderKey,
    Resolution, Timer,
};
use crate::classify::{Class, Meaning, Subtype};
use crate::envelope::{Envelope, MessageState, Moved, RecipientState, Route, TlsWish};
use crate::event::EventKind;
use crate::id::{AccountId, PoolId};
use crate::provider::Group;
use crate::queue::{End, Fate, Home, Moment, NewMessage, Origin, Place, Recipients, Slot, Slots, Turns, Wait};
use crate::retry::jitter;
use crate::route;
use crate::shape::Shape;
use crate::simulator::{Simulated, simulated};
use crate::slab::NONE;
use crate::snapshot::{Ip, IpState, Snapshot, Standing};
use crate::split::reader_of;
use crate::time::Timestamp;
use crate::why::Why;
use mail::address::Domain;
use mail::reply::Reply;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A domain that is not found is looked up once more after this, before it is believed (deliverability, 4.4).
const UNKNOWN_CONFIRMED_AFTER: Duration = Duration::from_secs(3_600);
/// Between two look-ups that fail; doubled up to the maximum.
const RESOLVE_AGAIN_FIRST: Duration = Duration::from_secs(10);
const RESOLVE_AGAIN_MAX: Duration = Duration::from_secs(600);
/// How long it is believed that a domain takes no mail.
const DEAD_FOR: Duration = Duration::from_secs(300);
/// No answer of DNS is believed for less: a TTL of 0 would ask for every message.
const VALID_MIN: Duration = Duration::from_secs(5);
/// A message without any IP that can send looks again after this.
const NO_IP_AGAIN: Duration = Duration::from_secs(60);
/// And one of a paused account.
const PAUSED_AGAIN: Duration = Duration::from_secs(60);
/// A relay that could not be reached so often in a row is not waited for.
const RELAY_FAILURES_MAX: u16 = 3;

impl Engine {
    pub(super) fn accepted(&mut self, envelope: &Envelope, state: Option<&MessageState>) {
        if self.queue.find(envelope.message).is_some() {
            return;
        }
        let decided = match (&envelope.route, state.and_then(|state| state.route.as_ref())) {
            (Some(route), _) => Some((route, Moment::Acceptance)),
            (None, Some(route)) => Some((route, Moment::Due)),
            (None, None) => None,
        };
        let origin = Origin {
            account: envelope.account.clone(),
            subaccount: envelope.wish.subaccount.clone(),
            stream: envelope.stream.clone(),
            sender_domain: envelope.sender_domain.as_ref().map(|domain| Arc::from(domain.as_str())),
            home: match decided {
                Some((route, moment)) => Home::of(route, moment),
                None => Home::Undecided(envelope.wish.clone()),
            },
        };
        let (moved, delay_notified) = state.map_or((None, false), |state| (state.moved.clone(), state.delay_notified));
        let ip = match decided {
            Some((route, _)) => self.pin(moved.as_ref().map_or(route.chosen, |moved| moved.to)),
            None => NONE,
        };
        let origin = self.queue.origins.hold(origin);
        let mut slots: Vec<Slot> = envelope.recipients.iter().map(|recipient| Slot::new(recipient.notify)).collect();
        // Recipients of one domain that are due at one time share a ticket; of the simulator, those who do the same.
        let mut groups: BTreeMap<(&Domain, Timestamp, bool, Option<Simulated>), Vec<u16>> = BTreeMap::new();
        for (index, recipient) in (0u16..).zip(&envelope.recipients) {
            let slot = &mut slots[usize::from(index)];
            let (due, held) = match state.and_then(|state| state.recipients.get(usize::from(index))) {
                None => (envelope.due_at, false),
                Some(RecipientState::Waiting { attempts, due_at, last }) => {
                    slot.attempts = *attempts;
                    if let Some(last) = last {
                        slot.last = self.queue.answers.hold(Arc::clone(last), self.limits.answers_max);
                    }
                    (*due_at, false)
                }
                Some(RecipientState::Held { attempts }) => {
                    slot.attempts = *attempts;
                    slot.fate = Fate::Held;
                    (envelope.due_at, true)
                }
                Some(over) => {
                    slot.fate = match over {
                        RecipientState::Delivered => Fate::Delivered,
                        RecipientState::Expired => Fate::Expired,
                        RecipientState::Deleted => Fate::Deleted,
                        RecipientState::Rejected => Fate::Rejected,
                        _ => Fate::Bounced,
                    };
                    continue;
                }
            };
            let key = (&recipient.domain, due, held, simulated(&recipient.address));
            groups.entry(key).or_default().push(index);
        }
        let message = self.queue.add_message(NewMessage {
            id: envelope.message,
            accepted_at: envelope.accepted_at.max(envelope.due_at),
            expires_at: envelope.expires_at,
            moved: moved.map(Box::new),
            recipients: Slots::new(slots),
            origin,
            ip,
            size: envelope.size,
            tls: envelope.tls,
            delay_notified,
            has_sender: envelope.sender.is_some(),
            idle_days: self.snapshot.idle_days(envelope, self.now),
            reader: envelope.recipients.first().map(|to| reader_of(&to.address)).unwrap_or_default(),
        });
        if groups.is_empty() {
            // Its last Settle was written and the crash came before it left the spool.
            self.settle(message, Vec::new());
            return;
        }
        for ((domain, due, held, simulated), recipients) in groups {
            let domain = self.domain(domain);
            let wait = if state.is_some() { Wait::Retry } else { Wait::Scheduled };
            let ticket = self.queue.add_ticket(message, domain, Recipients::new(&recipients), due, wait);
            self.queue.tickets[ticket].simulated = simulated;
            if held {
                self.queue.tickets[ticket].place = Place::Held;
            } else if due > self.now || self.may_end_when_placed(ticket) {
                self.queue.put_due(ticket, due, wait);
            } else {
                self.place(ticket, End::Back);
            }
        }
        self.arm_life(message);
    }

    /// Without a route, or with the simulator's recipients, a message may end as it is placed: such a ticket comes from its bucket in time
    /// and from nowhere else.
    pub(super) fn may_end_when_placed(&self, ticket: u32) -> bool {
        let entry = &self.queue.tickets[ticket];
        entry.simulated.is_some() || self.queue.messages[entry.message].ip == NONE
    }

    /// Sends a ticket whose time has come on its way.
    pub(super) fn place(&mut self, ticket: u32, end: End) {
        let message = self.queue.tickets[ticket].message;
        if self.is_paused(message) {
            self.queue.put_due(ticket, self.now + PAUSED_AGAIN, Wait::Paused);
            return;
        }
        if self.queue.messages[message].ip == NONE && !self.decide(ticket) {
            return;
        }
        if let Some(simulated) = self.queue.tickets[ticket].simulated {
            return self.simulate(ticket, simulated);
        }
        let domain = self.queue.tickets[ticket].domain;
        let entry = &mut self.domains[domain];
        if matches!(entry.status, DomainStatus::Dead { .. }) && entry.valid_until <= self.now && !entry.answered {
            entry.status = DomainStatus::Fresh;
        }
        match entry.status {
            DomainStatus::Site { site, provider } => {
                if entry.valid_until <= self.now {
                    // The old answer serves until the new one is here.
                    self.ask(domain);
                }
                self.place_on_lane(ticket, site, provider, end);
            }
            DomainStatus::Dead { .. } => {
                self.wait_for(domain, ticket);
                self.has_answer(domain);
            }
            DomainStatus::Later { .. } => self.wait_for(domain, ticket),
            DomainStatus::Fresh => {
                self.wait_for(domain, ticket);
                self.ask(domain);
            }
        }
    }

    /// R6.3: why the account may not send at present.
    pub(super) fn paused(&self, account: &AccountId) -> Option<&str> {
        match &self.snapshot.accounts.get(account)?.standing {
            Standing::Paused { reason } => Some(reason),
            Standing::Sandbox | Standing::Production => None,
        }
    }

    pub(super) fn is_paused(&self, message: u32) -> bool {
        self.paused(&self.queue.origins[self.queue.messages[message].origin].account).is_some()
    }

    /// R1.6, R2.3: the route of a scheduled message, when the first of its tickets is due. `false`: the ticket waits, or is over.
    fn decide(&mut self, ticket: u32) -> bool {
        let message = self.queue.tickets[ticket].message;
        let entry = &self.queue.messages[message];
        let origin = &self.queue.origins[entry.origin];
        let Home::Undecided(wish) = &origin.home else { return true };
        match route::choose_when_due(&self.snapshot, &origin.account, wish, entry.reader, entry.id()) {
            Ok((route, why)) => {
                self.take_route(message, &route, why);
                true
            }
            // The operator's own trouble passes, and the message's lifetime says how long it is waited for.
            Err(Why::NoPool) if self.snapshot.accounts.contains_key(&origin.account) => {
                self.queue.put_due(ticket, self.now + NO_IP_AGAIN, Wait::NoIp);
                false
            }
            Err(why) => {
                self.reject_ticket(ticket, &why);
                false
            }
        }
    }

    fn take_route(&mut self, message: u32, route: &Route, why: Why) {
        let old = self.queue.messages[message].origin;
        let origin = Origin { home: Home::of(route, Moment::Due), ..self.queue.origins[old].clone() };
        let ip = self.pin(route.chosen);
        let origin = self.queue.origins.hold(origin);
        self.queue.origins.release(old);
        let entry = &mut self.queue.messages[message];
        entry.origin = origin;
        entry.ip = ip;
        let mut event = self.message_event(message, EventKind::Routed);
        event.ip = Some(route.chosen);
        event.why = Some(why);
        self.settle(message, vec![event]);
    }

    fn wait_for(&mut self, domain: u32, ticket: u32) {
        let origin = &self.queue.origins[self.queue.messages[self.queue.tickets[ticket].message].origin];
        let waiting = &mut self.domains[domain].waiting;
        self.flows.put(&mut self.queue.tickets, waiting, domain, origin, ticket, End::Domain);
    }

    fn place_on_lane(&mut self, ticket: u32, site: u32, provider: u32, end: End) {
        let message = self.queue.tickets[ticket].message;
        if let Some((until, wait)) = self.benched(message, provider) {
            self.queue.put_due(ticket, until, wait);
            return;
        }
        let Some(ip) = self.ip_for(message, provider) else {
            self.queue.put_due(ticket, self.now + NO_IP_AGAIN, Wait::NoIp);
            return;
        };
        let (site, provider) = self.way(ip, site, provider);
        let tls = match self.ips[ip as usize].relay {
            // What protects the way to a relay is its own affair.
            Some(_) => TlsWish::IfOffered,
            None => self.queue.messages[message].tls,
        };
        let lane = self.lane(ip, provider);
        let path = self.path(lane, site, tls);
        let origin = &self.queue.origins[self.queue.messages[message].origin];
        let turns = &mut self.paths[path].turns;
        self.flows.put(&mut self.queue.tickets, turns, path, origin, ticket, end);
        if !self.paths[path].stalled {
            self.run(path);
        }
    }

    /// Where mail for a site and provider goes from this IP: by a relay, all of it to the relay.
    pub(super) fn way(&self, ip: u32, site: u32, provider: u32) -> (u32, u32) {
        self.ips[ip as usize].relay.unwrap_or((site, provider))
    }

    /// The IP this message leaves from towards the provider: the chosen one, unless it is benched there for longer than the message
    /// can wait, or cannot send at all (R2.4, E9).
    fn ip_for(&mut self, message: u32, provider: u32) -> Option<u32> {
        let chosen = self.queue.messages[message].ip;
        let Some(why) = self.unfit(chosen, message, provider) else {
            let Some((other, why)) = self.overflow_for(message, chosen, provider) else { return Some(chosen) };
            self.move_message(message, other, provider, why);
            return Some(other);
        };
        let entry = &self.queue.messages[message];
        let origin = self.queue.origins[entry.origin].clone();
        let Home::Decided { candidates, .. } = origin.home else { return None };
        let from = route::place(entry.id(), 1, candidates.len()).unwrap_or(0);
        // A candidate that has left the account since is nobody's way out (R2.8); one that drains is for want of any other.
        let mut others: Vec<u32> =
            (0..candidates.len()).map(|step| self.ip(candidates[(from + step) % candidates.len()])).collect();
        others.retain(|ip| *ip != chosen && !self.ips[*ip as usize].is_foreign(&origin.account));
        others.sort_by_key(|ip| self.ips[*ip as usize].drain != Drain::No);
        let fit = others.iter().copied().find(|ip| self.unfit(*ip, message, provider).is_none());
        let here = &self.ips[chosen as usize];
        let may_stay = here.usable() && !here.is_foreign(&origin.account);
        let other = match fit {
            Some(ip) if !may_stay || self.ips[ip as usize].drain == Drain::No => ip,
            // All are benched: the chosen one waits as well as any.
            _ if may_stay => return Some(chosen),
            _ => others.into_iter().find(|ip| self.ips[*ip as usize].usable())?,
        };
        self.move_message(message, other, provider, why);
        Some(other)
    }

    pub(super) fn unfit(&self, ip: u32, message: u32, provider: u32) -> Option<Why> {
        let entry = &self.ips[ip as usize];
        let account = &self.queue.origins[self.queue.messages[message].origin].account;
        if !entry.in_snapshot || entry.is_foreign(account) {
            return Some(Why::IpGivenUp { ip: entry.address });
        }
        if entry.missing.is_some() {
            return Some(Why::IpMissing { ip: entry.address });
        }
        if let Some((_, provider)) = entry.relay {
            return self.unfit_relay(ip, provider, message);
        }
        let lane = self.lane_of.get(&(ip, provider))?;
        let (until, why) = self.lanes[*lane].shape.suspended(self.now)?;
        let said = why.words();
        (until > self.queue.messages[message].expires_at).then_some(Why::IpBenched { ip: entry.address, said })
    }

    /// A relay takes mail for its own account, and cannot promise what a message asks of the way beyond it. While it cannot be
    /// reached its mail goes back to where it came from; when it is tried again, it is by one that is new there.
    fn unfit_relay(&self, ip: u32, provider: u32, message: u32) -> Option<Why> {
        let address = self.ips[ip as usize].address;
        let relay = self.snapshot.ips.get(&address).and_then(Ip::relay)?;
        let entry = &self.queue.messages[message];
        if relay.account != self.queue.origins[entry.origin].account || entry.tls == TlsWish::Required {
            return Some(Why::IpGivenUp { ip: address });
        }
        let lane = &self.lanes[*self.lane_of.get(&(ip, provider))?];
        let down = |path: &&Path| path.failures >= RELAY_FAILURES_MAX && path.backoff_until > self.now;
        let said = match lane.paths.iter().map(|path| &self.paths[*path]).find(down) {
            Some(path) => path.backoff_why.as_ref().map(Why::words).unwrap_or_default(),
            None => lane.shape.suspended(self.now)?.1.words(),
        };
        Some(Why::RelayUnreachable { relay: relay.name.to_string(), said })
    }

    pub(super) fn move_message(&mut self, message: u32, to: u32, provider: u32, why: Why) {
        let now = self.now;
        let before = self.queue.messages[message].ip;
        let from = self.ips[before as usize].address;
        let to_address = self.ips[to as usize].address;
        self.ips[to as usize].pinned += 1;
        let entry = &mut self.queue.messages[message];
        entry.ip = to;
        entry.moved = Some(Box::new(Moved { at: now, from, to: to_address, why: why.clone() }));
        let mut event = self.message_event(message, EventKind::Moved);
        event.ip = Some(to_address);
        if let Why::AllowanceUsed { .. } | Why::KeptForActive { .. } = why {
            event.provider = Some(Arc::clone(&self.providers[provider].key));
        }
        event.why = Some(why);
        self.warmed_by(&event, true);
        self.settle(message, vec![event]);
        self.unpin(before);
    }

    /// Takes a ticket out of wherever it waits. One in transfer stays there: `false`.
    pub(super) fn take(&mut self, ticket: u32) -> bool {
        let entry = &self.queue.tickets[ticket];
        match entry.place {
            Place::Nowhere => {}
            Place::Session(_) => return false,
            Place::Held => self.queue.tickets[ticket].place = Place::Nowhere,
            Place::Due(second) => self.queue.take_due(ticket, second),
            Place::Domain(stream) => {
                let domain = entry.domain;
                self.flows.take(&mut self.queue.tickets, &mut self.domains[domain].waiting, stream, ticket);
            }
            Place::Flow(stream) => {
                let path = self.flows.owner_of(stream);
                self.flows.take(&mut self.queue.tickets, &mut self.paths[path].turns, stream, ticket);
            }
        }
        true
    }

    /// The ticket has no recipient left to try.
    pub(super) fn drop_ticket(&mut self, ticket: u32) {
        let domain = self.queue.remove_ticket(ticket);
        self.domains[domain].tickets -= 1;
    }

    pub(super) fn domain(&mut self, name: &Domain) -> u32 {
        if let Some(at) = self.domain_of.get(name) {
            self.domains[*at].tickets += 1;
            return *at;
        }
        let at = self.domains.insert(DomainEntry {
            name: name.clone(),
            tickets: 1,
            asking: false,
            anew: false,
            asked_at: Timestamp::default(),
            answered: false,
            status: DomainStatus::Fresh,
            valid_until: self.now,
            failures: 0,
            unknown_since: None,
            waiting: Turns::default(),
        });
        self.domain_of.insert(name.clone(), at);
        at
    }

    pub(super) fn ask(&mut self, domain: u32) {
        let entry = &mut self.domains[domain];
        if entry.asking || self.stopping {
            return;
        }
        entry.asking = true;
        if self.resolving < self.limits.resolves_max {
            self.resolving += 1;
            self.put_question(domain);
        } else {
            self.to_resolve.push_back(domain);
        }
    }

    fn put_question(&mut self, domain: u32) {
        let entry = &mut self.domains[domain];
        entry.asked_at = self.now;
        let anew = std::mem::take(&mut entry.anew);
        self.actions.push_back(Action::Resolve { domain: entry.name.clone(), anew });
    }

    /// What DNS said before this moment does not count any more. Once for each order, however many messages it concerns.
    pub(super) fn ask_anew(&mut self, domain: u32, since: Timestamp) {
        let entry = &mut self.domains[domain];
        if entry.asked_at >= since && !entry.anew {
            return;
        }
        entry.anew = true;
        if matches!(entry.status, DomainStatus::Site { .. } | DomainStatus::Dead { .. }) && !entry.answered {
            self.set_status(domain, DomainStatus::Fresh);
        }
        self.ask(domain);
    }

    pub(super) fn domain_rings(&mut self, domain: u32) {
        let Some(entry) = self.domains.get_mut(domain) else {
            return;
        };
        if !matches!(entry.status, DomainStatus::Later { .. }) {
            return;
        }
        if entry.tickets == 0 {
            entry.status = DomainStatus::Fresh;
        } else {
            self.ask(domain);
        }
    }

    pub(super) fn resolved(&mut self, name: &Domain, answer: Resolution) {
        let Some(domain) = self.domain_of.get(name).copied().filter(|domain| self.domains[*domain].asking) else {
            return;
        };
        self.domains[domain].asking = false;
        self.resolving -= 1;
        if let Some(next) = self.to_resolve.pop_front() {
            self.resolving += 1;
            self.put_question(next);
        }
        match answer {
            Resolution::Site { site, hosts, valid_for } => self.domain_has_site(domain, &site, &hosts, valid_for),
            Resolution::Later { said } => self.domain_later(domain, said),
            Resolution::NoSuchDomain => self.domain_unknown(domain),
            Resolution::NullMx => {
                let reply = Reply::new(556, (5, 1, 10), "The recipient's domain takes no mail (null MX)");
                let meaning = Meaning::own(Class::Hard, Subtype::UnknownDomain);
                self.domain_dead(domain, Why::DomainTakesNoMail, reply, meaning);
            }
            Resolution::Refused { said } => {
                let reply =
                    Reply::new(550, (5, 4, 4), format!("The recipient's mail server may not be connected to: {said}"));
                let meaning = Meaning::own(Class::Admin, Subtype::Policy);
                self.domain_dead(domain, Why::PrivateAddress { said }, reply, meaning);
            }
        }
    }

    fn domain_has_site(&mut self, domain: u32, site: &str, hosts: &[String], valid_for: Duration) {
        let provider = self.provider_key(site, hosts);
        let (site, provider) = (self.sites.hold(Arc::from(site)), self.providers.hold(provider));
        self.set_status(domain, DomainStatus::Site { site, provider });
        let entry = &mut self.domains[domain];
        entry.valid_until = self.now + valid_for.max(VALID_MIN);
        entry.failures = 0;
        entry.unknown_since = None;
        self.has_answer(domain);
    }

    fn provider_key(&self, site: &str, hosts: &[String]) -> ProviderKey {
        match self.snapshot.providers.provider_of(hosts) {
            Some(found) if found.group == Group::Provider => {
                ProviderKey { key: Arc::clone(&found.name), rules: Arc::clone(&found.name) }
            }
            Some(found) => ProviderKey { key: Arc::from(site), rules: Arc::clone(&found.name) },
            None => ProviderKey { key: Arc::from(site), rules: Arc::from(site) },
        }
    }

    pub(super) fn set_status(&mut self, domain: u32, status: DomainStatus) {
        let old = std::mem::replace(&mut self.domains[domain].status, status);
        if let DomainStatus::Site { site, provider } = old {
            self.sites.release(site);
            self.providers.release(provider);
        }
    }

    fn domain_later(&mut self, domain: u32, said: String) {
        let dice = self.dice();
        let entry = &mut self.domains[domain];
        entry.failures = entry.failures.saturating_add(1);
        let doubled = RESOLVE_AGAIN_FIRST.saturating_mul(1 << entry.failures.saturating_sub(1).min(10));
        let again = self.now + jitter(doubled.min(RESOLVE_AGAIN_MAX), 20, dice);
        if matches!(entry.status, DomainStatus::Site { .. }) {
            // What was true a while ago is better than nothing (RFC 8767).
            entry.valid_until = again;
            self.has_answer(domain);
        } else {
            entry.status = DomainStatus::Later { why: Why::DnsUnavailable { said } };
            self.timers.insert((again, Timer::Domain(domain)));
        }
    }

    fn domain_unknown(&mut self, domain: u32) {
        let now = self.now;
        let since = *self.domains[domain].unknown_since.get_or_insert(now);
        if now.since(since) < UNKNOWN_CONFIRMED_AFTER {
            self.set_status(domain, DomainStatus::Later { why: Why::DomainUnknownSoFar });
            self.timers.insert((since + UNKNOWN_CONFIRMED_AFTER, Timer::Domain(domain)));
            return;
        }
        let reply = Reply::new(550, (5, 1, 2), "The recipient's domain does not exist");
        self.domain_dead(domain, Why::DomainUnknown, reply, Meaning::own(Class::Hard, Subtype::UnknownDomain));
    }

    fn domain_dead(&mut self, domain: u32, why: Why, reply: Reply, meaning: Meaning) {
        self.set_status(domain, DomainStatus::Dead { why, reply, meaning });
        self.domains[domain].valid_until = self.now + DEAD_FOR;
        self.has_answer(domain);
    }

    fn has_answer(&mut self, domain: u32) {
        let entry = &mut self.domains[domain];
        if !entry.answered && entry.waiting.ready > 0 {
            entry.answered = true;
            self.answered.push_back(domain);
        }
    }

    /// One ticket of a domain that was looked up goes on, or ends with it.
    pub(super) fn step_answered(&mut self) -> bool {
        let Some(domain) = self.answered.front().copied() else {
            return false;
        };
        let entry = &mut self.domains[domain];
        let (waiting, dead) = match &entry.status {
            DomainStatus::Fresh | DomainStatus::Later { .. } => (None, None),
            DomainStatus::Site { .. } => (self.flows.pop(&mut self.queue.tickets, &mut entry.waiting, |_| 1), None),
            DomainStatus::Dead { why, reply, meaning } => {
                let dead = (why.clone(), reply.clone(), meaning.clone());
                (self.flows.pop(&mut self.queue.tickets, &mut entry.waiting, |_| 1), Some(dead))
            }
        };
        match (waiting, dead) {
            (None, _) => {
                if entry.waiting.ready == 0 {
                    self.flows.clear(&mut entry.waiting);
                }
                entry.answered = false;
                self.answered.pop_front();
            }
            (Some(ticket), None) => self.place(ticket, End::Back),
            (Some(ticket), Some((why, reply, meaning))) => self.bounce_ticket(ticket, &why, &reply, &meaning),
        }
        true
    }

    pub(super) fn ip(&mut self, address: IpAddr) -> u32 {
        if let Some(at) = self.ip_of.get(&address) {
            return *at;
        }
        let at = u32::try_from(self.ips.len()).expect("IPs are bought, not made");
        let known = self.snapshot.ips.get(&address).cloned();
        let relay = known.as_ref().and_then(|known| self.way_of_relay(known));
        self.ips.push(IpEntry {
            address,
            in_snapshot: known.is_some(),
            missing: None,
            owner: None,
            pinned: 0,
            drain: known.map_or(Drain::No, |known| drain_of(known.state)),
            relay,
        });
        self.ip_of.insert(address, at);
        at
    }

    /// Held for as long as the IP is known: relays are few.
    fn way_of_relay(&mut self, ip: &Ip) -> Option<(u32, u32)> {
        let relay = ip.relay()?;
        let site = self.sites.hold(Arc::from(format!("relay:{}:{}", relay.host, relay.port)));
        let provider = ProviderKey { key: Arc::from(format!("relay:{}", relay.host)), rules: Arc::from("relay") };
        Some((site, self.providers.hold(provider)))
    }

    /// A message more leaves from this IP.
    fn pin(&mut self, address: IpAddr) -> u32 {
        let ip = self.ip(address);
        self.ips[ip as usize].pinned += 1;
        ip
    }

    /// A message less leaves from this IP.
    pub(super) fn unpin(&mut self, ip: u32) {
        if ip != NONE {
            self.ips[ip as usize].pinned -= 1;
            self.tell_drained(ip);
        }
    }

    pub(super) fn recovered(&mut self) {
        self.recovered = true;
        for ip in 0..u32::try_from(self.ips.len()).unwrap_or(NONE) {
            self.tell_drained(ip);
        }
    }

    /// R2.4: once in the time that it drains. A message accepted by an older snapshot may still come, and leaves from it too.
    fn tell_drained(&mut self, ip: u32) {
        let entry = &mut self.ips[ip as usize];
        if self.recovered && entry.in_snapshot && entry.pinned == 0 && entry.drain == Drain::Draining {
            entry.drain = Drain::Told;
            let address = entry.address;
            let mut event = self.event(EventKind::IpDrained);
            event.ip = Some(address);
            self.actions.push_back(Action::Record(event));
        }
    }

    pub(super) fn lane(&mut self, ip: u32, provider: u32) -> u32 {
        if let Some(at) = self.lane_of.get(&(ip, provider)) {
            return *at;
        }
        let key = self.providers[provider].clone();
        let rules = self.snapshot.providers.rules_of(&key.rules).clone();
        self.providers.hold(key);
        let at = self.lanes.insert(Lane {
            ip,
            provider,
            shape: Shape::new(rules, self.now),
            sessions: 0,
            paths: Vec::new(),
            idle: Vec::new(),
            stalled: std::collections::VecDeque::new(),
            wake: Timestamp::MAX,
            suspended: false,
            heat: None,
            asked_at: Timestamp::default(),
        });
        self.lane_of.insert((ip, provider), at);
        self.warm_lane(at);
        self.recall_lane(at);
        at
    }

    fn path(&mut self, lane: u32, site: u32, tls: TlsWish) -> u32 {
        if let Some(at) = self.path_of.get(&(lane, site, tls)) {
            return *at;
        }
        let name = self.sites[site].clone();
        self.sites.hold(name);
        let at = self.paths.insert(Path {
            lane,
            site,
            tls,
            turns: Turns::default(),
            sessions: 0,
            opening: 0,
            idle: Vec::new(),
            failures: 0,
            backoff_until: self.now,
            backoff_why: None,
            recipients_max: u16::MAX,
            runnable: false,
            stalled: false,
            machine_stalled: false,
            wake: Timestamp::MAX,
        });
        self.path_of.insert((lane, site, tls), at);
        self.lanes[lane].paths.push(at);
        at
    }

    /// Many of them come in a second, and most change little: what is the same is not looked at.
    pub(super) fn take_snapshot(&mut self, snapshot: &Arc<Snapshot>) {
        let old = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        let first = self.ips.is_empty();
        let mut rehomed = BTreeSet::new();
        let mut warming = Vec::new();
        if first || !Arc::ptr_eq(&old.ips, &snapshot.ips) {
            let before = if first { &BTreeMap::new() } else { &*old.ips };
            for address in differing(before, &snapshot.ips) {
                self.take_ip(address, snapshot.ips.get(&address), &mut rehomed);
                let warm_up = |ips: &BTreeMap<IpAddr, Ip>| ips.get(&address).and_then(|ip| ip.warm_up.clone());
                if warm_up(before) != warm_up(&snapshot.ips) {
                    warming.push(self.ip(address));
                }
            }
        }
        if first || !Arc::ptr_eq(&old.pools, &snapshot.pools) {
            let before = if first { &BTreeMap::new() } else { &*old.pools };
            let changed: Vec<PoolId> = differing(before, &snapshot.pools);
            let mut owners: BTreeMap<IpAddr, Option<&AccountId>> = BTreeMap::new();
            for pool in changed.iter().filter_map(|id| before.get(id)) {
                owners.extend(pool.ips.iter().map(|ip| (*ip, None)));
            }
            for pool in changed.iter().filter_map(|id| snapshot.pools.get(id)) {
                owners.extend(pool.ips.iter().map(|ip| (*ip, pool.account.as_ref())));
            }
            for (address, owner) in owners {
                let ip = self.ip(address);
                let entry = &mut self.ips[ip as usize];
                if entry.owner.as_ref() != owner {
                    entry.owner = owner.cloned();
                    if entry.pinned > 0 && owner.is_some() {
                        rehomed.insert(ip);
                    }
                }
            }
        }
        for ip in rehomed {
            self.rehome_ip(ip);
        }
        let is_other_policy =
            !Arc::ptr_eq(&old.schedules, &snapshot.schedules) || !Arc::ptr_eq(&old.providers, &snapshot.providers);
        if is_other_policy && !first {
            self.take_warm_ups(&(0..u32::try_from(self.ips.len()).unwrap_or(NONE)).collect::<Vec<_>>());
        } else if !first {
            self.take_warm_ups(&warming);
        }
        if Arc::ptr_eq(&old.providers, &snapshot.providers) {
            return;
        }
        for lane in 0..self.lanes.end() {
            let Some(entry) = self.lanes.get_mut(lane) else {
                continue;
            };
            let name = &self.providers[entry.provider].rules;
            entry.shape.rules = self.snapshot.providers.rules_of(name).clone();
            self.kick(lane);
        }
    }

    fn take_ip(&mut self, address: IpAddr, known: Option<&Ip>, rehomed: &mut BTreeSet<u32>) {
        let ip = self.ip(address);
        let relay = known.and_then(|known| self.way_of_relay(known));
        let entry = &mut self.ips[ip as usize];
        if entry.in_snapshot && known.is_none() || relay.is_some() {
            rehomed.insert(ip);
        }
        entry.relay = relay;
        entry.in_snapshot = known.is_some();
        entry.drain = match (known.map_or(Drain::No, |known| drain_of(known.state)), entry.drain) {
            (Drain::Draining, Drain::Told) => Drain::Told,
            (drain, _) => drain,
        };
        if relay.is_some() {
            self.trust_relay(ip);
        }
        self.tell_drained(ip);
    }

    /// It was changed, and what was wrong with it may be mended.
    fn trust_relay(&mut self, ip: u32) {
        let lanes = self.lanes.iter().filter(|(_, lane)| lane.ip == ip);
        for path in lanes.flat_map(|(_, lane)| &lane.paths) {
            let entry = &mut self.paths[*path];
            entry.failures = 0;
            entry.backoff_until = self.now;
            entry.backoff_why = None;
        }
    }

    pub(super) fn ip_gone(&mut self, address: IpAddr, said: &str) {
        let ip = self.ip(address);
        let first = self.ips[ip as usize].missing.is_none();
        self.ips[ip as usize].missing = Some(said.to_owned());
        self.timers.insert((self.now + CHECK_IP_EVERY, Timer::CheckIp(ip)));
        if !first {
            return;
        }
        let why = Why::IpMissing { ip: address };
        let words = format!("{}: {said}", why.words());
        let mut event = self.event(EventKind::IpGone);
        event.ip = Some(address);
        event.why = Some(why);
        self.actions.push_back(Action::Record(event));
        self.actions.push_back(Action::Alarm(Alarm {
            at: self.now,
            ip: Some(address),
            provider: None,
            account: None,
            code: "ip-missing".into(),
            words,
        }));
        self.rehome_ip(ip);
    }

    pub(super) fn ip_back(&mut self, address: IpAddr) {
        let ip = self.ip(address);
        if self.ips[ip as usize].missing.take().is_none() {
            return;
        }
        let mut event = self.event(EventKind::IpBack);
        event.ip = Some(address);
        event.why = Some(Why::IpBack { ip: address });
        self.actions.push_back(Action::Record(event));
        let lanes: Vec<u32> = self.lanes.iter().filter(|(_, lane)| lane.ip == ip).map(|(at, _)| at).collect();
        lanes.into_iter().for_each(|lane| self.kick(lane));
    }

    pub(super) fn check_ip(&mut self, ip: u32) {
        let entry = &self.ips[ip as usize];
        if entry.missing.is_some() && entry.in_snapshot && !self.stopping {
            self.actions.push_back(Action::CheckIp { ip: entry.address });
        }
    }

    /// Everything that waits on this IP looks for another; connections without mail are closed.
    fn rehome_ip(&mut self, ip: u32) {
        let lanes: Vec<u32> = self.lanes.iter().filter(|(_, lane)| lane.ip == ip).map(|(at, _)| at).collect();
        for lane in lanes {
            self.rehome_lane(lane);
            for session in self.lanes[lane].idle.clone() {
                self.close(session);
            }
        }
    }

    /// Each ticket of the lane is asked once where it wants to wait.
    pub(super) fn rehome_lane(&mut self, lane: u32) {
        for at in self.lanes[lane].paths.iter().copied() {
            let ready = self.paths[at].turns.ready;
            if ready > 0 {
                self.rehoming.push_back((at, ready));
            }
        }
    }

    pub(super) fn step_rehoming(&mut self) -> bool {
        let Some((path, left)) = self.rehoming.pop_front() else {
            return false;
        };
        let Some(entry) = self.paths.get_mut(path) else {
            return true;
        };
        let waiting = entry.turns.ready;
        let Some(ticket) = self.flows.pop(&mut self.queue.tickets, &mut entry.turns, |_| 1) else {
            self.walk = None;
            return true;
        };
        if left > 1 {
            self.rehoming.push_front((path, left - 1));
        }
        if self.walk.as_ref().is_none_or(|walk| walk.path != path) {
            self.walk = Some(Walk::begun(path));
        }
        self.place(ticket, End::Back);
        // Where one has left, there may be more place for the next.
        if left <= 1 || self.paths[path].turns.ready != waiting {
            self.walk = None;
        }
        true
    }
}

fn drain_of(state: IpState) -> Drain {
    match state {
        IpState::Active => Drain::No,
        IpState::Draining => Drain::Draining,
    }
}

/// The keys whose values are not the same in both, in one walk over them.
fn differing<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<K> {
    let mut keys = Vec::new();
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return keys,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let before = if order.is_le() { olds.next() } else { None };
        let after = if order.is_ge() { news.next() } else { None };
        if before.map(|(_, value)| value) != after.map(|(_, value)| value) {
            keys.extend(before.or(after).map(|(key, _)| key.clone()));
        }
    }
}
