//! Who is told of events as they happen, where, and how far? (R6.1)
//!
//! A webhook is a place in the archive: whoever is not there for a day costs no more than that number. What is sent, taken and
//! answered is written down beside the events; what it is, beside its account.

use crate::account;
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::block::{Kept, Wanted};
use crate::id::{self, Secret};
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::seal::random;
use crate::store::{Change, Columns, number, q, row, rows, run, run_unless};
use crate::subaccount;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::event::EventKind;
use engine::posting::{Answer, Next, Paused, Trouble, next};
use engine::time::Timestamp;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::sync::Arc;
use std::time::Duration;

/// Each is a task and now and then a connection.
const WEBHOOKS_MAX: i64 = 50;
const URL_LETTERS_MAX: usize = 2_048;
/// Events of one batch: more makes requests that targets refuse.
pub const EVENTS_MAX: i64 = 1_000;
const EVENTS_DEFAULT: i64 = 250;
/// How long a batch may wait to become full.
const WAIT_MS_MAX: i64 = 60_000;
/// Standard Webhooks: 24 to 64 octets.
const SECRET_OCTETS: usize = 32;
const SECRET_PREFIX: &str = "whsec_";
/// Secrets of one webhook that are good at one time.
const SECRETS_MAX: i64 = 4;
const OVERLAP_DEFAULT: Duration = Duration::from_secs(86_400);
const OVERLAP_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Deliveries that are told of: the last of each webhook, for a week.
const DELIVERIES_MAX: i64 = 500;
const DELIVERIES_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Those that are too many are looked for after so much of what is sent, because to look costs as much as to send.
const TRIMMED_SHARE: f64 = 1.0 / 16.0;
/// Who sends has this long, and then another process may; what is taken gives as much again.
const CLAIMED_FOR: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub id: String,
    pub account: String,
    pub subaccount: Option<String>,
    pub name: String,
    pub url: String,
    /// Empty: all kinds.
    pub kinds: Vec<EventKind>,
    pub events_max: i64,
    pub wait_ms: i64,
    /// None: it is sent to.
    pub paused: Option<Paused>,
    pub revision: i64,
    pub created_at: Timestamp,
}

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// When the first event that was not taken yet was kept; none: everything was.
    pub waiting_since: Option<Timestamp>,
    pub failing_since: Option<Timestamp>,
    pub failures: u32,
    pub next_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct NewWebhook {
    pub name: String,
    pub url: String,
    pub subaccount: Option<String>,
    pub kinds: Vec<EventKind>,
    pub events_max: Option<i64>,
    pub wait_ms: Option<i64>,
}

#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    pub name: Option<String>,
    pub url: Option<String>,
    pub kinds: Option<Vec<EventKind>>,
    pub events_max: Option<i64>,
    pub wait_ms: Option<i64>,
    pub is_paused: Option<bool>,
    pub revision: Option<i64>,
}

/// One try, as it is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub id: i64,
    pub at: Timestamp,
    /// `webhook-id`: the same whenever these events are sent again.
    pub batch: String,
    pub events: i64,
    pub is_taken: bool,
    pub status: Option<i64>,
    /// What became of it, in words.
    pub words: String,
    pub took_ms: i64,
    /// The beginning of what was sent.
    pub request: String,
    /// The beginning of what was answered.
    pub answer: String,
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct Batch {
    pub webhook: Webhook,
    /// Those that are good now; the newest first.
    pub secrets: Vec<Vec<u8>>,
    pub events: Vec<Arc<Kept>>,
    /// Where it goes on when all of it is taken.
    pub end: i64,
    /// Where it stood when this was read: who asks for a replay meanwhile has the last word.
    position: i64,
    trouble: Trouble,
}

impl Batch {
    /// So many of its events and no more.
    pub fn cut(&mut self, events: usize) {
        if events < self.events.len() {
            self.events.truncate(events);
            self.end = self.events.last().map_or(self.end, |kept| kept.number + 1);
        }
    }

    /// Names these events for this webhook.
    #[must_use]
    pub fn id(&self) -> String {
        let number = |kept: Option<&Arc<Kept>>| kept.map_or(0, |kept| kept.number);
        format!("{}_{}_{}", self.webhook.id, number(self.events.first()), number(self.events.last()))
    }

