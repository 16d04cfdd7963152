//! Who is signed in? Password and, where it is on, a code; then a token, until it has not been used for long.
//!
//! Unknown address, wrong password, disabled person: one answer, in the same words and after the same work. Guessing is slowed by the
//! door. What fails is counted there, and comes into the audit log with `tidy_people`.

use crate::actor::{Actor, ActorKind};
use crate::audit::{self, Subject};
use crate::id::{self, Secret};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::password;
use crate::person::{self, Person, as_typed, columns, find_person, keep_password};
use crate::refusal::{Kind, Refusal};
use crate::store::{Change, Columns, number, q, row, rows, run};
use crate::totp;
use engine::tally::Lines;
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::net::IpAddr;
use std::time::Duration;

/// Unused for so long, it is over: a working day, and the way home.
pub const IDLE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Used all the time, it is over then.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(14 * 24 * 3600);
/// Use is written down no more often: it is a write for every look otherwise.
const SEEN_EVERY: Duration = Duration::from_secs(5 * 60);
/// Of one person; the oldest go.
const SESSIONS_MAX: i64 = 50;

#[derive(Clone, Debug)]
pub struct SignIn {
    pub email: String,
    pub password: Secret,
    /// The six digits, where the person has turned them on.
    pub code: Option<String>,
    pub from: Option<IpAddr>,
    /// The token the caller came with: it is good no more, whoever planted it.
    pub replaces: Option<Secret>,
}

#[derive(Clone, Debug)]
pub struct SignedIn {
    pub token: Secret,
    pub session: Session,
    pub person: Person,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: String,
    pub from: Option<IpAddr>,
    pub created_at: Timestamp,
    /// To within some minutes.
    pub seen_at: Timestamp,
    pub expires_at: Timestamp,
}

/// For an authenticator app; shown this once.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// To be typed.
    pub secret: Secret,
    /// To be shown as a QR code.
    pub url: Secret,
}

/// Counted as a failure; of whom, if they are known.
struct Wrong {
    person: Option<String>,
    refusal: Refusal,
}

/// What only a sign-in may see.
struct Kept {
    person: Person,
    password: Option<String>,
    totp: Option<Vec<u8>>,
    totp_step: i64,
}

fn read(row: &AnyRow, first: usize) -> Result<Session, Refusal> {
    Ok(Session {
        id: row.text(first)?,
        from: row.text_or_none(first + 1)?.and_then(|from| from.parse().ok()),
        created_at: Timestamp(row.whole(first + 2)?),
        seen_at: Timestamp(row.whole(first + 3)?),
        expires_at: Timestamp(row.whole(first + 4)?),
    })
}

async fn kept(conn: &mut AnyConnection, email: &str) -> Result<Option<Kept>, Refusal> {
    let query = q!(
        concat!("SELECT ", columns!(), ", p.password, p.totp, p.totp_step FROM person p WHERE p.email = $1"),
        email.to_owned()
    );
    let Some(row) = row(conn, query).await? else { return Ok(None) };
    let person = person::read(&row)?;
    Ok(Some(Kept { person, password: row.text_or_none(9)?, totp: row.octets_or_none(10)?, totp_step: row.whole(11)? }))
}

fn wrong_password() -> Refusal {
    Refusal::new(
        Kind::Unknown,
        "sign_in_refused",
        "The e-mail address or the password is wrong.",
        "Check both. Who forgot the password gets a new link from an owner of the account or the operator.",
    )
}

fn wrong_code() -> Refusal {
    Refusal::new(
        Kind::Unknown,
        "code_wrong",
        "This code is wrong, or was used already.",
        "Wait for the next code of your app; check that the clock of your telephone is right.",
    )
    .at("code")
}

impl Office {
    /// Always a fresh token.
    pub async fn sign_in(&self, with: SignIn) -> Result<SignedIn, Refusal> {
        let email = as_typed(&with.email);
        let knock = self.door().knock(with.from, &email, self.now())?;
        match self.try_sign_in(&with, &email).await {
            Ok(Ok(signed_in)) => {
                self.door().let_in(knock, self.now());
                Ok(signed_in)
            }
            // Its count stands.
            Ok(Err(wrong)) => Err(self.failed(wrong, with.from)),
            Err(refusal) => {
                self.door().withdraw(knock);
                Err(refusal)
            }
        }
    }

