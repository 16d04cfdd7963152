//! What can be asked about the queue, and what must always hold?

use super::{DomainStatus, Engine, Filter, Room, SessionState};
use crate::envelope::{Addresses, LastAnswer, Moved};
use crate::id::{AccountId, MessageId, PoolId, StreamId, SubaccountId};
use crate::queue::{Home, Place, Wait};
use crate::shape::Verdict;
use crate::slab::NONE;
use crate::time::Timestamp;
use crate::why::Why;
use mail::address::Domain;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    pub messages: u64,
    /// Groups of recipients that wait somewhere.
    pub tickets: u64,
    /// Connections that are not over.
    pub sessions: u32,
    pub attempts_in_flight: u32,
    pub lanes: u32,
    pub resolving: u32,
}

/// A queued message, for `weir queue` and `weir explain` (R2.7).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    pub message: MessageId,
    pub account: AccountId,
    pub subaccount: Option<SubaccountId>,
    pub stream: StreamId,
    /// `None`: it is scheduled, and its route is not decided yet.
    pub home: Option<ShownHome>,
    pub moved: Option<Moved>,
    pub accepted_at: Timestamp,
    pub expires_at: Timestamp,
    /// Those that are not over.
    pub recipients: Vec<ShownRecipient>,
}

/// Where a queued message leaves from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownHome {
    pub pool: PoolId,
    pub name: Arc<str>,
    /// May its account know the IP?
    pub addresses: Addresses,
    /// The IP it leaves from now.
    pub ip: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownRecipient {
    pub recipient: u16,
    pub domain: Domain,
    pub provider: Option<Arc<str>>,
    pub attempts: u16,
    pub why: Why,
    /// The first moment something may change; `None`: nobody can say.
    pub until: Option<Timestamp>,
    pub last: Option<Arc<LastAnswer>>,
}

impl ShownRecipient {
    /// One word: "held", "in-transfer", "deferred" (tried before), or "queued".
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.why {
            Why::HeldByOrder => "held",
            Why::InTransfer => "in-transfer",
            _ if self.attempts > 0 => "deferred",
            _ => "queued",
        }
    }
}

/// One IP towards one provider.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LaneView {
    pub ip: IpAddr,
    pub provider: Arc<str>,
    pub ready: u64,
    pub sessions: u32,
    pub connections_allowed: u32,
    pub connections_max: u32,
    /// Thousandths of the full pace.
    pub pace: u32,
    /// What holds it back, and until when.
    pub why: Option<Why>,
    pub until: Option<Timestamp>,
}

impl Engine {
    /// May another message come in?
    #[must_use]
    pub fn room(&self) -> Room {
        match self.limits.queue_messages_max.checked_sub(self.queue.len() as u64) {
            None | Some(0) => Room::Full(Why::QueueFull),
            Some(left) => Room::For(left),
        }
    }

    /// Whether the answer about a domain may still be used: the host may forget the answers about the others.
    #[must_use]
    pub fn knows(&self, domain: &mail::address::Domain) -> bool {
        self.domain_of.contains_key(domain)
    }

    /// What is under way. When no attempt and no session is left after `Stopping`, the host may go.
    #[must_use]
    pub fn in_flight(&self) -> Figures {
        let count = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Figures {
            messages: self.queue.len() as u64,
            tickets: self.queue.tickets.len() as u64,
            sessions: count(self.sessions.len()),
            attempts_in_flight: self.attempts,
            lanes: count(self.lanes.len()),
            resolving: self.resolving,
        }
    }

    #[must_use]
    pub fn show(&self, message: MessageId) -> Option<Shown> {
        self.queue.find(message).map(|at| self.shown(at, &Filter::default()))
    }

    /// Queued messages that fit, in the order of their ids, from the first after `after`.
    #[must_use]
    pub fn list(&self, filter: &Filter, limit: usize, after: Option<MessageId>) -> Vec<Shown> {
        let fits = |at: &u32| {
            self.message_fits(*at, filter) && self.queue.tickets_of(*at).any(|ticket| self.ticket_fits(ticket, filter))
        };
        self.queue.in_order(after).filter(fits).take(limit).map(|at| self.shown(at, filter)).collect()
    }

    /// How many messages an order with this filter would concern.
    #[must_use]
    pub fn count(&self, filter: &Filter) -> u64 {
        let fits = |at: &u32| {
            self.message_fits(*at, filter) && self.queue.tickets_of(*at).any(|ticket| self.ticket_fits(ticket, filter))
        };
        self.queue.in_order(None).filter(fits).count() as u64
    }

