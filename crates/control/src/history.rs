//! What may who see of what has happened? (R6.1, R2.8)

use crate::account;
use crate::actor::Actor;
use crate::block::{Kept, Wanted, folded};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::subaccount;
use crate::tail::ReadOn;

impl Office {
    /// The question as this actor may put it: of its own account and part, and blind to what is the operator's.
    pub async fn events_for(&self, by: &Actor, mut wanted: Wanted) -> Result<Wanted, Refusal> {
        wanted.recipient = wanted.recipient.map(|recipient| folded(&recipient));
        let own = by.account().map(|own| own.as_str().to_owned());
        let called = wanted.account.take().or(own);
        let Some(called) = called else {
            by.may_watch()?;
            return Ok(wanted);
        };
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, &called, Actor::may_read).await?;
        if let Some(part) = wanted.subaccount.take() {
            let part = subaccount::own(&mut conn, &account.id, &part).await?;
            by.may_read_part(&account.id, Some(&part.id))?;
            wanted.subaccount = Some(part.id);
        }
        if let Some(part) = by.subaccount() {
            wanted.subaccount = Some(part.as_str().to_owned());
        }
        wanted.account = Some(account.id);
        wanted.concealing = !by.is_operator();
        Ok(wanted)
    }

    /// Newest first.
    pub async fn events(&self, by: &Actor, wanted: Wanted, window: &Window) -> Result<Page<Kept>, Refusal> {
        let wanted = self.events_for(by, wanted).await?;
        let before = match &window.after {
            Some(after) => Some(after.parse().map_err(|_| {
                Refusal::invalid("after", "This is no place in the list of events.", "Send `next` of the page before.")
            })?),
            None => None,
        };
        let limit = usize::try_from(window.fetch() - 1).unwrap_or(1);
        let found = self.archive().search(&wanted, before, limit).await?;
        Ok(Page { items: found.events, next: found.next.map(|next| next.to_string()) })
    }

    /// From this number on, as `events_for` has put the question.
    pub async fn events_from(&self, wanted: &Wanted, number: i64, limit: usize) -> Result<ReadOn, Refusal> {
        self.archive().read_on(wanted, number, limit).await
    }
}
