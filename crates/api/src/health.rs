//! Is the service well? For whoever starts it, sends it work, or watches its figures.

use crate::caller::Desk;
use crate::problem::Problem;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(livez)).routes(routes!(readyz)).routes(routes!(metrics))
}

/// It runs.
#[utoipa::path(get, path = "/livez", responses((status = 200, body = String, content_type = "text/plain")))]
async fn livez() -> &'static str {
    "alive\n"
}

/// Mail would be taken now.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = 429, body = Problem, content_type = "application/problem+json", description = "The queue is full"),
    (status = 503, body = Problem, content_type = "application/problem+json", description = "Nothing can be kept safe"),
))]
async fn readyz(State(desk): State<Desk>) -> Result<&'static str, Problem> {
    desk.intake.has_room()?;
    Ok("ready\n")
}

/// Figures, in the form of OpenMetrics.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
async fn metrics(State(desk): State<Desk>) -> impl IntoResponse {
    let accepting = i64::from(desk.intake.has_room().is_ok());
    let (keys, forgotten) = desk.intake.onces().figures();
    let metrics = desk.intake.metrics();
    metrics.accepting.set(accepting);
    metrics.event_streams.set(i64::try_from(desk.followers.open()).unwrap_or(i64::MAX));
    metrics.queued.set(i64::try_from(desk.intake.queued()).unwrap_or(i64::MAX));
    metrics.idempotency_keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
    metrics.idempotency_keys_forgotten.set(i64::try_from(forgotten).unwrap_or(i64::MAX));
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.page())
}
