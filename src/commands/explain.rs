//! `weir explain MESSAGE`: which rule chose the pool, why that IP, what was tried, what each remote answered, and what comes
//! next and when. (R2.7)

use crate::client::{Target, escaped};
use crate::commands::{Done, runtime, say};
use hyper::Method;
use serde_json::Value;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  weir explain 019a8f6e5d7c7b3e9f1a2b3c4d5e6f70")]
pub struct Arguments {
    /// The message's id, as it was answered at submission
    message: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub fn run(arguments: &Arguments) -> Done {
    let path = format!("/api/v1/messages/{}", escaped(&arguments.message));
    let answer = runtime()?.block_on(arguments.target.call(Method::GET, &path, None))?;
    if arguments.json {
        say(answer);
    } else {
        say(told(&answer.value).trim_end());
    }
    Ok(())
}

/// The story as a page of text.
fn told(story: &Value) -> String {
    let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut page = format!("Message {}\n", text(story, "/id"));
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            page.push_str(&format!("  {name:<10} {value}\n"));
        }
    };
    line("from", text(story, "/from"));
    line("account", text(story, "/account"));
    line("subaccount", text(story, "/subaccount"));
    line("set", text(story, "/configuration_set"));
    line("accepted", text(story, "/accepted_at"));
    line("send at", text(story, "/send_at"));
    line("lives till", text(story, "/expires_at"));
    let pool = |route: &str| {
        let (pool, words) = (text(story, &format!("{route}/pool")), text(story, &format!("{route}/rule_words")));
        if pool.is_empty() { pool } else { format!("{pool}: {words}") }
    };
    line("pool", pool("/route"));
    line("IP", text(story, "/route/ip"));
    line("route", text(story, "/undecided/words"));
    line("now", pool("/undecided/now"));
    line("now", text(story, "/undecided/why/words"));
    for recipient in story["recipients"].as_array().into_iter().flatten() {
        page.push_str(&format!("\n{}: {}\n", text(recipient, "/address"), text(recipient, "/state")));
        for event in recipient["events"].as_array().into_iter().flatten() {
            let parts = [
                text(event, "/ip"),
                text(event, "/host"),
                text(event, "/reply").replace('\n', " "),
                text(event, "/why/words"),
                text(event, "/feedback"),
                text(event, "/reader"),
                text(event, "/link"),
                text(event, "/agent"),
            ];
            let said: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            page.push_str(&format!("  {}  {:<10} {}\n", text(event, "/at"), text(event, "/kind"), said.join(" · ")));
        }
        let why = text(recipient, "/why/words");
        let next = text(recipient, "/next_at");
        match (text(recipient, "/state").as_str(), next.is_empty()) {
            ("queued" | "held", false) => page.push_str(&format!("  next: {next}, because {why}\n")),
            ("queued" | "held", true) => page.push_str(&format!("  waits: {why}\n")),
            _ => {}
        }
    }
    page
}
