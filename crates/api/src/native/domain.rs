//! Domains that an account shows to be its own, the records they publish, and the keys their mail is signed with.

use super::words::{Time, words};
use super::{Answer, At, Call, created, found, gone, listed, whole};
use crate::asked::{Body, Everything, IfMatch, Listed, Listing, given};
use crate::caller::Desk;
use control::dkim;
use control::domain as theirs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(domains, create_domain))
        .routes(routes!(domain, change_domain, delete_domain))
        .routes(routes!(domain_records))
        .routes(routes!(check_domain))
        .routes(routes!(verify_domain))
        .routes(routes!(rotate_dkim))
        .routes(routes!(dkim_keys, bring_dkim_key))
        .routes(routes!(remove_dkim_key))
}

/// `pending`: its records are looked for. `losing`: verified, but the records are gone; mail is refused from `losing_until` on.
/// `lost`: they stayed away for too long.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum DomainState {
    Pending,
    Verified,
    Losing,
    Lost,
}

words!(
    /// `operator`: who runs the installation vouches for it.
    VerifiedBy is theirs::VerifiedBy { Dns, Operator }
);
words!(
    /// What a record is for. `dkim-retired` may be taken down.
    Purpose is theirs::Purpose { Ownership, Dkim, DkimRetired, ReturnPath, Spf, Dmarc, Tracking }
);
words!(
    /// What was found when it was last looked for.
    RecordState is theirs::RecordState { NotChecked, Good, NotCheckableNow, Missing, Wrong }
);
words!(Algorithm is dkim::Algorithm { Rsa, Ed25519 });
words!(
    /// `brought`: by the account.
    KeyOrigin is dkim::Origin { Made, Brought }
);
words!(
    /// `next`: it signs once its record is published.
    KeyState is dkim::KeyState { Next, Active, Retired }
);

#[derive(Serialize, ToSchema)]
struct Domain {
    id: String,
    account: String,
    name: String,
    state: DomainState,
    /// How it stands and why.
    words: String,
    #[schema(required)]
    verified_at: Option<Time>,
    #[schema(required)]
    verified_by: Option<VerifiedBy>,
    #[schema(required)]
    losing_until: Option<Time>,
    /// A name below the domain that its bounces go to.
    #[schema(required)]
    mail_from: Option<String>,
    /// Whether its records were right when last seen; it is used only then.
    mail_from_is_good: bool,
    /// A name below the domain that leads here, for links and pictures.
    #[schema(required)]
    tracking_host: Option<String>,
    #[schema(required)]
    checked_at: Option<Time>,
    /// When it is looked at next.
    check_at: Time,
    revision: i64,
    created_at: Time,
}

impl From<theirs::Domain> for Domain {
    fn from(domain: theirs::Domain) -> Domain {
        let (state, losing_until) = match domain.state() {
            theirs::State::Pending => (DomainState::Pending, None),
            theirs::State::Verified => (DomainState::Verified, None),
            theirs::State::Losing { until, .. } => (DomainState::Losing, Some(Time(until))),
            theirs::State::Lost { .. } => (DomainState::Lost, None),
        };
        Domain {
            words: domain.words(),
            id: domain.id,
            account: domain.account,
            name: domain.name.to_string(),
            state,
            verified_at: domain.proof.verified.map(|(at, _)| Time(at)),
            verified_by: domain.proof.verified.map(|(_, by)| by.into()),
            losing_until,
            mail_from_is_good: domain.mail_from.as_ref().is_some_and(|own| own.is_good),
            mail_from: domain.mail_from.map(|own| own.name.to_string()),
            tracking_host: domain.tracking_host.map(|host| host.to_string()),
            checked_at: domain.checked_at.map(Time),
            check_at: Time(domain.check_at),
            revision: domain.revision,
            created_at: Time(domain.created_at),
        }
    }
}

