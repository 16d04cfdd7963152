//! Who tells the sender that a message is late or lost?
//!
//! A notice (RFC 3464) is a message like any other: it goes through the same admission, waits in the same queue, and has no sender
//! itself, so that no notice is ever written about a notice. The message it is about stays in the spool until the notice is durable.

use crate::driver::Notice;
use crate::intake::{Intake, Offer, RETRY_AFTER, Via, Visitor};
use crate::record;
use engine::NotifyKind;
use engine::envelope::{Envelope, TlsWish};
use engine::event::Event;
use mail::address::Mailbox;
use mail::dsn::{self, Dsn, DsnKind};
use mail::smtp::command::RecipientParameters;
use spool::{Spool, Stored};
use tokio::sync::mpsc::UnboundedReceiver;

/// Writes notices until the driver has none more to ask for.
pub async fn run(intake: Intake, spool: Spool, mut notices: UnboundedReceiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        let key = notice.message.0;
        let reader = spool.clone();
        match tokio::task::spawn_blocking(move || reader.read(key)).await {
            Ok(Ok(stored)) => tell(&intake, &notice, &stored).await,
            Ok(Err(fault)) => tracing::error!(message = %notice.message, %fault, "a notice cannot be written: its message cannot be read"),
            Err(fault) => tracing::error!(message = %notice.message, %fault, "a notice was not written"),
        }
        if notice.finished {
            spool.remove(key, Vec::new());
        }
    }
}

/// Writes the notice and waits until it is durable; a spool without room is waited for.
async fn tell(intake: &Intake, notice: &Notice, stored: &Stored) {
    let envelope = match record::read_envelope(&stored.head) {
        Ok(envelope) => envelope,
        Err(fault) => return tracing::error!(message = %notice.message, %fault, "a notice cannot be written"),
    };
    // RFC 3464 2: never about a message that has no sender.
    let Some(sender) = envelope.sender.as_deref().and_then(|sender| Mailbox::parse(sender).ok()) else { return };
    let visitor = Visitor { account: Some(envelope.account.clone()), user: None, via: Via::Notice };
    let octets = write(intake, notice, &envelope, &sender, &stored.body);
    loop {
        let offer = Offer {
            message: None,
            from: None,
            recipients: vec![(sender.clone(), RecipientParameters::default())],
            octets: octets.clone(),
            protocol: "local",
            pool: None,
            stream: None,
            tags: Vec::new(),
            tls: TlsWish::IfOffered,
            envid: None,
            ret: None,
            smtputf8: sender.needs_smtputf8(),
        };
        match intake.admit(&visitor, offer).await {
            Ok(admitted) => return tracing::info!(about = %notice.message, message = %admitted.message, "told the sender"),
            Err(refusal) if refusal.is_passing() => tokio::time::sleep(RETRY_AFTER).await,
            Err(refusal) => {
                return tracing::warn!(about = %notice.message, code = refusal.code, "the sender cannot be told: {}", refusal.sentence);
            }
        }
    }
}

fn write(intake: &Intake, notice: &Notice, envelope: &Envelope, sender: &Mailbox, original: &[u8]) -> Vec<u8> {
    let now = intake.now();
    let recipients = notice
        .recipients
        .iter()
        .filter_map(|at| {
            let recipient = envelope.recipients.get(usize::from(*at))?;
            let event = notice.events.iter().rev().find(|event| event.recipient == Some(*at));
            Some(dsn::Recipient {
                address: recipient.address.clone(),
                original: recipient.orcpt.clone(),
                remote: event.and_then(|event| event.host.as_deref()).map(str::to_owned),
                reply: event.and_then(|event| event.reply.clone()),
                reason: event.and_then(reason),
                last_attempt_unix: event.map(|event| event.at.0.div_euclid(1_000_000)),
            })
        })
        .collect();
    Dsn {
        kind: match notice.kind {
            NotifyKind::Failed => DsnKind::Failed,
            NotifyKind::Delayed => DsnKind::Delayed { until_unix: envelope.expires_at.0.div_euclid(1_000_000) },
            NotifyKind::Relayed => DsnKind::Relayed,
        },
        host: intake.host().to_owned(),
        to: sender.clone(),
        envid: envelope.envid.clone(),
        ret: envelope.ret,
        arrived_unix: envelope.accepted_at.0.div_euclid(1_000_000),
        recipients,
        original: original.to_vec(),
        date_unix: now.0.div_euclid(1_000_000),
        message_id: format!("<{}.notice@{}>", notice.message, intake.host()),
    }
    .write()
}

fn reason(event: &Event) -> Option<String> {
    event.why.as_ref().map(engine::why::Why::words)
}
