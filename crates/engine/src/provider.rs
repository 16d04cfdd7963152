//! Which mailbox provider stands behind these MX hosts, and how does it want to be treated?

use crate::classify::RuleError;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How one IP treats one provider before any answer taught it better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRules {
    pub connections_max: u32,
    pub messages_per_connection: u32,
    /// 0: no such limit. Both hold where both are given.
    pub messages_per_second: u32,
    pub messages_per_minute: u32,
    pub recipients_per_transaction: u16,
    /// Begin with one connection and double after each `ramp_messages` accepted; else open what is needed at once.
    pub ramp: bool,
    pub ramp_messages: u32,
    /// An open connection without mail is closed after this.
    pub idle: Duration,
    /// The provider takes no mail in clear: protection is required whatever the sender asked, but for `TlsWish::Never`.
    pub tls_required: bool,
}

/// What the operator's file changes for one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneChange {
    pub connections_max: Option<u32>,
    pub messages_per_connection: Option<u32>,
    pub messages_per_second: Option<u32>,
    pub ramp: Option<bool>,
}

/// The provider file, ready for use. Shipped as `rules/providers.toml`, replaceable by the operator.
#[derive(Clone, Debug, Default)]
pub struct Providers {}

impl Providers {
    #[must_use]
    pub fn shipped() -> Providers {
        Providers::default()
    }

    pub fn parse(_text: &str) -> Result<Providers, RuleError> {
        Ok(Providers::default())
    }

    /// Changes the rules of one provider, or of all with `default`. An unknown name is the error: it is given back.
    pub fn change(&mut self, provider: &str, _change: &LaneChange) -> Result<(), String> {
        Err(provider.to_owned())
    }

    /// The provider all of whose hosts these are; `None`: the site is its own provider.
    #[must_use]
    pub fn provider_of(&self, _hosts: &[String]) -> Option<&str> {
        None
    }
}
