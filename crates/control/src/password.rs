//! What is a good password, and how is one kept?

use crate::refusal::{Kind, Refusal};
use crate::seal::{SealFault, random};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use std::sync::Arc;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError};

pub(crate) const LETTERS_MIN: usize = 12;
/// What is hashed is read whole.
pub(crate) const OCTETS_MAX: usize = 256;

/// OWASP's first choice for Argon2id: 19 MiB, twice over, in one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_OCTETS: usize = 16;
/// So much memory and so many processors a storm of sign-ins can take.
const HASHED_AT_ONCE_MAX: usize = 2;
/// At 16 ms each, the last of them waits half a second; whoever comes after is told to come again.
const WAITING_MAX: usize = 64;

/// Length alone: rules about digits and signs make passwords worse.
pub(crate) fn judge(password: &str, email: &str) -> Result<(), Refusal> {
    let mend = "A few unrelated words make a good one; a password manager makes a better one.";
    if password.chars().count() < LETTERS_MIN {
        return Err(Refusal::invalid("password", format!("A password has at least {LETTERS_MIN} characters."), mend));
    }
    if password.len() > OCTETS_MAX {
        return Err(Refusal::invalid("password", format!("A password has at most {OCTETS_MAX} octets."), mend));
    }
    if password.trim().eq_ignore_ascii_case(email) {
        return Err(Refusal::invalid("password", "The e-mail address is no password: everybody knows it.", mend));
    }
    Ok(())
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants above are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &str) -> Result<String, Refusal> {
    let salt = random::<SALT_OCTETS>()?;
    match argon2().hash_password_with_salt(password.as_bytes(), &salt) {
        Ok(hash) => Ok(hash.to_string()),
        Err(fault) => Err(failed(&fault)),
    }
}

/// Against nothing it takes as long as against something, so that the time does not tell who is known here.
fn is_right(password: &str, kept: Option<&str>) -> Result<bool, Refusal> {
    if password.len() > OCTETS_MAX {
        return Ok(false);
    }
    let Some(kept) = kept else { return hash(password).map(|_| false) };
    let kept = PasswordHash::new(kept).map_err(|fault| failed(&fault))?;
    Ok(argon2().verify_password(password.as_bytes(), &kept).is_ok())
}

fn failed(fault: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%fault, "a password cannot be hashed");
    Refusal::from(SealFault::Closed("a password".to_owned()))
}

/// Hashing is slow on purpose: it has threads of its own, and few of them.
pub(crate) struct Hashing {
    waiting: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
}

impl Default for Hashing {
    fn default() -> Hashing {
        Hashing {
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            at_once: Arc::new(Semaphore::new(HASHED_AT_ONCE_MAX)),
        }
    }
}

impl Hashing {
    pub async fn hash(&self, password: String) -> Result<String, Refusal> {
        self.apart(move || hash(&password)).await?
    }

    pub async fn is_right(&self, password: String, kept: Option<String>) -> Result<bool, Refusal> {
        self.apart(move || is_right(&password, kept.as_deref())).await?
    }

    async fn apart<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let seat: Result<OwnedSemaphorePermit, TryAcquireError> = self.waiting.clone().try_acquire_owned();
        let seat = seat.map_err(|_| busy())?;
        let turn: Result<OwnedSemaphorePermit, AcquireError> = self.at_once.clone().acquire_owned().await;
        let turn = turn.map_err(|_| busy())?;
        // The work goes on when nobody waits for it any more; so it keeps its place until it is done.
        let done = tokio::task::spawn_blocking(move || {
            let _kept = (seat, turn);
            work()
        });
        done.await.map_err(|fault| failed(&fault))
    }
}

fn busy() -> Refusal {
    Refusal::new(
        Kind::TooOften,
        "sign_in_busy",
        "Too many people sign in at this moment.",
        "Try again in a few seconds.",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{HASHED_AT_ONCE_MAX, Hashing, WAITING_MAX, hash, is_right, judge};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_password_is_long_and_not_the_address() {
        assert!(judge("correct horse", "ann@a.test").is_ok());
        assert!(judge("äöüäöüäöüäöü", "ann@a.test").is_ok(), "characters are counted, not octets");
        assert!(judge("elevenletter"[..11].into(), "ann@a.test").is_err());
        assert!(judge(&"x".repeat(256), "ann@a.test").is_ok() && judge(&"x".repeat(257), "ann@a.test").is_err());
        assert!(judge("Somebody@A.test", "somebody@a.test").is_err());
    }

    #[test]
    fn what_is_kept_names_its_cost_differs_each_time_and_opens_to_one_password() {
        let kept = hash("correct horse battery").unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(hash("correct horse battery").unwrap(), kept);
        assert!(is_right("correct horse battery", Some(&kept)).unwrap());
        assert!(!is_right("correct horse batterz", Some(&kept)).unwrap());
        assert!(!is_right("correct horse battery", None).unwrap());
        assert!(!is_right(&"x".repeat(257), Some(&kept)).unwrap());
    }

    #[test]
    fn few_are_hashed_at_once_and_who_comes_too_late_is_told() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let hashing = Arc::new(Hashing::default());
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let all: Vec<_> = (0..WAITING_MAX)
                .map(|_| {
                    let (hashing, now, most) = (hashing.clone(), now.clone(), most.clone());
                    tokio::spawn(async move {
                        let work = move || {
                            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            now.fetch_sub(1, Ordering::SeqCst);
                        };
                        hashing.apart(work).await
                    })
                })
                .collect();
            for one in all {
                one.await.unwrap().unwrap();
            }
            assert!((1..=HASHED_AT_ONCE_MAX).contains(&most.load(Ordering::SeqCst)));
            let seats: Vec<_> =
                (0..WAITING_MAX).map(|_| hashing.waiting.clone().try_acquire_owned().unwrap()).collect();
            assert_eq!(hashing.apart(|| ()).await.unwrap_err().code, "sign_in_busy");
            drop(seats);
            assert!(hashing.apart(|| ()).await.is_ok());
        });
    }
}
