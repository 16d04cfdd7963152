//! People: who is let in, as what, and how they come in.

use super::words::{Time, words};
use super::{Answer, At, Call, created, found, gone, listed, told};
use crate::asked::{Body, IfMatch, Listed, Listing};
use crate::caller::{Desk, Origin, Shown};
use axum::extract::State;
use control::Refusal;
use control::id::Secret;
use control::person as theirs;
use control::session;
use engine::snapshot::Holder;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::credential::Scope;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(people, invite))
        .routes(routes!(people_of_account, invite_to_account))
        .routes(routes!(person, change_person, remove_person))
        .routes(routes!(order_person))
        .routes(routes!(renew_link))
        .routes(routes!(sessions, sign_out_everywhere))
        .routes(routes!(end_session))
        .routes(routes!(turn_off_totp))
        .routes(routes!(me))
        .routes(routes!(change_own_password))
        .routes(routes!(enrol_totp))
        .routes(routes!(confirm_totp))
        .routes(routes!(turn_off_own_totp))
        .routes(routes!(sign_out))
}

/// What needs no credential: it is how one gets one.
pub fn doors() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(sign_in)).routes(routes!(person_of_link)).routes(routes!(set_password))
}

words!(Role is theirs::Role { Operator, OperatorReadOnly, Owner, Developer, Viewer });

#[derive(Serialize, ToSchema)]
struct Person {
    id: String,
    /// None: one of the operator's.
    #[schema(required)]
    account: Option<String>,
    email: String,
    role: Role,
    /// Not yet, while the invitation is open.
    has_password: bool,
    /// Whether a code is asked for besides the password.
    has_totp: bool,
    #[schema(required)]
    disabled_at: Option<Time>,
    revision: i64,
    created_at: Time,
}

impl From<theirs::Person> for Person {
    fn from(person: theirs::Person) -> Person {
        Person {
            id: person.id,
            account: person.account,
            email: person.email,
            role: person.role.into(),
            has_password: person.has_password,
            has_totp: person.has_totp,
            disabled_at: person.disabled_at.map(Time),
            revision: person.revision,
            created_at: Time(person.created_at),
        }
    }
}

/// A person with a link to set a password with, which is shown this once.
#[derive(Serialize, ToSchema)]
struct Invited {
    person: Person,
    link: String,
    expires_at: Time,
}