    #[must_use]
    pub fn lanes(&self) -> Vec<LaneView> {
        let mut ready: BTreeMap<u32, u64> = BTreeMap::new();
        for (_, path) in self.paths.iter() {
            *ready.entry(path.lane).or_default() += u64::from(path.turns.ready);
        }
        let view = |(at, lane): (u32, &super::Lane)| {
            let held = match lane.shape.may_start(self.now) {
                Verdict::Wait { until, why } => Some((until, why)),
                Verdict::Go(()) => self.held_by_warm_up(at).or_else(|| lane.shape.slowed(self.now)),
            };
            LaneView {
                ip: self.ips[lane.ip as usize].address,
                provider: self.provider_name(at),
                ready: ready.get(&at).copied().unwrap_or(0),
                sessions: lane.sessions,
                connections_allowed: lane.shape.connections_allowed(self.now),
                connections_max: lane.shape.rules.connections_max,
                pace: lane.shape.pace(),
                until: held.as_ref().map(|(until, _)| *until).filter(|until| *until < Timestamp::MAX),
                why: held.map(|(_, why)| why),
            }
        };
        self.lanes.iter().map(view).collect()
    }

    fn shown(&self, at: u32, filter: &Filter) -> Shown {
        let entry = &self.queue.messages[at];
        let origin = &self.queue.origins[entry.origin];
        let mut recipients = Vec::new();
        for ticket in self.queue.tickets_of(at).filter(|ticket| self.ticket_fits(*ticket, filter)) {
            let (why, until) = self.why(ticket);
            let domain = &self.domains[self.queue.tickets[ticket].domain];
            let provider = match domain.status {
                DomainStatus::Site { provider, .. } => Some(Arc::clone(&self.providers[provider].key)),
                _ => None,
            };
            for recipient in self.queue.tickets[ticket].recipients.all() {
                let slot = &entry.recipients.all()[usize::from(*recipient)];
                recipients.push(ShownRecipient {
                    recipient: *recipient,
                    domain: domain.name.clone(),
                    provider: provider.clone(),
                    attempts: slot.attempts,
                    why: why.clone(),
                    until,
                    last: self.queue.answers.get(slot.last).cloned(),
                });
            }
        }
        recipients.sort_by_key(|shown| shown.recipient);
        Shown {
            message: entry.id(),
            account: origin.account.clone(),
            subaccount: origin.subaccount.clone(),
            stream: origin.stream.clone(),
            home: match &origin.home {
                Home::Undecided(_) => None,
                Home::Decided { pool, name, addresses, .. } => Some(ShownHome {
                    pool: pool.clone(),
                    name: Arc::clone(name),
                    addresses: *addresses,
                    ip: self.ips[entry.ip as usize].address,
                }),
            },
            moved: entry.moved.as_deref().cloned(),
            accepted_at: entry.accepted_at,
            expires_at: entry.expires_at,
            recipients,
        }
    }

    /// Why does this ticket wait, and until when at least?
    pub(super) fn why(&self, ticket: u32) -> (Why, Option<Timestamp>) {
        let entry = &self.queue.tickets[ticket];
        let account = &self.queue.origins[self.queue.messages[entry.message].origin].account;
        if let (Some(reason), Place::Nowhere | Place::Due(_) | Place::Domain(_) | Place::Flow(_)) =
            (self.paused(account), entry.place)
        {
            // Whatever else it waits for.
            return (Why::AccountPaused { reason: reason.to_owned() }, None);
        }
        match entry.place {
            Place::Session(_) => (Why::InTransfer, None),
            Place::Held => (Why::HeldByOrder, None),
            Place::Nowhere => (Why::WaitingItsTurn, None),
            Place::Due(_) => (self.why_due(ticket), Some(entry.due)),
            Place::Domain(_) => match &self.domains[entry.domain].status {
                DomainStatus::Later { why } => (why.clone(), None),
                _ => (Why::Resolving, None),
            },
            Place::Flow(stream) => self.why_path(self.flows.owner_of(stream)),
        }
    }

    fn why_due(&self, ticket: u32) -> Why {
        let entry = &self.queue.tickets[ticket];
        let message = &self.queue.messages[entry.message];
        let said = || {
            let slot =
                entry.recipients.all().first().map(|recipient| message.recipients.all()[usize::from(*recipient)]);
            let last = slot.and_then(|slot| self.queue.answers.get(slot.last));
            last.and_then(|last| last.reply.as_ref()).map_or_else(|| "see the lane".to_owned(), ToString::to_string)
        };
        match entry.wait {
            Wait::Scheduled => Why::NotYetDue,
            Wait::SenderDomain => Why::SenderDomainSuspended { said: said() },
            Wait::Stream => Why::StreamSuspended { said: said() },
            Wait::NoIp => Why::NoIpLeft,
            // The pause is over; it is looked at within a minute.
            Wait::Paused => Why::WaitingItsTurn,
            Wait::Retry => {
                let slot =
                    entry.recipients.all().first().map(|recipient| message.recipients.all()[usize::from(*recipient)]);
                let last = slot.and_then(|slot| self.queue.answers.get(slot.last));
                last.map_or(Why::NotYetDue, |last| last.why.clone())
            }
        }
    }

