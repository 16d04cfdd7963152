//! What has happened: searched, and followed as it happens. (R6.1)

use super::words::{Address, Time};
use super::{Answer, Call, called, listed};
use crate::asked::{Asked, Listed, Listing};
use crate::caller::{Caller, Desk};
use crate::kept::KeptView;
use crate::problem::Problem;
use axum::body::Body as Octets;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use control::block::Wanted;
use control::{Office, Refusal};
use engine::event::EventKind;
use hyper::body::{Body, Frame};
use serde::Deserialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Events of one piece of a stream.
const PIECE_EVENTS_MAX: usize = 64;
/// Pieces that wait for a reader; with the kernel's buffers that is all that a slow one costs.
const PIECES_MAX: usize = 4;
/// A reader that takes nothing for so long is let go.
const READER_WAIT: Duration = Duration::from_secs(30);
/// A word in between, so that whoever stands in between sees the line is not dead.
const QUIET_MAX: Duration = Duration::from_secs(15);
/// After this the stream ends and the reader comes back: what it shows then is looked at anew.
const FOLLOWED_MAX: Duration = Duration::from_secs(900);

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(events)).routes(routes!(follow))
}

#[derive(Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Of {
    /// Of one account, by id or name; `self` is the caller's own.
    account: Option<String>,
    /// Of one part of it, by name or id.
    subaccount: Option<String>,
    /// The recipient's address.
    recipient: Option<String>,
    /// The message's id.
    message: Option<String>,
    /// With this tag: `name`, or `name=value`.
    tag: Option<String>,
    /// Of this kind of the account's mail.
    stream: Option<String>,
    configuration_set: Option<String>,
    /// The IP it left or tried to leave from.
    ip: Option<Address>,
    /// By its name or its id.
    pool: Option<String>,
    /// Such as `gmail`.
    provider: Option<String>,
    #[param(inline)]
    class: Option<ClassWord>,
    /// `delivered`, or several with commas between them.
    kind: Option<String>,
    /// Not before this moment.
    from: Option<Time>,
    /// Before this moment.
    until: Option<Time>,
}

/// What a remote's answer meant.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum ClassWord {
    Hard,
    Soft,
    Block,
    Throttle,
    Admin,
    Undetermined,
}

impl ClassWord {
    fn code(self) -> &'static str {
        match self {
            ClassWord::Hard => "hard",
            ClassWord::Soft => "soft",
            ClassWord::Block => "block",
            ClassWord::Throttle => "throttle",
            ClassWord::Admin => "admin",
            ClassWord::Undetermined => "undetermined",
        }
    }
}

/// `a,b` as kinds of events; none: all.
pub(super) fn kinds(words: &[&str]) -> Result<Vec<EventKind>, Problem> {
    let kind = |word: &&str| {
        EventKind::of(word.trim()).ok_or_else(|| {
            let sentence = format!("There is no kind of event {}.", word.escape_debug());
            Refusal::invalid("kind", sentence, "See docs/api.md for the kinds, such as `delivered,bounced`.")
        })
    };
    Ok(words.iter().map(kind).collect::<Result<_, _>>()?)
}

fn wanted(call: &Call, of: Of) -> Result<Wanted, Problem> {
    let message = of.message.map(|text| {
        crate::explanation::parse_id(&text).ok_or_else(|| {
            Refusal::invalid("message", "This is no id of a message.", "Give it as it was answered at submission.")
        })
    });
    let tag = of.tag.map(|tag| match tag.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (tag, None),
    });
    let words: Vec<&str> = of.kind.as_deref().map(|kinds| kinds.split(',').collect()).unwrap_or_default();
    Ok(Wanted {
        account: called(&call.by, of.account)?,
        subaccount: of.subaccount,
        message: message.transpose()?,
        recipient: of.recipient,
        tag,
        stream: of.stream,
        set: of.configuration_set,
        ip: of.ip.map(|ip| ip.0),
        pool: of.pool,
        provider: of.provider,
        class: of.class.map(|class| class.code().to_owned()),
        kinds: kinds(&words)?,
        from: of.from.map(|from| from.0),
        until: of.until.map(|until| until.0),
        concealing: false,
    })
}

/// What has happened, newest first. A page may hold fewer events than asked for, or none, and still name a `next`: so much was looked
/// through for it.
#[utoipa::path(get, path = "/events", params(Of), responses((status = 200, body = Listed<KeptView>)))]
async fn events(State(desk): State<Desk>, call: Call, list: Listing<Of>) -> Answer {
    let wanted = wanted(&call, list.of)?;
    let page = call.office.events(&call.by, wanted, &list.window).await?;
    listed(page, |kept| KeptView::shown(&kept, call.by.is_operator(), &desk))
}

/// One of a stream.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it only describes what is written piece by piece")]
struct ServerSentEvent {
    /// For `Last-Event-ID`.
    id: Option<String>,
    /// The kind of the event; or `over` and `dropped` at the end, with the reason in `data`.
    event: Option<String>,
    /// An event as JSON, as in the list.
    data: String,
}

