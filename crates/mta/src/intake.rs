//! May this message come in, and how does it become one that is never lost?
//!
//! The one admission of all surfaces (R1.1): the same checks, the same route, the same event, whether it came by SMTP, HTTP or
//! the command line. `admit` answers only when the message is durable.

use crate::badge::{Badge, Bearer};
use crate::driver::Driver;
use crate::links::{Links, Whose};
use crate::metrics::{Metrics, Refused, Via as ViaLabel};
use crate::once::{Onces, Started};
use crate::quotas::Quotas;
use crate::record::{self, Entry};
use crate::refusal::{Kind, Refusal};
use crate::return_path::Sealer;
use crate::sign::Signers;
use crate::visitor::{Pass, sending_off};
pub use crate::visitor::{Right, Via, Visitor};
use bytes::Bytes;
use engine::envelope::{Envelope, Recipient, Route, TlsWish, Wish};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, MessageId, RegionId, StreamId, SubaccountId};
use engine::route;
use engine::simulator::{simulated, simulated_at};
use engine::snapshot::{
    Account, ConfigurationSet, Credential, Scope, Senders, Sending, SendingDomain, Snapshot, Standing,
};
use engine::split::reader_of;
use engine::time::Timestamp;
use engine::why::Why;
use mail::address::{Domain, Mailbox};
use mail::dkim::{self, Signer};
use mail::message::{HOPS_MAX, MessageError, Prepared, Preparing, prepare};
use mail::smtp::command::{RecipientParameters, Ret};
use mail::smtp::server::Submission;
use net::clock::Clock;
use prometheus_client::metrics::gauge::Gauge;
use spool::{Health, PutFault, Spool};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use uuid::Uuid;

/// Header fields that are for us and not for the recipient (R1.3); they never leave.
const CONTROL_FIELDS: &[&str] = &["X-MSYS-API", "X-SES-*", "X-Weir-*"];

const STREAM_OCTETS_MAX: usize = 128;
/// A message may be scheduled so far ahead.
pub const SCHEDULE_MAX: Duration = Duration::from_secs(31 * 86_400);
/// Of a name that a submission gives: a pool, a set, a subaccount, a region.
const NAME_OCTETS_MAX: usize = 256;

/// What is submitted.
#[derive(Debug)]
pub struct Offer {
    /// The id, where the submitter needed it before (`Intake::new_id`).
    pub message: Option<MessageId>,
    pub from: Option<Mailbox>,
    pub recipients: Vec<(Mailbox, RecipientParameters)>,
    pub octets: Vec<u8>,
    /// For the trace field: how it was handed over.
    pub protocol: &'static str,
    pub asked: Asked,
    pub stream: Option<StreamId>,
    /// Not before this moment.
    pub send_at: Option<Timestamp>,
    pub tags: Vec<(String, String)>,
    /// None: as the operator's settings say.
    pub tls: Option<TlsWish>,
    pub envid: Option<String>,
    pub ret: Option<Ret>,
    pub smtputf8: bool,
    /// Where the submitter gave an idempotency key (R1.5).
    pub once: Option<Started>,
    /// Its reader is offered an end of its stream (RFC 8058). None: as the configuration set says.
    pub unsubscribe: Option<bool>,
}

/// What a submission names of where it wants to leave from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub region: Option<RegionId>,
    /// By its name or its id.
    pub pool: Option<Arc<str>>,
    pub set: Option<Arc<str>>,
    /// A credential of a subaccount names no other.
    pub subaccount: Option<SubaccountId>,
}

impl Offer {
    #[must_use]
    pub fn from_smtp(submission: Submission) -> Offer {
        let protocol = match (submission.parameters.smtputf8, submission.tls, submission.user.is_some()) {
            (false, false, false) => "ESMTP",
            (false, true, false) => "ESMTPS",
            (false, false, true) => "ESMTPA",
            (false, true, true) => "ESMTPSA",
            (true, false, false) => "UTF8SMTP",
            (true, true, false) => "UTF8SMTPS",
            (true, false, true) => "UTF8SMTPA",
            (true, true, true) => "UTF8SMTPSA",
        };
        Offer {
            protocol,
            envid: submission.parameters.envid,
            ret: submission.parameters.ret,
            smtputf8: submission.parameters.smtputf8,
            ..Offer::plain(submission.from, submission.recipients, submission.body)
        }
    }

    /// That it leaves, and nothing else is asked for.
    #[must_use]
    pub fn plain(from: Option<Mailbox>, recipients: Vec<(Mailbox, RecipientParameters)>, octets: Vec<u8>) -> Offer {
        Offer {
            message: None,
            from,
            recipients,
            octets,
            protocol: "local",
            asked: Asked::default(),
            stream: None,
            send_at: None,
            tags: Vec::new(),
            tls: None,
            envid: None,
            ret: None,
            smtputf8: false,
            once: None,
            unsubscribe: None,
        }
    }
}

/// The message is durable and will be delivered or bounced.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub message: MessageId,
    /// Recipients that nothing is sent to, because they are on the account's list.
    pub suppressed: Vec<String>,
    pub envelope: Arc<Envelope>,
}

