//! How is a message signed for a domain (DKIM, RFC 6376 and 8463), and does a signature hold?
//!
//! Signing is relaxed/relaxed over the whole body: l= would let others append, x= only makes late mail fail. The body is
//! read in place and hashed once for all signers.

use std::fmt;

use aws_lc_rs::digest::{self, Digest, SHA256};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ED25519, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_SHA256,
    RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr;

use crate::address::Domain;
use crate::message::{self, Field};

/// RFC 6376 5.4.1, the fields of RFC 2369 and 8058 (by their prefix), 9477 and Gmail's Feedback-ID. What is present is
/// signed, each time it is present.
const SIGNED: [&str; 15] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "reply-to",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "feedback-id",
    "cfbl-address",
    "cfbl-feedback-id",
];
const SIGNED_PREFIX: &str = "list-";
/// Output lines are folded before this column.
const COLUMNS: usize = 76;
/// A verifier looks at no more signatures than this.
const SIGNATURES_MAX: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DkimError {
    #[error("`{0}` is not a DKIM selector: labels of letters, digits and hyphens, separated by dots")]
    Selector(String),
    #[error(
        "the private key cannot be read: give an unencrypted RSA key of at least 2048 bits, or an Ed25519 key, as PKCS#8 or PKCS#1"
    )]
    Key,
    #[error("the message has no From field to sign")]
    NoFrom,
    #[error("the cryptographic library failed to {0}")]
    Library(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Rsa2048,
    Ed25519,
}

/// A private key with the domain and selector it signs for. Its debug form does not show the key.
pub struct Signer {
    domain: Domain,
    selector: String,
    key: Key,
}

// A list of two, not a trait: another scheme is another variant.
enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Signer {
    /// From the DER of a PKCS#8 or PKCS#1 private key.
    pub fn rsa(domain: &Domain, selector: &str, der: &[u8]) -> Result<Signer, DkimError> {
        let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).map_err(|_| DkimError::Key)?;
        Signer::new(domain, selector, Key::Rsa(Box::new(pair)))
    }

    /// From the DER of a PKCS#8 private key, with or without the public key in it.
    pub fn ed25519(domain: &Domain, selector: &str, pkcs8: &[u8]) -> Result<Signer, DkimError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| DkimError::Key)?;
        Signer::new(domain, selector, Key::Ed25519(Box::new(pair)))
    }

    /// From `-----BEGIN PRIVATE KEY-----` (either kind) or `-----BEGIN RSA PRIVATE KEY-----`.
    pub fn from_pem(domain: &Domain, selector: &str, pem: &str) -> Result<Signer, DkimError> {
        let (_, rest) = pem.split_once("-----BEGIN ").ok_or(DkimError::Key)?;
        let (label, rest) = rest.split_once("-----").ok_or(DkimError::Key)?;
        let (encoded, _) = rest.split_once("-----END ").ok_or(DkimError::Key)?;
        let encoded: String = encoded.split_ascii_whitespace().collect();
        let der = STANDARD.decode(encoded).map_err(|_| DkimError::Key)?;
        match label {
            "RSA PRIVATE KEY" => Signer::rsa(domain, selector, &der),
            "PRIVATE KEY" => match Signer::ed25519(domain, selector, &der) {
                Err(DkimError::Key) => Signer::rsa(domain, selector, &der),
                signer => signer,
            },
            _ => Err(DkimError::Key),
        }
    }

    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// Where the record of [`Signer::record`] belongs.
    pub fn record_name(&self) -> String {
        record_name(self.domain.as_str(), &self.selector)
    }

    /// The TXT record that publishes the public key. Longer than 255 octets for RSA: it takes two character-strings.
    pub fn record(&self) -> Result<String, DkimError> {
        match &self.key {
            Key::Rsa(pair) => {
                let key: PublicKeyX509Der<'_> =
                    pair.public_key().as_der().map_err(|_| DkimError::Library("write a public key"))?;
                Ok(format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(key.as_ref())))
            }
            Key::Ed25519(pair) => Ok(format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(pair.public_key().as_ref()))),
        }
    }

    fn new(domain: &Domain, selector: &str, key: Key) -> Result<Signer, DkimError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if selector.len() > 200 || !selector.split('.').all(label) {
            return Err(DkimError::Selector(selector.chars().take(80).collect()));
        }
        Ok(Signer { domain: domain.clone(), selector: selector.to_owned(), key })
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        }
    }

    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, DkimError> {
        match &self.key {
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(&RSA_PKCS1_SHA256, digest, &mut signature).map_err(|_| DkimError::Library("sign"))?;
                Ok(signature)
            }
            // RFC 8463 3: the digest is what is signed.
            Key::Ed25519(pair) => Ok(pair.sign(digest.as_ref()).as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, {})", self.record_name(), self.algorithm())
    }
}

/// The DKIM-Signature fields, one for each signer, CRLF-ended, to put before the message.
pub fn sign(signers: &[&Signer], message: &[u8], now_unix: i64) -> Result<Vec<u8>, DkimError> {
    let (header, body) = message::split(message);
    let body_hash = STANDARD.encode(relaxed_body_hash(body));
    let fields: Vec<Field<'_>> = message::fields(header).collect();
    let names = signed_names(&fields)?;
    let mut canonical = Vec::with_capacity(header.len());
    // RFC 6376 5.4.2: of fields that repeat, the last comes first.
    for (index, name) in names.iter().enumerate() {
        let nth = names[..index].iter().filter(|before| *before == name).count();
        if let Some(field) = fields.iter().rev().filter(|field| field.is(name)).nth(nth) {
            relaxed_field(field, &mut canonical);
        }
    }
    let mut common = digest::Context::new(&SHA256);
    common.update(&canonical);

    let mut out = Vec::with_capacity(signers.len() * 1_024);
    for signer in signers {
        let unsigned = unsigned_field(signer, &names, &body_hash, now_unix);
        let mut context = common.clone();
        context.update(&relaxed_signature_field(&unsigned));
        let signature = signer.sign(&context.finish())?;
        out.extend_from_slice(&unsigned);
        fold_base64(&STANDARD.encode(signature), "\tb=".len(), &mut out);
        out.extend_from_slice(b"\r\n");
    }
    Ok(out)
}

