//! To whom does an account send nothing any more, and why? (R5.5)
//!
//! An entry is of an account, for all its mail or for one stream. Each change of the list has a number, which grows by one; the data
//! plane is told by these numbers, also of what was taken off and of what another process did. Where an address is only in doubt is
//! kept beside the list.

use crate::account;
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::seal::{KeepFault, Sealer, random, write_new};
use crate::store::{Change, Columns, Engine, number, q, row, rows, run};
use engine::doubt::{Doubt, DoubtKind, Evidence};
use engine::event::Event;
use engine::id::MessageId;
use engine::simulator::simulated;
use engine::suppression::{Listed, Place, Reason, Suppressed, canonical};
use engine::time::Timestamp;
use engine::why::Why;
use mail::address::{Domain, Mailbox};
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Entries that one call may put on the list.
pub const BATCH_MAX: usize = 1_000;
const DETAIL_LETTERS_MAX: usize = 1_000;
const STREAM_OCTETS_MAX: usize = 128;
/// Changes read at once.
const FEED_BATCH: i64 = 10_000;
/// How long it is remembered what was taken off; who has not listened for longer reads the whole list.
const REMOVED_FOR: Duration = Duration::from_secs(14 * 86_400);
/// Entries whose time is over, taken off in one go.
const TIDY_BATCH: i64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    pub account: String,
    pub address: String,
    /// None: all its mail.
    pub stream: Option<String>,
    pub reason: Reason,
    /// The message that showed it.
    pub message: Option<String>,
    /// What was said, or why it was put there.
    pub detail: Option<String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// What a caller says of an entry.
#[derive(Clone, Debug)]
pub struct NewSuppression {
    pub address: String,
    pub stream: Option<String>,
    pub reason: Reason,
    pub detail: Option<String>,
    pub created_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
}

/// Which entries of a list are meant.
#[derive(Clone, Debug, Default)]
pub struct Narrowed {
    pub reason: Option<Reason>,
    /// All at this domain.
    pub domain: Option<String>,
    /// All that begin with this.
    pub begins: Option<String>,
    /// Put there at or after this moment.
    pub from: Option<Timestamp>,
    /// And before this one.
    pub until: Option<Timestamp>,
}

/// What became of a batch: how many are on the list now, and what was wrong with the others, by their place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub put: usize,
    pub wrong: Vec<(usize, String)>,
}

macro_rules! columns {
    () => {
        "account, address, stream, reason, message, detail, created_at, expires_at"
    };
}

fn read(row: &AnyRow) -> Result<Suppression, Refusal> {
    Ok(Suppression {
        account: row.text(0)?,
        address: row.text(1)?,
        stream: Some(row.text(2)?).filter(|stream| !stream.is_empty()),
        reason: Reason::of(&row.text(3)?).unwrap_or(Reason::Manual),
        message: row.text_or_none(4)?,
        detail: row.text_or_none(5)?,
        created_at: Timestamp(row.whole(6)?),
        expires_at: row.whole_or_none(7)?.map(Timestamp),
    })
}

/// In its canonical form, with its domain.
fn parsed(address: &str) -> Result<(String, String), Refusal> {
    let mailbox = Mailbox::parse(address.trim()).map_err(|error| {
        Refusal::invalid("address", format!("“{address}” is no address: {error}."), "Write it as name@example.com.")
    })?;
    Ok((canonical(&mailbox), mailbox.domain().to_string()))
}

fn checked(new: &NewSuppression) -> Result<(), Refusal> {
    let is_plain = |text: &String, max| text.chars().count() <= max && !text.chars().any(char::is_control);
    if !new.stream.as_ref().is_none_or(|stream| !stream.is_empty() && is_plain(stream, STREAM_OCTETS_MAX)) {
        let sentence = format!("A stream's name has 1 to {STREAM_OCTETS_MAX} characters and no control characters.");
        return Err(Refusal::invalid("stream", sentence, "Leave it out for all mail of the account."));
    }
    if !new.detail.as_ref().is_none_or(|detail| is_plain(detail, DETAIL_LETTERS_MAX)) {
        let sentence = format!("A detail has at most {DETAIL_LETTERS_MAX} characters and no control characters.");
        return Err(Refusal::invalid("detail", sentence, "Say it in fewer words."));
    }
    Ok(())
}

