//! What may be done with a case, and what does it become? (R7.3, R7.4, R3.1 to R3.5)
//!
//! A case is a request that a person or a policy answers. Its life is a table; whoever does something that does not fit is told what
//! does.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// R7.3: the first answer is due within a day.
pub const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(86_400);
/// R3.2: what an IP that is warm carries a second, all providers together: about a million messages in a day without a pause.
pub const PER_SECOND_OF_IP: u32 = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseKind {
    /// R3.1
    DedicatedIps,
    /// R3.5
    Relinquish,
    /// R3.8
    ManagedPool,
    /// R7.3
    Quota,
    /// R7.1
    LeaveSandbox,
}

pub const CASE_KINDS: [CaseKind; 5] =
    [CaseKind::DedicatedIps, CaseKind::Relinquish, CaseKind::ManagedPool, CaseKind::Quota, CaseKind::LeaveSandbox];

impl CaseKind {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            CaseKind::DedicatedIps => "dedicated-ips",
            CaseKind::Relinquish => "relinquish",
            CaseKind::ManagedPool => "managed-pool",
            CaseKind::Quota => "quota",
            CaseKind::LeaveSandbox => "leave-sandbox",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<CaseKind> {
        CASE_KINDS.into_iter().find(|kind| kind.code() == code)
    }
}

/// How a case stands (R7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseState {
    /// The operator's turn.
    Open,
    /// The customer's turn.
    Waiting,
    Granted,
    PartlyGranted,
    Denied,
    /// R3.5: what is given back is given back.
    Confirmed,
    /// Over without any of that.
    Closed,
}

pub const CASE_STATES: [CaseState; 7] = [
    CaseState::Open,
    CaseState::Waiting,
    CaseState::Granted,
    CaseState::PartlyGranted,
    CaseState::Denied,
    CaseState::Confirmed,
    CaseState::Closed,
];

impl CaseState {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            CaseState::Open => "open",
            CaseState::Waiting => "waiting",
            CaseState::Granted => "granted",
            CaseState::PartlyGranted => "partly-granted",
            CaseState::Denied => "denied",
            CaseState::Confirmed => "confirmed",
            CaseState::Closed => "closed",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<CaseState> {
        CASE_STATES.into_iter().find(|state| state.code() == code)
    }

    /// Somebody's turn, still.
    #[must_use]
    pub fn is_pending(self) -> bool {
        matches!(self, CaseState::Open | CaseState::Waiting)
    }

    /// In which a case of this kind begins: one that gives back waits for its confirmation, and for nothing else.
    #[must_use]
    pub fn first(kind: CaseKind) -> CaseState {
        if kind == CaseKind::Relinquish { CaseState::Waiting } else { CaseState::Open }
    }
}

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CaseAct {
    /// The customer says something.
    Say,
    /// The operator says something, and waits for no answer.
    Answer,
    /// The operator asks something.
    Ask,
    Grant,
    GrantPartly,
    Deny,
    /// The customer confirms that it gives back.
    Confirm,
    /// Either side ends it.
    Close,
    /// The customer is not content.
    Reopen,
}

pub const CASE_ACTS: [CaseAct; 9] = [
    CaseAct::Say,
    CaseAct::Answer,
    CaseAct::Ask,
    CaseAct::Grant,
    CaseAct::GrantPartly,
    CaseAct::Deny,
    CaseAct::Confirm,
    CaseAct::Close,
    CaseAct::Reopen,
];

/// What the case becomes; none: that is not possible.
#[must_use]
pub fn after(kind: CaseKind, state: CaseState, act: CaseAct) -> Option<CaseState> {
    use CaseAct::{Answer, Ask, Close, Confirm, Deny, Grant, GrantPartly, Reopen, Say};
    use CaseState::{Closed, Confirmed, Denied, Granted, Open, PartlyGranted, Waiting};
    let gives_back = kind == CaseKind::Relinquish;
    match (state, act) {
        // Only the confirmation moves what gives back: nobody grants it, and talk does not.
        (Waiting, Confirm) if gives_back => Some(Confirmed),
        (Waiting, Say | Answer | Ask) if gives_back => Some(Waiting),
        (_, Confirm) => None,
        (Open | Waiting, Say) => Some(Open),
        (Open | Waiting, Answer) => Some(state),
        (Open | Waiting, Ask) => Some(Waiting),
        (Open | Waiting, Grant) if !gives_back => Some(Granted),
        (Open | Waiting, GrantPartly) if !gives_back => Some(PartlyGranted),
        (Open | Waiting, Deny) if !gives_back => Some(Denied),
        (Open | Waiting, Close) => Some(Closed),
        // What was given back cannot be had again by asking why; and what was granted in full leaves nothing to ask for.
        (PartlyGranted | Denied | Closed, Reopen) if !gives_back => Some(Open),
        _ => None,
    }
}

/// R3.2: how many IPs this rate needs, and how that was found.
#[must_use]
pub fn ips_for(per_second: u32) -> (u32, String) {
    let ips = per_second.div_ceil(PER_SECOND_OF_IP).max(1);
    let words = format!(
        "{per_second} messages a second / {PER_SECOND_OF_IP} that an IP carries once it is warm = {}.{}, so {ips}. Each needs some 1,000 \
         messages a day to each large provider to stay warm.",
        per_second / PER_SECOND_OF_IP,
        per_second % PER_SECOND_OF_IP * 10 / PER_SECOND_OF_IP,
    );
    (ips, words)
}

#[cfg(test)]
mod tests {
    use super::{CASE_ACTS, CASE_KINDS, CASE_STATES, CaseAct, CaseKind, CaseState, after, ips_for};

    // R7.4: who ends one answer twice, or confirms twice, is told that it is over.
    #[test]
    fn what_is_answered_is_answered_once() {
        for kind in CASE_KINDS {
            for state in CASE_STATES.into_iter().filter(|state| !state.is_pending()) {
                for act in CASE_ACTS.into_iter().filter(|act| *act != CaseAct::Reopen) {
                    assert_eq!(after(kind, state, act), None, "{kind:?} {state:?} {act:?}");
                }
            }
        }
        assert_eq!(after(CaseKind::Quota, CaseState::Denied, CaseAct::Reopen), Some(CaseState::Open));
        assert_eq!(after(CaseKind::Quota, CaseState::Granted, CaseAct::Reopen), None);
    }

    // R3.5: nothing but the confirmation gives back, and nothing undoes it.
    #[test]
    fn only_a_confirmation_gives_back() {
        let first = CaseState::first(CaseKind::Relinquish);
        for act in CASE_ACTS {
            let expected = match act {
                CaseAct::Confirm => Some(CaseState::Confirmed),
                CaseAct::Close => Some(CaseState::Closed),
                CaseAct::Say | CaseAct::Answer | CaseAct::Ask => Some(CaseState::Waiting),
                _ => None,
            };
            assert_eq!(after(CaseKind::Relinquish, first, act), expected, "{act:?}");
            assert_eq!(after(CaseKind::Relinquish, CaseState::Confirmed, act), None, "{act:?}");
            assert_ne!(after(CaseKind::DedicatedIps, CaseState::Waiting, act), Some(CaseState::Confirmed), "{act:?}");
        }
    }

    // R3.2
    #[test]
    fn the_number_of_ips_follows_from_the_rate() {
        assert_eq!([0, 1, 10, 11, 95].map(|rate| ips_for(rate).0), [1, 1, 1, 2, 10]);
        let words = ips_for(25).1;
        assert!(words.contains("25 messages a second / 10") && words.contains("= 2.5, so 3"), "{words}");
    }
}
