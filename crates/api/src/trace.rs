//! Which way did a message go, in the form that OpenTelemetry collectors read (OTLP over HTTP, JSON)? (R6.7)
//!
//! Spans are made from events: one for each try at a remote host, one for each recipient from acceptance to the end. A message's trace is
//! the one that its submission came with (`traceparent`), or its own id; ids of spans follow from what they are about, so nothing has to
//! be remembered to tie them together. Addresses and contents are not told, only domains.

use crate::line::{self, Line};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use engine::event::{Event, EventKind};
use engine::id::MessageId;
use engine::time::Timestamp;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use mta::metrics::{Metrics, What};
use mta::record::Entry;
use net::dns::Dns;
use net::tls::Connector;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Messages whose submission had a trace, and that are remembered. After that, or after a restart, a message goes on in a trace of its own.
const SUBMITTED_MAX: usize = 100_000;
/// Spans that wait for a collector; more are dropped, and counted.
const WAITING_MAX: usize = 20_000;
/// Spans of one request.
const AT_ONCE: usize = 1_000;
/// The kinds of OTLP.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
const PRODUCER: u8 = 4;
const STATUS_OK: u8 = 1;
const STATUS_ERROR: u8 = 2;

/// Where a submission stands in its sender's trace. (W3C Trace Context)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    trace: [u8; 16],
    span: [u8; 8],
    is_sampled: bool,
}

impl Parent {
    /// None: it is not in that form.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Parent> {
        let mut parts = traceparent.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may say more; this much of them stays as it is.
        if version.len() != 2 || version == "ff" || version == "00" && parts.next().is_some() || flags.len() != 2 {
            return None;
        }
        let parent = Parent {
            trace: octets(trace)?,
            span: octets(span)?,
            is_sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
        };
        (parent.trace != [0; 16] && parent.span != [0; 8]).then_some(parent)
    }
}

fn octets<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let is_hex = hex.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex || hex.len() != N * 2 {
        return None;
    }
    let mut octets = [0; N];
    for (at, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(octets)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The name of a span: it follows from what it is about.
fn span_id(parts: &[&[u8]]) -> [u8; 8] {
    let digest = digest(&SHA256, &parts.concat());
    let mut id = [0; 8];
    id.copy_from_slice(&digest.as_ref()[..8]);
    id
}

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Such as `http://127.0.0.1:4318/v1/traces`.
    pub url: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Of the messages whose submission says nothing of it, from 0 to 1.
    pub share: f64,
    /// What the installation is called there.
    pub host: String,
}

/// Whether something could listen at this address.
#[must_use]
pub fn is_url(text: &str) -> bool {
    let uri: Option<Uri> = text.parse().ok();
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    })
}

/// None: it cannot stand in the head of a request.
#[must_use]
pub fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
}

/// Makes spans and sends them.
pub struct Tracer {
    settings: Settings,
    submitted: Mutex<Submitted>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Submitted {
    parents: HashMap<MessageId, Parent>,
    order: VecDeque<MessageId>,
    /// Spans of submissions, until they are sent.
    spans: Vec<Value>,
}

/// A message's place among the traces.
struct Place {
    trace: [u8; 16],
    parent: Option<[u8; 8]>,
}

impl Tracer {
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Tracer {
        Tracer { settings, submitted: Mutex::default(), metrics }
    }

    fn submitted(&self) -> std::sync::MutexGuard<'_, Submitted> {
        // Each entry stands alone: a table that a panic left is as good as before.
        self.submitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A submission over HTTP was answered.
    pub fn submission(&self, message: MessageId, parent: Option<Parent>, began: Timestamp, ended: Timestamp) {
        let mut submitted = self.submitted();
        if let Some(parent) = parent {
            submitted.parents.insert(message, parent);
            submitted.order.push_back(message);
            if submitted.order.len() > SUBMITTED_MAX
                && let Some(oldest) = submitted.order.pop_front()
            {
                submitted.parents.remove(&oldest);
            }
        }
        let place = self.place(parent, message);
        if let Some(Place { trace, parent }) = place
            && submitted.spans.len() < WAITING_MAX
        {
            let id = submission_id(message);
            let attributes = vec![text("messaging.message.id", &message.to_string())];
            let span = Span { trace, id, parent, name: "submit".to_owned(), kind: SERVER, began, ended, attributes };
            submitted.spans.push(span.told(STATUS_OK, None));
        }
    }