/// Where a message would go.
#[derive(Clone, Debug)]
pub struct Preview {
    pub wish: Wish,
    pub route: Route,
    /// Recipients that nothing would be sent to, and why.
    pub suppressed: Vec<(String, Why)>,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub recipients_max: usize,
    pub message_bytes_max: u64,
    pub queue_messages_max: u64,
    /// Octets of messages on their way in, all sessions together.
    pub receiving_bytes_max: u64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    host: String,
    postmaster: Mailbox,
    clock: Clock,
    spool: Spool,
    driver: Driver,
    sealer: Arc<Sealer>,
    links: Arc<Links>,
    badge: Option<Badge>,
    limits: Limits,
    metrics: Arc<Metrics>,
    signers: Signers,
    snapshot: RwLock<Arc<Snapshot>>,
    onces: Onces,
    quotas: Quotas,
    receiving: Arc<Memory>,
}

/// What an admission stands on.
pub struct Setting {
    pub clock: Clock,
    pub spool: Spool,
    pub driver: Driver,
    pub sealer: Arc<Sealer>,
    pub links: Arc<Links>,
    /// None: nothing is taken back.
    pub badge: Option<Badge>,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    pub snapshot: Arc<Snapshot>,
    pub onces: Onces,
    pub quotas: Quotas,
}

impl Intake {
    #[must_use]
    pub fn new(host: &Domain, setting: Setting) -> Intake {
        let postmaster =
            Mailbox::parse(&format!("mailer-daemon@{host}")).expect("a plain name at a domain is an address");
        let Setting { clock, spool, driver, sealer, links, badge, limits, metrics, snapshot, onces, quotas } = setting;
        let receiving = Memory::new(limits.receiving_bytes_max, Some(metrics.receiving_bytes.clone()));
        Intake(Arc::new(Inner {
            host: host.to_string(),
            postmaster,
            clock,
            spool,
            driver,
            sealer,
            links,
            badge,
            limits,
            metrics,
            signers: Signers::default(),
            snapshot: RwLock::new(snapshot),
            onces,
            quotas,
            receiving,
        }))
    }

    /// A fresh id; ids grow with time.
    #[must_use]
    pub fn new_id() -> MessageId {
        MessageId(Uuid::now_v7().as_u128())
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// Whom notices come from.
    #[must_use]
    pub fn postmaster(&self) -> &Mailbox {
        &self.0.postmaster
    }

    /// Messages that wait for some recipient.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.0.spool.queued()
    }

