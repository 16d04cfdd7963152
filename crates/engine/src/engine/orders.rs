//! What does an operator command, and what becomes of it?
//!
//! An order over many messages is carried out in small steps by `poll`. It concerns what is queued then.

use super::{Cancellable, Engine, Filter, Order};
use crate::envelope::Addresses;
use crate::event::EventKind;
use crate::id::MessageId;
use crate::queue::{After, End, Fate, Home, Place, Wait};
use crate::slab::NONE;
use crate::time::Timestamp;
use crate::why::Why;
use std::net::IpAddr;
use std::sync::Arc;

/// Messages looked at in one step.
const STEP: u32 = 64;

/// An order under way over all messages.
#[derive(Debug)]
pub(super) struct Sweep {
    command: Command,
    filter: Filter,
    began: Timestamp,
    next: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Hold,
    Release,
    Retry,
    Delete,
}

impl Engine {
    pub(super) fn order(&mut self, order: Order) {
        match order {
            Order::Hold(filter) => self.begin(Command::Hold, filter),
            Order::Release(filter) => self.begin(Command::Release, filter),
            Order::Retry(filter) => self.begin(Command::Retry, filter),
            Order::Delete(filter) => self.begin(Command::Delete, filter),
            Order::Cancel(message) => self.cancel(message),
            Order::SuspendLane { ip, provider, until } => self.suspend_lane(ip, &provider, until),
            Order::ResumeLane { ip, provider } => self.resume_lane(ip, &provider),
        }
    }

    fn begin(&mut self, command: Command, filter: Filter) {
        let (next, end) = match filter.message {
            Some(id) => match self.queue.find(id) {
                Some(message) => (message, message + 1),
                None => return,
            },
            None => (0, self.queue.messages.end()),
        };
        self.sweeps.push_back(Sweep { command, filter, began: self.now, next, end });
    }

    pub(super) fn step_order(&mut self) -> bool {
        let Some(mut sweep) = self.sweeps.pop_front() else {
            return false;
        };
        let until = sweep.end.min(sweep.next + STEP);
        while sweep.next < until {
            let message = sweep.next;
            sweep.next += 1;
            let queued = self.queue.messages.get(message);
            // A place that became free meanwhile may hold a newer message.
            if queued.is_some_and(|entry| sweep.filter.message.is_none_or(|id| id == entry.id()))
                && self.message_fits(message, &sweep.filter)
            {
                self.command(&sweep, message);
            }
        }
        if sweep.next < sweep.end {
            self.sweeps.push_front(sweep);
        }
        true
    }

    /// Do the fields about the message as a whole fit?
    pub(super) fn message_fits(&self, message: u32, filter: &Filter) -> bool {
        let entry = &self.queue.messages[message];
        let origin = &self.queue.origins[entry.origin];
        filter.message.is_none_or(|id| id == entry.id())
            && filter.account.as_ref().is_none_or(|account| *account == origin.account)
            && filter.subaccount.as_ref().is_none_or(|part| origin.subaccount.as_ref() == Some(part))
            && filter.pool.as_ref().is_none_or(|wanted| match &origin.home {
                Home::Decided { pool, name, .. } => wanted == pool || *wanted.as_str() == **name,
                Home::Undecided(_) => false,
            })
            && filter.ip.is_none_or(|ip| match &origin.home {
                Home::Decided { addresses, .. } => {
                    (*addresses == Addresses::Shown || filter.sees_hidden) && self.ips[entry.ip as usize].address == ip
                }
                Home::Undecided(_) => false,
            })
    }

    /// Do the fields about a ticket fit?
    pub(super) fn ticket_fits(&self, ticket: u32, filter: &Filter) -> bool {
        let domain = &self.domains[self.queue.tickets[ticket].domain];
        let provider = match domain.status {
            super::DomainStatus::Site { provider, .. } => Some(&*self.providers[provider].key),
            _ => None,
        };
        filter.domain.as_ref().is_none_or(|name| *name == domain.name)
            && filter.provider.as_deref().is_none_or(|name| provider == Some(name))
    }

    fn command(&mut self, sweep: &Sweep, message: u32) {
        let meant = |ticket: &u32| self.ticket_fits(*ticket, &sweep.filter);
        let tickets: Vec<u32> = self.queue.tickets_of(message).filter(meant).collect();
        let mut events = Vec::new();
        for ticket in tickets {
            match sweep.command {
                Command::Hold => self.hold(ticket, &mut events),
                Command::Release => self.release(ticket, &mut events),
                Command::Retry => self.retry(ticket, sweep.began),
                Command::Delete => self.delete(ticket, &mut events),
            }
        }
        if !events.is_empty() {
            let id = self.queue.messages[message].id();
            self.settle(message, events);
            if self.queue.find(id).is_some() {
                self.arm_life(message);
            }
        }
    }

    fn hold(&mut self, ticket: u32, events: &mut Vec<crate::event::Event>) {
        if self.queue.tickets[ticket].place == Place::Held {
            return;
        }
        if !self.take(ticket) {
            self.queue.tickets[ticket].after = After::Hold;
            return;
        }
        self.queue.tickets[ticket].place = Place::Held;
        let message = self.queue.tickets[ticket].message;
        for recipient in self.queue.tickets[ticket].recipients.clone().all() {
            events.push(self.hold_recipient(message, *recipient));
        }
    }

