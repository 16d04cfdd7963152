//! What does an answer do to the message, recipient by recipient?

use super::{Action, Alarm, Engine, NotifyKind, SessionState};
use crate::attempt::{Outcome, Report, Stage};
use crate::classify::{Class, Meaning, MessageFate, Subtype};
use crate::envelope::{LastAnswer, MessageState, RecipientState};
use crate::event::{Event, EventKind};
use crate::id::AttemptId;
use crate::queue::{After, End, Fate, Place, Recipients, Wait};
use crate::retry::draw;
use crate::simulator::{self, Simulated};
use crate::snapshot::NotifyDefault;
use crate::time::Timestamp;
use crate::why::Why;
use mail::reply::Reply;
use mail::report::FeedbackKind;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// So often may an attempt end with nothing tried before it counts as one.
const FRUITLESS_MAX: u8 = 3;

/// What becomes of one recipient.
enum Next {
    Over {
        fate: Fate,
        kind: EventKind,
        reply: Option<Reply>,
        meaning: Option<Meaning>,
        why: Option<Why>,
    },
    Again {
        at: Timestamp,
        reply: Option<Reply>,
        meaning: Meaning,
        why: Why,
    },
    /// Nothing was tried: eligible at once, nothing counted.
    AtOnce,
}

/// What the attempt's recipients have in common.
struct Attempt {
    message: u32,
    lane: u32,
    ip: IpAddr,
    host: Option<Arc<str>>,
    /// Carried the session mail before this attempt? Then a good-bye is about the connection, not about this message.
    seasoned: bool,
    /// Was any recipient of the attempt answered for good or accepted?
    fruitful: bool,
    patient: bool,
}

impl Engine {
    pub(super) fn attempt_ended(&mut self, attempt: AttemptId, report: Report) {
        let Some(session) = self.session_of(attempt) else {
            return;
        };
        let Some(flight) = self.sessions[session].flight.take() else {
            return;
        };
        self.attempts -= 1;
        self.sessions[session].state = SessionState::Idle;
        let path = self.sessions[session].path;
        let lane = self.paths[path].lane;
        let ticket = flight.ticket;
        let (message, domain) = (self.queue.tickets[ticket].message, self.queue.tickets[ticket].domain);
        let recipients = self.queue.tickets[ticket].recipients.clone();
        let outcome_of = outcomes(recipients.all(), report.results);
        let common = Attempt {
            message,
            lane,
            ip: self.ips[self.lanes[lane].ip as usize].address,
            host: report.host.as_deref().map(Arc::from).or_else(|| self.sessions[session].host.clone()),
            seasoned: self.sessions[session].messages > 1,
            fruitful: outcome_of
                .iter()
                .any(|(_, outcome)| matches!(outcome, Outcome::Answered { reply, .. } if !reply.is_transient())),
            patient: self.queue.tickets[ticket].fruitless < FRUITLESS_MAX,
        };
        if nothing_sent(&outcome_of) {
            self.lanes[lane].shape.give_back(self.now);
        }
        self.return_places(lane, recipients.all().len());
        self.learn(path, lane, message, &outcome_of);
        self.warn_of_unreadable(message, &outcome_of);
        let mut events = Vec::with_capacity(recipients.all().len());
        let mut again: Vec<(Option<Timestamp>, Vec<u16>)> = Vec::new();
        let tries_again = self.queue.tickets[ticket].after != After::Delete;
        for (recipient, outcome) in outcome_of {
            let next = self.judge(&common, recipient, outcome);
            let retried = match &next {
                Next::Over { .. } => None,
                Next::Again { at, .. } => Some(Some(*at)),
                Next::AtOnce => Some(None),
            };
            if let Some(mut event) = self.write_down(&common, recipient, next) {
                event.tls.clone_from(&report.tls);
                event.took = Some(report.took);
                self.warmed_by(&event, true);
                events.push(event);
            }
            if let Some(at) = retried {
                match again.iter_mut().find(|(time, _)| *time == at) {
                    Some((_, group)) => group.push(recipient),
                    None => again.push((at, vec![recipient])),
                }
            }
        }
        let fruitless = self.queue.tickets[ticket].fruitless;
        let after = self.queue.tickets[ticket].after;
        self.queue.tickets[ticket].place = Place::Nowhere;
        self.drop_ticket(ticket);
        for (at, group) in again {
            if !tries_again {
                group.iter().for_each(|recipient| events.push(self.delete_recipient(message, *recipient)));
                continue;
            }
            let name = self.domains[domain].name.clone();
            let due = at.unwrap_or(self.now);
            let held_domain = self.domain(&name);
            let new = self.queue.add_ticket(message, held_domain, Recipients::new(&group), due, Wait::Retry);
            // Progress with others excuses what was not tried.
            self.queue.tickets[new].fruitless = if at.is_none() && !common.fruitful { fruitless + 1 } else { 0 };
            if after == After::Hold {
                group.iter().for_each(|recipient| events.push(self.hold_recipient(message, *recipient)));
                self.queue.tickets[new].place = Place::Held;
            } else if at.is_some() {
                self.queue.put_due(new, due, Wait::Retry);
            } else {
                self.place(new, End::Front);
            }
        }
        let id = self.queue.messages[message].id();
        if !events.is_empty() {
            self.settle_ended(message, events);
        }
        if self.queue.messages.get(message).is_some_and(|entry| entry.id() == id) {
            self.arm_life(message);
        }
        if report.session_usable {
            self.idle_or_close(session);
        } else {
            self.forget(session);
        }
    }