    pub(crate) fn driver(&self) -> &Driver {
        &self.0.driver
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[must_use]
    pub fn quotas(&self) -> &Quotas {
        &self.0.quotas
    }

    #[must_use]
    pub fn onces(&self) -> &Onces {
        &self.0.onces
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    pub fn change_snapshot(&self, snapshot: Arc<Snapshot>) {
        let mut place = self.0.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, snapshot);
        // A table that nobody holds any more takes its time to go; nobody waits for that.
        drop(place);
        drop(old);
    }

    /// The credential that was shown, if it is good here and now.
    pub fn credential(&self, visitor: &Visitor) -> Result<Arc<Credential>, Refusal> {
        visitor.credential(&self.snapshot(), self.now()).cloned()
    }

    /// Whether this visitor may hand in mail at all.
    pub fn may_submit(&self, visitor: &Visitor) -> Result<(), Refusal> {
        visitor.pass(&self.snapshot(), Scope::Send, self.now()).map(|_| ())
    }

    /// R1.4: what a sender may put in MAIL FROM.
    pub fn may_send(&self, visitor: &Visitor, from: Option<&Mailbox>) -> Result<(), Refusal> {
        let snapshot = self.snapshot();
        let pass = visitor.pass(&snapshot, Scope::Send, self.now())?;
        pass.may_submit()?;
        match from {
            Some(from) => sending_domain(pass.account, from).map(|_| ()),
            None => Ok(()),
        }?;
        self.has_room()
    }

    pub fn may_receive(&self, visitor: &Visitor, to: &Mailbox) -> Result<(), Refusal> {
        let snapshot = self.snapshot();
        may_receive(&visitor.pass(&snapshot, Scope::Send, self.now())?, to)
    }

    /// Where a message would go now, or why it would be refused; nothing is sent (R2.7). Who may look need not be allowed to send.
    pub fn preview(
        &self,
        visitor: &Visitor,
        account: Option<&AccountId>,
        from: Option<&Mailbox>,
        to: &[Mailbox],
        asked: Asked,
    ) -> Result<Preview, Refusal> {
        let snapshot = self.snapshot();
        let pass = match account.and_then(|id| snapshot.accounts.get_key_value(id)) {
            Some((id, account)) => Pass { id, account, subaccount: None },
            None => visitor.pass(&snapshot, Scope::Read, self.now())?,
        };
        pass.may_submit()?;
        if let Some(from) = from {
            sending_domain(pass.account, from).map_err(|refusal| refusal.at("from"))?;
        }
        for to in to {
            may_receive(&pass, to)?;
        }
        let (wish, set) = wish_of(&snapshot, &pass, asked)?;
        let reader = to.first().map(|to| reader_of(&to.to_string())).unwrap_or_default();
        let route = route::choose(&snapshot, pass.id, &wish, reader, Intake::new_id()).map_err(|why| no_route(&why))?;
        let (now, stream) = (self.now(), StreamId::new(""));
        let to = to.iter().filter_map(|to| {
            let reason = snapshot.suppressed_for(pass.id, set, &stream, to, now)?;
            Some((to.to_string(), Why::RecipientSuppressed { reason }))
        });
        let suppressed = to.collect();
        Ok(Preview { wish, route, suppressed })
    }

    /// Whether another message may come in now: on the disk, in the queue, and in memory.
    pub fn has_room(&self) -> Result<(), Refusal> {
        match self.0.spool.health() {
            Health::Accepting => {}
            Health::Full { .. } => return Err(no_space()),
            Health::Failing { .. } => return Err(failing()),
        }
        if self.0.spool.queued() >= self.0.limits.queue_messages_max {
            let sentence = format!("The queue is full: queue_messages_max is {}.", self.0.limits.queue_messages_max);
            return Err(Refusal::new(Kind::Busy, "queue_full", (4, 3, 1), sentence, "Try again later."));
        }
        self.0.receiving.has_room()
    }

    /// Keeps count of octets held for a message on its way in.
    #[must_use]
    pub fn receiving(&self) -> Receiving {
        self.0.receiving.receiving()
    }

    pub fn count_refusal(&self, visitor: &Visitor, refusal: &Refusal) {
        self.0.metrics.refused.get_or_create(&Refused { via: visitor.via.name(), code: refusal.code }).inc();
        tracing::info!(
            via = visitor.via.name(),
            account = visitor.account(&self.snapshot()).map(tracing::field::display),
            code = refusal.code,
            "refused: {}",
            refusal.sentence
        );
    }

    /// For the log there is no line of it: who guesses makes thousands.
    pub fn count_failed_sign_in(&self, via: Via, code: &'static str) {
        self.0.metrics.sign_ins_failed.get_or_create(&Refused { via: via.name(), code }).inc();
    }

    /// Takes a message in; when this answers with its id, the message is durable (R1.2).
    pub async fn admit(&self, visitor: &Visitor, offer: Offer) -> Result<Admitted, Refusal> {
        let began_us = self.0.clock.now();
        match self.try_admit(visitor, offer).await {
            Ok(admitted) => {
                let took_us = self.0.clock.now() - began_us;
                self.0.metrics.acknowledge_seconds.observe(took_us as f64 / 1e6);
                self.0.metrics.accepted.get_or_create(&ViaLabel { via: visitor.via.name() }).inc();
                Ok(admitted)
            }
            Err(refusal) => {
                self.count_refusal(visitor, &refusal);
                Err(refusal)
            }
        }
    }

    /// The plan: who; is there room; the message made fit to leave; its sender proven; its route; signed; written down; told.
    async fn try_admit(&self, visitor: &Visitor, mut offer: Offer) -> Result<Admitted, Refusal> {
        let snapshot = self.snapshot();
        let now = self.now();
        let pass = visitor.pass(&snapshot, Scope::Send, now)?;
        // A notice is always let in: the message it is about leaves only when it is, however full the queue, and it goes to the
        // sender, whom the account's own list of recipients says nothing about. The disk itself is asked when it is written.
        if visitor.via != Via::Notice {
            pass.may_submit()?;
            self.has_room()?;
            self.check_size(&offer)?;
            for (to, _) in &offer.recipients {
                may_receive(&pass, to)?;
            }
        }
        let message = offer.message.unwrap_or_else(Intake::new_id);
        let octets = std::mem::take(&mut offer.octets);
        let prepared = self.prepare(octets, offer.protocol, message, now)?;
        let domain = proven(visitor, pass.account, offer.from.as_ref(), &prepared)?;
        let controls = Controls::read(&prepared.removed)?;
        let asked = offer.asked;
        let asked = Asked { pool: asked.pool.or(controls.pool), set: asked.set.or(controls.set), ..asked };
        let (wish, set) = wish_of(&snapshot, &pass, asked)?;
        // R7.2: before anything costs much; given back where nothing comes of it.
        let mut taken = match pass.account.quota_in(&wish.region).filter(|_| visitor.via != Via::Notice) {
            Some(quota) => {
                let counting = offer.recipients.iter().filter(|(to, _)| !is_simulated(to)).count();
                let recipients = (counting, offer.recipients.len() - counting);
                Some(self.0.quotas.take(pass.id, &wish.region, quota, recipients, now).await?)
            }
            None => None,
        };
        // A subaccount's mail takes its turn beside that of the others, as if it were a stream of its own.
        let own_stream =
            || wish.subaccount.as_ref().map_or_else(|| StreamId::new(""), |part| StreamId::new(part.as_str()));
        let named = offer.stream.or(controls.stream);
        let asked_to_end = offer.unsubscribe.or(controls.unsubscribe);
        let unsubscribe = asked_to_end.unwrap_or(set.is_some_and(|set| set.unsubscribe));
        if unsubscribe {
            self.check_unsubscribe(&offer.recipients, named.as_ref(), wish.set.as_deref())?;
        }
        // What a reader can end is never all mail of the account: without a name of its own it is the mail of the set.
        let of_set = || wish.set.as_deref().filter(|_| unsubscribe).map(StreamId::new);
        let stream = named.or_else(of_set).unwrap_or_else(own_stream);
        check_stream(&stream)?;
        let due_at = due_at(offer.send_at.or(controls.send_at), now)?;
        // R2.2: what is named must be there now, also where the route is decided later (R1.6).
        let reader = offer.recipients.first().map(|(to, _)| reader_of(&to.to_string())).unwrap_or_default();
        let route = route::choose(&snapshot, pass.id, &wish, reader, message).map_err(|why| no_route(&why))?;
        let route = (due_at == now).then_some(route);
        let octets = match set.and_then(|set| Some((set.tracking.as_ref()?, wish.set.as_deref()?))) {
            Some((tracking, set)) => {
                let whose = Whose { message, account: pass.id, set, recipients: offer.recipients.len() };
                self.0.links.track(prepared.octets, tracking, &whose)
            }
            None => prepared.octets,
        };
        let bearer = Bearer {
            message,
            account: pass.id,
            set: wish.set.as_deref(),
            stream: &stream,
            signed: domain.filter(|domain| !domain.dkim.is_empty()).map(|domain| &domain.name),
            unsubscribe,
        };
        // A notice goes to a sender of ours, who does not send it back.
        let badge = self.0.badge.as_ref().filter(|_| visitor.via != Via::Notice);
        let octets = match badge {
            Some(badge) => badge.put_on(&octets, &bearer),
            None => octets,
        };
        let signing = badge.and_then(|badge| badge.signing(&bearer));
        let signed = match domain {
            Some(domain) => self.sign(&[Some(domain), signing], octets, now)?,
            None => octets,
        };
        let delivery = &snapshot.delivery;
        let return_path = match (
            &offer.from,
            domain.and_then(|domain| domain.return_path.as_ref()).or(delivery.return_path.as_ref()),
        ) {
            (Some(_), Some(own)) => self.0.sealer.seal(message, own),
            (Some(from), None) => from.to_string(),
            (None, _) => String::new(),
        };
        let suppressed = match visitor.via {
            Via::Notice => Vec::new(),
            _ => take_suppressed(&snapshot, &pass, set, &stream, &mut offer.recipients, now),
        };
        if let Some(taken) = &mut taken {
            taken.give_back(suppressed.iter().filter(|(to, _)| simulated(to).is_none()).count());
        }
        let recipients = offer
            .recipients
            .into_iter()
            .map(|(to, parameters)| Recipient {
                address: to.to_string(),
                domain: to.domain().clone(),
                notify: parameters.notify,
                orcpt: parameters.orcpt,
            })
            .collect();
        let lifetime = set.and_then(|set| set.lifetime).unwrap_or(delivery.lifetime);
        // R5.1: a message may ask for more than its set, and never for less.
        let tls = offer.tls.or(controls.tls).max(set.and_then(|set| set.tls)).unwrap_or(delivery.tls);
        let envelope = Arc::new(Envelope {
            message,
            account: pass.id.clone(),
            stream,
            wish,
            route,
            sender: offer.from.map(|from| from.to_string()),
            sender_domain: domain.map(|domain| domain.name.clone()),
            return_path,
            recipients,
            accepted_at: now,
            due_at,
            expires_at: due_at + lifetime,
            tls,
            size: u32::try_from(signed.len()).unwrap_or(u32::MAX),
            message_id_header: prepared.message_id,
            tags: offer.tags,
            envid: offer.envid,
            ret: offer.ret,
            smtputf8: offer.smtputf8,
            once: offer.once.as_ref().map(Started::once),
        });
        // A task of its own: whoever submits may be gone before the disk answers, and a message that is durable must be known to
        // the engine all the same.
        let (intake, kept, once) = (self.clone(), envelope.clone(), offer.once);
        let entries: Vec<Entry> = suppressed.iter().map(|(to, why)| suppressed_entry(&envelope, to, why)).collect();
        let keeping = tokio::spawn(async move {
            intake.keep(&kept, signed, entries).await?;
            if let Some(taken) = taken {
                taken.kept();
            }
            if let Some(started) = once {
                started.done(kept.message, kept.accepted_at);
            }
            if kept.recipients.is_empty() {
                // Nobody is left to send it to; that it was accepted is known.
                intake.0.spool.remove(kept.message.0, Vec::new());
            } else {
                intake.0.driver.accepted(kept, None);
            }
            Ok(())
        });
        keeping.await.unwrap_or_else(|_| Err(failing()))?;
        let suppressed = suppressed.into_iter().map(|(to, _)| to).collect();
        Ok(Admitted { message, suppressed, envelope })
    }

    fn check_size(&self, offer: &Offer) -> Result<(), Refusal> {
        let limits = &self.0.limits;
        if offer.octets.len() as u64 > limits.message_bytes_max {
            return Err(Refusal::new(
                Kind::TooLarge,
                "message_too_large",
                (5, 3, 4),
                format!(
                    "The message has {} octets; at most {} are taken.",
                    offer.octets.len(),
                    limits.message_bytes_max
                ),
                "Send large files as links.",
            ));
        }
        if offer.recipients.is_empty() || offer.recipients.len() > limits.recipients_max {
            return Err(Refusal::new(
                Kind::Invalid,
                "recipients_count",
                (5, 5, 3),
                format!(
                    "A message needs 1 to {} recipients; this one has {}.",
                    limits.recipients_max,
                    offer.recipients.len()
                ),
                "Split it.",
            )
            .at("to"));
        }
        Ok(())
    }

    fn prepare(
        &self,
        octets: Vec<u8>,
        protocol: &str,
        message: MessageId,
        now: Timestamp,
    ) -> Result<Prepared, Refusal> {
        let date_unix = now.0.div_euclid(1_000_000);
        // The submitter's address stays out of the trace: recipients have no business with it.
        let trace = format!("by {} with {} id {}; {}", self.0.host, protocol, message, mail::encode::date(date_unix));
        let preparing = Preparing {
            date_unix,
            message_id: format!("<{}@{}>", message, self.0.host),
            remove: CONTROL_FIELDS,
            trace: Some(trace),
        };
        let prepared = prepare(octets, &preparing).map_err(|error| unfit(&error))?;
        // RFC 5321 6.3: what has been handed on this often goes in circles.
        if prepared.hops > HOPS_MAX {
            return Err(Refusal::new(
                Kind::Invalid,
                "mail_loop",
                (5, 4, 6),
                format!("The message has been handed on {} times: it goes in circles.", prepared.hops),
                "Look for two systems that forward to each other.",
            ));
        }
        Ok(prepared)
    }

    /// A link or address that ends a stream is of one recipient.
    fn check_unsubscribe(
        &self,
        recipients: &[(Mailbox, RecipientParameters)],
        stream: Option<&StreamId>,
        set: Option<&str>,
    ) -> Result<(), Refusal> {
        let (code, sentence, mend) = if self.0.badge.is_none() {
            (
                "unsubscribe_unavailable",
                "Readers cannot end a stream here: this installation takes nothing back.",
                "Ask its operator for a [returns] section, or leave unsubscribe out.",
            )
        } else if stream.map_or(set.unwrap_or_default(), StreamId::as_str).is_empty() {
            (
                "unsubscribe_stream",
                "It is not said which stream of mail its reader can end.",
                "Name a stream or a configuration set, such as “newsletter”.",
            )
        } else if recipients.len() > 1 {
            (
                "unsubscribe_recipients",
                "A message that its reader can unsubscribe by has one recipient, so that it is known who does.",
                "Send one message to each recipient, or leave unsubscribe out.",
            )
        } else {
            return Ok(());
        };
        Err(Refusal::new(Kind::Invalid, code, (5, 6, 0), sentence, mend).at("unsubscribe"))
    }

    fn sign(
        &self,
        domains: &[Option<&Arc<SendingDomain>>],
        octets: Vec<u8>,
        now: Timestamp,
    ) -> Result<Vec<u8>, Refusal> {
        let signers: Vec<_> = domains.iter().flatten().map(|domain| self.0.signers.of(domain)).collect();
        let signers: Vec<&Signer> = signers.iter().flat_map(|signers| signers.iter()).collect();
        if signers.is_empty() {
            return Ok(octets);
        }
        let mut signed = dkim::sign(&signers, &octets, now.0.div_euclid(1_000_000)).map_err(|error| {
            let domain = domains.iter().flatten().next().map(|domain| domain.name.to_string());
            tracing::error!(domain, %error, "a message could not be signed");
            Refusal::new(
                Kind::Unavailable,
                "signing_failed",
                (4, 3, 0),
                "The message could not be signed.",
                "Try again later.",
            )
        })?;
        signed.extend_from_slice(&octets);
        Ok(signed)
    }

    async fn keep(&self, envelope: &Arc<Envelope>, octets: Vec<u8>, mut entries: Vec<Entry>) -> Result<(), Refusal> {
        entries.insert(0, Entry::of_acceptance(envelope));
        let events = record::write_entries(envelope.message, &entries);
        let head = record::write_envelope(envelope);
        self.0.spool.put(envelope.message.0, head, Bytes::from(octets), events).await.map_err(|fault| match fault {
            PutFault::Full { .. } => no_space(),
            PutFault::Busy => Refusal::new(
                Kind::Busy,
                "too_much_at_once",
                (4, 3, 1),
                "More mail is coming in than the disk takes at this moment.",
                "Try again in a moment.",
            ),
            PutFault::TooLarge { octets, octets_max } => Refusal::new(
                Kind::TooLarge,
                "message_too_large",
                (5, 3, 4),
                format!("The message has {octets} octets; at most {octets_max} are kept."),
                "Send large files as links.",
            ),
            PutFault::Failing { .. } | PutFault::Closed | PutFault::Taken => failing(),
        })
    }
}

/// Memory for messages on their way in, counted for all of a door's sessions together.
pub struct Memory {
    held: AtomicU64,
    bytes_max: u64,
    gauge: Option<Gauge>,
}

impl Memory {
    #[must_use]
    pub fn new(bytes_max: u64, gauge: Option<Gauge>) -> Arc<Memory> {
        Arc::new(Memory { held: AtomicU64::new(0), bytes_max, gauge })
    }

