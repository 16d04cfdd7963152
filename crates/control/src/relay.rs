//! Which SMTP services has an account elsewhere, that take what its own IPs have no place for? (R4.2)
//!
//! Whoever moves here from another service keeps it for as long as the new IPs warm up. Its password is sealed, and shown to nobody.

use crate::account;
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::seal::Sealer;
use crate::store::{Change, Columns, Whose, number, q, row, rows, run, run_unless};
use engine::id::AccountId;
use engine::snapshot::{self, RelaySecurity, relay_address};
use engine::time::Timestamp;
use mail::address::Domain;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::net::IpAddr;
use std::sync::Arc;

const RELAYS_MAX: i64 = 20;
const NAME_OCTETS_MAX: usize = 255;
const PASSWORD_OCTETS_MAX: usize = 1_024;
/// An account does not make us knock at other doors; the operator knows what it does.
const PORTS: [u16; 6] = [25, 465, 587, 2465, 2525, 2587];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    pub id: String,
    pub account: String,
    pub name: String,
    pub host: String,
    pub port: u16,
    pub security: RelaySecurity,
    /// The name it is signed in with; none: it asks for none.
    pub user: Option<String>,
    /// The address it stands under among the IPs.
    pub address: IpAddr,
    pub revision: i64,
    pub created_at: Timestamp,
}

#[derive(Clone)]
pub struct NewRelay {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub security: RelaySecurity,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// What is left out stays.
#[derive(Clone, Default)]
pub struct RelayChange {
    pub name: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub security: Option<RelaySecurity>,
    /// `Some(None)`: it asks for none any more, and the password is forgotten.
    pub user: Option<Option<String>>,
    pub password: Option<String>,
    pub revision: Option<i64>,
}

#[must_use]
pub fn security_code(security: RelaySecurity) -> &'static str {
    match security {
        RelaySecurity::StartTls => "start-tls",
        RelaySecurity::Tls => "tls",
        RelaySecurity::Clear => "clear",
    }
}

fn security_of(code: &str) -> RelaySecurity {
    match code {
        "tls" => RelaySecurity::Tls,
        "clear" => RelaySecurity::Clear,
        // What cannot be read is protected.
        _ => RelaySecurity::StartTls,
    }
}

macro_rules! columns {
    () => {
        "id, account, name, host, port, security, user_name, number, revision, created_at, password"
    };
}

fn read(row: &AnyRow) -> Result<Relay, Refusal> {
    Ok(Relay {
        id: row.text(0)?,
        account: row.text(1)?,
        name: row.text(2)?,
        host: row.text(3)?,
        port: u16::try_from(row.whole(4)?).unwrap_or_default(),
        security: security_of(&row.text(5)?),
        user: row.text_or_none(6)?,
        address: relay_address(u32::try_from(row.whole(7)?).unwrap_or_default()),
        revision: row.whole(8)?,
        created_at: Timestamp(row.whole(9)?),
    })
}

/// As the data plane knows them, by address.
pub(crate) async fn told(
    conn: &mut AnyConnection,
    sealer: &Sealer,
    ehlo: &str,
    whose: Whose<'_>,
) -> Result<Vec<(IpAddr, snapshot::Ip)>, Refusal> {
    let query = whose.query(
        concat!("SELECT ", columns!(), " FROM relay"),
        concat!("SELECT ", columns!(), " FROM relay WHERE account = $1"),
    );
    let mut told = Vec::new();
    for row in rows(conn, query).await? {
        let relay = read(&row)?;
        let sign_in = match &relay.user {
            Some(user) => {
                let password = sealer.open(&place(&relay.id), &row.octets(10)?)?;
                Some((user.clone(), String::from_utf8_lossy(&password).into_owned()))
            }
            None => None,
        };
        let Ok(host) = Domain::parse(&relay.host) else { continue };
        let hop = snapshot::Hop::Relay(Arc::new(snapshot::Relay {
            account: AccountId::new(&relay.account),
            name: Arc::from(relay.name.as_str()),
            host,
            port: relay.port,
            security: relay.security,
            sign_in,
        }));
        let ip = snapshot::Ip {
            bind: relay.address,
            ehlo: ehlo.to_owned(),
            state: snapshot::IpState::Active,
            hop: Some(hop),
            warm_up: None,
        };
        told.push((relay.address, ip));
    }
    Ok(told)
}

