//! How does a program learn what was wrong? RFC 9457, made in one place.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::id::MessageId;
use mta::intake::RETRY_AFTER;
use mta::refusal::{Kind, Refusal};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// `application/problem+json`, with a stable code, the field at fault and the mend beside the standard members.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    /// For people.
    pub detail: String,
    /// For programs; it does not change.
    pub code: &'static str,
    /// What is at fault, such as `to[1]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
    /// The rule of Weir's specification behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'static str>,
    /// For the header Retry-After, where it is known.
    #[serde(skip)]
    pub wait: Option<Duration>,
}

impl Problem {
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:weir:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Problem"),
            status: status.as_u16(),
            detail: detail.into(),
            code,
            field: None,
            mend: mend.into(),
            rule: None,
            wait: None,
        }
    }

    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Problem {
        self.field = Some(field.into());
        self
    }

    #[must_use]
    pub fn invalid(field: &str, detail: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_field", detail, mend).at(field)
    }

    #[must_use]
    pub fn not_found(what: &str) -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("{what} is not known here."),
            "Check how it is written.",
        )
    }

    /// The fault is logged here, and only its kind told.
    #[must_use]
    pub fn log_unreadable(message: MessageId, fault: &std::io::Error) -> Problem {
        tracing::error!(id = %message, %fault, "the event log cannot be read");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "log_unreadable",
            "The event log cannot be read.",
            "See the log of the service.",
        )
    }

    #[must_use]
    pub fn stopping() -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The service is stopping.", "Try again in a moment.")
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let status = match refusal.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Unknown | Kind::WrongSecret => StatusCode::UNAUTHORIZED,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let problem = Problem::new(status, refusal.code, refusal.sentence, refusal.mend);
        Problem { field: refusal.field, wait: refusal.wait, ..problem }
    }
}

impl From<control::Refusal> for Problem {
    fn from(refusal: control::Refusal) -> Problem {
        let status = match refusal.kind {
            control::Kind::Invalid => StatusCode::BAD_REQUEST,
            control::Kind::Unknown => StatusCode::UNAUTHORIZED,
            control::Kind::Forbidden => StatusCode::FORBIDDEN,
            control::Kind::NotFound => StatusCode::NOT_FOUND,
            control::Kind::Conflict => StatusCode::CONFLICT,
            control::Kind::Changed => StatusCode::PRECONDITION_FAILED,
            control::Kind::TooOften => StatusCode::TOO_MANY_REQUESTS,
            control::Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let problem = Problem::new(status, refusal.code, refusal.sentence, refusal.mend);
        Problem { field: refusal.field, rule: refusal.rule, ..problem }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let octets = serde_json::to_vec(&self).expect("plain values can always be written");
        let mut response = (status, octets).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            let wait = self.wait.unwrap_or(RETRY_AFTER);
            let seconds = u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
