//! Test drives: a part of a configuration set's mail goes by another pool. (R8.3)

use super::words::{Time, words};
use super::{Answer, At, Call, created, found, listed};
use crate::asked::{Body, IfMatch, Listed, Listing};
use crate::caller::Desk;
use crate::problem::Problem;
use control::drive as theirs;
use engine::drive as judged;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(drives, start_drive))
        .routes(routes!(drive, change_drive))
        .routes(routes!(order_drive))
}

words!(
    /// `finished`: all mail of the set takes the new pool. `ended`, `stopped`: none does; `stopped`, because the new side did harm.
    DriveState is theirs::DriveState { Running, Finished, Ended, Stopped }
);

words!(
    /// Shares of what was sent; `complained`, of what was delivered. `late`: of that, too, what took more than five minutes.
    DriveFigure is judged::Figure { Delivered, Bounced, Blocked, Complained, Late }
);

/// `alike`: nothing that matters can be seen. `too-little`: more must be sent to see anything.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum DriveVerdict {
    Better,
    Worse,
    Alike,
    TooLittle,
}

#[derive(Serialize, ToSchema)]
struct TestDrive {
    id: String,
    account: String,
    /// Name of the configuration set.
    set: String,
    /// The new pool, by id and name.
    pool: String,
    pool_name: String,
    /// Of the recipients.
    percent: f64,
    /// So much more each day, until all take the new pool.
    percent_a_day: f64,
    /// Whether it ends by itself when the new side does harm.
    guarded: bool,
    state: DriveState,
    /// How it ended.
    #[schema(required)]
    reason: Option<String>,
    started_at: Time,
    ends_at: Time,
    #[schema(required)]
    ended_at: Option<Time>,
    revision: i64,
}

fn percent(share: u16) -> f64 {
    f64::from(share) / 100.0
}

impl From<theirs::Drive> for TestDrive {
    fn from(drive: theirs::Drive) -> TestDrive {
        TestDrive {
            id: drive.id,
            account: drive.account,
            set: drive.set_name,
            pool: drive.pool,
            pool_name: drive.pool_name,
            percent: percent(drive.share),
            percent_a_day: percent(drive.step),
            guarded: drive.guarded,
            state: drive.state.into(),
            reason: drive.reason,
            started_at: Time(drive.started_at),
            ends_at: Time(drive.ends_at),
            ended_at: drive.ended_at.map(Time),
            revision: drive.revision,
        }
    }
}

/// What became of a side's mail.
#[derive(Serialize, ToSchema)]
struct DriveSide {
    sent: u64,
    delivered: u64,
    bounced: u64,
    blocked: u64,
    complained: u64,
    deferred: u64,
    /// Within so many seconds half of it was delivered.
    #[schema(required)]
    p50_s: Option<f64>,
    /// Between these it is with 95 % certainty.
    #[schema(required)]
    p50_least_s: Option<f64>,
    #[schema(required)]
    p50_most_s: Option<f64>,
    /// And 95 % of it.
    #[schema(required)]
    p95_s: Option<f64>,
    #[schema(required)]
    p95_least_s: Option<f64>,
    #[schema(required)]
    p95_most_s: Option<f64>,
}

impl From<judged::Side> for DriveSide {
    fn from(side: judged::Side) -> DriveSide {
        let (outcomes, half, most) = (side.outcomes, side.within(0.5), side.within(0.95));
        DriveSide {
            sent: outcomes.sent(),
            delivered: outcomes.delivered,
            bounced: outcomes.hard,
            blocked: outcomes.blocked,
            complained: outcomes.complained,
            deferred: outcomes.deferred,
            p50_s: half.s,
            p50_least_s: half.least_s,
            p50_most_s: half.most_s,
            p95_s: most.s,
            p95_least_s: most.least_s,
            p95_most_s: most.most_s,
        }
    }
}

/// A share of both sides in percent; between the least and the most it is with 95 % certainty.
#[derive(Serialize, ToSchema)]
struct DriveCompared {
    figure: DriveFigure,
    new: f64,
    new_least: f64,
    new_most: f64,
    old: f64,
    old_least: f64,
    old_most: f64,
    /// By how many points the new side's is more.
    more: f64,
    more_least: f64,
    more_most: f64,
}

impl From<judged::Compared> for DriveCompared {
    fn from(compared: judged::Compared) -> DriveCompared {
        // Ten thousandths of a percent are more than anybody reads.
        let percent = |share: f64| (share * 1e6).round() / 1e4;
        DriveCompared {
            figure: compared.figure.into(),
            new: percent(compared.new),
            new_least: percent(compared.new_between.0),
            new_most: percent(compared.new_between.1),
            old: percent(compared.old),
            old_least: percent(compared.old_between.0),
            old_most: percent(compared.old_between.1),
            more: percent(compared.more),
            more_least: percent(compared.more_between.0),
            more_most: percent(compared.more_between.1),
        }
    }
}

