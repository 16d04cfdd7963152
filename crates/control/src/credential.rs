//! By which secrets are programs let in?
//!
//! Three kinds: a key that is shown as a whole (HTTP), a user name and password (SMTP), and an access key whose requests are signed,
//! with SMTP passwords derived from its secret the SES way. A secret is shown once, when it is made. Of keys and passwords only the
//! SHA-256 is kept: they are random, and long enough that nothing slower is needed. The secret of an access key is kept sealed, since
//! signatures are checked with it.
//!
//! Nobody hands out more than they have: a key makes, changes and renews only what is within its own scopes, part, networks and time.

use crate::account::{find, must_be_seen, unknown_as_asked};
use crate::actor::{Actor, ActorKind, scope_code, scope_of};
use crate::audit::{self, Line, Subject};
use crate::id::{self, Secret};
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::{Kind, Refusal};
use crate::seal::{SealFault, Sealer};
use crate::store::{Change, Columns, number, q, row, rows, run};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine::id::{AccountId, CredentialId, SubaccountId};
use engine::snapshot::{self, Digest, Holder, Login, Scope};
use engine::tally::{Failed, Lines};
use engine::time::Timestamp;
use net::dns::Network;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 3600);
pub const OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Good ones of one holder, an account or the operator.
const CREDENTIALS_MAX: i64 = 1_000;
/// Of one credential at a time: the newest, and those it takes the place of.
const SECRETS_MAX: i64 = 4;
const NETWORKS_MAX: usize = 100;
/// How long the list still shows what is good no more; the audit log knows it for ever.
const SHOWN_AFTER_END: Duration = Duration::from_secs(90 * 24 * 3600);
/// In one transaction, or in one answer of the database.
const BATCH: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// Shown as a whole: `Authorization: Bearer`.
    Api,
    /// An access key id, and a secret that requests are signed with.
    Aws,
    /// A user name and a password.
    Smtp,
}

