//! Regions.

use super::words::Time;
use super::{Answer, At, Call, created, told, whole};
use crate::asked::{Body, Everything, Listed, Listing};
use crate::caller::Desk;
use control::Refusal;
use control::region as theirs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(regions, create_region)).routes(routes!(region))
}

#[derive(Serialize, ToSchema)]
struct Region {
    id: String,
    created_at: Time,
}

impl From<theirs::Region> for Region {
    fn from(region: theirs::Region) -> Region {
        Region { id: region.id, created_at: Time(region.created_at) }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRegion {
    /// Small letters, digits and hyphens.
    region: String,
}

/// All regions, on one page.
#[utoipa::path(get, path = "/regions", responses((status = 200, body = Listed<Region>)))]
async fn regions(call: Call, _: Listing<Everything>) -> Answer {
    whole(call.office.regions().await?, Region::from)
}

/// One region.
#[utoipa::path(get, path = "/regions/{region}", responses((status = 200, body = Region)))]
async fn region(call: Call, At([id]): At<1>) -> Answer {
    let known = call.office.regions().await?.into_iter().find(|region| region.id == id);
    told(Region::from(known.ok_or_else(|| Refusal::not_found("region", &id))?))
}

/// Make a region, with a shared pool. For the operator.
#[utoipa::path(post, path = "/regions", request_body = NewRegion, responses((status = 201, body = Region)))]
async fn create_region(call: Call, Body(new): Body<NewRegion>) -> Answer {
    let region = call.office.create_region(&call.by, &new.region).await?;
    created(&["regions", &region.id.clone()], None, Region::from(region))
}
