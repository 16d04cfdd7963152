//! With which keys is a domain's mail signed?
//!
//! A key waits (`Next`) until a check has seen its record in the DNS; then it signs (`Active`) and the key of its kind before it
//! signs no more (`Retired`). So no mail is signed with a key that receivers cannot find, and no rotation can be done in the wrong
//! order. Mail is signed when it is accepted, so a retired key has nothing left to do; its record is still read for a while by those
//! who get mail late.

use crate::id;
use crate::office::Office;
use crate::refusal::{Kind, Refusal};
use crate::seal::Sealer;
use crate::store::{Change, Columns, q, rows, run, run_unless};
use engine::time::Timestamp;
use mail::address::Domain as DomainName;
use mail::dkim::{self, DkimError, KeyKind, Signer};
use mail::records::{DkimKey, DkimKeyKind, Wanted};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Mail is tried for days, and read by machines soon after; then nobody asks for the record any more.
pub const RETIRED_RECORD_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Made, brought and retired together.
pub const KEYS_PER_DOMAIN_MAX: usize = 100;
/// Each is looked for in every check.
pub const KEYS_WAITING_MAX: usize = 8;
/// RSA keys take a tenth of a second of a processor and more; however many are wanted, mail needs processors too.
const MADE_AT_ONCE_MAX: usize = 2;
/// A PEM of 16384 bits has some 13,000.
const PEM_OCTETS_MAX: usize = 20_480;

static MAKING: Semaphore = Semaphore::const_new(MADE_AT_ONCE_MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// Which every receiver knows.
    Rsa,
    Ed25519,
}

pub(crate) const ALGORITHMS: [Algorithm; 2] = [Algorithm::Rsa, Algorithm::Ed25519];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Made,
    /// By the account.
    Brought,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Waits for its record to be published.
    Next,
    Active,
    Retired,
}

/// A key as it is shown; the private half is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    pub selector: String,
    pub algorithm: Algorithm,
    pub origin: Origin,
    /// What to publish at `selector._domainkey.domain`.
    pub record: String,
    pub state: KeyState,
    pub state_since: Timestamp,
    pub created_at: Timestamp,
}

impl Algorithm {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Algorithm::Rsa => "rsa",
            Algorithm::Ed25519 => "ed25519",
        }
    }

    pub(crate) fn of(code: &str) -> Algorithm {
        if code == "ed25519" { Algorithm::Ed25519 } else { Algorithm::Rsa }
    }

    fn kind(self) -> KeyKind {
        match self {
            Algorithm::Rsa => KeyKind::Rsa2048,
            Algorithm::Ed25519 => KeyKind::Ed25519,
        }
    }
}

impl KeyState {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            KeyState::Next => "next",
            KeyState::Active => "active",
            KeyState::Retired => "retired",
        }
    }

    pub(crate) fn of(code: &str) -> KeyState {
        match code {
            "active" => KeyState::Active,
            "next" => KeyState::Next,
            _ => KeyState::Retired,
        }
    }
}

impl Origin {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Origin::Made => "made",
            Origin::Brought => "brought",
        }
    }

    fn of(code: &str) -> Origin {
        if code == "brought" { Origin::Brought } else { Origin::Made }
    }
}

impl Key {
    pub(crate) fn wanted(&self, domain: &DomainName) -> Wanted {
        Wanted::DkimKey { domain: domain.clone(), selector: self.selector.clone(), record: self.record.clone() }
    }

    /// From when on its record may be taken down.
    #[must_use]
    pub fn record_until(&self) -> Option<Timestamp> {
        (self.state == KeyState::Retired).then(|| self.state_since + RETIRED_RECORD_KEPT)
    }
}

/// A key that is not in the database yet.
pub(crate) struct Fresh {
    id: String,
    pub selector: String,
    algorithm: Algorithm,
    origin: Origin,
    record: String,
    sealed: Vec<u8>,
}

/// What a key is sealed under.
pub(crate) fn place(id: &str) -> String {
    format!("dkim_key {id}")
}

/// `w2611r7k2q9`: made in November 2026, RSA. Two accounts may claim one domain, and one may come back to it: chance keeps their
/// selectors apart, without telling one of the other.
fn selector(algorithm: Algorithm, mark: &str, now: Timestamp) -> String {
    let date = now.to_string();
    let part = |from: usize| date.get(from..from + 2).unwrap_or_default();
    let letter = match algorithm {
        Algorithm::Rsa => 'r',
        Algorithm::Ed25519 => 'e',
    };
    format!("w{}{}{letter}{mark}", part(2), part(5))
}

