//! Warm-ups: how far an IP is, what it may send today and why, and what is ordered about it. (R4.5)

use super::words::{Address, Time, words};
use super::{Answer, At, Call, found, told, whole};
use crate::asked::{Body, Everything, Listed, Listing};
use crate::caller::Desk;
use crate::explanation::WhyView;
use crate::problem::Problem;
use axum::extract::State;
use control::Refusal;
use control::inventory as theirs;
use control::warm_up::{self, WarmUpOrder};
use engine::WarmUpView;
use engine::judged;
use engine::schedule::{Per, Schedule};
use engine::warmup::State as Standing;
use mta::hidden::Hidden;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const DAY_MICROS: i64 = 86_400_000_000;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(warm_up))
        .routes(routes!(order_warm_up))
        .routes(routes!(warm_ups))
        .routes(routes!(warm_ups_of_account))
        .routes(routes!(new_ips_warm_up))
        .routes(routes!(schedules))
}

words!(
    /// `paused`: it goes on sending what it may, and nothing brings more. `done`: it is warm, and has no limit. `off`: it has none by
    /// order.
    WarmUpState is Standing { Warming, Paused, Done, Off }
);
words!(
    /// What a schedule's volumes are of: all that an IP sends, or what it sends to each provider.
    SchedulePer is Per { Ip, Provider }
);

/// How an IP warms up.
#[derive(Serialize, ToSchema)]
struct WarmUp {
    ip: Address,
    /// A schedule's name, or `learning`: as fast as each provider bears. None: it does not warm up, and has no limit.
    #[schema(required)]
    schedule: Option<String>,
    /// The last order about it: `restart`, `pause`, `resume`, `done`, `off`, `stage 5`, `percent 40`.
    #[schema(required)]
    ordered: Option<String>,
    #[schema(required)]
    ordered_at: Option<Time>,
    /// One for each provider it has sent to, or one for all of them, as the schedule counts.
    courses: Vec<WarmUpCourse>,
}

#[derive(Serialize, ToSchema)]
struct WarmUpCourse {
    /// None: all that the IP sends.
    #[schema(required)]
    provider: Option<String>,
    state: WarmUpState,
    /// From 1; of one that learns, always 1.
    stage: u32,
    #[schema(required)]
    stages: Option<u32>,
    /// Of its stages; of one that learns, how much of what is asked for it may send.
    percent: u8,
    /// Messages of this day, which is UTC's. None: without limit.
    #[schema(required)]
    allowed: Option<u64>,
    today: WarmUpCounts,
    /// Nothing more goes before.
    #[schema(required)]
    until: Option<Time>,
    #[schema(required)]
    why: Option<WhyView>,
    /// What was decided last.
    #[schema(required)]
    last: Option<WarmUpStep>,
}

/// Messages of a day.
#[derive(Serialize, ToSchema)]
struct WarmUpCounts {
    /// That went, or were tried.
    used: u64,
    /// That had no place and left by another IP.
    turned_away: u64,
    delivered: u64,
    deferred: u64,
    bounced: u64,
    blocked: u64,
    complained: u64,
}

impl From<judged::Counts> for WarmUpCounts {
    fn from(counts: judged::Counts) -> WarmUpCounts {
        WarmUpCounts {
            used: counts.taken,
            turned_away: counts.turned_away,
            delivered: counts.delivered,
            deferred: counts.deferred,
            bounced: counts.bounced,
            blocked: counts.blocked,
            complained: counts.complained,
        }
    }
}

/// A decision, and the figures it was taken by.
#[derive(Serialize, ToSchema)]
struct WarmUpStep {
    /// The midnight that the day began with.
    day: Time,
    code: &'static str,
    words: String,
    /// Messages a day.
    from: u64,
    to: u64,
    counts: WarmUpCounts,
}

impl From<&judged::Step> for WarmUpStep {
    fn from(step: &judged::Step) -> WarmUpStep {
        WarmUpStep {
            day: Time(engine::time::Timestamp(step.day.saturating_mul(DAY_MICROS))),
            code: step.judged.code(),
            words: step.words(),
            from: step.from,
            to: step.to,
            counts: step.counts.into(),
        }
    }
}