    async fn try_sign_in(&self, with: &SignIn, email: &str) -> Result<Result<SignedIn, Wrong>, Refusal> {
        let known = {
            let mut conn = self.store().read().await?;
            kept(&mut conn, email).await?
        };
        let good = known.as_ref().filter(|known| known.person.disabled_at.is_none());
        let hash = good.and_then(|known| known.password.clone());
        let is_right = self.door().hashing.is_right(with.password.show().to_owned(), hash.clone()).await?;
        let id = known.map(|known| known.person.id);
        if !is_right {
            return Ok(Err(Wrong { person: id, refusal: wrong_password() }));
        }
        let now = self.now();
        let mut change = self.store().change().await?;
        // Hashing took its time: it is the person as they are now who comes in.
        let known = kept(change.conn(), email).await?;
        let same = known.filter(|known| known.password == hash && known.person.disabled_at.is_none());
        let Some(known) = same else { return Ok(Err(Wrong { person: id, refusal: wrong_password() })) };
        if known.person.has_totp {
            let code = with.code.as_deref().ok_or_else(|| {
                Refusal::new(
                    Kind::Unknown,
                    "code_needed",
                    "A code is needed besides the password.",
                    "Give the six digits that your app shows.",
                )
                .at("code")
            })?;
            if !self.use_code(&mut change, &known, code).await? {
                return Ok(Err(Wrong { person: id, refusal: wrong_code() }));
            }
        }
        let person = known.person;
        if let Some(old) = &with.replaces {
            let end = q!("DELETE FROM session WHERE digest = $1", id::digest_of(old.show()).to_vec());
            run(change.conn(), end).await?;
        }
        let (token, session) = begin(&mut change, &person, with.from, now).await?;
        let detail = json!({ "session": session.id, "code": person.has_totp });
        audit::write(&mut change, &person.actor(with.from), now, person.line("signed-in", detail)).await?;
        change.commit().await?;
        Ok(Ok(SignedIn { token, session, person }))
    }

    fn failed(&self, wrong: Wrong, from: Option<IpAddr>) -> Refusal {
        tracing::warn!(person = wrong.person.as_deref().unwrap_or("unknown"), ?from, "a sign-in failed");
        self.door().note_failure(wrong.person.as_deref(), from, self.now());
        wrong.refusal
    }

    /// Whether the code is right; then it is used up.
    async fn use_code(&self, change: &mut Change, of: &Kept, code: &str) -> Result<bool, Refusal> {
        let Some(sealed) = &of.totp else { return Ok(false) };
        let secret = self.sealer().open(&of.person.id, sealed)?;
        let Some(step) = totp::step_of(&secret, code, self.now(), of.totp_step) else { return Ok(false) };
        run(change.conn(), q!("UPDATE person SET totp_step = $2 WHERE id = $1", of.person.id.clone(), step)).await?;
        Ok(true)
    }

    /// Who this token stands for, as they are now.
    pub async fn actor_of_session(&self, token: &str, from: Option<IpAddr>) -> Result<(Actor, Session), Refusal> {
        let now = self.now();
        let (person, session) = {
            let mut conn = self.store().read().await?;
            find_session(&mut conn, token, now).await?
        };
        if now.since(session.seen_at) >= SEEN_EVERY {
            self.note_use(&session, now).await?;
        }
        Ok((person.actor(from), session))
    }