/// One key of each kind, made beside the tasks that carry mail.
pub(crate) async fn make(office: &Office, algorithms: &[Algorithm]) -> Result<Vec<Fresh>, Refusal> {
    let mark = id::mark()?;
    let mut made = Vec::new();
    for algorithm in algorithms {
        let pair = {
            let _place = MAKING.acquire().await;
            let kind = algorithm.kind();
            tokio::task::spawn_blocking(move || dkim::generate(kind)).await.map_err(|fault| not_made(&fault))?
        };
        let pair = pair.map_err(|fault| not_made(&fault))?;
        let selector = selector(*algorithm, &mark, office.now());
        made.push(fresh(office.sealer(), selector, *algorithm, Origin::Made, pair.record, &pair.private_pem)?);
    }
    Ok(made)
}

/// From what the account says is its key.
pub(crate) fn bring(sealer: &Sealer, domain: &DomainName, selector: &str, pem: &str) -> Result<Fresh, Refusal> {
    let selector = selector.trim().to_ascii_lowercase();
    if pem.len() > PEM_OCTETS_MAX {
        let sentence = format!("A private key has at most {PEM_OCTETS_MAX} octets.");
        return Err(Refusal::invalid("key", sentence, "Give the key alone, without certificates."));
    }
    let signer = Signer::from_pem(domain, &selector, pem).map_err(|error| match error {
        DkimError::Selector(_) => {
            Refusal::invalid("selector", format!("{error}."), "Choose a selector such as mail2026.")
        }
        _ => Refusal::invalid("key", sentence(&error.to_string()), "Make one with `weir dkim generate`."),
    })?;
    if format!("{}.", signer.record_name()).len() > DNS_NAME_OCTETS_MAX {
        let sentence = format!("The name {} is longer than the DNS takes.", signer.record_name());
        return Err(Refusal::invalid("selector", sentence, "Choose a shorter selector."));
    }
    let record = signer.record().map_err(|fault| not_made(&fault))?;
    let algorithm = match DkimKey::parse(&record).map(|key| key.kind) {
        Ok(DkimKeyKind::Ed25519) => Algorithm::Ed25519,
        _ => Algorithm::Rsa,
    };
    fresh(sealer, selector, algorithm, Origin::Brought, record, pem)
}

const DNS_NAME_OCTETS_MAX: usize = 254;

fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).chain(['.']).collect()).unwrap_or_default()
}

fn fresh(
    sealer: &Sealer,
    selector: String,
    algorithm: Algorithm,
    origin: Origin,
    record: String,
    pem: &str,
) -> Result<Fresh, Refusal> {
    let id = id::fresh("dkim");
    let sealed = sealer.seal(&place(&id), pem.as_bytes())?;
    Ok(Fresh { id, selector, algorithm, origin, record, sealed })
}

fn not_made(fault: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%fault, "a DKIM key cannot be made");
    Refusal::new(Kind::Unavailable, "key_not_made", "A key could not be made.", "Try again in a moment.")
}

pub(crate) async fn insert(change: &mut Change, domain: &str, key: Fresh, now: Timestamp) -> Result<(), Refusal> {
    let taken = || {
        let sentence = format!("This domain has, or had, a key under the selector {} already.", key.selector);
        Refusal::conflict("selector_taken", sentence, "Choose another selector.").at("selector")
    };
    let insert = q!(
        "INSERT INTO dkim_key (id, domain, selector, algorithm, origin, sealed, record, state, state_since, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'next', $8, $8)",
        key.id,
        domain.to_owned(),
        key.selector.clone(),
        key.algorithm.code(),
        key.origin.code(),
        key.sealed,
        key.record,
        now.0,
    );
    run_unless(change.conn(), insert, taken).await?;
    Ok(())
}

