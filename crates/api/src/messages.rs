//! How is a message handed in as JSON?
//!
//! `POST /api/v1/messages`: either parts that are composed here, or a finished message in `raw`. Reading and translating is pure;
//! the admission is the same as for SMTP.

use crate::asked::read;
use crate::caller::{Caller, Desk};
use crate::explanation::parse_id;
use crate::problem::Problem;
use crate::trace::Parent;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::envelope::TlsWish;
use engine::event::EventKind;
use engine::id::{AccountId, MessageId, RegionId, StreamId, SubaccountId};
use engine::snapshot::Scope;
use engine::time::Timestamp;
use engine::{Cancellable, Input, Order};
use http_body_util::BodyExt;
use mail::address::Mailbox;
use mail::compose::{Attachment, Compose, NamedMailbox};
use mail::mailboxes::parse_list;
use mail::message;
use mail::smtp::command::RecipientParameters;
use mta::intake::{Asked, Intake, Offer, Receiving};
use mta::once::{Begun, KEY_OCTETS_MAX, Started, once_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

const BODY_OVERHEAD: u64 = 1 << 20;
const TRACEPARENT: &str = "traceparent";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const TAGS_MAX: usize = 50;
const TAG_OCTETS_MAX: usize = 256;

/// The body of a submission.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    from: Option<String>,
    #[serde(default)]
    to: Addresses,
    #[serde(default)]
    cc: Addresses,
    #[serde(default)]
    bcc: Addresses,
    #[serde(default)]
    reply_to: Addresses,
    subject: Option<String>,
    text: Option<String>,
    html: Option<String>,
    #[serde(default)]
    attachments: Vec<AttachmentBody>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// A finished message, base64; then none of the parts above but `from` and the recipients.
    raw: Option<String>,
    pool: Option<String>,
    configuration_set: Option<String>,
    subaccount: Option<String>,
    region: Option<String>,
    stream: Option<String>,
    /// RFC 3339.
    send_at: Option<String>,
    tls: Option<Tls>,
    /// Offers its reader an end of the stream, by one click or mail (RFC 8058).
    unsubscribe: Option<bool>,
}

/// One address or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum Addresses {
    One(String),
    Several(Vec<String>),
}

impl Default for Addresses {
    fn default() -> Addresses {
        Addresses::Several(Vec::new())
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Attachment)]
struct AttachmentBody {
    name: String,
    content_type: String,
    /// Base64.
    content: String,
    content_id: Option<String>,
}

/// How the last leg is protected.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    IfOffered,
    Required,
}

impl From<TlsWish> for Tls {
    fn from(wish: TlsWish) -> Tls {
        match wish {
            TlsWish::Required => Tls::Required,
            TlsWish::IfOffered | TlsWish::Never => Tls::IfOffered,
        }
    }
}