    /// Keeps count of octets held for a message on its way in.
    #[must_use]
    pub fn receiving(self: &Arc<Memory>) -> Receiving {
        Receiving { memory: self.clone(), octets: 0 }
    }

    pub fn has_room(&self) -> Result<(), Refusal> {
        if self.held.load(Ordering::Relaxed) > self.bytes_max { Err(self.too_much()) } else { Ok(()) }
    }

    fn too_much(&self) -> Refusal {
        let sentence = format!("Too much mail is coming in at this moment: receiving_bytes_max is {}.", self.bytes_max);
        Refusal::new(Kind::Busy, "too_much_at_once", (4, 3, 1), sentence, "Try again in a moment.")
    }

    fn tell(&self, total: u64) {
        if let Some(gauge) = &self.gauge {
            gauge.set(i64::try_from(total).unwrap_or(i64::MAX));
        }
    }
}

/// Octets held for a message on its way in; given back when it is dropped.
pub struct Receiving {
    memory: Arc<Memory>,
    octets: u64,
}

impl Receiving {
    /// So many are held now; an error says that there is no memory for them.
    pub fn hold(&mut self, octets: u64) -> Result<(), Refusal> {
        let held = &self.memory.held;
        let grows = octets > self.octets;
        let total = if octets >= self.octets {
            held.fetch_add(octets - self.octets, Ordering::Relaxed) + (octets - self.octets)
        } else {
            held.fetch_sub(self.octets - octets, Ordering::Relaxed) - (self.octets - octets)
        };
        self.octets = octets;
        self.memory.tell(total);
        // A message that has begun may finish a little above the limit; what is far above is cut off. Who holds no more than before
        // has no part in it, and is told with its own mail.
        if grows && total > self.memory.bytes_max.saturating_mul(5) / 4 { Err(self.memory.too_much()) } else { Ok(()) }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let total = self.memory.held.fetch_sub(self.octets, Ordering::Relaxed) - self.octets;
        self.memory.tell(total);
    }
}

/// R1.4: every From address, and the return address, is one that this account has shown to be its own. The first domain that covers one
/// signs; a single address that was verified has no domain, and so no key.
fn proven<'a>(
    visitor: &Visitor,
    account: &'a Account,
    from: Option<&Mailbox>,
    prepared: &Prepared,
) -> Result<Option<&'a Arc<SendingDomain>>, Refusal> {
    if visitor.via == Via::Notice {
        return Ok(prepared.from.first().and_then(|from| account.sending_domain(from.domain())));
    }
    if let Some(from) = from {
        sending_domain(account, from)?;
    }
    let mut first = None;
    for mailbox in &prepared.from {
        let domain = sending_domain(account, mailbox).map_err(|refusal| refusal.at("from"))?;
        first = first.or(domain);
    }
    Ok(first)
}

