//! Subaccounts. (R2.5)

use super::words::Time;
use super::{Answer, At, Call, created, found, gone, listed};
use crate::asked::{Body, IfMatch, Listed, Listing, given};
use crate::caller::Desk;
use control::subaccount as theirs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(subaccounts, create_subaccount)).routes(routes!(
        subaccount,
        change_subaccount,
        delete_subaccount
    ))
}

#[derive(Serialize, ToSchema)]
struct Subaccount {
    id: String,
    account: String,
    name: String,
    /// All its mail uses it without naming it; none: as the account has it.
    #[schema(required)]
    pool: Option<String>,
    sends: bool,
    revision: i64,
    created_at: Time,
}

impl From<theirs::Subaccount> for Subaccount {
    fn from(subaccount: theirs::Subaccount) -> Subaccount {
        Subaccount {
            id: subaccount.id,
            account: subaccount.account,
            name: subaccount.name,
            pool: subaccount.pool,
            sends: subaccount.sends,
            revision: subaccount.revision,
            created_at: Time(subaccount.created_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSubaccount {
    name: String,
    /// By id, or by name in the home region.
    pool: Option<String>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SubaccountChange {
    name: Option<String>,
    /// By id, or by name in the home region; null: none of its own any more.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pool: Option<Option<String>>,
    /// Whether mail is taken from it.
    sends: Option<bool>,
}

/// The account's subaccounts, oldest first.
#[utoipa::path(get, path = "/accounts/{account}/subaccounts", responses((status = 200, body = Listed<Subaccount>)))]
async fn subaccounts(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    listed(call.office.subaccounts(&call.by, &account, &list.window).await?, Subaccount::from)
}

/// Make a subaccount.
#[utoipa::path(post, path = "/accounts/{account}/subaccounts", request_body = NewSubaccount, responses((status = 201, body = Subaccount)))]
async fn create_subaccount(call: Call, At([account]): At<1>, Body(new): Body<NewSubaccount>) -> Answer {
    let new = theirs::NewSubaccount { name: new.name, pool: new.pool };
    let made = call.office.create_subaccount(&call.by, &account, new).await?;
    created(
        &["accounts", &made.account.clone(), "subaccounts", &made.id.clone()],
        Some(made.revision),
        Subaccount::from(made),
    )
}

/// One subaccount.
#[utoipa::path(get, path = "/accounts/{account}/subaccounts/{subaccount}", responses((status = 200, body = Subaccount)))]
async fn subaccount(call: Call, At([account, subaccount]): At<2>) -> Answer {
    let subaccount = call.office.subaccount(&call.by, &account, &subaccount).await?;
    found(subaccount.revision, Subaccount::from(subaccount))
}

/// Change a subaccount.
#[utoipa::path(patch, path = "/accounts/{account}/subaccounts/{subaccount}", request_body = SubaccountChange, responses((status = 200, body = Subaccount)))]
async fn change_subaccount(
    call: Call,
    At([account, subaccount]): At<2>,
    IfMatch(revision): IfMatch,
    Body(to): Body<SubaccountChange>,
) -> Answer {
    let to = theirs::SubaccountChange { name: to.name, pool: to.pool, sends: to.sends, revision };
    let subaccount = call.office.change_subaccount(&call.by, &account, &subaccount, to).await?;
    found(subaccount.revision, Subaccount::from(subaccount))
}

/// Delete a subaccount. Its credentials stop with it.
#[utoipa::path(delete, path = "/accounts/{account}/subaccounts/{subaccount}", responses((status = 204, description = "It is gone")))]
async fn delete_subaccount(call: Call, At([account, subaccount]): At<2>) -> Answer {
    call.office.delete_subaccount(&call.by, &account, &subaccount).await?;
    gone()
}
