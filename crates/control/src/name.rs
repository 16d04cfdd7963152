//! What may things be called? Each rule is one function, and says what is wrong with a name in words.

use crate::refusal::Refusal;
use mail::address::Domain;

const ACCOUNT_LETTERS_MAX: usize = 64;
const REGION_LETTERS_MAX: usize = 32;
/// SES: at most 64; SparkPost: at most 20 letters and digits, which its own surface asks for (R2.6).
const POOL_LETTERS_MAX: usize = 64;
const LABEL_LETTERS_MAX: usize = 128;

/// Of accounts and subaccounts: what people read.
pub(crate) fn account(name: &str) -> Result<String, Refusal> {
    let name = name.trim();
    let fits = (1..=ACCOUNT_LETTERS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if fits {
        return Ok(name.to_owned());
    }
    Err(Refusal::invalid(
        "name",
        format!("A name has 1 to {ACCOUNT_LETTERS_MAX} characters, and no control characters."),
        "Choose a shorter, plain name.",
    ))
}

pub(crate) fn region(name: &str) -> Result<String, Refusal> {
    plain(name, REGION_LETTERS_MAX, "region", |letter| {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-'
    })
}

/// Of domains that send: a name that somebody can have registered.
pub(crate) fn domain(name: &str) -> Result<Domain, Refusal> {
    let refused = |sentence: String| Refusal::invalid("name", sentence, "Give a domain of yours, such as example.com.");
    let domain = Domain::parse(name.trim()).map_err(|error| refused(format!("This is no domain: {error}.")))?;
    let own = domain.as_str();
    if !own.contains('.') {
        return Err(refused(format!("{own} is a single label; nobody else knows it.")));
    }
    // Names in the private part of the list (github.io) belong to somebody who can show it; those of registries cover strangers.
    let registry = |suffix: &psl::Suffix<'_>| suffix.typ() == Some(psl::Type::Icann) && *suffix == own.as_bytes();
    if psl::suffix(own.as_bytes()).as_ref().is_some_and(registry) {
        return Err(refused(format!("{own} is a public suffix: names below it belong to many.")));
    }
    Ok(domain)
}

/// Of pools: SES's own rule, upper case let in for SparkPost's.
pub(crate) fn pool(name: &str) -> Result<String, Refusal> {
    plain(name, POOL_LETTERS_MAX, "name", |letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
}

/// Of configuration sets: SES's rule.
pub(crate) fn set(name: &str) -> Result<String, Refusal> {
    pool(name)
}

fn plain(name: &str, letters_max: usize, field: &str, may: impl Fn(char) -> bool) -> Result<String, Refusal> {
    if (1..=letters_max).contains(&name.len()) && name.chars().all(may) {
        return Ok(name.to_owned());
    }
    Err(Refusal::invalid(
        field,
        format!(
            "This name has 1 to {letters_max} letters and digits, and `-` or `_` where they are allowed; no blanks."
        ),
        "Choose another, such as news-1.",
    ))
}

/// Of credentials: a remark for whoever looks at the list.
pub(crate) fn label(name: &str) -> Result<String, Refusal> {
    let name = name.trim();
    if name.chars().count() <= LABEL_LETTERS_MAX && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(Refusal::invalid(
        "name",
        format!("A name has at most {LABEL_LETTERS_MAX} characters, and no control characters."),
        "Choose a shorter, plain name.",
    ))
}
