//! Cases: requests that a person or a policy answers, with the reason. (R3.1 to R3.5, R7.3, R7.4)

use super::words::{Address, Time, words};
use super::{Answer, At, Call, called, created, found, listed, told, whole};
use crate::asked::{Body, Everything, IfMatch, Listed, Listing};
use crate::caller::Desk;
use crate::problem::Problem;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::case as theirs;
use engine::case::{CaseKind as TheirKind, CaseState as TheirState};
use engine::policy::Facts as TheirFacts;
use engine::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(cases))
        .routes(routes!(all_cases))
        .routes(routes!(open_case))
        .routes(routes!(case))
        .routes(routes!(say))
        .routes(routes!(answer))
        .routes(routes!(confirm))
        .routes(routes!(close))
        .routes(routes!(reopen))
        .routes(routes!(attachment))
        .routes(routes!(stop_waiting))
        .routes(routes!(waiting))
}

words!(
    /// What is asked for: standard dedicated IPs, giving some back, a managed pool, higher quotas, or leaving the sandbox.
    CaseKind is TheirKind { DedicatedIps, Relinquish, ManagedPool, Quota, LeaveSandbox }
);

words!(
    /// `open`: it is the operator's turn. `waiting`: it is the customer's.
    CaseState is TheirState { Open, Waiting, Granted, PartlyGranted, Denied, Confirmed, Closed }
);

/// In which language the service speaks in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum CaseLanguage {
    En,
    Ja,
}

impl From<CaseLanguage> for theirs::Language {
    fn from(language: CaseLanguage) -> theirs::Language {
        match language {
            CaseLanguage::En => theirs::Language::English,
            CaseLanguage::Ja => theirs::Language::Japanese,
        }
    }
}

impl From<theirs::Language> for CaseLanguage {
    fn from(language: theirs::Language) -> CaseLanguage {
        match language {
            theirs::Language::English => CaseLanguage::En,
            theirs::Language::Japanese => CaseLanguage::Ja,
        }
    }
}

/// What is asked for, or granted, in one region.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct CasePart {
    /// Without it, the home region.
    region: Option<String>,
    /// How many IPs.
    quantity: Option<u32>,
    /// Messages a second that IPs are wanted for, where no number is given.
    rate: Option<u32>,
    /// These IPs are given back.
    ips: Vec<Address>,
    /// Recipients in 24 hours.
    per_day: Option<i64>,
    /// Recipients a second.
    per_second: Option<i64>,
}

impl CasePart {
    fn theirs(self, home: &str) -> theirs::Part {
        theirs::Part {
            region: self.region.unwrap_or_else(|| home.to_owned()),
            quantity: self.quantity,
            rate: self.rate,
            ips: self.ips.into_iter().map(|ip| ip.0).collect(),
            per_day: self.per_day,
            per_second: self.per_second,
        }
    }
}

impl From<theirs::Part> for CasePart {
    fn from(part: theirs::Part) -> CasePart {
        CasePart {
            region: Some(part.region),
            quantity: part.quantity,
            rate: part.rate,
            ips: part.ips.into_iter().map(Address).collect(),
            per_day: part.per_day,
            per_second: part.per_second,
        }
    }
}

/// The form. Which answers a kind needs is told by the refusal that names the first one missing; docs/operate/cases.md has them all.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCase {
    kind: CaseKind,
    /// Without it, English.
    language: Option<CaseLanguage>,
    /// One of transactional, marketing, system, subscription, other.
    mail_type: Option<String>,
    website: Option<String>,
    /// How the list is built, and how recipients opted in.
    opted_in: Option<String>,
    /// What happens with bounces and complaints.
    bounces: Option<String>,
    /// How recipients opt out.
    opting_out: Option<String>,
    /// How the wanted number was chosen.
    number_chosen: Option<String>,
    use_case: Option<String>,
    /// Agrees to the terms.
    terms: Option<bool>,
    /// Writes only to who asked for it.
    only_opted_in: Option<bool>,
    /// Has a process for bounces and complaints.
    bounce_process: Option<bool>,
    /// One for each region.
    #[serde(default)]
    requests: Vec<CasePart>,
    /// Where leased IPs go; what a managed pool is to be called.
    pool: Option<String>,
    /// What a managed pool is to carry.
    traffic: Option<CaseTraffic>,
    /// Of IPs that are given back: pools may be without any then.
    #[serde(default)]
    although_empty: bool,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CaseTraffic {
    /// Which kinds of mail.
    kinds: String,
    per_day: u64,
    per_month: u64,
    /// Rather than in bursts.
    is_steady: bool,
    domains: Vec<String>,
}

