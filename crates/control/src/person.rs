//! Who are the people, and what may each do?
//!
//! A person has one e-mail address, one role, and belongs to one account or to the operator. Who is invited gets a link, and with it sets
//! a password; who forgot it gets another link from an owner or the operator. A link is handed to whoever asked for it: bringing it to
//! the person is theirs.

use crate::account::{find, must_be_seen, unknown_as_asked};
use crate::actor::{Actor, ActorKind};
use crate::audit::{self, Line, Subject};
use crate::id::{self, Secret};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::password;
use crate::refusal::{Kind, Refusal};
use crate::store::{Change, Columns, number, q, row, rows, run, run_unless};
use engine::id::AccountId;
use engine::snapshot::{Holder, Scope};
use engine::time::Timestamp;
use mail::address::Mailbox;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Over a weekend, and a holiday beside it.
pub const INVITATION_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Of the first operator's link, and of one for a forgotten password.
pub const LINK_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Of an account, or of the operator.
const PEOPLE_MAX: i64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Operator,
    OperatorReadOnly,
    Owner,
    Developer,
    Viewer,
}

const ROLES: [Role; 5] = [Role::Operator, Role::OperatorReadOnly, Role::Owner, Role::Developer, Role::Viewer];

impl Role {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::OperatorReadOnly => "operator-read-only",
            Role::Owner => "owner",
            Role::Developer => "developer",
            Role::Viewer => "viewer",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Role> {
        ROLES.into_iter().find(|role| role.code() == code)
    }

    #[must_use]
    pub fn scopes(self) -> BTreeSet<Scope> {
        match self {
            Role::Operator | Role::Owner | Role::Developer => BTreeSet::from([Scope::Send, Scope::Read, Scope::Manage]),
            Role::OperatorReadOnly | Role::Viewer => BTreeSet::from([Scope::Read]),
        }
    }

    fn is_of_operator(self) -> bool {
        matches!(self, Role::Operator | Role::OperatorReadOnly)
    }

