//! `weir explain MESSAGE`: which rule chose the pool, why that IP, what was tried, what each remote answered, and what comes
//! next and when. (R2.7)

use crate::client::{Target, escaped};
use crate::commands::{Done, runtime, say};
use hyper::Method;
use serde_json::Value;

#[derive(clap::Args)]
pub struct Arguments {
    /// The message's id, as it was answered at submission
    message: String,
    #[command(flatten)]
    target: Target,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Done {
    let path = format!("/api/v1/messages/{}", escaped(&arguments.message));
    let story = runtime()?.block_on(arguments.target.call(Method::GET, &path, None))?;
    if arguments.json {
        say(story);
    } else {
        say(told(&story).trim_end());
    }
    Ok(())
}

/// The story as a page of text.
fn told(story: &Value) -> String {
    let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut page = format!(
        "Message {}\n  from       {}\n  account    {}\n  accepted   {}\n  lives till {}\n  pool       {}: {}\n  IP         {}\n",
        text(story, "/id"),
        text(story, "/from"),
        text(story, "/account"),
        text(story, "/accepted_at"),
        text(story, "/expires_at"),
        text(story, "/route/pool"),
        text(story, "/route/rule_words"),
        text(story, "/route/ip"),
    );
    for recipient in story["recipients"].as_array().into_iter().flatten() {
        page.push_str(&format!("\n{}: {}\n", text(recipient, "/address"), text(recipient, "/state")));
        for event in recipient["events"].as_array().into_iter().flatten() {
            let parts = [
                text(event, "/ip"),
                text(event, "/host"),
                text(event, "/reply").replace('\n', " "),
                text(event, "/why/words"),
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
