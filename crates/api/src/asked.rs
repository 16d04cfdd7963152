//! What does a request ask? Bodies, lists and conditions, read in one way for all calls; what is wrong is named by its field.

use crate::problem::Problem;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use bytes::Bytes;
use control::Window;
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// For every body but a message's, which has a limit of its own.
pub const BODY_OCTETS_MAX: usize = 64 << 10;
const MEND: &str = "Compare it with the documentation of this call.";

/// JSON to what is meant: one object and nothing after it. No body is an empty object.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = body.trim_ascii();
    let body = if body.is_empty() { b"{}" } else { body };
    let unreadable = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_json", detail, MEND);
    // An array would be read as the fields in their order, which nobody means.
    if body.first() == Some(&b'[') {
        return Err(unreadable("The body is an array.".to_owned()));
    }
    // Where one is in the body is kept track of only where there is something to say of it.
    if let Ok(read) = serde_json::from_slice(body) {
        return Ok(read);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        let problem = unreadable(format!("The body cannot be read: {}.", error.inner()));
        if field == "." || field == "?" { problem } else { problem.at(field) }
    })?;
    reader.end().map_err(|error| unreadable(format!("The body goes on after its end: {error}.")))?;
    Ok(read)
}

/// PostgreSQL keeps no text with U+0000, so it is refused on either engine; by the field that holds it.
fn without_nul(body: &[u8]) -> Result<(), Problem> {
    // What cannot be read is told where it is read.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
    match nul_in(&value) {
        None => Ok(()),
        Some(field) => {
            let detail = "The body holds the character U+0000, which no text here may have.";
            let problem = Problem::new(StatusCode::BAD_REQUEST, "invalid_json", detail, MEND);
            Err(if field.is_empty() { problem } else { problem.at(field) })
        }
    }
}

/// The outermost field that holds it; the body itself has no name.
fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items.iter().find_map(nul_in).map(|_| String::new()),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let held = name.contains('\0') || nul_in(value).is_some();
            held.then(|| name.replace('\0', ""))
        }),
        _ => None,
    }
}

/// The JSON body of a call.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Problem> {
        let octets = Bytes::from_request(request, state).await.map_err(|rejection| broken(&rejection))?;
        without_nul(&octets)?;
        read(&octets).map(Body)
    }
}

/// Too large, or it broke off.
pub fn broken(rejection: &BytesRejection) -> Problem {
    let status = rejection.status();
    let mend = if status == StatusCode::PAYLOAD_TOO_LARGE { "Send a smaller body." } else { "Send the body again." };
    Problem::new(status, "body_unreadable", format!("{}.", rejection.body_text()), mend)
}

/// Which part of which list: `limit` and `after` are the same for all, `of` narrows this one.
pub struct Listing<T = Everything> {
    pub window: Window,
    pub of: T,
}

/// A list that cannot be narrowed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Everything {}

#[derive(Deserialize)]
struct Part {
    limit: Option<u32>,
    after: Option<String>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Listing<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Listing<T>, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let is_part = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or_default();
            name == "limit" || name == "after"
        };
        let (part, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(is_part);
        let Part { limit, after } = query_of(&part.join("&"))?;
        Ok(Listing { window: Window { after, limit }, of: query_of(&rest.join("&"))? })
    }
}

/// What the query of a call says that is no list.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asked<T>, Problem> {
        query_of(parts.uri.query().unwrap_or_default()).map(Asked)
    }
}

fn query_of<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let wrong = |what: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_query", what, MEND);
    if query.contains("%00") {
        return Err(wrong("The query holds the character U+0000, which no text here may have.".to_owned()));
    }
    let uri = Uri::builder().path_and_query(format!("/?{query}")).build();
    let uri = uri.map_err(|error| wrong(format!("The query cannot be read: {error}.")))?;
    let Query(read) =
        Query::<T>::try_from_uri(&uri).map_err(|rejection| wrong(format!("{}.", rejection.body_text())))?;
    Ok(read)
}

/// The revision that the caller saw and wants to change, and no other; none: whatever is there now.
pub struct IfMatch(pub Option<i64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<IfMatch, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(IfMatch(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(IfMatch(None));
        }
        let revision =
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
        revision.map(|revision| IfMatch(Some(revision))).ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_header",
                "If-Match does not hold one ETag of this service.",
                "Send back the ETag as it was received, such as \"3\".",
            )
            .at("If-Match")
        })
    }
}

/// For a field of a change where null means something: left out, the value stays; null takes it away.
pub fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// For `after` of the next call; null when there is no more.
    #[schema(required)]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Everything, Listing, given, read, without_nul};
    use axum::extract::FromRequestParts;
    use axum::http::Request;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        name: Option<String>,
        #[serde(default, deserialize_with = "given")]
        pool: Option<Option<String>>,
    }

    fn asked(body: &str) -> Result<Change, (Option<String>, String)> {
        let asked = without_nul(body.as_bytes()).and_then(|()| read(body.as_bytes()));
        asked.map_err(|problem| (problem.field, problem.detail))
    }

    #[test]
    fn a_body_is_one_object_and_what_is_wrong_in_it_is_named() {
        assert_eq!(asked("").unwrap(), Change { name: None, pool: None });
        assert_eq!(asked(r#"{"pool":null}"#).unwrap().pool, Some(None));
        assert_eq!(asked(r#"{"pool":"p"}"#).unwrap().pool, Some(Some("p".into())));
        // A backslash and the letters u0000.
        assert_eq!(asked(r#"{"name":"\\u0000"}"#).unwrap().name.unwrap(), "\\u0000");
        let cases = [
            (r#"{"nam":"x"}"#, Some("nam")),
            (r#"{"name":3}"#, Some("name")),
            (r#"["x"]"#, None),
            (r#"{} {}"#, None),
            (r#"{"name":"\u0000"}"#, Some("name")),
            (r#"{"name":"\\\u0000"}"#, Some("name")),
            (r#"{"na\u0000me":"x"}"#, Some("name")),
            ("{", None),
        ];
        for (body, field) in cases {
            let (named, detail) = asked(body).unwrap_err();
            assert_eq!(named.as_deref(), field, "{body}: {detail}");
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Of {
        pool: Option<String>,
        running: Option<bool>,
    }

    #[tokio::test]
    async fn a_list_is_narrowed_and_paged_and_nothing_else() {
        async fn of<T: serde::de::DeserializeOwned>(query: &str) -> Result<Listing<T>, &'static str> {
            let (mut parts, ()) = Request::get(format!("/x?{query}")).body(()).unwrap().into_parts();
            Listing::from_request_parts(&mut parts, &()).await.map_err(|problem| problem.code)
        }
        let all = of::<Everything>("").await.unwrap();
        assert_eq!((all.window.limit, all.window.after), (None, None));
        let some = of::<Of>("pool=a%20b&limit=7&running=true&after=x").await.unwrap();
        assert_eq!((some.window.limit, some.window.after.as_deref()), (Some(7), Some("x")));
        assert_eq!((some.of.pool.as_deref(), some.of.running), (Some("a b"), Some(true)));
        for wrong in ["limit=x", "limit=-1", "limit=1&limit=2", "nonsense=1", "pool=1", "after=%00"] {
            assert_eq!(of::<Everything>(wrong).await.err(), Some("invalid_query"), "{wrong}");
        }
    }
}
