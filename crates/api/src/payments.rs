//! How does whoever takes the money hear of invoices? (R7.5)
//!
//! One target for the whole installation, of the operator's choice: a program that speaks to a payment provider. It gets one paper after
//! the other, signed as webhooks are, each again until it has taken it. Where the money was taken at once, its answer says so.

use crate::line::{self, Answered, Line};
use crate::native::charge::shown;
use crate::post::closing;
use bytes::Bytes;
use control::Office;
use control::charge::Invoice;
use hyper::Uri;
use mta::metrics::{Metrics, What};
use net::dns::Dns;
use net::tls::Connector;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Papers that are made together are told together.
const GATHER: Duration = Duration::from_millis(200);
/// For papers that another process made, and after a failure.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Settings {
    pub url: String,
    /// What its requests are signed with.
    pub secret: Vec<u8>,
}

pub struct Payments {
    pub office: Office,
    pub dns: Arc<dyn Dns>,
    pub connector: Connector,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
}

/// Until the house closes.
pub async fn run(payments: Payments, mut stop: watch::Receiver<bool>) {
    let mut changes = payments.office.store().changes();
    let (mut line, mut was_well) = (None, true);
    loop {
        changes.mark_unchanged();
        let told = tokio::select! {
            told = payments.tell(&mut line) => told,
            // What is under way is told again, under the same id.
            () = closing(&mut stop) => return,
        };
        let is_well = told.is_ok();
        match told {
            Ok(()) if !was_well => tracing::info!("the payments program takes invoices again"),
            Err(why) if was_well => tracing::error!("invoices wait to be handed over: {why}"),
            _ => {}
        }
        was_well = is_well;
        tokio::select! {
            changed = changes.changed(), if is_well => if changed.is_err() { return },
            () = sleep(LOOK_EVERY) => {}
            () = closing(&mut stop) => return,
        }
        tokio::select! {
            () = sleep(GATHER) => {}
            () = closing(&mut stop) => return,
        }
    }
}

impl Payments {
    /// Hands over what there is; what is not taken is the first one the next time.
    pub async fn tell(&self, line: &mut Option<Line>) -> Result<(), String> {
        while let Some(paper) = self.office.paper_to_hand_over().await.map_err(|refusal| refusal.to_string())? {
            let told = self.post(&paper, line).await;
            let what = match &told {
                Ok(answered) if answered.status.is_success() => "taken",
                Ok(_) => "refused",
                Err(_) => "failed",
            };
            self.metrics.payment_posts.get_or_create(&What { what }).inc();
            let paid = paid_by(&told?).map_err(|why| format!("{}: {why}", paper.id))?;
            let taken = self.office.paper_is_taken(&paper, paid.as_deref()).await;
            taken.map_err(|refusal| format!("{}: {refusal}", paper.id))?;
        }
        Ok(())
    }

    async fn post(&self, paper: &Invoice, line: &mut Option<Line>) -> Result<Answered, String> {
        let url = &self.settings.url;
        let uri: Uri = url.parse().map_err(|_| "the address cannot be read".to_owned())?;
        let kind = if paper.corrects.is_some() { "credit-note.made" } else { "invoice.made" };
        let body = json!({ "type": kind, "timestamp": paper.made_at.to_string(), "data": shown(paper.clone()) });
        let (body, now) = (Bytes::from(body.to_string()), self.office.now());
        let request =
            || line::signed(&format!("paper_{}", paper.id), &[&self.settings.secret], &uri, body.clone(), now);
        let open = Line::open_by_name(url, &uri, self.dns.as_ref(), &self.connector);
        let (answered, kept) = line::ask(line.take(), url, request, open).await?;
        *line = kept;
        Ok(answered)
    }
}

/// By which payment the money was taken at once; none: it was not. An answer that may say so and cannot be read is none at all.
fn paid_by(answered: &Answered) -> Result<Option<String>, String> {
    if !answered.status.is_success() {
        return Err(format!("the payments program answered {}", answered.status.as_u16()));
    }
    if !answered.is_whole {
        return Err("the payments program's answer broke off, or is too long".to_owned());
    }
    let said: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
    match said.get("paid") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(reference)) => Ok(Some(reference.clone())),
        Some(other) => {
            Err(format!("the payments program says paid: {other}; it is to be the payment's reference, as text"))
        }
    }
}
