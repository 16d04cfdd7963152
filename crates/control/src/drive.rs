//! How does another pool do for a part of a configuration set's mail, and who moves the rest? (R8.3)
//!
//! A drive belongs to a set: a share of its recipients takes the new pool, the others go on as before. What became of both is compared in
//! the same time; a new side that does harm ends the drive by itself. In the end all mail takes the new pool, at once or day by day, or
//! none does.

use crate::account;
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::configuration_set::{self, ConfigurationSet};
use crate::id;
use crate::incident::{self, IncidentKind, Of, Told, Weight};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::pool;
use crate::refusal::Refusal;
use crate::reputation::{outcomes, tells, thresholds};
use crate::statistics::{Dimension, Figures, Question};
use crate::store::{Change, Columns, Whose, q, row, rows, run, run_unless};
use engine::counts::Grain;
use engine::drive::{Comparison, Side, compare, harm};
use engine::id::PoolId;
use engine::reputation::{Beside, Reputation, Share, measure};
use engine::split::{Split, WHOLE};
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// The seed's advice is two to four weeks.
const DAYS: std::ops::RangeInclusive<u32> = 1..=28;
const DAYS_USUAL: u32 = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveState {
    Running,
    /// All mail of the set takes the new pool.
    Finished,
    /// None does, because somebody said so or its time was over.
    Ended,
    /// None does, because the new side did harm.
    Stopped,
}

impl DriveState {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            DriveState::Running => "running",
            DriveState::Finished => "finished",
            DriveState::Ended => "ended",
            DriveState::Stopped => "stopped",
        }
    }

    fn of(code: &str) -> DriveState {
        [DriveState::Running, DriveState::Finished, DriveState::Stopped]
            .into_iter()
            .find(|state| state.code() == code)
            .unwrap_or(DriveState::Ended)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drive {
    pub id: String,
    pub account: String,
    /// The configuration set's id and name.
    pub set: String,
    pub set_name: String,
    /// The new pool's id and name.
    pub pool: String,
    pub pool_name: String,
    /// Ten thousandths of the recipients.
    pub share: u16,
    /// So much more each day, until all take the new pool.
    pub step: u16,
    /// Whether harm ends it.
    pub guarded: bool,
    pub state: DriveState,
    /// How it ended.
    pub reason: Option<String>,
    pub started_at: Timestamp,
    pub ends_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub revision: i64,
    grown_on: i64,
    salt: i64,
}

#[derive(Clone, Debug)]
pub struct NewDrive {
    pub set: String,
    pub pool: String,
    pub share: u16,
    /// None: two weeks.
    pub days: Option<u32>,
    pub guarded: bool,
}

#[derive(Clone, Debug, Default)]
pub struct DriveChange {
    pub share: Option<u16>,
    pub step: Option<u16>,
    pub guarded: Option<bool>,
    /// From its beginning.
    pub days: Option<u32>,
    pub revision: Option<i64>,
}

macro_rules! columns {
    () => {
        "d.id, d.account, d.of_set, d.set_name, d.pool, d.pool_name, d.share, d.step, d.guarded, d.state, d.reason, \
         d.started_at, d.ends_at, d.ended_at, d.revision, d.grown_on, d.salt FROM test_drive d"
    };
}

fn read(row: &AnyRow) -> Result<Drive, Refusal> {
    let share = |at: usize| Ok::<u16, Refusal>(u16::try_from(row.whole(at)?).unwrap_or(0));
    Ok(Drive {
        id: row.text(0)?,
        account: row.text(1)?,
        set: row.text(2)?,
        set_name: row.text(3)?,
        pool: row.text(4)?,
        pool_name: row.text(5)?,
        share: share(6)?,
        step: share(7)?,
        guarded: row.yes(8)?,
        state: DriveState::of(&row.text(9)?),
        reason: row.text_or_none(10)?,
        started_at: Timestamp(row.whole(11)?),
        ends_at: Timestamp(row.whole(12)?),
        ended_at: row.whole_or_none(13)?.map(Timestamp),
        revision: row.whole(14)?,
        grown_on: row.whole(15)?,
        salt: row.whole(16)?,
    })
}

/// By its id, or by its set: the last one of that.
async fn own(conn: &mut AnyConnection, account: &str, called: &str) -> Result<Drive, Refusal> {
    let query = q!(
        concat!(
            "SELECT ",
            columns!(),
            " WHERE d.account = $1 AND (d.id = $2 OR d.of_set = $2 OR d.set_name = $2) ORDER BY d.id DESC LIMIT 1"
        ),
        account.to_owned(),
        called.to_owned(),
    );
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("test drive", called)),
    }
}