    /// The session went away under an attempt without a report.
    pub(super) fn attempt_vanished(&mut self, attempt: AttemptId, ticket: u32) {
        let lost = |recipient: &u16| (*recipient, Outcome::Lost { stage: Stage::End });
        let results = self.queue.tickets[ticket].recipients.all().iter().map(lost).collect();
        let report = Report { results, host: None, tls: None, took: Duration::ZERO, session_usable: false };
        self.attempt_ended(attempt, report);
    }

    /// What the answers say about the lane. One rule counts once per attempt, however many recipients heard it.
    fn learn(&mut self, path: u32, lane: u32, message: u32, outcomes: &[(u16, Outcome)]) {
        let snapshot = Arc::clone(&self.snapshot);
        let rules_name = Arc::clone(&self.providers[self.lanes[lane].provider].rules);
        let mut seen: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut accepted = false;
        let mut tried = 0u16;
        let mut left = 0u16;
        for (_, outcome) in outcomes {
            match outcome {
                Outcome::Answered { stage: Stage::End, reply } if reply.is_positive() => accepted = true,
                Outcome::Answered { reply, .. } => {
                    let reading = snapshot.rules.classify(&rules_name, reply);
                    left += u16::from(reading.meaning.subtype == Subtype::TooManyRecipients);
                    if seen.insert(Arc::clone(&reading.meaning.rule)) {
                        self.react(lane, &reading.meaning.rule, reading.reactions, reading.alert, reply, Some(message));
                    }
                }
                Outcome::NotTried => left += 1,
                Outcome::Lost { .. }
                | Outcome::Ours { .. }
                | Outcome::Suppressed { .. }
                | Outcome::Unreadable { .. } => {}
            }
            tried += 1;
        }
        if accepted {
            self.lanes[lane].shape.accepted(self.now);
            self.paths[path].failures = 0;
        } else if !seen.is_empty() {
            self.lanes[lane].shape.heard(self.now);
        }
        if left > 0 && left < tried {
            // The site takes fewer recipients at a time; the next transaction asks for as many as went.
            self.paths[path].recipients_max = tried - left;
        }
    }

    /// Octets that were promised to be safe are not there: somebody must look.
    fn warn_of_unreadable(&mut self, message: u32, outcomes: &[(u16, Outcome)]) {
        let said = outcomes.iter().find_map(|(_, outcome)| match outcome {
            Outcome::Unreadable { said } => Some(said),
            _ => None,
        });
        let Some(said) = said else { return };
        let entry = &self.queue.messages[message];
        self.actions.push_back(Action::Alarm(Alarm {
            at: self.now,
            ip: None,
            provider: None,
            account: Some(self.queue.origins[entry.origin].account.clone()),
            code: "message-unreadable".into(),
            words: format!("{} cannot be read from the queue: {said}", entry.id()),
        }));
    }