    async fn note_use(&self, session: &Session, now: Timestamp) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        run(change.conn(), q!("UPDATE session SET seen_at = $2 WHERE id = $1", session.id.clone(), now.0)).await?;
        change.commit().await
    }

    /// A token that is none is no fault: it is what was wished.
    pub async fn sign_out(&self, token: &str, from: Option<IpAddr>) -> Result<(), Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        let (person, session) = match find_session(change.conn(), token, now).await {
            Ok(found) => found,
            Err(refusal) if refusal.kind == Kind::Unknown => return Ok(()),
            Err(refusal) => return Err(refusal),
        };
        run(change.conn(), q!("DELETE FROM session WHERE id = $1", session.id.clone())).await?;
        let line = person.line("signed-out", json!({ "session": session.id }));
        audit::write(&mut change, &person.actor(from), now, line).await?;
        change.commit().await
    }

    /// Oneself, or whom one lets in. In the order they began.
    pub async fn sessions(&self, by: &Actor, called: &str, window: &Window) -> Result<Page<Session>, Refusal> {
        let now = self.now();
        let mut conn = self.store().read().await?;
        let person = find_person(&mut conn, called).await?;
        must_be_self_or_managed(&person, by, called)?;
        let query = q!(
            "SELECT s.id, s.from_address, s.created_at, s.seen_at, s.expires_at FROM session s WHERE s.person = $1 \
             AND s.id > $2 AND s.expires_at > $3 AND s.seen_at > $4 ORDER BY s.id LIMIT $5",
            person.id,
            window.after_text(),
            now.0,
            (now - IDLE_MAX).0,
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(|row| read(row, 0)).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |session| session.id.clone()))
    }

    pub async fn end_session(&self, by: &Actor, called: &str, session: &str) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let person = find_person(change.conn(), called).await?;
        must_be_self_or_managed(&person, by, called)?;
        let end = q!("DELETE FROM session WHERE person = $1 AND id = $2", person.id.clone(), session.to_owned());
        if run(change.conn(), end).await? == 0 {
            return Err(Refusal::not_found("session", session));
        }
        let line = person.line("session-ended", json!({ "session": session }));
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await
    }

    /// Oneself, or whom one lets in: every session ends, also the one that asks.
    pub async fn sign_out_everywhere(&self, by: &Actor, called: &str) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let person = find_person(change.conn(), called).await?;
        must_be_self_or_managed(&person, by, called)?;
        let ended = run(change.conn(), q!("DELETE FROM session WHERE person = $1", person.id.clone())).await?;
        let line = person.line("signed-out-everywhere", json!({ "sessions": ended }));
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await
    }

    /// Every session ends, also the one that asks.
    pub async fn change_password(&self, by: &Actor, old: &str, new: &str) -> Result<(), Refusal> {
        let person = self.own_person(by).await?;
        password::judge(new, &person.email)?;
        let knock = self.door().knock(by.from, &person.email, self.now())?;
        match self.try_change_password(by, &person.email, old, new).await {
            Ok(Ok(())) => {
                self.door().let_in(knock, self.now());
                Ok(())
            }
            Ok(Err(wrong)) => Err(self.failed(wrong, by.from)),
            Err(refusal) => {
                self.door().withdraw(knock);
                Err(refusal)
            }
        }
    }

    async fn try_change_password(
        &self,
        by: &Actor,
        email: &str,
        old: &str,
        new: &str,
    ) -> Result<Result<(), Wrong>, Refusal> {
        let hash = {
            let mut conn = self.store().read().await?;
            kept(&mut conn, email).await?.and_then(|known| known.password)
        };
        let wrong = || {
            let sentence = "The old password is wrong.";
            let refusal =
                Refusal::invalid("old_password", sentence, "Check it, or ask for a new link if it is forgotten.");
            Ok(Err(Wrong { person: Some(by.id.clone()), refusal }))
        };
        if !self.door().hashing.is_right(old.to_owned(), hash.clone()).await? {
            return wrong();
        }
        let fresh = self.door().hashing.hash(new.to_owned()).await?;
        let mut change = self.store().change().await?;
        let known = kept(change.conn(), email).await?;
        let same = known.filter(|known| known.password == hash && known.person.disabled_at.is_none());
        let Some(Kept { mut person, .. }) = same else { return wrong() };
        keep_password(&mut change, &mut person, fresh).await?;
        let line = person.line("password-set", json!({ "with": "the old password" }));
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await?;
        Ok(Ok(()))
    }

    /// A secret for an app; it counts from `confirm_totp` on.
    pub async fn enrol_totp(&self, by: &Actor) -> Result<Enrolment, Refusal> {
        let own = self.own_person(by).await?;
        let secret = totp::fresh()?;
        let mut change = self.store().change().await?;
        let person = find_person(change.conn(), &own.id).await?;
        if person.has_totp {
            let sentence = "Codes are on already.";
            return Err(Refusal::conflict("totp_on", sentence, "Turn them off first to use another app."));
        }
        let sealed = self.sealer().seal(&person.id, &secret)?;
        // A step that was used stays used: the app may be the same.
        let update = q!("UPDATE person SET totp = $2 WHERE id = $1", person.id.clone(), sealed);
        run(change.conn(), update).await?;
        audit::write(&mut change, by, self.now(), person.line("totp-enrolled", json!({}))).await?;
        change.commit().await?;
        let url = totp::url(&secret, self.host(), &person.email);
        Ok(Enrolment { secret: Secret::new(totp::written(&secret)), url: Secret::new(url) })
    }

    /// A code shows that the app has the secret; from now on every sign-in needs one.
    pub async fn confirm_totp(&self, by: &Actor, code: &str) -> Result<Person, Refusal> {
        let own = self.own_person(by).await?;
        let mut change = self.store().change().await?;
        let Some(known) = kept(change.conn(), &own.email).await? else {
            return Err(Refusal::not_found("person", &own.id));
        };
        if known.person.has_totp {
            return Ok(known.person);
        }
        if known.totp.is_none() {
            return Err(Refusal::conflict(
                "totp_not_enrolled",
                "There is no secret to confirm.",
                "Enrol an app first.",
            ));
        }
        if !self.use_code(&mut change, &known, code).await? {
            return Err(wrong_code());
        }
        let mut person = known.person;
        set_totp(&mut change, &mut person, true).await?;
        audit::write(&mut change, by, self.now(), person.line("totp-on", json!({}))).await?;
        change.commit().await?;
        Ok(person)
    }

    /// Oneself with a code; the operator without, for who lost the telephone.
    pub async fn turn_off_totp(&self, by: &Actor, called: &str, code: Option<&str>) -> Result<Person, Refusal> {
        let person = {
            let mut conn = self.store().read().await?;
            find_person(&mut conn, called).await?
        };
        person.may_be_read(by, called)?;
        if !person.is(by) {
            by.may_operate()?;
            let mut change = self.store().change().await?;
            let person = find_person(change.conn(), &person.id).await?;
            return self.end_totp(change, by, person, "the operator").await;
        }
        let knock = self.door().knock(by.from, &person.email, self.now())?;
        let mut change = match self.store().change().await {
            Ok(change) => change,
            Err(refusal) => {
                self.door().withdraw(knock);
                return Err(refusal);
            }
        };
        let known = kept(change.conn(), &person.email).await?;
        let is_right = match &known {
            Some(known) => self.use_code(&mut change, known, code.unwrap_or_default()).await?,
            None => false,
        };
        match known.filter(|_| is_right) {
            Some(known) => {
                self.door().let_in(knock, self.now());
                self.end_totp(change, by, known.person, "a code").await
            }
            None => Err(self.failed(Wrong { person: Some(person.id), refusal: wrong_code() }, by.from)),
        }
    }

    async fn end_totp(
        &self,
        mut change: Change,
        by: &Actor,
        mut person: Person,
        with: &str,
    ) -> Result<Person, Refusal> {
        set_totp(&mut change, &mut person, false).await?;
        audit::write(&mut change, by, self.now(), person.line("totp-off", json!({ "with": with }))).await?;
        change.commit().await?;
        Ok(person)
    }

    async fn own_person(&self, by: &Actor) -> Result<Person, Refusal> {
        if !matches!(by.kind, ActorKind::Person { .. }) {
            return Err(Refusal::forbidden("person_only", "This is for a signed-in person.", "Sign in."));
        }
        let mut conn = self.store().read().await?;
        find_person(&mut conn, &by.id).await
    }

    /// Once a minute: writes down who failed to sign in, one line for each person; takes away what is over.
    pub async fn tidy_people(&self) -> Result<(), Refusal> {
        let now = self.now();
        self.note_people(self.door().failed_so_far(now)).await?;
        let over = {
            let mut conn = self.store().read().await?;
            let query = q!(
                "SELECT (SELECT COUNT(*) FROM session WHERE expires_at <= $1 OR seen_at <= $2) \
                 + (SELECT COUNT(*) FROM link WHERE expires_at <= $1 OR used_at IS NOT NULL)",
                now.0,
                (now - IDLE_MAX).0,
            );
            number(&mut conn, query).await?
        };
        if over == 0 {
            return Ok(());
        }
        let mut change = self.store().change().await?;
        let sessions = q!("DELETE FROM session WHERE expires_at <= $1 OR seen_at <= $2", now.0, (now - IDLE_MAX).0);
        run(change.conn(), sessions).await?;
        run(change.conn(), q!("DELETE FROM link WHERE expires_at <= $1 OR used_at IS NOT NULL", now.0)).await?;
        change.commit().await
    }

    /// At the end of the house: who failed to sign in since the last line about them.
    pub async fn note_people_at_last(&self) -> Result<(), Refusal> {
        self.note_people(self.door().failed_at_last()).await
    }

    async fn note_people(&self, failed: Lines) -> Result<(), Refusal> {
        let noted = self.try_note_people(&failed).await;
        if noted.is_err() {
            self.door().put_back(failed);
        }
        noted
    }

    async fn try_note_people(&self, failed: &Lines) -> Result<(), Refusal> {
        if failed.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let mut change = self.store().change().await?;
        for (person, failed) in failed {
            let account = match person {
                Some(id) => {
                    let query = q!("SELECT account FROM person WHERE id = $1", id.to_owned());
                    let found = row(change.conn(), query).await?;
                    found.map(|row| row.text_or_none(0)).transpose()?.flatten()
                }
                None => None,
            };
            let whose = (Subject::Person, person.as_deref());
            audit::write_failed(&mut change, whose, account.as_deref(), failed, now).await?;
        }
        change.commit().await
    }
}