    /// Without one of these nobody could let anybody in.
    fn is_needed(self) -> bool {
        matches!(self, Role::Operator | Role::Owner)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub id: String,
    /// None: the operator's.
    pub account: Option<String>,
    pub email: String,
    pub role: Role,
    /// Not yet, while the invitation is open.
    pub has_password: bool,
    pub has_totp: bool,
    pub disabled_at: Option<Timestamp>,
    pub revision: i64,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewPerson {
    pub email: String,
    pub role: Role,
    /// By id or name; without one, the operator's people.
    pub account: Option<String>,
}

/// A person, and a link to set a password with, shown this once.
#[derive(Clone, Debug)]
pub struct Invited {
    pub person: Person,
    pub link: Secret,
    pub expires_at: Timestamp,
}

macro_rules! columns {
    () => {
        "p.id, p.account, p.email, p.role, CASE WHEN p.password IS NULL THEN 0 ELSE 1 END, p.totp_on, p.disabled_at, \
         p.revision, p.created_at"
    };
}
pub(crate) use columns;

pub(crate) fn read(row: &AnyRow) -> Result<Person, Refusal> {
    Ok(Person {
        id: row.text(0)?,
        account: row.text_or_none(1)?,
        email: row.text(2)?,
        // What cannot be read may do nothing but look.
        role: Role::of(&row.text(3)?).unwrap_or(Role::Viewer),
        has_password: row.yes(4)?,
        has_totp: row.yes(5)?,
        disabled_at: row.whole_or_none(6)?.map(Timestamp),
        revision: row.whole(7)?,
        created_at: Timestamp(row.whole(8)?),
    })
}

impl Person {
    #[must_use]
    pub fn actor(&self, from: Option<IpAddr>) -> Actor {
        let holder = match &self.account {
            None => Holder::Operator,
            Some(account) => Holder::Account { account: AccountId::new(account), subaccount: None },
        };
        Actor {
            kind: ActorKind::Person { is_owner: self.role == Role::Owner },
            id: self.id.clone(),
            name: self.email.clone(),
            holder,
            scopes: self.role.scopes(),
            from,
        }
    }

    pub(crate) fn is(&self, by: &Actor) -> bool {
        matches!(by.kind, ActorKind::Person { .. }) && by.id == self.id
    }

    /// Their colleagues may, and the operator.
    pub(crate) fn may_be_read(&self, by: &Actor, called: &str) -> Result<(), Refusal> {
        if self.is(by) {
            return Ok(());
        }
        may_read_people(by, self.account.as_deref()).map_err(|refusal| unknown(refusal, by, called))
    }

    pub(crate) fn may_be_managed(&self, by: &Actor, called: &str) -> Result<(), Refusal> {
        may_let_in(by, self.account.as_deref()).map_err(|refusal| unknown(refusal, by, called))
    }

    pub(crate) fn line(&self, action: &'static str, detail: Value) -> Line<'_> {
        Line { subject: Subject::Person, id: &self.id, account: self.account.as_deref(), action, detail }
    }
}

/// R2.8: another account's people, and the operator's, are as unknown as nobody.
fn unknown(refusal: Refusal, by: &Actor, called: &str) -> Refusal {
    let is_elsewhere = refusal.kind == Kind::NotFound || (refusal.code == "operator_only" && !by.is_operator());
    if is_elsewhere { Refusal::not_found("person", called) } else { refusal }
}

fn may_read_people(by: &Actor, account: Option<&str>) -> Result<(), Refusal> {
    match account {
        None => by.may_watch(),
        Some(account) => by.may_read_part(account, None),
    }
}

/// People are let in by people: a key that leaked must not make itself an owner.
fn may_let_in(by: &Actor, account: Option<&str>) -> Result<(), Refusal> {
    let Some(account) = account else { return by.may_operate() };
    by.may_own(account)?;
    if by.kind == ActorKind::Key && !by.is_operator() {
        return Err(Refusal::forbidden(
            "person_only",
            "A key lets nobody in.",
            "Let an owner of the account do it, signed in.",
        ));
    }
    Ok(())
}

/// By id, or by e-mail address.
pub(crate) async fn find_person(conn: &mut AnyConnection, called: &str) -> Result<Person, Refusal> {
    let query = q!(
        concat!("SELECT ", columns!(), " FROM person p WHERE p.id = $1 OR p.email = $2"),
        called.to_owned(),
        as_typed(called)
    );
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("person", called)),
    }
}

/// One person, one writing: providers that tell upper from lower case are not found any more.
fn canonical(email: &str) -> Result<String, Refusal> {
    match Mailbox::parse(email.trim()) {
        Ok(mailbox) => Ok(mailbox.to_string().to_lowercase()),
        Err(fault) => Err(Refusal::invalid(
            "email",
            format!("This is no e-mail address: {fault}."),
            "Write it as name@example.com.",
        )),
    }
}

/// What is typed at a sign-in is whatever it is.
pub(crate) fn as_typed(email: &str) -> String {
    canonical(email).unwrap_or_else(|_| email.trim().to_lowercase())
}

impl Office {
    /// At the first start, while there is nobody who could let anybody in.
    pub async fn create_first_operator(&self, email: &str) -> Result<Invited, Refusal> {
        let mut change = self.store().change().await?;
        if number(change.conn(), q!("SELECT COUNT(*) FROM person")).await? > 0 {
            return Err(Refusal::conflict(
                "not_the_first",
                "There are people here already.",
                "Let an operator invite you, or invite with the command line.",
            ));
        }
        let new = NewPerson { email: email.to_owned(), role: Role::Operator, account: None };
        self.invite_in(change, &Actor::command_line(), new, LINK_LIFETIME).await
    }

    /// The link sets the first password; whoever invites brings it to the person.
    pub async fn invite(&self, by: &Actor, new: NewPerson) -> Result<Invited, Refusal> {
        let change = self.store().change().await?;
        self.invite_in(change, by, new, INVITATION_LIFETIME).await
    }

