//! `weir send`: hands in a message, through the same admission as every other way.

use crate::client::{BASE, Target};
use crate::commands::{Done, Failure, runtime, say};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::PathBuf;

/// For an attachment whose kind is not said.
const ANY_KIND: &str = "application/octet-stream";

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  weir send --from you@example.com --to ann@example.org --subject Hello --text \"It works.\"\n  weir send --from you@example.com --to ann@example.org --raw message.eml --send-at 2030-01-01T10:00:00Z"
)]
pub struct Arguments {
    /// The sender, such as "Ann <ann@example.com>"
    #[arg(long)]
    from: Option<String>,
    /// A recipient; may be given several times
    #[arg(long, required = true)]
    to: Vec<String>,
    /// A recipient that gets a copy; may be given several times
    #[arg(long)]
    cc: Vec<String>,
    /// A recipient that nobody else sees; may be given several times
    #[arg(long)]
    bcc: Vec<String>,
    /// Where answers go
    #[arg(long)]
    reply_to: Vec<String>,
    /// What it is about
    #[arg(long)]
    subject: Option<String>,
    /// The text; "-" reads it from standard input
    #[arg(long)]
    text: Option<String>,
    /// A file with HTML
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// A file to attach, with its kind after a colon if it is said; may be given several times
    #[arg(long, value_name = "FILE[:TYPE/SUBTYPE]")]
    attach: Vec<String>,
    /// A further header field; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A finished message (RFC 5322) to send as it is; "-" reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "text", "html", "cc", "reply_to", "attach", "header"])]
    raw: Option<PathBuf>,
    /// The pool that carries it
    #[arg(long)]
    pool: Option<String>,
    /// The configuration set it is sent with
    #[arg(long, visible_alias = "set", value_name = "SET")]
    configuration_set: Option<String>,
    /// The subaccount it is of
    #[arg(long)]
    subaccount: Option<String>,
    /// The region it leaves from
    #[arg(long)]
    region: Option<String>,
    /// The kind of mail it is; each shares fairly with the account's others
    #[arg(long)]
    stream: Option<String>,
    /// How the last leg is protected
    #[arg(long, value_parser = ["if-offered", "required"])]
    tls: Option<String>,
    /// Not before this time, such as 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME")]
    send_at: Option<String>,
    /// A tag, as name=value
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Vec<String>,
    /// The same key with the same message is accepted once, and answered with the first answer, for 24 hours
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub fn run(arguments: &Arguments) -> Done {
    let body = body(arguments)?;
    arguments.target.must_have_key()?;
    let headers: Vec<_> = arguments.idempotency_key.iter().map(|key| ("idempotency-key", key.clone())).collect();
    let path = format!("{BASE}/messages");
    let answer = runtime()?.block_on(arguments.target.ask(Method::POST, &path, Some(&body), &headers))?;
    if arguments.json {
        say(answer);
    } else {
        say(format!("accepted as {}", answer.value["id"].as_str().unwrap_or_default()));
        for to in answer.value["suppressed"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            say(format!("nothing goes to {to}: it is on the suppression list"));
        }
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
        ("subaccount", &arguments.subaccount),
        ("region", &arguments.region),
        ("stream", &arguments.stream),
        ("tls", &arguments.tls),
        ("send_at", &arguments.send_at),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            put(name, json!(value));
        }
    }
    let tags = split(&arguments.tag, '=', "a tag such as name=value")?;
    put("tags", Value::Object(tags));
    if let Some(path) = &arguments.raw {
        put("raw", json!(STANDARD.encode(read(path)?)));
        return Ok(body);
    }
    put("cc", json!(arguments.cc));
    put("reply_to", json!(arguments.reply_to));
    put("headers", Value::Object(split(&arguments.header, ':', "a header field such as Name: value")?));
    put("attachments", arguments.attach.iter().map(|named| attachment(named)).collect::<Result<_, _>>()?);
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

fn split(given: &[String], sign: char, what: &str) -> Result<Map<String, Value>, Failure> {
    let parts = given.iter().map(|one| {
        let (name, value) = one.split_once(sign).ok_or_else(|| Failure(format!("{one} is not {what}")))?;
        Ok((name.trim().to_owned(), json!(value.trim())))
    });
    parts.collect()
}

fn attachment(named: &str) -> Result<Value, Failure> {
    let typed = named.rsplit_once(':').filter(|(_, kind)| kind.contains('/'));
    let (path, kind) = typed.unwrap_or((named, ANY_KIND));
    let path = PathBuf::from(path);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(json!({ "name": name, "content_type": kind, "content": STANDARD.encode(read(&path)?) }))
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