/// The form, as it was filled in.
#[derive(Serialize, ToSchema)]
struct CaseRequest {
    #[schema(required)]
    mail_type: Option<String>,
    #[schema(required)]
    website: Option<String>,
    #[schema(required)]
    opted_in: Option<String>,
    #[schema(required)]
    bounces: Option<String>,
    #[schema(required)]
    opting_out: Option<String>,
    #[schema(required)]
    number_chosen: Option<String>,
    #[schema(required)]
    use_case: Option<String>,
    #[schema(required)]
    terms: Option<bool>,
    #[schema(required)]
    only_opted_in: Option<bool>,
    #[schema(required)]
    bounce_process: Option<bool>,
    requests: Vec<CasePart>,
    #[schema(required)]
    pool: Option<String>,
    #[schema(required)]
    traffic: Option<CaseTraffic>,
}

/// What was decided, and why.
#[derive(Serialize, ToSchema)]
struct CaseDecision {
    granted: Vec<CasePart>,
    #[schema(required)]
    reason: Option<String>,
    /// Of a denial: what would change it.
    #[schema(required)]
    would_change: Option<String>,
    /// The policy that decided; none: a person did.
    #[schema(required)]
    policy: Option<String>,
    at: Time,
}

/// What was known of an account, and of what it wants.
#[derive(Serialize, ToSchema)]
struct CaseFacts {
    plan: String,
    /// Days in good standing.
    standing_days: u32,
    /// Messages of the last four weeks.
    sent: u64,
    /// Those of the busiest of the last fourteen days.
    peak_day: u64,
    bounces_per_10000: f64,
    complaints_per_10000: f64,
    ips_held: u32,
    wanted_ips: u32,
    wanted_per_day: i64,
    wanted_per_second: i64,
    /// Whether all three statements are made.
    statements: bool,
    /// How much of what a managed pool requires is not met.
    unmet: u32,
}

