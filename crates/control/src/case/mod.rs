//! Who asked for what, who answers, and what became of it? (R3.1 to R3.5, R7.3, R7.4)
//!
//! A case is one record that both sides see: what was asked, what was said, what was decided and why. Each step is one change, with its
//! line in the audit log; what a grant does is done in it (`fulfil`).

mod fulfil;
mod policy;
mod request;
mod words;

pub use fulfil::Waiting;
pub use policy::{Policy, PolicyChange, Rehearsed, Standings};
pub use request::{MAIL_TYPES, Part, Request, Traffic};
pub use words::Language;

use crate::account::{self, Account, Standing};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::inventory;
use crate::managed::FitQuestion;
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::pool;
use crate::refusal::{Kind, Refusal};
use crate::region;
use crate::store::{Change, Columns, number, q, row, rows, run};
use engine::case::{self, CaseAct, CaseKind, CaseState, after};
use engine::policy::Facts;
use engine::time::Timestamp;
use request::said;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::net::IpAddr;
use words::Says;

/// Of an account, at a time.
const PENDING_MAX: i64 = 50;
const ATTACHMENTS_MAX: usize = 10;
const ATTACHMENT_OCTETS_MAX: usize = 1 << 20;
/// Of a case, all together.
const ATTACHED_OCTETS_MAX: i64 = 5 << 20;
const ATTACHMENT_NAME_LETTERS_MAX: usize = 100;
/// Entries of a case that are shown; more than people write.
const ENTRIES_MAX: i64 = 1_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub id: String,
    pub account: String,
    pub kind: CaseKind,
    pub state: CaseState,
    pub language: Language,
    pub request: Request,
    /// What was known of the account when it asked.
    pub facts: Facts,
    pub decision: Option<Decision>,
    pub opened_at: Timestamp,
    /// When the next answer is due; none: nobody waits for one.
    pub due_at: Option<Timestamp>,
    /// When the first answer came.
    pub answered_at: Option<Timestamp>,
    pub changed_at: Timestamp,
    pub revision: i64,
    release: Option<String>,
}

impl Case {
    /// What it is about and how it stands, in its language.
    #[must_use]
    pub fn title(&self) -> String {
        words::title(self.kind, self.state, self.language)
    }

    /// The same for the operator.
    #[must_use]
    pub fn heading(&self) -> String {
        words::heading(self.kind, self.state)
    }

    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.due_at.is_some_and(|due_at| due_at <= now)
    }
}

/// What was decided, by whom, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub granted: Vec<Part>,
    pub reason: Option<String>,
    /// Of a denial: what would change it.
    pub would_change: Option<String>,
    /// The policy that decided; none: a person did.
    pub policy: Option<String>,
    pub at: i64,
}

/// Something that was said or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: i64,
    pub at: Timestamp,
    pub party: Party,
    pub name: String,
    pub act: String,
    pub text: String,
    pub attachments: Vec<Attached>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    Customer,
    Operator,
    Service,
}

impl Party {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Party::Customer => "customer",
            Party::Operator => "operator",
            Party::Service => "service",
        }
    }

    pub(crate) fn of(code: &str) -> Party {
        [Party::Customer, Party::Operator].into_iter().find(|party| party.code() == code).unwrap_or(Party::Service)
    }
}

/// A file that somebody attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub id: String,
    pub name: String,
    pub octets: usize,
}

#[derive(Clone, Debug)]
pub struct NewCase {
    pub kind: CaseKind,
    pub language: Language,
    pub request: Request,
}

/// What somebody says.
#[derive(Clone, Debug, Default)]
pub struct Saying {
    pub text: String,
    pub attachments: Vec<(String, Vec<u8>)>,
    /// Of the operator: it waits for an answer.
    pub asks: bool,
}

/// What the operator decides.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Without parts, all of it as it was asked for; with parts, these, which may be less.
    Grant {
        parts: Vec<Part>,
        reason: Option<String>,
    },
    Deny {
        reason: String,
        would_change: String,
    },
}

#[derive(Clone, Debug, Default)]
pub struct CaseFilter {
    pub account: Option<String>,
    pub kind: Option<CaseKind>,
    pub state: Option<CaseState>,
    pub overdue: bool,
}

