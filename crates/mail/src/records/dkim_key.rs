//! Which key does a DKIM record hold (RFC 6376 3.6.1), and is it the one we sign with?

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::known::{Answer, Known};
use super::tags::{Tags, TagsError};
use super::{Checked, Flaw, State, absent, later, quoted, shortened, shown, wildcard};
use crate::address::Domain;

/// RFC 8301 3.2: shorter keys are not believed; 2048 bits are what everybody expects.
const RSA_BITS_MIN: usize = 1024;
const RSA_BITS_ADVISED: usize = 2048;
/// Of this many records at one name, one key is put together when a DNS host split it.
const PIECES_MAX: usize = 4;
/// How much of the end of a key is shown: RSA keys all begin alike.
const KEY_END_SHOWN: usize = 16;

/// Verifiers do not mind a missing `=`.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimKey {
    pub kind: DkimKeyKind,
    /// Empty: the key is revoked.
    pub key: Vec<u8>,
    /// `t=y`: the domain only tries signing.
    pub testing: bool,
    /// `h=`, when it is there.
    pub hashes: Option<Vec<String>>,
    /// `s=`, when it is there.
    pub services: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DkimKeyKind {
    Rsa,
    Ed25519,
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DkimKeyError {
    #[error(transparent)]
    Tags(#[from] TagsError),
    #[error("v= is not DKIM1, or is not the first tag")]
    Version,
    #[error("p=, the key, is missing")]
    NoKey,
    #[error("p= is not base64")]
    NotBase64,
}

impl DkimKey {
    pub fn parse(text: &str) -> Result<DkimKey, DkimKeyError> {
        let tags = Tags::parse(text)?;
        // It may be left out; where it is, it is first.
        if tags.get("v").is_some() && tags.first() != Some(("v", "DKIM1")) {
            return Err(DkimKeyError::Version);
        }
        let key: String = tags.get("p").ok_or(DkimKeyError::NoKey)?.split_ascii_whitespace().collect();
        let key = BASE64.decode(key).map_err(|_| DkimKeyError::NotBase64)?;
        let list = |name| tags.get(name).map(|list| list.split(':').map(|entry| entry.trim().to_owned()).collect());
        let flags: Option<Vec<String>> = list("t");
        Ok(DkimKey {
            kind: match tags.get("k") {
                None | Some("rsa") => DkimKeyKind::Rsa,
                Some("ed25519") => DkimKeyKind::Ed25519,
                Some(other) => DkimKeyKind::Other(other.to_owned()),
            },
            key,
            testing: flags.is_some_and(|flags| flags.iter().any(|flag| flag == "y")),
            hashes: list("h"),
            services: list("s"),
        })
    }

    /// RFC 6376 asks for the bare RSA key, everybody publishes it in its usual clothes, and verifiers take both.
    fn is_same(&self, ours: &DkimKey) -> bool {
        const HEADER_MAX: usize = 32;
        let bare = |inner: &[u8], outer: &[u8]| {
            !inner.is_empty() && outer.ends_with(inner) && outer.len() - inner.len() <= HEADER_MAX
        };
        self.kind == ours.kind
            && (self.key == ours.key
                || (self.kind == DkimKeyKind::Rsa && (bare(&self.key, &ours.key) || bare(&ours.key, &self.key))))
    }
}

/// The plan: find our key among the texts; if it is there, what else is said beside it; if not, what stands there instead,
/// and by which of the usual slips.
pub(super) fn judge(checked: &mut Checked, domain: &Domain, record: &str, known: &mut Known) -> Option<()> {
    let Ok(ours) = DkimKey::parse(record) else {
        let words = format!("our own record {} is no DKIM record", quoted(record));
        checked.say(Flaw::NotAKey, State::Wrong, words);
        return Some(());
    };
    let is_ours = |text: &str| DkimKey::parse(text).is_ok_and(|key| key.is_same(&ours));
    let holds = |answer: &Answer| matches!(answer, Answer::Texts(texts) if texts.iter().any(|text| is_ours(text)));
    let texts = match known.ask(checked.kind, &checked.name)? {
        Answer::Texts(texts) if !texts.is_empty() => texts,
        Answer::Later(why) => {
            later(checked, &why);
            return Some(());
        }
        _ => return absent(checked, domain, known, &holds),
    };
    checked.found = shown(&texts);
    let keys = texts.iter().filter(|text| DkimKey::parse(text).is_ok()).count();
    match texts.iter().find(|text| is_ours(text)).map(|text| DkimKey::parse(text)) {
        Some(Ok(key)) => {
            beside(checked, &key, keys);
            Some(())
        }
        _ => {
            if !slipped(checked, &texts, &is_ours) {
                instead(checked, &texts, &ours, record);
                wildcard(checked, &texts, known)?;
            }
            Some(())
        }
    }
}

/// Our key is there. What could keep verifiers from using it?
fn beside(checked: &mut Checked, key: &DkimKey, keys: usize) {
    let name = checked.name.clone();
    if keys > 1 {
        let words = format!("{name} holds {keys} keys, and verifiers take any one of them. Keep only ours");
        checked.say(Flaw::SeveralKeys, State::Wrong, words);
    }
    if key.testing {
        let words = format!(
            "the key at {name} has the flag t=y: some receivers treat its mail as if it were not signed. Remove t=y once it works"
        );
        checked.say(Flaw::Testing, State::Good, words);
    }
    let lacks = |list: &Option<Vec<String>>, wanted: &[&str]| {
        list.as_ref().is_some_and(|list| !list.iter().any(|entry| wanted.contains(&entry.as_str())))
    };
    if lacks(&key.hashes, &["sha256"]) {
        let words = format!("the key at {name} has h= without sha256, which is what we sign with. Remove h=");
        checked.say(Flaw::ForbidsHash, State::Wrong, words);
    }
    if lacks(&key.services, &["*", "email"]) {
        checked.say(Flaw::ForbidsMail, State::Wrong, format!("the key at {name} has s= without email. Remove s="));
    }
    if key.kind == DkimKeyKind::Rsa
        && let Some(bits) = modulus_bits(&key.key)
        && bits < RSA_BITS_ADVISED
    {
        let state = if bits < RSA_BITS_MIN { State::Wrong } else { State::Good };
        let words = format!("the key at {name} has {bits} bits. Use one of {RSA_BITS_ADVISED}, under a new selector");
        checked.say(Flaw::WeakKey, state, words);
    }
}

/// How long an RSA key is, bare or in its usual clothes (RFC 8017 A.1.1, RFC 5280 4.1). The cryptographic library reads no key
/// that is too short to use.
fn modulus_bits(key: &[u8]) -> Option<usize> {
    const INTEGER: u8 = 2;
    const BIT_STRING: u8 = 3;
    const SEQUENCE: u8 = 0x30;
    let (tag, inside, _) = element(key)?;
    let (first, value, rest) = element(inside).filter(|_| tag == SEQUENCE)?;
    match first {
        INTEGER => {
            let modulus = &value[value.iter().take_while(|octet| **octet == 0).count()..];
            Some(modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?)
        }
        SEQUENCE => match element(rest)? {
            // The first octet counts unused bits.
            (BIT_STRING, [0, bare @ ..], _) if bare.first() == Some(&SEQUENCE) => modulus_bits(bare),
            _ => None,
        },
        _ => None,
    }
}

/// Tag, content, and what follows, of an element in DER.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    (rest.len() >= length).then(|| (*tag, &rest[..length], &rest[length..]))
}

/// Our key is there, but in a form that no verifier reads.
fn slipped(checked: &mut Checked, texts: &[String], is_ours: &dyn Fn(&str) -> bool) -> bool {
    let name = checked.name.clone();
    let unquoted = |text: &String| text.replace("\" \"", "").replace('"', "");
    if texts.iter().any(|text| text.contains('"') && is_ours(&unquoted(text))) {
        let words = format!(
            "the TXT record at {name} has quotation marks in it, which your DNS host adds by itself. Enter it without them, in one \
             piece"
        );
        checked.say(Flaw::QuotesInside, State::Wrong, words);
        return true;
    }
    if texts.iter().any(|text| text.contains('\\') && is_ours(&text.replace('\\', ""))) {
        let words = format!(
            "the TXT record at {name} has backslashes in it, which your DNS host adds by itself where it needs them. Enter it \
             without them"
        );
        checked.say(Flaw::BackslashesInside, State::Wrong, words);
        return true;
    }
    // The DNS gives records of one name in any order.
    if (2..=PIECES_MAX).contains(&texts.len()) && joined(&mut Vec::new(), texts, is_ours) {
        let words = format!(
            "the key at {name} is spread over {} TXT records. It must be one record; where your DNS host takes no more than 255 \
             characters in one piece, one record of several character-strings",
            texts.len()
        );
        checked.say(Flaw::SplitInTwo, State::Wrong, words);
        return true;
    }
    false
}

/// Whether some of the pieces, in some order, make our key. There are no more than `PIECES_MAX`, so there are few orders.
fn joined(taken: &mut Vec<usize>, texts: &[String], is_ours: &dyn Fn(&str) -> bool) -> bool {
    if taken.len() > 1 && is_ours(&taken.iter().map(|index| texts[*index].trim()).collect::<String>()) {
        return true;
    }
    for index in 0..texts.len() {
        if !taken.contains(&index) {
            taken.push(index);
            if joined(taken, texts, is_ours) {
                return true;
            }
            taken.pop();
        }
    }
    false
}

/// Something else stands there.
fn instead(checked: &mut Checked, texts: &[String], ours: &DkimKey, record: &str) {
    let name = checked.name.clone();
    if let [_, _, ..] = texts {
        let words =
            format!("none of the {} TXT records at {name} holds our key. Publish, alone: {record}", texts.len());
        checked.say(Flaw::OtherKey, State::Wrong, words);
        return;
    }
    let text = texts.first().map_or("", |text| text);
    if let Some((there, whole)) = cut_off(text, record) {
        let words = format!(
            "the key at {name} is cut off: {there} of its {whole} characters are there. Your DNS host keeps only the first part; \
             enter the record as several character-strings, each of no more than 255 characters: {record}"
        );
        checked.say(Flaw::CutOff, State::Wrong, words);
        return;
    }
    match DkimKey::parse(text) {
        Err(why) => {
            let words =
                format!("the TXT record at {name} is no DKIM key: {why}; it says {}. Publish: {record}", quoted(text));
            checked.say(Flaw::NotAKey, State::Wrong, words);
        }
        Ok(found) if found.key.is_empty() => {
            let words = format!(
                "the key at {name} is revoked: its p= is empty. To sign with this selector again, publish: {record}"
            );
            checked.say(Flaw::Revoked, State::Wrong, words);
        }
        Ok(found) if found.kind != ours.kind => {
            let kind = |key: &DkimKey| match &key.kind {
                DkimKeyKind::Rsa => "RSA".to_owned(),
                DkimKeyKind::Ed25519 => "Ed25519".to_owned(),
                DkimKeyKind::Other(other) => shortened(other),
            };
            let words = format!(
                "the TXT record at {name} holds a key of the kind {}; ours is {}. Publish: {record}",
                kind(&found),
                kind(ours)
            );
            checked.say(Flaw::OtherKeyKind, State::Wrong, words);
        }
        Ok(found) => {
            let end = |key: &[u8]| {
                let text = BASE64.encode(key);
                text[text.len().saturating_sub(KEY_END_SHOWN)..].to_owned()
            };
            let words = format!(
                "the TXT record at {name} holds another key than ours: it ends in {}, ours in {}. Publish: {record}",
                end(&found.key),
                end(&ours.key)
            );
            checked.say(Flaw::OtherKey, State::Wrong, words);
        }
    }
}

/// How many characters of our key stand there, when it is ours up to where it ends.
fn cut_off(text: &str, record: &str) -> Option<(usize, usize)> {
    // The beginning of every RSA key of a length is the same: so short a piece proves nothing.
    const ENOUGH: usize = 64;
    let key =
        |text: &str| -> Option<String> { Some(Tags::parse(text).ok()?.get("p")?.split_ascii_whitespace().collect()) };
    let (found, ours) = (key(text)?, key(record)?);
    let cut = found.len() >= ENOUGH && found.len() < ours.len() && ours.starts_with(&found);
    cut.then_some((found.len(), ours.len()))
}