/// What happens from now on, as server-sent events: `data` is an event as in the list, `id` goes into `Last-Event-ID` to go on after
/// it. The stream ends by itself after a quarter of an hour, and is then asked for again.
#[utoipa::path(get, path = "/events:follow", params(Of), responses((status = 200, body = ServerSentEvent, content_type = "text/event-stream")))]
async fn follow(
    State(desk): State<Desk>,
    caller: Caller,
    call: Call,
    headers: HeaderMap,
    Asked(of): Asked<Of>,
) -> Answer {
    let wanted = call.office.events_for(&call.by, wanted(&call, of)?).await?;
    let from =
        match headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.trim().parse::<i64>().ok())) {
            None => *call.office.archive().end().borrow(),
            Some(Some(last)) => last.saturating_add(1),
            Some(None) => {
                let sentence = "Last-Event-ID is none that was sent here.";
                return Err(Refusal::invalid("Last-Event-ID", sentence, "Leave it out to begin at this moment.").into());
            }
        };
    let place = desk.followers.places.clone().try_acquire_owned().map_err(|_| {
        let words = "As many streams of events are open as this service keeps at one time.";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_followers", words, "Close one, or use a webhook.")
    })?;
    let (pieces, waiting) = mpsc::channel(PIECES_MAX);
    let last_words = Arc::default();
    let stream = Stream { waiting, last_words: Arc::clone(&last_words) };
    let follower =
        Follower { office: call.office, is_operator: call.by.is_operator(), caller, desk, wanted, pieces, last_words };
    tokio::spawn(follower.run(from, place));
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((head, Octets::new(stream)).into_response())
}

/// What is said at the end, after all pieces.
type LastWords = Arc<Mutex<Option<Bytes>>>;

/// The body of the answer.
struct Stream {
    waiting: mpsc::Receiver<Bytes>,
    last_words: LastWords,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.waiting.poll_recv(cx).map(|piece| {
            let piece = piece.or_else(|| self.last_words.lock().unwrap_or_else(PoisonError::into_inner).take());
            piece.map(|piece| Ok(Frame::data(piece)))
        })
    }
}

struct Follower {
    office: Office,
    is_operator: bool,
    caller: Caller,
    desk: Desk,
    wanted: Wanted,
    pieces: mpsc::Sender<Bytes>,
    last_words: LastWords,
}

/// Why a stream ends.
enum Over {
    /// Its time is over, or the house closes: the reader comes back.
    Again(&'static str),
    TooSlow,
    /// The reader has gone.
    Gone,
}

impl Follower {
    async fn run(self, from: i64, _place: OwnedSemaphorePermit) {
        let (what, words) = match self.follow(from).await {
            Over::Again(words) => ("over", words),
            Over::TooSlow => {
                tracing::info!(caller = self.caller.name(), "a follower of events read too slowly and is let go");
                ("dropped", "You read too slowly; go on where you were with Last-Event-ID.")
            }
            Over::Gone => return,
        };
        let last = Bytes::from(format!("event: {what}\ndata: {words}\n\n"));
        *self.last_words.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }

    async fn follow(&self, mut place: i64) -> Over {
        let mut more = self.office.archive().end();
        let mut stop = self.desk.followers.closing.subscribe();
        let until = Instant::now() + FOLLOWED_MAX;
        let mut said_at = Instant::now();
        loop {
            more.borrow_and_update();
            // The database may be away for a moment: what is kept meanwhile comes later.
            if let Ok(read) = self.office.events_from(&self.wanted, place, PIECE_EVENTS_MAX).await {
                let moved = read.next > place;
                place = read.next;
                for events in read.events.chunks(PIECE_EVENTS_MAX) {
                    let mut piece = String::new();
                    for kept in events {
                        let shown = KeptView::shown(kept, self.is_operator, &self.desk);
                        let text = serde_json::to_string(&shown).unwrap_or_default();
                        piece.push_str(&format!("id: {}\nevent: {}\ndata: {text}\n\n", kept.number, shown.kind));
                    }
                    if let Err(over) = self.send(piece.into()).await {
                        return over;
                    }
                    said_at = Instant::now();
                }
                if moved && place < *more.borrow() {
                    continue;
                }
            }
            let now = Instant::now();
            if now >= until {
                return Over::Again("Ask again, with Last-Event-ID.");
            }
            if now >= said_at + QUIET_MAX {
                if self.desk.intake.credential(&self.caller.visitor).is_err() && self.caller.is_key() {
                    return Over::Again("The key is good no more.");
                }
                if let Err(over) = self.send(Bytes::from_static(b": still here\n\n")).await {
                    return over;
                }
                said_at = now;
            }
            tokio::select! {
                _ = more.changed() => {}
                () = tokio::time::sleep_until((said_at + QUIET_MAX).min(until)) => {}
                () = self.pieces.closed() => return Over::Gone,
                _ = stop.wait_for(|stop| *stop) => return Over::Again("The service stops; ask again in a moment."),
            }
        }
    }

    async fn send(&self, piece: Bytes) -> Result<(), Over> {
        match timeout(READER_WAIT, self.pieces.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Over::Gone),
            Err(_) => Err(Over::TooSlow),
        }
    }
}