macro_rules! columns {
    () => {
        "id, account, kind, state, language, request, figures, decision, opened_at, due_at, answered_at, changed_at, \
         revision, release"
    };
}

use columns;

fn read(row: &AnyRow) -> Result<Case, Refusal> {
    // What another version wrote is shown as far as it can be.
    Ok(Case {
        id: row.text(0)?,
        account: row.text(1)?,
        kind: CaseKind::of(&row.text(2)?).unwrap_or(CaseKind::LeaveSandbox),
        state: CaseState::of(&row.text(3)?).unwrap_or(CaseState::Closed),
        language: Language::of(&row.text(4)?).unwrap_or_default(),
        request: serde_json::from_str(&row.text(5)?).unwrap_or_default(),
        facts: serde_json::from_str(&row.text(6)?).unwrap_or_default(),
        decision: row.text_or_none(7)?.and_then(|decision| serde_json::from_str(&decision).ok()),
        opened_at: Timestamp(row.whole(8)?),
        due_at: row.whole_or_none(9)?.map(Timestamp),
        answered_at: row.whole_or_none(10)?.map(Timestamp),
        changed_at: Timestamp(row.whole(11)?),
        revision: row.whole(12)?,
        release: row.text_or_none(13)?,
    })
}

/// Of the account, where one is named; another's is not there.
pub(crate) async fn find(conn: &mut AnyConnection, account: Option<&str>, id: &str) -> Result<Case, Refusal> {
    let query = q!(concat!("SELECT ", columns!(), " FROM cases WHERE id = $1"), id.to_owned());
    let found = row(conn, query).await?.as_ref().map(read).transpose()?;
    found
        .filter(|case| account.is_none_or(|account| case.account == account))
        .ok_or_else(|| Refusal::not_found("case", id))
}