    fn judge(&mut self, common: &Attempt, recipient: u16, outcome: Outcome) -> Next {
        let attempts = self.queue.messages[common.message].recipients.at(recipient).attempts.saturating_add(1);
        match outcome {
            Outcome::Answered { stage: Stage::End, reply } if reply.is_positive() => Next::Over {
                fate: Fate::Delivered,
                kind: EventKind::Delivered,
                reply: Some(reply),
                meaning: None,
                why: None,
            },
            // A yes before the end, and then nothing: as good as no answer.
            Outcome::Answered { stage, reply } if reply.code < 400 => self.lost(common, attempts, stage),
            Outcome::Answered { stage, reply } => self.refused(common, attempts, stage, reply),
            Outcome::Lost { stage } => self.lost(common, attempts, stage),
            Outcome::NotTried if common.patient || common.fruitful => Next::AtOnce,
            Outcome::NotTried => {
                let meaning = Meaning::own(Class::Soft, Subtype::TooManyRecipients);
                Next::Again { at: self.retry_at(common, attempts), reply: None, meaning, why: Why::TooManyRecipients }
            }
            Outcome::Ours { reply } if reply.is_permanent() => {
                let meaning = Meaning::own(Class::Admin, Subtype::Own);
                Next::Over {
                    fate: Fate::Bounced,
                    kind: EventKind::Bounced,
                    reply: Some(reply),
                    meaning: Some(meaning),
                    why: Some(Why::NotSendable),
                }
            }
            Outcome::Ours { reply } => {
                let meaning = Meaning::own(Class::Soft, Subtype::Own);
                Next::Again { at: self.retry_at(common, attempts), reply: Some(reply), meaning, why: Why::NotSendable }
            }
            Outcome::Suppressed { reason } => {
                let why = Why::RecipientSuppressed { reason };
                Next::Over {
                    fate: Fate::Rejected,
                    kind: EventKind::Rejected,
                    reply: Some(Reply::new(550, (5, 7, 1), why.words())),
                    meaning: Some(Meaning::own(Class::Admin, Subtype::Policy)),
                    why: Some(why),
                }
            }
            // A disk may come back, and a file be restored, while the message lives.
            Outcome::Unreadable { said } => {
                let meaning = Meaning::own(Class::Soft, Subtype::Own);
                let why = Why::MessageUnreadable { said };
                Next::Again { at: self.retry_at(common, attempts), reply: None, meaning, why }
            }
        }
    }

    fn refused(&mut self, common: &Attempt, attempts: u16, stage: Stage, reply: Reply) -> Next {
        let snapshot = Arc::clone(&self.snapshot);
        let rules_name = Arc::clone(&self.providers[self.lanes[common.lane].provider].rules);
        let reading = snapshot.rules.classify(&rules_name, &reply);
        let subtype = reading.meaning.subtype;
        // B8: a good-bye to a connection that carried mail before says nothing about this message.
        let good_bye =
            reply.code == 421 && stage == Stage::Mail && common.seasoned || subtype == Subtype::SessionLength;
        // B14: it takes the rest in another transaction.
        let fewer = subtype == Subtype::TooManyRecipients && stage == Stage::Recipient && common.fruitful;
        if good_bye && common.patient || fewer {
            return Next::AtOnce;
        }
        if reading.is_final(&reply, attempts) {
            let tries_used = reading.fate == MessageFate::Retry;
            let why = if tries_used { Why::TriesUsed } else { Why::RefusedByRemote };
            return Next::Over {
                fate: Fate::Bounced,
                kind: EventKind::Bounced,
                reply: Some(reply),
                meaning: Some(reading.meaning),
                why: Some(why),
            };
        }
        let at = match (reading.retry_in, subtype) {
            (Some(wait), _) => self.jittered(common, attempts, wait),
            (None, Subtype::Greylisted) => {
                let wait = snapshot.delivery.retry.after_greylisting(attempts);
                // Not before the remote's own wait is over, which is often just this long.
                self.now + wait + wait / 20
            }
            (None, _) => self.retry_at(common, attempts),
        };
        let why = match subtype {
            Subtype::Greylisted => Why::Greylisted,
            Subtype::RecipientRate => Why::RecipientBusy,
            Subtype::TooManyRecipients => Why::TooManyRecipients,
            _ => Why::Deferred,
        };
        Next::Again { at, reply: Some(reply), meaning: reading.meaning, why }
    }