    /// None: this message is not traced.
    fn place(&self, parent: Option<Parent>, message: MessageId) -> Option<Place> {
        match parent {
            Some(parent) => parent.is_sampled.then_some(Place { trace: parent.trace, parent: Some(parent.span) }),
            None => {
                // The end of an id is chance; its beginning is time.
                let chance = (message.0 as u32) as f64 / f64::from(u32::MAX);
                (chance < self.settings.share).then(|| Place { trace: message.0.to_be_bytes(), parent: None })
            }
        }
    }

    /// What these records of the event log become, with what was submitted meanwhile.
    #[must_use]
    pub fn spans(&self, entries: &[Entry]) -> Vec<Value> {
        let mut submitted = self.submitted();
        let mut spans = std::mem::take(&mut submitted.spans);
        for entry in entries {
            let Some(message) = entry.event.message.filter(|message| *message != MessageId(0)) else { continue };
            let parent = submitted.parents.get(&message).copied();
            if let Some(place) = self.place(parent, message) {
                spans.extend(of_event(&place, message, &entry.event, entry.address.as_deref()));
            }
        }
        spans
    }

    fn request(&self, uri: &Uri, spans: &[Value]) -> Result<Request<Full<Bytes>>, String> {
        let resource = [text("service.name", "weir"), text("host.name", &self.settings.host)];
        let body = json!({ "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{ "scope": { "name": "weir", "version": env!("CARGO_PKG_VERSION") }, "spans": spans }],
        }] });
        let authority = uri.authority().ok_or("the address names no host")?.as_str();
        let mut request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(Bytes::from(body.to_string()))).map_err(|_| "the address cannot be asked".to_owned())
    }

    fn count(&self, what: &'static str, spans: usize) {
        self.metrics.spans.get_or_create(&What { what }).inc_by(u64::try_from(spans).unwrap_or(0));
    }
}

/// Sends spans to the collector. What it does not take is dropped: a trace is no record.
pub struct Exporter {
    tracer: Arc<Tracer>,
    dns: Arc<dyn Dns>,
    connector: Connector,
    line: Option<Line>,
    is_well: bool,
}

impl Exporter {
    #[must_use]
    pub fn new(tracer: Arc<Tracer>, dns: Arc<dyn Dns>, connector: Connector) -> Exporter {
        Exporter { tracer, dns, connector, line: None, is_well: true }
    }

    pub async fn send(&mut self, spans: Vec<Value>) {
        let (now, later) = spans.split_at(spans.len().min(WAITING_MAX));
        self.tracer.count("dropped", later.len());
        for spans in now.chunks(AT_ONCE) {
            match self.post(spans).await {
                Ok(()) => {
                    self.tracer.count("sent", spans.len());
                    if !std::mem::replace(&mut self.is_well, true) {
                        tracing::info!("the collector takes traces again");
                    }
                }
                Err(words) => {
                    self.tracer.count("dropped", spans.len());
                    if std::mem::replace(&mut self.is_well, false) {
                        tracing::warn!(url = self.tracer.settings.url, "traces are dropped: {words}");
                    }
                }
            }
        }
    }

    async fn post(&mut self, spans: &[Value]) -> Result<(), String> {
        let url = self.tracer.settings.url.clone();
        let uri: Uri = url.parse().map_err(|_| "the address cannot be read".to_owned())?;
        let open = Line::open_by_name(&url, &uri, self.dns.as_ref(), &self.connector);
        let asked = line::ask(self.line.take(), &url, || self.tracer.request(&uri, spans), open).await;
        let (answered, line) = asked?;
        self.line = line;
        if answered.status.is_success() { Ok(()) } else { Err(format!("the collector answered {}", answered.status)) }
    }
}

struct Span {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    name: String,
    kind: u8,
    began: Timestamp,
    ended: Timestamp,
    attributes: Vec<Value>,
}