/// Numbers for so many changes; the first of them.
async fn numbers(change: &mut Change, count: usize) -> Result<i64, Refusal> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let take = q!("UPDATE suppression_number SET number = number + $1 WHERE only_one = 1 RETURNING number", count);
    Ok(number(change.conn(), take).await? - count + 1)
}

async fn put(change: &mut Change, serial: i64, entry: &Suppression, domain: &str) -> Result<(), Refusal> {
    let insert = q!(
        "INSERT INTO suppressed (account, address, stream, domain, reason, message, detail, created_at, expires_at, number) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (account, address, stream) DO UPDATE SET \
         reason = excluded.reason, message = excluded.message, detail = excluded.detail, created_at = excluded.created_at, \
         expires_at = excluded.expires_at, number = excluded.number",
        entry.account.clone(),
        entry.address.clone(),
        entry.stream.clone().unwrap_or_default(),
        domain.to_owned(),
        entry.reason.code(),
        entry.message.clone(),
        entry.detail.clone(),
        entry.created_at.0,
        entry.expires_at.map(|at| at.0),
        serial,
    );
    run(change.conn(), insert).await.map(|_| ())
}

/// Off the list; whether it was on it.
async fn take_off(
    change: &mut Change,
    account: &str,
    address: &str,
    stream: &str,
    now: Timestamp,
) -> Result<bool, Refusal> {
    let delete = q!(
        "DELETE FROM suppressed WHERE account = $1 AND address = $2 AND stream = $3",
        account.to_owned(),
        address.to_owned(),
        stream.to_owned(),
    );
    if run(change.conn(), delete).await? == 0 {
        return Ok(false);
    }
    let serial = numbers(change, 1).await?;
    let note = q!(
        "INSERT INTO suppression_ended (number, account, address, stream, at) VALUES ($1, $2, $3, $4, $5)",
        serial,
        account.to_owned(),
        address.to_owned(),
        stream.to_owned(),
        now.0,
    );
    run(change.conn(), note).await?;
    Ok(true)
}

fn line<'a>(id: &'a str, account: &'a str, action: &'static str, detail: Value) -> Line<'a> {
    Line { subject: Subject::Suppression, id, account: Some(account), action, detail }
}

