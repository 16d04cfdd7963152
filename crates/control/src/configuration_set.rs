//! What does an application send with? Pool, TLS, lifetime, suppression, tracking, destinations, on or off.

use crate::account::{self, must_be_seen};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::store::{Columns, Whose, number, q, row, rows, run, run_unless};
use engine::envelope::TlsWish;
use engine::time::Timestamp;
use mail::address::Domain;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

const SETS_MAX: i64 = 10_000;
const DESTINATIONS_MAX: usize = 10;
const DESTINATION_LETTERS_MAX: usize = 256;
/// SES's own bounds for how long a message may wait: 5 minutes to 14 hours; ours end at a week.
const LIFETIME_S: std::ops::RangeInclusive<i64> = 300..=604_800;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationSet {
    pub id: String,
    pub account: String,
    pub name: String,
    pub pool: Option<String>,
    pub tls: Option<TlsWish>,
    pub lifetime_s: Option<i64>,
    /// Which reasons suppress a recipient; none: as the account has it.
    pub suppression: Option<Vec<Reason>>,
    /// The name that links and the picture lead to; below a domain that the account has verified.
    pub tracking_host: Option<String>,
    pub tracks_opens: bool,
    pub tracks_clicks: bool,
    /// Whether readers of its mail are offered an end of the stream, where a message does not say.
    pub unsubscribe: bool,
    /// Names of event destinations.
    pub destinations: Vec<String>,
    pub sends: bool,
    /// Whether its figures are kept apart for its reputation.
    pub reputation: bool,
    pub revision: i64,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Bounce,
    Complaint,
}

impl Reason {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Reason::Bounce => "bounce",
            Reason::Complaint => "complaint",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Reason> {
        [Reason::Bounce, Reason::Complaint].into_iter().find(|reason| reason.code() == code)
    }
}

/// For a new set: what is given. For one that is there: what is to be changed; `Some(None)` takes a value away.
#[derive(Clone, Debug, Default)]
pub struct SetChange {
    pub pool: Option<Option<String>>,
    pub tls: Option<Option<TlsWish>>,
    pub lifetime_s: Option<Option<i64>>,
    pub suppression: Option<Option<Vec<Reason>>>,
    pub tracking_host: Option<Option<String>>,
    pub tracks_opens: Option<bool>,
    pub tracks_clicks: Option<bool>,
    pub unsubscribe: Option<bool>,
    pub destinations: Option<Vec<String>>,
    pub sends: Option<bool>,
    pub reputation: Option<bool>,
    pub revision: Option<i64>,
}

macro_rules! columns {
    () => {
        "id, account, name, pool, tls, lifetime_s, suppression, tracking_host, destinations, sending, reputation, revision, created_at, \
         tracks_opens, tracks_clicks, unsubscribe"
    };
}

#[must_use]
pub fn tls_code(tls: TlsWish) -> &'static str {
    match tls {
        TlsWish::Required => "required",
        TlsWish::IfOffered | TlsWish::Never => "if-offered",
    }
}

fn read(row: &AnyRow) -> Result<ConfigurationSet, Refusal> {
    let list = |text: String| serde_json::from_str::<Option<Vec<String>>>(&text).unwrap_or_default();
    let reasons = |codes: Vec<String>| codes.iter().filter_map(|code| Reason::of(code)).collect();
    Ok(ConfigurationSet {
        id: row.text(0)?,
        account: row.text(1)?,
        name: row.text(2)?,
        pool: row.text_or_none(3)?,
        tls: row.text_or_none(4)?.map(|code| if code == "required" { TlsWish::Required } else { TlsWish::IfOffered }),
        lifetime_s: row.whole_or_none(5)?,
        suppression: list(row.text(6)?).map(reasons),
        tracking_host: row.text_or_none(7)?,
        destinations: list(row.text(8)?).unwrap_or_default(),
        sends: row.yes(9)?,
        reputation: row.yes(10)?,
        revision: row.whole(11)?,
        created_at: Timestamp(row.whole(12)?),
        tracks_opens: row.yes(13)?,
        tracks_clicks: row.yes(14)?,
        unsubscribe: row.yes(15)?,
    })
}

fn told(set: &ConfigurationSet) -> Value {
    json!({
        "name": set.name, "pool": set.pool, "tls": set.tls.map(tls_code), "lifetime_s": set.lifetime_s,
        "suppression": codes(set), "tracking_host": set.tracking_host, "tracks_opens": set.tracks_opens,
        "tracks_clicks": set.tracks_clicks, "unsubscribe": set.unsubscribe, "destinations": set.destinations,
        "sends": set.sends, "reputation": set.reputation,
    })
}

