//! How do we compare with the peers, on this machine, in the same minutes?

mod control;
mod lanes;
mod table;
mod tenant;
mod peers;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use self::peers::{SERVER_PORT, SINK_PORT, Server};
use self::table::{Row, figure, median_of_all, table, told};
use crate::tools::{Fault, Outcome, answer, cargo, directory, program, run, target, write};

struct Plan {
    servers: Vec<Server>,
    messages: u64,
    rounds: usize,
    warm_up: u64,
    paced: u64,
    ways: Vec<&'static str>,
}

const NEW_EACH: &str = "new each";
const KEPT_OPEN: &str = "kept open";

/// Prepares the servers, measures them in turn, round by round, and prints the table.
pub fn bench(words: &[String]) -> Outcome<()> {
    if words == ["--control"] {
        return control::control();
    }
    if words == ["--lanes"] {
        return lanes::lanes();
    }
    if words == ["--quotas"] {
        return lanes::quotas();
    }
    if words == ["--invoices"] {
        return lanes::invoices();
    }
    let plan = Plan::read(words)?;
    build()?;
    let results = directory(target().join("bench"))?.join("results.jsonl");
    let mut obstacles = Vec::new();
    let mut servers = Vec::new();
    for server in &plan.servers {
        match server.prepare() {
            Ok(()) => servers.push(*server),
            Err(Fault(why)) => obstacles.push(format!("{}: {why}", server.name())),
        }
    }

    let mut rows: Vec<Row> = Vec::new();
    // Interleaved, so that what else the machine does in these minutes falls on all alike.
    for round in 1..=plan.rounds {
        for way in &plan.ways {
            let servers = servers.iter().copied().filter(|server| *way == KEPT_OPEN || server.http().is_none());
            for server in std::iter::once(None).chain(servers.map(Some)) {
                let name = server.map_or("generator straight into sink", Server::name);
                eprintln!("Round {round} of {}: {name}, {way}", plan.rounds);
                match plan.measure(name, server, way) {
                    Ok(json) => {
                        note(&mut rows, name, way, json);
                        // At once: what ends the rest early leaves what was measured.
                        keep(&results, &rows)?;
                    }
                    Err(Fault(why)) => {
                        obstacles.push(format!("{name}, {way}, round {round}: {why}"));
                    }
                }
            }
        }
    }
    println!("{}", machine(&rows));
    println!(
        "{} messages of 10 KiB, 20 sessions, medians of {} rounds; × is the ratio to postfix.\n",
        plan.messages, plan.rounds
    );
    println!("{}", table(&rows, Server::Postfix.name()));
    print!("{}", told(&rows));
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(Fault(format!("not measured:\n  {}", obstacles.join("\n  "))))
}

/// All in one go: apart they are built with other features, and so several times.
fn build() -> Outcome<()> {
    let packages = ["weir", "bench", "control", "engine"].map(|package| ["-p", package]);
    let targets = [
        ["--bin", "weir"],
        ["--bin", "bench"],
        ["--example", "fill"],
        ["--example", "routes"],
        ["--example", "suppression"],
        ["--example", "events"],
    ];
    run(cargo(["build", "--release"]).args(packages.as_flattened()).args(targets.as_flattened()))
}

impl Plan {
    fn read(words: &[String]) -> Outcome<Plan> {
        let quick = words.iter().any(|word| word == "--quick");
        let (messages, rounds, warm_up, paced) = if quick { (1_000, 1, 100, 400) } else { (20_000, 3, 1_000, 4_000) };
        let mut plan =
            Plan { servers: Server::ALL.to_vec(), messages, rounds, warm_up, paced, ways: vec![NEW_EACH, KEPT_OPEN] };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| Fault(format!("{word} takes a value")));
            match word.as_str() {
                "--quick" => {}
                "--messages" => plan.messages = number(word, value()?)?,
                "--rounds" => plan.rounds = number(word, value()?)? as usize,
                "--only" => {
                    plan.servers = value()?.split(',').map(server).collect::<Outcome<_>>()?;
                }
                "--new-each" => plan.ways = vec![NEW_EACH],
                "--keep-open" => plan.ways = vec![KEPT_OPEN],
                other => return Err(Fault(format!("bench does not know {other}"))),
            }
        }
        Ok(plan)
    }

    /// One run of one server, or of the generator straight into the sink; its figures as JSON.
    fn measure(&self, name: &str, server: Option<Server>, way: &str) -> Outcome<String> {
        let state = directory(target().join("bench/runs"))?;
        let log = state.join(format!("{name}.log"));
        let mut command = program(target().join("release/bench"), ["run", "--name", name]);
        command.args(["--sink", &format!("127.0.0.1:{SINK_PORT}")]);
        command.args(["--messages", &self.messages.to_string(), "--warm-up", &self.warm_up.to_string()]);
        command.args(["--paced", &self.paced.to_string()]);
        if way == KEPT_OPEN {
            command.arg("--keep-open");
        }
        match server {
            None => {
                command.arg("--disk").arg(&state);
            }
            Some(server) => {
                let (words, disk) = server.command()?;
                command.args(["--to", &format!("127.0.0.1:{SERVER_PORT}")]);
                if let Some((at, key)) = server.http() {
                    command.args(["--http", at, "--key", key]);
                }
                if server.tells() {
                    command.args(["--webhooks", tenant::TOLD_AT, "--events", &tenant::told_of_each().to_string()]);
                }
                command.arg("--disk").arg(disk).arg("--log").arg(&log).arg("--").args(words);
            }
        }
        let output = command.stderr(Stdio::piped()).output().map_err(Fault::at("bench run"))?;
        let json = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Fault(format!("{why}; see {}", log.display())));
        }
        eprintln!("  {:.0} messages/s", figure(&json, "end_to_end_per_second").unwrap_or(0.0));
        Ok(json)
    }
}

fn number(option: &str, value: &str) -> Outcome<u64> {
    value.parse().map_err(|_| Fault(format!("{option} takes a number, not {value}")))
}

fn server(name: &str) -> Outcome<Server> {
    let names = Server::ALL.map(Server::name);
    let found = Server::ALL.into_iter().find(|server| server.name() == name);
    found.ok_or_else(|| Fault(format!("no server {name}; there are: {}", names.join(", "))))
}

fn note(rows: &mut Vec<Row>, name: &str, way: &'static str, json: String) {
    match rows.iter_mut().find(|row| row.name == name && row.way == way) {
        Some(row) => row.rounds.push(json),
        None => rows.push(Row { name: name.into(), way, rounds: vec![json] }),
    }
}

fn keep(results: &Path, rows: &[Row]) -> Outcome<()> {
    let lines: Vec<&str> = rows.iter().flat_map(|row| row.rounds.iter().map(String::as_str)).collect();
    write(results, &(lines.join("\n") + "\n"))
}

/// What this was measured on.
fn machine(rows: &[Row]) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let sync_us = |name| median_of_all(rows, name).unwrap_or(f64::NAN) * 1000.0;
    let commit = answer(&mut program("git", ["rev-parse", "--short", "HEAD"])).unwrap_or_default();
    format!(
        "Machine: {cores} cores, {model}, Linux {}, fdatasync of 10 KiB p50 {:.0} µs, p99 {:.0} µs; commit {commit}.",
        kernel.trim(),
        sync_us("fdatasync_p50_ms"),
        sync_us("fdatasync_p99_ms"),
    )
}
