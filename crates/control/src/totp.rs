//! Which six digits are shown at this moment? RFC 6238, as every authenticator app has it: SHA-1, 30 seconds, 6 digits.

use crate::seal::{SealFault, random};
use aws_lc_rs::hmac;
use engine::time::Timestamp;
use std::fmt::Write as _;
use subtle::ConstantTimeEq;

/// RFC 4226 4: 160 bits.
const SECRET_OCTETS: usize = 20;
const STEP_S: i64 = 30;
const DIGITS: usize = 6;
/// RFC 6238 5.2: one step back for slow fingers; one ahead for a telephone whose clock is fast.
const WINDOW: i64 = 1;

pub(crate) fn fresh() -> Result<[u8; SECRET_OCTETS], SealFault> {
    random()
}

/// The step whose code this is, if it comes after the one used last: a code is good once.
pub(crate) fn step_of(secret: &[u8], shown: &str, now: Timestamp, used: i64) -> Option<i64> {
    let shown: String = shown.chars().filter(|letter| !letter.is_whitespace()).collect();
    let current = now.unix_seconds().div_euclid(STEP_S);
    let is_of = |step: &i64| bool::from(code(secret, *step).as_bytes().ct_eq(shown.as_bytes()));
    (current - WINDOW..=current + WINDOW).filter(|step| *step > used).find(is_of)
}

fn code(secret: &[u8], step: i64) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret), &step.to_be_bytes());
    let tag = tag.as_ref();
    // RFC 4226 5.3: the last four bits say where to cut.
    let at = usize::from(tag[tag.len() - 1] & 15);
    let cut = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
    format!("{:0DIGITS$}", cut % 10u32.pow(DIGITS as u32))
}

/// RFC 4648 6, without padding: what is typed where no camera is at hand.
pub(crate) fn written(secret: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bit = |at: usize| secret.get(at / 8).map_or(0, |octet| octet >> (7 - at % 8) & 1);
    let letter = |first: usize| (first..first + 5).fold(0, |held, at| held << 1 | bit(at));
    (0..secret.len() * 8).step_by(5).map(|first| char::from(LETTERS[usize::from(letter(first))])).collect()
}

/// For a QR code.
pub(crate) fn url(secret: &[u8], issuer: &str, email: &str) -> String {
    let (issuer, email) = (percent(issuer), percent(email));
    format!(
        "otpauth://totp/{issuer}:{email}?secret={}&issuer={issuer}&algorithm=SHA1&digits=6&period=30",
        written(secret)
    )
}

fn percent(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{code, step_of, url, written};
    use engine::time::Timestamp;

    const SECRET: &[u8] = b"12345678901234567890";

    /// RFC 6238, appendix B, SHA-1: its eight digits end with our six.
    #[test]
    fn codes_are_those_of_the_rfc() {
        for (seconds, expected) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(code(SECRET, seconds / 30), expected[2..], "{seconds}");
        }
    }

    #[test]
    fn a_code_is_good_a_step_early_or_late_and_once() {
        let at = |seconds| Timestamp::from_unix_seconds(seconds);
        let shown = code(SECRET, 100);
        assert_eq!(step_of(SECRET, &shown, at(3_000), 0), Some(100));
        assert_eq!(step_of(SECRET, &format!("{} {}", &shown[..3], &shown[3..]), at(3_029), 99), Some(100));
        assert_eq!(step_of(SECRET, &shown, at(2_970), 0), Some(100));
        assert_eq!(step_of(SECRET, &shown, at(3_059), 0), Some(100));
        assert_eq!(step_of(SECRET, &shown, at(2_969), 0), None);
        assert_eq!(step_of(SECRET, &shown, at(3_060), 0), None);
        assert_eq!(step_of(SECRET, &shown, at(3_000), 100), None, "used already");
        for wrong in ["", "00000", &format!("{shown}0"), "abcdef", "¹²³"] {
            assert_eq!(step_of(SECRET, wrong, at(3_000), 0), None, "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_written_for_apps() {
        assert_eq!(written(b"foobar"), "MZXW6YTBOI");
        assert_eq!(written(b"foob"), "MZXW6YQ");
        assert_eq!(written(SECRET), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(
            url(b"foobar", "weir.test", "ann+x@a.test"),
            "otpauth://totp/weir.test:ann%2Bx%40a.test?secret=MZXW6YTBOI&issuer=weir.test&algorithm=SHA1&digits=6&period=30"
        );
    }
}
