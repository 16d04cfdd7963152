//! Configuration sets: what an application sends with.

use super::words::{Time, words};
use super::{Answer, At, Call, created, found, gone, listed};
use crate::asked::{Body, IfMatch, Listed, Listing, given};
use crate::caller::Desk;
use crate::messages::Tls;
use control::configuration_set as theirs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(configuration_sets, create_configuration_set)).routes(routes!(
        configuration_set,
        change_configuration_set,
        delete_configuration_set
    ))
}

words!(
    /// Why a recipient is no longer written to.
    Reason is theirs::Reason { Bounce, Complaint }
);

#[derive(Serialize, ToSchema)]
struct ConfigurationSet {
    id: String,
    account: String,
    name: String,
    #[schema(required)]
    pool: Option<String>,
    #[schema(required)]
    tls: Option<Tls>,
    /// How long a message may wait before it expires, in seconds.
    #[schema(required)]
    lifetime_s: Option<i64>,
    /// What suppresses a recipient; null: as the account has it.
    #[schema(required)]
    suppression: Option<Vec<Reason>>,
    #[schema(required)]
    tracking_host: Option<String>,
    /// Whether it is heard of who opens a message: a picture of one pixel is put into its HTML.
    tracks_opens: bool,
    /// Whether it is heard of who follows a link: the links of its HTML lead through the tracking host.
    tracks_clicks: bool,
    /// Whether readers of its mail are offered an end of the stream by one click (RFC 8058), where a message does not say.
    unsubscribe: bool,
    /// Names of event destinations.
    destinations: Vec<String>,
    sends: bool,
    /// Whether its figures are kept apart for its reputation.
    reputation: bool,
    revision: i64,
    created_at: Time,
}

impl From<theirs::ConfigurationSet> for ConfigurationSet {
    fn from(set: theirs::ConfigurationSet) -> ConfigurationSet {
        ConfigurationSet {
            id: set.id,
            account: set.account,
            name: set.name,
            pool: set.pool,
            tls: set.tls.map(Into::into),
            lifetime_s: set.lifetime_s,
            suppression: set.suppression.map(ours),
            tracking_host: set.tracking_host,
            tracks_opens: set.tracks_opens,
            tracks_clicks: set.tracks_clicks,
            unsubscribe: set.unsubscribe,
            destinations: set.destinations,
            sends: set.sends,
            reputation: set.reputation,
            revision: set.revision,
            created_at: Time(set.created_at),
        }
    }
}

fn ours<A, B: From<A>>(theirs: Vec<A>) -> Vec<B> {
    theirs.into_iter().map(Into::into).collect()
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewConfigurationSet {
    name: String,
    /// By id, or by name in the home region.
    pool: Option<String>,
    tls: Option<Tls>,
    lifetime_s: Option<i64>,
    suppression: Option<Vec<Reason>>,
    /// Below a domain that the account has verified.
    tracking_host: Option<String>,
    tracks_opens: Option<bool>,
    tracks_clicks: Option<bool>,
    unsubscribe: Option<bool>,
    destinations: Option<Vec<String>>,
    sends: Option<bool>,
    reputation: Option<bool>,
}

/// What is left out stays; null takes a value away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConfigurationSetChange {
    /// By id, or by name in the home region.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pool: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Tls>)]
    tls: Option<Option<Tls>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    lifetime_s: Option<Option<i64>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<Reason>>)]
    suppression: Option<Option<Vec<Reason>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    tracking_host: Option<Option<String>>,
    tracks_opens: Option<bool>,
    tracks_clicks: Option<bool>,
    unsubscribe: Option<bool>,
    destinations: Option<Vec<String>>,
    sends: Option<bool>,
    reputation: Option<bool>,
}

/// The account's configuration sets, by name.
#[utoipa::path(get, path = "/accounts/{account}/configuration-sets", responses((status = 200, body = Listed<ConfigurationSet>)))]
async fn configuration_sets(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    listed(call.office.sets(&call.by, &account, &list.window).await?, ConfigurationSet::from)
}

/// Make a configuration set.
#[utoipa::path(post, path = "/accounts/{account}/configuration-sets", request_body = NewConfigurationSet, responses((status = 201, body = ConfigurationSet)))]
async fn create_configuration_set(call: Call, At([account]): At<1>, Body(new): Body<NewConfigurationSet>) -> Answer {
    let with = theirs::SetChange {
        pool: new.pool.map(Some),
        tls: new.tls.map(|tls| Some(tls.into())),
        lifetime_s: new.lifetime_s.map(Some),
        suppression: new.suppression.map(|reasons| Some(ours(reasons))),
        tracking_host: new.tracking_host.map(Some),
        tracks_opens: new.tracks_opens,
        tracks_clicks: new.tracks_clicks,
        unsubscribe: new.unsubscribe,
        destinations: new.destinations,
        sends: new.sends,
        reputation: new.reputation,
        revision: None,
    };
    let set = call.office.create_set(&call.by, &account, &new.name, with).await?;
    let place = ["accounts", &set.account.clone(), "configuration-sets", &set.name.clone()];
    created(&place, Some(set.revision), ConfigurationSet::from(set))
}

/// One configuration set.
#[utoipa::path(get, path = "/accounts/{account}/configuration-sets/{set}", responses((status = 200, body = ConfigurationSet)))]
async fn configuration_set(call: Call, At([account, set]): At<2>) -> Answer {
    let set = call.office.set(&call.by, &account, &set).await?;
    found(set.revision, ConfigurationSet::from(set))
}

/// Change a configuration set.
#[utoipa::path(patch, path = "/accounts/{account}/configuration-sets/{set}", request_body = ConfigurationSetChange, responses((status = 200, body = ConfigurationSet)))]
async fn change_configuration_set(
    call: Call,
    At([account, set]): At<2>,
    IfMatch(revision): IfMatch,
    Body(to): Body<ConfigurationSetChange>,
) -> Answer {
    let to = theirs::SetChange {
        pool: to.pool,
        tls: to.tls.map(|tls| tls.map(Into::into)),
        lifetime_s: to.lifetime_s,
        suppression: to.suppression.map(|reasons| reasons.map(ours)),
        tracking_host: to.tracking_host,
        tracks_opens: to.tracks_opens,
        tracks_clicks: to.tracks_clicks,
        unsubscribe: to.unsubscribe,
        destinations: to.destinations,
        sends: to.sends,
        reputation: to.reputation,
        revision,
    };
    let set = call.office.change_set(&call.by, &account, &set, to).await?;
    found(set.revision, ConfigurationSet::from(set))
}

/// Delete a configuration set. What is queued with it goes on as it was accepted.
#[utoipa::path(delete, path = "/accounts/{account}/configuration-sets/{set}", responses((status = 204, description = "It is gone")))]
async fn delete_configuration_set(call: Call, At([account, set]): At<2>) -> Answer {
    call.office.delete_set(&call.by, &account, &set).await?;
    gone()
}