/// By id or name; another account's is not there.
pub(crate) async fn own(conn: &mut AnyConnection, account: &str, called: &str) -> Result<Relay, Refusal> {
    let query = q!(
        concat!("SELECT ", columns!(), " FROM relay WHERE account = $1 AND (id = $2 OR name = $2) ORDER BY id LIMIT 1"),
        account.to_owned(),
        called.to_owned(),
    );
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("relay", called)),
    }
}

/// What a password is sealed for: that of one relay opens no other.
fn place(relay: &str) -> String {
    format!("relay {relay}")
}

fn taken(name: &str) -> Refusal {
    Refusal::conflict("name_taken", format!("There is a relay {name} already."), "Choose another name.").at("name")
}

fn host(said: &str) -> Result<String, Refusal> {
    let refused = |sentence: String| {
        Refusal::invalid("host", sentence, "Give the service's host name, such as smtp.example.com.")
    };
    let host = Domain::parse(said.trim()).map_err(|error| refused(format!("This is no host: {error}.")))?;
    if host.as_str().parse::<IpAddr>().is_ok() || !host.as_str().contains('.') {
        return Err(refused(format!("{host} is no host name: a certificate has to bear it.")));
    }
    Ok(host.to_string())
}

fn port(by: &Actor, port: u16) -> Result<u16, Refusal> {
    if port == 0 || !by.is_operator() && !PORTS.contains(&port) {
        let known = PORTS.map(|port| port.to_string()).join(", ");
        return Err(Refusal::invalid("port", format!("A relay is at one of the ports {known}."), "Give one of them."));
    }
    Ok(port)
}

/// What fits into a line of the protocol, and can have been meant.
fn secret(field: &'static str, said: &str, octets_max: usize) -> Result<String, Refusal> {
    // A file that somebody wrote ends with a line.
    let said = said.trim_end_matches(['\r', '\n']);
    if (1..=octets_max).contains(&said.len()) && !said.chars().any(char::is_control) {
        return Ok(said.to_owned());
    }
    let sentence = format!("It has 1 to {octets_max} octets, and no control characters.");
    Err(Refusal::invalid(field, sentence, "Give it as the service told it."))
}

/// A password is never said where others can listen.
fn fits(security: RelaySecurity, user: Option<&str>) -> Result<(), Refusal> {
    if security == RelaySecurity::Clear && user.is_some() {
        return Err(Refusal::invalid(
            "security",
            "A name and password are not sent in clear.",
            "Say start-tls or tls; or leave out name and password.",
        ));
    }
    Ok(())
}

fn needs_both() -> Refusal {
    Refusal::invalid("password", "A name and a password go together.", "Give both, or none.")
}