/// The order in which they sign: RSA first, which every receiver knows; the newest of a kind first.
pub(crate) async fn of_domain(conn: &mut AnyConnection, domain: &str) -> Result<Vec<Key>, Refusal> {
    let query = q!(
        "SELECT id, selector, algorithm, origin, record, state, state_since, created_at FROM dkim_key WHERE domain = $1 \
         ORDER BY algorithm DESC, id DESC",
        domain.to_owned(),
    );
    rows(conn, query).await?.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<Key, Refusal> {
    Ok(Key {
        id: row.text(0)?,
        selector: row.text(1)?,
        algorithm: Algorithm::of(&row.text(2)?),
        origin: Origin::of(&row.text(3)?),
        record: row.text(4)?,
        state: KeyState::of(&row.text(5)?),
        state_since: Timestamp(row.whole(6)?),
        created_at: Timestamp(row.whole(7)?),
    })
}

/// Its record was seen: from now on it signs, and those of its kind before it do not. Says which those are.
pub(crate) async fn activate(
    change: &mut Change,
    keys: &mut [Key],
    selector: &str,
    now: Timestamp,
) -> Result<Vec<String>, Refusal> {
    let Some(algorithm) = keys.iter().find(|key| key.selector == selector).map(|key| key.algorithm) else {
        return Ok(Vec::new());
    };
    let mut retired = Vec::new();
    for key in keys.iter_mut().filter(|key| key.algorithm == algorithm) {
        let to = match key.state {
            _ if key.selector == selector => KeyState::Active,
            KeyState::Active => KeyState::Retired,
            _ => continue,
        };
        if to == KeyState::Retired {
            retired.push(key.selector.clone());
        }
        (key.state, key.state_since) = (to, now);
        let update =
            q!("UPDATE dkim_key SET state = $2, state_since = $3 WHERE id = $1", key.id.clone(), to.code(), now.0,);
        run(change.conn(), update).await?;
    }
    Ok(retired)
}

/// What has signed for the last time long ago is kept by name only, so that its selector is not used again.
pub(crate) async fn forget_retired(change: &mut Change, domain: &str, now: Timestamp) -> Result<(), Refusal> {
    let update = q!(
        "UPDATE dkim_key SET sealed = NULL WHERE domain = $1 AND state = 'retired' AND sealed IS NOT NULL AND state_since <= $2",
        domain.to_owned(),
        (now - RETIRED_RECORD_KEPT).0,
    );
    run(change.conn(), update).await?;
    Ok(())
}

/// For which kinds a successor is due: the key that signs was made here, is old, and none waits yet.
pub(crate) fn due(keys: &[Key], days: i64, now: Timestamp) -> Vec<Algorithm> {
    let Some(age) = u64::try_from(days).ok().filter(|days| *days > 0).map(|days| Duration::from_secs(days * 86_400))
    else {
        return Vec::new();
    };
    let of_kind = |algorithm, state| keys.iter().filter(move |key| key.algorithm == algorithm && key.state == state);
    ALGORITHMS
        .into_iter()
        .filter(|kind| of_kind(*kind, KeyState::Next).next().is_none())
        .filter(|kind| {
            let old = |key: &Key| key.origin == Origin::Made && now >= key.state_since + age;
            of_kind(*kind, KeyState::Active).any(old)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Algorithm, Key, KeyState, Origin, bring, due, selector};
    use crate::seal::Sealer;
    use engine::time::Timestamp;
    use mail::address::Domain;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_793_491_200_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn key(algorithm: Algorithm, origin: Origin, state: KeyState, state_since: Timestamp) -> Key {
        let text = String::new;
        Key {
            id: text(),
            selector: text(),
            algorithm,
            origin,
            record: text(),
            state,
            state_since,
            created_at: state_since,
        }
    }

    #[test]
    fn a_selector_tells_when_the_key_was_made() {
        assert_eq!(selector(Algorithm::Rsa, "7k2q9", NOW), "w2611r7k2q9");
        assert_eq!(selector(Algorithm::Ed25519, "7k2q9", NOW), "w2611e7k2q9");
    }

    #[test]
    fn a_successor_is_due_when_a_made_key_is_old_and_none_waits() {
        use {Algorithm::*, KeyState::*, Origin::*};
        let rsa = key(Rsa, Made, Active, NOW);
        let later = |days: u32| NOW + DAY * days;
        assert_eq!(due(std::slice::from_ref(&rsa), 180, later(179)), []);
        assert_eq!(due(std::slice::from_ref(&rsa), 180, later(180)), [Rsa]);
        assert_eq!(due(std::slice::from_ref(&rsa), 0, later(10_000)), []);
        // The other kind has its own time; one that waits already is enough; what was brought is its owner's to change.
        let ed25519 = key(Ed25519, Made, Active, later(1));
        assert_eq!(due(&[rsa.clone(), ed25519.clone()], 180, later(180)), [Rsa]);
        assert_eq!(due(&[rsa.clone(), ed25519.clone()], 180, later(181)), [Rsa, Ed25519]);
        assert_eq!(due(&[rsa, ed25519, key(Rsa, Made, Next, later(181))], 180, later(500)), [Ed25519]);
        assert_eq!(due(&[key(Rsa, Brought, Active, NOW)], 180, later(500)), []);
    }

    #[test]
    fn a_key_that_is_brought_is_looked_at_first() {
        let sealer = Sealer::of_key(&[7; 32]).unwrap();
        let domain = Domain::parse("acme.example").unwrap();
        let ed25519 = mail::dkim::generate(mail::dkim::KeyKind::Ed25519).unwrap();
        let fresh = bring(&sealer, &domain, " Own.S1 ", &ed25519.private_pem).unwrap();
        assert_eq!((fresh.selector.as_str(), fresh.algorithm), ("own.s1", Algorithm::Ed25519));
        assert_eq!(fresh.record, ed25519.record);
        let refused = |selector: &str, pem: &str| bring(&sealer, &domain, selector, pem).err().unwrap();
        assert_eq!(refused("a b", &ed25519.private_pem).field.as_deref(), Some("selector"));
        assert_eq!(refused(&"abcdefgh.".repeat(26)[..230], &ed25519.private_pem).field.as_deref(), Some("selector"));
        assert_eq!(refused("s1", "nonsense").field.as_deref(), Some("key"));
        assert_eq!(refused("s1", &"x".repeat(30_000)).field.as_deref(), Some("key"));
        // A key of 1024 bits.
        let short = refused("s1", SHORT);
        assert_eq!(short.field.as_deref(), Some("key"));
        assert!(short.sentence.contains("at least 2048 bits"), "{}", short.sentence);
    }

    const SHORT: &str = "-----BEGIN PRIVATE KEY-----
MIICeQIBADANBgkqhkiG9w0BAQEFAASCAmMwggJfAgEAAoGBAMQagsTDDSF1MZlU
acyolvoyW80ctDRFn9o27tze70xIWHkwOWcL/bZMjSblbb6tKbGyonTn8j/eSBsg
UM8j+pRT5ACRJlswjasLvb7TVYqjJVlWjvBe7ePq/nV6H4ABFif+VLpCBhGHkpY/
WPtV/PbtdxBzl2zjFtnaZqKWaTMNAgMBAAECgYEAi7bnnA/rdv7sC3XcuvcSOcdP
KF9e9C72qJ2iqLIcg5i3kAAPpZ8hb5QyrJehDMyKfBPtMqVeLqrLbKglaq8TgwKk
bhG4kxGnzVawf330r29QoPMTdbgPis4g4fS1edH/CY8oAzYdw0/60YfbsWRE90kl
4Jf7HJXHAbgrz//rqgECQQDnQVa7J5njoJ69oHMXTXsVufBkcK/Q8a5k2rKfGl9A
AvRZ+ZUOFqbfFrlbN+S8Kb5LUllQ/W33cWOnNb77TXLhAkEA2RZHjTEarcd8YWzv
5WoKZg2cHL/sO5Vsx+PxDiqHPYzmJd8ifmKtibmXF5gwPQW1bkrSYpkBe0Y9g1F6
QEWxrQJBAM3tQgVgq0mmwxSLJ1GN3lgnfmiCbB18yVXn5X2GZ2FCAEOK229zPl+U
BbSz3gysg1bhWsWjF2Rr5ViFpK51diECQQDWNIi3xhs4HF4b2B1C9wZ5urYvHCWi
iYgEGWQzgT1fO5ehCPMFWKM6AdoX2wDGRcrHoKbFyYpPtHhgClah8uMlAkEA0+wB
oc2VNli66PlCoWiaNQqcSbqQ0eUMqcvRJh7bY2ht9hyn8G3zyJN7GJU4eNRtOI3u
OxtKq1GvxRE97s155w==
-----END PRIVATE KEY-----
";
}