impl From<TheirFacts> for CaseFacts {
    fn from(facts: TheirFacts) -> CaseFacts {
        CaseFacts {
            plan: facts.plan,
            standing_days: facts.standing_days,
            sent: facts.sent,
            peak_day: facts.peak_day,
            bounces_per_10000: facts.bounces_per_10000,
            complaints_per_10000: facts.complaints_per_10000,
            ips_held: facts.ips_held,
            wanted_ips: facts.wanted_ips,
            wanted_per_day: facts.wanted_per_day,
            wanted_per_second: facts.wanted_per_second,
            statements: facts.statements,
            unmet: facts.unmet,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Case {
    id: String,
    account: String,
    kind: CaseKind,
    state: CaseState,
    language: CaseLanguage,
    request: CaseRequest,
    /// What was known of the account when it asked.
    facts: CaseFacts,
    #[schema(required)]
    decision: Option<CaseDecision>,
    opened_at: Time,
    /// When the next answer is due; none: nobody waits for one.
    #[schema(required)]
    due_at: Option<Time>,
    is_overdue: bool,
    /// When the first answer came.
    #[schema(required)]
    answered_at: Option<Time>,
    changed_at: Time,
    revision: i64,
}

fn view(case: theirs::Case, now: Timestamp) -> Case {
    let is_overdue = case.is_overdue(now);
    let request = CaseRequest {
        mail_type: case.request.mail_type,
        website: case.request.website,
        opted_in: case.request.opted_in,
        bounces: case.request.bounces,
        opting_out: case.request.opting_out,
        number_chosen: case.request.number_chosen,
        use_case: case.request.use_case,
        terms: case.request.terms,
        only_opted_in: case.request.only_opted_in,
        bounce_process: case.request.bounce_process,
        requests: case.request.parts.into_iter().map(CasePart::from).collect(),
        pool: case.request.pool,
        traffic: case.request.traffic.map(|traffic| CaseTraffic {
            kinds: traffic.kinds,
            per_day: traffic.per_day,
            per_month: traffic.per_month,
            is_steady: traffic.is_steady,
            domains: traffic.domains,
        }),
    };
    let decision = case.decision.map(|decision| CaseDecision {
        granted: decision.granted.into_iter().map(CasePart::from).collect(),
        reason: decision.reason,
        would_change: decision.would_change,
        policy: decision.policy,
        at: Time(Timestamp(decision.at)),
    });
    Case {
        id: case.id,
        account: case.account,
        kind: case.kind.into(),
        state: case.state.into(),
        language: case.language.into(),
        request,
        facts: case.facts.into(),
        decision,
        opened_at: Time(case.opened_at),
        due_at: case.due_at.map(Time),
        is_overdue,
        answered_at: case.answered_at.map(Time),
        changed_at: Time(case.changed_at),
        revision: case.revision,
    }
}

words!(
    /// Who says it: the account, the operator, or the service itself.
    CaseParty is theirs::Party { Customer, Operator, Service }
);

/// Something that was said or done.
#[derive(Serialize, ToSchema)]
struct CaseEntry {
    at: Time,
    party: CaseParty,
    name: String,
    /// `said`, `told`, or what was done.
    act: String,
    text: String,
    attachments: Vec<AttachedFile>,
}

#[derive(Serialize, ToSchema)]
struct AttachedFile {
    id: String,
    name: String,
    octets: usize,
}

/// A case with all that was said in it, oldest first.
#[derive(Serialize, ToSchema)]
struct CaseFile {
    #[serde(flatten)]
    case: Case,
    entries: Vec<CaseEntry>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CaseMessage {
    text: String,
    /// Of the operator: it waits for the customer's answer.
    #[serde(default)]
    asks: bool,
    /// Files, at most 1 MiB each.
    #[serde(default)]
    attachments: Vec<CaseAttachment>,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CaseAttachment {
    name: String,
    /// In base64.
    content: String,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum CaseVerdict {
    Grant,
    Deny,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CaseAnswer {
    answer: CaseVerdict,
    /// What is granted, where it is not all of it.
    #[serde(default)]
    grants: Vec<CasePart>,
    /// Needed where less is granted than was asked for, and for a denial.
    reason: Option<String>,
    /// Of a denial: what would change it.
    would_change: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CaseReopening {
    /// Why it should be looked at once more.
    text: String,
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct Wanted {
    kind: Option<CaseKind>,
    state: Option<CaseState>,
    /// Only those whose answer is overdue.
    overdue: bool,
}

impl Wanted {
    fn theirs(self, account: Option<String>) -> theirs::CaseFilter {
        theirs::CaseFilter {
            account,
            kind: self.kind.map(Into::into),
            state: self.state.map(Into::into),
            overdue: self.overdue,
        }
    }
}

/// The account's cases, newest first.
#[utoipa::path(get, path = "/accounts/{account}/cases", params(Wanted), responses((status = 200, body = Listed<Case>)))]
async fn cases(call: Call, At([account]): At<1>, list: Listing<Wanted>) -> Answer {
    let account = called(&call.by, Some(account))?;
    let now = call.office.now();
    listed(call.office.cases(&call.by, &list.of.theirs(account), &list.window).await?, |case| view(case, now))
}

/// Everybody's cases, newest first; of an account's key or person, its own.
#[utoipa::path(get, path = "/cases", params(Wanted), responses((status = 200, body = Listed<Case>)))]
async fn all_cases(call: Call, list: Listing<Wanted>) -> Answer {
    let now = call.office.now();
    let own = call.by.account().map(|own| own.as_str().to_owned());
    listed(call.office.cases(&call.by, &list.of.theirs(own), &list.window).await?, |case| view(case, now))
}

/// Ask for something. The first answer is due within a day.
#[utoipa::path(post, path = "/accounts/{account}/cases", request_body = NewCase, responses((status = 201, body = Case)))]
async fn open_case(call: Call, At([account]): At<1>, Body(new): Body<NewCase>) -> Answer {
    let home = call.office.home_region().to_string();
    let request = theirs::Request {
        mail_type: new.mail_type,
        website: new.website,
        opted_in: new.opted_in,
        bounces: new.bounces,
        opting_out: new.opting_out,
        number_chosen: new.number_chosen,
        use_case: new.use_case,
        terms: new.terms,
        only_opted_in: new.only_opted_in,
        bounce_process: new.bounce_process,
        parts: new.requests.into_iter().map(|part| part.theirs(&home)).collect(),
        pool: new.pool,
        traffic: new.traffic.map(|traffic| theirs::Traffic {
            kinds: traffic.kinds,
            per_day: traffic.per_day,
            per_month: traffic.per_month,
            is_steady: traffic.is_steady,
            domains: traffic.domains,
        }),
        although_empty: new.although_empty,
    };
    let language = new.language.unwrap_or(CaseLanguage::En).into();
    let opened =
        call.office.open_case(&call.by, &account, theirs::NewCase { kind: new.kind.into(), language, request }).await?;
    let place = ["accounts", &opened.account.clone(), "cases", &opened.id.clone()];
    created(&place, Some(opened.revision), view(opened, call.office.now()))
}

/// One case, with all that was said in it.
#[utoipa::path(get, path = "/accounts/{account}/cases/{case}", responses((status = 200, body = CaseFile)))]
async fn case(call: Call, At([account, case]): At<2>) -> Answer {
    let (case, entries) = call.office.case(&call.by, &account, &case).await?;
    let entries = entries.into_iter().map(|entry| CaseEntry {
        at: Time(entry.at),
        party: entry.party.into(),
        name: entry.name,
        act: entry.act,
        text: entry.text,
        attachments: entry
            .attachments
            .into_iter()
            .map(|attached| AttachedFile { id: attached.id, name: attached.name, octets: attached.octets })
            .collect(),
    });
    let revision = case.revision;
    found(revision, CaseFile { case: view(case, call.office.now()), entries: entries.collect() })
}

fn changed(call: &Call, case: theirs::Case) -> Answer {
    found(case.revision, view(case, call.office.now()))
}

/// Say something in a case.
#[utoipa::path(post, path = "/accounts/{account}/cases/{case}/messages", request_body = CaseMessage, responses((status = 200, body = Case)))]
async fn say(call: Call, At([account, case]): At<2>, Body(saying): Body<CaseMessage>) -> Answer {
    let attachment = |attachment: CaseAttachment| match STANDARD.decode(&attachment.content) {
        Ok(octets) => Ok((attachment.name, octets)),
        Err(_) => Err(Problem::invalid("attachments", "This content is no base64.", "Encode the file's octets.")),
    };
    let attachments = saying.attachments.into_iter().map(attachment).collect::<Result<_, _>>()?;
    let saying = theirs::Saying { text: saying.text, attachments, asks: saying.asks };
    let case = call.office.say_in_case(&call.by, &account, &case, saying).await?;
    changed(&call, case)
}

/// Answer a case. What is granted is there at once, as far as there are IPs; the rest follows. For the operator.
#[utoipa::path(post, path = "/accounts/{account}/cases/{case}/answer", request_body = CaseAnswer, responses((status = 200, body = Case)))]
async fn answer(
    call: Call,
    At([account, case]): At<2>,
    IfMatch(revision): IfMatch,
    Body(new): Body<CaseAnswer>,
) -> Answer {
    let home = call.office.home_region().to_string();
    let answer = match new.answer {
        CaseVerdict::Grant => theirs::Answer::Grant {
            parts: new.grants.into_iter().map(|part| part.theirs(&home)).collect(),
            reason: new.reason,
        },
        CaseVerdict::Deny => theirs::Answer::Deny {
            reason: new.reason.unwrap_or_default(),
            would_change: new.would_change.unwrap_or_default(),
        },
    };
    let case = call.office.answer_case(&call.by, &account, &case, answer, revision).await?;
    changed(&call, case)
}

/// Confirm that IPs are given back. This cannot be undone.
#[utoipa::path(post, path = "/accounts/{account}/cases/{case}/confirmation", responses((status = 200, body = Case)))]
async fn confirm(call: Call, At([account, case]): At<2>) -> Answer {
    let case = call.office.confirm_case(&call.by, &account, &case).await?;
    changed(&call, case)
}

/// End a case that nobody has answered.
#[utoipa::path(post, path = "/accounts/{account}/cases/{case}/closing", responses((status = 200, body = Case)))]
async fn close(call: Call, At([account, case]): At<2>) -> Answer {
    let case = call.office.close_case(&call.by, &account, &case).await?;
    changed(&call, case)
}

/// Have a case that was denied, granted in part or closed looked at once more.
#[utoipa::path(post, path = "/accounts/{account}/cases/{case}/reopening", request_body = CaseReopening, responses((status = 200, body = Case)))]
async fn reopen(call: Call, At([account, case]): At<2>, Body(reopening): Body<CaseReopening>) -> Answer {
    let case = call.office.reopen_case(&call.by, &account, &case, reopening.text).await?;
    changed(&call, case)
}

/// A file that somebody attached.
#[utoipa::path(get, path = "/accounts/{account}/cases/{case}/attachments/{attachment}", responses((status = 200, body = CaseAttachment)))]
async fn attachment(call: Call, At([account, case, attachment]): At<3>) -> Answer {
    let (name, octets) = call.office.case_attachment(&call.by, &account, &case, &attachment).await?;
    told(CaseAttachment { name, content: STANDARD.encode(octets) })
}

/// What was granted and still waits for IPs is waited for no more.
#[utoipa::path(post, path = "/accounts/{account}/cases/{case}/waiting-end", responses((status = 200, body = Case)))]
async fn stop_waiting(call: Call, At([account, case]): At<2>) -> Answer {
    let case = call.office.stop_waiting(&call.by, &account, &case).await?;
    changed(&call, case)
}

/// IPs that were granted and are waited for.
#[derive(Serialize, ToSchema)]
struct WaitingIps {
    case: String,
    account: String,
    region: String,
    quantity: u32,
    since: Time,
}

/// What was granted and waits for IPs, the longest first. For the operator.
#[utoipa::path(get, path = "/waiting-ips", responses((status = 200, body = Listed<WaitingIps>)))]
async fn waiting(call: Call, _: Listing<Everything>) -> Answer {
    whole(call.office.waiting_for_ips(&call.by).await?, |waiting| WaitingIps {
        case: waiting.case,
        account: waiting.account,
        region: waiting.region,
        quantity: waiting.quantity,
        since: Time(waiting.since),
    })
}