impl Office {
    pub async fn suppressions(
        &self,
        by: &Actor,
        account: &str,
        narrowed: &Narrowed,
        window: &Window,
    ) -> Result<Page<Suppression>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let (after, stream) = match window.after.as_deref().and_then(|after| after.split_once('\t')) {
            Some((address, stream)) => (address.to_owned(), stream.to_owned()),
            None => (String::new(), String::new()),
        };
        let reason = narrowed.reason.map(Reason::code).unwrap_or_default();
        let begins = narrowed.begins.as_deref().unwrap_or_default().trim().to_lowercase();
        // What comes after every address that begins so: no address holds that character.
        let ends = format!("{begins}\u{10ffff}");
        let from = narrowed.from.map_or(i64::MIN, |from| from.0);
        let until = narrowed.until.map_or(i64::MAX, |until| until.0);
        let limit = window.fetch();
        let query = match &narrowed.domain {
            None => q!(
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM suppressed WHERE account = $1 AND (address > $2 OR (address = $2 AND stream > $3)) \
                     AND address >= $4 AND address < $5 AND ($6 = '' OR reason = $6) \
                     AND created_at >= $7 AND created_at < $8 ORDER BY address, stream LIMIT $9"
                ),
                account.id,
                after,
                stream,
                begins,
                ends,
                reason,
                from,
                until,
                limit,
            ),
            Some(domain) => q!(
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM suppressed WHERE account = $1 AND domain = $10 AND (address > $2 OR (address = $2 AND stream > $3)) \
                     AND address >= $4 AND address < $5 AND ($6 = '' OR reason = $6) \
                     AND created_at >= $7 AND created_at < $8 ORDER BY address, stream LIMIT $9"
                ),
                account.id,
                after,
                stream,
                begins,
                ends,
                reason,
                from,
                until,
                limit,
                Domain::parse(domain.trim()).map_or_else(|_| domain.trim().to_lowercase(), |domain| domain.to_string()),
            ),
        };
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let place = |entry: &Suppression| format!("{}\t{}", entry.address, entry.stream.as_deref().unwrap_or_default());
        Ok(Page::of(found, window, place))
    }

    pub async fn suppression(
        &self,
        by: &Actor,
        account: &str,
        address: &str,
        stream: Option<&str>,
    ) -> Result<Suppression, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let query = q!(
            concat!("SELECT ", columns!(), " FROM suppressed WHERE account = $1 AND address = $2 AND stream = $3"),
            account.id,
            parsed(address)?.0,
            stream.unwrap_or_default().to_owned(),
        );
        match row(&mut conn, query).await? {
            Some(row) => read(&row),
            None => Err(Refusal::not_found("suppression of", address)),
        }
    }

    /// On the list, instead of what it said before of the same address.
    pub async fn put_suppression(
        &self,
        by: &Actor,
        account: &str,
        new: NewSuppression,
    ) -> Result<Suppression, Refusal> {
        checked(&new)?;
        let (address, domain) = parsed(&new.address)?;
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let entry = entry_of(&account.id, address, new, now);
        let serial = numbers(&mut change, 1).await?;
        put(&mut change, serial, &entry, &domain).await?;
        let detail = json!({ "reason": entry.reason.code(), "stream": entry.stream, "detail": entry.detail });
        audit::write(&mut change, by, now, line(&entry.address, &account.id, "put", detail)).await?;
        change.commit().await?;
        Ok(entry)
    }

    /// Many at once; what is wrong with one is no reason to refuse another. One line in the audit log.
    pub async fn put_suppressions(
        &self,
        by: &Actor,
        account: &str,
        new: Vec<NewSuppression>,
    ) -> Result<Taken, Refusal> {
        if new.len() > BATCH_MAX {
            let sentence = format!("There are {} entries; at most {BATCH_MAX} are taken at once.", new.len());
            return Err(Refusal::invalid("items", sentence, "Send them in several calls."));
        }
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let (mut entries, mut wrong) = (Vec::with_capacity(new.len()), Vec::new());
        for (at, new) in new.into_iter().enumerate() {
            match checked(&new).and_then(|()| parsed(&new.address)) {
                Ok((address, domain)) => entries.push((entry_of(&account.id, address, new, now), domain)),
                Err(refusal) => wrong.push((at, refusal.sentence)),
            }
        }
        let mut serial = numbers(&mut change, entries.len()).await?;
        for (entry, domain) in &entries {
            put(&mut change, serial, entry, domain).await?;
            serial += 1;
        }
        if let Some((first, _)) = entries.first() {
            let detail = json!({ "count": entries.len(), "first": first.address });
            audit::write(&mut change, by, now, line("list", &account.id, "imported", detail)).await?;
        }
        change.commit().await?;
        Ok(Taken { put: entries.len(), wrong })
    }

    pub async fn delete_suppression(
        &self,
        by: &Actor,
        account: &str,
        address: &str,
        stream: Option<&str>,
    ) -> Result<(), Refusal> {
        let (address, now) = (parsed(address)?.0, self.now());
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        if !take_off(&mut change, &account.id, &address, stream.unwrap_or_default(), now).await? {
            return Err(Refusal::not_found("suppression of", &address));
        }
        run(change.conn(), forget(&account.id, &address)).await?;
        audit::write(&mut change, by, now, line(&address, &account.id, "removed", json!({ "stream": stream }))).await?;
        change.commit().await
    }

    /// Once a minute: entries whose time is over go, and so does the memory of what was taken off long ago.
    pub async fn tidy_suppressions(&self) -> Result<(), Refusal> {
        const OVER: &str = "SELECT account, address, stream FROM suppressed WHERE expires_at <= $1 LIMIT $2";
        let now = self.now();
        let (old, forgotten_doubt) = ((now - REMOVED_FOR).0, (now - DoubtKind::MEMORY).0);
        let any = {
            let mut conn = self.store().read().await?;
            let query = q!(
                "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM suppressed WHERE expires_at <= $1 LIMIT 1) AS e) \
                 + (SELECT COUNT(*) FROM (SELECT 1 FROM suppression_ended WHERE at < $2 LIMIT 1) AS o) \
                 + (SELECT COUNT(*) FROM (SELECT 1 FROM doubt WHERE last_at < $3 LIMIT 1) AS d)",
                now.0,
                old,
                forgotten_doubt,
            );
            number(&mut conn, query).await? > 0
        };
        if !any {
            return Ok(());
        }
        let mut change = self.store().change().await?;
        for over in rows(change.conn(), q!(OVER, now.0, TIDY_BATCH)).await? {
            take_off(&mut change, &over.text(0)?, &over.text(1)?, &over.text(2)?, now).await?;
        }
        run(change.conn(), q!("DELETE FROM doubt WHERE last_at < $1", forgotten_doubt)).await?;
        let forgotten = q!("SELECT COALESCE(MAX(number), 0) FROM suppression_ended WHERE at < $1", old);
        let forgotten = number(change.conn(), forgotten).await?;
        run(change.conn(), q!("DELETE FROM suppression_ended WHERE number <= $1", forgotten)).await?;
        let note = q!(
            "UPDATE suppression_number SET forgotten = CASE WHEN forgotten > $1 THEN forgotten ELSE $1 END WHERE only_one = 1",
            forgotten
        );
        run(change.conn(), note).await?;
        change.commit().await
    }

    /// Takes to heart what events say of addresses; told twice, it changes nothing.
    pub(crate) async fn heed(&self, change: &mut Change, words: &[Word]) -> Result<(), Refusal> {
        for word in words {
            let (account, address) = (word.account.as_str(), word.address.as_str());
            let reason = match word.evidence {
                Evidence::Delivered => {
                    if let Some(doubt) = doubt_of(change, word).await? {
                        match doubt.delivered(word.message, word.at) {
                            Some(doubt) => put_doubt(change, word, &doubt).await?,
                            None => _ = run(change.conn(), forget(account, address)).await?,
                        }
                    }
                    continue;
                }
                Evidence::Enough(reason) => reason,
                Evidence::Doubt(kind) => {
                    if !doubted(change, word, kind).await? {
                        continue;
                    }
                    Reason::Bounce
                }
            };
            let known = q!("SELECT COUNT(*) FROM account WHERE id = $1", account.to_owned());
            if number(change.conn(), known).await? == 0 {
                continue;
            }
            // Who took it off the list knew of the bounces before; one that is only heard of now brings nothing back.
            if reason == Reason::Bounce && taken_off_since(change, word).await? {
                continue;
            }
            let stream = word.stream.clone().filter(|_| reason == Reason::Unsubscribe);
            let there = q!(
                "SELECT reason, expires_at FROM suppressed WHERE account = $1 AND address = $2 AND stream = $3",
                account.to_owned(),
                address.to_owned(),
                stream.clone().unwrap_or_default(),
            );
            if let Some(there) = row(change.conn(), there).await? {
                let until = there.whole_or_none(1)?.map(Timestamp);
                let listed = Listed { reason: Reason::of(&there.text(0)?).unwrap_or(Reason::Manual), until };
                if !listed.yields_to(reason) {
                    continue;
                }
            }
            let serial = numbers(change, 1).await?;
            let entry = Suppression {
                account: account.to_owned(),
                address: address.to_owned(),
                stream,
                reason,
                message: Some(word.message.to_string()),
                detail: word.said.clone(),
                created_at: word.at,
                expires_at: None,
            };
            put(change, serial, &entry, address.rsplit_once('@').map_or("", |(_, domain)| domain)).await?;
            run(change.conn(), forget(account, address)).await?;
            tracing::info!(account, reason = reason.code(), id = %word.message, "a recipient is suppressed");
        }
        Ok(())
    }

    /// Brings the list to where the database is; whether anything has changed.
    pub async fn hear(&self, feed: &mut Feed) -> Result<bool, Refusal> {
        let mut conn = self.store().read().await?;
        feed.refresh(&mut conn, self.store().engine()).await
    }

    /// The addresses that are in doubt, to know which deliveries matter; none where there are more than so many.
    pub async fn in_doubt(&self, max: usize) -> Result<Option<Vec<(String, String)>>, Refusal> {
        let mut conn = self.store().read().await?;
        let limit = i64::try_from(max).unwrap_or(i64::MAX - 1) + 1;
        let found = rows(&mut conn, q!("SELECT account, address FROM doubt LIMIT $1", limit)).await?;
        let all = found.iter().map(|row| Ok((row.text(0)?, row.text(1)?))).collect::<Result<Vec<_>, Refusal>>()?;
        Ok((all.len() <= max).then_some(all))
    }
}

