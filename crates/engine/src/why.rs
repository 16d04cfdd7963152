//! Why does it wait, why was it refused, why did it change? A stable code and words a customer can read.
//!
//! Log, API, console and notices all print these words and no others.

use crate::judged::{Ordered, Step};
use crate::suppression::Reason;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    // Waits: the message itself.
    /// Scheduled, or between two tries.
    NotYetDue,
    HeldByOrder,
    InTransfer,
    WaitingItsTurn,
    Deferred,
    Greylisted,
    ConnectionLost,
    OutcomeUnknown,
    TooManyRecipients,
    RecipientBusy,
    SenderDomainSuspended {
        said: String,
    },
    StreamSuspended {
        said: String,
    },
    // Waits: DNS.
    Resolving,
    DnsUnavailable {
        said: String,
    },
    DomainUnknownSoFar,
    // Waits: the lane and its IP.
    RateUsed,
    ConnectionsInUse,
    SessionsInUse,
    LaneSlowed {
        said: String,
    },
    LaneSuspended {
        said: String,
    },
    LaneSuspendedByOrder,
    SiteUnreachable {
        said: String,
    },
    TlsUnavailable {
        said: String,
    },
    IpMissing {
        ip: IpAddr,
    },
    IpBenched {
        ip: IpAddr,
        said: String,
    },
    IpGivenUp {
        ip: IpAddr,
    },
    NoIpLeft,
    Stopping,
    // Ends.
    RefusedByRemote,
    TriesUsed,
    DomainUnknown,
    DomainTakesNoMail,
    PrivateAddress {
        said: String,
    },
    LifetimeOver,
    DeletedByOrder,
    // Refusals at the door.
    QueueFull,
    PoolUnknown {
        pool: String,
    },
    PoolEmpty {
        pool: String,
    },
    NoPool,
    // Changes.
    ReleasedByOrder,
    RetriedByOrder,
    IpBack {
        ip: IpAddr,
    },
    SuspensionOver,
    DelayNoticeDue,
    // New ones stand at the end: the spool knows them by their number.
    MessageUnreadable {
        said: String,
    },
    NotSendable,
    /// An enterprise account sends from dedicated IPs only.
    NoDedicatedIp,
    CancelledBySender,
    /// Why this pool carries a message whose time has come; `instead_of` what was meant and is gone or empty by now (R2.3).
    PoolChosen {
        rule: PoolRule,
        instead_of: Option<String>,
    },
    /// It is on the account's suppression list (R5.5).
    RecipientSuppressed {
        reason: Reason,
    },
    /// The recipient wants no more of this; empty: of mail without a stream.
    StreamLeft {
        stream: String,
    },
    /// Its IP warms up and has no place for it now (R4.2); of so many recipients.
    AllowanceUsed {
        ip: IpAddr,
        recipients: u32,
    },
    /// A step of a warm-up.
    WarmUp(Step),
    WarmUpOrdered(Ordered),
    /// It is queued, and its account may not send at present (R6.3).
    AccountPaused {
        reason: String,
    },
    /// It was moved to a relay that cannot be reached, and goes back to its pool.
    RelayUnreachable {
        relay: String,
        said: String,
    },
    /// Its IP warms up, and keeps its places for recipients who were active lately; of so many recipients.
    KeptForActive {
        ip: IpAddr,
        recipients: u32,
    },
    /// The address is the simulator's (R7.1).
    Simulated,
}

/// Which rule of R2.1 chose the pool. New ones stand at the end: the spool knows them by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolRule {
    NamedOnMessage,
    AccountDefault,
    Shared,
    ConfigurationSet,
    Subaccount,
    TestDrive,
}

