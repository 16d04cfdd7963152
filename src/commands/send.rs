//! `weir send`: hands in a message, through the same admission as every other way.

use crate::client::Target;
use crate::commands::{Done, Failure, runtime, say};
use hyper::Method;
use serde_json::{Value, json};
use std::io::Read;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// The sender, such as "Ann <ann@example.com>"
    #[arg(long)]
    from: Option<String>,
    /// A recipient; may be given several times
    #[arg(long, required = true)]
    to: Vec<String>,
    #[arg(long)]
    cc: Vec<String>,
    #[arg(long)]
    bcc: Vec<String>,
    #[arg(long)]
    subject: Option<String>,
    /// The text; "-" reads it from standard input
    #[arg(long)]
    text: Option<String>,
    /// A file with HTML
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// A finished message (RFC 5322) to send as it is; "-" reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "text", "html", "cc"])]
    raw: Option<PathBuf>,
    /// The pool that carries it
    #[arg(long)]
    pool: Option<String>,
    /// The configuration set it is sent with
    #[arg(long)]
    configuration_set: Option<String>,
    /// Not before this time, such as 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME")]
    send_at: Option<String>,
    /// A tag, as name=value
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Vec<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Done {
    let body = body(arguments)?;
    let answer = runtime()?.block_on(arguments.target.call(Method::POST, "/api/v1/messages", Some(&body)))?;
    if arguments.json {
        say(answer);
    } else {
        say(format!("accepted as {}", answer.get("id").and_then(Value::as_str).unwrap_or_default()));
    }
    Ok(())
}

fn body(arguments: &Arguments) -> Result<Value, Failure> {
    let mut body = json!({ "to": arguments.to, "bcc": arguments.bcc });
    let mut put = |name: &str, value: Value| body[name] = value;
    if let Some(from) = &arguments.from {
        put("from", json!(from));
    }
    let named = [
        ("pool", &arguments.pool),
        ("configuration_set", &arguments.configuration_set),
        ("send_at", &arguments.send_at),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            put(name, json!(value));
        }
    }
    let mut tags = serde_json::Map::new();
    for tag in &arguments.tag {
        let (name, value) =
            tag.split_once('=').ok_or_else(|| Failure(format!("{tag} is not a tag such as name=value")))?;
        tags.insert(name.to_owned(), json!(value));
    }
    put("tags", Value::Object(tags));
    if let Some(path) = &arguments.raw {
        use base64::Engine as _;
        put("raw", json!(base64::engine::general_purpose::STANDARD.encode(read(path)?)));
        return Ok(body);
    }
    put("cc", json!(arguments.cc));
    put("subject", json!(arguments.subject));
    match arguments.text.as_deref() {
        Some("-") => put("text", json!(String::from_utf8(read(&PathBuf::from("-"))?)?)),
        text => put("text", json!(text)),
    }
    if let Some(path) = &arguments.html {
        put("html", json!(String::from_utf8(read(path)?)?));
    }
    Ok(body)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut octets)?;
    } else {
        octets = std::fs::read(path).map_err(|fault| Failure(format!("{} cannot be read: {fault}", path.display())))?;
    }
    Ok(octets)
}
