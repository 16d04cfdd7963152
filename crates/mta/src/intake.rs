//! May this message come in, and how does it become one that is never lost?
//!
//! The one admission of all surfaces (R1.1): the same checks, the same route, the same event, whether it came by SMTP, HTTP or
//! the command line. `admit` answers only when the message is durable.

use crate::driver::Driver;
use crate::metrics::{Metrics, Refused, Via as ViaLabel};
use crate::record::{self, Entry};
use crate::refusal::{Kind, Refusal};
use crate::return_path::Sealer;
use crate::sign::Signers;
use aws_lc_rs::{constant_time, digest};
use bytes::Bytes;
use engine::envelope::{Envelope, Recipient, TlsWish};
use engine::id::{AccountId, MessageId, PoolId, StreamId};
use engine::route;
use engine::snapshot::{Account, Credential, CredentialKind, Senders, SendingDomain, Snapshot};
use engine::time::Timestamp;
use engine::why::Why;
use mail::address::{Domain, Mailbox};
use mail::dkim;
use mail::message::{HOPS_MAX, MessageError, Prepared, Preparing, prepare};
use mail::smtp::command::{RecipientParameters, Ret};
use mail::smtp::server::Submission;
use net::clock::Clock;
use spool::{Health, PutFault, Spool};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use uuid::Uuid;

/// Header fields that are for us and not for the recipient (R1.3); they never leave.
const CONTROL_FIELDS: &[&str] = &["X-MSYS-API", "X-SES-*", "X-Weir-*"];

/// By which way a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Smtp,
    Http,
    /// Written by this service itself: notices to senders.
    Notice,
}

impl Via {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Via::Smtp => "smtp",
            Via::Http => "http",
            Via::Notice => "notice",
        }
    }
}

/// Who submits.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub account: Option<AccountId>,
    pub user: Option<String>,
    pub via: Via,
}

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
    pub pool: Option<PoolId>,
    pub stream: Option<StreamId>,
    pub tags: Vec<(String, String)>,
    /// None: as the operator's settings say.
    pub tls: Option<TlsWish>,
    pub envid: Option<String>,
    pub ret: Option<Ret>,
    pub smtputf8: bool,
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
            message: None,
            from: submission.from,
            recipients: submission.recipients,
            octets: submission.body,
            protocol,
            pool: None,
            stream: None,
            tags: Vec::new(),
            tls: None,
            envid: submission.parameters.envid,
            ret: submission.parameters.ret,
            smtputf8: submission.parameters.smtputf8,
        }
    }
}

/// The message is durable and will be delivered or bounced.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub message: MessageId,
    pub envelope: Arc<Envelope>,
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
    sealer: Sealer,
    limits: Limits,
    metrics: Arc<Metrics>,
    known: RwLock<Known>,
    receiving: AtomicU64,
}

/// What an admission stands on.
pub struct Setting {
    pub clock: Clock,
    pub spool: Spool,
    pub driver: Driver,
    pub sealer: Sealer,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    pub snapshot: Arc<Snapshot>,
}

/// The snapshot and what is made of it.
#[derive(Clone)]
struct Known {
    snapshot: Arc<Snapshot>,
    signers: Arc<Signers>,
}