fn codes(set: &ConfigurationSet) -> Option<Vec<&'static str>> {
    set.suppression.as_ref().map(|reasons| reasons.iter().map(|reason| reason.code()).collect())
}

pub(crate) async fn all(conn: &mut AnyConnection, whose: Whose<'_>) -> Result<Vec<ConfigurationSet>, Refusal> {
    let query = whose.query(
        concat!("SELECT ", columns!(), " FROM configuration_set"),
        concat!("SELECT ", columns!(), " FROM configuration_set WHERE account = $1"),
    );
    rows(conn, query).await?.iter().map(read).collect()
}

/// By name; another account's is not there.
pub(crate) async fn own(conn: &mut AnyConnection, account: &str, called: &str) -> Result<ConfigurationSet, Refusal> {
    let query = q!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM configuration_set WHERE account = $1 AND (name = $2 OR id = $2) ORDER BY id LIMIT 1"
        ),
        account.to_owned(),
        called.to_owned(),
    );
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("configuration set", called)),
    }
}

/// A sender's links lead to a host of its own: whoever could name another's would speak in its name.
async fn must_be_own(conn: &mut AnyConnection, account: &str, host: &Domain) -> Result<(), Refusal> {
    let query = q!("SELECT name FROM domain WHERE account = $1 AND verified_at IS NOT NULL", account.to_owned());
    for row in rows(conn, query).await? {
        let own = row.text(0)?;
        if host.as_str().strip_suffix(&own).is_some_and(|start| start.is_empty() || start.ends_with('.')) {
            return Ok(());
        }
    }
    let sentence = format!("The host {host} is not below a domain that this account has verified.");
    Err(Refusal::invalid(
        "tracking_host",
        sentence,
        "Verify its domain first, or name a host below one that is verified.",
    ))
}

