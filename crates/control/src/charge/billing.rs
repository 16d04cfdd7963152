//! Who bills, and who is billed? As they stand on papers, in their own words. (R7.5)

use crate::account;
use crate::actor::Actor;
use crate::audit::{self, Line as AuditLine, Subject};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::store::{Columns, q, row, run};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AnyConnection;

/// Of a name or a line of an address on a paper.
const LETTERS_MAX: usize = 200;
const ADDRESS_LINES_MAX: usize = 8;

/// Who bills, or is billed, as it stands on a paper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Billing {
    pub name: String,
    pub address: Vec<String>,
    pub tax_id: Option<String>,
    /// Of who bills: three letters; what is written under the sum.
    pub currency: String,
    pub note: Option<String>,
}

/// Who bills is kept under no name.
async fn billing_of(conn: &mut AnyConnection, account: &str) -> Result<Option<Billing>, Refusal> {
    let found = row(conn, q!("SELECT details FROM billing WHERE account = $1", account.to_owned())).await?;
    Ok(found.map(|row| row.text(0)).transpose()?.and_then(|details| serde_json::from_str(&details).ok()))
}

pub(super) async fn biller(conn: &mut AnyConnection) -> Result<Billing, Refusal> {
    let usual = Billing { currency: "USD".to_owned(), ..Billing::default() };
    Ok(billing_of(conn, "").await?.unwrap_or(usual))
}

impl Office {
    /// Whom a paper is for: what the account has said, or its name.
    pub(super) async fn billed(&self, conn: &mut AnyConnection, account: &str) -> Result<Billing, Refusal> {
        let billed = billing_of(conn, account).await?.unwrap_or_default();
        let name = if billed.name.is_empty() { account::find(conn, account).await?.name } else { billed.name.clone() };
        Ok(Billing { name, ..billed })
    }

    /// Who bills.
    pub async fn biller(&self, by: &Actor) -> Result<Billing, Refusal> {
        by.may_watch()?;
        biller(&mut *self.store().read().await?).await
    }

    pub async fn set_biller(&self, by: &Actor, to: Billing) -> Result<Billing, Refusal> {
        by.may_operate()?;
        let currency = to.currency.clone();
        if currency.len() != 3 || !currency.bytes().all(|letter| letter.is_ascii_uppercase()) {
            let sentence = "A currency has three letters.";
            return Err(Refusal::invalid("currency", sentence, "Such as USD or EUR; amounts have two decimals."));
        }
        self.put_billing(by, None, to).await
    }

    /// Who is billed, in the account's own words.
    pub async fn billing(&self, by: &Actor, account: &str) -> Result<Billing, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::reach(&mut conn, by, account, Actor::may_read).await?;
        by.may_read_part(&account, None)?;
        self.billed(&mut conn, &account).await
    }

    pub async fn set_billing(&self, by: &Actor, account: &str, to: Billing) -> Result<Billing, Refusal> {
        let account = {
            let mut conn = self.store().read().await?;
            account::reach(&mut conn, by, account, Actor::may_own).await?
        };
        self.put_billing(by, Some(&account), Billing { currency: String::new(), note: None, ..to }).await
    }

    async fn put_billing(&self, by: &Actor, account: Option<&str>, to: Billing) -> Result<Billing, Refusal> {
        if to.address.len() > ADDRESS_LINES_MAX {
            let sentence = format!("An address has at most {ADDRESS_LINES_MAX} lines.");
            return Err(Refusal::invalid("address", sentence, "Write it shorter."));
        }
        let is = Billing {
            name: line("name", &to.name)?,
            address: to.address.iter().map(|said| line("address", said)).collect::<Result<_, _>>()?,
            tax_id: to.tax_id.map(|said| line("tax_id", &said)).transpose()?,
            currency: to.currency,
            note: to.note.map(|said| line("note", &said)).transpose()?,
        };
        let mut change = self.store().change().await?;
        let was = billing_of(change.conn(), account.unwrap_or_default()).await?;
        let put = q!(
            "INSERT INTO billing (account, details) VALUES ($1, $2) \
             ON CONFLICT (account) DO UPDATE SET details = excluded.details",
            account.unwrap_or_default().to_owned(),
            json!(is).to_string(),
        );
        run(change.conn(), put).await?;
        let detail = json!({ "was": was, "is": is });
        let id = account.unwrap_or("biller");
        audit::write(
            &mut change,
            by,
            self.now(),
            AuditLine { subject: Subject::Billing, id, account, action: "set", detail },
        )
        .await?;
        change.commit().await?;
        Ok(is)
    }
}

/// What can stand on one line of a paper.
pub(super) fn line(field: &str, said: &str) -> Result<String, Refusal> {
    let said = said.trim();
    if (1..=LETTERS_MAX).contains(&said.chars().count()) && !said.chars().any(char::is_control) {
        return Ok(said.to_owned());
    }
    let sentence = format!("It has 1 to {LETTERS_MAX} letters on one line.");
    Err(Refusal::invalid(field, sentence, "Write it on one line; an address has several of its own."))
}