impl CredentialKind {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            CredentialKind::Api => "api",
            CredentialKind::Aws => "aws",
            CredentialKind::Smtp => "smtp",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<CredentialKind> {
        [CredentialKind::Api, CredentialKind::Aws, CredentialKind::Smtp].into_iter().find(|kind| kind.code() == code)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub id: String,
    /// None: the operator's.
    pub account: Option<String>,
    pub subaccount: Option<String>,
    pub kind: CredentialKind,
    pub name: String,
    /// The user name or access key id.
    pub login: Option<String>,
    pub scopes: BTreeSet<Scope>,
    /// When not empty, it is good only from these.
    pub networks: Vec<Network>,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// While a new secret takes the place of an old one: until when the old one is good.
    pub overlap_until: Option<Timestamp>,
    pub revision: i64,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewCredential {
    pub kind: CredentialKind,
    /// By id or name; without one, the caller's own.
    pub account: Option<String>,
    /// By id or name; without one, the caller's own, if it has one.
    pub subaccount: Option<String>,
    pub name: String,
    pub scopes: BTreeSet<Scope>,
    pub networks: Vec<String>,
    pub expires_at: Option<Timestamp>,
}

/// What is to be changed; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct CredentialChange {
    pub name: Option<String>,
    pub scopes: Option<BTreeSet<Scope>>,
    pub networks: Option<Vec<String>>,
    /// `Some(None)`: never.
    pub expires_at: Option<Option<Timestamp>>,
    pub revision: Option<i64>,
}

/// A credential with a secret that is shown this once.
#[derive(Clone, Debug)]
pub struct Shown {
    pub credential: Credential,
    pub secret: Secret,
    /// Of an access key: its SMTP password for each region.
    pub smtp_passwords: BTreeMap<String, Secret>,
}

/// What signatures by an access key are checked with.
#[derive(Clone, Debug)]
pub struct Signer {
    pub credential: Arc<snapshot::Credential>,
    /// Several while one takes the place of another.
    pub secrets: Vec<Secret>,
}

macro_rules! columns {
    () => {
        "c.id, c.account, c.subaccount, c.kind, c.name, c.login, c.scopes, c.networks, c.expires_at, c.revoked_at, \
         c.revision, c.created_at, (SELECT MAX(o.until) FROM credential_secret o WHERE o.credential = c.id)"
    };
}

/// What is good at $1, with its secrets.
macro_rules! good {
    () => {
        "FROM credential c JOIN credential_secret s ON s.credential = c.id WHERE c.revoked_at IS NULL \
         AND (c.expires_at IS NULL OR c.expires_at > $1) AND (s.until IS NULL OR s.until > $1)"
    };
}

fn read(row: &AnyRow, now: Timestamp) -> Result<Credential, Refusal> {
    let networks = row.text(7)?;
    let listed: Vec<Network> = networks.split_whitespace().filter_map(|network| network.parse().ok()).collect();
    Ok(Credential {
        id: row.text(0)?,
        account: row.text_or_none(1)?,
        subaccount: row.text_or_none(2)?,
        kind: CredentialKind::of(&row.text(3)?).unwrap_or(CredentialKind::Api),
        name: row.text(4)?,
        login: row.text_or_none(5)?,
        scopes: row.text(6)?.split_whitespace().filter_map(scope_of).collect(),
        networks: listed,
        expires_at: row.whole_or_none(8)?.map(Timestamp),
        revoked_at: row.whole_or_none(9)?.map(Timestamp),
        overlap_until: row.whole_or_none(12)?.map(Timestamp).filter(|until| *until > now),
        revision: row.whole(10)?,
        created_at: Timestamp(row.whole(11)?),
    })
}

impl Credential {
    /// As the data plane is told.
    #[must_use]
    pub fn published(&self) -> snapshot::Credential {
        let holder = match &self.account {
            None => Holder::Operator,
            Some(account) => Holder::Account {
                account: AccountId::new(account),
                subaccount: self.subaccount.as_deref().map(SubaccountId::new),
            },
        };
        snapshot::Credential {
            id: CredentialId::new(&self.id),
            holder,
            scopes: self.scopes.clone(),
            networks: self.networks.iter().map(|network| (network.address(), network.prefix())).collect(),
            expires_at: self.expires_at,
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.revoked_at.is_some() || self.expires_at.is_some_and(|at| at <= now)
    }

    fn must_be_good(&self, now: Timestamp) -> Result<(), Refusal> {
        if !self.is_over(now) {
            return Ok(());
        }
        let how = if self.revoked_at.is_some() { "was revoked" } else { "has expired" };
        Err(Refusal::conflict("credential_over", format!("This credential {how}."), "Make a new one."))
    }

    fn told(&self) -> Value {
        json!({
            "kind": self.kind.code(), "name": self.name, "login": self.login, "subaccount": self.subaccount,
            "scopes": self.scopes.iter().copied().map(scope_code).collect::<Vec<_>>(),
            "networks": self.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "expires_at": self.expires_at.map(|at| at.to_string()),
        })
    }

    fn line(&self, action: &'static str, detail: Value) -> Line<'_> {
        Line { subject: Subject::Credential, id: &self.id, account: self.account.as_deref(), action, detail }
    }

    fn may_be_read(&self, by: &Actor) -> Result<(), Refusal> {
        let may = match &self.account {
            Some(account) => by.may_read_part(account, self.subaccount.as_deref()),
            None if by.is_operator() => by.may_watch(),
            None => Err(Refusal::not_found("credential", &self.id)),
        };
        may.map_err(|refusal| self.unknown(refusal))
    }

    fn may_be_managed(&self, by: &Actor) -> Result<(), Refusal> {
        let may = match &self.account {
            Some(account) => by.may_manage_part(account, self.subaccount.as_deref()),
            None if by.is_operator() => by.may_operate(),
            None => Err(Refusal::not_found("credential", &self.id)),
        };
        may.map_err(|refusal| self.unknown(refusal))
    }

    /// R2.8: another's is as unknown as none.
    fn unknown(&self, refusal: Refusal) -> Refusal {
        if refusal.kind == Kind::NotFound { Refusal::not_found("credential", &self.id) } else { refusal }
    }

    /// Whether who acts may hand out what this credential can do.
    fn must_be_within(&self, by: &Actor, own: Option<&Credential>) -> Result<(), Refusal> {
        if let Some(scope) = self.scopes.iter().find(|scope| !by.scopes.contains(scope)) {
            return Err(Refusal::forbidden(
                "scope_beyond_own",
                format!("You may not hand out the scope {}: you do not have it.", scope_code(*scope)),
                "Choose among your own scopes, or use a credential that has this one.",
            )
            .at("scopes"));
        }
        // Whoever holds such a credential can do what an owner can.
        if let (Some(account), None, true) = (&self.account, &self.subaccount, self.scopes.contains(&Scope::Manage)) {
            by.may_own(account).map_err(|refusal| refusal.at("scopes"))?;
        }
        let Some(own) = own else { return Ok(()) };
        let within = |network: &Network| own.networks.iter().any(|own| own.covers(network));
        if !own.networks.is_empty() && (self.networks.is_empty() || !self.networks.iter().all(within)) {
            return Err(Refusal::forbidden(
                "network_beyond_own",
                "You may not hand out what is good from networks that your own credential is not good from.",
                "Name networks within your own, or use a credential without that bound.",
            )
            .at("networks"));
        }
        match own.expires_at {
            Some(end) if self.expires_at.is_none_or(|at| at > end) => Err(Refusal::forbidden(
                "expiry_beyond_own",
                format!("You may not hand out what is good for longer than your own credential, until {end}."),
                "Choose an earlier expiry, or use a credential that lasts longer.",
            )
            .at("expires_at")),
            _ => Ok(()),
        }
    }
}

async fn find_credential(conn: &mut AnyConnection, id: &str, now: Timestamp) -> Result<Credential, Refusal> {
    let query = q!(concat!("SELECT ", columns!(), " FROM credential c WHERE c.id = $1"), id.to_owned());
    match row(conn, query).await? {
        Some(row) => read(&row, now),
        None => Err(Refusal::not_found("credential", id)),
    }
}

/// The credential that acts, where one does: its bounds are those of what it hands out.
async fn own_of(conn: &mut AnyConnection, by: &Actor, now: Timestamp) -> Result<Option<Credential>, Refusal> {
    if by.kind != ActorKind::Key {
        return Ok(None);
    }
    let gone =
        || Refusal::new(Kind::Unknown, "key_unknown", "The key is not known here.", "Check it, or ask for another.");
    match find_credential(conn, &by.id, now).await {
        Ok(own) if own.is_over(now) => Err(gone()),
        Ok(own) => Ok(Some(own)),
        // The operator's own key may stand in the configuration file.
        Err(refusal) if refusal.kind == Kind::NotFound && by.is_operator() => Ok(None),
        Err(refusal) if refusal.kind == Kind::NotFound => Err(gone()),
        Err(refusal) => Err(refusal),
    }
}

fn scopes(kind: CredentialKind, scopes: BTreeSet<Scope>) -> Result<BTreeSet<Scope>, Refusal> {
    if scopes.is_empty() {
        return Err(Refusal::invalid(
            "scopes",
            "A credential without scopes is good for nothing.",
            "Name one or more.",
        ));
    }
    if kind == CredentialKind::Smtp && scopes != BTreeSet::from([Scope::Send]) {
        return Err(Refusal::invalid(
            "scopes",
            "An SMTP credential sends, and does nothing else.",
            "Name the scope send alone, or make a key.",
        ));
    }
    Ok(scopes)
}

fn networks(written: &[String]) -> Result<Vec<Network>, Refusal> {
    if written.len() > NETWORKS_MAX {
        let sentence = format!("A credential has at most {NETWORKS_MAX} networks.");
        return Err(Refusal::invalid("networks", sentence, "Name fewer, larger networks."));
    }
    let mut networks = Vec::with_capacity(written.len());
    for (at, network) in written.iter().enumerate() {
        let read: Network = network.trim().parse().map_err(|_| {
            Refusal::invalid(
                &format!("networks[{at}]"),
                "This is no network.",
                "Write it as 192.0.2.0/24 or 2001:db8::/32, a single address alone.",
            )
        })?;
        if !networks.contains(&read) {
            networks.push(read);
        }
    }
    Ok(networks)
}

fn expiry(at: Option<Timestamp>, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    match at {
        Some(at) if at <= now => {
            Err(Refusal::invalid("expires_at", "This time is over already.", "Choose a later one, or revoke."))
        }
        at => Ok(at),
    }
}

fn joined<T: ToString>(of: impl IntoIterator<Item = T>) -> String {
    of.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" ")
}

impl Office {
    pub async fn create_credential(&self, by: &Actor, new: NewCredential) -> Result<Shown, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let (account, subaccount) = holder(change.conn(), by, &new).await?;
        if account.is_none() && new.kind != CredentialKind::Api {
            return Err(Refusal::invalid(
                "account",
                "Mail is sent for an account: the operator has keys alone.",
                "Name the account, or choose the kind api.",
            ));
        }
        let login = match new.kind {
            CredentialKind::Api => None,
            CredentialKind::Aws => Some(id::access_key()?),
            CredentialKind::Smtp => Some(id::login()?),
        };
        let credential = Credential {
            id: id::fresh("cred"),
            account,
            subaccount,
            kind: new.kind,
            name: name::label(&new.name)?,
            login,
            scopes: scopes(new.kind, new.scopes)?,
            networks: networks(&new.networks)?,
            expires_at: expiry(new.expires_at, now)?,
            revoked_at: None,
            overlap_until: None,
            revision: 1,
            created_at: now,
        };
        credential.may_be_managed(by)?;
        let own = own_of(change.conn(), by, now).await?;
        credential.must_be_within(by, own.as_ref())?;
        must_have_room(change.conn(), &credential, now).await?;
        let insert = q!(
            "INSERT INTO credential (id, account, subaccount, kind, name, login, scopes, networks, expires_at, revoked_at, \
             revision, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL, 1, $10)",
            credential.id.clone(),
            credential.account.clone(),
            credential.subaccount.clone(),
            credential.kind.code(),
            credential.name.clone(),
            credential.login.clone(),
            joined(credential.scopes.iter().copied().map(scope_code)),
            joined(&credential.networks),
            credential.expires_at.map(|at| at.0),
            now.0,
        );
        run(change.conn(), insert).await?;
        let secret = self.add_secret(&mut change, &credential, now).await?;
        audit::write(&mut change, by, now, credential.line("created", credential.told())).await?;
        let shown = show(change.conn(), credential, secret).await?;
        change.commit().await?;
        Ok(shown)
    }