impl Office {
    pub async fn create_set(
        &self,
        by: &Actor,
        account: &str,
        name: &str,
        with: SetChange,
    ) -> Result<ConfigurationSet, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let count = q!("SELECT COUNT(*) FROM configuration_set WHERE account = $1", account.id.clone());
        if number(change.conn(), count).await? >= SETS_MAX {
            let sentence = format!("The account has {SETS_MAX} configuration sets, which is as many as it may have.");
            return Err(Refusal::conflict("configuration_sets_max", sentence, "Delete one that is not used."));
        }
        let mut set = ConfigurationSet {
            id: id::fresh("set"),
            account: account.id.clone(),
            name: name::set(name)?,
            pool: None,
            tls: None,
            lifetime_s: None,
            suppression: None,
            tracking_host: None,
            tracks_opens: false,
            tracks_clicks: false,
            unsubscribe: false,
            destinations: Vec::new(),
            sends: true,
            reputation: true,
            revision: 1,
            created_at: now,
        };
        self.apply(change.conn(), &mut set, with).await?;
        let insert = q!(
            concat!(
                "INSERT INTO configuration_set (",
                columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
            ),
            set.id.clone(),
            set.account.clone(),
            set.name.clone(),
            set.pool.clone(),
            set.tls.map(tls_code),
            set.lifetime_s,
            json!(codes(&set)).to_string(),
            set.tracking_host.clone(),
            json!(set.destinations).to_string(),
            i64::from(set.sends),
            i64::from(set.reputation),
            set.revision,
            now.0,
            i64::from(set.tracks_opens),
            i64::from(set.tracks_clicks),
            i64::from(set.unsubscribe),
        );
        let taken = || {
            let sentence = format!("There is a configuration set {} already.", set.name);
            Refusal::conflict("name_taken", sentence, "Choose another name.").at("name")
        };
        run_unless(change.conn(), insert, taken).await?;
        let line = Line {
            subject: Subject::ConfigurationSet,
            id: &set.id,
            account: Some(&account.id),
            action: "created",
            detail: told(&set),
        };
        audit::write(&mut change, by, now, line).await?;
        change.commit().await?;
        Ok(set)
    }

    pub async fn sets(&self, by: &Actor, account: &str, window: &Window) -> Result<Page<ConfigurationSet>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let query = q!(
            concat!(
                "SELECT ",
                columns!(),
                " FROM configuration_set WHERE account = $1 AND name > $2 ORDER BY name LIMIT $3"
            ),
            account.id,
            window.after_text(),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |set| set.name.clone()))
    }

    pub async fn set(&self, by: &Actor, account: &str, called: &str) -> Result<ConfigurationSet, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        own(&mut conn, &account.id, called).await
    }

    pub async fn change_set(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        to: SetChange,
    ) -> Result<ConfigurationSet, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let was = own(change.conn(), &account.id, called).await?;
        must_be_seen("configuration set", to.revision, was.revision)?;
        let mut is = was.clone();
        self.apply(change.conn(), &mut is, to).await?;
        if is == was {
            return Ok(was);
        }
        is.revision += 1;
        let update = q!(
            "UPDATE configuration_set SET pool = $2, tls = $3, lifetime_s = $4, suppression = $5, tracking_host = $6, \
             destinations = $7, sending = $8, reputation = $9, revision = $10, tracks_opens = $11, tracks_clicks = $12, unsubscribe = $13 WHERE id = $1",
            is.id.clone(),
            is.pool.clone(),
            is.tls.map(tls_code),
            is.lifetime_s,
            json!(codes(&is)).to_string(),
            is.tracking_host.clone(),
            json!(is.destinations).to_string(),
            i64::from(is.sends),
            i64::from(is.reputation),
            is.revision,
            i64::from(is.tracks_opens),
            i64::from(is.tracks_clicks),
            i64::from(is.unsubscribe),
        );
        run(change.conn(), update).await?;
        let line = Line {
            subject: Subject::ConfigurationSet,
            id: &is.id,
            account: Some(&account.id),
            action: "changed",
            detail: json!({ "was": told(&was), "is": told(&is) }),
        };
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await?;
        Ok(is)
    }

    /// What is queued with it goes on as it was accepted.
    pub async fn delete_set(&self, by: &Actor, account: &str, called: &str) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let set = own(change.conn(), &account.id, called).await?;
        self.end_drives_of(&mut change, by, &set.id, "its configuration set was deleted").await?;
        run(change.conn(), q!("DELETE FROM configuration_set WHERE id = $1", set.id.clone())).await?;
        let line = Line {
            subject: Subject::ConfigurationSet,
            id: &set.id,
            account: Some(&account.id),
            action: "deleted",
            detail: told(&set),
        };
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await
    }

    async fn apply(&self, conn: &mut AnyConnection, set: &mut ConfigurationSet, to: SetChange) -> Result<(), Refusal> {
        if let Some(pool) = to.pool {
            set.pool = self.chosen_pool(conn, &set.account, pool.as_deref()).await?;
        }
        if let Some(tls) = to.tls {
            set.tls = tls;
        }
        if let Some(lifetime_s) = to.lifetime_s {
            if lifetime_s.is_some_and(|seconds| !LIFETIME_S.contains(&seconds)) {
                let sentence = format!("A lifetime is from {} to {} seconds.", LIFETIME_S.start(), LIFETIME_S.end());
                return Err(Refusal::invalid("lifetime_s", sentence, "14 hours are 50400, three days 259200."));
            }
            set.lifetime_s = lifetime_s;
        }
        if let Some(mut suppression) = to.suppression {
            if let Some(reasons) = &mut suppression {
                reasons.sort_unstable();
                reasons.dedup();
            }
            set.suppression = suppression;
        }
        if let Some(host) = to.tracking_host {
            let parsed = host.as_deref().map(Domain::parse).transpose().map_err(|error| {
                Refusal::invalid("tracking_host", format!("{error}."), "Write it as links.example.com.")
            })?;
            if let Some(host) = &parsed {
                must_be_own(conn, &set.account, host).await?;
            }
            set.tracking_host = parsed.map(|host| host.to_string());
            let is_left = set.tracking_host.is_some();
            (set.tracks_opens, set.tracks_clicks) = (set.tracks_opens && is_left, set.tracks_clicks && is_left);
        }
        set.tracks_opens = to.tracks_opens.unwrap_or(set.tracks_opens);
        set.tracks_clicks = to.tracks_clicks.unwrap_or(set.tracks_clicks);
        set.unsubscribe = to.unsubscribe.unwrap_or(set.unsubscribe);
        if set.tracking_host.is_none() && (set.tracks_opens || set.tracks_clicks) {
            let sentence = "Opens and clicks are heard of at a host of the sender's own, and none is named.";
            let mend = "Name one in tracking_host, below a domain that is verified.";
            return Err(Refusal::invalid("tracking_host", sentence, mend));
        }
        if let Some(destinations) = to.destinations {
            let fits = |name: &String| {
                (1..=DESTINATION_LETTERS_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
            };
            if destinations.len() > DESTINATIONS_MAX || !destinations.iter().all(fits) {
                let sentence = format!(
                    "At most {DESTINATIONS_MAX} destinations, each named by 1 to {DESTINATION_LETTERS_MAX} characters."
                );
                return Err(Refusal::invalid("destinations", sentence, "Name fewer."));
            }
            set.destinations = destinations;
        }
        set.sends = to.sends.unwrap_or(set.sends);
        set.reputation = to.reputation.unwrap_or(set.reputation);
        Ok(())
    }
}