fn entry_of(account: &str, address: String, new: NewSuppression, now: Timestamp) -> Suppression {
    Suppression {
        account: account.to_owned(),
        address,
        stream: new.stream,
        reason: new.reason,
        message: None,
        detail: new.detail,
        created_at: new.created_at.unwrap_or(now).min(now),
        expires_at: new.expires_at,
    }
}

fn forget(account: &str, address: &str) -> crate::store::Query {
    q!("DELETE FROM doubt WHERE account = $1 AND address = $2", account.to_owned(), address.to_owned())
}

async fn taken_off_since(change: &mut Change, word: &Word) -> Result<bool, Refusal> {
    let ended = q!(
        "SELECT COUNT(*) FROM (SELECT 1 FROM suppression_ended WHERE account = $1 AND address = $2 AND at >= $3 LIMIT 1) AS e",
        word.account.clone(),
        word.address.clone(),
        word.at.0,
    );
    Ok(number(change.conn(), ended).await? > 0)
}

async fn doubt_of(change: &mut Change, word: &Word) -> Result<Option<Doubt>, Refusal> {
    let query = q!(
        "SELECT kind, messages, first_at, last_at, last_message, delivered_message, delivered_at FROM doubt \
         WHERE account = $1 AND address = $2",
        word.account.clone(),
        word.address.clone(),
    );
    let Some(row) = row(change.conn(), query).await? else { return Ok(None) };
    let message = |text: &str| u128::from_str_radix(text, 16).ok().map(MessageId);
    let delivered = row.text_or_none(5)?.as_deref().and_then(message).zip(row.whole_or_none(6)?.map(Timestamp));
    let (Some(kind), Some(last)) = (DoubtKind::of(&row.text(0)?), message(&row.text(4)?)) else { return Ok(None) };
    Ok(Some(Doubt {
        kind,
        messages: u32::try_from(row.whole(1)?).unwrap_or(u32::MAX),
        first_at: Timestamp(row.whole(2)?),
        last_at: Timestamp(row.whole(3)?),
        last,
        delivered,
    }))
}

