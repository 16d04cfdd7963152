//! What providers themselves say of IPs and domains, day by day. (R6.3)

use super::words::words;
use super::{Answer, Call, listed, told};
use crate::asked::{Body, Listed, Listing};
use crate::caller::Desk;
use axum::extract::DefaultBodyLimit;
use control::signal as theirs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A day of ten thousand IPs; it is taken whole or not at all, so it comes in one piece.
const FILE_OCTETS_MAX: usize = 2 << 20;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(signals, import_signals)).layer(DefaultBodyLimit::max(FILE_OCTETS_MAX))
}

words!(
    /// `snds`: the CSV of Microsoft's Smart Network Data Services. `postmaster`: Google Postmaster Tools, as a table that names its
    /// columns or as its interface answers.
    SignalKind is theirs::SignalKind { Snds, Postmaster }
);
words!(
    /// `green`, `yellow`, `red`: Microsoft's. `high`, `medium`, `low`, `bad`: Google's.
    SignalVerdict is theirs::SignalVerdict { Bad, Low, Medium, High, Red, Yellow, Green }
);

/// What a provider says of an IP or a domain for one day.
#[derive(Serialize, ToSchema)]
pub(super) struct Signal {
    provider: String,
    /// An address or a domain.
    of: String,
    /// Such as 2026-01-15.
    date: String,
    #[schema(required)]
    verdict: Option<SignalVerdict>,
    /// The share that users complained of.
    #[schema(required)]
    complaints: Option<SignalShare>,
    #[schema(required)]
    recipients: Option<u64>,
    /// Hits of traps: mail to addresses that nobody ever had.
    #[schema(required)]
    traps: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct SignalShare {
    rate: f64,
    /// Only that it is less is said.
    below: bool,
}

impl From<theirs::Signal> for Signal {
    fn from(signal: theirs::Signal) -> Signal {
        Signal {
            date: signal.date(),
            provider: signal.provider,
            of: signal.of,
            verdict: signal.verdict.map(SignalVerdict::from),
            complaints: signal.complaints.map(|told| SignalShare { rate: told.share(), below: told.is_below }),
            recipients: signal.recipients,
            traps: signal.traps,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfSignals {
    /// Only of this address or domain.
    of: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSignals {
    kind: SignalKind,
    /// The file as it was fetched. It is taken whole or not at all; days that were known are replaced.
    text: String,
}

#[derive(Serialize, ToSchema)]
struct SignalsTaken {
    put: usize,
    /// Incidents that it opened, in words.
    opened: Vec<String>,
}

/// What providers say of IPs and domains, the newest day first. For the operator.
#[utoipa::path(get, path = "/signals", params(OfSignals), responses((status = 200, body = Listed<Signal>)))]
async fn signals(call: Call, list: Listing<OfSignals>) -> Answer {
    listed(call.office.signals(&call.by, list.of.of.as_deref(), &list.window).await?, Signal::from)
}

/// Take in a file that a provider gave. For the operator.
#[utoipa::path(post, path = "/signals", request_body = NewSignals, responses((status = 200, body = SignalsTaken)))]
async fn import_signals(call: Call, Body(new): Body<NewSignals>) -> Answer {
    let taken = call.office.import_signals(&call.by, new.kind.into(), &new.text).await?;
    told(SignalsTaken { put: taken.put, opened: taken.opened })
}