/// As the data plane knows those that run: the account, the set's name, and who takes the new pool.
pub(crate) async fn splits(
    conn: &mut AnyConnection,
    whose: Whose<'_>,
) -> Result<Vec<(String, String, Split)>, Refusal> {
    let query = whose.query(
        concat!("SELECT ", columns!(), " WHERE d.ended_at IS NULL"),
        concat!("SELECT ", columns!(), " WHERE d.ended_at IS NULL AND d.account = $1"),
    );
    let split = |row: &AnyRow| {
        let drive = read(row)?;
        let split = Split { to: PoolId::new(&drive.pool), share: drive.share, salt: drive.salt.unsigned_abs() };
        Ok((drive.account, drive.set_name, split))
    };
    rows(conn, query).await?.iter().map(split).collect()
}

fn share(field: &str, share: u16, least: u16) -> Result<u16, Refusal> {
    if (least..=WHOLE).contains(&share) {
        return Ok(share);
    }
    let sentence = format!("A share is from {} to 100 percent.", f64::from(least) / 100.0);
    Err(Refusal::invalid(field, sentence, "Such as 10; two decimals are read."))
}

fn until(started_at: Timestamp, days: u32) -> Result<Timestamp, Refusal> {
    if DAYS.contains(&days) {
        return Ok(started_at + DAY * days);
    }
    let sentence = format!("A drive takes from {} to {} days.", DAYS.start(), DAYS.end());
    Err(Refusal::invalid("days", sentence, "Two to four weeks show how an IP does."))
}