async fn put_doubt(change: &mut Change, word: &Word, doubt: &Doubt) -> Result<(), Refusal> {
    let put = q!(
        "INSERT INTO doubt (account, address, kind, messages, first_at, last_at, last_message, delivered_message, \
         delivered_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (account, address) DO UPDATE SET \
         kind = excluded.kind, messages = excluded.messages, first_at = excluded.first_at, last_at = excluded.last_at, \
         last_message = excluded.last_message, delivered_message = excluded.delivered_message, \
         delivered_at = excluded.delivered_at",
        word.account.clone(),
        word.address.clone(),
        doubt.kind.code(),
        i64::from(doubt.messages),
        doubt.first_at.0,
        doubt.last_at.0,
        doubt.last.to_string(),
        doubt.delivered.map(|(message, _)| message.to_string()),
        doubt.delivered.map(|(_, at)| at.0),
    );
    run(change.conn(), put).await.map(|_| ())
}

/// Writes down one more word against an address; whether that is enough.
async fn doubted(change: &mut Change, word: &Word, kind: DoubtKind) -> Result<bool, Refusal> {
    let before = doubt_of(change, word).await?;
    let (doubt, enough) = Doubt::with(before, kind, word.message, word.at);
    if !enough {
        put_doubt(change, word, &doubt).await?;
    }
    Ok(enough)
}

