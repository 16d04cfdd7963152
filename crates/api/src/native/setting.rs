//! The limits and prices that an operator can move.

use super::{Answer, At, Call, told, whole};
use crate::asked::{Body, Everything, Listed, Listing};
use crate::caller::Desk;
use control::Refusal;
use control::setting as theirs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(settings)).routes(routes!(setting, set_setting))
}

#[derive(Serialize, ToSchema)]
struct Setting {
    name: &'static str,
    value: i64,
    default: i64,
    /// What it decides.
    words: &'static str,
}

fn view((setting, value): (theirs::Setting, i64)) -> Setting {
    Setting { name: setting.name(), value, default: setting.default(), words: setting.words() }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewValue {
    value: i64,
}

fn known(name: &str) -> Result<theirs::Setting, Refusal> {
    theirs::Setting::of(name).ok_or_else(|| Refusal::not_found("setting", name))
}

/// All settings with their values, on one page. For the operator.
#[utoipa::path(get, path = "/settings", responses((status = 200, body = Listed<Setting>)))]
async fn settings(call: Call, _: Listing<Everything>) -> Answer {
    whole(call.office.settings(&call.by).await?, view)
}

/// One setting. For the operator.
#[utoipa::path(get, path = "/settings/{name}", responses((status = 200, body = Setting)))]
async fn setting(call: Call, At([name]): At<1>) -> Answer {
    let settings = call.office.settings(&call.by).await?;
    let setting = known(&name)?;
    let value = settings.into_iter().find(|(other, _)| *other == setting);
    told(view(value.ok_or_else(|| Refusal::not_found("setting", &name))?))
}

/// Give a setting another value. For the operator.
#[utoipa::path(put, path = "/settings/{name}", request_body = NewValue, responses((status = 200, body = Setting)))]
async fn set_setting(call: Call, At([name]): At<1>, Body(to): Body<NewValue>) -> Answer {
    call.by.may_operate()?;
    let setting = known(&name)?;
    call.office.set_setting(&call.by, setting, to.value).await?;
    told(view((setting, to.value)))
}
