//! Where does the message end, and is it made of clean lines?
//!
//! Only CRLF.CRLF ends DATA. A CR or LF that stands alone, or a NUL, never ends anything and never gets through: the
//! message is read to its true end and refused there. That, at both ends, is what stops smuggling.

use std::ops::{Deref, Range};
use std::sync::Arc;

use memchr::memmem;
use memchr::{memchr2, memchr3};
use thiserror::Error;

/// Beyond its size limit a message is read on, so that its refusal finds a client that listens, but not for ever.
const OVERRUN_FACTOR: u64 = 4;
const OVERRUN_OCTETS: u64 = 64 << 20;
/// With more dots to stuff than this, one copy is cheaper than a list of pieces.
const STUFFED_PIECES_MAX: usize = 64;
/// Trust in a size that the client merely announced.
const ROOM_OCTETS_MAX: u64 = 256 << 10;

/// What is wrong with a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContentFault {
    #[error("The message holds a carriage return or a line feed that stands alone; lines must end with both")]
    BareLineEnd,
    #[error("The message holds a NUL octet")]
    Nul,
    #[error("The message is larger than the limit")]
    TooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    /// The dot is in.
    Ended,
    /// So far beyond the limit that waiting for the end is of no use.
    Endless,
}

/// The most octets that are read for one message, kept or not.
pub fn received_max(size_max: u64) -> u64 {
    size_max.saturating_mul(OVERRUN_FACTOR).saturating_add(OVERRUN_OCTETS)
}

/// Takes the octets of one message in any pieces; each is copied once, and none once the message can't be accepted.
#[derive(Debug)]
pub struct Decoder {
    body: Vec<u8>,
    size: u64,
    size_max: u64,
    received: u64,
    form: Form,
    at: At,
    broken: Option<ContentFault>,
    suspect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Dotted,
    Chunked,
}

/// Where in a line the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    Dot,
    DotCr,
    Middle,
    Cr,
    /// Two or more CR. With an LF they are a line end, yet not one to build on: see `Decoder::suspect`.
    CrCr,
}

impl Decoder {
    /// For DATA: un-stuffs dots and finds the end. `announced` is the SIZE parameter.
    pub fn dotted(size_max: u64, announced: Option<u64>) -> Decoder {
        let room = announced.unwrap_or(0).min(size_max).min(ROOM_OCTETS_MAX);
        Decoder::new(Form::Dotted, size_max, usize::try_from(room).unwrap_or(0))
    }

    /// For BDAT: all chunks of one message, one after the other; the caller knows where they end.
    pub fn chunked(size_max: u64) -> Decoder {
        Decoder::new(Form::Chunked, size_max, 0)
    }

    fn new(form: Form, size_max: u64, room: usize) -> Decoder {
        Decoder {
            body: Vec::with_capacity(room),
            size: 0,
            size_max,
            received: 0,
            form,
            at: At::LineStart,
            broken: None,
            suspect: false,
        }
    }

    /// Takes octets from the front of `input`: all of them, or those up to the end of the data.
    pub fn receive(&mut self, input: &mut &[u8]) -> Progress {
        let allowance = received_max(self.size_max) - self.received;
        let allowed = usize::try_from(allowance).unwrap_or(usize::MAX).min(input.len());
        let (octets, beyond) = input.split_at(allowed);
        let (taken, ended) = self.scan(octets);
        self.received += taken as u64;
        *input = &input[taken..];
        match ended {
            true => Progress::Ended,
            false if beyond.is_empty() => Progress::More,
            false => Progress::Endless,
        }
    }

    /// What is wrong so far. A size beyond the limit counts only where nothing else is wrong, so that the answer does
    /// not depend on how the octets came in.
    pub fn fault(&self) -> Option<ContentFault> {
        self.broken.or((self.size > self.size_max).then_some(ContentFault::TooLarge))
    }

    /// CR CR LF before the dot that ended the data. By the standard it ends; but a sender that takes only CRLF.CRLF
    /// with a whole line before it meant it as content, and then what follows on this connection is not its own speech.
    pub fn suspect(&self) -> bool {
        self.suspect
    }

    /// The message: lines that all end with CRLF. A last chunk that ends within a line is completed.
    pub fn finish(mut self) -> Result<Vec<u8>, ContentFault> {
        if matches!(self.at, At::Cr | At::CrCr) {
            self.broken.get_or_insert(ContentFault::BareLineEnd);
        }
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        if self.form == Form::Chunked && self.at != At::LineStart {
            self.body.extend_from_slice(b"\r\n");
        }
        Ok(self.body)
    }

    pub fn buffered(&self) -> usize {
        self.body.len()
    }

