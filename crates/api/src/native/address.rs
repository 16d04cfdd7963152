//! Single addresses that an account shows to be its own.

use super::words::{Time, words};
use super::{Answer, At, Call, created, gone, listed, told};
use crate::asked::{Body, Listed, Listing};
use crate::caller::{Desk, Origin};
use crate::problem::Problem;
use axum::extract::State;
use control::address as theirs;
use engine::id::AccountId;
use engine::time::Timestamp;
use mail::compose::NamedMailbox;
use mta::intake::Visitor;
use mta::letter::{self, Letter, Unsent};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(addresses, create_address))
        .routes(routes!(address, delete_address))
        .routes(routes!(verify_address))
}

/// What needs no credential: who reads the mail of an address has the token.
pub fn doors() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(confirm_address))
}

words!(
    /// `pending`: a token is under way. `expired`: nobody came with it in time.
    AddressState is theirs::AddressState { Pending, Verified, Expired }
);

#[derive(Serialize, ToSchema)]
#[schema(as = VerifiedAddress)]
struct Address {
    id: String,
    account: String,
    address: String,
    state: AddressState,
    #[schema(required)]
    verified_at: Option<Time>,
    /// Until when the token that was mailed last is good.
    #[schema(required)]
    expires_at: Option<Time>,
    created_at: Time,
}

fn view(address: theirs::Address, now: Timestamp) -> Address {
    Address {
        state: address.state(now).into(),
        id: address.id,
        account: address.account,
        address: address.address,
        verified_at: address.verified_at.map(Time),
        expires_at: address.expires_at.map(Time),
        created_at: Time(address.created_at),
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAddress {
    address: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Token {
    token: String,
}

/// The account's addresses, oldest first.
#[utoipa::path(get, path = "/accounts/{account}/addresses", responses((status = 200, body = Listed<Address>)))]
async fn addresses(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    let now = call.office.now();
    listed(call.office.addresses(&call.by, &account, &list.window).await?, |address| view(address, now))
}

/// Claim an address, or ask once more. A token is mailed there; with it the address is confirmed.
#[utoipa::path(post, path = "/accounts/{account}/addresses", request_body = NewAddress, responses((status = 201, body = Address)))]
async fn create_address(
    State(desk): State<Desk>,
    call: Call,
    At([account]): At<1>,
    Body(new): Body<NewAddress>,
) -> Answer {
    let (address, confirmation) = call.office.create_address(&call.by, &account, &new.address).await?;
    if let Some(confirmation) = confirmation {
        mail(&desk, &AccountId::new(&address.account), &confirmation).await?;
    }
    let place = ["accounts", &address.account.clone(), "addresses", &address.address.clone()];
    created(&place, None, view(address, call.office.now()))
}

/// One address.
#[utoipa::path(get, path = "/accounts/{account}/addresses/{address}", responses((status = 200, body = Address)))]
async fn address(call: Call, At([account, address]): At<2>) -> Answer {
    told(view(call.office.address(&call.by, &account, &address).await?, call.office.now()))
}

/// Delete an address. Mail from it is refused, unless its domain is the account's.
#[utoipa::path(delete, path = "/accounts/{account}/addresses/{address}", responses((status = 204, description = "It is gone")))]
async fn delete_address(call: Call, At([account, address]): At<2>) -> Answer {
    call.office.delete_address(&call.by, &account, &address).await?;
    gone()
}

/// Vouch for an address without mail. For the operator.
#[utoipa::path(post, path = "/accounts/{account}/addresses/{address}/verification", responses((status = 200, body = Address)))]
async fn verify_address(call: Call, At([account, address]): At<2>) -> Answer {
    let verified = call.office.verify_address_without_mail(&call.by, &account, &address).await?;
    told(view(verified, call.office.now()))
}

/// Confirm an address with the token that was mailed to it.
#[utoipa::path(post, path = "/address-confirmations", request_body = Token, responses((status = 200, body = Address)))]
async fn confirm_address(State(desk): State<Desk>, origin: Origin, Body(body): Body<Token>) -> Answer {
    let office = desk.office()?;
    told(view(office.confirm_address(&body.token, origin.0).await?, office.now()))
}

/// From the service itself, without a return path: what bounces tells nobody anything.
async fn mail(desk: &Desk, account: &AccountId, confirmation: &theirs::Confirmation) -> Result<(), Problem> {
    let named = |text: &str| {
        NamedMailbox::parse(text)
            .map_err(|error| Problem::invalid("address", format!("{error}."), "Check the address."))
    };
    let letter = Letter {
        from: named(&format!("postmaster@{}", desk.intake.host()))?,
        to: vec![named(&confirmation.to)?],
        subject: confirmation.subject(),
        text: confirmation.text(None),
    };
    match letter::hand_in(&desk.intake, &Visitor::notice(account.clone()), letter, None, None).await {
        Ok(_) => Ok(()),
        Err(Unsent::Unwritable(error)) => Err(Problem::invalid(&error.field.clone(), format!("{error}."), "")),
        Err(Unsent::Refused(refusal)) => Err(refusal.into()),
    }
}
