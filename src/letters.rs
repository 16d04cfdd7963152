//! How do letters to owners and operators leave? As mail of an account of the operator's choice, through the same intake as any.

use crate::judge::Letters;
use crate::rounds::{closing, pause};
use control::letter::{Due, Letter};
use control::{Actor, Office};
use engine::id::AccountId;
use mail::compose::{Compose, NamedMailbox};
use mail::smtp::command::RecipientParameters;
use mta::intake::{Asked, Intake, Offer};
use mta::once::{Begun, once_of};
use mta::visitor::{Right, Via, Visitor};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// What is said together is told together.
const GATHER: Duration = Duration::from_millis(200);
/// For what is due without anything being changed, and for what could not be sent.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Tells of what happens until the house closes.
pub async fn run(office: Office, intake: Intake, letters: Letters, mut stop: watch::Receiver<bool>) {
    let mut changes = office.store().changes();
    loop {
        changes.mark_unchanged();
        tell(&office, &intake, &letters).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(LOOK_EVERY) => {}
            () = closing(&mut stop) => return,
        }
        if pause(GATHER, &mut stop).await {
            return;
        }
    }
}

/// Tells what is to be told; what cannot be sent now is due again the next time.
async fn tell(office: &Office, intake: &Intake, letters: &Letters) {
    // A refusal was logged where it arose.
    let Ok(due) = office.letters_due().await else { return };
    if due.is_empty() {
        return;
    }
    let account = match office.account(&Actor::service(), &letters.account).await {
        Ok(account) => AccountId::new(&account.id),
        Err(refusal) => return tracing::error!(%refusal, "letters wait: letters_account names no account"),
    };
    for one in due {
        if let Err(why) = send_all(intake, letters, &account, &one).await {
            return tracing::error!("letters wait: {why}");
        }
        if office.is_told(&one.told).await.is_err() {
            return;
        }
    }
}

async fn send_all(intake: &Intake, letters: &Letters, account: &AccountId, one: &Due) -> Result<(), String> {
    for letter in one.letters.iter().filter(|letter| !letter.to.is_empty()) {
        send(intake, letters, account, letter).await?;
    }
    Ok(())
}

async fn send(intake: &Intake, letters: &Letters, account: &AccountId, letter: &Letter) -> Result<(), String> {
    let now = intake.now();
    let started = match intake.onces().begin(once_of(account, &letter.key, letter.text.as_bytes()), now).await {
        Begun::First(started) => started,
        // It left before a stop, and only that was not noted; or with words that have changed since.
        Begun::Again(_) | Begun::Reused => return Ok(()),
        Begun::UnderWay => return Err("the letter is being written down".to_owned()),
    };
    let id = Intake::new_id();
    let to: Vec<NamedMailbox> = letter.to.iter().filter_map(|to| NamedMailbox::parse(to).ok()).collect();
    let recipients = to.iter().map(|to| (to.mailbox.clone(), RecipientParameters::default())).collect();
    let smtputf8 = letters.from.mailbox.needs_smtputf8() || to.iter().any(|to| to.mailbox.needs_smtputf8());
    let compose = Compose {
        from: letters.from.clone(),
        to,
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: letter.subject.clone(),
        text: Some(letter.text.clone()),
        html: None,
        attachments: Vec::new(),
        // RFC 3834: no machine is to answer it.
        headers: vec![("Auto-Submitted".to_owned(), "auto-generated".to_owned())],
        date_unix: now.unix_seconds(),
        message_id: format!("<{id}@{}>", intake.host()),
        seed: id.0 as u64,
    };
    let octets = compose.write().map_err(|error| error.to_string())?;
    let offer = Offer {
        message: Some(id),
        from: Some(letters.from.mailbox.clone()),
        recipients,
        octets,
        protocol: "local",
        asked: Asked::default(),
        stream: None,
        send_at: None,
        tags: Vec::new(),
        tls: None,
        envid: None,
        ret: None,
        smtputf8,
        once: Some(started),
        unsubscribe: Some(false),
    };
    let visitor = Visitor { via: Via::Http, peer: None, right: Right::Account(account.clone()) };
    let admitted = intake.admit(&visitor, offer).await.map_err(|refusal| refusal.sentence)?;
    tracing::info!(id = %admitted.message, subject = letter.subject, "a letter is on its way");
    Ok(())
}
