//! What comes in and what goes out?

use super::Learned;
use crate::attempt::{ConnectFailure, Report};
use crate::envelope::{Envelope, MessageState, TlsWish};
use crate::event::Event;
use crate::id::{AccountId, AttemptId, MessageId, PoolId, SessionId, SubaccountId};
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::why::Why;
use mail::address::Domain;
use mail::reply::Reply;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message is durable. `state` is given after a restart.
    Accepted {
        envelope: Arc<Envelope>,
        state: Option<MessageState>,
    },
    /// The answer to `Action::Resolve`.
    Resolved {
        domain: Domain,
        answer: Resolution,
    },
    /// The connection is ready for mail.
    SessionOpened {
        session: SessionId,
        host: String,
    },
    /// The connection never became ready, and is gone.
    SessionFailed {
        session: SessionId,
        failure: ConnectFailure,
    },
    /// The connection is gone, by our wish or the remote's (then with its last words). The attempt on it, if any, was reported before.
    SessionClosed {
        session: SessionId,
        reply: Option<Reply>,
    },
    AttemptEnded {
        attempt: AttemptId,
        report: Report,
    },
    /// The address cannot be bound any more.
    IpGone {
        ip: IpAddr,
        said: String,
    },
    IpBack {
        ip: IpAddr,
    },
    SnapshotChanged(Arc<Snapshot>),
    /// All that was queued at the start is told: from here on it is known what is queued on an IP.
    Recovered,
    /// What `Engine::learned` said before the restart. Before any message.
    Learned(Learned),
    /// After that, one by one and in their order: what happened since `Engine::learned` said it.
    Past(Box<Event>),
    /// Something came back of a message that is queued no more: a complaint, a bounce.
    Heard(Box<Event>),
    Order(Order),
    /// A deadline has come.
    Tick,
    /// No new connection and no new attempt from now on; sessions without one are closed.
    Stopping,
}

/// What DNS says about a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// `site` names the set of hosts that connections are shared for. Two domains whose connections must not be shared (because their
    /// TLS policies differ) get two names. `hosts` are all MX hosts, to find the provider.
    Site {
        site: String,
        hosts: Vec<String>,
        valid_for: Duration,
    },
    NoSuchDomain,
    NullMx,
    /// All hosts are private, loopback or ourselves: not connected to.
    Refused {
        said: String,
    },
    Later {
        said: String,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Look the domain up; exactly one `Resolved` is to follow. `anew`: answers that are remembered do not count.
    Resolve {
        domain: Domain,
        anew: bool,
    },
    /// Connect from `source` (a key of `Snapshot::ips`) to the hosts of `domain`; `SessionOpened` or `SessionFailed` is to follow.
    Open {
        session: SessionId,
        source: IpAddr,
        domain: Domain,
        tls: TlsWish,
    },
    /// Hand the message over; exactly one `AttemptEnded` is to follow.
    Attempt {
        session: SessionId,
        attempt: AttemptId,
        message: MessageId,
        recipients: Vec<u16>,
    },
    /// What `Engine::learned` says has changed, and is to outlive the process.
    Remember,
    /// Say good-bye; `SessionClosed` is to follow. A session that is still being opened is given up.
    Close {
        session: SessionId,
    },
    /// Write down how the message stands; when `finished`, it may leave the spool.
    Settle {
        message: MessageId,
        state: MessageState,
        finished: bool,
        events: Vec<Event>,
    },
    /// Tell the sender (DSN). Which recipients asked for it was looked at already. Comes before the `Settle` that says what
    /// happened to them, so that the message does not leave the spool before its notice is written.
    Notify {
        message: MessageId,
        recipients: Vec<u16>,
        kind: NotifyKind,
    },
    /// An event of no message.
    Record(Event),
    Alarm(Alarm),
    /// Try whether the address can be bound again; `IpBack` or `IpGone` is to follow.
    CheckIp {
        ip: IpAddr,
    },
}

/// What a notice to the sender says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotifyKind {
    Failed,
    Delayed,
    /// Handed to a remote, asked for by NOTIFY=SUCCESS: RFC 3461 "relayed".
    Relayed,
}

/// Something the operator must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub at: Timestamp,
    pub ip: Option<IpAddr>,
    pub provider: Option<Arc<str>>,
    pub account: Option<AccountId>,
    /// A stable name: "ip-missing", or the rule that raised it.
    pub code: String,
    pub words: String,
}

/// What an operator commands. It concerns what is queued now, not what comes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Hold(Filter),
    Release(Filter),
    /// Try now, whatever the schedule says; waits for connections that failed are over too, and what DNS said is asked anew.
    Retry(Filter),
    Delete(Filter),
    /// The sender wants a scheduled message back; see `Engine::cancellable`.
    Cancel(MessageId),
    SuspendLane {
        ip: IpAddr,
        provider: String,
        until: Option<Timestamp>,
    },
    ResumeLane {
        ip: IpAddr,
        provider: String,
    },
}

/// Which messages are meant: those that every given field fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub message: Option<MessageId>,
    pub account: Option<AccountId>,
    pub subaccount: Option<SubaccountId>,
    /// By its id or its name.
    pub pool: Option<PoolId>,
    /// The recipient's.
    pub domain: Option<Domain>,
    /// Of a message whose addresses are hidden (R2.8) this is asked in vain, unless `sees_hidden`.
    pub ip: Option<IpAddr>,
    pub provider: Option<String>,
    /// Whoever asks is the operator.
    pub sees_hidden: bool,
}

/// May a message be cancelled?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellable {
    Yes,
    /// Its time has come, or it never was scheduled.
    Leaving,
    /// It is not queued any more.
    Gone,
    /// Not all that is queued is known yet.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages that may be queued at one time.
    pub queue_messages_max: u64,
    /// Outgoing connections of all lanes together.
    pub sessions_max: u32,
    /// Last answers kept word for word; beyond it, messages whose answers differ only in their numbers share one.
    pub answers_max: u32,
    /// Domains that are being looked up at one time.
    pub resolves_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { queue_messages_max: 5_000_000, sessions_max: 10_000, answers_max: 100_000, resolves_max: 500 }
    }
}

/// May another message come in?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    For(u64),
    Full(Why),
}