    #[must_use]
    pub fn failures(&self) -> u32 {
        self.trouble.failures
    }
}

/// What is to be done for a webhook at this moment.
#[derive(Debug)]
pub enum Turn {
    Send(Box<Batch>),
    WaitUntil(Timestamp),
    /// Nothing for it before this number.
    Idle(i64),
    /// It is paused or gone.
    Over,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct Sent {
    pub answer: Answer,
    pub status: Option<u16>,
    pub words: String,
    pub took: Duration,
    pub request: String,
    pub answered: String,
}

macro_rules! columns {
    () => {
        "id, account, subaccount, name, url, kinds, events_max, wait_ms, paused, revision, created_at"
    };
}

fn read(row: &AnyRow) -> Result<Webhook, Refusal> {
    let kinds = row.text(5)?;
    Ok(Webhook {
        id: row.text(0)?,
        account: row.text(1)?,
        subaccount: row.text_or_none(2)?,
        name: row.text(3)?,
        url: row.text(4)?,
        kinds: kinds.split(' ').filter_map(EventKind::of).collect(),
        events_max: row.whole(6)?,
        wait_ms: row.whole(7)?,
        paused: row.text_or_none(8)?.and_then(|code| Paused::of(&code)),
        revision: row.whole(9)?,
        created_at: Timestamp(row.whole(10)?),
    })
}

fn joined(kinds: &[EventKind]) -> String {
    kinds.iter().map(|kind| kind.code()).collect::<Vec<_>>().join(" ")
}

fn told(webhook: &Webhook) -> Value {
    json!({
        "name": webhook.name, "url": webhook.url, "kinds": joined(&webhook.kinds), "events_max": webhook.events_max,
        "wait_ms": webhook.wait_ms, "paused": webhook.paused.map(Paused::code),
    })
}

impl Webhook {
    fn line(&self, action: &'static str, detail: Value) -> Line<'_> {
        Line { subject: Subject::Webhook, id: &self.id, account: Some(&self.account), action, detail }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            account: Some(self.account.clone()),
            subaccount: self.subaccount.clone(),
            kinds: self.kinds.clone(),
            ..Wanted::default()
        }
    }
}

fn url(text: &str) -> Result<String, Refusal> {
    let wrong = |sentence: &str| Refusal::invalid("target", sentence, "Write it as https://example.com/events.");
    let text = text.trim();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.ok_or_else(|| wrong("An address begins with https:// or http://."))?;
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') {
        return Err(wrong("An address names a host, and no user."));
    }
    if text.len() > URL_LETTERS_MAX || text.contains('#') || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(wrong("An address is of plain letters without blanks, and has no part after #."));
    }
    Ok(text.to_owned())
}

fn within(field: &str, given: i64, from: i64, to: i64) -> Result<i64, Refusal> {
    if (from..=to).contains(&given) {
        return Ok(given);
    }
    Err(Refusal::invalid(field, format!("{field} is from {from} to {to}."), "Give a whole number in that range."))
}

/// Another account's is not there.
async fn own(conn: &mut AnyConnection, account: &str, called: &str) -> Result<Webhook, Refusal> {
    let query = q!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM webhook WHERE account = $1 AND (id = $2 OR name = $2) ORDER BY id LIMIT 1"
        ),
        account.to_owned(),
        called.to_owned(),
    );
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("webhook", called)),
    }
}

fn name_taken(name: &str) -> Refusal {
    let sentence = format!("There is a webhook {name} already.");
    Refusal::conflict("name_taken", sentence, "Choose another name.").at("name")
}