    async fn add_secret(&self, change: &mut Change, of: &Credential, now: Timestamp) -> Result<String, Refusal> {
        let place = id::fresh("sec");
        let secret = match of.kind {
            CredentialKind::Api => id::secret("key")?,
            CredentialKind::Smtp => id::secret("smtp")?,
            CredentialKind::Aws => id::access_secret()?,
        };
        let sealed = match of.kind {
            CredentialKind::Aws => Some(self.sealer().seal(&place, secret.as_bytes())?),
            CredentialKind::Api | CredentialKind::Smtp => None,
        };
        let insert = q!(
            "INSERT INTO credential_secret (id, credential, digest, sealed, created_at, until) \
             VALUES ($1, $2, $3, $4, $5, NULL)",
            place,
            of.id.clone(),
            id::digest_of(&secret).to_vec(),
            sealed,
            now.0,
        );
        run(change.conn(), insert).await?;
        Ok(secret)
    }

    pub async fn credential(&self, by: &Actor, id: &str) -> Result<Credential, Refusal> {
        let mut conn = self.store().read().await?;
        let credential = find_credential(&mut conn, id, self.now()).await?;
        credential.may_be_read(by)?;
        Ok(credential)
    }

    /// Of an account, by id or name; without one, the caller's own. In the order they were made.
    pub async fn credentials(
        &self,
        by: &Actor,
        account: Option<&str>,
        window: &Window,
    ) -> Result<Page<Credential>, Refusal> {
        let mut conn = self.store().read().await?;
        let part = by.subaccount().map(|part| part.as_str().to_owned());
        let query = match account.or(by.account().map(AccountId::as_str)) {
            Some(called) => {
                let account = find(&mut conn, called).await?;
                by.may_read_part(&account.id, part.as_deref()).map_err(|refusal| unknown_as_asked(refusal, called))?;
                q!(
                    concat!(
                        "SELECT ",
                        columns!(),
                        " FROM credential c WHERE c.account = $1 AND c.id > $2 \
                         AND (CAST($4 AS TEXT) IS NULL OR c.subaccount = $4) ORDER BY c.id LIMIT $3"
                    ),
                    account.id,
                    window.after_text(),
                    window.fetch(),
                    part,
                )
            }
            None => {
                by.may_watch()?;
                q!(
                    concat!(
                        "SELECT ",
                        columns!(),
                        " FROM credential c WHERE c.account IS NULL AND c.id > $1 ORDER BY c.id LIMIT $2"
                    ),
                    window.after_text(),
                    window.fetch(),
                )
            }
        };
        let now = self.now();
        let found = rows(&mut conn, query).await?;
        let found = found.iter().map(|row| read(row, now)).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |credential| credential.id.clone()))
    }

    pub async fn change_credential(&self, by: &Actor, id: &str, to: CredentialChange) -> Result<Credential, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let was = find_credential(change.conn(), id, now).await?;
        was.may_be_managed(by)?;
        must_be_seen("credential", to.revision, was.revision)?;
        was.must_be_good(now)?;
        let mut is = was.clone();
        if let Some(name) = &to.name {
            is.name = name::label(name)?;
        }
        if let Some(wanted) = to.scopes {
            is.scopes = scopes(is.kind, wanted)?;
        }
        if let Some(wanted) = &to.networks {
            is.networks = networks(wanted)?;
        }
        if let Some(at) = to.expires_at {
            is.expires_at = expiry(at, now)?;
        }
        if is == was {
            return Ok(was);
        }
        let own = own_of(change.conn(), by, now).await?;
        // Also as it was: who may not have it may not reach into it.
        was.must_be_within(by, own.as_ref())?;
        is.must_be_within(by, own.as_ref())?;
        is.revision += 1;
        let update = q!(
            "UPDATE credential SET name = $2, scopes = $3, networks = $4, expires_at = $5, revision = $6 WHERE id = $1",
            is.id.clone(),
            is.name.clone(),
            joined(is.scopes.iter().copied().map(scope_code)),
            joined(&is.networks),
            is.expires_at.map(|at| at.0),
            is.revision,
        );
        run(change.conn(), update).await?;
        let detail = json!({ "was": was.told(), "is": is.told() });
        audit::write(&mut change, by, now, is.line("changed", detail)).await?;
        change.commit().await?;
        Ok(is)
    }

    /// A new secret; those before it are good for the overlap and then no more. Without overlap they end at once.
    pub async fn rotate_credential(&self, by: &Actor, id: &str, overlap: Option<Duration>) -> Result<Shown, Refusal> {
        let overlap = overlap.unwrap_or(OVERLAP_DEFAULT);
        if overlap > OVERLAP_MAX {
            let days = OVERLAP_MAX.as_secs() / 86_400;
            let sentence = format!("An old secret is good for at most {days} days more.");
            return Err(Refusal::invalid(
                "overlap_s",
                sentence,
                "Choose a shorter overlap, and rotate again if need be.",
            ));
        }
        let now = self.now();
        let mut change = self.store().change().await?;
        let was = find_credential(change.conn(), id, now).await?;
        was.may_be_managed(by)?;
        was.must_be_good(now)?;
        let own = own_of(change.conn(), by, now).await?;
        was.must_be_within(by, own.as_ref())?;
        let end = now + overlap;
        if overlap.is_zero() {
            run(change.conn(), q!("DELETE FROM credential_secret WHERE credential = $1", was.id.clone())).await?;
        } else {
            let good = q!(
                "SELECT COUNT(*) FROM credential_secret WHERE credential = $1 AND (until IS NULL OR until > $2)",
                was.id.clone(),
                now.0
            );
            if number(change.conn(), good).await? >= SECRETS_MAX {
                return Err(Refusal::conflict(
                    "too_many_secrets",
                    format!("{SECRETS_MAX} secrets of this credential are good already."),
                    "Wait until one of them ends, or rotate without overlap to end all of them now.",
                ));
            }
            let shorten = q!(
                "UPDATE credential_secret SET until = $2 WHERE credential = $1 AND (until IS NULL OR until > $2)",
                was.id.clone(),
                end.0
            );
            run(change.conn(), shorten).await?;
        }
        let secret = self.add_secret(&mut change, &was, now).await?;
        let revision = was.revision + 1;
        run(change.conn(), q!("UPDATE credential SET revision = $2 WHERE id = $1", was.id.clone(), revision)).await?;
        let detail = json!({ "old_good_until": end.to_string() });
        audit::write(&mut change, by, now, was.line("rotated", detail)).await?;
        let is = find_credential(change.conn(), id, now).await?;
        let shown = show(change.conn(), is, secret).await?;
        change.commit().await?;
        Ok(shown)
    }

    /// At once, and for good. What cannot be handed out can still be taken back.
    pub async fn revoke_credential(&self, by: &Actor, id: &str) -> Result<Credential, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let mut credential = find_credential(change.conn(), id, now).await?;
        credential.may_be_managed(by)?;
        if credential.revoked_at.is_some() {
            return Ok(credential);
        }
        credential.revoked_at = Some(now);
        credential.overlap_until = None;
        credential.revision += 1;
        let update = q!(
            "UPDATE credential SET revoked_at = $2, revision = $3 WHERE id = $1",
            credential.id.clone(),
            now.0,
            credential.revision,
        );
        run(change.conn(), update).await?;
        run(change.conn(), q!("DELETE FROM credential_secret WHERE credential = $1", credential.id.clone())).await?;
        audit::write(&mut change, by, now, credential.line("revoked", json!({}))).await?;
        change.commit().await?;
        Ok(credential)
    }

    /// Takes away the secrets whose time is over, with a line for each credential, and forgets credentials that ended long ago.
    pub async fn tidy_credentials(&self) -> Result<(), Refusal> {
        while self.end_secrets().await? {}
        while self.forget_credentials().await? {}
        Ok(())
    }

    /// Sign-ins that failed at the doors for mail and calls, by the name that was given, into the audit log (G5). Names that nobody has
    /// are one line: whoever likes to make them up fills no log.
    pub async fn note_failed(&self, failed: &Lines) -> Result<(), Refusal> {
        if failed.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let mut change = self.store().change().await?;
        let mut unknown: Option<Failed> = None;
        for (login, failed) in failed {
            let known = match login {
                Some(login) => {
                    let query = q!("SELECT id, account FROM credential WHERE login = $1", login.clone());
                    row(change.conn(), query).await?
                }
                None => None,
            };
            match known {
                Some(known) => {
                    let (id, account) = (known.text(0)?, known.text_or_none(1)?);
                    let whose = (Subject::Credential, Some(id.as_str()));
                    audit::write_failed(&mut change, whose, account.as_deref(), failed, now).await?;
                }
                None => match &mut unknown {
                    Some(unknown) => unknown.join(failed.clone()),
                    None => unknown = Some(failed.clone()),
                },
            }
        }
        if let Some(failed) = unknown {
            audit::write_failed(&mut change, (Subject::Credential, None), None, &failed, now).await?;
        }
        change.commit().await
    }

    /// Whether there is more.
    async fn end_secrets(&self) -> Result<bool, Refusal> {
        const OVER: &str = "SELECT s.id, s.credential FROM credential_secret s JOIN credential c ON c.id = s.credential \
                            WHERE s.until <= $1 OR c.expires_at <= $1 OR c.revoked_at <= $1 ORDER BY s.id LIMIT $2";
        let now = self.now();
        let mut conn = self.store().read().await?;
        if row(&mut conn, q!(OVER, now.0, 1i64)).await?.is_none() {
            return Ok(false);
        }
        drop(conn);
        let mut change = self.store().change().await?;
        let over = rows(change.conn(), q!(OVER, now.0, BATCH)).await?;
        let mut ended: BTreeMap<String, i64> = BTreeMap::new();
        for row in &over {
            run(change.conn(), q!("DELETE FROM credential_secret WHERE id = $1", row.text(0)?)).await?;
            *ended.entry(row.text(1)?).or_default() += 1;
        }
        for (id, secrets) in ended {
            let credential = find_credential(change.conn(), &id, now).await?;
            let action = match (credential.revoked_at, credential.is_over(now)) {
                // Taken back together with what it was for.
                (Some(_), _) => "secrets-removed",
                (None, true) => "expired",
                (None, false) => "old-secret-ended",
            };
            let line = credential.line(action, json!({ "secrets": secrets }));
            audit::write(&mut change, &Actor::service(), now, line).await?;
        }
        change.commit().await?;
        Ok(i64::try_from(over.len()).unwrap_or(i64::MAX) == BATCH)
    }

    /// Whether there is more.
    async fn forget_credentials(&self) -> Result<bool, Refusal> {
        const LONG_OVER: &str = concat!(
            "SELECT ",
            columns!(),
            " FROM credential c WHERE (c.revoked_at <= $1 OR c.expires_at <= $1) ORDER BY c.id LIMIT $2"
        );
        let now = self.now();
        let before = (now - SHOWN_AFTER_END).0;
        let mut conn = self.store().read().await?;
        if row(&mut conn, q!(LONG_OVER, before, 1i64)).await?.is_none() {
            return Ok(false);
        }
        drop(conn);
        let mut change = self.store().change().await?;
        let found = rows(change.conn(), q!(LONG_OVER, before, BATCH)).await?;
        for row in &found {
            let credential = read(row, now)?;
            run(change.conn(), q!("DELETE FROM credential WHERE id = $1", credential.id.clone())).await?;
            let line = credential.line("forgotten", credential.told());
            audit::write(&mut change, &Actor::service(), now, line).await?;
        }
        change.commit().await?;
        Ok(i64::try_from(found.len()).unwrap_or(i64::MAX) == BATCH)
    }

    /// For the snapshot: the keys that are good now, by the digest of each secret; of one credential, or all.
    pub async fn keys(
        &self,
        conn: &mut AnyConnection,
        only: Option<&str>,
    ) -> Result<Vec<(Digest, Arc<snapshot::Credential>)>, Refusal> {
        let (mut keys, mut batches) = (Vec::new(), Batches::new(CredentialKind::Api, only, self.now()));
        while let Some(batch) = batches.next(conn).await? {
            keys.extend(batch.into_iter().map(|good| (good.digest, Arc::new(good.credential.published()))));
        }
        Ok(keys)
    }

    /// For the snapshot: SMTP users and access keys that are good now, with the digests of all their passwords; of one credential, or
    /// all. A new region brings new passwords to every access key.
    pub async fn logins(
        &self,
        conn: &mut AnyConnection,
        regions: &[String],
        only: Option<&str>,
    ) -> Result<Vec<(Arc<str>, Arc<Login>)>, Refusal> {
        let mut logins: BTreeMap<String, Login> = BTreeMap::new();
        let mut add = |good: &Good, passwords: Vec<Digest>| {
            let Some(name) = &good.credential.login else { return };
            let fresh = || Login { credential: Arc::new(good.credential.published()), passwords: Vec::new() };
            logins.entry(name.clone()).or_insert_with(fresh).passwords.extend(passwords);
        };
        let mut users = Batches::new(CredentialKind::Smtp, only, self.now());
        while let Some(batch) = users.next(conn).await? {
            batch.iter().for_each(|good| add(good, vec![good.digest]));
        }
        let mut access_keys = Batches::new(CredentialKind::Aws, only, self.now());
        while let Some(batch) = access_keys.next(conn).await? {
            let (sealer, regions) = (self.sealer().clone(), regions.to_vec());
            // Many of them take long enough to be in the way of others here.
            let derived = tokio::task::spawn_blocking(move || {
                let with_passwords = |good: Good| Some((good.smtp_passwords(&sealer, &regions)?, good));
                batch.into_iter().filter_map(with_passwords).collect::<Vec<_>>()
            });
            let derived = derived.await.map_err(|fault| {
                tracing::error!(%fault, "SMTP passwords cannot be derived");
                Refusal::from(SealFault::Closed("the access keys".to_owned()))
            })?;
            derived.into_iter().for_each(|(passwords, good)| add(&good, passwords));
        }
        Ok(logins.into_iter().map(|(name, login)| (Arc::from(name), Arc::new(login))).collect())
    }

    /// What signatures by this access key are checked with; nothing if it is not good now.
    pub async fn signer(&self, access_key: &str) -> Result<Option<Signer>, Refusal> {
        let now = self.now();
        let mut conn = self.store().read().await?;
        let query = q!(
            concat!("SELECT ", columns!(), ", s.id, s.digest, s.sealed ", good!(), " AND c.login = $2 ORDER BY s.id"),
            now.0,
            access_key.to_owned()
        );
        let found = rows(&mut conn, query).await?;
        let good = found.iter().map(|row| Good::read(row, now)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = good.first() else { return Ok(None) };
        let credential = Arc::new(first.credential.published());
        let secrets: Vec<Secret> = good.iter().filter_map(|good| good.open(self.sealer())).map(Secret::new).collect();
        Ok(if secrets.is_empty() { None } else { Some(Signer { credential, secrets }) })
    }
}