impl Office {
    /// R3.1, R3.5, R3.8, R7.3: what is asked for, completely; its first answer is due in a day, and comes at once where a policy has it.
    pub async fn open_case(&self, by: &Actor, account: &str, new: NewCase) -> Result<Case, Refusal> {
        // What costs money, or gives up what cannot be had again, is the owner's to ask for.
        let may = if matches!(new.kind, CaseKind::Quota | CaseKind::LeaveSandbox) {
            Actor::may_manage
        } else {
            Actor::may_own
        };
        let known = {
            let mut conn = self.store().read().await?;
            account::seen(&mut conn, by, account, may).await?
        };
        let request = new.request.completed(new.kind)?;
        let (missing, unmet) = self.missing(by, &known, new.kind, &request).await?;
        let facts = self.facts(&known, &request, unmet).await?;
        let now = self.now();
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, &known.id, may).await?;
        self.must_be_open_to(&mut change, &account, new.kind, &request).await?;
        let mut case = Case {
            id: id::fresh("case"),
            account: account.id.clone(),
            kind: new.kind,
            state: CaseState::first(new.kind),
            language: new.language,
            request,
            facts,
            decision: None,
            opened_at: now,
            due_at: (new.kind != CaseKind::Relinquish).then_some(now + case::FIRST_ANSWER_WITHIN),
            answered_at: None,
            changed_at: now,
            revision: 1,
            release: None,
        };
        let asked = self.begin_release(&mut change, by, &account, &mut case).await?;
        insert(&mut change, &case).await?;
        if let Some(due_at) = case.due_at {
            self.say(&mut change, &case, &Says::Received { kind: case.kind, due_at }).await?;
        }
        for part in &case.request.parts {
            if let (CaseKind::DedicatedIps, Some(per_second), Some(quantity)) = (case.kind, part.rate, part.quantity) {
                let (region, per_ip) = (part.region.as_str(), case::PER_SECOND_OF_IP);
                self.say(&mut change, &case, &Says::Working { region, per_second, per_ip, quantity }).await?;
            }
        }
        if !missing.is_empty() {
            self.say(&mut change, &case, &Says::Missing { points: &missing }).await?;
        }
        if let Some((ips, until)) = &asked {
            self.say(&mut change, &case, &Says::ConfirmRelease { ips, until: *until }).await?;
        }
        let detail = json!({ "kind": case.kind.code(), "request": case.request });
        self.write_case(&mut change, by, &case, "opened", detail).await?;
        change.commit().await?;
        // It is there, whatever becomes of its answer.
        Ok(if case.state == CaseState::Open { self.answer_by_policy(case).await } else { case })
    }

    async fn must_be_open_to(
        &self,
        change: &mut Change,
        account: &Account,
        kind: CaseKind,
        request: &Request,
    ) -> Result<(), Refusal> {
        let pending =
            q!("SELECT COUNT(*) FROM cases WHERE account = $1 AND state IN ('open', 'waiting')", account.id.clone());
        if number(change.conn(), pending).await? >= PENDING_MAX {
            let sentence = format!("The account has {PENDING_MAX} cases that nobody has answered yet.");
            return Err(Refusal::conflict("cases_max", sentence, "Close those that you do not need any more."));
        }
        for part in &request.parts {
            region::must_exist(change.conn(), &part.region).await.map_err(|refusal| refusal.at("requests"))?;
        }
        if kind == CaseKind::LeaveSandbox && account.standing != Standing::Sandbox {
            let sentence = format!("The account is not in the sandbox, but {}.", account.standing.code());
            return Err(Refusal::conflict("not_in_sandbox", sentence, "There is nothing to leave."));
        }
        if kind == CaseKind::DedicatedIps
            && let Some(called) = &request.pool
        {
            for part in &request.parts {
                let pool = pool::own(change.conn(), &account.id, &part.region, called).await;
                if pool.map_err(|refusal| refusal.at("pool"))?.region != part.region {
                    let sentence = format!("The pool {called} is not in {}.", part.region);
                    return Err(Refusal::conflict("other_region", sentence, "Name a pool of that region.").at("pool"));
                }
            }
        }
        Ok(())
    }

    /// R3.8: what is not met or speaks against it, in words; and how much of it is required.
    async fn missing(
        &self,
        by: &Actor,
        account: &Account,
        kind: CaseKind,
        request: &Request,
    ) -> Result<(Vec<String>, usize), Refusal> {
        let (CaseKind::ManagedPool, Some(traffic)) = (kind, &request.traffic) else { return Ok((Vec::new(), 0)) };
        for domain in &traffic.domains {
            // A name that nobody can verify is a mistake, and not something that is missing.
            name::domain(domain).map_err(|refusal| refusal.at("traffic"))?;
        }
        let asked = FitQuestion {
            per_day: traffic.per_day,
            per_month: traffic.per_month,
            is_steady: traffic.is_steady,
            domains: traffic.domains.clone(),
            regions: request.parts.iter().map(|part| part.region.clone()).collect(),
            needs_addresses: false,
        };
        let fit = self.fits_managed(by, &account.id, &asked).await?;
        let required = fit.requirements.iter().filter(|point| !point.met).count();
        let unmet = fit.requirements.into_iter().chain(fit.advice).filter(|point| !point.met);
        Ok((unmet.map(|point| point.words).collect(), required))
    }

    /// R3.5: the IPs that are to go, and until when that can be confirmed.
    async fn begin_release(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &Account,
        case: &mut Case,
    ) -> Result<Option<(Vec<IpAddr>, Timestamp)>, Refusal> {
        if case.kind != CaseKind::Relinquish {
            return Ok(None);
        }
        let mut ips = Vec::new();
        for part in &mut case.request.parts {
            if let Some(quantity) = part.quantity {
                part.ips = self.newest_leased(change.conn(), &account.id, &part.region, quantity).await?;
                if part.ips.len() != quantity as usize {
                    let sentence = format!("The account has {} IPs of its own in {}.", part.ips.len(), part.region);
                    return Err(
                        Refusal::conflict("too_few_ips", sentence, "Give back no more than those.").at("requests")
                    );
                }
            }
            ips.extend(&part.ips);
        }
        let asked = self.ask_release_in(change, by, account, &ips, case.request.although_empty).await?;
        for part in &case.request.parts {
            for ip in &part.ips {
                let known = inventory::find(change.conn(), *ip).await?.region;
                if known != part.region {
                    let sentence = format!("{ip} is in {known}, and not in {}.", part.region);
                    return Err(Refusal::invalid("requests", sentence, "An IP belongs to one region: name it there."));
                }
            }
        }
        case.release = Some(asked.id);
        Ok(Some((asked.ips, asked.expires_at)))
    }

    /// Both sides talk in it; what is said is not unsaid.
    pub async fn say_in_case(&self, by: &Actor, account: &str, case: &str, saying: Saying) -> Result<Case, Refusal> {
        let text = said("text", Some(saying.text), true)?.unwrap_or_default();
        let mut change = self.store().change().await?;
        let mut case = self.case_to_change(&mut change, by, account, case, Actor::may_manage).await?;
        let act = match (by.is_operator(), saying.asks) {
            (false, false) => CaseAct::Say,
            (true, false) => CaseAct::Answer,
            (true, true) => CaseAct::Ask,
            (false, true) => {
                return Err(Refusal::invalid("asks", "Whoever asks the customer is the operator.", "Leave it out."));
            }
        };
        self.become_after(&mut case, act)?;
        let now = self.now();
        case.due_at = match case.state {
            // What the customer says begins the operator's day anew, once the operator has answered.
            CaseState::Open if act == CaseAct::Say && case.answered_at.is_some() => {
                Some(now + case::FIRST_ANSWER_WITHIN)
            }
            CaseState::Open if act == CaseAct::Say => case.due_at,
            // It has had its answer: nobody waits for another.
            _ => None,
        };
        if by.is_operator() {
            case.answered_at.get_or_insert(now);
        }
        let party = if by.is_operator() { Party::Operator } else { Party::Customer };
        let entry = self.add_entry(&mut change, &case, (party, &by.name), "said", &text).await?;
        self.attach(&mut change, &case, entry, saying.attachments).await?;
        self.put_case(&mut change, by, &mut case, "said", json!({ "entry": entry })).await?;
        change.commit().await?;
        Ok(case)
    }

    /// R3.3, R7.3: the operator's answer. What is granted is there when this returns, as far as there are IPs.
    pub async fn answer_case(
        &self,
        by: &Actor,
        account: &str,
        case: &str,
        answer: Answer,
        revision: Option<i64>,
    ) -> Result<Case, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let mut case = self.case_to_change(&mut change, by, account, case, Actor::may_manage).await?;
        account::must_be_seen("case", revision, case.revision)?;
        self.answer_in(&mut change, by, &mut case, answer, None).await?;
        change.commit().await?;
        Ok(case)
    }

    pub(crate) async fn answer_in(
        &self,
        change: &mut Change,
        by: &Actor,
        case: &mut Case,
        answer: Answer,
        policy: Option<&str>,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let (act, granted, reason, would_change) = match answer {
            Answer::Grant { parts, reason } => {
                let granted = fulfil::granted(case, parts)?;
                let act = if fulfil::is_whole(case, &granted) { CaseAct::Grant } else { CaseAct::GrantPartly };
                let reason = said("reason", reason, act == CaseAct::GrantPartly)?;
                (act, granted, reason, None)
            }
            Answer::Deny { reason, would_change } => {
                let would_change = said("would_change", Some(would_change), true)?;
                (CaseAct::Deny, Vec::new(), said("reason", Some(reason), true)?, would_change)
            }
        };
        self.become_after(case, act)?;
        case.due_at = None;
        case.answered_at.get_or_insert(now);
        let name = policy.map_or_else(|| by.name.clone(), |policy| format!("the policy {policy}"));
        let party = if policy.is_some() { Party::Service } else { Party::Operator };
        self.add_entry(change, case, (party, &name), case.state.code(), "").await?;
        if act != CaseAct::Deny {
            self.fulfil(change, by, case, &granted).await?;
        }
        if let Some(reason) = &reason {
            self.say(change, case, &Says::Reason { reason }).await?;
        }
        if let Some(what) = &would_change {
            self.say(change, case, &Says::WouldChange { what }).await?;
        }
        let decision = Decision { granted, reason, would_change, policy: policy.map(str::to_owned), at: now.0 };
        let detail = json!({ "decision": decision });
        case.decision = Some(decision);
        let action = case.state.code();
        self.put_case(change, by, case, action, detail).await
    }

    /// R3.5: it can't be undone, and is done once.
    pub async fn confirm_case(&self, by: &Actor, account: &str, case: &str) -> Result<Case, Refusal> {
        let mut change = self.store().change().await?;
        let mut case = self.case_to_change(&mut change, by, account, case, Actor::may_own).await?;
        self.become_after(&mut case, CaseAct::Confirm)?;
        let Some(release) = case.release.clone() else { return Err(impossible(&case, CaseAct::Confirm)) };
        let ended = self.confirm_release_in(&mut change, by, &case.account, &release).await?;
        let ips: Vec<IpAddr> = ended.iter().map(|lease| lease.ip).collect();
        self.add_entry(&mut change, &case, (Party::Customer, &by.name), "confirmed", "").await?;
        self.say(&mut change, &case, &Says::Released { ips: &ips }).await?;
        self.put_case(&mut change, by, &mut case, "confirmed", json!({ "ips": ips })).await?;
        change.commit().await?;
        Ok(case)
    }

    pub async fn close_case(&self, by: &Actor, account: &str, case: &str) -> Result<Case, Refusal> {
        let mut change = self.store().change().await?;
        let mut case = self.case_to_change(&mut change, by, account, case, Actor::may_manage).await?;
        self.become_after(&mut case, CaseAct::Close)?;
        case.due_at = None;
        let party = if by.is_operator() { Party::Operator } else { Party::Customer };
        self.add_entry(&mut change, &case, (party, &by.name), "closed", "").await?;
        self.say(&mut change, &case, &Says::Closed).await?;
        self.put_case(&mut change, by, &mut case, "closed", json!({})).await?;
        change.commit().await?;
        Ok(case)
    }

    /// R7.4: what was denied, granted in part or closed is looked at once more. What was granted stays, and counts as asked for.
    pub async fn reopen_case(&self, by: &Actor, account: &str, case: &str, text: String) -> Result<Case, Refusal> {
        let text = said("text", Some(text), true)?.unwrap_or_default();
        let mut change = self.store().change().await?;
        let mut case = self.case_to_change(&mut change, by, account, case, Actor::may_manage).await?;
        self.become_after(&mut case, CaseAct::Reopen)?;
        let due_at = self.now() + case::FIRST_ANSWER_WITHIN;
        case.due_at = Some(due_at);
        let party = if by.is_operator() { Party::Operator } else { Party::Customer };
        self.add_entry(&mut change, &case, (party, &by.name), "reopened", &text).await?;
        self.say(&mut change, &case, &Says::Reopened { due_at }).await?;
        self.put_case(&mut change, by, &mut case, "reopened", json!({})).await?;
        change.commit().await?;
        Ok(case)
    }

    /// The newest first; an account sees its own.
    pub async fn cases(&self, by: &Actor, wanted: &CaseFilter, window: &Window) -> Result<Page<Case>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = match &wanted.account {
            Some(called) => Some(account::reach(&mut conn, by, called, Actor::may_read).await?),
            None => {
                by.may_watch()?;
                None
            }
        };
        let query = q!(
            concat!(
                "SELECT ",
                columns!(),
                " FROM cases WHERE ($1 = '' OR id < $1) AND ($2 = '' OR account = $2) AND ($3 = '' OR kind = $3) \
                 AND ($4 = '' OR state = $4) AND ($5 = 0 OR due_at <= $6) ORDER BY id DESC LIMIT $7"
            ),
            window.after_text(),
            account.unwrap_or_default(),
            wanted.kind.map_or("", CaseKind::code),
            wanted.state.map_or("", CaseState::code),
            i64::from(wanted.overdue),
            self.now().0,
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |case| case.id.clone()))
    }

    /// One with all that was said in it.
    pub async fn case(&self, by: &Actor, account: &str, case: &str) -> Result<(Case, Vec<Entry>), Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::reach(&mut conn, by, account, Actor::may_read).await?;
        let case = find(&mut conn, Some(&account), case).await?;
        let query = q!(
            "SELECT id, at, party, name, act, text FROM case_entry WHERE of_case = $1 ORDER BY id LIMIT $2",
            case.id.clone(),
            ENTRIES_MAX,
        );
        let mut entries = Vec::new();
        for row in rows(&mut conn, query).await? {
            let party = Party::of(&row.text(2)?);
            // Who at the operator's it was is the operator's own affair.
            let name = if party == Party::Operator && !by.is_operator() { "the operator".into() } else { row.text(3)? };
            entries.push(Entry {
                id: row.whole(0)?,
                at: Timestamp(row.whole(1)?),
                party,
                name,
                act: row.text(4)?,
                text: row.text(5)?,
                attachments: Vec::new(),
            });
        }
        let query = q!(
            "SELECT id, entry, name, LENGTH(octets) FROM case_attachment WHERE of_case = $1 ORDER BY id",
            case.id.clone()
        );
        for row in rows(&mut conn, query).await? {
            let (entry, octets) = (row.whole(1)?, usize::try_from(row.whole(3)?).unwrap_or(0));
            if let Some(entry) = entries.iter_mut().find(|known| known.id == entry) {
                entry.attachments.push(Attached { id: row.text(0)?, name: row.text(2)?, octets });
            }
        }
        Ok((case, entries))
    }

    /// Its name and what is in it.
    pub async fn case_attachment(
        &self,
        by: &Actor,
        account: &str,
        case: &str,
        attachment: &str,
    ) -> Result<(String, Vec<u8>), Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::reach(&mut conn, by, account, Actor::may_read).await?;
        let case = find(&mut conn, Some(&account), case).await?;
        let query = q!(
            "SELECT name, octets FROM case_attachment WHERE id = $1 AND of_case = $2",
            attachment.to_owned(),
            case.id,
        );
        let found = row(&mut conn, query).await?.ok_or_else(|| Refusal::not_found("attachment", attachment))?;
        Ok((found.text(0)?, found.octets(1)?))
    }

    /// Cases that wait for the operator, and how many of them are overdue.
    pub async fn cases_open(&self) -> Result<(i64, i64), Refusal> {
        let mut conn = self.store().read().await?;
        let open = number(&mut conn, q!("SELECT COUNT(*) FROM cases WHERE state = 'open'")).await?;
        let overdue = q!("SELECT COUNT(*) FROM cases WHERE due_at <= $1", self.now().0);
        Ok((open, number(&mut conn, overdue).await?))
    }

    async fn case_to_change(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &str,
        case: &str,
        may: fn(&Actor, &str) -> Result<(), Refusal>,
    ) -> Result<Case, Refusal> {
        let account = account::reach(change.conn(), by, account, may).await?;
        self.case_in(change, Some(&account), case).await
    }

    /// One that is changed now: all that is said in it by this change has one time.
    async fn case_in(&self, change: &mut Change, account: Option<&str>, id: &str) -> Result<Case, Refusal> {
        let case = find(change.conn(), account, id).await?;
        Ok(Case { changed_at: self.now(), ..case })
    }

    fn become_after(&self, case: &mut Case, act: CaseAct) -> Result<(), Refusal> {
        case.state = after(case.kind, case.state, act).ok_or_else(|| impossible(case, act))?;
        Ok(())
    }

    /// The service says something in the case.
    async fn say(&self, change: &mut Change, case: &Case, says: &Says<'_>) -> Result<(), Refusal> {
        let words = says.words(case.language);
        self.add_entry(change, case, (Party::Service, "Weir"), "told", &words).await.map(|_| ())
    }

    async fn add_entry(
        &self,
        change: &mut Change,
        case: &Case,
        (party, name): (Party, &str),
        act: &str,
        text: &str,
    ) -> Result<i64, Refusal> {
        let insert = q!(
            "INSERT INTO case_entry (of_case, at, party, name, act, text) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            case.id.clone(),
            case.changed_at.0,
            party.code(),
            name.to_owned(),
            act.to_owned(),
            text.to_owned(),
        );
        number(change.conn(), insert).await
    }

    async fn attach(
        &self,
        change: &mut Change,
        case: &Case,
        entry: i64,
        attachments: Vec<(String, Vec<u8>)>,
    ) -> Result<(), Refusal> {
        if attachments.is_empty() {
            return Ok(());
        }
        let wrong =
            |sentence: String| Err(Refusal::invalid("attachments", sentence, "Attach less, or say where it is."));
        let there = q!(
            "SELECT CAST(COALESCE(SUM(LENGTH(octets)), 0) AS BIGINT) FROM case_attachment WHERE of_case = $1",
            case.id.clone()
        );
        let mut all = number(change.conn(), there).await?;
        if attachments.len() > ATTACHMENTS_MAX {
            return wrong(format!("At most {ATTACHMENTS_MAX} files are attached at a time."));
        }
        for (name, octets) in attachments {
            all += i64::try_from(octets.len()).unwrap_or(i64::MAX);
            if octets.is_empty() || octets.len() > ATTACHMENT_OCTETS_MAX || all > ATTACHED_OCTETS_MAX {
                return wrong("A file has 1 octet to 1 MiB, and all of a case at most 5 MiB together.".to_owned());
            }
            let fits = |letter: char| !letter.is_control() && !['/', '\\', '"'].contains(&letter);
            if !(1..=ATTACHMENT_NAME_LETTERS_MAX).contains(&name.chars().count()) || !name.chars().all(fits) {
                return wrong(format!(
                    "A file's name has 1 to {ATTACHMENT_NAME_LETTERS_MAX} plain characters, and no path."
                ));
            }
            let insert = q!(
                "INSERT INTO case_attachment (id, of_case, entry, name, octets) VALUES ($1, $2, $3, $4, $5)",
                id::fresh("att"),
                case.id.clone(),
                entry,
                name,
                octets,
            );
            run(change.conn(), insert).await?;
        }
        Ok(())
    }

    async fn put_case(
        &self,
        change: &mut Change,
        by: &Actor,
        case: &mut Case,
        action: &'static str,
        detail: Value,
    ) -> Result<(), Refusal> {
        case.revision += 1;
        let update = q!(
            "UPDATE cases SET state = $2, decision = $3, due_at = $4, answered_at = $5, changed_at = $6, revision = $7 \
             WHERE id = $1",
            case.id.clone(),
            case.state.code(),
            case.decision.as_ref().map(|decision| json!(decision).to_string()),
            case.due_at.map(|at| at.0),
            case.answered_at.map(|at| at.0),
            case.changed_at.0,
            case.revision,
        );
        run(change.conn(), update).await?;
        self.write_case(change, by, case, action, detail).await
    }

    async fn write_case(
        &self,
        change: &mut Change,
        by: &Actor,
        case: &Case,
        action: &'static str,
        detail: Value,
    ) -> Result<(), Refusal> {
        let line = Line { subject: Subject::Case, id: &case.id, account: Some(&case.account), action, detail };
        audit::write(change, by, self.now(), line).await
    }
}

