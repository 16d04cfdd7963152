//! What came back that belongs to no message we know?
//!
//! A forged token, a report that nobody can read, a letter to the postmaster: it changes nothing and is kept for the operator to look at,
//! as long as there is room. The newest stay.

use crate::checkpoint::{read_sealed, write_sealed};
use engine::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// Of one message; what matters is at its front.
pub const KEPT_OCTETS_MAX: usize = 256 << 10;
const MAGIC: &[u8; 16] = b"weir unmatched1\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub items_max: usize,
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { items_max: 1_000, bytes_max: 64 << 20 }
    }
}

/// Why it belongs to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A token that was not made here, or was changed on its way.
    Forged,
    /// The message is too old for anything to come back.
    Expired,
    /// The event log does not reach back to it.
    Forgotten,
    /// It tells of one message at the return path of another.
    Foreign,
    /// A report without any token.
    NoToken,
    /// None of the message's recipients is named.
    RecipientUnknown,
    /// Nothing that a program can read.
    Unreadable,
}

impl Cause {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Cause::Forged => "forged",
            Cause::Expired => "expired",
            Cause::Forgotten => "forgotten",
            Cause::Foreign => "foreign",
            Cause::NoToken => "no-token",
            Cause::RecipientUnknown => "recipient-unknown",
            Cause::Unreadable => "unreadable",
        }
    }

    /// A sentence without its full stop.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Cause::Forged => "its token was not made here, or was changed on its way",
            Cause::Expired => "the message it is about is too old for anything to come back",
            Cause::Forgotten => "the event log does not reach back to the message it is about",
            Cause::Foreign => "it tells of one message and came to the return path of another",
            Cause::NoToken => "it is a report, and nothing in it says of which message",
            Cause::RecipientUnknown => "it names none of the message's recipients",
            Cause::Unreadable => "it is no report that a program can read",
        }
    }
}

/// What is known of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmatched {
    pub id: u128,
    pub at: Timestamp,
    pub cause: Cause,
    /// The address it came to.
    pub to: String,
    /// MAIL FROM; none for the empty one.
    pub from: Option<String>,
    pub peer: IpAddr,
    /// Of the whole message; at most `KEPT_OCTETS_MAX` are kept.
    pub octets: u64,
}

/// All that is kept. Cheap to clone.
#[derive(Clone)]
pub struct Shelf(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    limits: Limits,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// Oldest first, with the octets on the disk.
    kept: BTreeMap<u128, (Unmatched, u64)>,
    bytes: u64,
    dropped: u64,
}

impl Shelf {
    /// What is in the folder, which need not be there. Blocks for the disk; a file that cannot be read is left alone.
    pub fn open(folder: &Path, limits: Limits) -> io::Result<Shelf> {
        let mut book = Book::default();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => Some(entries),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => None,
            Err(fault) => return Err(fault),
        };
        for entry in entries.into_iter().flatten() {
            let path = entry?.path();
            let id =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| u128::from_str_radix(name, 16).ok());
            let Some(id) = id else { continue };
            match read_one(&path) {
                Ok(Some((unmatched, octets))) if unmatched.id == id => {
                    let bytes = octets.len() as u64;
                    book.bytes += bytes;
                    book.kept.insert(id, (unmatched, bytes));
                }
                Ok(_) => {}
                Err(fault) => tracing::warn!(file = %path.display(), %fault, "an unmatched message cannot be read"),
            }
        }
        Ok(Shelf(Arc::new(Inner { folder: folder.to_owned(), limits, book: Mutex::new(book) })))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ok = durable; how many older ones had to go. Blocks for the disk.
    pub fn keep(&self, unmatched: Unmatched, octets: &[u8]) -> io::Result<u64> {
        let kept = &octets[..octets.len().min(KEPT_OCTETS_MAX)];
        let mut content = postcard::to_extend(&unmatched, MAGIC.to_vec()).expect("plain values can always be written");
        content.extend_from_slice(kept);
        fs::create_dir_all(&self.0.folder)?;
        // Under the lock: room is counted and made by one at a time, and so is the disk kept from more.
        let mut book = self.book();
        write_sealed(&self.path(unmatched.id), content)?;
        fs::File::open(&self.0.folder)?.sync_all()?;
        book.bytes += kept.len() as u64;
        book.kept.insert(unmatched.id, (unmatched, kept.len() as u64));
        let mut dropped = 0;
        while book.kept.len() > self.0.limits.items_max || book.bytes > self.0.limits.bytes_max {
            let Some((id, (_, bytes))) = book.kept.pop_first() else { break };
            book.bytes -= bytes;
            book.dropped += 1;
            dropped += 1;
            remove(&self.path(id))?;
        }
        Ok(dropped)
    }

    /// Newest first, those before this one where one is named; and how many there are in all.
    #[must_use]
    pub fn list(&self, before: Option<u128>, limit: usize) -> (Vec<Unmatched>, usize) {
        let book = self.book();
        let listed = book.kept.range(..before.unwrap_or(u128::MAX)).rev().take(limit);
        (listed.map(|(_, (unmatched, _))| unmatched.clone()).collect(), book.kept.len())
    }

    /// One of them, with its octets as far as they were kept. Blocks for the disk.
    pub fn read(&self, id: u128) -> io::Result<Option<(Unmatched, Vec<u8>)>> {
        if !self.book().kept.contains_key(&id) {
            return Ok(None);
        }
        read_one(&self.path(id))
    }

    /// Whether it was there. Blocks for the disk.
    pub fn delete(&self, id: u128) -> io::Result<bool> {
        let mut book = self.book();
        let Some((_, bytes)) = book.kept.remove(&id) else { return Ok(false) };
        book.bytes -= bytes;
        remove(&self.path(id))?;
        Ok(true)
    }

    /// All of them; how many there were. Blocks for the disk.
    pub fn clear(&self) -> io::Result<u64> {
        let mut book = self.book();
        let kept = std::mem::take(&mut book.kept);
        book.bytes = 0;
        for id in kept.keys() {
            remove(&self.path(*id))?;
        }
        Ok(kept.len() as u64)
    }

    /// How many are kept, and how many had to go since the start.
    #[must_use]
    pub fn figures(&self) -> (usize, u64) {
        let book = self.book();
        (book.kept.len(), book.dropped)
    }

    fn path(&self, id: u128) -> PathBuf {
        self.0.folder.join(format!("{id:032x}"))
    }
}