    fn lost(&mut self, common: &Attempt, attempts: u16, stage: Stage) -> Next {
        if stage == Stage::Mail && common.seasoned && common.patient {
            // An idle connection that the remote closed as we began.
            return Next::AtOnce;
        }
        let meaning = Meaning::own(Class::Soft, Subtype::Connection);
        let at = self.retry_at(common, attempts);
        if stage < Stage::End {
            return Next::Again { at, reply: None, meaning, why: Why::ConnectionLost };
        }
        // B4: it may have arrived; the remote is given its time to have finished with it.
        let soonest = self.now + self.snapshot.delivery.retry.outcome_unknown_min;
        Next::Again { at: at.max(soonest), reply: None, meaning, why: Why::OutcomeUnknown }
    }

    fn retry_at(&self, common: &Attempt, attempts: u16) -> Timestamp {
        self.jittered(common, attempts, self.snapshot.delivery.retry.after(attempts))
    }

    /// The dice are thrown per message and attempt, so that its recipients stay together.
    fn jittered(&self, common: &Attempt, attempts: u16, wait: Duration) -> Timestamp {
        let dice = draw(self.seed ^ self.queue.messages[common.message].id_low(), u64::from(attempts));
        self.snapshot.delivery.retry.jittered(self.now, wait, dice)
    }

    /// Changes the recipient's slot and gives back the event that says so.
    fn write_down(&mut self, common: &Attempt, recipient: u16, next: Next) -> Option<Event> {
        let (now, limit) = (self.now, self.limits.answers_max);
        let mut event = self.message_event(common.message, EventKind::Deferred);
        event.recipient = Some(recipient);
        event.ip = Some(common.ip);
        event.provider = Some(self.provider_name(common.lane));
        event.host.clone_from(&common.host);
        let slot = self.queue.messages[common.message].recipients.at(recipient);
        match next {
            Next::AtOnce => return None,
            Next::Over { fate, kind, reply, meaning, why } => {
                slot.attempts = slot.attempts.saturating_add(1);
                slot.fate = fate;
                event.attempt = slot.attempts;
                event.kind = kind;
                event.reply = reply;
                event.meaning = meaning;
                event.why = why;
            }
            Next::Again { at, reply, meaning, why } => {
                slot.attempts = slot.attempts.saturating_add(1);
                event.attempt = slot.attempts;
                if let Why::MessageUnreadable { .. } = why {
                    // No remote had a part in it.
                    event.host = None;
                }
                let answer = LastAnswer {
                    at: now,
                    ip: common.ip,
                    host: event.host.as_deref().map(str::to_owned),
                    reply: reply.clone(),
                    meaning: Some(meaning.clone()),
                    why: why.clone(),
                };
                self.queue.answers.release(slot.last);
                slot.last = self.queue.answers.hold(Arc::new(answer), limit);
                event.reply = reply;
                event.meaning = Some(meaning);
                event.why = Some(why);
                event.next_at = Some(at);
            }
        }
        Some(event)
    }

    pub(super) fn wants_notice(&mut self, message: u32, recipient: u16, kind: NotifyKind) -> bool {
        let entry = &mut self.queue.messages[message];
        if !entry.has_sender {
            return false;
        }
        match (entry.recipients.at(recipient).notify(), kind) {
            (Some(asked), NotifyKind::Failed) => asked.failure,
            (Some(asked), NotifyKind::Delayed) => asked.delay,
            (Some(asked), NotifyKind::Relayed) => asked.success,
            (None, NotifyKind::Failed) => self.snapshot.delivery.notify == NotifyDefault::Failure,
            (None, _) => false,
        }
    }

    /// A ticket that is nowhere ends with its domain's fate.
    pub(super) fn bounce_ticket(&mut self, ticket: u32, why: &Why, reply: &Reply, meaning: &Meaning) {
        let message = self.queue.tickets[ticket].message;
        let recipients = self.queue.tickets[ticket].recipients.clone();
        self.drop_ticket(ticket);
        let mut events = Vec::new();
        for recipient in recipients.all() {
            let mut event = self.end_recipient(message, *recipient, Fate::Bounced, EventKind::Bounced);
            event.why = Some(why.clone());
            event.reply = Some(reply.clone());
            event.meaning = Some(meaning.clone());
            events.push(event);
        }
        self.settle_ended(message, events);
    }