fn impossible(case: &Case, act: CaseAct) -> Refusal {
    let what = match act {
        CaseAct::Say | CaseAct::Answer | CaseAct::Ask => "nothing more is said in it",
        CaseAct::Grant | CaseAct::GrantPartly | CaseAct::Deny => "it cannot be answered",
        CaseAct::Confirm => "there is nothing to confirm",
        CaseAct::Close => "it cannot be closed",
        CaseAct::Reopen => "it cannot be opened again",
    };
    let sentence = format!("The case is {}: {what}.", case.state.code());
    let mend = match case.state {
        CaseState::PartlyGranted | CaseState::Denied | CaseState::Closed if case.kind != CaseKind::Relinquish => {
            "Reopen it to go on, or open another."
        }
        CaseState::Waiting if case.kind == CaseKind::Relinquish => "It waits for the customer's confirmation.",
        _ => "Look at it again; open another case for anything new.",
    };
    Refusal::new(Kind::Conflict, "case_state", sentence, mend).by_rule("R7.4")
}

async fn insert(change: &mut Change, case: &Case) -> Result<(), Refusal> {
    let insert = q!(
        "INSERT INTO cases (id, account, kind, state, language, request, figures, release, opened_at, due_at, changed_at, \
         revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $9, 1)",
        case.id.clone(),
        case.account.clone(),
        case.kind.code(),
        case.state.code(),
        case.language.code(),
        json!(case.request).to_string(),
        json!(case.facts).to_string(),
        case.release.clone(),
        case.opened_at.0,
        case.due_at.map(|at| at.0),
    );
    run(change.conn(), insert).await.map(|_| ())
}