/// The secrets of a kind that are good now, so many rows at a time: all of them at once would be large.
struct Batches {
    kind: CredentialKind,
    only: Option<String>,
    now: Timestamp,
    /// None: that was the last.
    after: Option<String>,
}

impl Batches {
    fn new(kind: CredentialKind, only: Option<&str>, now: Timestamp) -> Batches {
        Batches { kind, only: only.map(str::to_owned), now, after: Some(String::new()) }
    }

    async fn next(&mut self, conn: &mut AnyConnection) -> Result<Option<Vec<Good>>, Refusal> {
        let Some(after) = self.after.take() else { return Ok(None) };
        macro_rules! statement {
            ($which:literal) => {
                concat!(
                    "SELECT ",
                    columns!(),
                    ", s.id, s.digest, s.sealed ",
                    good!(),
                    " AND c.kind = $2 AND s.id > $3",
                    $which,
                    " ORDER BY s.id LIMIT $4"
                )
            };
        }
        let (now, kind) = (self.now.0, self.kind.code());
        let query = match self.only.clone() {
            None => q!(statement!(""), now, kind, after, BATCH),
            Some(only) => q!(statement!(" AND c.id = $5"), now, kind, after, BATCH, only),
        };
        let found = rows(conn, query).await?;
        let batch = found.iter().map(|row| Good::read(row, self.now)).collect::<Result<Vec<_>, _>>()?;
        let is_full = i64::try_from(batch.len()).is_ok_and(|rows| rows == BATCH);
        self.after = batch.last().filter(|_| is_full).map(|good| good.place.clone());
        Ok(Some(batch))
    }
}

