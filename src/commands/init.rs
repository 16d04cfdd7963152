//! `weir init`: a new installation in a folder, its operator, and the key to begin with.

use crate::commands::{Done, Failure, LogForm, runtime, say, serve, start_log};
use crate::{judge, rounds};
use control::credential::{CredentialKind, NewCredential};
use control::{Actor, Office};
use engine::snapshot::Scope;
use mail::address::Domain;
use net::clock::Clock;
use net::dns::{FixedAnswers, FixedDns};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration in a data folder, where none is named.
pub const CONFIG: &str = "weir.toml";

/// Stands in the file until somebody says otherwise; it is reserved (RFC 2606), so nobody is impersonated.
const PLACEHOLDER: &str = "mail.example.com";

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  weir init --data /var/lib/weir --host mail.example.net --email you@example.net\n  weir serve --data /var/lib/weir"
)]
pub struct Arguments {
    /// The folder for everything that must not be lost; made if it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// A configuration file with a [control] section; without it, one to begin with is written into the folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name this machine greets other mail servers with, for the file that is written
    #[arg(long, value_name = "NAME", default_value = PLACEHOLDER, conflicts_with = "config")]
    host: String,
    /// Where HTTP calls are taken, for the file that is written
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8025", conflicts_with = "config")]
    http: SocketAddr,
    /// Where mail is taken by SMTP with STARTTLS, for the file that is written
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:2587", conflicts_with = "config")]
    smtp: SocketAddr,
    /// Where mail is taken by SMTP inside of TLS, for the file that is written
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:2465", conflicts_with = "config")]
    smtps: SocketAddr,
    /// The operator's e-mail address; without it, operator@HOST
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// The plan: folder and file; database and region; an IP to send from; the operator as a person and as a key.
pub fn run(arguments: &Arguments) -> Done {
    start_log(LogForm::Text, "error");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&arguments.data)?;
    let config = match &arguments.config {
        Some(config) => config.clone(),
        None => begin_config(arguments)?,
    };
    let house = serve::load(&config)?;
    runtime()?.block_on(begin(arguments, &config, &house))
}

async fn begin(arguments: &Arguments, config: &Path, house: &judge::House) -> Done {
    let Some(control) = &house.control else {
        let words = "has no [control] section, so its accounts and IPs stand in the file itself";
        return Err(Failure(format!(
            "{} {words}; add the line [control] to keep them in a database",
            config.display()
        )));
    };
    // Nothing is asked of the DNS here.
    let dns = Arc::new(FixedDns::new(FixedAnswers::default(), None));
    let (office, _) = rounds::office(house, control, &arguments.data, &Clock::system(), dns)?;
    office.store().bring_up_to_date().await?;
    office.make_home().await?;
    let by = Actor::command_line();
    let email = arguments.email.clone().unwrap_or_else(|| format!("operator@{}", house.host));
    let invited = office.create_first_operator(&email).await.map_err(|refusal| {
        Failure(format!(
            "{} is an installation already: {} {}",
            arguments.data.display(),
            refusal.sentence,
            refusal.mend
        ))
    })?;
    let ip = office.add_first_ip(&by).await?;
    let new = NewCredential {
        kind: CredentialKind::Api,
        account: None,
        subaccount: None,
        name: "the operator's first key".to_owned(),
        scopes: BTreeSet::from([Scope::Send, Scope::Read, Scope::Manage]),
        networks: Vec::new(),
        expires_at: None,
    };
    let key = office.create_credential(&by, new).await?;
    office.close().await;
    let (key, link) = (key.secret.show().to_owned(), invited.link.show().to_owned());
    let url = house.http.map(|http| format!("http://{http}"));
    if arguments.json {
        say(json!({
            "key": key, "url": url, "email": email, "link": link, "link_expires_at": invited.expires_at.to_string(),
            "region": office.home_region().as_str(), "ip": ip, "config": config, "data": arguments.data,
        }));
        return Ok(());
    }
    let ip = ip.map_or_else(
        || "none was found on this machine; see weir ip add".to_owned(),
        |ip| format!("{ip}, in the shared pool"),
    );
    let (data, config) = (arguments.data.display(), config.display());
    let serve = match &arguments.config {
        Some(_) => format!("weir serve --config {config} --data {data}"),
        None => format!("weir serve --data {data}"),
    };
    let url = url.map(|url| format!("\n  export WEIR_URL={url}")).unwrap_or_default();
    say(format!(
        "A new installation is in {data}.\n\n  configuration  {config}\n  first IP       {ip}\n  key            {key}\n  operator       \
         {email}\n  one-time link  {link}\n\nKey and link are shown this once. The key is for programs and the command line; with the link \
         the operator sets a\npassword, to sign in as a person: weir person set-password --link LINK, until {}.\n\nStart it:\n\n  \
         {serve}\n\nThen, in another terminal:\n{url}\n  export WEIR_KEY={key}\n  weir account create shop --standing production\n  \
         weir domain verify example.com --account shop --without-dns\n  weir key create --account shop\n",
        invited.expires_at,
    ));
    if house.host.to_string() == PLACEHOLDER {
        say(format!("Before any mail leaves for the world, put this machine's own name as host into {config}."));
    }
    Ok(())
}

/// At the first start of a house where nobody can let anybody in: the one-time link, in words.
pub async fn first_operator(office: &Office, host: &Domain) -> Option<String> {
    // Where there is somebody, or no database, there is nothing to say.
    let invited = office.create_first_operator(&format!("operator@{host}")).await.ok()?;
    let link = invited.link.show().to_owned();
    Some(format!(
        "Nobody can let anybody in here yet. The one-time link of operator@{host}, good until {}: {link}\nSet a \
         password with `weir person set-password --link LINK`, sign in with `weir me sign-in --email operator@{host}`, and let the \
         token that is answered stand for a key in WEIR_KEY. (`weir init` on an empty folder prints a key at once.)",
        invited.expires_at,
    ))
}

/// A file that works as it stands, and says what to look at.
fn begin_config(arguments: &Arguments) -> Result<PathBuf, Failure> {
    let Arguments { http, smtp, smtps, .. } = arguments;
    let path = arguments.data.join(CONFIG);
    if path.exists() {
        return Ok(path);
    }
    let host = Domain::parse(&arguments.host).map_err(|error| Failure(format!("--host: {error}")))?;
    let text = format!(
        r#"# The configuration of this installation; see docs/operate/configuration.md for all that can stand here.
# The name this machine greets with. It must have an address, and the address must lead back to it.
host = "{host}"

# Mail is taken here, from who signs in under TLS; 587 and 465 are usual and need rights. Without a [tls] section the certificate is self-signed.
[[listener]]
address = "{smtp}"
tls = "starttls"

[[listener]]
address = "{smtps}"
tls = "implicit"

# Calls are taken here; keep it on loopback, or behind something that speaks TLS.
[http]
address = "{http}"

# Accounts, IPs, pools and keys are kept in a database: a file in the data folder, unless one is named here.
[control]
# database = "postgres://weir@127.0.0.1/weir"
"#
    );
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    Ok(path)
}
