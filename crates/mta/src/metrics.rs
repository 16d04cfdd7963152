//! What can a Prometheus server ask us? Every series of the data plane, each with the sentence it is published with.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Via {
    pub via: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Refused {
    pub via: &'static str,
    pub code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ByProvider {
    pub what: &'static str,
    /// A provider of the rule file; every other site counts as `other`, so that the number of series stays small.
    pub provider: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct What {
    pub what: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ByCode {
    pub code: String,
}

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages accepted and durable, by the way they came in.
    pub accepted: Family<Via, Counter>,
    /// Submissions refused, by way in and reason.
    pub refused: Family<Refused, Counter>,
    /// Sign-ins that failed, by way in and reason.
    pub sign_ins_failed: Family<Refused, Counter>,
    /// What became of recipients and attempts: delivered, deferred, bounced, expired, deleted.
    pub outcomes: Family<ByProvider, Counter>,
    /// Messages that wait for some recipient.
    pub queued: Gauge,
    /// SMTP connections open now: `in` from submitters, `out` to remote hosts.
    pub sessions: Family<What, Gauge>,
    /// Connections turned away before they could submit, by limit.
    pub turned_away: Family<What, Counter>,
    /// HTTP connections that ended early, because of what came over them, what did not, or a broken line.
    pub http_broken: Family<What, Counter>,
    /// Octets of messages on their way in, held in memory.
    pub receiving_bytes: Gauge,
    /// Seconds from the end of a message's data to its durable acknowledgement.
    pub acknowledge_seconds: Histogram,
    /// Seconds from acceptance to the remote's 250.
    pub delivery_seconds: Histogram,
    /// HTTP submissions answered with the message of the first one, by their idempotency key.
    pub submissions_repeated: Counter,
    /// Opens and clicks that came too often to be written down.
    pub visits_unnoted: Counter,
    /// What came back and was matched, by the event it became, or by why it became none.
    pub returns: Family<What, Counter>,
    /// What came back and was turned away at the door, by limit.
    pub returns_turned_away: Family<What, Counter>,
    /// What came back and belongs to no message, by why.
    pub unmatched: Family<What, Counter>,
    /// Unmatched messages that were not kept, or not any more, for want of room.
    pub unmatched_dropped: Counter,
    /// Idempotency keys remembered now.
    pub idempotency_keys: Gauge,
    /// Idempotency keys forgotten before their day was over, for want of room.
    pub idempotency_keys_forgotten: Gauge,
    /// Alarms raised, by kind: each is also a line in the log.
    pub alarms: Family<ByCode, Counter>,
    /// Records of events that the archive has taken in.
    pub events_kept: Counter,
    /// Seconds from an event to its place in the archive.
    pub events_kept_seconds: Histogram,
    /// Requests to webhooks' targets, by what became of them.
    pub webhook_posts: Family<What, Counter>,
    /// Spans for a collector of traces, by what became of them.
    pub spans: Family<What, Counter>,
    /// Incidents open now, by kind.
    pub incidents_open: Family<What, Gauge>,
    pub active_recipients: Gauge,
    pub cases_open: Family<What, Gauge>,
    pub invoices_open: Gauge,
    /// Requests to the program that takes the money, by what became of them.
    pub payment_posts: Family<What, Counter>,
    /// Streams of events open now.
    pub event_streams: Gauge,
    /// 1 while messages are accepted, 0 while the spool is full or failing.
    pub accepting: Gauge,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("weir");
        let metrics = Metrics {
            accepted: Family::default(),
            refused: Family::default(),
            sign_ins_failed: Family::default(),
            outcomes: Family::default(),
            queued: Gauge::default(),
            sessions: Family::default(),
            turned_away: Family::default(),
            http_broken: Family::default(),
            receiving_bytes: Gauge::default(),
            acknowledge_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            delivery_seconds: Histogram::new(exponential_buckets(0.001, 4.0, 14)),
            submissions_repeated: Counter::default(),
            visits_unnoted: Counter::default(),
            returns: Family::default(),
            returns_turned_away: Family::default(),
            unmatched: Family::default(),
            unmatched_dropped: Counter::default(),
            idempotency_keys: Gauge::default(),
            idempotency_keys_forgotten: Gauge::default(),
            alarms: Family::default(),
            events_kept: Counter::default(),
            events_kept_seconds: Histogram::new(exponential_buckets(0.01, 4.0, 10)),
            webhook_posts: Family::default(),
            payment_posts: Family::default(),
            spans: Family::default(),
            incidents_open: Family::default(),
            active_recipients: Gauge::default(),
            cases_open: Family::default(),
            invoices_open: Gauge::default(),
            event_streams: Gauge::default(),
            accepting: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register(
            "messages_accepted",
            "Messages accepted and durable, by the way they came in",
            metrics.accepted.clone(),
        );
        registry.register("submissions_refused", "Submissions refused, by way in and reason", metrics.refused.clone());
        registry.register(
            "sign_ins_failed",
            "Sign-ins that failed, by way in and reason: wrong passwords, wrong keys, too many of them",
            metrics.sign_ins_failed.clone(),
        );
        registry.register(
            "recipient_outcomes",
            "What became of recipients and attempts, by provider",
            metrics.outcomes.clone(),
        );
        registry.register("queue_messages", "Messages that wait for some recipient", metrics.queued.clone());
        registry.register("smtp_sessions", "SMTP connections open now, in and out", metrics.sessions.clone());
        registry.register(
            "connections_turned_away",
            "Connections turned away before they could submit, by limit",
            metrics.turned_away.clone(),
        );
        registry.register(
            "http_connections_broken",
            "HTTP connections that ended early, because of what came over them, what did not, or a broken line",
            metrics.http_broken.clone(),
        );
        registry.register(
            "receiving_bytes",
            "Octets of messages on their way in, held in memory",
            metrics.receiving_bytes.clone(),
        );
        registry.register(
            "acknowledge_seconds",
            "Seconds from the end of data to the durable acknowledgement",
            metrics.acknowledge_seconds.clone(),
        );
        registry.register(
            "delivery_seconds",
            "Seconds from acceptance to the remote's 250",
            metrics.delivery_seconds.clone(),
        );
        registry.register(
            "submissions_repeated",
            "HTTP submissions answered with the message of the first one, by their idempotency key",
            metrics.submissions_repeated.clone(),
        );
        registry.register(
            "visits_unnoted",
            "Opens and clicks that came too often to be written down",
            metrics.visits_unnoted.clone(),
        );
        registry.register(
            "returns",
            "What came back and was matched, by the event it became, or by why it became none",
            metrics.returns.clone(),
        );
        registry.register(
            "returns_turned_away",
            "What came back and was turned away at the door, by limit",
            metrics.returns_turned_away.clone(),
        );
        registry.register("unmatched", "What came back and belongs to no message, by why", metrics.unmatched.clone());
        registry.register(
            "unmatched_dropped",
            "Unmatched messages that were not kept, or not any more, for want of room",
            metrics.unmatched_dropped.clone(),
        );
        registry.register("idempotency_keys", "Idempotency keys remembered now", metrics.idempotency_keys.clone());
        registry.register(
            "idempotency_keys_forgotten",
            "Idempotency keys forgotten before their day was over, for want of room",
            metrics.idempotency_keys_forgotten.clone(),
        );
        registry.register("alarms", "Alarms raised, by kind", metrics.alarms.clone());
        registry.register(
            "events_kept",
            "Records of events that the archive has taken in",
            metrics.events_kept.clone(),
        );
        registry.register(
            "events_kept_seconds",
            "Seconds from an event to its place in the archive",
            metrics.events_kept_seconds.clone(),
        );
        registry.register(
            "webhook_posts",
            "Requests to targets of webhooks, by what became of them",
            metrics.webhook_posts.clone(),
        );
        registry.register(
            "payment_posts",
            "Requests to the program that takes the money, by what became of them",
            metrics.payment_posts.clone(),
        );
        registry.register("spans", "Spans for a collector of traces, by what became of them", metrics.spans.clone());
        registry.register(
            "active_recipients",
            "Recipients that are known to have opened a message or followed a link",
            metrics.active_recipients.clone(),
        );
        registry.register(
            "cases_open",
            "Cases that wait for the operator (open), and those of them whose answer is overdue",
            metrics.cases_open.clone(),
        );
        registry.register("invoices_open", "Invoices that wait to be paid", metrics.invoices_open.clone());
        registry.register("incidents_open", "Incidents open now, by kind", metrics.incidents_open.clone());
        registry.register("event_streams", "Streams of events open now", metrics.event_streams.clone());
        registry.register(
            "spool_accepting",
            "1 while messages are accepted, 0 while the spool is full or failing",
            metrics.accepting.clone(),
        );
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    /// The page a Prometheus server scrapes.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        encode(&mut page, &self.registry).expect("writing to a string cannot fail");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::{Metrics, Via};

    #[test]
    fn every_series_is_published_with_its_help() {
        let metrics = Metrics::default();
        metrics.accepted.get_or_create(&Via { via: "smtp" }).inc();
        let page = metrics.page();
        assert!(page.contains("weir_messages_accepted_total{via=\"smtp\"} 1"), "{page}");
        assert!(page.contains("# HELP weir_queue_messages Messages that wait"), "{page}");
    }
}