/// A secret that is good now, and its credential.
struct Good {
    credential: Credential,
    place: String,
    digest: Digest,
    sealed: Option<Vec<u8>>,
}

impl Good {
    fn read(row: &AnyRow, now: Timestamp) -> Result<Good, Refusal> {
        let mut digest = Digest::default();
        let octets = row.octets(14)?;
        digest.iter_mut().zip(octets).for_each(|(place, octet)| *place = octet);
        Ok(Good { credential: read(row, now)?, place: row.text(13)?, digest, sealed: row.octets_or_none(15)? })
    }

    /// One that does not open is told and left out; the others are not its business.
    fn open(&self, sealer: &Sealer) -> Option<String> {
        let opened = sealer.open(&self.place, self.sealed.as_deref()?);
        let told =
            opened.inspect_err(|fault| tracing::error!(%fault, "the access key {} is closed", self.credential.id));
        String::from_utf8(told.ok()?).ok()
    }

    fn smtp_passwords(&self, sealer: &Sealer, regions: &[String]) -> Option<Vec<Digest>> {
        let secret = self.open(sealer)?;
        Some(regions.iter().map(|region| id::digest_of(&smtp_password(&secret, region))).collect())
    }
}

/// Whose it is to be, by id.
async fn holder(
    conn: &mut AnyConnection,
    by: &Actor,
    new: &NewCredential,
) -> Result<(Option<String>, Option<String>), Refusal> {
    let Some(called) = new.account.as_deref().or(by.account().map(AccountId::as_str)) else {
        by.may_operate()?;
        return match &new.subaccount {
            Some(part) => Err(Refusal::not_found("subaccount", part).at("subaccount")),
            None => Ok((None, None)),
        };
    };
    let account = find(conn, called).await.map_err(|refusal| refusal.at("account"))?;
    if by.account().is_some_and(|own| own.as_str() != account.id) {
        return Err(Refusal::not_found("account", called).at("account"));
    }
    let Some(part) = new.subaccount.as_deref().or(by.subaccount().map(SubaccountId::as_str)) else {
        return Ok((Some(account.id), None));
    };
    let query = q!(
        "SELECT id FROM subaccount WHERE account = $1 AND (id = $2 OR name = $2)",
        account.id.clone(),
        part.to_owned()
    );
    let found = row(conn, query).await?.map(|row| row.text(0)).transpose()?;
    let is_own = |id: &String| by.subaccount().is_none_or(|own| own.as_str() == id);
    match found.filter(is_own) {
        Some(id) => Ok((Some(account.id), Some(id))),
        None => Err(Refusal::not_found("subaccount", part).at("subaccount")),
    }
}