    /// A ticket that is nowhere ends as the simulator's addresses say (R7.1). What comes back of them has come in the same moment.
    pub(super) fn simulate(&mut self, ticket: u32, simulated: Simulated) {
        let message = self.queue.tickets[ticket].message;
        let recipients = self.queue.tickets[ticket].recipients.clone();
        self.drop_ticket(ticket);
        let (reply, meaning) = simulated.reply();
        let (fate, kind) = match meaning {
            None => (Fate::Delivered, EventKind::Delivered),
            Some(_) => (Fate::Bounced, EventKind::Bounced),
        };
        let mut events = Vec::new();
        for recipient in recipients.all().iter().copied() {
            let mut event = self.end_recipient(message, recipient, fate, kind);
            event.provider = Some(Arc::from(simulator::PROVIDER));
            let after = match simulated {
                Simulated::Answered => Some(Event { kind: EventKind::Answered, ..event.clone() }),
                Simulated::Complained => Some(Event {
                    kind: EventKind::Complained,
                    feedback: Some(FeedbackKind::Abuse.code().into()),
                    ..event.clone()
                }),
                _ => None,
            };
            event.reply = Some(reply.clone());
            event.meaning.clone_from(&meaning);
            event.why = Some(Why::Simulated);
            events.push(event);
            events.extend(after);
        }
        self.settle_ended(message, events);
    }

    /// A ticket that is nowhere ends: its time came, and there is nothing it may leave from.
    pub(super) fn reject_ticket(&mut self, ticket: u32, why: &Why) {
        let message = self.queue.tickets[ticket].message;
        let recipients = self.queue.tickets[ticket].recipients.clone();
        self.drop_ticket(ticket);
        let mut events = Vec::new();
        for recipient in recipients.all() {
            let mut event = self.end_recipient(message, *recipient, Fate::Rejected, EventKind::Rejected);
            event.why = Some(why.clone());
            event.reply = Some(Reply::new(550, (5, 7, 1), format!("No route when its time came: {}", why.words())));
            event.meaning = Some(Meaning::own(Class::Admin, Subtype::Policy));
            events.push(event);
        }
        self.settle_ended(message, events);
    }

    /// Something rings in a message's life: its delay notice, or its end.
    pub(super) fn life_rings(&mut self, message: u32) {
        let entry = &mut self.queue.messages[message];
        if self.now < entry.expires_at {
            entry.delay_notified = true;
            let mut event = self.message_event(message, EventKind::Delayed);
            event.why = Some(Why::DelayNoticeDue);
            let mut events = vec![event];
            self.arm_life(message);
            let waiting: Vec<u16> = self.waiting(message).collect();
            let recipients: Vec<u16> = waiting
                .into_iter()
                .filter(|recipient| self.wants_notice(message, *recipient, NotifyKind::Delayed))
                .collect();
            events.extend(recipients.iter().map(|recipient| self.delay_of(message, *recipient)));
            self.notify(message, NotifyKind::Delayed, recipients);
            self.settle(message, events);
            return;
        }
        self.queue.set_life(message, None);
        let tickets: Vec<u32> =
            self.queue.tickets_of(message).filter(|ticket| self.queue.tickets[*ticket].place != Place::Held).collect();
        let mut events = Vec::new();
        for ticket in tickets {
            // One in transfer may still arrive; when it comes back, this rings again.
            let said = self.site_said(ticket);
            if !self.take(ticket) {
                continue;
            }
            let recipients = self.queue.tickets[ticket].recipients.clone();
            self.drop_ticket(ticket);
            for recipient in recipients.all() {
                events.push(self.expire_recipient(message, *recipient, said.clone()));
            }
        }
        if !events.is_empty() {
            self.settle_ended(message, events);
        }
    }

    /// What a delay notice tells of a recipient: what the remote said last, and why it waits.
    fn delay_of(&self, message: u32, recipient: u16) -> Event {
        let mut event = self.message_event(message, EventKind::Delayed);
        let slot = self.queue.messages[message].recipients.all()[usize::from(recipient)];
        event.recipient = Some(recipient);
        event.attempt = slot.attempts;
        let mut tickets = self.queue.tickets_of(message);
        let ticket = tickets.find(|ticket| self.queue.tickets[*ticket].recipients.all().contains(&recipient));
        if let Some((why, until)) = ticket.map(|ticket| self.why(ticket)) {
            event.why = Some(why);
            event.next_at = until;
        }
        if let Some(last) = self.queue.answers.get(slot.last) {
            event.ip = Some(last.ip);
            event.host = last.host.as_deref().map(Arc::from);
            event.reply.clone_from(&last.reply);
            event.meaning.clone_from(&last.meaning);
        }
        event
    }

