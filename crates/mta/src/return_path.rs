//! Where do bounces come back to, and how do we know that they are ours?
//!
//! A token carries the message's id and a seal over it that only this installation can make: what comes back with a true seal belongs to
//! that message, and nobody can make one up for a message of somebody else. Each use has its own seal, so that a token that many may see
//! is none for something else.

use aws_lc_rs::{constant_time, hmac, rand};
use engine::id::MessageId;
use mail::address::Domain;

const ID_OCTETS: usize = 16;
/// Ten octets: forging one by guessing needs 2^80 tries, and the local part stays within 64 characters.
const SEAL_OCTETS: usize = 10;
/// Of a local part.
const TOKEN_LETTERS_MAX: usize = 64;
/// Lower-case letters and digits: local parts are folded by some hosts. RFC 4648's base32hex alphabet.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The local part of the address that bounces go to.
    ReturnPath,
    /// In the header, for reports that do not tell the return path.
    Report,
    /// In the link and the address that end a stream of mail.
    Unsubscribe,
}

impl Purpose {
    const ALL: [Purpose; 3] = [Purpose::ReturnPath, Purpose::Report, Purpose::Unsubscribe];

    fn mark(self) -> &'static str {
        match self {
            Purpose::ReturnPath => "b-",
            Purpose::Report => "r-",
            Purpose::Unsubscribe => "u-",
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Purpose::ReturnPath => b"return-path/1\0",
            Purpose::Report => b"report/1\0",
            Purpose::Unsubscribe => b"unsubscribe/1\0",
        }
    }

    /// What a text means to be, whoever made it; none: no token.
    #[must_use]
    pub fn of(text: &str) -> Option<Purpose> {
        let begins = |purpose: &Purpose| text.get(..2).is_some_and(|mark| mark.eq_ignore_ascii_case(purpose.mark()));
        Purpose::ALL.into_iter().find(begins)
    }
}

/// The key of this installation's seals.
pub struct Sealer {
    key: hmac::Key,
}

/// The secret could not be drawn: the machine's source of randomness failed.
#[derive(Debug, thiserror::Error)]
#[error("the machine gave no random numbers")]
pub struct NoRandomness;

impl Sealer {
    pub const SECRET_OCTETS: usize = 32;

    #[must_use]
    pub fn new(secret: &[u8]) -> Sealer {
        Sealer { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    pub fn fresh_secret() -> Result<[u8; Self::SECRET_OCTETS], NoRandomness> {
        let mut secret = [0; Self::SECRET_OCTETS];
        rand::fill(&mut secret).map_err(|_| NoRandomness)?;
        Ok(secret)
    }

    /// The return path of a message.
    #[must_use]
    pub fn seal(&self, message: MessageId, domain: &Domain) -> String {
        format!("{}@{domain}", self.token_of(Purpose::ReturnPath, message, domain.as_str()))
    }

    /// The message an address was sealed for, if this installation sealed it.
    #[must_use]
    pub fn open(&self, local_part: &str, domain: &Domain) -> Option<MessageId> {
        self.opened(Purpose::ReturnPath, local_part, domain.as_str())
    }

    /// A token that is good wherever it is shown.
    #[must_use]
    pub fn token(&self, purpose: Purpose, message: MessageId) -> String {
        self.token_of(purpose, message, "")
    }

    #[must_use]
    pub fn message(&self, purpose: Purpose, token: &str) -> Option<MessageId> {
        self.opened(purpose, token, "")
    }

    fn token_of(&self, purpose: Purpose, message: MessageId, place: &str) -> String {
        let id = message.0.to_be_bytes();
        let tag = self.tag(purpose, &id, place);
        let mut octets = [0; ID_OCTETS + SEAL_OCTETS];
        octets[..ID_OCTETS].copy_from_slice(&id);
        octets[ID_OCTETS..].copy_from_slice(&tag.as_ref()[..SEAL_OCTETS]);
        format!("{}{}", purpose.mark(), to_base32(&octets))
    }

    fn opened(&self, purpose: Purpose, token: &str, place: &str) -> Option<MessageId> {
        if token.len() > TOKEN_LETTERS_MAX {
            return None;
        }
        let octets = from_base32(token.to_ascii_lowercase().strip_prefix(purpose.mark())?)?;
        let (id, seal) = octets.split_first_chunk::<ID_OCTETS>()?;
        let tag = self.tag(purpose, id, place);
        constant_time::verify_slices_are_equal(seal, &tag.as_ref()[..SEAL_OCTETS]).ok()?;
        Some(MessageId(u128::from_be_bytes(*id)))
    }

    fn tag(&self, purpose: Purpose, id: &[u8; ID_OCTETS], place: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(purpose.label());
        context.update(id);
        context.update(place.as_bytes());
        context.sign()
    }
}

fn to_base32(octets: &[u8]) -> String {
    let mut text = String::with_capacity((octets.len() * 8).div_ceil(5));
    let (mut held, mut bits) = (0u32, 0u32);
    for octet in octets {
        held = held << 8 | u32::from(*octet);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(held >> bits) as usize & 31]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(held << (5 - bits)) as usize & 31]));
    }
    text
}

