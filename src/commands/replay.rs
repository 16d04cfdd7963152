//! `weir replay`: what would another way of warming up have made of what was really sent? (R8.2)

use crate::commands::simulate::{find, read};
use crate::commands::{Done, Failure, say};
use serde::Serialize;
use sim::page::grouped;
use sim::rehearsal::{Control, Outcome, rehearse};
use sim::scenario::Scenario;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  \
                  weir stats --by provider --resolution day --from 2026-08-01T00:00:00Z --until 2026-09-01T00:00:00Z --json > sent.json\n  \
                  weir replay sent.json good-sender --schedule steady\n  \
                  weir replay sent.json now.toml then.toml --json",
    group(clap::ArgGroup::new("other").args(["changed", "schedule"]).required(true).multiple(true))
)]
pub struct Arguments {
    /// What was really sent: a table day,provider,recipients, or what `weir stats --by provider --resolution day --json` prints
    #[arg(value_name = "HISTORY")]
    history: PathBuf,
    /// Pool, warm-up, list and providers as they are now: a shipped scenario's name, or a scenario file
    #[arg(value_name = "PRESENT")]
    present: String,
    /// The same as it might be; without it, as it is
    #[arg(value_name = "CHANGED")]
    changed: Option<String>,
    /// Let the changed one warm up by this schedule, or `learning`
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// Decides all that is left to chance, for both alike
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The figures, for programs
    #[arg(long)]
    json: bool,
}

/// A figure of both.
#[derive(Serialize)]
struct Row {
    figure: &'static str,
    #[serde(skip)]
    words: &'static str,
    /// None: not within the time.
    present: Option<f64>,
    changed: Option<f64>,
    /// Of the changed one, more than of the present one.
    difference: Option<f64>,
}

pub fn run(arguments: &Arguments) -> Done {
    let present = find(&arguments.present)?;
    let mut changed = arguments.changed.as_deref().map_or_else(|| Ok(present.clone()), find)?;
    if let Some(name) = &arguments.schedule {
        let control = Control::named(name).ok_or_else(|| {
            Failure(format!(
                "there is no schedule {name}; weir warm-up schedules lists those there are, and there is learning"
            ))
        })?;
        changed = changed.by(control);
    }
    let names = present.providers().into_iter().chain(changed.providers()).collect();
    let history = read(&arguments.history, &names)?;
    let play = |scenario: Scenario| rehearse(&scenario.with_only(&history).setting(arguments.seed));
    let rows = rows(&play(present), &play(changed));
    if arguments.json {
        say(serde_json::to_string(&rows)?);
    } else {
        let first = history.first().to_string();
        say(format!("What was really sent, {} days from {first:.10} on, by both:\n\n{}", history.days(), text(&rows)));
    }
    Ok(())
}

fn rows(present: &Outcome, changed: &Outcome) -> Vec<Row> {
    let row = |figure, words, of: &dyn Fn(&Outcome) -> Option<f64>| {
        let (present, changed) = (of(present), of(changed));
        let difference = present.zip(changed).map(|(present, changed)| changed - present);
        Row { figure, words, present, changed, difference }
    };
    let last = |outcome: &Outcome| outcome.days.last().cloned().unwrap_or_default();
    let waiting = |outcome: &Outcome| last(outcome).sites.iter().map(|site| site.waiting).sum::<u64>();
    let sum = |figure: fn(&sim::rehearsal::SiteDay) -> u64| move |outcome: &Outcome| Some(outcome.sum(figure) as f64);
    vec![
        row("offered", "messages", &sum(|site| site.offered)),
        row("own_ips", "by its own IPs", &sum(|site| site.dedicated)),
        row("other_ips", "left by the shared pool", &sum(|site| site.shared)),
        row("deferred", "answers: come again", &sum(|site| site.deferred)),
        row("blocked", "answers: blocked", &sum(|site| site.blocked)),
        row("given_up", "given up", &sum(|site| site.lost)),
        row("waiting", "waiting at the end", &|outcome| Some(waiting(outcome) as f64)),
        row("delay_p95_minutes", "minutes until 95 % arrived", &|outcome| Some(outcome.delay_minutes(95) as f64)),
        row("own_ips_from_day", "95 % by its own IPs from day", &|outcome| outcome.arrived().map(f64::from)),
        row("ips", "IPs at the end", &|outcome| Some(f64::from(last(outcome).ips))),
        row("cost_usd", "cost, US dollars", &|outcome| Some((outcome.cost() * 100.0).round() / 100.0)),
    ]
}

fn text(rows: &[Row]) -> String {
    let mut lines = vec![format!("{:<30} {:>14} {:>14} {:>14}", "", "present", "changed", "difference")];
    for row in rows {
        let figure =
            |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |value| grouped(value.round() as u64));
        let difference = row.difference.map_or_else(String::new, |more| {
            let sign = if more < 0.0 {
                "-"
            } else if more > 0.0 {
                "+"
            } else {
                ""
            };
            format!("{sign}{}", grouped(more.abs().round() as u64))
        });
        lines.push(format!(
            "{:<30} {:>14} {:>14} {difference:>14}",
            row.words,
            figure(row.present),
            figure(row.changed)
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failing unwrap is a failing test.
    use super::{rows, text};
    use sim::history::History;
    use sim::rehearsal::{Control, rehearse};
    use sim::scenario::Scenario;

    // R8.2: the same mail by a slower schedule: less by its own IPs, and what is missing there leaves.
    #[test]
    fn two_ways_are_told_side_by_side() {
        let good = Scenario::named("good-sender").unwrap();
        let table: String = (1..29).map(|day| format!("2026-02-{day:02},google,10000\n")).collect();
        let history = History::parse(&format!("day,provider,recipients\n{table}"), &good.providers()).unwrap();
        let play =
            |name: &str| rehearse(&good.clone().by(Control::named(name).unwrap()).with_only(&history).setting(1));
        let rows = rows(&play("learning"), &play("ses"));
        let of = |figure: &str| rows.iter().find(|row| row.figure == figure).unwrap();
        assert_eq!((of("offered").present, of("offered").difference), (Some(280_000.0), Some(0.0)));
        assert!(of("own_ips").difference.unwrap() < 0.0 && of("other_ips").difference.unwrap() > 0.0);
        assert!(of("own_ips_from_day").present.is_some());
        let text = text(&rows);
        assert!(text.contains("messages                              280,000        280,000"), "{text}");
        assert!(Control::named("fast").is_none());
    }
}