fn is_simulated(to: &Mailbox) -> bool {
    simulated_at(to.local(), to.domain().as_str()).is_some()
}

fn may_receive(pass: &Pass<'_>, to: &Mailbox) -> Result<(), Refusal> {
    // Nothing of it leaves, whoever writes.
    if is_simulated(to) {
        return Ok(());
    }
    let account = pass.account;
    // R7.1
    if account.standing == Standing::Sandbox
        && account.sending_domain(to.domain()).is_none()
        && !account.owns_address(to)
    {
        return Err(Refusal::new(
            Kind::Forbidden,
            "sandbox_recipient",
            (5, 7, 1),
            format!("The account {} is in the sandbox and has not verified {to}.", pass.id),
            "Verify the address or its domain, try things out with success@simulator.invalid and its like, or ask by a case to leave the \
             sandbox.",
        )
        .at("to"));
    }
    if account.recipients.is_empty() || account.recipients.iter().any(|pattern| pattern.covers(to.domain())) {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::Forbidden,
        "recipient_not_allowed",
        (5, 7, 1),
        format!("This account may not send to {to}."),
        "Its operator allows only certain recipient domains.",
    ))
}

/// R5.5: those that the account writes to no more are taken out before anything is queued for them.
fn take_suppressed(
    snapshot: &Snapshot,
    pass: &Pass<'_>,
    set: Option<&ConfigurationSet>,
    stream: &StreamId,
    recipients: &mut Vec<(Mailbox, RecipientParameters)>,
    now: Timestamp,
) -> Vec<(String, Why)> {
    let mut taken = Vec::new();
    recipients.retain(|(to, _)| match snapshot.suppressed_for(pass.id, set, stream, to, now) {
        Some(reason) => {
            taken.push((to.to_string(), Why::RecipientSuppressed { reason }));
            false
        }
        None => true,
    });
    taken
}

