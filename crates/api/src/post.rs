//! How is a webhook's target told, and what is its answer worth? (R6.1)
//!
//! The address that is looked up is the address that is checked and dialled, so what a name says a moment later does not matter (F5);
//! a redirect is an answer like any other, and not followed. Every step has a limit in time and size (F6).

use crate::kept::{KeptView, Reader};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use control::Office;
use control::block::Kept;
use control::webhook::{Batch, Sent, Turn};
use engine::posting::Answer;
use engine::snapshot::Snapshot;
use engine::time::Timestamp;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use mta::intake::Intake;
use mta::metrics::What;
use net::clock::Clock;
use net::dns::{Dns, Families, Network, not_public};
use net::tls::{Connector, Policy};
use serde::Serialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// For a connection, its TLS included.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// From the first octet sent to the answer's status.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// For the rest of an answer: it is only kept for whoever looks.
const REST_WAIT: Duration = Duration::from_secs(5);
/// Read of an answer; what comes after it is not looked at.
const ANSWER_OCTETS_MAX: usize = 16 << 10;
/// Kept of a request and of an answer.
const SHOWN_OCTETS_MAX: usize = 4 << 10;
const HEAD_OCTETS_MAX: usize = 32 << 10;
/// Of one batch; one event alone may be larger.
const BATCH_OCTETS_MAX: usize = 512 << 10;
/// Requests under way at one time to targets that answered last, and to those that did not: a dead one takes no place of a good one.
const POSTS_MAX: usize = 128;
const DOUBTFUL_POSTS_MAX: usize = 32;
/// Webhooks made or changed by another process are looked for this often, and so is what it kept.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_millis(50);
/// After the database failed.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What a poster works with.
pub struct Means {
    pub office: Office,
    pub intake: Intake,
    pub dns: Arc<dyn Dns>,
    pub connector: Connector,
    pub clock: Clock,
    /// Who sends, among the processes of an installation; the same after a restart.
    pub name: String,
    /// Networks that targets may be in although they are private or loopback.
    pub allow_private: Vec<Network>,
}

struct Poster {
    means: Means,
    good: Semaphore,
    doubtful: Semaphore,
}

/// Every webhook has a task of its own, until the house closes.
pub async fn run(means: Means, mut stop: watch::Receiver<bool>) {
    let mut changes = means.office.store().changes();
    let poster =
        Arc::new(Poster { means, good: Semaphore::new(POSTS_MAX), doubtful: Semaphore::new(DOUBTFUL_POSTS_MAX) });
    let mut running: HashMap<String, Running> = HashMap::new();
    loop {
        changes.borrow_and_update();
        // Without the database those that run go on, and wait where they are.
        if let Ok(wanted) = poster.means.office.webhooks_running().await {
            let wanted: HashMap<String, i64> = wanted.into_iter().collect();
            running.retain(|id, running| wanted.contains_key(id) && !running.task.is_finished());
            for (id, revision) in wanted {
                match running.get(&id) {
                    Some(running) if *running.revision.borrow() == revision => {}
                    Some(running) => {
                        running.revision.send_replace(revision);
                    }
                    None => {
                        let (sender, receiver) = watch::channel(revision);
                        let task = tokio::spawn(poster.clone().serve(id.clone(), receiver));
                        running.insert(id, Running { revision: sender, task });
                    }
                }
            }
        }
        // Its receiver lives as long as the office, and so do we.
        let _ = poster.means.office.archive().look_for_end().await;
        tokio::select! {
            _ = changes.changed() => sleep(GATHER).await,
            () = sleep(LOOK_EVERY) => {}
            () = closing(&mut stop) => return,
        }
    }
}

