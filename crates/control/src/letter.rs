//! Who hears by mail of what happened while they did not look? (R7.3, R7.4, R6.3)
//!
//! Owners hear of answers to their cases and of incidents of their account, operators of cases that want an answer and of all incidents.
//! Nothing is written for it when something happens: what was said in cases is numbered, and how far it was told is noted; an incident knows
//! what was told of it. Each letter has a key, so that it leaves once although it is tried again.

use crate::case::{Case, Party};
use crate::charge;
use crate::incident::{self, Weight};
use crate::office::Office;
use crate::refusal::Refusal;
use crate::store::{Columns, number, q, row, rows, run};
use engine::charge::Cents;
use sqlx::AnyConnection;
use std::time::Duration;

/// What is older is told no more: who switches letters on hears of what happens from then on.
const TOLD_WITHIN: Duration = Duration::from_secs(2 * 86_400);
/// Things that are told of in one round.
const ROUND_MAX: i64 = 100;
/// How far cases and invoices are told of, among the sources that are read on.
const CASES: &str = "letters of cases";
const INVOICES: &str = "letters of invoices";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Nobody: there is nobody who could read it.
    pub to: Vec<String>,
    pub subject: String,
    pub text: String,
    /// The same whenever it is tried again.
    pub key: String,
}

/// What is told of, and how it is noted that it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// All that was said in cases up to this entry.
    Entries(i64),
    Incident(String, &'static str),
    Overdue(String, i64),
    /// All invoices up to this number.
    Invoices(i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub letters: Vec<Letter>,
    pub told: Told,
}

/// What was said or done in a case by one step.
struct Step {
    first: i64,
    last: i64,
    case: String,
    at: i64,
    said: Vec<(Party, String)>,
}

impl Office {
    /// What is to be told, in its order.
    pub async fn letters_due(&self) -> Result<Vec<Due>, Refusal> {
        let known = self.taken_in(CASES).await?;
        let invoices_told = self.taken_in(INVOICES).await?.and_then(|position| i64::try_from(position).ok());
        let mut conn = self.store().read().await?;
        let mut due = Vec::new();
        match known.and_then(|position| i64::try_from(position).ok()) {
            Some(position) => self.of_cases(&mut conn, position, &mut due).await?,
            None => {
                let newest = number(&mut conn, q!("SELECT COALESCE(MAX(id), 0) FROM case_entry")).await?;
                due.push(Due { letters: Vec::new(), told: Told::Entries(newest) });
            }
        }
        match invoices_told {
            Some(position) => self.of_invoices(&mut conn, position, &mut due).await?,
            None => {
                let newest = number(&mut conn, q!("SELECT COALESCE(MAX(number), 0) FROM invoice")).await?;
                due.push(Due { letters: Vec::new(), told: Told::Invoices(newest) });
            }
        }
        self.of_overdue(&mut conn, &mut due).await?;
        self.of_incidents(&mut conn, &mut due).await?;
        Ok(due)
    }

    /// It is on its way, or nobody was there to read it.
    pub async fn is_told(&self, told: &Told) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        match told {
            Told::Entries(position) => self.note_taken_in(&mut change, CASES, &position.to_string()).await?,
            Told::Invoices(number) => self.note_taken_in(&mut change, INVOICES, &number.to_string()).await?,
            Told::Incident(id, weight) => {
                run(change.conn(), q!("UPDATE incident SET told = $2 WHERE id = $1", id.clone(), *weight)).await?;
            }
            Told::Overdue(id, due_at) => {
                run(change.conn(), q!("UPDATE cases SET overdue_told = $2 WHERE id = $1", id.clone(), *due_at)).await?;
            }
        }
        change.commit().await
    }

    async fn of_cases(&self, conn: &mut AnyConnection, from: i64, due: &mut Vec<Due>) -> Result<(), Refusal> {
        let query = q!(
            "SELECT id, of_case, at, party, act, text FROM case_entry WHERE id > $1 ORDER BY id LIMIT $2",
            from,
            ROUND_MAX
        );
        let found = rows(conn, query).await?;
        let mut steps: Vec<Step> = Vec::new();
        for row in &found {
            let (last, case, at) = (row.whole(0)?, row.text(1)?, row.whole(2)?);
            let (party, text) = (Party::of(&row.text(3)?), row.text(5)?);
            let words = if text.is_empty() { row.text(4)? } else { text };
            match steps.last_mut().filter(|step| step.case == case && step.at == at) {
                Some(step) => {
                    step.last = last;
                    step.said.push((party, words));
                }
                None => steps.push(Step { first: last, last, case, at, said: vec![(party, words)] }),
            }
        }
        // The last one may go on behind the end of what was read.
        if found.len() >= usize::try_from(ROUND_MAX).unwrap_or(usize::MAX) && steps.len() > 1 {
            steps.pop();
        }
        for step in steps {
            let letters = self.letters_of(conn, &step).await?;
            due.push(Due { letters, told: Told::Entries(step.last) });
        }
        Ok(())
    }

    async fn letters_of(&self, conn: &mut AnyConnection, step: &Step) -> Result<Vec<Letter>, Refusal> {
        if step.at < (self.now() - TOLD_WITHIN).0 {
            return Ok(Vec::new());
        }
        let case = crate::case::find(conn, None, &step.case).await?;
        let words = |is_for: fn(Party) -> bool| {
            let said = step.said.iter().filter(|(party, _)| is_for(*party)).map(|(_, words)| words.as_str());
            said.collect::<Vec<_>>().join("\n\n")
        };
        let mut letters = Vec::new();
        let to_customer = words(|party| party != Party::Customer);
        if !to_customer.is_empty() {
            let line = format!("weir case show {}", case.id);
            letters.push(Letter {
                to: people(conn, Some(&case.account)).await?,
                subject: case.title(),
                text: format!("{to_customer}\n\n{line}\n"),
                key: format!("case {} {} customer", case.id, step.first),
            });
        }
        let by_customer = words(|party| party == Party::Customer);
        if !by_customer.is_empty() || step.at == case.opened_at.0 {
            letters.push(Letter {
                to: people(conn, None).await?,
                subject: format!("{}: {}", name_of(conn, &case.account).await?, case.heading()),
                text: for_operator(&case, &by_customer),
                key: format!("case {} {} operator", case.id, step.first),
            });
        }
        Ok(letters)
    }

    /// R7.3: nobody has answered in time.
    async fn of_overdue(&self, conn: &mut AnyConnection, due: &mut Vec<Due>) -> Result<(), Refusal> {
        let query = q!(
            "SELECT id, due_at FROM cases WHERE due_at <= $1 AND due_at <> overdue_told ORDER BY due_at LIMIT $2",
            self.now().0,
            ROUND_MAX
        );
        for row in rows(conn, query).await? {
            let case = crate::case::find(conn, None, &row.text(0)?).await?;
            let due_at = row.whole(1)?;
            let subject = format!("Overdue: {}: {}", name_of(conn, &case.account).await?, case.heading());
            let letter = Letter {
                to: people(conn, None).await?,
                subject,
                text: for_operator(&case, ""),
                key: format!("case {} {due_at} overdue", case.id),
            };
            due.push(Due { letters: vec![letter], told: Told::Overdue(case.id, due_at) });
        }
        Ok(())
    }

    /// R7.5: owners hear what they owe; each by a letter of its own.
    async fn of_invoices(&self, conn: &mut AnyConnection, from: i64, due: &mut Vec<Due>) -> Result<(), Refusal> {
        for made in charge::made_after(conn, from, ROUND_MAX).await? {
            let currency = &made.paper.biller.currency;
            let subject = match &made.corrects {
                Some(corrects) => {
                    format!("Credit note {} for invoice {corrects}: {} {currency}", made.id, Cents(made.total_cents))
                }
                None => format!("Invoice {} for {}: {} {currency}", made.id, made.month, Cents(made.total_cents)),
            };
            let lines: Vec<&str> = made.paper.entries.iter().map(|entry| entry.line.words.as_str()).collect();
            let said = made.paper.reason.clone().unwrap_or_else(|| lines.join("\n"));
            let letter = Letter {
                to: people(conn, Some(&made.account)).await?,
                subject,
                text: format!("{said}\n\nweir invoice show {}\n", made.id),
                key: format!("invoice {}", made.id),
            };
            let is_news = made.made_at >= self.now() - TOLD_WITHIN;
            due.push(Due {
                letters: if is_news { vec![letter] } else { Vec::new() },
                told: Told::Invoices(made.number),
            });
        }
        Ok(())
    }

    async fn of_incidents(&self, conn: &mut AnyConnection, due: &mut Vec<Due>) -> Result<(), Refusal> {
        for open in incident::untold(conn, ROUND_MAX).await? {
            let weight = open.weight.code();
            let link = open.link.as_ref().map(|link| format!("\n{link}")).unwrap_or_default();
            let text = format!("{}.\n\n{}{link}\n\nweir incident show {}\n", open.words, open.mend, open.id);
            let stopped = if open.weight == Weight::Stopped { "Stopped: " } else { "" };
            let mut letters = Vec::new();
            let whose = match &open.account {
                Some(account) => {
                    letters.push(Letter {
                        to: people(conn, Some(account)).await?,
                        subject: format!("{stopped}{}", open.words),
                        text: text.clone(),
                        key: format!("incident {} {weight} customer", open.id),
                    });
                    format!("{}: ", name_of(conn, account).await?)
                }
                None => String::new(),
            };
            letters.push(Letter {
                to: people(conn, None).await?,
                subject: format!("{whose}{stopped}{}", open.words),
                text,
                key: format!("incident {} {weight} operator", open.id),
            });
            if open.changed_at < self.now() - TOLD_WITHIN {
                letters.clear();
            }
            due.push(Due { letters, told: Told::Incident(open.id, weight) });
        }
        Ok(())
    }
}

fn for_operator(case: &Case, said: &str) -> String {
    let due = case.due_at.map(|due_at| format!("An answer is due by {due_at}.\n\n")).unwrap_or_default();
    let said = if said.is_empty() { String::new() } else { format!("{said}\n\n") };
    format!("{said}{due}weir case show {} --account {}\n", case.id, case.account)
}

/// Owners of an account, or operators: those who can sign in.
async fn people(conn: &mut AnyConnection, account: Option<&str>) -> Result<Vec<String>, Refusal> {
    let role = if account.is_some() { "owner" } else { "operator" };
    let query = q!(
        "SELECT email FROM person WHERE role = $1 AND COALESCE(account, '') = $2 AND disabled_at IS NULL \
         AND password IS NOT NULL ORDER BY id",
        role,
        account.unwrap_or_default().to_owned(),
    );
    rows(conn, query).await?.iter().map(|row| row.text(0)).collect()
}

async fn name_of(conn: &mut AnyConnection, account: &str) -> Result<String, Refusal> {
    let found = row(conn, q!("SELECT name FROM account WHERE id = $1", account.to_owned())).await?;
    found.map_or_else(|| Ok(account.to_owned()), |row| row.text(0))
}