fn suppressed_entry(envelope: &Envelope, to: &str, why: &Why) -> Entry {
    let event = Event {
        message: Some(envelope.message),
        account: Some(envelope.account.clone()),
        why: Some(why.clone()),
        ..Event::new(envelope.accepted_at, EventKind::Suppressed)
    };
    Entry { address: Some(to.to_owned()), ..Entry::plain(event) }
}

/// What a submission wishes, as this visitor may wish it; and its configuration set.
fn wish_of<'a>(
    snapshot: &Snapshot,
    pass: &Pass<'a>,
    asked: Asked,
) -> Result<(Wish, Option<&'a ConfigurationSet>), Refusal> {
    let account = pass.account;
    let names = [
        ("pool", asked.pool.as_deref()),
        ("configuration_set", asked.set.as_deref()),
        ("subaccount", asked.subaccount.as_ref().map(SubaccountId::as_str)),
        ("region", asked.region.as_ref().map(RegionId::as_str)),
    ];
    for (field, name) in names.into_iter().filter_map(|(field, name)| Some((field, name?))) {
        check_name(field, name)?;
    }
    let subaccount = match (pass.subaccount, asked.subaccount) {
        (Some(own), Some(named)) if *own != named => {
            return Err(Refusal::new(
                Kind::Forbidden,
                "subaccount_not_yours",
                (5, 7, 1),
                format!("The credential is for the subaccount {own} alone."),
                format!("Leave {named} out, or use a credential of the whole account."),
            )
            .at("subaccount"));
        }
        (Some(own), _) => Some(own.clone()),
        (None, Some(named)) => {
            pass.may_submit_for(&named)?;
            Some(named)
        }
        (None, None) => None,
    };
    let set = match &asked.set {
        None => None,
        Some(name) => match account.sets.get(name) {
            Some(set) if set.sending == Sending::On => Some(set),
            Some(_) => return Err(sending_off("configuration set", name).at("configuration_set")),
            None => {
                return Err(Refusal::new(
                    Kind::NotFound,
                    "configuration_set_unknown",
                    (5, 7, 1),
                    format!("The configuration set {name} does not exist."),
                    "Send without a configuration set, or name one that exists.",
                )
                .at("configuration_set"));
            }
        },
    };
    let region = match asked.region {
        None => snapshot.region.clone(),
        Some(region) if region == snapshot.region || snapshot.shared.contains_key(&region) => region,
        Some(region) if account.pools.contains_key(&region) || account.default_pools.contains_key(&region) => region,
        Some(region) => {
            let sentence = format!("There is no region {region}.");
            let mend = "Name one that exists, or none.";
            return Err(Refusal::new(Kind::NotFound, "region_unknown", (5, 7, 1), sentence, mend).at("region"));
        }
    };
    Ok((Wish { region, pool: asked.pool, set: asked.set, subaccount }, set))
}

