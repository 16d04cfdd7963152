//! A Weir with a database, an account in it, and webhooks that hear of all that happens to its mail.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::table::text;
use crate::tools::{Fault, Outcome, answer, directory, program, target, workspace, write};

/// Where the targets listen.
pub const TOLD_AT: &str = "127.0.0.1:2528";
pub const WEBHOOKS: u64 = 3;
/// What happens to each message of the bench, and is told: it is accepted, and delivered.
const EVENTS: [&str; 2] = ["accepted", "delivered"];
const READY_WITHIN: Duration = Duration::from_secs(30);
/// As in `examples/sink.toml`.
const CALLS_AT: &str = "127.0.0.1:8025";

/// Events of a message at all targets together.
pub const fn told_of_each() -> u64 {
    WEBHOOKS * EVENTS.len() as u64
}

/// Fills the data folder `state/data`, and writes the configuration to serve it with.
pub fn prepare(state: &Path, signed_domain: Option<&str>) -> Outcome<PathBuf> {
    let data = state.join("data");
    let config = state.join("weir.toml");
    write(&config, &configuration("operator")?)?;
    let weir = target().join("release/weir");
    let mut init = program(&weir, ["init", "--json", "--email", "operator@weir.test", "--config"]);
    let made = said(init.arg(&config).arg("--data").arg(&data))?;
    let key = text(&made, "key").ok_or_else(|| Fault("weir init told no key".into()))?;
    let serve = Serving::begin(&weir, &config, &data)?;
    let call = |words: &[&str]| said(program(&weir, words).arg("--json").env("WEIR_KEY", &key));
    let account = call(&["account", "create", "bench", "--standing", "production"])?;
    let account = text(&account, "id").ok_or_else(|| Fault("the new account has no id".into()))?;
    call(&["account", "change", "bench", "--senders", "any"])?;
    if let Some(domain) = signed_domain {
        call(&["domain", "verify", domain, "--account", "bench", "--without-dns"])?;
    }
    for number in 1..=WEBHOOKS {
        let (name, url) = (format!("all-{number}"), format!("http://{TOLD_AT}/{number}"));
        call(&["webhook", "create", &name, "--account", "bench", "--target", &url, "--kinds", &EVENTS.join(",")])?;
    }
    serve.end()?;
    write(&config, &configuration(&account)?)?;
    Ok(config)
}

/// `examples/sink.toml`, with what it says of accounts and IPs left to the database.
fn configuration(account: &str) -> Outcome<String> {
    let example = workspace().join("examples/sink.toml");
    let plain = fs::read_to_string(&example).map_err(Fault::at(example.display()))?;
    let kept = plain.split("\n[").filter(|section| {
        !["[account]", "[credential]", "[ip]", "[pool]"].iter().any(|begin| section.starts_with(begin))
    });
    let text = kept.collect::<Vec<_>>().join("\n[").replace("account = \"sink\"", &format!("account = \"{account}\""));
    let text = text.replace("operator_key = \"operator-for-tryouts\"\n", "");
    Ok(text + "\n[control]\nwebhooks_allow_private = [\"127.0.0.0/8\"]\n")
}

fn said(command: &mut Command) -> Outcome<String> {
    answer(command).ok_or_else(|| Fault(format!("this failed: {command:?}")))
}

struct Serving(Child);

impl Serving {
    fn begin(weir: &Path, config: &Path, data: &Path) -> Outcome<Serving> {
        let log = fs::File::create(directory(data.to_owned())?.with_file_name("prepare.log"));
        let log = log.map_err(Fault::at("prepare.log"))?;
        let mut command = program(weir, ["serve", "--config"]);
        command.arg(config).arg("--data").arg(data).stdout(Stdio::null()).stderr(log);
        let serving = Serving(command.spawn().map_err(Fault::at("weir serve"))?);
        let began = Instant::now();
        while TcpStream::connect(CALLS_AT).is_err() {
            if began.elapsed() > READY_WITHIN {
                return Err(Fault(format!("weir serve takes no calls at {CALLS_AT}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(serving)
    }

    /// As an operator ends it.
    fn end(mut self) -> Outcome<()> {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        self.0.wait().map(|_| ()).map_err(Fault::at("weir serve"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Over already, where it was ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
