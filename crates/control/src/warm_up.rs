//! By what does an IP warm up, and what was ordered about it last? (R4.1, R4.5)
//!
//! How far it is, the data plane knows alone; here stands what it is to go by.

use crate::refusal::Refusal;
use crate::store::{Change, q, run};
use engine::judged::Ordered;
use engine::schedule::Schedules;
use engine::snapshot::{WarmUp, WarmUpBy};
use engine::time::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;

/// The word for what is no schedule.
pub const LEARNING: &str = "learning";
/// A learned course has no stages of its own; beyond that is a slip.
const STAGE_MAX: u32 = 400;

/// What is to be done with an IP's warm-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarmUpOrder {
    /// From the first stage on; by this schedule, or by the one it has, or else by the installation's.
    Start {
        schedule: Option<String>,
    },
    Pause,
    Resume,
    Stage(u32),
    Percent(u8),
    Done,
    Off,
}

/// Both columns or nothing: what cannot be read begins anew, as a new IP does.
pub(crate) fn read(by: Option<&str>, ordered: Option<&str>, at: Option<i64>) -> Option<WarmUp> {
    let by = by_of(by?);
    let ordered = ordered.and_then(ordered_of).unwrap_or(Ordered::Restart);
    Some(WarmUp { by, ordered, ordered_at: Timestamp(at.unwrap_or(1)) })
}

pub(crate) async fn put(change: &mut Change, address: IpAddr, warm_up: Option<&WarmUp>) -> Result<(), Refusal> {
    let update = q!(
        "UPDATE ip SET warm_up = $2, warm_up_ordered = $3, warm_up_ordered_at = $4 WHERE address = $1",
        address.to_string(),
        warm_up.map(|warm_up| by_text(&warm_up.by).to_owned()),
        warm_up.map(|warm_up| ordered_text(warm_up.ordered)),
        warm_up.map(|warm_up| warm_up.ordered_at.0),
    );
    run(change.conn(), update).await?;
    Ok(())
}

fn by_of(text: &str) -> WarmUpBy {
    if text == LEARNING { WarmUpBy::Learning } else { WarmUpBy::Schedule(Arc::from(text)) }
}

/// A schedule's name, or that it learns.
#[must_use]
pub fn by_text(by: &WarmUpBy) -> &str {
    match by {
        WarmUpBy::Learning => LEARNING,
        WarmUpBy::Schedule(name) => name,
    }
}

#[must_use]
pub fn ordered_text(ordered: Ordered) -> String {
    match ordered {
        Ordered::Pause => "pause".into(),
        Ordered::Resume => "resume".into(),
        Ordered::Restart => "restart".into(),
        Ordered::Done => "done".into(),
        Ordered::Off => "off".into(),
        Ordered::Stage(stage) => format!("stage {stage}"),
        Ordered::Percent(percent) => format!("percent {percent}"),
    }
}

fn ordered_of(text: &str) -> Option<Ordered> {
    let (what, figure) = text.split_once(' ').unwrap_or((text, ""));
    Some(match what {
        "pause" => Ordered::Pause,
        "resume" => Ordered::Resume,
        "restart" => Ordered::Restart,
        "done" => Ordered::Done,
        "off" => Ordered::Off,
        "stage" => Ordered::Stage(figure.parse().ok()?),
        "percent" => Ordered::Percent(figure.parse().ok()?),
        _ => return None,
    })
}

