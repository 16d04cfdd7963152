//! `weir serve`: the service itself, until it is told to stop.

use crate::commands::{Done, Failure, LogForm, init, runtime, say, start_log};
use crate::{judge, wire};
use net::clock::Clock;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  weir serve --data /var/lib/weir\n  weir serve --config /etc/weir/weir.toml --data /var/lib/weir"
)]
pub struct Arguments {
    /// The configuration file; without it, weir.toml in the data folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder for everything that must not be lost: queue, events, keys
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// How log lines look
    #[arg(long, value_enum, default_value = "text")]
    log: LogForm,
}

impl Arguments {
    fn config(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.data.join(init::CONFIG))
    }
}

pub fn run(arguments: &Arguments) -> Done {
    start_log(arguments.log, "info");
    let config = arguments.config();
    if arguments.config.is_none() && !config.exists() {
        return Err(Failure(format!(
            "{} holds no {}: begin an installation there with `weir init --data {}`, or name a file with --config",
            arguments.data.display(),
            init::CONFIG,
            arguments.data.display(),
        )));
    }
    let house = load(&config)?;
    warn(&house);
    runtime()?.block_on(serve(arguments, house))
}

/// The file, or all its problems as one text.
pub fn load(path: &std::path::Path) -> Result<judge::House, Failure> {
    judge::load(path).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure(format!("the configuration cannot be used:\n{}", lines.join("\n")))
    })
}

async fn serve(arguments: &Arguments, house: judge::House) -> Done {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let host = house.host.clone();
    let running = wire::open(house, &arguments.data, Clock::system()).await?;
    for address in &running.smtp {
        tracing::info!(%address, "taking mail by SMTP");
    }
    if let Some(address) = running.http {
        tracing::info!(%address, "taking calls by HTTP");
    }
    if let Some(address) = running.tracking {
        tracing::info!(%address, "leading readers on");
    }
    if let Some(address) = running.returns {
        tracing::info!(%address, "taking back what comes back");
    }
    if let Some(office) = &running.office
        && let Some(first) = init::first_operator(office, &host).await
    {
        say(first);
    }
    tracing::info!(%host, data = %arguments.data.display(), queued = running.plant.spool.queued(), "weir is open");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reload(arguments, &running),
        }
    }
    tracing::info!("stopping: no new mail; what is in flight is finished, the rest is kept");
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

fn warn(house: &judge::House) {
    for warning in &house.warnings {
        tracing::warn!("in the configuration: {warning}");
    }
}

/// E7: a file that cannot be used changes nothing.
fn reload(arguments: &Arguments, running: &wire::Running) {
    match judge::load(&arguments.config()) {
        Ok(house) => {
            warn(&house);
            running.change(&house);
            tracing::info!(
                "the configuration is read anew: accounts, credentials, domains, IPs, pools, shaping, rules and TLS files; what else it says counts from the next start"
            );
        }
        Err(problems) => {
            for problem in problems {
                tracing::error!("the new configuration is not used: {problem}");
            }
        }
    }
}