/// Ids grow with time.
#[must_use]
pub fn new_id() -> u128 {
    Uuid::now_v7().as_u128()
}

fn read_one(path: &Path) -> io::Result<Option<(Unmatched, Vec<u8>)>> {
    let Some(content) = read_sealed(path, MAGIC)? else { return Ok(None) };
    let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, "the file is damaged");
    let (unmatched, octets) = postcard::take_from_bytes::<Unmatched>(&content).map_err(damaged)?;
    Ok(Some((unmatched, octets.to_vec())))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Cause, KEPT_OCTETS_MAX, Limits, Shelf, Unmatched};
    use engine::time::Timestamp;
    use std::net::{IpAddr, Ipv4Addr};

    fn one(id: u128) -> Unmatched {
        Unmatched {
            id,
            at: Timestamp(1_800_000_000_000_000),
            cause: Cause::Forged,
            to: "b-x@bounces.test".into(),
            from: None,
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            octets: 3,
        }
    }

    // F1: kept for the operator, over a restart, in bounded room.
    #[test]
    fn the_newest_are_kept_and_the_oldest_go() {
        let folder = std::env::temp_dir().join(format!("weir-unmatched-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let limits = Limits { items_max: 3, bytes_max: 1 << 20 };
        let shelf = Shelf::open(&folder, limits).unwrap();
        for id in 1..=4 {
            assert_eq!(shelf.keep(one(id), b"abc").unwrap(), u64::from(id == 4));
        }
        let ids = |shelf: &Shelf, before| shelf.list(before, 2).0.iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!((ids(&shelf, None), ids(&shelf, Some(3)), shelf.figures()), (vec![4, 3], vec![2], (3, 1)));
        std::fs::write(folder.join(format!("{:032x}", 3)), b"torn").unwrap();
        std::fs::write(folder.join("notes.txt"), b"x").unwrap();
        let shelf = Shelf::open(&folder, limits).unwrap();
        assert_eq!(ids(&shelf, None), [4, 2]);
        assert_eq!(shelf.read(4).unwrap(), Some((one(4), b"abc".to_vec())));
        assert_eq!(shelf.read(1).unwrap(), None);
        assert!(shelf.delete(4).unwrap() && !shelf.delete(4).unwrap());
        assert_eq!(shelf.clear().unwrap(), 1);
        assert_eq!(Shelf::open(&folder, limits).unwrap().figures().0, 0);

        let few = Shelf::open(&folder, Limits { items_max: 100, bytes_max: 2 * KEPT_OCTETS_MAX as u64 }).unwrap();
        let large = vec![b'x'; 3 * KEPT_OCTETS_MAX];
        let dropped: u64 = (10..14).map(|id| few.keep(one(id), &large).unwrap()).sum();
        assert_eq!((dropped, few.read(13).unwrap().unwrap().1.len()), (2, KEPT_OCTETS_MAX));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
