//! Was this call made before? (R1.5)
//!
//! The plan: a key is written down before the call is carried out, and its answer after. A call that changed nothing leaves no key. So a
//! change is made at most once for a key, whatever breaks in between; and where it broke in between, that is said rather than guessed.
//! Answers lie sealed: some of them hold secrets that are shown once.

use crate::office::Office;
use crate::refusal::{Kind, Refusal};
use crate::seal::SealFault;
use crate::store::{Columns, q, row, run};
use aws_lc_rs::digest::{Context, SHA256};
use engine::snapshot::Digest;
use engine::time::Timestamp;
use std::time::Duration;

/// How long an answer is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3_600);
/// Longer than any call takes: one that has no answer by then will have none.
const UNDER_WAY_MAX: Duration = Duration::from_secs(300);
/// What is written while there is no answer yet.
const UNDER_WAY: i64 = 0;

/// A call with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Who asks; nobody is answered with what another was told.
    holder: String,
    key: String,
    digest: Digest,
}

impl Once {
    /// `call` is all that says what is wanted, in parts.
    #[must_use]
    pub fn new(holder: String, key: &str, call: &[&[u8]]) -> Once {
        let mut context = Context::new(&SHA256);
        for part in call {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Once { holder, key: key.to_owned(), digest }
    }
}

/// What is to be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    First,
    /// This was the answer to the first.
    Again(Vec<u8>),
}

impl Office {
    pub async fn begin_once(&self, once: &Once) -> Result<Begun, Refusal> {
        let now = self.now();
        let mut change = self.store().change().await?;
        run(change.conn(), q!("DELETE FROM idempotency WHERE at <= $1", (now - REMEMBERED).0)).await?;
        let query = q!(
            "SELECT digest, status, body, at FROM idempotency WHERE holder = $1 AND key = $2",
            once.holder.clone(),
            once.key.clone(),
        );
        if let Some(found) = row(change.conn(), query).await? {
            if found.octets(0)? != once.digest {
                return Err(refuse(
                    "idempotency_key_reused",
                    "The idempotency key was used for another call within the last 24 hours.",
                    "Give each call a key of its own, and repeat a call unchanged.",
                ));
            }
            if found.whole(1)? != UNDER_WAY {
                let answer = self.sealer().open(&place(once), &found.octets(2)?).map_err(|fault| closed(&fault))?;
                return Ok(Begun::Again(answer));
            }
            return Err(if now.since(Timestamp(found.whole(3)?)) < UNDER_WAY_MAX {
                refuse(
                    "idempotency_in_progress",
                    "The first call with this idempotency key is not answered yet.",
                    "Try again in a moment.",
                )
            } else {
                refuse(
                    "outcome_unknown",
                    "The first call with this idempotency key broke off; it may have been carried out.",
                    "Look whether what it was for is there. To make it again, give another key.",
                )
            });
        }
        let insert = q!(
            "INSERT INTO idempotency (holder, key, digest, status, body, at) VALUES ($1, $2, $3, $4, $5, $6)",
            once.holder.clone(),
            once.key.clone(),
            once.digest.to_vec(),
            UNDER_WAY,
            Vec::new(),
            now.0,
        );
        run(change.conn(), insert).await?;
        change.commit().await?;
        Ok(Begun::First)
    }

    /// It was carried out, and this is the answer.
    pub async fn end_once(&self, once: &Once, status: u16, answer: &[u8]) -> Result<(), Refusal> {
        let sealed = self.sealer().seal(&place(once), answer).map_err(|fault| closed(&fault))?;
        let mut change = self.store().change().await?;
        let update = q!(
            "UPDATE idempotency SET status = $3, body = $4 WHERE holder = $1 AND key = $2",
            once.holder.clone(),
            once.key.clone(),
            i64::from(status),
            sealed,
        );
        run(change.conn(), update).await?;
        change.commit().await
    }

    /// It changed nothing: the same key may be used again.
    pub async fn withdraw_once(&self, once: &Once) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let delete =
            q!("DELETE FROM idempotency WHERE holder = $1 AND key = $2", once.holder.clone(), once.key.clone());
        run(change.conn(), delete).await?;
        change.commit().await
    }
}

/// What the seal is bound to.
fn place(once: &Once) -> String {
    format!("idempotency {} {}", once.holder, once.key)
}

fn refuse(code: &'static str, sentence: &str, mend: &str) -> Refusal {
    Refusal::conflict(code, sentence, mend).at("Idempotency-Key").by_rule("R1.5")
}

fn closed(fault: &SealFault) -> Refusal {
    tracing::error!(%fault, "the answer to an earlier call cannot be kept or read");
    Refusal::new(
        Kind::Unavailable,
        "answer_unreadable",
        "The answer to the first call with this idempotency key cannot be kept or read.",
        "Look whether what it was for is there; the service's log names the cause.",
    )
}