/// What an order makes of it.
pub(crate) fn follow(
    was: Option<&WarmUp>,
    order: &WarmUpOrder,
    (schedules, default): (&Schedules, &Arc<str>),
    now: Timestamp,
) -> Result<WarmUp, Refusal> {
    // Each order is later than the one before it, whatever the clock says.
    let ordered_at = was.map_or(now, |was| now.max(Timestamp(was.ordered_at.0 + 1)));
    let by = match (order, was) {
        (WarmUpOrder::Start { schedule: Some(name) }, _) => {
            if name != LEARNING && schedules.named(name).is_none() {
                let names: Vec<&str> = schedules.all().map(|schedule| &*schedule.name).collect();
                return Err(Refusal::invalid(
                    "schedule",
                    format!("There is no schedule {name}."),
                    format!("Name one of {}, or {LEARNING}.", names.join(", ")),
                ));
            }
            by_of(name)
        }
        (_, Some(was)) => was.by.clone(),
        (WarmUpOrder::Start { schedule: None }, None) => WarmUpBy::Schedule(Arc::clone(default)),
        (WarmUpOrder::Stage(_) | WarmUpOrder::Percent(_), None) => WarmUpBy::Schedule(Arc::clone(default)),
        (WarmUpOrder::Pause | WarmUpOrder::Resume | WarmUpOrder::Done | WarmUpOrder::Off, None) => {
            let sentence = "This IP has no warm-up: it may send without limit.";
            return Err(Refusal::conflict("no_warm_up", sentence, "Start one, or set a stage.").by_rule("R4.5"));
        }
    };
    let ordered = match order {
        WarmUpOrder::Start { .. } => Ordered::Restart,
        WarmUpOrder::Pause => Ordered::Pause,
        WarmUpOrder::Resume => Ordered::Resume,
        WarmUpOrder::Done => Ordered::Done,
        WarmUpOrder::Off => Ordered::Off,
        WarmUpOrder::Stage(stage) => {
            let most = match &by {
                WarmUpBy::Schedule(name) => schedules.named(name).map_or(STAGE_MAX, engine::schedule::Schedule::stages),
                WarmUpBy::Learning => STAGE_MAX,
            };
            if !(1..=most).contains(stage) {
                let sentence = format!("The stages of {} are 1 to {most}.", by_text(&by));
                return Err(Refusal::invalid("stage", sentence, "Give one of them."));
            }
            Ordered::Stage(*stage)
        }
        WarmUpOrder::Percent(percent) => match percent {
            0 => Ordered::Restart,
            1..100 => Ordered::Percent(*percent),
            100 => Ordered::Done,
            _ => return Err(Refusal::invalid("percent", "A percentage is from 0 to 100.", "Give one of these.")),
        },
    };
    Ok(WarmUp { by, ordered, ordered_at })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failing unwrap is a failing test.
    use super::{WarmUpOrder, follow, ordered_of, ordered_text};
    use engine::judged::Ordered;
    use engine::schedule::Schedules;
    use engine::time::Timestamp;
    use std::sync::Arc;

    // R4.5: as SES sets it, by percentage; 0 is the beginning and 100 the end.
    #[test]
    fn each_order_is_later_than_the_one_before() {
        let (schedules, steady): (_, Arc<str>) = (Schedules::shipped(), "steady".into());
        let follow = |was: Option<&_>, order: WarmUpOrder| follow(was, &order, (&schedules, &steady), Timestamp(5));
        let begun = follow(None, WarmUpOrder::Start { schedule: None }).unwrap();
        assert_eq!((begun.ordered, begun.ordered_at), (Ordered::Restart, Timestamp(5)));
        let half = follow(Some(&begun), WarmUpOrder::Percent(50)).unwrap();
        assert_eq!((half.ordered, half.ordered_at), (Ordered::Percent(50), Timestamp(6)));
        assert_eq!(follow(Some(&half), WarmUpOrder::Percent(0)).unwrap().ordered, Ordered::Restart);
        assert_eq!(follow(Some(&half), WarmUpOrder::Percent(100)).unwrap().ordered, Ordered::Done);
        assert_eq!(follow(Some(&half), WarmUpOrder::Stage(14)).unwrap().ordered, Ordered::Stage(14));
        for (was, order, code) in [
            (None, WarmUpOrder::Pause, "no_warm_up"),
            (Some(&half), WarmUpOrder::Stage(15), "invalid"),
            (Some(&half), WarmUpOrder::Percent(101), "invalid"),
            (Some(&half), WarmUpOrder::Start { schedule: Some("fast".into()) }, "invalid"),
        ] {
            assert!(follow(was, order.clone()).unwrap_err().code.contains(code), "{order:?}");
        }
    }

    #[test]
    fn orders_are_kept_as_words() {
        for ordered in [
            Ordered::Pause,
            Ordered::Resume,
            Ordered::Restart,
            Ordered::Done,
            Ordered::Off,
            Ordered::Stage(7),
            Ordered::Percent(40),
        ] {
            assert_eq!(ordered_of(&ordered_text(ordered)), Some(ordered));
        }
    }
}
