//! By what is a thing called that has no name of its own, and what does a secret look like?
//!
//! Ids grow with time, so that a list in their order is a list in the order of creation. Secrets begin with a word that says what
//! they are and end with a checksum, so that a scanner that finds one in a repository knows it without asking us.

use crate::seal::{SealFault, random};
use aws_lc_rs::digest;
use engine::snapshot::Digest;
use std::fmt;
use uuid::Uuid;

/// Without letters that are read wrongly: no i, l, o, u.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SECRET_OCTETS: usize = 25;

/// What is shown once and kept nowhere; it does not get into logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(secret: String) -> Secret {
        Secret(secret)
    }

    #[must_use]
    pub fn show(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// `kind_` and 26 letters and digits.
#[must_use]
pub fn fresh(kind: &str) -> String {
    format!("{kind}_{}", letters(&Uuid::now_v7().into_bytes()))
}

/// A secret of 200 bits: `weir_` + kind + `_` + 40 letters + 7 of checksum.
pub fn secret(kind: &str) -> Result<String, SealFault> {
    let body = format!("weir_{kind}_{}", letters(&random::<SECRET_OCTETS>()?));
    let checksum = letters(&crc32fast::hash(body.as_bytes()).to_be_bytes());
    Ok(body + &checksum)
}

/// Whether it can be one of ours at all: what was cut short or typed wrongly is told from what was taken back.
#[must_use]
pub fn is_whole(secret: &str) -> bool {
    let Some(at) = secret.len().checked_sub(7).filter(|at| secret.is_char_boundary(*at)) else {
        return false;
    };
    let (body, checksum) = secret.split_at(at);
    body.starts_with("weir_") && checksum == letters(&crc32fast::hash(body.as_bytes()).to_be_bytes())
}

/// 20 capital letters and digits beginning with AKIA, as an access key id has them.
pub fn access_key() -> Result<String, SealFault> {
    let octets = random::<10>()?;
    Ok(format!("AKIA{}", letters(&octets).to_ascii_uppercase()))
}

/// A user name for SMTP: no mail client stumbles over it.
pub fn login() -> Result<String, SealFault> {
    Ok(format!("smtp_{}", letters(&random::<10>()?)))
}

/// 40 letters and digits, as a secret access key has them.
pub fn access_secret() -> Result<String, SealFault> {
    Ok(letters(&random::<SECRET_OCTETS>()?))
}

/// 26 letters and digits, for what is published in the DNS: not secret, but nobody can have guessed it.
pub fn token() -> Result<String, SealFault> {
    Ok(letters(&random::<16>()?))
}

/// Five letters and digits, to tell apart what was named in the same month.
pub(crate) fn mark() -> Result<String, SealFault> {
    Ok(letters(&random::<3>()?))
}

#[must_use]
pub fn digest_of(secret: &str) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    out
}

/// Five bits a letter, the rest of the last filled with zeros.
fn letters(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len().div_ceil(5) * 8);
    let (mut held, mut bits) = (0u32, 0u32);
    for octet in octets {
        held = held << 8 | u32::from(*octet);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(LETTERS[(held >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        out.push(char::from(LETTERS[(held << (5 - bits) & 31) as usize]));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Secret, access_key, fresh, is_whole, letters, login, secret};

    #[test]
    fn ids_grow_with_time_and_secrets_can_be_told_from_anything_else() {
        let ids: Vec<String> = (0..100).map(|_| fresh("acc")).collect();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.len() == 30), "{ids:?}");
        let key = secret("key").unwrap();
        assert!(is_whole(&key) && key.starts_with("weir_key_"), "{key}");
        assert!(!is_whole(&key[..key.len() - 1]) && !is_whole("") && !is_whole("weir_key_ä234567"));
        assert_ne!(secret("key").unwrap(), key);
        let access = access_key().unwrap();
        assert!(access.len() == 20 && access.starts_with("AKIA"), "{access}");
        let login = login().unwrap();
        assert!(login.len() == 21 && login.starts_with("smtp_"), "{login}");
        assert_eq!(format!("{:?}", Secret::new(key)), "Secret");
        assert_eq!(letters(&[0xff; 5]), "zzzzzzzz");
        assert_eq!(letters(&[0xff]), "zw");
    }
}
