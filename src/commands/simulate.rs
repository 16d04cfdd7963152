//! `weir simulate`: what would months of sending look like? (R8.2)

use crate::commands::{Done, Failure, say};
use sim::history::History;
use sim::page::{grouped, page, percent, pictures};
use sim::rehearsal::{Outcome, rehearse};
use sim::scenario::Scenario;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  weir simulate --list\n  weir simulate good-sender --html warm-up.html\n  \
                        weir simulate mine.toml --seed 7 --json\n  \
                        weir stats --by provider --resolution day --from 2026-08-01T00:00:00Z --until 2026-10-01T00:00:00Z --json > sent.json\n  \
                        weir simulate good-sender --history sent.json")]
pub struct Arguments {
    /// A shipped scenario's name, or a scenario file
    #[arg(value_name = "SCENARIO", required_unless_present = "list")]
    scenario: Option<String>,
    /// What was really sent, in place of the scenario's volume: a table day,provider,recipients, or what
    /// `weir stats --by provider --resolution day --json` prints
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Name the shipped scenarios
    #[arg(long)]
    list: bool,
    /// Decides all that is left to chance: the same seed, the same months
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Everything that was found, for programs
    #[arg(long)]
    json: bool,
    /// Write a page with charts into this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write each chart as a picture into this folder
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Done {
    let Some(name) = arguments.scenario.as_deref().filter(|_| !arguments.list) else {
        for scenario in Scenario::shipped() {
            say(format!("{:<20} {}", scenario.name, scenario.words));
        }
        return Ok(());
    };
    let mut scenario = find(name)?;
    let mut words = scenario.words.to_string();
    if let Some(path) = &arguments.history {
        let history = read(path, &scenario.providers())?;
        scenario = scenario.with(&history);
        words = format!(
            "{words}; with what was really sent, {} days from {:.10} on",
            history.days(),
            history.first().to_string()
        );
    }
    let outcome = rehearse(&scenario.setting(arguments.seed));
    if let Some(path) = &arguments.html {
        std::fs::write(path, page(&scenario.name, &words, &outcome))
            .map_err(|fault| Failure(format!("{} cannot be written: {fault}", path.display())))?;
    }
    if let Some(folder) = &arguments.pictures {
        draw(folder, &outcome)
            .map_err(|fault| Failure(format!("the pictures cannot be written into {}: {fault}", folder.display())))?;
    }
    if arguments.json {
        say(serde_json::to_string(&outcome)?);
    } else {
        say(format!("{}: {words}\n\n{}", scenario.name, text(&outcome)));
    }
    Ok(())
}

fn draw(folder: &Path, outcome: &Outcome) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for picture in pictures(outcome) {
        std::fs::write(folder.join(format!("{}.svg", picture.name)), picture.svg)?;
    }
    Ok(())
}

/// A shipped scenario, or one in a file.
pub fn find(name: &str) -> Result<Scenario, Failure> {
    if let Some(shipped) = Scenario::named(name) {
        return Ok(shipped);
    }
    let text = std::fs::read_to_string(name).map_err(|fault| {
        Failure(format!("{name} is no shipped scenario (weir simulate --list names them) and cannot be read: {fault}"))
    })?;
    Scenario::parse(&text).map_err(|fault| Failure(format!("{name}: {fault}")))
}

/// What was really sent, to none but these providers.
pub fn read(path: &Path, providers: &BTreeSet<Arc<str>>) -> Result<History, Failure> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|fault| Failure(format!("{file} cannot be read: {fault}")))?;
    let history = History::parse(&text, providers).map_err(|fault| Failure(format!("{file}: {fault}")))?;
    let holes: Vec<String> = history.holes().collect();
    if let Some(first) = holes.first() {
        let more = if holes.len() > 1 { format!(" and {} more days", holes.len() - 1) } else { String::new() };
        eprintln!("{file} says nothing of {first}{more}: nothing was sent then, as far as is rehearsed.");
    }
    Ok(history)
}

/// Week by week, and what was decided.
fn text(outcome: &Outcome) -> String {
    let mut lines = vec![format!(
        "{:>4} {:>4} {:>12} {:>12} {:>12} {:>10} {:>9} {:>9}",
        "day", "IPs", "offered", "own IPs", "shared", "deferred", "blocked", "waiting"
    )];
    for (number, day) in outcome.days.iter().enumerate().step_by(7) {
        let sum = |figure: fn(&sim::rehearsal::SiteDay) -> u64| grouped(day.sites.iter().map(figure).sum());
        lines.push(format!(
            "{:>4} {:>4} {:>12} {:>12} {:>12} {:>10} {:>9} {:>9}",
            number + 1,
            day.ips,
            sum(|site| site.offered),
            sum(|site| site.dedicated),
            sum(|site| site.shared),
            sum(|site| site.deferred),
            sum(|site| site.blocked),
            sum(|site| site.waiting)
        ));
    }
    let arrived = outcome.arrived().map_or_else(|| "not in this time".to_owned(), |day| format!("from day {day} on"));
    lines.push(String::new());
    lines.push(format!("95 % by its own IPs: {arrived}"));
    lines.push(format!("asked to come again: {}", percent(outcome.deferred_share())));
    lines.push(format!("95 % had arrived within {} minutes", grouped(outcome.delay_minutes(95))));
    lines.push(format!("given up: {}; cost: {:.2} USD", grouped(outcome.sum(|site| site.lost)), outcome.cost()));
    lines.push(format!("{} decisions; --html draws them, --json has them all", grouped(outcome.told.len() as u64)));
    lines.join("\n")
}
