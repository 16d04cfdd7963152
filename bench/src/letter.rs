//! What does a message of the bench look like, and how is it known again at the other end?
//!
//! Each carries `X-Bench: <run>-<number>`, both of fixed width, so that a letter is made by overwriting a few octets.

use memchr::memmem;

/// One series of messages: tells the warm-up from the measurement, and this measurement from the one before.
pub type Run = u32;

const FIELD: &[u8] = b"X-Bench: ";
const MARK: &[u8] = b"00000000-0000000000";
const FINAL_DOT: &[u8] = b".\r\n";
const RUN_DIGITS: usize = 8;
/// Deep enough for the trace fields and signatures that servers put on top.
pub const HEADER_MAX: usize = 16 * 1024;

/// A whole message as it goes over the wire, final dot included.
pub struct Letter {
    octets: Vec<u8>,
    marks: Vec<usize>,
}

impl Letter {
    /// `size` is that of the message before the final dot; it is never smaller than its header.
    pub fn new(from: &str, to: &str, size: usize) -> Letter {
        let mark = String::from_utf8_lossy(MARK);
        let field = String::from_utf8_lossy(FIELD);
        let mut octets = format!(
            "From: Bench <{from}>\r\nTo: <{to}>\r\nSubject: A message of the bench\r\n\
             Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <{mark}@bench.test>\r\n\
             {field}{mark}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        )
        .into_bytes();
        fill(&mut octets, size);
        octets.extend_from_slice(FINAL_DOT);
        let marks = memmem::find_iter(&octets, MARK).collect();
        Letter { octets, marks }
    }

    /// By what a message is known again.
    pub fn mark(run: Run, number: u64) -> String {
        format!("{run:08x}-{number:010}")
    }

    /// What stands below the header.
    pub fn text(&self) -> &str {
        let at = memmem::find(&self.octets, b"\r\n\r\n").map_or(0, |at| at + 4);
        std::str::from_utf8(&self.octets[at..self.octets.len() - FINAL_DOT.len()]).unwrap_or_default()
    }

    /// The message with this mark, ready to write.
    pub fn marked(&mut self, run: Run, number: u64) -> &[u8] {
        let mark = Letter::mark(run, number);
        for at in &self.marks {
            self.octets[*at..*at + MARK.len()].copy_from_slice(mark.as_bytes());
        }
        &self.octets
    }
}

/// The mark of a message, from the beginning of its octets; `None` while the field is not in sight.
pub fn mark_of(octets: &[u8]) -> Option<(Run, u64)> {
    // Anchored at the line's beginning, because a signature may name the field without bearing it.
    let at = memmem::find_iter(octets, FIELD).find(|at| *at == 0 || octets[*at - 1] == b'\n')?;
    let mark = octets.get(at + FIELD.len()..at + FIELD.len() + MARK.len())?;
    let run = std::str::from_utf8(mark.get(..RUN_DIGITS)?).ok()?;
    let number = std::str::from_utf8(mark.get(RUN_DIGITS + 1..)?).ok()?;
    Some((Run::from_str_radix(run, 16).ok()?, number.parse().ok()?))
}

/// Lines of 72 letters, drawn so that they neither compress to nothing nor begin with a dot.
fn fill(octets: &mut Vec<u8>, size: usize) {
    let mut state: u32 = 0x9e37_79b9;
    let mut column = 0;
    while octets.len() + 2 < size {
        if column == 72 {
            octets.extend_from_slice(b"\r\n");
            column = 0;
            continue;
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let letter = b"etaoinshrdlucmfwypvbgkjqxz      "[(state >> 27) as usize];
        octets.push(if column == 0 { b'>' } else { letter });
        column += 1;
    }
    octets.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    // A failed unwrap is a failed test.
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_letter_has_its_size_and_its_mark() {
        for size in [10_240, 1_000, 999] {
            let mut letter = Letter::new("a@b.test", "c@d.test", size);
            let octets = letter.marked(0xabcd, 42);
            assert_eq!(octets.len() - 3, size);
            assert_eq!(mark_of(octets), Some((0xabcd, 42)));
            assert!(octets.ends_with(b"\r\n.\r\n"));
            assert_eq!(memmem::find_iter(octets, b"0000abcd-0000000042").count(), 2);
            assert_eq!(memmem::find(octets, b"\n."), Some(octets.len() - 4));
        }
    }

    #[test]
    fn a_mark_is_read_only_from_a_field() {
        assert_eq!(mark_of(b"DKIM-Signature: h=X-Bench: 00000001-0000000002\r\n"), None);
        assert_eq!(mark_of(b"Received: x\r\nX-Bench: 00000001-0000000002\r\n"), Some((1, 2)));
        assert_eq!(mark_of(b"X-Bench: 00000001-00000"), None);
    }
}
