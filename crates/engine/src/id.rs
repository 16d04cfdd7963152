//! Who and which? Each id is its own type, so that one cannot be taken for another.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A message, by the key it has in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageId(pub u128);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

macro_rules! named {
    ($(#[$doc:meta] $name:ident)*) => {$(
        #[$doc]
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub Arc<str>);

        impl $name {
            #[must_use]
            pub fn new(name: &str) -> $name {
                $name(Arc::from(name))
            }
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// Tables are asked with the text at hand.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

named! {
    /// A tenant.
    AccountId
    /// A named set of IPs.
    PoolId
    /// A kind of mail inside an account that shares fairly with the account's other streams.
    StreamId
    /// A named place with its own IPs, nodes and quotas.
    RegionId
    /// A named part of an account.
    SubaccountId
    /// A credential, by its public name.
    CredentialId
}

macro_rules! numbered {
    ($(#[$doc:meta] $name:ident)*) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);
    )*};
}

numbered! {
    /// One outgoing connection, from the wish to open it until it is gone. Never used twice within a run.
    SessionId
    /// One transaction that tries to hand over one message. Never used twice within a run.
    AttemptId
}