/// A record to publish.
#[derive(Serialize, ToSchema)]
struct Record {
    purpose: Purpose,
    /// In full; many DNS hosts add the domain by themselves.
    name: String,
    /// `TXT`, `MX` or `CNAME`.
    kind: String,
    value: String,
    /// Mail goes without the others, and is trusted less.
    required: bool,
    state: RecordState,
    /// What stands there.
    found: Vec<String>,
    /// What is wrong and how to mend it; with a good record, advice.
    problems: Vec<RecordProblem>,
    #[schema(required)]
    note: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct RecordProblem {
    /// For programs.
    code: String,
    state: RecordState,
    words: String,
}

impl From<theirs::Record> for Record {
    fn from(record: theirs::Record) -> Record {
        let problem = |problem: theirs::Problem| RecordProblem {
            code: problem.code,
            state: problem.state.into(),
            words: problem.words,
        };
        Record {
            purpose: record.purpose.into(),
            name: record.name,
            kind: record.kind,
            value: record.value,
            required: record.required,
            state: record.state.into(),
            found: record.found,
            problems: record.problems.into_iter().map(problem).collect(),
            note: record.note,
        }
    }
}

/// A key that mail is signed with; its private half is shown to nobody.
#[derive(Serialize, ToSchema)]
struct DkimKey {
    id: String,
    selector: String,
    algorithm: Algorithm,
    origin: KeyOrigin,
    /// What to publish at `selector._domainkey.domain`.
    record: String,
    state: KeyState,
    state_since: Time,
    created_at: Time,
}

impl From<dkim::Key> for DkimKey {
    fn from(key: dkim::Key) -> DkimKey {
        DkimKey {
            id: key.id,
            selector: key.selector,
            algorithm: key.algorithm.into(),
            origin: key.origin.into(),
            record: key.record,
            state: key.state.into(),
            state_since: Time(key.state_since),
            created_at: Time(key.created_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDomain {
    name: String,
    /// A name below the domain that its bounces go to.
    mail_from: Option<String>,
    /// A name below the domain that leads here, for links and pictures.
    tracking_host: Option<String>,
}

/// What is left out stays; null takes a value away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DomainChange {
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    mail_from: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    tracking_host: Option<Option<String>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BroughtKey {
    selector: String,
    /// The private key, as PEM.
    pem: String,
}

/// The account's domains, oldest first.
#[utoipa::path(get, path = "/accounts/{account}/domains", responses((status = 200, body = Listed<Domain>)))]
async fn domains(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    listed(call.office.domains(&call.by, &account, &list.window).await?, Domain::from)
}

/// Claim a domain, with keys for it. Publish its records, and it is verified by itself.
#[utoipa::path(post, path = "/accounts/{account}/domains", request_body = NewDomain, responses((status = 201, body = Domain)))]
async fn create_domain(call: Call, At([account]): At<1>, Body(new): Body<NewDomain>) -> Answer {
    let new = theirs::NewDomain { name: new.name, mail_from: new.mail_from, tracking_host: new.tracking_host };
    let domain = call.office.create_domain(&call.by, &account, new).await?;
    let place = ["accounts", &domain.account.clone(), "domains", &domain.name.to_string()];
    created(&place, Some(domain.revision), Domain::from(domain))
}

/// One domain, by name or id.
#[utoipa::path(get, path = "/accounts/{account}/domains/{domain}", responses((status = 200, body = Domain)))]
async fn domain(call: Call, At([account, domain]): At<2>) -> Answer {
    let domain = call.office.domain(&call.by, &account, &domain).await?;
    found(domain.revision, Domain::from(domain))
}

/// Change where its bounces and links go.
#[utoipa::path(patch, path = "/accounts/{account}/domains/{domain}", request_body = DomainChange, responses((status = 200, body = Domain)))]
async fn change_domain(
    call: Call,
    At([account, domain]): At<2>,
    IfMatch(revision): IfMatch,
    Body(to): Body<DomainChange>,
) -> Answer {
    let to = theirs::DomainChange { mail_from: to.mail_from, tracking_host: to.tracking_host, revision };
    let domain = call.office.change_domain(&call.by, &account, &domain, to).await?;
    found(domain.revision, Domain::from(domain))
}

/// Delete a domain with its keys. Its mail is refused from then on.
#[utoipa::path(delete, path = "/accounts/{account}/domains/{domain}", responses((status = 204, description = "It is gone")))]
async fn delete_domain(call: Call, At([account, domain]): At<2>) -> Answer {
    call.office.delete_domain(&call.by, &account, &domain).await?;
    gone()
}

/// What to publish, and what was found when it was last looked for.
#[utoipa::path(get, path = "/accounts/{account}/domains/{domain}/records", responses((status = 200, body = Listed<Record>)))]
async fn domain_records(call: Call, At([account, domain]): At<2>, _: Listing<Everything>) -> Answer {
    whole(call.office.domain_records(&call.by, &account, &domain).await?, Record::from)
}

/// Look for its records now.
#[utoipa::path(post, path = "/accounts/{account}/domains/{domain}/check", responses((status = 200, body = Domain)))]
async fn check_domain(call: Call, At([account, domain]): At<2>) -> Answer {
    let domain = call.office.check_domain(&call.by, &account, &domain).await?;
    found(domain.revision, Domain::from(domain))
}

/// Vouch for a domain without DNS. For the operator.
#[utoipa::path(post, path = "/accounts/{account}/domains/{domain}/verification", responses((status = 200, body = Domain)))]
async fn verify_domain(call: Call, At([account, domain]): At<2>) -> Answer {
    let domain = call.office.verify_domain_without_dns(&call.by, &account, &domain).await?;
    found(domain.revision, Domain::from(domain))
}

/// Make successors of its keys; each signs once its record is published.
#[utoipa::path(post, path = "/accounts/{account}/domains/{domain}/dkim-rotation", responses((status = 200, body = Listed<DkimKey>)))]
async fn rotate_dkim(call: Call, At([account, domain]): At<2>) -> Answer {
    whole(call.office.rotate_dkim(&call.by, &account, &domain).await?, DkimKey::from)
}

/// The domain's keys.
#[utoipa::path(get, path = "/accounts/{account}/domains/{domain}/dkim-keys", responses((status = 200, body = Listed<DkimKey>)))]
async fn dkim_keys(call: Call, At([account, domain]): At<2>, _: Listing<Everything>) -> Answer {
    whole(call.office.dkim_keys(&call.by, &account, &domain).await?, DkimKey::from)
}

/// Bring a key of one's own; it signs once its record is published.
#[utoipa::path(post, path = "/accounts/{account}/domains/{domain}/dkim-keys", request_body = BroughtKey, responses((status = 200, body = Listed<DkimKey>)))]
async fn bring_dkim_key(call: Call, At([account, domain]): At<2>, Body(key): Body<BroughtKey>) -> Answer {
    let keys = call.office.bring_dkim_key(&call.by, &account, &domain, &key.selector, &key.pem).await?;
    whole(keys, DkimKey::from)
}

/// Take away a key that does not sign.
#[utoipa::path(delete, path = "/accounts/{account}/domains/{domain}/dkim-keys/{selector}", responses((status = 204, description = "It is gone")))]
async fn remove_dkim_key(call: Call, At([account, domain, selector]): At<3>) -> Answer {
    call.office.remove_dkim_key(&call.by, &account, &domain, &selector).await?;
    gone()
}