impl From<WarmUpView> for WarmUpCourse {
    fn from(view: WarmUpView) -> WarmUpCourse {
        WarmUpCourse {
            provider: view.provider.as_deref().map(str::to_owned),
            state: view.state.into(),
            stage: view.stage,
            stages: view.stages,
            percent: view.percent,
            allowed: view.allowed,
            today: view.today.into(),
            until: view.until.map(Time),
            why: view.why.as_ref().map(|why| WhyView::of(why, &Hidden::default())),
            last: view.last.as_ref().map(WarmUpStep::from),
        }
    }
}

/// `start`: from the first stage on. `set`: go on from that `stage` or `percent`. `done`: it is warm; `off`: no limit, whatever comes.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum WarmUpOrderWord {
    Start,
    Pause,
    Resume,
    Set,
    Done,
    Off,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWarmUpOrder {
    order: WarmUpOrderWord,
    /// For `start`: a schedule's name, or `learning`. Without it, the one it has, or the installation's.
    schedule: Option<String>,
    /// For `set`, from 1.
    stage: Option<u32>,
    /// For `set`, from 0 to 100.
    percent: Option<u8>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewIpsWarmUp {
    /// Whether IPs that are leased from now on warm up. Those that do go on.
    new_ips: bool,
}

#[derive(Serialize, ToSchema)]
struct NewIpsWarmUpIs {
    new_ips: bool,
}

#[derive(Serialize, ToSchema)]
struct WarmUpSchedule {
    name: String,
    words: String,
    per: SchedulePer,
    /// Of a stage's volume, so much must be delivered on a day to bring the next stage; 0: each day brings it.
    used_percent: u8,
    /// Messages a day, stage by stage.
    volumes: Vec<u64>,
}

impl From<&Schedule> for WarmUpSchedule {
    fn from(schedule: &Schedule) -> WarmUpSchedule {
        WarmUpSchedule {
            name: schedule.name.to_string(),
            words: schedule.words.to_string(),
            per: schedule.per.into(),
            used_percent: schedule.used_percent,
            volumes: (1..=schedule.stages()).map(|stage| schedule.volume(stage)).collect(),
        }
    }
}

fn address(text: &str) -> Result<IpAddr, Refusal> {
    text.parse().map_err(|_| Refusal::not_found("IP", text))
}

fn order_of(body: NewWarmUpOrder) -> Result<WarmUpOrder, Problem> {
    Ok(match (body.order, body.stage, body.percent) {
        (WarmUpOrderWord::Start, None, None) => WarmUpOrder::Start { schedule: body.schedule },
        (WarmUpOrderWord::Set, Some(stage), None) => WarmUpOrder::Stage(stage),
        (WarmUpOrderWord::Set, None, Some(percent)) => WarmUpOrder::Percent(percent),
        (WarmUpOrderWord::Set, ..) => {
            let what = "This order needs either a stage or a percentage.";
            return Err(Problem::invalid("stage", what, "Give one of them."));
        }
        (_, Some(_), _) => return Err(Problem::invalid("stage", "Only set takes a stage.", "Leave it out.")),
        (_, _, Some(_)) => return Err(Problem::invalid("percent", "Only set takes one.", "Leave it out.")),
        (WarmUpOrderWord::Pause, ..) => WarmUpOrder::Pause,
        (WarmUpOrderWord::Resume, ..) => WarmUpOrder::Resume,
        (WarmUpOrderWord::Done, ..) => WarmUpOrder::Done,
        (WarmUpOrderWord::Off, ..) => WarmUpOrder::Off,
    })
}

/// What the data plane says of these IPs.
async fn views(desk: &Desk, ips: &[theirs::Ip]) -> Result<Vec<WarmUpView>, Problem> {
    let of: Vec<IpAddr> = ips.iter().map(|ip| ip.address).collect();
    desk.driver.ask(move |engine, _| engine.warm_ups(&of)).await.map_err(|_| Problem::stopping())
}

fn view(ip: &theirs::Ip, views: &[WarmUpView]) -> WarmUp {
    let own = views.iter().filter(|view| view.ip == ip.address).cloned();
    WarmUp {
        ip: Address(ip.address),
        schedule: ip.warm_up.as_ref().map(|warm_up| warm_up::by_text(&warm_up.by).to_owned()),
        ordered: ip.warm_up.as_ref().map(|warm_up| warm_up::ordered_text(warm_up.ordered)),
        ordered_at: ip.warm_up.as_ref().map(|warm_up| Time(warm_up.ordered_at)),
        courses: own.map(WarmUpCourse::from).collect(),
    }
}

/// How an IP warms up: how far it is, what it may send today, and why.
#[utoipa::path(get, path = "/ips/{ip}/warm-up", responses((status = 200, body = WarmUp)))]
async fn warm_up(State(desk): State<Desk>, call: Call, At([ip]): At<1>) -> Answer {
    let ip = call.office.ip(&call.by, address(&ip)?).await?;
    let views = views(&desk, std::slice::from_ref(&ip)).await?;
    found(ip.revision, view(&ip, &views))
}

/// Start, pause, set or end an IP's warm-up.
#[utoipa::path(post, path = "/ips/{ip}/warm-up/orders", request_body = NewWarmUpOrder, responses((status = 200, body = WarmUp)))]
async fn order_warm_up(
    State(desk): State<Desk>,
    call: Call,
    At([ip]): At<1>,
    Body(order): Body<NewWarmUpOrder>,
) -> Answer {
    let ip = call.office.order_warm_up(&call.by, address(&ip)?, &order_of(order)?).await?;
    let views = views(&desk, std::slice::from_ref(&ip)).await?;
    found(ip.revision, view(&ip, &views))
}

async fn all(desk: &Desk, call: &Call, account: Option<String>, list: Listing<Everything>) -> Answer {
    let filter = theirs::IpFilter { account, ..theirs::IpFilter::default() };
    let page = call.office.ips(&call.by, &filter, &list.window).await?;
    let views = views(desk, &page.items).await?;
    super::listed(page, |ip| view(&ip, &views))
}

/// How IPs warm up, by address. For the operator.
#[utoipa::path(get, path = "/warm-ups", responses((status = 200, body = Listed<WarmUp>)))]
async fn warm_ups(State(desk): State<Desk>, call: Call, list: Listing<Everything>) -> Answer {
    call.by.may_watch()?;
    all(&desk, &call, None, list).await
}

/// How the IPs warm up that the account leases; those of managed pools are the operator's to see.
#[utoipa::path(get, path = "/accounts/{account}/warm-ups", responses((status = 200, body = Listed<WarmUp>)))]
async fn warm_ups_of_account(
    State(desk): State<Desk>,
    call: Call,
    At([account]): At<1>,
    list: Listing<Everything>,
) -> Answer {
    all(&desk, &call, Some(account), list).await
}

/// Whether IPs that the account leases from now on warm up by themselves.
#[utoipa::path(put, path = "/accounts/{account}/warm-up", request_body = NewIpsWarmUp, responses((status = 200, body = NewIpsWarmUpIs)))]
async fn new_ips_warm_up(call: Call, At([account]): At<1>, Body(to): Body<NewIpsWarmUp>) -> Answer {
    let account = call.office.set_warms_up(&call.by, &account, to.new_ips).await?;
    told(NewIpsWarmUpIs { new_ips: account.warms_up })
}

/// The schedules that an IP can warm up by.
#[utoipa::path(get, path = "/warm-up-schedules", responses((status = 200, body = Listed<WarmUpSchedule>)))]
async fn schedules(call: Call, _: Listing<Everything>) -> Answer {
    whole(call.office.schedules().all().collect::<Vec<_>>(), WarmUpSchedule::from)
}
