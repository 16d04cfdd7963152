//! How do letters to owners and operators leave? As mail of an account of the operator's choice, through the same intake as any.

use crate::judge::Letters;
use crate::rounds::{closing, pause};
use control::letter::{Due, Letter};
use control::{Actor, Office};
use engine::id::AccountId;
use mail::compose::NamedMailbox;
use mta::intake::Intake;
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
    let once = once_of(account, &letter.key, letter.text.as_bytes());
    let started = match intake.onces().begin(once, intake.now()).await {
        Begun::First(started) => started,
        // It left before a stop, and only that was not noted; or with words that have changed since.
        Begun::Again(_) | Begun::Reused => return Ok(()),
        Begun::UnderWay => return Err("the letter is being written down".to_owned()),
    };
    let composed = mta::letter::Letter {
        from: letters.from.clone(),
        to: letter.to.iter().filter_map(|to| NamedMailbox::parse(to).ok()).collect(),
        subject: letter.subject.clone(),
        text: letter.text.clone(),
    };
    let visitor = Visitor { via: Via::Http, peer: None, right: Right::Account(account.clone()) };
    let sender = Some(letters.from.mailbox.clone());
    let handed_in = mta::letter::hand_in(intake, &visitor, composed, sender, Some(started)).await;
    let admitted = handed_in.map_err(|unsent| unsent.to_string())?;
    tracing::info!(id = %admitted.message, subject = letter.subject, "a letter is on its way");
    Ok(())
}
