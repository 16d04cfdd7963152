//! What came of an attempt to hand a message over, or of an attempt to connect?

use crate::suppression::Reason;
use mail::reply::Reply;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the host reports of one transaction.
#[derive(Clone, Debug)]
pub struct Report {
    /// One per recipient of the attempt, by its index in the envelope. A recipient that is missing here counts as `NotTried`.
    pub results: Vec<(u16, Outcome)>,
    /// The remote host that was spoken to, if the connection got that far.
    pub host: Option<String>,
    pub tls: Option<TlsUsed>,
    pub took: Duration,
    /// May the connection carry another message? When `false` the connection is over: no `SessionClosed` follows.
    pub session_usable: bool,
}

/// What one recipient was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The remote answered. Delivered if this is a positive reply at the end of the data.
    Answered { stage: Stage, reply: Reply },
    /// The connection ended without an answer. At `Stage::End` nobody knows whether the message was taken.
    Lost { stage: Stage },
    /// Not offered in this transaction (the remote takes fewer recipients, for example): goes again at once, nothing counted.
    NotTried,
    /// Our own verdict instead of the remote's: the peer lacks what the message needs, such as SMTPUTF8. It says nothing about the
    /// lane.
    Ours { reply: Reply },
    /// It came onto the suppression list while the message waited: nothing was sent to it (R5.5).
    Suppressed { reason: Reason },
    /// The message cannot be read from the spool: nothing was sent. It says nothing about the remote.
    Unreadable { said: String },
}

/// How far a transaction had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Mail,
    Recipient,
    Data,
    End,
}

/// How the connection was protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsUsed {
    /// As the library names it: "TLSv1.3".
    pub version: String,
    pub cipher: String,
    pub verified: TlsVerified,
}

/// What was known about the peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsVerified {
    /// Encrypted, the name not checked: opportunistic.
    No,
    Sts,
    Dane,
    /// By the usual authorities, where the sender required it.
    WebPki,
}

/// Why a connection never became ready for mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    pub kind: ConnectFailureKind,
    /// The last host that was tried.
    pub host: Option<String>,
    /// What the remote said, where it said something (banner, EHLO, STARTTLS).
    pub reply: Option<Reply>,
    /// The fault in words.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectFailureKind {
    /// The address to send from is not on this machine (EADDRNOTAVAIL).
    AddressMissing,
    Refused,
    Unreachable,
    TimedOut,
    /// The peer closed or broke the connection before it was ready.
    Closed,
    /// Banner, EHLO or STARTTLS was answered with a refusal; the reply is given.
    Greeting,
    /// Protection that is required could not be had: not offered, handshake failed, or the certificate did not fit.
    Tls,
    /// No address of any of the site's hosts could be found.
    Dns,
    /// Our own side: no file descriptors, no memory. Says nothing about the site.
    Local,
}