    /// Octets are kept as runs, from `run` to `i`; only a stuffed dot and the end interrupt a run.
    fn scan(&mut self, octets: &[u8]) -> (usize, bool) {
        let (mut run, mut i) = (0, 0);
        while i < octets.len() {
            let octet = octets[i];
            match self.at {
                At::LineStart if octet == b'.' && self.form == Form::Dotted => {
                    self.keep(&octets[run..i]);
                    i += 1;
                    run = i;
                    self.at = At::Dot;
                }
                At::LineStart => {
                    self.suspect = false;
                    self.at = At::Middle;
                }
                At::Dot if octet == b'\r' => {
                    i += 1;
                    run = i;
                    self.at = At::DotCr;
                }
                At::Dot => {
                    self.suspect = false;
                    self.at = At::Middle;
                }
                At::DotCr if octet == b'\n' => {
                    self.at = At::LineStart;
                    return (i + 1, true);
                }
                At::DotCr => self.at = At::Cr, // and there this octet shows that the CR stands alone
                At::Middle => match memchr3(b'\r', b'\n', 0, &octets[i..]) {
                    None => i = octets.len(),
                    Some(found) => {
                        i += found + 1;
                        match octets[i - 1] {
                            b'\r' => self.at = At::Cr,
                            b'\n' => self.spoil(ContentFault::BareLineEnd),
                            _ => self.spoil(ContentFault::Nul),
                        }
                    }
                },
                At::Cr | At::CrCr => match octet {
                    b'\n' => {
                        i += 1;
                        self.suspect = self.at == At::CrCr;
                        self.at = At::LineStart;
                    }
                    b'\r' => {
                        i += 1;
                        self.spoil(ContentFault::BareLineEnd);
                        self.at = At::CrCr;
                    }
                    _ => {
                        self.spoil(ContentFault::BareLineEnd);
                        self.at = At::Middle;
                    }
                },
            }
        }
        self.keep(&octets[run..]);
        (octets.len(), false)
    }

    fn keep(&mut self, run: &[u8]) {
        self.size = self.size.saturating_add(run.len() as u64);
        if self.fault().is_some() {
            self.body = Vec::new();
        } else {
            self.body.extend_from_slice(run);
        }
    }

    fn spoil(&mut self, fault: ContentFault) {
        self.broken.get_or_insert(fault);
        self.body = Vec::new();
    }
}

/// A part of what is to be written. Shared octets are not copied; the host writes the pieces in one gathering write.
#[derive(Clone, Debug)]
pub enum Piece {
    Own(Vec<u8>),
    Shared(Arc<[u8]>, Range<usize>),
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Piece::Own(octets) => octets,
            Piece::Shared(octets, range) => &octets[range.clone()],
        }
    }
}

/// A message that may go out: a prefix of header lines and a body, seen to be clean lines.
#[derive(Debug)]
pub struct Outgoing {
    parts: [Arc<[u8]>; 2],
    /// Where in each part a line starts with a dot.
    dots: [Vec<usize>; 2],
    complete: bool,
}

impl Outgoing {
    pub fn new(prefix: Arc<[u8]>, body: Arc<[u8]>) -> Result<Outgoing, ContentFault> {
        let (prefix_dots, prefix_complete) = check_lines(&prefix)?;
        if !prefix_complete {
            return Err(ContentFault::BareLineEnd);
        }
        let (dots, complete) = check_lines(&body)?;
        Ok(Outgoing { parts: [prefix, body], dots: [prefix_dots, dots], complete })
    }

    /// As SIZE counts: without stuffed dots and without the end.
    pub fn size(&self) -> u64 {
        let octets = self.parts[0].len() + self.parts[1].len() + if self.complete { 0 } else { 2 };
        octets as u64
    }

    pub fn is_ascii(&self) -> bool {
        self.parts.iter().all(|part| part.is_ascii())
    }

    pub fn header_is_ascii(&self) -> bool {
        let [prefix, body] = &self.parts;
        let header = memmem::find(body, b"\r\n\r\n").map_or(&body[..], |end| &body[..end]);
        prefix.is_ascii() && header.is_ascii()
    }

    /// For DATA: dots stuffed, the ending dot behind.
    pub fn dotted(&self) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(4);
        for (part, dots) in self.parts.iter().zip(&self.dots) {
            stuff(part, dots, &mut pieces);
        }
        let end = if self.complete { &b".\r\n"[..] } else { b"\r\n.\r\n" };
        pieces.push(Piece::Own(end.to_vec()));
        pieces
    }

    /// For BDAT: as it is.
    pub fn plain(&self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = self.parts.iter().flat_map(|part| shared(part, 0..part.len())).collect();
        if !self.complete {
            pieces.push(Piece::Own(b"\r\n".to_vec()));
        }
        pieces
    }
}

fn shared(part: &Arc<[u8]>, range: Range<usize>) -> Option<Piece> {
    (!range.is_empty()).then(|| Piece::Shared(Arc::clone(part), range))
}