/// A drive, and how both sides have done in the same time.
#[derive(Serialize, ToSchema)]
struct DriveReport {
    #[serde(flatten)]
    drive: TestDrive,
    verdict: DriveVerdict,
    /// The verdict in a sentence or two.
    words: String,
    new: DriveSide,
    old: DriveSide,
    figures: Vec<DriveCompared>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTestDrive {
    /// The configuration set, by name or id.
    set: String,
    /// The pool to be tried, by name or id.
    pool: String,
    /// Of the recipients, from 0.01 to 100; always the same ones.
    percent: f64,
    /// From 1 to 28; without it, 14.
    days: Option<u32>,
    /// False: it goes on although the new side does harm. Without it, true.
    guarded: Option<bool>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TestDriveChange {
    percent: Option<f64>,
    /// So much more each day, until all mail takes the new pool.
    percent_a_day: Option<f64>,
    guarded: Option<bool>,
    /// From its beginning.
    days: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum DriveOrder {
    /// All mail of the set takes the new pool.
    Finish,
    /// None does.
    End,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDriveOrder {
    order: DriveOrder,
}

fn share(field: &str, percent: f64) -> Result<u16, Problem> {
    let share = (percent * 100.0).round();
    if (0.0..=10_000.0).contains(&share) {
        return Ok(share as u16);
    }
    Err(Problem::invalid(field, "A share is from 0 to 100 percent.", "Such as 10."))
}

/// The account's test drives, newest first.
#[utoipa::path(get, path = "/accounts/{account}/test-drives", responses((status = 200, body = Listed<TestDrive>)))]
async fn drives(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    listed(call.office.drives(&call.by, &account, &list.window).await?, TestDrive::from)
}

/// Send a part of a configuration set's mail by another pool.
#[utoipa::path(post, path = "/accounts/{account}/test-drives", request_body = NewTestDrive, responses((status = 201, body = TestDrive)))]
async fn start_drive(call: Call, At([account]): At<1>, Body(new): Body<NewTestDrive>) -> Answer {
    let new = theirs::NewDrive {
        set: new.set,
        pool: new.pool,
        share: share("percent", new.percent)?,
        days: new.days,
        guarded: new.guarded.unwrap_or(true),
    };
    let drive = call.office.start_drive(&call.by, &account, new).await?;
    let place = ["accounts", &drive.account.clone(), "test-drives", &drive.id.clone()];
    created(&place, Some(drive.revision), TestDrive::from(drive))
}

/// A test drive, by its id or its set, and how both sides do.
#[utoipa::path(get, path = "/accounts/{account}/test-drives/{test_drive}", responses((status = 200, body = DriveReport)))]
async fn drive(call: Call, At([account, drive]): At<2>) -> Answer {
    let (drive, comparison) = call.office.drive(&call.by, &account, &drive).await?;
    let verdict = match comparison.verdict {
        judged::Verdict::Better => DriveVerdict::Better,
        judged::Verdict::Worse => DriveVerdict::Worse,
        judged::Verdict::Alike => DriveVerdict::Alike,
        judged::Verdict::TooLittle { .. } => DriveVerdict::TooLittle,
    };
    let report = DriveReport {
        verdict,
        words: comparison.words,
        new: comparison.new.into(),
        old: comparison.old.into(),
        figures: comparison.figures.into_iter().map(DriveCompared::from).collect(),
        drive: drive.clone().into(),
    };
    found(drive.revision, report)
}

/// Change a running test drive.
#[utoipa::path(patch, path = "/accounts/{account}/test-drives/{test_drive}", request_body = TestDriveChange, responses((status = 200, body = TestDrive)))]
async fn change_drive(
    call: Call,
    At([account, drive]): At<2>,
    IfMatch(revision): IfMatch,
    Body(to): Body<TestDriveChange>,
) -> Answer {
    let to = theirs::DriveChange {
        share: to.percent.map(|percent| share("percent", percent)).transpose()?,
        step: to.percent_a_day.map(|percent| share("percent_a_day", percent)).transpose()?,
        guarded: to.guarded,
        days: to.days,
        revision,
    };
    let drive = call.office.change_drive(&call.by, &account, &drive, to).await?;
    found(drive.revision, TestDrive::from(drive))
}

/// Move all mail of the set to the new pool, or none.
#[utoipa::path(post, path = "/accounts/{account}/test-drives/{test_drive}/orders", request_body = NewDriveOrder, responses((status = 200, body = TestDrive)))]
async fn order_drive(call: Call, At([account, drive]): At<2>, Body(order): Body<NewDriveOrder>) -> Answer {
    let drive = match order.order {
        DriveOrder::Finish => call.office.finish_drive(&call.by, &account, &drive).await?,
        DriveOrder::End => call.office.end_drive(&call.by, &account, &drive).await?,
    };
    found(drive.revision, TestDrive::from(drive))
}