    fn release(&mut self, ticket: u32, events: &mut Vec<crate::event::Event>) {
        let place = self.queue.tickets[ticket].place;
        if let Place::Session(_) = place {
            self.queue.tickets[ticket].after = After::Nothing;
        }
        if place != Place::Held {
            return;
        }
        let message = self.queue.tickets[ticket].message;
        for recipient in self.queue.tickets[ticket].recipients.clone().all() {
            let mut event = self.end_recipient(message, *recipient, Fate::Waiting, EventKind::Released);
            event.why = Some(Why::ReleasedByOrder);
            events.push(event);
        }
        let entry = &mut self.queue.tickets[ticket];
        entry.place = Place::Nowhere;
        let (due, wait) = (entry.due, entry.wait);
        if due > self.now || self.may_end_when_placed(ticket) {
            self.queue.put_due(ticket, due, wait);
        } else {
            self.place(ticket, End::Back);
        }
    }

    /// Who asks for a try now has mended something, often in DNS: the try goes where DNS leads now.
    fn retry(&mut self, ticket: u32, began: Timestamp) {
        let domain = self.queue.tickets[ticket].domain;
        match self.queue.tickets[ticket].place {
            Place::Due(_) => {
                self.take(ticket);
                self.queue.tickets[ticket].due = self.now;
                if self.may_end_when_placed(ticket) {
                    self.queue.put_due(ticket, self.now, Wait::Scheduled);
                } else {
                    self.ask_anew(domain, began);
                    self.place(ticket, End::Back);
                }
            }
            Place::Domain(_) => self.ask_anew(domain, began),
            Place::Flow(stream) => {
                let path = self.flows.owner_of(stream);
                let unreached = self.paths[path].failures > 0;
                self.paths[path].backoff_until = self.now;
                self.run(path);
                if unreached {
                    self.take(ticket);
                    self.ask_anew(domain, began);
                    self.place(ticket, End::Back);
                }
            }
            Place::Nowhere | Place::Session(_) | Place::Held => {}
        }
    }

    fn delete(&mut self, ticket: u32, events: &mut Vec<crate::event::Event>) {
        if !self.take(ticket) {
            self.queue.tickets[ticket].after = After::Delete;
            return;
        }
        let message = self.queue.tickets[ticket].message;
        let recipients = self.queue.tickets[ticket].recipients.clone();
        self.drop_ticket(ticket);
        for recipient in recipients.all() {
            events.push(self.delete_recipient(message, *recipient));
        }
    }

    /// Until its time has come, a scheduled message is its sender's (R1.6).
    #[must_use]
    pub fn cancellable(&self, message: MessageId) -> Cancellable {
        match self.queue.find(message) {
            None if self.recovered => Cancellable::Gone,
            None => Cancellable::Unknown,
            Some(at) if self.queue.messages[at].ip == NONE => Cancellable::Yes,
            Some(_) => Cancellable::Leaving,
        }
    }

    fn cancel(&mut self, id: MessageId) {
        if self.cancellable(id) != Cancellable::Yes {
            return;
        }
        let Some(message) = self.queue.find(id) else { return };
        let tickets: Vec<u32> = self.queue.tickets_of(message).collect();
        let mut events = Vec::new();
        for ticket in tickets {
            self.delete(ticket, &mut events);
        }
        for event in &mut events {
            event.why = Some(Why::CancelledBySender);
        }
        self.settle(message, events);
    }

    fn suspend_lane(&mut self, ip: IpAddr, provider: &str, until: Option<Timestamp>) {
        let Some(lane) = self.find_lane(ip, provider) else {
            return;
        };
        self.lanes[lane].shape.suspend_by_order(until);
        self.remember();
        let mut event = self.lane_event(lane, EventKind::LaneSuspended);
        event.why = Some(Why::LaneSuspendedByOrder);
        event.next_at = until;
        self.actions.push_back(super::Action::Record(event));
        self.lane_suspended(lane, until.unwrap_or(Timestamp::MAX));
    }

    fn resume_lane(&mut self, ip: IpAddr, provider: &str) {
        if self.lessons.remove(&(ip, Arc::from(provider))).is_some() {
            self.remember();
        }
        let Some(lane) = self.find_lane(ip, provider) else {
            return;
        };
        self.lanes[lane].shape.resume();
        self.remember();
        self.lanes[lane].suspended = false;
        let mut event = self.lane_event(lane, EventKind::LaneResumed);
        event.why = Some(Why::ReleasedByOrder);
        self.actions.push_back(super::Action::Record(event));
        self.kick(lane);
    }

    fn find_lane(&self, ip: IpAddr, provider: &str) -> Option<u32> {
        let ip = self.ip_of.get(&ip)?;
        self.lanes.iter().find(|(at, lane)| lane.ip == *ip && *self.provider_name(*at) == *provider).map(|(at, _)| at)
    }
}