    async fn invite_in(
        &self,
        mut change: Change,
        by: &Actor,
        new: NewPerson,
        lifetime: Duration,
    ) -> Result<Invited, Refusal> {
        let now = self.now();
        let account = match new.account.as_deref().or(by.account().map(AccountId::as_str)) {
            None => None,
            Some(called) => {
                let account = find(change.conn(), called).await.map_err(|refusal| refusal.at("account"))?;
                by.may_read(&account.id).map_err(|refusal| unknown_as_asked(refusal, called).at("account"))?;
                Some(account.id)
            }
        };
        may_let_in(by, account.as_deref())?;
        must_fit(new.role, account.as_deref())?;
        let person = Person {
            id: id::fresh("person"),
            account,
            email: canonical(&new.email)?,
            role: new.role,
            has_password: false,
            has_totp: false,
            disabled_at: None,
            revision: 1,
            created_at: now,
        };
        let known = q!(
            "SELECT COUNT(*) FROM person WHERE COALESCE(account, '') = $1",
            person.account.clone().unwrap_or_default()
        );
        if number(change.conn(), known).await? >= PEOPLE_MAX {
            let sentence = format!("There are {PEOPLE_MAX} people already.");
            return Err(Refusal::conflict("too_many_people", sentence, "Remove those who are gone."));
        }
        let insert = q!(
            "INSERT INTO person (id, account, email, role, password, totp, totp_on, totp_step, disabled_at, revision, \
             created_at) VALUES ($1, $2, $3, $4, NULL, NULL, 0, 0, NULL, 1, $5)",
            person.id.clone(),
            person.account.clone(),
            person.email.clone(),
            person.role.code(),
            now.0,
        );
        let taken = || {
            Refusal::conflict(
                "email_taken",
                "This e-mail address signs in here already.",
                "Use another: one address is one person in one account.",
            )
            .at("email")
        };
        run_unless(change.conn(), insert, taken).await?;
        let invited = make_link(&mut change, person, lifetime, now).await?;
        let detail = json!({ "email": invited.person.email, "role": invited.person.role.code() });
        audit::write(&mut change, by, now, invited.person.line("invited", detail)).await?;
        change.commit().await?;
        Ok(invited)
    }

    /// For a forgotten password, or an invitation that was not taken up in time. Until it is used, the old password stays good.
    pub async fn renew_link(&self, by: &Actor, called: &str) -> Result<Invited, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let person = find_person(change.conn(), called).await?;
        person.may_be_managed(by, called)?;
        must_be_enabled(&person)?;
        let lifetime = if person.has_password { LINK_LIFETIME } else { INVITATION_LIFETIME };
        let invited = make_link(&mut change, person, lifetime, now).await?;
        audit::write(&mut change, by, now, invited.person.line("link-renewed", json!({}))).await?;
        change.commit().await?;
        Ok(invited)
    }

    /// Whose link it is, if it is good: for the page that asks for the password.
    pub async fn person_of_link(&self, link: &str) -> Result<Person, Refusal> {
        let mut conn = self.store().read().await?;
        find_link(&mut conn, link, self.now()).await
    }

    /// The link is used up, and whoever was signed in is no more.
    pub async fn set_password(&self, link: &str, password: &str, from: Option<IpAddr>) -> Result<Person, Refusal> {
        let person = self.person_of_link(link).await?;
        password::judge(password, &person.email)?;
        let kept = self.door().hashing.hash(password.to_owned()).await?;
        let now = self.now();
        let mut change = self.store().change().await?;
        let mut person = find_link(change.conn(), link, now).await?;
        let used = q!("UPDATE link SET used_at = $2 WHERE digest = $1", id::digest_of(link).to_vec(), now.0);
        run(change.conn(), used).await?;
        person.has_password = true;
        keep_password(&mut change, &mut person, kept).await?;
        let by = person.actor(from);
        audit::write(&mut change, &by, now, person.line("password-set", json!({ "with": "link" }))).await?;
        change.commit().await?;
        Ok(person)
    }

    pub async fn person(&self, by: &Actor, called: &str) -> Result<Person, Refusal> {
        let mut conn = self.store().read().await?;
        let person = find_person(&mut conn, called).await?;
        person.may_be_read(by, called)?;
        Ok(person)
    }