fn must_be_self_or_managed(person: &Person, by: &Actor, called: &str) -> Result<(), Refusal> {
    if person.is(by) { Ok(()) } else { person.may_be_managed(by, called) }
}

async fn begin(
    change: &mut Change,
    person: &Person,
    from: Option<IpAddr>,
    now: Timestamp,
) -> Result<(Secret, Session), Refusal> {
    let token = id::secret("session")?;
    let session =
        Session { id: id::fresh("ses"), from, created_at: now, seen_at: now, expires_at: now + SESSION_LIFETIME };
    let insert = q!(
        "INSERT INTO session (digest, id, person, from_address, created_at, seen_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $5, $6)",
        id::digest_of(&token).to_vec(),
        session.id.clone(),
        person.id.clone(),
        from.map(|from| from.to_string()),
        now.0,
        session.expires_at.0,
    );
    run(change.conn(), insert).await?;
    let prune = q!(
        "DELETE FROM session WHERE person = $1 \
         AND id NOT IN (SELECT id FROM session WHERE person = $1 ORDER BY id DESC LIMIT $2)",
        person.id.clone(),
        SESSIONS_MAX,
    );
    run(change.conn(), prune).await?;
    Ok((Secret::new(token), session))
}

async fn find_session(conn: &mut AnyConnection, token: &str, now: Timestamp) -> Result<(Person, Session), Refusal> {
    let query = q!(
        concat!(
            "SELECT ",
            columns!(),
            ", s.id, s.from_address, s.created_at, s.seen_at, s.expires_at \
             FROM session s JOIN person p ON p.id = s.person WHERE s.digest = $1"
        ),
        id::digest_of(token).to_vec(),
    );
    let found = if id::is_whole(token) { row(conn, query).await? } else { None };
    if let Some(row) = found {
        let (person, session) = (person::read(&row)?, read(&row, 9)?);
        let is_good = session.expires_at > now && now.since(session.seen_at) < IDLE_MAX && person.disabled_at.is_none();
        if is_good {
            return Ok((person, session));
        }
    }
    Err(Refusal::new(Kind::Unknown, "session_over", "You are not signed in, or not any more.", "Sign in again."))
}

async fn set_totp(change: &mut Change, person: &mut Person, on: bool) -> Result<(), Refusal> {
    person.has_totp = on;
    person.revision += 1;
    let update = q!(
        "UPDATE person SET totp_on = $2, totp = CASE WHEN $2 = 1 THEN totp ELSE NULL END, revision = $3 WHERE id = $1",
        person.id.clone(),
        i64::from(on),
        person.revision,
    );
    run(change.conn(), update).await?;
    Ok(())
}