fn check_name(field: &str, name: &str) -> Result<(), Refusal> {
    if name.len() <= NAME_OCTETS_MAX && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let sentence = format!("A name has at most {NAME_OCTETS_MAX} octets and no control characters.");
    Err(Refusal::new(Kind::Invalid, "name_invalid", (5, 6, 0), sentence, "Name one that exists.").at(field))
}

/// The moment a message is scheduled for; none where it leaves at once.
pub fn check_schedule(asked: Option<Timestamp>, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    Ok(Some(due_at(asked, now)?).filter(|due| *due > now))
}

/// When a message is due. What is past is due now: a clock that runs late has no say in whether a message leaves.
fn due_at(asked: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Refusal> {
    let due = asked.map_or(now, |asked| asked.max(now));
    if due.since(now) <= SCHEDULE_MAX {
        return Ok(due);
    }
    let days = SCHEDULE_MAX.as_secs() / 86_400;
    let sentence = format!("The message is scheduled for {due}; at most {days} days ahead are possible.");
    let mend = "Hand it in nearer to its time.";
    Err(Refusal::new(Kind::Invalid, "send_at_too_far", (5, 6, 0), sentence, mend).at("send_at"))
}

/// What control fields of the header ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Controls {
    pool: Option<Arc<str>>,
    set: Option<Arc<str>>,
    stream: Option<StreamId>,
    send_at: Option<Timestamp>,
    tls: Option<TlsWish>,
    unsubscribe: Option<bool>,
}

impl Controls {
    /// R1.3
    fn read(removed: &[(String, String)]) -> Result<Controls, Refusal> {
        let mut controls = Controls::default();
        for (name, value) in removed {
            let value = value.trim();
            if name.eq_ignore_ascii_case("X-MSYS-API") {
                controls.pool = pool_of_msys(value)?.or(controls.pool);
            } else if name.eq_ignore_ascii_case("X-Weir-Pool") {
                controls.pool = Some(value.into());
            } else if name.eq_ignore_ascii_case("X-SES-CONFIGURATION-SET") {
                controls.set = Some(value.into());
            } else if name.eq_ignore_ascii_case("X-Weir-Stream") {
                controls.stream = Some(StreamId::new(value));
            } else if name.eq_ignore_ascii_case("X-Weir-Send-At") {
                controls.send_at = Some(send_at_of(value)?);
            } else if name.eq_ignore_ascii_case("X-Weir-TLS") {
                controls.tls = Some(tls_of(value)?);
            } else if name.eq_ignore_ascii_case("X-Weir-Unsubscribe") {
                controls.unsubscribe = Some(unsubscribe_of(value)?);
            }
        }
        Ok(controls)
    }
}

fn send_at_of(value: &str) -> Result<Timestamp, Refusal> {
    value.parse::<Timestamp>().map_err(|error| {
        Refusal::new(
            Kind::Invalid,
            "control_header_invalid",
            (5, 6, 0),
            format!("The header X-Weir-Send-At says “{value}”, {error}."),
            "Write it as 2026-11-21T10:00:00Z.",
        )
        .at("X-Weir-Send-At")
    })
}

/// R1.3: `{"options":{"ip_pool":"…"}}`.
fn pool_of_msys(value: &str) -> Result<Option<Arc<str>>, Refusal> {
    let unreadable = |what: &str| {
        Refusal::new(
            Kind::Invalid,
            "control_header_invalid",
            (5, 6, 0),
            format!("The header X-MSYS-API cannot be read: {what}."),
            "It holds one JSON object, such as {\"options\":{\"ip_pool\":\"name\"}}.",
        )
        .at("X-MSYS-API")
    };
    let value: serde_json::Value = serde_json::from_str(value).map_err(|error| unreadable(&error.to_string()))?;
    match value.pointer("/options/ip_pool") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(pool)) => Ok(Some(pool.as_str().into())),
        Some(_) => Err(unreadable("options.ip_pool is not a string")),
    }
}

fn tls_of(value: &str) -> Result<TlsWish, Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "required" => Ok(TlsWish::Required),
        "if-offered" => Ok(TlsWish::IfOffered),
        _ => Err(Refusal::new(
            Kind::Invalid,
            "control_header_invalid",
            (5, 6, 0),
            format!("The header X-Weir-TLS says “{value}”."),
            "It may say required or if-offered.",
        )
        .at("X-Weir-TLS")),
    }
}

fn unsubscribe_of(value: &str) -> Result<bool, Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(Refusal::new(
            Kind::Invalid,
            "control_header_invalid",
            (5, 6, 0),
            format!("The header X-Weir-Unsubscribe says “{value}”."),
            "It may say yes or no.",
        )
        .at("X-Weir-Unsubscribe")),
    }
}