impl Office {
    /// With its secret, which is shown once. It hears of what happens from now on.
    pub async fn create_webhook(
        &self,
        by: &Actor,
        account: &str,
        new: NewWebhook,
    ) -> Result<(Webhook, Secret), Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_read).await?;
        let part = match &new.subaccount {
            Some(called) => Some(subaccount::own(change.conn(), &account.id, called).await?.id),
            None => by.subaccount().map(|part| part.as_str().to_owned()),
        };
        by.may_manage_part(&account.id, part.as_deref())?;
        let count = q!("SELECT COUNT(*) FROM webhook WHERE account = $1", account.id.clone());
        if number(change.conn(), count).await? >= WEBHOOKS_MAX {
            let sentence = format!("The account has {WEBHOOKS_MAX} webhooks, which is as many as it may have.");
            return Err(Refusal::conflict("webhooks_max", sentence, "Delete one that is not used."));
        }
        let webhook = Webhook {
            id: id::fresh("wh"),
            account: account.id.clone(),
            subaccount: part,
            name: name::label(&new.name)?,
            url: url(&new.url)?,
            kinds: new.kinds,
            events_max: within("events_max", new.events_max.unwrap_or(EVENTS_DEFAULT), 1, EVENTS_MAX)?,
            wait_ms: within("wait_ms", new.wait_ms.unwrap_or(0), 0, WAIT_MS_MAX)?,
            paused: None,
            revision: 1,
            created_at: now,
        };
        let insert = q!(
            concat!("INSERT INTO webhook (", columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, 1, $9)"),
            webhook.id.clone(),
            webhook.account.clone(),
            webhook.subaccount.clone(),
            webhook.name.clone(),
            webhook.url.clone(),
            joined(&webhook.kinds),
            webhook.events_max,
            webhook.wait_ms,
            now.0,
        );
        run_unless(change.conn(), insert, || name_taken(&webhook.name)).await?;
        let secret = self.add_webhook_secret(&mut change, &webhook.id, now).await?;
        audit::write(&mut change, by, now, webhook.line("created", told(&webhook))).await?;
        // Its place first: one that no webhook has costs nothing.
        let end = self.archive().look_for_end().await?;
        self.set_place_of(&webhook.id, end).await?;
        change.commit().await?;
        Ok((webhook, secret))
    }

    async fn add_webhook_secret(&self, change: &mut Change, webhook: &str, now: Timestamp) -> Result<Secret, Refusal> {
        let place = id::fresh("sec");
        let octets = random::<SECRET_OCTETS>()?;
        let insert = q!(
            "INSERT INTO webhook_secret (id, webhook, sealed, created_at, ends_at) VALUES ($1, $2, $3, $4, NULL)",
            place.clone(),
            webhook.to_owned(),
            self.sealer().seal(&place, &octets)?,
            now.0,
        );
        run(change.conn(), insert).await?;
        Ok(Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(octets))))
    }

    /// Where a webhook goes on, with nothing tried before.
    async fn set_place_of(&self, webhook: &str, position: i64) -> Result<(), Refusal> {
        let mut change = self.archive().store().change().await?;
        let put = q!(
            "INSERT INTO webhook_place (webhook, position, failures, next_at, claimed_until, claimed_by) \
             VALUES ($1, $2, 0, 0, 0, '') ON CONFLICT (webhook) DO UPDATE SET position = excluded.position, \
             pending = NULL, failing_since = NULL, failures = 0, next_at = 0",
            webhook.to_owned(),
            position,
        );
        run(change.conn(), put).await?;
        change.commit().await
    }

    pub async fn webhooks(&self, by: &Actor, account: &str, window: &Window) -> Result<Page<Webhook>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let part = by.subaccount().map(|part| part.as_str().to_owned());
        let query = q!(
            concat!(
                "SELECT ",
                columns!(),
                " FROM webhook WHERE account = $1 AND id > $2 AND ($3 = '' OR subaccount = $3) ORDER BY id LIMIT $4"
            ),
            account.id,
            window.after_text(),
            part.unwrap_or_default(),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |webhook| webhook.id.clone()))
    }

    pub async fn webhook(&self, by: &Actor, account: &str, called: &str) -> Result<(Webhook, Progress), Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let webhook = seen(&mut conn, by, &account.id, called).await?;
        drop(conn);
        let mut conn = self.archive().store().read().await?;
        let Some(place) = place_of(&mut conn, &webhook.id).await? else { return Ok((webhook, Progress::default())) };
        drop(conn);
        let first = self.archive().read_on(&webhook.wanted(), place.position, 1).await?;
        let progress = Progress {
            waiting_since: first.events.first().map(|kept| kept.event.at),
            failing_since: place.trouble.since,
            failures: place.trouble.failures,
            next_at: place.trouble.since.map(|_| place.next_at),
        };
        Ok((webhook, progress))
    }

    pub async fn change_webhook(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        to: WebhookChange,
    ) -> Result<Webhook, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_read).await?;
        let was = seen(change.conn(), by, &account.id, called).await?;
        by.may_manage_part(&account.id, was.subaccount.as_deref())?;
        account::must_be_seen("webhook", to.revision, was.revision)?;
        let mut is = was.clone();
        if let Some(name) = &to.name {
            is.name = name::label(name)?;
        }
        if let Some(text) = &to.url {
            is.url = url(text)?;
        }
        if let Some(kinds) = to.kinds {
            is.kinds = kinds;
        }
        if let Some(events_max) = to.events_max {
            is.events_max = within("events_max", events_max, 1, EVENTS_MAX)?;
        }
        if let Some(wait_ms) = to.wait_ms {
            is.wait_ms = within("wait_ms", wait_ms, 0, WAIT_MS_MAX)?;
        }
        match to.is_paused {
            Some(true) => is.paused = is.paused.or(Some(Paused::ByItsOwner)),
            Some(false) => is.paused = None,
            None => {}
        }
        if is == was {
            return Ok(was);
        }
        self.write_webhook(&mut change, by, &was, &mut is, "changed").await?;
        if is.paused.is_none() && (was.paused.is_some() || was.url != is.url) {
            // What was to be tried later is tried now.
            self.try_now(&is.id).await?;
        }
        change.commit().await?;
        Ok(is)
    }

    async fn write_webhook(
        &self,
        change: &mut Change,
        by: &Actor,
        was: &Webhook,
        is: &mut Webhook,
        action: &'static str,
    ) -> Result<(), Refusal> {
        is.revision += 1;
        let update = q!(
            "UPDATE webhook SET name = $2, url = $3, kinds = $4, events_max = $5, wait_ms = $6, paused = $7, \
             revision = $8 WHERE id = $1",
            is.id.clone(),
            is.name.clone(),
            is.url.clone(),
            joined(&is.kinds),
            is.events_max,
            is.wait_ms,
            is.paused.map(Paused::code),
            is.revision,
        );
        run_unless(change.conn(), update, || name_taken(&is.name)).await?;
        let detail = json!({ "was": told(was), "is": told(is) });
        audit::write(change, by, self.now(), is.line(action, detail)).await
    }

    async fn try_now(&self, webhook: &str) -> Result<(), Refusal> {
        let mut change = self.archive().store().change().await?;
        let update = q!(
            "UPDATE webhook_place SET failing_since = NULL, failures = 0, next_at = 0 WHERE webhook = $1",
            webhook.to_owned(),
        );
        run(change.conn(), update).await?;
        change.commit().await
    }

    pub async fn delete_webhook(&self, by: &Actor, account: &str, called: &str) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_read).await?;
        let webhook = seen(change.conn(), by, &account.id, called).await?;
        by.may_manage_part(&account.id, webhook.subaccount.as_deref())?;
        run(change.conn(), q!("DELETE FROM webhook_secret WHERE webhook = $1", webhook.id.clone())).await?;
        run(change.conn(), q!("DELETE FROM webhook WHERE id = $1", webhook.id.clone())).await?;
        audit::write(&mut change, by, self.now(), webhook.line("deleted", told(&webhook))).await?;
        change.commit().await?;
        let mut change = self.archive().store().change().await?;
        run(change.conn(), q!("DELETE FROM webhook_place WHERE webhook = $1", webhook.id.clone())).await?;
        run(change.conn(), q!("DELETE FROM webhook_delivery WHERE webhook = $1", webhook.id.clone())).await?;
        change.commit().await
    }

    /// A new secret, shown once; for the overlap, what is sent is signed with those before it too.
    pub async fn rotate_webhook(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        overlap: Option<Duration>,
    ) -> Result<(Webhook, Secret), Refusal> {
        let overlap = overlap.unwrap_or(OVERLAP_DEFAULT);
        if overlap > OVERLAP_MAX {
            let sentence = format!("Secrets overlap for at most {} days.", OVERLAP_MAX.as_secs() / 86_400);
            return Err(Refusal::invalid(
                "overlap_s",
                sentence,
                "Choose a shorter overlap, and rotate again if need be.",
            ));
        }
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_read).await?;
        let was = seen(change.conn(), by, &account.id, called).await?;
        by.may_manage_part(&account.id, was.subaccount.as_deref())?;
        let gone = q!("DELETE FROM webhook_secret WHERE webhook = $1 AND ends_at <= $2", was.id.clone(), now.0);
        run(change.conn(), gone).await?;
        let count = q!("SELECT COUNT(*) FROM webhook_secret WHERE webhook = $1", was.id.clone());
        if !overlap.is_zero() && number(change.conn(), count).await? >= SECRETS_MAX {
            let sentence = format!("{SECRETS_MAX} secrets of this webhook are good already.");
            let mend = "Wait until one of them ends, or rotate without overlap to end all of them now.";
            return Err(Refusal::conflict("secrets_max", sentence, mend));
        }
        let end = q!(
            "UPDATE webhook_secret SET ends_at = $2 WHERE webhook = $1 AND (ends_at IS NULL OR ends_at > $2)",
            was.id.clone(),
            (now + overlap).0,
        );
        run(change.conn(), end).await?;
        let secret = self.add_webhook_secret(&mut change, &was.id, now).await?;
        let mut is = was.clone();
        self.write_webhook(&mut change, by, &was, &mut is, "rotated").await?;
        change.commit().await?;
        Ok((is, secret))
    }

    /// Sends again what has happened since this moment, as far as it is kept; and goes on from there.
    pub async fn replay_webhook(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        from: Timestamp,
    ) -> Result<Webhook, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_read).await?;
        let was = seen(change.conn(), by, &account.id, called).await?;
        by.may_manage_part(&account.id, was.subaccount.as_deref())?;
        if from > self.now() {
            return Err(Refusal::invalid("from", "This time is still to come.", "Choose one that is past."));
        }
        let place = self.archive().number_at(from).await?;
        let mut is = Webhook { paused: None, ..was.clone() };
        self.write_webhook(&mut change, by, &was, &mut is, "replayed").await?;
        self.set_place_of(&is.id, place).await?;
        change.commit().await?;
        Ok(is)
    }

    /// What was tried, newest first.
    pub async fn webhook_deliveries(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        window: &Window,
    ) -> Result<Page<Delivery>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let webhook = seen(&mut conn, by, &account.id, called).await?;
        drop(conn);
        let mut conn = self.archive().store().read().await?;
        let before = window.after.as_ref().and_then(|after| after.parse::<i64>().ok()).unwrap_or(i64::MAX);
        let query = q!(
            "SELECT id, at, batch, events, taken, status, words, took_ms, request, answer FROM webhook_delivery \
             WHERE webhook = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            webhook.id,
            before,
            window.fetch(),
        );
        let read = |row: &AnyRow| {
            Ok(Delivery {
                id: row.whole(0)?,
                at: Timestamp(row.whole(1)?),
                batch: row.text(2)?,
                events: row.whole(3)?,
                is_taken: row.yes(4)?,
                status: row.whole_or_none(5)?,
                words: row.text(6)?,
                took_ms: row.whole(7)?,
                request: row.text(8)?,
                answer: row.text(9)?,
            })
        };
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, Refusal>>()?;
        Ok(Page::of(found, window, |delivery| delivery.id.to_string()))
    }

    /// Whose it is.
    pub async fn account_of_webhook(&self, id: &str) -> Result<String, Refusal> {
        let mut conn = self.store().read().await?;
        let found = row(&mut conn, q!("SELECT account FROM webhook WHERE id = $1", id.to_owned())).await?;
        found.ok_or_else(|| Refusal::not_found("webhook", id))?.text(0)
    }

    /// Those that are to be sent to: id and revision.
    pub async fn webhooks_running(&self) -> Result<Vec<(String, i64)>, Refusal> {
        let mut conn = self.store().read().await?;
        let found = rows(&mut conn, q!("SELECT id, revision FROM webhook WHERE paused IS NULL")).await?;
        found.iter().map(|row| Ok((row.text(0)?, row.whole(1)?))).collect()
    }

    /// What is to be done for this webhook now. Nothing for it is before the number that an earlier turn said.
    pub async fn webhook_turn(&self, id: &str, me: &str, nothing_before: i64) -> Result<Turn, Refusal> {
        let now = self.now();
        let mut conn = self.store().read().await?;
        let query = q!(concat!("SELECT ", columns!(), " FROM webhook WHERE id = $1"), id.to_owned());
        let Some(webhook) = row(&mut conn, query).await?.map(|row| read(&row)).transpose()? else {
            return Ok(Turn::Over);
        };
        if webhook.paused.is_some() {
            return Ok(Turn::Over);
        }
        let query = q!(
            "SELECT id, sealed FROM webhook_secret WHERE webhook = $1 AND (ends_at IS NULL OR ends_at > $2) \
             ORDER BY created_at DESC, id DESC",
            id.to_owned(),
            now.0,
        );
        let mut secrets = Vec::new();
        for row in rows(&mut conn, query).await? {
            secrets.push(self.sealer().open(&row.text(0)?, &row.octets(1)?)?);
        }
        drop(conn);
        let mut conn = self.archive().store().read().await?;
        let Some(place) = place_of(&mut conn, id).await? else { return Ok(Turn::Over) };
        drop(conn);
        if place.next_at > now {
            return Ok(Turn::WaitUntil(place.next_at));
        }
        let limit = usize::try_from(webhook.events_max).unwrap_or(1);
        let from = place.position.max(nothing_before);
        let read = self.archive().read_on(&webhook.wanted(), from, limit).await?;
        let (mut events, mut end) = (read.events, read.next);
        if events.is_empty() {
            return Ok(Turn::Idle(read.next));
        }
        // What was tried before is tried again as it was: the same name for the same events.
        if let Some(pending) = place.pending {
            events.retain(|kept| kept.number < pending);
            end = end.min(pending);
        }
        if events.is_empty() {
            self.set_place_of(id, end).await?;
            return Ok(Turn::Idle(end));
        }
        let is_claimed = place.claimed_by == me && place.claimed_until > now + CLAIMED_FOR / 2;
        if !is_claimed && !self.claim_webhook(id, me, now).await? {
            return Ok(Turn::WaitUntil(now + CLAIMED_FOR / 10));
        }
        let position = place.position;
        Ok(Turn::Send(Box::new(Batch { webhook, secrets, events, end, position, trouble: place.trouble })))
    }

    /// Whether it is for this process to send; not while another one does.
    async fn claim_webhook(&self, id: &str, me: &str, now: Timestamp) -> Result<bool, Refusal> {
        let mut change = self.archive().store().change().await?;
        let claim = q!(
            "UPDATE webhook_place SET claimed_until = $2, claimed_by = $3 WHERE webhook = $1 AND \
             (claimed_until < $4 OR claimed_by = $3)",
            id.to_owned(),
            (now + CLAIMED_FOR).0,
            me.to_owned(),
            now.0,
        );
        let is_mine = run(change.conn(), claim).await? == 1;
        change.commit().await?;
        Ok(is_mine)
    }

    /// Writes down what became of a batch, and what comes next.
    pub async fn webhook_sent(&self, batch: &Batch, sent: &Sent, chance: f64) -> Result<(), Refusal> {
        let now = self.now();
        let id = batch.webhook.id.clone();
        let mut change = self.archive().store().change().await?;
        let next = next(sent.answer, batch.trouble, now, chance);
        let update = match next {
            Next::GoOn => q!(
                "UPDATE webhook_place SET position = $2, pending = NULL, failing_since = NULL, failures = 0, next_at = 0, \
                 claimed_until = $4 WHERE webhook = $1 AND position = $3",
                id.clone(),
                batch.end,
                batch.position,
                (now + CLAIMED_FOR).0,
            ),
            Next::TryAgain { at, trouble } => q!(
                "UPDATE webhook_place SET pending = $2, failing_since = $3, failures = $4, next_at = $5 \
                 WHERE webhook = $1 AND position = $6",
                id.clone(),
                batch.end,
                trouble.since.map(|since| since.0),
                i64::from(trouble.failures),
                at.0,
                batch.position,
            ),
            Next::Pause(_) => q!("UPDATE webhook_place SET pending = $2 WHERE webhook = $1", id.clone(), batch.end),
        };
        run(change.conn(), update).await?;
        let insert = q!(
            "INSERT INTO webhook_delivery (webhook, at, batch, events, taken, status, words, took_ms, request, answer) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            id.clone(),
            now.0,
            batch.id(),
            i64::try_from(batch.events.len()).unwrap_or(i64::MAX),
            i64::from(sent.answer == Answer::Taken),
            sent.status.map(i64::from),
            sent.words.clone(),
            i64::try_from(sent.took.as_millis()).unwrap_or(i64::MAX),
            sent.request.replace('\0', ""),
            sent.answered.replace('\0', ""),
        );
        run(change.conn(), insert).await?;
        if chance < TRIMMED_SHARE {
            let old = q!(
                "DELETE FROM webhook_delivery WHERE webhook = $1 AND id <= (SELECT d.id FROM webhook_delivery d \
             WHERE d.webhook = $1 ORDER BY d.id DESC LIMIT 1 OFFSET $2)",
                id.clone(),
                DELIVERIES_MAX,
            );
            run(change.conn(), old).await?;
        }
        if next != Next::GoOn {
            let let_go = q!("UPDATE webhook_place SET claimed_until = 0 WHERE webhook = $1", id.clone());
            run(change.conn(), let_go).await?;
        }
        change.commit().await?;
        match next {
            Next::Pause(why) => self.pause_webhook(&id, why).await,
            Next::GoOn | Next::TryAgain { .. } => Ok(()),
        }
    }

    async fn pause_webhook(&self, id: &str, why: Paused) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let query = q!(concat!("SELECT ", columns!(), " FROM webhook WHERE id = $1"), id.to_owned());
        let Some(was) = row(change.conn(), query).await?.map(|row| read(&row)).transpose()? else { return Ok(()) };
        let mut is = Webhook { paused: Some(why), ..was.clone() };
        self.write_webhook(&mut change, &Actor::service(), &was, &mut is, "paused").await?;
        change.commit().await?;
        tracing::warn!(webhook = %id, account = %is.account, url = %is.url, "a webhook is paused: {}", why.words());
        Ok(())
    }

    /// Deliveries that are older than is told of go.
    pub async fn tidy_webhooks(&self) -> Result<(), Refusal> {
        let mut change = self.archive().store().change().await?;
        let gone = q!("DELETE FROM webhook_delivery WHERE at < $1", (self.now() - DELIVERIES_KEPT).0);
        run(change.conn(), gone).await?;
        change.commit().await
    }
}