impl Why {
    /// Never changes once published.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Why::NotYetDue => "not-yet-due",
            Why::HeldByOrder => "held-by-order",
            Why::InTransfer => "in-transfer",
            Why::WaitingItsTurn => "waiting-its-turn",
            Why::Deferred => "deferred",
            Why::Greylisted => "greylisted",
            Why::ConnectionLost => "connection-lost",
            Why::OutcomeUnknown => "outcome-unknown",
            Why::TooManyRecipients => "too-many-recipients",
            Why::RecipientBusy => "recipient-busy",
            Why::SenderDomainSuspended { .. } => "sender-domain-suspended",
            Why::StreamSuspended { .. } => "stream-suspended",
            Why::Resolving => "resolving",
            Why::DnsUnavailable { .. } => "dns-unavailable",
            Why::DomainUnknownSoFar => "domain-unknown-so-far",
            Why::RateUsed => "rate-used",
            Why::ConnectionsInUse => "connections-in-use",
            Why::SessionsInUse => "sessions-in-use",
            Why::LaneSlowed { .. } => "lane-slowed",
            Why::LaneSuspended { .. } => "lane-suspended",
            Why::LaneSuspendedByOrder => "lane-suspended-by-order",
            Why::SiteUnreachable { .. } => "site-unreachable",
            Why::TlsUnavailable { .. } => "tls-unavailable",
            Why::IpMissing { .. } => "ip-missing",
            Why::IpBenched { .. } => "ip-benched",
            Why::IpGivenUp { .. } => "ip-given-up",
            Why::NoIpLeft => "no-ip-left",
            Why::Stopping => "stopping",
            Why::RefusedByRemote => "refused-by-remote",
            Why::TriesUsed => "tries-used",
            Why::DomainUnknown => "domain-unknown",
            Why::DomainTakesNoMail => "domain-takes-no-mail",
            Why::PrivateAddress { .. } => "private-address",
            Why::LifetimeOver => "lifetime-over",
            Why::DeletedByOrder => "deleted-by-order",
            Why::QueueFull => "queue-full",
            Why::PoolUnknown { .. } => "pool-unknown",
            Why::PoolEmpty { .. } => "pool-empty",
            Why::NoPool => "no-pool",
            Why::ReleasedByOrder => "released-by-order",
            Why::RetriedByOrder => "retried-by-order",
            Why::IpBack { .. } => "ip-back",
            Why::SuspensionOver => "suspension-over",
            Why::DelayNoticeDue => "delay-notice-due",
            Why::NoDedicatedIp => "no-dedicated-ip",
            Why::CancelledBySender => "cancelled-by-sender",
            Why::PoolChosen { rule, .. } => rule.code(),
            Why::RecipientSuppressed { .. } => "recipient-suppressed",
            Why::StreamLeft { .. } => "stream-left",
            Why::AllowanceUsed { .. } => "warm-up-allowance-used",
            Why::WarmUp(step) => step.judged.code(),
            Why::WarmUpOrdered(ordered) => ordered.code(),
            Why::AccountPaused { .. } => "account-paused",
            Why::RelayUnreachable { .. } => "relay-unreachable",
            Why::KeptForActive { .. } => "kept-for-active-recipients",
            Why::Simulated => "simulated",
            Why::MessageUnreadable { .. } => "message-unreadable",
            Why::NotSendable => "not-sendable",
        }
    }

    /// A sentence without its full stop.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Why::NotYetDue => "its time has not come yet".into(),
            Why::HeldByOrder => "an operator holds it".into(),
            Why::InTransfer => "it is being handed over now".into(),
            Why::WaitingItsTurn => "it waits for its turn".into(),
            Why::Deferred => "the remote asked to try again later".into(),
            Why::Greylisted => "the remote greets unknown senders with a delay; the same IP tries again".into(),
            Why::ConnectionLost => "the connection ended before the remote answered".into(),
            Why::OutcomeUnknown => {
                "the connection ended after the message was sent and before the remote answered; it may arrive twice"
                    .into()
            }
            Why::TooManyRecipients => "the remote takes fewer recipients at a time".into(),
            Why::RecipientBusy => "the recipient gets more mail than the remote allows at the moment".into(),
            Why::SenderDomainSuspended { said } => {
                format!("the provider refuses mail of the sending domain for a while: {said}")
            }
            Why::StreamSuspended { said } => format!("the provider refuses this stream of mail for a while: {said}"),
            Why::Resolving => "the recipient's domain is being looked up".into(),
            Why::DnsUnavailable { said } => format!("the recipient's domain cannot be looked up at the moment: {said}"),
            Why::DomainUnknownSoFar => {
                "the recipient's domain was not found; it is looked up once more before giving up".into()
            }
            Why::RateUsed => "this IP's rate towards the provider is used up for the moment".into(),
            Why::ConnectionsInUse => "all connections this IP may have to the provider are in use".into(),
            Why::SessionsInUse => "all connections this machine may have are in use".into(),
            Why::LaneSlowed { said } => format!("this IP sends slowly to the provider for a while: {said}"),
            Why::LaneSuspended { said } => format!("this IP does not send to the provider for a while: {said}"),
            Why::LaneSuspendedByOrder => "an operator stopped this IP's mail to the provider".into(),
            Why::SiteUnreachable { said } => format!("the recipient's mail servers cannot be reached: {said}"),
            Why::TlsUnavailable { said } => {
                format!("the protected connection that is required could not be had: {said}")
            }
            Why::IpMissing { ip } => format!("the address {ip} is missing on this machine"),
            Why::IpBenched { ip, said } => {
                format!("{ip} does not send to the provider for longer than this message can wait: {said}")
            }
            Why::IpGivenUp { ip } => format!("{ip} is gone for good"),
            Why::NoIpLeft => "no IP of its route can send at the moment".into(),
            Why::Stopping => "the service is stopping".into(),
            Why::RefusedByRemote => "the remote refused it for good".into(),
            Why::TriesUsed => "the remote refused it too often".into(),
            Why::DomainUnknown => "the recipient's domain does not exist".into(),
            Why::DomainTakesNoMail => "the recipient's domain says that it takes no mail".into(),
            Why::PrivateAddress { said } => format!("the recipient's mail server is not one we may connect to: {said}"),
            Why::LifetimeOver => "it could not be delivered within its lifetime".into(),
            Why::DeletedByOrder => "an operator deleted it".into(),
            Why::QueueFull => "the queue is full".into(),
            Why::PoolUnknown { pool } => format!("there is no pool {pool}"),
            Why::PoolEmpty { pool } => format!("the pool {pool} has no IP that can send"),
            Why::NoPool => "the account has no pool with an IP that can send, and no shared one to fall back to".into(),
            Why::ReleasedByOrder => "an operator released it".into(),
            Why::RetriedByOrder => "an operator asked for a try now".into(),
            Why::IpBack { ip } => format!("the address {ip} is back on this machine"),
            Why::SuspensionOver => "the suspension is over".into(),
            Why::DelayNoticeDue => "it has been waiting for long and is still tried".into(),
            Why::MessageUnreadable { said } => format!("the message cannot be read from the queue here: {said}"),
            Why::NotSendable => "it cannot be handed to the remote as it is".into(),
            Why::NoDedicatedIp => {
                "the account's default pool has no IP that can send; an enterprise account has no shared one to fall back to"
                    .into()
            }
            Why::CancelledBySender => "its sender cancelled it before its time came".into(),
            Why::RecipientSuppressed { reason } => {
                format!("it is on the suppression list, because {}; take it off the list to write to it again", reason.words())
            }
            Why::StreamLeft { stream } if stream.is_empty() => "the recipient wants no more of it".into(),
            Why::StreamLeft { stream } => format!("the recipient wants no more of the stream {stream}"),
            Why::AllowanceUsed { ip, .. } => {
                format!("{ip} warms up, and what it may send to the provider by now is used")
            }
            Why::WarmUp(step) => step.words(),
            Why::WarmUpOrdered(ordered) => ordered.words(),
            Why::AccountPaused { reason } => format!("the account is paused: {reason}"),
            Why::KeptForActive { ip, .. } => {
                format!("{ip} warms up, and its first places are for recipients who opened or clicked lately")
            }
            Why::Simulated => "the address is the simulator's, and nothing was sent".into(),
            Why::RelayUnreachable { relay, said } => format!("the relay {relay} cannot be reached: {said}"),
            Why::PoolChosen { rule, instead_of: None } => rule.words().into(),
            Why::PoolChosen { rule, instead_of: Some(pool) } => {
                let carries = if *rule == PoolRule::Shared { "the shared pool" } else { "the account's default pool" };
                format!("its time came and the pool {pool} was gone or had no IP that can send, so {carries} carries it")
            }
        }
    }
}

impl PoolRule {
    /// Never changes once published.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            PoolRule::NamedOnMessage => "named-on-message",
            PoolRule::ConfigurationSet => "configuration-set",
            PoolRule::Subaccount => "subaccount",
            PoolRule::AccountDefault => "account-default",
            PoolRule::Shared => "shared",
            PoolRule::TestDrive => "test-drive",
        }
    }

    /// A sentence without its full stop.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            PoolRule::NamedOnMessage => "the pool was named on the message",
            PoolRule::ConfigurationSet => "no pool was named, so the configuration set's pool carries it",
            PoolRule::Subaccount => "no pool was named, so the subaccount's pool carries it",
            PoolRule::AccountDefault => "no pool was named, so the account's default pool carries it",
            PoolRule::Shared => {
                "no pool was named and the account has no default pool with an IP, so the shared pool carries it"
            }
            PoolRule::TestDrive => {
                "the configuration set has a test drive, and this recipient is on its new side, so the new pool carries it"
            }
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words())
    }
}