    /// Of an account, by id or name; without one, the caller's own. In the order they were invited.
    pub async fn people(&self, by: &Actor, account: Option<&str>, window: &Window) -> Result<Page<Person>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = match account.or(by.account().map(AccountId::as_str)) {
            None => None,
            Some(called) => {
                let account = find(&mut conn, called).await?;
                by.may_read(&account.id).map_err(|refusal| unknown_as_asked(refusal, called))?;
                Some(account.id)
            }
        };
        may_read_people(by, account.as_deref())?;
        let query = match account {
            Some(account) => q!(
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM person p WHERE p.account = $1 AND p.id > $2 ORDER BY p.id LIMIT $3"
                ),
                account,
                window.after_text(),
                window.fetch(),
            ),
            None => q!(
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM person p WHERE p.account IS NULL AND p.id > $1 ORDER BY p.id LIMIT $2"
                ),
                window.after_text(),
                window.fetch(),
            ),
        };
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |person| person.id.clone()))
    }

    /// Holds from the next call on, also for who is signed in.
    pub async fn change_role(
        &self,
        by: &Actor,
        called: &str,
        role: Role,
        revision: Option<i64>,
    ) -> Result<Person, Refusal> {
        let mut change = self.store().change().await?;
        let mut person = find_person(change.conn(), called).await?;
        person.may_be_managed(by, called)?;
        must_be_seen("person", revision, person.revision)?;
        must_fit(role, person.account.as_deref())?;
        if role == person.role {
            return Ok(person);
        }
        must_not_be_last(change.conn(), &person).await?;
        let detail = json!({ "was": person.role.code(), "is": role.code() });
        person.role = role;
        person.revision += 1;
        let update = q!(
            "UPDATE person SET role = $2, revision = $3 WHERE id = $1",
            person.id.clone(),
            role.code(),
            person.revision
        );
        run(change.conn(), update).await?;
        audit::write(&mut change, by, self.now(), person.line("role-changed", detail)).await?;
        change.commit().await?;
        Ok(person)
    }

    /// Signed out at once, and in no more until enabled.
    pub async fn disable_person(&self, by: &Actor, called: &str) -> Result<Person, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let mut person = find_person(change.conn(), called).await?;
        person.may_be_managed(by, called)?;
        if person.disabled_at.is_some() {
            return Ok(person);
        }
        must_not_be_last(change.conn(), &person).await?;
        person.disabled_at = Some(now);
        set_disabled(&mut change, &mut person).await?;
        end_ways_in(&mut change, &person).await?;
        audit::write(&mut change, by, now, person.line("disabled", json!({}))).await?;
        change.commit().await?;
        Ok(person)
    }

    pub async fn enable_person(&self, by: &Actor, called: &str) -> Result<Person, Refusal> {
        let mut change = self.store().change().await?;
        let mut person = find_person(change.conn(), called).await?;
        person.may_be_managed(by, called)?;
        if person.disabled_at.is_none() {
            return Ok(person);
        }
        person.disabled_at = None;
        set_disabled(&mut change, &mut person).await?;
        audit::write(&mut change, by, self.now(), person.line("enabled", json!({}))).await?;
        change.commit().await?;
        Ok(person)
    }

    /// Only the audit log remembers them.
    pub async fn remove_person(&self, by: &Actor, called: &str) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let person = find_person(change.conn(), called).await?;
        person.may_be_managed(by, called)?;
        must_not_be_last(change.conn(), &person).await?;
        end_ways_in(&mut change, &person).await?;
        run(change.conn(), q!("DELETE FROM person WHERE id = $1", person.id.clone())).await?;
        let detail = json!({ "email": person.email, "role": person.role.code() });
        audit::write(&mut change, by, self.now(), person.line("removed", detail)).await?;
        change.commit().await
    }
}

fn must_fit(role: Role, account: Option<&str>) -> Result<(), Refusal> {
    if role.is_of_operator() == account.is_none() {
        return Ok(());
    }
    let sentence = format!("The role {} does not go with this.", role.code());
    Err(Refusal::invalid(
        "role",
        sentence,
        "People of an account are owner, developer or viewer; the operator's are operator or operator-read-only.",
    ))
}