/// What an event says of an address.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    pub evidence: Evidence,
    pub account: String,
    /// In canonical form.
    pub address: String,
    pub stream: Option<String>,
    pub message: MessageId,
    pub at: Timestamp,
    pub said: Option<String>,
}

impl Word {
    /// None: it says nothing of an address, or it is not known of which.
    #[must_use]
    pub fn of(event: &Event, address: Option<&str>) -> Option<Word> {
        let evidence = engine::doubt::evidence(event)?;
        let address = address.filter(|address| simulated(address).is_none())?;
        let mailbox = Mailbox::parse(address).ok()?;
        let said = event.reply.as_ref().map(|reply| {
            let said = reply.to_string().replace(|c: char| c.is_control(), " ");
            said.chars().take(DETAIL_LETTERS_MAX).collect()
        });
        Some(Word {
            evidence,
            account: event.account.as_ref()?.to_string(),
            address: canonical(&mailbox),
            stream: left(event),
            message: event.message?,
            at: event.at,
            said,
        })
    }
}

/// Which stream the recipient wants no more of; none: of any.
fn left(event: &Event) -> Option<String> {
    match &event.why {
        Some(Why::StreamLeft { stream }) if !stream.is_empty() => Some(stream.clone()),
        _ => None,
    }
}

/// The list as the data plane has it, and how far that is.
pub struct Feed {
    list: Suppressed,
    number: i64,
    /// Whether it has changed since it was kept.
    unkept: bool,
}

/// What the seal is bound to.
const KEPT_AS: &str = "suppressions 1";

impl Feed {
    /// As it was kept last; empty where it never was, or where it cannot be read.
    pub fn kept(sealer: &Sealer, path: &Path) -> Result<Feed, KeepFault> {
        match std::fs::read(path) {
            Ok(sealed) => match Feed::opened(sealer, &sealed) {
                Ok(feed) => return Ok(feed),
                Err(fault) => tracing::warn!(%fault, "the kept suppression list cannot be used; it is read anew"),
            },
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
            Err(fault) => tracing::warn!(%fault, "the kept suppression list cannot be read; it is read anew"),
        }
        Ok(Feed { list: Suppressed::empty(random()?), number: 0, unkept: false })
    }

    fn opened(sealer: &Sealer, sealed: &[u8]) -> Result<Feed, KeepFault> {
        let octets = sealer.open(KEPT_AS, sealed)?;
        let form =
            || KeepFault::Io(io::Error::new(io::ErrorKind::InvalidData, "it has not the form that is written here"));
        let (number, list) = octets.split_first_chunk::<8>().ok_or_else(form)?;
        let list = Suppressed::of_octets(list).ok_or_else(form)?;
        Ok(Feed { list, number: i64::from_le_bytes(*number), unkept: false })
    }

    #[must_use]
    pub fn list(&self) -> &Suppressed {
        &self.list
    }

    #[must_use]
    pub fn is_unkept(&self) -> bool {
        self.unkept
    }

    /// Takes in what has changed since; whether anything has.
    async fn refresh(&mut self, conn: &mut AnyConnection, engine: Engine) -> Result<bool, Refusal> {
        let known = q!("SELECT number, forgotten FROM suppression_number WHERE only_one = 1");
        let (last, forgotten) = match row(conn, known).await? {
            Some(row) => (row.whole(0)?, row.whole(1)?),
            None => (0, 0),
        };
        let (mut list, mut number, mut any) = (self.list.clone(), self.number, false);
        // Another database than before, or too long ago: all of it. Whoever looks meanwhile has the list before.
        if number > last || number < forgotten {
            (list, number, any) = (Suppressed::empty(random()?), 0, true);
        }
        if number == 0 && last > 0 {
            read_whole(conn, engine, last, &mut list).await?;
            (number, any) = (last, true);
        }
        while number < last {
            let changes = rows(conn, q!(FEED, number, FEED_BATCH)).await?;
            let Some(newest) = changes.last() else { break };
            let newest = newest.whole(0)?;
            let mut read = Vec::with_capacity(changes.len());
            for change in &changes {
                let listed = change.text_or_none(4)?.and_then(|code| Reason::of(&code)).map(|reason| {
                    let until = change.whole_or_none(5)?.map(Timestamp);
                    Ok::<_, Refusal>(Listed { reason, until })
                });
                read.push((change.text(1)?, change.text(2)?, change.text(3)?, listed.transpose()?));
            }
            list.change(read.iter().map(|(account, address, stream, listed)| {
                let stream = Some(stream.as_str()).filter(|stream| !stream.is_empty());
                (Place { account, address, stream }, *listed)
            }));
            (number, any) = (newest, true);
        }
        // The last numbers may have been given to entries that were changed again or are gone.
        (self.list, self.number) = (list, number.max(last));
        self.unkept |= any;
        Ok(any)
    }