async fn must_have_room(conn: &mut AnyConnection, new: &Credential, now: Timestamp) -> Result<(), Refusal> {
    let query = match &new.account {
        Some(account) => q!(
            "SELECT COUNT(*) FROM credential WHERE account = $2 AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $1)",
            now.0,
            account.clone()
        ),
        None => q!(
            "SELECT COUNT(*) FROM credential WHERE account IS NULL AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $1)",
            now.0
        ),
    };
    if number(conn, query).await? < CREDENTIALS_MAX {
        return Ok(());
    }
    Err(Refusal::conflict(
        "too_many_credentials",
        format!("There are {CREDENTIALS_MAX} credentials already."),
        "Revoke those that are not used.",
    ))
}

async fn show(conn: &mut AnyConnection, credential: Credential, secret: String) -> Result<Shown, Refusal> {
    let mut smtp_passwords = BTreeMap::new();
    if credential.kind == CredentialKind::Aws {
        for row in rows(conn, q!("SELECT id FROM region ORDER BY id")).await? {
            let region = row.text(0)?;
            let password = Secret::new(smtp_password(&secret, &region));
            smtp_passwords.insert(region, password);
        }
    }
    Ok(Shown { credential, secret: Secret::new(secret), smtp_passwords })
}

/// The SMTP password of an access key in a region, as SES's users derive it for themselves.
#[must_use]
pub fn smtp_password(secret: &str, region: &str) -> String {
    const VERSION: u8 = 4;
    let sign = |key: &[u8], what: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), what.as_bytes());
    // The date is a constant: these passwords last.
    let mut key = sign(format!("AWS4{secret}").as_bytes(), "11111111");
    for step in [region, "ses", "aws4_request", "SendRawEmail"] {
        key = sign(key.as_ref(), step);
    }
    BASE64_STANDARD.encode([&[VERSION], key.as_ref()].concat())
}

#[cfg(test)]
mod tests {
    use super::smtp_password;

    /// By the documented algorithm, from the example secret of the documentation.
    #[test]
    fn smtp_passwords_are_those_that_ses_users_derive() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert_eq!(smtp_password(secret, "us-east-1"), "BLBM/9hSUELfq8Gw+rU1YcBjkOxGbhT2XG763xVLGWL9");
        assert_eq!(smtp_password(secret, "us-west-2"), "BF2PynzbSCAjX08zhZZnP/kW+T9P5zs/1Er0pi5vTEmd");
        assert_eq!(smtp_password(secret, "eu-west-1"), "BMW5RDrXmmVs0lV7GpI4oLkHXpZ4stDsk6q91z1g38Pk");
    }
}