fn must_be_enabled(person: &Person) -> Result<(), Refusal> {
    match person.disabled_at {
        None => Ok(()),
        Some(_) => Err(Refusal::conflict("person_disabled", "This person is disabled.", "Enable them first.")),
    }
}

/// Somebody must be left who can sign in and let others in.
async fn must_not_be_last(conn: &mut AnyConnection, person: &Person) -> Result<(), Refusal> {
    if !person.role.is_needed() || !person.has_password || person.disabled_at.is_some() {
        return Ok(());
    }
    let others = q!(
        "SELECT COUNT(*) FROM person WHERE role = $1 AND COALESCE(account, '') = $2 AND id <> $3 \
         AND disabled_at IS NULL AND password IS NOT NULL",
        person.role.code(),
        person.account.clone().unwrap_or_default(),
        person.id.clone(),
    );
    if number(conn, others).await? > 0 {
        return Ok(());
    }
    let (code, word) = if person.role == Role::Owner { ("last_owner", "owner") } else { ("last_operator", "operator") };
    Err(Refusal::conflict(
        code,
        format!("This is the last {word} who can sign in: nobody would be left to let others in."),
        format!("Make somebody else {word} first, and let them set their password."),
    ))
}

/// Links before it are good no more.
async fn make_link(
    change: &mut Change,
    person: Person,
    lifetime: Duration,
    now: Timestamp,
) -> Result<Invited, Refusal> {
    let (link, expires_at) = (id::secret("link")?, now + lifetime);
    run(change.conn(), q!("DELETE FROM link WHERE person = $1", person.id.clone())).await?;
    let insert = q!(
        "INSERT INTO link (digest, person, expires_at, used_at) VALUES ($1, $2, $3, NULL)",
        id::digest_of(&link).to_vec(),
        person.id.clone(),
        expires_at.0,
    );
    run(change.conn(), insert).await?;
    Ok(Invited { person, link: Secret::new(link), expires_at })
}

async fn find_link(conn: &mut AnyConnection, link: &str, now: Timestamp) -> Result<Person, Refusal> {
    let query = q!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM link l JOIN person p ON p.id = l.person WHERE l.digest = $1 AND l.used_at IS NULL \
             AND l.expires_at > $2 AND p.disabled_at IS NULL"
        ),
        id::digest_of(link).to_vec(),
        now.0,
    );
    let found = if id::is_whole(link) { row(conn, query).await? } else { None };
    found.as_ref().map(read).transpose()?.ok_or_else(|| {
        Refusal::new(
            Kind::Unknown,
            "link_over",
            "This link is not good: it was used, replaced, is too old, or was cut short.",
            "Ask an owner of the account or the operator for a new one.",
        )
    })
}

/// Whoever knew the old one is signed out.
pub(crate) async fn keep_password(change: &mut Change, person: &mut Person, kept: String) -> Result<(), Refusal> {
    person.revision += 1;
    let update =
        q!("UPDATE person SET password = $2, revision = $3 WHERE id = $1", person.id.clone(), kept, person.revision);
    run(change.conn(), update).await?;
    run(change.conn(), q!("DELETE FROM session WHERE person = $1", person.id.clone())).await?;
    Ok(())
}

async fn set_disabled(change: &mut Change, person: &mut Person) -> Result<(), Refusal> {
    person.revision += 1;
    let update = q!(
        "UPDATE person SET disabled_at = $2, revision = $3 WHERE id = $1",
        person.id.clone(),
        person.disabled_at.map(|at| at.0),
        person.revision,
    );
    run(change.conn(), update).await?;
    Ok(())
}

async fn end_ways_in(change: &mut Change, person: &Person) -> Result<(), Refusal> {
    run(change.conn(), q!("DELETE FROM session WHERE person = $1", person.id.clone())).await?;
    run(change.conn(), q!("DELETE FROM link WHERE person = $1", person.id.clone())).await?;
    Ok(())
}
