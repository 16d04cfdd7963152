//! Who is asking? A bearer key names an account, or the operator.

use crate::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use engine::id::AccountId;
use mta::driver::Driver;
use mta::explain::Stories;
use mta::intake::Intake;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// What the handlers need; one for all requests.
#[derive(Clone)]
pub struct Desk(pub Arc<DeskInner>);

pub struct DeskInner {
    pub intake: Intake,
    pub driver: Driver,
    pub stories: Stories,
    /// Without one, the operator's calls are closed.
    pub operator_key: Option<String>,
    pub message_bytes_max: u64,
}

impl std::ops::Deref for Desk {
    type Target = DeskInner;

    fn deref(&self) -> &DeskInner {
        &self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    Operator,
    Account(AccountId),
}

impl Caller {
    /// For the log.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Caller::Operator => "operator",
            Caller::Account(own) => own.as_str(),
        }
    }

    /// Whether what belongs to this account may be shown to the caller.
    #[must_use]
    pub fn may_see(&self, account: &AccountId) -> bool {
        match self {
            Caller::Operator => true,
            Caller::Account(own) => own == account,
        }
    }
}

impl FromRequestParts<Desk> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Caller, Problem> {
        let key = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim())
            .ok_or_else(|| {
                Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "sign_in_first",
                    "No key was given.",
                    "Send the header “Authorization: Bearer KEY”.",
                )
            })?;
        if let Some(own) = &desk.operator_key
            && bool::from(own.as_bytes().ct_eq(key.as_bytes()))
        {
            return Ok(Caller::Operator);
        }
        desk.intake.account_of_key(key).map(Caller::Account).ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "key_unknown",
                "The key is not known here.",
                "Check it, or ask the operator for another.",
            )
        })
    }
}
