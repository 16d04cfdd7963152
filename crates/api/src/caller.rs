//! Who is asking? A bearer key says who holds it, and what it is good for.

use crate::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use engine::envelope::Route;
use engine::id::{AccountId, SubaccountId};
use engine::snapshot::{Credential, Holder, Scope};
use mta::driver::Driver;
use mta::explain::Stories;
use mta::hidden::Hidden;
use mta::intake::{Intake, Right, Via, Visitor};
use mta::visitor::check_scope;
use std::net::IpAddr;
use std::sync::Arc;

/// What the handlers need; one for all requests.
#[derive(Clone)]
pub struct Desk(pub Arc<DeskInner>);

pub struct DeskInner {
    pub intake: Intake,
    pub driver: Driver,
    pub stories: Stories,
    pub message_bytes_max: u64,
}

impl std::ops::Deref for Desk {
    type Target = DeskInner;

    fn deref(&self) -> &DeskInner {
        &self.0
    }
}

/// Where a connection comes from; every request carries it.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Who asks: the credential was good when the request came in.
#[derive(Clone, Debug)]
pub struct Caller {
    pub visitor: Visitor,
    credential: Arc<Credential>,
}

impl Caller {
    /// For the log.
    #[must_use]
    pub fn name(&self) -> &str {
        self.account().map_or("operator", AccountId::as_str)
    }

    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.credential.holder == Holder::Operator
    }

    /// None for the operator.
    #[must_use]
    pub fn account(&self) -> Option<&AccountId> {
        match &self.credential.holder {
            Holder::Operator => None,
            Holder::Account { account, .. } => Some(account),
        }
    }

    /// Where the credential is for one subaccount alone.
    #[must_use]
    pub fn subaccount(&self) -> Option<&SubaccountId> {
        match &self.credential.holder {
            Holder::Operator => None,
            Holder::Account { subaccount, .. } => subaccount.as_ref(),
        }
    }

    pub fn may(&self, scope: Scope) -> Result<(), Problem> {
        check_scope(&self.credential, scope).map_err(Problem::from)
    }

    /// R2.8: what tells of all tenants is for the operator.
    pub fn operates(&self, scope: Scope, what: &str) -> Result<(), Problem> {
        if self.is_operator() {
            return self.may(scope);
        }
        let detail = format!("{what} are shown to the operator.");
        Err(Problem::new(axum::http::StatusCode::FORBIDDEN, "operator_only", detail, "Use the operator's key."))
    }

    /// Whether what belongs to this account and part of it may be shown to the caller.
    #[must_use]
    pub fn may_see(&self, account: &AccountId, subaccount: Option<&SubaccountId>) -> bool {
        match &self.credential.holder {
            Holder::Operator => true,
            Holder::Account { account: own, subaccount: part } => {
                own == account && (part.is_none() || part.as_ref() == subaccount)
            }
        }
    }

    /// What must not be read by the caller about a message of this route, that has left or tried to leave from these IPs too (R2.8).
    #[must_use]
    pub fn hidden(&self, desk: &Desk, route: Option<&Route>, elsewhere: impl IntoIterator<Item = IpAddr>) -> Hidden {
        if self.is_operator() {
            return Hidden::default();
        }
        Hidden::of(route, elsewhere, &desk.intake.snapshot())
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
                    axum::http::StatusCode::UNAUTHORIZED,
                    "sign_in_first",
                    "No key was given.",
                    "Send the header “Authorization: Bearer KEY”.",
                )
            })?;
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
        let visitor = Visitor { via: Via::Http, peer, right: Right::key(key) };
        let credential = desk.intake.credential(&visitor)?;
        Ok(Caller { visitor, credential })
    }
}
