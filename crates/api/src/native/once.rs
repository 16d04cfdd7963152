//! Was this call made before? Every POST that changes the control plane takes an idempotency key. (R1.5)
//!
//! What the call answered is kept with its headers, and given again for the same call. A refusal changed nothing, so it is not kept: a
//! mended call may use the same key.

use crate::asked::BODY_OCTETS_MAX;
use crate::caller::{Caller, Desk};
use crate::messages::{IDEMPOTENT_REPLAYED, idempotency_key};
use crate::problem::Problem;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::Office;
use control::idempotency::{Begun, Once};
use serde::{Deserialize, Serialize};

/// What is repeated of an answer beside its body.
const KEPT: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];
/// Answers to changes are far smaller.
const ANSWER_OCTETS_MAX: usize = 4 << 20;

#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

pub async fn once(State(desk): State<Desk>, request: Request, next: Next) -> Result<Response, Problem> {
    let key = idempotency_key(request.headers())?.map(str::to_owned);
    let Some(key) = key.filter(|_| request.method() == Method::POST) else { return Ok(next.run(request).await) };
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &desk).await?;
    let office = desk.office()?;
    let body = to_bytes(body, BODY_OCTETS_MAX).await.map_err(|_| {
        let detail = format!("The body is larger than {BODY_OCTETS_MAX} octets, or broke off.");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_unreadable", detail, "Send a smaller body.")
    })?;
    let actor = caller.actor();
    let holder = format!("{} {}", actor.kind.code(), actor.id);
    let address = parts.uri.path_and_query().map_or("/", |address| address.as_str());
    let once = Once::new(holder, &key, &[parts.method.as_str().as_bytes(), address.as_bytes(), &body]);
    if let Begun::Again(answer) = office.begin_once(&once).await? {
        return repeat(&answer);
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    Ok(settle(office, &once, response).await)
}

async fn settle(office: &Office, once: &Once, response: Response) -> Response {
    let status = response.status();
    if status.is_client_error() {
        if let Err(refusal) = office.withdraw_once(once).await {
            tracing::warn!(code = refusal.code, "the idempotency key of a refused call stays in use");
        }
        return response;
    }
    if !status.is_success() {
        // Whether anything was done is not known: the key stays, and says so.
        return response;
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_OCTETS_MAX).await.unwrap_or_default();
    let kept = |name: &HeaderName| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned()));
    let answer =
        Answer { status: status.as_u16(), headers: KEPT.iter().filter_map(kept).collect(), body: body.to_vec() };
    let octets = serde_json::to_vec(&answer).expect("plain values can always be written");
    // The change is made and durable; that its answer cannot be kept is no reason to call it failed.
    if let Err(refusal) = office.end_once(once, answer.status, &octets).await {
        tracing::warn!(code = refusal.code, "the answer to a call with an idempotency key is not kept");
    }
    Response::from_parts(parts, Body::from(body))
}

fn repeat(answer: &[u8]) -> Result<Response, Problem> {
    let unreadable = || {
        let mend = "Look whether what it was for is there.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "answer_unreadable", "The first answer cannot be read.", mend)
    };
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| unreadable())?;
    let status = StatusCode::from_u16(answer.status).map_err(|_| unreadable())?;
    let mut response = (status, answer.body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in answer.headers {
        let (name, value) = (HeaderName::try_from(name), HeaderValue::try_from(value));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(unreadable()) };
        response.headers_mut().insert(name, value);
    }
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