impl Office {
    pub async fn start_drive(&self, by: &Actor, account: &str, new: NewDrive) -> Result<Drive, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let set = configuration_set::own(change.conn(), &account.id, &new.set).await;
        let set: ConfigurationSet = set.map_err(|refusal| refusal.at("set"))?;
        let pool = pool::own(change.conn(), &account.id, self.home_region().as_str(), &new.pool).await;
        let pool = pool.map_err(|refusal| refusal.at("pool"))?;
        if set.pool.as_ref() == Some(&pool.id) {
            let sentence = format!("All mail of {} takes the pool {} already.", set.name, pool.name);
            return Err(Refusal::conflict("same_pool", sentence, "Name another pool to try.").at("pool"));
        }
        let drive = Drive {
            id: id::fresh("drive"),
            account: account.id.clone(),
            set: set.id.clone(),
            set_name: set.name.clone(),
            pool: pool.id,
            pool_name: pool.name,
            share: share("percent", new.share, 1)?,
            step: 0,
            guarded: new.guarded,
            state: DriveState::Running,
            reason: None,
            started_at: now,
            ends_at: until(now, new.days.unwrap_or(DAYS_USUAL))?,
            ended_at: None,
            revision: 1,
            grown_on: now.day(),
            // Another for each; what it is does not matter.
            salt: now.0,
        };
        let insert = q!(
            "INSERT INTO test_drive (id, account, of_set, set_name, pool, pool_name, share, step, guarded, state, started_at, \
             ends_at, revision, grown_on, salt) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, 'running', $9, $10, 1, $11, $12)",
            drive.id.clone(),
            drive.account.clone(),
            drive.set.clone(),
            drive.set_name.clone(),
            drive.pool.clone(),
            drive.pool_name.clone(),
            i64::from(drive.share),
            i64::from(drive.guarded),
            now.0,
            drive.ends_at.0,
            drive.grown_on,
            drive.salt,
        );
        run_unless(change.conn(), insert, || {
            let sentence = format!("The configuration set {} is on a test drive already.", set.name);
            Refusal::conflict("drive_running", sentence, "Change that one, or end it first.").at("set")
        })
        .await?;
        let detail =
            json!({ "drive": drive.id, "pool": drive.pool, "share": drive.share, "until": drive.ends_at.to_string() });
        self.write_drive(&mut change, by, &drive, "drive-started", detail).await?;
        change.commit().await?;
        Ok(drive)
    }

    /// The newest first.
    pub async fn drives(&self, by: &Actor, account: &str, window: &Window) -> Result<Page<Drive>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::reach(&mut conn, by, account, Actor::may_read).await?;
        by.may_read_part(&account, None)?;
        let query = q!(
            concat!(
                "SELECT ",
                columns!(),
                " WHERE d.account = $1 AND ($2 = '' OR d.id < $2) ORDER BY d.id DESC LIMIT $3"
            ),
            account,
            window.after_text(),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |drive| drive.id.clone()))
    }

    /// With how both sides have done.
    pub async fn drive(&self, by: &Actor, account: &str, called: &str) -> Result<(Drive, Comparison), Refusal> {
        let drive = {
            let mut conn = self.store().read().await?;
            let account = account::reach(&mut conn, by, account, Actor::may_read).await?;
            by.may_read_part(&account, None)?;
            own(&mut conn, &account, called).await?
        };
        let comparison = self.compared(&drive).await?;
        Ok((drive, comparison))
    }

    async fn compared(&self, drive: &Drive) -> Result<Comparison, Refusal> {
        // By hours: a drive begins and ends within a day.
        let asked = |pool: Option<String>| Question {
            account: Some(drive.account.clone()),
            set: Some(drive.set_name.clone()),
            pool,
            grain: None,
            from: Some(drive.started_at),
            until: Some(drive.ended_at.unwrap_or(self.now()) + Duration::from_secs(1)),
            ..Question::default()
        };
        let side = |figures: &Figures| Side { outcomes: outcomes(figures), steps: figures.steps };
        let whole = self.counts(&Question { by: vec![Dimension::Pool], ..asked(None) }, true).await?.figures;
        let is_new = |figures: &&Figures| figures.of.first().is_some_and(|(_, pool)| *pool == drive.pool);
        let (mut new, mut old) = (Side::default(), Side::default());
        for figures in &whole {
            // All that was not the new pool: a sender without a pool of its own may have had several.
            let of = if is_new(&figures) { &mut new } else { &mut old };
            of.add(&side(figures));
        }
        Ok(compare(new, old))
    }

    /// Of what the new side has sent since the drive began, as an account is judged.
    async fn reputation_of_new(&self, drive: &Drive) -> Result<Reputation, Refusal> {
        let thresholds = thresholds(&mut *self.store().read().await?).await?;
        let asked = Question {
            account: Some(drive.account.clone()),
            set: Some(drive.set_name.clone()),
            pool: Some(drive.pool.clone()),
            ..Question::default()
        };
        let beside = Beside { tells: &tells, is_listed: false, traps: Share::default() };
        Ok(measure(&self.days(asked, Grain::Hour, Some(drive.started_at)).await?, beside, thresholds))
    }

    pub async fn change_drive(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        to: DriveChange,
    ) -> Result<Drive, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let was = own(change.conn(), &account.id, called).await?;
        account::must_be_seen("test drive", to.revision, was.revision)?;
        must_run(&was)?;
        let mut is = was.clone();
        if let Some(to) = to.share {
            is.share = share("percent", to, 1)?;
        }
        if let Some(step) = to.step {
            is.step = share("percent_a_day", step, 0)?;
            is.grown_on = self.now().day();
        }
        is.guarded = to.guarded.unwrap_or(was.guarded);
        if let Some(days) = to.days {
            is.ends_at = until(was.started_at, days)?;
        }
        if is == was {
            return Ok(was);
        }
        self.put_drive(&mut change, by, &mut is, "drive-changed").await?;
        change.commit().await?;
        Ok(is)
    }

    /// All mail of the set takes the new pool from now on.
    pub async fn finish_drive(&self, by: &Actor, account: &str, called: &str) -> Result<Drive, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let mut drive = own(change.conn(), &account.id, called).await?;
        must_run(&drive)?;
        self.finish(&mut change, by, &mut drive, "all of it was moved").await?;
        change.commit().await?;
        Ok(drive)
    }

    /// No mail takes the new pool from now on. What is queued leaves as it was routed.
    pub async fn end_drive(&self, by: &Actor, account: &str, called: &str) -> Result<Drive, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let mut drive = own(change.conn(), &account.id, called).await?;
        must_run(&drive)?;
        self.end(&mut change, by, &mut drive, DriveState::Ended, "it was ended by hand").await?;
        change.commit().await?;
        Ok(drive)
    }

    /// What they need is deleted: a pool, or a set.
    pub(crate) async fn end_drives_of(
        &self,
        change: &mut Change,
        by: &Actor,
        needed: &str,
        reason: &str,
    ) -> Result<(), Refusal> {
        let query = q!(
            concat!("SELECT ", columns!(), " WHERE d.ended_at IS NULL AND (d.pool = $1 OR d.of_set = $1)"),
            needed.to_owned()
        );
        let running = rows(change.conn(), query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        for mut drive in running {
            self.end(change, by, &mut drive, DriveState::Ended, reason).await?;
        }
        Ok(())
    }

    /// Those that do harm are stopped, those that grow grow once a day, those whose time is over end; how many were changed.
    pub async fn look_at_drives(&self) -> Result<usize, Refusal> {
        let query = q!(concat!("SELECT ", columns!(), " WHERE d.ended_at IS NULL ORDER BY d.id"));
        let running = rows(&mut *self.store().read().await?, query).await?;
        let mut changed = 0;
        for row in &running {
            let drive = read(row)?;
            let comparison = self.compared(&drive).await?;
            let harmed = match drive.guarded {
                true => harm(&comparison.new, &comparison.old, &self.reputation_of_new(&drive).await?),
                false => None,
            };
            changed += usize::from(self.look_at_drive(&drive, &comparison, harmed).await?);
        }
        Ok(changed)
    }

    async fn look_at_drive(
        &self,
        seen: &Drive,
        comparison: &Comparison,
        harmed: Option<String>,
    ) -> Result<bool, Refusal> {
        let (now, by) = (self.now(), Actor::service());
        let grows = seen.step > 0 && now.day() > seen.grown_on;
        // Somebody has decided on what moves day by day: it is not brought back by the end that was planned before.
        let is_over = seen.step == 0 && now >= seen.ends_at;
        if harmed.is_none() && !grows && !is_over {
            return Ok(false);
        }
        let mut change = self.store().change().await?;
        let mut drive = own(change.conn(), &seen.account, &seen.id).await?;
        if drive.revision != seen.revision || drive.ended_at.is_some() {
            // Somebody was faster; the next round sees it.
            return Ok(false);
        }
        match harmed {
            Some(why) => self.stop(&mut change, &by, &mut drive, &why, comparison).await?,
            None if grows => {
                drive.grown_on = now.day();
                drive.share = drive.share.saturating_add(drive.step).min(WHOLE);
                if drive.share == WHOLE {
                    self.finish(&mut change, &by, &mut drive, "all of it was moved, day by day").await?;
                } else {
                    self.put_drive(&mut change, &by, &mut drive, "drive-grown").await?;
                }
            }
            None => {
                let reason = format!("its time was over. {}", comparison.words);
                self.end(&mut change, &by, &mut drive, DriveState::Ended, &reason).await?;
            }
        }
        change.commit().await?;
        Ok(true)
    }

    /// The account hears of it as of anything that went wrong.
    async fn stop(
        &self,
        change: &mut Change,
        by: &Actor,
        drive: &mut Drive,
        why: &str,
        comparison: &Comparison,
    ) -> Result<(), Refusal> {
        self.end(change, by, drive, DriveState::Stopped, why).await?;
        let of =
            Of { account: Some(&drive.account), ip: None, domain: None, provider: "", kind: IncidentKind::TestDrive };
        let words = format!("The test drive of {} by the pool {} was stopped: {why}", drive.set_name, drive.pool_name);
        let told = Told {
            weight: Weight::Review,
            words: &words,
            mend: "Its mail goes as before. Look at what the new pool sent, and to whom, before you try again.",
            link: None,
            evidence: json!({ "drive": drive.id, "new": comparison.new, "old": comparison.old }),
            until: Some(self.now() + DAY * 14),
        };
        incident::tell(change, &of, told, self.now()).await.map(|_| ())
    }

    async fn finish(&self, change: &mut Change, by: &Actor, drive: &mut Drive, reason: &str) -> Result<(), Refusal> {
        let moved = q!(
            "UPDATE configuration_set SET pool = $2, revision = revision + 1 WHERE id = $1",
            drive.set.clone(),
            drive.pool.clone(),
        );
        run(change.conn(), moved).await?;
        drive.share = WHOLE;
        self.end(change, by, drive, DriveState::Finished, reason).await
    }

    async fn end(
        &self,
        change: &mut Change,
        by: &Actor,
        drive: &mut Drive,
        state: DriveState,
        reason: &str,
    ) -> Result<(), Refusal> {
        (drive.state, drive.reason, drive.ended_at) = (state, Some(reason.to_owned()), Some(self.now()));
        let action = match state {
            DriveState::Finished => "drive-finished",
            DriveState::Stopped => "drive-stopped",
            DriveState::Running | DriveState::Ended => "drive-ended",
        };
        self.put_drive(change, by, drive, action).await
    }

    async fn put_drive(
        &self,
        change: &mut Change,
        by: &Actor,
        drive: &mut Drive,
        action: &'static str,
    ) -> Result<(), Refusal> {
        drive.revision += 1;
        let update = q!(
            "UPDATE test_drive SET share = $2, step = $3, guarded = $4, state = $5, reason = $6, ends_at = $7, ended_at = $8, \
             revision = $9, grown_on = $10 WHERE id = $1",
            drive.id.clone(),
            i64::from(drive.share),
            i64::from(drive.step),
            i64::from(drive.guarded),
            drive.state.code(),
            drive.reason.clone(),
            drive.ends_at.0,
            drive.ended_at.map(|at| at.0),
            drive.revision,
            drive.grown_on,
        );
        run(change.conn(), update).await?;
        let detail = json!({
            "drive": drive.id, "pool": drive.pool, "share": drive.share, "step": drive.step, "guarded": drive.guarded,
            "state": drive.state.code(), "reason": drive.reason,
        });
        self.write_drive(change, by, drive, action, detail).await
    }

    /// A line about the set: what the data plane knows of it changes.
    async fn write_drive(
        &self,
        change: &mut Change,
        by: &Actor,
        drive: &Drive,
        action: &'static str,
        detail: serde_json::Value,
    ) -> Result<(), Refusal> {
        let line =
            Line { subject: Subject::ConfigurationSet, id: &drive.set, account: Some(&drive.account), action, detail };
        audit::write(change, by, self.now(), line).await
    }
}

fn must_run(drive: &Drive) -> Result<(), Refusal> {
    if drive.ended_at.is_none() {
        return Ok(());
    }
    let sentence = format!("The test drive is {}.", drive.state.code());
    Err(Refusal::conflict("drive_over", sentence, "Start another one; a set's pool can be changed without any."))
}