/// The account's own domain that covers this address; none where it is verified alone, or the account may use any.
fn sending_domain<'a>(account: &'a Account, mailbox: &Mailbox) -> Result<Option<&'a Arc<SendingDomain>>, Refusal> {
    if let Some(domain) = account.sending_domain(mailbox.domain()) {
        return Ok(Some(domain));
    }
    if account.senders == Senders::Any || account.owns_address(mailbox) {
        return Ok(None);
    }
    Err(Refusal::new(
        Kind::Forbidden,
        "sender_not_verified",
        (5, 7, 1),
        format!("The identity {mailbox} is not verified for this account."),
        format!("Verify the domain {}, or send from one that is.", mailbox.domain()),
    ))
}

fn unfit(error: &MessageError) -> Refusal {
    Refusal::new(Kind::Invalid, "message_invalid", error.enhanced(), error.to_string(), "").at("raw")
}

/// A stream's name stays in memory for as long as mail of it is queued, and in every listing.
fn check_stream(stream: &StreamId) -> Result<(), Refusal> {
    let name = stream.as_str();
    if name.len() <= STREAM_OCTETS_MAX && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let sentence = format!("A stream's name has at most {STREAM_OCTETS_MAX} octets and no control characters.");
    Err(Refusal::new(Kind::Invalid, "stream_invalid", (5, 6, 0), sentence, "Choose a shorter, plain name.")
        .at("stream"))
}

fn no_route(why: &Why) -> Refusal {
    let words = why.words();
    let kind = if matches!(why, Why::PoolUnknown { .. }) { Kind::NotFound } else { Kind::Forbidden };
    let (code, mend) = match why {
        Why::PoolUnknown { .. } => ("pool_unknown", "Name one of the account's own pools, by its name or its id."),
        Why::PoolEmpty { .. } => ("pool_empty", "Move an IP into it, or name another pool."),
        Why::NoDedicatedIp => {
            ("no_dedicated_ip", "Name a pool that has an IP, or lease one into the account's default pool.")
        }
        _ => ("no_pool", "Name a pool that has an IP, or ask the operator for one."),
    };
    Refusal::new(kind, code, (5, 7, 1), format!("No route: {words}."), mend).at("pool")
}

/// How long a submitter should wait before trying again.
pub const RETRY_AFTER: Duration = Duration::from_secs(30);

fn no_space() -> Refusal {
    Refusal::new(
        Kind::Unavailable,
        "spool_full",
        (4, 3, 1),
        "There is no room to keep the message safe.",
        "Try again later.",
    )
}

fn failing() -> Refusal {
    Refusal::new(
        Kind::Unavailable,
        "spool_failing",
        (4, 3, 0),
        "The message cannot be kept safe right now.",
        "Try again later.",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Controls, SCHEDULE_MAX, STREAM_OCTETS_MAX, check_stream, due_at};
    use engine::envelope::TlsWish;
    use engine::id::StreamId;
    use engine::time::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_stream_has_a_name_of_bounded_length() {
        let refused = |name: &str| check_stream(&StreamId::new(name)).is_err();
        assert!(!refused("") && !refused("password resets") && !refused(&"x".repeat(STREAM_OCTETS_MAX)));
        assert!(refused(&"x".repeat(STREAM_OCTETS_MAX + 1)) && refused("a\nb"));
    }

    // R1.3
    #[test]
    fn the_header_says_where_when_and_how() {
        let fields = [
            ("x-msys-api", r#"{"options":{"ip_pool":"news"}}"#),
            ("X-SES-CONFIGURATION-SET", " letters "),
            ("X-Weir-Stream", "weekly"),
            ("X-Weir-Send-At", "2027-01-15T08:00:00Z"),
            ("X-Weir-TLS", "required"),
            ("X-Weir-Unsubscribe", "Yes"),
            ("X-SES-MESSAGE-TAGS", "a=b"),
        ];
        let fields: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let read = Controls::read(&fields).unwrap();
        let expected = Controls {
            pool: Some("news".into()),
            set: Some("letters".into()),
            stream: Some(StreamId::new("weekly")),
            send_at: Some(Timestamp::from_unix_seconds(1_800_000_000)),
            tls: Some(TlsWish::Required),
            unsubscribe: Some(true),
        };
        assert_eq!(read, expected);
        for (name, value) in [
            ("X-Weir-Unsubscribe", "perhaps"),
            ("X-MSYS-API", "{"),
            ("X-Weir-Send-At", "tomorrow"),
            ("X-Weir-TLS", "maybe"),
        ] {
            let refusal = Controls::read(&[(name.to_owned(), value.to_owned())]).unwrap_err();
            assert_eq!((refusal.code, refusal.field.as_deref()), ("control_header_invalid", Some(name)));
        }
    }

    // R1.6
    #[test]
    fn a_message_is_scheduled_within_a_month() {
        let now = Timestamp(1_800_000_000_000_000);
        assert_eq!(due_at(None, now).unwrap(), now);
        assert_eq!(due_at(Some(now - Duration::from_secs(60)), now).unwrap(), now);
        assert_eq!(due_at(Some(now + SCHEDULE_MAX), now).unwrap(), now + SCHEDULE_MAX);
        assert_eq!(due_at(Some(now + SCHEDULE_MAX + Duration::from_secs(1)), now).unwrap_err().code, "send_at_too_far");
    }
}