    fn why_path(&self, path: u32) -> (Why, Option<Timestamp>) {
        let path = &self.paths[path];
        let lane = &self.lanes[path.lane];
        if self.stopping {
            return (Why::Stopping, None);
        }
        if path.backoff_until > self.now
            && let Some(why) = &path.backoff_why
        {
            return (why.clone(), Some(path.backoff_until));
        }
        if let Verdict::Wait { until, why } = lane.shape.may_start(self.now) {
            return (why, Some(until).filter(|until| *until < Timestamp::MAX));
        }
        if let Some((until, why)) = self.held_by_warm_up(path.lane) {
            return (why, Some(until));
        }
        if path.machine_stalled {
            return (Why::SessionsInUse, None);
        }
        if path.stalled {
            return (Why::ConnectionsInUse, None);
        }
        (Why::WaitingItsTurn, None)
    }

    /// What must hold between any two calls: each ticket in exactly one place, each open recipient on exactly one ticket, no message
    /// without a ticket, every count right. Costs a walk over everything; tests call it, and debug builds of small queues.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn check_invariants(&self) {
        let (mut held, mut on_session, mut waiting) = (0usize, 0usize, 0usize);
        let mut by_domain: BTreeMap<u32, u32> = BTreeMap::new();
        let mut count = 0;
        for (at, ticket) in self.queue.tickets.iter() {
            count += 1;
            *by_domain.entry(ticket.domain).or_default() += 1;
            assert!(self.queue.tickets_of(ticket.message).any(|own| own == at), "a ticket is on its message's list");
            let undecided = self.queue.messages[ticket.message].ip == NONE;
            assert!(
                !undecided || matches!(ticket.place, Place::Held | Place::Due(_)),
                "what is not due has nowhere to go yet"
            );
            match ticket.place {
                Place::Held => held += 1,
                Place::Session(session) => {
                    on_session += 1;
                    let flight = self.sessions[session].flight;
                    assert_eq!(flight.map(|flight| flight.ticket), Some(at), "the session carries the ticket");
                }
                Place::Nowhere => panic!("a ticket is nowhere"),
                Place::Domain(_) => waiting += 1,
                Place::Due(_) | Place::Flow(_) => {}
            }
        }
        let in_domains: usize = self.domains.iter().map(|(_, domain)| domain.waiting.ready as usize).sum();
        assert_eq!(waiting, in_domains, "tickets that wait for a look-up are in their domain's row");
        assert_eq!(self.attempts as usize, on_session, "a session carries a ticket that knows it");
        let in_flows = self.flows.tickets_len();
        assert_eq!(held + on_session + in_flows + self.queue.due_len(), count, "each ticket is in one place");
        let ready: usize = self.paths.iter().map(|(_, path)| path.turns.ready as usize).sum();
        assert_eq!(ready + in_domains, in_flows, "paths and domains count their rows");
        for (at, domain) in self.domains.iter() {
            assert_eq!(domain.tickets, by_domain.get(&at).copied().unwrap_or(0), "a domain counts its tickets");
        }
        let mut by_ip: BTreeMap<u32, u32> = BTreeMap::new();
        for (at, message) in self.queue.messages.iter() {
            let home = &self.queue.origins[message.origin].home;
            assert_eq!(
                matches!(home, Home::Undecided(_)),
                message.ip == NONE,
                "a message has an IP when it has a route"
            );
            *by_ip.entry(message.ip).or_default() += 1;
            let slots = message.recipients.all();
            let mut seen = vec![0u8; slots.len()];
            for ticket in self.queue.tickets_of(at) {
                self.queue.tickets[ticket]
                    .recipients
                    .all()
                    .iter()
                    .for_each(|recipient| seen[usize::from(*recipient)] += 1);
            }
            assert!(seen.contains(&1), "a message without a ticket has left");
            for (slot, seen) in slots.iter().zip(seen) {
                assert_eq!(
                    seen == 1,
                    slot.fate.is_open(),
                    "an open recipient is on one ticket, a finished one on none"
                );
                assert!(seen <= 1, "no recipient is on two tickets");
            }
        }
        for (at, ip) in (0u32..).zip(&self.ips) {
            assert_eq!(ip.pinned, by_ip.get(&at).copied().unwrap_or(0), "an IP counts what is queued on it");
        }
        let mut by_lane: BTreeMap<u32, u32> = BTreeMap::new();
        for (_, session) in self.sessions.iter() {
            *by_lane.entry(self.paths[session.path].lane).or_default() += 1;
            assert_eq!(session.flight.is_some(), session.state == SessionState::Busy, "busy with something");
        }
        for (at, lane) in self.lanes.iter() {
            assert_eq!(lane.sessions, by_lane.get(&at).copied().unwrap_or(0), "a lane counts its sessions");
        }
    }
}
