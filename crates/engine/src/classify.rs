//! What did the provider's answer mean?

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A reply, understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Meaning {
    pub class: Class,
    pub subtype: Subtype,
    /// The rule of the rule file that said so; "enhanced 5.1.1" or "basic 550" where a table did.
    pub rule: Arc<str>,
}

/// R5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The address does not take mail and will not.
    Hard,
    /// It may work later.
    Soft,
    /// It is about us: our IP, our domain, our content.
    Block,
    /// Our own policy or set-up.
    Admin,
    /// The reply does not say.
    Undetermined,
    /// We are to send slower.
    Throttle,
}

/// A closer word for the class. Vendors' codes are translated from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Subtype {
    General,
    UnknownUser,
    UnknownDomain,
    Inactive,
    MailboxFull,
    TooLarge,
    TooManyRecipients,
    Greylisted,
    IpRate,
    IpReputation,
    NetblockRate,
    DomainRate,
    DomainReputation,
    RecipientRate,
    LinkReputation,
    Connections,
    SessionLength,
    Overload,
    BlockList,
    SpamContent,
    Attachment,
    DuplicateMessageId,
    Authentication,
    ReverseDns,
    TlsNeeded,
    Policy,
    Relaying,
    DnsFailure,
    Timeout,
    Connection,
    Protocol,
    SenderAddress,
    Loop,
    Expired,
    SystemFull,
    Transient,
    Own,
}

/// The rule file, ready for use. Shipped as `rules/replies.toml`, replaceable by the operator.
#[derive(Clone, Debug, Default)]
pub struct Rules {}

/// What is wrong with a rule file: which rule, which field, which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}: {field}: {what}")]
pub struct RuleError {
    pub line: usize,
    /// The rule's name, or "file" when it could not be read so far.
    pub rule: String,
    pub field: String,
    pub what: String,
}

impl Rules {
    /// The rules that come with this release.
    #[must_use]
    pub fn shipped() -> Rules {
        Rules::default()
    }

    pub fn parse(_text: &str) -> Result<Rules, RuleError> {
        Ok(Rules::default())
    }
}