impl Span {
    fn told(self, status: u8, words: Option<String>) -> Value {
        let nanoseconds = |at: Timestamp| (i128::from(at.0) * 1_000).to_string();
        let mut status = json!({ "code": status });
        if let Some(words) = words {
            status["message"] = words.into();
        }
        let mut span = json!({
            "traceId": hex(&self.trace), "spanId": hex(&self.id), "name": self.name, "kind": self.kind,
            "startTimeUnixNano": nanoseconds(self.began.min(self.ended)), "endTimeUnixNano": nanoseconds(self.ended),
            "attributes": self.attributes, "status": status,
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = hex(&parent).into();
        }
        span
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn whole(key: &str, value: i64) -> Value {
    // OTLP writes 64-bit numbers as text.
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn submission_id(message: MessageId) -> [u8; 8] {
    span_id(&[b"submit", &message.0.to_be_bytes()])
}

/// A message's id begins with the milliseconds at which it was made.
fn made_at(message: MessageId) -> Timestamp {
    Timestamp(i64::try_from(message.0 >> 80).unwrap_or(0).saturating_mul(1_000))
}

/// The try that it tells of, and the recipient's whole way where this was the end of it.
fn of_event(place: &Place, message: MessageId, event: &Event, address: Option<&str>) -> Vec<Value> {
    let recipient = event.recipient.unwrap_or(0).to_be_bytes();
    let way = span_id(&[b"way", &message.0.to_be_bytes(), &recipient]);
    let domain = address.and_then(|address| address.rsplit_once('@')).map_or("", |(_, domain)| domain);
    let attributes = attributes(message, event, domain);
    let is_failure = matches!(event.kind, EventKind::Bounced | EventKind::Expired | EventKind::Rejected);
    let is_end = is_failure || matches!(event.kind, EventKind::Delivered | EventKind::Deleted);
    let words = || event.reply.as_ref().map(|reply| reply.code.to_string()).or(Some(event.kind.code().to_owned()));
    let mut spans = Vec::new();
    if let Some(took) = event.took
        && (is_end || event.kind == EventKind::Deferred)
    {
        let id = span_id(&[b"try", &message.0.to_be_bytes(), &recipient, &event.at.0.to_be_bytes()]);
        let (trace, parent, attributes) = (place.trace, Some(way), attributes.clone());
        let name = format!("try {domain}");
        let span = Span { trace, id, parent, name, kind: CLIENT, began: event.at - took, ended: event.at, attributes };
        let is_good = event.kind == EventKind::Delivered;
        spans.push(span.told(if is_good { STATUS_OK } else { STATUS_ERROR }, if is_good { None } else { words() }));
    }
    if is_end {
        let (trace, parent) = (place.trace, place.parent);
        let (name, began) = (format!("send {domain}"), made_at(message));
        let span = Span { trace, id: way, parent, name, kind: PRODUCER, began, ended: event.at, attributes };
        spans.push(span.told(if is_failure { STATUS_ERROR } else { STATUS_OK }, is_failure.then(words).flatten()));
    }
    spans
}

fn attributes(message: MessageId, event: &Event, domain: &str) -> Vec<Value> {
    let mut all = vec![
        text("messaging.system", "smtp"),
        text("messaging.message.id", &message.to_string()),
        text("messaging.destination.name", domain),
        text("weir.event", event.kind.code()),
    ];
    let texts = [
        ("weir.account", event.account.as_ref().map(ToString::to_string)),
        ("weir.pool", event.pool.as_ref().map(ToString::to_string)),
        ("weir.ip", event.ip.map(|ip| ip.to_string())),
        ("weir.provider", event.provider.as_deref().map(str::to_owned)),
        ("server.address", event.host.as_deref().map(str::to_owned)),
        ("tls.protocol.version", event.tls.as_ref().map(|tls| tls.version.to_string())),
        ("weir.class", event.meaning.as_ref().map(|meaning| control::block::class_code(meaning).to_owned())),
    ];
    all.extend(texts.into_iter().filter_map(|(key, value)| Some(text(key, &value?))));
    all.extend(event.reply.as_ref().map(|reply| whole("weir.reply.code", i64::from(reply.code))));
    if event.attempt > 0 {
        all.push(whole("weir.attempt", i64::from(event.attempt)));
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failed unwrap is a failed test.
    use super::{Parent, Settings, Tracer};
    use engine::event::{Event, EventKind};
    use engine::id::MessageId;
    use engine::time::Timestamp;
    use mail::reply::Reply;
    use mta::record::Entry;
    use std::time::Duration;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// 2026-11-01T00:00:00Z, with chance that is near the beginning.
    const MESSAGE: MessageId = MessageId(1_793_491_200_000 << 80 | 7 << 76 | 5);

    fn tracer(share: f64) -> Tracer {
        let settings = Settings { url: String::new(), headers: Vec::new(), share, host: "weir.test".into() };
        Tracer::new(settings, std::sync::Arc::default())
    }

    fn entry(kind: EventKind, after: u64) -> Entry {
        let event = Event {
            message: Some(MESSAGE),
            recipient: Some(0),
            reply: Some(Reply::new(250, (2, 0, 0), "queued")),
            attempt: 1,
            took: Some(Duration::from_millis(300)),
            ..Event::new(Timestamp(1_793_491_200_000_000) + Duration::from_millis(after), kind)
        };
        Entry { address: Some("ann@mail.test".into()), ..Entry::plain(event) }
    }

    #[test]
    fn a_parent_is_read_as_the_standard_has_it() {
        assert!(Parent::parse(TRACEPARENT).unwrap().is_sampled);
        assert!(!Parent::parse(&TRACEPARENT.replace("-01", "-00")).unwrap().is_sampled);
        assert!(Parent::parse(&TRACEPARENT.replace("00-0a", "cc-0a")).is_some(), "a later version");
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-é-b7ad6b7169203331-01",
        ] {
            assert_eq!(Parent::parse(wrong), None, "{wrong}");
        }
    }

    // R6.7
    #[test]
    fn each_try_and_the_whole_way_are_spans_of_the_submissions_trace() {
        let tracer = tracer(0.0);
        let began = Timestamp(1_793_491_200_000_000);
        tracer.submission(MESSAGE, Parent::parse(TRACEPARENT), began, began + Duration::from_millis(2));
        let spans = tracer.spans(&[
            entry(EventKind::Accepted, 1),
            entry(EventKind::Deferred, 400),
            entry(EventKind::Delivered, 900),
        ]);
        let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["submit", "try mail.test", "try mail.test", "send mail.test"]);
        assert!(spans.iter().all(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(
            (&spans[0]["parentSpanId"], &spans[3]["parentSpanId"]),
            (&"b7ad6b7169203331".into(), &"b7ad6b7169203331".into())
        );
        assert!(spans[1..3].iter().all(|span| span["parentSpanId"] == spans[3]["spanId"]));
        assert_ne!(spans[1]["spanId"], spans[2]["spanId"]);
        assert_eq!((&spans[1]["status"]["code"], &spans[2]["status"]["code"]), (&2.into(), &1.into()));
        assert_eq!(spans[2]["startTimeUnixNano"], "1793491200600000000");
        assert_eq!(
            (&spans[3]["startTimeUnixNano"], &spans[3]["endTimeUnixNano"]),
            (&"1793491200000000000".into(), &"1793491200900000000".into())
        );
        assert!(!spans.iter().any(|span| span.to_string().contains("ann@")), "no addresses");
    }

    #[test]
    fn without_a_parent_chance_decides_the_same_for_all_of_a_message() {
        assert!(tracer(0.0).spans(&[entry(EventKind::Delivered, 9)]).is_empty());
        let spans = tracer(1.0).spans(&[entry(EventKind::Delivered, 9)]);
        assert_eq!((spans.len(), &spans[1]["traceId"]), (2, &MESSAGE.to_string().into()));
        assert_eq!(spans[1].get("parentSpanId"), None);
        let unsampled = tracer(1.0);
        unsampled.submission(MESSAGE, Parent::parse(&TRACEPARENT.replace("-01", "-00")), Timestamp(0), Timestamp(1));
        assert!(unsampled.spans(&[entry(EventKind::Delivered, 9)]).is_empty());
    }
}