async fn closing(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

struct Running {
    revision: watch::Sender<i64>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    /// What is under way is sent again later, under the same name.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Poster {
    async fn serve(self: Arc<Poster>, id: String, mut revision: watch::Receiver<i64>) {
        let mut more = self.means.office.archive().end();
        let (mut nothing_before, mut seen) = (0, *revision.borrow_and_update());
        loop {
            let is = *revision.borrow_and_update();
            if std::mem::replace(&mut seen, is) != is {
                nothing_before = 0;
            }
            more.borrow_and_update();
            let until = match self.means.office.webhook_turn(&id, &self.means.name, nothing_before).await {
                Ok(Turn::Send(batch)) => {
                    // A pause makes it fuller, where somebody asked for that.
                    let wait = Duration::from_millis(u64::try_from(batch.webhook.wait_ms).unwrap_or(0));
                    let is_full = batch.events.len() >= usize::try_from(batch.webhook.events_max).unwrap_or(1);
                    let batch = if wait.is_zero() || is_full || batch.failures() > 0 {
                        Some(batch)
                    } else {
                        sleep(wait).await;
                        match self.means.office.webhook_turn(&id, &self.means.name, nothing_before).await {
                            Ok(Turn::Send(batch)) => Some(batch),
                            _ => None,
                        }
                    };
                    if let Some(batch) = batch {
                        self.post(*batch).await;
                    }
                    continue;
                }
                Ok(Turn::Over) => return,
                Ok(Turn::Idle(before)) => {
                    nothing_before = before;
                    if before < *more.borrow() {
                        // So much was looked through for it; there is more.
                        tokio::task::yield_now().await;
                        continue;
                    }
                    self.idle(&id, before, &mut more, &mut revision).await;
                    continue;
                }
                Ok(Turn::WaitUntil(until)) => self.means.clock.until(until.0),
                Err(_) => AGAIN_AFTER,
            };
            tokio::select! {
                () = sleep(until) => {}
                _ = revision.changed() => {}
            }
        }
    }

    /// Until there may be something for it.
    async fn idle(&self, id: &str, before: i64, more: &mut watch::Receiver<i64>, revision: &mut watch::Receiver<i64>) {
        let archive = self.means.office.archive();
        let Ok(account) = self.means.office.account_of_webhook(id).await else { return sleep(AGAIN_AFTER).await };
        let look_at = Instant::now() + LOOK_EVERY;
        loop {
            let is_news = archive.newest_of(&account).is_some_and(|newest| newest >= before);
            if is_news || Instant::now() >= look_at && *more.borrow() > before {
                return;
            }
            tokio::select! {
                _ = more.changed() => {}
                _ = revision.changed() => return,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn post(&self, mut batch: Batch) {
        let places = if batch.failures() == 0 { &self.good } else { &self.doubtful };
        let Ok(_place) = places.acquire().await else { return };
        let body = body(&mut batch, &self.means.intake.snapshot());
        let began = Instant::now();
        let now = Timestamp(self.means.clock.now());
        let told = self.tell(&batch, body.clone(), now).await;
        let took = began.elapsed();
        let request = shown(&body);
        let sent = match told {
            Ok((status, answered)) => {
                let (answer, words) = worth(status);
                Sent { answer, status: Some(status.as_u16()), words, took, request, answered: shown(&answered) }
            }
            Err(words) => Sent { answer: Answer::Failed, status: None, words, took, request, answered: String::new() },
        };
        let what = match (sent.answer, sent.status) {
            (Answer::Taken, _) => "taken",
            (_, Some(_)) => "refused",
            (_, None) => "failed",
        };
        self.means.intake.metrics().webhook_posts.get_or_create(&What { what }).inc();
        // Not for secrets: so that targets are not tried at one moment.
        let chance = f64::from(crc(&batch.id(), now)) / f64::from(u32::MAX);
        if self.means.office.webhook_sent(&batch, &sent, chance).await.is_err() {
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn tell(&self, batch: &Batch, body: Bytes, now: Timestamp) -> Result<(StatusCode, Vec<u8>), String> {
        let uri: Uri = batch.webhook.url.parse().map_err(|_| "the address cannot be read".to_owned())?;
        let request = request(batch, &uri, body, now)?;
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or("the address names no host")?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let address = self.address(host.trim_start_matches('[').trim_end_matches(']')).await?;
        let to = SocketAddr::new(address, port);
        let stream = timeout(CONNECT_WAIT, TcpStream::connect(to))
            .await
            .map_err(|_| format!("{to} did not answer within {} seconds", CONNECT_WAIT.as_secs()))?
            .map_err(|fault| format!("{to}: {fault}"))?;
        let _ = stream.set_nodelay(true);
        if is_tls {
            let stream = self.means.connector.connect(stream, host, &Policy::Sts, CONNECT_WAIT).await;
            converse(stream.map_err(|fault| format!("TLS with {host}: {fault}"))?, request).await
        } else {
            converse(stream, request).await
        }
    }

    /// The address to dial: what is looked up here is what is used.
    async fn address(&self, host: &str) -> Result<IpAddr, String> {
        let found = match host.parse::<IpAddr>() {
            Ok(literal) => vec![literal],
            Err(_) => {
                let answer = self.means.dns.addresses(host, Families::Both).await;
                answer.map_err(|fault| format!("the name {host} cannot be looked up: {fault}"))?.addresses
            }
        };
        let mut refused = None;
        for address in found {
            match not_public(address.to_canonical(), &self.means.allow_private) {
                None => return Ok(address),
                Some(kind) => {
                    refused = Some(format!("{host} is at {address}, which is {kind}: such targets are refused"));
                }
            }
        }
        Err(refused.unwrap_or_else(|| format!("{host} has no address")))
    }
}

fn crc(id: &str, now: Timestamp) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(id.as_bytes());
    hash.update(&now.0.to_be_bytes());
    hash.finalize()
}

/// One request and its answer: status, and the beginning of the body.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Vec<u8>), String> {
    let broken = |fault: hyper::Error| format!("the conversation broke off: {fault}");
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_OCTETS_MAX).handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let conversation = async move {
        let response = timeout(ANSWER_WAIT, sender.send_request(request))
            .await
            .map_err(|_| format!("no answer within {} seconds", ANSWER_WAIT.as_secs()))?
            .map_err(broken)?;
        let status = response.status();
        Ok((status, rest(response).await.map_err(broken)?))
    };
    tokio::pin!(conversation, connection);
    tokio::select! {
        told = &mut conversation => told,
        // The peer is done with the connection; what it said before may still wait to be read.
        _ = &mut connection => conversation.await,
    }
}

/// As much of the answer as is looked at. What is slow or endless is left; what breaks off is a fault.
async fn rest(response: Response<Incoming>) -> Result<Vec<u8>, hyper::Error> {
    let mut body = response.into_body();
    let mut octets = Vec::new();
    let until = Instant::now() + REST_WAIT;
    while octets.len() < ANSWER_OCTETS_MAX && !body.is_end_stream() {
        match tokio::time::timeout_at(until, body.frame()).await {
            Ok(Some(frame)) => {
                if let Some(data) = frame?.data_ref() {
                    octets.extend_from_slice(&data[..data.len().min(ANSWER_OCTETS_MAX - octets.len())]);
                }
            }
            Ok(None) | Err(_) => break,
        }
    }
    Ok(octets)
}

fn worth(status: StatusCode) -> (Answer, String) {
    let code = status.as_u16();
    match code {
        200..=299 => (Answer::Taken, "taken".to_owned()),
        410 => (Answer::Gone, "410: the target says that it is gone for good".to_owned()),
        300..=399 => (
            Answer::Failed,
            format!("{code}: the target points elsewhere, which is not followed; give the webhook that address"),
        ),
        _ => (Answer::Failed, format!("{code}: the target did not take it")),
    }
}

/// Standard Webhooks: `type`, `timestamp`, `data`.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// When the first of them happened.
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    webhook: &'a str,
    /// In the order in which they happened; each may come again, under its `id`.
    events: Vec<Box<serde_json::value::RawValue>>,
}

/// What is sent; where it would be too large, with fewer events.
fn body(batch: &mut Batch, snapshot: &Snapshot) -> Bytes {
    let view = |kept: &Kept| serde_json::value::to_raw_value(&KeptView::of(kept, Reader::Account, snapshot));
    let mut events = Vec::new();
    let mut octets = 0;
    for kept in &batch.events {
        let Ok(event) = view(kept) else { continue };
        octets += event.get().len() + 1;
        if octets > BATCH_OCTETS_MAX && !events.is_empty() {
            break;
        }
        events.push(event);
    }
    batch.cut(events.len().max(1));
    let timestamp = batch.events.first().map_or_else(String::new, |kept| kept.event.at.to_string());
    let message = Message { kind: "events", timestamp, data: Data { webhook: &batch.webhook.id, events } };
    serde_json::to_vec(&message).unwrap_or_default().into()
}

/// Standard Webhooks: signed is the id, the moment and the body; each good secret signs.
fn request(batch: &Batch, uri: &Uri, body: Bytes, now: Timestamp) -> Result<Request<Full<Bytes>>, String> {
    let (id, seconds) = (batch.id(), now.unix_seconds());
    let mut signed = format!("{id}.{seconds}.").into_bytes();
    signed.extend_from_slice(&body);
    let signatures: Vec<String> = batch
        .secrets
        .iter()
        .map(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)))
        })
        .collect();
    let authority = uri.authority().ok_or("the address names no host")?.as_str();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let unaskable = |_| "the address cannot be asked".to_owned();
    Request::post(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static("weir"))
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signatures.join(" "))
        .body(Full::new(body))
        .map_err(|fault: hyper::http::Error| unaskable(fault))
}

/// The beginning, as text.
fn shown(octets: &[u8]) -> String {
    String::from_utf8_lossy(&octets[..octets.len().min(SHOWN_OCTETS_MAX)]).into_owned()
}