impl From<Tls> for TlsWish {
    fn from(tls: Tls) -> TlsWish {
        match tls {
            Tls::Required => TlsWish::Required,
            Tls::IfOffered => TlsWish::IfOffered,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    pub id: String,
    /// Recipients that nothing is sent to, because they are on the account's suppression list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suppressed: Vec<String>,
}

/// Hand in a message. 200 means that it is durable.
#[utoipa::path(post, path = "/messages", request_body = Submission, responses((status = 200, body = Accepted)))]
pub async fn submit(
    State(desk): State<Desk>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let began = desk.intake.now();
    desk.intake.may_submit(&caller.visitor)?;
    let account = caller.account().ok_or_else(|| Problem::not_found("The account"))?;
    let key = idempotency_key(&headers)?;
    // What was accepted before is answered also by a full queue; whatever is new is asked for room by the admission.
    if key.is_none() {
        desk.intake.has_room()?;
    }
    let mut receiving = desk.intake.receiving();
    let body = collect(body, &desk, &mut receiving).await?;
    let once = match key {
        None => None,
        Some(key) => match first_of(&desk, account, key, &body).await? {
            Submitted::First(started) => Some(started),
            Submitted::Before(message) => return replayed(&desk, message).await,
        },
    };
    let submission: Submission = read(&body)?;
    drop(body);
    let id = Intake::new_id();
    let now_unix = desk.intake.now().0.div_euclid(1_000_000);
    let offer = Offer { once, ..translate(submission, id, desk.intake.host(), now_unix)? };
    let admitted = desk.intake.admit(&caller.visitor, offer).await?;
    tracing::debug!(%account, id = %admitted.message, "accepted");
    if let Some(tracer) = &desk.tracer {
        let parent = headers.get(TRACEPARENT).and_then(|value| Parent::parse(value.to_str().ok()?));
        tracer.submission(admitted.message, parent, began, desk.intake.now());
    }
    Ok(accepted(admitted.message, admitted.suppressed).into_response())
}

fn accepted(message: MessageId, suppressed: Vec<String>) -> (StatusCode, Json<Accepted>) {
    (StatusCode::OK, Json(Accepted { id: message.to_string(), suppressed }))
}

/// R1.5: the first answer once more.
async fn replayed(desk: &Desk, message: MessageId) -> Result<Response, Problem> {
    desk.intake.metrics().submissions_repeated.inc();
    let story = desk.stories.story(message).await.map_err(|fault| Problem::log_unreadable(message, &fault))?;
    let suppressed = story.into_iter().filter(|entry| entry.event.kind == EventKind::Suppressed);
    let suppressed = suppressed.filter_map(|entry| entry.address).collect();
    let mut response = accepted(message, suppressed).into_response();
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let invalid = || {
        let detail =
            format!("An idempotency key has 1 to {KEY_OCTETS_MAX} printable ASCII characters and is given once.");
        Problem::new(StatusCode::BAD_REQUEST, "idempotency_key_invalid", detail, "Use a UUID, for example.")
            .at("Idempotency-Key")
    };
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else { return Ok(None) };
    let key = key.to_str().map_err(|_| invalid())?;
    let printable = key.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic());
    if given.next().is_some() || key.is_empty() || key.len() > KEY_OCTETS_MAX || !printable {
        return Err(invalid());
    }
    Ok(Some(key))
}

enum Submitted {
    First(Started),
    Before(MessageId),
}

async fn first_of(desk: &Desk, account: &AccountId, key: &str, body: &[u8]) -> Result<Submitted, Problem> {
    let once = once_of(account, key, body);
    let (code, detail, mend) = match desk.intake.onces().begin(once, desk.intake.now()).await {
        Begun::First(started) => return Ok(Submitted::First(started)),
        Begun::Again(message) => return Ok(Submitted::Before(message)),
        Begun::Reused => (
            "idempotency_key_reused",
            "The idempotency key was used for another body within the last 24 hours.",
            "Give each message a key of its own, and repeat a submission unchanged.",
        ),
        Begun::UnderWay => (
            "idempotency_in_progress",
            "The first submission with this idempotency key is not answered yet.",
            "Try again in a moment.",
        ),
    };
    Err(Problem::new(StatusCode::CONFLICT, code, detail, mend).at("Idempotency-Key"))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Cancelled {
    pub id: String,
    pub state: &'static str,
}

/// Cancel a scheduled message, until its time. (R1.6)
#[utoipa::path(delete, path = "/messages/{id}", operation_id = "cancel_message", responses((status = 200, body = Cancelled), (status = 500, body = Problem, content_type = "application/problem+json", description = "The event log cannot be read")))]
pub async fn cancel(
    State(desk): State<Desk>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Cancelled>, Problem> {
    caller.may(Scope::Manage)?;
    let unknown = || Problem::not_found("This message");
    let message = parse_id(&id).ok_or_else(unknown)?;
    let story = desk.stories.story(message).await.map_err(|fault| Problem::log_unreadable(message, &fault))?;
    let envelope = story.iter().find_map(|entry| entry.accepted.as_ref()).ok_or_else(unknown)?;
    if !caller.may_see(&envelope.account, envelope.wish.subaccount.as_ref()) {
        return Err(unknown());
    }
    let asked = desk.driver.ask(move |engine, now| {
        let cancellable = engine.cancellable(message);
        if cancellable == Cancellable::Yes {
            engine.handle(Input::Order(Order::Cancel(message)), now);
        }
        cancellable
    });
    let conflict = |code, detail: &str, mend| Err(Problem::new(StatusCode::CONFLICT, code, detail, mend));
    match asked.await.map_err(|_| Problem::stopping())? {
        Cancellable::Yes => {
            tracing::info!(id = %message, by = caller.name(), "cancelled");
            // When this is answered, what the order did has been handed to the spool.
            desk.driver.ask(|_, _| ()).await.map_err(|_| Problem::stopping())?;
            Ok(Json(Cancelled { id: message.to_string(), state: "deleted" }))
        }
        Cancellable::Leaving if envelope.route.is_some() => conflict(
            "not_scheduled",
            "The message was not scheduled: it leaves as soon as it can.",
            "Schedule a message with send_at to be able to cancel it.",
        ),
        Cancellable::Leaving => conflict(
            "already_leaving",
            "The message's time has come: it is leaving.",
            "To stop what is still queued of it, use the order delete.",
        ),
        Cancellable::Unknown => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting",
            "The service has just started and does not know the whole queue yet.",
            "Try again in a moment.",
        )),
        Cancellable::Gone => {
            conflict("already_gone", "The message is not queued any more.", "Its story tells what became of it.")
        }
    }
}

/// The body, counted as it comes in: many slow bodies at once hold no more memory than `receiving_bytes_max`.
async fn collect(mut body: Body, desk: &Desk, receiving: &mut Receiving) -> Result<Vec<u8>, Problem> {
    let body_max = body_bytes_max(desk.message_bytes_max);
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|fault| {
            let detail = format!("The body broke off: {fault}.");
            Problem::new(StatusCode::BAD_REQUEST, "body_unreadable", detail, "Send it again.")
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let length = (octets.len() + data.len()) as u64;
        if length > body_max {
            let detail = format!(
                "The body is larger than is taken here: message_bytes_max is {} octets.",
                desk.message_bytes_max
            );
            let mend = "Send large files as links.";
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "message_too_large", detail, mend));
        }
        receiving.hold(length)?;
        octets.extend_from_slice(&data);
    }
    Ok(octets)
}

