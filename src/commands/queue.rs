//! `weir queue`: what waits and why; hold, release, retry, delete; lanes, and resuming one; and the spool's own check.

use crate::client::{Target, escaped};
use crate::commands::{Done, Failure, runtime, say};
use hyper::Method;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  weir queue list --domain gmail.com\n  weir queue retry --domain gmail.com\n  weir queue delete --message 019a8f6e5d7c7b3e9f1a2b3c4d5e6f70"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// What waits, with the reason
    List(List),
    /// The lanes: each IP towards each provider, with its limits and state
    Lanes(Lanes),
    /// Let a lane go on at full pace, whatever held it back
    Resume(Resume),
    /// Keep messages back until they are released
    Hold(Chosen),
    /// Let held messages go on
    Release(Chosen),
    /// Try now, whatever the schedule says
    Retry(Chosen),
    /// Drop messages for good
    Delete(Chosen),
    /// Read a spool, also one in use, and say how it is
    Check(Check),
}

#[derive(clap::Args)]
struct Which {
    /// One message, by its id
    #[arg(long)]
    message: Option<String>,
    /// The account's, by name or id
    #[arg(long)]
    account: Option<String>,
    /// The subaccount's, by id
    #[arg(long)]
    subaccount: Option<String>,
    /// The pool they leave from, by id
    #[arg(long)]
    pool: Option<String>,
    /// The recipients' domain
    #[arg(long)]
    domain: Option<String>,
    /// The IP they leave from
    #[arg(long)]
    ip: Option<String>,
    /// The mailbox provider they go to
    #[arg(long)]
    provider: Option<String>,
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    which: Which,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Go on after this message
    #[arg(long)]
    after: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args)]
struct Lanes {
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args)]
struct Resume {
    /// The lane's IP
    #[arg(long)]
    ip: String,
    /// The lane's provider, as `weir queue lanes` names it
    #[arg(long)]
    provider: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args)]
struct Chosen {
    #[command(flatten)]
    which: Which,
    /// All that is queued: needed when nothing narrower is given
    #[arg(long)]
    all: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args)]
struct Check {
    /// The data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

impl Which {
    async fn fields(&self, target: &Target) -> Result<Vec<(&'static str, String)>, Failure> {
        let account = match &self.account {
            Some(called) => Some(target.account_id(called).await?),
            None => None,
        };
        let all = [
            ("message", &self.message),
            ("account", &account),
            ("subaccount", &self.subaccount),
            ("pool", &self.pool),
            ("domain", &self.domain),
            ("ip", &self.ip),
            ("provider", &self.provider),
        ];
        Ok(all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect())
    }
}

pub fn run(arguments: &Arguments) -> Done {
    match &arguments.command {
        Command::List(list) => self::list(list),
        Command::Lanes(lanes) => self::lanes(lanes),
        Command::Resume(lane) => resume(lane),
        Command::Hold(chosen) => order("hold", chosen),
        Command::Release(chosen) => order("release", chosen),
        Command::Retry(chosen) => order("retry", chosen),
        Command::Delete(chosen) => order("delete", chosen),
        Command::Check(check) => {
            say(spool::check::check(&check.data)?);
            Ok(())
        }
    }
}

fn list(list: &List) -> Done {
    let runtime = runtime()?;
    let mut query = vec![format!("limit={}", list.limit)];
    query.extend(
        runtime
            .block_on(list.which.fields(&list.target))?
            .iter()
            .map(|(name, value)| format!("{name}={}", escaped(value))),
    );
    if let Some(after) = &list.after {
        query.push(format!("after={}", escaped(after)));
    }
    let path = format!("/api/v1/queue?{}", query.join("&"));
    let answer = runtime.block_on(list.target.call(Method::GET, &path, None))?;
    if list.json {
        say(answer);
        return Ok(());
    }
    if answer.value["messages"].as_array().is_some_and(Vec::is_empty) {
        say("Nothing waits.");
    }
    for item in answer.value["messages"].as_array().into_iter().flatten() {
        let text = |path: &str| item.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let until = text("/until");
        say(format!(
            "{}  {:<12} {:<24} {:<16} {}{}",
            text("/message"),
            text("/account"),
            text("/domain"),
            text("/ip"),
            text("/why/words"),
            if until.is_empty() { String::new() } else { format!(" (until {until})") }
        ));
    }
    if let Some(next) = answer.value["next"].as_str() {
        say(format!("more: --after {next}"));
    }
    Ok(())
}

fn lanes(lanes: &Lanes) -> Done {
    let answer = runtime()?.block_on(lanes.target.call(Method::GET, "/api/v1/lanes", None))?;
    if lanes.json {
        say(answer);
        return Ok(());
    }
    say(format!("{:<18} {:<28} {:>8} {:>9} {:>8}  state", "IP", "provider", "waiting", "sessions", "pace ‰"));
    for lane in answer.value["lanes"].as_array().into_iter().flatten() {
        let text = |path: &str| {
            lane.pointer(path).map(|value| value.as_str().map_or(value.to_string(), str::to_owned)).unwrap_or_default()
        };
        say(format!(
            "{:<18} {:<28} {:>8} {:>9} {:>8}  {}",
            text("/ip"),
            text("/provider"),
            text("/waiting"),
            format!("{}/{}", text("/sessions"), text("/sessions_allowed")),
            text("/pace"),
            lane.pointer("/why/words").and_then(Value::as_str).unwrap_or("free")
        ));
    }
    Ok(())
}

fn resume(lane: &Resume) -> Done {
    let body = json!({ "ip": lane.ip, "provider": lane.provider });
    let answer = runtime()?.block_on(lane.target.call(Method::POST, "/api/v1/lanes/resume", Some(&body)))?;
    if lane.json {
        say(answer);
        return Ok(());
    }
    say(format!(
        "{} goes on to {}; {} messages are ready",
        lane.ip,
        lane.provider,
        answer.value["messages"].as_u64().unwrap_or_default()
    ));
    Ok(())
}

fn order(order: &str, chosen: &Chosen) -> Done {
    let runtime = runtime()?;
    let fields = runtime.block_on(chosen.which.fields(&chosen.target))?;
    if fields.is_empty() && !chosen.all {
        return Err(Failure(format!(
            "say what to {order}: a message, an account, a subaccount, a pool, a domain, an IP, a provider, or --all"
        )));
    }
    let mut filter: Map<String, Value> =
        fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    if filter.is_empty() {
        filter.insert("all".to_owned(), json!(true));
    }
    let answer = runtime.block_on(chosen.target.call(
        Method::POST,
        &format!("/api/v1/queue/{order}"),
        Some(&Value::Object(filter)),
    ))?;
    if chosen.json {
        say(answer);
        return Ok(());
    }
    say(match answer.value["messages"].as_u64().unwrap_or_default() {
        1 => "1 message concerned".to_owned(),
        count => format!("{count} messages concerned"),
    });
    Ok(())
}
