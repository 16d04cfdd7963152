//! `weir dkim generate`: a key pair, and the DNS record that publishes it.

use crate::commands::{Done, Failure, say};
use mail::address::Domain;
use mail::dkim::{KeyKind, generate};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  weir dkim generate --domain example.com --selector s1 --out s1.pem")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make a key, write it to a file and print the DNS record to publish
    Generate(Generate),
}

#[derive(clap::Args)]
struct Generate {
    /// The domain that signs, such as example.com
    #[arg(long)]
    domain: String,
    /// The name of this key below _domainkey
    #[arg(long)]
    selector: String,
    /// Which kind of key; every receiver knows rsa
    #[arg(long, value_enum, default_value = "rsa")]
    kind: Kind,
    /// Where the private key goes; a file that exists is not overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    Rsa,
    Ed25519,
}

pub fn run(arguments: &Arguments) -> Done {
    let Command::Generate(arguments) = &arguments.command;
    let domain = Domain::parse(&arguments.domain)?;
    // The selector is one or more labels below _domainkey: a domain name of its own.
    let selector = Domain::parse(&arguments.selector)?;
    let kind = match arguments.kind {
        Kind::Rsa => KeyKind::Rsa2048,
        Kind::Ed25519 => KeyKind::Ed25519,
    };
    let pair = generate(kind)?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&arguments.out)
        .map_err(|fault| Failure(format!("{} cannot be written: {fault}", arguments.out.display())))?;
    file.write_all(pair.private_pem.as_bytes())?;
    file.sync_all()?;
    let name = format!("{selector}._domainkey.{domain}");
    if arguments.json {
        let out = serde_json::json!({ "name": name, "type": "TXT", "value": pair.record, "key": arguments.out });
        say(out);
    } else {
        say(format!("The private key is in {}. Publish this record:\n", arguments.out.display()));
        say(format!("{name}. IN TXT {}", quoted(&pair.record)));
    }
    Ok(())
}

/// A TXT record is made of strings of at most 255 octets each.
fn quoted(record: &str) -> String {
    let strings: Vec<String> =
        record.as_bytes().chunks(255).map(|part| format!("\"{}\"", String::from_utf8_lossy(part))).collect();
    format!("( {} )", strings.join(" "))
}