/// Base64 and JSON make a message this much larger.
fn body_bytes_max(message_bytes_max: u64) -> u64 {
    message_bytes_max / 3 * 4 + BODY_OVERHEAD
}

/// A submission to what the admission takes.
pub fn translate(submission: Submission, id: MessageId, host: &str, now_unix: i64) -> Result<Offer, Problem> {
    let mut recipients = Vec::new();
    let to = named("to", &submission.to, &mut recipients)?;
    let cc = named("cc", &submission.cc, &mut recipients)?;
    named("bcc", &submission.bcc, &mut recipients)?;
    if recipients.is_empty() {
        return Err(Problem::invalid("to", "The message has no recipient.", "Name at least one in to, cc or bcc."));
    }
    let tags = checked_tags(submission.tags)?;
    let (from, octets) = match submission.raw {
        Some(raw) => {
            let given = [
                ("subject", submission.subject.is_some()),
                ("text", submission.text.is_some()),
                ("html", submission.html.is_some()),
                ("attachments", !submission.attachments.is_empty()),
                ("headers", !submission.headers.is_empty()),
            ];
            if let Some((field, _)) = given.iter().find(|(_, given)| *given) {
                let detail = format!("{field} and raw are both given.");
                return Err(Problem::invalid(field, detail, "Give either a finished message in raw, or its parts."));
            }
            from_raw(submission.from.as_deref(), &raw)?
        }
        None => {
            let from = submission.from.as_deref().ok_or_else(|| {
                Problem::invalid(
                    "from",
                    "The message has no sender.",
                    "Give an address, such as Ann <ann@example.com>.",
                )
            })?;
            let from = parse_named("from", from)?;
            let mailbox = from.mailbox.clone();
            let compose = Compose {
                from,
                to,
                cc,
                reply_to: named("reply_to", &submission.reply_to, &mut Vec::new())?,
                subject: submission.subject.unwrap_or_default(),
                text: submission.text,
                html: submission.html,
                attachments: attachments(submission.attachments)?,
                headers: submission.headers.into_iter().collect(),
                date_unix: now_unix,
                message_id: format!("<{id}@{host}>"),
                seed: id.0 as u64,
            };
            let octets =
                compose.write().map_err(|error| Problem::invalid(&error.field.clone(), format!("{error}."), ""))?;
            (mailbox, octets)
        }
    };
    let smtputf8 =
        from.needs_smtputf8() || recipients.iter().any(|(mailbox, _): &(Mailbox, _)| mailbox.needs_smtputf8());
    Ok(Offer {
        message: Some(id),
        from: Some(from),
        recipients,
        octets,
        protocol: "HTTP",
        asked: Asked {
            region: submission.region.map(|region| RegionId::new(&region)),
            pool: submission.pool.map(Into::into),
            set: submission.configuration_set.map(Into::into),
            subaccount: submission.subaccount.map(|part| SubaccountId::new(&part)),
        },
        stream: submission.stream.map(|stream| StreamId::new(&stream)),
        send_at: submission.send_at.as_deref().map(time).transpose()?,
        tags,
        tls: submission.tls.map(TlsWish::from),
        envid: None,
        ret: None,
        smtputf8,
        once: None,
        unsubscribe: submission.unsubscribe,
    })
}