impl Office {
    pub async fn create_relay(&self, by: &Actor, account: &str, new: NewRelay) -> Result<Relay, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let count = q!("SELECT COUNT(*) FROM relay WHERE account = $1", account.id.clone());
        if number(change.conn(), count).await? >= RELAYS_MAX {
            let sentence = format!("The account has {RELAYS_MAX} relays, which is as many as it may have.");
            return Err(Refusal::conflict("relays_max", sentence, "Delete one that is not used."));
        }
        // Numbers of relays that are gone do not come again: their mail may still be queued.
        let last = number(change.conn(), q!("SELECT last FROM relay_number")).await?;
        run(change.conn(), q!("UPDATE relay_number SET last = last + 1")).await?;
        let (user, password) = match (new.user, new.password) {
            (None, None) => (None, None),
            (Some(user), Some(password)) => (
                Some(secret("user", &user, NAME_OCTETS_MAX)?),
                Some(secret("password", &password, PASSWORD_OCTETS_MAX)?),
            ),
            _ => return Err(needs_both()),
        };
        fits(new.security, user.as_deref())?;
        let relay = Relay {
            id: id::fresh("rel"),
            account: account.id.clone(),
            name: name::pool(&new.name)?,
            host: host(&new.host)?,
            port: port(by, new.port)?,
            security: new.security,
            user,
            address: relay_address(u32::try_from(last + 1).unwrap_or(u32::MAX)),
            revision: 1,
            created_at: now,
        };
        let sealed = password.map(|password| self.sealer().seal(&place(&relay.id), password.as_bytes())).transpose()?;
        let insert = q!(
            "INSERT INTO relay (id, account, name, host, port, security, user_name, password, number, revision, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10)",
            relay.id.clone(),
            relay.account.clone(),
            relay.name.clone(),
            relay.host.clone(),
            i64::from(relay.port),
            security_code(relay.security),
            relay.user.clone(),
            sealed,
            last + 1,
            now.0,
        );
        run_unless(change.conn(), insert, || taken(&relay.name)).await?;
        self.write_relay(&mut change, by, &relay, "created", shown(&relay)).await?;
        change.commit().await?;
        Ok(relay)
    }

    pub async fn relays(&self, by: &Actor, account: &str, window: &Window) -> Result<Page<Relay>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let query = q!(
            concat!("SELECT ", columns!(), " FROM relay WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3"),
            account.id,
            window.after_text(),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |relay| relay.id.clone()))
    }

    pub async fn relay(&self, by: &Actor, account: &str, called: &str) -> Result<Relay, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        own(&mut conn, &account.id, called).await
    }

    pub async fn change_relay(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        to: RelayChange,
    ) -> Result<Relay, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let was = own(change.conn(), &account.id, called).await?;
        account::must_be_seen("relay", to.revision, was.revision)?;
        let mut is = was.clone();
        if let Some(name) = &to.name {
            is.name = name::pool(name)?;
        }
        if let Some(said) = &to.host {
            is.host = host(said)?;
        }
        if let Some(said) = to.port.filter(|said| *said != was.port) {
            is.port = port(by, said)?;
        }
        is.security = to.security.unwrap_or(was.security);
        if let Some(user) = to.user {
            is.user = user.map(|user| secret("user", &user, NAME_OCTETS_MAX)).transpose()?;
        }
        let password = to.password.map(|said| secret("password", &said, PASSWORD_OCTETS_MAX)).transpose()?;
        // Another host does not get the password that was meant for this one; another name has another.
        let needs_password = is.user.is_some() && (is.user != was.user || is.host != was.host);
        if needs_password && password.is_none() || is.user.is_none() && password.is_some() {
            return Err(needs_both());
        }
        fits(is.security, is.user.as_deref())?;
        if is == was && password.is_none() {
            return Ok(was);
        }
        is.revision += 1;
        let sealed =
            password.as_ref().map(|password| self.sealer().seal(&place(&is.id), password.as_bytes())).transpose()?;
        let update = q!(
            "UPDATE relay SET name = $2, host = $3, port = $4, security = $5, user_name = $6, revision = $7, \
             password = CASE WHEN $6 IS NULL THEN NULL ELSE COALESCE($8, password) END WHERE id = $1",
            is.id.clone(),
            is.name.clone(),
            is.host.clone(),
            i64::from(is.port),
            security_code(is.security),
            is.user.clone(),
            is.revision,
            sealed,
        );
        run_unless(change.conn(), update, || taken(&is.name)).await?;
        let detail = json!({ "was": shown(&was), "is": shown(&is), "password_changed": password.is_some() });
        self.write_relay(&mut change, by, &is, "changed", detail).await?;
        change.commit().await?;
        Ok(is)
    }

    /// What was moved to it and waits goes back to its pool.
    pub async fn delete_relay(&self, by: &Actor, account: &str, called: &str) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let relay = own(change.conn(), &account.id, called).await?;
        let users = q!("SELECT name FROM pool WHERE relay = $1 ORDER BY name LIMIT 1", relay.id.clone());
        if let Some(user) = row(change.conn(), users).await? {
            let sentence = format!("The pool {} uses this relay.", user.text(0)?);
            return Err(Refusal::conflict("relay_in_use", sentence, "Give the pool another relay, or none, first."));
        }
        run(change.conn(), q!("DELETE FROM relay WHERE id = $1", relay.id.clone())).await?;
        self.write_relay(&mut change, by, &relay, "deleted", shown(&relay)).await?;
        change.commit().await
    }

    async fn write_relay(
        &self,
        change: &mut Change,
        by: &Actor,
        relay: &Relay,
        action: &'static str,
        detail: serde_json::Value,
    ) -> Result<(), Refusal> {
        let line = Line { subject: Subject::Relay, id: &relay.id, account: Some(&relay.account), action, detail };
        audit::write(change, by, self.now(), line).await
    }
}

fn shown(relay: &Relay) -> serde_json::Value {
    json!({
        "name": relay.name, "host": relay.host, "port": relay.port, "security": security_code(relay.security),
        "user": relay.user,
    })
}