/// A subaccount's credential sees its own alone.
async fn seen(conn: &mut AnyConnection, by: &Actor, account: &str, called: &str) -> Result<Webhook, Refusal> {
    let webhook = own(conn, account, called).await?;
    match by.subaccount() {
        Some(part) if webhook.subaccount.as_deref() != Some(part.as_str()) => {
            Err(Refusal::not_found("webhook", called))
        }
        _ => Ok(webhook),
    }
}

struct Place {
    position: i64,
    pending: Option<i64>,
    trouble: Trouble,
    next_at: Timestamp,
    claimed_until: Timestamp,
    claimed_by: String,
}

async fn place_of(conn: &mut AnyConnection, webhook: &str) -> Result<Option<Place>, Refusal> {
    let query = q!(
        "SELECT position, pending, failing_since, failures, next_at, claimed_until, claimed_by FROM webhook_place \
         WHERE webhook = $1",
        webhook.to_owned(),
    );
    let Some(row) = row(conn, query).await? else { return Ok(None) };
    let trouble = Trouble {
        since: row.whole_or_none(2)?.map(Timestamp),
        failures: u32::try_from(row.whole(3)?).unwrap_or(u32::MAX),
    };
    Ok(Some(Place {
        position: row.whole(0)?,
        pending: row.whole_or_none(1)?,
        trouble,
        next_at: Timestamp(row.whole(4)?),
        claimed_until: Timestamp(row.whole(5)?),
        claimed_by: row.text(6)?,
    }))
}