impl From<theirs::Invited> for Invited {
    fn from(invited: theirs::Invited) -> Invited {
        Invited {
            person: invited.person.into(),
            link: invited.link.show().to_owned(),
            expires_at: Time(invited.expires_at),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Session {
    id: String,
    #[schema(required)]
    from: Option<String>,
    created_at: Time,
    /// To within some minutes.
    seen_at: Time,
    expires_at: Time,
}

impl From<session::Session> for Session {
    fn from(session: session::Session) -> Session {
        Session {
            id: session.id,
            from: session.from.map(|from| from.to_string()),
            created_at: Time(session.created_at),
            seen_at: Time(session.seen_at),
            expires_at: Time(session.expires_at),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct SignedIn {
    /// For `Authorization: Bearer`; shown this once.
    token: String,
    session: Session,
    person: Person,
}

/// Who asks, and what they may do.
#[derive(Serialize, ToSchema)]
struct Me {
    /// `key` or `person`.
    kind: &'static str,
    /// Of the key or person.
    id: String,
    name: String,
    /// None: the operator.
    #[schema(required)]
    account: Option<String>,
    #[schema(required)]
    subaccount: Option<String>,
    scopes: Vec<Scope>,
    /// Where a person asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<Person>,
}

/// For an authenticator app; shown this once.
#[derive(Serialize, ToSchema)]
struct Enrolment {
    /// To be typed.
    secret: String,
    /// To be shown as a QR code.
    url: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPerson {
    email: String,
    role: Role,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PersonChange {
    role: Role,
}

/// `disable`: signed out at once, and in no more until `enable`.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum PersonOrderWord {
    Disable,
    Enable,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PersonOrder {
    order: PersonOrderWord,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SignIn {
    email: String,
    password: String,
    /// The six digits, where the person has turned them on.
    code: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Link {
    link: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    link: String,
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PasswordChange {
    old_password: String,
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Code {
    code: String,
}

async fn let_in(call: &Call, account: Option<String>, new: NewPerson) -> Answer {
    let new = theirs::NewPerson { email: new.email, role: new.role.into(), account };
    let invited = call.office.invite(&call.by, new).await?;
    let (id, revision) = (invited.person.id.clone(), invited.person.revision);
    created(&["people", &id], Some(revision), Invited::from(invited))
}

/// The caller's own: of its account, or the operator's.
#[utoipa::path(get, path = "/people", responses((status = 200, body = Listed<Person>)))]
async fn people(call: Call, list: Listing) -> Answer {
    listed(call.office.people(&call.by, None, &list.window).await?, Person::from)
}

/// Invite somebody to be one of the caller's own people. The link is in this answer and nowhere else.
#[utoipa::path(post, path = "/people", request_body = NewPerson, responses((status = 201, body = Invited)))]
async fn invite(call: Call, Body(new): Body<NewPerson>) -> Answer {
    let account = call.by.account().map(|own| own.as_str().to_owned());
    let_in(&call, account, new).await
}

/// The account's people, oldest first.
#[utoipa::path(get, path = "/accounts/{account}/people", responses((status = 200, body = Listed<Person>)))]
async fn people_of_account(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    listed(call.office.people(&call.by, Some(&account), &list.window).await?, Person::from)
}

/// Invite somebody to the account. The link is in this answer and nowhere else.
#[utoipa::path(post, path = "/accounts/{account}/people", request_body = NewPerson, responses((status = 201, body = Invited)))]
async fn invite_to_account(call: Call, At([account]): At<1>, Body(new): Body<NewPerson>) -> Answer {
    let_in(&call, Some(account), new).await
}

/// One person, by id or mail address.
#[utoipa::path(get, path = "/people/{person}", responses((status = 200, body = Person)))]
async fn person(call: Call, At([person]): At<1>) -> Answer {
    let person = call.office.person(&call.by, &person).await?;
    found(person.revision, Person::from(person))
}

/// Give a person another role. It holds from the next call on.
#[utoipa::path(patch, path = "/people/{person}", request_body = PersonChange, responses((status = 200, body = Person)))]
async fn change_person(
    call: Call,
    At([person]): At<1>,
    IfMatch(revision): IfMatch,
    Body(to): Body<PersonChange>,
) -> Answer {
    let person = call.office.change_role(&call.by, &person, to.role.into(), revision).await?;
    found(person.revision, Person::from(person))
}

/// Remove a person. Only the audit log remembers them.
#[utoipa::path(delete, path = "/people/{person}", responses((status = 204, description = "They are gone")))]
async fn remove_person(call: Call, At([person]): At<1>) -> Answer {
    call.office.remove_person(&call.by, &person).await?;
    gone()
}

/// Keep a person out for a while, or let them in again.
#[utoipa::path(post, path = "/people/{person}/orders", request_body = PersonOrder, responses((status = 200, body = Person)))]
async fn order_person(call: Call, At([person]): At<1>, Body(body): Body<PersonOrder>) -> Answer {
    let person = match body.order {
        PersonOrderWord::Disable => call.office.disable_person(&call.by, &person).await?,
        PersonOrderWord::Enable => call.office.enable_person(&call.by, &person).await?,
    };
    found(person.revision, Person::from(person))
}

/// A new link for a forgotten password, or for an invitation that was not taken up in time.
#[utoipa::path(post, path = "/people/{person}/link", responses((status = 200, body = Invited)))]
async fn renew_link(call: Call, At([person]): At<1>) -> Answer {
    told(Invited::from(call.office.renew_link(&call.by, &person).await?))
}

/// Where a person is signed in.
#[utoipa::path(get, path = "/people/{person}/sessions", responses((status = 200, body = Listed<Session>)))]
async fn sessions(call: Call, At([person]): At<1>, list: Listing) -> Answer {
    listed(call.office.sessions(&call.by, &person, &list.window).await?, Session::from)
}

/// Sign a person out everywhere.
#[utoipa::path(delete, path = "/people/{person}/sessions", responses((status = 204, description = "They are signed out")))]
async fn sign_out_everywhere(call: Call, At([person]): At<1>) -> Answer {
    call.office.sign_out_everywhere(&call.by, &person).await?;
    gone()
}

/// End one session of a person's.
#[utoipa::path(delete, path = "/people/{person}/sessions/{session}", responses((status = 204, description = "It is over")))]
async fn end_session(call: Call, At([person, session]): At<2>) -> Answer {
    call.office.end_session(&call.by, &person, &session).await?;
    gone()
}

/// Ask for no code any more, for who lost the telephone. For the operator.
#[utoipa::path(delete, path = "/people/{person}/totp", responses((status = 200, body = Person)))]
async fn turn_off_totp(call: Call, At([person]): At<1>) -> Answer {
    call.by.may_operate()?;
    let person = call.office.turn_off_totp(&call.by, &person, None).await?;
    found(person.revision, Person::from(person))
}

/// Who asks.
#[utoipa::path(get, path = "/me", responses((status = 200, body = Me)))]
async fn me(call: Call) -> Answer {
    let person = match call.by.kind {
        control::ActorKind::Person { .. } => Some(call.office.person(&call.by, &call.by.id).await?.into()),
        _ => None,
    };
    let (account, subaccount) = match &call.by.holder {
        Holder::Operator => (None, None),
        Holder::Account { account, subaccount } => (Some(account.to_string()), subaccount.as_ref()),
    };
    told(Me {
        kind: call.by.kind.code(),
        id: call.by.id,
        name: call.by.name,
        account,
        subaccount: subaccount.map(ToString::to_string),
        scopes: call.by.scopes.iter().copied().map(Into::into).collect(),
        person,
    })
}

/// Change one's own password. Every session ends, also this one.
#[utoipa::path(post, path = "/me/password", request_body = PasswordChange, responses((status = 204, description = "It is changed")))]
async fn change_own_password(call: Call, Body(body): Body<PasswordChange>) -> Answer {
    call.office.change_password(&call.by, &body.old_password, &body.password).await?;
    gone()
}

/// A secret for an authenticator app; codes are asked for once it is confirmed.
#[utoipa::path(post, path = "/me/totp", responses((status = 200, body = Enrolment)))]
async fn enrol_totp(call: Call) -> Answer {
    let enrolment = call.office.enrol_totp(&call.by).await?;
    told(Enrolment { secret: enrolment.secret.show().to_owned(), url: enrolment.url.show().to_owned() })
}

/// Show with a code that the app has the secret. From now on every sign-in needs one.
#[utoipa::path(post, path = "/me/totp/confirmation", request_body = Code, responses((status = 200, body = Person)))]
async fn confirm_totp(call: Call, Body(body): Body<Code>) -> Answer {
    let person = call.office.confirm_totp(&call.by, &body.code).await?;
    found(person.revision, Person::from(person))
}

/// Ask for no code any more, shown one.
#[utoipa::path(post, path = "/me/totp/removal", request_body = Code, responses((status = 200, body = Person)))]
async fn turn_off_own_totp(call: Call, Body(body): Body<Code>) -> Answer {
    let own = call.by.id.clone();
    let person = call.office.turn_off_totp(&call.by, &own, Some(&body.code)).await?;
    found(person.revision, Person::from(person))
}

/// Sign out: the token is good no more.
#[utoipa::path(delete, path = "/me/session", responses((status = 204, description = "It is over")))]
async fn sign_out(call: Call, shown: Shown) -> Answer {
    if !matches!(call.by.kind, control::ActorKind::Person { .. }) {
        return Err(Refusal::forbidden("person_only", "A key is not signed in.", "Revoke it, to end it.").into());
    }
    call.office.sign_out(&shown.0.unwrap_or_default(), call.by.from).await?;
    gone()
}

/// Sign in. A token that was shown with this call is good no more.
#[utoipa::path(post, path = "/sessions", request_body = SignIn, responses((status = 201, body = SignedIn)))]
async fn sign_in(State(desk): State<Desk>, origin: Origin, shown: Shown, Body(body): Body<SignIn>) -> Answer {
    let with = session::SignIn {
        email: body.email,
        password: Secret::new(body.password),
        code: body.code,
        from: origin.0,
        replaces: shown.0.map(Secret::new),
    };
    let signed_in = desk.office()?.sign_in(with).await?;
    let view = SignedIn {
        token: signed_in.token.show().to_owned(),
        session: signed_in.session.into(),
        person: signed_in.person.into(),
    };
    let place = ["people", &view.person.id.clone(), "sessions"];
    created(&place, None, view)
}

/// Whose link it is, if it is good.
#[utoipa::path(post, path = "/links", request_body = Link, responses((status = 200, body = Person)))]
async fn person_of_link(State(desk): State<Desk>, Body(body): Body<Link>) -> Answer {
    told(Person::from(desk.office()?.person_of_link(&body.link).await?))
}

/// Set the password that a link is for. The link is used up.
#[utoipa::path(post, path = "/links/password", request_body = NewPassword, responses((status = 200, body = Person)))]
async fn set_password(State(desk): State<Desk>, origin: Origin, Body(body): Body<NewPassword>) -> Answer {
    told(Person::from(desk.office()?.set_password(&body.link, &body.password, origin.0).await?))
}
