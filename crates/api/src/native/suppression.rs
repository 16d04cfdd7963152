//! Suppression lists: to whom an account sends nothing any more.

use super::words::{Time, words};
use super::{Answer, At, Call, gone, listed, told};
use crate::asked::{Asked, Body, Listed, Listing};
use crate::caller::Desk;
use crate::problem::Problem;
use control::csv;
use control::suppression as theirs;
use engine::suppression::Reason as TheirReason;
use engine::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(suppressions))
        .routes(routes!(suppression, put_suppression, delete_suppression))
        .routes(routes!(import_suppressions))
}

words!(
    /// Why nothing is sent there any more.
    SuppressionReason is TheirReason { Bounce, Complaint, Unsubscribe, Manual }
);

#[derive(Serialize, ToSchema)]
struct Suppression {
    account: String,
    address: String,
    /// Null: no mail of the account goes there; otherwise none of this stream.
    #[schema(required)]
    stream: Option<String>,
    reason: SuppressionReason,
    /// The message that showed it.
    #[schema(required)]
    message: Option<String>,
    /// What was said, or why somebody put it there.
    #[schema(required)]
    detail: Option<String>,
    created_at: Time,
    #[schema(required)]
    expires_at: Option<Time>,
}

impl From<theirs::Suppression> for Suppression {
    fn from(entry: theirs::Suppression) -> Suppression {
        Suppression {
            account: entry.account,
            address: entry.address,
            stream: entry.stream,
            reason: entry.reason.into(),
            message: entry.message,
            detail: entry.detail,
            created_at: Time(entry.created_at),
            expires_at: entry.expires_at.map(Time),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSuppression {
    /// For mail of this stream alone.
    stream: Option<String>,
    /// `manual`, if it is left out.
    reason: Option<SuppressionReason>,
    detail: Option<String>,
    /// The entry ends by itself, to the minute.
    expires_at: Option<Time>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Narrowed {
    reason: Option<SuppressionReason>,
    /// All at this domain.
    domain: Option<String>,
    /// All that begin with this.
    begins: Option<String>,
    /// Put there at or after this moment.
    from: Option<Time>,
    /// And before this one.
    until: Option<Time>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfStream {
    /// The entry for mail of this stream alone.
    stream: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SuppressionImport {
    /// The first line names the columns: `address` (or `email`, `recipient`), and if wanted `reason` (or `type`), `stream`, `detail` (or
    /// `description`), `created_at`, `expires_at`. Others are passed over. At most 1,000 entries; `weir suppression import` sends any number.
    csv: String,
}

/// What became of an import. Entries that are wrong keep no other from being taken.
#[derive(Serialize, ToSchema)]
struct SuppressionImported {
    put: usize,
    wrong: Vec<WrongEntry>,
}

#[derive(Serialize, ToSchema)]
struct WrongEntry {
    /// In the text as it was sent; the line that names the columns is the first.
    line: usize,
    detail: String,
}

/// The account's suppression list, by address.
#[utoipa::path(get, path = "/accounts/{account}/suppressions", params(Narrowed), responses((status = 200, body = Listed<Suppression>)))]
async fn suppressions(call: Call, At([account]): At<1>, list: Listing<Narrowed>) -> Answer {
    let Narrowed { reason, domain, begins, from, until } = list.of;
    let (from, until) = (from.map(|from| from.0), until.map(|until| until.0));
    let narrowed = theirs::Narrowed { reason: reason.map(Into::into), domain, begins, from, until };
    listed(call.office.suppressions(&call.by, &account, &narrowed, &list.window).await?, Suppression::from)
}

/// Why nothing is sent to an address.
#[utoipa::path(get, path = "/accounts/{account}/suppressions/{address}", params(OfStream), responses((status = 200, body = Suppression)))]
async fn suppression(call: Call, At([account, address]): At<2>, Asked(of): Asked<OfStream>) -> Answer {
    let entry = call.office.suppression(&call.by, &account, &address, of.stream.as_deref()).await?;
    told(Suppression::from(entry))
}

/// Send nothing to an address any more; what its entry said before is replaced.
#[utoipa::path(put, path = "/accounts/{account}/suppressions/{address}", request_body = NewSuppression, responses((status = 200, body = Suppression)))]
async fn put_suppression(call: Call, At([account, address]): At<2>, Body(new): Body<NewSuppression>) -> Answer {
    let new = theirs::NewSuppression {
        address,
        stream: new.stream,
        reason: new.reason.map_or(TheirReason::Manual, Into::into),
        detail: new.detail,
        created_at: None,
        expires_at: new.expires_at.map(|at| at.0),
    };
    told(Suppression::from(call.office.put_suppression(&call.by, &account, new).await?))
}

/// Write to an address again.
#[utoipa::path(delete, path = "/accounts/{account}/suppressions/{address}", params(OfStream), responses((status = 204, description = "It is gone")))]
async fn delete_suppression(call: Call, At([account, address]): At<2>, Asked(of): Asked<OfStream>) -> Answer {
    call.office.delete_suppression(&call.by, &account, &address, of.stream.as_deref()).await?;
    gone()
}

/// Put many on the list at once.
#[utoipa::path(post, path = "/accounts/{account}/suppressions:import", request_body = SuppressionImport, responses((status = 200, body = SuppressionImported)))]
async fn import_suppressions(call: Call, At([account]): At<1>, Body(import): Body<SuppressionImport>) -> Answer {
    let (new, lines, mut wrong) = entries(&import.csv)?;
    let taken = call.office.put_suppressions(&call.by, &account, new).await?;
    wrong.extend(taken.wrong.into_iter().map(|(at, detail)| WrongEntry { line: lines[at], detail }));
    wrong.sort_by_key(|wrong| wrong.line);
    told(SuppressionImported { put: taken.put, wrong })
}

type Read = (Vec<theirs::NewSuppression>, Vec<usize>, Vec<WrongEntry>);

/// The entries of a table, the line of each, and what cannot be one.
fn entries(text: &str) -> Result<Read, Problem> {
    let mut records = csv::records(text);
    let (_, head) = records.next().unwrap_or_default();
    let column = |names: &[&str]| {
        head.iter().position(|name| names.contains(&name.trim().to_lowercase().replace([' ', '-'], "_").as_str()))
    };
    let address = column(&["address", "email", "email_address", "emailaddress", "recipient"]).ok_or_else(|| {
        let detail = "The first line names no column for addresses.";
        Problem::invalid("csv", detail, "Call it address; a list without names needs that line in front.")
    })?;
    let reason = column(&["reason", "type"]);
    let [stream, detail, created, expires] = [
        column(&["stream"]),
        column(&["detail", "description"]),
        column(&["created_at", "created", "last_update_time", "lastupdatetime"]),
        column(&["expires_at", "expires"]),
    ];
    let (mut new, mut lines, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for (line, record) in records {
        let field = |column: Option<usize>| {
            column.and_then(|at| record.get(at)).map(|text| text.trim()).filter(|text| !text.is_empty())
        };
        let time = |column, name: &str| match field(column).map(str::parse::<Timestamp>) {
            None => Ok(None),
            Some(Ok(at)) => Ok(Some(at)),
            Some(Err(error)) => Err(format!("{name} is {error}")),
        };
        let read = || {
            Ok::<_, String>(theirs::NewSuppression {
                address: field(Some(address)).ok_or("there is no address")?.to_owned(),
                stream: field(stream).map(str::to_owned),
                reason: field(reason).map_or(Ok(TheirReason::Manual), reason_of)?,
                detail: field(detail).map(str::to_owned),
                created_at: time(created, "created_at")?,
                expires_at: time(expires, "expires_at")?,
            })
        };
        match read() {
            Ok(entry) => {
                new.push(entry);
                lines.push(line);
            }
            Err(detail) => wrong.push(WrongEntry { line, detail }),
        }
    }
    Ok((new, lines, wrong))
}

/// Our words, and those of lists that come from elsewhere.
fn reason_of(word: &str) -> Result<TheirReason, String> {
    let word = word.to_lowercase().replace(['_', ' '], "-");
    match word.as_str() {
        "non-transactional" | "transactional" => Ok(TheirReason::Unsubscribe),
        "spam-complaint" | "spam" => Ok(TheirReason::Complaint),
        "hard-bounce" | "bounce-rule" => Ok(TheirReason::Bounce),
        "manually-added" => Ok(TheirReason::Manual),
        word => TheirReason::of(word).ok_or_else(|| {
            format!("the reason {word} is not known; there are bounce, complaint, unsubscribe and manual")
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{TheirReason, entries};

    #[test]
    fn tables_of_others_are_read_by_the_names_of_their_columns() {
        let ours = "address,reason,detail\nbob@b.test,bounce,\"550 no, \"\"gone\"\"\"\n\ncy@c.test,nonsense,\n,,\n";
        let (new, lines, wrong) = entries(ours).unwrap();
        assert_eq!((new.len(), lines[0]), (1, 2));
        assert_eq!((new[0].reason, new[0].detail.as_deref()), (TheirReason::Bounce, Some("550 no, \"gone\"")));
        let wrong: Vec<_> = wrong.iter().map(|wrong| (wrong.line, wrong.detail.as_str())).collect();
        assert!(
            wrong[0].0 == 4 && wrong[0].1.contains("nonsense") && wrong[1] == (5, "there is no address"),
            "{wrong:?}"
        );
        let theirs = "Email Address,Reason,LastUpdateTime\r\nann@a.test,COMPLAINT,2026-11-21T10:00:00Z\r\n";
        let (new, ..) = entries(theirs).unwrap();
        assert_eq!((new[0].reason, new[0].created_at.is_some()), (TheirReason::Complaint, true));
        let others = "recipient,type,source\nann@a.test,non_transactional,Manually Added\n";
        assert_eq!(entries(others).unwrap().0[0].reason, TheirReason::Unsubscribe);
        assert!(entries("bob@b.test\n").is_err() && entries("").is_err());
    }
}
