//! Which side of a test drive carries this recipient's mail? (R8.3)
//!
//! The same recipient is on the same side as long as a drive lasts, and a share that grows only brings recipients over. A message that is
//! written to several goes where the first of them does: it is one message.

use crate::id::PoolId;
use crate::retry::draw;
use serde::{Deserialize, Serialize};

/// Shares are told in ten thousandths.
pub const WHOLE: u16 = 10_000;

/// Which of 65,536 an address is, whatever its case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader(pub u16);

/// FNV-1a, folded: it need not be hard to guess, only even.
#[must_use]
pub fn reader_of(address: &str) -> Reader {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for octet in address.bytes() {
        hash = (hash ^ u64::from(octet.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
    }
    Reader((hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) as u16)
}

/// A part of a configuration set's mail goes by another pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub to: PoolId,
    pub share: u16,
    /// Another for each drive, so that not the same recipients are tried on every time.
    pub salt: u64,
}

impl Split {
    #[must_use]
    pub fn takes(&self, reader: Reader) -> bool {
        draw(self.salt, u64::from(reader.0)) % u64::from(WHOLE) < u64::from(self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::{Split, reader_of};
    use crate::id::PoolId;

    fn split(share: u16, salt: u64) -> Split {
        Split { to: PoolId::new("new"), share, salt }
    }

    // R8.3: sticky, even, and growing one way.
    #[test]
    fn spec_r8_3_a_recipient_stays_on_its_side() {
        let addresses: Vec<String> = (0..100_000).map(|n| format!("reader{n}@shop{}.example", n % 7)).collect();
        for salt in [1, 7, 0xdead_beef] {
            for share in [0, 100, 1_000, 5_000, 9_900, 10_000] {
                let taken = addresses.iter().filter(|address| split(share, salt).takes(reader_of(address))).count();
                let expected = usize::from(share) * 10;
                assert!(taken.abs_diff(expected) <= 600, "{share}: {taken}");
            }
            for address in &addresses[..2_000] {
                let reader = reader_of(address);
                assert_eq!(reader, reader_of(&address.to_uppercase()));
                let taken: Vec<bool> = (0..=100).map(|percent| split(percent * 100, salt).takes(reader)).collect();
                assert!(taken.is_sorted() && !taken[0] && taken[100], "{address}");
            }
        }
        let same = addresses.iter().filter(|address| {
            let reader = reader_of(address);
            split(5_000, 1).takes(reader) == split(5_000, 2).takes(reader)
        });
        assert!(same.count().abs_diff(50_000) < 1_500, "another drive tries others");
    }
}
