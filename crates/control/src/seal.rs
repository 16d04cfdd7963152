//! How do secrets lie in the database, so that who reads the database alone learns none of them?
//!
//! AES-256-GCM under a key that lies outside the database, with the row's own name as associated data: a sealed secret that is
//! moved to another row does not open. Form: one octet for the key, twelve for the nonce, then the sealed octets.

use crate::refusal::{Kind, Refusal};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KEY_OCTETS: usize = 32;
const NONCE_OCTETS: usize = 12;
/// Which key sealed it; another comes with the first change of keys.
const KEY_NUMBER: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum SealFault {
    #[error("the master key {}: {cause}", .path.display())]
    Key { path: PathBuf, cause: io::Error },
    #[error("a sealed secret of {0} does not open: it was sealed with another master key, or changed")]
    Closed(String),
    #[error("no randomness is to be had from the system")]
    NoRandomness,
}

/// Why something is not kept beside the queue, or cannot be taken from there.
#[derive(Debug, thiserror::Error)]
pub enum KeepFault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Seal(#[from] SealFault),
    #[error("it is of another version of this program: {0}")]
    Form(#[from] postcard::Error),
}

/// What cannot be sealed or opened, in words a caller may read; the cause goes to the log, once, here.
impl From<SealFault> for Refusal {
    fn from(fault: SealFault) -> Refusal {
        tracing::error!(%fault, "a secret cannot be made or read");
        Refusal::new(
            Kind::Unavailable,
            "secrets_unavailable",
            "Secrets cannot be made or read at this moment.",
            "Try again in a moment; the service's log names the cause.",
        )
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<LessSafeKey>);

impl Sealer {
    /// The installation's key; made at the first start.
    pub fn of_file(path: &Path) -> Result<Sealer, SealFault> {
        let fault = |cause| SealFault::Key { path: path.to_owned(), cause };
        let key = match fs::read(path) {
            Ok(key) => key,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let key = random::<KEY_OCTETS>()?;
                write_new(path, &key).map_err(fault)?;
                key.to_vec()
            }
            Err(cause) => return Err(fault(cause)),
        };
        Sealer::of_key(&key).ok_or_else(|| {
            let what = format!("holds {} octets instead of {KEY_OCTETS}; restore it from a backup", key.len());
            fault(io::Error::new(io::ErrorKind::InvalidData, what))
        })
    }

    #[must_use]
    pub fn of_key(key: &[u8]) -> Option<Sealer> {
        let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
        Some(Sealer(Arc::new(LessSafeKey::new(key))))
    }

    pub fn seal(&self, place: &str, secret: &[u8]) -> Result<Vec<u8>, SealFault> {
        let nonce = random::<NONCE_OCTETS>()?;
        let mut sealed = secret.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()), &mut sealed)
            .map_err(|_| SealFault::Closed(place.to_owned()))?;
        let mut out = Vec::with_capacity(1 + NONCE_OCTETS + sealed.len());
        out.push(KEY_NUMBER);
        out.extend_from_slice(&nonce);
        out.append(&mut sealed);
        Ok(out)
    }

    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, SealFault> {
        let closed = || SealFault::Closed(place.to_owned());
        let (head, rest) = sealed.split_at_checked(1 + NONCE_OCTETS).ok_or_else(closed)?;
        let nonce = Nonce::try_assume_unique_for_key(&head[1..]).map_err(|_| closed())?;
        if head[0] != KEY_NUMBER {
            return Err(closed());
        }
        let mut octets = rest.to_vec();
        let open = self.0.open_in_place(nonce, Aad::from(place.as_bytes()), &mut octets).map_err(|_| closed())?;
        Ok(open.to_vec())
    }
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], SealFault> {
    let mut octets = [0; N];
    rand::fill(&mut octets).map_err(|_| SealFault::NoRandomness)?;
    Ok(octets)
}

/// Under another name first: a crash in between leaves no half a file.
pub(crate) fn write_new(path: &Path, octets: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::Sealer;

    #[test]
    fn a_secret_opens_only_where_it_was_sealed_and_only_unchanged() {
        let sealer = Sealer::of_key(&[7; 32]).unwrap();
        let sealed = sealer.seal("dkim d1", b"secret").unwrap();
        assert_eq!(sealer.open("dkim d1", &sealed).unwrap(), b"secret");
        assert!(sealer.open("dkim d2", &sealed).is_err());
        assert!(Sealer::of_key(&[8; 32]).unwrap().open("dkim d1", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open("dkim d1", &changed).is_err(), "octet {at}");
        }
        assert!(sealer.open("dkim d1", &sealed[..9]).is_err());
    }
}