/// `send_at`, as RFC 3339 writes times.
pub fn time(text: &str) -> Result<Timestamp, Problem> {
    text.parse::<Timestamp>()
        .map_err(|error| Problem::invalid("send_at", format!("It is {error}."), "Write it as 2026-11-21T10:00:00Z."))
}

/// Parses a list of addresses, and adds each mailbox to the recipients once.
fn named(
    field: &str,
    addresses: &Addresses,
    recipients: &mut Vec<(Mailbox, RecipientParameters)>,
) -> Result<Vec<NamedMailbox>, Problem> {
    let parsed: Vec<NamedMailbox> = match addresses {
        Addresses::One(one) => vec![parse_named(field, one)?],
        Addresses::Several(several) => several
            .iter()
            .enumerate()
            .map(|(place, one)| parse_named(&format!("{field}[{place}]"), one))
            .collect::<Result<_, _>>()?,
    };
    for named in &parsed {
        if !recipients.iter().any(|(known, _)| *known == named.mailbox) {
            recipients.push((named.mailbox.clone(), RecipientParameters::default()));
        }
    }
    Ok(parsed)
}

fn parse_named(field: &str, text: &str) -> Result<NamedMailbox, Problem> {
    const MEND: &str = "Write it as ann@example.com or Ann <ann@example.com>.";
    // The reader of header fields takes folded lines; a field of JSON has none.
    if text.chars().any(char::is_control) {
        return Err(Problem::invalid(field, "It holds a control character.", MEND));
    }
    NamedMailbox::parse(text).map_err(|error| Problem::invalid(field, format!("{error}."), MEND))
}

fn from_raw(from: Option<&str>, raw: &str) -> Result<(Mailbox, Vec<u8>), Problem> {
    let octets = STANDARD.decode(raw.trim()).map_err(|error| {
        Problem::invalid("raw", format!("It is not base64: {error}."), "Encode the whole message with standard base64.")
    })?;
    // Files written on Unix end their lines with LF alone; over HTTP nothing else gives away where a line ends.
    let octets = message::mend_line_ends(octets);
    let from = match from {
        Some(from) => parse_named("from", from)?.mailbox,
        None => from_header(&octets).ok_or_else(|| {
            Problem::invalid("raw", "Its From header cannot be read.", "Give a From header, or the field from.")
        })?,
    };
    Ok((from, octets))
}

fn from_header(octets: &[u8]) -> Option<Mailbox> {
    let (header, _) = message::split(octets);
    let field = message::fields(header).find(|field| field.is("From"))?;
    let value = String::from_utf8(field.unfolded().into_owned()).ok()?;
    parse_list(value.trim()).ok()?.into_iter().next().map(|named| named.mailbox)
}

fn attachments(bodies: Vec<AttachmentBody>) -> Result<Vec<Attachment>, Problem> {
    let decode = |(place, body): (usize, AttachmentBody)| {
        let content = STANDARD.decode(body.content.trim()).map_err(|error| {
            Problem::invalid(
                &format!("attachments[{place}].content"),
                format!("It is not base64: {error}."),
                "Encode the file with standard base64.",
            )
        })?;
        Ok(Attachment { name: body.name, content_type: body.content_type, content, content_id: body.content_id })
    };
    bodies.into_iter().enumerate().map(decode).collect()
}