    /// What was to be kept, is.
    pub fn is_kept(&mut self) {
        self.unkept = false;
    }

    /// What is to be kept for a start without the database.
    #[must_use]
    pub fn to_keep(&self) -> FeedToKeep {
        FeedToKeep { list: self.list.clone(), number: self.number }
    }
}

/// Between the fields of an entry, and between entries: no address, stream or name holds such a character.
const FIELD: char = '\u{1f}';
const ENTRY: char = '\u{1e}';
/// Entries that the database hands over as one value: a row for each costs several times as much.
const ENTRIES_A_ROW: i64 = 20_000;

macro_rules! whole {
    ($joined:literal, $letter:literal) => {
        concat!(
            "SELECT MAX(number), ",
            $joined,
            "(account || ",
            $letter,
            "(31) || address || ",
            $letter,
            "(31) || stream || ",
            $letter,
            "(31) || reason || ",
            $letter,
            "(31) || COALESCE(CAST(expires_at AS TEXT), ''), ",
            $letter,
            "(30)) \
             FROM (SELECT * FROM suppressed WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3) AS part"
        )
    };
}

/// All entries up to a number, onto an empty list.
async fn read_whole(conn: &mut AnyConnection, engine: Engine, last: i64, list: &mut Suppressed) -> Result<(), Refusal> {
    let (mut number, mut pieces) = (0, Vec::new());
    loop {
        let query = match engine {
            Engine::Sqlite => q!(whole!("group_concat", "char"), number, last, ENTRIES_A_ROW),
            Engine::Postgres => q!(whole!("string_agg", "chr"), number, last, ENTRIES_A_ROW),
        };
        let Some(piece) = row(conn, query).await? else { break };
        let (Some(newest), Some(entries)) = (piece.whole_or_none(0)?, piece.text_or_none(1)?) else { break };
        number = newest;
        pieces.push(entries);
    }
    // In one go: each shard is written once.
    list.change(pieces.iter().flat_map(|piece| piece.split(ENTRY)).filter_map(|entry| {
        let mut fields = entry.split(FIELD);
        let (account, address, stream) = (fields.next()?, fields.next()?, fields.next()?);
        let reason = Reason::of(fields.next()?)?;
        let until = fields.next()?.parse().ok().map(Timestamp);
        let stream = Some(stream).filter(|stream| !stream.is_empty());
        Some((Place { account, address, stream }, Some(Listed { reason, until })))
    }));
    Ok(())
}

const FEED: &str = "SELECT number, account, address, stream, reason, expires_at FROM suppressed WHERE number > $1 \
    UNION ALL SELECT number, account, address, stream, CAST(NULL AS TEXT), CAST(NULL AS BIGINT) FROM suppression_ended \
    WHERE number > $1 ORDER BY number LIMIT $2";

pub struct FeedToKeep {
    list: Suppressed,
    number: i64,
}

impl FeedToKeep {
    pub fn write(self, sealer: &Sealer, path: &Path) -> Result<(), KeepFault> {
        let octets = [&self.number.to_le_bytes()[..], &self.list.to_octets()].concat();
        Ok(write_new(path, &sealer.seal(KEPT_AS, &octets)?)?)
    }
}
