//! Which calls are there, and what stands before each?

use crate::caller::{Caller, Desk};
use crate::document::{Door, describe};
use crate::problem::Problem;
use crate::rate::{Buckets, Left, Wait};
use crate::{explanation, health, messages, native, preview, queue, reply, unmatched};
use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use std::fmt::Write as _;
use std::sync::{LazyLock, PoisonError};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// Every call, with what stands before it. What is served and what is described both come from here.
fn calls() -> [(Door, OpenApiRouter<Desk>); 4] {
    let under = |routes| OpenApiRouter::new().nest(native::BASE, routes);
    [
        (Door::Open, health::routes().merge(under(native::doors().routes(routes!(openapi))))),
        (Door::Submission, under(OpenApiRouter::new().routes(routes!(messages::submit)))),
        (
            Door::Counted,
            under(
                OpenApiRouter::new()
                    .routes(routes!(explanation::explain, messages::cancel))
                    .routes(routes!(preview::preview))
                    .routes(routes!(reply::classify))
                    .routes(routes!(queue::list))
                    .routes(routes!(queue::order))
                    .routes(routes!(queue::lanes))
                    .routes(routes!(queue::resume))
                    .routes(routes!(unmatched::list))
                    .routes(routes!(unmatched::show, unmatched::delete)),
            ),
        ),
        (Door::Control, under(native::routes())),
    ]
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let parts = calls().map(|(door, routes)| (door, routes.into_openapi()));
    let document = describe(parts.into());
    serde_json::to_string_pretty(&document).expect("a description is plain values") + "\n"
});

/// OpenAPI 3.1, as JSON.
#[must_use]
pub fn document() -> &'static str {
    &DOCUMENT
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object, content_type = "application/json")))]
async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document())
}

/// All calls behind their doors.
pub fn router(desk: &Desk) -> Router<Desk> {
    let counted = || middleware::from_fn_with_state(desk.clone(), counted);
    let published = || middleware::from_fn_with_state(desk.clone(), published);
    let once = || middleware::from_fn_with_state(desk.clone(), native::once::once);
    calls().into_iter().fold(Router::new(), |all, (door, routes)| {
        let routes = Router::from(routes);
        all.merge(match door {
            // Who confirms an address or accepts an invitation changes something too.
            Door::Open => routes.route_layer(published()),
            Door::Submission => routes,
            Door::Counted => routes.route_layer(counted()),
            // What is outermost comes last.
            Door::Control => routes.route_layer(once()).route_layer(published()).route_layer(counted()),
        })
    })
}

/// A change is answered when the data plane knows it: who has just made a key can use it, and one that was taken back is good no more.
async fn published(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let changes = !request.method().is_safe();
    let response = next.run(request).await;
    if changes
        && response.status().is_success()
        && let Some(office) = &desk.office
    {
        office.store().published().await;
    }
    response
}

/// Lets a credential through so often, and tells how often it still may.
async fn counted(State(desk): State<Desk>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let caller = match Caller::from_request_parts(&mut parts, &desk).await {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    let now = desk.intake.now();
    // A table that a panic left is as good as before: each entry stands alone.
    let (policy, taken) = {
        let mut buckets = desk.calls.lock().unwrap_or_else(PoisonError::into_inner);
        (policy(&buckets), buckets.take(caller.id(), now))
    };
    let (mut response, left) = match taken {
        Ok(left) => {
            parts.extensions.insert(caller);
            (next.run(Request::from_parts(parts, body)).await, left)
        }
        Err(wait) => (too_often(wait), Left { calls: 0, full_in: wait.0 }),
    };
    tell(response.headers_mut(), &policy, left);
    response
}

fn policy(buckets: &Buckets) -> String {
    format!("\"calls\";q={};w={}", buckets.limits().burst, buckets.window().as_secs().max(1))
}

fn tell(headers: &mut HeaderMap, policy: &str, left: Left) {
    let mut words = String::from("\"calls\"");
    let _ = write!(words, ";r={};t={}", left.calls, left.full_in.as_millis().div_ceil(1_000));
    for (name, value) in [(POLICY, policy), (LEFT, &words)] {
        headers.insert(name, HeaderValue::from_str(value).expect("digits and signs may stand in a header"));
    }
}

fn too_often(Wait(wait): Wait) -> Response {
    let seconds = u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1);
    let detail = format!("This credential calls too often; it may again in {seconds} seconds.");
    let mend = "Call less often. Submissions are not counted here.";
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail, mend);
    let mut response = problem.into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}