impl Intake {
    #[must_use]
    pub fn new(host: &Domain, setting: Setting) -> Intake {
        let postmaster =
            Mailbox::parse(&format!("mailer-daemon@{host}")).expect("a plain name at a domain is an address");
        let Setting { clock, spool, driver, sealer, limits, metrics, snapshot } = setting;
        Intake(Arc::new(Inner {
            host: host.to_string(),
            postmaster,
            clock,
            spool,
            driver,
            sealer,
            limits,
            metrics,
            known: RwLock::new(known(snapshot)),
            receiving: AtomicU64::new(0),
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

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.known().snapshot
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    pub fn change_snapshot(&self, snapshot: Arc<Snapshot>) {
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = known(snapshot);
    }

    fn known(&self) -> Known {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn sign_in(&self, user: &str, password: &str) -> Result<AccountId, Refusal> {
        let known = self.known();
        let fits = |credential: &&Credential| matches!(&credential.kind, CredentialKind::Password { user: own } if own == user);
        let refused = || {
            Refusal::new(
                Kind::Unknown,
                "credentials_invalid",
                (5, 7, 8),
                "The user name or the password is wrong.",
                "Check both, or ask the operator for new ones.",
            )
        };
        let shown = digest::digest(&digest::SHA256, password.as_bytes());
        let credential = known.snapshot.credentials.iter().find(fits).ok_or_else(refused)?;
        same(&credential.digest, &shown).then(|| credential.account.clone()).ok_or_else(refused)
    }

    /// The account whose HTTP key this is.
    #[must_use]
    pub fn account_of_key(&self, key: &str) -> Option<AccountId> {
        let known = self.known();
        let keys = known.snapshot.credentials.iter().filter(|credential| credential.kind == CredentialKind::Key);
        let shown = digest::digest(&digest::SHA256, key.as_bytes());
        // Every key is looked at, whichever fits: the time taken says nothing.
        keys.filter(|credential| same(&credential.digest, &shown))
            .map(|credential| credential.account.clone())
            .next_back()
    }

    /// R1.4: what a sender may put in MAIL FROM.
    pub fn may_send(&self, visitor: &Visitor, from: Option<&Mailbox>) -> Result<(), Refusal> {
        let known = self.known();
        let (id, account) = account_of(&known.snapshot, visitor)?;
        match from {
            Some(from) => sending_domain(&known.snapshot, id, account, from).map(|_| ()),
            None => Ok(()),
        }?;
        self.has_room()
    }

    pub fn may_receive(&self, visitor: &Visitor, to: &Mailbox) -> Result<(), Refusal> {
        let known = self.known();
        let (_, account) = account_of(&known.snapshot, visitor)?;
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
        if self.0.receiving.load(Ordering::Relaxed) > self.0.limits.receiving_bytes_max {
            return Err(self.too_much());
        }
        Ok(())
    }

    fn too_much(&self) -> Refusal {
        let max = self.0.limits.receiving_bytes_max;
        let sentence = format!("Too much mail is coming in at this moment: receiving_bytes_max is {max}.");
        Refusal::new(Kind::Busy, "too_much_at_once", (4, 3, 1), sentence, "Try again in a moment.")
    }

    /// Keeps count of octets held for a message on its way in.
    #[must_use]
    pub fn receiving(&self) -> Receiving {
        Receiving { intake: self.clone(), octets: 0 }
    }

    pub fn count_refusal(&self, visitor: &Visitor, refusal: &Refusal) {
        self.0.metrics.refused.get_or_create(&Refused { via: visitor.via.name(), code: refusal.code }).inc();
        tracing::info!(
            via = visitor.via.name(),
            account = visitor.account.as_ref().map(tracing::field::display),
            code = refusal.code,
            "refused: {}",
            refusal.sentence
        );
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
        let known = self.known();
        let (account_id, account) = account_of(&known.snapshot, visitor)?;
        // A notice is always let in: the message it is about leaves only when it is, however full the queue, and it goes to the
        // sender, whom the account's own list of recipients says nothing about. The disk itself is asked when it is written.
        if visitor.via != Via::Notice {
            self.has_room()?;
            self.check_size(&offer)?;
            for (to, _) in &offer.recipients {
                self.may_receive(visitor, to)?;
            }
        }
        let now = self.now();
        let message = offer.message.unwrap_or_else(Intake::new_id);
        let octets = std::mem::take(&mut offer.octets);
        let prepared = self.prepare(octets, offer.protocol, message, now)?;
        let domain = self.proven(&known, visitor, account_id, account, offer.from.as_ref(), &prepared)?;
        let controls = Controls::read(&prepared.removed)?;
        let named = offer.pool.or(controls.pool);
        let route =
            route::choose(&known.snapshot, account_id, named.as_ref(), message).map_err(|why| no_route(&why))?;
        let signed = match domain {
            Some(domain) => sign(&known.signers, domain, prepared.octets, now)?,
            None => prepared.octets,
        };
        let delivery = &known.snapshot.delivery;
        let return_path = match (
            &offer.from,
            domain.and_then(|domain| domain.return_path.as_ref()).or(delivery.return_path.as_ref()),
        ) {
            (Some(_), Some(own)) => self.0.sealer.seal(message, own),
            (Some(from), None) => from.to_string(),
            (None, _) => String::new(),
        };
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
        let envelope = Arc::new(Envelope {
            message,
            account: account_id.clone(),
            stream: offer.stream.or(controls.stream).unwrap_or_else(|| StreamId::new("")),
            route,
            sender: offer.from.map(|from| from.to_string()),
            sender_domain: domain.map(|domain| domain.name.clone()),
            return_path,
            recipients,
            accepted_at: now,
            due_at: now,
            expires_at: now + delivery.lifetime,
            tls: offer.tls.or(controls.tls).unwrap_or(delivery.tls),
            size: u32::try_from(signed.len()).unwrap_or(u32::MAX),
            message_id_header: prepared.message_id,
            tags: offer.tags,
            envid: offer.envid,
            ret: offer.ret,
            smtputf8: offer.smtputf8,
        });
        // A task of its own: whoever submits may be gone before the disk answers, and a message that is durable must be known to
        // the engine all the same.
        let (intake, kept) = (self.clone(), envelope.clone());
        let keeping = tokio::spawn(async move {
            intake.keep(&kept, signed).await?;
            intake.0.driver.accepted(kept, None);
            Ok(())
        });
        keeping.await.unwrap_or_else(|_| Err(failing()))?;
        Ok(Admitted { message, envelope })
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

    /// R1.4: every From address, and the return address, is of a domain this account has shown to be its own.
    fn proven<'a>(
        &self,
        known: &'a Known,
        visitor: &Visitor,
        id: &AccountId,
        account: &Account,
        from: Option<&Mailbox>,
        prepared: &Prepared,
    ) -> Result<Option<&'a SendingDomain>, Refusal> {
        if visitor.via == Via::Notice {
            return Ok(from_domain(&known.snapshot, id, prepared.from.first()));
        }
        if let Some(from) = from {
            sending_domain(&known.snapshot, id, account, from)?;
        }
        let mut first = None;
        for mailbox in &prepared.from {
            let domain = sending_domain(&known.snapshot, id, account, mailbox).map_err(|refusal| refusal.at("from"))?;
            first = first.or(domain);
        }
        Ok(first)
    }

    async fn keep(&self, envelope: &Arc<Envelope>, octets: Vec<u8>) -> Result<(), Refusal> {
        let entries = [Entry::of_acceptance(envelope)];
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

/// Octets held for a message on its way in; given back when it is dropped.
pub struct Receiving {
    intake: Intake,
    octets: u64,
}

impl Receiving {
    /// So many are held now; an error says that there is no memory for them.
    pub fn hold(&mut self, octets: u64) -> Result<(), Refusal> {
        let gauge = &self.intake.0.receiving;
        let total = if octets >= self.octets {
            gauge.fetch_add(octets - self.octets, Ordering::Relaxed) + (octets - self.octets)
        } else {
            gauge.fetch_sub(self.octets - octets, Ordering::Relaxed) - (self.octets - octets)
        };
        self.octets = octets;
        self.intake.0.metrics.receiving_bytes.set(i64::try_from(total).unwrap_or(i64::MAX));
        // A message that has begun may finish a little above the limit; what is far above is cut off.
        if total > self.intake.0.limits.receiving_bytes_max.saturating_mul(5) / 4 {
            Err(self.intake.too_much())
        } else {
            Ok(())
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let total = self.intake.0.receiving.fetch_sub(self.octets, Ordering::Relaxed) - self.octets;
        self.intake.0.metrics.receiving_bytes.set(i64::try_from(total).unwrap_or(i64::MAX));
    }
}

/// What control fields of the header ask for.
struct Controls {
    pool: Option<PoolId>,
    stream: Option<StreamId>,
    tls: Option<TlsWish>,
}

impl Controls {
    fn read(removed: &[(String, String)]) -> Result<Controls, Refusal> {
        let mut controls = Controls { pool: None, stream: None, tls: None };
        for (name, value) in removed {
            let value = value.trim();
            if name.eq_ignore_ascii_case("X-MSYS-API") {
                controls.pool = pool_of_msys(value)?.or(controls.pool);
            } else if name.eq_ignore_ascii_case("X-Weir-Pool") {
                controls.pool = Some(PoolId::new(value));
            } else if name.eq_ignore_ascii_case("X-Weir-Stream") {
                controls.stream = Some(StreamId::new(value));
            } else if name.eq_ignore_ascii_case("X-Weir-TLS") {
                controls.tls = Some(tls_of(value)?);
            } else if name.eq_ignore_ascii_case("X-SES-CONFIGURATION-SET") {
                return Err(Refusal::new(
                    Kind::NotFound,
                    "configuration_set_unknown",
                    (5, 7, 1),
                    format!("The configuration set {value} does not exist."),
                    "Send without the header X-SES-CONFIGURATION-SET, or name one that exists.",
                )
                .at("X-SES-CONFIGURATION-SET"));
            }
        }
        Ok(controls)
    }
}

/// R1.3: `{"options":{"ip_pool":"…"}}`.
fn pool_of_msys(value: &str) -> Result<Option<PoolId>, Refusal> {
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
        Some(serde_json::Value::String(pool)) => Ok(Some(PoolId::new(pool))),
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

fn known(snapshot: Arc<Snapshot>) -> Known {
    let (signers, faults) = Signers::of(&snapshot);
    for fault in faults {
        tracing::error!(domain = %fault.domain, selector = %fault.selector, "{fault}");
    }
    Known { snapshot, signers: Arc::new(signers) }
}

fn same(digest: &[u8; 32], shown: &digest::Digest) -> bool {
    constant_time::verify_slices_are_equal(shown.as_ref(), digest).is_ok()
}

fn account_of<'a>(snapshot: &'a Snapshot, visitor: &Visitor) -> Result<(&'a AccountId, &'a Account), Refusal> {
    visitor.account.as_ref().and_then(|id| snapshot.accounts.get_key_value(id)).ok_or_else(|| {
        Refusal::new(
            Kind::Unknown,
            "sign_in_first",
            (5, 7, 0),
            "Nobody is signed in.",
            "Sign in with a credential of an account.",
        )
    })
}

/// The account's own domain that covers this address; none where the account may use any.
fn sending_domain<'a>(
    snapshot: &'a Snapshot,
    id: &AccountId,
    account: &Account,
    mailbox: &Mailbox,
) -> Result<Option<&'a SendingDomain>, Refusal> {
    match (snapshot.sending_domain(id, mailbox.domain()), account.senders) {
        (Some(domain), _) => Ok(Some(domain)),
        (None, Senders::Any) => Ok(None),
        (None, Senders::Verified) => Err(Refusal::new(
            Kind::Forbidden,
            "sender_not_verified",
            (5, 7, 1),
            format!("The identity {mailbox} is not verified for this account."),
            format!("Verify the domain {}, or send from one that is.", mailbox.domain()),
        )),
    }
}

fn from_domain<'a>(snapshot: &'a Snapshot, id: &AccountId, from: Option<&Mailbox>) -> Option<&'a SendingDomain> {
    snapshot.sending_domain(id, from?.domain())
}

fn sign(signers: &Signers, domain: &SendingDomain, octets: Vec<u8>, now: Timestamp) -> Result<Vec<u8>, Refusal> {
    let signers = signers.for_domain(domain);
    if signers.is_empty() {
        return Ok(octets);
    }
    let mut signed = dkim::sign(&signers, &octets, now.0.div_euclid(1_000_000)).map_err(|error| {
        tracing::error!(domain = %domain.name, %error, "a message could not be signed");
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

fn unfit(error: &MessageError) -> Refusal {
    Refusal::new(Kind::Invalid, "message_invalid", error.enhanced(), error.to_string(), "").at("raw")
}

fn no_route(why: &Why) -> Refusal {
    let words = why.words();
    let kind = if matches!(why, Why::PoolUnknown { .. }) { Kind::NotFound } else { Kind::Forbidden };
    let code = match why {
        Why::PoolUnknown { .. } => "pool_unknown",
        Why::PoolEmpty { .. } => "pool_empty",
        _ => "no_pool",
    };
    let mend = "Name a pool that has an IP, or give the account's default pool one.";
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
