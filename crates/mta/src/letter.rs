//! How does a letter of the service's own leave? As mail of an account, through the same admission as any.

use crate::intake::{Admitted, Intake, Offer};
use crate::once::Started;
use crate::refusal::Refusal;
use crate::visitor::Visitor;
use mail::address::Mailbox;
use mail::compose::{Compose, ComposeError, NamedMailbox};
use mail::smtp::command::RecipientParameters;

pub struct Letter {
    pub from: NamedMailbox,
    pub to: Vec<NamedMailbox>,
    pub subject: String,
    pub text: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    #[error(transparent)]
    Unwritable(#[from] ComposeError),
    #[error("{}", .0.sentence)]
    Refused(Refusal),
}

/// It is durable with Ok. What comes back goes to `sender`; where there is none, it tells nobody anything.
pub async fn hand_in(
    intake: &Intake,
    visitor: &Visitor,
    letter: Letter,
    sender: Option<Mailbox>,
    once: Option<Started>,
) -> Result<Admitted, Unsent> {
    let id = Intake::new_id();
    let recipients = letter.to.iter().map(|to| (to.mailbox.clone(), RecipientParameters::default())).collect();
    let smtputf8 = letter.from.mailbox.needs_smtputf8() || letter.to.iter().any(|to| to.mailbox.needs_smtputf8());
    let compose = Compose {
        from: letter.from,
        to: letter.to,
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: letter.subject,
        text: Some(letter.text),
        html: None,
        attachments: Vec::new(),
        // RFC 3834: no machine is to answer it.
        headers: vec![("Auto-Submitted".to_owned(), "auto-generated".to_owned())],
        date_unix: intake.now().unix_seconds(),
        message_id: format!("<{id}@{}>", intake.host()),
        seed: id.0 as u64,
    };
    let offer = Offer {
        message: Some(id),
        smtputf8,
        once,
        unsubscribe: Some(false),
        ..Offer::plain(sender, recipients, compose.write()?)
    };
    intake.admit(visitor, offer).await.map_err(Unsent::Refused)
}