fn checked_tags(tags: BTreeMap<String, String>) -> Result<Vec<(String, String)>, Problem> {
    if tags.len() > TAGS_MAX {
        return Err(Problem::invalid(
            "tags",
            format!("There are {} tags; at most {TAGS_MAX} are kept.", tags.len()),
            "Send fewer.",
        ));
    }
    for (name, value) in &tags {
        let clean =
            |text: &str| !text.is_empty() && text.len() <= TAG_OCTETS_MAX && !text.chars().any(char::is_control);
        if !clean(name) || !clean(value) {
            let detail = format!("A tag's name and value have 1 to {TAG_OCTETS_MAX} octets and no control characters.");
            return Err(Problem::invalid(&format!("tags.{}", name.escape_debug()), detail, "Change the tag."));
        }
    }
    Ok(tags.into_iter().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Submission, translate};
    use crate::asked::read;
    use engine::id::MessageId;
    use mta::intake::Offer;

    fn offered(body: &str) -> Result<Offer, (Option<String>, String)> {
        let told = |problem: crate::problem::Problem| (problem.field, problem.detail);
        translate(read::<Submission>(body.as_bytes()).map_err(told)?, MessageId(7), "weir.test", 1_700_000_000)
            .map_err(told)
    }

    #[test]
    fn parts_become_a_message_and_bcc_stays_out_of_it() {
        let offer = offered(
            r#"{"from":"Ann <ann@a.test>","to":["bob@b.test"],"cc":"cy@c.test","bcc":["dee@d.test"],"subject":"Grüße","text":"Hi\n"}"#,
        )
        .unwrap();
        let text = String::from_utf8(offer.octets).unwrap();
        assert_eq!(offer.recipients.len(), 3);
        assert!(text.contains("To: bob@b.test\r\nCc: cy@c.test\r\n"), "{text}");
        assert!(!text.contains("dee@"), "{text}");
        assert!(text.contains("Subject: =?utf-8?"), "{text}");
    }

    #[test]
    fn a_recipient_named_twice_gets_one_copy() {
        let offer =
            offered(r#"{"from":"a@a.test","to":["bob@b.test","Bob <bob@b.test>"],"bcc":"bob@b.test","text":"x"}"#)
                .unwrap();
        assert_eq!(offer.recipients.len(), 1);
    }

    // D4: a field that could make a header line of its own is refused by name.
    #[test]
    fn line_breaks_are_refused_by_field() {
        let cases = [
            (r#"{"from":"a@a.test","to":"b@b.test","subject":"x\r\nBcc: e@e.test","text":"x"}"#, "subject"),
            (r#"{"from":"A\r\nX: y <a@a.test>","to":"b@b.test","text":"x"}"#, "from"),
            (r#"{"from":"a@a.test","to":["b@b.test","c\n@b.test"],"text":"x"}"#, "to[1]"),
            (r#"{"from":"a@a.test","to":"b@b.test","text":"x","headers":{"X-A":"1\r\nX-B: 2"}}"#, "headers[0].value"),
            (r#"{"from":"a@a.test","to":"b@b.test","text":"x","headers":{"X-A: 1\r\nX-B":"2"}}"#, "headers[0].name"),
            (
                r#"{"from":"a@a.test","to":"b@b.test","text":"x","attachments":[{"name":"a\r\nb","content_type":"text/plain","content":""}]}"#,
                "attachments[0].name",
            ),
            (
                r#"{"from":"a@a.test","to":"b@b.test","text":"x","attachments":[{"name":"a","content_type":"text/plain;\r\nx=y","content":""}]}"#,
                "attachments[0].content_type",
            ),
            (r#"{"from":"a@a.test","to":"b@b.test","text":"x","tags":{"a":"b\nc"}}"#, "tags.a"),
        ];
        for (body, field) in cases {
            let (named, detail) = offered(body).unwrap_err();
            assert_eq!(named.as_deref(), Some(field), "{body}: {detail}");
        }
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let cases = [
            (r#"{"to":"b@b.test","text":"x"}"#, Some("from")),
            (r#"{"from":"a@a.test","text":"x"}"#, Some("to")),
            (r#"{"from":"a@a.test","to":"b@b.test","text":3}"#, Some("text")),
            (r#"{"from":"a@a.test","to":"b@b.test","sbject":"x"}"#, Some("sbject")),
            (r#"{"from":"a@a.test","to":"b@b.test","raw":"%%"}"#, Some("raw")),
            (r#"{"from":"a@a.test","to":"b@b.test","text":"x","send_at":"tomorrow"}"#, Some("send_at")),
            (r#"{"from":"a@a.test","to":"b@b.test","raw":"","text":"x"}"#, Some("text")),
            ("[", None),
        ];
        for (body, field) in cases {
            let (named, detail) = offered(body).unwrap_err();
            assert_eq!(named.as_deref(), field, "{body}: {detail}");
        }
    }
}
