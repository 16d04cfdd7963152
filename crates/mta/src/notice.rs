//! Who tells the sender that a message is late or lost?
//!
//! A notice (RFC 3464) is a message like any other: it goes through the same admission, waits in the same queue, and has no sender
//! itself, so that no notice is ever written about a notice. The message it is about stays in the spool until the notice is durable.

use crate::driver::Driver;
use crate::hidden::Hidden;
use crate::intake::{Asked, Intake, Offer, RETRY_AFTER, Visitor};
use crate::record::{self, Notice};
use engine::NotifyKind;
use engine::envelope::Envelope;
use engine::event::EventKind;
use engine::id::MessageId;
use engine::time::Timestamp;
use mail::address::Mailbox;
use mail::dsn::{Action, Report, ReportedRecipient};
use mail::mailboxes::NamedMailbox;
use mail::reply::{Enhanced, Reply};
use mail::smtp::command::{RecipientParameters, Ret};
use spool::{ReadFault, Spool, Stored};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// Of a larger original, only the header goes with the notice (RFC 3461 6.2 leaves it to us).
const ORIGINAL_OCTETS_MAX: usize = 1 << 20;

/// Writes notices until the driver has none more to ask for.
pub async fn run(
    intake: Intake,
    spool: Spool,
    driver: Driver,
    mut notices: UnboundedReceiver<(MessageId, Arc<Notice>)>,
) {
    while let Some((message, notice)) = notices.recv().await {
        let reader = spool.clone();
        match tokio::task::spawn_blocking(move || reader.read(message.0)).await {
            Ok(Ok(stored)) => tell(&intake, message, &notice, &stored).await,
            // It stays owed: the next start tries again.
            Ok(Err(fault @ ReadFault::Disk { .. })) => {
                tracing::error!(id = %message, %fault, "a notice is not written for now: its message cannot be read");
                continue;
            }
            Ok(Err(fault)) => {
                tracing::error!(id = %message, %fault, "a notice cannot be written: its message cannot be read");
            }
            Err(fault) => {
                tracing::error!(id = %message, %fault, "a notice is not written for now");
                continue;
            }
        }
        driver.notice_is_durable(message);
    }
}

/// Writes the notice and waits until it is durable; a spool without room is waited for.
async fn tell(intake: &Intake, about: MessageId, notice: &Notice, stored: &Stored) {
    let envelope = match record::read_envelope(&stored.head) {
        Ok(envelope) => envelope,
        Err(fault) => return tracing::error!(id = %about, %fault, "a notice cannot be written"),
    };
    // RFC 3464 2: never about a message that has no sender.
    let Some(sender) = envelope.sender.as_deref().and_then(|sender| Mailbox::parse(sender).ok()) else { return };
    let visitor = Visitor::notice(envelope.account.clone());
    let state = record::read_standing(&stored.state).ok().flatten().map(|standing| standing.state);
    let route = envelope.route.as_ref().or(state.as_ref().and_then(|state| state.route.as_ref()));
    // R2.8: the sender is told what the remote said, and not from where we spoke to it.
    let spoke = notice.events.iter().filter_map(|event| event.ip);
    let hidden = Hidden::of(route, spoke, &intake.snapshot());
    let octets = write(intake, notice, &envelope, &hidden, &sender, &stored.body);
    // As any mail of the account; an account that names a pool with each message has no other way out.
    let region = Some(envelope.wish.region.clone());
    let pool = route.map(|route| route.pool.0.clone());
    let any = Asked { region: region.clone(), ..Asked::default() };
    let mut ways = [any, Asked { region, pool, ..Asked::default() }, Asked::default()].into_iter();
    let mut asked = ways.next().unwrap_or_default();
    loop {
        let recipients = vec![(sender.clone(), RecipientParameters::default())];
        let offer = Offer {
            asked: asked.clone(),
            smtputf8: sender.needs_smtputf8(),
            ..Offer::plain(None, recipients, octets.clone())
        };
        match intake.admit(&visitor, offer).await {
            Ok(admitted) => {
                return tracing::info!(%about, id = %admitted.message, "told the sender");
            }
            Err(refusal) if refusal.is_passing() => tokio::time::sleep(RETRY_AFTER).await,
            Err(refusal) => match ways.next() {
                Some(next) => asked = next,
                None => {
                    return tracing::warn!(%about, code = refusal.code, "the sender cannot be told: {}", refusal.sentence);
                }
            },
        }
    }
}

fn write(
    intake: &Intake,
    notice: &Notice,
    envelope: &Envelope,
    hidden: &Hidden,
    sender: &Mailbox,
    original: &[u8],
) -> Vec<u8> {
    let seconds = |at: Timestamp| at.0.div_euclid(1_000_000);
    let until = (notice.kind == NotifyKind::Delayed).then(|| seconds(envelope.expires_at));
    let recipients = notice
        .recipients
        .iter()
        .filter_map(|at| {
            let recipient = envelope.recipients.get(usize::from(*at))?;
            let event = notice.events.iter().rev().find(|event| event.recipient == Some(*at));
            let reply = event.and_then(|event| event.reply.as_ref());
            let reply = reply.map(|reply| Reply { text: hidden.words(&reply.text), ..reply.clone() });
            Some(ReportedRecipient {
                address: recipient.address.clone(),
                orcpt: recipient.orcpt.clone(),
                action: action(notice.kind),
                status: status(notice.kind, reply.as_ref()),
                reason: event
                    .and_then(|event| event.why.as_ref())
                    .map(|why| hidden.words(&why.words()))
                    .unwrap_or_default(),
                remote_mta: event.and_then(|event| event.host.as_deref()).map(str::to_owned),
                reply,
                // The event of a delay is not one of an attempt.
                last_attempt_unix: event
                    .filter(|event| event.kind != EventKind::Delayed)
                    .map(|event| seconds(event.at)),
                will_retry_until_unix: until,
            })
        })
        .collect();
    Report {
        from: NamedMailbox { name: Some("Mail Delivery".to_owned()), mailbox: intake.postmaster().clone() },
        to: sender.clone(),
        reporting_mta: intake.postmaster().domain().clone(),
        message_id: format!("<{}@{}>", Intake::new_id(), intake.host()),
        date_unix: seconds(intake.now()),
        arrived_unix: Some(seconds(envelope.accepted_at)),
        envid: envelope.envid.clone(),
        ret: if original.len() > ORIGINAL_OCTETS_MAX { Some(Ret::Headers) } else { envelope.ret },
        recipients,
        original,
        seed: envelope.message.0 as u64,
    }
    .write()
}

fn action(kind: NotifyKind) -> Action {
    match kind {
        NotifyKind::Failed => Action::Failed,
        NotifyKind::Delayed => Action::Delayed,
        NotifyKind::Relayed => Action::Relayed,
    }
}

/// The remote's own status where it gave one that fits; else the plainest that is true.
fn status(kind: NotifyKind, reply: Option<&Reply>) -> Enhanced {
    let class = match kind {
        NotifyKind::Failed => 5,
        NotifyKind::Delayed => 4,
        NotifyKind::Relayed => 2,
    };
    let said = reply.and_then(|reply| reply.enhanced);
    match said {
        Some(said) if said.class == class => said,
        // The remote asked to try again until the lifetime was over: RFC 3463 5.4.7.
        Some(_) if kind == NotifyKind::Failed => Enhanced { class, subject: 4, detail: 7 },
        _ => Enhanced { class, subject: 0, detail: 0 },
    }
}