fn stuff(part: &Arc<[u8]>, dots: &[usize], pieces: &mut Vec<Piece>) {
    if dots.len() > STUFFED_PIECES_MAX {
        let mut copy = Vec::with_capacity(part.len() + dots.len());
        let mut from = 0;
        for &dot in dots {
            copy.extend_from_slice(&part[from..=dot]);
            from = dot;
        }
        copy.extend_from_slice(&part[from..]);
        return pieces.push(Piece::Own(copy));
    }
    // The dot at the end of one piece is written again at the start of the next.
    let mut from = 0;
    for &dot in dots {
        pieces.extend(shared(part, from..dot + 1));
        from = dot;
    }
    pieces.extend(shared(part, from..part.len()));
}

/// Where lines start with a dot, and whether the last line is complete; or why these are no clean lines.
fn check_lines(octets: &[u8]) -> Result<(Vec<usize>, bool), ContentFault> {
    let mut dots = Vec::new();
    let mut start = 0;
    if memchr::memchr(0, octets).is_some() {
        return Err(ContentFault::Nul);
    }
    while start < octets.len() {
        if octets[start] == b'.' {
            dots.push(start);
        }
        let Some(found) = memchr2(b'\r', b'\n', &octets[start..]) else {
            return Ok((dots, false));
        };
        let end = start + found;
        if octets[end] != b'\r' || octets.get(end + 1) != Some(&b'\n') {
            return Err(ContentFault::BareLineEnd);
        }
        start = end + 2;
    }
    Ok((dots, true))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may stop at the first surprise
    use super::*;
    use proptest::prelude::*;

    fn decode(wire: &[u8], piece: usize) -> (Progress, Result<Vec<u8>, ContentFault>, usize) {
        let mut decoder = Decoder::dotted(1_000_000, None);
        let mut taken = 0;
        for octets in wire.chunks(piece) {
            let mut rest = octets;
            let progress = decoder.receive(&mut rest);
            taken += octets.len() - rest.len();
            if progress != Progress::More {
                return (progress, decoder.finish(), taken);
            }
        }
        (Progress::More, decoder.finish(), taken)
    }

    fn written(pieces: &[Piece]) -> Vec<u8> {
        pieces.iter().flat_map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn dots_are_unstuffed_and_the_end_is_found() {
        for (wire, body) in [
            (&b".\r\n"[..], &b""[..]),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"..\r\n.\r\n", b".\r\n"),
            (b".a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
            (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
        ] {
            for piece in 1..=wire.len() {
                assert_eq!(decode(wire, piece), (Progress::Ended, Ok(body.to_vec()), wire.len()));
            }
        }
    }

    // D1: none of these ends the data.
    #[test]
    fn eight_false_ends_do_not_end() {
        for false_end in [
            &b"\n.\n"[..],
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r\n.\r",
            b"\r.\r\n",
            b"\r\n\0.\r\n",
            b"\r\r\n.\r\r\n",
            b"\r\n.\0\r\n",
            b"\n\n.\r\n",
            b"\r\n.\r\r\n",
        ] {
            let wire = [b"a", false_end, b"MAIL FROM:<x@y>\r\n.\r\nQUIT"].concat();
            for piece in 1..=wire.len() {
                let (progress, result, taken) = decode(&wire, piece);
                assert_eq!((progress, taken), (Progress::Ended, wire.len() - 4), "{false_end:?}");
                assert!(matches!(result, Err(ContentFault::BareLineEnd | ContentFault::Nul)), "{false_end:?}");
            }
        }
    }

    #[test]
    fn an_end_behind_two_cr_is_suspect() {
        let mut decoder = Decoder::dotted(100, None);
        assert_eq!(decoder.receive(&mut &b"a\r\r\n.\r\n"[..]), Progress::Ended);
        assert!(decoder.suspect());
        let mut decoder = Decoder::dotted(100, None);
        assert_eq!(decoder.receive(&mut &b"a\r\r\nb\r\n.\r\n"[..]), Progress::Ended);
        assert!(!decoder.suspect());
    }

    // D7: memory stays bounded while what is too large is read to its end.
    #[test]
    fn what_is_too_large_is_not_kept() {
        let mut decoder = Decoder::dotted(1_000, Some(u64::MAX));
        assert!(decoder.body.capacity() <= 1_000);
        for _ in 0..1_000 {
            assert_eq!(decoder.receive(&mut &[b'x'; 1_000][..]), Progress::More);
            assert!(decoder.body.capacity() <= 2_000);
        }
        assert_eq!(decoder.receive(&mut &b"\r\n.\r\n"[..]), Progress::Ended);
        assert_eq!(decoder.finish(), Err(ContentFault::TooLarge));
    }

    #[test]
    fn what_has_no_end_is_given_up() {
        let mut decoder = Decoder::dotted(1_000, None);
        let mut received = 0;
        let block = vec![b'x'; 1 << 20];
        while decoder.receive(&mut &block[..]) == Progress::More {
            received += block.len() as u64;
            assert!(received <= received_max(1_000));
        }
        assert!(received + block.len() as u64 > received_max(1_000));
    }

    #[test]
    fn the_limit_is_met_exactly() {
        let taken = |wire: &[u8]| {
            let mut decoder = Decoder::dotted(5, None);
            decoder.receive(&mut { wire });
            decoder.finish()
        };
        assert_eq!(taken(b"..bc\r\n.\r\n"), Ok(b".bc\r\n".to_vec()));
        assert_eq!(taken(b"abcd\r\n.\r\n"), Err(ContentFault::TooLarge));
    }

    #[test]
    fn chunks_are_completed_and_checked_across_their_borders() {
        let take = |chunks: &[&[u8]]| {
            let mut decoder = Decoder::chunked(100);
            for chunk in chunks {
                assert_eq!(decoder.receive(&mut { *chunk }), Progress::More);
            }
            decoder.finish()
        };
        assert_eq!(take(&[b"a\r", b"\n.\r\nb"]), Ok(b"a\r\n.\r\nb\r\n".to_vec()));
        assert_eq!(take(&[]), Ok(vec![]));
        assert_eq!(take(&[b"a\r"]), Err(ContentFault::BareLineEnd));
        assert_eq!(take(&[b"a\r", b"b\r\n"]), Err(ContentFault::BareLineEnd));
        assert_eq!(take(&[b"a\n"]), Err(ContentFault::BareLineEnd));
        assert_eq!(take(&[b"\0\r\n"]), Err(ContentFault::Nul));
    }

    #[test]
    fn a_body_without_dots_is_not_copied() {
        let body: Arc<[u8]> = b"Subject: x\r\n\r\nhello\r\n".to_vec().into();
        let outgoing = Outgoing::new(Vec::new().into(), Arc::clone(&body)).unwrap();
        let pieces = outgoing.dotted();
        assert!(matches!(&pieces[..], [Piece::Shared(octets, _), Piece::Own(_)] if Arc::ptr_eq(octets, &body)));
    }

    // D2: what is not clean lines never goes out.
    #[test]
    fn unclean_lines_do_not_go_out() {
        for octets in [&b"a\nb\r\n"[..], b"a\rb\r\n", b"a\r", b"\n", b"a\0\r\n", b"\r\r\n"] {
            assert!(Outgoing::new(Vec::new().into(), octets.into()).is_err(), "{octets:?}");
        }
        assert!(Outgoing::new(b"X: y"[..].into(), b"a\r\n"[..].into()).is_err());
    }

    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let line = prop::collection::vec(prop_oneof![Just(b'.'), Just(b'a'), Just(0xe9)], 0..6);
        prop::collection::vec(line, 0..200)
            .prop_map(|lines| lines.into_iter().flat_map(|line| line.into_iter().chain(*b"\r\n")).collect())
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(body in lines(), cut in 0usize..3, piece in 1usize..50) {
            // With a last line that is not complete too.
            let body = if cut == 1 { [&body[..], b"."].concat() } else { body };
            let outgoing = Outgoing::new(b".: x\r\n"[..].into(), body.clone().into()).unwrap();
            let wire = written(&outgoing.dotted());
            let mut expected = [b".: x\r\n", &body[..]].concat();
            if cut == 1 { expected.extend_from_slice(b"\r\n"); }
            prop_assert_eq!(outgoing.size(), expected.len() as u64);
            prop_assert_eq!(&written(&outgoing.plain()), &expected);
            prop_assert_eq!(decode(&wire, piece), (Progress::Ended, Ok(expected), wire.len()));
        }

        #[test]
        fn pieces_of_the_input_do_not_matter(
            wire in prop::collection::vec(prop::sample::select(&b"..\r\r\n\n\0aab"[..]), 0..60), piece in 1usize..10
        ) {
            prop_assert_eq!(decode(&wire, piece), decode(&wire, wire.len().max(1)));
        }

        #[test]
        fn only_the_true_end_ends(wire in prop::collection::vec(prop::sample::select(&b"..\r\r\n\n\0a"[..]), 0..60)) {
            let behind_crlf = [b"\r\n", &wire[..]].concat(); // the CRLF of the DATA command
            let end = memmem::find(&behind_crlf, b"\r\n.\r\n").map(|at| at + 3);
            let (progress, result, taken) = decode(&wire, 7);
            match end {
                Some(end) => prop_assert_eq!((progress, taken), (Progress::Ended, end)),
                None => prop_assert_eq!(progress, Progress::More),
            }
            if let Ok(body) = result {
                prop_assert!(check_lines(&body).is_ok());
            }
        }
    }
}