    fn expire_recipient(&mut self, message: u32, recipient: u16, site_said: Option<String>) -> Event {
        let last = self.queue.messages[message].recipients.at(recipient).last;
        let last = self.queue.answers.get(last).cloned();
        let text = match (&last, site_said) {
            (_, Some(said)) => said,
            (Some(last), None) => match &last.reply {
                Some(reply) => format!("The last answer was: {reply}"),
                None => format!("The last attempt: {}", last.why.words()),
            },
            (None, None) => "It was never its turn".to_owned(),
        };
        let mut event = self.end_recipient(message, recipient, Fate::Expired, EventKind::Expired);
        event.why = Some(Why::LifetimeOver);
        event.reply = Some(Reply::new(550, (5, 4, 7), format!("Could not be delivered within its lifetime. {text}")));
        // The class of an expired message comes from the last answer (deliverability, 4.1), and so does what it says of the mailbox.
        let last_meaning = last.as_ref().and_then(|last| last.meaning.as_ref());
        let is_full = last_meaning.is_some_and(|meaning| meaning.subtype == Subtype::MailboxFull);
        let subtype = if is_full { Subtype::MailboxFull } else { Subtype::Expired };
        event.meaning = Some(Meaning::own(last_meaning.map_or(Class::Soft, |meaning| meaning.class), subtype));
        event.host = last.as_ref().and_then(|last| last.host.as_deref()).map(Arc::from);
        event
    }