/// A new key pair.
#[derive(Clone)]
pub struct KeyPair {
    /// PKCS#8.
    pub private_pem: String,
    /// The TXT record that publishes the public key.
    pub record: String,
}

pub fn generate(kind: KeyKind) -> Result<KeyPair, DkimError> {
    let failed = |_| DkimError::Library("make a key");
    let der = match kind {
        KeyKind::Rsa2048 => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
            der.as_ref().to_vec()
        }
        // Version 1, without the public key, is what other tools read.
        KeyKind::Ed25519 => Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(failed)?.as_ref().to_vec(),
    };
    let domain = Domain::parse("new.invalid").map_err(|_| DkimError::Key)?;
    let signer = match kind {
        KeyKind::Rsa2048 => Signer::rsa(&domain, "new", &der)?,
        KeyKind::Ed25519 => Signer::ed25519(&domain, "new", &der)?,
    };
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    let encoded = STANDARD.encode(&der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(KeyPair { private_pem: pem, record: signer.record()? })
}

/// What one DKIM-Signature field of a message is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// d=, or nothing when the field could not be read.
    pub domain: String,
    pub selector: String,
    pub algorithm: String,
    /// x=: when the signature stops counting. The time is not judged here.
    pub expires_unix: Option<i64>,
    pub result: Result<(), Flaw>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("the signature field is wrong: {0}")]
    Field(&'static str),
    #[error("there is no record at {0}")]
    NoRecord(String),
    #[error("the record is wrong: {0}")]
    Record(&'static str),
    #[error("the key was revoked")]
    Revoked,
    #[error("the body was changed")]
    Body,
    #[error("the signed header fields or the key do not fit the signature")]
    Signature,
}

/// Judges every DKIM-Signature field, top down. `lookup` is asked for TXT records by name.
///
/// A signature with l= is not accepted: RFC 6376 8.2 lets a verifier ignore it, and it says nothing of what follows.
pub fn verify(message: &[u8], lookup: &dyn Fn(&str) -> Option<String>) -> Vec<Verdict> {
    let (header, body) = message::split(message);
    let fields: Vec<Field<'_>> = message::fields(header).collect();
    fields
        .iter()
        .filter(|field| field.is("DKIM-Signature"))
        .take(SIGNATURES_MAX)
        .map(|field| {
            let tags = Tags::parse(field.value);
            let said = |name| tags.as_ref().and_then(|tags| tags.get(name)).unwrap_or_default();
            Verdict {
                domain: said("d"),
                selector: said("s"),
                algorithm: said("a"),
                expires_unix: said("x").parse().ok(),
                result: match &tags {
                    Some(tags) => verify_one(field, tags, &fields, body, lookup),
                    None => Err(Flaw::Field("it is not a list of tags")),
                },
            }
        })
        .collect()
}

fn verify_one(
    field: &Field<'_>,
    tags: &Tags,
    fields: &[Field<'_>],
    body: &[u8],
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Flaw> {
    let needed = |name, or: &'static str| tags.get(name).filter(|value| !value.is_empty()).ok_or(Flaw::Field(or));
    if needed("v", "v= is missing")? != "1" {
        return Err(Flaw::Field("v= is not 1"));
    }
    let (domain, selector) = (needed("d", "d= is missing")?, needed("s", "s= is missing")?);
    let names = needed("h", "h= is missing")?;
    let signature = base64_of(&needed("b", "b= is missing")?).ok_or(Flaw::Field("b= is not base64"))?;
    let body_hash = base64_of(&needed("bh", "bh= is missing")?).ok_or(Flaw::Field("bh= is not base64"))?;
    let key_kind = match needed("a", "a= is missing")?.as_str() {
        "rsa-sha256" => "rsa",
        "ed25519-sha256" => "ed25519",
        _ => return Err(Flaw::Field("a= is neither rsa-sha256 nor ed25519-sha256")),
    };
    let (relaxed_header, relaxed_body) = match tags.get("c").as_deref() {
        None | Some("simple" | "simple/simple") => (false, false),
        Some("simple/relaxed") => (false, true),
        Some("relaxed" | "relaxed/simple") => (true, false),
        Some("relaxed/relaxed") => (true, true),
        Some(_) => return Err(Flaw::Field("c= is unknown")),
    };
    if tags.get("l").is_some() {
        return Err(Flaw::Field("l= leaves part of the body unsigned"));
    }
    let names: Vec<&str> = names.split(':').map(str::trim).collect();
    if !names.iter().any(|name| name.eq_ignore_ascii_case("from")) {
        return Err(Flaw::Field("h= does not name From"));
    }
    let identity = tags.get("i").unwrap_or_else(|| format!("@{domain}"));
    let identity_domain = identity.rsplit_once('@').map_or("", |(_, domain)| domain);
    let same = identity_domain.eq_ignore_ascii_case(&domain);
    let below = identity_domain.to_ascii_lowercase().ends_with(&format!(".{}", domain.to_ascii_lowercase()));
    if !same && !below {
        return Err(Flaw::Field("i= is not within d="));
    }

    let computed = if relaxed_body { relaxed_body_hash(body) } else { simple_body_hash(body) };
    if computed.as_ref() != body_hash {
        return Err(Flaw::Body);
    }

    let name = record_name(&domain, &selector);
    let record = lookup(&name).ok_or(Flaw::NoRecord(name))?;
    let (key, strict) = public_key(&record, key_kind)?;
    if strict && !same {
        return Err(Flaw::Field("i= is not d=, as the record demands"));
    }

    let mut data = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let nth = names[..index].iter().filter(|before| before.eq_ignore_ascii_case(name)).count();
        if let Some(found) = fields.iter().rev().filter(|field| field.is(name)).nth(nth) {
            if relaxed_header {
                relaxed_field(found, &mut data);
            } else {
                data.extend_from_slice(found.octets);
            }
        }
    }
    let emptied = without_signature(field.octets);
    if relaxed_header {
        data.extend_from_slice(&relaxed_signature_field(&emptied));
    } else {
        data.extend_from_slice(emptied.strip_suffix(b"\r\n").unwrap_or(&emptied));
    }
    let valid = if key_kind == "rsa" {
        // RFC 8301 3.2: verifiers take keys from 1024 bits.
        let algorithm: &dyn VerificationAlgorithm = &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
        UnparsedPublicKey::new(algorithm, &key).verify(&data, &signature)
    } else {
        UnparsedPublicKey::new(&ED25519, &key).verify(digest::digest(&SHA256, &data).as_ref(), &signature)
    };
    valid.map_err(|_| Flaw::Signature)
}

/// RFC 6376 3.6.1: the key of a record, and whether i= must equal d= (t=s).
fn public_key(record: &str, kind: &'static str) -> Result<(Vec<u8>, bool), Flaw> {
    let tags = Tags::parse(record.as_bytes()).ok_or(Flaw::Record("it is not a list of tags"))?;
    if tags.get("v").is_some_and(|version| version != "DKIM1") {
        return Err(Flaw::Record("v= is not DKIM1"));
    }
    if tags.get("k").as_deref().unwrap_or("rsa") != kind {
        return Err(Flaw::Record("k= is not the kind of key that signed"));
    }
    let lists = |tag, wanted: &[&str]| {
        tags.get(tag).is_none_or(|list| list.split(':').any(|entry| wanted.contains(&entry.trim())))
    };
    if !lists("h", &["sha256"]) {
        return Err(Flaw::Record("h= does not allow sha256"));
    }
    if !lists("s", &["*", "email"]) {
        return Err(Flaw::Record("s= does not allow mail"));
    }
    let key = tags.get("p").ok_or(Flaw::Record("p= is missing"))?;
    if key.is_empty() {
        return Err(Flaw::Revoked);
    }
    let key = base64_of(&key).ok_or(Flaw::Record("p= is not base64"))?;
    let strict = tags.get("t").is_some_and(|flags| flags.split(':').any(|flag| flag.trim() == "s"));
    Ok((key, strict))
}

fn record_name(domain: &str, selector: &str) -> String {
    format!("{selector}._domainkey.{domain}")
}

/// RFC 6376 3.2. Values without folds and without space around them.
struct Tags(Vec<(String, String)>);

impl Tags {
    fn parse(list: &[u8]) -> Option<Tags> {
        let text = std::str::from_utf8(list).ok()?;
        let mut tags: Vec<(String, String)> = Vec::new();
        for spec in text.split(';').filter(|spec| !spec.trim().is_empty()) {
            let (name, value) = spec.split_once('=')?;
            let (name, value) = (name.trim(), value.trim());
            // A tag that repeats spoils the whole list.
            if tags.iter().any(|(before, _)| before == name) {
                return None;
            }
            tags.push((name.to_owned(), value.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()));
        }
        Some(Tags(tags))
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    }
}

fn base64_of(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok()
}

/// The h= list: every name as often as it occurs, and From once more, so that none can be added.
fn signed_names(fields: &[Field<'_>]) -> Result<Vec<String>, DkimError> {
    let mut names = Vec::with_capacity(SIGNED.len() + 4);
    let count = |name: &str| fields.iter().filter(|field| field.is(name)).count();
    for name in SIGNED {
        let mut times = count(name);
        if name == "from" {
            if times == 0 {
                return Err(DkimError::NoFrom);
            }
            times += 1;
        }
        names.extend(std::iter::repeat_n(name.to_owned(), times));
    }
    let listed = fields.iter().filter(|field| {
        field.name.get(..SIGNED_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(SIGNED_PREFIX))
    });
    names.extend(listed.map(|field| field.name.to_ascii_lowercase()));
    Ok(names)
}

/// The DKIM-Signature field up to and with `b=`, folded.
fn unsigned_field(signer: &Signer, names: &[String], body_hash: &str, now_unix: i64) -> Vec<u8> {
    let mut text = String::with_capacity(512);
    let mut column = 0;
    let mut put = |word: &str, space: bool| {
        if column + word.len() + usize::from(space) > COLUMNS {
            text.push_str("\r\n\t");
            column = 1;
        } else if space {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    };
    put("DKIM-Signature:", false);
    put("v=1;", true);
    put(&format!("a={};", signer.algorithm()), true);
    put("c=relaxed/relaxed;", true);
    put(&format!("d={};", signer.domain), true);
    put(&format!("s={};", signer.selector), true);
    put(&format!("t={now_unix};"), true);
    put(&format!("bh={body_hash};"), true);
    for (index, name) in names.iter().enumerate() {
        let start = if index == 0 { "h=" } else { "" };
        let end = if index + 1 == names.len() { ';' } else { ':' };
        // Between the names of the list a fold is allowed on either side of the colon (RFC 6376 3.5).
        put(&format!("{start}{name}{end}"), index == 0);
    }
    text.push_str("\r\n\tb=");
    text.into_bytes()
}

fn fold_base64(encoded: &str, mut column: usize, out: &mut Vec<u8>) {
    let mut rest = encoded;
    loop {
        let (now, later) = rest.split_at(rest.len().min(COLUMNS - column));
        out.extend_from_slice(now.as_bytes());
        if later.is_empty() {
            return;
        }
        out.extend_from_slice(b"\r\n\t");
        column = 1;
        rest = later;
    }
}

/// RFC 6376 3.7: the field that holds the signature is signed with an empty b=, without its line end.
fn relaxed_signature_field(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    if let Some(field) = message::fields(octets).next() {
        relaxed_field(&field, &mut out);
    }
    out.truncate(out.len().saturating_sub(2));
    out
}

/// The field with the value of b= taken out and nothing else changed.
fn without_signature(octets: &[u8]) -> Vec<u8> {
    let colon = memchr(b':', octets).map_or(0, |at| at + 1);
    let mut out = octets[..colon].to_vec();
    for (index, spec) in octets[colon..].split(|b| *b == b';').enumerate() {
        if index > 0 {
            out.push(b';');
        }
        match memchr(b'=', spec) {
            Some(at) if spec[..at].trim_ascii() == b"b" => {
                out.extend_from_slice(&spec[..=at]);
                // The line end of the field is not part of the value.
                if spec.ends_with(b"\r\n") {
                    out.extend_from_slice(b"\r\n");
                }
            }
            _ => out.extend_from_slice(spec),
        }
    }
    out
}

/// RFC 6376 3.4.2.
fn relaxed_field(field: &Field<'_>, out: &mut Vec<u8>) {
    out.extend(field.name.bytes().map(|b| b.to_ascii_lowercase()));
    out.push(b':');
    let begun = out.len();
    let mut space = false;
    for byte in field.value {
        match byte {
            b' ' | b'\t' => space = true,
            b'\r' | b'\n' => {}
            byte => {
                if std::mem::take(&mut space) && out.len() > begun {
                    out.push(b' ');
                }
                out.push(*byte);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 6376 3.4.3: without the empty lines at the end, and never without a last CRLF.
fn simple_body_hash(body: &[u8]) -> Digest {
    let mut end = body;
    while let Some(shorter) = end.strip_suffix(b"\r\n") {
        end = shorter;
    }
    let mut context = digest::Context::new(&SHA256);
    context.update(end);
    context.update(b"\r\n");
    context.finish()
}

fn relaxed_body_hash(body: &[u8]) -> Digest {
    let mut context = digest::Context::new(&SHA256);
    relaxed_body(body, &mut |octets| context.update(octets));
    context.finish()
}

/// RFC 6376 3.4.4, fed into `sink` in pieces.
///
/// Stretches of lines that are canonical already go in as they lie. Only a line that is not, one with a tab, a run of
/// spaces or a space at its end, is written anew. Lines of nothing but white space are empty lines, and those at the end
/// do not count: to see that they were white space one must look before dropping the empty ones.
fn relaxed_body(body: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let mut scratch = Vec::new();
    // Canonical octets not yet fed lie between these two.
    let (mut from, mut to) = (0, 0);
    let mut empty_lines = 0_usize;
    // Whether the empty lines seen lie in the body just so, right after `to`.
    let mut empty_as_they_lie = true;
    let mut at = 0;
    while at < body.len() {
        let (line, next) = match memchr(b'\n', &body[at..]) {
            Some(end) => (&body[at..at + end], at + end + 1),
            None => (&body[at..], body.len()),
        };
        let ended = line.len() + at + 1 == next && line.ends_with(b"\r");
        let text = line.strip_suffix(b"\r").filter(|_| ended).unwrap_or(line);
        if is_white(text) {
            empty_lines += 1;
            empty_as_they_lie &= text.is_empty() && ended;
        } else {
            if empty_lines > 0 && !empty_as_they_lie {
                sink(&body[from..to]);
                for _ in 0..empty_lines {
                    sink(b"\r\n");
                }
                from = at;
            }
            if ended && is_canonical(line) {
                to = next;
            } else {
                sink(&body[from..at]);
                scratch.clear();
                relaxed_line(text, &mut scratch);
                sink(&scratch);
                (from, to) = (next, next);
            }
            (empty_lines, empty_as_they_lie) = (0, true);
        }
        at = next;
    }
    sink(&body[from..to]);
}

fn is_white(text: &[u8]) -> bool {
    text.iter().all(|b| matches!(b, b' ' | b'\t'))
}

/// For a line that ends with CR. Without a branch for each octet, so that the compiler can look at many at once.
fn is_canonical(line: &[u8]) -> bool {
    let pairs = line.iter().zip(&line[1..]);
    let (tab, run) = pairs.fold((line[0] == b'\t', false), |(tab, run), (a, b)| {
        (tab | (*b == b'\t'), run | ((*a == b' ') & ((*b == b' ') | (*b == b'\r'))))
    });
    !tab & !run
}

fn relaxed_line(text: &[u8], out: &mut Vec<u8>) {
    let mut space = false;
    for byte in text {
        if matches!(byte, b' ' | b'\t') {
            space = true;
            continue;
        }
        if std::mem::take(&mut space) {
            out.push(b' ');
        }
        out.push(*byte);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::LazyLock;

    // Made with `openssl genpkey` and used nowhere else.
    const RSA_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7YOTIxwL/6TMw\n\
        gzax5Vg6LqWazhoar2INTn7jXbhbj3s2GVZYHa29sl/UWMJAdkA2xpCPaXUYV8gt\n\
        EUgfNJDvUpRAjTbUIziBohbhOnlg88HAGScCNlCA6wJ6cDhiliMepwa8N9YpBV57\n\
        mqOPJN3TNysyF5RFumkAjaegBlygW+6yyEN4hd6766KCGZ4XQ6JwqRsouAJe7qwe\n\
        Ww2WmSwBlOzdpBEs7Uhtef3NVZa2svabYEnfwAZmPqPYmB0vTqJ0RHllQ7BktH9y\n\
        nqcbj08ml5heDT2diVEDuUl5Mgpwu24S9lr4cOD023OxSoEVV4c3lOGPaIYjXS0A\n\
        7kTROqPRAgMBAAECggEAA7GpUPv7ZyglxjMQBPnMf3kj8qVVhmkmubRuc/UJCWUO\n\
        vMZLGXmcTz0Q/pKxYavzICFSAEHH+S7h12Gb1mGm6dDq80rVZeE73/JeGRqaAftM\n\
        OolEZ5rCg4geiGNl+SuUjaolS9id9DkS38TwrIXBicRwqZAlcCp4n3Yrc9AsS0z8\n\
        CPsDziEtb2xgQ1y08xwouMuHjJnyHv4zB6kRLikCBEN8a2eIrr0Fmz086QedBgHl\n\
        Tiai+UyPqgtz2WMr/iBjNVwU+AGuSNXDz+GVEGQKiNHvHjHJZ4somEP6GUWjPVAM\n\
        awmzjSHD4vbGI5rjaXEt2g6eVDZiDwWDBjKxaQoIAQKBgQDbW0DOsRi+e/uvx+O1\n\
        V/opDsWhb+eMMzyx3ZC1DIgqeOI76fR/Ih0IsskpAVHm5hgFsRKqx8dnwcwLYoNY\n\
        e+YsDsEpCQpPPOzTVTePcdMNI/TkTyO7HWH5BgGf0cghg7+dQCHqlP/mCMAAJZ9Z\n\
        vzXBHOkWjENiTgj95curnXnmIQKBgQDarhuC0Yjzvy6fjzg5oCg4M96m31qfMsPO\n\
        SxMYfolxCMvrB4Jgc+MzyfqCtoLiN9p7mw7JHNGXyRSycxrV4U1AJ9VHn9wx5TG/\n\
        mlo5WkJqQr2purhzLZ1ov8ihexUA6SlxGoihwknxRFkNoBJh6898i+pUW8WU5HkH\n\
        iPZKynOnsQKBgQCv7oGNBUc2R9R2iJiecqBmW72wnEMXFGUitvT/8LwpbGju6ta5\n\
        PNASkOp8I93flj5AGmRBaxgIpMuVef6kckMKpQ7RbbnCEbhUS23Tc9R1HpikoMCk\n\
        q41PoDyfRS8Bilydr7lEHxsbEXuE4qfq4EwpxZlBB2BoMPRPRwZSb2w8YQKBgDzy\n\
        7eQGNp+JF5uNNWSKSOtxOYtVEVLxuTVUI1xeWDxS8VLuYt4zLo4Oq22nJM+cNZ7h\n\
        1rsi9x/RAZ3DCyW1h+xrrbwqyBp4AOegQ6lciMpJE8esrSAdBJRfb7HiNjZsxgoq\n\
        FQ7Qsf82x4NOrBDywn+6F3OvqGAZVcpN2Cd8ScPhAoGAbn9qcUChJae9022h9GH5\n\
        JqxH+g01MEKykbszE1TUvu/G4Tu2EgMcpFu0Vo73HgVbFSz+yaIWvndG8ilT7I1r\n\
        Ib4I0DieURgV/OfXZYQtwSoeaWcVzm6pvDbcpax1CGHBP6l8lU0QY4jvJdAiQGIm\n\
        9BINA0Of+z/di9fAoWDtXK0=\n\
        -----END PRIVATE KEY-----\n";
    const RSA_PKCS1_PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\n\
        MIIEowIBAAKCAQEAu2DkyMcC/+kzMIM2seVYOi6lms4aGq9iDU5+4124W497NhlW\n\
        WB2tvbJf1FjCQHZANsaQj2l1GFfILRFIHzSQ71KUQI021CM4gaIW4Tp5YPPBwBkn\n\
        AjZQgOsCenA4YpYjHqcGvDfWKQVee5qjjyTd0zcrMheURbppAI2noAZcoFvusshD\n\
        eIXeu+uighmeF0OicKkbKLgCXu6sHlsNlpksAZTs3aQRLO1IbXn9zVWWtrL2m2BJ\n\
        38AGZj6j2JgdL06idER5ZUOwZLR/cp6nG49PJpeYXg09nYlRA7lJeTIKcLtuEvZa\n\
        +HDg9NtzsUqBFVeHN5Thj2iGI10tAO5E0Tqj0QIDAQABAoIBAAOxqVD7+2coJcYz\n\
        EAT5zH95I/KlVYZpJrm0bnP1CQllDrzGSxl5nE89EP6SsWGr8yAhUgBBx/ku4ddh\n\
        m9ZhpunQ6vNK1WXhO9/yXhkamgH7TDqJRGeawoOIHohjZfkrlI2qJUvYnfQ5Et/E\n\
        8KyFwYnEcKmQJXAqeJ92K3PQLEtM/Aj7A84hLW9sYENctPMcKLjLh4yZ8h7+Mwep\n\
        ES4pAgRDfGtniK69BZs9POkHnQYB5U4movlMj6oLc9ljK/4gYzVcFPgBrkjVw8/h\n\
        lRBkCojR7x4xyWeLKJhD+hlFoz1QDGsJs40hw+L2xiOa42lxLdoOnlQ2Yg8FgwYy\n\
        sWkKCAECgYEA21tAzrEYvnv7r8fjtVf6KQ7FoW/njDM8sd2QtQyIKnjiO+n0fyId\n\
        CLLJKQFR5uYYBbESqsfHZ8HMC2KDWHvmLA7BKQkKTzzs01U3j3HTDSP05E8jux1h\n\
        +QYBn9HIIYO/nUAh6pT/5gjAACWfWb81wRzpFoxDYk4I/eXLq5155iECgYEA2q4b\n\
        gtGI878un484OaAoODPept9anzLDzksTGH6JcQjL6weCYHPjM8n6graC4jfae5sO\n\
        yRzRl8kUsnMa1eFNQCfVR5/cMeUxv5paOVpCakK9qbq4cy2daL/IoXsVAOkpcRqI\n\
        ocJJ8URZDaASYevPfIvqVFvFlOR5B4j2Sspzp7ECgYEAr+6BjQVHNkfUdoiYnnKg\n\
        Zlu9sJxDFxRlIrb0//C8KWxo7urWuTzQEpDqfCPd35Y+QBpkQWsYCKTLlXn+pHJD\n\
        CqUO0W25whG4VEtt03PUdR6YpKDApKuNT6A8n0UvAYpcna+5RB8bGxF7hOKn6uBM\n\
        KcWZQQdgaDD0T0cGUm9sPGECgYA88u3kBjafiRebjTVkikjrcTmLVRFS8bk1VCNc\n\
        Xlg8UvFS7mLeMy6ODqttpyTPnDWe4da7Ivcf0QGdwwsltYfsa628KsgaeADnoEOp\n\
        XIjKSRPHrK0gHQSUX2+x4jY2bMYKKhUO0LH/NseDTqwQ8sJ/uhdzr6hgGVXKTdgn\n\
        fEnD4QKBgG5/anFAoSWnvdNtofRh+SasR/oNNTBCspG7MxNU1L7vxuE7thIDHKRb\n\
        tFaO9x4FWxUs/smiFr53RvIpU+yNayG+CNA4nlEYFfzn12WELcEqHmlnFc5uqbw2\n\
        3KWsdQhhwT+pfJVNEGOI7yXQIkBiJvQSDQNDn/s/3YvXwKFg7Vyt\n\
        -----END RSA PRIVATE KEY-----\n";
    const ED25519_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIGMJCOboiWcdd8kyO+e54ydPN+9GDDjT2WzjpNntSbG/\n\
        -----END PRIVATE KEY-----\n";

    const MESSAGE: &str = "From: Joe SixPack <joe@football.example.com>\r\n\
        To: Suzie Q <suzie@shopping.example.net>\r\n\
        Subject: Is dinner ready?\r\n\
        Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
        Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\
        \r\n\
        Hi.\r\n\
        \r\n\
        We lost the game.  Are you hungry yet?\r\n\
        \r\n\
        Joe.\r\n";

    struct House {
        rsa: Signer,
        ed25519: Signer,
        records: HashMap<String, String>,
    }

    static HOUSE: LazyLock<House> = LazyLock::new(|| {
        let domain = Domain::parse("football.example.com").unwrap();
        let rsa = Signer::from_pem(&domain, "r1", RSA_PEM).unwrap();
        let ed25519 = Signer::from_pem(&domain, "e1", ED25519_PEM).unwrap();
        let records = [&rsa, &ed25519].map(|s| (s.record_name(), s.record().unwrap())).into();
        House { rsa, ed25519, records }
    });

    fn signed(message: &[u8]) -> Vec<u8> {
        let mut out = sign(&[&HOUSE.rsa, &HOUSE.ed25519], message, 1_700_000_000).unwrap();
        out.extend_from_slice(message);
        out
    }

    fn results(message: &[u8]) -> Vec<Result<(), Flaw>> {
        verify(message, &|name| HOUSE.records.get(name).cloned()).into_iter().map(|verdict| verdict.result).collect()
    }

    fn holds(message: &[u8]) {
        assert_eq!(results(message), [Ok(()), Ok(())], "{}", String::from_utf8_lossy(message));
    }

    fn body_hash(body: &str) -> String {
        STANDARD.encode(relaxed_body_hash(body.as_bytes()))
    }

    fn relaxed(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        relaxed_body(body, &mut |octets| out.extend_from_slice(octets));
        out
    }

    // RFC 8463 appendix A.
    #[test]
    fn the_example_of_rfc_8463_holds() {
        let message = format!(
            "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n \
             d=football.example.com; i=@football.example.com;\r\n \
             q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n \
             subject : date : message-id : from : subject : date;\r\n \
             bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
             b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n \
             Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n\
             DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n \
             d=football.example.com; i=@football.example.com;\r\n \
             q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n \
             date : message-id : from : subject : date;\r\n \
             bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n \
             b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n \
             DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n \
             dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n{MESSAGE}"
        );
        let lookup = |name: &str| match name {
            "brisbane._domainkey.football.example.com" => {
                Some("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".to_owned())
            }
            "test._domainkey.football.example.com" => Some(
                "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3id\
                 Y6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4\
                 hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
                    .to_owned(),
            ),
            _ => None,
        };
        let verdicts = verify(message.as_bytes(), &lookup);
        assert_eq!(verdicts.iter().map(|v| v.result.clone()).collect::<Vec<_>>(), [Ok(()), Ok(())]);
        assert_eq!((verdicts[0].selector.as_str(), verdicts[1].selector.as_str()), ("brisbane", "test"));
        let changed = message.replace("hungry", "angry");
        assert_eq!(verify(changed.as_bytes(), &lookup)[0].result, Err(Flaw::Body));
        let changed = message.replace("dinner", "supper");
        assert!(verify(changed.as_bytes(), &lookup).iter().all(|v| v.result == Err(Flaw::Signature)));
    }

    // RFC 6376 appendix A.2 with errata 3192 (the body's space) and 4926 (the indentation): simple/simple.
    #[test]
    fn the_example_of_rfc_6376_holds() {
        let message = format!(
            "DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;\r\n      \
             c=simple/simple; q=dns/txt; i=joe@football.example.com;\r\n      \
             h=Received : From : To : Subject : Date : Message-ID;\r\n      \
             bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n      \
             b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB\r\n      \
             4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut\r\n      \
             KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV\r\n      \
             4bmp/YzhwvcubU4=;\r\n\
             Received: from client1.football.example.com  [192.0.2.1]\r\n      \
             by submitserver.example.com with SUBMISSION;\r\n      \
             Fri, 11 Jul 2003 21:01:54 -0700 (PDT)\r\n{}\r\n\r\n",
            MESSAGE.replace("game.  Are", "game. Are")
        );
        let record = "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkM\
                      oGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/R\
                      tdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToI\
                      MmPSPDdQPNUYckcQ2QIDAQAB";
        let verdicts = verify(message.as_bytes(), &|_| Some(record.to_owned()));
        assert_eq!(verdicts[0].result, Ok(()));
        // Strict: i= must be d= itself.
        let strict = verify(message.as_bytes(), &|_| Some(format!("{record}; t=y:s")));
        assert_eq!(strict[0].result, Err(Flaw::Field("i= is not d=, as the record demands")));
        let changed = message.replace("Subject: Is", "Subject:  Is");
        assert_eq!(verify(changed.as_bytes(), &|_| Some(record.to_owned()))[0].result, Err(Flaw::Signature));
    }

    #[test]
    fn empty_bodies_have_their_known_hashes() {
        // SHA-256 of nothing, and of CRLF.
        for body in ["", "\r\n", "\r\n\r\n", " \t\r\n", " ", "\t\r\n \r\n"] {
            assert_eq!(body_hash(body), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "{body:?}");
        }
        for body in ["", "\r\n", "\r\n\r\n"] {
            let hash = STANDARD.encode(simple_body_hash(body.as_bytes()));
            assert_eq!(hash, "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=", "{body:?}");
        }
    }

    #[test]
    fn a_body_becomes_canonical() {
        let check = |body: &str, expected: &str| {
            assert_eq!(String::from_utf8(relaxed(body.as_bytes())).unwrap(), expected, "{body:?}");
        };
        // RFC 6376 3.4.5.
        check(" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n");
        check("a\r\n", "a\r\n");
        check("a", "a\r\n");
        check("a ", "a\r\n");
        check("\r\n\r\na\r\n", "\r\n\r\na\r\n");
        // Lines of white space alone at the end count as empty ones.
        check("a\r\n \t\r\n\r\n  ", "a\r\n");
        check("a\r\n \r\n\t\r\nb\r\n", "a\r\n\r\n\r\nb\r\n");
        check("a\tb\r\n\r\nc\r\n\r\n \r\nd  e", "a b\r\n\r\nc\r\n\r\n\r\nd e\r\n");
        check("\ta\r\n", " a\r\n");
        check("  a\r\n", " a\r\n");
        check("a\r\nb\r\n\r\nc  d\r\ne\r\n\r\n", "a\r\nb\r\n\r\nc d\r\ne\r\n");
    }

    #[test]
    fn both_signatures_hold_and_break_with_the_message() {
        let good = signed(MESSAGE.as_bytes());
        holds(&good);
        let text = String::from_utf8(good).unwrap();
        // What relays may do: fold and respace.
        holds(text.replace("Subject: Is dinner", "subject:   Is\r\n\tdinner ").as_bytes());
        holds(text.replace("lost the", "lost \t the").as_bytes());
        holds(format!("{text} \r\n\r\n").as_bytes());
        let broken = |from: &str, to: &str, flaw: Flaw| {
            assert!(text.contains(from));
            assert_eq!(results(text.replace(from, to).as_bytes()), [Err(flaw.clone()), Err(flaw)], "{from} {to}");
        };
        broken("Hi.", "Ho.", Flaw::Body);
        broken("Subject: Is", "Subject: Was", Flaw::Signature);
        broken("t=1700000000", "t=1700000001", Flaw::Signature);
        // Oversigned: a second From cannot be added above or below.
        broken("From: Joe", "From: evil@bank.test\r\nFrom: Joe", Flaw::Signature);
        broken("Subject: Is", "From: evil@bank.test\r\nSubject: Is", Flaw::Signature);
        broken("c=relaxed/relaxed", "c=relaxed/relaxed; l=3", Flaw::Field("l= leaves part of the body unsigned"));
        let elsewhere = results(text.replace("d=football", "d=tootball").as_bytes());
        assert_eq!(elsewhere[0], Err(Flaw::NoRecord("r1._domainkey.tootball.example.com".into())));
    }

    #[test]
    fn the_signed_fields_are_listed() {
        let message = "List-Unsubscribe: <https://e.example/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\
            FROM: a@football.example.com\r\nTo: b@example.net\r\nto: c@example.net\r\nFeedback-ID: a:b:c:d\r\nX-Mine: 1\r\n\
            Content-Type: text/plain\r\nMIME-Version: 1.0\r\nReferences: <x@y>\r\n\r\n";
        let field = String::from_utf8(sign(&[&HOUSE.ed25519], message.as_bytes(), 5).unwrap()).unwrap();
        let tags = Tags::parse(field.split_once(':').unwrap().1.as_bytes()).unwrap();
        let names = tags.get("h").unwrap().replace('\t', "");
        assert_eq!(
            names,
            "from:from:to:to:references:mime-version:content-type:feedback-id:list-unsubscribe:list-unsubscribe-post"
        );
        assert_eq!((tags.get("t").as_deref(), tags.get("x"), tags.get("l")), (Some("5"), None, None));
        assert!(field.ends_with("\r\n") && field.lines().all(|line| line.len() < 78), "{field}");
    }

    #[test]
    fn what_cannot_be_signed_is_refused() {
        let domain = Domain::parse("example.org").unwrap();
        assert_eq!(sign(&[&HOUSE.rsa], b"To: a@example.org\r\n\r\n", 0), Err(DkimError::NoFrom));
        assert_eq!(sign(&[], MESSAGE.as_bytes(), 0), Ok(Vec::new()));
        for selector in ["", "a b", "a;", "a..b", "ü", &"x".repeat(64)] {
            assert!(
                matches!(Signer::from_pem(&domain, selector, ED25519_PEM), Err(DkimError::Selector(_))),
                "{selector}"
            );
        }
        for pem in ["", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
            assert!(matches!(Signer::from_pem(&domain, "s", pem), Err(DkimError::Key)));
        }
        let encrypted = RSA_PEM.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert!(matches!(Signer::from_pem(&domain, "s", &encrypted), Err(DkimError::Key)));
    }

    #[test]
    fn a_key_is_the_same_in_either_form() {
        let pkcs1 = Signer::from_pem(HOUSE.rsa.domain(), "r1", RSA_PKCS1_PEM).unwrap();
        assert_eq!(pkcs1.record(), HOUSE.rsa.record());
        assert_eq!(sign(&[&pkcs1], MESSAGE.as_bytes(), 1), sign(&[&HOUSE.rsa], MESSAGE.as_bytes(), 1));
        // As openssl prints them.
        assert_eq!(
            HOUSE.rsa.record().unwrap(),
            "v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu2DkyMcC/+kzMIM2seVYOi6lms4aGq9iDU5+4124W497NhlWWB2tvbJf1FjCQHZANsaQj2l1GFfILRFIHzSQ71KUQI021CM4gaIW4Tp5YPPBwBknAjZQgOsCenA4YpYjHqcGvDfWKQVee5qjjyTd0zcrMheURbppAI2noAZcoFvusshDeIXeu+uighmeF0OicKkbKLgCXu6sHlsNlpksAZTs3aQRLO1IbXn9zVWWtrL2m2BJ38AGZj6j2JgdL06idER5ZUOwZLR/cp6nG49PJpeYXg09nYlRA7lJeTIKcLtuEvZa+HDg9NtzsUqBFVeHN5Thj2iGI10tAO5E0Tqj0QIDAQAB"
        );
        assert_eq!(
            HOUSE.ed25519.record().unwrap(),
            "v=DKIM1; k=ed25519; p=tTDsDZhnFVjlW5TqBv37w+CEYV8eUWGW8hE1i0zivaQ="
        );
        assert_eq!(format!("{:?}", HOUSE.rsa), "Signer(r1._domainkey.football.example.com, rsa-sha256)");
    }

    #[test]
    fn new_keys_sign() {
        let domain = Domain::parse("football.example.com").unwrap();
        for kind in [KeyKind::Rsa2048, KeyKind::Ed25519] {
            let pair = generate(kind).unwrap();
            let signer = Signer::from_pem(&domain, "new", &pair.private_pem).unwrap();
            let mut message = sign(&[&signer], MESSAGE.as_bytes(), 0).unwrap();
            message.extend_from_slice(MESSAGE.as_bytes());
            let verdicts =
                verify(&message, &|name| (name == "new._domainkey.football.example.com").then(|| pair.record.clone()));
            assert_eq!(verdicts[0].result, Ok(()));
            assert_ne!(generate(kind).unwrap().record, pair.record);
        }
    }

    #[test]
    fn records_are_judged() {
        let message = signed(MESSAGE.as_bytes());
        let check = |change: &dyn Fn(&str) -> String, expected: Result<(), Flaw>| {
            let verdicts = verify(&message, &|name| HOUSE.records.get(name).map(|record| change(record)));
            assert_eq!(verdicts[1].result, expected);
        };
        check(&|record| record.replace("v=DKIM1; ", ""), Ok(()));
        check(&|record| format!("{record}; h=sha1 : sha256; s=email; n=note"), Ok(()));
        check(&|record| format!("{record}; h=sha1"), Err(Flaw::Record("h= does not allow sha256")));
        check(&|record| format!("{record}; s=web"), Err(Flaw::Record("s= does not allow mail")));
        check(&|record| record.replace("DKIM1", "DKIM2"), Err(Flaw::Record("v= is not DKIM1")));
        check(&|record| record.replace("ed25519", "rsa"), Err(Flaw::Record("k= is not the kind of key that signed")));
        check(&|_| "v=DKIM1; k=ed25519; p=".into(), Err(Flaw::Revoked));
        check(&|_| "v=DKIM1; k=ed25519".into(), Err(Flaw::Record("p= is missing")));
        check(&|_| "nonsense".into(), Err(Flaw::Record("it is not a list of tags")));
        check(&|record| format!("{record}; p=x"), Err(Flaw::Record("it is not a list of tags")));
    }

    fn body() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(b"word".to_vec()),
            3 => Just(b" ".to_vec()),
            1 => Just(b"  ".to_vec()),
            1 => Just(b"\t".to_vec()),
            4 => Just(b"\r\n".to_vec()),
            1 => Just("ü.".as_bytes().to_vec()),
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    /// The rule of RFC 6376 3.4.4 step by step.
    fn relaxed_by_the_letter(body: &[u8]) -> Vec<u8> {
        let text = String::from_utf8(body.to_vec()).unwrap().replace('\t', " ");
        let mut lines: Vec<String> = text
            .split("\r\n")
            .map(|line| {
                let mut line = line.to_owned();
                while line.contains("  ") {
                    line = line.replace("  ", " ");
                }
                line.trim_end_matches(' ').to_owned()
            })
            .collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.iter().map(|line| format!("{line}\r\n")).collect::<String>().into_bytes()
    }

    proptest! {
        #[test]
        fn the_quick_way_is_the_letter(body in body()) {
            prop_assert_eq!(relaxed(&body), relaxed_by_the_letter(&body));
        }

        // D14
        #[test]
        fn random_messages_are_signed_and_hold(
            fields in proptest::collection::vec("(To|Subject|X-A|List-Id|Cc|from-x): ?[ -~]{0,60}(\r\n[ \t]{1,3}[!-~]{1,40})?[ \t]{0,2}", 0..6),
            body in body(),
        ) {
            let mut message = b"From: a@football.example.com\r\n".to_vec();
            for field in fields {
                message.extend_from_slice(field.as_bytes());
                message.extend_from_slice(b"\r\n");
            }
            message.extend_from_slice(b"\r\n");
            message.extend_from_slice(&body);
            let mut out = sign(&[&HOUSE.ed25519], &message, 1).unwrap();
            out.extend_from_slice(&message);
            prop_assert_eq!(results(&out), vec![Ok(())]);
        }

        #[test]
        fn no_octets_make_a_verifier_panic(field in "[ -~\r\n\t;=]{0,80}", rest in ".{0,40}") {
            let message = format!("From: a@b.c\r\nDKIM-Signature: v=1; a=rsa-sha256; {field}\r\n\r\n{rest}");
            let verdicts = verify(message.as_bytes(), &|name| HOUSE.records.get(name).cloned());
            prop_assert!(verdicts.iter().all(|verdict| verdict.result.is_err()));
        }
    }
}
