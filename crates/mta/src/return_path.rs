//! Where do bounces come back to, and how do we know that they are ours?
//!
//! The local part carries the message's id and a seal over it that only this installation can make: what comes back with a
//! true seal belongs to that message, and nobody can make one up for a message of somebody else.

use aws_lc_rs::{constant_time, hmac, rand};
use engine::id::MessageId;
use mail::address::Domain;

const MARK: &str = "b-";
const ID_OCTETS: usize = 16;
/// Ten octets: forging one by guessing needs 2^80 tries, and the local part stays within 64 characters.
const SEAL_OCTETS: usize = 10;
/// Lower-case letters and digits: local parts are folded by some hosts. RFC 4648's base32hex alphabet.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

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

    #[must_use]
    pub fn seal(&self, message: MessageId, domain: &Domain) -> String {
        let id = message.0.to_be_bytes();
        let tag = self.tag(&id, domain);
        let mut octets = [0; ID_OCTETS + SEAL_OCTETS];
        octets[..ID_OCTETS].copy_from_slice(&id);
        octets[ID_OCTETS..].copy_from_slice(&tag.as_ref()[..SEAL_OCTETS]);
        format!("{MARK}{}@{domain}", to_base32(&octets))
    }

    /// The message an address was sealed for, if this installation sealed it.
    #[must_use]
    pub fn open(&self, local_part: &str, domain: &Domain) -> Option<MessageId> {
        let octets = from_base32(local_part.to_ascii_lowercase().strip_prefix(MARK)?)?;
        let (id, seal) = octets.split_first_chunk::<ID_OCTETS>()?;
        let tag = self.tag(id, domain);
        constant_time::verify_slices_are_equal(seal, &tag.as_ref()[..SEAL_OCTETS]).ok()?;
        Some(MessageId(u128::from_be_bytes(*id)))
    }

    fn tag(&self, id: &[u8; ID_OCTETS], domain: &Domain) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"return-path/1\0");
        context.update(id);
        context.update(domain.as_str().as_bytes());
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
    use super::{ALPHABET, Sealer};
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
}