    /// What keeps a ticket's site from being reached, for the last words of an expired message.
    fn site_said(&self, ticket: u32) -> Option<String> {
        match self.queue.tickets[ticket].place {
            Place::Flow(stream) => {
                let path = self.paths.get(self.flows.owner_of(stream))?;
                path.backoff_why.as_ref().map(Why::words)
            }
            Place::Domain(_) => match &self.domains[self.queue.tickets[ticket].domain].status {
                super::DomainStatus::Later { why } => Some(why.words()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The next ring of a message's life; none while all that is left of it is held.
    pub(super) fn arm_life(&mut self, message: u32) {
        let open = self.queue.tickets_of(message).any(|ticket| self.queue.tickets[ticket].place != Place::Held);
        let entry = &self.queue.messages[message];
        let notice = entry.accepted_at + self.snapshot.delivery.delay_notice;
        let at = if !entry.delay_notified && notice < entry.expires_at { notice } else { entry.expires_at };
        self.queue.set_life(message, open.then_some(at));
    }

    pub(super) fn end_recipient(&mut self, message: u32, recipient: u16, fate: Fate, kind: EventKind) -> Event {
        let mut event = self.message_event(message, kind);
        let slot = self.queue.messages[message].recipients.at(recipient);
        slot.fate = fate;
        event.recipient = Some(recipient);
        event.attempt = slot.attempts;
        event
    }

    pub(super) fn delete_recipient(&mut self, message: u32, recipient: u16) -> Event {
        let mut event = self.end_recipient(message, recipient, Fate::Deleted, EventKind::Deleted);
        event.why = Some(Why::DeletedByOrder);
        event
    }

    pub(super) fn hold_recipient(&mut self, message: u32, recipient: u16) -> Event {
        let mut event = self.end_recipient(message, recipient, Fate::Held, EventKind::Held);
        event.why = Some(Why::HeldByOrder);
        event
    }

    /// Settles, and tells the sender of what ended, where it wants to know.
    fn settle_ended(&mut self, message: u32, events: Vec<Event>) {
        let (mut failed, mut relayed) = (Vec::new(), Vec::new());
        for (recipient, ended) in events.iter().filter_map(|event| Some((event.recipient?, event.kind))) {
            match ended {
                EventKind::Bounced | EventKind::Expired | EventKind::Rejected
                    if self.wants_notice(message, recipient, NotifyKind::Failed) =>
                {
                    failed.push(recipient);
                }
                EventKind::Delivered if self.wants_notice(message, recipient, NotifyKind::Relayed) => {
                    relayed.push(recipient);
                }
                _ => {}
            }
        }
        self.notify(message, NotifyKind::Failed, failed);
        self.notify(message, NotifyKind::Relayed, relayed);
        self.settle(message, events);
    }

    /// Asks for a notice. Before the `Settle` it belongs to: a message that is finished would be gone when its notice is written.
    fn notify(&mut self, message: u32, kind: NotifyKind, recipients: Vec<u16>) {
        if !recipients.is_empty() {
            let message = self.queue.messages[message].id();
            self.actions.push_back(Action::Notify { message, recipients, kind });
        }
    }

    /// Writes down how the message stands. When no recipient is open it is over, and forgotten here.
    pub(super) fn settle(&mut self, message: u32, events: Vec<Event>) {
        let state = self.state(message);
        let finished = state.recipients.iter().all(RecipientState::finished);
        let id = self.queue.messages[message].id();
        let ip = self.queue.messages[message].ip;
        if finished {
            self.queue.remove_message(message);
        }
        self.actions.push_back(Action::Settle { message: id, state, finished, events });
        if finished {
            self.unpin(ip);
        }
    }

    pub(super) fn state(&self, message: u32) -> MessageState {
        let entry = &self.queue.messages[message];
        let slots = entry.recipients.all();
        let mut recipients: Vec<RecipientState> = slots
            .iter()
            .map(|slot| match slot.fate {
                Fate::Waiting => RecipientState::Waiting {
                    attempts: slot.attempts,
                    due_at: self.now,
                    last: self.queue.answers.get(slot.last).cloned(),
                },
                Fate::Held => RecipientState::Held { attempts: slot.attempts },
                Fate::Delivered => RecipientState::Delivered,
                Fate::Bounced => RecipientState::Bounced,
                Fate::Expired => RecipientState::Expired,
                Fate::Deleted => RecipientState::Deleted,
                Fate::Rejected => RecipientState::Rejected,
            })
            .collect();
        for ticket in self.queue.tickets_of(message) {
            let ticket = &self.queue.tickets[ticket];
            for recipient in ticket.recipients.all() {
                if let RecipientState::Waiting { due_at, .. } = &mut recipients[usize::from(*recipient)] {
                    *due_at = ticket.due;
                }
            }
        }
        MessageState {
            recipients,
            route: self.queue.origins[entry.origin].home.kept_with_state(entry.id()),
            moved: entry.moved.as_deref().cloned(),
            delay_notified: entry.delay_notified,
        }
    }

    pub(super) fn waiting(&self, message: u32) -> impl Iterator<Item = u16> + '_ {
        let slots = self.queue.messages[message].recipients.all();
        (0u16..).zip(slots).filter(|(_, slot)| slot.fate == Fate::Waiting).map(|(recipient, _)| recipient)
    }

    pub(super) fn message_event(&self, message: u32, kind: EventKind) -> Event {
        let entry = &self.queue.messages[message];
        let origin = &self.queue.origins[entry.origin];
        let mut event = self.event(kind);
        event.message = Some(entry.id());
        event.account = Some(origin.account.clone());
        event.pool = origin.home.pool().cloned();
        event
    }

    pub(super) fn lane_event(&self, lane: u32, kind: EventKind) -> Event {
        let mut event = self.event(kind);
        event.ip = Some(self.ips[self.lanes[lane].ip as usize].address);
        event.provider = Some(self.provider_name(lane));
        event
    }

    pub(super) fn provider_name(&self, lane: u32) -> Arc<str> {
        Arc::clone(&self.providers[self.lanes[lane].provider].key)
    }
}

/// One outcome for each recipient of the attempt, in its order; what the report leaves out was not tried.
fn outcomes(recipients: &[u16], mut results: Vec<(u16, Outcome)>) -> Vec<(u16, Outcome)> {
    if results.len() == recipients.len() && results.iter().zip(recipients).all(|((result, _), own)| result == own) {
        return results;
    }
    results.sort_by_key(|(recipient, _)| *recipient);
    let find = |recipient: &u16| {
        let at = results.binary_search_by_key(recipient, |(result, _)| *result).ok();
        (*recipient, at.map_or(Outcome::NotTried, |at| results[at].1.clone()))
    };
    recipients.iter().map(find).collect()
}

/// Then the place it took of the lane's rate is free again.
fn nothing_sent(outcomes: &[(u16, Outcome)]) -> bool {
    outcomes.iter().all(|(_, outcome)| {
        matches!(
            outcome,
            Outcome::NotTried | Outcome::Ours { .. } | Outcome::Suppressed { .. } | Outcome::Unreadable { .. }
        )
    })
}