fn from_base32(text: &str) -> Option<[u8; ID_OCTETS + SEAL_OCTETS]> {
    let mut octets = [0; ID_OCTETS + SEAL_OCTETS];
    let (mut held, mut bits, mut filled) = (0u32, 0u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        held = held << 5 | value as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *octets.get_mut(filled)? = (held >> bits) as u8;
            filled += 1;
        }
    }
    // What is left over must be nothing: one address, one spelling.
    let rest = held & ((1 << bits) - 1);
    (filled == octets.len() && bits < 5 && rest == 0).then_some(octets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{ALPHABET, Purpose, Sealer};
    use engine::id::MessageId;
    use mail::address::Domain;

    // R5.4: return paths carry an unforgeable token.
    #[test]
    fn a_sealed_address_opens_and_no_altered_one_does() {
        let sealer = Sealer::new(&[7; 32]);
        let domain = Domain::parse("bounces.example.com").unwrap();
        let message = MessageId(0x0193_aaaa_bbbb_7ccc_8ddd_eeee_ffff_0001);
        let address = sealer.seal(message, &domain);
        let local = address.split('@').next().unwrap();
        assert!(local.len() <= 64);
        assert_eq!(sealer.open(local, &domain), Some(message));
        assert_eq!(sealer.open(&local.to_ascii_uppercase(), &domain), Some(message));

        for place in 2..local.len() {
            for letter in ALPHABET {
                let mut altered = local.as_bytes().to_vec();
                if altered[place] == *letter {
                    continue;
                }
                altered[place] = *letter;
                let altered = String::from_utf8(altered).unwrap();
                assert_eq!(sealer.open(&altered, &domain), None, "{altered}");
            }
        }
        assert_eq!(sealer.open(&local[..local.len() - 1], &domain), None);
        assert_eq!(sealer.open(local, &Domain::parse("other.example.com").unwrap()), None);
        assert_eq!(Sealer::new(&[8; 32]).open(local, &domain), None);
    }

    // F1: what is seen in one place is good in no other.
    #[test]
    fn a_token_is_good_for_its_own_purpose_alone() {
        let (sealer, domain) = (Sealer::new(&[7; 32]), Domain::parse("bounces.example.com").unwrap());
        let message = MessageId(7);
        for purpose in Purpose::ALL {
            let token = sealer.token(purpose, message);
            assert_eq!(Purpose::of(&token), Some(purpose));
            assert_eq!(sealer.message(purpose, &token), Some(message));
            assert_eq!(sealer.open(&token, &domain), None);
            for other in Purpose::ALL.into_iter().filter(|other| *other != purpose) {
                let disguised = format!("{}{}", other.mark(), &token[2..]);
                assert_eq!(sealer.message(other, &token), None);
                assert_eq!(sealer.message(other, &disguised), None);
            }
        }
        assert_eq!(Purpose::of("bob"), None);
    }
}
