//! Which papers does whoever takes the money not know yet? (R7.5)

use super::{Invoice, find, made_after};
use crate::actor::Actor;
use crate::office::Office;
use crate::refusal::Refusal;
use crate::store::{Change, number, q};

/// How far papers are handed over, among the sources that are read on.
const HANDED_OVER: &str = "payments";

impl Office {
    /// The next invoice or credit note that is to be handed over, as it stands now; at first the oldest that waits to be paid, and from
    /// then on all.
    pub async fn paper_to_hand_over(&self) -> Result<Option<Invoice>, Refusal> {
        let known = match self.taken_in(HANDED_OVER).await? {
            Some(position) => i64::try_from(position).unwrap_or(i64::MAX),
            None => {
                let mut change = self.store().change().await?;
                let begin = q!(concat!(
                    "SELECT COALESCE(MIN(i.number) - 1, (SELECT COALESCE(MAX(number), 0) FROM invoice)) FROM invoice i WHERE ",
                    unpaid!()
                ));
                let begin = number(change.conn(), begin).await?;
                self.note_taken_in(&mut change, HANDED_OVER, &begin.to_string()).await?;
                change.commit().await?;
                begin
            }
        };
        Ok(made_after(&mut *self.store().read().await?, known, 1).await?.pop())
    }

    /// It is known there; and was paid at once, where a payment is named. Both, or neither.
    pub async fn paper_is_taken(&self, paper: &Invoice, paid: Option<&str>) -> Result<(), Refusal> {
        let known = self.taken_in(HANDED_OVER).await?;
        let mut change = self.store().change().await?;
        if let Some(reference) = paid {
            self.pay_once(&mut change, paper, reference).await?;
        }
        // Another process may be farther.
        if known.and_then(|known| i64::try_from(known).ok()).is_none_or(|known| known < paper.number) {
            self.note_taken_in(&mut change, HANDED_OVER, &paper.number.to_string()).await?;
        }
        change.commit().await
    }

    async fn pay_once(&self, change: &mut Change, paper: &Invoice, reference: &str) -> Result<(), Refusal> {
        match self.pay(change, &Actor::service(), &paper.account, &paper.id, reference).await {
            Err(refusal) if refusal.code == "not_open" => {
                let is = find(change.conn(), &paper.account, &paper.id).await?;
                if is.paid_by.as_deref() != Some(reference) {
                    tracing::error!(
                        invoice = paper.id,
                        reference,
                        paid_by = is.paid_by,
                        "money was taken for what was not to be paid any more: {}",
                        refusal.sentence
                    );
                }
                Ok(())
            }
            paid => paid,
        }
    }
}
