//! How do values look in JSON? Enums as words, moments and addresses as text; each known to the description of the interface.

use engine::time::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::net::IpAddr;
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// RFC 3339, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Time).map_err(|fault| D::Error::custom(format!("{fault}; write it as 2026-11-21T10:00:00Z")))
    }
}

/// An IP address, IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address(pub IpAddr);

fn text(format: &str) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::Custom(format.to_owned())));
    RefOr::T(Schema::Object(text.build()))
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        text("date-time")
    }
}
impl ToSchema for Time {}

impl PartialSchema for Address {
    fn schema() -> RefOr<Schema> {
        text("ip")
    }
}
impl ToSchema for Address {}

/// `words!(Plan is engine::snapshot::Plan { Free, Standard })`: the same enum as words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident is $theirs:ty { $($word:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($word),* }

        impl From<$theirs> for $name {
            fn from(theirs: $theirs) -> $name {
                match theirs { $(<$theirs>::$word => $name::$word),* }
            }
        }

        impl From<$name> for $theirs {
            fn from(ours: $name) -> $theirs {
                match ours { $($name::$word => <$theirs>::$word),* }
            }
        }
    };
}
pub(super) use words;
