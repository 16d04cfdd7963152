//! How is a webhook's target told, and what is its answer worth? (R6.1)
//!
//! The address that is looked up is the address that is checked and dialled, so what a name says a moment later does not matter (F5);
//! a redirect is an answer like any other, and not followed. Every step has a limit in time and size (F6).

use crate::kept::{KeptView, Reader};
use crate::line::{self, Answered, Line, RESTED_MAX};
use bytes::Bytes;
use control::Office;
use control::block::Kept;
use control::webhook::{Batch, Sent, Turn};
use engine::posting::Answer;
use engine::time::Timestamp;
use hyper::{StatusCode, Uri};
use mta::intake::Intake;
use mta::metrics::What;
use net::clock::Clock;
use net::dns::{Dns, Families, Network, not_public};
use net::tls::Connector;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Of a request, beside its events.
const HEAD_OCTETS_EXPECTED: usize = 256;
/// Kept of a request and of an answer.
const SHOWN_OCTETS_MAX: usize = 4 << 10;
/// Of one batch; one event alone may be larger.
const BATCH_OCTETS_MAX: usize = 512 << 10;
/// Events whose JSON is at hand for the other webhooks that hear of them.
const TEXTS_MAX: usize = 8_192;
const TEXTS_OCTETS_MAX: usize = 16 << 20;
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
    texts: Mutex<Texts>,
}

/// Events in JSON, by their number in the archive.
#[derive(Default)]
struct Texts {
    known: HashMap<i64, Arc<RawValue>>,
    order: VecDeque<i64>,
    octets: usize,
}

/// Every webhook has a task of its own, until the house closes.
pub async fn run(means: Means, mut stop: watch::Receiver<bool>) {
    let mut changes = means.office.store().changes();
    let poster = Arc::new(Poster {
        means,
        good: Semaphore::new(POSTS_MAX),
        doubtful: Semaphore::new(DOUBTFUL_POSTS_MAX),
        texts: Mutex::default(),
    });
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

pub(crate) async fn closing(stop: &mut watch::Receiver<bool>) {
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
        let mut line = None;
        loop {
            let is = *revision.borrow_and_update();
            if std::mem::replace(&mut seen, is) != is {
                nothing_before = 0;
            }
            more.borrow_and_update();
            let until = match self.means.office.webhook_turn(&id, &self.means.name, nothing_before).await {
                Ok(Turn::Send(batch)) => {
                    if let Some(batch) = self.fuller(batch, &id, nothing_before).await {
                        line = self.post(*batch, line.take()).await;
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
                    let idle = self.idle(&id, before, &mut more, &mut revision);
                    tokio::pin!(idle);
                    if line.is_none() || timeout(RESTED_MAX, &mut idle).await.is_err() {
                        line = None;
                        idle.await;
                    }
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

    /// A pause makes a batch fuller, where somebody asked for that.
    async fn fuller(&self, batch: Box<Batch>, id: &str, nothing_before: i64) -> Option<Box<Batch>> {
        let wait = Duration::from_millis(u64::try_from(batch.webhook.wait_ms).unwrap_or(0));
        let is_full = batch.events.len() >= usize::try_from(batch.webhook.events_max).unwrap_or(1);
        if wait.is_zero() || is_full || batch.failures() > 0 {
            return Some(batch);
        }
        sleep(wait).await;
        match self.means.office.webhook_turn(id, &self.means.name, nothing_before).await {
            Ok(Turn::Send(batch)) => Some(batch),
            _ => None,
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

    /// The connection, where it can carry more.
    async fn post(&self, mut batch: Batch, line: Option<Line>) -> Option<Line> {
        let places = if batch.failures() == 0 { &self.good } else { &self.doubtful };
        let Ok(_place) = places.acquire().await else { return None };
        let body = self.body(&mut batch);
        let began = Instant::now();
        let now = Timestamp(self.means.clock.now());
        let (told, line) = match self.tell(&batch, body.clone(), now, line).await {
            Ok((told, line)) => (Ok(told), line),
            Err(words) => (Err(words), None),
        };
        let took = began.elapsed();
        let request = shown(&body);
        let sent = match told {
            Ok(Answered { status, body, .. }) => {
                let (answer, words) = worth(status);
                Sent { answer, status: Some(status.as_u16()), words, took, request, answered: shown(&body) }
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
        line
    }

    async fn tell(
        &self,
        batch: &Batch,
        body: Bytes,
        now: Timestamp,
        line: Option<Line>,
    ) -> Result<(Answered, Option<Line>), String> {
        let url = &batch.webhook.url;
        let uri: Uri = url.parse().map_err(|_| "the address cannot be read".to_owned())?;
        let open = async {
            let address = self.address(line::host_of(&uri)?).await?;
            Line::open(url, &uri, address, &self.means.connector).await
        };
        let request = || line::signed(&batch.id(), &batch.secrets, &uri, body.clone(), now);
        line::ask(line, url, request, open).await
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
    events: Vec<&'a RawValue>,
}

impl Poster {
    /// What is sent; where it would be too large, with fewer events.
    fn body(&self, batch: &mut Batch) -> Bytes {
        let mut events = Vec::with_capacity(batch.events.len());
        let mut octets = 0;
        for event in self.texts(&batch.events) {
            octets += event.get().len() + 1;
            if octets > BATCH_OCTETS_MAX && !events.is_empty() {
                break;
            }
            events.push(event);
        }
        batch.cut(events.len().max(1));
        let timestamp = batch.events.first().map_or_else(String::new, |kept| kept.event.at.to_string());
        let data = Data { webhook: &batch.webhook.id, events: events.iter().map(|event| &**event).collect() };
        let message = Message { kind: "events", timestamp, data };
        let mut body = Vec::with_capacity(octets + HEAD_OCTETS_EXPECTED);
        // Writing plain values to memory cannot fail.
        let _ = serde_json::to_writer(&mut body, &message);
        body.into()
    }

    /// The events as an account sees them: all of its webhooks are told the same.
    fn texts(&self, events: &[Arc<Kept>]) -> Vec<Arc<RawValue>> {
        let snapshot = self.means.intake.snapshot();
        // Each entry stands alone: a table that a panic left is as good as before.
        let texts = || self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<Option<Arc<RawValue>>> = {
            let texts = texts();
            events.iter().map(|kept| texts.known.get(&kept.number).cloned()).collect()
        };
        let written = |kept: &Kept| -> Arc<RawValue> {
            let view = KeptView::of(kept, Reader::Account, &snapshot);
            serde_json::value::to_raw_value(&view).expect("plain values can always be written").into()
        };
        let pairs = events.iter().zip(known);
        let all: Vec<_> = pairs.map(|(kept, known)| known.unwrap_or_else(|| written(kept))).collect();
        let mut texts = texts();
        for (kept, text) in events.iter().zip(&all) {
            texts.remember(kept.number, text);
        }
        all
    }
}

impl Texts {
    fn remember(&mut self, number: i64, text: &Arc<RawValue>) {
        if self.known.contains_key(&number) {
            return;
        }
        self.known.insert(number, Arc::clone(text));
        self.order.push_back(number);
        self.octets += text.get().len();
        while self.order.len() > TEXTS_MAX || self.octets > TEXTS_OCTETS_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.octets -= self.known.remove(&oldest).map_or(0, |text| text.get().len());
        }
    }
}

/// The beginning, as text.
fn shown(octets: &[u8]) -> String {
    String::from_utf8_lossy(&octets[..octets.len().min(SHOWN_OCTETS_MAX)]).into_owned()
}
