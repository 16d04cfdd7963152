//! What came back and belongs to no message? For the operator to look at.

use crate::asked::{Everything, Listed, Listing};
use crate::caller::{Caller, Desk};
use crate::explanation::parse_id;
use crate::problem::Problem;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use engine::snapshot::Scope;
use mta::unmatched::Unmatched;
use serde::Serialize;
use utoipa::ToSchema;

const WHAT: &str = "What came back and belongs to no message";
const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 500;

#[derive(Serialize, ToSchema)]
#[schema(as = Unmatched)]
pub struct View {
    id: String,
    at: String,
    /// Why it belongs to nothing, as a code and in words.
    cause: &'static str,
    cause_words: &'static str,
    /// The address it came to.
    to: String,
    #[schema(required)]
    from: Option<String>,
    /// Who brought it.
    peer: String,
    /// Of the whole; the front of it is kept.
    octets: u64,
}

impl From<Unmatched> for View {
    fn from(unmatched: Unmatched) -> View {
        View {
            id: format!("{:032x}", unmatched.id),
            at: unmatched.at.to_string(),
            cause: unmatched.cause.code(),
            cause_words: unmatched.cause.words(),
            to: unmatched.to,
            from: unmatched.from,
            peer: unmatched.peer.to_string(),
            octets: unmatched.octets,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = UnmatchedMessage)]
pub struct Whole {
    #[serde(flatten)]
    about: View,
    /// The message as it came, as far as it is kept; what is no text is replaced.
    message: String,
}

/// What came back and belongs to no message, newest first. For the operator.
#[utoipa::path(get, path = "/unmatched", operation_id = "list_unmatched", responses((status = 200, body = Listed<View>)))]
pub async fn list(
    State(desk): State<Desk>,
    caller: Caller,
    list: Listing<Everything>,
) -> Result<Json<Listed<View>>, Problem> {
    caller.operates(Scope::Read, WHAT)?;
    let before =
        list.window.after.as_deref().map(|after| parse_id(after).ok_or_else(|| Problem::not_found("This page")));
    let before = before.transpose()?.map(|id| id.0);
    let limit = list.window.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX) as usize;
    // One more than is shown, to know whether there is more.
    let (mut items, _) = desk.unmatched.list(before, limit + 1);
    let is_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| is_more).map(|last| format!("{:032x}", last.id));
    Ok(Json(Listed { items: items.into_iter().map(View::from).collect(), next }))
}

/// One of them, as it came. For the operator.
#[utoipa::path(get, path = "/unmatched/{id}", operation_id = "show_unmatched", responses((status = 200, body = Whole)))]
pub async fn show(State(desk): State<Desk>, caller: Caller, Path(id): Path<String>) -> Result<Json<Whole>, Problem> {
    caller.operates(Scope::Read, WHAT)?;
    let id = parse_id(&id).ok_or_else(unknown)?;
    let shelf = desk.unmatched.clone();
    let read = tokio::task::spawn_blocking(move || shelf.read(id.0)).await.map_err(|_| Problem::stopping())?;
    let (about, octets) = read.map_err(|fault| unreadable(&fault))?.ok_or_else(unknown)?;
    Ok(Json(Whole { about: about.into(), message: String::from_utf8_lossy(&octets).into_owned() }))
}

/// Throw one of them away. For the operator.
#[utoipa::path(delete, path = "/unmatched/{id}", operation_id = "delete_unmatched", responses((status = 204, description = "It is gone")))]
pub async fn delete(State(desk): State<Desk>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    caller.operates(Scope::Manage, WHAT)?;
    let id = parse_id(&id).ok_or_else(unknown)?;
    let shelf = desk.unmatched.clone();
    let gone = tokio::task::spawn_blocking(move || shelf.delete(id.0)).await.map_err(|_| Problem::stopping())?;
    if gone.map_err(|fault| unreadable(&fault))? { Ok(StatusCode::NO_CONTENT) } else { Err(unknown()) }
}

fn unknown() -> Problem {
    Problem::not_found("This unmatched message")
}

fn unreadable(fault: &std::io::Error) -> Problem {
    tracing::error!(%fault, "what is unmatched cannot be read or thrown away");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "unmatched_unreadable",
        "The disk does not give it at this moment.",
        "Try again in a moment; the service's log names the cause.",
    )
}
